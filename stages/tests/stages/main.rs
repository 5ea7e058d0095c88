//! Drives the stages as a run does, and holds the models against the reference's fixtures.

#![expect(
    clippy::print_stdout,
    reason = "tests say what they measured and how much they compared"
)]

mod families;
mod golden;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu;
mod metrics;
mod resume;
mod sample;
mod tokenizers;
mod training;
