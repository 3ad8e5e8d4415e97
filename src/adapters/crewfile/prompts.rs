//! Prompt files and the templates of a crew file. Invariant: every template that was accepted knows
//! the place of its text, so that what is found in it later is shown there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::doc::{self, Node, Table};
use super::problem::{At, Problem};
use super::source::below;
use super::{Loader, files, keys, pasted, yaml};
use crate::core::builtin;
use crate::core::nearest::nearest;
use crate::core::template::{Builder, Fault, FaultKind, Fences, TemplateName};

/// Where a template's text stands.
#[derive(Clone, Debug)]
pub(super) struct Site {
    at: At,
    /// Bytes of the place before the text; `None` where escapes move it.
    skip: Option<usize>,
}

impl Site {
    pub fn place(&self, range: &std::ops::Range<usize>) -> At {
        self.skip.map_or_else(|| self.at.clone(), |skip| self.at.inner(skip, range))
    }
    /// The place of a string in a TOML file.
    pub fn of(loader: &Loader<'_>, node: &Node) -> Site {
        let text = loader.files.text(&node.at.file).unwrap_or_else(|_| Arc::from(""));
        let raw = text.get(node.at.span.start..node.at.span.end).unwrap_or_default();
        let skip = match raw {
            _ if raw.starts_with("\"\"\"\r\n") || raw.starts_with("'''\r\n") => 5,
            _ if raw.starts_with("\"\"\"\n") || raw.starts_with("'''\n") => 4,
            _ if raw.starts_with("\"\"\"") || raw.starts_with("'''") => 3,
            _ => 1,
        };
        let same = node.text().is_some_and(|value| raw.get(skip..).is_some_and(|rest| rest.starts_with(value)));
        Site { at: node.at.clone(), skip: same.then_some(skip) }
    }
}

/// The templates of one crew while it is made.
pub(super) struct Shelf {
    pub builder: Builder,
    sites: BTreeMap<TemplateName, Site>,
    fronts: BTreeMap<TemplateName, Table>,
    refused: BTreeSet<TemplateName>,
    /// Folder that holds `prompts/`.
    root: String,
}

pub(super) fn report(loader: &mut Loader<'_>, site: &Site, faults: Vec<Fault>) {
    for fault in faults {
        let code = match fault.kind {
            FaultKind::Syntax => "E0403",
            FaultKind::UnknownName => "E0402",
            FaultKind::UnknownField => "E0408",
            FaultKind::Type => "E0407",
        };
        loader.report(Problem::error(code, &site.place(&fault.range), fault.message).maybe_help(fault.help));
    }
}

impl Shelf {
    pub fn new(builder: Builder, root: String) -> Shelf {
        let (sites, fronts, refused) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Shelf { builder, sites, fronts, refused, root }
    }

    pub fn site(&self, name: &TemplateName) -> Option<&Site> {
        self.sites.get(name)
    }
    pub fn front(&self, name: &TemplateName) -> Option<&Table> {
        self.fronts.get(name)
    }

    /// Adds a template that stands in a TOML file.
    pub fn inline(
        &mut self,
        loader: &mut Loader<'_>,
        place: &str,
        node: &Node,
        fences: Fences,
    ) -> Option<TemplateName> {
        let name = TemplateName(format!("{} {place}", node.at.file).into());
        let site = Site::of(loader, node);
        self.add(loader, name, node.text()?, site, fences)
    }

    /// Adds a text that was put together; what is found in it is shown at `at`.
    pub fn made(&mut self, loader: &mut Loader<'_>, name: &str, text: &str, at: &At) -> Option<TemplateName> {
        let site = Site { at: at.clone(), skip: None };
        self.add(loader, TemplateName(name.into()), text, site, Fences::Put)
    }

    fn add(
        &mut self,
        loader: &mut Loader<'_>,
        name: TemplateName,
        text: &str,
        site: Site,
        fences: Fences,
    ) -> Option<TemplateName> {
        match self.builder.add(&name, text, fences) {
            Ok(includes) => {
                self.sites.insert(name.clone(), site.clone());
                for (path, range) in includes {
                    self.include(loader, &path, &site.place(&range), &mut vec![name.clone()]);
                }
                Some(name)
            }
            Err(faults) => {
                report(loader, &site, faults);
                None
            }
        }
    }

    /// The prompt file `path` (as in `prompt = `), read if it was not yet.
    pub fn prompt(&mut self, loader: &mut Loader<'_>, path: &str, at: &At) -> Option<TemplateName> {
        let name = self.named(loader, path, at)?;
        self.file(loader, &name, at, &mut Vec::new()).then_some(name)
    }

    /// The name of the prompt file `path`, if it stays inside the prompts.
    fn named(&self, loader: &mut Loader<'_>, path: &str, at: &At) -> Option<TemplateName> {
        let file = if path.ends_with(".md") { path.to_owned() } else { format!("{path}.md") };
        let Some(inside) = below("prompts", &file).filter(|inside| inside.starts_with("prompts/")) else {
            let message = format!("`{path}` is not inside the folder `prompts`");
            loader.report(Problem::error("E0406", at, message));
            return None;
        };
        Some(TemplateName(inside.into()))
    }

    pub fn exists(&self, loader: &Loader<'_>, path: &str) -> bool {
        below(&self.root, &format!("prompts/{path}.md")).is_some_and(|path| loader.files.exists(&path))
    }

    /// All prompt files below a folder of the prompts, as `prompt = ` names them.
    pub fn below(&self, loader: &Loader<'_>, folder: &str) -> Vec<String> {
        let Some(top) = below(&self.root, "prompts") else { return Vec::new() };
        let all = loader.files.list(&top).into_iter();
        let names =
            all.filter_map(|path| path.strip_prefix(&format!("{top}/"))?.strip_suffix(".md").map(str::to_owned));
        names.filter(|name| name.starts_with(folder)).collect()
    }

    /// The project's own versions of built-in prompts.
    pub fn replacements(&mut self, loader: &mut Loader<'_>) {
        for (name, _) in builtin::ALL {
            let path = format!("builtin/{name}");
            if self.exists(loader, &path) {
                self.prompt(loader, &path, &At::file(&format!("prompts/{path}.md")));
            }
        }
    }

    /// A built-in prompt, or the project's own in its place.
    pub fn builtin(&self, name: &str) -> TemplateName {
        let own = TemplateName(format!("prompts/builtin/{name}.md").into());
        if self.fronts.contains_key(&own) { own } else { builtin::template(name) }
    }

    /// The text of [`Shelf::builtin`].
    pub fn builtin_text(&self, loader: &Loader<'_>, name: &str) -> String {
        let shipped = || builtin::ALL.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text).to_owned();
        let own = self.sites.get(&self.builtin(name));
        let file = own.and_then(|site| Some((loader.files.text(&site.at.file).ok()?, site.at.span.start)));
        file.and_then(|(text, start)| text.get(start..).map(str::to_owned)).unwrap_or_else(shipped)
    }

    fn include(&mut self, loader: &mut Loader<'_>, name: &TemplateName, at: &At, stack: &mut Vec<TemplateName>) {
        let path = name.0.strip_prefix("prompts/").unwrap_or(&name.0).to_owned();
        if below("prompts", &path).as_deref() != Some(&*name.0) {
            let message = format!("`{path}` is not the plain path of a prompt inside the folder `prompts`");
            return loader.report(Problem::error("E0406", at, message));
        }
        if stack.contains(name) {
            let message = format!("prompts include each other in a circle at `{path}`");
            return loader.report(Problem::error("E0406", at, message));
        }
        self.file(loader, name, at, stack);
    }

    /// Reads a prompt file and what it includes; false if it cannot be used.
    fn file(&mut self, loader: &mut Loader<'_>, name: &TemplateName, at: &At, stack: &mut Vec<TemplateName>) -> bool {
        if self.refused.contains(name) {
            return false;
        }
        if self.fronts.contains_key(name) {
            return true;
        }
        let path = below(&self.root, &name.0).unwrap_or_default();
        if !loader.files.exists(&path) {
            self.missing(loader, name, at);
            self.refused.insert(name.clone());
            return false;
        }
        let Some(text) = files::text(loader, &path, at, "E0401") else {
            self.refused.insert(name.clone());
            return false;
        };
        let file: Arc<str> = path.as_str().into();
        let (front, start) = front(loader, &file, &text);
        let body = text.get(start..).unwrap_or_default();
        let site = Site { at: At::new(&file, start..text.len()), skip: Some(0) };
        if let Some(key) = pasted::found(body).filter(|_| !loader.options.pinned) {
            loader.report(pasted::problem(&site.place(&key)));
        }
        // A replacement of a built-in prompt places its fences itself, as the built-in does.
        let own = name.0.starts_with("prompts/builtin/");
        match self.builder.add(name, body, if own { Fences::None } else { Fences::Put }) {
            Ok(includes) => {
                let optional = front.texts("inputs").into_iter().filter_map(|(name, _)| name.strip_suffix('?'));
                self.builder.optional(name, optional.map(str::to_owned).collect());
                self.sites.insert(name.clone(), site.clone());
                self.fronts.insert(name.clone(), front);
                stack.push(name.clone());
                for (inner, range) in includes {
                    self.include(loader, &inner, &site.place(&range), stack);
                }
                stack.pop();
                true
            }
            Err(faults) => {
                report(loader, &site, faults);
                self.refused.insert(name.clone());
                false
            }
        }
    }

    fn missing(&self, loader: &mut Loader<'_>, name: &TemplateName, at: &At) {
        let all = self.below(loader, "");
        let wanted = name.0.trim_start_matches("prompts/").trim_end_matches(".md").to_owned();
        let help = match nearest(&wanted, all.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None if all.is_empty() => format!("write it as `{}`", name.0),
            None => format!("there are: {}", all.join(", ")),
        };
        loader.report(Problem::error("E0401", at, format!("there is no prompt `{}`", name.0)).help(help));
    }
}

/// The front matter of a prompt file, and where its text begins.
pub(super) fn front(loader: &mut Loader<'_>, file: &Arc<str>, text: &str) -> (Table, usize) {
    if yaml::begins(text) {
        let (table, start) = yaml::front(file, text, &mut loader.problems);
        let table = yaml::fitted(table, &mut loader.problems);
        loader.form(&table, &keys::FRONT);
        return (table, start);
    }
    let Some(rest) = text.strip_prefix("+++").filter(|rest| rest.starts_with(['\n', '\r'])) else {
        return (Table::default(), 0);
    };
    let open = text.len() - rest.len();
    let mut at = open;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "+++" {
            let table = doc::parse(file, &text[open..at], open, &mut loader.problems);
            loader.form(&table, &keys::FRONT);
            return (table, at + line.len());
        }
        at += line.len();
    }
    let problem = Problem::error("E0405", &At::new(file, 0..3), "the front matter is not closed");
    loader.report(problem.help("end it with a line of `+++`"));
    (Table::default(), text.len())
}
