//! [`Alphabet`]: what BERT's normalizer and pre-tokenizer make of single characters.
//!
//! Both look at one character at a time, so a word of characters that each become one other needs neither: it is spelled with
//! what they become, cut where one stands alone, and only the model is asked. What a character becomes is asked of the
//! library itself, once. It takes 25 µs to encode a word as a whole, most of them for keeping track of where every byte came from.

use std::sync::atomic::{AtomicU32, Ordering};

use tokenizers::tokenizer::{Normalizer, OffsetReferential, OffsetType, PreTokenizer};
use tokenizers::{PreTokenizedString, Tokenizer};

/// What a character becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A part of the word around it.
    Letter(char),
    /// A word of its own, as punctuation and ideographs are.
    Alone(char),
}

/// How many characters are remembered: those of the basic plane.
const REMEMBERED: usize = 1 << 16;

const UNASKED: u32 = 0;
const OTHER: u32 = 1 << 30;
const LETTER: u32 = 2 << 30;
const ALONE: u32 = 3 << 30;

/// What each character becomes, as far as it was asked.
pub(super) struct Alphabet(Box<[AtomicU32]>);

impl Default for Alphabet {
    fn default() -> Self {
        Self((0..REMEMBERED).map(|_| AtomicU32::new(UNASKED)).collect())
    }
}

impl Alphabet {
    /// What `tokenizer`, always the same one, makes of `c`; none if that is anything but one character at its place.
    pub(super) fn shape(&self, tokenizer: &Tokenizer, c: char) -> Option<Shape> {
        let entry = self.0.get(c as usize)?;
        let mut known = entry.load(Ordering::Relaxed);
        if known == UNASKED {
            known = match ask(tokenizer, c) {
                Some(Shape::Letter(c)) => LETTER | u32::from(c),
                Some(Shape::Alone(c)) => ALONE | u32::from(c),
                None => OTHER,
            };
            entry.store(known, Ordering::Relaxed);
        }
        let becomes = char::from_u32(known & !ALONE)?;
        match known & ALONE {
            LETTER => Some(Shape::Letter(becomes)),
            ALONE => Some(Shape::Alone(becomes)),
            _ => None,
        }
    }
}

/// Asks the library what becomes of `c` between two letters.
fn ask(tokenizer: &Tokenizer, c: char) -> Option<Shape> {
    let mut text = PreTokenizedString::from(format!("a{c}a"));
    if let Some(normalizer) = tokenizer.get_normalizer() {
        text.normalize(|part| normalizer.normalize(part)).ok()?;
    }
    if let Some(pre_tokenizer) = tokenizer.get_pre_tokenizer() {
        pre_tokenizer.pre_tokenize(&mut text).ok()?;
    }
    let splits = text.get_splits(OffsetReferential::Original, OffsetType::Char);
    let only = |text: &str| {
        let mut characters = text.chars();
        characters.next().filter(|_| characters.next().is_none())
    };
    match splits[..] {
        [(whole, (0, 3), _)] => {
            let inner = whole.strip_prefix('a')?.strip_suffix('a')?;
            only(inner).map(Shape::Letter)
        }
        [("a", (0, 1), _), (middle, (1, 2), _), ("a", (2, 3), _)] => only(middle).map(Shape::Alone),
        _ => None,
    }
}
