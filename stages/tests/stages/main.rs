//! Drives the stages as a run does, and holds the models against the reference's fixtures.

mod golden;
#[cfg(feature = "wgpu")]
mod gpu;
mod sample;
mod training;
