//! Files that are still being written. Invariant: a file is given out once, after it was seen unchanged
//! for the settle time; a change begins that time anew, and makes it a file to be given out again.

use std::collections::BTreeMap;

/// How a file looks from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sight {
    pub size: u64,
    /// Of the last change, in nanoseconds since the epoch.
    pub modified_ns: i128,
    /// Another file under the same name is another file.
    pub inode: u64,
}

#[derive(Debug)]
struct Seen {
    sight: Sight,
    /// On the caller's clock, which never jumps back.
    since_ms: u64,
    given: bool,
}

/// The files of one folder, over time.
#[derive(Debug, Default)]
pub struct Settling {
    files: BTreeMap<String, Seen>,
}

impl Settling {
    /// Takes in what is there at a moment; the files that have settled since, oldest first. An empty file
    /// has been begun and not written: it waits for its content.
    pub fn look(&mut self, now_ms: u64, settle_ms: u64, there: Vec<(String, Sight)>) -> Vec<(String, Sight)> {
        let mut before = std::mem::take(&mut self.files);
        let mut settled = Vec::new();
        for (path, sight) in there {
            let known = before.remove(&path).filter(|seen| seen.sight == sight);
            let mut seen = known.unwrap_or(Seen { sight, since_ms: now_ms, given: false });
            if !seen.given && sight.size > 0 && now_ms.saturating_sub(seen.since_ms) >= settle_ms {
                seen.given = true;
                settled.push((path.clone(), sight));
            }
            self.files.insert(path, seen);
        }
        // What is gone is forgotten: under its key it is known to the store.
        settled.sort_by(|a, b| (a.1.modified_ns, &a.0).cmp(&(b.1.modified_ns, &b.0)));
        settled
    }

    /// The file was given out and could not be read as it was: it settles anew.
    pub fn again(&mut self, path: &str, now_ms: u64) {
        if let Some(seen) = self.files.get_mut(path) {
            (seen.given, seen.since_ms) = (false, now_ms);
        }
    }

    /// Files that are there and have not settled, empty ones not counted.
    pub fn unsettled(&self) -> usize {
        self.files.values().filter(|seen| !seen.given && seen.sight.size > 0).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: u64, modified_ns: i128) -> (String, Sight) {
        (path.to_owned(), Sight { size, modified_ns, inode: 7 })
    }
    fn names(settled: Vec<(String, Sight)>) -> Vec<String> {
        settled.into_iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn a_file_is_given_out_once_it_has_not_changed_for_the_settle_time() {
        let mut settling = Settling::default();
        assert!(settling.look(0, 2000, vec![file("a", 1, 5)]).is_empty());
        assert!(settling.look(1999, 2000, vec![file("a", 1, 5)]).is_empty());
        assert_eq!(settling.unsettled(), 1);
        assert_eq!(names(settling.look(2000, 2000, vec![file("a", 1, 5)])), ["a"]);
        assert_eq!(settling.unsettled(), 0);
        assert!(settling.look(9000, 2000, vec![file("a", 1, 5)]).is_empty(), "once");
    }

    #[test]
    fn a_file_that_grows_waits_and_one_that_changes_later_is_given_out_again() {
        let mut settling = Settling::default();
        for step in 0..20 {
            let growing = file("a", step + 1, i128::from(step));
            assert!(settling.look(step * 1500, 2000, vec![growing]).is_empty(), "it grows at {step}");
        }
        assert_eq!(names(settling.look(19 * 1500 + 2000, 2000, vec![file("a", 20, 19)])), ["a"]);
        assert!(settling.look(40_000, 2000, vec![file("a", 21, 99)]).is_empty());
        assert_eq!(names(settling.look(42_000, 2000, vec![file("a", 21, 99)])), ["a"]);
        // Of the same size and time, and another file.
        let other = ("a".to_owned(), Sight { size: 21, modified_ns: 99, inode: 8 });
        assert!(settling.look(43_000, 2000, vec![other.clone()]).is_empty());
        assert_eq!(names(settling.look(45_000, 2000, vec![other])), ["a"]);
    }

    #[test]
    fn an_empty_file_waits_for_its_content_and_a_file_that_is_gone_is_forgotten() {
        let mut settling = Settling::default();
        settling.look(0, 100, vec![file("a", 0, 1), file("b", 1, 1)]);
        assert!(settling.look(99, 100, vec![file("a", 0, 1)]).is_empty());
        assert!(settling.look(500, 100, vec![file("a", 0, 1), file("b", 1, 1)]).is_empty(), "b begins anew");
        assert_eq!(settling.unsettled(), 1, "an empty file is not waited for");
        assert_eq!(names(settling.look(600, 100, vec![file("a", 3, 2), file("b", 1, 1)])), ["b"]);
        assert_eq!(names(settling.look(700, 100, vec![file("a", 3, 2), file("b", 1, 1)])), ["a"]);
    }

    #[test]
    fn the_oldest_comes_first_and_one_that_could_not_be_read_comes_again() {
        let mut settling = Settling::default();
        let there = || vec![file("a", 1, 30), file("b", 1, 10), file("c", 1, 10)];
        settling.look(0, 100, there());
        assert_eq!(names(settling.look(100, 100, there())), ["b", "c", "a"]);
        settling.again("c", 150);
        assert!(settling.look(249, 100, there()).is_empty());
        assert_eq!(names(settling.look(250, 100, there())), ["c"]);
    }
}
