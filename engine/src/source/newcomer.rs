//! The mistakes that everyone makes once, found by their look after the YAML parser has given up: an unquoted `${…}` inside
//! braces, a value that begins with `*`, a brace that is never closed, a tab.

use crate::diagnostic::Diagnostic;

use super::Text;
use super::spans::Span;

/// What is wrong with `text`, of which the parser says `info` at `line`; empty if it has none of these looks.
pub(super) fn find(text: &Text, line: usize, info: &str) -> Vec<Diagnostic> {
    let mut scan = Scan::default();
    // The parser reports at, or soon after, the place. If that is one of these mistakes, all of them are told.
    scan.lines(text, 0, line);
    if !scan.unquoted.is_empty() {
        scan.lines(text, line, usize::MAX);
        return scan.unquoted;
    }
    let source = text.lines.get(line.saturating_sub(1)).map_or("", String::as_str);
    let indent = source.len() - source.trim_start().len();
    if let Some(tab) = source[..indent].find('\t') {
        let tab = Diagnostic::error("a tab indents this line").at(text.place(Span {
            line,
            column: tab + 1,
            length: 1,
        }));
        return vec![tab.help("YAML takes spaces only")];
    }
    match scan.open.last() {
        Some((brace, span)) if span.line < line => {
            let close = if *brace == '{' { '}' } else { ']' };
            let message = format!("this `{brace}` is not closed before line {line}");
            let help = format!("close it with `{close}`, or indent the lines that go on with it (YAML: {info})");
            vec![Diagnostic::error(message).at(text.place(*span)).help(help)]
        }
        _ => Vec::new(),
    }
}

/// What is known after some lines.
#[derive(Default)]
struct Scan {
    /// The braces and brackets that are open.
    open: Vec<(char, Span)>,
    /// The quote that is open.
    quote: Option<char>,
    /// The indentation of the key whose block scalar goes on.
    block: Option<usize>,
    unquoted: Vec<Diagnostic>,
}

impl Scan {
    /// Looks at the lines from `first` up to `end`, counted from 0.
    fn lines(&mut self, text: &Text, first: usize, end: usize) {
        for (index, line) in text.lines.iter().enumerate().take(end).skip(first) {
            let characters: Vec<char> = line.chars().collect();
            let indent = characters.iter().take_while(|c| **c == ' ').count();
            // The text of a block scalar (`run: |`) is not YAML.
            match self.block {
                Some(_) if indent == characters.len() => continue,
                Some(block) if indent > block => continue,
                _ => self.block = None,
            }
            let mut walk = Line {
                characters: &characters,
                at: indent,
                number: index + 1,
                open: &mut self.open,
                quote: &mut self.quote,
            };
            while let Some((start, end, message)) = walk.mistake(text) {
                let value: String = characters[start..end].iter().collect();
                let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
                let span = Span {
                    line: index + 1,
                    column: start + 1,
                    length: end - start,
                };
                let mistake = Diagnostic::error(message).at(text.place(span)).label("must be quoted");
                self.unquoted.push(mistake.help(format!("write \"{quoted}\"")));
            }
            let ends_as_block = line.rsplit(' ').next().is_some_and(|last| {
                last.starts_with(['|', '>']) && last[1..].chars().all(|c| matches!(c, '+' | '-' | '0'..='9'))
            });
            if self.open.is_empty() && ends_as_block {
                self.block = Some(indent);
            }
        }
    }
}

/// A walk along one line that knows just enough YAML: braces, quotes, comments, and where a value begins.
struct Line<'a> {
    characters: &'a [char],
    at: usize,
    number: usize,
    open: &'a mut Vec<(char, Span)>,
    quote: &'a mut Option<char>,
}

impl Line<'_> {
    /// Start, end and message of the next mistake on the line.
    fn mistake(&mut self, text: &Text) -> Option<(usize, usize, &'static str)> {
        while let Some(&character) = self.characters.get(self.at) {
            if let Some(quote) = *self.quote {
                let escaped = quote == '"' && character == '\\';
                if character == quote {
                    *self.quote = None;
                }
                self.at += if escaped { 2 } else { 1 };
                continue;
            }
            match character {
                ' ' | ',' | ':' => self.at += 1,
                '#' => break,
                '-' if self.characters.get(self.at + 1).is_none_or(|next| *next == ' ') => self.at += 1,
                '{' | '[' => {
                    let span = Span {
                        line: self.number,
                        column: self.at + 1,
                        length: 1,
                    };
                    self.open.push((character, span));
                    self.at += 1;
                }
                '}' | ']' => {
                    self.open.pop();
                    self.at += 1;
                }
                '"' | '\'' => {
                    *self.quote = Some(character);
                    self.at += 1;
                }
                _ => {
                    let start = self.at;
                    let end = self.plain_scalar();
                    let scalar = &self.characters[start..end];
                    if scalar[0] == '*' && !is_alias(scalar, text) {
                        return Some((start, end, "a value that begins with `*` must be quoted"));
                    }
                    if !self.open.is_empty() && scalar.windows(2).any(|pair| pair == ['$', '{']) {
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
                ',' | '{' | '}' | '[' | ']' => !self.open.is_empty(),
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
fn is_alias(scalar: &[char], text: &Text) -> bool {
    let name: String = scalar[1..].iter().collect();
    !name.is_empty() && text.lines.iter().any(|line| line.contains(&format!("&{name}")))
}
