//! Where each value of a YAML text is written, read from the parser's events.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan};

use super::ValuePath;

/// A stretch of one line; line and column count from 1, the length is in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) length: usize,
}

/// Where a value and its key are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: Option<Span>,
    pub(super) value: Span,
    pub(super) scalar: bool,
}

/// What one pass over the events finds.
#[derive(Default)]
pub(super) struct Events {
    pub(super) entries: BTreeMap<ValuePath, Entry>,
    /// What YAML permits and a manifest does not, such as duplicate keys.
    pub(super) problems: Vec<(Span, String)>,
}

/// An open map or list.
enum Frame {
    Map {
        path: ValuePath,
        /// The key whose value comes next.
        key: Option<(String, Span)>,
        /// The line of each key seen.
        seen: BTreeMap<String, usize>,
    },
    List {
        path: ValuePath,
        next: usize,
    },
    /// A map or list used as a key: reported once, its insides are skipped.
    Skipped,
}

pub(super) fn read(text: &str) -> Result<Events, ScanError> {
    let mut found = Events::default();
    let mut frames: Vec<Frame> = Vec::new();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, at) = event?;
        match event {
            Event::DocumentStart(_) => {
                documents += 1;
                if documents == 2 {
                    found
                        .problems
                        .push((span(at), "a manifest is one YAML document".to_owned()));
                }
            }
            _ if documents > 1 => {}
            Event::Scalar(value, style, _, tag) => {
                if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
                    found
                        .problems
                        .push((span(at), format!("tag `{tag}` has no meaning here")));
                }
                if let Some(Frame::Map {
                    key: key @ None, seen, ..
                }) = frames.last_mut()
                {
                    let place = span(at);
                    if let Some(line) = seen.insert(value.to_string(), place.line) {
                        let message = format!("key `{value}` is given twice; the first is on line {line}");
                        found.problems.push((place, message));
                    }
                    *key = Some((value.into_owned(), place));
                    continue;
                }
                if style == ScalarStyle::Plain && is_not_finite(&value) {
                    found
                        .problems
                        .push((span(at), format!("`{value}` is not a finite number")));
                }
                enter(&mut frames, &mut found, at, true);
            }
            Event::Alias(_) => {
                enter(&mut frames, &mut found, at, true);
            }
            Event::SequenceStart(_, tag) | Event::MappingStart(_, tag)
                if tag.as_ref().is_some_and(|tag| !tag.is_yaml_core_schema()) =>
            {
                let tag = tag.map(|tag| tag.to_string()).unwrap_or_default();
                found
                    .problems
                    .push((span(at), format!("tag `{tag}` has no meaning here")));
                frames.push(Frame::Skipped);
            }
            Event::SequenceStart(..) => {
                let frame = enter(&mut frames, &mut found, at, false)
                    .map_or(Frame::Skipped, |path| Frame::List { path, next: 0 });
                frames.push(frame);
            }
            Event::MappingStart(..) => {
                let frame = enter(&mut frames, &mut found, at, false).map_or(Frame::Skipped, |path| Frame::Map {
                    path,
                    key: None,
                    seen: BTreeMap::new(),
                });
                frames.push(frame);
            }
            Event::SequenceEnd | Event::MappingEnd => {
                frames.pop();
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Notes the place of the value that begins here and gives its path; none inside what is skipped.
fn enter(frames: &mut [Frame], found: &mut Events, at: ParserSpan, scalar: bool) -> Option<ValuePath> {
    let value = span(at);
    let (path, key) = match frames.last_mut() {
        None => (ValuePath::default(), None),
        Some(Frame::List { path, next }) => {
            *next += 1;
            (path.child(*next - 1), None)
        }
        Some(Frame::Map { path, key, .. }) => match key.take() {
            Some((name, place)) => (path.child(name), Some(place)),
            None => {
                found.problems.push((value, "a key must be text".to_owned()));
                // The value of this key still has to find a key.
                *key = Some((String::new(), value));
                return None;
            }
        },
        Some(Frame::Skipped) => return None,
    };
    found.entries.insert(path.clone(), Entry { key, value, scalar });
    Some(path)
}

fn span(at: ParserSpan) -> Span {
    let length = if at.end.line() == at.start.line() {
        at.end.col() - at.start.col()
    } else {
        usize::MAX
    };
    Span {
        line: at.start.line().max(1),
        column: at.start.col() + 1,
        length: length.max(1),
    }
}

/// Whether YAML reads this plain scalar as an infinity or as not-a-number, which no setting can mean.
fn is_not_finite(scalar: &str) -> bool {
    let unsigned = scalar.strip_prefix(['+', '-']).unwrap_or(scalar);
    matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(scalar, ".nan" | ".NaN" | ".NAN")
}
