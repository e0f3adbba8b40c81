//! [`Words`]: what may stand in a label.

use std::{collections::HashSet, sync::OnceLock};

use metrics::SharedString;
use parking_lot::Mutex;

/// What stands for all that is beyond a bound.
pub(super) const OTHER: &str = "other";

/// Words that become labels: so many and no more.
pub(super) struct Words {
    known: Mutex<HashSet<SharedString>>,
    /// The same once there are as many as there may be. They do not change any more, and are read without a lock.
    full: OnceLock<HashSet<SharedString>>,
    max: usize,
}

impl Words {
    pub(super) fn new(max: usize) -> Self {
        let full = if max == 0 { OnceLock::from(HashSet::new()) } else { OnceLock::new() };
        Self { known: Mutex::default(), full, max }
    }

    /// The word itself, or [`OTHER`].
    pub(super) fn label(&self, word: &str) -> SharedString {
        if let Some(full) = self.full.get() {
            return full.get(word).cloned().unwrap_or(OTHER.into());
        }
        let mut known = self.known.lock();
        if let Some(word) = known.get(word) {
            return word.clone();
        }
        if known.len() >= self.max {
            return OTHER.into();
        }
        let word: SharedString = std::sync::Arc::<str>::from(word).into();
        known.insert(word.clone());
        if known.len() == self.max {
            // Nobody else can have set it: it takes the lock to come here, and a word that is new.
            let _ = self.full.set(known.clone());
        }
        word
    }

    /// Whether the word is [`OTHER`] by now, and for good.
    pub(super) fn is_beyond(&self, word: &str) -> bool {
        self.full.get().is_some_and(|full| !full.contains(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_beyond_the_bound_are_other_and_those_before_it_stay_what_they_are() {
        let words = Words::new(2);
        assert!(!words.is_beyond("c"), "there is room yet");
        let labels: Vec<_> =
            ["a", "b", "c", "a"].into_iter().map(|word| words.label(word).to_string()).collect();
        assert_eq!(labels, ["a", "b", OTHER, "a"]);
        assert!(words.is_beyond("c") && !words.is_beyond("a"));
        assert_eq!(&*Words::new(0).label("a"), OTHER);
    }
}
