//! Compiling templates. Invariant: whatever a [`Builder`] accepted is in the [`Templates`] it gives;
//! what it refused is a [`Fault`] with a place in the author's own text.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use minijinja::machinery;

use super::size::too_long;
use super::syntax::{Edit, Found, Walk};
use super::{Compiled, Condition, Expression, TemplateName, Templates, Ty, Typing, values};
use crate::core::builtin;

/// What is wrong with a template, in bytes of the text that was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub range: Range<usize>,
    pub message: String,
    pub help: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Syntax,
    UnknownName,
    UnknownField,
    Type,
}

/// Are results fenced where the template prints them?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fences {
    /// What a model reads.
    Put,
    /// Paths, keys, arguments of tools.
    None,
}

impl Fault {
    fn syntax((message, range): (String, Range<usize>)) -> Fault {
        Fault { kind: FaultKind::Syntax, range, message, help: None }
    }
}

/// The path of a prompt as templates are named.
pub(super) fn prompt_path(name: &str) -> String {
    let name = name.strip_prefix("prompts/").unwrap_or(name);
    format!("prompts/{name}")
}

/// Collects the templates of a crew. Every text is checked when it is added; includes when it is finished.
pub struct Builder {
    environment: minijinja::Environment<'static>,
    results: BTreeSet<String>,
    compiled: BTreeMap<TemplateName, Compiled>,
    optional: BTreeMap<TemplateName, BTreeSet<String>>,
    expressions: BTreeMap<Arc<str>, String>,
}

impl Builder {
    /// `results` are the names that hold what others said: tasks, `previous`, `feedback`, `window`.
    pub fn new<'a>(results: impl IntoIterator<Item = &'a str>) -> Builder {
        let results = results.into_iter().map(str::to_owned).collect();
        let (compiled, optional, expressions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut builder = Builder { environment: values::environment(), results, compiled, optional, expressions };
        for (name, text) in builtin::ALL {
            // Compiled by this program's own tests; they place their fences themselves.
            let added = builder.add(&builtin::template(name), text, Fences::None);
            debug_assert!(added.is_ok(), "{name}: {added:?}");
        }
        builder
    }

    /// Is `item` what another agent said (a list in a result), in the texts added from now on?
    pub fn item_is_data(&mut self, yes: bool) {
        if yes {
            self.results.insert("item".to_owned());
        } else {
            self.results.remove("item");
        }
    }

    pub fn has(&self, name: &TemplateName) -> bool {
        self.compiled.contains_key(name)
    }

    /// Adds a text. Returns the paths that it includes (as prompt paths, with their places).
    pub fn add(
        &mut self,
        name: &TemplateName,
        source: &str,
        fences: Fences,
    ) -> Result<Vec<(TemplateName, Range<usize>)>, Vec<Fault>> {
        if let Some(fault) = too_long(source, false) {
            return Err(vec![fault]);
        }
        let tree = machinery::parse(source, &name.0, minijinja::syntax::SyntaxConfig::default());
        let tree = tree.map_err(|error| vec![fault(source, &error)])?;
        let mut walk = Walk::new(source, &self.results);
        walk.fences = fences == Fences::Put;
        walk.statement(&tree);
        let Found { uses, includes, refused, edits } = walk.found;
        if !refused.is_empty() {
            return Err(refused.into_iter().map(Fault::syntax).collect());
        }
        let rewritten = apply(source, edits);
        if let Err(error) = self.environment.add_template_owned(name.0.to_string(), rewritten) {
            return Err(vec![fault(source, &error)]);
        }
        let includes: Vec<_> =
            includes.into_iter().map(|(path, range)| (TemplateName(prompt_path(&path).into()), range)).collect();
        let (names, values) = named(&uses);
        let inner = includes.iter().map(|(name, _)| name.clone()).collect();
        self.compiled.insert(name.clone(), Compiled { source: source.into(), uses, names, values, includes: inner });
        Ok(includes)
    }

    /// Names that the template can do without: they are none where a scope has no value for them.
    pub fn optional(&mut self, name: &TemplateName, names: BTreeSet<String>) {
        self.optional.insert(name.clone(), names);
    }

    /// Names that a template says it can do without, includes not followed.
    pub fn optional_of(&self, name: &TemplateName) -> Option<&BTreeSet<String>> {
        self.optional.get(name)
    }

    /// Templates that one text includes.
    pub fn includes(&self, name: &TemplateName) -> &[TemplateName] {
        self.compiled.get(name).map_or(&[], |compiled| &compiled.includes)
    }

    /// A condition, checked against the types of the names it may use.
    pub fn condition(&mut self, text: &str, typing: &Typing) -> Result<(Condition, Vec<super::Use>), Vec<Fault>> {
        let (key, uses, _) = self.expression_of(text, typing)?;
        Ok((Condition(key), uses))
    }

    /// An expression with its type.
    pub fn expression(&mut self, text: &str, typing: &Typing) -> Result<(Expression, Vec<super::Use>, Ty), Vec<Fault>> {
        let (key, uses, ty) = self.expression_of(text, typing)?;
        Ok((Expression(key), uses, ty))
    }

    fn expression_of(&mut self, text: &str, typing: &Typing) -> Result<(Arc<str>, Vec<super::Use>, Ty), Vec<Fault>> {
        if let Some(fault) = too_long(text, true) {
            return Err(vec![fault]);
        }
        let tree = machinery::parse_expr(text).map_err(|error| vec![fault(text, &error)])?;
        let (ty, faults) = typing.check(&tree);
        if !faults.is_empty() {
            return Err(faults);
        }
        let fields = typing.bare_fields();
        let mut walk = Walk::new(text, &self.results);
        walk.fields = fields.as_ref().map(|(judge, fields)| (judge.as_str(), fields));
        walk.expression(&tree);
        let Found { uses, edits, refused, .. } = walk.found;
        if !refused.is_empty() {
            return Err(refused.into_iter().map(Fault::syntax).collect());
        }
        let rewritten = apply(text, edits);
        if let Err(error) = self.environment.compile_expression(&rewritten).map(drop) {
            return Err(vec![fault(text, &error)]);
        }
        // One text can mean two things under two judges: the rewritten text is then the key.
        let key: Arc<str> = match self.expressions.get(text) {
            Some(known) if *known != rewritten => rewritten.as_str().into(),
            Some(_) | None => text.into(),
        };
        self.expressions.insert(key.clone(), rewritten);
        Ok((key, uses, ty))
    }

    /// Uses of names in one text that was added, includes not followed.
    pub fn uses(&self, name: &TemplateName) -> &[super::Use] {
        self.compiled.get(name).map_or(&[], |compiled| &compiled.uses)
    }

    pub fn finish(self) -> Templates {
        let Builder { environment, mut compiled, optional, expressions, .. } = self;
        let all: Vec<TemplateName> = compiled.keys().cloned().collect();
        for name in all {
            let mut seen = BTreeSet::new();
            let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
            let mut open = vec![name.clone()];
            while let Some(at) = open.pop() {
                if let Some(one) = compiled.get(&at).filter(|_| seen.insert(at.clone())) {
                    let own = named(&one.uses);
                    names.extend(own.0);
                    values.extend(own.1);
                    open.extend(one.includes.iter().cloned());
                }
            }
            if let Some(one) = compiled.get_mut(&name) {
                (one.names, one.values) = (names, values);
            }
        }
        Templates { environment, compiled, optional, expressions }
    }
}

/// The names that are used, and those of which more than the `status` is.
fn named(uses: &[super::Use]) -> (BTreeSet<String>, BTreeSet<String>) {
    let values = uses.iter().filter(|one| one.path.first().is_none_or(|step| step != "status"));
    (uses.iter().map(|one| one.name.clone()).collect(), values.map(|one| one.name.clone()).collect())
}

/// Applies edits that do not overlap.
fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.range.start, edit.range.end));
    let mut out = String::with_capacity(source.len() + 32 * edits.len());
    let mut at = 0;
    for edit in edits {
        if edit.range.start < at {
            continue;
        }
        out.push_str(source.get(at..edit.range.start).unwrap_or_default());
        out.push_str(&edit.with);
        at = edit.range.end;
    }
    out.push_str(source.get(at..).unwrap_or_default());
    out
}

fn fault(source: &str, error: &minijinja::Error) -> Fault {
    let whole = 0..source.len();
    let line = error.line().map(|line| {
        let start = source.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum::<usize>();
        let len = source.get(start..).and_then(|rest| rest.lines().next()).map_or(0, str::len);
        start..start + len
    });
    // The engine reads bytes, so that its places may lie inside a character.
    let known = error.range().filter(|range| range.end <= source.len());
    let known = known.map(|range| source.floor_char_boundary(range.start)..source.ceil_char_boundary(range.end));
    let range = known.or(line).unwrap_or(whole);
    foreign(source, range.start).unwrap_or_else(|| Fault::syntax((values::say(error), range)))
}

/// A character at `at` that no expression can have outside of quotes, in the word that it stands in.
fn foreign(source: &str, at: usize) -> Option<Fault> {
    let rest = source.get(at..)?;
    let found = rest.chars().next().filter(|c| !c.is_ascii())?;
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let word = if part(found) {
        let before = source.get(..at)?;
        let start = before.trim_end_matches(part).len();
        start..at + rest.find(|c| !part(c)).unwrap_or(rest.len())
    } else {
        at..at + found.len_utf8()
    };
    let code = u32::from(found);
    let message = match source.get(word.clone()).filter(|_| part(found)) {
        Some(name) => {
            let name: String = name.chars().take(40).collect();
            format!("`{name}` is not a name: it holds `{found}` (U+{code:04X})")
        }
        None => format!("an expression cannot hold the character U+{code:04X} here"),
    };
    let help = "names are written in ASCII: a-z, 0-9 and _; any other text stands in quotes".to_owned();
    Some(Fault { kind: FaultKind::Syntax, range: word, message, help: Some(help) })
}
