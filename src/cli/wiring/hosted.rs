//! What a program that embeds Bosun brings along: tools and models of its own. Invariant: they are
//! named in crew files like any other, and a run without them is the same as before.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::adapters::crewfile::ProviderTable;
use crate::adapters::models::Registry;
use crate::adapters::tools::ToolBoxes;
use crate::core::chat::ToolSpec;
use crate::core::ids::Name;
use crate::ports::model::{Model, Models, Tier};
use crate::ports::tool::{Tool, Tools};

/// `kind` of a provider that the host program is: its models cost nothing unless the crew states a price.
pub const KIND: &str = "host";
/// Calls at once with a hosted model: as many as the crew allows.
const CONCURRENCY: u32 = 1 << 16;

/// Tools and models of the host program, by the name that crew files use.
#[derive(Clone, Default)]
pub struct Hosted {
    pub tools: BTreeMap<String, Arc<dyn Tool>>,
    pub models: BTreeMap<Name, Arc<dyn Model>>,
    /// Does somebody see what runs ask? `None`: whoever sits at this process's terminal does.
    pub attended: Option<bool>,
}

impl Hosted {
    pub fn specs(&self) -> impl Iterator<Item = ToolSpec> + '_ {
        self.tools.values().map(|tool| tool.spec().clone())
    }

    pub fn providers(&self) -> impl Iterator<Item = (Name, ProviderTable)> + '_ {
        let table = || ProviderTable { kind: KIND.to_owned(), ..ProviderTable::default() };
        self.models.keys().map(move |name| (name.clone(), table()))
    }

    pub(super) fn models_over(&self, registry: Registry) -> Arc<dyn Models> {
        if self.models.is_empty() {
            return Arc::new(registry);
        }
        Arc::new(Over { own: self.models.clone(), rest: registry })
    }

    pub(super) fn tools_over(&self, boxes: ToolBoxes) -> Arc<dyn Tools> {
        if self.tools.is_empty() {
            return Arc::new(boxes);
        }
        Arc::new(Over { own: self.tools.clone(), rest: boxes })
    }
}

/// The host's own before the rest.
struct Over<K, T: ?Sized, R> {
    own: BTreeMap<K, Arc<T>>,
    rest: R,
}

impl Models for Over<Name, dyn Model, Registry> {
    fn provider(&self, name: &Name) -> Option<Arc<dyn Model>> {
        self.own.get(name).cloned().or_else(|| self.rest.provider(name))
    }
    fn tier(&self, provider: &Name, model: &str) -> Arc<Tier> {
        if !self.own.contains_key(provider) {
            return self.rest.tier(provider, model);
        }
        Arc::new(Tier::at_once(format!("{KIND}-{provider}"), CONCURRENCY))
    }
}

impl Tools for Over<String, dyn Tool, ToolBoxes> {
    fn tool(&self, crew: &str, name: &str) -> Option<Arc<dyn Tool>> {
        // A crew's own table of that name comes first.
        self.rest.tool(crew, name).or_else(|| self.own.get(name).cloned())
    }
}
