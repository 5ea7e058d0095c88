//! The grammar file: types, shapes of names, and for each language its syllables, phrases and templates.

use indexmap::IndexMap;
use serde::Deserialize;

use super::words::Syllables;

/// A grammar whose patterns are parsed and whose references all lead somewhere.
#[derive(Clone, Debug)]
pub struct Grammar {
    types: Vec<String>,
    languages: IndexMap<String, Language>,
}

/// One language of a grammar.
#[derive(Clone, Debug)]
pub(super) struct Language {
    /// Whether words are parted by blanks; if not, blanks are dropped and every character is a token.
    pub spaces: bool,
    pub syllables: Syllables,
    /// Type (or [`UNLABELLED`]) → the shapes its names have.
    pub names: IndexMap<String, Vec<Pattern>>,
    pub phrases: IndexMap<String, Vec<Pattern>>,
    pub seen: Vec<Pattern>,
    pub unseen: Vec<Pattern>,
}

/// What stands in braces for a name without a gold.
pub(super) const UNLABELLED: &str = "_";

/// A text with places to fill in.
pub(super) type Pattern = Vec<Piece>;

/// One piece of a [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Literal text.
    Text(String),
    /// `{type}`: a name of this type, or of none.
    Name(String),
    /// `<phrase>`: one of the alternatives of this phrase.
    Phrase(String),
    /// `*` in the shape of a name: an invented word.
    Word,
    /// `#` in the shape of a name: a number from 2 to 99.
    Number,
}

/// Why a grammar cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GrammarError {
    /// The file is no YAML, or not of the shape of a grammar.
    #[error("{0}")]
    Yaml(#[from] serde_yaml::Error),
    /// A part of the grammar is wrong.
    #[error("{place}: {message}")]
    Wrong {
        /// The keys that lead to it, such as `languages.en.seen[2]`.
        place: String,
        /// What is wrong and what to do.
        message: String,
    },
}

impl GrammarError {
    fn wrong(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Wrong {
            place: place.into(),
            message: message.into(),
        }
    }
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrammarFile {
    types: Vec<String>,
    names: IndexMap<String, Vec<String>>,
    languages: IndexMap<String, LanguageFile>,
}

/// A language as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LanguageFile {
    #[serde(default = "yes")]
    spaces: bool,
    syllables: Syllables,
    #[serde(default)]
    names: IndexMap<String, Vec<String>>,
    phrases: IndexMap<String, Vec<String>>,
    seen: Vec<String>,
    unseen: Vec<String>,
}

const fn yes() -> bool {
    true
}

impl Grammar {
    /// Reads a grammar from YAML.
    ///
    /// # Errors
    /// If it is no YAML of a grammar's shape, or if a pattern names a type or phrase that does not exist, leads back to
    /// itself, or has an unclosed bracket; the error names the place.
    pub fn parse(yaml: &str) -> Result<Self, GrammarError> {
        let file: GrammarFile = serde_yaml::from_str(yaml)?;
        for (key, empty) in [
            ("types", file.types.is_empty()),
            ("languages", file.languages.is_empty()),
        ] {
            if empty {
                return Err(GrammarError::wrong(key, "nothing is listed; give at least one"));
            }
        }
        let mut languages = IndexMap::new();
        for (code, language) in file.languages {
            let place = format!("languages.{code}");
            if code.is_empty() || !code.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return Err(GrammarError::wrong(
                    place,
                    "a language's name becomes a file's name; use letters, digits and -",
                ));
            }
            let read = read_language(&place, language, &file.names)?;
            check_language(&place, &read, &file.types)?;
            languages.insert(code, read);
        }
        Ok(Self {
            types: file.types,
            languages,
        })
    }

    /// The entity types.
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The languages with their rules, in the file's order.
    pub(super) fn languages(&self) -> impl Iterator<Item = (&str, &Language)> {
        self.languages.iter().map(|(code, language)| (code.as_str(), language))
    }
}

fn read_language(
    place: &str,
    file: LanguageFile,
    names: &IndexMap<String, Vec<String>>,
) -> Result<Language, GrammarError> {
    let mut shapes = names.clone();
    shapes.extend(file.names);
    Ok(Language {
        spaces: file.spaces,
        syllables: file.syllables,
        names: parse_map(&format!("{place}.names"), &shapes, true)?,
        phrases: parse_map(&format!("{place}.phrases"), &file.phrases, false)?,
        seen: parse_list(&format!("{place}.seen"), &file.seen, false)?,
        unseen: parse_list(&format!("{place}.unseen"), &file.unseen, false)?,
    })
}

fn parse_map(
    place: &str,
    map: &IndexMap<String, Vec<String>>,
    shapes: bool,
) -> Result<IndexMap<String, Vec<Pattern>>, GrammarError> {
    map.iter()
        .map(|(key, list)| Ok((key.clone(), parse_list(&format!("{place}.{key}"), list, shapes)?)))
        .collect()
}

fn parse_list(place: &str, list: &[String], shapes: bool) -> Result<Vec<Pattern>, GrammarError> {
    if list.is_empty() {
        return Err(GrammarError::wrong(
            place,
            "the list is empty; give at least one alternative",
        ));
    }
    list.iter()
        .enumerate()
        .map(|(i, text)| parse_pattern(&format!("{place}[{i}]"), text, shapes))
        .collect()
}

/// Cuts a pattern into pieces. `*` and `#` mean something in the shapes of names only.
fn parse_pattern(place: &str, text: &str, shape: bool) -> Result<Pattern, GrammarError> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let piece = match c {
            '{' | '<' => {
                let close = if c == '{' { '}' } else { '>' };
                let inside: String = rest.by_ref().take_while(|&c| c != close).collect();
                if !text.contains(&format!("{c}{inside}{close}")) {
                    return Err(GrammarError::wrong(
                        place,
                        format!("`{c}{inside}` is not closed; add `{close}`"),
                    ));
                }
                if c == '{' {
                    Piece::Name(inside)
                } else {
                    Piece::Phrase(inside)
                }
            }
            '*' if shape => Piece::Word,
            '#' if shape => Piece::Number,
            _ => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut literal)));
        }
        pieces.push(piece);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Text(literal));
    }
    if pieces.is_empty() {
        return Err(GrammarError::wrong(place, "the text is empty"));
    }
    Ok(pieces)
}

/// Checks that every name and phrase that a pattern refers to exists and that phrases end somewhere.
fn check_language(place: &str, language: &Language, types: &[String]) -> Result<(), GrammarError> {
    language.syllables.check(&format!("{place}.syllables"))?;
    for name in types {
        if !language.names.contains_key(name) {
            return Err(GrammarError::wrong(
                format!("{place}.names"),
                format!("type `{name}` has no shapes; add some"),
            ));
        }
    }
    if let Some(unknown) = language
        .names
        .keys()
        .find(|name| *name != UNLABELLED && !types.contains(name))
    {
        return Err(GrammarError::wrong(
            format!("{place}.names.{unknown}"),
            "no such type; add it to `types`",
        ));
    }
    for (name, shapes) in &language.names {
        for (i, shape) in shapes.iter().enumerate() {
            let place = format!("{place}.names.{name}[{i}]");
            if !shape.contains(&Piece::Word) {
                return Err(GrammarError::wrong(
                    place,
                    "a name needs at least one `*`, an invented word",
                ));
            }
            check_pattern(&place, shape, language, &mut Vec::new(), false)?;
        }
    }
    let texts = [("seen", &language.seen), ("unseen", &language.unseen)];
    let phrases = language
        .phrases
        .iter()
        .map(|(name, list)| (format!("{place}.phrases.{name}"), list));
    for (key, list) in phrases.chain(texts.map(|(key, list)| (format!("{place}.{key}"), list))) {
        for (i, pattern) in list.iter().enumerate() {
            check_pattern(&format!("{key}[{i}]"), pattern, language, &mut Vec::new(), true)?;
        }
    }
    Ok(())
}

/// `path` holds the phrases on the way here; names may stand in texts but not inside other names.
fn check_pattern<'a>(
    place: &str,
    pattern: &'a Pattern,
    language: &'a Language,
    path: &mut Vec<&'a str>,
    names: bool,
) -> Result<(), GrammarError> {
    for piece in pattern {
        match piece {
            Piece::Name(name) if !names => {
                return Err(GrammarError::wrong(
                    place,
                    format!("`{{{name}}}` would stand inside a name; use plain phrases"),
                ));
            }
            Piece::Name(name) if !language.names.contains_key(name) => {
                return Err(GrammarError::wrong(
                    place,
                    format!("`{{{name}}}` is no type{}", nearest(name, &language.names)),
                ));
            }
            Piece::Phrase(phrase) => {
                if path.contains(&phrase.as_str()) {
                    return Err(GrammarError::wrong(place, format!("`<{phrase}>` leads back to itself")));
                }
                let Some(alternatives) = language.phrases.get(phrase) else {
                    let near = nearest(phrase, &language.phrases);
                    return Err(GrammarError::wrong(
                        place,
                        format!("`<{phrase}>` is no phrase of this language{near}"),
                    ));
                };
                path.push(phrase);
                for alternative in alternatives {
                    check_pattern(place, alternative, language, path, names)?;
                }
                path.pop();
            }
            Piece::Name(_) | Piece::Text(_) | Piece::Word | Piece::Number => {}
        }
    }
    Ok(())
}

/// `; did you mean …?` for the key most like `word`, if one is.
fn nearest<V>(word: &str, known: &IndexMap<String, V>) -> String {
    let near = known
        .keys()
        .map(|key| (strsim::damerau_levenshtein(word, key), key))
        .min();
    match near {
        Some((distance, key)) if distance <= word.chars().count().div_ceil(2) => format!("; did you mean `{key}`?"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grammar in which `seen` and `phrases` can be replaced.
    fn yaml(seen: &str, phrases: &str) -> String {
        format!(
            "types: [city]\nnames: {{city: ['*'], _: ['* #']}}\nlanguages:\n  en:\n    syllables: {{first: [Ba, Do, Ke, Lu], \
             middle: [ra, li], last: [n, m]}}\n    phrases: {phrases}\n    seen: ['{seen}']\n    unseen: ['To {{city}}.']\n"
        )
    }

    fn message(seen: &str, phrases: &str) -> String {
        Grammar::parse(&yaml(seen, phrases)).unwrap_err().to_string()
    }

    #[test]
    fn patterns_are_cut_into_pieces() {
        let pieces = parse_pattern("p", "In <month> {city}.", false).unwrap();
        let text = |t: &str| Piece::Text(t.to_owned());
        assert_eq!(
            pieces,
            [
                text("In "),
                Piece::Phrase("month".into()),
                text(" "),
                Piece::Name("city".into()),
                text(".")
            ]
        );
        assert_eq!(
            parse_pattern("p", "* #", true).unwrap(),
            [Piece::Word, text(" "), Piece::Number]
        );
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        assert!(Grammar::parse(&yaml("In {city} on <day>.", "{day: [Monday]}")).is_ok());
        assert_eq!(
            message("In {citty}.", "{day: [Monday]}"),
            "languages.en.seen[0]: `{citty}` is no type; did you mean `city`?"
        );
        assert_eq!(
            message("On <dya> in {city}.", "{day: [Monday]}"),
            "languages.en.seen[0]: `<dya>` is no phrase of this language; did you mean `day`?"
        );
        assert_eq!(
            message("In {city", "{day: [Monday]}"),
            "languages.en.seen[0]: `{city` is not closed; add `}`"
        );
        assert_eq!(
            message("In {city}.", "{day: ['<night>'], night: ['<day>']}"),
            "languages.en.phrases.day[0]: `<night>` leads back to itself"
        );
    }
}
