//! A server of tools that wants a login, and its authorization server, on one loopback port. Invariant: a token is
//! taken for what was said when it was given; a refresh token is good once, and used again it ends everything.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Of the client that registered, and of the one that the crew names.
pub const REGISTERED: &str = "registered-secret-5d41402abc4b2a76";
pub const OWN: &str = "own-secret-b9719d911017c592";

pub struct State {
    /// Seconds that a token lives.
    pub life: u64,
    /// Scopes of the tokens that are taken.
    pub access: BTreeMap<String, Vec<String>>,
    pub refresh: Option<String>,
    /// Every secret that was ever given out.
    pub given: Vec<String>,
    /// What it was asked at the token endpoint, by grant.
    pub grants: Vec<String>,
    /// Refresh tokens are good for nothing any more.
    pub refuses: bool,
    /// What a renewal takes.
    pub slow: Duration,
    /// What `tools/call` needs.
    pub needs: Option<String>,
    /// The last question to a person.
    pub asked: BTreeMap<String, String>,
    /// In place of itself.
    pub names_other: Option<Value>,
    pub heard: String,
}

#[derive(Clone)]
pub struct Issuer {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

impl Issuer {
    pub fn start() -> Issuer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let state = State {
            life: 3600,
            access: BTreeMap::new(),
            refresh: None,
            given: vec![REGISTERED.into(), OWN.into()],
            grants: Vec::new(),
            refuses: false,
            slow: Duration::ZERO,
            needs: None,
            asked: BTreeMap::new(),
            names_other: None,
            heard: String::new(),
        };
        let issuer = Issuer { port: listener.local_addr().unwrap().port(), state: Arc::new(Mutex::new(state)) };
        let one = issuer.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let one = one.clone();
                std::thread::spawn(move || while one.serve(&stream).is_some() {});
            }
        });
        issuer
    }
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// How often a token was asked for with this grant.
    pub fn count(&self, grant: &str) -> usize {
        self.state().grants.iter().filter(|asked| *asked == grant).count()
    }

    fn serve(&self, mut stream: &TcpStream) -> Option<()> {
        let (head, body) = request(stream)?;
        self.state().heard.push_str(&format!("{head}{body}\n"));
        let close = super::browser::field(&head, "connection").is_some_and(|word| word == "close");
        let target = head.split(' ').nth(1)?.to_owned();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let base = format!("http://127.0.0.1:{}", self.port);
        let (status, more, answer) = match path {
            "/mcp" => self.tools(&head, &body),
            "/.well-known/oauth-protected-resource/mcp" => {
                let usual = json!({"resource": format!("{base}/mcp"), "authorization_servers": [format!("{base}/as")],
                    "scopes_supported": ["basic"]});
                ("200 OK", String::new(), self.state().names_other.clone().unwrap_or(usual))
            }
            "/.well-known/oauth-authorization-server/as" => {
                let it = json!({"issuer": format!("{base}/as"), "authorization_endpoint": format!("{base}/authorize"),
                    "token_endpoint": format!("{base}/token"), "registration_endpoint": format!("{base}/register"),
                    "revocation_endpoint": format!("{base}/revoke"),
                    "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                    "scopes_supported": ["basic", "offline_access"], "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": true});
                ("200 OK", String::new(), it)
            }
            "/register" => ("201 Created", String::new(), json!({"client_id": "reg", "client_secret": REGISTERED})),
            "/authorize" => {
                let fields = form(query);
                let (to, state) = (fields["redirect_uri"].clone(), fields["state"].clone());
                let mut url = reqwest::Url::parse(&to).unwrap();
                url.query_pairs_mut().append_pair("code", "the-code").append_pair("state", &state);
                url.query_pairs_mut().append_pair("iss", &format!("{base}/as"));
                self.state().asked = fields;
                ("302 Found", format!("Location: {url}\r\n"), Value::Null)
            }
            "/token" => self.token(&head, &form(&body)),
            "/revoke" => {
                let mut state = self.state();
                if state.refresh.as_ref() == form(&body).get("token") {
                    (state.refresh, state.access) = (None, BTreeMap::new());
                }
                ("200 OK", String::new(), Value::Null)
            }
            _ => ("404 Not Found", String::new(), Value::Null),
        };
        let text = if answer.is_null() { String::new() } else { answer.to_string() };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{more}Content-Length: {}\r\n\r\n",
            text.len()
        );
        let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(text.as_bytes()));
        written.ok().filter(|()| !close)
    }

    fn token(&self, head: &str, form: &BTreeMap<String, String>) -> (&'static str, String, Value) {
        let no = |error: &str| ("400 Bad Request", String::new(), json!({ "error": error }));
        let grant = form["grant_type"].clone();
        self.state().grants.push(grant.clone());
        let basic = super::browser::field(head, "authorization").unwrap_or_default();
        let client = |id: &str, secret: &str| basic == format!("Basic {}", base64(&format!("{id}:{secret}")));
        let known = if grant == "client_credentials" { client("own", OWN) } else { client("reg", REGISTERED) };
        if !known || form["resource"] != format!("http://127.0.0.1:{}/mcp", self.port) {
            return no("invalid_client");
        }
        let slow = self.state().slow;
        if grant == "refresh_token" {
            std::thread::sleep(slow);
        }
        let mut state = self.state();
        match grant.as_str() {
            "authorization_code" => {
                let hash = Sha256::digest(&form["code_verifier"]);
                if form["code"] != "the-code" || state.asked["code_challenge"] != url_safe(&hash) {
                    return no("invalid_grant");
                }
            }
            "refresh_token" if state.refuses || state.refresh.as_ref() != Some(&form["refresh_token"]) => {
                // Somebody uses a token that was used: nobody can be trusted any more.
                (state.refresh, state.refuses) = (None, true);
                state.access.clear();
                return no("invalid_grant");
            }
            _ => {}
        }
        let number = state.given.len();
        let (access, refresh) =
            (format!("access-{number}-7c4a8d09ca3762af"), format!("refresh-{number}-61e59520943dc264"));
        let asked = form.get("scope").or(state.asked.get("scope")).cloned().unwrap_or_default();
        state.access.insert(access.clone(), asked.split_whitespace().map(str::to_owned).collect());
        state.given.extend([access.clone(), refresh.clone()]);
        let mut answer =
            json!({"access_token": access, "token_type": "Bearer", "expires_in": state.life, "scope": asked});
        if grant != "client_credentials" {
            answer["refresh_token"] = json!(refresh);
            state.refresh = Some(refresh);
        }
        ("200 OK", String::new(), answer)
    }

    fn tools(&self, head: &str, body: &str) -> (&'static str, String, Value) {
        let message: Value = match serde_json::from_str(body) {
            Ok(message) => message,
            Err(_) => return ("405 Method Not Allowed", String::new(), Value::Null),
        };
        let mut state = self.state();
        let bearer = super::browser::field(head, "authorization").unwrap_or_default();
        let token = bearer.strip_prefix("Bearer ").unwrap_or_default().to_owned();
        let place = format!("http://127.0.0.1:{}/.well-known/oauth-protected-resource/mcp", self.port);
        let Some(scopes) = state.access.get(&token) else {
            let more = format!("WWW-Authenticate: Bearer error=\"invalid_token\", resource_metadata=\"{place}\"\r\n");
            return ("401 Unauthorized", more, json!({"error": "invalid_token"}));
        };
        let (id, method) = (&message["id"], message["method"].as_str().unwrap_or_default());
        if let Some(needs) = state.needs.as_ref().filter(|needs| method == "tools/call" && !scopes.contains(needs)) {
            let more = format!("WWW-Authenticate: Bearer error=\"insufficient_scope\", scope=\"{needs}\"\r\n");
            return ("403 Forbidden", more, json!({"error": "insufficient_scope"}));
        }
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let says = |text: &str| json!({"content": [{"type": "text", "text": text}]});
        let result = match method {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": {"tools": {}},
                "serverInfo": {"name": "h", "version": "1"}}),
            "tools/list" => json!({"tools": (["who", "expire", "revoke"].map(tool))}),
            "tools/call" => match message["params"]["name"].as_str().unwrap() {
                "who" => says(&format!("you are {token}")),
                other => {
                    state.access.clear();
                    state.refuses = other == "revoke";
                    says("done")
                }
            },
            _ if id.is_null() => return ("202 Accepted", String::new(), Value::Null),
            _ => {
                let error = json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"}});
                return ("200 OK", String::new(), error);
            }
        };
        ("200 OK", String::new(), json!({"jsonrpc": "2.0", "id": id, "result": result}))
    }
}

fn request(stream: &TcpStream) -> Option<(String, String)> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let length = super::browser::field(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, String::from_utf8(body).ok()?))
}

fn form(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://form/?{text}")).unwrap();
    url.query_pairs().map(|(key, value)| (key.into_owned(), value.into_owned())).collect()
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn url_safe(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
