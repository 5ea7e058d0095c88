//! One flat row for every instance, split and threshold, and the two formats for programs.

use indexmap::{IndexMap, IndexSet};
use nerpipe_engine::StageError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// One result of one instance, or of one group of its sentences.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// The instance's name.
    pub(super) instance: String,
    /// The instance's axes, the groups that were asked for, then `split` and `threshold`.
    pub(super) names: IndexMap<String, String>,
    /// `split` and `threshold` as they were written.
    written: [Value; 2],
    /// Every number of the result by its path.
    pub(super) metrics: IndexMap<String, Value>,
}

/// The split that a result is of, as an axis.
pub(super) const SPLIT: &str = "split";

/// The pseudo-axes that every row has besides those of the sweep.
pub(super) const OWN_AXES: [&str; 2] = [SPLIT, "threshold"];

/// Groups of sentences that can be asked for as axes, and where a result has their figures.
const GROUPS: [(&str, &str); 3] = [("file", "files"), ("dataset", "datasets"), ("language", "languages")];

/// A `metrics.json`.
#[derive(Deserialize)]
struct Scores {
    results: Vec<Map<String, Value>>,
}

/// The results of one instance's `metrics.json`, each for the whole split.
pub(super) fn read(instance: &str, axes: &IndexMap<String, String>, bytes: &[u8]) -> Result<Vec<Found>, StageError> {
    let scores: Scores = serde_json::from_slice(bytes)
        .map_err(|error| StageError::new(format!("the scores of `{instance}` cannot be read: {error}")))?;
    let found = scores.results.into_iter().map(|mut result| {
        let written = OWN_AXES.map(|name| result.shift_remove(name).unwrap_or(Value::Null));
        Found {
            instance: instance.to_owned(),
            axes: axes.clone(),
            written,
            result,
        }
    });
    Ok(found.collect())
}

/// A result as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    instance: String,
    axes: IndexMap<String, String>,
    written: [Value; 2],
    result: Map<String, Value>,
}

/// The groups that a part of a result is of, each with its member, and its figures.
type Part<'a> = (Vec<(&'a str, &'a str)>, &'a Map<String, Value>);

/// A row for each result, or for each group of its sentences where `wanted` names groups that are no axes of the sweep.
pub(super) fn rows(found: &[Found], wanted: &[&str]) -> Result<Vec<Row>, StageError> {
    let is_axis = |name: &str| found.iter().any(|found| found.axes.contains_key(name));
    let groups: Vec<(&str, &str)> = GROUPS
        .into_iter()
        .filter(|(name, _)| wanted.contains(name) && !is_axis(name))
        .collect();
    if let [("file", _), (other, _), ..] = groups[..] {
        return Err(StageError::new(format!("a table cannot be by `file` and by `{other}`"))
            .help("the figures are by file, or by dataset and language"));
    }
    let mut rows = Vec::new();
    for found in found {
        let mut parts: Vec<Part<'_>> = vec![(Vec::new(), &found.result)];
        for (name, key) in &groups {
            parts = parts
                .into_iter()
                .flat_map(|(names, result)| {
                    let members = result.get(*key).and_then(Value::as_object).into_iter().flatten();
                    members.filter_map(move |(member, figures)| {
                        let mut names = names.clone();
                        names.push((*name, member.as_str()));
                        Some((names, figures.as_object()?))
                    })
                })
                .collect();
            if parts.is_empty() {
                return Err(
                    StageError::new(format!("`{}` has no figures by {name}", found.instance)).help(match *name {
                        "file" => "its split has one file only".to_owned(),
                        name => format!("its records do not say their `{name}`, and no axis is called so"),
                    }),
                );
            }
        }
        for (members, result) in parts {
            let mut names = found.axes.clone();
            names.extend(
                members
                    .into_iter()
                    .map(|(group, member)| (group.to_owned(), member.to_owned())),
            );
            for (name, value) in OWN_AXES.iter().zip(&found.written) {
                names.insert((*name).to_owned(), plain(value));
            }
            let mut metrics = IndexMap::new();
            flatten(String::new(), Value::Object(result.clone()), &mut metrics);
            rows.push(Row {
                instance: found.instance.clone(),
                names,
                written: found.written.clone(),
                metrics,
            });
        }
    }
    Ok(rows)
}

/// Figures by type under every scheme are four times as many as all others: programs find them in `metrics.json`.
fn is_detail(key: &str) -> bool {
    let key = key.strip_prefix("full_gold.").unwrap_or(key);
    key.strip_prefix("schemes.")
        .is_some_and(|rest| rest.contains(".per_class."))
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
pub(crate) fn plain(value: &Value) -> String {
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
        let metrics = self.metrics.iter().filter(|(key, _)| !is_detail(key));
        flat.extend(metrics.map(|(key, value)| (key.clone(), value.clone())));
        flat
    }
}

/// A JSON array with one object a line.
pub(super) fn json(rows: &[Row]) -> String {
    json_lines(&rows.iter().map(Row::flat).collect::<Vec<_>>())
}

/// Comma-separated values; a row leaves a key that it lacks empty.
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
    csv_lines(&keys, &rows)
}

/// A JSON array with one object a line.
pub(crate) fn json_lines(rows: &[Map<String, Value>]) -> String {
    let lines: Vec<String> = rows
        .iter()
        .map(|row| format!("  {}", Value::Object(row.clone())))
        .collect();
    if lines.is_empty() {
        "[]\n".to_owned()
    } else {
        format!("[\n{}\n]\n", lines.join(",\n"))
    }
}

/// Comma-separated values (RFC 4180, lines ending with LF) with a head.
pub(crate) fn csv_lines(keys: &[&str], rows: &[Map<String, Value>]) -> String {
    let mut text = String::new();
    let mut line = |fields: Vec<String>| {
        text.push_str(&fields.join(","));
        text.push('\n');
    };
    line(keys.iter().map(|key| quoted(key)).collect());
    for row in rows {
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
