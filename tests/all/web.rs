//! Tools over HTTP, through the binary: a table of a crew, `web.fetch`, and what becomes of the key.

use super::stand_in::Behaviour;
use super::support::{Folder, Provider, Ran};

const KEY: &str = "hunter2-hunter2/hunter2";

fn crew(port: &str) -> String {
    format!(
        r#"
schema = 1
[providers.s]
kind = "scripted"
file = "script.toml"
[models]
m = {{ id = "s/m", price = {{ input = 1, output = 1 }} }}
[agents.a]
model = "m"
tools = ["search", "note", "page", "web.fetch"]
[tasks.t]
agent = "a"
description = "Find it"
[tools.search]
kind = "http"
description = "Searches"
url = "http://127.0.0.1:{port}/v1/search/{{lang}}"
query = {{ q = "{{q}}", count = 3 }}
headers = {{ Authorization = "Bearer env:SEARCH_KEY", Accept = "application/json" }}
result = "/results/0/text"
net = ["127.0.0.1:{port}"]
[tools.note]
kind = "http"
description = "Notes"
url = "http://127.0.0.1:{port}/notes"
headers = {{ X-Api-Key = "env:SEARCH_KEY" }}
body = {{ text = "{{text}}", tags = ["{{tag}}"] }}
schema = {{ text = "string", tag = "string?" }}
net = ["127.0.0.1:{port}"]
[tools.page]
use = "web.fetch"
net = ["localhost:{port}"]
"#
    )
}

fn place(provider: &Provider) -> Folder {
    let base = provider.server.base_url();
    let port = base.trim_end_matches("/v1").rsplit_once(':').unwrap().1.to_owned();
    let folder = Folder::new(&crew(&port));
    let ask = |name: &str, arguments: &str| format!("{{ name = \"{name}\", arguments = {arguments} }}");
    let calls = [
        ask("search", "{ lang = \"../en\", q = \"a&b=c\" }"),
        ask("note", "{ text = \"say \\\"hi\\\"\" }"),
        ask("page", &format!("{{ url = \"http://localhost:{port}/page\" }}")),
        ask("web__fetch", &format!("{{ url = \"http://localhost:{port}/page\" }}")),
        ask("web__fetch", "{ url = \"http://169.254.169.254/latest\" }"),
    ];
    let script =
        format!("[[reply]]\nstep = \"t\"\ntool_calls = [{}]\n[default]\ntext = \"Found.\"\n", calls.join(", "));
    folder.file("script.toml", &script);
    folder
}

/// Bytes of everything below the state folder.
fn state(folder: &Folder) -> Vec<u8> {
    let mut open = vec![folder.state()];
    let mut all = Vec::new();
    while let Some(at) = open.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { all.extend(std::fs::read(path).unwrap()) }
        }
    }
    all
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_run_calls_services_and_their_key_is_nowhere_but_in_the_requests() {
    let provider = Provider::start();
    let mut folder = place(&provider);
    let unset = folder.bosun(&["run", "crew.toml"]);
    assert!(provider.seen().iter().all(|one| one.path == "/page"), "nothing that needs the key was sent");
    assert_eq!(unset.code, Some(0), "every model is a stand-in, so that the run may go without: {}", unset.err);
    provider.server.respond(|body, _| {
        let said =
            if body.is_empty() { r#"{"results":[{"text":"the key is hunter2-hunter2/hunter2"}]}"# } else { "{}" };
        (std::time::Duration::ZERO, Behaviour::Body(said.to_owned()))
    });
    folder.env("SEARCH_KEY", KEY);
    let ran = folder.bosun(&["run", "crew.toml", "--json", "-vvv"]).expect(0);
    let seen = provider.seen();
    let by = |path: &str| {
        seen.iter().find(|one| one.path.starts_with(path)).unwrap_or_else(|| panic!("{path}: {}", ran.out))
    };
    let search = by("/v1/search");
    assert_eq!(search.path, "/v1/search/..%2Fen?q=a%26b%3Dc&count=3");
    assert_eq!(search.headers["authorization"], format!("Bearer {KEY}"));
    assert!(search.headers.get("idempotency-key").is_none());
    let note = by("/notes");
    assert_eq!(
        (note.body.as_str(), &note.headers["x-api-key"]),
        (r#"{"text":"say \"hi\"","tags":[]}"#, &KEY.parse().unwrap())
    );
    assert!(note.headers["idempotency-key"].to_str().unwrap().contains(":t.1:1:"), "{note:?}");
    assert_eq!(seen.iter().filter(|one| one.path == "/page").count(), 2, "the listed one alone, once per run");
    let shown = folder.bosun(&["show", "latest", "t", "--json"]).out;
    assert!(ran.out.contains("tool.returned") && !holds(&state(&folder), KEY) && !holds(&state(&folder), "hunter2-"));
    for said in [&ran.out, &ran.err, &shown] {
        assert!(!said.contains("hunter2"), "{said}");
    }
    assert!(holds(&state(&folder), "the key is [redacted]"));
    folder.verify();
}

#[test]
fn what_a_real_run_lacks_is_said_before_anything_is_sent() {
    let provider = Provider::start();
    let folder = place(&provider);
    let crew = folder.read("crew.toml").replace("[providers.s]\nkind = \"scripted\"\nfile = \"script.toml\"\n", "");
    let crew =
        crew.replace("[models]\nm = { id = \"s/m\", price = { input = 1, output = 1 } }\n", &provider.tables(""));
    folder.file("crew.toml", &crew);
    let ran = folder.bosun(&["run", "crew.toml"]).expect(4);
    assert!(ran.err.contains("tool `note`: the environment variable SEARCH_KEY is not set"), "{}", ran.err);
    assert_eq!((provider.seen().len(), folder.runs().len()), (0, 0));
}

#[test]
fn tools_of_the_web_are_shown_and_called_by_hand() {
    let provider = Provider::start();
    let mut folder = place(&provider);
    folder.env("SEARCH_KEY", KEY);
    let list = folder.bosun(&["tools", "list", "crew.toml"]).expect(0).out;
    assert!(list.contains("web.fetch") && list.contains("GET http://127.0.0.1:"), "{list}");
    let shown = folder.bosun(&["tools", "show", "search", "crew.toml"]).expect(0).out;
    assert!(
        shown.contains("net      127.0.0.1:") && shown.contains("effect   read") && !shown.contains("hunter2"),
        "{shown}"
    );
    let checked = folder.bosun(&["check", "crew.toml"]).expect(0);
    assert!(
        checked.out.contains("the value of SEARCH_KEY goes to http://127.0.0.1:"),
        "{}{}",
        checked.out,
        checked.err
    );
    let call = |args: &[&str]| -> Ran { folder.bosun(&[&["tools", "call"], args].concat()) };
    provider.push(Behaviour::Status(200, vec![("content-type", "text/html".into())], "<h1>Hi</h1><p>there".into()));
    let address = format!("{{\"url\":\"{}\"}}", provider.server.base_url().replace("127.0.0.1", "localhost"));
    assert_eq!(call(&["page", "crew.toml", "--args", &address]).expect(0).out, "# Hi\n\nthere\n");
    let refused = call(&["web.fetch", "--args", &address]).expect(10);
    assert!(refused.err.contains("is neither 80 nor 443"), "{}", refused.err);
    let hostile = "{\"url\":\"http://[::ffff:127.0.0.1]/\"}";
    assert!(call(&["web.fetch", "--args", hostile]).expect(10).err.contains("only public addresses"));
    let body = format!("{{\"error\":\"bad key {KEY}\"}}");
    provider.push(Behaviour::Status(401, vec![("content-type", "application/json".into())], body));
    let failed = call(&["search", "crew.toml", "--args", "{\"lang\":\"en\",\"q\":\"x\"}"]).expect(10);
    assert!(failed.err.contains("HTTP 401: {\"error\":\"bad key [redacted]\"}"), "{}", failed.err);
}
