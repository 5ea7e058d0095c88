//! WordPiece vocabularies: a `tokenizer.json` from a list of subwords, built as BERT's tokenizer is, and vocabularies
//! trained on a corpus.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::{NormalizedString, Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer};

/// The tokens that every vocabulary needs; those that are trained begin with them.
pub const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// How text is prepared before it is cut into subwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// Whether letters are lower-cased and their accents stripped.
    pub lowercase: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { lowercase: true }
    }
}

/// The `tokenizer.json` of a BERT tokenizer with this vocabulary; a subword's id is its place in the list.
pub fn tokenizer_json(vocabulary: &[String], options: Options) -> Value {
    let place = |token: &str| vocabulary.iter().position(|entry| entry == token);
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .filter_map(|token| place(token).map(|id| (token, id)))
        .map(|(token, id)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let special = |token: &str, type_id: u32| json!({"SpecialToken": {"id": token, "type_id": type_id}});
    let sequence = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let entry = |token: &str| json!({"id": token, "ids": [place(token).unwrap_or(0)], "tokens": [token]});
    let vocab: Map<String, Value> = vocabulary
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), json!(id)))
        .collect();
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": options.lowercase
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0)],
            "pair": [special("[CLS]", 0), sequence("A", 0), special("[SEP]", 0), sequence("B", 1), special("[SEP]", 1)],
            "special_tokens": {"[CLS]": entry("[CLS]"), "[SEP]": entry("[SEP]")}
        },
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab
        }
    })
}

/// What is wrong with a vocabulary file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{line}: {reason}")]
pub struct VocabularyError {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong.
    pub reason: String,
}

/// Reads a vocabulary with one subword a line; a subword's id is its line, counted from 0.
///
/// # Errors
/// If a line is blank or repeats another, or a special token is missing (told at the last line).
pub fn read_vocabulary(text: &str) -> Result<Vec<String>, VocabularyError> {
    let vocabulary: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut seen: HashMap<&str, usize> = HashMap::with_capacity(vocabulary.len());
    for (index, token) in vocabulary.iter().enumerate() {
        let wrong = |reason: String| {
            Err(VocabularyError {
                line: index + 1,
                reason,
            })
        };
        if token.trim().is_empty() {
            return wrong("the line is blank; every line must be a subword".to_owned());
        }
        if let Some(first) = seen.insert(token, index + 1) {
            return wrong(format!("the subword `{token}` is in line {first} already"));
        }
    }
    match SPECIAL_TOKENS.iter().find(|token| !seen.contains_key(**token)) {
        Some(missing) => Err(VocabularyError {
            line: vocabulary.len(),
            reason: format!("the vocabulary lacks `{missing}`; add it as a line of its own"),
        }),
        None => Ok(vocabulary),
    }
}

/// Letters that a trained vocabulary spells at most; rarer ones become `[UNK]`.
const MAX_ALPHABET: usize = 4000;
/// How often a pair must occur to be joined.
const MIN_FREQUENCY: u64 = 2;
/// Words longer than this, in code points, are `[UNK]` to the tokenizer and teach nothing.
const MAX_WORD: usize = 100;

/// Counts the words of texts, as BERT's tokenizer cuts them.
pub struct WordCounter {
    normalizer: BertNormalizer,
}

/// How often each word occurs.
pub type WordCounts = BTreeMap<String, u64>;

impl WordCounter {
    /// A counter that prepares texts as a tokenizer with these options does.
    pub fn new(options: Options) -> Self {
        Self {
            normalizer: BertNormalizer::new(true, true, None, options.lowercase),
        }
    }

    /// The words of `text`.
    ///
    /// # Errors
    /// If the tokenizers library refuses the text.
    pub fn words(&self, text: &str) -> Result<Vec<String>, tokenizers::Error> {
        let mut normalized = NormalizedString::from(text);
        self.normalizer.normalize(&mut normalized)?;
        let mut words = PreTokenizedString::from(normalized);
        BertPreTokenizer.pre_tokenize(&mut words)?;
        let splits = words.get_splits(OffsetReferential::Original, OffsetType::None);
        Ok(splits.into_iter().map(|(word, _, _)| word.to_owned()).collect())
    }
}

/// Trains a vocabulary of at most `size` subwords: the special tokens, the letters, and then, again and again, the most
/// frequent pair of neighbours joined into one (ties: the pair that comes first in the vocabulary).
///
/// This is what the trainer of the `tokenizers` library does, except that the outcome does not depend on the order of a
/// hash map. Fewer subwords come out if no pair occurs twice any more.
pub fn train(counts: &WordCounts, size: usize) -> Vec<String> {
    let mut symbols = Symbols::default();
    for token in SPECIAL_TOKENS {
        symbols.add(token.to_owned());
    }
    let alphabet = alphabet(counts, size.saturating_sub(symbols.names.len()));
    let spellings: Vec<(Vec<String>, u64)> = counts
        .iter()
        .filter(|(word, _)| word.chars().count() <= MAX_WORD && word.chars().all(|c| alphabet.contains(&c)))
        .map(|(word, &count)| (spell(word), count))
        .collect();
    let letters: BTreeSet<&String> = spellings.iter().flat_map(|(spelling, _)| spelling).collect();
    for letter in letters {
        symbols.add(letter.clone());
    }
    let mut words: Vec<(Vec<u32>, u64)> = spellings
        .iter()
        .map(|(spelling, count)| (spelling.iter().map(|letter| symbols.ids[letter]).collect(), *count))
        .collect();
    join_pairs(&mut words, &mut symbols, size);
    symbols.names.truncate(size.max(SPECIAL_TOKENS.len()));
    symbols.names
}

/// The subwords found so far.
#[derive(Default)]
struct Symbols {
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Symbols {
    /// The number of the subword `name`, a new one if need be.
    fn add(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        let id = *self.ids.entry(name.clone()).or_insert(next);
        if id == next {
            self.names.push(name);
        }
        id
    }
}

/// The most frequent letters; each may need two subwords, one to begin a word and one to continue it.
fn alphabet(counts: &WordCounts, room: usize) -> BTreeSet<char> {
    let mut letters: BTreeMap<char, u64> = BTreeMap::new();
    for (word, count) in counts {
        for c in word.chars() {
            *letters.entry(c).or_default() += count;
        }
    }
    let mut letters: Vec<(char, u64)> = letters.into_iter().collect();
    letters.sort_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
    letters
        .into_iter()
        .take(MAX_ALPHABET.min(room / 2))
        .map(|(c, _)| c)
        .collect()
}

/// A word as its letters: the first one plain, the others marked as continuing.
fn spell(word: &str) -> Vec<String> {
    word.chars()
        .enumerate()
        .map(|(index, c)| if index == 0 { c.to_string() } else { format!("##{c}") })
        .collect()
}

type Pair = (u32, u32);

/// Joins the most frequent pair in all words until there are `size` subwords or no pair is frequent enough.
fn join_pairs(words: &mut [(Vec<u32>, u64)], symbols: &mut Symbols, size: usize) {
    let mut pairs: HashMap<Pair, u64> = HashMap::new();
    let mut places: HashMap<Pair, Vec<usize>> = HashMap::new();
    for (index, (word, count)) in words.iter().enumerate() {
        for pair in word.windows(2) {
            let pair = (pair[0], pair[1]);
            *pairs.entry(pair).or_default() += *count;
            places.entry(pair).or_default().push(index);
        }
    }
    // Maps are only looked up, never walked, except to fill this heap, whose order is total.
    let mut heap: BinaryHeap<(u64, std::cmp::Reverse<Pair>)> = pairs
        .iter()
        .map(|(&pair, &count)| (count, std::cmp::Reverse(pair)))
        .collect();

    while symbols.names.len() < size {
        let Some((count, std::cmp::Reverse(pair))) = heap.pop() else {
            break;
        };
        let current = pairs.get(&pair).copied().unwrap_or(0);
        if current != count {
            // The pair lost places to other joins since it was pushed.
            if current > 0 {
                heap.push((current, std::cmp::Reverse(pair)));
            }
            continue;
        }
        if count < MIN_FREQUENCY {
            break;
        }
        let right = &symbols.names[pair.1 as usize];
        let joined = format!(
            "{}{}",
            symbols.names[pair.0 as usize],
            right.strip_prefix("##").unwrap_or(right)
        );
        let joined = symbols.add(joined);
        let mut touched = places.remove(&pair).unwrap_or_default();
        touched.dedup();
        let mut grown: BTreeSet<Pair> = BTreeSet::new();
        for index in touched {
            let (word, count) = &mut words[index];
            for old in word.windows(2) {
                let old = (old[0], old[1]);
                if let Some(total) = pairs.get_mut(&old) {
                    *total -= *count;
                }
            }
            *word = join(word, pair, joined);
            for new in word.windows(2) {
                let new = (new[0], new[1]);
                *pairs.entry(new).or_default() += *count;
                if new.0 == joined || new.1 == joined {
                    grown.insert(new);
                    places.entry(new).or_default().push(index);
                }
            }
        }
        pairs.remove(&pair);
        for pair in grown {
            if let Some(&count) = pairs.get(&pair) {
                heap.push((count, std::cmp::Reverse(pair)));
            }
        }
    }
}

/// `word` with every occurrence of `pair` joined, from the left.
fn join(word: &[u32], pair: Pair, joined: u32) -> Vec<u32> {
    let mut result = Vec::with_capacity(word.len());
    let mut index = 0;
    while index < word.len() {
        if index + 1 < word.len() && (word[index], word[index + 1]) == pair {
            result.push(joined);
            index += 2;
        } else {
            result.push(word[index]);
            index += 1;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TextTokenizer;

    fn counts(words: &[(&str, u64)]) -> WordCounts {
        words.iter().map(|&(word, count)| (word.to_owned(), count)).collect()
    }

    #[test]
    fn vocabulary_files_are_checked() {
        let good = "[PAD]\n[UNK]\n[CLS]\r\n[SEP]\n[MASK]\na";
        assert_eq!(read_vocabulary(good).unwrap()[2..4], ["[CLS]", "[SEP]"]);
        let wrong = |text: &str| read_vocabulary(text).unwrap_err().to_string();
        assert_eq!(wrong(&format!("{good}\na")), "7: the subword `a` is in line 6 already");
        assert_eq!(
            wrong(&format!("{good}\n\nb")),
            "7: the line is blank; every line must be a subword"
        );
        assert!(wrong("[PAD]\n[UNK]\n[CLS]\n[MASK]\n").starts_with("4: the vocabulary lacks `[SEP]`"));
    }

    #[test]
    fn the_most_frequent_pairs_are_joined_first() {
        let counts = counts(&[("abc", 5), ("abd", 4), ("xbc", 3), ("q", 1)]);
        let vocabulary = train(&counts, 100);
        let letters = ["##b", "##c", "##d", "a", "q", "x"];
        // (a, ##b) occurs 9 times; then (ab, ##c) 5, (ab, ##d) 4, and (##b, ##c) and (x, ##b) 3 each, of which the one
        // whose subwords come first in the vocabulary wins.
        let joins = ["ab", "abc", "abd", "##bc", "xbc"];
        let expected: Vec<&str> = SPECIAL_TOKENS.into_iter().chain(letters).chain(joins).collect();
        assert_eq!(vocabulary, expected);
    }

    #[test]
    fn letters_take_at_most_half_of_a_small_vocabulary() {
        let counts = counts(&[("abc", 5), ("abd", 4), ("xbc", 3), ("q", 1)]);
        // Room for four letters, a to d; words with other letters teach nothing.
        let expected = ["##b", "##c", "##d", "a", "ab", "abc", "abd"];
        assert_eq!(train(&counts, 13)[5..], expected);
        assert_eq!(train(&counts, 11)[5..], ["##b", "##c", "a", "##bc", "abc"]);
        let many = counts.keys().map(|word| (word.repeat(3), 9)).collect();
        assert_eq!(train(&many, 18).len(), 18);
    }

    #[test]
    fn repeated_letters_are_counted_right() {
        let vocabulary = train(&counts(&[("aaaaa", 2), ("aa", 3)]), 100);
        assert_eq!(vocabulary[5..], ["##a", "a", "##aa", "aa", "aaa", "aaaaa"]);
    }

    #[test]
    fn words_are_those_of_the_tokenizer() {
        let words = |lowercase| {
            WordCounter::new(Options { lowercase })
                .words("Äpfel, 東京は\u{200b}!")
                .unwrap()
        };
        assert_eq!(words(true), ["apfel", ",", "東", "京", "は", "!"]);
        assert_eq!(words(false), ["Äpfel", ",", "東", "京", "は", "!"]);
    }

    #[test]
    fn a_trained_vocabulary_spells_what_it_was_trained_on() {
        let counter = WordCounter::new(Options::default());
        let mut counts = WordCounts::new();
        let text = "the governor of the bank of England met the bank";
        for word in counter.words(text).unwrap() {
            *counts.entry(word).or_default() += 5;
        }
        let vocabulary = train(&counts, 60);
        assert!(vocabulary.len() <= 60);
        let json = tokenizer_json(&vocabulary, Options::default());
        let tokenizer = TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        let encoded = tokenizer.text(text).unwrap();
        assert!(!encoded.ids.contains(&1), "no unknown token");
        assert!(encoded.ids.len() < text.len() / 2, "words are joined");
    }
}
