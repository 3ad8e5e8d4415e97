//! MCP servers, through `rmcp`. Invariant: whatever a server sends, a call ends with words or by its deadline, and
//! what was started for a session is gone with it.
//!
//! Of the crate are the protocol (both eras: `server/discover`, else `initialize`) and streamable HTTP. Logins
//! (`oauth`), processes, lines over standard streams, sizes and what a result reads like are here: the crate's own
//! child processes inherit the environment, leave grandchildren behind, and a reply that is too large leaves its call
//! waiting for ever.

mod callers;
mod child;
mod handler;
mod http;
pub mod leash;
mod lines;
mod oauth;
mod reply;
mod session;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rmcp::model::ProtocolVersion;
use rmcp::model::{ClientCapabilities, ClientConfig, ElicitationCapability, FormElicitationCapability, Implementation};
use rmcp::service::{ClientInitializeError, ClientLifecycleMode, ClientServiceExt};
use tokio::sync::mpsc;

use crate::adapters::models::secrets::Env;
use crate::core::crew::{Link, Server};
use crate::ports::BoxFuture;
use crate::ports::service::{Service, Session};
use child::{Program, Redact};
use handler::Handler;
pub use oauth::{AtServer, Forgot, Logins, Standing, wants_login};
use session::{McpSession, Watched};

/// Largest message of a server, in bytes.
pub const MESSAGE_MOST: usize = 16 << 20;

/// Where servers are started, and with what.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The project root: where programs run.
    pub root: PathBuf,
    pub env: Arc<Env>,
    /// This very program, where it can hold a server's leash ([`leash`]); `None`: inside another program.
    pub leash: Option<PathBuf>,
    /// Where logins at servers are kept; `None`: nobody logs in.
    pub logins: Option<Logins>,
}

/// A server as a crew names it.
pub struct Mcp {
    name: String,
    key: String,
    reach: Reach,
    redact: Arc<Redact>,
}

enum Reach {
    Program(Program),
    Http(http::Address),
}

impl Mcp {
    /// Fails in words on a variable that is not set and on an address that cannot be used.
    pub fn new(server: &Server, around: &Surroundings) -> Result<Mcp, String> {
        let wrong = |why: String| format!("the server {}: {why}", server.name);
        let key = format!("{} {:?}", server.name, server.link);
        let (reach, redact) = match &server.link {
            Link::Stdio { argv, env } => {
                let program = Program::new(argv, env, around).map_err(wrong)?;
                let redact = Redact::of_variables(env, &around.env);
                (Reach::Program(program), redact)
            }
            Link::Http { url, headers, login } => {
                let address = http::Address::new(&server.name, url, headers, login.as_ref(), around);
                let (address, redact) = address.map_err(wrong)?;
                (Reach::Http(address), redact)
            }
        };
        Ok(Mcp { name: server.name.clone(), key, reach, redact: Arc::new(redact) })
    }

    /// The login at the server; `None`: there is none to be had, it is a program, or a header says who asks.
    pub fn login(&self) -> Option<AtServer> {
        match &self.reach {
            Reach::Program(_) => None,
            Reach::Http(address) => address.account().cloned().map(AtServer::new),
        }
    }

    /// Asks the server for its tools, so that it says whether it wants a login, and which.
    pub async fn knock(&self, time: Duration) {
        let asked = async {
            match self.reach().await {
                Ok(session) => session.definitions().await.err(),
                Err(why) => Some(why),
            }
        };
        // Why it does not answer is found out again by whoever goes on.
        let said = tokio::time::timeout(time, asked).await;
        tracing::debug!(server = self.name, ?said, "a server was asked before a login");
    }

    async fn reach(&self) -> Result<Arc<dyn Session>, String> {
        let auto = ClientLifecycleMode::Auto {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
        };
        match self.begin(auto).await {
            // An older server that has some answer to what it does not know: it is asked in its own words.
            Err(NotBegun { odd: true, .. }) => {
                self.begin(ClientLifecycleMode::Initialize).await.map_err(|why| why.words)
            }
            begun => begun.map_err(|why| why.words),
        }
    }

    async fn begin(&self, mode: ClientLifecycleMode) -> Result<Arc<dyn Session>, NotBegun> {
        let (said, news) = mpsc::unbounded_channel();
        let handler = Handler::new(&self.name, said, info(), self.redact.clone());
        let (running, child) = match &self.reach {
            Reach::Program(program) => {
                let (lines, child) = program.start(&self.name)?;
                let tail = child.tail();
                let transport = Watched::new(lines, &handler, move || tail.said());
                let begun = handler.serve_with_lifecycle(transport, mode).await;
                (begun.map_err(|why| self.not_begun(&why, &child.tail().said()))?, Some(child))
            }
            Reach::Http(address) => {
                let transport = Watched::new(address.transport()?, &handler, || "the connection is closed".to_owned());
                let begun = handler.serve_with_lifecycle(transport, mode).await;
                (begun.map_err(|why| self.not_begun(&why, ""))?, None)
            }
        };
        Ok(Arc::new(McpSession::new(&self.name, running, child, news, self.redact.clone())))
    }

    fn not_begun(&self, why: &ClientInitializeError, said: &str) -> NotBegun {
        let odd = matches!(
            why,
            ClientInitializeError::ExpectedInitResult(_)
                | ClientInitializeError::ExpectedInitResponse(_)
                | ClientInitializeError::ConflictInitResponseId(..)
                | ClientInitializeError::UncorrelatedErrorResponse { .. }
        );
        let dots = if said.is_empty() { "" } else { "; " };
        NotBegun { odd, words: self.redact.text(&format!("{}{dots}{said}", session::words(why))) }
    }
}

/// Why there is no session. `odd`: the server answered, and not as the protocol has it.
struct NotBegun {
    odd: bool,
    words: String,
}

impl From<String> for NotBegun {
    fn from(words: String) -> NotBegun {
        NotBegun { odd: false, words }
    }
}

fn info() -> ClientConfig {
    let form = FormElicitationCapability::default();
    let mut capabilities = ClientCapabilities::default();
    capabilities.elicitation = Some(ElicitationCapability::new().with_form(form));
    ClientConfig::new(capabilities, Implementation::new("bosun", env!("CARGO_PKG_VERSION")))
        .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
}

impl Service for Mcp {
    fn name(&self) -> &str {
        &self.name
    }
    fn key(&self) -> &str {
        &self.key
    }
    fn connect(&self) -> BoxFuture<'_, Result<Arc<dyn Session>, String>> {
        Box::pin(self.reach())
    }
}
