//! The front matter of prompts. Invariant: what a prompt states is the agent's, and nothing else.

use super::{Kind, MANY, Spec, key};

pub static FRONT: Spec = Spec {
    name: "the front matter",
    keys: &[
        key("description", Kind::Text, "", "one line"),
        key("inputs", Kind::Texts, "[]", "names it uses; `name?` where it can do without"),
        key("max_prompt_tokens", Kind::Int(1, MANY), "", "largest prompt"),
        key("role", Kind::Text, "", "the agent's"),
        key("goal", Kind::Text, "", "the agent's"),
        key("backstory", Kind::Text, "", "the agent's"),
        key("tools", Kind::Texts, "", "the agent's"),
        key("model", Kind::Text, "", "the agent's"),
        key("temperature", Kind::Milli(2000), "", "the agent's"),
        key("max_output", Kind::Int(1, MANY), "", "the agent's"),
    ],
};
