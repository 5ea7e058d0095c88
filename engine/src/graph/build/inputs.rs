//! What the inputs of a stage are in each cell, and what they offer.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use serde_json::Value;

use super::resolve::silent;
use super::{Builder, Point};
use crate::artifact::EVERY_PART;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Connection, Stage};
use crate::source::ValuePath;
use crate::suggest::did_you_mean;

/// What an input is, seen from all cells.
pub(super) struct Input<'a> {
    pub(super) port: &'a str,
    pub(super) path: ValuePath,
    /// What it can be in some cell: one instance, or the instances that are gathered together.
    pub(super) choices: Vec<Choice>,
    /// For each cell the index of its choice.
    pub(super) of_cell: Vec<usize>,
    pub(super) collects: bool,
}

pub(super) struct Choice {
    /// Instance numbers, in the order of the cells.
    pub(super) from: Vec<usize>,
    /// The axes that the reader gets from it.
    pub(super) point: Point,
    /// The parts that all of them have.
    pub(super) parts: Vec<String>,
    /// What all of them tell alike.
    pub(super) told: BTreeMap<String, Value>,
}

impl<'a> Builder<'a> {
    /// The stage's inputs in all cells; none if one of them comes from a stage with errors.
    pub(super) fn inputs(&mut self, name: &str, stage: &'a Stage) -> Option<Vec<Input<'a>>> {
        let mut inputs = Vec::new();
        for (port, connection) in &stage.inputs {
            let upstream = self.of_cell.get(connection.stage())?;
            let path = ValuePath::from(["stages", name, "inputs"]).child(port);
            let collects = matches!(connection, Connection::Collect { .. });
            // What is gathered together is what agrees on the axes that are not gathered.
            let kept = |number: usize| -> Option<Point> {
                match connection {
                    Connection::One { .. } => Some(self.points[number].clone()),
                    Connection::Collect { over: None, .. } => Some(Point::new()),
                    Connection::Collect { over: Some(over), .. } => {
                        let mut point = self.points[number].clone();
                        point.retain(|axis, _| !over.contains(&self.manifest.sweep.axes[*axis].name));
                        Some(point)
                    }
                }
            };
            if let Connection::Collect { over: Some(over), .. } = connection {
                let upstream_name = connection.stage();
                for (index, axis) in over.iter().enumerate() {
                    let has = |point: &Point| point.keys().any(|has| self.manifest.sweep.axes[*has].name == *axis);
                    if !upstream.iter().any(|number| has(&self.points[*number])) {
                        let message = format!("`{upstream_name}` does not have the axis `{axis}`");
                        let place = self.manifest.source.value(&path.child("over").child(index));
                        self.found.push(
                            Diagnostic::error(message)
                                .at(place)
                                .help("gather axes that its instances have"),
                        );
                    }
                }
            }
            let mut choices: IndexMap<(Option<usize>, Point), Choice> = IndexMap::new();
            let mut of_cell = Vec::with_capacity(upstream.len());
            for number in upstream {
                let point = kept(*number)?;
                let key = (if collects { None } else { Some(*number) }, point.clone());
                let entry = choices.entry(key);
                of_cell.push(entry.index());
                let choice = entry.or_insert_with(|| Choice {
                    from: Vec::new(),
                    point,
                    parts: Vec::new(),
                    told: BTreeMap::new(),
                });
                // A stage's numbers rise with the cells, but a cell may fall to an earlier instance again.
                if let Err(at) = choice.from.binary_search(number) {
                    choice.from.insert(at, *number);
                }
            }
            let mut choices: Vec<Choice> = choices.into_values().collect();
            for choice in &mut choices {
                let parts = |number: &usize| &self.instances[*number].resolved.parts;
                let common = |part: &&String| choice.from.iter().all(|number| parts(number).contains(part));
                choice.parts = choice
                    .from
                    .first()
                    .map(parts)
                    .into_iter()
                    .flatten()
                    .filter(common)
                    .cloned()
                    .collect();
                choice.told = choice
                    .from
                    .first()
                    .map(|first| self.instances[*first].resolved.told.clone())
                    .unwrap_or_default();
                choice.told.retain(|key, value| {
                    let told = |number: &usize| self.instances[*number].resolved.told.get(key);
                    choice.from.iter().all(|number| told(number) == Some(value))
                });
            }
            if let Some(part) = connection.part()
                && !self.only(part, connection, &path, &mut choices)
            {
                return None;
            }
            inputs.push(Input {
                port,
                path,
                choices,
                of_cell,
                collects,
            });
        }
        Some(inputs)
    }

    /// Leaves of what an input offers the one part that the manifest names; false if it is not always there.
    fn only(&mut self, part: &str, connection: &Connection, path: &ValuePath, choices: &mut [Choice]) -> bool {
        for choice in choices {
            if choice.parts.iter().any(|part| part == EVERY_PART) {
                let place = self.manifest.source.within(&connection.place(path), part);
                self.found.push(silent(connection.stage(), part).at(place));
                return false;
            }
            if !choice.parts.iter().any(|offered| offered == part) {
                let message = match (connection.stage(), part) {
                    (stage, "") => format!("no part is named behind `{stage}.`"),
                    (stage, part) => format!("`{stage}` has no part `{part}`"),
                };
                let place = self.manifest.source.within(&connection.place(path), part);
                let help = did_you_mean(part, choice.parts.iter().map(String::as_str));
                self.found.push(Diagnostic::error(message).at(place).maybe_help(help));
                return false;
            }
            choice.parts = vec![part.to_owned()];
        }
        true
    }
}
