//! Walks the graph: judge, restore or run, commit, publish, tell.
//!
//! [`run`] and what it is made of follow an instance's way: `schedule` decides what is next, and `pool` whether what it needs is
//! free; `work` executes one instance and writes its record; `ends` says what a result means for the others.

pub mod account;
mod ends;
mod pool;
mod schedule;
mod slot;
mod summary;
mod work;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

use crate::cache::{Cache, Record, StepCounts};
use crate::event::Event;
use crate::files::FileError;
use crate::fingerprint::Fingerprint;
use crate::graph::Graph;
use crate::kind::{Registry, StageError};
use account::Keeper;
use pool::Pool;

/// How to run. The defaults run everything, one instance at a time, in this process.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// How many instances run side by side.
    pub jobs: usize,
    /// How many threads there are for all of them together. Never changes a result.
    pub threads: usize,
    /// How much memory there is for all of them together, in bytes. Instances that are known to need more run one after the
    /// other.
    pub memory: Option<u64>,
    /// The numbers of the accelerators that are handed out, each to one instance at a time; one that is listed twice to two.
    /// Without any, all use `device`.
    pub devices: Vec<u32>,
    /// How often an instance whose process dies is tried again, where its stage does not say.
    pub retries: u32,
    /// How long an instance may run, where its stage does not say.
    pub timeout: Option<Duration>,
    /// The device that stages are asked to use: `auto`, `cpu`, `wgpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// The program that executes heavy instances when it is started as `PROGRAM exec FILE`; it must call
    /// [`crate::job::exec`] with the same kinds. Without one, heavy instances run on threads of this process.
    pub program: Option<PathBuf>,
    /// The instances asked for, by number; those they need run too. All if not given.
    pub selected: Option<Vec<usize>>,
    /// Execute what is asked for even if the cache has it: reads neither records nor cached steps, still writes them.
    pub force: bool,
    /// Replace publish targets that nerpipe did not put there.
    pub overwrite: bool,
    /// Start nothing new after the first failure.
    pub fail_fast: bool,
    /// Raise it to stop: nothing new is started, what runs is told to stop.
    pub cancel: Arc<AtomicBool>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            jobs: 1,
            threads: 1,
            memory: None,
            devices: Vec::new(),
            retries: 0,
            timeout: None,
            device: "auto".to_owned(),
            program: None,
            selected: None,
            force: false,
            overwrite: false,
            fail_fast: false,
            cancel: Arc::default(),
        }
    }
}

impl RunOptions {
    /// Whether every instance of `graph` can have as many devices as its stage asks for.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn check(&self, graph: &Graph) -> Result<(), StageError> {
        let needed = graph.needed(self.selected.as_deref());
        let Some(most) = Pool::new(self).devices() else {
            return Ok(());
        };
        for (instance, _) in graph.instances.iter().zip(needed).filter(|(_, needed)| *needed) {
            let asked = instance.resources.devices.unwrap_or(0);
            if asked > most {
                let message = format!("`{}` needs {asked} devices, and the run has {most}", instance.name());
                return Err(StageError::new(message)
                    .help("name more with `--devices`, or lower `devices` in the stage's `resources`"));
            }
        }
        Ok(())
    }
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The manifest's name.
    pub manifest: String,
    /// The instances that were asked for or needed, upstream first.
    pub instances: Vec<InstanceSummary>,
    /// How many executed.
    pub executed: usize,
    /// How many were found in the cache.
    pub restored: usize,
    /// How many have another instance that stands for them.
    pub shared: usize,
    /// How many failed, those whose artifact could not be published among them.
    pub failed: usize,
    /// How many could not run because one that they need failed.
    pub blocked: usize,
    /// How many were not run, or not to their end, because the run was stopped.
    pub stopped: usize,
    /// Kind → its cached steps.
    pub steps: BTreeMap<String, StepCounts>,
    /// Warnings about the run as a whole.
    pub warnings: Vec<String>,
    /// How long the run took.
    pub seconds: f64,
}

impl Summary {
    /// Whether every instance is done and published.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.blocked == 0 && self.stopped == 0
    }
}

/// What a run did with one instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceSummary {
    /// Its number in the graph.
    pub number: usize,
    /// Its name.
    pub instance: String,
    /// Its stage's kind.
    pub kind: String,
    /// How it ended.
    pub outcome: Outcome,
    /// What went wrong.
    pub error: Option<StageError>,
    /// The one that failed, if this one is blocked; the one that stands for it, if it is shared.
    pub because_of: Option<String>,
    /// The fingerprint of its record, if it has one of its own.
    pub fingerprint: Option<Fingerprint>,
    /// That record.
    #[serde(skip)]
    pub record: Option<Arc<Record>>,
    /// How long it took when it executed, in seconds; of a restored one, the earlier execution.
    pub seconds: Option<f64>,
    /// The most memory it held, in bytes, if it ran as a process of its own.
    pub peak_memory: Option<u64>,
    /// Figures the stage noted: what was cut or dropped and why. Those of a restored one come from its record.
    pub notes: BTreeMap<String, Value>,
    /// What it, or the engine about it, warned of.
    pub warnings: Vec<String>,
    /// Where it was copied to in this run, relative to the project.
    pub published: Vec<PathBuf>,
    /// Its log, if it wrote one.
    pub log: Option<PathBuf>,
}

/// How an instance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It executed.
    Executed,
    /// It was in the cache.
    Restored,
    /// Another instance with the same fingerprint stands for it.
    Shared,
    /// It failed, or its artifact could not be published.
    Failed,
    /// One that it needs failed.
    Blocked,
    /// The run was stopped before it was done.
    Stopped,
}

/// Brings every instance of `graph` (or those selected, and what they need) up to date and publishes what is to be
/// published. `project` is the folder that paths in the manifest are relative to. `observer` is told what happens, on the
/// calling thread; the last event is [`Event::Finished`].
///
/// # Errors
/// If the engine itself cannot go on, such as when the cache is not writable. A failing instance is no error of the run: see
/// [`Summary::is_success`].
pub fn run(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    options: &RunOptions,
    observer: &mut dyn FnMut(Event),
) -> Result<Summary, StageError> {
    let started = Instant::now();
    options.check(graph)?;
    let account = RefCell::new(Keeper::begin(cache, &graph.name)?);
    // An account that cannot be written must not end what it tells of; it is warned of at the end.
    let untold = RefCell::new(None);
    let note = |written: Result<(), FileError>| drop(written.map_err(|error| untold.replace(Some(error))));
    let mut see = |event: Event| {
        note(account.borrow_mut().see(&event));
        observer(event);
    };
    let mut tick = || note(account.borrow_mut().tick());
    let ended = schedule::walk(graph, registry, cache, project, options, &mut see, &mut tick);
    note(account.borrow_mut().end(&ended));
    let mut summary = ended?;
    if let Some(error) = untold.take() {
        let message = error.to_string();
        observer(Event::Warning {
            instance: None,
            message: message.clone(),
        });
        summary.warnings.push(message);
    }
    summary.seconds = started.elapsed().as_secs_f64();
    observer(Event::Finished {
        executed: summary.executed,
        restored: summary.restored,
        shared: summary.shared,
        failed: summary.failed,
        steps: summary.steps.clone(),
        seconds: summary.seconds,
    });
    Ok(summary)
}
