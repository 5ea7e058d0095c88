//! What a run knows of one instance while it goes on.

use std::path::PathBuf;
use std::sync::Arc;

use super::Outcome;
use super::pool::{Need, Share};
use crate::cache::Record;
use crate::judge::{Key, Made, Reason};
use crate::kind::StageError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not part of this run.
    Unneeded,
    /// Something it reads from is not known, or its bytes are being made again, or an equal instance runs.
    Waiting,
    /// To be judged.
    Ready,
    /// To be executed when a worker is free.
    Runnable,
    Running,
    Done,
    Failed,
    Blocked,
}

/// Everything the run knows of one instance.
pub(super) struct Slot {
    pub(super) state: State,
    /// How many instances it waits for.
    pub(super) waiting_for: usize,
    /// Those that read from it, each once.
    pub(super) readers: Vec<usize>,
    /// Those that wait for its bytes to be made again.
    pub(super) askers: Vec<usize>,
    /// Those with the same fingerprint that it stands for.
    pub(super) sharers: Vec<usize>,
    /// The one that stands for it.
    pub(super) shares: Option<usize>,
    pub(super) key: Option<Arc<Key>>,
    pub(super) made: Option<Arc<Made>>,
    pub(super) record: Option<Arc<Record>>,
    /// Why it runs, once it is to.
    pub(super) reason: Option<Reason>,
    /// Its bytes are needed: a fresh record is not enough.
    pub(super) bytes_needed_by: Option<String>,
    /// What it reads changed while it ran.
    pub(super) judge_again: bool,
    pub(super) attempts: u32,
    /// What it needs to run, once it is to.
    pub(super) need: Option<Need>,
    /// What it holds while it runs.
    pub(super) share: Option<Share>,
    pub(super) outcome: Option<Outcome>,
    pub(super) error: Option<StageError>,
    pub(super) blocked_by: Option<usize>,
    pub(super) warnings: Vec<String>,
    pub(super) published: Vec<PathBuf>,
}

impl Slot {
    pub(super) fn new(needed: bool) -> Self {
        Self {
            state: if needed { State::Waiting } else { State::Unneeded },
            waiting_for: 0,
            readers: Vec::new(),
            askers: Vec::new(),
            sharers: Vec::new(),
            shares: None,
            key: None,
            made: None,
            record: None,
            reason: None,
            bytes_needed_by: None,
            judge_again: false,
            attempts: 0,
            need: None,
            share: None,
            outcome: None,
            error: None,
            blocked_by: None,
            warnings: Vec::new(),
            published: Vec::new(),
        }
    }
}
