//! Reads the shapes a manifest is made of, and collects what is wrong instead of stopping at the first mistake.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::interpolate::BadReference;
use crate::schema::Key;
use crate::source::{Source, ValuePath};
use crate::suggest::did_you_mean;

/// A source and what was found wrong with it so far.
pub(crate) struct Reader<'a> {
    pub(crate) source: &'a Source,
    pub(crate) found: Diagnostics,
    /// The stages that something is wrong with.
    pub(crate) broken: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self {
            source,
            found: Diagnostics::default(),
            broken: BTreeSet::new(),
        }
    }

    /// Something is wrong with the value at `path`.
    pub(crate) fn bad_value(&mut self, path: &ValuePath, message: impl Into<String>, help: Option<String>) {
        self.bad(
            path,
            Diagnostic::error(message).at(self.source.value(path)).maybe_help(help),
        );
    }

    /// Something is wrong with the key at `path`, or with everything under it.
    pub(crate) fn bad_key(&mut self, path: &ValuePath, message: impl Into<String>, help: Option<String>) {
        self.bad(
            path,
            Diagnostic::error(message).at(self.source.key(path)).maybe_help(help),
        );
    }

    /// References below `path` that cannot be written out.
    pub(crate) fn bad_references(&mut self, path: &ValuePath, errors: Vec<BadReference>) {
        for error in errors {
            let place = self.source.within(&path.join(&error.path), &error.text);
            self.bad(path, Diagnostic::error(error.message).at(place).maybe_help(error.help));
        }
    }

    fn bad(&mut self, path: &ValuePath, diagnostic: Diagnostic) {
        self.broken.extend(path.stage().map(str::to_owned));
        self.found.push(diagnostic);
    }

    /// A map; what else it is, is reported. `what` names it in the message.
    pub(crate) fn map<'v>(&mut self, value: &'v Value, path: &ValuePath, what: &str) -> Option<&'v Map<String, Value>> {
        let map = value.as_object();
        if map.is_none() {
            let glued = |text: &str| {
                text.split_once(':')
                    .is_some_and(|(key, rest)| !key.is_empty() && !rest.is_empty())
            };
            let help = value.as_str().filter(|text| glued(text));
            let help = help.map(|_| "a space belongs behind the `:`".to_owned());
            self.bad_value(path, format!("{what} must be a map, not {}", kind_of(value)), help);
        }
        map
    }

    /// A list; what else it is, is reported.
    pub(crate) fn list<'v>(&mut self, value: &'v Value, path: &ValuePath, what: &str) -> Option<&'v [Value]> {
        let list = value.as_array();
        if list.is_none() {
            self.bad_value(path, format!("{what} must be a list, not {}", kind_of(value)), None);
        }
        list.map(Vec::as_slice)
    }

    /// Text; what else it is, is reported.
    pub(crate) fn text<'v>(&mut self, value: &'v Value, path: &ValuePath, what: &str) -> Option<&'v str> {
        let text = value.as_str();
        if text.is_none() {
            self.bad_value(path, format!("{what} must be text, not {}", kind_of(value)), None);
        }
        text
    }

    /// Reports keys that are not among `allowed`.
    pub(crate) fn keys(&mut self, map: &Map<String, Value>, path: &ValuePath, allowed: &[Key], what: &str) {
        let allowed = || allowed.iter().map(|key| key.name);
        for key in map
            .keys()
            .filter(|key| !allowed().any(|allowed| allowed == key.as_str()))
        {
            let help = match key.as_str() {
                "<<" => Some("merge keys are not read: use a variable for what several places share".to_owned()),
                _ => did_you_mean(key, allowed()),
            };
            self.bad_key(&path.child(key), format!("unknown key `{key}` in {what}"), help);
        }
    }

    /// Reports a name that could not be written in a selector, a path or after `--set`.
    pub(crate) fn name(&mut self, name: &str, path: &ValuePath, what: &str) {
        let begins = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !begins || !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-')) {
            let help = "a name is letters, digits, `_` and `-`, and begins with a letter".to_owned();
            self.bad_key(path, format!("`{name}` cannot be the name of {what}"), Some(help));
        }
    }
}

/// The value of `key`; one that is there and empty counts as not there.
pub(crate) fn given<'v>(map: &'v Map<String, Value>, key: &str) -> Option<&'v Value> {
    map.get(key).filter(|value| !value.is_null())
}

/// A value's type in the words of a manifest's author.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
