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
    /// Streamable HTTP. Each header with the variable that holds its value. No login: a header says who asks.
    Http { url: String, headers: BTreeMap<String, String>, login: Option<OAuth> },
}

/// How a server behind an address is told who asks: by a token of its authorization server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuth {
    /// The crew says so; else it is what a server may ask for that says nothing of it.
    pub stated: bool,
    pub grant: Grant,
    /// None: those that the server asks for.
    pub scopes: Vec<String>,
    /// Of a client that the authorization server knows already.
    pub client_id: Option<String>,
    /// The variable that holds its secret.
    pub client_secret: Option<String>,
    /// The variable that holds its private key, PEM of PKCS #8.
    pub private_key: Option<String>,
    /// The address of a client id metadata document, which is the client's id then.
    pub client_metadata: Option<String>,
    /// The loopback port that the browser comes back to; none: a free one.
    pub redirect_port: Option<u16>,
    /// `host:port` of authorization servers that are not public.
    pub net: Vec<String>,
}

/// Whose rights a token stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// A person's, who says yes in a browser once.
    #[default]
    Person,
    /// The client's own: nobody is asked.
    Client,
}

impl OAuth {
    /// Variables that hold what nobody may see.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        [&self.client_secret, &self.private_key].into_iter().flatten().map(String::as_str)
    }
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
