//! The account of a run: what it does, told to other processes while it goes on, and to everybody afterwards.
//!
//! It is one file, `runs/ID/run.json` in the cache, replaced as a whole: at once when the run begins, ends or an instance fails,
//! otherwise at most twice a second. While the run lives it holds a lock of that name, so that one that was killed is told
//! from one that is only silent.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Summary;
use crate::cache::{Cache, Lock};
use crate::event::{Event, Pace, Position};
use crate::files::{self, Durability, FileError};
use crate::kind::StageError;

/// How often an account is written when nothing much happens.
const BETWEEN_WRITES: Duration = Duration::from_millis(500);

/// How many runs are remembered.
const REMEMBERED: usize = 50;

/// The folder of accounts in a cache.
const RUNS: &str = "runs";

/// What is known of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    /// What tells it from other runs; they sort by time.
    pub id: String,
    /// The manifest's name.
    pub manifest: String,
    /// How it stands.
    pub state: RunState,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// When this was written, in seconds since 1970.
    pub updated: u64,
    /// The process that it is.
    pub process: u32,
    /// How many instances it looks at.
    pub instances: usize,
    /// How many are done because they executed.
    pub executed: usize,
    /// How many are done because the cache had them.
    pub restored: usize,
    /// How many are done because another stands for them.
    pub shared: usize,
    /// Instances that cannot run because one that they need failed.
    pub blocked: Vec<String>,
    /// Instances that are executing.
    pub running: Vec<RunningInstance>,
    /// Instances that failed.
    pub failed: Vec<FailedInstance>,
    /// Instances that executed, in the order of their ends.
    pub finished: Vec<FinishedInstance>,
    /// Why the run itself could not go on.
    pub error: Option<String>,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It goes on.
    Running,
    /// It ended and everything is there.
    Done,
    /// It ended and something failed.
    Failed,
    /// It was told to stop.
    Stopped,
    /// Its process ended without a word.
    Died,
}

/// An instance that is executing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningInstance {
    /// Its name.
    pub instance: String,
    /// The kind of its stage.
    pub kind: String,
    /// Why it runs.
    pub reason: String,
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// Which attempt this is.
    pub attempt: u32,
    /// How far it is.
    pub position: Option<Position>,
    /// How long the rest takes at the pace so far, in seconds.
    pub seconds_left: Option<f64>,
}

/// An instance that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailedInstance {
    /// Its name.
    pub instance: String,
    /// What went wrong.
    pub message: String,
    /// What the user can do.
    pub help: Option<String>,
    /// Its log, if it wrote one.
    pub log: Option<PathBuf>,
}

/// An instance that executed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedInstance {
    /// Its name.
    pub instance: String,
    /// How long it took.
    pub seconds: f64,
}

impl Account {
    /// The accounts in a cache, newest first.
    ///
    /// # Errors
    /// If one is there and cannot be read. One that cannot be understood is left out.
    pub fn all(cache: &Cache) -> Result<Vec<Self>, FileError> {
        let mut accounts = Vec::new();
        for id in ids(cache)?.into_iter().rev() {
            let bytes = files::read_if_exists(&file(cache, &id))?.unwrap_or_default();
            let Ok(mut account) = serde_json::from_slice::<Self>(&bytes) else {
                continue;
            };
            // Whoever runs holds its lock.
            if account.state == RunState::Running && cache.try_lock(&lock_name(&id))?.is_some() {
                account.state = RunState::Died;
            }
            accounts.push(account);
        }
        Ok(accounts)
    }

    /// How many instances are not done and not given up.
    pub fn to_go(&self) -> usize {
        let done = self.executed + self.restored + self.shared + self.failed.len() + self.blocked.len();
        self.instances.saturating_sub(done)
    }
}

/// The names of all accounts, oldest first.
fn ids(cache: &Cache) -> Result<Vec<String>, FileError> {
    let folder = cache.folder(RUNS);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(&folder).map_err(FileError::of("list", &folder))?;
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FileError::of("list", &folder))?;
        ids.extend(entry.file_name().into_string());
    }
    ids.sort();
    Ok(ids)
}

fn file(cache: &Cache, id: &str) -> PathBuf {
    cache.folder(RUNS).join(id).join("run.json")
}

fn lock_name(id: &str) -> String {
    format!("{RUNS}/{id}")
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Keeps the account of a run.
pub(super) struct Keeper<'a> {
    cache: &'a Cache,
    account: Account,
    written: Instant,
    /// Whether something is known that is not written.
    is_behind: bool,
    paces: BTreeMap<String, Pace>,
    _lock: Option<Lock>,
}

impl<'a> Keeper<'a> {
    /// Begins an account and forgets the oldest ones.
    pub(super) fn begin(cache: &'a Cache, manifest: &str) -> Result<Self, StageError> {
        let process = std::process::id();
        let began = since_1970();
        let folder = cache.folder(RUNS);
        files::create_folder(&folder)?;
        let mut id = format!("{:013}-{process}", began.as_millis());
        while let Err(error) = fs::create_dir(folder.join(&id)) {
            if error.kind() != std::io::ErrorKind::AlreadyExists {
                return Err(FileError::of("create the folder", folder.join(id))(error).into());
            }
            id.push('+');
        }
        let lock = cache.try_lock(&lock_name(&id))?;
        let ids = ids(cache)?;
        for old in ids.iter().take(ids.len().saturating_sub(REMEMBERED)) {
            // One that is alive is not old, however many began after it.
            if cache.try_lock(&lock_name(old))?.is_some() {
                files::remove_folder(&folder.join(old))?;
            }
        }
        let keeper = Self {
            cache,
            account: Account {
                id,
                manifest: manifest.to_owned(),
                state: RunState::Running,
                began: began.as_secs(),
                updated: began.as_secs(),
                process,
                instances: 0,
                executed: 0,
                restored: 0,
                shared: 0,
                blocked: Vec::new(),
                running: Vec::new(),
                failed: Vec::new(),
                finished: Vec::new(),
                error: None,
            },
            written: Instant::now(),
            is_behind: false,
            paces: BTreeMap::new(),
            _lock: lock,
        };
        Ok(keeper)
    }

    /// Takes note of an event.
    pub(super) fn see(&mut self, event: &Event) -> Result<(), FileError> {
        let account = &mut self.account;
        let mut at_once = false;
        match event {
            Event::Started { instances, .. } => {
                account.instances = *instances;
                at_once = true;
            }
            Event::InstanceStarted { instance, kind, reason } => account.running.push(RunningInstance {
                instance: instance.clone(),
                kind: kind.clone(),
                reason: reason.clone(),
                began: since_1970().as_secs(),
                attempt: 1,
                position: None,
                seconds_left: None,
            }),
            Event::InstanceRetried { instance, attempt, .. } => {
                if let Some(running) = account.running.iter_mut().find(|one| one.instance == *instance) {
                    running.attempt = *attempt;
                }
            }
            Event::Progress { instance, position } => {
                if let Some(running) = account.running.iter_mut().find(|one| one.instance == *instance) {
                    let left = self.paces.entry(instance.clone()).or_default().left(position);
                    running.seconds_left = left.map(|left| left.as_secs_f64());
                    running.position = Some(position.clone());
                }
            }
            Event::InstanceFinished { instance, seconds, .. } => {
                self.over(instance);
                self.account.executed += 1;
                self.account.finished.push(FinishedInstance {
                    instance: instance.clone(),
                    seconds: *seconds,
                });
            }
            Event::InstanceRestored { instance } => {
                self.over(instance);
                self.account.restored += 1;
            }
            Event::InstanceShared { .. } => account.shared += 1,
            Event::InstanceBlocked { instance, .. } => account.blocked.push(instance.clone()),
            Event::InstanceFailed {
                instance,
                message,
                help,
                log,
            } => {
                self.over(instance);
                self.account.failed.push(FailedInstance {
                    instance: instance.clone(),
                    message: message.clone(),
                    help: help.clone(),
                    log: log.clone(),
                });
                at_once = true;
            }
            _ => {}
        }
        self.is_behind = true;
        if at_once { self.write() } else { self.tick() }
    }

    /// Writes what is not written yet, if it is time.
    pub(super) fn tick(&mut self) -> Result<(), FileError> {
        if self.is_behind && self.written.elapsed() >= BETWEEN_WRITES {
            self.write()?;
        }
        Ok(())
    }

    fn over(&mut self, instance: &str) {
        self.account.running.retain(|one| one.instance != instance);
        self.paces.remove(instance);
    }

    /// Writes down how the run ended.
    pub(super) fn end(&mut self, ended: &Result<Summary, StageError>) -> Result<(), FileError> {
        self.account.running.clear();
        self.account.state = match ended {
            Ok(summary) if summary.is_success() => RunState::Done,
            Ok(summary) if summary.stopped > 0 && summary.failed == 0 => RunState::Stopped,
            Ok(_) => RunState::Failed,
            Err(error) => {
                self.account.error = Some(error.message.clone());
                RunState::Failed
            }
        };
        if let Ok(summary) = ended {
            self.account.executed = summary.executed;
            self.account.restored = summary.restored;
            self.account.shared = summary.shared;
        }
        self.write()
    }

    fn write(&mut self) -> Result<(), FileError> {
        self.account.updated = since_1970().as_secs();
        self.written = Instant::now();
        self.is_behind = false;
        // Texts and finite numbers have a JSON form.
        let bytes = serde_json::to_vec(&self.account).unwrap_or_default();
        files::write_atomically(&file(self.cache, &self.account.id), &bytes, Durability::Cached)
    }
}
