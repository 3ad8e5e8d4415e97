//! Tools of a crew. Invariant: a tool that an agent is offered has a validator for its arguments.

use std::sync::Arc;

use super::approval::Approval;
use super::http::HttpCall;
use super::server::Server;
use crate::core::chat::ToolSpec;
use crate::core::money::NanoUsd;
use crate::core::schema::Schema;

#[derive(Debug)]
pub struct ToolDef {
    pub spec: ToolSpec,
    /// Validates arguments; the errors it gives are what a model reads.
    pub arguments: Schema,
    /// Calls of this tool over the run, where the crew caps them.
    pub max_calls: Option<u64>,
    pub cost_per_call: NanoUsd,
    pub approval: Approval,
    /// What it says comes from outside and is not to be trusted.
    pub taints: bool,
    /// How it is plugged in: adapters build the tool from this.
    pub source: ToolSource,
}

/// Folders of a builtin, relative to the project root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolPlaces {
    pub read: Vec<String>,
    pub write: Vec<String>,
    /// Of `files.move`; empty: what it may write.
    pub from: Vec<String>,
    pub to: Vec<String>,
    /// Of `web.fetch`: hosts with ports that it may reach although they are not public.
    pub net: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ToolSource {
    /// A builtin with folders of its own; empty lists mean the builtin's defaults.
    Builtin {
        name: String,
        places: ToolPlaces,
    },
    /// No shell: an argument vector with `{placeholders}`.
    Command {
        argv: Vec<String>,
        env: Vec<String>,
    },
    Http(Box<HttpCall>),
    /// A tool of a server, by the name it has there.
    Mcp {
        server: Arc<Server>,
        tool: String,
    },
}
