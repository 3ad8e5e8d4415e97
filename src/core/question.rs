//! A server's question to a person. Invariant: what a server is given fits the schema it asked with, and what a
//! person left out is what the schema says or nothing.

use serde_json::{Map, Value, json};

use super::nearest::nearest;
use super::schema::Schema;

/// Bytes of a question, its schema included: more is no question to a person.
const MOST: usize = 64 << 10;

/// What is asked: the `arguments` of an interrupt that a server raised.
#[derive(Clone, Debug)]
pub struct Question {
    pub server: String,
    pub message: String,
    schema: Schema,
}

impl Question {
    /// # Errors
    /// Why nobody can be asked this.
    pub fn new(server: &str, message: &str, schema: Value) -> Result<Question, String> {
        let bytes = message.len() + schema.to_string().len();
        if bytes > MOST {
            return Err(format!("it is {bytes} bytes long; a person is asked {MOST} at most"));
        }
        let schema = Schema::new(schema).map_err(|why| format!("its schema cannot be used: {why}"))?;
        Ok(Question { server: server.to_owned(), message: message.to_owned(), schema })
    }

    /// As it stands in the journal.
    pub fn text(&self) -> String {
        json!({ "server": self.server, "question": self.message, "schema": self.schema.json() }).to_string()
    }
    /// The other way; `None` of another kind of question.
    pub fn read(text: &str) -> Option<Question> {
        let value: Value = serde_json::from_str(text).ok()?;
        let (server, message) = (value["server"].as_str()?, value["question"].as_str()?);
        Question::new(server, message, value.get("schema")?.clone()).ok()
    }
    pub fn schema(&self) -> &Value {
        self.schema.json()
    }

    fn properties(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.schema.json().get("properties").and_then(Value::as_object).into_iter().flatten()
    }
    /// The one field that plain text is for.
    fn one_text(&self) -> Option<&str> {
        let mut texts = self.properties().filter(|(_, of)| of["type"] == "string");
        let (name, _) = texts.next()?;
        texts.next().is_none().then_some(name)
    }

    /// What a person answered, as the server is given it: a JSON object, or plain text where one field is a text;
    /// what is left out is the schema's default.
    ///
    /// # Errors
    /// What does not fit, and where.
    pub fn fill(&self, answer: &str) -> Result<Value, String> {
        let mut fields = match (serde_json::from_str::<Value>(answer), self.one_text()) {
            (Ok(Value::Object(fields)), _) => fields,
            (Err(why), _) if answer.trim_start().starts_with('{') => return Err(format!("it is not JSON: {why}")),
            (_, Some(name)) => Map::from_iter([(name.to_owned(), Value::from(answer))]),
            (_, None) => return Err("expected a JSON object with the fields of the question".to_owned()),
        };
        let names: Vec<&str> = self.properties().map(|(name, _)| name.as_str()).collect();
        if let Some(other) = fields.keys().find(|name| !names.contains(&name.as_str())) {
            let near = nearest(other, names.iter().copied()).map(|near| format!("; did you mean `{near}`?"));
            return Err(format!("there is no field `{other}`{}", near.unwrap_or_default()));
        }
        for (name, of) in self.properties() {
            if let (Some(default), false) = (of.get("default"), fields.contains_key(name)) {
                fields.insert(name.clone(), default.clone());
            }
        }
        let filled = Value::Object(fields);
        self.schema.check(&filled).map(|()| filled)
    }

    /// A line for each field: its name and type, whether it must be there, what it may be, and what it is for.
    pub fn fields(&self) -> Vec<String> {
        let required = self.schema.json()["required"].as_array().cloned().unwrap_or_default();
        let line = |(name, of): (&String, &Value)| {
            let kind = of["type"].as_str().unwrap_or("value");
            let must = if required.iter().any(|one| one == name) { "required" } else { "optional" };
            let mut line = format!("{name} ({kind}, {must})");
            let about = of.get("description").or_else(|| of.get("title")).and_then(Value::as_str);
            about.into_iter().for_each(|about| line += &format!(": {about}"));
            let choices = choices(of);
            if !choices.is_empty() {
                line += &format!("; one of {}", choices.join(", "));
            }
            for key in ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "format", "default"] {
                of.get(key).into_iter().for_each(|value| line += &format!("; {key} {value}"));
            }
            line
        };
        self.properties().map(line).collect()
    }

    /// An answer to start from, for a command line.
    pub fn example(&self) -> String {
        let of = |(name, of): (&String, &Value)| {
            let value = match (of.get("default"), choices(of).first(), of["type"].as_str()) {
                (Some(default), ..) => default.clone(),
                (None, Some(choice), Some("string")) => serde_json::from_str(choice).unwrap_or_default(),
                (None, _, Some("boolean")) => true.into(),
                (None, _, Some("integer" | "number")) => of.get("minimum").cloned().unwrap_or(1.into()),
                (None, _, Some("array")) => json!([]),
                (None, ..) => "…".into(),
            };
            (name.clone(), value)
        };
        Value::Object(self.properties().map(of).collect()).to_string()
    }
}

/// The values of a choice, as JSON, with the titles they have.
fn choices(of: &Value) -> Vec<String> {
    let inner = of.get("items").unwrap_or(of);
    let listed = inner["enum"].as_array().into_iter().flatten().map(Value::to_string);
    let either = inner["oneOf"].as_array().or_else(|| inner["anyOf"].as_array()).into_iter().flatten();
    let titled = either.filter_map(|one| Some(one.get("const")?.to_string()));
    listed.chain(titled).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(properties: Value, required: Value) -> Question {
        let schema = json!({"type": "object", "properties": properties, "required": required});
        let made = Question::new("s", "Who?", schema).unwrap();
        Question::read(&made.text()).unwrap()
    }

    #[test]
    fn what_is_left_out_is_the_default_and_what_does_not_fit_is_refused() {
        let all = json!({"name": {"type": "string", "default": "Ann"}, "age": {"type": "integer", "minimum": 1},
            "tone": {"type": "string", "enum": ["red", "blue"], "default": "blue"}});
        let asked = question(all, json!(["age"]));
        assert_eq!(asked.fill("{\"age\": 7}").unwrap(), json!({"age": 7, "name": "Ann", "tone": "blue"}));
        for (answer, why) in [
            ("{}", "age"),
            ("{\"age\": 0}", "/age"),
            ("{\"age\": \"7\"}", "/age"),
            ("{\"age\": 7, \"tone\": \"green\"}", "/tone"),
            ("{\"agee\": 7}", "did you mean `age`?"),
            ("{\"age\": ", "not JSON"),
            ("seven", "expected a JSON object"),
            ("[7]", "expected a JSON object"),
        ] {
            let said = asked.fill(answer).unwrap_err();
            assert!(said.contains(why), "{answer}: {said}");
        }
        assert_eq!(asked.fields()[1], "age (integer, required); minimum 1");
        assert_eq!(asked.fields()[2], "tone (string, optional); one of \"red\", \"blue\"; default \"blue\"");
        assert!(asked.fill(&asked.example()).is_ok(), "{}", asked.example());
    }

    #[test]
    fn plain_text_is_for_the_one_field_that_is_a_text() {
        let asked =
            question(json!({"name": {"type": "string"}, "ok": {"type": "boolean", "default": true}}), json!([]));
        assert_eq!(asked.fill("Ann of \"x\"").unwrap(), json!({"name": "Ann of \"x\"", "ok": true}));
        assert_eq!(asked.fill("42").unwrap(), json!({"name": "42", "ok": true}));
        assert_eq!(asked.fill("{}").unwrap(), json!({"ok": true}));
        assert!(Question::read("{\"question\": \"Which?\", \"choices\": []}").is_none(), "an agent's own question");
        assert!(Question::new("s", &"x".repeat(MOST), json!({})).is_err());
        assert!(Question::new("s", "x", json!({"type": 7})).is_err());
    }
}
