//! Text with `{name}` for arguments of a call. Invariant: filling it puts each value exactly where its
//! placeholder stands, encoded for that place; of an argv element comes one element, or none.

use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Argument(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

impl Template {
    pub(super) fn parse(text: &str) -> Result<Template, String> {
        let wrong = |why: &str| Err(format!("`{text}`: {why}; write `{{name}}`, or `{{{{` for a brace"));
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..at + 1];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
                continue;
            }
            let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") else {
                return wrong("a brace is not closed or not opened");
            };
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-') {
                return wrong("a placeholder is a name of letters, digits, `_` and `-`");
            }
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain)));
            }
            pieces.push(Piece::Argument(name.to_owned()));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() || pieces.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Template(pieces))
    }

    /// The text of an element without placeholders.
    pub(super) fn constant(&self) -> Option<String> {
        match self.0.as_slice() {
            [Piece::Text(text)] => Some(text.clone()),
            _ => None,
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Argument(name) => Some(name.as_str()),
        })
    }

    /// What stands in front of the first placeholder.
    pub(super) fn head(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Argument(_)) | None => "",
        }
    }

    /// The name, where one placeholder is all there is.
    pub(super) fn alone(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Piece::Argument(name)] => Some(name),
            _ => None,
        }
    }

    /// With each value as `encode` writes it: `None` is an argument that was not given.
    pub(super) fn fill_with<E>(
        &self,
        arguments: &Map<String, Value>,
        encode: impl Fn(&str, Option<&Value>) -> Result<String, E>,
    ) -> Result<String, E> {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Argument(name) => out.push_str(&encode(name, given(arguments, name))?),
            }
        }
        Ok(out)
    }

    /// As an element of argv. `None`: it is one placeholder whose argument was not given.
    pub(super) fn fill(&self, arguments: &Map<String, Value>) -> Result<Option<String>, String> {
        if self.alone().is_some_and(|name| given(arguments, name).is_none()) {
            return Ok(None);
        }
        let out = self.fill_with(arguments, |_, value| Ok::<_, String>(value.map(plain).unwrap_or_default()))?;
        if out.contains('\0') {
            return Err("an argument holds a zero byte, which no program can be given; leave it out".to_owned());
        }
        Ok(Some(out))
    }
}

/// An argument that was given; null is not.
pub(super) fn given<'a>(arguments: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    arguments.get(name).filter(|value| !value.is_null())
}

/// A string as it is, everything else as JSON.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
