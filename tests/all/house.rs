//! The rules of the house, read from `src/` and enforced. Invariant: every rule here has a planted
//! breach that it finds; a rule that finds nothing is no rule.

mod scan;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use scan::{Function, blank, functions, matches, without_tests};

/// Longest file and function, in lines.
const FILE_MAX: usize = 400;
const FUNCTION_MAX: usize = 70;

/// Functions over the limit that await their split, by file and name.
const LONG_FUNCTIONS: [(&str, &str); 1] = [("src/adapters/crewfile/tasks.rs", "task")];

/// Enums that are read by kind, as JSON is: what a `_` arm there means is "anything else", whatever joins them.
const READ_BY_KIND: [&str; 3] = ["Val", "Ty", "Piece"];

/// The same, where only one file reads an enum so: pairs of a key's kind and a value.
const READ_BY_KIND_IN: [(&str, &str); 1] = [("src/adapters/crewfile/form.rs", "Kind")];

struct Layer {
    name: &'static str,
    /// Rooms of this crate that it may name.
    rooms: &'static [&'static str],
    /// Crates that it may use; none: all.
    crates: Option<&'static [&'static str]>,
    /// Crates that it may not use.
    never: &'static [&'static str],
    /// Parts of std that it may not use.
    std: &'static [&'static str],
}

const LAYERS: [Layer; 5] = [
    Layer {
        name: "core",
        rooms: &["core"],
        crates: Some(&["serde", "serde_json", "thiserror", "sha2", "minijinja", "jsonschema", "strsim"]),
        never: &[],
        std: &["fs", "env", "thread", "net", "process", "time"],
    },
    Layer {
        name: "ports",
        rooms: &["core", "ports"],
        crates: Some(&["serde", "serde_json", "thiserror", "futures_core", "bytes"]),
        never: &[],
        std: &["fs", "env", "thread", "net", "process"],
    },
    Layer {
        name: "actors",
        rooms: &["core", "ports", "actors"],
        crates: Some(&[
            "serde",
            "serde_json",
            "thiserror",
            "futures_core",
            "bytes",
            "tokio",
            "ractor",
            "tracing",
            "dashmap",
        ]),
        never: &[],
        std: &["fs", "env", "net", "process"],
    },
    Layer {
        name: "adapters",
        rooms: &["core", "ports", "adapters"],
        crates: None,
        never: &["ractor", "clap", "crossterm"],
        std: &[],
    },
    Layer { name: "cli", rooms: &["core", "ports", "actors", "adapters", "cli"], crates: None, never: &[], std: &[] },
];

const ROOMS: [&str; 5] = ["core", "ports", "actors", "adapters", "cli"];
const FORBIDDEN_NAMES: [&str; 4] = ["util", "common", "types", "helpers"];

/// Texts that do not stand in the program, and what to write instead.
const BANS: [(&str, &str); 10] = [
    (".unwrap()", "return the error or give the value a default that is right"),
    (".expect(", "return the error"),
    ("panic!(", "return the error"),
    ("todo!(", "write it, or refuse it by name"),
    ("unimplemented!(", "write it, or refuse it by name"),
    ("dbg!(", "use `tracing`"),
    ("println!(", "only cli/out.rs prints: it does not panic on a closed pipe"),
    ("print!(", "only cli/out.rs prints: it does not panic on a closed pipe"),
    ("static mut ", "there is no global mutable state"),
    ("unsafe ", "there is no unsafe code"),
];

/// The crates of Cargo.toml, as code names them.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let mut inside = false;
    let mut names = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

/// Everything in one file that is against the rules: `path:line: what`.
fn breaches(path: &str, source: &str, crates: &BTreeSet<String>, enums: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let lines = source.lines().count();
    if lines > FILE_MAX {
        found.push(format!("{path}: {lines} lines, at most {FILE_MAX}: make it a folder of the same name"));
    }
    let stem = Path::new(path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if path.split('/').any(|part| FORBIDDEN_NAMES.contains(&part)) || FORBIDDEN_NAMES.contains(&stem) {
        found.push(format!("{path}: a file is named after what is in it, never {}", FORBIDDEN_NAMES.join(", ")));
    }
    if is_test(path) {
        return found;
    }
    let code = without_tests(&blank(source));
    layers(path, &code, crates, &mut found);
    bans(path, &code, &mut found);
    for Function { name, line, length } in functions(&code) {
        if length > FUNCTION_MAX && !LONG_FUNCTIONS.contains(&(path, &name)) {
            found.push(format!("{path}:{line}: `{name}` has {length} lines, at most {FUNCTION_MAX}"));
        }
    }
    for (line, arms) in matches(&code) {
        let ours =
            arms.iter().flat_map(|arm| words(arm)).find(|word| enums.contains(*word) && !READ_BY_KIND.contains(word));
        let ours = ours.filter(|ours| !READ_BY_KIND_IN.contains(&(path, ours)));
        let wild = arms.iter().any(|arm| arm.trim() == "_");
        if let (Some(ours), true) = (ours, wild) {
            found.push(format!("{path}:{line}: a `_` arm over our own `{ours}`: name the variants"));
        }
    }
    found
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

/// Names of enums in a pattern: words that `::` follows.
fn words(pattern: &str) -> impl Iterator<Item = &str> {
    pattern.match_indices("::").filter_map(|(at, _)| {
        let head = &pattern[..at];
        head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(Some(head), |from| head.get(from + 1..))
    })
}

/// `(line, first segment, the rest of the line)` of every path that starts a name.
fn roots(code: &str) -> Vec<(usize, &str, &str)> {
    let mut out = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for (at, _) in line.match_indices("::") {
            let head = &line[..at];
            let from = head.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |from| from + 1);
            if !head[..from].ends_with("::") && from < at {
                out.push((number + 1, &head[from..], &line[at + 2..]));
            }
        }
    }
    out
}

fn layers(path: &str, code: &str, crates: &BTreeSet<String>, found: &mut Vec<String>) {
    let room = path.strip_prefix("src/").and_then(|rest| rest.split('/').next()).unwrap_or_default();
    let Some(layer) = LAYERS.iter().find(|layer| layer.name == room) else { return };
    for (line, root, rest) in roots(code) {
        let next: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let group = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let named = |part: &str| next == part || group.split([',', ' ', ':']).any(|word| word == part);
        if root == "crate" || root == "boatswain" {
            for other in ROOMS.iter().filter(|other| named(other) && !layer.rooms.contains(*other)) {
                found.push(format!("{path}:{line}: {room} may not name {other}"));
            }
        } else if root == "std" {
            for part in layer.std.iter().filter(|part| named(part)) {
                // A length of time is a number; only clocks are of the world.
                if *part == "time" && !rest.contains("Instant") && !rest.contains("SystemTime") {
                    continue;
                }
                found.push(format!("{path}:{line}: {room} may not use std::{part}"));
            }
        } else if crates.contains(root) {
            let allowed = layer.crates.is_none_or(|allowed| allowed.contains(&root));
            if !allowed || layer.never.contains(&root) {
                found.push(format!("{path}:{line}: {room} may not use the crate {root}"));
            }
        }
    }
}

fn bans(path: &str, code: &str, found: &mut Vec<String>) {
    for (number, line) in code.lines().enumerate() {
        for (text, instead) in BANS {
            let prints = text.contains("print") && (path == "src/cli/out.rs" || path == "src/main.rs");
            let starts = |at: usize| {
                text.starts_with('.') || !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == 'e')
            };
            let here = line.match_indices(text).any(|(at, _)| starts(at) || text == "println!(" || text == "print!(");
            if here && !prints {
                found.push(format!("{path}:{}: `{}`: {instead}", number + 1, text.trim_matches(['(', ' '])));
            }
        }
    }
}

/// Names of the enums that `sources` define.
fn enums<'a>(sources: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for source in sources {
        for line in source.lines() {
            let rest = line.trim_start();
            let rest = rest
                .strip_prefix("pub(super) ")
                .or(rest.strip_prefix("pub(crate) "))
                .or(rest.strip_prefix("pub "))
                .unwrap_or(rest);
            if let Some(rest) = rest.strip_prefix("enum ") {
                names.insert(rest.chars().take_while(|c| c.is_alphanumeric()).collect());
            }
        }
    }
    names
}

fn sources() -> BTreeMap<String, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join("src")];
    let mut files = BTreeMap::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                files.insert(name, std::fs::read_to_string(path).unwrap());
            }
        }
    }
    files
}

fn crates() -> BTreeSet<String> {
    dependencies(&std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap())
}

#[test]
fn the_source_keeps_the_rules_of_the_house() {
    let files = sources();
    let (crates, enums) = (crates(), enums(files.values().map(String::as_str)));
    assert!(files.len() > 50 && crates.contains("ractor") && enums.contains("TaskEvent"));
    let found: Vec<String> = files.iter().flat_map(|(path, text)| breaches(path, text, &crates, &enums)).collect();
    assert!(found.is_empty(), "{} breaches\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_kind_of_breach_is_found() {
    let (crates, enums) = (crates(), BTreeSet::from(["Phase".to_owned()]));
    let find = |path: &str, text: &str| breaches(path, text, &crates, &enums).join("\n");
    let planted = [
        ("src/core/a.rs", "use tokio::sync::mpsc;\n", "core may not use the crate tokio"),
        ("src/core/a.rs", "use std::fs;\n", "core may not use std::fs"),
        ("src/core/a.rs", "use std::{env, fmt};\n", "core may not use std::env"),
        ("src/core/a.rs", "fn now() -> std::time::Instant { later() }\n", "core may not use std::time"),
        ("src/core/a.rs", "use crate::adapters::files;\n", "core may not name adapters"),
        ("src/core/a.rs", "fn a() { crate::ports::store::open() }\n", "core may not name ports"),
        ("src/ports/a.rs", "use crate::{actors, core};\n", "ports may not name actors"),
        ("src/actors/a.rs", "use reqwest::Client;\n", "actors may not use the crate reqwest"),
        ("src/adapters/a.rs", "use ractor::Actor;\n", "adapters may not use the crate ractor"),
        ("src/adapters/a.rs", "use crate::cli::out;\n", "adapters may not name cli"),
        ("src/cli/a.rs", "fn a() { b().unwrap(); }\n", "`.unwrap()`"),
        ("src/cli/a.rs", "fn a() { b().expect(\"b\"); }\n", "`.expect`"),
        ("src/cli/a.rs", "fn a() { panic!(\"b\"); }\n", "`panic!`"),
        ("src/cli/a.rs", "fn a() { todo!() }\n", "`todo!`"),
        ("src/cli/a.rs", "fn a() { dbg!(1); }\n", "`dbg!`"),
        ("src/cli/a.rs", "fn a() { println!(\"b\"); }\n", "`println!`"),
        ("src/cli/a.rs", "fn a() { eprintln!(\"b\"); }\n", "`println!`"),
        ("src/cli/a.rs", "fn a() { unsafe { b() } }\n", "`unsafe`"),
        ("src/cli/a.rs", "static mut A: u8 = 0;\n", "`static mut`"),
        ("src/cli/util.rs", "fn a() {}\n", "named after what is in it"),
        ("src/cli/helpers/a.rs", "fn a() {}\n", "named after what is in it"),
        (
            "src/cli/a.rs",
            "fn a(p: Phase) { match p { Phase::A { .. } => 1, _ => 2 } }\n",
            "a `_` arm over our own `Phase`",
        ),
    ];
    for (path, text, what) in planted {
        assert!(find(path, text).contains(what), "not found in {path}: {text}: {}", find(path, text));
    }
    let long = format!("fn a() {{\n{}}}\n", "    b();\n".repeat(70));
    assert!(find("src/cli/a.rs", &long).contains("`a` has 72 lines"));
    assert!(find("src/cli/a.rs", &"\n".repeat(401)).contains("401 lines, at most 400"));
}

#[test]
fn what_is_allowed_is_left_alone() {
    let (crates, enums) = (crates(), BTreeSet::from(["Phase".to_owned()]));
    let fine = [
        ("src/core/a.rs", "use std::time::Duration;\nuse serde_json::Value;\nuse crate::core::ids::Step;\n"),
        ("src/core/a.rs", "// .unwrap() and panic!( in a comment\nconst A: &str = \"todo!( .unwrap() tokio::x\";\n"),
        ("src/core/a.rs", "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() { c().unwrap(); println!(\"x\"); }\n}\n"),
        ("src/core/a/tests.rs", "fn b() { c().unwrap(); }\n"),
        ("src/core/a.rs", "fn a(n: u8) { match n { 1 => Phase::A, _ => Phase::B } }\n"),
        ("src/core/a.rs", "fn a() { b().unwrap_or_default(); c.expected(1); }\n"),
        ("src/cli/out.rs", "fn a() { println!(\"b\"); }\n"),
    ];
    for (path, text) in fine {
        assert_eq!(breaches(path, text, &crates, &enums), Vec::<String>::new(), "{text}");
    }
}
