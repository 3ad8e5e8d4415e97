//! A prompt file run as a crew of one. Invariant: it becomes the crew that its author would have
//! written, by way of the same tables and the same checks, and that crew is pinned with it.

use std::collections::BTreeMap;

use super::problem::{At, Problem};
use super::prompts::front;
use super::{LoadOptions, Loaded, Loader, Source, load};
use crate::core::builtin;
use crate::core::ids::Name;

/// `run prompts/x.md`: one agent with this prompt, one task, and the prompt's inputs as the crew's.
/// `given` are the names of the inputs on the command line, true for those whose value is a file.
/// Resume reads the pinned crew file `<x>.solo.toml` with [`load`].
pub fn load_prompt(source: &dyn Source, path: &str, given: &[(String, bool)], options: &LoadOptions<'_>) -> Loaded {
    let mut loader = Loader::new(source, options);
    let inside = path.strip_prefix("prompts/").and_then(|path| path.strip_suffix(".md"));
    let Some(prompt) = inside else {
        let problem = Problem::error("E0401", &At::file(path), "a prompt that is run is a .md file inside `prompts`");
        loader.report(problem.help("move it there, or write a crew file that names it"));
        return loader.finish(None);
    };
    let Some(text) = super::files::text(&mut loader, path, &At::file(path), "E0101") else {
        return loader.finish(None);
    };
    let (front, _) = front(&mut loader, &path.into(), &text);
    let declared = front.texts("inputs").into_iter().filter(|(name, _)| !name.ends_with('?'));
    let mut inputs: BTreeMap<String, bool> = declared.map(|(name, _)| (name.to_owned(), false)).collect();
    inputs.extend(given.iter().cloned());
    let mut stem: String = prompt.rsplit('/').next().unwrap_or(prompt).to_lowercase().replace(['-', ' ', '.'], "_");
    if Name::new(&stem).is_err() || super::form::RESERVED.contains(&stem.as_str()) || stem == "answer" {
        stem = "solo".to_owned();
    }
    let needs_files = inputs.values().any(|file| *file) && front.get("tools").is_none();
    let crew = crew(prompt, &stem, &inputs, needs_files, solo_text());
    let name = format!("{stem}.solo.toml");
    let mut loaded = load(&Beside { inner: source, path: &name, text: &crew }, &name, options);
    // Nobody has written the crew file, so nobody can mend it.
    for problem in loaded.problems.iter_mut().filter(|problem| problem.code == "E0106" && *problem.file == *name) {
        let help =
            "add --model openai/gpt-4.1-mini or --offline, set BOSUN_MODEL, or write `model` into its front matter";
        *problem = Problem::error("E0106", &At::file(path), "the prompt names no model").help(help);
    }
    loaded
}

/// What the task of a crew of one says.
fn solo_text() -> &'static str {
    builtin::ALL.iter().find(|(name, _)| *name == "solo").map_or("", |(_, text)| text)
}

fn crew(prompt: &str, stem: &str, inputs: &BTreeMap<String, bool>, files: bool, told: &str) -> String {
    // JSON strings of plain paths and names are TOML strings too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut out = format!("schema = 1\n\n[crew]\nname = {}\n", quoted(stem));
    let mut told = told.trim_end().to_owned();
    for (name, file) in inputs {
        let kind = if *file { "path" } else { "string" };
        out.push_str(&format!("\n[inputs.{name}]\ntype = \"{kind}\"\n"));
        // A path may hold spaces: its ends are marked.
        let mark = if *file { "`" } else { "" };
        told.push_str(&format!("\n{name}: {mark}{{{{ {name} }}}}{mark}"));
    }
    out.push_str(&format!("\n[agents.{stem}]\nprompt = {}\n", quoted(prompt)));
    if files {
        out.push_str("tools = [\"files.read\"]\n");
    }
    out.push_str(&format!("\n[tasks.answer]\nagent = {}\ndescription = {}\n", quoted(stem), quoted(&told)));
    out
}

/// A source with one more file.
struct Beside<'a> {
    inner: &'a dyn Source,
    path: &'a str,
    text: &'a str,
}

impl Source for Beside<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        if path == self.path { Ok(self.text.as_bytes().to_vec()) } else { self.inner.read(path) }
    }
    fn exists(&self, path: &str) -> bool {
        path == self.path || self.inner.exists(path)
    }
    fn list(&self, folder: &str) -> Vec<String> {
        self.inner.list(folder)
    }
}
