//! Texts that the store was given lately. Invariant: a text is left out of a batch only if an
//! earlier batch of the same run carried it; the store writes batches in their order.

use std::collections::{HashSet, VecDeque};

use crate::core::ids::BlobId;

/// The latest texts, so many that what repeats is among them.
#[derive(Default)]
pub struct Given {
    known: HashSet<BlobId>,
    order: VecDeque<BlobId>,
}
impl Given {
    const MOST: usize = 1024;

    /// `true` of a text that has not been given lately.
    pub fn is_new(&mut self, id: BlobId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        if self.order.len() == Given::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(id);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_new_once_until_many_others_have_come() {
        let mut given = Given::default();
        let id = |n: usize| BlobId::of(&n.to_le_bytes());
        assert!(given.is_new(id(0)) && !given.is_new(id(0)));
        (1..Given::MOST).for_each(|n| assert!(given.is_new(id(n))));
        assert!(!given.is_new(id(0)), "it is still among the latest");
        assert!(given.is_new(id(Given::MOST)) && given.is_new(id(0)));
    }
}
