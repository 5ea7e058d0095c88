//! Engine values → text for people. Everything here returns text or draws on standard error.

pub(crate) mod cache;
pub(crate) mod data;
pub(crate) mod diagnostics;
pub(crate) mod entities;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod numbers;
pub(crate) mod plan;
pub(crate) mod progress;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod summary;
