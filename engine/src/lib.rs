//! The engine: manifests, fingerprints, plans and a content-addressed cache for any pipeline of stages.
//!
//! It knows no entity recognizer and no tensor library; kinds of stages are handed to it in a [`Registry`], and one that
//! belongs to no field, [`command`], it has itself. It stays off the terminal, the home directory and the environment, but
//! for the variables that a command declares; the program does all that.
//!
//! In the order data meets them:
//!
//! 1. [`manifest`] reads YAML, strictly; what is wrong is a [`diagnostic`] with file and line.
//! 2. [`graph`] spreads stages over the axes of the sweep: instances with resolved settings and wires. [`kind`] is what
//!    a stage's author writes.
//! 3. `inputs` finds and hashes the files that settings name; [`fingerprint`] says what counts, and `encode` how it is
//!    spelled for the hash.
//! 4. `judge` compares with the [`cache`]: fresh, stale and why, waiting, or the same as another. [`plan()`] and [`run()`] ask
//!    it and nobody else.
//! 5. [`mod@run`] executes what is stale: each instance is a [`job`], here or in a process of its own, and sees a
//!    [`context`]. What it made is an [`artifact`]; its bytes go into the cache and its record last.
//! 6. `publish` copies artifacts to where people look for them; [`event`]s tell how it goes; [`watch`] sees when it is to be done again.
//!
//! [`testing`] runs one kind by itself.
//!
//! A whole pipeline, from a manifest to its artifact:
//!
//! ```
//! use std::path::Path;
//!
//! use nerpipe_engine::{Cache, Graph, Manifest, Registry, RunOptions, command::Command};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let project: &Path = folder.path();
//! let text = "
//! name: hello
//! sweep: {axes: {name: [Ada, Grace]}}
//! stages:
//!   greeting: {kind: command, with: {run: 'echo hello ${name} > \"$OUT/text\"', parts: [text]}}
//!   both: {kind: command, inputs: {texts: {collect: greeting}}, with: {run: 'cat \"$TEXTS\"/*/text > \"$OUT/text\"'}}
//! ";
//! let registry = Registry::default().with(Command);
//! let manifest = Manifest::parse("hello.yaml", text, project, &[], &registry)?;
//! let graph = Graph::build(&manifest, &registry)?;
//! let names: Vec<String> = graph.instances.iter().map(|instance| instance.name()).collect();
//! assert_eq!(names, ["greeting@name=Ada", "greeting@name=Grace", "both"]);
//!
//! let cache = Cache::open(&project.join("cache"))?;
//! let run = || nerpipe_engine::run(&graph, &registry, &cache, project, &RunOptions::default(), &mut |_| {});
//! let summary = run()?;
//! assert_eq!(summary.executed, 3);
//!
//! let fingerprint = summary.instances[2].fingerprint.expect("it has a record of its own");
//! let record = cache.record(&fingerprint)?.expect("it was written last");
//! let file = &record.artifact.files[0];
//! let made = std::fs::read_to_string(cache.objects().path(&file.digest))?;
//! assert_eq!((file.name.as_str(), made.as_str()), ("text", "hello Ada\nhello Grace\n"));
//! assert_eq!(run()?.executed, 0, "nothing changed");
//! # Ok(())
//! # }
//! ```

pub mod artifact;
mod axes;
pub mod cache;
pub mod command;
pub mod context;
pub mod diagnostic;
pub mod digest;
mod encode;
mod environment;
pub mod event;
mod files;
pub mod fingerprint;
pub mod graph;
mod guard;
mod inputs;
mod interpolate;
pub mod job;
mod judge;
pub mod kind;
pub mod manifest;
pub mod plan;
mod process;
mod publish;
pub mod resources;
pub mod run;
pub mod schema;
mod source;
mod suggest;
pub mod testing;
#[cfg(test)]
mod tests;
mod threads;
pub mod watch;

pub use artifact::{Artifact, ArtifactFile, EVERY_PART, Input, Part, PartFile};
pub use axes::MAX_CELLS;
pub use cache::{Cache, Record, StepCounts};
pub use context::{Context, InputFile, Step, StepOutput};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use digest::Digest;
pub use encode::EncodeError;
pub use event::{Event, Progress};
pub use files::FileError;
pub use fingerprint::{Difference, Document, Fingerprint};
pub use graph::{Graph, Instance, Publish, SelectError, Wire};
pub use judge::Reason;
pub use kind::{
    Collected, ErrorClass, Field, FieldClass, InputParts, Kind, Port, Registry, Resolved, SettingError, StageError,
    Weight,
};
pub use manifest::Manifest;
pub use plan::{Expected, Explained, Plan, Planned, PlannedStage, Shown, Status, explain, plan, show};
pub use resources::Resources;
pub use run::account::{Account, RunState};
pub use run::{InstanceSummary, Outcome, RunOptions, Summary, run};
pub use threads::limit_threads;
