//! What a running stage sees: its settings, its inputs, its output place, cached steps, and a way to tell how it goes.
//!
//! [`Context`] is `Sync`: a kind may call [`Context::step`] from several threads at once.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::artifact::Input;
use crate::digest::Digest;
use crate::event::Progress;
use crate::kind::{Collected, StageError};

/// One file that an input setting (a path or glob) named.
#[derive(Clone, Debug)]
pub struct InputFile {
    /// The name below the fixed part of the path or glob, with `/`; for a plain file its file name.
    pub name: String,
    /// Where to read it.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// A cached piece of work inside a stage. Its key is the kind, `name`, `version`, `settings` and `inputs`, nothing else;
/// so equal steps of different instances and of earlier runs are shared.
#[derive(Clone, Debug)]
pub struct Step {
    /// The step's name, such as `file` or `scores`.
    pub name: &'static str,
    /// The version of the step's meaning.
    pub version: u32,
    /// What steers it.
    pub settings: Value,
    /// The digests of what it reads, in order.
    pub inputs: Vec<Digest>,
}

/// The sealed files of a step, to be read or placed into the artifact without copying.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The files by their name in the step's folder.
    pub files: Vec<crate::artifact::PartFile>,
    /// The value the step's closure returned (kept in the step's record), such as counts for the summary.
    pub value: Value,
    /// Whether it was restored rather than executed.
    pub restored: bool,
}

/// What a running stage sees. See the module's text.
pub struct Context {
    _private: (),
}

#[allow(missing_docs, unused_variables, clippy::unimplemented)]
impl Context {
    /// The resolved settings, as the kind's own type.
    pub fn settings<S: DeserializeOwned>(&self) -> Result<S, StageError> {
        unimplemented!()
    }
    /// The input at `port`, or an error that says it is not connected.
    pub fn input(&self, port: &str) -> Result<&Input, StageError> {
        unimplemented!()
    }
    /// The artifacts of a collecting port, in the order of the sweep's cells.
    pub fn collected(&self, port: &str) -> &[Collected] {
        unimplemented!()
    }
    /// The files that the input setting `field` named, sorted by name; empty if it was left out.
    /// A field that is a map of paths is addressed as `field.key`.
    pub fn files(&self, field: &str) -> &[InputFile] {
        unimplemented!()
    }
    /// The path to write the artifact's file `name` to (`train/x.jsonl`, `config.json`); folders are made.
    /// The first component of `name` is the part; a file without a folder is a part of its own... see `Resolved::parts`.
    pub fn out(&self, name: &str) -> Result<PathBuf, StageError> {
        unimplemented!()
    }
    /// Runs `work` or restores what it made before. `work` writes its files into the folder it is given and returns a
    /// small JSON value that is kept with them.
    pub fn step(
        &self,
        step: Step,
        work: impl FnOnce(&Path) -> Result<Value, StageError>,
    ) -> Result<StepOutput, StageError> {
        unimplemented!()
    }
    /// Makes file `file` of a step part of the artifact under `name`, by reference.
    pub fn place(&self, output: &StepOutput, file: &str, name: &str) -> Result<(), StageError> {
        unimplemented!()
    }
    /// Keeps a figure in the record and shows it in the run's summary, such as counts of what was cut or dropped.
    pub fn note(&self, key: &str, value: Value) {}
    /// Tells how far the stage has come. Cheap; call it as often as a step ends.
    pub fn progress(&self, progress: Progress) {}
    /// One line for people, kept in the instance's log.
    pub fn log(&self, line: &str) {}
    /// A warning, shown at once and again in the summary.
    pub fn warn(&self, line: &str) {}
    /// How many threads this instance may use.
    pub fn threads(&self) -> usize {
        1
    }
    /// The device asked for: `auto`, `cpu`, `wgpu`, `cuda` or `cuda:N`.
    pub fn device(&self) -> &str {
        "auto"
    }
    /// Fails with a cancelled [`StageError`] if the run was told to stop; call it once per training step.
    pub fn check_cancelled(&self) -> Result<(), StageError> {
        Ok(())
    }
}
