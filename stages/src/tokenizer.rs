//! Text → subword ids, with the word and the place that each subword comes from.
//!
//! A text is encoded in one of two views. In the *words view* every word of a record is encoded by itself, as Hugging
//! Face tokenizers do with `is_split_into_words`; in the *text view* the text is encoded as one string. Neither adds
//! special tokens: prompts are put together from ids when a batch is made.
//!
//! A byte-level tokenizer (RoBERTa's, ModernBERT's) tells `word` at the beginning of a text from ` word` within it. In the words view
//! every word has the blank before it, as with `add_prefix_space`, which Hugging Face asks for there.
//!
//! Users' text is never searched for special tokens, so a literal `[SEP]` or `<s>` in it stays plain text.

mod alphabet;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use alphabet::{Alphabet, Shape};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::tokenizer::Model;
use tokenizers::{AddedToken, ModelWrapper, NormalizerWrapper, Tokenizer};

/// The ids of the tokens that a model's input is put together with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// The first token of an input, such as `[CLS]` or `<s>`; T5 has none.
    pub cls: Option<u32>,
    /// The token that ends a segment, such as `[SEP]` or `</s>`.
    pub sep: u32,
    /// The token that fills up a batch, such as `[PAD]` or `<pad>`.
    pub pad: u32,
    /// The token for what the vocabulary cannot spell, if the tokenizer has one.
    pub unk: Option<u32>,
}

impl SpecialIds {
    /// How many tokens stand around a text.
    pub fn count(&self) -> usize {
        usize::from(self.cls.is_some()) + 1
    }
}

/// The subwords of one text, without special tokens. All four lists are equally long.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Encoded {
    /// The subwords' ids.
    pub ids: Vec<u32>,
    /// The word that each subword belongs to: an index into the record's tokens (words view), or a running number of the
    /// tokenizer's own words (text view). Never falling; in the words view words without subwords leave a gap.
    pub words: Vec<u32>,
    /// Where each subword starts, in code points: within its word (words view) or within the text (text view).
    pub starts: Vec<u32>,
    /// Where each subword ends (exclusive), in code points.
    pub ends: Vec<u32>,
}

/// Why a tokenizer could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("failed to read the tokenizer `{path}`: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The bytes are no tokenizer that the `tokenizers` library knows.
    #[error("the tokenizer cannot be used: {reason}; a `tokenizer.json` of Hugging Face tokenizers is needed")]
    Parse {
        /// What the library said.
        reason: String,
    },
    /// The post-processor does not put one token after a text, and one or none before it.
    #[error(
        "the tokenizer wraps a text in {found} special tokens, where one after it is needed and one may stand before it; \
         give it a post-processor such as BERT's `[CLS] … [SEP]`"
    )]
    Special {
        /// How many it adds to an empty text.
        found: usize,
    },
    /// No token is known to fill up batches with.
    #[error("the tokenizer has no padding token; name one in its `padding` section, or add `[PAD]` or `<pad>`")]
    Padding,
    /// A text could not be encoded.
    #[error("the text cannot be tokenized: {reason}")]
    Encode {
        /// What the library said.
        reason: String,
    },
}

/// A Hugging Face tokenizer, set up to encode users' text only: no truncation, no padding, no special tokens.
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    special: SpecialIds,
    /// Ids that no text may produce (all special tokens but the unknown one), sorted.
    reserved: Vec<u32>,
    /// Whether a word by itself needs a blank before it.
    blank_before_words: bool,
    /// What becomes of single characters, if the tokenizer looks at nothing else; then blanks part a text into pieces that are
    /// encoded as if each stood by itself.
    alphabet: Option<Alphabet>,
    /// Words that were encoded before. A corpus repeats its words, and encoding one costs far more than looking it up.
    known: RwLock<HashMap<String, Arc<Encoded>>>,
}

/// Words that are remembered at most, so that memory stays bounded.
const KNOWN_WORDS: usize = 1 << 17;
/// Bytes of a word that is remembered at most.
const KNOWN_BYTES: usize = 64;

impl TextTokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read, is not a tokenizer, or has no tokens to begin, end and pad an input with.
    pub fn from_file(path: &Path) -> Result<Self, TokenizerError> {
        let bytes = std::fs::read(path).map_err(|source| TokenizerError::Read {
            path: path.display().to_string(),
            source,
        })?;
        Self::from_bytes(&bytes)
    }

    /// Reads the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// As [`TextTokenizer::from_file`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|error| TokenizerError::Parse {
            reason: error.to_string(),
        })?;
        let declared_pad = tokenizer.get_padding().map(|padding| padding.pad_id);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| TokenizerError::Parse {
            reason: error.to_string(),
        })?;
        tokenizer.set_encode_special_tokens(true);

        let wrapped = tokenizer.encode_fast("", true).map_err(|error| TokenizerError::Parse {
            reason: error.to_string(),
        })?;
        let (cls, sep) = match *wrapped.get_ids() {
            [cls, sep] => (Some(cls), sep),
            [sep] => (None, sep),
            _ => return Err(TokenizerError::Special { found: wrapped.len() }),
        };
        let find = |names: &[&str]| names.iter().find_map(|name| tokenizer.token_to_id(name));
        let pad = declared_pad
            .or_else(|| find(&["[PAD]", "<pad>"]))
            .ok_or(TokenizerError::Padding)?;
        let unk = find(&["[UNK]", "<unk>"]);

        let mut reserved: Vec<u32> = tokenizer
            .get_added_tokens_decoder()
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .chain(cls)
            .chain([sep, pad])
            .filter(|id| Some(*id) != unk)
            .collect();
        reserved.sort_unstable();
        reserved.dedup();
        let special = SpecialIds { cls, sep, pad, unk };
        let blank_before_words = tokenizer.get_pre_tokenizer().is_some_and(wants_blank);
        Ok(Self {
            alphabet: is_parted(&tokenizer).then(Alphabet::default),
            tokenizer,
            special,
            reserved,
            blank_before_words,
            known: RwLock::default(),
        })
    }

    /// The ids that inputs are put together with.
    pub fn special(&self) -> &SpecialIds {
        &self.special
    }

    /// How many tokens there are, added ones included (Hugging Face's `len(tokenizer)`).
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// The same tokenizer with further special tokens, as the bytes of a `tokenizer.json`; and the ids of these tokens.
    ///
    /// # Errors
    /// If the tokenizer cannot be written.
    pub fn with_special_tokens(&self, tokens: &[&str]) -> Result<(Vec<u8>, Vec<u32>), TokenizerError> {
        let mut tokenizer = self.tokenizer.clone();
        let added: Vec<AddedToken> = tokens.iter().map(|&token| AddedToken::from(token, true)).collect();
        tokenizer.add_special_tokens(&added);
        let failed = |reason: String| TokenizerError::Parse { reason };
        let ids = tokens
            .iter()
            .map(|token| {
                tokenizer
                    .token_to_id(token)
                    .ok_or_else(|| failed(format!("`{token}` could not be added")))
            })
            .collect::<Result<_, _>>()?;
        let json = tokenizer.to_string(true).map_err(|error| failed(error.to_string()))?;
        Ok((json.into_bytes(), ids))
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The token with this id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.tokenizer.id_to_token(id)
    }

    /// The words view: each word encoded by itself; offsets count from the start of the word.
    ///
    /// # Errors
    /// If the tokenizer refuses a word.
    pub fn words(&self, words: &[String]) -> Result<Encoded, TokenizerError> {
        let mut all = Encoded::default();
        for (index, word) in self.look_up(words)?.iter().enumerate() {
            all.ids.extend_from_slice(&word.ids);
            all.words.resize(all.ids.len(), index as u32);
            all.starts.extend_from_slice(&word.starts);
            all.ends.extend_from_slice(&word.ends);
        }
        Ok(all)
    }

    /// Each word encoded by itself, from memory where it was met before.
    fn look_up<S: AsRef<str>>(&self, words: &[S]) -> Result<Vec<Arc<Encoded>>, TokenizerError> {
        let found: Vec<Option<Arc<Encoded>>> = {
            // What a panicking thread left behind is still a map of finished entries.
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            words.iter().map(|word| known.get(word.as_ref()).cloned()).collect()
        };
        let mut new = Vec::new();
        let mut all = Vec::with_capacity(words.len());
        for (word, found) in words.iter().zip(found) {
            let word = word.as_ref();
            all.push(match found {
                Some(encoded) => encoded,
                None => {
                    let encoded = Arc::new(self.word(word)?);
                    if word.len() <= KNOWN_BYTES {
                        new.push((word, Arc::clone(&encoded)));
                    }
                    encoded
                }
            });
        }
        if !new.is_empty() {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            let room = KNOWN_WORDS.saturating_sub(known.len());
            known.extend(
                new.into_iter()
                    .take(room)
                    .map(|(word, encoded)| (word.to_owned(), encoded)),
            );
        }
        Ok(all)
    }

    /// One word; offsets count from its start.
    fn word(&self, word: &str) -> Result<Encoded, TokenizerError> {
        if let Some(spelled) = self.alphabet.as_ref().and_then(|alphabet| self.spell(alphabet, word)) {
            return spelled;
        }
        if !self.blank_before_words || word.starts_with(char::is_whitespace) {
            return self.encode(word);
        }
        let mut encoded = self.encode(&format!(" {word}"))?;
        for offset in encoded.starts.iter_mut().chain(&mut encoded.ends) {
            *offset = offset.saturating_sub(1);
        }
        Ok(encoded)
    }

    /// A word of characters that each become one other, cut by the model alone; none if there are others in it.
    fn spell(&self, alphabet: &Alphabet, word: &str) -> Option<Result<Encoded, TokenizerError>> {
        let mut shapes = Vec::with_capacity(word.len());
        for c in word.chars() {
            shapes.push(alphabet.shape(&self.tokenizer, c)?);
        }
        let mut encoded = Encoded::default();
        let mut part = String::with_capacity(word.len());
        let (mut first, mut number) = (0, 0);
        while first < shapes.len() {
            part.clear();
            let mut next = first;
            while let Some(Shape::Letter(c)) = shapes.get(next) {
                part.push(*c);
                next += 1;
            }
            if let (true, Some(Shape::Alone(c))) = (part.is_empty(), shapes.get(next)) {
                part.push(*c);
                next += 1;
            }
            if let Err(error) = self.cut(&part, number, first as u32, &mut encoded) {
                return Some(Err(error));
            }
            (first, number) = (next, number + 1);
        }
        Some(Ok(encoded))
    }

    /// Adds the model's subwords of a normalized word, which is word `number` and begins at code point `first`.
    fn cut(&self, word: &str, number: u32, first: u32, encoded: &mut Encoded) -> Result<(), TokenizerError> {
        let model = self.tokenizer.get_model();
        let tokens = model.tokenize(word).map_err(|error| TokenizerError::Encode {
            reason: error.to_string(),
        })?;
        let place = |bytes: usize| first + word[..bytes].chars().count() as u32;
        for token in tokens {
            encoded.ids.push(self.plain(token.id));
            encoded.words.push(number);
            encoded.starts.push(place(token.offsets.0));
            encoded.ends.push(place(token.offsets.1));
        }
        Ok(())
    }

    /// The text view: the text as one string; offsets are positions in it and never begin with white space.
    ///
    /// # Errors
    /// If the tokenizer refuses the text.
    pub fn text(&self, text: &str) -> Result<Encoded, TokenizerError> {
        if self.alphabet.is_some() {
            return self.pieces(text);
        }
        let mut encoded = self.encode(text)?;
        skip_leading_space(text, &mut encoded);
        Ok(encoded)
    }

    /// The text view of a text that blanks part into pieces: the pieces' encodings, moved to their places.
    fn pieces(&self, text: &str) -> Result<Encoded, TokenizerError> {
        // (start in code points, piece), and the end of the text.
        let mut starts = Vec::new();
        let mut pieces = Vec::new();
        let mut position = 0u32;
        for piece in text.split(BLANKS) {
            if !piece.is_empty() {
                starts.push(position);
                pieces.push(piece);
            }
            position += piece.chars().count() as u32 + 1;
        }
        let mut all = Encoded::default();
        let mut words = 0;
        for (start, piece) in starts.into_iter().zip(self.look_up(&pieces)?) {
            all.ids.extend_from_slice(&piece.ids);
            all.words.extend(piece.words.iter().map(|word| words + word));
            all.starts.extend(piece.starts.iter().map(|place| start + place));
            all.ends.extend(piece.ends.iter().map(|place| start + place));
            words = all.words.last().map_or(0, |word| word + 1);
        }
        Ok(all)
    }

    /// The ids of an entity type's name.
    ///
    /// # Errors
    /// If the tokenizer refuses the name.
    pub fn label(&self, label: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = self
            .tokenizer
            .encode_fast(label, false)
            .map_err(|error| TokenizerError::Encode {
                reason: error.to_string(),
            })?;
        Ok(encoding.get_ids().iter().map(|&id| self.plain(id)).collect())
    }

    /// `id`, or the unknown token where a vocabulary happens to spell a special token from plain text.
    fn plain(&self, id: u32) -> u32 {
        match self.special.unk {
            Some(unk) if self.reserved.binary_search(&id).is_ok() => unk,
            _ => id,
        }
    }

    fn encode(&self, text: &str) -> Result<Encoded, TokenizerError> {
        let encoding = self
            .tokenizer
            .encode_char_offsets(text, false)
            .map_err(|error| TokenizerError::Encode {
                reason: error.to_string(),
            })?;
        let offsets = encoding.get_offsets();
        // Positions fit in 32 bits: a record's line is read with fewer than 2^32 bytes.
        Ok(Encoded {
            ids: encoding.get_ids().iter().map(|&id| self.plain(id)).collect(),
            words: encoding.get_word_ids().iter().map(|word| word.unwrap_or(0)).collect(),
            starts: offsets.iter().map(|offset| offset.0 as u32).collect(),
            ends: offsets.iter().map(|offset| offset.1 as u32).collect(),
        })
    }
}

/// Whether a pre-tokenizer leaves a word without a blank before it as it is, and so would take it for the rest of another.
fn wants_blank(pre_tokenizer: &PreTokenizerWrapper) -> bool {
    match pre_tokenizer {
        PreTokenizerWrapper::ByteLevel(bytes) => !bytes.add_prefix_space,
        PreTokenizerWrapper::Sequence(parts) => parts.as_ref().iter().any(wants_blank),
        _ => false,
    }
}

/// Characters that part texts into pieces. (Other white space may be a control character, which BERT's normalizer removes.)
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// Whether [`BLANKS`] part texts into pieces that are encoded as if each stood by itself: so with BERT's way of cutting and
/// normalizing texts, which looks at one character at a time, if no token is searched for in the whole text.
fn is_parted(tokenizer: &Tokenizer) -> bool {
    let only_special = tokenizer.get_added_tokens_decoder().values().all(|token| token.special);
    only_special
        && matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_))
        && matches!(
            tokenizer.get_pre_tokenizer(),
            Some(PreTokenizerWrapper::BertPreTokenizer(_))
        )
        && matches!(
            tokenizer.get_normalizer(),
            None | Some(NormalizerWrapper::BertNormalizer(_))
        )
}

/// Moves each start past the white space that SentencePiece tokenizers count to the following subword, so that predicted
/// spans never begin with a blank. A subword of white space only is left as it is.
fn skip_leading_space(text: &str, encoded: &mut Encoded) {
    let mut spaces = text
        .chars()
        .enumerate()
        .filter_map(|(position, c)| c.is_whitespace().then_some(position as u32));
    let mut space = spaces.next();
    for (start, &end) in encoded.starts.iter_mut().zip(&encoded.ends) {
        let mut moved = *start;
        while let Some(position) = space.filter(|&position| position < end) {
            if position < moved {
                space = spaces.next();
            } else if position == moved && moved + 1 < end {
                moved += 1;
                space = spaces.next();
            } else {
                break;
            }
        }
        // A subword that is all white space would end up covering only its last character.
        if moved + 1 < end || space != Some(moved) {
            *start = moved;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wordpiece;

    /// Encoding a text piece by piece is encoding it as a whole, whatever it is made of.
    #[test]
    fn pieces_are_the_whole() {
        let tokenizer = tokenizer();
        assert!(tokenizer.alphabet.is_some());
        let parts = [
            " ",
            "\t",
            "\n",
            "\r\n",
            "\u{a0}",
            "\u{85}",
            "\u{3000}",
            "\u{200b}",
            "\u{ad}",
            "\u{0}",
            "\u{fffd}",
            "\u{1f}",
            "new",
            "York",
            "NEWER",
            "東京は",
            "กรงเทพ",
            "Café",
            "cafe\u{301}",
            "\u{301}",
            "İ",
            "ß",
            "Σ",
            "ﬁ",
            "가",
            "👩‍💻",
            ".",
            "…",
            "[SEP]",
            "[",
            "]",
            "a.b",
            "köln",
            "Köln",
            "Newer.York,",
            "\u{1e9b}\u{323}",
            "Ａ",
            "٣",
            "नमस्ते",
            "Ǆ",
        ];
        let rng = crate::rng::Rng::new(7, "pieces");
        let mut compared = 0;
        for number in 0..20_000u64 {
            let length = rng.u64(number) % 12;
            let text: String = (0..length)
                .map(|place| parts[(rng.u64(1 << 40 | number << 8 | place) % parts.len() as u64) as usize])
                .collect();
            let mut whole = tokenizer.encode(&text).unwrap();
            skip_leading_space(&text, &mut whole);
            assert_eq!(tokenizer.text(&text).unwrap(), whole, "{text:?}");
            compared += whole.ids.len();
        }
        assert!(compared > 50_000, "{compared}");
    }

    fn tokenizer() -> TextTokenizer {
        let vocabulary: Vec<String> = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            "[MASK]",
            "[",
            "]",
            "sep",
            "new",
            "york",
            "##er",
            "cafe",
            "東",
            "京",
            "は",
            "กรงเทพ",
            "paris",
            ".",
            "koln",
        ]
        .map(str::to_owned)
        .to_vec();
        let json = wordpiece::tokenizer_json(&vocabulary, wordpiece::Options { lowercase: true });
        TextTokenizer::from_bytes(json.to_string().as_bytes()).expect("a valid tokenizer")
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn special_ids_are_those_of_the_post_processor() {
        assert_eq!(
            tokenizer().special(),
            &SpecialIds {
                cls: Some(2),
                sep: 3,
                pad: 0,
                unk: Some(1)
            }
        );
        assert_eq!(tokenizer().vocab_size(), 19);
    }

    #[test]
    fn words_without_subwords_leave_a_gap() {
        let encoded = tokenizer()
            .words(&strings(&["New", "\u{200b}", "Yorker", "."]))
            .unwrap();
        assert_eq!(encoded.ids, [8, 9, 10, 17]);
        assert_eq!(encoded.words, [0, 2, 2, 3]);
        assert_eq!(encoded.starts, [0, 0, 4, 0]);
        assert_eq!(encoded.ends, [3, 4, 6, 1]);
    }

    #[test]
    fn literal_special_tokens_are_plain_text() {
        let tokenizer = tokenizer();
        for ids in [
            tokenizer.text("[SEP]").unwrap().ids,
            tokenizer.words(&strings(&["[SEP]"])).unwrap().ids,
        ] {
            assert_eq!(ids, [5, 7, 6]);
        }
        assert_eq!(tokenizer.label("[CLS]").unwrap(), [5, 1, 6]);
    }

    #[test]
    fn a_vocabulary_that_spells_a_special_token_gives_the_unknown_one() {
        // Without BERT's pre-tokenizer `[SEP]` stays one word, which the vocabulary holds.
        let mut json = wordpiece::tokenizer_json(
            &["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"].map(str::to_owned),
            wordpiece::Options { lowercase: false },
        );
        json["pre_tokenizer"] = serde_json::json!({"type": "WhitespaceSplit"});
        let tokenizer = TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap();
        assert_eq!(tokenizer.text("a [SEP] a").unwrap().ids, [5, 1, 5]);
    }

    #[test]
    fn offsets_are_code_points() {
        let tokenizer = tokenizer();
        // An NFD accent is a code point of its own; emoji are one each; lower-casing strips the Thai vowel below.
        let encoded = tokenizer.text("cafe\u{301} 😀 東京は กรุงเทพ").unwrap();
        assert_eq!(encoded.ids, [11, 1, 12, 13, 14, 15]);
        assert_eq!(encoded.starts, [0, 6, 8, 9, 10, 12]);
        assert_eq!(&encoded.ends[1..], [7, 9, 10, 11, 19]);
        let words = tokenizer.words(&strings(&["Ko\u{308}ln", "東京"])).unwrap();
        assert_eq!(words.ids, [18, 12, 13]);
        assert_eq!(words.words, [0, 1, 1]);
        assert_eq!((words.starts, words.ends), (vec![0, 0, 1], vec![5, 1, 2]));
    }

    #[test]
    fn words_view_equals_the_librarys_own_for_split_words() {
        let tokenizer = tokenizer();
        let words = strings(&["New", "Yorker", "\u{200b}", "東京は", "zzz", "Yorker", "Ko\u{308}ln"]);
        let theirs = tokenizer
            .tokenizer
            .encode_char_offsets(words.as_slice(), false)
            .unwrap();
        // The second time every word is known.
        for _ in 0..2 {
            let ours = tokenizer.words(&words).unwrap();
            assert_eq!(ours.ids, theirs.get_ids());
            assert_eq!(
                ours.words,
                theirs.get_word_ids().iter().flatten().copied().collect::<Vec<_>>()
            );
            let offsets = ours
                .starts
                .iter()
                .zip(&ours.ends)
                .map(|(&start, &end)| (start as usize, end as usize));
            assert_eq!(offsets.collect::<Vec<_>>(), theirs.get_offsets());
        }
    }

    #[test]
    fn starts_skip_white_space_of_sentencepiece_subwords() {
        let mut encoded = Encoded {
            ids: vec![1; 4],
            words: vec![0; 4],
            starts: vec![0, 2, 5, 7],
            ends: vec![2, 5, 7, 9],
        };
        //          0 1 2 3 4 5 6 7 8
        let text = "ab  c  de";
        skip_leading_space(text, &mut encoded);
        assert_eq!(encoded.starts, [0, 4, 5, 7]);
    }

    #[test]
    fn a_tokenizer_that_adds_no_tokens_is_refused() {
        let mut json = wordpiece::tokenizer_json(
            &["[PAD]", "[UNK]", "a"].map(str::to_owned),
            wordpiece::Options::default(),
        );
        json["post_processor"] = serde_json::Value::Null;
        let error = TextTokenizer::from_bytes(json.to_string().as_bytes())
            .err()
            .expect("an error");
        assert!(matches!(error, TokenizerError::Special { found: 0 }), "{error}");
    }

    /// The golden fixtures' edge cases: word numbers and offsets are those of the reference's tokenizer.
    #[test]
    fn golden_edge_cases_are_cut_alike() {
        let Some(folder) = std::env::var_os("NERPIPE_GOLDEN") else {
            return;
        };
        let folder = Path::new(&folder);
        let tokenizer = TextTokenizer::from_file(&folder.join("encoder/tokenizer.json")).unwrap();
        let cases: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("edge_cases.json")).unwrap()).unwrap();
        let cases = cases["cases"].as_array().unwrap();
        for case in cases {
            let name = case["name"].as_str().unwrap();
            if name == "literal_special_tokens_in_text" {
                // The reference takes them for special tokens, which is its defect 8.
                continue;
            }
            // Without the special tokens at both ends.
            let inner = |key: &str| {
                let all = case[key].as_array().unwrap();
                all[1..all.len() - 1].to_vec()
            };
            let words: Vec<String> = serde_json::from_value(case["sample"]["tokens"].clone()).unwrap();
            let found: Vec<serde_json::Value> = tokenizer
                .words(&words)
                .unwrap()
                .words
                .into_iter()
                .map(serde_json::Value::from)
                .collect();
            // The reference's lists end where its window does.
            let expected = inner("word_ids_plain");
            assert_eq!(found[..expected.len()], expected, "{name}");

            let text = tokenizer.text(case["sample"]["text"].as_str().unwrap()).unwrap();
            let ids: Vec<serde_json::Value> = text.ids.iter().map(|&id| id.into()).collect();
            assert_eq!(ids[..expected.len()], inner("text_input_ids_plain"), "{name}");
            let offsets: Vec<serde_json::Value> = text
                .starts
                .iter()
                .zip(&text.ends)
                .map(|(&start, &end)| serde_json::json!([start, end]))
                .collect();
            assert_eq!(offsets[..expected.len()], inner("text_offsets_plain"), "{name}");
        }
        println!("{} edge cases", cases.len());
        assert!(!cases.is_empty());
    }
}
