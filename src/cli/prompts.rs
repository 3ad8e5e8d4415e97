//! `prompts`: every word that a model may read comes from a file that can be printed and replaced.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use clap::Subcommand;

use super::Context;
use super::failure::{Exit, Failure, Outcome};
use super::open::Project;
use super::screen::{Side, Table, clean};
use crate::adapters::crewfile::{DiskSource, Source};
use crate::core::builtin;
use crate::core::ids::BlobId;
use crate::core::nearest::nearest;

#[derive(Clone, Debug, Subcommand)]
pub enum PromptsCommand {
    /// The project's prompts and the built-in ones, each with its hash
    List,
    /// Print a prompt as it is
    Show {
        /// writer, section/intro, or builtin/role
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Copy a built-in prompt to prompts/builtin/, where it replaces the built-in one
    Eject {
        /// builtin/role, or role
        #[arg(value_name = "NAME")]
        name: String,
    },
}

pub fn prompts(context: &Context, command: PromptsCommand) -> Outcome {
    let project = Project::here(context)?;
    match command {
        PromptsCommand::List => list(context, &project),
        PromptsCommand::Show { name } => show(context, &project, &name),
        PromptsCommand::Eject { name } => eject(context, &project, &name),
    }
}

/// Prompt files of the project by name (`writer`, `section/intro`).
fn own(project: &Project) -> Vec<String> {
    let files = DiskSource::new(&project.root).list("prompts");
    let name = |path: &String| Some(path.strip_prefix("prompts/")?.strip_suffix(".md")?.to_owned());
    files.iter().filter_map(name).collect()
}

fn read(project: &Project, name: &str) -> Result<String, Failure> {
    let path = format!("prompts/{name}.md");
    let text = DiskSource::new(&project.root)
        .read(&path)
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
    text.map_err(|why| Failure::usage(format!("{path}: {why}")))
}

fn list(context: &Context, project: &Project) -> Outcome {
    let mut table = Table::new(&[("NAME", Side::Left, 0), ("HASH", Side::Left, 1), ("FILE", Side::Left, 2)]);
    let own = own(project);
    for name in &own {
        let hash =
            read(project, name).map_or_else(|_| "unreadable".to_owned(), |text| BlobId::of(text.as_bytes()).short());
        table.row(vec![clean(name), hash, clean(&format!("prompts/{name}.md"))]);
    }
    for (name, text) in builtin::ALL {
        let name = format!("builtin/{name}");
        if !own.contains(&name) {
            table.row(vec![name, BlobId::of(text.as_bytes()).short(), "built in".to_owned()]);
        }
    }
    context.table(&table);
    Ok(Exit::Done)
}

/// `prompts/writer.md`, `writer.md` and `writer` are one name.
fn bare(name: &str) -> &str {
    let name = name.strip_prefix("./").unwrap_or(name);
    let name = name.strip_prefix("prompts/").unwrap_or(name);
    name.strip_suffix(".md").unwrap_or(name)
}

fn built_in(name: &str) -> Option<(&'static str, &'static str)> {
    let name = name.strip_prefix("builtin/").unwrap_or(name);
    builtin::ALL.into_iter().find(|(known, _)| *known == name)
}

fn unknown(project: &Project, name: &str) -> Failure {
    let mut known = own(project);
    known.extend(builtin::ALL.iter().map(|(name, _)| format!("builtin/{name}")));
    let near = nearest(name, known.iter().map(String::as_str)).map(|near| format!("; did you mean `{near}`?"));
    Failure::usage(format!("there is no prompt `{name}`{}", near.unwrap_or_default())).hint("bosun prompts list")
}

fn show(context: &Context, project: &Project, name: &str) -> Outcome {
    let name = bare(name);
    let own = own(project);
    let (title, text) = match (own.iter().any(|known| known == name), built_in(name)) {
        (true, _) => (format!("prompts/{name}.md"), read(project, name)?),
        (false, Some((name, text))) => (format!("builtin/{name}"), text.to_owned()),
        (false, None) => return Err(unknown(project, name)),
    };
    context.out.note(&format!("{title} {}", BlobId::of(text.as_bytes()).short()));
    context.out.result(&text);
    Ok(Exit::Done)
}

fn eject(context: &Context, project: &Project, name: &str) -> Outcome {
    let Some((name, text)) = built_in(bare(name)) else {
        let known: Vec<&str> = builtin::ALL.iter().map(|(name, _)| *name).collect();
        let near = nearest(bare(name), known.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
        let why = format!("`{name}` is not a built-in prompt{}", near.unwrap_or_default());
        return Err(Failure::usage(why).hint(format!("built in: {}", known.join(", "))));
    };
    let path = format!("prompts/builtin/{name}.md");
    create(&project.root.join(&path), text).map_err(|why| match why.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!("{path} exists; it is left as it is")),
        _ => Failure::usage(format!("{path} cannot be written: {why}")),
    })?;
    context.out.line(&format!("wrote {path}; from now on it is used in place of the built-in prompt"));
    Ok(Exit::Done)
}

/// Writes a file that must not exist yet, with the folders above it.
pub fn create(path: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())
}
