//! Servers that want a login, through the real binary. Invariant: a person logs in once and the rest goes by itself;
//! where it cannot, the words say the command; no token is seen by anybody but the server.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use boatswain::adapters::mcp::{Logins, Mcp, Surroundings};
use boatswain::adapters::redaction::Redactor;
use boatswain::core::crew::{Link, OAuth, Server};
use boatswain::core::event::{Event, Outcome, ToolEvent};
use boatswain::ports::service::{Reply, Service, ServiceCall, Session};
use boatswain::ports::tool::Nobody;
use serde_json::Value;

use super::browser;
use super::issuer::{Issuer, OWN};
use crate::support::{Folder, Ran, wait};

/// A project with the server `h`, and an agent that calls the tools in order.
fn place(issuer: &Issuer, auth: &str, tools: &[&str]) -> Folder {
    let folder = Folder::new(&format!(
        "schema = 1\n[providers.p]\nkind = 'scripted'\nfile = 'script.toml'\n[models.m]\nid = 'p/m'\n\
         [agents.a]\nmodel = 'm'\ntools = ['h.*']\n[tasks.t]\nagent = 'a'\ndescription = 'Do it'\n\
         [tools.h]\nkind = 'mcp'\nurl = 'http://127.0.0.1:{}/mcp'\neffect = 'read'\ntimeout = '50s'\n{auth}\n",
        issuer.port
    ));
    let calls = tools.iter().enumerate().map(|(n, tool)| {
        format!("[[reply]]\nstep = 't'\ntool_calls = [{{ name = 'h__{tool}', arguments = {{ n = {n} }} }}]\n")
    });
    folder.file("script.toml", &(calls.collect::<String>() + "[[reply]]\nstep = 't'\ntext = 'the end'\n"));
    folder
}

/// `tools login`, with a person who opens what it prints and says yes. The address, and how it ended.
fn login(folder: &Folder) -> (String, Ran) {
    let mut command = folder.command(&["-vvv", "tools", "login", "h", "crew.toml"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut address = String::new();
    out.read_line(&mut address).unwrap();
    let address = address.trim().to_owned();
    if !address.is_empty() {
        let seen = browser::open(&address);
        assert_eq!(seen.last().map(|(status, _)| *status), Some(200), "{seen:?}");
    }
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    let mut ran = wait(child);
    ran.out = format!("{address}\n{rest}");
    (address, ran)
}

fn kept(folder: &Folder) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.state().join(".bosun-logins")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "json")).collect()
}

/// How the tool calls of the last run ended, with what the model read.
fn outcomes(folder: &Folder) -> Vec<(Outcome, String)> {
    let store = folder.store();
    let ended = folder.events().into_iter().filter_map(|event| match event {
        Event::Tool(ToolEvent::Returned { outcome, content, .. }) => {
            let text = store.blob(&content.message).unwrap().unwrap();
            let message: Value = serde_json::from_str(&text).unwrap();
            Some((outcome, message["content"].as_str().unwrap().to_owned()))
        }
        _ => None,
    });
    ended.collect()
}

/// Everything that is written below the project but the logins, as text.
fn written(folder: &Folder) -> Vec<(String, String)> {
    let (mut out, mut open) = (Vec::new(), vec![folder.path().to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() && !path.ends_with(".bosun-logins") {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file() {
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            out.push((path.display().to_string(), text));
        }
    }
    out
}

#[track_caller]
fn no_secret(issuer: &Issuer, texts: &[(String, String)]) {
    let state = issuer.state();
    assert!(state.given.len() > 2, "tokens were given out");
    for (what, text) in texts {
        for secret in &state.given {
            assert!(!text.contains(secret.as_str()), "{what} holds {secret}");
        }
    }
}

#[test]
fn a_login_that_is_missing_is_said_before_anything_is_spent() {
    let issuer = Issuer::start();
    for auth in ["", "auth = { kind = 'oauth' }"] {
        let folder = place(&issuer, auth, &["who"]);
        let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
        assert!(ran.err.contains("the server h wants a login: bosun tools login h"), "{}", ran.err);
        assert!(!ran.err.contains("cannot be reached"), "{}", ran.err);
        assert_eq!(folder.runs().len(), 0, "no run was begun");
        assert!(!folder.state().join(".bosun-logins").exists(), "looking makes nothing");
        let doctor = folder.bosun(&["doctor", "crew.toml"]);
        let says = doctor.out.lines().find(|line| line.contains("  login  ")).unwrap_or_default().to_owned();
        assert_eq!(
            !auth.is_empty(),
            says.starts_with("BAD") && says.contains("no login: bosun tools login h"),
            "{says}"
        );
    }
    assert_eq!(issuer.state().grants.len(), 0);
}

#[test]
fn a_person_logs_in_once_and_no_token_is_seen_anywhere() {
    let issuer = Issuer::start();
    let folder = place(&issuer, "", &["who", "expire", "who"]);
    let (address, first) = login(&folder);
    let first = first.expect(0);
    assert!(first.err.contains("logged in at http://127.0.0.1"), "{}", first.err);
    for part in ["code_challenge_method=S256", "resource=http", "state=", "scope=basic+offline_access"] {
        assert!(address.contains(part), "{part}: {address}");
    }
    let files = kept(&folder);
    let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((files.len(), mode(&files[0]), mode(&folder.state().join(".bosun-logins"))), (1, 0o600, 0o700));
    let ran = folder.bosun(&["-vvv", "run", "crew.toml", "--json", "--log-file", "the.log"]).expect(0);
    let said = outcomes(&folder);
    assert_eq!(said.len(), 3);
    assert!(said.iter().all(|(outcome, _)| *outcome == Outcome::Ok), "{said:?}");
    // The server repeats the token, also the one that is new in mid-run.
    assert!([0, 2].iter().all(|at| said[*at].1 == "you are [redacted]"), "{said:?}");
    assert_eq!((issuer.count("authorization_code"), issuer.count("refresh_token")), (1, 1));
    folder.verify();
    let failed = folder.bosun(&["-vvv", "tools", "call", "h.none", "crew.toml"]);
    let doctor = folder.bosun(&["doctor", "crew.toml"]);
    let line = doctor.out.lines().find(|line| line.contains("  login  ")).unwrap_or_default();
    assert!(line.starts_with("ok") && line.contains("renewed by itself"), "{}", doctor.out);
    let store = folder.store();
    let mut texts = written(&folder);
    for event in folder.events() {
        texts.push(("event".into(), format!("{event:?}")));
        if let Event::Tool(ToolEvent::Returned { content, .. }) = event {
            texts.push(("blob".into(), store.blob(&content.message).unwrap().unwrap().to_string()));
        }
    }
    for ran in [first, ran, failed, doctor] {
        texts.push(("output".into(), ran.out + &ran.err));
    }
    no_secret(&issuer, &texts);
    let out = folder.bosun(&["tools", "logout", "h", "crew.toml"]).expect(0);
    assert!(out.err.contains("is forgotten, and given back to http") && kept(&folder).is_empty(), "{}", out.err);
    assert!(issuer.state().access.is_empty() && issuer.state().refresh.is_none());
    folder.bosun(&["run", "crew.toml"]).expect(4);
    let out = folder.bosun(&["tools", "logout", "h"]).expect(0);
    assert!(out.err.contains("there is no login"), "{}", out.err);
}

#[test]
fn whoever_has_no_browser_here_pastes_the_address_that_it_came_to() {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    let issuer = Issuer::start();
    let folder = place(&issuer, "", &["who"]);
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).and_then(|()| unlockpt(&master)).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = std::fs::OpenOptions::new().read(true).write(true).open(name).unwrap();
    let mut command = folder.command(&["tools", "login", "h"]);
    let mut child = command.stdin(terminal).spawn().unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut address).unwrap();
    // The browser is elsewhere: it is sent to a place where nobody listens.
    let answer = browser::get(address.trim());
    let came_to = browser::field(&answer, "location").unwrap();
    rustix::io::write(&master, format!("\n{came_to}\n").as_bytes()).unwrap();
    let ran = wait(child).expect(0);
    assert!(ran.err.contains("paste the address it came to") && ran.err.contains("logged in at"), "{}", ran.err);
    assert_eq!(kept(&folder).len(), 1);
}

#[test]
fn a_server_that_describes_no_login_is_said_to_want_a_key() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 65536]);
            let refused = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            let _ = std::io::Write::write_all(&mut stream, refused.as_bytes());
        }
    });
    let mut issuer = Issuer::start();
    issuer.port = port;
    let folder = place(&issuer, "", &["who"]);
    let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
    assert!(ran.err.contains("the server h wants a login: bosun tools login h"), "{}", ran.err);
    assert!(!ran.err.contains("cannot be reached"), "{}", ran.err);
    let ran = folder.bosun(&["tools", "login", "h"]).expect(4);
    assert!(ran.err.contains("it describes no login: does it take a key?") && ran.out.is_empty(), "{}", ran.err);
}

#[test]
fn a_token_that_has_ended_is_renewed_before_it_is_used() {
    let issuer = Issuer::start();
    issuer.state().life = 1;
    let folder = place(&issuer, "", &["who"]);
    login(&folder).1.expect(0);
    std::thread::sleep(Duration::from_millis(1100));
    issuer.state().life = 3600;
    issuer.state().heard.clear();
    folder.bosun(&["tools", "approve"]).expect(0);
    assert_eq!(issuer.count("refresh_token"), 1);
    // The server never saw the old one: it is the first that was given.
    let first = issuer.state().given[2].clone();
    assert!(!issuer.state().heard.contains(&format!("Bearer {first}")));
    folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(0);
    assert_eq!(issuer.count("refresh_token"), 1);
}

#[test]
fn of_several_processes_one_renews() {
    let issuer = Issuer::start();
    issuer.state().life = 1;
    let folder = place(&issuer, "", &["who"]);
    login(&folder).1.expect(0);
    folder.bosun(&["tools", "approve"]).expect(0);
    std::thread::sleep(Duration::from_millis(1100));
    let before = issuer.count("refresh_token");
    issuer.state().life = 3600;
    issuer.state().slow = Duration::from_millis(700);
    let all: Vec<_> = (0..4).map(|_| folder.start(&["tools", "call", "h.who", "crew.toml"])).collect();
    for child in all {
        // A second renewal with the same token would have ended everything.
        assert_eq!(wait(child).expect(0).out, "you are [redacted]\n");
    }
    assert_eq!(issuer.count("refresh_token") - before, 1);
    assert_eq!(kept(&folder).len(), 1);
}

#[test]
fn a_login_that_is_taken_back_in_mid_run_is_a_tools_error_and_no_dead_run() {
    let issuer = Issuer::start();
    let folder = place(&issuer, "", &["revoke", "who", "who"]);
    login(&folder).1.expect(0);
    folder.bosun(&["run", "crew.toml"]).expect(0);
    let said = outcomes(&folder);
    assert_eq!((said.len(), said[0].0), (3, Outcome::Ok));
    for (outcome, text) in &said[1..] {
        assert!(*outcome == Outcome::Error && text.contains("bosun tools login h"), "{said:?}");
    }
    assert!(said[1].1.contains("taken back") && said[1].1.contains("invalid_grant"), "{said:?}");
    assert_eq!(issuer.count("refresh_token"), 1, "what was refused is not asked again");
    folder.verify();
    let doctor = folder.bosun(&["doctor", "crew.toml"]).expect(4);
    assert!(doctor.out.contains("its login has been taken back: bosun tools login h"), "{}", doctor.out);
    folder.bosun(&["run", "crew.toml"]).expect(4);
    issuer.state().refuses = false;
    login(&folder).1.expect(0);
    folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(0);
}

#[test]
fn a_server_that_wants_more_is_given_more_by_a_person() {
    let issuer = Issuer::start();
    let folder = place(&issuer, "", &["who"]);
    login(&folder).1.expect(0);
    issuer.state().needs = Some("write".into());
    folder.bosun(&["run", "crew.toml"]).expect(0);
    let said = outcomes(&folder);
    let lacks = "the server h wants more than its login allows, `write`: bosun tools login h";
    assert!(said[0].0 == Outcome::Error && said[0].1.contains(lacks), "{said:?}");
    let doctor = folder.bosun(&["doctor", "crew.toml"]).expect(4);
    assert!(doctor.out.contains("lacks what the server has asked for, `write`"), "{}", doctor.out);
    let (address, ran) = login(&folder);
    ran.expect(0);
    assert!(address.contains("scope=basic+offline_access+write"), "{address}");
    folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(0);
    folder.bosun(&["doctor", "crew.toml"]).expect(0);
    // It has what it asked for: another login would change nothing.
    issuer.state().access.values_mut().for_each(|scopes| scopes.retain(|scope| scope != "write"));
    let ran = folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(10);
    assert!(ran.err.contains("its login has the scopes") && !ran.err.contains("tools login"), "{}", ran.err);
}

#[test]
fn a_client_of_its_own_needs_nobody() {
    let issuer = Issuer::start();
    let auth = "auth = { kind = 'oauth', grant = 'client_credentials', client_id = 'own', client_secret = 'env:OWN' }";
    let mut folder = place(&issuer, auth, &["who", "expire", "who"]);
    let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
    assert!(ran.err.contains("its client secret needs the variable OWN, which is not set"), "{}", ran.err);
    assert_eq!(issuer.state().heard, "", "nothing was sent");
    folder.env("OWN", OWN);
    let ran = folder.bosun(&["-vvv", "run", "crew.toml"]).expect(0);
    let said = outcomes(&folder);
    assert!(said.len() == 3 && said[0].1 == "you are [redacted]" && said[2].0 == Outcome::Ok, "{said:?}");
    assert_eq!(issuer.count("client_credentials"), 2);
    issuer.state().needs = Some("write".into());
    folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(0);
    assert_eq!(issuer.count("client_credentials"), 3, "more is asked for without a person");
    let mut texts = written(&folder);
    texts.push(("output".into(), ran.out + &ran.err));
    no_secret(&issuer, &texts);
    assert!(!std::fs::read_to_string(&kept(&folder)[0]).unwrap().contains(OWN), "the secret stays in its variable");
    let ran = folder.bosun(&["tools", "login", "h"]).expect(0);
    assert!(ran.err.contains("logged in at") && ran.out.is_empty(), "{} {}", ran.out, ran.err);
}

#[test]
fn what_describes_another_server_or_leads_elsewhere_ends_the_login() {
    let issuer = Issuer::start();
    let own = format!("http://127.0.0.1:{}/mcp", issuer.port);
    for (described, says) in [
        (serde_json::json!({"resource": "https://evil.example/mcp", "authorization_servers": [own]}), "and not of"),
        (serde_json::json!({"resource": own, "authorization_servers": ["http://169.254.169.254/"]}), "https only"),
        (serde_json::json!({"resource": own, "authorization_servers": ["https://169.254.169.254/"]}), "link-local"),
        (serde_json::json!({"resource": own, "authorization_servers": ["https://10.0.0.1/"]}), "`auth.net` can list"),
        (serde_json::json!({"resource": own, "authorization_servers": ["file:///etc/passwd"]}), "https only"),
        (serde_json::json!({"resource": own, "authorization_servers": []}), "names no authorization server"),
    ] {
        issuer.state().names_other = Some(described);
        let folder = place(&issuer, "", &["who"]);
        let (address, ran) = login(&folder);
        let ran = ran.expect(4);
        assert!(ran.err.contains(says) && address.is_empty(), "{says}: {}", ran.err);
        assert!(kept(&folder).is_empty());
    }
    assert!(issuer.state().grants.is_empty());
}

#[test]
fn a_login_that_was_written_by_nobody_is_refused_in_words() {
    let issuer = Issuer::start();
    let folder = place(&issuer, "", &["who"]);
    login(&folder).1.expect(0);
    folder.bosun(&["tools", "approve"]).expect(0);
    let file = kept(&folder).remove(0);
    std::fs::write(&file, "{\"access_token\": \"secret-of-somebody\"").unwrap();
    let ran = folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(10);
    assert!(ran.err.contains("remove it and log in again") && !ran.err.contains("somebody"), "{}", ran.err);
    login(&folder).1.expect(0);
    folder.bosun(&["tools", "call", "h.who", "crew.toml"]).expect(0);
}

/// A server and its logins in this process, without the binary.
struct Near {
    issuer: Issuer,
    server: Server,
    around: Surroundings,
    folder: tempfile::TempDir,
}

impl Near {
    fn new() -> Near {
        let (issuer, folder) = (Issuer::start(), tempfile::tempdir().unwrap());
        let url = format!("http://127.0.0.1:{}/mcp", issuer.port);
        let link = Link::Http { url, headers: Default::default(), login: Some(OAuth::default()) };
        let server = Server { name: "h".into(), link, allow: Vec::new(), timeout_ms: 20_000, pins: None };
        let logins = Some(Logins::new(folder.path(), Redactor::default()));
        let around = Surroundings { root: ".".into(), env: Arc::default(), leash: None, logins };
        Near { issuer, server, around, folder }
    }
    /// As another process would make it.
    fn mcp(&self) -> Mcp {
        Mcp::new(&self.server, &self.around).unwrap()
    }
    async fn login(&self) {
        let say = |address: &str| {
            let address = address.to_owned();
            std::thread::spawn(move || browser::open(&address));
        };
        self.mcp().login().unwrap().login(&say, std::future::pending()).await.unwrap();
    }
}

async fn called(session: &dyn Session, tool: &str) -> Reply {
    let call = ServiceCall { tool: tool.into(), arguments: Default::default(), key: "k".into() };
    session.call(&call, Arc::new(Nobody)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_terminal_can_log_in_while_a_run_goes_on() {
    let near = Near::new();
    near.login().await;
    let running = near.mcp();
    let session = running.connect().await.unwrap();
    assert!(matches!(called(&*session, "revoke").await, Reply::Done(_)));
    for _ in 0..2 {
        let Reply::Refused(why) = called(&*session, "who").await else { panic!("it is revoked") };
        assert!(why.contains("bosun tools login h"), "{why}");
    }
    near.issuer.state().refuses = false;
    near.login().await;
    assert_eq!(called(&*session, "who").await, Reply::Done("you are [redacted]".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_is_kept_although_its_call_was_given_up() {
    let near = Near::new();
    near.login().await;
    let running = near.mcp();
    let session = running.connect().await.unwrap();
    assert!(matches!(called(&*session, "expire").await, Reply::Done(_)));
    near.issuer.state().slow = Duration::from_millis(600);
    let given_up = tokio::time::timeout(Duration::from_millis(200), called(&*session, "who")).await;
    assert!(given_up.is_err() && near.issuer.count("refresh_token") == 1);
    // Its refresh token is used up: asked for once more with it, the server would trust nobody any more.
    assert_eq!(called(&*session, "who").await, Reply::Done("you are [redacted]".into()));
    assert_eq!(near.issuer.count("refresh_token"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_that_cannot_be_written_serves_the_process_that_has_it() {
    let near = Near::new();
    near.login().await;
    let running = near.mcp();
    let session = running.connect().await.unwrap();
    assert!(matches!(called(&*session, "expire").await, Reply::Done(_)));
    // Its file can be read and not be replaced: a folder has taken the place of what would be.
    let folder = near.folder.path().join(".bosun-logins");
    let taken = |path: &PathBuf| path.extension().is_some_and(|end| end == "json");
    let file = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).find(taken).unwrap();
    near.issuer.state().slow = Duration::from_millis(300);
    let replaced = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir_all(file.join("in the way")).unwrap();
    };
    let (reply, ()) = tokio::join!(called(&*session, "who"), replaced);
    assert_eq!(reply, Reply::Done("you are [redacted]".into()));
    assert_eq!(called(&*session, "who").await, Reply::Done("you are [redacted]".into()));
    assert_eq!(near.issuer.count("refresh_token"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_at_the_same_time_renew_once() {
    let near = Near::new();
    near.login().await;
    let running = near.mcp();
    let session = running.connect().await.unwrap();
    assert!(matches!(called(&*session, "expire").await, Reply::Done(_)));
    let who = || called(&*session, "who");
    let (a, b, c, d) = tokio::join!(who(), who(), who(), who());
    assert!([a, b, c, d].iter().all(|reply| *reply == Reply::Done("you are [redacted]".into())));
    assert_eq!(near.issuer.count("refresh_token"), 1);
}

#[test]
fn what_a_crew_says_of_a_login_is_checked_before_it_is_needed() {
    let issuer = Issuer::start();
    for (auth, says) in [
        (
            "auth = { kind = 'oauth', client_secret = 'hunter2-hunter2', client_id = 'x' }",
            "is not the name of a variable",
        ),
        ("auth = { kind = 'oauth', client_secret = 'env:S' }", "there is no `client_id`"),
        ("auth = { kind = 'oauth', grant = 'client_credentials', client_id = 'x' }", "must say who it is"),
        ("auth = { kind = 'oauth' }\nheaders = { authorization = 'env:S' }", "says who asks already"),
        ("auth = { scopes = ['a'] }", "`auth` has no `kind`"),
        ("auth = { kind = 'oauth', client_metadata = 'http://x/y' }", "begins with https://"),
        ("auth = { kind = 'oauth', net = ['sso'] }", "no host with a port"),
        ("auth = { kind = 'oauth', scope = 'a' }", "scopes"),
        ("auth = { kind = 'basic' }", "oauth"),
    ] {
        let ran = place(&issuer, auth, &["who"]).bosun(&["check"]).expect(3);
        assert!(ran.out.contains(says) && !ran.out.contains("panicked"), "{auth}: {}", ran.out);
    }
    let whole = "auth = { kind = 'oauth', grant = 'authorization_code', scopes = ['a', 'b'], client_id = 'x', \
                 client_secret = 'env:S', redirect_port = 8976, net = ['sso.corp:443'] }";
    place(&issuer, whole, &["who"]).bosun(&["check"]).expect(0);
    for kind in
        ["kind = 'command'\ncommand = ['true']\nisolation = 'none'", "kind = 'http'\nurl = 'https://a.example/'"]
    {
        let crew = format!(
            "schema = 1\n[agents.a]\ntools = ['h']\n[tasks.t]\nagent = 'a'\ndescription = 'Do it'\n[tools.h]\n{kind}\n\
             description = 'x'\nauth = {{ kind = 'oauth' }}\n"
        );
        let ran = Folder::new(&crew).bosun(&["check"]);
        assert!((ran.out + &ran.err).contains("`auth` means nothing to a"), "{kind}");
    }
    assert_eq!(issuer.state().heard, "", "check asks nobody");
}
