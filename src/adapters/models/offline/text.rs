//! Extractive summaries. Invariant: every sentence of a summary is in its source, once, in the
//! source's order.

use std::collections::{HashMap, HashSet};

/// Sentences of a summary where the task names no number.
pub const USUAL: usize = 5;
/// Sentences in a paragraph.
const PARAGRAPH: usize = 4;
const NOTHING: &str = "There is no text to work on.";

/// The shape that a task asks for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// `ten facts`, `3 bullets`.
    pub count: Option<usize>,
    /// `800-word`, `at most 50 words`.
    pub words: Option<usize>,
    pub bullets: bool,
}

impl Shape {
    pub fn asked(task: &str) -> Shape {
        const NUMBERS: [&str; 12] =
            ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];
        const LISTS: [&str; 8] = ["bullet", "fact", "point", "item", "quote", "finding", "idea", "reason"];
        let tokens: Vec<String> = task
            .split(|c: char| !c.is_alphanumeric() && c != ',')
            .map(|word| word.replace(',', "").to_lowercase())
            .filter(|word| !word.is_empty())
            .collect();
        let is = |word: &String, of: &[&str]| of.iter().any(|noun| word.starts_with(noun));
        let mut shape = Shape { bullets: tokens.iter().any(|word| is(word, &["bullet", "list"])), ..Shape::default() };
        for (i, token) in tokens.iter().enumerate() {
            let spelt = NUMBERS.iter().position(|number| number == token).map(|at| at + 1);
            let Some(number) = token.parse().ok().or(spelt).filter(|n| (1..=100_000).contains(n)) else { continue };
            let near = tokens.iter().skip(i + 1).take(3);
            if tokens.get(i + 1).is_some_and(|next| next.starts_with("word")) {
                shape.words = shape.words.or(Some(number));
            } else if shape.count.is_none() && near.clone().any(|next| is(next, &LISTS) || is(next, &["sentence"])) {
                shape.count = Some(number);
                shape.bullets |= near.clone().any(|next| is(next, &LISTS));
            }
        }
        shape
    }
}

/// Sentences of `text` in order, without headings, list marks and repetitions.
pub fn sentences(text: &str) -> Vec<String> {
    let mut paragraphs: Vec<String> = vec![String::new()];
    for line in text.lines().map(str::trim) {
        let bare = line.trim_start_matches(['-', '*', '•', '>', '|']).trim_start();
        let bare = bare.split_once(". ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(bare, |(_, tail)| tail);
        let ends = line.is_empty() || line.starts_with('#') || line.starts_with("```");
        // A list item is a sentence of its own even without a full stop.
        if ends || bare.len() < line.len() {
            paragraphs.push(String::new());
        }
        if !ends && let Some(last) = paragraphs.last_mut() {
            last.push_str(bare);
            last.push(' ');
        }
    }
    let mut seen = HashSet::new();
    let all: Vec<String> = paragraphs.iter().flat_map(|paragraph| split(paragraph)).collect();
    all.into_iter().filter(|s| s.chars().any(char::is_alphabetic) && seen.insert(s.to_lowercase())).collect()
}

fn split(paragraph: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut start = 0;
    for (at, mark) in paragraph.char_indices().filter(|(_, c)| ".!?".contains(*c)) {
        let end = at + mark.len_utf8();
        let (said, rest) = (&paragraph[start..end], &paragraph[end..]);
        // Quotes and brackets that close belong to the sentence that they end.
        let close = rest.chars().take_while(|c| "\"')]”’".contains(*c)).map(char::len_utf8).sum::<usize>();
        let (end, rest) = (end + close, &rest[close..]);
        let short =
            ["e.g.", "i.e.", "etc.", "vs.", "Dr.", "Mr.", "Ms.", "No.", "cf."].iter().any(|s| said.ends_with(s));
        if !short && rest.starts_with(char::is_whitespace) {
            out.push(paragraph[start..end].trim().to_owned());
            start = end;
        }
    }
    out.push(paragraph[start..].trim().to_owned());
    out.into_iter().filter(|sentence| !sentence.is_empty()).collect()
}

/// At most `count` sentences and about `words` words, the most telling ones, in order.
pub fn best(sentences: &[String], count: usize, words: Option<usize>) -> Vec<String> {
    let bag = |sentence: &str| -> Vec<String> {
        let words = sentence.split(|c: char| !c.is_alphanumeric()).map(str::to_lowercase);
        words.filter(|word| word.chars().count() > 3).collect()
    };
    let mut often: HashMap<String, usize> = HashMap::new();
    for word in sentences.iter().flat_map(|sentence| bag(sentence)) {
        *often.entry(word).or_default() += 1;
    }
    let score = |sentence: &str| {
        let bag = bag(sentence);
        let sum: usize = bag.iter().map(|word| often.get(word).copied().unwrap_or(0)).sum();
        let facts = usize::from(sentence.chars().any(|c| c.is_ascii_digit())) * 30;
        sum * 100 / (bag.len() + 5) + facts
    };
    let mut order: Vec<(usize, usize)> = sentences.iter().map(|s| score(s)).enumerate().map(|(i, s)| (s, i)).collect();
    // The earlier of two equal ones: authors say first what matters.
    order.sort_by(|(a, i), (b, j)| b.cmp(a).then(i.cmp(j)));
    let mut room = words.unwrap_or(usize::MAX);
    let mut taken: Vec<usize> = Vec::new();
    for (_, at) in order {
        let size = sentences[at].split_whitespace().count();
        if taken.len() < count && (size <= room || taken.is_empty()) {
            room = room.saturating_sub(size);
            taken.push(at);
        }
    }
    taken.sort_unstable();
    taken.into_iter().map(|at| sentences[at].clone()).collect()
}

pub fn paragraphs(sentences: &[String]) -> String {
    if sentences.is_empty() {
        return NOTHING.to_owned();
    }
    let parts: Vec<String> = sentences.chunks(PARAGRAPH).map(|chunk| chunk.join(" ")).collect();
    parts.join("\n\n")
}

/// The summary of `source` in the shape that `task` asks for, within `room` bytes where sentences allow.
pub fn summary(source: &str, task: &str, room: usize) -> String {
    let shape = Shape::asked(task);
    let all = sentences(source);
    let usual = if shape.words.is_some() { usize::MAX } else { USUAL };
    let mut count = shape.count.unwrap_or(usual).min(all.len());
    loop {
        let chosen = best(&all, count, shape.words);
        let text = match shape.bullets && !chosen.is_empty() {
            true => chosen.iter().map(|s| format!("- {s}")).collect::<Vec<_>>().join("\n"),
            false => paragraphs(&chosen),
        };
        if text.len() <= room || count <= 1 {
            return text;
        }
        // Fewer whole sentences are better than a cut one.
        count = (chosen.len() * room / text.len()).min(count - 1).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cut_where_they_end() {
        let text = "# Title\nOne is 3.5 long, e.g. this\none. \"Two!\" Three?\n\n- item a\n2. item b\n\nOne is 3.5 long, e.g. this one.";
        assert_eq!(sentences(text), ["One is 3.5 long, e.g. this one.", "\"Two!\"", "Three?", "item a", "item b"]);
        assert!(sentences(" \n# x\n---\n12. \n").is_empty());
    }

    #[test]
    fn shapes_are_read_from_the_task() {
        let shape = |count, words, bullets| Shape { count, words, bullets };
        assert_eq!(Shape::asked("Ten facts about x"), shape(Some(10), None, true));
        assert_eq!(Shape::asked("An 800-word article from the research"), shape(None, Some(800), false));
        assert_eq!(Shape::asked("3 short sentences, at most 1,200 words"), shape(Some(3), Some(1200), false));
        assert_eq!(Shape::asked("A bulleted summary"), shape(None, None, true));
        assert_eq!(Shape::asked("Sum it up"), Shape::default());
    }

    #[test]
    fn a_summary_is_sentences_of_the_source_in_order_within_its_room() {
        let source: String = (0..40).map(|i| format!("Sentence {i} speaks of boats and budgets. ")).collect();
        let all = sentences(&source);
        let text = summary(&source, "three facts", 10_000);
        let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix("- ").unwrap()).collect();
        assert_eq!(lines.len(), 3);
        let places: Vec<usize> = lines.iter().map(|line| all.iter().position(|s| s == line).unwrap()).collect();
        assert!(places.is_sorted());
        assert!(summary(&source, "an 800-word text", 200).len() <= 200);
        let words = summary(&source, "a 50-word text", 10_000).split_whitespace().count();
        assert!((40..=50).contains(&words), "{words}");
        assert_eq!(summary("", "sum up", 100), NOTHING);
    }
}
