//! `tools`: what agents may call, and calling it by hand. Invariant: a tool that is called here is the one
//! that a run would call, with the same folders and limits; no run and no model is part of it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::failure::{Exit, Failure, Outcome};
use super::open::{Project, now_ms};
use super::people::near;
use super::screen::{Side, Table, clean, wrap};
use super::wiring::{Servers, toolbox};
use super::{Context, approve, crew, drive, login};
use crate::adapters::crewfile::{self, Loaded};
use crate::adapters::sizes::O200k;
use crate::adapters::tools::builtin_specs;
use crate::core::chat::{Effect, ToolSpec};
use crate::core::crew::{ASK_HUMAN, Approval, Overrides, ToolDef, ToolPlaces, ToolSource};
use crate::core::interrupt::words;
use crate::core::machine::Sizes;
use crate::core::money::{NanoUsd, grouped};
use crate::core::nearest::nearest;
use crate::core::schema::Schema;
use crate::ports::tool::{ToolCall, ToolOutcome};

#[derive(Clone, Debug, Subcommand)]
pub enum ToolsCommand {
    /// The builtins, and with CREW what its agents and tasks have beside them
    List {
        /// A crew file, or a folder with crew.toml
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
        #[command(flatten)]
        print: Print,
    },
    /// What a model is told of a tool, its arguments, effect and limits
    Show {
        /// files.read, or the name of a [tools.N] table
        #[arg(value_name = "NAME")]
        name: String,
        /// A crew file, or a folder with crew.toml
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
        #[command(flatten)]
        print: Print,
    },
    /// Call a tool once, outside any run
    Call {
        /// files.read, or the name of a [tools.N] table
        #[arg(value_name = "NAME")]
        name: String,
        /// A crew file, or a folder with crew.toml
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
        /// The arguments, a JSON object
        #[arg(long, value_name = "JSON", default_value = "{}")]
        args: String,
        /// Call it even if its effect must not happen twice
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        print: Print,
    },
    /// Look at what MCP servers say of their tools now, and write it to bosun.lock
    Approve {
        /// The name of a [tools.N] table of kind mcp; all of them unless stated
        #[arg(value_name = "SERVER")]
        server: Option<String>,
        /// A crew file, or a folder with crew.toml; crew.toml and every crews/*.toml unless stated
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
    },
    /// Log in at an MCP server with a `url`: prints an address to open in a browser, keeps the login in the state folder
    Login {
        /// The name of a [tools.N] table of kind mcp
        #[arg(value_name = "SERVER")]
        server: String,
        /// A crew file, or a folder with crew.toml; crew.toml and every crews/*.toml unless stated
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
    },
    /// Forget the login at an MCP server
    Logout {
        /// The name of a [tools.N] table of kind mcp
        #[arg(value_name = "SERVER")]
        server: String,
        /// A crew file, or a folder with crew.toml; crew.toml and every crews/*.toml unless stated
        #[arg(value_name = "CREW")]
        crew: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, Args)]
pub struct Print {
    /// As JSON, one object per line [env: BOSUN_JSON]
    #[arg(long, env = "BOSUN_JSON", hide_env = true, value_parser = clap::builder::FalseyValueParser::new())]
    pub json: bool,
}

pub fn tools(context: &Context, command: ToolsCommand) -> Outcome {
    match command {
        ToolsCommand::List { crew, print } => list(context, &open(context, crew.as_deref())?, print.json),
        ToolsCommand::Show { name, crew, print } => show(context, &open(context, crew.as_deref())?, &name, print.json),
        ToolsCommand::Call { name, crew, args, yes, print } => {
            call(context, &open(context, crew.as_deref())?, &name, &args, yes, print.json)
        }
        ToolsCommand::Approve { server, crew } => approve::approve(context, server.as_deref(), crew.as_deref()),
        ToolsCommand::Login { server, crew } => login::login(context, &server, crew.as_deref()),
        ToolsCommand::Logout { server, crew } => login::logout(context, &server, crew.as_deref()),
    }
}

/// A project, and the crew whose tools are meant.
struct Shop {
    project: Project,
    loaded: Option<Loaded>,
}

/// A tool with where it comes from.
struct Known {
    spec: ToolSpec,
    from: String,
    places: ToolPlaces,
    max_calls: Option<u64>,
    cost: NanoUsd,
    approval: Approval,
}

fn open(context: &Context, path: Option<&Path>) -> Result<Shop, Failure> {
    let Some(path) = path else { return Ok(Shop { project: Project::here(context)?, loaded: None }) };
    let full = context.cwd.join(path);
    let flags = crate::adapters::settings::Flags::new();
    let project = Project::at(context, crewfile::project_root(&full), flags)?;
    let inside = crew::place(&project.root, &context.cwd, path)?;
    let overrides = Overrides { usual_model: project.settings.model.clone(), ..Overrides::default() };
    let loaded = crew::load(&project, &inside, &overrides);
    if loaded.crew.is_none() {
        context.out.err(&crewfile::text(&loaded, context.out.err_is_colored(), context.err_columns()));
        let message = format!("the crew {} cannot be read; nothing was called", clean(&path.display().to_string()));
        return Err(Failure::new(Exit::Crew, message).hint(format!("bosun check {}", path.display())));
    }
    for server in &loaded.unpinned {
        let server = clean(server);
        context.out.note(&format!("note: nothing is known of the server {server} yet: bosun tools approve {server}"));
    }
    Ok(Shop { project, loaded: Some(loaded) })
}

impl Shop {
    /// The builtins, then what the crew's agents and tasks have beside them.
    fn all(&self) -> Vec<Known> {
        let crew = self.loaded.as_ref().and_then(|loaded| loaded.crew.as_ref());
        let tables = crew.into_iter().flat_map(|crew| crew.tools.values().map(move |def| (def, &crew.file)));
        let own = tables.filter(|(def, _)| own(def)).map(|(def, file)| stated(def, file));
        builtin_specs().into_iter().map(plain).chain(own).collect()
    }
    fn find(&self, name: &str) -> Result<Known, Failure> {
        let all = self.all();
        let near = nearest(name, all.iter().map(|known| known.spec.name.as_str())).map(str::to_owned);
        if let Some(known) = all.into_iter().find(|known| known.spec.name == name) {
            return Ok(known);
        }
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        let failure = Failure::usage(format!("there is no tool `{}`{near}", clean(name)));
        Err(match self.loaded {
            Some(_) => {
                failure.hint("of a crew's tables those count that an agent or a task names: bosun tools list CREW")
            }
            None => failure.hint("bosun tools list; name the crew for a tool of its own: bosun tools show NAME CREW"),
        })
    }
}

fn own(def: &ToolDef) -> bool {
    match &def.source {
        ToolSource::Builtin { name, places } => *name != def.spec.name || *places != ToolPlaces::default(),
        ToolSource::Command { .. } | ToolSource::Http(_) | ToolSource::Mcp { .. } => true,
    }
}

fn plain(spec: ToolSpec) -> Known {
    Known {
        spec,
        from: "builtin".to_owned(),
        places: ToolPlaces::default(),
        max_calls: None,
        cost: NanoUsd::ZERO,
        approval: Approval::default(),
    }
}

fn stated(def: &ToolDef, file: &str) -> Known {
    let mut table = def.spec.name.as_str();
    let (what, places) = match &def.source {
        ToolSource::Mcp { server, .. } => {
            table = &server.name;
            (format!("server {}", server.link.short()), ToolPlaces::default())
        }
        ToolSource::Builtin { name, places } => (name.clone(), places.clone()),
        ToolSource::Command { argv, .. } => {
            (format!("command {}", argv.first().map_or("", String::as_str)), ToolPlaces::default())
        }
        ToolSource::Http(call) => {
            let places = ToolPlaces { net: call.net.clone(), ..ToolPlaces::default() };
            (format!("{} {}", call.method, call.url), places)
        }
    };
    let from = format!("{what}, [tools.{table}] in {file}");
    let (spec, approval) = (def.spec.clone(), def.approval.clone());
    Known { spec, from, places, max_calls: def.max_calls, cost: def.cost_per_call, approval }
}

fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Read => "read",
        Effect::Idempotent => "idempotent",
        Effect::Once => "once",
    }
}

impl Known {
    /// Which of its calls need a person.
    fn asks(&self) -> Option<String> {
        let when = self.approval.when.as_ref().map(|when| format!("when {}", when.0));
        match self.spec.name.as_str() {
            ASK_HUMAN => Some("a question".to_owned()),
            _ if self.approval.always => Some("always".to_owned()),
            _ => when,
        }
    }
    fn folders(&self) -> Vec<(&'static str, &[String])> {
        let of = &self.places;
        let all = [("read", &of.read), ("write", &of.write), ("from", &of.from), ("to", &of.to), ("net", &of.net)];
        all.into_iter().filter(|(_, list)| !list.is_empty()).map(|(key, list)| (key, list.as_slice())).collect()
    }
    fn json(&self) -> Value {
        json!({
            "name": self.spec.name,
            "description": self.spec.description,
            "effect": effect(self.spec.effect),
            "from": self.from,
            "timeout_ms": self.spec.timeout_ms,
            "max_result": self.spec.max_result,
            "max_calls": self.max_calls,
            "cost_per_call": self.cost.to_string(),
            "approval": self.asks(),
            "folders": self.folders().into_iter().map(|(key, list)| (key.to_owned(), json!(list))).collect::<serde_json::Map<_, _>>(),
            "parameters": self.spec.parameters,
        })
    }
}

fn list(context: &Context, shop: &Shop, json: bool) -> Outcome {
    let all = shop.all();
    if json {
        all.iter().for_each(|known| context.out.line(&known.json().to_string()));
        return Ok(Exit::Done);
    }
    let heads =
        [("NAME", Side::Left, 0), ("EFFECT", Side::Left, 0), ("APPROVAL", Side::Left, 2), ("FROM", Side::Left, 1)];
    let mut table = Table::new(&heads);
    for known in all {
        let asks = known.asks().map_or_else(|| "-".to_owned(), |asks| clean(&asks));
        table.row(vec![clean(&known.spec.name), effect(known.spec.effect).to_owned(), asks, clean(&known.from)]);
    }
    context.table(&table);
    Ok(Exit::Done)
}

fn show(context: &Context, shop: &Shop, name: &str, json: bool) -> Outcome {
    let known = shop.find(name)?;
    if json {
        context.out.line(&known.json().to_string());
        return Ok(Exit::Done);
    }
    let columns = context.columns();
    let line = |text: &str, hang: usize| wrap(text, columns, hang).iter().for_each(|line| context.out.line(line));
    line(&format!("{}: {}", clean(name), clean(&known.spec.description)), 2);
    let field = |label: &str, text: &str| {
        let lines = wrap(&clean(text), columns.saturating_sub(9).max(1), 0);
        for (at, text) in lines.iter().enumerate() {
            context.out.line(&format!("{:<9}{text}", if at == 0 { label } else { "" }));
        }
    };
    let means = match known.spec.effect {
        Effect::Read => "read: changes nothing, may be repeated",
        Effect::Idempotent => "idempotent: repeated with the same key it happens once",
        Effect::Once => "once: never repeated by itself; after a crash a person is asked",
    };
    field("effect", means);
    field("from", &known.from);
    let open = known.approval.expires_ms.map(|ms| format!(", open for {}", words(ms))).unwrap_or_default();
    known.asks().into_iter().for_each(|asks| field("approval", &format!("{asks}{open}")));
    let calls = known.max_calls.map(|most| format!(", {} per run", grouped(most))).unwrap_or_default();
    let cost = if known.cost == NanoUsd::ZERO { String::new() } else { format!(", ${} per call", known.cost) };
    let (time, most) = (known.spec.timeout_ms, grouped(known.spec.max_result));
    let seconds = if time % 1000 == 0 { format!("{} s", time / 1000) } else { format!("{time} ms") };
    field("limits", &format!("{seconds} per call, {most} tokens of a result{calls}{cost}"));
    for (key, list) in known.folders() {
        field(key, &list.join(", "));
    }
    context.out.line("arguments");
    let schema = serde_json::to_string_pretty(&known.spec.parameters).unwrap_or_default();
    for text in schema.lines() {
        let indent = text.len() - text.trim_start().len() + 4;
        line(&format!("  {text}"), indent);
    }
    Ok(Exit::Done)
}

fn call(context: &Context, shop: &Shop, name: &str, args: &str, yes: bool, json: bool) -> Outcome {
    let known = shop.find(name)?;
    let shown = clean(name);
    let wrong = |why: String| {
        Failure::usage(format!("--args of {shown}: {why}; nothing was called"))
            .hint(format!("bosun tools show {shown}"))
    };
    let value: Value = serde_json::from_str(args).map_err(|why| wrong(format!("expected a JSON object: {why}")))?;
    let schema = Schema::new(known.spec.parameters.clone()).map_err(wrong)?;
    schema.check(&value).map_err(wrong)?;
    let Value::Object(arguments) = value else { return Err(wrong("expected a JSON object".to_owned())) };
    if known.spec.effect == Effect::Once && !yes {
        return Err(Failure::usage(format!(
            "{shown} has effect `once`: what it does cannot be taken back; nothing was called"
        ))
        .hint("say --yes if it is to happen"));
    }
    let crew = shop.loaded.as_ref().and_then(|loaded| loaded.crew.as_deref());
    let servers = Servers::new(&shop.project, context.env.clone());
    let tools = toolbox(&shop.project.root, crew, &context.env, &servers)?;
    let tool = tools.get(name).ok_or_else(|| Failure::new(Exit::Internal, format!("{shown} is in no tool box")))?;
    let key = format!("by-hand-{}-{}", std::process::id(), now_ms());
    let outcome = drive::block_on(async {
        // A tool that is dropped stops what it has started; a process that just died would not.
        let outcome = tokio::select! {
            outcome = tool.call_near(ToolCall { arguments, idempotency_key: key }, near(context)) => Ok(outcome),
            _ = tokio::signal::ctrl_c() => {
                Err(Failure::new(Exit::Interrupted, format!("{shown} was stopped; it may have happened in part")))
            }
        };
        servers.stop().await;
        outcome
    })?;
    let (word, text) = match &outcome {
        ToolOutcome::Ok(text) => ("ok", text),
        ToolOutcome::Error(text) => ("error", text),
        ToolOutcome::Unknown(text) => ("unknown", text),
    };
    // Before it is laid out, which may spell a secret otherwise.
    let text = &*context.out.secrets().hide(text);
    let tokens = O200k::new().tokens(text);
    if json {
        context.out.line(&json!({ "tool": name, "outcome": word, "result": text, "tokens": tokens }).to_string());
    } else if word == "ok" {
        context.out.result(text);
    }
    if tokens > known.spec.max_result && word == "ok" {
        let (tokens, most) = (grouped(tokens), grouped(known.spec.max_result));
        context.out.note(&format!("note: {tokens} tokens; a model is shown {most} of them (max_result)"));
    }
    match outcome {
        ToolOutcome::Ok(_) => Ok(Exit::Done),
        ToolOutcome::Error(_) => Err(Failure::new(Exit::Task, format!("{shown}: {}", clean(text)))),
        ToolOutcome::Unknown(_) => {
            let failure = Failure::new(Exit::Task, format!("{shown}: {}; it may have happened", clean(text)));
            Err(failure.hint("look at what it should have changed before you call it again"))
        }
    }
}
