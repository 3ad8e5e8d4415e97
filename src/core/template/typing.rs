//! Types of what conditions compare. Invariant: what is called wrong here can never be right at run
//! time; what cannot be known ([`Ty::Any`]) is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use minijinja::machinery::ast::{BinOpKind, CompareOpKind, Expr, UnaryOpKind};

use super::super::nearest::nearest;
use super::build::{Fault, FaultKind};
use super::syntax::{argument, range};

/// What is known of a value before anything runs. Any of them may also be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ty {
    Any,
    Text,
    /// A text that is one of these.
    OneOf(Vec<String>),
    Number,
    Bool,
    List(Box<Ty>),
    /// Fields; `open` where others may exist.
    Object {
        fields: BTreeMap<String, Ty>,
        open: bool,
    },
    /// The result of a task: its value, `.text` and `.status`.
    Result(Box<Ty>),
}

impl Ty {
    fn words(&self) -> &'static str {
        match self {
            Ty::Any => "anything",
            Ty::Text | Ty::OneOf(_) => "a text",
            Ty::Number => "a number",
            Ty::Bool => "a boolean",
            Ty::List(_) => "a list",
            Ty::Object { .. } => "an object",
            Ty::Result(value) => value.words(),
        }
    }
    /// The first step of `path` that cannot exist, with what is there instead.
    pub fn missing(&self, path: &[String]) -> Option<(String, String)> {
        let (first, rest) = path.split_first()?;
        match (self, self.value()) {
            (Ty::Result(_), _) if first == "text" || first == "status" => None,
            (_, Ty::Object { fields, open }) => match fields.get(first) {
                Some(inner) => inner.missing(rest),
                None if *open => None,
                None => {
                    let all = fields.keys().map(String::as_str).collect::<Vec<_>>();
                    let near = nearest(first, all.iter().copied());
                    let help = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("its fields: {}", all.join(", ")),
                    };
                    Some((first.clone(), help))
                }
            },
            (Ty::Result(_), Ty::Text) => {
                Some((first.clone(), "give the task an `output_schema`, or use `.text` or `.status`".to_owned()))
            }
            // A list is also read by key.
            _ => None,
        }
    }
    pub(super) fn value(&self) -> &Ty {
        match self {
            Ty::Result(value) => value,
            other => other,
        }
    }
}

/// What `draft.status` can be.
pub const STATUSES: [&str; 8] =
    ["done", "partial", "replaced", "failed", "skipped", "cancelled", "over_budget", "none"];

/// The names a condition may use, and what they are.
#[derive(Clone, Debug, Default)]
pub struct Typing {
    pub names: BTreeMap<String, Ty>,
    /// A result whose fields may be named bare.
    pub bare: Option<String>,
}

impl Typing {
    /// The judge and its fields that no other name hides.
    pub(super) fn bare_fields(&self) -> Option<(String, BTreeSet<String>)> {
        let judge = self.bare.clone()?;
        let Ty::Object { fields, .. } = self.names.get(&judge)?.value() else { return None };
        let fields = fields.keys().filter(|field| !self.names.contains_key(*field)).cloned().collect();
        Some((judge, fields))
    }

    fn lookup(&self, name: &str) -> Option<&Ty> {
        let judge = || self.bare.as_ref().and_then(|judge| self.names.get(judge)).map(Ty::value);
        self.names.get(name).or_else(|| match judge() {
            Some(Ty::Object { fields, .. }) => fields.get(name),
            _ => None,
        })
    }

    fn known(&self) -> Vec<&str> {
        let fields = match self.bare.as_ref().and_then(|judge| self.names.get(judge)).map(Ty::value) {
            Some(Ty::Object { fields, .. }) => fields.keys().map(String::as_str).collect(),
            _ => Vec::new(),
        };
        self.names.keys().map(String::as_str).chain(fields).collect()
    }

    /// The type of an expression, and everything in it that cannot be right.
    pub(super) fn check(&self, tree: &Expr<'_>) -> (Ty, Vec<Fault>) {
        let mut check = Check { typing: self, faults: Vec::new() };
        let ty = check.of(tree);
        (ty, check.faults)
    }
}

struct Check<'a> {
    typing: &'a Typing,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn wrong(&mut self, kind: FaultKind, range: Range<usize>, message: String, help: Option<String>) {
        self.faults.push(Fault { kind, range, message, help });
    }

    fn of(&mut self, expression: &Expr<'_>) -> Ty {
        match expression {
            Expr::Const(constant) => match serde_json::to_value(&constant.value) {
                Ok(serde_json::Value::String(_)) => Ty::Text,
                Ok(serde_json::Value::Number(_)) => Ty::Number,
                Ok(serde_json::Value::Bool(_)) => Ty::Bool,
                _ => Ty::Any,
            },
            Expr::Var(name) => self.name(name.id, range(name.span())),
            Expr::GetAttr(attribute) => {
                let of = self.of(&attribute.expr);
                self.field(&of, attribute.name, range(attribute.span()))
            }
            Expr::GetItem(item) => {
                let of = self.of(&item.expr);
                self.of(&item.subscript_expr);
                match (of.value(), &item.subscript_expr) {
                    (Ty::List(inner), _) => (**inner).clone(),
                    (Ty::Object { .. }, Expr::Const(key)) => match key.value.as_str() {
                        Some(key) => self.field(&of, key, range(item.span())),
                        None => Ty::Any,
                    },
                    _ => Ty::Any,
                }
            }
            Expr::Slice(slice) => self.of(&slice.expr),
            Expr::UnaryOp(one) => match (&one.op, self.of(&one.expr)) {
                (UnaryOpKind::Not, _) => Ty::Bool,
                (UnaryOpKind::Neg, _) => Ty::Number,
            },
            Expr::BinOp(both) => self.binary(both.op, &both.left, &both.right),
            Expr::Compare(compare) => {
                let mut left = &compare.expr;
                for op in &compare.ops {
                    self.compare(left, Comparison::of(op.op), &op.expr);
                    left = &op.expr;
                }
                Ty::Bool
            }
            Expr::IfExpr(choice) => {
                self.of(&choice.test_expr);
                let ty = self.of(&choice.true_expr);
                let other = choice.false_expr.as_ref().map(|e| self.of(e));
                if other.as_ref() == Some(&ty) { ty } else { Ty::Any }
            }
            Expr::Filter(filter) => {
                let ty = filter.expr.as_ref().map_or(Ty::Any, |e| self.of(e));
                filter.args.iter().for_each(|arg| drop(self.of(argument(arg))));
                self.filter(filter.name, &ty, range(filter.span()))
            }
            Expr::Test(test) => {
                self.of(&test.expr);
                test.args.iter().for_each(|arg| drop(self.of(argument(arg))));
                Ty::Bool
            }
            Expr::Call(call) => {
                call.args.iter().for_each(|arg| drop(self.of(argument(arg))));
                Ty::Any
            }
            Expr::List(list) => self.list(&list.items),
            Expr::Tuple(tuple) => self.list(&tuple.items),
            Expr::Map(map) => {
                map.keys.iter().chain(&map.values).for_each(|e| drop(self.of(e)));
                Ty::Any
            }
        }
    }

    fn list(&mut self, items: &[Expr<'_>]) -> Ty {
        let mut all = items.iter().map(|item| self.of(item)).collect::<Vec<_>>();
        let first = all.pop().unwrap_or(Ty::Any);
        Ty::List(Box::new(if all.iter().all(|ty| *ty == first) { first } else { Ty::Any }))
    }

    fn name(&mut self, name: &str, range: Range<usize>) -> Ty {
        if let Some(ty) = self.typing.lookup(name) {
            return ty.clone();
        }
        let known = self.typing.known();
        let help = match nearest(name, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.wrong(FaultKind::UnknownName, range, format!("`{name}` is not known here"), Some(help));
        Ty::Any
    }

    fn field(&mut self, of: &Ty, field: &str, range: Range<usize>) -> Ty {
        match (of, field) {
            (Ty::Result(_), "text") => return Ty::Text,
            (Ty::Result(_), "status") => return Ty::OneOf(STATUSES.map(str::to_owned).to_vec()),
            (Ty::Result(_) | Ty::Any | Ty::Text | Ty::OneOf(_) | Ty::Number, _) => {}
            (Ty::Bool | Ty::List(_) | Ty::Object { .. }, _) => {}
        }
        let (message, help) = match of.value() {
            Ty::Any => return Ty::Any,
            Ty::Object { fields, open } => {
                if let Some(ty) = fields.get(field) {
                    return ty.clone();
                }
                if *open {
                    return Ty::Any;
                }
                let all = fields.keys().map(String::as_str).collect::<Vec<_>>();
                let help = match nearest(field, all.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("its fields: {}", all.join(", ")),
                };
                (format!("the result has no field `{field}`"), help)
            }
            other => {
                let help = match of {
                    Ty::Result(_) => "give the task an `output_schema`, or use `.text` or `.status`".to_owned(),
                    _ => "leave the field out".to_owned(),
                };
                (format!("{} has no field `{field}`", other.words()), help)
            }
        };
        self.wrong(FaultKind::UnknownField, range, message, Some(help));
        Ty::Any
    }

    fn filter(&mut self, name: &str, on: &Ty, range: Range<usize>) -> Ty {
        match name {
            "words" => {
                if !matches!(on.value(), Ty::Any | Ty::Text | Ty::OneOf(_) | Ty::Object { .. } | Ty::List(_)) {
                    let message = format!("`words` counts the words of a text, this is {}", on.words());
                    self.wrong(FaultKind::Type, range, message, None);
                }
                Ty::Number
            }
            "length" | "count" => {
                if matches!(on.value(), Ty::Number | Ty::Bool) {
                    let message = format!("{} has no length", on.words());
                    self.wrong(FaultKind::Type, range, message, None);
                }
                Ty::Number
            }
            "int" | "float" | "round" | "abs" | "sum" => Ty::Number,
            "upper" | "lower" | "trim" | "title" | "capitalize" | "replace" | "join" | "string" | "indent" => Ty::Text,
            "bullets" | "json" | "fenced" | "format" => Ty::Text,
            "bool" => Ty::Bool,
            "raw" => on.clone(),
            "first" | "last" | "min" | "max" => match on.value() {
                Ty::List(inner) => (**inner).clone(),
                Ty::Any | Ty::Text | Ty::OneOf(_) | Ty::Number | Ty::Bool | Ty::Object { .. } | Ty::Result(_) => {
                    Ty::Any
                }
            },
            _ => Ty::Any,
        }
    }

    fn binary(&mut self, op: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) -> Ty {
        let comparison = match op {
            BinOpKind::Eq => Some(Comparison::Equal),
            BinOpKind::Ne => Some(Comparison::Equal),
            BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte => Some(Comparison::Order),
            BinOpKind::In => Some(Comparison::In),
            BinOpKind::ScAnd | BinOpKind::ScOr | BinOpKind::Concat => None,
            BinOpKind::Add | BinOpKind::Sub | BinOpKind::Mul | BinOpKind::Div => None,
            BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => None,
        };
        if let Some(comparison) = comparison {
            self.compare(left, comparison, right);
            return Ty::Bool;
        }
        let (a, b) = (self.of(left), self.of(right));
        match op {
            BinOpKind::Sub | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem | BinOpKind::Pow => Ty::Number,
            BinOpKind::Concat => Ty::Text,
            _ if a == b => a,
            _ => Ty::Any,
        }
    }

    fn compare(&mut self, left: &Expr<'_>, comparison: Comparison, right: &Expr<'_>) {
        let (a, b) = (self.of(left), self.of(right));
        let whole = range(left.span()).start..range(right.span()).end;
        let (a, b) = (a.value().clone(), b.value().clone());
        match comparison {
            Comparison::Equal | Comparison::Order => {
                if !alike(&a, &b) {
                    let message = format!("this compares {} with {}, which is never true", a.words(), b.words());
                    return self.wrong(FaultKind::Type, whole, message, None);
                }
                if comparison == Comparison::Order && !ordered(&a) {
                    let message = format!("{} is neither more nor less than another", a.words());
                    let help = "compare a size: `| words`, `| length`".to_owned();
                    return self.wrong(FaultKind::Type, whole, message, Some(help));
                }
                self.member(&a, right);
                self.member(&b, left);
            }
            Comparison::In => match (&a, &b) {
                (a, Ty::List(inner)) if !alike(a, inner) => {
                    let message = format!("this looks for {} in a list of {}", a.words(), inner.words());
                    self.wrong(FaultKind::Type, whole, message, None);
                }
                (Ty::OneOf(_), Ty::List(_)) => {
                    if let Expr::List(list) = right {
                        list.items.iter().for_each(|item| self.member(&a, item));
                    }
                }
                (_, Ty::Number | Ty::Bool) => {
                    let message = format!("nothing is in {}", b.words());
                    self.wrong(FaultKind::Type, whole, message, None);
                }
                _ => {}
            },
        }
    }

    /// A text compared with a fixed choice must be one of it.
    fn member(&mut self, choice: &Ty, with: &Expr<'_>) {
        let (Ty::OneOf(all), Expr::Const(constant)) = (choice, with) else { return };
        let Some(text) = constant.value.as_str().filter(|text| !all.iter().any(|one| one == text)) else { return };
        let help = match nearest(text, all.iter().map(String::as_str)) {
            Some(near) => format!("did you mean '{near}'? (one of: {})", all.join(", ")),
            None => format!("one of: {}", all.join(", ")),
        };
        self.wrong(FaultKind::Type, range(constant.span()), format!("this is never '{text}'"), Some(help));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Equal,
    Order,
    In,
}

impl Comparison {
    fn of(op: CompareOpKind) -> Comparison {
        match op {
            CompareOpKind::Eq | CompareOpKind::Ne => Comparison::Equal,
            CompareOpKind::Lt | CompareOpKind::Lte | CompareOpKind::Gt | CompareOpKind::Gte => Comparison::Order,
            CompareOpKind::In | CompareOpKind::NotIn => Comparison::In,
        }
    }
}

fn ordered(ty: &Ty) -> bool {
    matches!(ty, Ty::Any | Ty::Number | Ty::Text | Ty::OneOf(_))
}

/// Can two values be equal?
fn alike(a: &Ty, b: &Ty) -> bool {
    match (a.value(), b.value()) {
        (Ty::Any, _) | (_, Ty::Any) => true,
        (Ty::Text | Ty::OneOf(_), Ty::Text | Ty::OneOf(_)) => true,
        (Ty::Number, Ty::Number) | (Ty::Bool, Ty::Bool) => true,
        (Ty::List(_), Ty::List(_)) | (Ty::Object { .. }, Ty::Object { .. }) => true,
        _ => false,
    }
}
