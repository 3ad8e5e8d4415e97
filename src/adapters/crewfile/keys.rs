//! Every key of a crew file, as data. Invariant: what is not in these tables is refused; what is in
//! them and not built yet is refused by name.

mod auth;
mod debate;
mod front;
mod habits;
mod tiers;
mod triggers;
pub use auth::AUTH;
pub use debate::DEBATE;
pub use front::FRONT;
pub use habits::HABITS;
pub use tiers::TIERS;
pub use triggers::{ONLY as TRIGGER_ONLY, TRIGGER};

/// What a key takes.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Text,
    /// An integer from the first to the second, both included.
    Int(u64, u64),
    Flag,
    /// US dollars: a decimal number or string.
    Money,
    Moneys,
    /// `"90s"`, `"10m"`, `"2h"`, `"1d"`, `"250ms"`.
    Time,
    /// A decimal from 0 to the given number of thousandths.
    Milli(u32),
    /// Decimals from 0 to 1.
    Shares,
    Integer,
    Texts,
    /// One of these words; the second list is known and not built yet.
    Choice(&'static [&'static str], &'static [&'static str]),
    Table(&'static Spec),
    /// A table of named things.
    Named(&'static Spec),
    /// A string, or such a table.
    TextOr(&'static Spec),
    TextOrTexts,
    /// Strings, or tables of such a shape.
    TextsOr(&'static Spec),
    /// Tables of such a shape.
    Tables(&'static Spec),
    /// A string or any table: a schema.
    Schema,
    /// Any table: its reader checks it.
    Free,
    Any,
}

#[derive(Debug)]
pub struct Spec {
    /// How messages name the table: `[agents.N]`.
    pub name: &'static str,
    pub keys: &'static [Key],
}

#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As the manual prints it; empty where there is none.
    pub default: &'static str,
    pub doc: &'static str,
    /// Known, and refused until it is built.
    pub later: bool,
}

const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { name, kind, default, doc, later: false }
}
const fn later(name: &'static str, doc: &'static str) -> Key {
    Key { name, kind: Kind::Any, default: "", doc, later: true }
}

const MANY: u64 = u64::MAX / 2;

pub static ROOT: Spec = Spec {
    name: "the crew file",
    keys: &[
        key("schema", Kind::Int(1, MANY), "", "version of this format: 1"),
        key("include", Kind::Texts, "[]", "files whose tables are merged into this one"),
        key("crew", Kind::Table(&CREW), "", "the crew as a whole"),
        key("inputs", Kind::Named(&INPUT), "", "what a run is given"),
        key("budget", Kind::Table(&BUDGET), "", "limits of the whole crew"),
        key("providers", Kind::Named(&PROVIDER), "", "where models are served"),
        key("models", Kind::Named(&MODEL), "", "aliases and prices of models"),
        key("agents", Kind::Named(&AGENT), "", "roles"),
        key("crews", Kind::Named(&SUB_CREW), "", "sub-crews"),
        key("tasks", Kind::Named(&TASK), "", "the work"),
        key("tools", Kind::Named(&TOOL), "", "tools of this crew"),
        key("notify", Kind::Table(&NOTIFY), "", "who is told"),
        later("memory", "what outlives a run"),
        later("knowledge", "files that agents search"),
        key("triggers", Kind::Named(&TRIGGER), "", "what starts a run"),
        later("webhooks", "runs started over HTTP"),
        later("defaults", "values for all agents and tasks"),
        later("profiles", "sets of overrides"),
    ],
};

pub static CREW: Spec = Spec {
    name: "[crew]",
    keys: &[
        key("name", Kind::Text, "the file's name", "shown in lists"),
        key("description", Kind::Text, "", "one line"),
        key("lead", Kind::Text, "", "agent of every task that names nobody"),
        key("output", Kind::Text, "the only task that no other uses", "task whose result is the crew's"),
        key("max_parallel", Kind::Int(1, 10_000), "4", "tasks at once"),
        key("deadline", Kind::Time, "", "running time of the run"),
        key("on_failure", Kind::Choice(&["continue", "stop"], &[]), "continue", "what a failed task does to the rest"),
    ],
};

pub static INPUT: Spec = Spec {
    name: "[inputs.N]",
    keys: &[
        key("type", Kind::Choice(&["string", "int", "number", "bool", "path", "json"], &[]), "string", "type"),
        key("default", Kind::Any, "", "value where none is given"),
        key("choices", Kind::Any, "", "the values it may have"),
        key("description", Kind::Text, "", "what to give"),
        key("secret", Kind::Flag, "false", "never stored or shown"),
    ],
};

pub static BUDGET: Spec = Spec {
    name: "[budget]",
    keys: &[
        key("max_usd", Kind::Money, "1.00", "money"),
        key("max_tokens", Kind::Int(1, MANY), "1_000_000", "input with cached, and output with reasoning"),
        key("max_calls", Kind::Int(1, MANY), "1000", "model calls"),
        key("warn_at", Kind::Shares, "[0.5, 0.8, 0.9]", "alerts, as parts of a limit"),
        key("alert_usd", Kind::Moneys, "[]", "alerts, as amounts"),
        key("on_exhausted", Kind::Choice(&["pause", "finish", "fail"], &[]), "pause", "what happens at the limit"),
        key("per_day_usd", Kind::Money, "", "money of a UTC day, over all runs of the crew in the state folder"),
        key("unpriced", Kind::Choice(&["deny", "allow"], &[]), "deny", "models without a price"),
        key("degrade", Kind::Tables(&DEGRADE), "[]", "what to give up, in this order, before `on_exhausted`"),
    ],
};

pub static DEGRADE: Spec = Spec {
    name: "a step of `degrade`",
    keys: &[
        key("model", Kind::Text, "", "alias or `provider/model-id` to go on with"),
        key("agent", Kind::Text, "all agents of this file", "whose model it is"),
        key("max_output", Kind::Int(1, MANY), "", "tokens per call"),
        key("skip", Kind::Choice(&["optional"], &[]), "", "tasks that have not begun"),
    ],
};

pub static NODE_BUDGET: Spec = Spec {
    name: "a task's, agent's or sub-crew's `budget`",
    keys: &[
        key("max_usd", Kind::Money, "", "money"),
        key("max_tokens", Kind::Int(1, MANY), "", "tokens"),
        key("max_calls", Kind::Int(1, MANY), "", "model calls"),
        key("share", Kind::Milli(1000), "", "part of the parent's cap"),
    ],
};

pub static PROVIDER: Spec = Spec {
    name: "[providers.N]",
    keys: &[
        key(
            "kind",
            Kind::Choice(
                &[
                    "openai",
                    "openai-responses",
                    "anthropic",
                    "gemini",
                    "ollama",
                    "openai-compatible",
                    "offline",
                    "scripted",
                ],
                &[],
            ),
            "",
            "protocol",
        ),
        key(
            "base_url",
            Kind::Text,
            "the kind's own",
            "address, with /v1 for OpenAI and compatible ones, without for Anthropic and Gemini",
        ),
        key("api_key_env", Kind::Text, "", "environment variable that holds the key"),
        key("api_key_file", Kind::Text, "", "file that holds the key"),
        key("file", Kind::Text, "", "file of replies, of the kind scripted"),
        key("max_concurrency", Kind::Int(1, 10_000), "8", "requests at once"),
        key("timeout", Kind::Time, "120s", "of one request"),
        key("rpm", Kind::Int(1, MANY), "", "requests per minute"),
        key("tpm", Kind::Int(1, MANY), "", "tokens per minute, input and output"),
        key("rpd", Kind::Int(1, MANY), "", "requests per day"),
        key("tier", Kind::Choice(TIERS, &[]), "", "preset of these limits"),
        key("max_wait", Kind::Time, "10m", "longest wait for a rate"),
        key("stream", Kind::Flag, "true at the vendors' own kinds", "answers come as they are written"),
    ],
};

pub static PRICE: Spec = Spec {
    name: "`price`",
    keys: &[
        key("input", Kind::Money, "", "USD per million tokens"),
        key("output", Kind::Money, "", "USD per million tokens"),
        key("cache_read", Kind::Money, "input", "USD per million tokens"),
        key("cache_write", Kind::Money, "input", "USD per million tokens"),
    ],
};

pub static MODEL: Spec = Spec {
    name: "[models.N]",
    keys: &[
        key("id", Kind::Text, "", "`provider/model-id`"),
        key("price", Kind::Table(&PRICE), "the price list's", "USD per million tokens"),
        key("context_window", Kind::Int(1, MANY), "", "tokens"),
        key("max_output", Kind::Int(1, MANY), "4096", "tokens per call"),
        key("temperature", Kind::Milli(2000), "the provider's", ""),
        key("top_p", Kind::Milli(1000), "the provider's", ""),
        key("seed", Kind::Integer, "", ""),
        key("reasoning", Kind::Text, "", "the provider's word for effort"),
        key("extra", Kind::Free, "{}", "keys for the request's body"),
        key("fallback", Kind::Texts, "[]", "models to go on with"),
    ],
};

pub static AGENT: Spec = Spec {
    name: "[agents.N]",
    keys: &[
        key("role", Kind::Text, "N in words", "who it is"),
        key("goal", Kind::Text, "", "what it is after"),
        key("backstory", Kind::Text, "", "why it can"),
        key("prompt", Kind::Text, "N if there is such a file", "file in prompts/"),
        key("model", Kind::Text, "", "alias or `provider/model-id`"),
        key("tools", Kind::Texts, "[]", "what it may call"),
        key("delegates", Kind::Texts, "[]", "agents and sub-crews it may ask"),
        key("memory", Kind::Choice(&["task", "run"], &[]), "task", "what it carries on"),
        key("max_turns", Kind::Int(1, 10_000), "12", "the last is the conclusion"),
        key("max_tool_calls", Kind::Int(1, 10_000), "8", "per turn"),
        key("max_children", Kind::Int(0, 10_000), "8", "delegations of one task"),
        key("max_depth", Kind::Int(0, 16), "2", "levels of delegation"),
        key("max_output", Kind::Int(1, MANY), "the model's", "tokens per call"),
        key("context_tokens", Kind::Int(1, MANY), "window - max_output, else 32_000", "tokens of a prompt"),
        key("max_parallel", Kind::Int(1, 10_000), "", "actors of it at once"),
        key("budget", Kind::Table(&NODE_BUDGET), "", "over all its tasks"),
        key("timeout", Kind::Time, "10m", "of one attempt"),
    ],
};

pub static SUB_CREW: Spec = Spec {
    name: "[crews.N]",
    keys: &[
        key("file", Kind::Text, "", "crew file, beside this one"),
        key("inputs", Kind::Free, "", "its inputs, as templates"),
        key("budget", Kind::Table(&NODE_BUDGET), "", "its part"),
    ],
};

pub static REVIEW: Spec = Spec {
    name: "`review`",
    keys: &[
        key("by", Kind::Text, "", "the judging agent"),
        key("max_rounds", Kind::Int(1, 100), "3", "rounds"),
        key("on_limit", Kind::Choice(&["accept", "fail", "review"], &[]), "accept", "after the last round"),
    ],
};

pub static REVISE: Spec = Spec {
    name: "`revise`",
    keys: &[
        key("task", Kind::Text, "", "the task to do again"),
        key("until", Kind::Text, "", "condition that ends the loop"),
        key("max_rounds", Kind::Int(1, 100), "3", "rounds"),
        key("on_limit", Kind::Choice(&["accept", "fail", "review"], &[]), "accept", "after the last round"),
    ],
};

pub static WINDOW: Spec =
    Spec { name: "`window`", keys: &[key("tokens", Kind::Int(1, 1_000_000), "", "of the results so far")] };

pub static GUARDRAIL: Spec = Spec {
    name: "a guardrail",
    keys: &[
        key("if", Kind::Text, "", "condition over `output`"),
        key("say", Kind::Text, "", "what the next attempt reads"),
    ],
};

pub static RETRY: Spec = Spec {
    name: "an entry of `retry`",
    keys: &[
        key("temperature", Kind::Milli(2000), "as before", ""),
        key("model", Kind::Text, "as before", "alias or `provider/model-id`"),
        key("prompt", Kind::Text, "as before", "file in prompts/, or a template of its name"),
        key("max_output", Kind::Int(1, MANY), "as before", "tokens per call"),
    ],
};

pub static TASK: Spec = Spec {
    name: "[tasks.N]",
    keys: &[
        key("agent", Kind::Text, "the crew's lead", "who does it"),
        key("crew", Kind::Text, "", "sub-crew that does it"),
        key("tool", Kind::Text, "", "tool that does it, without a model"),
        key("args", Kind::Free, "{}", "arguments of the tool"),
        key("model", Kind::Text, "the agent's", "narrows the agent's"),
        key("max_output", Kind::Int(1, MANY), "the agent's", "tokens per call"),
        key("tools", Kind::Texts, "the agent's", "narrows the agent's"),
        key("description", Kind::Text, "", "what to do: a template"),
        key("prompt", Kind::Text, "", "file in prompts/, or a template of its name"),
        key("expected_output", Kind::Text, "", "what the result looks like: a template"),
        key("output_schema", Kind::Schema, "", "JSON Schema, its path, or the short form"),
        key("output_file", Kind::Text, "", "where the result is written: a template"),
        key("guardrails", Kind::TextsOr(&GUARDRAIL), "[]", "conditions over `output`"),
        key("context", Kind::Texts, "[]", "tasks whose results it gets"),
        key("after", Kind::Texts, "[]", "tasks whose end it waits for"),
        key("when", Kind::Text, "", "condition; false skips it"),
        key("optional", Kind::Flag, "false", "its failure does not skip others"),
        key("on_error", Kind::Text, "", "task that stands in"),
        key("for_each", Kind::Text, "", "csv or jsonl file, or a list in a result"),
        key("key", Kind::Text, "the index", "column or template"),
        key("max_items", Kind::Int(1, 10_000_000), "", "required over a result"),
        key("max_parallel", Kind::Int(1, 10_000), "", "items at once"),
        key("window", Kind::Table(&WINDOW), "", "tail of the results so far"),
        key("review", Kind::Table(&REVIEW), "", "judged by another agent until approved"),
        key("revise", Kind::Table(&REVISE), "", "on the judging task: what it judges"),
        key("debate", Kind::Table(&DEBATE), "", "agents that argue, round by round"),
        key(
            "approval",
            Kind::Choice(&["never", "before", "after"], &[]),
            "never",
            "a person's yes: to begin, or to the result",
        ),
        key("attempts", Kind::Int(1, 20), "3", "counted attempts"),
        key("timeout", Kind::Time, "the agent's", "of one attempt"),
        key("budget", Kind::Table(&NODE_BUDGET), "", "its part"),
        key("retry", Kind::Tables(&RETRY), "the failure table's", "what attempt 2, 3, … do differently"),
    ],
};

pub static TOOL: Spec = Spec {
    name: "[tools.N]",
    keys: &[
        key("kind", Kind::Choice(&["builtin", "command", "http", "mcp"], &[]), "", "how it is plugged in"),
        key("use", Kind::Text, "", "builtin with limits of its own"),
        key("description", Kind::Text, "", "what the model is told"),
        key("command", Kind::TextOrTexts, "", "program, with its arguments"),
        key("args", Kind::Texts, "[]", "arguments, with {placeholders}"),
        key("env", Kind::Texts, "[]", "variables it is given"),
        key("schema", Kind::Schema, "strings for the placeholders", "arguments"),
        key("effect", Kind::Choice(&["read", "idempotent", "once"], &[]), "once", "may it be repeated"),
        key("approval", Kind::Choice(&["never", "always"], &[]), "if tainted", "a person's yes to each call"),
        key("untrusted", Kind::Flag, "true, false of files", "is what it says not to be trusted"),
        key("approve_when", Kind::Text, "", "condition over `args`, `tool`, `agent`, `step` that needs a person's yes"),
        key("expires", Kind::Time, "24h", "how long a person has"),
        key("timeout", Kind::Time, "60s", "of one call"),
        key("max_calls", Kind::Int(1, MANY), "", "over the run"),
        key("max_result", Kind::Int(1, MANY), "4000", "tokens that the model is shown"),
        key("cost_per_call", Kind::Money, "0", "USD"),
        key("isolation", Kind::Choice(&["none"], &["strict", "landlock"]), "", "what it may touch"),
        key("read", Kind::TextOrTexts, "the project", "folders"),
        key("write", Kind::TextOrTexts, "out", "folders"),
        key("from", Kind::TextOrTexts, "`write`", "folders that `files.move` takes files from"),
        key("to", Kind::TextOrTexts, "`write`", "folders that `files.move` puts files into"),
        key("url", Kind::Text, "", "of a server; of a request, with {placeholders} in path and query"),
        key(
            "method",
            Kind::Choice(&["GET", "POST", "PUT", "PATCH", "DELETE"], &[]),
            "GET, with a body POST",
            "of the request",
        ),
        key("headers", Kind::Free, "{}", "of requests; \"env:NAME\" is that variable's value"),
        key("query", Kind::Free, "{}", "what follows `?`: templates"),
        key("body", Kind::Any, "", "JSON whose strings are templates, or its text"),
        key("result", Kind::Text, "the whole answer", "JSON pointer to what the model is shown"),
        key("net", Kind::Texts, "[]", "`host:port` that may be reached although it is not public"),
        key("allow", Kind::Texts, "all", "tools of a server that count, or beginnings and `*`"),
        key("auth", Kind::Table(&AUTH), "", "login at a server with `url`"),
    ],
};

pub static NOTIFY: Spec = Spec {
    name: "[notify]",
    keys: &[
        key("command", Kind::Texts, "", "program and arguments; the event is on its stdin"),
        key("on", Kind::Texts, "all", "alert, review, approval, paused, finished, failed"),
    ],
};
