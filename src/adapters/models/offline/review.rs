//! A critique by rules. Invariant: an issue quotes the place it is about, and what [`super::write::mended`]
//! makes of it raises it no more.

use super::passage::{bare, cut_place};
use super::text::{READABLE, sentences};

/// Issues that one critique names.
const MOST: usize = 5;
/// Words that promise more than any text can prove.
const ABSOLUTE: [&str; 9] =
    ["never", "always", "best", "guaranteed", "guarantees", "perfect", "fastest", "safest", "cheapest"];

pub const SOURCE: &str = "Name the source of";
pub const PROOF: &str = "Prove or leave out";
pub const SPLIT: &str = "Shorten this sentence";
pub const TWICE: &str = "Strike the doubled word";
pub const LENGTH: &str = "Shorten the text";

/// What the rules find in `text`, in order, at most [`MOST`]. `words`: the most that were asked for.
pub fn issues(text: &str, words: Option<usize>) -> Vec<String> {
    if serde_json::from_str::<serde_json::Value>(text).is_ok_and(|value| value.is_object() || value.is_array()) {
        return Vec::new();
    }
    let total = text.split_whitespace().count();
    let long = words.filter(|most| total > *most);
    let mut found: Vec<String> =
        long.map(|most| format!("{LENGTH}: it has {total} words, {most} were asked for.")).into_iter().collect();
    let sourced = text.lines().any(|line| cut_place(line).is_some());
    for (claim, open) in claims(text, sourced) {
        let rules = [
            too_long(&claim),
            (!open).then(|| no_source(&claim, sourced)).flatten(),
            (!sourced).then(|| absolute(&claim)).flatten(),
            doubled(&claim),
        ];
        found.extend(rules.into_iter().flatten().next());
    }
    found.truncate(MOST);
    found
}

/// What a text claims, and whether it stands among its open questions: each line of a text with
/// places, else each sentence.
fn claims(text: &str, sourced: bool) -> Vec<(String, bool)> {
    if !sourced {
        return sentences(text).into_iter().map(|sentence| (sentence, false)).collect();
    }
    let mut open = false;
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.strip_prefix('#') {
            Some(heading) => open = heading.to_lowercase().contains("open"),
            None => out.push((bare(line).to_owned(), open)),
        }
    }
    out
}

fn too_long(claim: &str) -> Option<String> {
    let said = cut_place(claim).map_or(claim, |(said, _)| said);
    let words = said.split_whitespace().count();
    (words > READABLE).then(|| format!("{SPLIT} of {words} words: \"{}\"", start(claim)))
}

/// In a text that names places each claim has one; in any text a figure has a source.
fn no_source(claim: &str, needs_place: bool) -> Option<String> {
    const MARKS: [&str; 7] = ["\"", "“", "http", "[", "(", "according", "source"];
    let lower = claim.to_lowercase();
    let figure = claim.split_whitespace().any(|word| word.bytes().filter(u8::is_ascii_digit).count() > 1);
    let sourced = MARKS.iter().any(|mark| lower.contains(mark));
    let missing = if needs_place { cut_place(claim).is_none() } else { figure && !sourced };
    (missing && !claim.ends_with(':')).then(|| format!("{SOURCE}: \"{}\"", start(claim)))
}

fn absolute(claim: &str) -> Option<String> {
    let words = claim.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
    let word = words.into_iter().find(|word| ABSOLUTE.contains(&word.as_str()))?;
    Some(format!("{PROOF} \"{word}\" in: \"{}\"", start(claim)))
}

/// The word that stands twice, as it was written.
pub fn twice(claim: &str) -> Option<&str> {
    let words: Vec<&str> = claim.split_whitespace().collect();
    let pair = words
        .windows(2)
        .find(|pair| pair[0].eq_ignore_ascii_case(pair[1]) && pair[0].chars().all(char::is_alphabetic))?;
    Some(pair[0])
}

fn doubled(claim: &str) -> Option<String> {
    twice(claim).map(|word| format!("{TWICE} \"{word}\" in: \"{}\"", start(claim)))
}

/// Words of a claim by which it can be found again.
const START: usize = 9;

fn start(claim: &str) -> String {
    let words: Vec<&str> = claim.split_whitespace().take(START).collect();
    let more = claim.split_whitespace().nth(START).is_some();
    format!("{}{}", words.join(" "), if more { " …" } else { "" })
}

/// Is the issue about this line?
pub fn is_about(issue: &str, line: &str) -> bool {
    let Some((_, quote)) = issue.split_once(": \"") else { return false };
    let quote = quote.trim_end_matches('"').trim_end_matches(" …");
    let words: Vec<&str> = bare(line).split_whitespace().collect();
    !quote.is_empty() && words.join(" ").contains(quote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_finds_its_fault_and_only_that() {
        let of = |text: &str| issues(text, None);
        assert!(of(&"word and ".repeat(16))[0].starts_with("Shorten this sentence of 32 words"));
        assert!(of("It grew by 40 percent.")[0].starts_with(SOURCE));
        assert!(of("It is the the end.")[0].starts_with("Strike the doubled word \"the\""));
        assert!(of("Our pump never fails.")[0].starts_with("Prove or leave out \"never\""));
        assert!(of("It grew by 40 percent (report.md).").is_empty());
        assert!(of("A short claim without figures.").is_empty());
        assert!(of(r#"{"a": "It grew by 40 percent."}"#).is_empty());
        assert!(issues("One two three.", Some(2))[0].starts_with(LENGTH));
    }

    #[test]
    fn where_places_are_named_every_claim_has_one() {
        let text =
            "# Brief\n\nThe hull is sound.\n\n- \"It was painted.\" (a.md:3)\n\n## Still open\n\n- The engine.\n";
        assert_eq!(issues(text, None), ["Name the source of: \"The hull is sound.\""]);
        assert!(is_about(&issues(text, None)[0], "The hull is sound."));
    }
}
