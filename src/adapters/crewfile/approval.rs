//! When a tool needs a person's yes. Invariant: a condition that decides about an effect is checked before
//! anything runs, against the tool's own arguments.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Loader;
use super::doc::Table;
use super::make::Making;
use super::problem::Problem;
use super::prompts::{Site, report};
use super::values::time;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::{ASK_HUMAN, Approval, ToolSource};
use crate::core::template::{Ty, Typing};

/// How long a person has where the crew does not say.
const EXPIRES_MS: u64 = 24 * 3_600_000;

/// Of a builtin without a table.
pub(super) fn unstated(loader: &Loader<'_>, spec: &ToolSpec) -> Approval {
    let if_tainted = spec.effect != Effect::Read && loader.taints();
    Approval { expires_ms: if_tainted.then_some(EXPIRES_MS), ..Approval::default() }
}

/// What a table says; its condition is compiled by [`conditions`].
pub(super) fn read(loader: &mut Loader<'_>, table: &Table, source: &ToolSource, effect: Effect) -> Approval {
    let always = table.text("approval") == Some("always");
    let never = table.text("approval") == Some("never");
    let question = matches!(source, ToolSource::Builtin { name, .. } if name == ASK_HUMAN);
    for key in ["approval", "approve_when"].into_iter().filter(|_| question) {
        let Some(entry) = table.entry(key) else { continue };
        let problem = Problem::error("E0203", &entry.key_at, format!("`{key}` says nothing of a question to a person"));
        loader.report(problem.help("leave it out: a person sees every question"));
    }
    let if_tainted = effect != Effect::Read && !never && loader.taints();
    let asks = question || always || if_tainted || table.get("approve_when").is_some();
    // A server may ask a person in the middle of a call.
    let server = matches!(source, ToolSource::Mcp { .. });
    if let (Some(entry), false) = (table.entry("expires"), asks || server) {
        let problem = Problem::error("E0203", &entry.key_at, "`expires` ends nothing: this tool asks nobody");
        loader.report(problem.help("write `approval = \"always\"` or `approve_when` beside it, or leave it out"));
    }
    let stated = table.text("expires").and_then(|text| time(text).ok());
    Approval { always, never, when: None, expires_ms: stated.or(asks.then_some(EXPIRES_MS)) }
}

/// `approve_when` of every tool, over its arguments.
pub(super) fn conditions(loader: &mut Loader<'_>, making: &mut Making<'_>) {
    for entry in making.doc.table("tools").map(|table| table.entries.as_slice()).unwrap_or_default() {
        let Some(node) = entry.node.table().and_then(|table| table.get("approve_when")) else { continue };
        let Some(text) = node.text() else { continue };
        // The table of a server speaks for each of its tools, whose arguments are not alike.
        let server = format!("{}.", entry.key);
        let own = |name: &&String| **name == entry.key || name.starts_with(&server);
        let tools: Vec<String> = making.tools.keys().filter(own).cloned().collect();
        let one = tools.contains(&entry.key);
        let text_of = |name: &str| (name.to_owned(), Ty::Text);
        let mut names: BTreeMap<String, Ty> = ["tool", "agent", "step"].map(text_of).into();
        let args = making.tools.get(&entry.key).filter(|_| one).map_or(Ty::Any, |def| def.arguments.ty());
        names.insert("args".into(), args);
        let site = Site::of(loader, node);
        match making.shelf.builder.condition(text, &Typing { names, bare: None }) {
            Ok((condition, _)) => {
                for name in tools {
                    if let Some(def) = making.tools.get_mut(&name).and_then(Arc::get_mut) {
                        def.approval.when = Some(condition.clone());
                    }
                }
            }
            Err(faults) => report(loader, &site, faults),
        }
    }
}
