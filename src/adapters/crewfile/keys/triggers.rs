//! Keys of `[triggers.N]`.

use super::{Key, Kind, Spec, key};

/// Keys that only one kind of trigger has.
pub const ONLY: &[(&str, &str)] = &[
    ("path", "watch"),
    ("glob", "watch"),
    ("settle", "watch"),
    ("schedule", "cron"),
    ("timezone", "cron"),
    ("catch_up", "cron"),
];

const KEYS: &[Key] = &[
    key("kind", Kind::Choice(&["watch", "cron"], &["webhook", "queue", "mail"]), "", "what it waits for"),
    key("path", Kind::Text, "", "watch: folder below the project's root"),
    key("glob", Kind::Text, "*", "watch: which of its files; `**/` reaches into folders"),
    key("settle", Kind::Time, "2s", "watch: a file is whole when it has not changed for so long"),
    key("schedule", Kind::Text, "", "cron: minute, hour, day of month, month, day of week"),
    key("timezone", Kind::Text, "the machine's", "cron: such as `Europe/Berlin`"),
    key("catch_up", Kind::Flag, "false", "cron: the latest tick that was missed is run"),
    key("inputs", Kind::Free, "{}", "inputs of the run, as templates over `event`"),
    key("overlap", Kind::Choice(&["queue", "skip", "parallel"], &[]), "queue", "an event while a run is at work"),
    key("max_parallel", Kind::Int(1, 1000), "4", "runs at once, with `overlap = \"parallel\"`"),
];

pub static TRIGGER: Spec = Spec { name: "[triggers.N]", keys: KEYS };
