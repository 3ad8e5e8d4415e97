//! Servers that others wrote, as their registries have them. Invariant: every tool of theirs is listed, and called
//! with what it needs; only the world outside this machine is not asked.
//!
//! What `tests/mcp/` names is installed once into `target/mcp-servers`; where no registry can be reached, the tests
//! say so loudly and look at nothing.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use boatswain::actors::service::{ServiceTool, Services};
use boatswain::adapters::mcp::{Mcp, Surroundings};
use boatswain::core::chat::{Effect, ToolSpec};
use boatswain::core::crew::{Link, Server};
use boatswain::core::schema::Schema;
use boatswain::ports::service::Service;
use boatswain::ports::tool::{Tool, ToolCall, ToolOutcome};
use serde_json::{Value, json};

use crate::support::{program, until};

/// Said past the test harness, which keeps what a test that passes prints.
pub fn loudly(text: &str) {
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {text} ***\n");
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("mcp-servers")
}

/// Runs an installer once for this content of its list.
fn installed(folder: &str, list: &str, install: impl Fn(&Path) -> Result<(), String>) -> Option<PathBuf> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let wanted = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mcp").join(list)).unwrap();
    let folder = cache().join(folder);
    if std::fs::read_to_string(folder.join("installed")).is_ok_and(|found| found == wanted) {
        return Some(folder);
    }
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(Path::new(list).file_name().unwrap()), &wanted).unwrap();
    match install(&folder) {
        Ok(()) => {
            std::fs::write(folder.join("installed"), wanted).unwrap();
            Some(folder)
        }
        Err(why) => {
            loudly(&format!("third-party MCP servers cannot be installed ({list}): {why}"));
            None
        }
    }
}

fn ran(command: &mut Command) -> Result<(), String> {
    let out = command.stdin(Stdio::null()).output().map_err(|why| format!("{:?}: {why}", command.get_program()))?;
    let said = String::from_utf8_lossy(&out.stderr).lines().last().unwrap_or_default().to_owned();
    if out.status.success() { Ok(()) } else { Err(said) }
}

/// `node_modules` with the servers of `tests/mcp/package.json`.
pub fn npm() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER.get_or_init(|| Some(installed("npm", "package.json", install_npm)?.join("node_modules"))).as_deref()
}

/// `node_modules` with the conformance suite.
pub fn suite() -> Option<PathBuf> {
    Some(installed("suite", "conformance/package.json", install_npm)?.join("node_modules"))
}

fn install_npm(folder: &Path) -> Result<(), String> {
    let list = ["install", "--no-audit", "--no-fund", "--ignore-scripts"];
    ran(Command::new("npm").args(list).current_dir(folder))
}

/// The programs of `tests/mcp/requirements.txt`.
pub fn pypi() -> Option<&'static Path> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = || {
        let install = |folder: &Path| {
            ran(Command::new("python3").args(["-m", "venv", "venv"]).current_dir(folder))?;
            let list = ["install", "--quiet", "-r", "requirements.txt"];
            ran(Command::new(folder.join("venv/bin/pip")).args(list).current_dir(folder))
        };
        Some(installed("pypi", "requirements.txt", install)?.join("venv/bin"))
    };
    FOLDER.get_or_init(made).as_deref()
}

/// One server in this process, and what of its tools was called.
pub struct Talk {
    runtime: tokio::runtime::Runtime,
    services: Arc<Services>,
    service: Arc<dyn Service>,
    server: Server,
    specs: BTreeMap<String, Value>,
    called: Vec<String>,
}

impl Talk {
    pub fn new(link: Link, root: &Path, env: &[(&str, &str)]) -> Talk {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut given: BTreeMap<String, String> = ["PATH", "HOME"]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .collect();
        given.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let around = Surroundings {
            root: root.to_owned(),
            env: Arc::new(given),
            leash: Some(PathBuf::from(program())),
            logins: None,
        };
        let mut server = Server { name: "s".into(), link, allow: Vec::new(), timeout_ms: 60_000, pins: None };
        let service: Arc<dyn Service> = Arc::new(Mcp::new(&server, &around).unwrap());
        let services = Arc::new(Services::default());
        let found = runtime.block_on(services.definitions(&service, server.timeout_ms)).unwrap();
        server.pins = Some(found.iter().map(|tool| (tool.name.clone(), tool.hash)).collect());
        let specs = found.iter().map(|tool| (tool.name.clone(), tool.parameters().clone())).collect();
        Talk { runtime, services, service, server, specs, called: Vec::new() }
    }

    pub fn program(argv: &[&str], root: &Path, env: &[(&str, &str)]) -> Talk {
        let argv = argv.iter().map(|part| (*part).to_owned()).collect();
        let names = env.iter().map(|(name, _)| (*name).to_owned()).collect();
        Talk::new(Link::Stdio { argv, env: names }, root, env)
    }

    /// Calls a tool with arguments that its own schema takes.
    #[track_caller]
    pub fn call(&mut self, tool: &str, args: Value) -> ToolOutcome {
        let parameters = self.specs.get(tool).unwrap_or_else(|| panic!("no {tool} in {:?}", self.specs.keys())).clone();
        Schema::new(parameters.clone()).unwrap().check(&args).unwrap_or_else(|why| panic!("{tool}: {why}"));
        let spec = ToolSpec {
            name: format!("s.{tool}"),
            description: String::new(),
            parameters,
            effect: Effect::Once,
            timeout_ms: 60_000,
            max_result: 4000,
        };
        let made = ServiceTool {
            services: self.services.clone(),
            service: self.service.clone(),
            server: Arc::new(self.server.clone()),
            spec,
            tool: tool.to_owned(),
        };
        self.called.push(tool.to_owned());
        let Value::Object(arguments) = args else { panic!("{tool}: {args}") };
        self.runtime.block_on(made.call(ToolCall { arguments, idempotency_key: "k".into() }))
    }

    /// The call is done, and says this.
    #[track_caller]
    pub fn says(&mut self, tool: &str, args: Value, part: &str) -> String {
        match self.call(tool, args) {
            ToolOutcome::Ok(text) if text.contains(part) => text,
            other => panic!("{tool}: expected `{part}`, found {other:?}"),
        }
    }

    /// Nothing was left out.
    #[track_caller]
    pub fn end(self) {
        let left: Vec<&String> = self.specs.keys().filter(|name| !self.called.contains(name)).collect();
        assert!(left.is_empty(), "not called: {left:?}");
        self.runtime.block_on(self.services.stop());
    }
}

pub fn script(folder: &Path, server: &str) -> String {
    folder.join("@modelcontextprotocol").join(server).join("dist/index.js").display().to_string()
}

/// The same over either transport.
fn everything(mut talk: Talk) {
    talk.says("echo", json!({"message": "ahoy"}), "Echo: ahoy");
    talk.says("get-sum", json!({"a": 3, "b": 4}), "7");
    talk.says(
        "get-annotated-message",
        json!({"messageType": "success", "includeImage": true}),
        "an image came, image/png",
    );
    talk.says("get-env", json!({}), "PATH");
    talk.says("get-resource-links", json!({"count": 2}), "[link to the resource ");
    talk.says("get-resource-reference", json!({"resourceType": "Text", "resourceId": 1}), "[resource ");
    talk.says("get-structured-content", json!({"location": "New York"}), "temperature");
    talk.says("get-tiny-image", json!({}), "an image came, image/png");
    let gzip = json!({"name": "a.gz", "data": "data:text/plain,hello", "outputType": "resource"});
    talk.says("gzip-file-as-resource", gzip, "a.gz");
    talk.says("toggle-simulated-logging", json!({}), "logging");
    talk.says("toggle-simulated-logging", json!({}), "logging");
    talk.says("toggle-subscriber-updates", json!({}), "resource");
    talk.says("toggle-subscriber-updates", json!({}), "resource");
    // Its steps are seen as progress, and its end as the result.
    talk.says("trigger-long-running-operation", json!({"duration": 1, "steps": 3}), "completed");
    // It asks a person, who is not there: declined.
    talk.says("trigger-elicitation-request", json!({}), "declined");
    // A tool that only runs as a task of the protocol: refused in words.
    match talk.call("simulate-research-query", json!({"topic": "tea"})) {
        ToolOutcome::Error(why) => assert!(why.contains("requires task augmentation"), "{why}"),
        other => panic!("{other:?}"),
    }
    talk.end();
}

#[test]
fn everything_over_standard_streams() {
    let Some(npm) = npm() else { return };
    let root = tempfile::tempdir().unwrap();
    everything(Talk::program(&["node", &script(npm, "server-everything")], root.path(), &[]));
}

#[test]
fn everything_over_http() {
    let Some(npm) = npm() else { return };
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut server = Command::new("node")
        .args([&script(npm, "server-everything"), "streamableHttp"])
        .env("PORT", port.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let talked = std::panic::catch_unwind(|| {
        let headers = BTreeMap::from([("Authorization".to_owned(), "MCP_TOKEN".to_owned())]);
        let link = Link::Http { url: format!("http://127.0.0.1:{port}/mcp"), headers, login: None };
        let root = tempfile::tempdir().unwrap();
        everything(Talk::new(link, root.path(), &[("MCP_TOKEN", "Bearer sk-0123456789")]));
    });
    server.kill().unwrap();
    server.wait().unwrap();
    if let Err(why) = talked {
        std::panic::resume_unwind(why);
    }
}

#[test]
fn filesystem() {
    let Some(npm) = npm() else { return };
    let root = tempfile::tempdir().unwrap();
    let inside = root.path().canonicalize().unwrap();
    let at = |name: &str| inside.join(name).display().to_string();
    let mut talk = Talk::program(&["node", &script(npm, "server-filesystem"), &at("")], root.path(), &[]);
    talk.says("list_allowed_directories", json!({}), &inside.display().to_string());
    talk.says("create_directory", json!({"path": at("logs")}), "logs");
    talk.says("write_file", json!({"path": at("a.txt"), "content": "one\ntwo\n"}), "a.txt");
    talk.says("read_file", json!({"path": at("a.txt")}), "two");
    talk.says("read_text_file", json!({"path": at("a.txt"), "head": 1}), "one");
    let edit = json!({"path": at("a.txt"), "edits": [{"oldText": "two", "newText": "three"}]});
    talk.says("edit_file", edit, "+three");
    talk.says("read_multiple_files", json!({"paths": [at("a.txt")]}), "three");
    std::fs::write(inside.join("a.png"), [0x89, 0x50, 0x4e, 0x47]).unwrap();
    talk.says("read_media_file", json!({"path": at("a.png")}), "an image came, image/png, 4 bytes");
    talk.says("list_directory", json!({"path": at("")}), "[FILE] a.txt");
    talk.says("list_directory_with_sizes", json!({"path": at("")}), "a.txt");
    talk.says("directory_tree", json!({"path": at("")}), "a.txt");
    talk.says("search_files", json!({"path": at(""), "pattern": "*.txt"}), "a.txt");
    talk.says("get_file_info", json!({"path": at("a.txt")}), "size");
    talk.says("move_file", json!({"source": at("a.txt"), "destination": at("logs/b.txt")}), "b.txt");
    assert_eq!(std::fs::read_to_string(inside.join("logs/b.txt")).unwrap(), "one\nthree\n");
    match talk.call("read_file", json!({"path": "/etc/passwd"})) {
        ToolOutcome::Error(why) => assert!(why.to_lowercase().contains("access denied"), "{why}"),
        other => panic!("{other:?}"),
    }
    talk.end();
}

#[test]
fn memory() {
    let Some(npm) = npm() else { return };
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("memory.jsonl").display().to_string();
    let env = [("MEMORY_FILE_PATH", file.as_str())];
    let mut talk = Talk::program(&["node", &script(npm, "server-memory")], root.path(), &env);
    let entity = |name: &str| json!({"name": name, "entityType": "ship", "observations": ["floats"]});
    talk.says("create_entities", json!({"entities": [entity("Argo"), entity("Beagle")]}), "Argo");
    let relation = json!({"relations": [{"from": "Argo", "to": "Beagle", "relationType": "passes"}]});
    talk.says("create_relations", relation.clone(), "passes");
    let more = json!({"observations": [{"entityName": "Argo", "contents": ["is old"]}]});
    talk.says("add_observations", more, "is old");
    talk.says("read_graph", json!({}), "Beagle");
    talk.says("search_nodes", json!({"query": "old"}), "Argo");
    talk.says("open_nodes", json!({"names": ["Argo"]}), "is old");
    let less = json!({"deletions": [{"entityName": "Argo", "observations": ["is old"]}]});
    talk.says("delete_observations", less, "");
    talk.says("delete_relations", relation, "");
    talk.says("delete_entities", json!({"entityNames": ["Beagle"]}), "");
    assert!(!talk.says("read_graph", json!({}), "Argo").contains("Beagle"));
    talk.end();
}

#[test]
fn sequential_thinking() {
    let Some(npm) = npm() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut talk = Talk::program(&["node", &script(npm, "server-sequential-thinking")], root.path(), &[]);
    let thought = json!({"thought": "First.", "nextThoughtNeeded": true, "thoughtNumber": 1, "totalThoughts": 2});
    talk.says("sequentialthinking", thought, "thoughtHistoryLength");
    talk.end();
}

#[test]
fn time() {
    let Some(pypi) = pypi() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut talk = Talk::program(&[&pypi.join("mcp-server-time").display().to_string()], root.path(), &[]);
    talk.says("get_current_time", json!({"timezone": "Europe/Berlin"}), "Europe/Berlin");
    let noon = json!({"source_timezone": "Etc/UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
    talk.says("convert_time", noon, "21:00");
    match talk.call("get_current_time", json!({"timezone": "Moon/Base"})) {
        ToolOutcome::Error(why) => assert!(why.contains("Moon/Base") || why.contains("timezone"), "{why}"),
        other => panic!("{other:?}"),
    }
    talk.end();
}

fn git_in(root: &Path, args: &[&str]) {
    let mut command = Command::new("git");
    command.args(args).current_dir(root).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    ran(command.env("HOME", root)).unwrap();
}

/// A repository with all files in its first commit.
pub fn repository(root: &Path) {
    git_in(root, &["init", "-q", "-b", "main"]);
    git_in(root, &["config", "user.name", "Tester"]);
    git_in(root, &["config", "user.email", "tester@example.org"]);
    commit(root, "First commit");
}

pub fn commit(root: &Path, message: &str) {
    git_in(root, &["add", "-A"]);
    git_in(root, &["commit", "-q", "-m", message]);
}

#[test]
fn git() {
    let Some(pypi) = pypi() else { return };
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::write(root.join("a.txt"), "one\n").unwrap();
    repository(root);
    let mut talk = Talk::program(&[&pypi.join("mcp-server-git").display().to_string()], root, &[]);
    let with = |more: Value| {
        let mut args = json!({"repo_path": root.display().to_string()});
        args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        args
    };
    std::fs::write(root.join("a.txt"), "two\n").unwrap();
    talk.says("git_status", with(json!({})), "a.txt");
    talk.says("git_diff_unstaged", with(json!({})), "+two");
    talk.says("git_add", with(json!({"files": ["a.txt"]})), "staged");
    talk.says("git_diff_staged", with(json!({})), "+two");
    talk.says("git_reset", with(json!({})), "");
    talk.says("git_add", with(json!({"files": ["a.txt"]})), "staged");
    talk.says("git_commit", with(json!({"message": "Second commit"})), "committed");
    talk.says("git_log", with(json!({"max_count": 5})), "First commit");
    talk.says("git_show", with(json!({"revision": "HEAD"})), "Second commit");
    talk.says("git_create_branch", with(json!({"branch_name": "side"})), "side");
    talk.says("git_checkout", with(json!({"branch_name": "side"})), "side");
    talk.says("git_branch", with(json!({"branch_type": "local"})), "side");
    talk.says("git_diff", with(json!({"target": "HEAD~1"})), "-one");
    talk.end();
}

#[test]
fn fetch_of_a_page_on_this_machine() {
    let Some(pypi) = pypi() else { return };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // Ends with the test's process.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap_or(0);
            let page = String::from_utf8_lossy(&request[..read]).starts_with("GET /page");
            let (status, body) = if page { ("200 OK", "The tide is in.") } else { ("404 Not Found", "") };
            let head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
            let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
        }
    });
    let root = tempfile::tempdir().unwrap();
    let fetch = pypi.join("mcp-server-fetch").display().to_string();
    let mut talk = Talk::program(&[&fetch, "--allow-private-ips"], root.path(), &[]);
    talk.says("fetch", json!({"url": format!("http://127.0.0.1:{port}/page")}), "The tide is in.");
    talk.end();
}
