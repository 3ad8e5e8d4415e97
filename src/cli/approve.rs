//! What MCP servers say of their tools, and whether that is approved. Invariant: a definition is written to the lock
//! file only after it was printed, by a person's command or for a server that nothing was known of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use similar::{ChangeTag, TextDiff};

use super::failure::{Exit, Failure, Outcome};
use super::open::Project;
use super::out::Tone;
use super::screen::{clean, count};
use super::wiring::Servers;
use super::{Context, check, drive};
use crate::adapters::crewfile::{self, Loaded};
use crate::adapters::lockfile::{Approved, Lock};
use crate::adapters::settings::Flags;
use crate::core::crew::Server;
use crate::core::definition::Definition;

/// The servers of the crews, or the one of this name; and the project's root.
pub(super) fn servers(
    context: &Context,
    name: Option<&str>,
    crew: Option<&Path>,
    command: &str,
) -> Result<(PathBuf, Vec<Arc<Server>>), Failure> {
    let paths = match crew {
        Some(path) => vec![context.cwd.join(path)],
        None => check::crews(&context.cwd)?,
    };
    let (mut root, mut servers) = (None, BTreeMap::new());
    for path in &paths {
        let loaded = check::load(context, path)?;
        root.get_or_insert_with(|| crewfile::project_root(path));
        if loaded.crew.is_none() {
            let shown = clean(&path.strip_prefix(&context.cwd).unwrap_or(path).display().to_string());
            context.out.note(&format!(
                "note: {shown} has problems, and some of its servers may be left out: bosun check {shown}"
            ));
        }
        for server in &loaded.servers {
            add(&mut servers, server)?;
        }
    }
    let root: PathBuf = root.unwrap_or_else(|| context.cwd.clone());
    if let Some(name) = name {
        let known: Vec<String> = servers.keys().cloned().collect();
        servers.retain(|server, _| server == name);
        if servers.is_empty() {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let message = format!("no crew has a server `{}`; there are: {known}", clean(name));
            return Err(Failure::usage(message).hint(format!("name the crew file: bosun tools {command} SERVER CREW")));
        }
    }
    if servers.is_empty() {
        return Err(Failure::usage("no crew has a [tools.N] table of kind `mcp`")
            .hint("name the crew file, if it is elsewhere"));
    }
    Ok((root, servers.into_values().collect()))
}

/// `bosun tools approve`.
pub fn approve(context: &Context, name: Option<&str>, crew: Option<&Path>) -> Outcome {
    let (root, servers) = servers(context, name, crew, "approve")?;
    let project = Project::at(context, root, Flags::new())?;
    let lock = Lock::read(&project.root).map_err(|why| {
        let failure = Failure::new(Exit::Crew, clean(&why));
        failure.hint("restore it from version control, or remove it and look at every server anew")
    })?;
    let found = ask(context, &project, servers)?;
    for (server, tools) in &found {
        let known = lock.0.get(&server.name);
        said(context, server, known, tools);
    }
    keep(context, &project, found)?;
    Ok(Exit::Done)
}

/// Of two crews' servers with one name both must be the same.
fn add(servers: &mut BTreeMap<String, Arc<Server>>, server: &Arc<Server>) -> Result<(), Failure> {
    if let Some(known) = servers.insert(server.name.clone(), server.clone())
        && known.link.text() != server.link.text()
    {
        let (one, other) = (clean(&known.link.text()), clean(&server.link.text()));
        let message = format!("two servers are called `{}`: {one} and {other}", server.name);
        return Err(Failure::usage(message).hint("a name stands for one server in a project: give one another name"));
    }
    Ok(())
}

/// Pins the servers that a run is to call and of which nothing is known yet.
pub fn meet(context: &Context, project: &Project, loaded: &Loaded, locked: bool) -> Result<(), Failure> {
    let unknown = loaded.servers.iter().filter(|server| loaded.unpinned.contains(&server.name));
    let mut servers = BTreeMap::new();
    for server in unknown {
        add(&mut servers, server)?;
    }
    if locked {
        let names: Vec<&str> = servers.keys().map(String::as_str).collect();
        let message = format!("--locked: not in bosun.lock yet: {}; nothing was sent", names.join(", "));
        return Err(Failure::new(Exit::Crew, message).hint(format!("bosun tools approve {}", names.join(" "))));
    }
    let found = ask(context, project, servers.into_values().collect())?;
    for (server, tools) in &found {
        let (name, link, tools) = (&server.name, clean(&server.link.short()), count(tools.len() as u64, "tool"));
        context.out.note(&format!(
            "the server {name} ({link}) is met for the first time: {tools} pinned in bosun.lock, \
             approved as they are"
        ));
    }
    keep(context, project, found)
}

type Found = Vec<(Arc<Server>, Vec<Definition>)>;

/// What the servers say now; all are started at once.
fn ask(context: &Context, project: &Project, servers: Vec<Arc<Server>>) -> Result<Found, Failure> {
    let all = Arc::new(Servers::new(project, context.env.clone()));
    drive::block_on(async {
        let mut asked = tokio::task::JoinSet::new();
        for (at, server) in servers.into_iter().enumerate() {
            let all = all.clone();
            asked.spawn(async move { (at, all.definitions(&server).await, server) });
        }
        let mut found = BTreeMap::new();
        let mut wrong = None;
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((at, Ok(tools), server)) => drop(found.insert(at, (server, tools))),
                Ok((_, Err(why), _)) => wrong = Some(why),
                Err(why) => wrong = Some(Failure::new(Exit::Internal, why.to_string())),
            }
        }
        all.stop().await;
        match wrong {
            Some(why) => Err(why.hint("bosun.lock is as it was")),
            None => Ok(found.into_values().collect()),
        }
    })
}

fn keep(context: &Context, project: &Project, found: Found) -> Result<(), Failure> {
    let unusable = |why: String| Failure::new(Exit::Crew, clean(&why));
    // Read again: another process may have met a server meanwhile.
    let mut lock = Lock::read(&project.root).map_err(unusable)?;
    let before = lock.clone();
    for (server, tools) in found {
        let tools = tools.into_iter().map(|tool| (tool.name.clone(), tool)).collect();
        lock.0.insert(server.name.clone(), Approved { link: server.link.text(), tools });
    }
    if lock != before {
        lock.write(&project.root).map_err(unusable)?;
        return Ok(());
    }
    context.out.note("bosun.lock has it so already");
    Ok(())
}

/// The difference to what was approved, tool by tool.
fn said(context: &Context, server: &Server, known: Option<&Approved>, tools: &[Definition]) {
    let out = &context.out;
    let (name, link) = (&server.name, clean(&server.link.short()));
    out.line(&format!("{} ({link}): {}", out.paint(Tone::Strong, name), count(tools.len() as u64, "tool")));
    let empty = BTreeMap::new();
    let before = known.map_or(&empty, |known| &known.tools);
    if let Some(known) = known.filter(|known| known.link != server.link.text()) {
        out.line(&out.paint(Tone::Bad, &format!("  - {}", clean(&known.link))));
        out.line(&out.paint(Tone::Good, &format!("  + {}", clean(&server.link.text()))));
    }
    for tool in tools {
        let left_out = if server.allows(&tool.name) { "" } else { " (`allow` leaves it out)" };
        match before.get(&tool.name) {
            Some(old) if old.hash == tool.hash => {}
            Some(old) => {
                out.line(&out.paint(Tone::Warn, &format!("  ~ {}{left_out}", tool.name)));
                lines(context, &old.text(), &tool.text());
            }
            None => {
                let says: String =
                    clean(tool.description()).lines().next().unwrap_or_default().chars().take(90).collect();
                out.line(&out.paint(Tone::Good, &format!("  + {}{left_out}: {says}", tool.name)));
            }
        }
    }
    for gone in before.keys().filter(|name| !tools.iter().any(|tool| tool.name == **name)) {
        out.line(&out.paint(Tone::Bad, &format!("  - {gone}")));
    }
}

fn lines(context: &Context, old: &str, new: &str) {
    let diff = TextDiff::from_lines(old, new);
    for group in diff.grouped_ops(1) {
        for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let value = change.value();
            let indent = " ".repeat(value.len() - value.trim_start_matches(' ').len());
            let text = format!("{indent}{}", clean(value.trim()));
            let line = match change.tag() {
                ChangeTag::Delete => context.out.paint(Tone::Bad, &format!("    - {text}")),
                ChangeTag::Insert => context.out.paint(Tone::Good, &format!("    + {text}")),
                ChangeTag::Equal => format!("      {text}"),
            };
            context.out.line(&line);
        }
    }
}
