//! A critique by rules. Invariant: an issue quotes the place it is about.

/// Words beyond which a sentence is hard to read.
const LONG: usize = 30;
/// Issues that one critique names.
const MOST: usize = 5;

/// What the rules find in `sentences`, in order, at most [`MOST`].
pub fn issues(sentences: &[String]) -> Vec<String> {
    let found = sentences.iter().flat_map(|sentence| [too_long(sentence), no_source(sentence), doubled(sentence)]);
    found.flatten().take(MOST).collect()
}

fn too_long(sentence: &str) -> Option<String> {
    let words = sentence.split_whitespace().count();
    (words > LONG).then(|| format!("Split this sentence of {words} words: \"{}\"", start(sentence)))
}

/// A figure is a claim: a quote, a link, a bracketed reference or "according to" is its source.
fn no_source(sentence: &str) -> Option<String> {
    const MARKS: [&str; 7] = ["\"", "“", "http", "[", "(", "according", "source"];
    let lower = sentence.to_lowercase();
    let figure = sentence.split_whitespace().any(|word| word.bytes().filter(u8::is_ascii_digit).count() > 1);
    let sourced = MARKS.iter().any(|mark| lower.contains(mark));
    (figure && !sourced).then(|| format!("Name a source for the figure in: \"{}\"", start(sentence)))
}

fn doubled(sentence: &str) -> Option<String> {
    let words: Vec<String> = sentence.split_whitespace().map(str::to_lowercase).collect();
    let twice = words.windows(2).find(|pair| pair[0] == pair[1] && pair[0].chars().all(char::is_alphabetic))?;
    Some(format!("The word \"{}\" stands twice in: \"{}\"", twice[0], start(sentence)))
}

fn start(sentence: &str) -> String {
    let words: Vec<&str> = sentence.split_whitespace().take(9).collect();
    let more = sentence.split_whitespace().nth(9).is_some();
    format!("{}{}", words.join(" "), if more { " …" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_fault_and_only_that() {
        let of = |text: &str| issues(&[text.to_owned()]);
        assert!(of(&"word and ".repeat(16))[0].starts_with("Split this sentence of 32 words"));
        assert!(of("It grew by 40 percent.")[0].starts_with("Name a source"));
        assert!(of("It is the the end.")[0].contains("\"the\" stands twice"));
        assert!(of("It grew by 40 percent (report.md).").is_empty());
        assert!(of("A short claim without figures.").is_empty());
    }
}
