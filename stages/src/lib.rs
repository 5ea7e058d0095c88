//! The stages of nerpipe: corpora, tokenizers, span-based entity recognizers, training and evaluation.

pub mod decode;
pub mod metrics;
pub mod optim;
pub mod rng;
pub mod schedule;
