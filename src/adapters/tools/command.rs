//! Tools of kind `command`: a program of the user's own. Invariant: no shell reads anything; an argument
//! is one element of argv or a part of one; when the call ends, however it ends, its process group is gone.
//!
//! A process that leaves the group (`setsid`) is out of reach here: only a pid namespace holds it.
//! Isolation is the crew file's business: it must have said `isolation = "none"` before a spec gets here.

mod pipes;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

use super::ansi::plain;
use super::template::Template;
use crate::core::chat::{Effect, ToolSpec};
use crate::ports::BoxFuture;
use crate::ports::tool::{Tool, ToolCall, ToolOutcome};
use pipes::Pipes;

/// Bytes of standard output that are kept.
const OUTPUT_MOST: usize = 1 << 20;
/// Bytes of standard error that an error shows, from its end.
const STDERR_TAIL: usize = 4 << 10;
/// How long output may still come after the program has ended and its group was killed: it can only
/// come from a process that has left the group.
const DRAIN: Duration = Duration::from_millis(500);
/// Variables that a program gets besides those its table names.
const BASE_ENV: [&str; 3] = ["PATH", "HOME", "LANG"];

/// A `[tools.N]` table of kind `command`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandSpec {
    pub spec: ToolSpec,
    /// The program and its arguments. `{name}` stands for an argument of the call, `{{` and `}}` for
    /// braces; the program itself takes none. An optional argument that is not given takes its whole
    /// element with it, or is nothing within a larger one; lists and tables are JSON text. A value is
    /// passed as it is even if it begins with `-`: write `"--name={name}"`, or `"--"` before it.
    pub argv: Vec<String>,
    /// Names of variables that are passed on, if they are set.
    pub env: Vec<String>,
    /// Where it runs: the project root. A program with a `/` in its name is found from here.
    pub cwd: PathBuf,
}

pub(super) struct Command {
    spec: ToolSpec,
    program: PathBuf,
    arguments: Vec<Template>,
    env: Vec<String>,
    cwd: PathBuf,
}

fn element(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|why| format!("command element {why}"))
}

impl Command {
    /// Checks that every placeholder is an argument of the schema.
    pub(super) fn new(from: CommandSpec) -> Result<Command, String> {
        let CommandSpec { spec, argv, env, cwd } = from;
        let Some((program, rest)) = argv.split_first().filter(|(program, _)| !program.is_empty()) else {
            return Err("`command` is empty; its first element is the program to run".to_owned());
        };
        let program = element(program)?.constant().ok_or_else(|| {
            format!("the program `{program}` holds a placeholder; the program is fixed, only arguments vary")
        })?;
        let arguments = rest.iter().map(|text| element(text)).collect::<Result<Vec<_>, _>>()?;
        let known = spec.parameters.get("properties").and_then(|all| all.as_object());
        for name in arguments.iter().flat_map(Template::names) {
            if !known.is_some_and(|known| known.contains_key(name)) {
                return Err(format!(
                    "placeholder `{{{name}}}` is no argument of the tool's schema; add it to `schema`"
                ));
            }
        }
        let program = if program.contains('/') { cwd.join(&program) } else { PathBuf::from(program) };
        Ok(Command { spec, program, arguments, env, cwd })
    }

    fn start(&self, call: &ToolCall) -> Result<(Child, Group), String> {
        let mut command = tokio::process::Command::new(&self.program);
        for argument in &self.arguments {
            command.args(argument.fill(&call.arguments)?);
        }
        command.env_clear().current_dir(&self.cwd).process_group(0).kill_on_drop(true);
        for name in BASE_ENV.into_iter().chain(self.env.iter().map(String::as_str)) {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.env("BOSUN_IDEMPOTENCY_KEY", &call.idempotency_key);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let shown = self.program.display();
        let child = command.spawn().map_err(|why| match why.kind() {
            std::io::ErrorKind::NotFound => format!("program `{shown}` was not found; install it or correct `command`"),
            _ => format!("program `{shown}` could not be started: {why}"),
        })?;
        let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
        Ok((child, group))
    }

    async fn run(&self, call: ToolCall) -> ToolOutcome {
        let input = serde_json::Value::Object(call.arguments.clone()).to_string();
        // `group` is declared after `child`, so it dies first: while the child is not reaped, its id is taken.
        let (mut child, mut group) = match self.start(&call) {
            Ok(started) => started,
            Err(why) => return ToolOutcome::Error(why),
        };
        let mut pipes = Pipes::new(&mut child, OUTPUT_MOST, STDERR_TAIL);
        let status = {
            let mut talk = std::pin::pin!(pipes.talk(input.as_bytes()));
            let (status, silent) = tokio::select! {
                status = child.wait() => (status, false),
                () = &mut talk => (child.wait().await, true),
            };
            group.kill();
            if !silent {
                // Late output is a courtesy: at the limit, what has come is the answer.
                let _ = tokio::time::timeout(DRAIN, talk).await;
            }
            status
        };
        self.outcome(status, &pipes)
    }

    fn outcome(&self, status: std::io::Result<ExitStatus>, pipes: &Pipes) -> ToolOutcome {
        let name = &self.spec.name;
        let stderr = plain(&String::from_utf8_lossy(&pipes.error()));
        let said = match stderr.trim() {
            "" => "it said nothing on standard error".to_owned(),
            text => format!("standard error:\n{text}"),
        };
        match status.map(|status| (status.success(), status.code(), status)) {
            Ok((true, _, _)) => ToolOutcome::Ok(self.text(pipes)),
            Ok((false, Some(code), _)) => ToolOutcome::Error(format!("{name} ended with exit code {code}; {said}")),
            Ok((false, None, status)) => self.undecided(format!("{name} was ended by {status}; {said}")),
            Err(why) => self.undecided(format!("{name}: its end could not be read: {why}; {said}")),
        }
    }

    /// Neither done nor refused: with effect `once` nobody knows whether it happened.
    fn undecided(&self, why: String) -> ToolOutcome {
        match self.spec.effect {
            Effect::Once => ToolOutcome::Unknown(why),
            Effect::Read | Effect::Idempotent => ToolOutcome::Error(why),
        }
    }

    fn text(&self, pipes: &Pipes) -> String {
        let mut text = plain(&String::from_utf8_lossy(pipes.output()));
        if pipes.output_bytes() > OUTPUT_MOST as u64 {
            text.push_str(&format!("\n[cut: the first {OUTPUT_MOST} of {} bytes]\n", pipes.output_bytes()));
        }
        if text.is_empty() { "[it printed nothing]\n".to_owned() } else { text }
    }
}

impl Tool for Command {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }
    fn call(&self, call: ToolCall) -> BoxFuture<'_, ToolOutcome> {
        Box::pin(async move {
            match tokio::time::timeout(Duration::from_millis(self.spec.timeout_ms), self.run(call)).await {
                Ok(outcome) => outcome,
                Err(_) => self.undecided(format!(
                    "{} took longer than {} ms and was killed with all it had started",
                    self.spec.name, self.spec.timeout_ms
                )),
            }
        })
    }
}

/// The process group of a call, killed at its end: what the program started in it dies with it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(group) = self.0.take() {
            // An empty group is the usual case after a clean end, and no error.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
