//! Which authorization server a server trusts, and where it is asked (RFC 9728, RFC 8414, OpenID Connect Discovery;
//! servers of 2025-03-26 are their own). Invariant: a document counts only for the resource and the issuer that it
//! names itself by; what describes another one ends the login.

use reqwest::Url;
use serde::Deserialize;
use serde_json::Value;

use super::challenge::Challenge;
use super::wire::{Wire, shown};

/// Authorization servers of one resource that are asked.
const SERVERS_MOST: usize = 4;

/// What a login goes by.
pub(super) struct Found {
    /// The server's own name of itself, exactly: tokens are asked for it.
    pub resource: String,
    /// What its metadata says that it knows.
    pub scopes: Vec<String>,
    pub issuer: Issuer,
}

/// An authorization server, as it describes itself.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Issuer {
    pub issuer: String,
    pub authorization_endpoint: Option<String>,
    pub token_endpoint: String,
    pub registration_endpoint: Option<String>,
    pub revocation_endpoint: Option<String>,
    pub scopes_supported: Option<Vec<String>>,
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    code_challenge_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    pub client_id_metadata_document_supported: bool,
    /// Nothing describes it: its addresses are those of 2025-03-26.
    #[serde(skip)]
    pub guessed: bool,
}

impl Issuer {
    /// A code that somebody else reads must be of no use to them.
    pub fn has_pkce(&self) -> bool {
        let methods = self.code_challenge_methods_supported.as_deref().unwrap_or_default();
        self.guessed || methods.iter().any(|method| method == "S256")
    }

    fn guessed(origin: &str) -> Issuer {
        Issuer {
            issuer: origin.to_owned(),
            authorization_endpoint: Some(format!("{origin}/authorize")),
            token_endpoint: format!("{origin}/token"),
            registration_endpoint: Some(format!("{origin}/register")),
            revocation_endpoint: None,
            scopes_supported: None,
            token_endpoint_auth_methods_supported: None,
            code_challenge_methods_supported: None,
            authorization_response_iss_parameter_supported: false,
            client_id_metadata_document_supported: false,
            guessed: true,
        }
    }
}

#[derive(Deserialize)]
struct Resource {
    resource: String,
    #[serde(default)]
    authorization_servers: Vec<String>,
    #[serde(default)]
    scopes_supported: Vec<String>,
}

pub(super) async fn find(wire: &Wire, challenge: &Challenge) -> Result<Found, String> {
    // Its token would go where anybody could read it.
    wire.allowed(&wire.server)?;
    let origin = wire.server.origin().ascii_serialization();
    let Some(resource) = resource(wire, challenge).await? else {
        // A server of 2025-03-26 is its own authorization server.
        let issuer = match issuer(wire, &origin).await? {
            Some(issuer) => issuer,
            None => Issuer::guessed(&origin),
        };
        return Ok(Found { resource: wire.server.as_str().to_owned(), scopes: Vec::new(), issuer });
    };
    let Resource { resource, authorization_servers, scopes_supported: scopes } = resource;
    let mut wrong = None;
    for server in authorization_servers.iter().take(SERVERS_MOST) {
        match issuer(wire, server).await {
            Ok(Some(issuer)) => return Ok(Found { resource, scopes, issuer }),
            Ok(None) => {}
            Err(why) => drop(wrong.get_or_insert(why)),
        }
    }
    Err(match wrong {
        Some(why) => why,
        None => none(&resource, &authorization_servers),
    })
}

fn none(resource: &str, servers: &[String]) -> String {
    match servers {
        [] => format!("{resource} names no authorization server"),
        all => format!("no authorization server of {resource} describes itself: {}", all.join(", ")),
    }
}

/// The server's own description: where its answer said, else at the places of RFC 9728.
async fn resource(wire: &Wire, challenge: &Challenge) -> Result<Option<Resource>, String> {
    if let Some(said) = &challenge.resource_metadata {
        let wrong = |why: String| format!("the server's description of itself ({said}): {why}");
        let url = wire.server.join(said).map_err(|why| wrong(why.to_string()))?;
        if let Some(json) = wire.document(&url).await? {
            let resource: Resource = serde_json::from_value(json).map_err(|why| wrong(why.to_string()))?;
            if !names(&resource.resource, &wire.server) {
                return Err(wrong(format!("it is of {}, and not of {}", resource.resource, wire.server)));
            }
            return Ok(Some(resource));
        }
    }
    for url in well_known(&wire.server, "oauth-protected-resource") {
        let json = wire.document(&url).await?;
        match json.map(serde_json::from_value::<Resource>) {
            Some(Ok(resource)) if names(&resource.resource, &wire.server) => return Ok(Some(resource)),
            // What was found by guessing may be about something else.
            Some(_) => tracing::debug!(url = shown(&url), "this does not describe the server"),
            None => {}
        }
    }
    Ok(None)
}

/// Does a resource's name mean the server: the same origin, and its path or one above it?
fn names(resource: &str, server: &Url) -> bool {
    let Ok(url) = Url::parse(resource) else { return false };
    let (above, path) = (url.path().trim_end_matches('/'), server.path());
    let below = path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    url.fragment().is_none() && url.origin() == server.origin() && below
}

/// The metadata of the authorization server of this name; `None`: it has none.
async fn issuer(wire: &Wire, name: &str) -> Result<Option<Issuer>, String> {
    let wrong = |why: String| format!("the authorization server {name}: {why}");
    let url = Url::parse(name).map_err(|why| wrong(why.to_string()))?;
    let mut places = well_known(&url, "oauth-authorization-server");
    places.truncate(1);
    places.extend(well_known(&url, "openid-configuration").into_iter().take(1));
    let path = url.path().trim_matches('/');
    if !path.is_empty() {
        places.push(with_path(&url, &format!("/{path}/.well-known/openid-configuration")));
    }
    for place in places {
        let Some(json) = wire.document(&place).await? else { continue };
        let issuer = said(json, name).map_err(|why| wrong(format!("{why} ({})", shown(&place))))?;
        return Ok(Some(issuer));
    }
    Ok(None)
}

fn said(json: Value, name: &str) -> Result<Issuer, String> {
    let issuer: Issuer = serde_json::from_value(json).map_err(|why| format!("its metadata cannot be read: {why}"))?;
    // A name without a path is the same with and without its slash, as every reader of addresses has it.
    let bare = |name: &str| Url::parse(name).ok().filter(|url| url.path() == "/").map(|url| url.to_string());
    let same = issuer.issuer == name || bare(name).is_some_and(|name| bare(&issuer.issuer) == Some(name));
    if !same {
        return Err(format!("its metadata is of another one, {}", issuer.issuer));
    }
    Ok(issuer)
}

/// `/.well-known/NAME/path`, then `/.well-known/NAME`.
fn well_known(url: &Url, name: &str) -> Vec<Url> {
    let path = url.path().trim_matches('/');
    let mut all = Vec::new();
    if !path.is_empty() {
        all.push(with_path(url, &format!("/.well-known/{name}/{path}")));
    }
    all.push(with_path(url, &format!("/.well-known/{name}")));
    all
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.set_path(path);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_names_the_server_by_its_own_path_or_one_above() {
        let server = Url::parse("https://h.example/a/mcp?x=1").unwrap();
        for name in ["https://h.example/a/mcp", "https://h.example/a", "https://h.example", "https://h.example/"] {
            assert!(names(name, &server), "{name}");
        }
        let others = "https://h.example/a/mc https://h.example/b http://h.example/a/mcp https://h.example:8/a/mcp \
                      https://evil.example/a/mcp https://h.example/a/mcp#f h.example/a/mcp https://h.example/a/mcp/more";
        for name in others.split_whitespace() {
            assert!(!names(name, &server), "{name}");
        }
    }

    #[tokio::test]
    async fn a_server_without_https_gets_no_token_whatever_it_says() {
        let server = Url::parse("http://mcp.example/mcp").unwrap();
        let wire = Wire { web: Default::default(), server, net: Vec::new() };
        let said = Challenge { resource_metadata: Some("https://a.example/x".to_owned()), ..Challenge::default() };
        assert!(find(&wire, &said).await.err().unwrap().contains("over https only"));
    }

    #[test]
    fn metadata_counts_for_the_issuer_it_names() {
        let of = |issuer: &str| serde_json::json!({ "issuer": issuer, "token_endpoint": "https://a.example/token" });
        assert!(said(of("https://a.example/t"), "https://a.example/t").is_ok());
        assert!(said(of("https://a.example/"), "https://a.example").is_ok());
        for other in ["https://a.example/t/", "https://a.example/u", "https://b.example/t", "http://a.example/t"] {
            assert!(said(of(other), "https://a.example/t").unwrap_err().contains("another one"), "{other}");
        }
        assert!(said(serde_json::json!({}), "https://a.example").is_err());
    }
}
