//! Foreign web addresses. Invariant: a request reaches only an address that was looked at first: every
//! name is resolved once, each of its addresses must be public or its host listed, and the connection
//! goes to one of exactly those. A redirect is a request of its own.

mod address;
mod client;
mod page;
#[cfg(test)]
pub(crate) mod tests;

pub use address::inside;
pub use client::{Ask, Got, Resolve, System, Trouble, Web};
pub use page::text;

use reqwest::Url;

/// Hosts with ports that a tool may reach although they are not public, or not on a usual port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed(Vec<(String, u16)>);

impl Listed {
    /// From `"host:port"` each. Fails in words on the first that is none.
    pub fn parse(entries: &[String]) -> Result<Listed, String> {
        entries.iter().map(|entry| host_port(entry)).collect::<Result<_, _>>().map(Listed)
    }
    pub fn has(&self, url: &Url) -> bool {
        let port = url.port_or_known_default();
        self.0.iter().any(|(host, listed)| url.host_str() == Some(host) && port == Some(*listed))
    }
}

/// `"search.internal:8080"`, `"10.0.0.7:443"`, `"[fd00::1]:80"`; the host as addresses spell it.
pub fn host_port(entry: &str) -> Result<(String, u16), String> {
    let wrong = || format!("`{entry}` is no host with a port; write `\"search.internal:8080\"`");
    let (host, port) = entry.rsplit_once(':').ok_or_else(wrong)?;
    let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?;
    if host.is_empty() || host.contains(['/', '@', '*', '?', '#', '\\', '%']) || host.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let url = Url::parse(&format!("http://{host}:{port}/")).map_err(|_| wrong())?;
    let host = url.host_str().ok_or_else(wrong)?;
    Ok((host.to_owned(), port))
}
