//! MCP servers of a crew. Invariant: what a server may be asked is what was pinned of it; a secret is known by
//! the variable that holds it.

use std::collections::BTreeMap;

use crate::core::definition::allows;
use crate::core::ids::BlobId;

/// A `[tools.N]` table of kind `mcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The table's: its tools are `NAME.tool`.
    pub name: String,
    pub link: Link,
    /// Names, or beginnings of names and `*`, of the tools that count; none: all.
    pub allow: Vec<String>,
    /// Of connecting, of listing the tools, and of one call, in milliseconds.
    pub timeout_ms: u64,
    /// What the lock file has of it; `None`: nothing yet.
    pub pins: Option<BTreeMap<String, BlobId>>,
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A program that speaks over its standard streams; no shell. `env` are names of variables it is given.
    Stdio { argv: Vec<String>, env: Vec<String> },
    /// Streamable HTTP. Each header with the variable that holds its value.
    Http { url: String, headers: BTreeMap<String, String> },
}

impl Server {
    pub fn allows(&self, tool: &str) -> bool {
        allows(&self.allow, tool)
    }
}

impl Link {
    /// What is approved with the definitions: the command line, or the address.
    pub fn text(&self) -> String {
        match self {
            Link::Stdio { argv, .. } => serde_json::Value::from(argv.as_slice()).to_string(),
            Link::Http { url, .. } => url.clone(),
        }
    }
    /// For a line of a list.
    pub fn short(&self) -> String {
        match self {
            Link::Stdio { argv, .. } => argv.join(" "),
            Link::Http { url, .. } => url.clone(),
        }
    }
}
