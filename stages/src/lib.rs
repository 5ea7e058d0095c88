//! The stages of nerpipe: corpora, tokenizers, span-based entity recognizers, training and evaluation.

pub mod allocator;
pub mod corpus;
pub mod decode;
pub mod device;
pub mod encoder;
pub mod load;
mod mapped;
pub mod metrics;
pub mod optim;
pub mod report;
pub mod rng;
pub mod schedule;
pub mod tensors;
pub mod tokenize;
pub mod tokenizer;
pub mod tokens;
pub mod wordpiece;

use nerpipe_engine::Registry;

/// The kinds of stages that a manifest can name.
pub fn registry() -> Registry {
    Registry::default()
        .with(load::Load)
        .with(encoder::Encoder)
        .with(tokenize::Tokenize)
        .with(report::Report)
}
