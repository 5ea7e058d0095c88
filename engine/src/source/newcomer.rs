//! The two mistakes that everyone makes once, found by their look after the YAML parser has given up:
//! an unquoted `${…}` inside braces, and a value that begins with `*`.

use super::spans::Span;

/// A value that has to be quoted.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) span: Span,
    pub(super) message: &'static str,
    /// The value in quotes.
    pub(super) quoted: String,
}

/// The first such mistake up to the line of the parser's error (which it reports at, or soon after, the place).
pub(super) fn find(text: &str, error_line: usize) -> Option<Mistake> {
    let mut depth = 0;
    let mut block_indent = None;
    let mut quote = None;
    for (index, line) in text.lines().enumerate().take(error_line) {
        let characters: Vec<char> = line.chars().collect();
        let indent = characters.iter().take_while(|c| **c == ' ').count();
        // The text of a block scalar (`run: |`) is not YAML.
        match block_indent {
            Some(_) if indent == characters.len() => continue,
            Some(block) if indent > block => continue,
            _ => block_indent = None,
        }
        let mut scan = Line {
            characters: &characters,
            at: indent,
            depth,
            quote,
        };
        if let Some((start, end, message)) = scan.mistake(text) {
            let value: String = characters[start..end].iter().collect();
            let quoted = format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""));
            let span = Span {
                line: index + 1,
                column: start + 1,
                length: end - start,
            };
            return Some(Mistake { span, message, quoted });
        }
        (depth, quote) = (scan.depth, scan.quote);
        let ends_as_block = line.rsplit(' ').next().is_some_and(|last| {
            last.starts_with(['|', '>']) && last[1..].chars().all(|c| matches!(c, '+' | '-' | '0'..='9'))
        });
        if depth == 0 && ends_as_block {
            block_indent = Some(indent);
        }
    }
    None
}

/// A walk along one line that knows just enough YAML: braces, quotes, comments, and where a value begins.
struct Line<'a> {
    characters: &'a [char],
    at: usize,
    /// How many braces and brackets are open.
    depth: usize,
    /// The quote that is open.
    quote: Option<char>,
}

impl Line<'_> {
    /// Start, end and message of the first mistake on the line.
    fn mistake(&mut self, text: &str) -> Option<(usize, usize, &'static str)> {
        while let Some(&character) = self.characters.get(self.at) {
            if let Some(quote) = self.quote {
                let escaped = quote == '"' && character == '\\';
                if character == quote {
                    self.quote = None;
                }
                self.at += if escaped { 2 } else { 1 };
                continue;
            }
            match character {
                ' ' | ',' | ':' => self.at += 1,
                '#' => break,
                '-' if self.characters.get(self.at + 1).is_none_or(|next| *next == ' ') => self.at += 1,
                '{' | '[' => {
                    self.depth += 1;
                    self.at += 1;
                }
                '}' | ']' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                '"' | '\'' => {
                    self.quote = Some(character);
                    self.at += 1;
                }
                _ => {
                    let start = self.at;
                    let end = self.plain_scalar();
                    let scalar = &self.characters[start..end];
                    if scalar[0] == '*' && !is_alias(scalar, text) {
                        return Some((start, end, "a value that begins with `*` must be quoted"));
                    }
                    if self.depth > 0 && scalar.windows(2).any(|pair| pair == ['$', '{']) {
                        return Some((start, end, "`${…}` inside braces or brackets must be quoted"));
                    }
                }
            }
        }
        None
    }

    /// Walks over a plain scalar, taking each `${…}` as one piece, and gives the end of its text.
    fn plain_scalar(&mut self) -> usize {
        let start = self.at;
        while let Some(&character) = self.characters.get(self.at) {
            let next = self.characters.get(self.at + 1).copied();
            let ends = match character {
                '$' if next == Some('{') => {
                    let rest = &self.characters[self.at..];
                    self.at += rest.iter().position(|c| *c == '}').unwrap_or(rest.len() - 1);
                    false
                }
                ':' => next.is_none_or(|next| next == ' '),
                '#' => self.at > start && self.characters[self.at - 1] == ' ',
                ',' | '{' | '}' | '[' | ']' => self.depth > 0,
                _ => false,
            };
            if ends {
                break;
            }
            self.at += 1;
        }
        let text = &self.characters[start..self.at];
        start + text.iter().rposition(|c| *c != ' ').map_or(1, |last| last + 1)
    }
}

/// Whether `*name` names an anchor that the text defines.
fn is_alias(scalar: &[char], text: &str) -> bool {
    let name: String = scalar[1..].iter().collect();
    !name.is_empty() && text.contains(&format!("&{name}"))
}
