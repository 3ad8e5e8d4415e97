//! Checks the form of a file against [`keys`](super::keys). Invariant: what passes has the types its
//! readers ask for; they look at values only.

use super::doc::{Entry, Node, Table, Val};
use super::keys::{HABITS, Key, Kind, ROOT, Spec};
use super::problem::{At, Problem};
use crate::core::ids::Name;
use crate::core::money::NanoUsd;
use crate::core::nearest::nearest;

/// Names that templates and tables keep for themselves.
pub(super) const RESERVED: &[&str] = &[
    "item", "index", "key", "agent", "crew", "run", "attempt", "window", "previous", "feedback", "inputs", "tasks",
    "text", "status", "error", "loop", "output", "round",
];

pub(super) fn table(table: &Table, spec: &'static Spec, problems: &mut Vec<Problem>) {
    keys(table, spec, spec.name, problems);
}

/// `name` is how messages call the table: `[agents.writer]`.
fn keys(table: &Table, spec: &'static Spec, name: &str, problems: &mut Vec<Problem>) {
    for entry in &table.entries {
        match spec.keys.iter().find(|key| key.name == entry.key) {
            Some(key) if key.later => later(entry, name, problems),
            Some(key) => value(&entry.node, key, problems),
            None => unknown(entry, table, (spec, name), problems),
        }
    }
}

fn later(entry: &Entry, name: &str, problems: &mut Vec<Problem>) {
    let message = format!("not supported yet: `{}` in {name}", entry.key);
    problems.push(Problem::error("E0107", &entry.key_at, message).help("take it out for now"));
}

/// Does the key hold a secret, by its name?
pub(super) fn secret(key: &str) -> bool {
    let folded = key.to_lowercase();
    let name = ["api_key", "apikey", "api-key", "secret_key", "password", "access_token", "auth_token", "bearer"];
    let place = folded.ends_with("_env") || folded.ends_with("_file");
    !place && name.iter().any(|word| folded.contains(word)) || folded == "token"
}

fn unknown(entry: &Entry, table: &Table, (spec, name): (&'static Spec, &str), problems: &mut Vec<Problem>) {
    let (key, at) = (entry.key.as_str(), &entry.key_at);
    let plain = matches!(&entry.node.value, Val::Text(_));
    if secret(key) && plain {
        let message = format!("`{key}` holds a key, and keys do not belong into files");
        let help = "write `api_key_env = \"NAME\"` with the name of an environment variable, and replace the key";
        return problems.push(Problem::error("E0110", at, message).help(help));
    }
    let inside = spec.name.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
    let habit = HABITS.iter().find(|(table, word, _)| *word == key && (table.is_empty() || *table == inside));
    if let Some((_, word, write)) = habit {
        return problems.push(Problem::error("E0109", at, format!("`{word}` is not a key here")).help(*write));
    }
    let crew = table.text("crew");
    let root = ROOT.keys.iter().any(|root| root.name == key) && !std::ptr::eq(spec, &raw const ROOT);
    if root && matches!(entry.node.value, Val::Table(_) | Val::Text(_) | Val::List(_)) {
        let message = format!("`{key}` stands inside {name}, where it is not a key");
        // What a task gives its sub-crew is said once, where the sub-crew is named.
        let help = match crew.filter(|_| key == "inputs" && inside == "tasks") {
            Some(crew) => {
                format!("what a sub-crew is given stands with it: write `inputs = {{ … }}` in [crews.{crew}]")
            }
            None => {
                format!("keys below a `[header]` belong to it: write `[{key}]` on a line of its own, or put it first")
            }
        };
        return problems.push(Problem::error("E0108", at, message).help(help));
    }
    let help = match nearest(key, spec.keys.iter().map(|key| key.name)) {
        Some(near) => format!("a key with a similar name exists: `{near}`"),
        None => {
            let known = spec.keys.iter().filter(|key| !key.later).map(|key| key.name).collect::<Vec<_>>();
            format!("keys here: {}", known.join(", "))
        }
    };
    problems.push(Problem::error("E0104", at, format!("unknown key `{key}` in {name}")).help(help));
}

fn wrong(node: &Node, key: &Key, expected: &str, problems: &mut Vec<Problem>) {
    let message = format!("`{}` takes {expected}, found {}", key.name, node.value.words());
    let at = short(&node.at);
    problems.push(Problem::error("E0105", &at, message).label(format!("expected {expected}")));
}

/// A long value is pointed at by its first line's worth of bytes.
fn short(at: &At) -> At {
    let end = at.span.end.min(at.span.start + 60);
    At { file: at.file.clone(), span: (at.span.start..end).into() }
}

fn bad(node: &Node, message: String, problems: &mut Vec<Problem>) {
    problems.push(Problem::error("E0111", &node.at, message));
}

fn value(node: &Node, key: &Key, problems: &mut Vec<Problem>) {
    let kind = key.kind;
    match (kind, &node.value) {
        (Kind::Any, _) | (Kind::Text | Kind::Schema | Kind::TextOr(_) | Kind::TextOrTexts, Val::Text(_)) => {}
        (Kind::Flag, Val::Flag(_)) | (Kind::Schema | Kind::Free, Val::Table(_)) | (Kind::Integer, Val::Int(_)) => {}
        (Kind::Text, _) => wrong(node, key, "a string", problems),
        (Kind::Flag, _) => wrong(node, key, "true or false", problems),
        (Kind::Integer, _) => wrong(node, key, "an integer", problems),
        (Kind::Schema, _) => wrong(node, key, "a string or a table", problems),
        (Kind::Free, _) => wrong(node, key, "a table", problems),
        (Kind::Int(low, high), Val::Int(digits)) => {
            if !digits.parse::<u64>().is_ok_and(|n| (low..=high).contains(&n)) {
                let too_long = digits.parse::<u64>().is_err() && !digits.starts_with('-');
                let most = if high > 1 << 60 && !too_long { String::new() } else { format!(" and at most {high}") };
                bad(node, format!("`{}` is at least {low}{most}, found {digits}", key.name), problems);
            }
        }
        (Kind::Int(..), _) => wrong(node, key, "an integer", problems),
        (Kind::Money, Val::Int(text) | Val::Float(text) | Val::Text(text)) => money(node, text, problems),
        (Kind::Money, _) => wrong(node, key, "an amount in USD such as 0.25", problems),
        (Kind::Time, Val::Text(text)) => {
            if let Err(message) = super::values::time(text) {
                bad(node, message, problems);
            }
        }
        (Kind::Time, _) => wrong(node, key, "a time such as \"90s\" or \"10m\"", problems),
        (Kind::Milli(most), Val::Int(text) | Val::Float(text)) => {
            if let Err(message) = super::values::milli(text, most) {
                bad(node, format!("`{}`: {message}", key.name), problems);
            }
        }
        (Kind::Milli(_), _) => wrong(node, key, "a number", problems),
        (Kind::Choice(now, later), Val::Text(text)) => choice(node, text, key, now, later, problems),
        (Kind::Choice(..), _) => wrong(node, key, "a string", problems),
        (Kind::Table(spec) | Kind::TextOr(spec), Val::Table(inner)) => table(inner, spec, problems),
        (Kind::Table(_), _) => wrong(node, key, "a table", problems),
        (Kind::TextOr(_), _) => wrong(node, key, "a string or a table", problems),
        (Kind::Named(spec), Val::Table(inner)) => named(inner, spec, problems),
        (Kind::Named(_), _) => wrong(node, key, "a table of named things", problems),
        (Kind::Texts | Kind::TextOrTexts | Kind::TextsOr(_) | Kind::Tables(_), Val::List(items)) => {
            items.iter().for_each(|item| listed(item, key, problems));
        }
        (Kind::Tables(_), _) => wrong(node, key, "a list of tables", problems),
        (Kind::Texts | Kind::TextsOr(_), _) => wrong(node, key, "a list of strings", problems),
        (Kind::TextOrTexts, _) => wrong(node, key, "a string or a list of strings", problems),
        (Kind::Moneys | Kind::Shares, Val::List(items)) => {
            for item in items {
                match (item.decimal(), kind) {
                    (Some(text), Kind::Moneys) => money(item, text, problems),
                    (Some(text), _) => {
                        if let Err(message) = super::values::milli(text, 1000) {
                            bad(item, message, problems);
                        }
                    }
                    (None, _) => wrong(item, key, "numbers", problems),
                }
            }
        }
        (Kind::Moneys | Kind::Shares, _) => wrong(node, key, "a list of numbers", problems),
    }
}

/// One of a list of strings or tables.
fn listed(item: &Node, key: &Key, problems: &mut Vec<Problem>) {
    match (&item.value, key.kind) {
        (Val::Table(inner), Kind::TextsOr(spec) | Kind::Tables(spec)) => table(inner, spec, problems),
        (_, Kind::Tables(_)) => wrong(item, key, "tables", problems),
        (Val::Text(_), _) => {}
        _ => wrong(item, key, "strings", problems),
    }
}

fn money(node: &Node, text: &str, problems: &mut Vec<Problem>) {
    if let Err(error) = text.parse::<NanoUsd>() {
        bad(node, error.to_string(), problems);
    }
}

fn choice(node: &Node, text: &str, key: &Key, now: &[&str], later: &[&str], problems: &mut Vec<Problem>) {
    if now.contains(&text) {
        return;
    }
    if later.contains(&text) {
        let message = format!("not supported yet: `{} = \"{text}\"`", key.name);
        let help = format!("one of: {}", now.join(", "));
        return problems.push(Problem::error("E0107", &node.at, message).help(help));
    }
    let help = match nearest(text, now.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? (one of: {})", now.join(", ")),
        None => format!("one of: {}", now.join(", ")),
    };
    let found: String = text.chars().take(60).collect();
    problems.push(Problem::error("E0111", &node.at, format!("`{}` cannot be `{found}`", key.name)).help(help));
}

fn named(inner: &Table, spec: &'static Spec, problems: &mut Vec<Problem>) {
    let what = spec.name.trim_matches(['[', ']']).split('.').next().unwrap_or_default();
    for entry in &inner.entries {
        let root = ROOT.keys.iter().any(|root| root.name == entry.key);
        if root && matches!(entry.node.value, Val::Table(_)) {
            let message = format!("`{}` stands inside [{what}], so it would be one of the {what}", entry.key);
            let help = format!("keys below a `[header]` belong to it: write `[{}]` on a line of its own", entry.key);
            problems.push(Problem::error("E0108", &entry.key_at, message).help(help));
            continue;
        }
        let habit = HABITS.iter().find(|(table, word, _)| *word == entry.key && table.is_empty());
        match (&entry.node.value, what) {
            (Val::Table(table), _) => {
                let short: String = entry.key.chars().take(64).collect();
                keys(table, spec, &format!("[{what}.{short}]"), problems);
            }
            (Val::Text(_), "models") => {}
            (other, _) => {
                let problem = match habit {
                    Some((_, word, write)) => {
                        Problem::error("E0109", &entry.key_at, format!("`{word}` is not a key here")).help(*write)
                    }
                    None => {
                        let message = format!("[{what}] holds tables by name, `{}` is {}", entry.key, other.words());
                        Problem::error("E0105", &entry.key_at, message).help(format!("write `[{what}.NAME]`"))
                    }
                };
                problems.push(problem);
                continue;
            }
        }
        name(&entry.key, what, &entry.key_at, problems);
    }
}

fn name(text: &str, what: &str, at: &At, problems: &mut Vec<Problem>) {
    if let Err(error) = Name::new(text) {
        let help = "a lower-case letter, then at most 63 of a-z, 0-9 and _";
        let found: String = error.found.chars().take(40).collect();
        return problems.push(Problem::error("E0114", at, format!("`{found}` is not a name")).help(help));
    }
    if RESERVED.contains(&text) && what != "providers" {
        let message = format!("`{text}` is reserved: templates use it");
        problems.push(Problem::error("E0114", at, message).help(format!("call it `{text}_1` or what it is about")));
    }
}
