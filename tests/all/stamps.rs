//! What the tests about people share: a crew whose model is a script, and a tool that leaves a line for each time it
//! has run. Invariant: an effect is counted on the disk, never by what a run says of itself.

use serde_json::Value;

use super::support::Folder;

/// A crew without agents and tasks: its model `m` says what `script.toml` says.
pub const HEAD: &str = r#"
schema = 1
[budget]
max_usd = 1
[providers.s]
kind = "scripted"
file = "script.toml"
[models.m]
id = "s/m"
price = { input = 1, output = 1 }
"#;

/// The tool that leaves a line; what follows in the crew may be more keys of its table.
pub const STAMP: &str = r#"
[tools.stamp]
kind = "command"
description = "Stamps"
isolation = "none"
effect = "once"
command = ["sh", "-c", "echo \"$1\" >> stamped.txt", "sh", "{text}"]
"#;

/// How often it has run.
pub fn stamps(folder: &Folder) -> usize {
    folder.read("stamped.txt").lines().count()
}

/// What is open, as `approvals --json` says.
#[track_caller]
pub fn open(folder: &Folder) -> Vec<Value> {
    if !folder.state().join("journal.db").exists() {
        return Vec::new();
    }
    let ran = folder.bosun(&["approvals", "--json"]).expect(0);
    ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
