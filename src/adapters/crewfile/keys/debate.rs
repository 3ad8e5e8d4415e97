//! The keys of a debate.

use super::{Kind, Spec, key};

pub static DEBATE: Spec = Spec {
    name: "`debate`",
    keys: &[
        key("agents", Kind::Texts, "", "who argues, in the order in which they speak: two or more"),
        key("max_rounds", Kind::Int(1, 100), "", "rounds, at most; in each everyone speaks once"),
        key("until", Kind::Text, "", "condition over the round's messages, by the agents' names, and `round`"),
        key("judge", Kind::Text, "", "agent that gives the result; without one the last message is it"),
        key("says", Kind::Schema, "text", "schema of each message, in a debate with a judge"),
    ],
};
