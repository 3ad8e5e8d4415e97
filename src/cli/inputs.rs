//! Inputs of a crew as a command line gives them. Invariant: what cannot be taken is named, with its file and
//! line and what is needed in its place, and nothing of a value is said, for it may be a secret.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use super::failure::Failure;
use crate::adapters::textfile;
use crate::core::ids::Name;

/// `--input NAME=VALUE`, as often as there are inputs.
///
/// # Errors
/// Usage: no pair, no name, or a name that is given twice.
pub fn pairs(given: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut pairs = BTreeMap::new();
    for text in given {
        let Some((name, value)) = text.split_once('=') else {
            let why = format!("--input `{text}`: expected NAME=VALUE, such as --input topic=tea");
            return Err(Failure::usage(why));
        };
        let name = name.trim();
        Name::new(name).map_err(|why| Failure::usage(format!("--input `{name}`: {why}")))?;
        if pairs.insert(name.to_owned(), value.to_owned()).is_some() {
            let why = format!("--input {name} is given twice: expected one value of each input; leave one out");
            return Err(Failure::usage(why).hint("nothing was sent"));
        }
    }
    Ok(pairs)
}

type Reader = fn(&str) -> Result<Value, String>;

/// `--inputs FILE`, relative to `cwd`: a TOML or JSON table.
///
/// # Errors
/// Usage: a file that cannot be read or holds no such table.
pub fn table(cwd: &Path, file: Option<&Path>) -> Result<BTreeMap<String, Value>, Failure> {
    let Some(file) = file else { return Ok(BTreeMap::new()) };
    let ends = |ends: &str| file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(ends));
    let (read, wanted): (Reader, _) = match ends("json") {
        true => (json, r#"a JSON object with a key for each input, such as {"topic": "tea"}"#),
        false => (toml, r#"a TOML table with a key for each input, such as topic = "tea""#),
    };
    let wrong =
        |why: String| Failure::usage(format!("--inputs {}: {why}", file.display())).hint(format!("expected {wanted}"));
    if ends("yaml") || ends("yml") {
        return Err(wrong("YAML is not read: write it as .toml or .json".to_owned()));
    }
    let text = textfile::read(&cwd.join(file)).map_err(|why| wrong(why.to_string()))?;
    match read(&text).map_err(wrong)? {
        Value::Object(inputs) => Ok(inputs.into_iter().collect()),
        other => Err(wrong(format!("found {}", kind(&other)))),
    }
}

/// The parsers' own words on a value or a line quote it: only the place and their word on the form are said.
fn json(text: &str) -> Result<Value, String> {
    serde_json::from_str(text).map_err(|why| {
        let (line, said) = (why.line().max(1), why.to_string());
        match why.is_eof() {
            true if text.trim().is_empty() => "the file is empty".to_owned(),
            true => format!("line {line}: the JSON ends before it is whole"),
            false => {
                let said = said.split(" at line ").next().unwrap_or_default();
                format!("line {line}, column {}: not JSON: {said}", why.column())
            }
        }
    })
}

fn toml(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|why| {
        let line = why.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("line {line}: not TOML: {}", why.message())
    })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_inputs_that_is_none_is_named_with_the_line_and_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let said = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            table(folder.path(), Some(Path::new(name))).unwrap_err().text()
        };
        for (name, bytes, why) in [
            ("a.json", &b"{\n \"a\": 1,\n"[..], "a.json: line 3: the JSON ends before it is whole"),
            ("a.json", b"{\n \"a\": sesame}", "a.json: line 2, column 7: not JSON: expected value"),
            ("a.json", b"[\"sesame\"]", "a.json: found a list"),
            ("a.json", b" ", "a.json: the file is empty"),
            ("a.toml", b"a = 1\nsesame", "a.toml: line 2: not TOML: "),
            ("a.toml", b"a = 1\n\xff", "a.toml: not UTF-8: byte 0xff at offset 6, line 2"),
            ("a.yaml", b"a: sesame", "a.yaml: YAML is not read: write it as .toml or .json"),
        ] {
            let text = said(name, bytes);
            assert!(text.contains(why) && text.contains("with a key for each input"), "{text}");
            assert!(!text.contains("sesame"), "{text}");
        }
        let missing = table(folder.path(), Some(Path::new("none.toml"))).unwrap_err();
        assert!(missing.message.ends_with("none.toml: there is no such file"), "{missing}");
        std::fs::write(folder.path().join("b.JSON"), "\u{feff}{\"b\": [1]}").unwrap();
        let read = table(folder.path(), Some(Path::new("b.JSON"))).unwrap();
        assert_eq!(read, BTreeMap::from([("b".to_owned(), serde_json::json!([1]))]));
    }

    #[test]
    fn an_input_is_given_once() {
        let all = |given: &[&str]| pairs(&given.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(all(&["a=1=2", " b = x"]).unwrap()["b"], " x");
        let twice = all(&["a=1", "b=2", "a =1"]).unwrap_err();
        assert!(twice.message.contains("--input a is given twice"), "{twice}");
    }
}
