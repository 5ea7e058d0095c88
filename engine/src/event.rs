//! What a run tells whoever watches it.

use serde::Serialize;

/// How far a stage has come; sent by [`crate::Context::progress`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// Units done so far.
    pub done: u64,
    /// Units in all, when known.
    pub total: Option<u64>,
    /// The unit's name, plural: `steps`, `sentences`, `files`.
    pub unit: &'static str,
    /// A few named figures to show beside the bar, such as `loss` and `samples/s`.
    pub figures: Vec<(&'static str, f64)>,
}

/// One thing that happened in a run.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {}
