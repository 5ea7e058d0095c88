//! Corpora: records with entities, read strictly and streamed from files of several formats ([`Format`]).
//!
//! A record is `{"id"?, "text", "tokens": [..], "token_spans": [{"start", "end", "label"}], "char_spans": [..]}`. Ends
//! are exclusive; character positions are Unicode code points. Every record is checked: tokens must be those of the text
//! (white space may lie between them), and the two lists of spans must mark the same entities. What is wrong is an error that
//! names file, line and field; nothing is repaired in silence.
//!
//! What a corpus may leave open is settled by these rules:
//! - Blank lines are skipped but counted as lines. A byte order mark and CRLF line ends are fine.
//! - A missing `id` becomes `line-<number>`; a whole number becomes text. Ids need not be unique.
//! - One of `token_spans` and `char_spans` may be missing and is then worked out from the other. `null` is not missing.
//! - The two lists may be in different orders; `char_spans` is put in the order of `token_spans`.
//! - A span given twice with one label counts once ([`Counts::duplicate_spans`]). Overlapping and nested spans, and
//!   several labels on one span, are kept.
//! - Positions are whole numbers; `0.0` is refused. Spans are objects, not arrays.
//! - `language` (or `lang`) and `dataset` may say where a record comes from ([`Origin`]); `null` is the same as missing. Other
//!   fields are not read.
//! - Labels are taken as they are, capitals included, but must not be blank, begin or end with white space, hold
//!   control characters, or be longer than [`MAX_LABEL`] code points.
//! - Empty and blank texts, blank tokens, and missing tokens are errors.

mod check;
mod dataset;
#[cfg(test)]
mod fixtures;
mod formats;
mod parse;
mod read;
mod source;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod write;

use serde::{Deserialize, Serialize};

pub use check::places;
pub(crate) use check::problem_of_name;
pub use dataset::splits;
pub use formats::{Column, Columns};
pub use parse::{Notes, RecordError, parse_record};
pub use read::{Blame, CorpusError, Counts, Parsed, read, read_source, scan};
pub use source::{Format, Found, Given, Source, below, find, is_named};

/// The longest label, in code points.
pub const MAX_LABEL: usize = 1000;

/// An entity: the tokens or code points `start..end`, and its type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Span {
    /// The first token or code point.
    pub start: u32,
    /// The one after the last.
    pub end: u32,
    /// The entity's type.
    pub label: String,
}

/// Where a record comes from, as far as its corpus says. Evaluations are broken down by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Origin {
    /// The language, such as `de`; any word will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// The dataset, such as `conll2003`, in a corpus that is put together from several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<String>,
}

/// A checked record of a corpus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Record {
    /// Its name in predictions and messages.
    pub id: String,
    /// Where it comes from: the fields `language` and `dataset` of its line.
    #[serde(flatten)]
    pub origin: Origin,
    /// The text.
    pub text: String,
    /// The words of the text, in order, never empty.
    pub tokens: Vec<String>,
    /// The entities, in tokens.
    pub token_spans: Vec<Span>,
    /// The same entities in the same order, in code points of the text.
    pub char_spans: Vec<Span>,
}

impl Record {
    /// Appends the record as a line of compact JSON with its keys in the order above.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        // A record is strings and numbers, and a vector takes all bytes: neither can fail.
        if serde_json::to_writer(&mut *out, self).is_ok() {
            out.push(b'\n');
        }
    }
}
