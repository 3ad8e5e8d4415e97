//! A reply that is no answer, in words. Invariant: one line, that says what kind of thing came and how
//! it begins, so that a person knows whether to look at the address, a proxy, or the provider.

/// Characters of the body that are shown.
const SHOWN: usize = 80;
/// Bytes from which on a body may have been kept in part only: then its missing end says nothing.
const PART: usize = 2000;

/// What the body of a reply with a 2xx status was, where it was no answer. `body` may be its beginning only.
pub fn words(body: &str) -> String {
    const EXPECTED: &str = "expected a chat completion";
    let text = body.trim();
    if text.is_empty() {
        return format!("the body of the 2xx reply was empty: {EXPECTED}");
    }
    let kind = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(_) => "other JSON",
        Err(why) if why.is_eof() && text.starts_with(['{', '[']) && body.len() < PART => "JSON without its end",
        Err(_) if text.starts_with(['{', '[']) && body.len() >= PART => "JSON, kept in part",
        Err(_) if text.starts_with('<') => "HTML or XML",
        Err(_) if text.starts_with("data:") || text.starts_with("event:") => "an event stream",
        Err(_) => "text that is not JSON",
    };
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = line.collect::<Vec<_>>().join(" ");
    let end = line.char_indices().nth(SHOWN).map(|(end, _)| end);
    let (shown, more) = end.map_or((line.as_str(), ""), |end| (&line[..end], "…"));
    format!("the body of the 2xx reply was {kind}: {EXPECTED}, found `{shown}{more}`")
}

#[cfg(test)]
mod tests {
    use super::words;

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
        let long = words(&"é".repeat(500));
        assert!(long.ends_with("…`") && long.matches('é').count() == 80, "{long}");
    }
}
