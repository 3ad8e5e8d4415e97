//! Extractive summaries. Invariant: every sentence of a summary is in its source, once, in the
//! source's order.

use std::collections::{HashMap, HashSet};

use super::passage::bare;

/// Sentences of a summary where the task names no number.
pub const USUAL: usize = 5;
/// Sentences in a paragraph.
const PARAGRAPH: usize = 4;
/// Words beyond which a sentence is hard to read.
pub const READABLE: usize = 30;

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
    numbered(text).into_iter().map(|(_, sentence)| sentence).collect()
}

/// A paragraph under construction: its text, and where each of its lines begins in it.
#[derive(Default)]
struct Paragraph {
    text: String,
    lines: Vec<(usize, usize)>,
}

impl Paragraph {
    fn push(&mut self, line: usize, text: &str) {
        self.lines.push((self.text.len(), line));
        self.text.push_str(text);
        self.text.push(' ');
    }
    fn line_at(&self, offset: usize) -> usize {
        self.lines.iter().rev().find(|(start, _)| *start <= offset).map_or(1, |(_, line)| *line)
    }
}

/// As [`sentences`], each with the line it begins in, from 1.
pub fn numbered(text: &str) -> Vec<(usize, String)> {
    let mut paragraphs = vec![Paragraph::default()];
    // Front matter says how a file is to be used, fenced code is for machines.
    let (mut skipped, mut matter) = (None, text.starts_with("+++\n") || text.starts_with("---\n"));
    for (at, line) in text.lines().map(str::trim).enumerate() {
        let mark = ["+++", "```", "~~~"].into_iter().chain((at == 0 && matter).then_some("---"));
        let mark = mark.into_iter().find(|mark| line.starts_with(mark));
        let closes = skipped.is_some_and(|open: &str| line.starts_with(open));
        if closes || skipped.is_some() || mark.is_some_and(|mark| mark != "+++" || (at == 0 && matter)) {
            skipped = if closes { None } else { skipped.or(mark) };
            matter = false;
            paragraphs.push(Paragraph::default());
            continue;
        }
        // The end of a result that was capped: what stands before it was cut in mid-sentence.
        if line.starts_with("[cut here: ") {
            paragraphs.pop();
            paragraphs.push(Paragraph::default());
            continue;
        }
        let bare = bare(line.trim_start_matches(['>', ' ']));
        let bare = bare.split_once(". ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(bare, |(_, tail)| tail);
        let ends = line.is_empty()
            || ["#", "|", "<", "{%", "{{", "[!", "![", "===", "---"].iter().any(|m| line.starts_with(m));
        // A list item is a sentence of its own even without a full stop.
        if ends || bare.len() < line.len() {
            paragraphs.push(Paragraph::default());
        }
        if !ends && let Some(last) = paragraphs.last_mut() {
            last.push(at + 1, bare);
        }
    }
    let mut seen = HashSet::new();
    let said = paragraphs.iter().flat_map(|paragraph| {
        let sentences = split(&paragraph.text).into_iter();
        sentences.map(|(offset, sentence)| (paragraph.line_at(offset), sentence))
    });
    let is_said = |s: &str| s.chars().any(char::is_alphabetic) && !s.contains("{{") && !s.contains("{%");
    said.filter(|(_, s)| is_said(s) && seen.insert(s.to_lowercase())).collect()
}

/// Sentences of a paragraph with their offsets.
fn split(paragraph: &str) -> Vec<(usize, String)> {
    let mut out = Vec::new();
    let mut start = 0;
    for (at, mark) in paragraph.char_indices().filter(|(_, c)| ".!?".contains(*c)) {
        if at < start {
            continue;
        }
        let end = at + mark.len_utf8();
        let (said, rest) = (&paragraph[start..end], &paragraph[end..]);
        // Quotes and brackets that close belong to the sentence that they end.
        let close = rest.chars().take_while(|c| "\"')]”’*".contains(*c)).map(char::len_utf8).sum::<usize>();
        let (end, rest) = (end + close, &rest[close..]);
        let short =
            ["e.g.", "i.e.", "etc.", "vs.", "Dr.", "Mr.", "Ms.", "No.", "cf."].iter().any(|s| said.ends_with(s));
        let goes_on = rest.trim_start().starts_with(char::is_lowercase);
        if !short && !goes_on && rest.starts_with(char::is_whitespace) {
            out.push((start, &paragraph[start..end]));
            start = end + rest.len() - rest.trim_start().len();
        }
    }
    out.push((start, &paragraph[start..]));
    let trimmed = out.into_iter().map(|(offset, sentence)| (offset, sentence.trim().to_owned()));
    trimmed.filter(|(_, sentence)| !sentence.is_empty()).collect()
}

/// Places of at most `count` sentences of about `words` words in all, the most telling ones, in order.
pub fn best(sentences: &[&str], count: usize, words: Option<usize>) -> Vec<usize> {
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
        let points = sum * 100 / (bag.len() + 5) + facts;
        // A stub says too little, an endless sentence is no quote.
        let fits = (5..=READABLE).contains(&sentence.split_whitespace().count()) && !sentence.ends_with(':');
        if fits { points } else { points / 3 }
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
    taken
}

pub fn paragraphs(sentences: &[String]) -> String {
    let parts: Vec<String> = sentences.chunks(PARAGRAPH).map(|chunk| chunk.join(" ")).collect();
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_cut_where_they_end() {
        let text = "# Title\nOne is 3.5 long (or so ...) e.g. this\none. \"Two!\" Three?\n\n- item a\n2. item b\n\nOne is 3.5 long (or so ...) e.g. this one.";
        assert_eq!(
            sentences(text),
            ["One is 3.5 long (or so ...) e.g. this one.", "\"Two!\"", "Three?", "item a", "item b"]
        );
        assert!(sentences(" \n# x\n---\n12. \n").is_empty());
        assert_eq!(
            sentences("One is whole.\n\nTwo is\n[cut here: 9 of 99 tokens are shown]\n\nThree."),
            ["One is whole.", "Three."]
        );
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
    fn front_matter_code_tables_and_templates_are_no_sentences() {
        let text = "+++\na = \"b c d\"\n+++\nYou are {{ x }}.\n\n```\nlet it = be;\n```\n| a | b |\nOne stands here.\n";
        assert_eq!(numbered(text), [(10, "One stands here.".to_owned())]);
    }

    #[test]
    fn the_best_are_chosen_in_order_within_their_room() {
        let all: Vec<String> = (0..40).map(|i| format!("Sentence {i} speaks of boats and budgets.")).collect();
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        let chosen = best(&all, 3, None);
        assert!(chosen.len() == 3 && chosen.is_sorted());
        let words: usize = best(&all, 40, Some(50)).iter().map(|at| all[*at].split_whitespace().count()).sum();
        assert!((40..=50).contains(&words), "{words}");
        assert!(best(&[], 3, None).is_empty());
    }
}
