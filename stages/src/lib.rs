//! The stages of nerpipe: corpora, tokenizers, span-based entity recognizers, training and evaluation.

pub mod corpus;
pub mod rng;
pub mod tokenizer;
pub mod tokens;
pub mod wordpiece;
