//! The `delegate` tool. Invariant: who may be asked is an enum in the tool's schema and checked again
//! by the coordinator; no prompt decides it.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Spec;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::{self, Crew, InputKind};
use crate::core::ids::Name;
use crate::core::schema::Schema;

/// Name of the tool, also on the wire.
pub const DELEGATE: &str = "delegate";

/// What an agent asks of another.
#[derive(Clone, Debug, PartialEq)]
pub struct Delegation {
    pub to: Name,
    pub task: String,
    pub expected: Option<String>,
    /// Open inputs of a sub-crew.
    pub inputs: BTreeMap<Name, Value>,
}

impl Delegation {
    /// From arguments that fit the tool's schema.
    pub fn read(arguments: &str) -> Option<Delegation> {
        let Value::Object(mut fields) = serde_json::from_str(arguments).ok()? else { return None };
        let mut text = |name: &str| fields.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let (to, task, expected) = (text("to")?, text("task")?, text("expected"));
        let inputs = fields.into_iter().filter_map(|(name, value)| Some((Name::new(&name).ok()?, value))).collect();
        Some(Delegation { to: Name::new(&to).ok()?, task, expected, inputs })
    }
}

/// The tool as `role` sees it.
pub(super) fn spec_for(crew: &Crew, role: &crew::Agent) -> ToolSpec {
    let mut lines = vec![
        "Gives a piece of work to another agent and returns its result. Several calls in one turn run at once. \
         The other agent sees only what you write in `task`."
            .to_owned(),
    ];
    for name in &role.delegates {
        let what = match (crew.agents.get(name), crew.crews.get(name)) {
            (Some(agent), _) if agent.goal.is_empty() => agent.role.clone(),
            (Some(agent), _) => format!("{}: {}", agent.role, agent.goal),
            (None, Some(sub)) => {
                let open: Vec<&str> = open_inputs(sub).map(|input| input.name.as_str()).collect();
                let needs = if open.is_empty() { String::new() } else { format!(" (give {})", open.join(", ")) };
                format!("a crew: {}{needs}", sub.crew.description)
            }
            (None, None) => String::new(),
        };
        lines.push(format!("{name}: {what}"));
    }
    ToolSpec {
        name: DELEGATE.to_owned(),
        description: lines.join("\n"),
        parameters: parameters(crew, role),
        effect: Effect::Read,
        timeout_ms: u64::MAX,
        max_result: u64::MAX,
    }
}

fn parameters(crew: &Crew, role: &crew::Agent) -> Value {
    let mut properties = Map::new();
    let names: Vec<&str> = role.delegates.iter().map(Name::as_str).collect();
    properties.insert("to".into(), json!({ "type": "string", "enum": names }));
    properties.insert(
        "task".into(),
        json!({ "type": "string", "description": "The whole task, with what is needed to do it" }),
    );
    properties.insert("expected".into(), json!({ "type": "string", "description": "What the result must be" }));
    for sub in role.delegates.iter().filter_map(|name| crew.crews.get(name)) {
        for input in open_inputs(sub) {
            let mut property = match input.kind {
                InputKind::String | InputKind::Path => json!({ "type": "string" }),
                InputKind::Int => json!({ "type": "integer" }),
                InputKind::Number => json!({ "type": "number" }),
                InputKind::Bool => json!({ "type": "boolean" }),
                InputKind::Json => json!({}),
            };
            if let Value::Object(fields) = &mut property {
                if !input.choices.is_empty() {
                    fields.insert("enum".into(), json!(input.choices));
                }
                // Not for the validator: it says that the input may be left out.
                if let Some(default) = &input.default {
                    fields.insert("default".into(), default.clone());
                }
                fields
                    .insert("description".into(), json!(format!("Input of {}: {}", sub.crew.name, input.description)));
            }
            properties.entry(input.name.to_string()).or_insert(property);
        }
    }
    json!({ "type": "object", "properties": properties, "required": ["to", "task"], "additionalProperties": false })
}

/// Inputs of a sub-crew that the calling crew does not fix. `task` is given by the tool itself.
pub fn open_inputs(sub: &crew::SubCrew) -> impl Iterator<Item = &crew::Input> {
    sub.crew.inputs.iter().filter(|input| !sub.inputs.contains_key(&input.name) && input.name.as_str() != "task")
}

/// The validator of the tool's arguments.
pub(super) fn schema(spec: &Spec) -> Option<Schema> {
    let role = spec.role.as_ref()?;
    Schema::new(parameters(&spec.crew, role)).ok()
}
