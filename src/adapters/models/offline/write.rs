//! What the stand-in writes. Invariant: it states nothing of its own: every claim is a passage of the
//! material with its place, and what it says besides counts them or names what is missing.

use super::heard::Heard;
use super::passage::{Passage, bare, cut_place, of_line};
use super::review;
use super::text::{self, READABLE, Shape};

/// Findings of a research where the task names no number.
const FINDINGS: usize = 10;
/// Claims of a brief.
const CLAIMS: usize = 6;
/// Words of a text that are not claims: its headings, what is open.
const FRAME: usize = 60;
/// How a delegated part is introduced.
pub const PART: &str = "Your part as ";
const KINDS: [&str; 8] = ["brief", "article", "report", "memo", "letter", "handout", "note", "summary"];

/// The answer to a task without a schema, within `room` bytes where sentences allow.
pub fn answer(heard: &Heard, room: usize) -> String {
    let passages = heard.passages();
    if let Some((previous, issues)) = heard.revision() {
        return mended(&previous, &issues, &passages);
    }
    if let Some(text) = merged(heard) {
        return text;
    }
    let task = heard.first_task();
    if passages.is_empty() {
        let read = heard.read();
        if !read.is_empty() {
            return format!("{} holds no sentence to quote.", read.join(", "));
        }
        return outline(&task, heard.fenced("window").as_deref());
    }
    let shape = Shape::asked(&heard.task());
    let lower = task.to_lowercase();
    // `Three bullets about the report` asks for a list, not for a report.
    let kind = KINDS
        .iter()
        .filter(|_| shape.count.is_none())
        .find(|kind| lower.split(|c: char| !c.is_alphanumeric()).any(|word| word == **kind));
    let mut count = passages.len();
    loop {
        let text = match kind {
            Some(kind) => brief(kind, &passages, &shape, count),
            None => plain(&passages, &shape, count),
        };
        if text.len() <= room || count <= 1 {
            return text;
        }
        // Fewer whole sentences are better than a cut one.
        count = (count * room / text.len()).min(count - 1).max(1);
    }
}

/// The most telling passages, in the order of their sources.
pub fn chosen(passages: &[Passage], count: usize, words: Option<usize>) -> Vec<Passage> {
    let texts: Vec<&str> = passages.iter().map(|passage| passage.text.as_str()).collect();
    text::best(&texts, count, words).into_iter().map(|at| passages[at].clone()).collect()
}

/// A list where one was asked for or where places are known, else sentences.
fn plain(passages: &[Passage], shape: &Shape, most: usize) -> String {
    let in_files = passages.iter().any(|passage| passage.in_file);
    let usual = match (in_files, shape.words) {
        (true, None) => FINDINGS,
        (false, None) => text::USUAL,
        (_, Some(_)) => usize::MAX,
    };
    let said = chosen(passages, shape.count.unwrap_or(usual).min(most), shape.words);
    if in_files {
        return said.iter().map(|passage| format!("- {}", passage.quoted())).collect::<Vec<_>>().join("\n");
    }
    let texts: Vec<String> = said.into_iter().map(|passage| passage.text).collect();
    match shape.bullets {
        true => texts.iter().map(|text| format!("- {text}")).collect::<Vec<_>>().join("\n"),
        false => text::paragraphs(&texts),
    }
}

/// A heading, the first of the chosen claims, the others with their places, and what is left out.
fn brief(kind: &str, passages: &[Passage], shape: &Shape, most: usize) -> String {
    let room = shape.words.map(|words| words.saturating_sub(FRAME).max(1));
    let usual = shape.count.unwrap_or(if shape.words.is_some_and(|words| words > 500) { FINDINGS } else { CLAIMS });
    let all = chosen(passages, (usual + 1).min(most), room);
    let (first, rest) = kind.split_at(1);
    let mut out = format!("# {}{rest} on {}\n\n", first.to_uppercase(), sources(passages));
    // Authors say first what matters.
    let (lead, others) = all.split_first().map_or((None, &[][..]), |(lead, others)| (Some(lead), others));
    if let Some(lead) = lead {
        out.push_str(&format!("{}\n", lead.text));
    }
    if !others.is_empty() {
        out.push_str("\n## What the sources say\n\n");
        others.iter().for_each(|passage| out.push_str(&format!("- {}\n", passage.cited())));
    }
    let left = passages.len().saturating_sub(all.len());
    out.push_str("\n## Still open\n\n");
    out.push_str(&match left {
        0 => "- Whether the sources are right: nothing was checked beyond their words.\n".to_owned(),
        n => format!("- {n} of {} findings are left out here.\n", passages.len()),
    });
    out.trim_end().to_owned()
}

/// `README.md`, `a.md and b.md`, `a.md, b.md and 2 more`, or the names of the fences.
fn sources(passages: &[Passage]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in passages.iter().map(|passage| passage.file().unwrap_or(&passage.place)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.as_slice() {
        [] => "nothing".to_owned(),
        [one] => (*one).to_owned(),
        [one, two] => format!("{one} and {two}"),
        [one, two, three] => format!("{one}, {two} and {three}"),
        [one, two, rest @ ..] => format!("{one}, {two} and {} more", rest.len()),
    }
}

/// Where there is nothing to write from: what was asked, and that nothing was given.
fn outline(task: &str, window: Option<&str>) -> String {
    let title = task.lines().next().and_then(|line| line.split('"').nth(1));
    let after = window.and_then(|text| text.lines().rev().find_map(|line| line.strip_prefix("## ")));
    let Some(title) = title else {
        let asked: String =
            task.split("\n\n").next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ");
        let asked = asked.strip_prefix(PART).and_then(|rest| rest.split_once(": ")).map_or(&*asked, |(_, rest)| rest);
        return format!(
            "Asked: {asked}\n\nNo text, file or figure came with it. The stand-in adds nothing of its own; \
             a language model would answer here."
        );
    };
    let mut out = format!("## {title}\n");
    if let Some(after) = after {
        out.push_str(&format!("\nFollows \"{after}\".\n"));
    }
    let points = task.lines().find_map(|line| line.split_once("cover: ")).map(|(_, points)| points);
    if let Some(points) = points {
        out.push_str("\nTo be covered:\n\n");
        let split = points.split([';', ':']).map(str::trim).filter(|point| !point.is_empty());
        split.for_each(|point| out.push_str(&format!("- {point}\n")));
    }
    out.push_str("\nNo text came with the task: these are its points, not their answers.");
    out
}

/// The results of delegated tasks under the names of those who did them.
pub fn merged(heard: &Heard) -> Option<String> {
    let part = |(to, result): (String, String)| format!("## {to}\n\n{}", readable(&result));
    let parts: Vec<String> = heard.delegated().map(part).collect();
    (!parts.is_empty()).then(|| parts.join("\n\n"))
}

/// A typed result as lines; headings of a text one level down.
fn readable(result: &str) -> String {
    let Ok(serde_json::Value::Object(map)) = serde_json::from_str(result) else {
        let lines = result.trim().lines();
        let lower = |line: &str| if line.starts_with('#') { format!("##{line}") } else { line.to_owned() };
        return lines.map(lower).collect::<Vec<_>>().join("\n");
    };
    let mut out = Vec::new();
    for (name, value) in &map {
        match value {
            serde_json::Value::Array(list) if list.is_empty() => out.push(format!("- {name}: none")),
            serde_json::Value::Array(list) => {
                out.push(format!("- {name}:"));
                out.extend(list.iter().map(|item| format!("  - {}", plain_value(item))));
            }
            other => out.push(format!("- {name}: {}", plain_value(other))),
        }
    }
    out.join("\n")
}

fn plain_value(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `previous` with each issue put right that a rule can put right; the others are named at its end.
pub fn mended(previous: &str, issues: &[String], passages: &[Passage]) -> String {
    let mut lines: Vec<String> = previous.trim().lines().map(str::to_owned).collect();
    let mut not = Vec::new();
    for issue in issues {
        if issue.starts_with(review::LENGTH) {
            shorten(&mut lines, issue);
            continue;
        }
        let at = lines.iter().position(|line| review::is_about(issue, line));
        let mended = at.and_then(|at| Some((at, mend_line(&lines[at], issue, passages)?)));
        match mended {
            Some((at, line)) if bare(&line).is_empty() => drop(lines.remove(at)),
            Some((at, line)) => lines[at] = line,
            None => not.push(format!("- {issue}")),
        }
    }
    let mut text = lines.join("\n");
    if !not.is_empty() {
        text.push_str(&format!("\n\n## Open: what the stand-in cannot put right\n\n{}", not.join("\n")));
    }
    text
}

/// A line with the issue put right; empty if the text is better without it; `None` if no rule can mend it.
fn mend_line(line: &str, issue: &str, passages: &[Passage]) -> Option<String> {
    if cut_place(line).is_some() {
        return mend(line, issue, passages);
    }
    // Only the sentence in question, where a line has several.
    let sentence = text::sentences(line).into_iter().find(|sentence| review::is_about(issue, sentence));
    let sentence = sentence.unwrap_or_else(|| line.to_owned());
    let new = mend(&sentence, issue, passages)?;
    Some(line.replacen(&sentence, &new, 1).trim().replace("  ", " "))
}

fn mend(claim: &str, issue: &str, passages: &[Passage]) -> Option<String> {
    if issue.starts_with(review::PROOF) {
        return Some(String::new());
    }
    if issue.starts_with(review::SOURCE) {
        let known = passages.iter().find(|passage| claim.contains(passage.text.as_str()));
        let with = |passage: &Passage| match (passage.in_file, claim.strip_suffix('.')) {
            (false, Some(open)) => format!("{open} ({}).", passage.place),
            (true, _) | (false, None) => format!("{} ({})", claim.trim_end(), passage.place),
        };
        return Some(known.map(with).unwrap_or_default());
    }
    if issue.starts_with(review::TWICE) {
        let word = review::twice(claim)?;
        let mut words: Vec<&str> = claim.split_whitespace().collect();
        let at = words.windows(2).position(|pair| pair[0] == word && pair[1].eq_ignore_ascii_case(word))?;
        words.remove(at + 1);
        return Some(words.join(" "));
    }
    if !issue.starts_with(review::SPLIT) {
        return None;
    }
    let (said, place) = cut_place(claim).map_or((claim, None), |(said, place)| (said, Some(place)));
    let words: Vec<&str> = said.split_whitespace().take(READABLE - 1).collect();
    let place = place.map(|place| format!(" ({place})")).unwrap_or_default();
    let quote = if bare(said).starts_with('"') { "\"" } else { "" };
    Some(format!("{} …{quote}{place}", words.join(" ")))
}

/// Leaves out claims from the end, but for what is open, until the text has the words it may have.
fn shorten(lines: &mut Vec<String>, issue: &str) {
    let most = issue.rsplit_once("words, ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
    let count = |lines: &[String]| lines.iter().map(|line| line.split_whitespace().count()).sum::<usize>();
    while count(lines) > most.unwrap_or(usize::MAX) {
        let last = lines.iter().rposition(|line| of_line(line).is_some());
        let last = last.or_else(|| lines.iter().rposition(|line| !line.trim().is_empty()));
        let Some(last) = last else { return };
        lines.remove(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::models::offline::passage::of_file;

    const SOURCE: &str = "The hull was painted in 2019. It is sound.\n\nThe engine has run 8,200 hours since it was \
                          rebuilt. The mate keeps the log. Nobody has looked at the anchor chain.\n";

    #[test]
    fn a_brief_states_only_what_its_sources_say_and_its_revision_ends_the_review() {
        let passages = of_file("notes/ship.md", 1, SOURCE);
        let draft = brief("brief", &passages, &Shape::default(), 9);
        assert!(draft.starts_with("# Brief on notes/ship.md\n\n"), "{draft}");
        assert!(draft.contains("- The mate keeps the log. (notes/ship.md:3)"), "{draft}");
        let issues = review::issues(&draft, None);
        assert_eq!(issues.len(), 1, "{issues:?}");
        let second = mended(&draft, &issues, &passages);
        assert_ne!(second, draft);
        assert_eq!(review::issues(&second, None), Vec::<String>::new(), "{second}");
    }

    #[test]
    fn every_issue_of_the_rules_is_mended_by_them() {
        let long = format!("It is {} end.", "very ".repeat(31).replace("very very", "very much"));
        let text = format!("It grew by 40 percent. We never fail. The the end.\n\n{long}");
        let passages = super::super::passage::of_material("notes", "It grew by 40 percent.");
        let issues = review::issues(&text, None);
        assert_eq!(issues.len(), 4, "{issues:?}");
        let mended = mended(&text, &issues, &passages);
        assert!(mended.starts_with("It grew by 40 percent (notes)."), "{mended}");
        assert!(!mended.contains("never"), "{mended}");
        assert!(review::issues(&mended, None).is_empty(), "{mended}");
    }

    #[test]
    fn what_it_cannot_put_right_is_named() {
        let text = mended("A text.", &["The tone is wrong.".to_owned()], &[]);
        assert!(text.contains("A text.") && text.contains("cannot put right") && text.contains("- The tone is wrong."));
        let shorter = mended(
            "# T\n\n- one two (a.md:1)\n- three four (a.md:2)",
            &["Shorten the text: it has 10 words, 7 were asked for.".to_owned()],
            &[],
        );
        assert_eq!(shorter, "# T\n\n- one two (a.md:1)");
    }

    #[test]
    fn without_material_it_says_so() {
        let said = outline(
            "Write the section \"Fire\".\n\nWhat it must cover: who fights it; who calls",
            Some("## Water\n\nx"),
        );
        assert!(
            said.starts_with("## Fire\n\nFollows \"Water\".\n\nTo be covered:\n\n- who fights it\n- who calls\n"),
            "{said}"
        );
        assert!(outline("Plan it.\n\nAnd more.", None).starts_with("Asked: Plan it.\n\nNo text"));
    }
}
