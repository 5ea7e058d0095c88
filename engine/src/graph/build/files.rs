//! The files that settings name: each path must lead to something.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Builder;
use crate::diagnostic::Diagnostic;
use crate::inputs::{Names, expand_one};
use crate::kind::Kind;

impl Builder<'_> {
    /// The paths of the input settings; each must lead to something, so that no run ends at a misspelt file.
    pub(super) fn files(
        &mut self,
        name: &str,
        kind: &dyn Kind,
        settings: &Map<String, Value>,
    ) -> BTreeMap<String, Vec<String>> {
        let mut files = BTreeMap::new();
        for field in kind.fields().iter().filter(|field| field.class.names_files()) {
            let value = settings.get(field.name).unwrap_or(&Value::Null);
            let mut paths = BTreeMap::new();
            if let Err(path) = input_files(field.name, value, &mut paths) {
                let message = format!("`{path}` must be a path or a pattern, a list of them, or a map of them");
                let place = self.manifest.place_of_setting(name, &path);
                self.found.push(Diagnostic::error(message).at(place));
            }
            for (setting, paths) in &paths {
                for (index, path) in paths.iter().enumerate() {
                    // The path of a list's item, unless the setting is a single path.
                    let place = || format!("{setting}[{index}]");
                    self.look_for(name, setting, path, Names::of(Some(field.class)), place);
                }
            }
            files.extend(paths);
        }
        files
    }

    /// Reports a path that leads to nothing.
    fn look_for(&mut self, stage: &str, setting: &str, path: &str, names: Names, written_at: impl Fn() -> String) {
        let project = &self.manifest.project;
        let reason = self
            .missing
            .entry((setting.to_owned(), path.to_owned(), names))
            .or_insert_with(|| expand_one(project, setting, path, names).err());
        if let Some(reason) = reason {
            let place = self.manifest.place_of_setting(stage, &written_at());
            let diagnostic = Diagnostic::error(&reason.message).at(place);
            self.found.push(diagnostic.maybe_help(reason.help.clone()));
        }
    }
}

/// Collects the paths of an input setting under `name`, or `name.key` for a map.
pub(crate) fn input_files(name: &str, value: &Value, files: &mut BTreeMap<String, Vec<String>>) -> Result<(), String> {
    match value {
        Value::Null => {}
        Value::String(path) => {
            files.insert(name.to_owned(), vec![path.clone()]);
        }
        Value::Array(items) => {
            let mut paths = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                paths.push(item.as_str().ok_or(format!("{name}[{index}]"))?.to_owned());
            }
            files.insert(name.to_owned(), paths);
        }
        Value::Object(map) if !name.contains('.') => {
            for (key, value) in map {
                input_files(&format!("{name}.{key}"), value, files)?;
            }
        }
        _ => return Err(name.to_owned()),
    }
    Ok(())
}
