//! The engine from a manifest to finished artifacts, with toy kinds that count what ran.

mod account;
mod command;
mod crash;
mod cutoff;
mod damage;
mod failures;
mod gc;
mod incremental;
mod jobs;
mod plans;
mod project;
mod publish;
mod resources;
mod speed;
mod steps;
mod together;
mod toy;
