//! One crew with everything in it: a tool with an effect, a child, a sub-crew, a list, a loop, files.
//! Invariant: what it answers depends on what it was asked last, so that any disturbance ends in the same.

use super::support::Folder;

const CREW: &str = r#"
schema = 1
[crew]
output = "whole"
[budget]
max_usd = 1
per_day_usd = 0.9
max_tokens = 1000000
[providers.s]
kind = "scripted"
file = "script.toml"
[models.m]
id = "s/m"
price = { input = 1, output = 1 }
[crews.legal]
file = "legal.toml"
[agents.researcher]
model = "m"
tools = ["files.read", "note"]
[agents.lead]
model = "m"
delegates = ["helper", "legal"]
[agents.helper]
model = "m"
[agents.writer]
model = "m"
[agents.critic]
model = "m"
[tasks.research]
agent = "researcher"
description = "Read <research>"
[tasks.brief]
agent = "lead"
description = "Lead <brief>"
context = ["research"]
[tasks.checked]
crew = "legal"
[tasks.part]
agent = "writer"
for_each = "parts.csv"
key = "id"
description = "Write <part {{ item.id }}>"
[tasks.draft]
agent = "writer"
description = "Draft <draft>"
review = { by = "critic", max_rounds = 2 }
output_file = "out/draft.md"
[tasks.whole]
agent = "writer"
description = "Join <whole>"
context = ["brief", "part", "checked", "draft"]
output_file = "out/whole.md"
[tools.note]
kind = "command"
description = "Notes"
isolation = "none"
effect = "idempotent"
command = ["sh", "-c", "echo x >> noted.txt"]
"#;

const LEGAL: &str = r#"
schema = 1
[budget]
max_tokens = 500000
[providers.s]
kind = "scripted"
file = "script.toml"
[models.m]
id = "s/m"
price = { input = 1, output = 1 }
[agents.counsel]
model = "m"
[tasks.claims]
agent = "counsel"
description = "Find <claims>"
[tasks.opinion]
agent = "counsel"
description = "Give <opinion>"
context = ["claims"]
"#;

/// What was said last decides what is answered, so that a call that is made anew hears the same.
const REPLIES: [(&str, &str); 13] = [
    ("<whole>", "text = \"The whole.\""),
    ("<part a>", "text = \"Part A.\""),
    ("<part b>", "text = \"Part B.\""),
    ("<part c>", "text = \"Part C.\""),
    ("<claims>", "text = \"Claims.\""),
    ("<opinion>", "text = \"Opinion.\""),
    ("<helper>", "text = \"Helped.\""),
    (
        "<brief>",
        "tool_calls = [{ name = \"delegate\", arguments = { to = \"helper\", task = \"Help <helper>\" } }, \
         { name = \"delegate\", arguments = { to = \"legal\", task = \"Check it\" } }]",
    ),
    ("\"step\":\"brief/", "text = \"Led.\""),
    (
        "<research>",
        "tool_calls = [{ name = \"files.read\", arguments = { path = \"notes.txt\" } }, { name = \"note\" }]",
    ),
    ("issues", "text = \"A better draft.\""),
    ("<draft>", "text = \"A draft.\""),
    ("exit", "text = \"Researched.\""),
];

/// Its project. Every answer takes `delay`.
pub fn crew(delay: &str) -> Folder {
    let folder = Folder::new(CREW);
    folder.file("legal.toml", LEGAL);
    let reply = |(contains, says): &(&str, &str)| {
        format!("[[reply]]\ncontains = {contains:?}\nrepeat = true\ndelay = \"{delay}\"\n{says}\n")
    };
    let critic = |round: u32, says: &str| {
        format!(
            "[[reply]]\nstep = \"draft_review#{round}\"\nagent = \"critic\"\ncall = 1\nrepeat = true\ndelay = \"{delay}\"\njson = {says}\n"
        )
    };
    let judge = critic(1, "{ verdict = \"revise\", issues = [\"short\"] }")
        + &critic(2, "{ verdict = \"approve\", issues = [] }");
    let others: String = REPLIES.iter().map(reply).collect();
    folder.file("script.toml", &format!("{judge}{others}[default]\ntext = \"Researched.\"\ndelay = \"{delay}\"\n"));
    folder.file("parts.csv", "id\na\nb\nc\n");
    folder.file("notes.txt", "Some notes.\n");
    folder
}

/// The answers to `task` (`research`, `draft`) take this long; the others take what they took.
pub fn slow(folder: &Folder, task: &str, delay: &str) {
    let script = folder.read("script.toml");
    let head = format!("contains = \"<{task}>\"\nrepeat = true\ndelay = \"");
    let (before, after) = script.split_once(&head).expect("a task of the crew");
    let (_, rest) = after.split_once('"').unwrap();
    folder.file("script.toml", &format!("{before}{head}{delay}\"{rest}"));
}
