//! The stages of nerpipe: corpora, tokenizers, span-based entity recognizers, training and evaluation.

pub mod allocator;
pub mod batch;
pub mod calibrate;
pub mod checkpoint;
pub mod compare;
pub mod corpus;
pub mod decode;
pub mod device;
pub mod encoder;
pub mod evaluate;
pub mod generate;
pub mod load;
pub mod loss;
mod mapped;
pub mod metrics;
pub mod model;
pub mod optim;
#[doc(hidden)]
pub mod parity;
pub mod predict;
pub mod recognizer;
pub mod reference;
pub mod report;
pub mod rng;
pub mod schedule;
pub mod split;
pub mod tensors;
pub mod thresholds;
pub mod tokenize;
pub mod tokenizer;
pub mod tokens;
pub mod train;
pub mod wordpiece;

use nerpipe_engine::Registry;
use nerpipe_engine::command::Command;

/// The kinds of stages that a manifest can name.
pub fn registry() -> Registry {
    Registry::default()
        .with(generate::Generate)
        .with(load::Load)
        .with(split::Split)
        .with(encoder::Encoder)
        .with(tokenize::Tokenize)
        .with(train::Train)
        .with(checkpoint::TakeCheckpoint)
        .with(calibrate::Calibrate)
        .with(evaluate::Evaluate)
        .with(compare::Compare)
        .with(report::Report)
        .with(reference::Results)
        .with(reference::Output)
        .with(Command)
}
