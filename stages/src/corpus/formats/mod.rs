//! A reader for each format, in which a corpus may be written.

mod arrow;
mod conll;
mod gliner;
mod jsonl;
mod lines;
#[cfg(feature = "parquet")]
mod parquet;
mod table;
mod tables;

pub use conll::{Column, Columns};
pub(super) use conll::{Conll, begins_like_comment, is_document};
pub(super) use gliner::Gliner;
pub(super) use jsonl::Jsonl;
pub(super) use tables::Tables;
