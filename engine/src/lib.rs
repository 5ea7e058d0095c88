//! The engine: manifests, fingerprints, plans and a content-addressed cache for any pipeline of stages.
//!
//! It knows no entity recognizer and no tensor library; kinds of stages are handed to it in a [`Registry`].

pub mod artifact;
mod axes;
pub mod context;
pub mod diagnostic;
pub mod digest;
pub mod event;
pub mod graph;
mod interpolate;
pub mod kind;
pub mod manifest;
mod source;
mod suggest;
#[cfg(test)]
mod tests;

pub use artifact::{Input, Part, PartFile};
pub use axes::MAX_CELLS;
pub use context::{Context, Step, StepOutput};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use digest::Digest;
pub use event::{Event, Progress};
pub use graph::{Graph, Instance, Publish, SelectError, Wire};
pub use kind::{
    Collected, Field, FieldClass, InputParts, Kind, Port, Registry, Resolved, SettingError, StageError, Weight,
};
pub use manifest::Manifest;
