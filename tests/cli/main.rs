//! Drives the real program in throwaway projects.

mod cache;
mod command;
mod completion;
mod data;
mod errors;
mod explain;
mod graph;
mod help;
mod pages;
mod pipeline;
mod plan;
mod prediction;
mod project;
mod reference;
mod resume;
mod run;
mod schema;
mod show;
mod status;
#[cfg(target_os = "linux")]
mod terminal;
mod watch;
