//! The stages of nerpipe: corpora, tokenizers, span-based entity recognizers, training and evaluation.

pub mod allocator;
pub mod batch;
pub mod corpus;
pub mod decode;
pub mod device;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod optim;
#[doc(hidden)]
pub mod parity;
pub mod recognizer;
pub mod rng;
pub mod schedule;
pub mod tokenizer;
pub mod tokens;
pub mod wordpiece;
