//! What users of the reference trainer bring along: its flat JSON configs, and the folders and files it writes.
//!
//! [`Config`] is such a config, read with its places; [`manifest`] says the same as a manifest. The kind [`Results`] brings an
//! evaluation into the reference's form, and [`Output`] puts together its output directory. [`Evaluation`] is what its evaluation's command
//! line asks for, as a manifest.

mod config;
mod evaluation;
mod manifest;
mod output;
mod results;

pub use config::Config;
pub use evaluation::Evaluation;
pub use manifest::{Converted, convert};
pub use output::Output;
pub use results::{RESULTS, Results};
