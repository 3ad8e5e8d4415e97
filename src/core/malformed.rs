//! A reply that is no answer, in words. Invariant: one line, that says what kind of thing came and how
//! it begins, so that a person knows whether to look at the address, a proxy, or the provider.

/// What a provider should have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Completion,
    Message,
    Response,
    Content,
}

/// Those that are named before what came: whoever reads it later knows neither provider nor protocol.
const NAMED: [Due; 3] = [Due::Message, Due::Response, Due::Content];

impl Due {
    fn words(self) -> &'static str {
        match self {
            Due::Completion => "a chat completion",
            Due::Message => "a message of the Messages API",
            Due::Response => "a response of the Responses API",
            Due::Content => "a reply of generateContent",
        }
    }

    fn mark(self) -> String {
        format!("[expected {}]\n", self.words())
    }

    /// What is kept of a body that is not what it should have been. A chat completion is not named: bodies were kept
    /// so when there was no other protocol, and what follows from those must stay as it was.
    pub fn keep(self, body: &str) -> String {
        if NAMED.contains(&self) { format!("{}{body}", self.mark()) } else { body.to_owned() }
    }
}

/// What was wanted, and what came.
fn read(kept: &str) -> (Due, &str) {
    let named = NAMED.into_iter().find_map(|wanted| Some((wanted, kept.strip_prefix(&wanted.mark())?)));
    named.unwrap_or((Due::Completion, kept))
}

/// What stands before the words on an answer that was too large to be read.
const LARGE: &str = "[larger than may be read]\n";

/// What is kept of an answer that was too large to be read: what was too large, in words.
pub fn too_large(words: &str) -> String {
    format!("{LARGE}{words}")
}

/// Was it too large to be read? Then another call would be paid for the same.
pub fn is_too_large(kept: &str) -> bool {
    kept.starts_with(LARGE)
}

/// Characters of the body that are shown.
const SHOWN: usize = 80;
/// Bytes from which on a body may have been kept in part only: then its missing end says nothing.
const PART: usize = 2000;

/// What the body of a reply with a 2xx status was, where it was no answer; as [`Due::keep`] has kept it, maybe its
/// beginning only.
pub fn words(kept: &str) -> String {
    if let Some(words) = kept.strip_prefix(LARGE) {
        return format!("{words}: it was not read on; a lower `max_output` keeps answers smaller");
    }
    let (wanted, body) = read(kept);
    let wanted = wanted.words();
    let text = body.trim();
    if text.is_empty() {
        return format!("the body of the 2xx reply was empty: expected {wanted}");
    }
    let kind = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => "other JSON",
        Err(why) if why.is_eof() && text.starts_with(['{', '[']) && body.len() < PART => "JSON without its end",
        Err(_) if text.starts_with(['{', '[']) && body.len() >= PART => "JSON, kept in part",
        Err(_) if text.starts_with('<') => "HTML or XML",
        Err(_) if text.starts_with("data:") || text.starts_with("event:") => "an event stream",
        Err(_) => "text that is not JSON",
    };
    format!("the body of the 2xx reply was {kind}: expected {wanted}, found `{}`", beginning(text))
}

/// How a text begins, on one line.
pub fn beginning(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    let end = line.char_indices().nth(SHOWN).map(|(end, _)| end);
    end.map_or_else(|| line.clone(), |end| format!("{}…", &line[..end]))
}

#[cfg(test)]
mod tests {
    use super::{Due, NAMED, words};

    #[test]
    fn what_came_is_named_and_begun() {
        for (body, kind, begins) in [
            ("", "was empty", ""),
            (" \n", "was empty", ""),
            ("<!DOCTYPE html>\n<html>sign in", "HTML", "`<!DOCTYPE html> <html>sign in`"),
            ("{\"choices\": [{\"mess", "JSON without its end", "`{\"choices\": [{\"mess`"),
            ("{\"detail\": \"ok\"}", "other JSON", "`{\"detail\": \"ok\"}`"),
            ("data: {\"choices\"", "an event stream", "`data: "),
            ("It works!\x1b[31m", "not JSON", "`It works! [31m`"),
        ] {
            let said = words(body);
            assert!(said.contains(kind) && said.contains(begins) && !said.contains('\n'), "{body:?}: {said}");
        }
        assert!(words("It works!").contains(": expected a chat completion, found `It works!`"));
        for wanted in NAMED {
            let said = words(&wanted.keep("{\"choices\": []}"));
            let names = format!("other JSON: expected {}, found `{{\"choices\": []}}`", wanted.words());
            assert!(said.contains(&names), "{said}");
            assert!(words(&wanted.keep("")).ends_with(&format!("was empty: expected {}", wanted.words())));
            let cut = wanted.keep(&format!("{{\"a\": \"{}", "x".repeat(2040)));
            assert!(words(&cut).contains("kept in part"));
        }
        assert_eq!(Due::Completion.keep("It works!"), "It works!");
        let long = words(&"é".repeat(500));
        assert!(long.ends_with("…`") && long.matches('é').count() == 80, "{long}");
    }
}
