//! Where each value of a YAML text is written, read from the parser's events.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as ParserSpan};

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

/// One value and those inside it, by their place in [`Tree`].
#[derive(Clone, Debug)]
struct Node {
    entry: Entry,
    /// The values of a map by their keys.
    fields: BTreeMap<String, usize>,
    /// The values of a list.
    items: Vec<usize>,
}

/// Where every value of a document is. (A map of whole paths would copy each path's beginning for every value below it.)
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    /// The root comes first.
    nodes: Vec<Node>,
}

impl Tree {
    /// The entries on the way along `steps`, from the root to the last value that is written.
    pub(super) fn way(&self, steps: &[String]) -> Vec<Entry> {
        let mut way = Vec::with_capacity(steps.len() + 1);
        let mut node = self.nodes.first();
        let mut steps = steps.iter();
        while let Some(here) = node {
            way.push(here.entry);
            node = steps.next().and_then(|step| {
                let item = || here.items.get(step.parse::<usize>().ok()?);
                self.nodes.get(*here.fields.get(step).or_else(item)?)
            });
        }
        way
    }

    /// Adds the value that begins here, below `parent` under `step`.
    fn add(&mut self, parent: Option<(usize, Option<String>)>, entry: Entry) -> usize {
        let new = self.nodes.len();
        match parent {
            Some((parent, Some(key))) => drop(self.nodes[parent].fields.insert(key, new)),
            Some((parent, None)) => self.nodes[parent].items.push(new),
            None => {}
        }
        self.nodes.push(Node {
            entry,
            fields: BTreeMap::new(),
            items: Vec::new(),
        });
        new
    }
}

/// What one pass over the events finds.
#[derive(Default)]
pub(super) struct Events {
    pub(super) tree: Tree,
    /// What YAML permits and a manifest does not, such as duplicate keys.
    pub(super) problems: Vec<(Span, String)>,
}

/// An open map or list.
enum Frame {
    Map {
        node: usize,
        /// The key whose value comes next.
        key: Option<(String, Span)>,
        /// The line of each key seen.
        seen: BTreeMap<String, usize>,
    },
    List {
        node: usize,
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
                let node = enter(&mut frames, &mut found, at, false);
                frames.push(node.map_or(Frame::Skipped, |node| Frame::List { node }));
            }
            Event::MappingStart(..) => {
                let frame = enter(&mut frames, &mut found, at, false).map_or(Frame::Skipped, |node| Frame::Map {
                    node,
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

/// Notes the place of the value that begins here and gives its node; none inside what is skipped.
fn enter(frames: &mut [Frame], found: &mut Events, at: ParserSpan, scalar: bool) -> Option<usize> {
    let value = span(at);
    let (parent, key) = match frames.last_mut() {
        None => (None, None),
        Some(Frame::List { node }) => (Some((*node, None)), None),
        Some(Frame::Map { node, key, .. }) => match key.take() {
            Some((name, place)) => (Some((*node, Some(name))), Some(place)),
            None => {
                found.problems.push((value, "a key must be text".to_owned()));
                // The value of this key still has to find a key.
                *key = Some((String::new(), value));
                return None;
            }
        },
        Some(Frame::Skipped) => return None,
    };
    Some(found.tree.add(parent, Entry { key, value, scalar }))
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
