//! The demo's own processes. Invariant: a child is this very program in the demo's project, with none
//! of the user's settings, and none outlives the demo.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::Requests;
use crate::adapters::models::secrets::Env;
use crate::cli::Context;
use crate::cli::failure::{Exit, Failure};
use crate::cli::wiring::{DEMO_COUNT, DEMO_DRILL, DEMO_WAY};

/// How long the stand-in takes for an answer: long enough to be killed in.
pub const DELAY_MS: u64 = 250;
/// How long a request is on its way to it, before it has all of it.
const WAY_MS: u64 = 200;
/// How often the list of requests is looked at.
const EVERY: Duration = Duration::from_millis(2);
/// Longer than any stay takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How processes of the demo are started.
pub struct Child {
    program: PathBuf,
    root: PathBuf,
    env: BTreeMap<String, String>,
    count_file: PathBuf,
}

/// A process that has ended.
pub struct Stay {
    /// `None`: by a signal.
    pub code: Option<i32>,
    /// What it printed on stdout.
    pub result: String,
    /// And on stderr.
    pub said: String,
}

/// The user's environment without Bosun's settings and without a user file.
pub fn environment(context: &Context, root: &Path) -> Env {
    let mut env = Env::clone(&context.env);
    env.retain(|name, _| !name.starts_with("BOSUN_"));
    env.insert("XDG_CONFIG_HOME".to_owned(), root.join("config").display().to_string());
    env
}

fn failed(what: &str, why: &std::io::Error) -> Failure {
    Failure::new(Exit::Internal, format!("{what}: {why}"))
}

impl Child {
    /// `count` names the provider's list of requests, in the project.
    pub fn new(context: &Context, root: &Path, count: &str, delay_ms: u64) -> Result<Child, Failure> {
        let program = std::env::current_exe().map_err(|why| failed("this program's own path", &why))?;
        let count_file = root.join(format!("{count}.log"));
        let mut env: BTreeMap<String, String> = environment(context, root).into_iter().collect();
        env.insert(DEMO_COUNT.to_owned(), count_file.display().to_string());
        env.insert("BOSUN_OFFLINE_DELAY_MS".to_owned(), delay_ms.to_string());
        let way_ms = if delay_ms > 0 { WAY_MS } else { 0 };
        env.insert(DEMO_WAY.to_owned(), way_ms.to_string());
        env.insert("NO_COLOR".to_owned(), "1".to_owned());
        Ok(Child { program, root: root.to_owned(), env, count_file })
    }

    /// What the provider has seen so far.
    pub fn requests(&self) -> Result<Requests, Failure> {
        match std::fs::read_to_string(&self.count_file) {
            Ok(text) => Ok(Requests::parse(&text)),
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Requests::default()),
            Err(why) => Err(failed("the provider's list of requests", &why)),
        }
    }

    fn spawn(&self, args: &[&str], drill: Option<&str>) -> Result<Running, Failure> {
        let (out, err) = (self.root.join("stdout.txt"), self.root.join("stderr.txt"));
        let file = |path: &Path| File::create(path).map_err(|why| failed("the child's output", &why));
        let mut command = Command::new(&self.program);
        command.args(args).current_dir(&self.root).env_clear().envs(&self.env).stdin(Stdio::null());
        command.stdout(file(&out)?).stderr(file(&err)?);
        if let Some(step) = drill {
            command.env(DEMO_DRILL, step);
        }
        let child = command.spawn().map_err(|why| failed("a process cannot be started", &why))?;
        Ok(Running { child, out, err, until: Instant::now() + PATIENCE })
    }

    /// Runs to its end.
    pub fn run(&self, args: &[&str]) -> Result<Stay, Failure> {
        self.spawn(args, None)?.end()
    }

    /// Runs to its end; the agent of `step` panics once on the way.
    pub fn panicking(&self, args: &[&str], step: &str) -> Result<Stay, Failure> {
        self.spawn(args, Some(step))?.end()
    }

    /// Runs until a call of `step` is all that the journal has open, then kills the process: the request has left, and
    /// the provider has not got all of it. Gives the call, and whether that is so by its own list. `open` are the
    /// calls that the journal has open.
    pub fn until_on_its_way(
        &self,
        args: &[&str],
        step: &str,
        open: impl Fn() -> Result<Vec<String>, Failure>,
    ) -> Result<(String, bool), Failure> {
        let mut running = self.spawn(args, None)?;
        loop {
            let of_step = |call: &String| call.rsplit_once('.').is_some_and(|(of, _)| of == step);
            if let [call] = open()?.as_slice()
                && of_step(call)
            {
                running.kill()?;
                return Ok((call.clone(), !self.requests()?.begun.contains(call)));
            }
            if running.has_ended()? {
                return Err(not_seen(step, &running.end()?));
            }
            std::thread::sleep(EVERY);
        }
    }

    /// Runs until a call of `step` is all that the provider has begun and not answered, then kills the
    /// process (SIGKILL). Gives the call.
    pub fn until_in_call(&self, args: &[&str], step: &str) -> Result<String, Failure> {
        let mut running = self.spawn(args, None)?;
        // What was open when the last process died stays open for the provider.
        let before = self.requests()?.begun.len();
        loop {
            let requests = self.requests()?;
            let open: Vec<&String> =
                requests.begun.iter().skip(before).filter(|call| !requests.is_done(call)).collect();
            if let [call] = open.as_slice()
                && call.rsplit_once('.').is_some_and(|(of, _)| of == step)
            {
                let call = (*call).clone();
                running.kill()?;
                return Ok(call);
            }
            if running.has_ended()? {
                return Err(not_seen(step, &running.end()?));
            }
            std::thread::sleep(EVERY);
        }
    }
}

fn not_seen(step: &str, stay: &Stay) -> Failure {
    let why = format!("not as promised: the process ended before a call of {step} was seen");
    Failure::new(Exit::Internal, format!("{why}\n{}", stay.said.trim_end()))
}

struct Running {
    child: std::process::Child,
    out: PathBuf,
    err: PathBuf,
    until: Instant,
}

impl Running {
    fn has_ended(&mut self) -> Result<bool, Failure> {
        let ended = self.child.try_wait().map_err(|why| failed("a process", &why))?.is_some();
        if !ended && Instant::now() > self.until {
            self.kill()?;
            let why = format!("not as promised: a process was not done within {} s", PATIENCE.as_secs());
            return Err(Failure::new(Exit::Internal, why));
        }
        Ok(ended)
    }
    fn kill(&mut self) -> Result<(), Failure> {
        let killed = self.child.kill().and_then(|()| self.child.wait());
        killed.map(drop).map_err(|why| failed("a process cannot be killed", &why))
    }
    fn end(mut self) -> Result<Stay, Failure> {
        while !self.has_ended()? {
            std::thread::sleep(EVERY);
        }
        let status = self.child.wait().map_err(|why| failed("a process", &why))?;
        let text = |path: &Path| std::fs::read_to_string(path).map_err(|why| failed("the child's output", &why));
        Ok(Stay { code: status.code(), result: text(&self.out)?, said: text(&self.err)? })
    }
}

impl Drop for Running {
    /// Whatever goes wrong, no process of the demo stays behind.
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
