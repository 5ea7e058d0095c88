//! Executes one instance: inputs verified, lock held, job executed, record written last.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::RunOptions;
use crate::cache::{BytesGone, Cache, Record, Staging};
use crate::context::Sink;
use crate::event::Message;
use crate::files;
use crate::graph::{Graph, Instance, Wire};
use crate::job::{Children, Finished, Job, JobInput, execute, execute_in_child};
use crate::judge::{Key, Made};
use crate::kind::{Collected, ErrorClass, FieldClass, Registry, StageError, Weight};

/// The pause before a second attempt; before later ones it is longer.
const BEFORE_AGAIN: Duration = Duration::from_millis(100);

/// What every worker of a run needs.
pub(super) struct Workshop<'a> {
    pub(super) graph: &'a Graph,
    pub(super) registry: &'a Registry,
    pub(super) cache: &'a Cache,
    pub(super) options: &'a RunOptions,
    pub(super) staging: &'a Staging,
    pub(super) children: Children,
}

/// One instance to execute.
pub(super) struct Task {
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) key: Arc<Key>,
    /// What the instances upstream made, by number.
    pub(super) upstream: BTreeMap<usize, Arc<Made>>,
    /// Neither its record nor its cached steps are read.
    pub(super) force: bool,
    /// How many threads it has.
    pub(super) threads: usize,
    /// The devices it has, if this run hands them out.
    pub(super) devices: Option<Vec<u32>>,
}

/// Where a worker tells what happens on the way.
pub(super) trait Tell: Fn(Told) + Send + Sync + 'static {}

impl<F: Fn(Told) + Send + Sync + 'static> Tell for F {}

/// What a worker tells before the end.
pub(super) enum Told {
    /// Inputs are there and nobody else makes the same: the stage itself begins.
    Begun,
    /// Its process died, and it is tried again.
    Again {
        /// Which attempt begins, counted from 1.
        attempt: u32,
        /// How many there may be.
        attempts: u32,
        /// Why the one before failed.
        error: StageError,
    },
    /// Something the stage says.
    Message(Message),
}

/// How a task ended.
pub(super) enum Ended {
    /// It executed; its record is written.
    Finished(Box<Record>),
    /// Another process made it meanwhile.
    Restored(Box<Record>),
    /// Bytes that it reads must be made again first: who makes them, and which.
    NeedsBytes(Vec<(usize, BytesGone)>),
    /// It failed.
    Failed(StageError),
}

impl Workshop<'_> {
    /// Executes a task. Whatever happens, there is an end to report: a panic of the engine itself fails the instance.
    pub(super) fn work(&self, task: &Task, tell: impl Tell) -> Ended {
        let worked = catch_unwind(AssertUnwindSafe(|| self.try_work(task, tell)));
        match worked {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Ended::Failed(error),
            Err(_) => Ended::Failed(StageError::new("the engine panicked while executing the stage")),
        }
    }

    fn try_work(&self, task: &Task, tell: impl Tell) -> Result<Ended, StageError> {
        let instance = &self.graph.instances[task.number];
        let inputs = match self.open_inputs(instance, &task.upstream) {
            Ok(inputs) => inputs,
            Err(gone) => return Ok(Ended::NeedsBytes(gone)),
        };
        let fingerprint = &task.key.fingerprint;
        let tell = Arc::new(tell);
        let sink = sink(self.cache.log_path(fingerprint), Arc::clone(&tell));
        let waiting = || {
            sink(Message::Log {
                line: "waiting for another process that makes the same".to_owned(),
            })
        };
        let _lock = self
            .cache
            .lock(&fingerprint.to_string(), &self.options.cancel, waiting)?;
        let before = self.cache.record_of(fingerprint, &task.key.document)?;
        if !task.force
            && let Some(record) = &before
            && self.cache.is_complete(&record.artifact)
        {
            return Ok(Ended::Restored(Box::new(record.clone())));
        }

        tell(Told::Begun);
        // The lock is held, so nobody else writes this log.
        files::remove_file(&self.cache.log_path(fingerprint))?;
        if task.force {
            files::remove_folder(&self.cache.unfinished(fingerprint))?;
        }
        let started = Instant::now();
        let finished = self.attempt(task, instance, &inputs, &sink, |again| tell(again))?;
        let seconds = started.elapsed().as_secs_f64();
        self.check_input_files(&task.key)?;

        let kind_recorded = |name: &str| self.is_recorded(instance, name);
        let settings = instance
            .resolved
            .settings
            .iter()
            .filter(|(name, _)| kind_recorded(name));
        let record = Record {
            fingerprint: *fingerprint,
            document: Arc::clone(&task.key.document),
            instance: task.name.clone(),
            manifest: self.graph.name.clone(),
            recorded: settings.map(|(name, value)| (name.clone(), value.clone())).collect(),
            artifact: finished.artifact,
            notes: finished.notes,
            warnings: finished.warnings,
            steps: finished.steps,
            seconds,
            finished_at: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            peak_memory: finished.peak_memory,
            device: self.device(task),
            resources: instance.resources.clone(),
            machine: machine(),
        };
        if before.is_some_and(|before| before.artifact != record.artifact) {
            let line = "made other bytes than the last time from the same inputs; what reads them is looked at again";
            sink(Message::Warning { line: line.to_owned() });
        }
        self.cache.write_record(&record)?;
        files::remove_folder(&self.cache.unfinished(fingerprint))?;
        Ok(Ended::Finished(Box::new(record)))
    }

    /// Executes the instance, again and again while its process dies and it may be tried again.
    fn attempt(
        &self,
        task: &Task,
        instance: &Instance,
        inputs: &BTreeMap<String, JobInput>,
        sink: &Sink,
        tell: impl Fn(Told),
    ) -> Result<Finished, StageError> {
        let attempts = 1 + instance.resources.retries.unwrap_or(self.options.retries);
        let mut attempt = 1;
        loop {
            let staging = self.staging.take()?;
            let job = self.job(task, instance, inputs.clone(), staging.path());
            let outcome = self.execute(job, task, sink);
            drop(staging);
            let error = match outcome {
                Ok(finished) => return Ok(finished),
                Err(error) => error,
            };
            let stopped = self.options.cancel.load(Ordering::Relaxed);
            if error.class != ErrorClass::Died || attempt >= attempts || stopped {
                return Err(error);
            }
            attempt += 1;
            sink(Message::Log {
                line: format!("{}; attempt {attempt} of {attempts} begins", error.message),
            });
            tell(Told::Again {
                attempt,
                attempts,
                error,
            });
            thread::sleep(BEFORE_AGAIN * attempt);
        }
    }

    /// The device that an instance is asked to use: with devices of its own, the first of them.
    fn device(&self, task: &Task) -> String {
        let is_process = match self.weight(&self.graph.instances[task.number].kind) {
            Some(Weight::Heavy) => self.options.program.is_some(),
            Some(Weight::Foreign) => true,
            Some(Weight::Light) | None => false,
        };
        match task.devices.as_deref() {
            None => self.options.device.clone(),
            Some([]) => "cpu".to_owned(),
            // A process of its own sees no others, and counts them from 0.
            Some(_) if is_process => "cuda:0".to_owned(),
            Some([first, ..]) => format!("cuda:{first}"),
        }
    }

    fn job(&self, task: &Task, instance: &Instance, inputs: BTreeMap<String, JobInput>, staging: &Path) -> Job {
        Job {
            instance: task.name.clone(),
            kind: instance.kind.clone(),
            settings: instance.resolved.settings.clone(),
            inputs,
            files: task
                .key
                .files
                .iter()
                .map(|(field, files)| (field.clone(), files.to_vec()))
                .collect(),
            parts: instance.resolved.parts.clone(),
            staging: staging.to_owned(),
            unfinished: self.cache.unfinished(&task.key.fingerprint),
            log: self.cache.log_path(&task.key.fingerprint),
            cache: self.cache.root().to_owned(),
            threads: task.threads,
            device: self.device(task),
            devices: task.devices.clone(),
            timeout: instance.resources.timeout.or(self.options.timeout),
            force: task.force,
        }
    }

    fn execute(&self, job: Job, task: &Task, sink: &Sink) -> Result<Finished, StageError> {
        match (&self.options.program, self.weight(&job.kind)) {
            (Some(program), Some(Weight::Heavy)) => {
                let log = self.cache.log_path(&task.key.fingerprint);
                execute_in_child(&job, program, &log, &self.children, sink, &self.options.cancel)
            }
            _ => {
                let cancel = Arc::clone(&self.options.cancel);
                execute(job, self.registry, self.cache, Arc::clone(sink), cancel, false)
            }
        }
    }

    fn weight(&self, kind: &str) -> Option<Weight> {
        self.registry.get(kind).map(|kind| kind.weight())
    }

    /// Verifies and opens what the instance reads.
    fn open_inputs(
        &self,
        instance: &Instance,
        upstream: &BTreeMap<usize, Arc<Made>>,
    ) -> Result<BTreeMap<String, JobInput>, Vec<(usize, BytesGone)>> {
        let mut gone = Vec::new();
        let mut inputs = BTreeMap::new();
        let mut open = |from: usize, parts: &[String]| {
            let opened = match upstream.get(&from) {
                Some(made) => self.cache.open_artifact(made.artifact(), Some(parts)),
                None => Err(BytesGone::default()),
            };
            opened.map_err(|bytes| gone.push((from, bytes))).ok()
        };
        for (port, wire) in &instance.wires {
            match wire {
                Wire::One { from, parts } => {
                    if let Some(input) = open(*from, parts) {
                        inputs.insert(port.clone(), JobInput::One(input));
                    }
                }
                Wire::Collect { from, parts } => {
                    let collected = from.iter().filter_map(|from| {
                        let producer = &self.graph.instances[*from];
                        let input = open(*from, parts)?;
                        Some(Collected {
                            instance: producer.name(),
                            axes: producer.axes.clone(),
                            input,
                        })
                    });
                    inputs.insert(port.clone(), JobInput::Collected(collected.collect()));
                }
            }
        }
        if gone.is_empty() { Ok(inputs) } else { Err(gone) }
    }

    /// A file that changed after it was hashed may have been read in either state.
    fn check_input_files(&self, key: &Key) -> Result<(), StageError> {
        for file in key.files.values().flat_map(|files| files.iter()) {
            if self.cache.digest_of(&file.path)? != file.digest {
                let path = file.path.display();
                return Err(StageError::new(format!("`{path}` changed while it was being read"))
                    .help("run again when nothing writes to it"));
            }
        }
        Ok(())
    }

    fn is_recorded(&self, instance: &Instance, name: &str) -> bool {
        let fields = self.registry.get(&instance.kind).map_or(&[][..], |kind| kind.fields());
        fields
            .iter()
            .any(|field| field.name == name && field.class == FieldClass::Recorded)
    }
}

/// Passes messages on and keeps log lines and warnings in the instance's log, which is made with the first of them.
fn sink(log: PathBuf, tell: Arc<impl Tell>) -> Sink {
    let writing = Mutex::new(());
    Arc::new(move |message| {
        let line = match &message {
            Message::Log { line } => Some(line.clone()),
            Message::Warning { line } => Some(format!("warning: {line}")),
            Message::Progress(_) => None,
        };
        if let Some(line) = line {
            let _one_at_a_time = writing.lock().unwrap_or_else(PoisonError::into_inner);
            // A log that cannot be written must not fail what it tells of.
            let _ = files::open_for_append(&log).map(|mut log| log.write_all(format!("{line}\n").as_bytes()));
        }
        tell(Told::Message(message));
    })
}

/// The class of machine within which floats come out alike: instruction set and its vector extensions.
fn machine() -> String {
    let architecture = std::env::consts::ARCH;
    #[cfg(target_arch = "x86_64")]
    {
        let vectors = if std::arch::is_x86_feature_detected!("avx512f") {
            "+avx512f"
        } else if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            "+avx2+fma"
        } else {
            ""
        };
        format!("{architecture}{vectors}")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        architecture.to_owned()
    }
}
