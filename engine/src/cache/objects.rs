//! Bytes by digest: read-only files that are only ever replaced by the same bytes.

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::digest::Digest;
use crate::files::{self, Durability, FileError};

/// The store of bytes.
pub struct Objects {
    folder: PathBuf,
    /// What this process has seen to be good; each object is verified once.
    verified: Mutex<HashSet<Digest>>,
}

/// The state of an object's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// They are there and have their digest.
    Good,
    /// They are not there, or not as long as they should be.
    Missing,
    /// They are there and have another digest. The file has been removed.
    Damaged,
}

impl Objects {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            verified: Mutex::default(),
        }
    }

    /// Where the bytes with this digest are, whether they exist or not.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let digest = digest.to_string();
        self.folder.join(&digest[..2]).join(&digest[2..])
    }

    /// Whether there is a file of the right length for this digest; its bytes are not read.
    pub fn exists(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    }

    /// Reads the bytes and compares their digest, once per object and process. A damaged file is removed, so that
    /// nobody mistakes it for the real one again.
    pub fn verify(&self, digest: &Digest, size: u64) -> Bytes {
        if !self.exists(digest, size) {
            return Bytes::Missing;
        }
        if self.verified().contains(digest) {
            return Bytes::Good;
        }
        let path = self.path(digest);
        match Digest::of_file(&path) {
            Ok((found, _)) if found == *digest => {
                self.verified().insert(*digest);
                Bytes::Good
            }
            // What cannot be removed is found damaged again; what cannot be read is as good as damaged.
            Ok(_) | Err(_) => {
                let _ = files::remove_file(&path);
                Bytes::Damaged
            }
        }
    }

    /// Takes a finished file into the store: hashed, synced if that is asked for, made read-only and renamed to its place. `path` is gone
    /// afterwards; it must be on the cache's file system, as everything under its staging folder is.
    ///
    /// # Errors
    /// If the file cannot be read, synced or moved.
    pub(crate) fn adopt(&self, path: &Path, durability: Durability) -> Result<(Digest, u64), FileError> {
        let file = File::open(path).map_err(FileError::of("open", path))?;
        let (digest, size) = Digest::of_open_file(&file).map_err(FileError::of("read", path))?;
        durability.apply(&file).map_err(FileError::of("sync", path))?;
        files::set_mode(path, 0o444)?;
        let place = self.path(&digest);
        // Equal bytes that are there already are replaced too: that heals a file that was damaged unseen.
        let folder = place.parent().unwrap_or(&self.folder);
        files::in_folder(folder, || {
            fs::rename(path, &place).map_err(FileError::of("move into the cache", path))
        })?;
        self.verified().insert(digest);
        Ok((digest, size))
    }

    fn verified(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        // A set of digests is right whatever a panicking thread was about to do with it.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Objects) {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::new(folder.path().join("objects"));
        (folder, objects)
    }

    fn adopt(folder: &Path, objects: &Objects, content: &str) -> Digest {
        let path = folder.join("staged");
        fs::write(&path, content).unwrap();
        objects.adopt(&path, Durability::Synced).unwrap().0
    }

    #[test]
    fn bytes_are_moved_in_and_read_only() {
        let (folder, objects) = store();
        let digest = adopt(folder.path(), &objects, "hello");
        assert_eq!(digest, Digest::of(b"hello"));
        assert!(!folder.path().join("staged").exists());
        assert_eq!(fs::read_to_string(objects.path(&digest)).unwrap(), "hello");
        assert!(fs::metadata(objects.path(&digest)).unwrap().permissions().readonly());
        assert_eq!(adopt(folder.path(), &objects, "hello"), digest, "twice is fine");
    }

    #[test]
    fn damage_is_found_by_another_process_and_healed() {
        let (folder, objects) = store();
        let digest = adopt(folder.path(), &objects, "hello");
        files::set_mode(&objects.path(&digest), 0o644).unwrap();
        fs::write(objects.path(&digest), "hallo").unwrap();

        let later = Objects::new(folder.path().join("objects"));
        assert!(later.exists(&digest, 5), "a look at the length does not see it");
        assert_eq!(later.verify(&digest, 5), Bytes::Damaged);
        assert_eq!(later.verify(&digest, 5), Bytes::Missing);
        adopt(folder.path(), &later, "hello");
        assert_eq!(later.verify(&digest, 5), Bytes::Good);
        assert_eq!(
            later.verify(&digest, 4),
            Bytes::Missing,
            "another length is another object"
        );
    }
}
