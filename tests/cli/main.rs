//! Drives the real program in throwaway projects.

mod errors;
mod help;
mod project;
