//! Reading a template's syntax tree. Invariant: every name that a template takes from its scope is
//! found here, with its place; what cannot be followed (macros, inheritance, computed includes) is refused.

use std::collections::BTreeSet;
use std::ops::Range;

use minijinja::machinery::ast::{CallArg, Expr, Stmt};
use minijinja::machinery::{Span, ast};

use super::super::nearest::nearest;
use super::known::{FILTERS, TESTS};

/// One use of a name of the scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub name: String,
    /// Attributes read from it, as far as they are constant: `draft.verdict` is `["verdict"]`.
    pub path: Vec<String>,
    /// Bytes in the source.
    pub range: Range<usize>,
}

/// A change to the source: `with` instead of the bytes of `range`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    pub range: Range<usize>,
    pub with: String,
}

/// What a walk over one template found.
#[derive(Default)]
pub(super) struct Found {
    pub uses: Vec<Use>,
    pub includes: Vec<(String, Range<usize>)>,
    pub refused: Vec<(String, Range<usize>)>,
    pub edits: Vec<Edit>,
}

/// Walks statements and expressions, keeping what is local to loops and `set`.
pub(super) struct Walk<'a> {
    pub source: &'a str,
    /// Names that hold what others said.
    pub results: &'a BTreeSet<String>,
    /// Bare names that stand for a field of a result: `verdict` for `critique.verdict`.
    pub fields: Option<(&'a str, &'a BTreeSet<String>)>,
    /// Put fences where results are printed.
    pub fences: bool,
    pub found: Found,
    /// Local names, and the result each was taken from.
    locals: Vec<(String, Option<String>)>,
}

pub(super) fn range(span: Span) -> Range<usize> {
    span.start_offset as usize..span.end_offset as usize
}

impl<'a> Walk<'a> {
    pub fn new(source: &'a str, results: &'a BTreeSet<String>) -> Walk<'a> {
        Walk { source, results, fields: None, fences: false, found: Found::default(), locals: Vec::new() }
    }

    pub fn statements(&mut self, all: &[Stmt<'_>]) {
        for one in all {
            self.statement(one);
        }
    }

    pub fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) => {}
            Stmt::EmitExpr(emit) => {
                self.expression(&emit.expr);
                self.fence(emit);
            }
            Stmt::ForLoop(each) => self.each(each),
            Stmt::IfCond(choice) => {
                self.expression(&choice.expr);
                self.block(&choice.true_body);
                self.block(&choice.false_body);
            }
            Stmt::WithBlock(with) => {
                let depth = self.locals.len();
                for (target, value) in &with.assignments {
                    self.assign(target, value);
                }
                self.statements(&with.body);
                self.locals.truncate(depth);
            }
            Stmt::Set(set) => self.assign(&set.target, &set.expr),
            Stmt::SetBlock(set) => {
                self.block(&set.body);
                // Its body is printed with fences already.
                self.bind(&set.target, None);
            }
            Stmt::FilterBlock(filter) => self.block(&filter.body),
            Stmt::Include(include) => match &include.name {
                Expr::Const(name) if name.value.as_str().is_some() => {
                    self.found.includes.push((name.value.to_string(), range(name.span())));
                }
                other => self.refuse("`include` takes the path of a prompt in quotes", range(other.span())),
            },
            Stmt::AutoEscape(block) => self.refuse("there is no escaping to switch", range(block.span())),
            Stmt::Do(call) => self.refuse("prompts call nothing", range(call.span())),
            Stmt::Block(block) => self.refuse("`block` is not supported: use `include`", range(block.span())),
            Stmt::Extends(extends) => self.refuse("`extends` is not supported: use `include`", range(extends.span())),
            Stmt::Import(import) => self.refuse("`import` is not supported: use `include`", range(import.span())),
            Stmt::FromImport(import) => self.refuse("`import` is not supported: use `include`", range(import.span())),
            Stmt::Macro(block) => self.refuse("macros are not supported: use `include`", range(block.span())),
            Stmt::CallBlock(block) => self.refuse("macros are not supported: use `include`", range(block.span())),
        }
    }

    fn block(&mut self, body: &[Stmt<'_>]) {
        // `set` inside `if` is seen after it: the name may have no value there, which the engine reports.
        self.statements(body);
    }

    fn each(&mut self, each: &ast::ForLoop<'_>) {
        self.expression(&each.iter);
        let from = self.origin(&each.iter);
        let depth = self.locals.len();
        self.locals.push(("loop".to_owned(), None));
        self.bind(&each.target, from);
        if let Some(filter) = &each.filter_expr {
            self.expression(filter);
        }
        self.statements(&each.body);
        self.locals.truncate(depth);
        self.statements(&each.else_body);
    }

    fn assign(&mut self, target: &Expr<'_>, value: &Expr<'_>) {
        self.expression(value);
        let from = self.origin(value);
        self.bind(target, from);
    }

    fn bind(&mut self, target: &Expr<'_>, from: Option<String>) {
        match target {
            Expr::Var(name) => self.locals.push((name.id.to_owned(), from)),
            Expr::List(list) => list.items.iter().for_each(|item| self.bind(item, from.clone())),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.bind(item, from.clone())),
            other => self.refuse("a value can only be given to a name", range(other.span())),
        }
    }

    fn refuse(&mut self, why: &str, range: Range<usize>) {
        self.found.refused.push((why.to_owned(), range));
    }

    fn known(&mut self, what: &str, name: &str, all: &[&str], range: Range<usize>) {
        if all.contains(&name) {
            return;
        }
        let near = nearest(name, all.iter().copied()).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        self.refuse(&format!("there is no {what} `{name}`{near}"), range);
    }

    fn local(&self, name: &str) -> Option<&(String, Option<String>)> {
        self.locals.iter().rev().find(|(local, _)| local == name)
    }

    /// The result that an expression's value was taken from, if it prints what another said.
    fn origin(&self, expression: &Expr<'_>) -> Option<String> {
        match expression {
            Expr::Var(name) => match self.local(name.id) {
                Some((_, from)) => from.clone(),
                None => self.results.contains(name.id).then(|| name.id.to_owned()),
            },
            Expr::Const(_) | Expr::UnaryOp(_) | Expr::Compare(_) | Expr::Test(_) => None,
            Expr::Filter(filter) if ["raw", "fenced", "words", "length", "count"].contains(&filter.name) => None,
            Expr::Filter(filter) => {
                let own = filter.expr.as_ref().and_then(|inner| self.origin(inner));
                own.or_else(|| self.first(filter.args.iter().map(argument)))
            }
            Expr::Slice(slice) => self.origin(&slice.expr),
            Expr::GetAttr(attribute) => self.origin(&attribute.expr),
            Expr::GetItem(item) => self.origin(&item.expr),
            Expr::BinOp(both) => self.origin(&both.left).or_else(|| self.origin(&both.right)),
            Expr::IfExpr(choice) => {
                self.origin(&choice.true_expr).or_else(|| choice.false_expr.as_ref().and_then(|e| self.origin(e)))
            }
            Expr::Call(call) => self.origin(&call.expr).or_else(|| self.first(call.args.iter().map(argument))),
            Expr::List(list) => self.first(list.items.iter()),
            Expr::Tuple(tuple) => self.first(tuple.items.iter()),
            Expr::Map(map) => self.first(map.values.iter()),
        }
    }

    /// The name that a fence around the expression bears.
    fn title(&self, expression: &Expr<'_>) -> Option<String> {
        match expression {
            Expr::Var(name) => Some(self.origin(expression).unwrap_or_else(|| name.id.to_owned())),
            Expr::GetAttr(attribute) => self.title(&attribute.expr),
            Expr::GetItem(item) => self.title(&item.expr),
            Expr::Filter(filter) => filter.expr.as_ref().and_then(|inner| self.title(inner)),
            _ => self.origin(expression),
        }
    }

    fn first<'e, 's: 'e>(&self, mut all: impl Iterator<Item = &'e Expr<'s>>) -> Option<String> {
        all.find_map(|one| self.origin(one))
    }

    fn fence(&mut self, emit: &ast::Spanned<ast::EmitExpr<'_>>) {
        let Some(from) = self.origin(&emit.expr).filter(|_| self.fences) else { return };
        let whole = match &emit.expr {
            Expr::Var(_) => true,
            Expr::GetAttr(attribute) => attribute.name == "text",
            _ => false,
        };
        let all = range(emit.span());
        // The span opens with the mark: `{{`, or with a sign that trims blanks.
        let mark = self.source.get(all.start..).unwrap_or_default();
        let skip = if mark.starts_with("{{-") || mark.starts_with("{{+") { 3 } else { 2 };
        let (start, end) = (all.start + skip, all.end);
        self.found.edits.push(Edit { range: start..start, with: "(".to_owned() });
        self.found.edits.push(Edit { range: end..end, with: format!(")|__fence({from:?}, {whole})") });
    }

    pub fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Const(_) => {}
            Expr::Var(name) => self.take(name.id, Vec::new(), range(name.span())),
            Expr::GetAttr(_) | Expr::GetItem(_) => self.path(expression),
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                for part in [&slice.start, &slice.stop, &slice.step].into_iter().flatten() {
                    self.expression(part);
                }
            }
            Expr::UnaryOp(one) => self.expression(&one.expr),
            Expr::BinOp(both) => {
                self.expression(&both.left);
                self.expression(&both.right);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                compare.ops.iter().for_each(|op| self.expression(&op.expr));
            }
            Expr::IfExpr(choice) => {
                self.expression(&choice.test_expr);
                self.expression(&choice.true_expr);
                choice.false_expr.iter().for_each(|e| self.expression(e));
            }
            Expr::Filter(filter) => {
                self.known("filter", filter.name, FILTERS, range(filter.span()));
                filter.expr.iter().for_each(|e| self.expression(e));
                let end = range(filter.span()).end;
                let bare = filter.name == "fenced" && self.source.get(..end).is_some_and(|s| s.ends_with("fenced"));
                if let Some(name) = filter.expr.as_ref().filter(|_| bare).and_then(|inner| self.title(inner)) {
                    self.found.edits.push(Edit { range: end..end, with: format!("({name:?})") });
                }
                filter.args.iter().for_each(|arg| self.expression(argument(arg)));
            }
            Expr::Test(test) => {
                self.known("test", test.name, TESTS, range(test.span()));
                self.expression(&test.expr);
                test.args.iter().for_each(|arg| self.expression(argument(arg)));
            }
            Expr::Call(call) => {
                match &call.expr {
                    Expr::Var(name) if ["range", "dict"].contains(&name.id) => {}
                    Expr::GetAttr(attribute) if matches!(&attribute.expr, Expr::Var(name) if name.id == "loop") => {}
                    other => {
                        self.refuse("there are no functions here: use a filter such as `| trim`", range(other.span()))
                    }
                }
                call.args.iter().for_each(|arg| self.expression(argument(arg)));
            }
            Expr::List(list) => list.items.iter().for_each(|e| self.expression(e)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|e| self.expression(e)),
            Expr::Map(map) => map.keys.iter().chain(&map.values).for_each(|e| self.expression(e)),
        }
    }

    /// `a.b['c'].d` as one use of `a` with its path, as far as the path is constant.
    fn path(&mut self, expression: &Expr<'_>) {
        let mut at = expression;
        let mut steps: Vec<(Option<String>, Range<usize>)> = Vec::new();
        loop {
            match at {
                Expr::GetAttr(attribute) => {
                    steps.push((Some(attribute.name.to_owned()), range(attribute.span())));
                    at = &attribute.expr;
                }
                Expr::GetItem(item) => {
                    let constant = match &item.subscript_expr {
                        Expr::Const(key) => key.value.as_str().map(str::to_owned),
                        other => {
                            self.expression(other);
                            None
                        }
                    };
                    steps.push((constant, range(item.span())));
                    at = &item.expr;
                }
                _ => break,
            }
        }
        let Expr::Var(name) = at else { return self.expression(at) };
        steps.reverse();
        let path = steps.iter().map_while(|(step, _)| step.clone()).collect::<Vec<_>>();
        let last = steps.iter().take(path.len()).next_back().map_or(range(name.span()), |(_, range)| range.clone());
        let hides = matches!(path.first().map(String::as_str), Some("text" | "status"));
        if hides && self.local(name.id).is_none() && self.results.contains(name.id) {
            let end = steps.first().map_or(last.end, |(_, range)| range.end);
            let with = super::values::hidden(&path[0], name.id);
            self.found.edits.push(Edit { range: range(name.span()).start..end, with });
        }
        self.take(name.id, path, range(name.span()).start..last.end);
    }

    fn take(&mut self, name: &str, mut path: Vec<String>, range: Range<usize>) {
        if self.local(name).is_some() {
            return;
        }
        let mut name = name.to_owned();
        if let Some((judge, fields)) = self.fields
            && fields.contains(&name)
        {
            let end = range.start + name.len();
            self.found.edits.push(Edit { range: range.start..end, with: format!("{judge}.{name}") });
            path.insert(0, std::mem::replace(&mut name, judge.to_owned()));
        }
        self.found.uses.push(Use { name, path, range });
    }
}

pub(super) fn argument<'a, 's>(argument: &'a CallArg<'s>) -> &'a Expr<'s> {
    match argument {
        CallArg::Pos(e) | CallArg::Kwarg(_, e) | CallArg::PosSplat(e) | CallArg::KwargSplat(e) => e,
    }
}
