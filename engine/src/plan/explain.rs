//! Why an instance would run: the fields in which what goes into it differs from an earlier record.
//!
//! The comparison is the judge's own: both documents are lists of what is hashed, so an explanation cannot name a field
//! that does not count, or miss one that does. An instance that waits is compared as far as it is known.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::survey::Survey;
use super::{Planned, Status};
use crate::cache::{Cache, Record};
use crate::fingerprint::{Difference, Fingerprint};
use crate::graph::Graph;
use crate::kind::{Registry, StageError};
use crate::publish::Publisher;

/// Why an instance is fresh, or why it would run.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// What a run would do with it, and why.
    pub planned: Planned,
    /// What it is compared with: its own record if it is fresh, else the last record of the same manifest and stage whose axis
    /// values agree most. None if no instance of the stage has a record.
    pub against: Option<Past>,
    /// Every field that differs from that record, sorted by path.
    pub differences: Vec<Difference>,
    /// The inputs of which nothing can be said before others have run.
    pub unknown: Vec<Unknown>,
}

/// An earlier record, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Past {
    /// The instance that ran.
    pub instance: String,
    /// The manifest it belonged to.
    pub manifest: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// When it ended, in seconds since 1970.
    pub finished_at: u64,
    /// How long it ran, in seconds.
    pub seconds: f64,
}

impl From<&Record> for Past {
    fn from(record: &Record) -> Self {
        Self {
            instance: record.instance.clone(),
            manifest: record.manifest.clone(),
            fingerprint: record.fingerprint,
            finished_at: record.finished_at,
            seconds: record.seconds,
        }
    }
}

/// An input whose digests are not known yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unknown {
    /// The port.
    pub port: String,
    /// The instances at it that must run first.
    pub on: Vec<String>,
}

/// Explains the instances `numbers`.
///
/// ```
/// use nerpipe_engine::{Cache, Graph, Manifest, Registry, RunOptions, command::Command, explain, run};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let project = folder.path();
/// let registry = Registry::default().with(Command);
/// let graph = |size: u32| {
///     let text = format!("name: m\nstages: {{s: {{kind: command, with: {{run: 'seq {size} > \"$OUT/n\"'}}}}}}");
///     let manifest = Manifest::parse("m.yaml", &text, project, &[], &registry)?;
///     Graph::build(&manifest, &registry)
/// };
/// let cache = Cache::open(&project.join("cache"))?;
/// run(&graph(3)?, &registry, &cache, project, &RunOptions::default(), &mut |_| {})?;
/// let explained = explain(&graph(4)?, &registry, &cache, project, &[0])?;
/// let lines: Vec<String> = explained[0].differences.iter().map(ToString::to_string).collect();
/// assert_eq!(lines, [r#"settings.run: "seq 3 > \"$OUT/n\"" → "seq 4 > \"$OUT/n\"""#]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// If a file of the cache cannot be read.
pub fn explain(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    numbers: &[usize],
) -> Result<Vec<Explained>, StageError> {
    let mut survey = Survey::new(graph, registry, cache, project, Some(numbers), numbers);
    let publisher = Publisher::open(cache, project, false)?;
    survey.remake_missing_bytes(&publisher)?;
    let causes = survey.causes();
    let explained = numbers.iter().map(|&number| {
        let planned = survey.planned(number, causes[number].clone(), &publisher)?;
        survey.explain(graph, number, planned)
    });
    let explained = explained.collect::<Result<Vec<_>, _>>()?;
    cache.save_stat()?;
    Ok(explained)
}

impl Survey<'_> {
    fn explain(&mut self, graph: &Graph, number: usize, planned: Planned) -> Result<Explained, StageError> {
        let mut explained = Explained {
            planned,
            against: None,
            differences: Vec::new(),
            unknown: Vec::new(),
        };
        if let Some(record) = self.record(number) {
            explained.against = Some(Past::from(record.as_ref()));
            return Ok(explained);
        }
        let instance = &graph.instances[number];
        let last = self.judge.last_record(instance)?;
        explained.against = last.as_ref().map(Past::from);
        if matches!(explained.planned.status, Status::Impossible { .. }) {
            return Ok(explained);
        }
        let key = self.judged[number].as_ref().and_then(|judged| judged.key.clone());
        let key = match key {
            Some(key) => key,
            None => {
                // Everything but the inputs that are still to be made.
                let mut known = instance.clone();
                for (port, wire) in &instance.wires {
                    let unknown = wire.sources().iter().filter(|from| self.made[**from].is_none());
                    let on: Vec<String> = unknown.map(|from| self.names[*from].clone()).collect();
                    if !on.is_empty() {
                        known.wires.remove(port);
                        explained.unknown.push(Unknown { port: port.clone(), on });
                    }
                }
                let made = &self.made;
                match self.judge.key(&known, |from| made[from].clone()) {
                    Ok(key) => Arc::new(key),
                    Err(StageError { message, help, .. }) => {
                        explained.planned.status = Status::Impossible { message, help };
                        return Ok(explained);
                    }
                }
            }
        };
        if let Some(last) = last {
            let is_unknown = |difference: &Difference| match difference.path.as_slice() {
                [inputs, port, ..] if inputs == "inputs" => {
                    explained.unknown.iter().any(|unknown| unknown.port == *port)
                }
                _ => false,
            };
            let mut differences = last.document.difference(&key.document);
            differences.retain(|difference| !is_unknown(difference));
            explained.differences = differences;
        }
        Ok(explained)
    }
}
