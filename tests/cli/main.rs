//! Drives the real program in throwaway projects.

mod command;
mod errors;
mod help;
mod pipeline;
mod plan;
mod project;
mod run;
mod show;
