//! The settings of a stage in one cell, before its kind sees them: `${…}` written out, overrides applied, names made paths.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Builder, Point};
use crate::axes::{Assignment, Cell, CellScope};
use crate::diagnostic::Diagnostic;
use crate::interpolate::{interpolate, visit_templates};
use crate::kind::{Kind, SettingError};
use crate::manifest::{Manifest, Stage, with_path};
use crate::source::ValuePath;

/// The settings of a stage on one projection of its own axes, before the kind has seen them.
pub(super) struct Written {
    pub(super) settings: Map<String, Value>,
    /// The overrides that took effect, for the places of errors.
    pub(super) assigned: Vec<usize>,
}

impl Builder<'_> {
    /// The settings in `cell`, with overrides applied and `${…}` written out.
    pub(super) fn write_out(&mut self, name: &str, stage: &Stage, cell: &Cell) -> Option<Written> {
        let manifest = self.manifest;
        let mut settings = stage.with.clone();
        let mut assigned = Vec::new();
        for (index, (holds, assignment)) in assignments(manifest, name, Some(cell)).enumerate() {
            if holds {
                assign(&mut settings, &assignment.setting, assignment.value.clone());
                assigned.push(index);
            }
        }
        let scope = CellScope {
            sweep: &manifest.sweep,
            vars: &manifest.vars,
            cell,
        };
        match interpolate(&Value::Object(settings), &scope) {
            Ok(Some(Value::Object(settings))) => Some(Written { settings, assigned }),
            // A map stays one.
            Ok(_) => None,
            Err(errors) => {
                for error in errors {
                    let path = self.setting_place(name, &assigned, &error.path);
                    let place = manifest.source.within(&path, &error.text);
                    self.found
                        .push(Diagnostic::error(error.message).at(place).maybe_help(error.help));
                }
                None
            }
        }
    }

    /// Puts paths in the place of names.
    pub(super) fn locate(&mut self, name: &str, kind: &dyn Kind, mut written: Written) -> Option<Written> {
        let Some(locator) = self.locator else {
            return Some(written);
        };
        let mut wrong = Vec::new();
        for (setting, value) in &mut written.settings {
            let Value::String(text) = value else { continue };
            if !kind.takes_names(setting, text) || self.manifest.project.join(&*text).exists() {
                continue;
            }
            match locator(text) {
                Ok(Some(path)) => *text = path.to_string_lossy().into_owned(),
                Ok(None) => {}
                Err(error) => {
                    let refused = SettingError::new(setting.as_str(), error.message);
                    wrong.push(match error.help {
                        Some(help) => refused.help(help),
                        None => refused,
                    });
                }
            }
        }
        if wrong.is_empty() {
            return Some(written);
        }
        for error in wrong {
            self.bad_setting(name, &written, &Point::new(), error);
        }
        None
    }

    /// Where the setting at `steps` below `with` is written: in the stage, or in the last override that set it.
    pub(super) fn setting_place(&self, name: &str, assigned: &[usize], steps: &[String]) -> ValuePath {
        let all: Vec<&Assignment> = assignments(self.manifest, name, None)
            .map(|(_, assignment)| assignment)
            .collect();
        let by_override = assigned
            .iter()
            .rev()
            .map(|index| all[*index])
            .find(|item| steps.starts_with(&item.setting));
        match by_override {
            Some(assignment) => assignment.path.join(&steps[assignment.setting.len()..]),
            None => with_path(name).join(steps),
        }
    }
}

/// The axes that the stage's own text names: settings, publish targets, and overrides of it with their conditions.
pub(super) fn own_axes(manifest: &Manifest, name: &str, stage: &Stage) -> Vec<usize> {
    let mut axes = BTreeSet::new();
    let mut note = |value: &Value| {
        visit_templates(value, &mut Vec::new(), &mut |_, template| {
            let Ok(template) = template else { return };
            axes.extend(
                template
                    .references()
                    .filter_map(|reference| manifest.sweep.axis(reference.axis()?)),
            );
        });
    };
    for value in stage.with.values() {
        note(value);
    }
    for entry in &stage.publish {
        note(&Value::String(entry.target.clone()));
    }
    for (_, assignment) in assignments(manifest, name, None) {
        note(&assignment.value);
    }
    for item in &manifest.sweep.overrides {
        if item.set.iter().any(|assignment| assignment.stage == name) {
            axes.extend(item.when.axes());
        }
    }
    axes.into_iter().collect()
}

/// All assignments of overrides to `stage`, in order, each with whether it holds in `cell`.
fn assignments<'a>(
    manifest: &'a Manifest,
    stage: &'a str,
    cell: Option<&'a Cell>,
) -> impl Iterator<Item = (bool, &'a Assignment)> {
    manifest.sweep.overrides.iter().flat_map(move |item| {
        let holds = cell.is_some_and(|cell| item.when.holds(cell));
        item.set
            .iter()
            .filter(move |assignment| assignment.stage == stage)
            .map(move |assignment| (holds, assignment))
    })
}

/// Puts `value` at `steps`, making maps on the way.
fn assign(settings: &mut Map<String, Value>, steps: &[String], value: Value) {
    match steps {
        [] => {}
        [last] => {
            settings.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = settings.entry(first.clone()).or_insert(Value::Null);
            if !inner.is_object() {
                *inner = Value::Object(Map::new());
            }
            if let Value::Object(inner) = inner {
                assign(inner, rest, value);
            }
        }
    }
}
