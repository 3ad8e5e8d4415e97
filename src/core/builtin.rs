//! The built-in prompts: every word that Bosun itself may say to a model. Invariant: they are files,
//! printed by `bosun prompts show builtin/NAME`, and a project's `prompts/builtin/NAME.md` replaces one.

use super::template::TemplateName;

/// Name and text of each.
pub const ALL: [(&str, &str); 14] = [
    ("role", include_str!("builtin/role.md")),
    ("repair", include_str!("builtin/repair.md")),
    ("conclude", include_str!("builtin/conclude.md")),
    ("revise", include_str!("builtin/revise.md")),
    ("review", include_str!("builtin/review.md")),
    ("delegated", include_str!("builtin/delegated.md")),
    ("shrunk", include_str!("builtin/shrunk.md")),
    ("summary", include_str!("builtin/summary.md")),
    ("summarised", include_str!("builtin/summarised.md")),
    ("solo", include_str!("builtin/solo.md")),
    ("debate", include_str!("builtin/debate.md")),
    ("debated", include_str!("builtin/debated.md")),
    ("told", include_str!("builtin/told.md")),
    ("schema", include_str!("builtin/schema.md")),
];

/// The name under which a built-in prompt is compiled.
pub fn template(name: &str) -> TemplateName {
    TemplateName(format!("builtin/{name}.md").into())
}
