//! Crews by their files' text.

use std::collections::BTreeMap;
use std::sync::Arc;

use boatswain::adapters::crewfile::{ListedPrice, LoadOptions, PinnedSource, ProviderTable, load};
use boatswain::adapters::tools::builtin_specs;
use boatswain::core::crew::{Crew, Overrides};
use boatswain::core::money::{Caps, Price};

const HEAD: &str = r#"schema = 1
[models.m]
id = "openai/m"
price = { input = 2, output = 8 }
max_output = 500
[models.small]
id = "openai/small"
price = { input = 1, output = 1 }
max_output = 50
[models.twin]
id = "openai/m"
price = { input = 3, output = 9 }
max_output = 200
fallback = ["small", "m"]
[tools.look]
kind = "command"
command = ["look", "{at}"]
effect = "read"
isolation = "none"
description = "Looks"
[tools.push]
kind = "command"
command = ["push", "{button}"]
effect = "once"
isolation = "none"
max_calls = 3
description = "Pushes"
"#;

/// A crew from `files`; the first is the crew's. The models `m` and `small` and the tools `look` and
/// `push` are there.
pub fn crew(files: &[(&str, &str)]) -> Arc<Crew> {
    let mut pins: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for (name, body) in files {
        let whole = if name.ends_with(".toml") { format!("{HEAD}{body}") } else { (*body).to_owned() };
        pins.insert((*name).to_owned(), whole.into());
    }
    let source = PinnedSource(pins);
    let overrides = Overrides::default();
    let price = Price {
        input: 2_000_000_000,
        output: 8_000_000_000,
        cache_read: 2_000_000_000,
        cache_write: 2_000_000_000,
        above: None,
    };
    let listed =
        |_: &str, _: &str| Some(ListedPrice { price, context_window: None, tokenizer: None, from: "a test".into() });
    let table = ProviderTable { kind: "openai".into(), ..ProviderTable::default() };
    let providers = BTreeMap::from([("openai".parse().unwrap(), table)]);
    let asks: Vec<_> = builtin_specs().into_iter().filter(|spec| spec.name == "ask.human").collect();
    let options = LoadOptions {
        overrides: &overrides,
        builtin_tools: &asks,
        price: &listed,
        providers: &providers,
        limits: Caps::default(),
        limits_from: "",
        refuses: None,
        pinned: false,
        rules: boatswain::core::rules::RULES,
    };
    let loaded = load(&source, files[0].0, &options);
    let problems = &loaded.problems;
    loaded.crew.unwrap_or_else(|| panic!("{problems:#?}"))
}

pub const LEGAL: (&str, &str) = (
    "legal.toml",
    r#"
[inputs]
copy = {}
market = { default = "eu" }
[agents]
clerk = { model = "m", tools = ["look"] }
counsel = { model = "small" }
[tasks.claims]
agent = "clerk"
description = "Claims in {{ copy }} for {{ market }}"
[tasks.opinion]
agent = "counsel"
description = "May it go?"
context = ["claims"]
output_schema = { verdict = "clear | stop", changes = "string[]" }
review = { by = "clerk", max_rounds = 2 }
"#,
);

/// Every shape of crew, by name.
pub const SHAPES: &[(&str, &[(&str, &str)])] = &[
    ("three", &[("a.toml", THREE)]),
    ("many", &[("a.toml", MANY)]),
    ("rows", &[("a.toml", ROWS), ("rows.csv", "id,title\none,First\ntwo,Second\nthree,Third\nfour,Fourth\n")]),
    ("listed", &[("a.toml", LISTED)]),
    ("revise", &[("a.toml", REVISE)]),
    ("lead", &[("a.toml", LEAD), LEGAL]),
    ("sub", &[("a.toml", SUB), LEGAL]),
    ("memory", &[("a.toml", MEMORY)]),
    ("tools", &[("a.toml", TOOLS)]),
    ("people", &[("a.toml", PEOPLE), GATED, ("rows.csv", "id\none\ntwo\nthree\n")]),
    ("stop", &[("a.toml", STOP)]),
    ("broke", &[("a.toml", BROKE)]),
    ("broke_fail", &[("a.toml", BROKE_FAIL)]),
    ("retry", &[("a.toml", RETRY), ("rows.csv", "id\none\ntwo\n"), ("prompts/short.md", "Short {{ item.id }}")]),
    ("finish", &[("a.toml", FINISH), LEGAL, ("rows.csv", "id\none\ntwo\nthree\n")]),
    ("degrade", &[("a.toml", DEGRADE), LEGAL, ("rows.csv", "id\none\ntwo\nthree\nfour\n")]),
    ("small", &[("a.toml", SMALL)]),
    ("debate", &[("a.toml", DEBATE)]),
    ("debate_of_two", &[("a.toml", DEBATE_OF_TWO)]),
    ("broke_debate", &[("a.toml", BROKE_DEBATE)]),
    ("overflow", &[("a.toml", OVERFLOW)]),
    ("tight", &[("a.toml", TIGHT), ("rows.csv", "id\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\n")]),
];

const DEBATE: &str = r#"
[agents]
clerk = { model = "small", tools = ["look"], max_turns = 3 }
pro = { model = "m" }
con = { model = "small", tools = ["look"], max_turns = 3, memory = "run" }
third = { model = "m" }
chair = { model = "m" }
[tasks.facts]
agent = "clerk"
description = "Facts"
[tasks.topic]
description = "Is it so?"
context = ["facts"]
debate = { agents = ["pro", "con", "third"], max_rounds = 3, judge = "chair", until = "round > 1 and pro.agree and con.agree", says = { words = "string", agree = "bool" } }
output_schema = { verdict = "approve | revise", issues = "string[]" }
output_file = "out/topic.md"
[tasks.end]
agent = "con"
description = "Say it"
context = ["topic"]
"#;

const DEBATE_OF_TWO: &str = r#"
[agents]
pro = { model = "m", tools = ["push"], max_turns = 3 }
con = { model = "small" }
[tasks.topic]
description = "Is it so? {{ pro }} {{ con }} {{ round }}"
optional = true
debate = { agents = ["pro", "con"], max_rounds = 4, until = "'q' in con" }
[tasks.end]
agent = "con"
description = "Say it"
after = ["topic"]
when = "topic.status != 'failed'"
"#;

const BROKE_DEBATE: &str = r#"
[budget]
max_usd = 0.30
max_calls = 9
on_exhausted = "finish"
[agents]
pro = { model = "m" }
con = { model = "small" }
chair = { model = "m" }
[tasks.topic]
description = "Is it so?"
debate = { agents = ["pro", "con"], max_rounds = 6, judge = "chair" }
"#;

pub const THREE: &str = r#"
[inputs]
topic = { default = "pumps" }
[agents]
researcher = { model = "m", tools = ["look", "push"], max_turns = 4 }
writer = { model = "m" }
critic = { model = "small" }
[tasks.research]
agent = "researcher"
description = "Facts about {{ topic }}"
[tasks.draft]
agent = "writer"
description = "An article"
context = ["research"]
review = { by = "critic", max_rounds = 3 }
output_file = "out/a.md"
"#;

const MANY: &str = r#"
[crew]
max_parallel = 3
output = "last"
[agents]
a = { model = "m" }
b = { model = "small", max_parallel = 1 }
[tasks.one]
agent = "a"
description = "One"
output_schema = { ok = "bool", n = "int" }
[tasks.two]
agent = "b"
description = "Two"
optional = true
[tasks.three]
agent = "b"
description = "Three"
on_error = "plan_b"
guardrails = [{ if = "output | words > 3", say = "longer" }]
[tasks.plan_b]
agent = "a"
description = "Instead of {{ error.step }}: {{ error.message }}"
context = ["one"]
[tasks.only]
agent = "a"
description = "Only if"
when = "one.ok"
[tasks.never]
agent = "a"
description = "Never"
when = "one.n > 99"
[tasks.needs_only]
agent = "a"
description = "Needs"
context = ["only", "two"]
[tasks.last]
agent = "b"
description = "Last"
context = ["three", "needs_only", "never"]
after = ["two"]
output_file = "out/last.md"
"#;

const ROWS: &str = r#"
[crew]
max_parallel = 2
output = "book"
[agents]
author = { model = "m" }
critic = { model = "small" }
[tasks.section]
agent = "author"
for_each = "rows.csv"
key = "id"
description = "{{ item.title }}"
window = { tokens = 60 }
output_file = "out/{{ item.id }}.md"
[tasks.check]
agent = "author"
for_each = "rows.csv"
key = "id"
description = "Check {{ section }}"
context = ["section"]
max_parallel = 2
review = { by = "critic", max_rounds = 2 }
[tasks.book]
agent = "author"
description = "Bind"
context = ["section", "check"]
"#;

const LISTED: &str = r#"
[crew]
max_parallel = 3
[agents]
planner = { model = "m" }
author = { model = "m", max_parallel = 2 }
critic = { model = "small" }
[tasks.plan]
agent = "planner"
description = "Plan"
output_schema = { items = ["string"], why = "string" }
[tasks.part]
agent = "author"
for_each = "plan.items"
max_items = 3
key = "{{ index }}-{{ item }}"
description = "Write {{ item }}"
on_error = "fallback"
[tasks.polish]
agent = "author"
for_each = "plan.items"
max_items = 3
key = "{{ index }}-{{ item }}"
description = "Polish"
context = ["part"]
when = "part.status == 'done' or plan.why != 'word 3'"
[tasks.fallback]
agent = "planner"
description = "Instead: {{ error.message }}"
[tasks.whole]
agent = "planner"
description = "Whole"
context = ["polish"]
"#;

const REVISE: &str = r#"
[crew]
output = "publish"
[agents]
a = { model = "m" }
b = { model = "small", tools = ["look"] }
[tasks.draft]
agent = "a"
description = "Draft"
[tasks.facts]
agent = "b"
description = "Facts"
context = ["draft"]
[tasks.style]
agent = "b"
description = "Style"
context = ["draft"]
when = "draft | words > 4"
[tasks.judge]
agent = "a"
description = "Judge"
context = ["facts", "style", "draft"]
output_schema = { verdict = "approve | revise", issues = "string[]" }
revise = { task = "draft", until = "verdict == 'approve'", max_rounds = 3, on_limit = "review" }
[tasks.publish]
agent = "a"
description = "Publish"
context = ["draft"]
"#;

const LEAD: &str = r#"
[crew]
lead = "lead"
[inputs]
product = { default = "pump" }
[crews.legal]
file = "legal.toml"
budget = { share = 0.5 }
[agents]
lead = { model = "m", delegates = ["analyst", "writer", "legal"], max_turns = 5, max_children = 4 }
analyst = { model = "m", delegates = ["writer", "lead"], max_depth = 3, max_turns = 3 }
writer = { model = "small", tools = ["look"], max_turns = 3, max_parallel = 1 }
[tasks.brief]
description = "Launch {{ product }}"
output_file = "out/brief.md"
"#;

const SUB: &str = r#"
[crew]
output = "end"
[inputs]
topic = { default = "x" }
[crews.legal]
file = "legal.toml"
inputs = { copy = "{{ topic }}" }
budget = { max_usd = 0.4 }
[agents]
a = { model = "m" }
[tasks.start]
agent = "a"
description = "Start"
output_schema = { rows = ["string"] }
[tasks.legal_check]
crew = "legal"
after = ["start"]
on_error = "other"
[tasks.other]
agent = "a"
description = "Other"
[tasks.each]
crew = "legal"
for_each = "start.rows"
max_items = 5
[tasks.end]
agent = "a"
description = "End"
context = ["legal_check", "each"]
"#;

const MEMORY: &str = r#"
[crew]
max_parallel = 4
output = "d"
[agents]
one = { model = "m", memory = "run", context_tokens = 400, tools = ["look"], delegates = ["two"] }
two = { model = "m", memory = "run", delegates = ["one"] }
[tasks.a]
agent = "one"
description = "A"
review = { by = "one", max_rounds = 2 }
[tasks.b]
agent = "one"
description = "B"
[tasks.c]
agent = "two"
description = "C"
on_error = "c2"
[tasks.c2]
agent = "two"
description = "C2"
[tasks.d]
agent = "one"
description = "D"
context = ["a", "b", "c"]
"#;

const TOOLS: &str = r#"
[crew]
output = "end"
[agents]
a = { model = "m", tools = ["look", "push"], max_turns = 3, max_tool_calls = 2 }
[tasks.peek]
tool = "look"
args = { at = "door" }
[tasks.press]
tool = "push"
args = { button = "{{ peek }}" }
context = ["peek"]
optional = true
[tasks.end]
agent = "a"
description = "End"
context = ["press", "peek"]
"#;

/// Approvals and questions of every kind, also below a sub-crew and beside delegations.
const PEOPLE: &str = r#"
[crew]
max_parallel = 2
output = "end"
[tools.shut]
kind = "command"
command = ["shut", "{door}"]
effect = "once"
isolation = "none"
description = "Shuts"
approval = "always"
max_calls = 3
[tools.open]
kind = "command"
command = ["open", "{door}"]
effect = "idempotent"
isolation = "none"
description = "Opens"
approve_when = "args.door != 'word 3'"
expires = "1h"
[crews.gated]
file = "gated.toml"
[agents]
a = { model = "m", tools = ["look", "shut", "open", "ask.human"], delegates = ["b", "gated"], max_turns = 4 }
b = { model = "small", tools = ["shut", "ask.human"], max_parallel = 1 }
[tasks.first]
agent = "a"
description = "First"
approval = "before"
on_error = "instead"
[tasks.instead]
agent = "b"
description = "Instead: {{ error.message }}"
[tasks.bolt]
tool = "shut"
args = { door = "front" }
optional = true
[tasks.ask]
tool = "ask.human"
args = { question = "Which?" }
optional = true
[tasks.each]
agent = "b"
for_each = "rows.csv"
key = "id"
description = "Each {{ ask }}"
context = ["ask"]
approval = "before"
[tasks.drafted]
agent = "a"
description = "Draft"
approval = "after"
attempts = 2
review = { by = "b", max_rounds = 2 }
[tasks.below]
crew = "gated"
optional = true
[tasks.end]
agent = "a"
description = "End"
output_schema = { ok = "bool" }
after = ["first", "bolt", "each", "drafted", "below"]
approval = "after"
"#;

pub const GATED: (&str, &str) = (
    "gated.toml",
    r#"
[tools.lock]
kind = "command"
command = ["lock", "{door}"]
isolation = "none"
description = "Locks"
approval = "always"
[agents]
keeper = { model = "m", tools = ["lock", "look"], max_turns = 3 }
[tasks.lock_up]
agent = "keeper"
description = "Lock up"
"#,
);

const STOP: &str = r#"
[crew]
on_failure = "stop"
output = "c"
max_parallel = 2
[agents]
a = { model = "m", delegates = ["b"], tools = ["look"] }
b = { model = "small" }
[tasks.a]
agent = "a"
description = "A"
[tasks.bad]
agent = "b"
description = "Bad"
attempts = 1
on_error = "bad2"
[tasks.bad2]
agent = "b"
description = "Bad2"
on_error = "bad3"
attempts = 1
[tasks.bad3]
agent = "b"
description = "Bad3"
attempts = 1
[tasks.c]
agent = "a"
description = "C"
context = ["a", "bad"]
"#;

const BROKE: &str = r#"
[crew]
output = "c"
[budget]
max_usd = 0.03
max_tokens = 9000
max_calls = 9
alert_usd = [0.01]
[agents]
a = { model = "m", budget = { share = 0.5 } }
b = { model = "small", delegates = ["a"] }
[tasks.x]
agent = "a"
description = "X"
budget = { share = 0.6 }
[tasks.y]
agent = "a"
description = "Y"
[tasks.z]
agent = "b"
description = "Z"
budget = { max_calls = 3 }
[tasks.c]
agent = "b"
description = "C"
context = ["x", "y", "z"]
"#;

const BROKE_FAIL: &str = r#"
[crew]
output = "c"
[budget]
max_usd = 0.02
max_calls = 7
on_exhausted = "fail"
[agents]
a = { model = "m" }
b = { model = "small", delegates = ["a"] }
[tasks.x]
agent = "a"
description = "X"
review = { by = "b" }
[tasks.y]
agent = "a"
description = "Y"
on_error = "y2"
[tasks.y2]
agent = "b"
description = "Y2"
[tasks.c]
agent = "b"
description = "C"
context = ["x", "y"]
"#;

const RETRY: &str = r#"
[crew]
output = "end"
[agents]
a = { model = "twin", tools = ["look"], max_turns = 3, delegates = ["b"] }
b = { model = "twin" }
[tasks.x]
agent = "a"
description = "X"
output_schema = { ok = "bool", n = "int" }
attempts = 4
retry = [{ temperature = 0.2, max_output = 900 }, { model = "m", max_output = 100 }]
[tasks.part]
agent = "b"
for_each = "rows.csv"
key = "id"
description = "Part {{ item.id }}"
guardrails = [{ if = "output | words > 12", say = "longer" }]
retry = [{ prompt = "short", model = "m" }, { prompt = "short" }]
review = { by = "a", max_rounds = 2 }
[tasks.end]
agent = "b"
description = "End"
context = ["x", "part"]
"#;

/// What is given up before the run pauses: a model, an agent's model, the length of answers, what is optional.
const DEGRADE: &str = r#"
[crew]
output = "end"
max_parallel = 3
[budget]
max_usd = 0.09
degrade = [{ agent = "a", model = "twin" }, { model = "small" }, { skip = "optional" }, { max_output = 20 }]
[crews.legal]
file = "legal.toml"
inputs = { copy = "{{ start }}" }
[agents]
a = { model = "m", tools = ["look"], max_turns = 6, delegates = ["b"] }
b = { model = "m", tools = ["look"], max_turns = 6, memory = "run" }
[tasks.start]
agent = "a"
description = "Start"
review = { by = "b", max_rounds = 3 }
retry = [{ model = "twin" }]
[tasks.part]
agent = "b"
for_each = "rows.csv"
key = "id"
description = "Part {{ item.id }}"
[tasks.more]
agent = "b"
for_each = "rows.csv"
key = "id"
optional = true
description = "More {{ item.id }}"
[tasks.maybe]
agent = "a"
optional = true
description = "Maybe"
context = ["start"]
[tasks.law]
crew = "legal"
context = ["start"]
[tasks.end]
agent = "a"
description = "End"
context = ["start", "part", "more", "maybe", "law"]
"#;

const FINISH: &str = r#"
[crew]
output = "end"
max_parallel = 3
[budget]
max_usd = 0.35
on_exhausted = "finish"
[crews.legal]
file = "legal.toml"
inputs = { copy = "{{ start }}" }
[agents]
a = { model = "m", tools = ["look"], max_turns = 9, delegates = ["b"] }
b = { model = "small", tools = ["look"], max_turns = 9 }
[tasks.start]
agent = "a"
description = "Start"
review = { by = "b", max_rounds = 4 }
[tasks.part]
agent = "b"
for_each = "rows.csv"
key = "id"
description = "Part {{ item.id }}"
[tasks.maybe]
agent = "a"
description = "Maybe"
optional = true
[tasks.law]
crew = "legal"
after = ["start"]
[tasks.end]
agent = "a"
description = "End"
context = ["start", "part", "law"]
"#;

const SMALL: &str = r#"
[agents]
a = { model = "m", context_tokens = 300, tools = ["look"], max_turns = 6 }
critic = { model = "small" }
[tasks.x]
agent = "a"
description = "X"
review = { by = "critic", max_rounds = 4, on_limit = "fail" }
"#;

/// More turns than fit: results are shortened, earlier rounds slide, this round's turns are summed up.
const OVERFLOW: &str = r#"
[budget]
max_usd = 0.5
[agents]
a = { model = "m", context_tokens = 700, tools = ["look"], max_turns = 16, max_tool_calls = 3 }
critic = { model = "small" }
[tasks.x]
agent = "a"
description = "X"
review = { by = "critic", max_rounds = 2 }
[tasks.y]
agent = "a"
description = "Y"
budget = { share = 0.3 }
[tasks.z]
agent = "a"
description = "Z"
context = ["x", "y"]
"#;

const TIGHT: &str = r#"
[crew]
max_parallel = 8
[budget]
max_usd = 0.03
[agents]
a = { model = "m", budget = { share = 0.7 } }
[tasks.section]
agent = "a"
for_each = "rows.csv"
key = "id"
description = "Write {{ item.id }}"
budget = { share = 0.5 }
"#;
