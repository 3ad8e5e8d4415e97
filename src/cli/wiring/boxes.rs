//! The tools of a run, and of no run. Invariant: a tool has what its table gives it and the paths of the
//! command line, and nothing else.

use std::path::Path;

use super::Ready;
use super::servers::Servers;
use crate::adapters::models::secrets::Env;
use crate::adapters::tools::{CommandSpec, Declared, Grant, HttpSpec, ToolBox, ToolBoxes};
use crate::cli::failure::{Exit, Failure};
use crate::core::crew::{Crew, InputKind, ToolDef, ToolPlaces, ToolSource};

/// The tools of a run's crews. What a request needs of the environment is there before anything is sent,
/// unless every model is a stand-in.
pub(super) fn of_run(
    root: &Path,
    ready: &Ready,
    env: &Env,
    stand_ins: bool,
    servers: &Servers,
) -> Result<ToolBoxes, Failure> {
    let mut boxes = ToolBoxes::default();
    let mut open = vec![ready.crew.clone()];
    while let Some(crew) = open.pop() {
        if boxes.0.contains_key(&crew.file) {
            continue;
        }
        if !stand_ins {
            keys_are_set(&crew, env)?;
        }
        boxes.0.insert(crew.file.clone(), made(root, grants(root, ready)?, Some(&crew), env, servers)?);
        open.extend(crew.crews.values().map(|sub| sub.crew.clone()));
    }
    Ok(boxes)
}

fn keys_are_set(crew: &Crew, env: &Env) -> Result<(), Failure> {
    for (name, def) in &crew.tools {
        let ToolSource::Http(call) = &def.source else { continue };
        if let Some(missing) = call.variables().find(|variable| !env.contains_key(*variable)) {
            let message = format!("tool `{name}`: the environment variable {missing} is not set");
            return Err(Failure::new(Exit::Credentials, message).hint("nothing was sent"));
        }
    }
    Ok(())
}

/// The builtins, and the tools of a crew's own file; no path is granted.
pub fn toolbox(root: &Path, crew: Option<&Crew>, env: &Env, servers: &Servers) -> Result<ToolBox, Failure> {
    made(root, Vec::new(), crew, env, servers)
}

fn made(
    root: &Path,
    grants: Vec<Grant>,
    crew: Option<&Crew>,
    env: &Env,
    servers: &Servers,
) -> Result<ToolBox, Failure> {
    let tables = crew.into_iter().flat_map(|crew| &crew.tools);
    let declared = tables.filter_map(|(name, def)| declared(root, name, def, env)).collect();
    let made = ToolBox::new(root, grants, declared);
    let mut made = made.map_err(|problems| Failure::new(Exit::Crew, problems.join("\n")))?;
    for (name, def) in crew.into_iter().flat_map(|crew| &crew.tools) {
        if let Some(tool) = servers.tool(def)?
            && !made.put(name.clone(), tool)
        {
            return Err(Failure::new(Exit::Crew, format!("two tools are called {name}; choose another name")));
        }
    }
    Ok(made)
}

fn declared(root: &Path, name: &str, def: &ToolDef, env: &Env) -> Option<Declared> {
    match &def.source {
        // Builtins that a crew only names are in every box.
        ToolSource::Builtin { name: builtin, places } if builtin == name && *places == ToolPlaces::default() => None,
        ToolSource::Builtin { name: builtin, places } => {
            Some(Declared::Use { builtin: builtin.clone(), spec: def.spec.clone(), places: places.clone() })
        }
        // A tool of a server is made where the servers are.
        ToolSource::Mcp { .. } => None,
        ToolSource::Command { argv, env } => Some(Declared::Command(CommandSpec {
            spec: def.spec.clone(),
            argv: argv.clone(),
            env: env.clone(),
            cwd: root.to_owned(),
        })),
        ToolSource::Http(call) => {
            let set = call.variables().filter_map(|name| Some((name.to_owned(), env.get(name)?.trim().into())));
            Some(Declared::Http(HttpSpec { spec: def.spec.clone(), call: (**call).clone(), keys: set.collect() }))
        }
    }
}

/// Path inputs are read grants of the run.
fn grants(root: &Path, ready: &Ready) -> Result<Vec<Grant>, Failure> {
    let paths = ready.crew.inputs.iter().filter(|input| input.kind == InputKind::Path && !input.secret);
    let texts = paths.filter_map(|input| Some((&input.name, ready.inputs.get(&input.name)?.as_str()?)));
    let triggered = ready.key.as_deref().is_some_and(|key| ready.crew.trigger_of(key).is_some());
    let gone = |text: &str| ready.taken_up && matches!(root.join(text).try_exists(), Ok(false));
    // A run that is gone on with may have moved the file itself: then there is nothing to grant.
    let texts = texts.filter(|(_, text)| !gone(text));
    let open = |text| if triggered { Grant::inside(text, root) } else { Grant::open(text, root) };
    texts.map(|(name, text)| open(text).map_err(|why| Failure::usage(format!("input `{name}`: {why}")))).collect()
}
