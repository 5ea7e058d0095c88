//! One flat row for every instance, split and threshold, and the two formats for programs.

use indexmap::{IndexMap, IndexSet};
use nerpipe_engine::StageError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One result of one instance.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The instance's name.
    pub(super) instance: String,
    /// The instance's axes, then `split` and `threshold`.
    pub(super) names: IndexMap<String, String>,
    /// `split` and `threshold` as they were written.
    written: [Value; 2],
    /// Every number of the result by its path.
    pub(super) metrics: IndexMap<String, Value>,
}

/// The pseudo-axes that every row has besides those of the sweep.
pub(super) const OWN_AXES: [&str; 2] = ["split", "threshold"];

/// A `metrics.json`.
#[derive(Deserialize)]
struct Scores {
    results: Vec<Map<String, Value>>,
}

/// The rows of one instance's `metrics.json`.
pub(super) fn read(instance: &str, axes: &IndexMap<String, String>, bytes: &[u8]) -> Result<Vec<Row>, StageError> {
    let scores: Scores = serde_json::from_slice(bytes)
        .map_err(|error| StageError::new(format!("the scores of `{instance}` cannot be read: {error}")))?;
    Ok(scores
        .results
        .into_iter()
        .map(|mut result| {
            let written = OWN_AXES.map(|name| result.shift_remove(name).unwrap_or(Value::Null));
            let mut names = axes.clone();
            for (name, value) in OWN_AXES.iter().zip(&written) {
                names.insert((*name).to_owned(), plain(value));
            }
            let mut metrics = IndexMap::new();
            flatten(String::new(), Value::Object(result), &mut metrics);
            Row {
                instance: instance.to_owned(),
                names,
                written,
                metrics,
            }
        })
        .collect())
}

fn flatten(path: String, value: Value, metrics: &mut IndexMap<String, Value>) {
    match value {
        Value::Object(map) => {
            // An interval's ends stand beside their figure: `micro.f1.low`.
            let has_intervals = map.contains_key("micro");
            for (key, value) in map {
                let path = match (path.as_str(), key.as_str()) {
                    (path, "intervals") if has_intervals => path.to_owned(),
                    ("", _) => key,
                    (path, key) => format!("{path}.{key}"),
                };
                flatten(path, value, metrics);
            }
        }
        value => drop(metrics.insert(path, value)),
    }
}

/// A value without JSON's quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

impl Row {
    /// Every key with its value: axes, instance, split, threshold, metrics.
    fn flat(&self) -> Map<String, Value> {
        let mut flat = Map::new();
        for (axis, value) in self.names.iter().filter(|(axis, _)| !OWN_AXES.contains(&axis.as_str())) {
            flat.insert(axis.clone(), Value::from(value.as_str()));
        }
        flat.insert("instance".to_owned(), Value::from(self.instance.as_str()));
        for (name, value) in OWN_AXES.iter().zip(&self.written) {
            flat.insert((*name).to_owned(), value.clone());
        }
        flat.extend(self.metrics.iter().map(|(key, value)| (key.clone(), value.clone())));
        flat
    }
}

/// A JSON array with one object a line.
pub(super) fn json(rows: &[Row]) -> String {
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("  {}", Value::Object(row.flat())))
        .collect();
    if lines.is_empty() {
        "[]\n".to_owned()
    } else {
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}

/// Comma-separated values (RFC 4180, lines ending with LF) with a head; a row leaves a key that it lacks empty.
pub(super) fn csv(rows: &[Row]) -> String {
    let rows: Vec<Map<String, Value>> = rows.iter().map(Row::flat).collect();
    // Axes and names come before metrics, whatever the first row lacks.
    let (mut names, mut metrics) = (IndexSet::new(), IndexSet::new());
    for row in &rows {
        let own = row
            .keys()
            .position(|key| key == OWN_AXES[1])
            .map_or(0, |place| place + 1);
        for (place, key) in row.keys().enumerate() {
            if place < own {
                names.insert(key)
            } else {
                metrics.insert(key)
            };
        }
    }
    let fixed = ["instance", OWN_AXES[0], OWN_AXES[1]];
    let axes = names.iter().copied().filter(|name| !fixed.contains(&name.as_str()));
    let keys: Vec<&str> = axes
        .map(String::as_str)
        .chain(fixed)
        .chain(metrics.iter().map(|key| key.as_str()))
        .collect();

    let mut text = String::new();
    let mut line = |fields: Vec<String>| {
        text.push_str(&fields.join(","));
        text.push('\n');
    };
    line(keys.iter().map(|key| quoted(key)).collect());
    for row in &rows {
        line(
            keys.iter()
                .map(|key| row.get(*key).map_or(String::new(), |value| quoted(&plain(value))))
                .collect(),
        );
    }
    text
}

fn quoted(field: &str) -> String {
    if field.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
