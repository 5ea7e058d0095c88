//! Records by fingerprint, and the history that finds the last record of a stage.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Cache;
use super::gc::mark_used;
use crate::artifact::{Artifact, ArtifactFile};
use crate::digest::Digest;
use crate::files::{self, Durability, FileError};
use crate::fingerprint::{Document, Fingerprint, StepDocument};
use crate::resources::Resources;

/// What the cache knows of one finished instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record<D = Arc<Document>> {
    /// The hash of `document`.
    pub fingerprint: Fingerprint,
    /// What went in.
    pub document: D,
    /// The instance that ran, such as `model@loss=bce`.
    pub instance: String,
    /// The manifest it belonged to.
    pub manifest: String,
    /// The settings that are kept and do not count.
    pub recorded: Map<String, Value>,
    /// What came out.
    pub artifact: Artifact,
    /// Figures the stage noted, such as counts of what was cut or dropped.
    pub notes: BTreeMap<String, Value>,
    /// What the stage warned of.
    pub warnings: Vec<String>,
    /// Its cached steps.
    pub steps: StepCounts,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// When it ended, in seconds since 1970.
    pub finished_at: u64,
    /// The most memory it held, in bytes; known of instances that ran as a process of their own.
    pub peak_memory: Option<u64>,
    /// The device that was asked for.
    pub device: String,
    /// What was said of its needs; none of it counts.
    #[serde(default, skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
    /// The class of machine it ran on: across classes, floats may differ in their last bits.
    pub machine: String,
}

impl Record<IgnoredAny> {
    fn with(self, document: Arc<Document>) -> Record {
        Record {
            fingerprint: self.fingerprint,
            document,
            instance: self.instance,
            manifest: self.manifest,
            recorded: self.recorded,
            artifact: self.artifact,
            notes: self.notes,
            warnings: self.warnings,
            steps: self.steps,
            seconds: self.seconds,
            finished_at: self.finished_at,
            peak_memory: self.peak_memory,
            device: self.device,
            resources: self.resources,
            machine: self.machine,
        }
    }
}

/// How many cached steps were executed and how many restored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepCounts {
    /// Those that ran.
    pub executed: u64,
    /// Those that were found in the cache.
    pub restored: u64,
}

impl StepCounts {
    /// Adds other counts to these.
    pub fn add(&mut self, other: Self) {
        self.executed += other.executed;
        self.restored += other.restored;
    }
}

/// What the cache knows of one finished step inside a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// What went in.
    pub document: StepDocument,
    /// The files it made, sorted by name.
    pub files: Vec<ArtifactFile>,
    /// The value it returned.
    pub value: Value,
}

/// One line of a stage's history: these axis values had this fingerprint.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    axes: IndexMap<String, String>,
    fingerprint: Fingerprint,
}

/// The first line of a stage's history.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Head {
    manifest: String,
    stage: String,
}

/// How many of a stage's latest axis values are compared when none agree in full: enough for people, and a bound.
const COMPARED: usize = 256;

/// The fingerprints that the instances of one stage of one manifest had last.
#[derive(Debug, Default)]
pub struct Past {
    /// Axis values, sorted by axis → fingerprint, oldest first.
    last: IndexMap<Vec<(String, String)>, Fingerprint>,
}

impl Past {
    /// The fingerprint of the last record whose axis values agree most with `axes`; among equals the latest.
    pub fn closest(&self, axes: &IndexMap<String, String>) -> Option<Fingerprint> {
        let wanted = sorted(axes);
        if let Some(fingerprint) = self.last.get(&wanted) {
            return Some(*fingerprint);
        }
        let agreeing = |past: &Vec<(String, String)>| past.iter().filter(|pair| wanted.contains(pair)).count();
        let recent = self.last.iter().rev().take(COMPARED);
        // `max_by_key` keeps the last of equals; going from oldest to latest makes that the latest.
        let mut recent: Vec<_> = recent.collect();
        recent.reverse();
        recent
            .into_iter()
            .max_by_key(|(past, _)| agreeing(past))
            .map(|(_, fingerprint)| *fingerprint)
    }

    /// Whether the last record with exactly these axis values has this fingerprint.
    pub fn is_last(&self, axes: &IndexMap<String, String>, fingerprint: &Fingerprint) -> bool {
        self.last.get(&sorted(axes)) == Some(fingerprint)
    }

    /// All of them.
    pub(super) fn fingerprints(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.last.values().copied()
    }

    fn insert(&mut self, axes: &IndexMap<String, String>, fingerprint: Fingerprint) {
        let key = sorted(axes);
        self.last.shift_remove(&key);
        self.last.insert(key, fingerprint);
    }
}

fn sorted(axes: &IndexMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = axes.iter().map(|(axis, value)| (axis.clone(), value.clone())).collect();
    pairs.sort();
    pairs
}

impl Cache {
    /// The record with this fingerprint. One that cannot be understood counts as none: it can be made again.
    ///
    /// # Errors
    /// If the record is there and cannot be read.
    pub fn record(&self, fingerprint: &Fingerprint) -> Result<Option<Record>, FileError> {
        let record: Option<Record> = read(&self.place("records", fingerprint))?;
        Ok(record.filter(|record| record.fingerprint == *fingerprint))
    }

    /// As [`Cache::record`], for who has the document whose hash `fingerprint` is: half of a record is not read again.
    pub(crate) fn record_of(
        &self,
        fingerprint: &Fingerprint,
        document: &Arc<Document>,
    ) -> Result<Option<Record>, FileError> {
        let record: Option<Record<IgnoredAny>> = read(&self.place("records", fingerprint))?;
        let record = record.filter(|record| record.fingerprint == *fingerprint);
        Ok(record.map(|record| record.with(Arc::clone(document))))
    }

    /// Writes a record. Until then the instance has not happened.
    pub(crate) fn write_record(&self, record: &Record) -> Result<(), FileError> {
        let durability = Durability::after(Duration::from_secs_f64(record.seconds.max(0.0)));
        write(&self.place("records", &record.fingerprint), record, durability)
    }

    /// The record of a step; whoever looks is about to use it.
    pub(crate) fn step_record(&self, fingerprint: &Fingerprint) -> Result<Option<StepRecord>, FileError> {
        let path = self.place("steps", fingerprint);
        mark_used(&path);
        read(&path)
    }

    /// Writes the record of a step.
    pub(crate) fn write_step_record(
        &self,
        fingerprint: &Fingerprint,
        record: &StepRecord,
        durability: Durability,
    ) -> Result<(), FileError> {
        write(&self.place("steps", fingerprint), record, durability)
    }

    /// What the instances of `stage` of `manifest` were last.
    ///
    /// # Errors
    /// If the history is there and cannot be read.
    pub fn past(&self, manifest: &str, stage: &str) -> Result<Past, FileError> {
        read_history(&self.history(manifest, stage)).map(|(_, past)| past)
    }

    /// Enters the fingerprint that an instance has now.
    pub(crate) fn remember(
        &self,
        manifest: &str,
        stage: &str,
        axes: &IndexMap<String, String>,
        fingerprint: Fingerprint,
    ) -> Result<(), FileError> {
        let path = self.history(manifest, stage);
        // One write of one line to a file opened for appending: lines of several processes do not mix. The newline in
        // front ends a line that a dying process left torn.
        let mut file = files::open_for_append(&path)?;
        let mut line = Vec::new();
        if file.metadata().map_err(FileError::of("read", &path))?.len() == 0 {
            // Two processes may both begin the file; the name stands in it twice then.
            line.extend(to_json(&Head {
                manifest: manifest.to_owned(),
                stage: stage.to_owned(),
            }));
        }
        line.push(b'\n');
        line.extend(to_json(&Line {
            axes: axes.clone(),
            fingerprint,
        }));
        line.push(b'\n');
        file.write_all(&line).map_err(FileError::of("write", &path))
    }

    pub(super) fn place(&self, store: &str, fingerprint: &Fingerprint) -> PathBuf {
        let text = fingerprint.to_string();
        let mut place = self.folder(store);
        place.reserve(text.len() + "//.json".len());
        place.push(&text[..2]);
        place.push(&text[2..]);
        place.as_mut_os_string().push(".json");
        place
    }

    fn history(&self, manifest: &str, stage: &str) -> PathBuf {
        // Names may hold anything, so their digest makes the file's name.
        let name = Digest::of(format!("{}\n{manifest}\n{stage}", manifest.len()).as_bytes());
        self.folder("history").join(format!("{name}.jsonl"))
    }
}

/// The manifest that a history belongs to, and what it holds.
pub(super) fn read_history(path: &Path) -> Result<(Option<String>, Past), FileError> {
    let mut past = Past::default();
    let mut manifest = None;
    let bytes = files::read_if_exists(path)?.unwrap_or_default();
    for line in bytes.split(|byte| *byte == b'\n') {
        // A torn line is one reason less precisely told, nothing more.
        if let Ok(Line { axes, fingerprint }) = serde_json::from_slice(line) {
            past.insert(&axes, fingerprint);
        } else if let Ok(head) = serde_json::from_slice::<Head>(line) {
            manifest = Some(head.manifest);
        }
    }
    Ok((manifest, past))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, FileError> {
    let bytes = files::read_if_exists(path)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

fn write<T: Serialize>(path: &Path, value: &T, durability: Durability) -> Result<(), FileError> {
    let bytes = to_json(value);
    let folder = path.parent().unwrap_or(path);
    files::in_folder(folder, || files::write_atomically(path, &bytes, durability))
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Records hold texts, numbers and JSON values under text keys: nothing in them can fail to serialize.
    serde_json::to_vec(value).expect("a record is JSON")
}

/// The pasts of all stages of a graph, read once.
#[derive(Default)]
pub(crate) struct Pasts {
    stages: HashMap<String, Past>,
}

impl Pasts {
    pub(crate) fn of(&mut self, cache: &Cache, manifest: &str, stage: &str) -> Result<&Past, FileError> {
        if !self.stages.contains_key(stage) {
            let past = cache.past(manifest, stage)?;
            self.stages.insert(stage.to_owned(), past);
        }
        Ok(&self.stages[stage])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axes(pairs: &[(&str, &str)]) -> IndexMap<String, String> {
        pairs
            .iter()
            .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn fingerprint(digit: char) -> Fingerprint {
        digit.to_string().repeat(64).parse().unwrap()
    }

    #[test]
    fn the_closest_past_agrees_in_most_axes_and_is_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        for (values, digit) in [
            ([("loss", "bce"), ("seed", "1")], 'a'),
            ([("loss", "bce"), ("seed", "2")], 'b'),
            ([("loss", "focal"), ("seed", "1")], 'c'),
            ([("loss", "bce"), ("seed", "1")], 'd'),
        ] {
            cache
                .remember("m", "model", &axes(&values), fingerprint(digit))
                .unwrap();
        }
        let past = cache.past("m", "model").unwrap();
        assert_eq!(
            past.closest(&axes(&[("seed", "1"), ("loss", "bce")])),
            Some(fingerprint('d')),
            "order is nothing"
        );
        assert_eq!(
            past.closest(&axes(&[("loss", "focal"), ("seed", "9")])),
            Some(fingerprint('c'))
        );
        assert_eq!(
            past.closest(&axes(&[("loss", "bce"), ("seed", "9")])),
            Some(fingerprint('d')),
            "the latest"
        );
        assert_eq!(past.closest(&axes(&[])), Some(fingerprint('d')));
        assert_eq!(cache.past("m", "scores").unwrap().closest(&axes(&[])), None);
        assert_eq!(cache.past("other", "model").unwrap().closest(&axes(&[])), None);
    }

    #[test]
    fn a_torn_record_and_a_torn_history_line_count_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let path = cache.place("records", &fingerprint('a'));
        files::create_folder(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "{\"fingerprint\":").unwrap();
        assert_eq!(cache.record(&fingerprint('a')).unwrap(), None);

        cache.remember("m", "s", &axes(&[]), fingerprint('a')).unwrap();
        let mut file = files::open_for_append(&cache.history("m", "s")).unwrap();
        file.write_all(b"{\"axes\":{},\"finger").unwrap();
        assert_eq!(
            cache.past("m", "s").unwrap().closest(&axes(&[])),
            Some(fingerprint('a'))
        );
        cache.remember("m", "s", &axes(&[]), fingerprint('b')).unwrap();
        assert_eq!(
            cache.past("m", "s").unwrap().closest(&axes(&[])),
            Some(fingerprint('b'))
        );
    }
}
