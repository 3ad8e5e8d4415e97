//! Logins on disk: `.bosun-logins/` of the state folder, a file for each server, resource and authorization server.
//! Invariant: a file is its owner's alone and is replaced whole; who changes one holds the server's lock, and looks at
//! it again first.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::client::{Client, Method};
use super::discover::Issuer;
use crate::adapters::redaction::Redactor;
use crate::adapters::web::Web;

/// A name that no file tool goes into, wherever the state folder is.
const FOLDER: &str = ".bosun-logins";
/// Another process renews a login while it holds the lock: two requests at the most.
const LOCK_TIME: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);
/// Before its end a token is renewed: so many milliseconds, or a tenth of its life.
const AHEAD_MS: u64 = 60_000;

/// Where logins are kept.
#[derive(Clone)]
pub struct Logins {
    folder: PathBuf,
    pub(super) hide: Redactor,
    pub(super) web: Arc<Web>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Logins({})", self.folder.display())
    }
}

/// A login at a server.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Login {
    v: u32,
    pub server: String,
    pub url: String,
    pub resource: String,
    pub issuer: String,
    pub token_endpoint: String,
    /// Where it is given back.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    pub client_id: String,
    pub method: Method,
    /// Of a client that was registered; the secret of one that the crew names stays in its variable.
    #[serde(with = "maybe_secret")]
    pub client_secret: Option<SecretString>,
    pub registered: bool,
    /// What the token is good for.
    pub scopes: Vec<String>,
    /// What the server has asked for since.
    pub wanted: Vec<String>,
    #[serde(with = "secret")]
    pub access_token: SecretString,
    #[serde(with = "maybe_secret")]
    pub refresh_token: Option<SecretString>,
    pub received_ms: u64,
    pub expires_ms: Option<u64>,
    /// The authorization server has taken it back.
    pub refused: bool,
}

mod secret {
    use super::{Deserialize, ExposeSecret, SecretString};

    pub fn serialize<S: serde::Serializer>(value: &SecretString, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(value.expose_secret())
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<SecretString, D::Error> {
        String::deserialize(from).map(SecretString::from)
    }
}

mod maybe_secret {
    use super::{Deserialize, ExposeSecret, SecretString, Serialize};

    pub fn serialize<S: serde::Serializer>(value: &Option<SecretString>, to: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(ExposeSecret::expose_secret).serialize(to)
    }
    pub fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<SecretString>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(SecretString::from))
    }
}

impl Login {
    /// Without a token yet.
    pub fn new(server: &str, url: &str, resource: &str, issuer: &Issuer, client: &Client) -> Login {
        Login {
            v: 1,
            server: server.to_owned(),
            url: url.to_owned(),
            resource: resource.to_owned(),
            issuer: issuer.issuer.clone(),
            token_endpoint: issuer.token_endpoint.clone(),
            revocation_endpoint: issuer.revocation_endpoint.clone(),
            client_id: client.id.clone(),
            method: client.method,
            client_secret: client.proof.clone().filter(|_| client.registered),
            registered: client.registered,
            scopes: Vec::new(),
            wanted: Vec::new(),
            access_token: SecretString::default(),
            refresh_token: None,
            received_ms: 0,
            expires_ms: None,
            refused: false,
        }
    }
    pub fn has_ended(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }
    /// It ends soon, or has.
    pub fn is_due(&self, now_ms: u64) -> bool {
        let Some(at) = self.expires_ms else { return false };
        let ahead = (at.saturating_sub(self.received_ms) / 10).min(AHEAD_MS);
        at <= now_ms.saturating_add(ahead)
    }
    pub fn is(&self, token: &SecretString) -> bool {
        self.access_token.expose_secret() == token.expose_secret()
    }
}

/// Held while a login is changed; let go when dropped.
pub(super) struct Held {
    _file: File,
}

impl Logins {
    /// `state`: the state folder. What is read or got is told to `hide`.
    pub fn new(state: &Path, hide: Redactor) -> Logins {
        Logins { folder: state.join(FOLDER), hide, web: Arc::new(Web::default()) }
    }

    /// What no text may hold; it grows with each login that is read or renewed.
    pub(in crate::adapters::mcp) fn secrets(&self) -> Redactor {
        self.hide.clone()
    }

    fn prefix(server: &str, url: &str) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_') { c } else { '_' };
        let name: String = server.chars().map(plain).take(60).collect();
        format!("{name}-{}", short(&[server, url]))
    }
    fn name(login: &Login) -> String {
        format!("{}-{}.json", Logins::prefix(&login.server, &login.url), short(&[&login.resource, &login.issuer]))
    }
    fn files(&self, server: &str, url: &str) -> Result<Vec<PathBuf>, String> {
        let prefix = format!("{}-", Logins::prefix(server, url));
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(why) => return Err(self.unusable(&self.folder, &why)),
        };
        let names = entries.flatten().map(|entry| entry.path());
        let ours = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.starts_with(&prefix) && name.ends_with(".json")
        };
        Ok(names.filter(ours).collect())
    }
    fn unusable(&self, path: &Path, why: &dyn std::fmt::Display) -> String {
        format!("the login in {} cannot be used: {why}", path.display())
    }

    /// The latest login at the server.
    pub(super) fn read(&self, server: &str, url: &str) -> Result<Option<Login>, String> {
        let mut latest: Option<Login> = None;
        for path in self.files(server, url)? {
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                // Replaced by another one meanwhile.
                Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
                Err(why) => return Err(self.unusable(&path, &why)),
            };
            // What is wrong with it may quote it.
            let login: Option<Login> = serde_json::from_slice(&bytes).ok().filter(|login: &Login| login.v == 1);
            let Some(login) = login else {
                return Err(self.unusable(&path, &"it is none that this Bosun wrote; remove it and log in again"));
            };
            if (login.server.as_str(), login.url.as_str()) == (server, url)
                && latest.as_ref().is_none_or(|latest| latest.received_ms <= login.received_ms)
            {
                latest = Some(login);
            }
        }
        if let Some(login) = &latest {
            let secrets = [Some(&login.access_token), login.refresh_token.as_ref(), login.client_secret.as_ref()];
            secrets.into_iter().flatten().for_each(|secret| self.hide.learn_now(secret.expose_secret()));
        }
        Ok(latest)
    }

    /// Replaces the login, or adds it.
    pub(super) fn write(&self, _held: &Held, login: &Login) -> Result<(), String> {
        let path = self.folder.join(Logins::name(login));
        let failed = |why: &dyn std::fmt::Display| format!("the login cannot be written to {}: {why}", path.display());
        let random = super::random().map_err(|why| failed(&why))?;
        let next = self.folder.join(format!("{random}.next"));
        let bytes = serde_json::to_vec(login).map_err(|why| failed(&why))?;
        let written = (|| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&next)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&next, &path)?;
            File::open(&self.folder)?.sync_all()
        })();
        written.map_err(|why: io::Error| {
            let _ = fs::remove_file(&next);
            failed(&why)
        })
    }

    /// Removes every login at the server but `but`. How many there were.
    pub(super) fn forget(&self, _held: &Held, server: &str, url: &str, but: Option<&Login>) -> Result<usize, String> {
        let kept = but.map(|login| self.folder.join(Logins::name(login)));
        let mut gone = 0;
        for path in self.files(server, url)?.into_iter().filter(|path| Some(path) != kept.as_ref()) {
            fs::remove_file(&path).map_err(|why| format!("{} cannot be removed: {why}", path.display()))?;
            gone += 1;
        }
        Ok(gone)
    }

    /// Waits until no other process changes the login at the server.
    pub(super) async fn lock(&self, server: &str, url: &str) -> Result<Held, String> {
        let path = self.folder.join(format!("{}.lock", Logins::prefix(server, url)));
        let failed = |why: io::Error| self.unusable(&path, &why);
        let open = || OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = match open() {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                self.make().map_err(failed)?;
                open()
            }
            other => other,
        };
        let file = file.map_err(failed)?;
        let end = tokio::time::Instant::now() + LOCK_TIME;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Held { _file: file }),
                Err(TryLockError::WouldBlock) if tokio::time::Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    return Err(self.unusable(&path, &"another process holds it for too long"));
                }
                Err(TryLockError::Error(why)) => return Err(failed(why)),
            }
        }
    }

    fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        // Whoever puts the state folder under version control means the runs, not these.
        fs::write(self.folder.join(".gitignore"), "*\n")
    }
}

fn short(parts: &[&str]) -> String {
    let hash = Sha256::digest(parts.join("\0").as_bytes());
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
