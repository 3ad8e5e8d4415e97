//! Tools that agents call. Invariant: a run has exactly the builtins and the tools its crew declares;
//! each sees only the places, the program and the variables that it was given.

pub(crate) mod ansi;
mod ask;
mod builtin;
mod command;
mod data;
mod fetch;
mod files;
mod http;
mod stats;
mod template;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use crate::adapters::files::open_folder;
use crate::adapters::web::{Listed, Web};
use crate::core::chat::ToolSpec;
use crate::core::crew::ToolPlaces;
use crate::ports::tool::{Tool, Tools};
use builtin::{BUILTINS, Builtin};
pub use command::CommandSpec;
pub use files::Grant;
use files::Places;
pub(crate) use files::walk::Glob;
pub use http::{HttpSpec, Wrong, placeholders, problems};

/// What a model is told about each builtin, with the builtin's own limits. Pure data.
pub fn builtin_specs() -> Vec<ToolSpec> {
    BUILTINS.iter().map(Builtin::spec).chain([fetch::spec()]).collect()
}

/// Is it one of these? Their schemas compile.
pub fn is_builtin(name: &str) -> bool {
    BUILTINS.iter().any(|builtin| builtin.name == name) || fetch::spec().name == name
}

/// A `[tools.N]` table, decoded.
#[derive(Clone, Debug)]
pub enum Declared {
    /// `use = "files.write"`: the builtin of that name under the table's name, at its own places.
    Use {
        builtin: String,
        /// Name, limits and description as the table gives them, the builtin's where it is silent
        /// (`builtin_specs`). The parameters are always the builtin's.
        spec: ToolSpec,
        /// Empty lists: the builtin's default (the root to read; `out/` to write).
        places: ToolPlaces,
    },
    Command(CommandSpec),
    Http(HttpSpec),
}

/// The tools of one run.
pub struct ToolBox {
    tools: BTreeMap<String, Arc<dyn Tool>>,
}

impl ToolBox {
    /// `root` is the project root; `grants` are the path inputs of the command line, which every file
    /// tool of the run may read. All problems are reported at once, each naming its tool.
    pub fn new(root: &Path, grants: Vec<Grant>, declared: Vec<Declared>) -> Result<ToolBox, Vec<String>> {
        let root = Arc::new(open_folder(root).map_err(|why| vec![why])?);
        let grants: Arc<[Grant]> = grants.into();
        let web = Arc::new(Web::default());
        let places = |of: &ToolPlaces| {
            let all = Places::new(Arc::clone(&root), &of.read, &of.write, Arc::clone(&grants))?;
            all.moving(&of.from, &of.to)
        };
        let mut tools = BTreeMap::new();
        let mut problems = Vec::new();
        for builtin in &BUILTINS {
            match places(&ToolPlaces::default()) {
                Ok(places) => drop(tools.insert(builtin.name.to_owned(), builtin.tool(builtin.spec(), places))),
                Err(why) => problems.push(format!("tool {}: {why}", builtin.name)),
            }
        }
        let fetch = fetch::Fetch { spec: fetch::spec(), web: Arc::clone(&web), listed: Listed::default() };
        tools.insert(fetch::NAME.to_owned(), Arc::new(fetch) as Arc<dyn Tool>);
        for table in declared {
            let name = table.name().to_owned();
            let made = match table {
                Declared::Command(spec) => command::Command::new(spec).map(|tool| Arc::new(tool) as Arc<dyn Tool>),
                Declared::Http(spec) => {
                    http::Http::new(spec, Arc::clone(&web)).map(|tool| Arc::new(tool) as Arc<dyn Tool>)
                }
                Declared::Use { builtin, spec, places: own } if builtin == fetch::NAME => {
                    use_fetch(spec, &own, Arc::clone(&web))
                }
                Declared::Use { builtin, spec, places: own } => {
                    places(&own).and_then(|places| use_builtin(&builtin, spec, places))
                }
            };
            match made {
                Ok(_) if tools.contains_key(&name) => {
                    problems.push(format!("tool {name}: the name is taken; choose another"))
                }
                Ok(tool) => drop(tools.insert(name, tool)),
                Err(why) => problems.push(format!("tool {name}: {why}")),
            }
        }
        if problems.is_empty() { Ok(ToolBox { tools }) } else { Err(problems) }
    }
}

impl Declared {
    fn name(&self) -> &str {
        match self {
            Declared::Use { spec, .. } => &spec.name,
            Declared::Command(command) => &command.spec.name,
            Declared::Http(http) => &http.spec.name,
        }
    }
}

fn use_fetch(spec: ToolSpec, own: &ToolPlaces, web: Arc<Web>) -> Result<Arc<dyn Tool>, String> {
    let spec = ToolSpec { parameters: fetch::spec().parameters, ..spec };
    Ok(Arc::new(fetch::Fetch { spec, web, listed: Listed::parse(&own.net)? }))
}

fn use_builtin(name: &str, spec: ToolSpec, places: Places) -> Result<Arc<dyn Tool>, String> {
    let known = || builtin_specs().into_iter().map(|spec| spec.name).collect::<Vec<_>>().join(", ");
    let builtin = BUILTINS.iter().find(|builtin| builtin.name == name);
    let builtin = builtin.ok_or_else(|| format!("use = \"{name}\" names no builtin; there are {}", known()))?;
    let spec = ToolSpec { parameters: builtin.spec().parameters, ..spec };
    Ok(builtin.tool(spec, places))
}

impl ToolBox {
    /// A tool that is made elsewhere; false if its name is taken.
    pub fn put(&mut self, name: String, tool: Arc<dyn Tool>) -> bool {
        self.tools.insert(name, tool).is_none()
    }
    pub fn get(&self, name: &str) -> Option<Arc<dyn Tool>> {
        self.tools.get(name).cloned()
    }
}

/// The tool boxes of a run's crews, by crew file.
#[derive(Default)]
pub struct ToolBoxes(pub BTreeMap<String, ToolBox>);

impl Tools for ToolBoxes {
    fn tool(&self, crew: &str, name: &str) -> Option<Arc<dyn Tool>> {
        self.0.get(crew)?.get(name)
    }
}

#[cfg(test)]
mod tests;
