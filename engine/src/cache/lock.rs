//! Locks between threads and processes that share a cache: one piece of work is done by one of them.
//!
//! All locks are bytes of one file, each name's at an offset of its own: the operating system lets them go if the process
//! dies, and nothing has to be cleaned up. (A file for each lock would be made and removed for each instance, and a file
//! system may become slow where that happens: ext4 looks past every recently removed file before it makes another.)

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::Cache;
use crate::digest::Digest;
use crate::files::{self, FileError};
use crate::kind::StageError;
use crate::process;

/// The longest pause between two tries: short beside any work worth waiting for.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// The locks of one open cache.
pub(super) struct Locks {
    path: PathBuf,
    file: File,
    /// What this process holds: to the operating system all its threads are one.
    held: Mutex<HashSet<u64>>,
    freed: Condvar,
}

impl Locks {
    pub(super) fn open(path: PathBuf) -> Result<Self, FileError> {
        Ok(Self {
            file: files::open_for_append(&path)?,
            path,
            held: Mutex::default(),
            freed: Condvar::new(),
        })
    }

    fn held(&self) -> MutexGuard<'_, HashSet<u64>> {
        // Offsets are inserted and removed whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A lock that is held until it is dropped, or the process dies.
pub struct Lock {
    locks: Arc<Locks>,
    at: u64,
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Unlocking a byte that is held cannot fail; if it does all the same, the process's end unlocks it.
        let _ = process::unlock_byte(&self.locks.file, self.at);
        self.locks.held().remove(&self.at);
        self.locks.freed.notify_all();
    }
}

/// The byte that stands for `name`: far more offsets than there will ever be names in use.
fn offset(name: &str) -> u64 {
    let digest = Digest::of(name.as_bytes());
    let first: [u8; 8] = std::array::from_fn(|at| digest.as_bytes()[at]);
    u64::from_le_bytes(first) >> 2
}

impl Cache {
    /// Takes the lock on `name`; none if another holds it.
    pub(crate) fn try_lock(&self, name: &str) -> Result<Option<Lock>, FileError> {
        let locks = self.locks();
        let at = offset(name);
        let mut held = locks.held();
        if held.contains(&at) || !process::lock_byte(&locks.file, at).map_err(FileError::of("lock", &locks.path))? {
            return Ok(None);
        }
        held.insert(at);
        Ok(Some(Lock {
            locks: Arc::clone(locks),
            at,
        }))
    }

    /// Waits until nobody else works on `name`, then holds it. `waiting` is called once if there is a wait.
    ///
    /// # Errors
    /// If nothing can be locked in the cache, or with a cancelled error if the run is told to stop meanwhile.
    pub(crate) fn lock(&self, name: &str, cancel: &AtomicBool, waiting: impl FnOnce()) -> Result<Lock, StageError> {
        if let Some(lock) = self.try_lock(name)? {
            return Ok(lock);
        }
        waiting();
        let locks = self.locks();
        let mut pause = Duration::from_millis(1);
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(StageError::cancelled());
            }
            // A thread of this process wakes us up; another process does not, so we look.
            drop(locks.freed.wait_timeout(locks.held(), pause));
            if let Some(lock) = self.try_lock(name)? {
                return Ok(lock);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A place for unfinished files that belongs to this run. Those of runs that died are removed on the way.
    pub(crate) fn staging(&self) -> Result<Staging, FileError> {
        let folder = self.folder("staging");
        // Making a folder and locking it are two steps; whoever sweeps must not come between them.
        let guard = loop {
            match self.try_lock("staging")? {
                Some(lock) => break lock,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        self.sweep_staging()?;
        let made = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&folder)
            .map_err(FileError::of("create a folder in", &folder))?
            .keep();
        let held = self.try_lock(&lock_name(&made))?;
        drop(guard);
        Ok(Staging {
            folder: made,
            _held: held,
            free: Mutex::default(),
        })
    }

    /// Removes what runs that died left in the staging folder. Returns whether no living run is left. To be called with the
    /// lock `staging` held.
    pub(super) fn sweep_staging(&self) -> Result<bool, FileError> {
        let folder = self.folder("staging");
        let mut none_lives = true;
        for entry in fs::read_dir(&folder).map_err(FileError::of("list", &folder))? {
            let path = entry.map_err(FileError::of("list", &folder))?.path();
            if !path.is_dir() {
                continue;
            }
            match self.try_lock(&lock_name(&path))? {
                Some(_dead) => files::remove_folder(&path)?,
                None => none_lives = false,
            }
        }
        Ok(none_lives)
    }
}

/// The lock that the owner of a folder in `staging` holds.
fn lock_name(folder: &Path) -> String {
    format!("staging/{}", folder.file_name().unwrap_or_default().to_string_lossy())
}

/// A run's own place for unfinished files; removed when dropped, or by the next run if this one dies.
pub(crate) struct Staging {
    folder: PathBuf,
    _held: Option<Lock>,
    /// How many folders were made, and the numbers of those that nobody uses.
    free: Mutex<(usize, Vec<usize>)>,
}

impl Staging {
    /// An empty folder for one execution. Folders are used again and again: making and removing one each time is what ext4
    /// is slow at.
    pub(crate) fn take(&self) -> Result<StagingFolder<'_>, FileError> {
        let number = {
            let mut free = self.free();
            free.1.pop().unwrap_or_else(|| {
                free.0 += 1;
                free.0
            })
        };
        let path = self.folder.join(number.to_string());
        files::create_folder(&path.join(OUT))?;
        Ok(StagingFolder {
            staging: self,
            number,
            path,
        })
    }

    fn free(&self) -> MutexGuard<'_, (usize, Vec<usize>)> {
        // Numbers are taken and put back whole.
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = files::remove_folder(&self.folder);
    }
}

/// The one entry of an empty staging folder: the empty folder that an artifact's files are written to.
pub(crate) const OUT: &str = "out";

/// A folder that belongs to one execution until it is dropped.
pub(crate) struct StagingFolder<'a> {
    staging: &'a Staging,
    number: usize,
    path: PathBuf,
}

impl StagingFolder<'_> {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StagingFolder<'_> {
    fn drop(&mut self) {
        // One that cannot be emptied is not used again, and goes with the run.
        let emptied = files::empty_folder(&self.path.join(OUT), None).is_ok()
            && files::empty_folder(&self.path, Some(OUT)).is_ok();
        if emptied {
            self.staging.free().1.push(self.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn one_at_a_time_among_threads() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let cancel = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..5 {
                        let lock = cache.lock("work", &cancel, || {}).unwrap();
                        most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        thread::yield_now();
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(lock);
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
        assert!(cache.locks().held().is_empty());
    }

    #[test]
    fn another_process_is_another() {
        let folder = tempfile::tempdir().unwrap();
        // Two openings of one file are as two processes to the operating system.
        let (one, other) = (Cache::open(folder.path()).unwrap(), Cache::open(folder.path()).unwrap());
        let held = one.try_lock("work").unwrap().unwrap();
        assert!(other.try_lock("work").unwrap().is_none());
        assert!(other.try_lock("more").unwrap().is_some());
        drop(held);
        assert!(other.try_lock("work").unwrap().is_some());
    }

    #[test]
    fn who_waits_can_be_told_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let cancel = AtomicBool::new(false);
        let _held = cache.lock("work", &cancel, || {}).unwrap();
        let error = cache
            .lock("work", &cancel, || cancel.store(true, Ordering::Relaxed))
            .unwrap_err();
        assert!(error.is_cancelled());
    }

    #[test]
    fn a_dead_runs_folder_is_swept_and_a_living_ones_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let living = cache.staging().unwrap();
        let dead = cache.folder("staging").join("run-dead");
        fs::create_dir(&dead).unwrap();
        fs::write(dead.join("half"), "x").unwrap();
        let other = cache.staging().unwrap();
        assert!(!dead.exists());
        assert!(living.folder.exists() && other.folder.exists());
        let path = living.folder.clone();
        drop(living);
        assert!(!path.exists());
    }

    #[test]
    fn a_staging_folder_is_used_again_and_is_empty_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(folder.path()).unwrap();
        let staging = cache.staging().unwrap();
        let (one, other) = (staging.take().unwrap(), staging.take().unwrap());
        assert_ne!(one.path(), other.path());
        let path = one.path().to_owned();
        fs::create_dir_all(path.join("out/train")).unwrap();
        fs::write(path.join("out/train/x"), "x").unwrap();
        fs::create_dir(path.join("steps")).unwrap();
        fs::write(path.join("job.json"), "{}").unwrap();
        drop(one);
        let again = staging.take().unwrap();
        assert_eq!(again.path(), path);
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
        assert_eq!(fs::read_dir(path.join("out")).unwrap().count(), 0);
    }
}
