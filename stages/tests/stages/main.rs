//! Drives the stages as a run does, and holds the models against the reference's fixtures.

mod golden;
mod sample;
mod training;
