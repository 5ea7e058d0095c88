//! Drives the real program in throwaway projects.

mod command;
mod data;
mod errors;
mod help;
mod pipeline;
mod plan;
mod project;
mod reference;
mod resume;
mod run;
mod show;
mod status;
