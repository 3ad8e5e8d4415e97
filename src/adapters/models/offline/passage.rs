//! Sentences and where they are from. Invariant: a passage's text stands word for word in its source,
//! and its place is the line it begins in.

use serde_json::Value;

use super::text;

/// Something a source says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passage {
    pub text: String,
    /// `notes/a.md:12`, or the name of the fence it stands in.
    pub place: String,
    /// The place is a line of a file.
    pub in_file: bool,
}

impl Passage {
    /// `"quote" (place)`.
    pub fn quoted(&self) -> String {
        format!("\"{}\" ({})", self.text, self.place)
    }
    /// As a claim: `text (place)`, with the place only where it is a file's.
    pub fn cited(&self) -> String {
        if self.in_file { format!("{} ({})", self.text, self.place) } else { self.text.clone() }
    }
    pub fn file(&self) -> Option<&str> {
        self.place.rsplit_once(':').map(|(file, _)| file).filter(|_| self.in_file)
    }
}

/// A text of several files' quotes, or any text that stands in a fence called `name`.
pub fn of_material(name: &str, text: &str) -> Vec<Passage> {
    // Of a typed result the texts are what is said.
    if let Ok(value @ (Value::Object(_) | Value::Array(_))) = serde_json::from_str(text) {
        let mut said = Vec::new();
        texts_in(&value, &mut said);
        return said.into_iter().flat_map(|text| of_material(name, text)).collect();
    }
    let quotes: Vec<Passage> = text.lines().filter_map(of_line).collect();
    if !quotes.is_empty() {
        return quotes;
    }
    let passage = |text| Passage { text, place: name.to_owned(), in_file: false };
    text::sentences(text).into_iter().map(passage).collect()
}

fn texts_in<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => out.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts_in(item, out)),
        Value::Object(fields) => fields.values().for_each(|field| texts_in(field, out)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A line that ends with a place: `- "quote" (file:3)`, `- claim (file:3)`.
pub fn of_line(line: &str) -> Option<Passage> {
    let line = bare(line);
    let (text, place) = cut_place(line)?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    Some(Passage { text: text.to_owned(), place: place.to_owned(), in_file: true })
}

/// A line without its list mark.
pub fn bare(line: &str) -> &str {
    let line = line.trim();
    ["- ", "* ", "• "].iter().find_map(|mark| line.strip_prefix(mark)).unwrap_or(line).trim_start()
}

/// `text (file:3)` as its two parts.
pub fn cut_place(line: &str) -> Option<(&str, &str)> {
    let (text, place) = line.trim_end_matches(['.', ' ']).strip_suffix(')')?.rsplit_once(" (")?;
    let (file, number) = place.rsplit_once(':')?;
    let is_place = !file.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    is_place.then_some((text, place))
}

/// A page of a file that begins with line `first`.
pub fn of_file(path: &str, first: usize, page: &str) -> Vec<Passage> {
    const PROSE: [&str; 6] = ["md", "txt", "rst", "tex", "html", "log"];
    let ending = path.rsplit_once('.').map(|(_, ending)| ending).unwrap_or("txt");
    let said = if PROSE.contains(&ending) { text::numbered(page) } else { lines(page) };
    let place = |line: usize| format!("{path}:{}", first + line - 1);
    said.into_iter().map(|(line, text)| Passage { text, place: place(line), in_file: true }).collect()
}

/// Code and data: each line stands for itself.
fn lines(page: &str) -> Vec<(usize, String)> {
    let text = |line: &str| {
        line.trim().trim_start_matches(['#', '/', ' ']).trim_end_matches(['{', '[', '(']).trim().to_owned()
    };
    let all = page.lines().enumerate().map(|(at, line)| (at + 1, text(line)));
    // A line of two words or a bracket says nothing by itself; the note at a page's end is the tool's.
    all.filter(|(_, line)| line.split_whitespace().count() > 2 && !line.starts_with('[')).collect()
}

/// Lines of `files.search`: `file:line: text`.
pub fn of_search(result: &str) -> Vec<Passage> {
    let one = |line: &str| {
        let (file, rest) = line.split_once(':')?;
        let (number, text) = rest.split_once(": ")?;
        let number = number.parse::<u64>().ok()?;
        let text = bare(text).to_owned();
        (text.split_whitespace().count() > 2).then(|| Passage {
            text,
            place: format!("{file}:{number}"),
            in_file: true,
        })
    };
    result.lines().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_knows_the_line_it_begins_in() {
        let page = "# Title\n\nOne is here. Two goes\non and on. Three\nends.\n\n- item four\n";
        let found = of_file("a.md", 10, page);
        let places: Vec<String> = found.iter().map(Passage::quoted).collect();
        assert_eq!(
            places,
            [
                "\"One is here.\" (a.md:12)",
                "\"Two goes on and on.\" (a.md:12)",
                "\"Three ends.\" (a.md:13)",
                "\"item four\" (a.md:16)"
            ]
        );
        assert_eq!(of_file("x.toml", 1, "[a]\n# why it is so\nb = 1\n")[0].quoted(), "\"why it is so\" (x.toml:2)");
    }

    #[test]
    fn of_a_typed_result_the_texts_are_what_is_said() {
        let typed = r#"{"argument":"It leaks. (a.md:3)","agree":true,"more":["So \"they\" say."]}"#;
        let said: Vec<String> = of_material("ann", typed).iter().map(Passage::quoted).collect();
        assert_eq!(said, ["\"It leaks.\" (a.md:3)", "\"So \"they\" say.\" (ann)"]);
    }

    #[test]
    fn places_survive_being_passed_on() {
        let passage = Passage { text: "Say \"no\" (or not).".into(), place: "notes/a.md:3".into(), in_file: true };
        assert_eq!(of_line(&format!("- {}", passage.quoted())), Some(passage.clone()));
        assert_eq!(of_line(&passage.cited()), Some(passage));
        assert_eq!(of_line("A claim (see below)."), None);
        assert_eq!(of_search("notes/a.md:7: - The hull is new.\n[3 more]")[0].place, "notes/a.md:7");
    }
}
