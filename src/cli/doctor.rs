//! `doctor`: is this machine fit to run crews, and one crew in particular? Invariant: it changes nothing, prints
//! no key, and asks a provider only with `--online`, and then only for what no provider bills.

mod machine;
mod models;

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::failure::{Exit, Failure, Outcome};
use super::open::Project;
use super::out::Tone;
use super::screen::{clean, count, wrap};
use super::{Context, crew, login};
use crate::adapters::crewfile::{self, Loaded, Severity};
use crate::adapters::mcp::Standing;
use crate::adapters::settings::Flags;
use crate::core::crew::Overrides;

#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Also look at what this crew needs: a crew file, a folder with crew.toml, or a role prompt
    #[arg(value_name = "CREW")]
    pub crew: Option<PathBuf>,
    /// Ask each provider for its list of models: one request that no provider bills
    #[arg(long)]
    pub online: bool,
    /// One JSON object per line [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Ok,
    /// True, and nothing to do.
    Note,
    /// May surprise.
    Warn,
    /// A run would fail, with this exit code.
    Bad(Exit),
}

impl Level {
    fn exit(self) -> Option<Exit> {
        match self {
            Level::Ok | Level::Note | Level::Warn => None,
            Level::Bad(exit) => Some(exit),
        }
    }
    fn word(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Note => "note",
            Level::Warn => "warn",
            Level::Bad(_) => "BAD",
        }
    }
    fn tone(self) -> Tone {
        match self {
            Level::Ok => Tone::Good,
            Level::Note => Tone::Dim,
            Level::Warn => Tone::Warn,
            Level::Bad(_) => Tone::Bad,
        }
    }
}

/// One line of the report.
struct Finding {
    level: Level,
    /// What was looked at: `key`, `price`, `store`.
    check: &'static str,
    /// Which one: a provider, a model, a folder.
    of: String,
    says: String,
}

/// The report so far.
#[derive(Default)]
struct Report(Vec<Finding>);

impl Report {
    fn say(&mut self, level: Level, check: &'static str, of: impl Into<String>, says: impl Into<String>) {
        self.0.push(Finding { level, check, of: of.into(), says: clean(&says.into()) });
    }
}

pub fn doctor(context: &Context, args: DoctorArgs) -> Outcome {
    let (project, loaded) = match &args.crew {
        None => (Project::here(context)?, None),
        Some(path) => {
            let path = context.cwd.join(path);
            if !path.exists() {
                return Err(Failure::usage(format!("there is no crew {}", path.display())));
            }
            let project = Project::at(context, crewfile::project_root(&path), Flags::new())?;
            let loaded = load(context, &project, &path)?;
            (project, Some(loaded))
        }
    };
    let mut report = Report::default();
    machine::settings(context, &project, &mut report);
    machine::terminal(context, &mut report);
    machine::store(&project, &mut report);
    models::table(&mut report);
    if let Some(loaded) = &loaded {
        crew_file(loaded, args.crew.as_deref(), &mut report);
        logins(context, &project, loaded, &mut report);
    }
    let specs = models::providers(context, &project, loaded.as_ref(), &mut report)?;
    if let Some(loaded) = &loaded {
        models::prices(loaded, &mut report);
    }
    if args.online {
        models::online(context, &specs, loaded.as_ref(), &mut report)?;
    }
    print(context, &report, args.json);
    let exits: Vec<Exit> = report.0.iter().filter_map(|finding| finding.level.exit()).collect();
    // What keeps a run from starting comes first.
    let order = [Exit::State, Exit::Crew, Exit::Credentials];
    let worst = order.into_iter().find(|exit| exits.contains(exit)).or(exits.first().copied());
    Ok(worst.unwrap_or(Exit::Done))
}

fn load(context: &Context, project: &Project, path: &Path) -> Result<Loaded, Failure> {
    let inside = crew::place(&project.root, &context.cwd, path)?;
    let overrides = Overrides { usual_model: project.settings.model.clone(), ..Overrides::default() };
    Ok(if inside.ends_with(".md") {
        crew::load_prompt(project, &inside, &[], &overrides)
    } else {
        crew::load(project, &inside, &overrides)
    })
}

fn crew_file(loaded: &Loaded, path: Option<&Path>, report: &mut Report) {
    let name = path.map(|path| path.display().to_string()).unwrap_or_default();
    let errors = loaded.problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    if errors > 0 {
        let says = format!("{}: bosun check {name}", count(errors as u64, "error"));
        return report.say(Level::Bad(Exit::Crew), "crew", name, says);
    }
    let Some(crew) = &loaded.crew else { return };
    let caps = crew.budget.caps.usd.map(super::screen::cap).unwrap_or_else(|| "no limit".to_owned());
    let day = crew.budget.per_day.map(|usd| format!(", {} a day (UTC) over all its runs", super::screen::cap(usd)));
    let says = format!("sound; cap {caps} a run ({}){}", crew.budget.origin, day.unwrap_or_default());
    report.say(Level::Ok, "crew", name, says);
}

/// The logins at the crew's MCP servers.
fn logins(context: &Context, project: &Project, loaded: &Loaded, report: &mut Report) {
    for server in &loaded.servers {
        let Some(standing) = login::look(project, context, server) else { continue };
        let (level, says) = match standing {
            Ok(Standing::None | Standing::Over(_)) | Err(_) => (Level::Bad(Exit::Credentials), standing),
            Ok(Standing::Here { .. }) => (Level::Ok, standing),
        };
        let command = if level == Level::Ok { String::new() } else { format!(": bosun tools login {}", server.name) };
        let says = match says {
            Ok(standing) => format!("{}{command}", login::words(&standing)),
            Err(why) => why,
        };
        report.say(level, "login", server.name.clone(), says);
    }
}

fn print(context: &Context, report: &Report, json: bool) {
    let out = &context.out;
    if json {
        for finding in &report.0 {
            let Finding { level, check, of, says } = finding;
            let exit = level.exit().map(Exit::code);
            let level = level.word().to_lowercase();
            let line = json!({"v": 1, "check": check, "of": of, "level": level, "exit": exit, "says": says});
            out.line(&line.to_string());
        }
        return;
    }
    let wide = |of: fn(&Finding) -> &str| report.0.iter().map(|f| of(f).chars().count()).max().unwrap_or(0);
    let (checks, names) = (wide(|f| f.check), wide(|f| &f.of).min(32));
    for Finding { level, check, of, says } in &report.0 {
        let head = format!("{:<4}  {check:<checks$}  {of:<names$}  ", level.word());
        let hang = 10 + checks + names;
        for (n, line) in wrap(says, context.columns().saturating_sub(hang).max(20), 0).iter().enumerate() {
            let lead = if n == 0 { out.paint(level.tone(), &head) } else { " ".repeat(hang) };
            out.line(format!("{lead}{line}").trim_end());
        }
    }
    let number = |wanted: fn(Level) -> bool| report.0.iter().filter(|finding| wanted(finding.level)).count() as u64;
    let (bad, warn) = (number(|level| level.exit().is_some()), number(|level| level == Level::Warn));
    out.note(&match (bad, warn) {
        (0, 0) => "all is well; nothing was changed".to_owned(),
        (0, warn) => format!("{}; nothing was changed", count(warn, "warning")),
        (bad, warn) => format!("{}, {}; nothing was changed", count(bad, "problem"), count(warn, "warning")),
    });
}
