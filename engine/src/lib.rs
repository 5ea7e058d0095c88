//! The engine: manifests, fingerprints, plans and a content-addressed cache for any pipeline of stages.
//!
//! It knows no entity recognizer and no tensor library; kinds of stages are handed to it in a [`Registry`].

pub mod artifact;
mod axes;
pub mod cache;
pub mod context;
pub mod diagnostic;
pub mod digest;
mod encode;
pub mod event;
mod files;
pub mod fingerprint;
pub mod graph;
mod inputs;
mod interpolate;
pub mod job;
pub mod kind;
pub mod manifest;
mod process;
mod source;
mod suggest;
pub mod testing;

pub use artifact::{Artifact, ArtifactFile, Input, Part, PartFile};
pub use axes::MAX_CELLS;
pub use cache::{Cache, Record, StepCounts};
pub use context::{Context, InputFile, Step, StepOutput};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use digest::Digest;
pub use encode::EncodeError;
pub use event::{Event, Progress};
pub use files::FileError;
pub use fingerprint::{Document, Fingerprint};
pub use graph::{Graph, Instance, Publish, Wire};
pub use kind::{
    Collected, Field, FieldClass, InputParts, Kind, Port, Registry, Resolved, SettingError, StageError, Weight,
};
pub use manifest::Manifest;
