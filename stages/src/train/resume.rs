//! A training's state on disk, so that one that was stopped or killed goes on and ends with the same bytes as one that never was.
//!
//! All that a training has besides its settings and inputs is here: weights, moments, how far it is, the best model so far, and
//! the log. There is no state of random numbers: they are functions of seed, purpose, step and position.
//!
//! | file | what |
//! |---|---|
//! | `state.safetensors` | `weights/…`, `mean/…`, `square/…` by parameter, and [`Point`] as JSON under the header's one key |
//! | `best-STEP.safetensors` | the best model so far; the state says which |
//! | `training_log.jsonl` | the log; what stands behind the length that the state knows is cut off |
//!
//! The state is written beside its place and renamed, last of all: whenever a training is killed, there is the state before or
//! the state after.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nerpipe_engine::StageError;
use serde::{Deserialize, Serialize};

use super::batches::Position;
use crate::evaluate::LossCounts;
use crate::model::HostTensor;
use crate::optim::Moments;
use crate::tensors::{TensorFile, read_tensors, safetensors_metadata, write_safetensors, write_safetensors_with};

/// The version of what is written here. Another one is another training: it begins again.
const FORMAT: u32 = 1;
/// The key of the safetensors header that holds a [`Point`].
const POINT: &str = "point";
const STATE: &str = "state.safetensors";
const LOG: &str = "training_log.jsonl";

/// Without a number of steps, the state is saved this often…
const EVERY: Duration = Duration::from_secs(60);
/// …and so seldom that saving takes at most one part in this many of the time.
const SHARE: u32 = 20;

/// How far a training is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    format: u32,
    /// Optimizer steps done.
    pub step: u64,
    /// The last step after which the validation split was evaluated.
    pub evaluated: u64,
    /// Where in the sequence of batches it is.
    pub batches: Position,
    /// Text cut off and golds lost so far.
    pub losses: LossCounts,
    /// Evaluations since the best one.
    pub without_gain: u32,
    /// The best model's step and micro F1.
    pub best: Option<(u64, f64)>,
    /// How long the log is, in bytes.
    pub log: u64,
    /// Parameter → updates so far.
    updates: BTreeMap<String, i32>,
}

impl Point {
    /// A point of this version.
    pub(super) fn new(step: u64, evaluated: u64, batches: Position, losses: LossCounts, without_gain: u32) -> Self {
        Self {
            format: FORMAT,
            step,
            evaluated,
            batches,
            losses,
            without_gain,
            best: None,
            log: 0,
            updates: BTreeMap::new(),
        }
    }
}

/// What a training goes on with.
pub(super) struct Saved {
    /// How far it was.
    pub point: Point,
    /// Its weights, as a checkpoint holds them.
    pub weights: Vec<HostTensor>,
    /// Parameter → its moments.
    pub moments: Vec<(String, Moments)>,
    /// The best model so far.
    pub best: Option<Vec<HostTensor>>,
}

/// Where a training's state is kept, and when it is saved next.
pub(super) struct Keeper {
    folder: PathBuf,
    every: Option<u64>,
    last: Instant,
    cost: Duration,
    /// The step of the best model that is on disk.
    best: Option<u64>,
    /// The step that was saved last.
    saved: u64,
}

impl Keeper {
    /// Keeps the state in `folder`, and saves it every so many steps, or from time to time.
    pub(super) fn new(folder: PathBuf, every: Option<u64>) -> Self {
        Self {
            folder,
            every,
            last: now(),
            cost: Duration::ZERO,
            best: None,
            saved: 0,
        }
    }

    /// Whether the state after this step is to be saved now.
    pub(super) fn is_due(&self, step: u64) -> bool {
        if step == self.saved {
            return false;
        }
        match self.every {
            Some(every) => step.is_multiple_of(every),
            None => self.last.elapsed() >= EVERY.max(self.cost * SHARE),
        }
    }

    /// Whether this step was the last one saved.
    pub(super) fn has(&self, step: u64) -> bool {
        step == self.saved
    }

    /// What was saved, if it can be gone on with. What cannot be understood counts as nothing: the training begins again.
    pub(super) fn load(&mut self) -> Option<Saved> {
        let path = self.folder.join(STATE);
        let point: Point = serde_json::from_str(safetensors_metadata(&path).ok()?.get(POINT)?).ok()?;
        let log = fs::metadata(self.folder.join(LOG)).ok()?.len();
        if point.format != FORMAT || log < point.log {
            return None;
        }
        let file = TensorFile::open(&path).ok()?;
        let (mut weights, mut means, mut squares) = (Vec::new(), Vec::new(), BTreeMap::new());
        for entry in file.entries() {
            let (what, name) = entry.name.split_once('/')?;
            let tensor = HostTensor {
                name: name.to_owned(),
                ..file.tensor(entry)?
            };
            match what {
                "weights" => weights.push(tensor),
                "mean" => means.push(tensor),
                _ => drop(squares.insert(tensor.name, tensor.data)),
            }
        }
        let moments = means.into_iter().map(|mean| {
            let updates = *point.updates.get(&mean.name)?;
            let square = squares.remove(&mean.name)?;
            let moments = Moments::new(mean.data, square, updates)?;
            Some((mean.name, moments))
        });
        let moments = moments.collect::<Option<Vec<_>>>()?;
        let best = match point.best {
            Some((step, _)) => Some(read_tensors(&self.best_path(step)).ok()?),
            None => None,
        };
        self.best = point.best.map(|(step, _)| step);
        self.saved = point.step;
        Some(Saved {
            point,
            weights,
            moments,
            best,
        })
    }

    /// The log, cut off behind `length`.
    pub(super) fn log(&self, length: u64) -> Result<File, StageError> {
        let path = self.folder.join(LOG);
        let open = || {
            let file = File::options().create(true).append(true).open(&path)?;
            file.set_len(length)?;
            Ok(file)
        };
        open().map_err(failed("open", &path))
    }

    /// Where the log is.
    pub(super) fn log_path(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    /// Saves the state. `log` has been written as far as the point goes.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn save<'m>(
        &mut self,
        mut point: Point,
        log: &File,
        weights: impl Iterator<Item = HostTensor>,
        moments: impl Iterator<Item = (&'m str, &'m Moments)>,
        best: Option<(u64, f64, &[HostTensor])>,
    ) -> Result<(), StageError> {
        let begun = now();
        let under = |what: &str, tensor: HostTensor| HostTensor {
            name: format!("{what}/{}", tensor.name),
            ..tensor
        };
        let mut tensors: Vec<HostTensor> = weights.map(|tensor| under("weights", tensor)).collect();
        for (name, moments) in moments {
            for (what, data) in [("mean", &moments.mean), ("square", &moments.square)] {
                tensors.push(HostTensor {
                    name: format!("{what}/{name}"),
                    shape: vec![data.len()],
                    data: data.clone(),
                });
            }
            point.updates.insert(name.to_owned(), moments.updates);
        }
        log.sync_data().map_err(failed("write", &self.log_path()))?;
        point.log = log.metadata().map_err(failed("read", &self.log_path()))?.len();
        point.best = best.map(|(step, f1, _)| (step, f1));
        if let Some((step, _, tensors)) = best
            && self.best != Some(step)
        {
            self.replace(&self.best_path(step), |path| write_safetensors(path, tensors))?;
            self.best = Some(step);
        }
        let json = serde_json::to_string(&point).map_err(|error| StageError::new(error.to_string()))?;
        let metadata = [(POINT.to_owned(), json)].into();
        self.replace(&self.folder.join(STATE), |path| {
            write_safetensors_with(path, &tensors, metadata)
        })?;
        self.remove_other_bests()?;
        self.saved = point.step;
        self.cost = begun.elapsed();
        self.last = now();
        Ok(())
    }

    fn best_path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("best-{step}.safetensors"))
    }

    /// Writes a file beside its place, to the disk, and renames it.
    fn replace(&self, path: &Path, write: impl FnOnce(&Path) -> Result<(), StageError>) -> Result<(), StageError> {
        let beside = path.with_extension("new");
        write(&beside)?;
        let renamed = File::open(&beside)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&beside, path));
        renamed.map_err(failed("write", path))
    }

    fn remove_other_bests(&self) -> Result<(), StageError> {
        let list = || -> std::io::Result<()> {
            for entry in fs::read_dir(&self.folder)? {
                let path = entry?.path();
                let is_best = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().starts_with("best-"));
                if is_best && self.best.is_none_or(|step| path != self.best_path(step)) {
                    fs::remove_file(path)?;
                }
            }
            Ok(())
        };
        list().map_err(failed("tidy up", &self.folder))
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "when a state is saved changes no byte of what the training makes"
)]
fn now() -> Instant {
    Instant::now()
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StageError {
    let error = nerpipe_engine::FileError::of(action, path);
    move |source| error(source).into()
}
