//! One record: a template is chosen and filled in, and the text is cut into tokens.

use super::grammar::{Language, Pattern, Piece, UNLABELLED};
use super::words::Words;
use super::{Split, Templates};
use crate::corpus::{Origin, Record, Span};
use crate::rng::Rng;

/// Writes the sentences of one language.
pub(super) struct Writer<'a> {
    language: &'a str,
    rules: &'a Language,
    words: Words,
    seed: u64,
}

impl<'a> Writer<'a> {
    pub(super) fn new(language: &'a str, rules: &'a Language, seed: u64) -> Self {
        Self {
            language,
            rules,
            words: Words::new(&rules.syllables, language, seed),
            seed,
        }
    }

    /// `count` sentences of a split. Templates take turns, so that all are used equally often. A record's id tells language,
    /// split, template and running number (`en-train-t03-0017`); templates that only the test split has are numbered on
    /// from the others.
    pub(super) fn write(&self, split: Split, templates: Templates, count: u32) -> Vec<Record> {
        let (patterns, numbered_from, part) = match templates {
            Templates::Seen => (&self.rules.seen, 0, "seen"),
            Templates::Unseen => (&self.rules.unseen, self.rules.seen.len(), "unseen"),
        };
        let (language, split_name) = (self.language, split.name());
        let stream = Rng::new(self.seed, &format!("sentences {language} {split_name} {part}"));
        (0..count as usize)
            .map(|index| {
                let template = index % patterns.len();
                let mut draft = Draft {
                    rules: self.rules,
                    words: self.words.of(split),
                    rng: stream.step(index as u64),
                    drawn: 0,
                    text: String::new(),
                    golds: Vec::new(),
                };
                draft.fill(&patterns[template]);
                let id = format!("{language}-{split_name}-t{:02}-{index:04}", numbered_from + template);
                draft.finish(id, language)
            })
            .collect()
    }
}

/// A sentence in the making.
struct Draft<'a> {
    rules: &'a Language,
    words: &'a [Vec<String>; 2],
    rng: Rng,
    /// How many numbers have been drawn: the position of the next.
    drawn: u64,
    text: String,
    /// (start, end, type) in bytes of `text`.
    golds: Vec<(usize, usize, &'a str)>,
}

impl<'a> Draft<'a> {
    /// One of `items`, which are not empty.
    fn choose<T>(&mut self, items: &'a [T]) -> &'a T {
        let index = self.rng.below(items.len() as u64, self.drawn);
        self.drawn += 1;
        &items[index as usize]
    }

    fn fill(&mut self, pattern: &'a Pattern) {
        for piece in pattern {
            match piece {
                Piece::Text(text) => self.push(text),
                Piece::Phrase(phrase) => {
                    let alternative = self.choose(&self.rules.phrases[phrase]);
                    self.fill(alternative);
                }
                Piece::Name(label) => {
                    let shape = self.choose(&self.rules.names[label]);
                    let start = self.text.len();
                    self.fill(shape);
                    if label != UNLABELLED {
                        self.golds.push((start, self.text.len(), label));
                    }
                }
                Piece::Word => {
                    let [short, long] = self.words;
                    // Two thirds of the words are long ones, of which there are many more.
                    let list = [short, long, long][self.rng.below(3, self.drawn) as usize];
                    self.drawn += 1;
                    let word = self.choose(list);
                    self.push(word);
                }
                Piece::Number => {
                    let number = 2 + self.rng.below(98, self.drawn);
                    self.drawn += 1;
                    self.push(&number.to_string());
                }
            }
        }
    }

    /// Adds text; without its blanks in a language without spaces; with a capital at the start of the sentence.
    fn push(&mut self, text: &str) {
        for c in text.chars().filter(|c| self.rules.spaces || !c.is_whitespace()) {
            if self.text.is_empty() && c.to_uppercase().count() == 1 {
                self.text.extend(c.to_uppercase());
            } else {
                self.text.push(c);
            }
        }
    }

    fn finish(self, id: String, language: &str) -> Record {
        let tokens = tokens(&self.text, self.rules.spaces);
        let chars = |byte: usize| self.text[..byte].chars().count();
        // A sentence is far shorter than what 32 bits count.
        let span = |start: usize, end: usize, label: &str| Span {
            start: start as u32,
            end: end as u32,
            label: label.to_owned(),
        };
        let token_spans = self.golds.iter().map(|&(start, end, label)| {
            let before = tokens.iter().filter(|token| token.1 <= start).count();
            let until = tokens.iter().filter(|token| token.0 < end).count();
            span(before, until, label)
        });
        let char_spans = self
            .golds
            .iter()
            .map(|&(start, end, label)| span(chars(start), chars(end), label));
        Record {
            id,
            origin: Origin {
                language: Some(language.to_owned()),
                dataset: None,
            },
            token_spans: token_spans.collect(),
            char_spans: char_spans.collect(),
            tokens: tokens
                .iter()
                .map(|&(start, end)| self.text[start..end].to_owned())
                .collect(),
            text: self.text,
        }
    }
}

/// The tokens of a text as (start, end) in bytes: runs without blanks, punctuation marks by themselves; without spaces
/// every character but runs of ASCII letters and digits.
fn tokens(text: &str, spaces: bool) -> Vec<(usize, usize)> {
    let mut tokens: Vec<(usize, usize)> = Vec::new();
    let mut joins = false;
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        let inside = if spaces {
            !is_punctuation(c)
        } else {
            c.is_ascii_alphanumeric()
        };
        if c.is_whitespace() {
            joins = false;
        } else if let Some(last) = tokens.last_mut().filter(|_| joins && inside) {
            last.1 = end;
        } else {
            tokens.push((start, end));
            joins = inside;
        }
    }
    tokens
}

/// Whether `c` is a token by itself wherever it stands.
fn is_punctuation(c: char) -> bool {
    c.is_ascii_punctuation() || "¿¡«»„“”‘’…–—।。，、；：？！《》「」".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::Grammar;

    fn cut(text: &str, spaces: bool) -> Vec<&str> {
        tokens(text, spaces)
            .into_iter()
            .map(|(start, end)| &text[start..end])
            .collect()
    }

    #[test]
    fn texts_are_cut_into_tokens() {
        assert_eq!(
            cut("Ms Ó, 32 (ça va)?", true),
            ["Ms", "Ó", ",", "32", "(", "ça", "va", ")", "?"]
        );
        assert_eq!(cut("रोग हैं।", true), ["रोग", "हैं", "।"]);
        assert_eq!(cut("阿顿·32市。", false), ["阿", "顿", "·", "32", "市", "。"]);
    }

    #[test]
    fn golds_are_the_names_and_positions_agree() {
        let yaml = "types: [city]\nnames: {city: ['* #', '*'], _: ['*']}\nlanguages:\n  en:\n    syllables: {first: \
                    [Bä, Do, Ke], middle: [ra, li], last: [n, m, t]}\n    phrases: {pet: ['her cat {_}']}\n    seen: ['<pet>, \
                    in {city} or {city}.']\n    unseen: ['{city}!']\n";
        let grammar = Grammar::parse(yaml).unwrap();
        for (language, rules) in grammar.languages() {
            for record in Writer::new(language, rules, 1).write(Split::Test, Templates::Seen, 40) {
                assert_eq!(record.token_spans.len(), 2, "{record:?}");
                assert!(record.text.starts_with("Her cat "));
                let chars: Vec<char> = record.text.chars().collect();
                let range = |span: &Span| span.start as usize..span.end as usize;
                for (token_span, char_span) in record.token_spans.iter().zip(&record.char_spans) {
                    let from_chars: String = chars[range(char_span)].iter().collect();
                    assert_eq!(record.tokens[range(token_span)].join(" "), from_chars);
                    assert!(from_chars.starts_with(['B', 'D', 'K']), "{from_chars}");
                }
            }
        }
    }
}
