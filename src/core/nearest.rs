//! "Did you mean". Invariant: a suggestion is one of the candidates, and near enough to be a slip.

/// The candidate nearest to `word`, if it is near: at most a third of its letters differ (a swap of
/// two neighbours counts once), or one starts with the other.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let folded = word.to_lowercase().replace('-', "_");
    let limit = (folded.chars().count() / 3).max(1);
    let best = candidates.into_iter().map(|c| (distance(&folded, &c.to_lowercase()), c)).min_by_key(|(d, _)| *d)?;
    let begins = folded.len() >= 3 && (best.1.starts_with(&folded) || folded.starts_with(best.1) && best.1.len() >= 3);
    (best.0 <= limit || begins).then_some(best.1)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    // Nobody misspells a name of hundreds of letters, and the work is quadratic.
    let a: Vec<char> = a.chars().take(80).collect();
    let b: Vec<char> = b.chars().take(80).collect();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_found_and_other_words_are_not() {
        let keys = ["backstory", "goal", "model", "max_turns", "tools"];
        assert_eq!(nearest("backstroy", keys), Some("backstory"));
        assert_eq!(nearest("max-turns", keys), Some("max_turns"));
        assert_eq!(nearest("Model", keys), Some("model"));
        assert_eq!(nearest("temperament", keys), None);
        assert_eq!(nearest("", []), None);
    }
}
