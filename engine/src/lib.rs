//! The engine: manifests, fingerprints, plans and a content-addressed cache for any pipeline of stages.
//!
//! It knows no entity recognizer and no tensor library; kinds of stages are handed to it in a [`Registry`].

pub mod artifact;
pub mod context;
pub mod digest;
pub mod event;
pub mod graph;
pub mod kind;

pub use artifact::{Input, Part, PartFile};
pub use context::{Context, Step, StepOutput};
pub use digest::Digest;
pub use event::{Event, Progress};
pub use kind::{
    Collected, Field, FieldClass, InputParts, Kind, Port, Registry, Resolved, SettingError, StageError, Weight,
};
