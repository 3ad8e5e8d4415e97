//! `bosun.lock`: what MCP servers say of their tools, as it was approved. Invariant: a definition in it is the one
//! its hash names; a file that was tampered with is refused, never repaired.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;

use crate::core::crew::Link;
use crate::core::definition::Definition;
use crate::core::place::LOCK;

/// Largest lock file that is read, in bytes.
const MOST: u64 = 4 << 20;

const HEAD: &str = "\
# What MCP servers say of their tools, as it was approved; a server that says otherwise is not called.
# Written by `bosun run` for a server it meets first, and by `bosun tools approve`. Keep it under version control.
schema = 1
";

/// The definitions of every server that was approved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock(pub BTreeMap<String, Approved>);

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approved {
    /// [`Link::text`] of what was approved.
    pub link: String,
    pub tools: BTreeMap<String, Definition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    #[serde(default)]
    servers: BTreeMap<String, Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    command: Option<Vec<String>>,
    url: Option<String>,
    #[serde(default)]
    tools: BTreeMap<String, Tool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tool {
    sha256: String,
    definition: String,
}

impl Lock {
    pub fn parse(text: &str) -> Result<Lock, String> {
        let file: File = toml::from_str(text).map_err(|why| why.message().to_owned())?;
        if file.schema != 1 {
            return Err(format!("it is written for `schema = {}`, this Bosun knows 1", file.schema));
        }
        let mut all = BTreeMap::new();
        for (server, row) in file.servers {
            let link = match (row.command, row.url) {
                (Some(argv), None) => Link::Stdio { argv, env: Vec::new() }.text(),
                (None, Some(url)) => url,
                (Some(_), Some(_)) | (None, None) => return Err(format!("`{server}` has not one of `command`, `url`")),
            };
            let mut tools = BTreeMap::new();
            for (name, tool) in row.tools {
                let bad = |why: &str| format!("the definition of `{server}.{name}` {why}");
                let json = serde_json::from_str(&tool.definition).map_err(|why| bad(&format!("is not JSON: {why}")))?;
                let definition = Definition::new(&json).map_err(|why| bad(&why))?;
                if definition.name != name || definition.hash.to_string() != tool.sha256 {
                    return Err(bad("is not the one that was approved: its SHA-256 is another"));
                }
                tools.insert(name, definition);
            }
            all.insert(server, Approved { link, tools });
        }
        Ok(Lock(all))
    }

    /// The file's text: sorted, the same for the same content.
    pub fn text(&self) -> String {
        let mut out = HEAD.to_owned();
        for (server, approved) in &self.0 {
            let (key, value) = if approved.link.starts_with('[') {
                ("command", approved.link.clone())
            } else {
                ("url", quoted(&approved.link))
            };
            out.push_str(&format!("\n[servers.{}]\n{key} = {value}\n", bare(server)));
            for (name, tool) in &approved.tools {
                let (server, name, text) = (bare(server), bare(name), tool.text());
                // JSON escapes control characters but DEL, which no TOML string may hold as it is.
                let plain = !text.contains("'''") && !text.contains('\u{7f}');
                let text = if plain { format!("'''\n{text}'''") } else { quoted(&text) };
                out.push_str(&format!("\n[servers.{server}.tools.{name}]\nsha256 = \"{}\"\n", tool.hash));
                out.push_str(&format!("definition = {text}\n"));
            }
        }
        out
    }

    /// The lock file of a project; one that is not there pins nothing.
    pub fn read(root: &Path) -> Result<Lock, String> {
        let path = root.join(LOCK);
        match std::fs::metadata(&path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(Lock::default()),
            Err(why) => return Err(format!("{LOCK}: {why}")),
            Ok(meta) if meta.len() > MOST => return Err(format!("{LOCK} has more than {MOST} bytes")),
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(&path).map_err(|why| format!("{LOCK}: {why}"))?;
        Lock::parse(&text).map_err(|why| format!("{LOCK}: {why}"))
    }

    /// Whole or not at all.
    pub fn write(&self, root: &Path) -> Result<(), String> {
        let made = || {
            let near = root.join(format!(".bosun-lock-{}", std::process::id()));
            let mut file = std::fs::File::create(&near)?;
            file.write_all(self.text().as_bytes())?;
            file.sync_all()?;
            std::fs::rename(&near, root.join(LOCK))
        };
        made().map_err(|why: std::io::Error| format!("{LOCK} cannot be written in {}: {why}", root.display()))
    }
}

/// A string of TOML: JSON's, but for DEL.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}

fn bare(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if plain { name.to_owned() } else { quoted(name) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lock() -> Lock {
        let tool = |name: &str, says: &str| {
            let tool = json!({"name": name, "description": says, "inputSchema": {"type": "object"}});
            (name.to_owned(), Definition::new(&tool).unwrap())
        };
        let odd = tool("b.c", "it's '''odd''' \u{7f}\u{1b}[31m\r\n\\ \"x\" ü");
        let link = Link::Stdio { argv: vec!["np x".into(), "-y".into()], env: vec!["KEY".into()] }.text();
        let own = Approved { link, tools: BTreeMap::from([tool("a-b", "one\ntwo"), odd]) };
        let far = Approved { link: "http://127.0.0.1:1/mcp?a=\"b\"".into(), tools: BTreeMap::new() };
        Lock(BTreeMap::from([("own".to_owned(), own), ("far".to_owned(), far)]))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = lock().text();
        assert_eq!(Lock::parse(&text), Ok(lock()), "{text}");
        assert!(text.find("[servers.far]") < text.find("[servers.own]"), "sorted: {text}");
        assert!(text.contains("command = [\"np x\",\"-y\"]"), "{text}");
    }

    #[test]
    fn what_was_tampered_with_is_refused() {
        let text = lock().text();
        let changed = text.replacen("one\\ntwo", "one\\nTWO", 1);
        assert!(Lock::parse(&changed).unwrap_err().contains("is not the one that was approved"), "{changed}");
        assert!(Lock::parse("schema = 2\n").unwrap_err().contains("knows 1"));
        assert!(Lock::parse("schema = 1\n[servers.a]\n").unwrap_err().contains("`a` has not one of"));
    }

    #[test]
    fn a_project_without_a_lock_pins_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Lock::read(folder.path()), Ok(Lock::default()));
        lock().write(folder.path()).unwrap();
        assert_eq!(Lock::read(folder.path()), Ok(lock()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
