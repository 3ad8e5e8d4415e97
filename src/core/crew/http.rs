//! A tool that is one HTTP request. Invariant: a secret is named here, never held.

/// A `[tools.N]` table of kind `http`. `{name}` in a string stands for an argument of the call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpCall {
    pub method: String,
    /// Scheme, host and port are fixed.
    pub url: String,
    /// Fixed values; one that ends in `env:NAME` takes that variable's value there.
    pub headers: Vec<(String, String)>,
    /// Templates, or `env:NAME`.
    pub query: Vec<(String, String)>,
    /// JSON whose strings are templates, or the text of one.
    pub body: Option<serde_json::Value>,
    /// JSON pointer to what the model is shown.
    pub result: Option<String>,
    /// `host:port` that may be reached although it is not public.
    pub net: Vec<String>,
}

impl HttpCall {
    /// Names of the variables that it takes values from.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.headers.iter().chain(&self.query).filter_map(|(_, value)| variable(value)).map(|(_, name)| name)
    }
}

/// What stands before `env:NAME` at the end of a value, and the name.
pub fn variable(value: &str) -> Option<(&str, &str)> {
    let (before, name) = value.rsplit_once("env:")?;
    (before.is_empty() || before.ends_with(' ')).then_some((before, name))
}
