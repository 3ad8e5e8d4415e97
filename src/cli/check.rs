//! `check`: everything that is wrong with crews, at once. Nothing is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Exit, Failure, Outcome};
use super::open::Project;
use super::screen::{clean, count, wrap};
use super::{Context, crew, fit};
use crate::adapters::crewfile::{self, At, Loaded, Problem, Severity};
use crate::adapters::settings::Flags;
use crate::adapters::sizes::O200k;
use crate::core::crew::Overrides;
use crate::core::estimate::estimate_with;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// With line, caret and suggestion.
    #[default]
    Human,
    /// One object per problem: code, severity, message, file, line, column, help.
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// A crew file, a folder with crew.toml, or a role prompt; crew.toml and every crews/*.toml unless stated
    #[arg(value_name = "PATH")]
    pub path: Option<PathBuf>,
    /// How problems are printed
    #[arg(long, value_enum, default_value = "human")]
    pub format: Format,
}

pub fn check(context: &Context, args: CheckArgs) -> Outcome {
    let paths = match &args.path {
        Some(path) => vec![context.cwd.join(path)],
        None => crews(&context.cwd)?,
    };
    let (mut files, mut notes) = (BTreeSet::new(), BTreeSet::new());
    let (mut errors, mut warnings) = (0, 0);
    for path in paths {
        let mut loaded = load(context, &path)?;
        too_small(&mut loaded);
        files.extend(loaded.pins.iter().map(|pin| pin.path.clone()));
        files.extend(loaded.problems.iter().map(|problem| problem.file.to_string()));
        notes.extend(loaded.notes.iter().cloned());
        let failed = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
        errors += failed as u64;
        warnings += (loaded.problems.len() - failed) as u64;
        match args.format {
            Format::Json => crewfile::json(&loaded).iter().for_each(|line| context.out.line(&line.to_string())),
            Format::Human if loaded.problems.is_empty() => {}
            Format::Human => {
                let text = crewfile::text(&loaded, context.out.out_is_colored(), context.columns());
                // Its closing line counts this crew only; ours counts all.
                let text = text.trim_end().strip_suffix(&crewfile::summary(&loaded)).unwrap_or(&text);
                context.out.print(text);
            }
        }
    }
    let found = match (errors, warnings) {
        (0, 0) => String::new(),
        (errors, 0) => format!("{}, ", count(errors, "error")),
        (errors, warnings) => format!("{}, {}, ", count(errors, "error"), count(warnings, "warning")),
    };
    let line = format!("checked {}, {found}nothing was sent", count(files.len() as u64, "file"));
    match args.format {
        Format::Json => context.out.note(&line),
        Format::Human => {
            let wrapped = notes.iter().flat_map(|note| wrap(&clean(note), context.columns(), 2));
            wrapped.for_each(|line| context.out.line(&line));
            context.out.line(&line);
        }
    }
    Ok(if errors > 0 { Exit::Crew } else { Exit::Done })
}

/// A budget that the crew's smallest course does not fit, where no input is open: `run` would refuse it.
fn too_small(loaded: &mut Loaded) {
    let Some(crew) = &loaded.crew else { return };
    if crew.inputs.iter().any(|input| input.default.is_none()) {
        return;
    }
    let made = estimate_with(crew, &BTreeMap::new(), &O200k::new());
    let own = (String::new(), fit::over(crew.budget.caps, made.smallest.amount()));
    let parts =
        made.parts.iter().map(|part| (format!(" of {}", part.node), fit::over(part.caps, part.smallest.amount())));
    let over = std::iter::once(own).chain(parts).filter(|(_, over)| !over.is_empty());
    let problems = over.map(|(of, over)| {
        let message = format!("the smallest possible course{of} does not fit the budget{of}: {}", fit::words(&over));
        let help = format!("give it {}, or less to do", fit::enough(&over));
        Problem::error("E0302", &At::file(&crew.file), message).help(help)
    });
    let problems: Vec<Problem> = problems.collect();
    loaded.problems.extend(problems);
}

/// Reads the crew at `path`, absolute, with the project that it stands in.
pub fn load(context: &Context, path: &Path) -> Result<Loaded, Failure> {
    let project = Project::at(context, crewfile::project_root(path), Flags::new())?;
    let inside = crew::place(&project.root, &context.cwd, path)?;
    let overrides = Overrides { usual_model: project.settings.model.clone(), ..Overrides::default() };
    if !inside.ends_with(".md") {
        return Ok(crew::load(&project, &inside, &overrides));
    }
    // Which model a prompt runs on may be said when it is run; that it names none is no mistake in it.
    let usual_model = overrides.usual_model.or(Some(crewfile::STAND_IN.to_owned()));
    Ok(crew::load_prompt(&project, &inside, &[], &Overrides { usual_model, ..overrides }))
}

/// `crew.toml` and `crews/*.toml` of a folder.
pub(super) fn crews(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let own = folder.join("crew.toml");
    let entries = std::fs::read_dir(folder.join("crews")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "toml")).collect();
    found.sort();
    if own.is_file() {
        found.insert(0, own);
    }
    if found.is_empty() {
        return Err(Failure::usage(format!("there is no crew.toml and no crews/*.toml in {}", folder.display()))
            .hint("name a crew file: bosun check PATH")
            .hint("or begin with one that works: bosun new NAME"));
    }
    Ok(found)
}
