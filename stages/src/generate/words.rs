//! Invented words: made of syllables and dealt out over the splits, so that a word of one split is in no other.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Split;
use super::grammar::GrammarError;
use crate::rng::Rng;

/// The syllables of a language's invented words: `first` + `last` or `first` + `middle` + `last`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Syllables {
    first: Vec<String>,
    middle: Vec<String>,
    last: Vec<String>,
}

/// The fewest words of one length; with fewer, a split would get none.
const FEWEST_WORDS: usize = 7;

impl Syllables {
    /// Checks that enough words can be made for every split.
    pub(super) fn check(&self, place: &str) -> Result<(), GrammarError> {
        let syllables = || self.first.iter().chain(&self.middle).chain(&self.last);
        let message =
            if let Some(odd) = syllables().find(|syllable| syllable.trim() != *syllable || syllable.is_empty()) {
                format!("syllable `{odd}` is empty or has blanks around it")
            } else if let Some(words) = self.words().iter().find(|words| words.len() < FEWEST_WORDS) {
                format!(
                    "they form {} words of one length; three splits need at least {FEWEST_WORDS}",
                    words.len()
                )
            } else {
                return Ok(());
            };
        Err(GrammarError::Wrong {
            place: place.to_owned(),
            message,
        })
    }

    /// All words of two syllables and all others of three, each once.
    fn words(&self) -> [Vec<String>; 2] {
        let mut known = BTreeSet::new();
        let mut new = |word: String| known.insert(word.clone()).then_some(word);
        let pairs = || {
            self.first
                .iter()
                .flat_map(|first| self.last.iter().map(move |last| (first, last)))
        };
        let short = pairs()
            .filter_map(|(first, last)| new(format!("{first}{last}")))
            .collect();
        let long = pairs()
            .flat_map(|(first, last)| self.middle.iter().map(move |middle| format!("{first}{middle}{last}")))
            .filter_map(new)
            .collect();
        [short, long]
    }
}

/// A language's invented words by split.
#[derive(Debug)]
pub(super) struct Words {
    /// Split, in the order of [`Split`] → its words, those of two syllables and those of three; none is empty.
    by_split: [[Vec<String>; 2]; 3],
}

impl Words {
    /// Deals the words out at random: of 20 words, 12 to the training split, 3 to validation and 5 to test.
    pub(super) fn new(syllables: &Syllables, language: &str, seed: u64) -> Self {
        let mut by_split: [[Vec<String>; 2]; 3] = Default::default();
        for (length, mut words) in syllables.words().into_iter().enumerate() {
            Rng::new(seed, &format!("words {language}"))
                .step(length as u64)
                .shuffle(&mut words);
            let test = words.split_off(words.len() * 15 / 20);
            let validation = words.split_off(words.len() * 12 / 15);
            for (split, words) in [words, validation, test].into_iter().enumerate() {
                by_split[split][length] = words;
            }
        }
        Self { by_split }
    }

    /// The words of `split`: a list of short ones and a list of long ones.
    pub(super) fn of(&self, split: Split) -> &[Vec<String>; 2] {
        &self.by_split[split as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLITS: [Split; 3] = [Split::Train, Split::Validation, Split::Test];

    fn syllables(first: &[&str], middle: &[&str], last: &[&str]) -> Syllables {
        let own = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Syllables {
            first: own(first),
            middle: own(middle),
            last: own(last),
        }
    }

    #[test]
    fn every_word_is_dealt_to_one_split() {
        // `Ba` + `ra` + `n` and `Ba` + `ran` are one word.
        let syllables = syllables(&["Ba", "Do", "Ke"], &["ra", "li"], &["n", "m", "ran"]);
        assert!(syllables.check("p").is_ok());
        let words = Words::new(&syllables, "en", 3);
        let all: Vec<&String> = SPLITS.iter().flat_map(|&split| words.of(split)).flatten().collect();
        let different: BTreeSet<&String> = all.iter().copied().collect();
        assert_eq!((all.len(), different.len()), (9 + 18 - 3, 9 + 18 - 3));
        assert!(
            SPLITS
                .iter()
                .flat_map(|&split| words.of(split))
                .all(|list| !list.is_empty())
        );
    }

    #[test]
    fn too_few_syllables_are_refused() {
        let error = syllables(&["Ba"], &["ra"], &["n"])
            .check("languages.en.syllables")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "languages.en.syllables: they form 1 words of one length; three splits need at least 7"
        );
    }
}
