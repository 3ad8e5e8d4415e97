//! What the command line changes of a crew. Invariant: pinned with the run, so that it is changed the same
//! way whenever the run is taken up.

use crate::core::money::Caps;

/// What a run fixes over the crew's files: pinned with it, so that resume compiles the same crew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Overrides {
    /// `--model`: replaces every model of the crew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The settings' model, of agents that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_model: Option<String>,
    /// `--offline`: every model is the stand-in.
    #[serde(default)]
    pub offline: bool,
    /// `--max-usd --max-tokens`: lower the top crew's caps.
    #[serde(default)]
    pub caps: Caps,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_turns: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output: Option<u64>,
}
