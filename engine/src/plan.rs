//! What a run would do and why; nothing is run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Serialize;

use crate::artifact::{ArtifactFile, is_among};
use crate::cache::{Cache, Record};
use crate::fingerprint::{Document, Fingerprint};
use crate::graph::{Graph, Wire};
use crate::judge::{Judge, Judged, Made, Reason, Verdict, needed};
use crate::kind::{Registry, StageError};
use crate::publish::{Publisher, TargetState};

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The manifest's name.
    pub manifest: String,
    /// The instances, upstream first, in the graph's order.
    pub instances: Vec<Planned>,
    /// How many there are of each status.
    pub counts: Counts,
}

/// How many instances of a plan have which status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Found in the cache.
    pub fresh: usize,
    /// Must run.
    pub stale: usize,
    /// May have to run, depending on what those upstream make.
    pub waits: usize,
    /// Another instance stands for them.
    pub shared: usize,
    /// Cannot run.
    pub impossible: usize,
}

/// What would happen to one instance.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Its number in the graph.
    pub number: usize,
    /// Its name, such as `model@loss=bce`.
    pub instance: String,
    /// Its stage.
    pub stage: String,
    /// The stage's kind.
    pub kind: String,
    /// Axis → value.
    pub axes: IndexMap<String, String>,
    /// What would happen.
    pub status: Status,
    /// The fingerprint, as soon as it is known.
    pub fingerprint: Option<Fingerprint>,
    /// The first cause of a run: the stale instance at the root, which may be this one, and its first reason.
    pub cause: Option<Cause>,
    /// How long it took the last time, in seconds.
    pub seconds: Option<f64>,
    /// Targets that would be published to without running anything.
    pub repairs: Vec<PathBuf>,
}

/// What would happen to an instance.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Status {
    /// Nothing: it is in the cache.
    Fresh,
    /// It runs.
    Stale {
        /// Every difference that makes it run.
        reasons: Vec<Reason>,
    },
    /// It runs if one of these makes something new.
    Waits {
        /// Their names.
        on: Vec<String>,
    },
    /// Another instance with the same fingerprint stands for it.
    Shared {
        /// Its name.
        with: String,
    },
    /// It cannot run.
    Impossible {
        /// What is wrong.
        message: String,
        /// What the user can do.
        help: Option<String>,
    },
}

/// Where a change begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cause {
    /// The instance.
    pub instance: String,
    /// Its first reason.
    pub reason: Reason,
}

/// What a run of `graph` would do. `project` is the folder that paths in the manifest are relative to; `selected`
/// restricts the plan to these instances and what they need.
///
/// # Errors
/// If a file of the cache cannot be read. What is wrong with one instance is its status, not an error.
pub fn plan(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    selected: Option<&[usize]>,
) -> Result<Plan, StageError> {
    let mut survey = Survey::new(graph, registry, cache, project, selected);
    let publisher = Publisher::open(cache, project, false)?;
    publisher.check(graph)?;
    survey.remake_missing_bytes(&publisher)?;
    let mut plan = Plan {
        manifest: graph.name.clone(),
        instances: Vec::new(),
        counts: Counts::default(),
    };
    let mut causes: Vec<Option<Cause>> = vec![None; graph.instances.len()];
    for number in 0..graph.instances.len() {
        let Some(judged) = &survey.judged[number] else { continue };
        causes[number] = match &judged.verdict {
            Verdict::Stale(reasons) => {
                let instance = survey.names[number].clone();
                reasons.first().map(|reason| Cause {
                    instance,
                    reason: reason.clone(),
                })
            }
            Verdict::Waits(on) => on.iter().find_map(|from| causes[*from].clone()),
            Verdict::SharedWith(first) => causes[*first].clone(),
            Verdict::Fresh(_) | Verdict::Impossible(_) => None,
        };
        let planned = survey.planned(number, causes[number].clone(), &publisher)?;
        match planned.status {
            Status::Fresh => plan.counts.fresh += 1,
            Status::Stale { .. } => plan.counts.stale += 1,
            Status::Waits { .. } => plan.counts.waits += 1,
            Status::Shared { .. } => plan.counts.shared += 1,
            Status::Impossible { .. } => plan.counts.impossible += 1,
        }
        plan.instances.push(planned);
    }
    cache.save_stat()?;
    Ok(plan)
}

/// What is known of one instance, for `show`.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What a run would do with it.
    pub planned: Planned,
    /// What its fingerprint is made of, as soon as that is known.
    pub document: Option<Document>,
    /// Its record; of a stale instance, the last record it is compared with.
    pub record: Option<Record>,
    /// The record's files and where their bytes are.
    pub files: Vec<ShownFile>,
    /// Its log, if there is one.
    pub log: Option<PathBuf>,
}

/// One file of an artifact, for `show`.
#[derive(Clone, Debug, Serialize)]
pub struct ShownFile {
    /// Name, digest and size.
    #[serde(flatten)]
    pub file: ArtifactFile,
    /// Where the bytes are.
    pub path: PathBuf,
    /// Whether they are there.
    pub present: bool,
}

/// What is known of instance `number`.
///
/// # Errors
/// If a file of the cache cannot be read.
pub fn show(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    number: usize,
) -> Result<Shown, StageError> {
    let mut survey = Survey::new(graph, registry, cache, project, Some(&[number]));
    let publisher = Publisher::open(cache, project, false)?;
    let judged = survey.judged[number].clone();
    let record = match judged.as_ref().map(|judged| &judged.verdict) {
        Some(Verdict::Fresh(record)) => Some(record.as_ref().clone()),
        Some(Verdict::SharedWith(first)) => survey.record(*first).map(|record| record.as_ref().clone()),
        _ => survey.judge.last_record(&graph.instances[number])?,
    };
    let files = record
        .iter()
        .flat_map(|record| &record.artifact.files)
        .map(|file| ShownFile {
            file: file.clone(),
            path: cache.objects().path(&file.digest),
            present: cache.objects().exists(&file.digest, file.size),
        });
    let files = files.collect();
    let key = judged.and_then(|judged| judged.key);
    let fingerprint = key
        .as_ref()
        .map(|key| key.fingerprint)
        .or(record.as_ref().map(|record| record.fingerprint));
    let log = fingerprint
        .map(|fingerprint| cache.log_path(&fingerprint))
        .filter(|path| path.exists());
    let planned = survey.planned(number, None, &publisher)?;
    Ok(Shown {
        planned,
        document: key.map(|key| key.document.clone()),
        record,
        files,
        log,
    })
}

/// All instances judged with what the cache knows now.
struct Survey<'a> {
    graph: &'a Graph,
    cache: &'a Cache,
    judge: Judge<'a>,
    names: Vec<String>,
    judged: Vec<Option<Judged>>,
}

impl<'a> Survey<'a> {
    fn new(
        graph: &'a Graph,
        registry: &'a Registry,
        cache: &'a Cache,
        project: &'a Path,
        selected: Option<&[usize]>,
    ) -> Self {
        let mut judge = Judge::new(graph, registry, cache, project);
        let mut made: Vec<Option<Arc<Made>>> = vec![None; graph.instances.len()];
        let mut all = Vec::with_capacity(graph.instances.len());
        for (number, needed) in needed(graph, selected).into_iter().enumerate() {
            if !needed {
                all.push(None);
                continue;
            }
            let judged = judge.judge(number, |from| made[from].clone());
            made[number] = match &judged.verdict {
                Verdict::Fresh(record) => Some(Arc::new(Made::new(record.artifact.clone()))),
                Verdict::SharedWith(first) => made[*first].clone(),
                _ => None,
            };
            all.push(Some(judged));
        }
        let names = graph.instances.iter().map(|instance| instance.name()).collect();
        Self {
            graph,
            cache,
            judge,
            names,
            judged: all,
        }
    }

    /// The record of a fresh instance, or of the one that stands for it.
    fn record(&self, number: usize) -> Option<&Arc<Record>> {
        match &self.judged[number].as_ref()?.verdict {
            Verdict::Fresh(record) => Some(record),
            Verdict::SharedWith(first) => self.record(*first),
            _ => None,
        }
    }

    /// Finds fresh instances whose bytes are gone and needed: by one that must run, or by a target to be repaired.
    /// Readers come after what they read, so one pass from the end reaches every producer.
    fn remake_missing_bytes(&mut self, publisher: &Publisher<'_>) -> Result<(), StageError> {
        for number in (0..self.graph.instances.len()).rev() {
            let instance = &self.graph.instances[number];
            if let Some(record) = self.record(number).cloned() {
                for publish in &instance.publish {
                    let state = publisher.state(publish, Some(&record.artifact))?;
                    if matches!(state, TargetState::Missing | TargetState::Outdated)
                        && !self.cache.is_complete(&record.artifact)
                    {
                        self.remake(number, &format!("`{}`", publish.target.display()));
                    }
                }
            }
            let runs = |judged: &Judged| matches!(judged.verdict, Verdict::Stale(_));
            if !self.judged[number].as_ref().is_some_and(runs) {
                continue;
            }
            for wire in instance.wires.values() {
                let (from, parts) = match wire {
                    Wire::One { from, parts } => (std::slice::from_ref(from), parts),
                    Wire::Collect { from, parts } => (from.as_slice(), parts),
                };
                for &from in from {
                    let Some(record) = self.record(from) else { continue };
                    let is_read = |file: &&ArtifactFile| is_among(file.part(), parts);
                    let mut read = record.artifact.files.iter().filter(is_read);
                    if !read.all(|file| self.cache.objects().exists(&file.digest, file.size)) {
                        self.remake(from, &format!("`{}`", self.names[number]));
                    }
                }
            }
        }
        Ok(())
    }

    fn remake(&mut self, number: usize, needed_by: &str) {
        if let Some(judged) = &mut self.judged[number] {
            match judged.verdict {
                Verdict::SharedWith(first) => self.remake(first, needed_by),
                Verdict::Fresh(_) => {
                    judged.verdict = Verdict::Stale(vec![Reason::BytesGone {
                        needed_by: needed_by.to_owned(),
                    }]);
                }
                _ => {}
            }
        }
    }

    fn planned(
        &mut self,
        number: usize,
        cause: Option<Cause>,
        publisher: &Publisher<'_>,
    ) -> Result<Planned, StageError> {
        let instance = &self.graph.instances[number];
        let name = |number: &usize| self.names[*number].clone();
        let verdict = self.judged[number].as_ref().map(|judged| judged.verdict.clone());
        let status = match &verdict {
            Some(Verdict::Fresh(_)) => Status::Fresh,
            Some(Verdict::Stale(reasons)) => Status::Stale {
                reasons: reasons.clone(),
            },
            Some(Verdict::Waits(on)) => Status::Waits {
                on: on.iter().map(name).collect(),
            },
            Some(Verdict::SharedWith(first)) => Status::Shared { with: name(first) },
            Some(Verdict::Impossible(error)) => Status::Impossible {
                message: error.message.clone(),
                help: error.help.clone(),
            },
            None => Status::Waits { on: Vec::new() },
        };
        let mut repairs = Vec::new();
        let seconds = if let Some(record) = self.record(number).cloned() {
            for publish in &instance.publish {
                let state = publisher.state(publish, Some(&record.artifact))?;
                if matches!(state, TargetState::Missing | TargetState::Outdated) {
                    repairs.push(publish.target.clone());
                }
            }
            Some(record.seconds)
        } else {
            self.judge.last_record(instance)?.map(|record| record.seconds)
        };
        Ok(Planned {
            number,
            instance: self.names[number].clone(),
            stage: instance.stage.clone(),
            kind: instance.kind.clone(),
            axes: instance.axes.clone(),
            status,
            fingerprint: self.judged[number]
                .as_ref()
                .and_then(|judged| judged.key.as_ref())
                .map(|key| key.fingerprint),
            cause,
            seconds,
            repairs,
        })
    }
}
