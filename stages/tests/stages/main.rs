//! Drives the kinds of stages as a run does, on small corpora of their own.

mod sample;
mod training;
