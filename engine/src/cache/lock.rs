//! Locks between threads and processes that share a cache: one piece of work is done by one of them.

use std::fs::{self, File, TryLockError};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Cache;
use crate::files::{self, FileError};
use crate::kind::StageError;

/// The longest pause between two tries: short beside any work worth waiting for.
const LONGEST_PAUSE: Duration = Duration::from_millis(40);

/// A lock that is held until it is dropped. The operating system lets it go if the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while still held: whoever waits for this very file notices that it is no longer the one at this path.
        let _ = fs::remove_file(&self.path);
    }
}

/// Tries to lock the file at `path`; none if another holds it.
pub(super) fn try_lock(path: &Path) -> Result<Option<Lock>, FileError> {
    loop {
        let file = files::open_for_append(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(FileError::of("lock", path)(error)),
        }
        if is_at(&file, path) {
            return Ok(Some(Lock {
                _file: file,
                path: path.to_owned(),
            }));
        }
    }
}

/// Whether the open `file` is still the one that `path` names.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

impl Cache {
    /// Waits until nobody else works on `name`, then holds it. `waiting` is called once if there is a wait.
    ///
    /// # Errors
    /// If the lock's file cannot be made, or with a cancelled error if the run is told to stop meanwhile.
    pub(crate) fn lock(&self, name: &str, cancel: &AtomicBool, waiting: impl FnOnce()) -> Result<Lock, StageError> {
        let path = self.folder("locks").join(name);
        if let Some(lock) = try_lock(&path)? {
            return Ok(lock);
        }
        waiting();
        let mut pause = Duration::from_millis(1);
        loop {
            if cancel.load(Ordering::Relaxed) {
                return Err(StageError::cancelled());
            }
            thread::sleep(pause);
            if let Some(lock) = try_lock(&path)? {
                return Ok(lock);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A fresh folder that belongs to this run. Folders of runs that died are removed on the way.
    pub(crate) fn staging(&self) -> Result<Staging, FileError> {
        let folder = self.folder("staging");
        // Making a folder and locking it are two steps; whoever sweeps must not come between them.
        let door = folder.join("door");
        let guard = loop {
            match try_lock(&door)? {
                Some(lock) => break lock,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        for entry in fs::read_dir(&folder).map_err(FileError::of("list", &folder))? {
            let path = entry.map_err(FileError::of("list", &folder))?.path();
            if path.is_dir() && try_lock(&path.join("lock"))?.is_some() {
                files::remove_folder(&path)?;
            }
        }
        let made = tempfile::Builder::new()
            .prefix("run-")
            .tempdir_in(&folder)
            .map_err(FileError::of("create a folder in", &folder))?
            .keep();
        let held = try_lock(&made.join("lock"))?;
        drop(guard);
        Ok(Staging {
            folder: made,
            _held: held,
        })
    }
}

/// A run's own folder for unfinished files; removed when dropped, or by the next run if this one dies.
pub(crate) struct Staging {
    folder: PathBuf,
    _held: Option<Lock>,
}

impl Staging {
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = files::remove_folder(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn one_at_a_time_among_threads_and_no_files_left() {
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
        assert_eq!(fs::read_dir(cache.folder("locks")).unwrap().count(), 0);
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
        assert!(error.cancelled);
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
        assert!(living.path().exists() && other.path().exists());
        let path = living.path().to_owned();
        drop(living);
        assert!(!path.exists());
    }
}
