//! A manifest's text and everything that must stay tied to it: the values, and where each of them is written.
//!
//! Values come from `serde_yaml`, which knows no positions; positions come from the events of `saphyr-parser`
//! (see `spans`). The two meet in a [`ValuePath`]: `stages` → `model` → `with` → `max_steps`.

mod newcomer;
mod spans;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use spans::{Entry, Span, Tree};

/// The way from a document's root to one of its values; a list's items are named by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ValuePath(Vec<String>);

impl ValuePath {
    /// The path of the child `name` of the value at this path.
    pub(crate) fn child(&self, name: impl ToString) -> Self {
        let mut steps = self.0.clone();
        steps.push(name.to_string());
        Self(steps)
    }

    /// The path `rest` below this one.
    pub(crate) fn join(&self, rest: &[String]) -> Self {
        Self(self.0.iter().chain(rest).cloned().collect())
    }

    /// The last step; empty for the root.
    pub(crate) fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    /// The stage that the value belongs to.
    pub(crate) fn stage(&self) -> Option<&str> {
        match self.steps() {
            [stages, stage, ..] if stages == "stages" => Some(stage),
            _ => None,
        }
    }

    fn steps(&self) -> &[String] {
        &self.0
    }
}

impl<S: ToString, const N: usize> From<[S; N]> for ValuePath {
    fn from(steps: [S; N]) -> Self {
        Self(steps.iter().map(ToString::to_string).collect())
    }
}

/// Splits a path as `serde_path_to_error` and kinds write it: `thresholds[1]`, `optimizer.betas[0]`.
pub(crate) fn split_setting_path(path: &str) -> Vec<String> {
    path.split(['.', '[', ']'])
        .filter(|step| !step.is_empty())
        .map(str::to_owned)
        .collect()
}

/// One text that values came from: the manifest, or one `--set`.
#[derive(Clone, Debug)]
struct Text {
    file: String,
    lines: Vec<String>,
}

impl Text {
    fn new(file: &str, text: &str) -> Self {
        Self {
            file: file.to_owned(),
            lines: text.lines().map(str::to_owned).collect(),
        }
    }

    fn place(&self, span: Span) -> Place {
        let source = self.lines.get(span.line - 1).cloned().unwrap_or_default();
        let rest = source.chars().count().saturating_sub(span.column - 1);
        Place {
            file: self.file.clone(),
            line: span.line,
            column: span.column,
            length: span.length.min(rest).max(1),
            source,
        }
    }
}

/// A manifest's values together with their places.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    root: Map<String, Value>,
    text: Text,
    tree: Tree,
    /// Values that `--set` put in place of what the file says.
    overlays: BTreeMap<ValuePath, Text>,
}

impl Source {
    /// Reads YAML text; `file` is only its name.
    ///
    /// # Errors
    /// Text that is not one YAML map: broken syntax, duplicate keys, tags, numbers that are not finite.
    pub(crate) fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let lines = Text::new(file, text);
        let syntax_errors = |line: usize, column: usize, info: &str| {
            let mut found = Diagnostics::default();
            for mistake in newcomer::find(&lines, line, info) {
                found.push(mistake);
            }
            if found.is_empty() {
                let line = line.clamp(1, lines.lines.len().max(1));
                let place = lines.place(Span {
                    line,
                    column,
                    length: 1,
                });
                found.push(Diagnostic::error(format!("not valid YAML: {info}")).at(place));
            }
            found
        };
        let events = spans::read(text).map_err(|error| {
            let marker = error.marker();
            syntax_errors(marker.line(), marker.col() + 1, error.info())
        })?;
        let mut found = Diagnostics::default();
        for (span, message) in events.problems {
            found.push(Diagnostic::error(message).at(lines.place(span)));
        }
        found.or(())?;
        let value: Value = serde_yaml::from_str(text).map_err(|error| {
            let (line, column) = error.location().map_or((1, 1), |at| (at.line(), at.column()));
            syntax_errors(line, column, &error.to_string())
        })?;
        match value {
            Value::Object(root) => Ok(Self {
                root,
                text: lines,
                tree: events.tree,
                overlays: BTreeMap::new(),
            }),
            Value::Null => Err(Diagnostic::error(format!("`{file}` is empty"))
                .help("a manifest has a `name` and `stages`")
                .into()),
            _ => Err(Diagnostic::error("a manifest is a map")
                .at(lines.place(Span {
                    line: 1,
                    column: 1,
                    length: 1,
                }))
                .help("it begins with `name: …`, then `stages:`")
                .into()),
        }
    }

    /// The values.
    pub(crate) fn root(&self) -> &Map<String, Value> {
        &self.root
    }

    /// Where the key of the value at `path` is written, or the nearest thing above it that is written at all.
    pub(crate) fn key(&self, path: &ValuePath) -> Place {
        self.find(path, |entry| entry.key.unwrap_or(entry.value))
    }

    /// Where the value at `path` is written; for a map or list, where its key is.
    pub(crate) fn value(&self, path: &ValuePath) -> Place {
        self.find(path, |entry| match entry.key {
            Some(key) if !entry.scalar => key,
            _ => entry.value,
        })
    }

    /// [`Source::value`], narrowed to the first occurrence of `part` in it.
    pub(crate) fn within(&self, path: &ValuePath, part: &str) -> Place {
        let mut place = self.value(path);
        let skip = place
            .source
            .char_indices()
            .nth(place.column - 1)
            .map_or(place.source.len(), |(at, _)| at);
        if part.is_empty() {
            return place;
        }
        if let Some(at) = place.source[skip..].find(part) {
            place.column += place.source[skip..skip + at].chars().count();
            place.length = part.chars().count();
        }
        place
    }

    fn find(&self, path: &ValuePath, pick: impl Fn(&Entry) -> Span) -> Place {
        let way = self.tree.way(path.steps());
        for length in (0..=path.steps().len()).rev() {
            if let Some(text) = self.overlay_at(&path.steps()[..length]) {
                let length = text.lines.first().map_or(1, |line| line.chars().count());
                return text.place(Span {
                    line: 1,
                    column: 1,
                    length,
                });
            }
            // The root itself spans the file; marking its first line helps nobody, but a place there must be.
            if let Some(entry) = way.get(length) {
                return self.text.place(pick(entry));
            }
        }
        self.text.place(Span {
            line: 1,
            column: 1,
            length: 1,
        })
    }

    fn overlay_at(&self, steps: &[String]) -> Option<&Text> {
        if self.overlays.is_empty() {
            return None;
        }
        self.overlays.get(&ValuePath(steps.to_vec()))
    }

    /// Puts `value` at `path`, making maps on the way; errors about it will show `text` (the `--set` it came from).
    ///
    /// # Errors
    /// The path of a value on the way that is not a map.
    pub(crate) fn overlay(&mut self, path: &ValuePath, value: Value, text: &str) -> Result<(), ValuePath> {
        let Some((last, way)) = path.steps().split_last() else {
            return Ok(());
        };
        let mut map = &mut self.root;
        for (depth, step) in way.iter().enumerate() {
            let next = map.entry(step.clone()).or_insert_with(|| Value::Object(Map::new()));
            if next.is_null() {
                *next = Value::Object(Map::new());
            }
            match next {
                Value::Object(next) => map = next,
                _ => return Err(ValuePath(way[..=depth].to_vec())),
            }
        }
        map.insert(last.clone(), value);
        self.overlays.insert(path.clone(), Text::new("--set", text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first_error(text: &str) -> Diagnostic {
        Source::parse("m.yaml", text)
            .unwrap_err()
            .iter()
            .next()
            .unwrap()
            .clone()
    }

    #[test]
    fn values_and_keys_have_places() {
        let source = Source::parse(
            "m.yaml",
            "name: x\nstages:\n  a: {kind: load, with: {files: [u, \"vé w\"]}}\n",
        )
        .unwrap();
        let at = |place: Place| (place.line, place.column, place.length);
        assert_eq!(at(source.key(&["stages", "a"].into())), (3, 3, 1));
        assert_eq!(at(source.value(&["stages", "a", "kind"].into())), (3, 13, 4));
        assert_eq!(
            at(source.value(&["stages", "a", "with", "files", "1"].into())),
            (3, 37, 6)
        );
        // What is not written points at what holds it.
        assert_eq!(at(source.value(&["stages", "a", "with", "limit"].into())), (3, 19, 4));
        assert_eq!(
            at(source.within(&["stages", "a", "with", "files", "1"].into(), "w")),
            (3, 41, 1)
        );
    }

    #[test]
    fn duplicate_keys_tags_and_infinities_are_errors() {
        let error = first_error("a: 1\nb: 2\na: 3\n");
        assert_eq!(error.message, "key `a` is given twice; the first is on line 1");
        assert_eq!(error.place.unwrap().line, 3);
        assert_eq!(first_error("a: !foo 1\n").message, "tag `!foo` has no meaning here");
        assert_eq!(first_error("a: [1, .nan]\n").message, "`.nan` is not a finite number");
    }

    #[test]
    fn an_unquoted_reference_in_braces_gets_the_quoted_form() {
        let error = first_error("name: x\nstages:\n  a: {kind: load, with: {limit: ${vars.limit}, x: 1}}\n");
        assert_eq!(error.message, "`${…}` inside braces or brackets must be quoted");
        let place = error.place.unwrap();
        assert_eq!((place.line, place.column, place.length), (3, 33, 13));
        assert_eq!(error.help.as_deref(), Some("write \"${vars.limit}\""));
        let error = first_error("a: [x-${b}/c, d]\n");
        assert_eq!(error.help.as_deref(), Some("write \"x-${b}/c\""));
    }

    #[test]
    fn a_leading_star_gets_the_quoted_form() {
        for (text, quoted) in [
            ("train: *.jsonl  # all\n", "write \"*.jsonl\""),
            ("files: [a, */b.txt]\n", "write \"*/b.txt\""),
            ("files:\n  - **/c\n", "write \"**/c\""),
        ] {
            let error = first_error(text);
            assert_eq!(error.message, "a value that begins with `*` must be quoted", "{text}");
            assert_eq!(error.help.as_deref(), Some(quoted));
        }
    }

    fn errors(text: &str) -> Vec<String> {
        let found = Source::parse("m.yaml", text).unwrap_err();
        found.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_values_that_must_be_quoted_are_shown() {
        let text = "train: *.jsonl\na: {x: [${u}, ok, *.x], y: 1}\nrun: |\n  *.sh {${\nb: \"{\"\nc: {z: ${v}}\n";
        assert_eq!(
            errors(text),
            [
                "m.yaml:1:8: a value that begins with `*` must be quoted (must be quoted); write \"*.jsonl\"",
                "m.yaml:2:9: `${…}` inside braces or brackets must be quoted (must be quoted); write \"${u}\"",
                "m.yaml:2:19: a value that begins with `*` must be quoted (must be quoted); write \"*.x\"",
                "m.yaml:6:8: `${…}` inside braces or brackets must be quoted (must be quoted); write \"${v}\"",
            ]
        );
    }

    #[test]
    fn what_is_not_closed_is_marked_where_it_opens() {
        let found = errors("stages:\n  a: {kind: x, with: {files: [u, v}\n  b: {kind: y}\n");
        assert!(found[0].starts_with("m.yaml:2:"), "{found:?}");
        let found = errors("stages:\n  a: {kind: x, with: {limit: 1}\n  b: {kind: y}\n");
        let expected = "m.yaml:2:6: this `{` is not closed before line 3; close it with `}`, or indent the lines that go on with it (YAML: \
                        invalid indentation in flow construct)";
        assert_eq!(found, [expected]);
        assert_eq!(
            errors("stages:\n\ta: 1\n"),
            ["m.yaml:2:1: a tab indents this line; YAML takes spaces only"]
        );
    }

    #[test]
    fn anchors_and_shell_variables_are_left_alone() {
        let source = Source::parse("m.yaml", "a: &x {u: 1}\nb: *x\nrun: |\n  echo ${HOME} {\n").unwrap();
        assert_eq!(source.root()["b"]["u"], 1);
        assert_eq!(source.value(&["b", "u"].into()).line, 2);
    }

    #[test]
    fn other_syntax_errors_keep_their_line() {
        let error = first_error("a: 1\nb: \"x\" y\nc: 3\n");
        assert!(error.message.starts_with("not valid YAML: "), "{}", error.message);
        assert!(error.place.unwrap().line >= 2);
        assert_eq!(first_error("").message, "`m.yaml` is empty");
        assert_eq!(first_error("- a\n").message, "a manifest is a map");
    }
}
