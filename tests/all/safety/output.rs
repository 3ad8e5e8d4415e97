//! Texts that would do something elsewhere: in a path, in argv, on a page, on a terminal, in a table.

use std::path::Path;

use super::stand_in::Behaviour;
use super::support::{Folder, Provider};

/// 100 strings, each with something that a shell, a path, a terminal, a browser or a spreadsheet acts on.
fn injections() -> Vec<String> {
    let heads = ["", "a", "-", "../", "/", "'\"", "=", "\u{1b}[31m", "<b>", "{{"];
    let tails = [
        ";touch pwned;",
        "$(touch pwned)`touch pwned`",
        "/../../pwned",
        "\ntouch pwned\n",
        "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{9b}1A\r",
        "<script>pwned()</script><img src=x onerror=pwned()>",
        "=cmd|' /C pwned'!A1,+1-1@SUM(A1)",
        "--output=pwned\t-rf",
        "%s%n{0}${jndi:x}{{ 7 * 7 }}",
        "|tee pwned>pwned&",
    ];
    heads.iter().flat_map(|head| tails.iter().map(move |tail| format!("{head}{tail}"))).collect()
}

const CREW: &str = r#"
schema = 1
[budget]
max_usd = 100
max_tokens = 100_000_000
[agents.a]
model = "m"
[tasks.argv]
tool = "probe"
args = { a = "{{ item.text }}" }
for_each = "rows.csv"
[tasks.write]
tool = "files.write"
args = { path = "{{ item.text }}", text = "x" }
for_each = "rows.csv"
optional = true
[tasks.said]
agent = "a"
description = "Say {{ item.text }}"
for_each = "rows.csv"
attempts = 1
optional = true
[tasks.last]
agent = "a"
description = "End"
after = ["argv", "write", "said"]
[crew]
output = "last"
on_failure = "continue"
[tools.probe]
kind = "command"
description = "Counts what it is given"
command = ["sh", "-c", 'printf "%s:" $#; printf "<%s>" "$@"', "sh", "{a}", "--a={a}"]
isolation = "none"
effect = "read"
"#;

/// Every path below a folder, but for the state and what may be written.
fn files(root: &Path) -> Vec<String> {
    let (mut open, mut all) = (vec![root.to_owned()], Vec::new());
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if name == ".bosun" || name == "out" {
                continue;
            }
            let about = std::fs::symlink_metadata(&path).unwrap();
            if about.is_dir() { open.push(path) } else { all.push(name) }
        }
    }
    all.sort();
    all
}

/// What a command writes onto a terminal.
fn on_a_terminal(folder: &Folder, args: &[&str]) -> String {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let open = || std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut command = folder.command(args);
    command.env("NO_COLOR", "1").stdout(open()).stderr(open());
    let mut child = command.spawn().unwrap();
    drop(command);
    let reader = std::thread::spawn(move || {
        let (mut all, mut file) = (Vec::new(), std::fs::File::from(master));
        let mut piece = [0; 4096];
        // The other end is closed with an error where nobody has it open any more.
        while let Ok(read) = std::io::Read::read(&mut file, &mut piece) {
            if read == 0 {
                break;
            }
            all.extend_from_slice(&piece[..read]);
        }
        String::from_utf8_lossy(&all).into_owned()
    });
    child.wait().unwrap();
    let text = reader.join().unwrap();
    assert!(text.lines().count() > 1, "{args:?} says nothing: {text}");
    text.replace("\r\n", "\n")
}

#[track_caller]
fn plain(what: &str, text: &str) {
    let bad = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(bad, None, "{what} holds a control character: {text:?}");
}

#[test]
fn a_hundred_injections_into_paths_arguments_and_terminals_have_no_effect() {
    let provider = Provider::start();
    // The model says what it was asked to say: the string reaches the answer, the file's name and the screen.
    provider.server.respond(|body, _| {
        let asked: serde_json::Value = serde_json::from_str(body).unwrap();
        let last = asked["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned();
        (std::time::Duration::ZERO, Behaviour::Answer(last.trim_start_matches("Say ").to_owned()))
    });
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::new(&(CREW.to_owned() + &provider.tables("")));
    let strings = injections();
    assert_eq!(strings.len(), 100);
    let rows: String = strings.iter().map(|text| format!("\"{}\"\n", text.replace('"', "\"\""))).collect();
    folder.file("rows.csv", &format!("text\n{rows}"));
    let before = files(folder.path());
    // As names of output files they are refused before anything is sent.
    let named = folder.read("crew.toml").replace("[tasks.last]", "output_file = \"out/{{ item.text }}\"\n[tasks.last]");
    folder.file("named.toml", &named);
    let refused = folder.bosun(&["run", "named.toml"]).expect(3);
    assert!(refused.err.contains("error[E0605]") && provider.requests() == 0, "{}", refused.err);
    plain("what is wrong with a crew", &refused.err);
    std::fs::remove_file(folder.path().join("named.toml")).unwrap();
    let ran = folder.bosun(&["run", "crew.toml"]);
    assert_eq!(folder.runs().len(), 1, "{}", ran.err);
    assert_eq!(files(folder.path()), before, "something was written beside out/: {}", ran.err);
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
    plain("the run's screen", &ran.err);
    for args in [&["show", "latest"][..], &["show", "latest", "said"], &["show", "latest", "said[3]"], &["runs"]] {
        plain("a terminal", &on_a_terminal(&folder, args));
    }
    // Each was one argument, whole, and was there.
    let store = folder.store();
    let (mut whole, runs) = (0, folder.runs());
    for entry in &runs[0].1 {
        if let boatswain::core::event::Event::Tool(boatswain::core::event::ToolEvent::Returned { content, .. }) =
            &entry.event
        {
            let text = store.blob(&content.message).unwrap().unwrap();
            let message: serde_json::Value = serde_json::from_str(&text).unwrap();
            whole += usize::from(message["content"].as_str().is_some_and(|text| text.starts_with("2:<")));
        }
    }
    assert_eq!(whole, 100, "{}", ran.err);
    folder.verify();
}

#[test]
fn a_hundred_injections_into_pages_and_tables_are_text() {
    let base = "https://example.com/".parse().unwrap();
    for text in injections() {
        let page =
            format!("<html><title>{text}</title><body><p>{text}</p><pre>{text}</pre><a href='{text}'>x</a></body>");
        let said = boatswain::adapters::web::text(Some("text/html"), page.as_bytes(), &base).unwrap();
        plain("a page", &said);
        // What Markdown escapes is no tag.
        let said = said.replace("\\<", "");
        assert!(!said.contains("<script") && !said.contains("<img"), "{text:?}: {said}");
        let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
        let page = format!("<html><body><p>{escaped}</p></body>");
        let said = boatswain::adapters::web::text(Some("text/html"), page.as_bytes(), &base).unwrap();
        plain("a page", &said);
        // What Markdown escapes is no tag.
        let said = said.replace("\\<", "");
        assert!(!said.contains("<script") && !said.contains("<img"), "{text:?}: {said}");
    }
    // A table keeps its rows and columns whatever stands in its cells.
    let folder = Folder::new("schema = 1\n");
    let strings = injections();
    let rows: String = strings.iter().map(|text| format!("1,\"{}\",2\n", text.replace('"', "\"\""))).collect();
    folder.file("rows.csv", &format!("a,text,b\n{rows}"));
    let args = "{\"path\":\"rows.csv\",\"limit\":200}";
    let said = folder.bosun(&["tools", "call", "data.query", "--args", args]).expect(0);
    let whole = said.out.lines().filter(|line| line.starts_with("{\"a\":\"1\"") && line.ends_with("\"b\":\"2\"}"));
    assert_eq!(whole.count(), 100, "{}", said.out);
    assert_eq!(files(folder.path()), ["crew.toml", "rows.csv"]);
}
