//! The stat cache: what a file's bytes hash to, known from its metadata alone.
//!
//! (device, inode, size, modification time, change time in ns) → digest. It is kept per host, beside the shared stores, for
//! inodes mean nothing elsewhere. A file that was touched less than two seconds before it was looked at is never
//! entered: it could be written again within the clock's resolution and keep its times.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::digest::Digest;
use crate::files::{self, Durability, FileError};

/// How old a file's times must be before they can be trusted to change with its bytes.
const YOUNGEST: Duration = Duration::from_secs(2);

/// What must not have changed of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    size: u64,
    modified: i128,
    changed: i128,
}

#[derive(Default)]
struct Entries {
    known: HashMap<(u64, u64), (Stamp, Digest)>,
    changed: bool,
}

pub(super) struct StatCache {
    path: PathBuf,
    entries: Mutex<Entries>,
}

impl StatCache {
    /// Reads what earlier runs wrote. Lines that make no sense are dropped: they only cost a hash.
    pub(super) fn load(path: PathBuf) -> Result<Self, FileError> {
        let bytes = files::read_if_exists(&path)?.unwrap_or_default();
        let known = String::from_utf8_lossy(&bytes).lines().filter_map(parse).collect();
        Ok(Self {
            path,
            entries: Mutex::new(Entries { known, changed: false }),
        })
    }

    /// The digest of the file at `path`; `rehash` trusts nothing that is remembered.
    pub(super) fn digest_of(&self, path: &Path, rehash: bool) -> Result<Digest, FileError> {
        let metadata = fs::metadata(path).map_err(FileError::of("read", path))?;
        let (key, stamp) = stamp(&metadata);
        if !rehash
            && let Some((known, digest)) = self.entries().known.get(&key)
            && *known == stamp
        {
            return Ok(*digest);
        }
        let looked = SystemTime::now();
        let (digest, _) = Digest::of_file(path).map_err(FileError::of("read", path))?;
        // Only if the file is still the one that was looked at, and was old enough then.
        let after = fs::metadata(path).map_err(FileError::of("read", path))?;
        if self::stamp(&after) == (key, stamp) && old_enough(stamp, looked) {
            let mut entries = self.entries();
            entries.known.insert(key, (stamp, digest));
            entries.changed = true;
        }
        Ok(digest)
    }

    /// Writes the entries if any are new.
    pub(super) fn save(&self) -> Result<(), FileError> {
        let mut entries = self.entries();
        if !entries.changed {
            return Ok(());
        }
        let mut lines: Vec<_> = entries.known.iter().collect();
        lines.sort_by_key(|(key, _)| **key);
        let mut text = String::new();
        for ((device, inode), (stamp, digest)) in lines {
            let Stamp {
                size,
                modified,
                changed,
            } = stamp;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{device} {inode} {size} {modified} {changed} {digest}");
        }
        files::write_atomically(&self.path, text.as_bytes(), Durability::Cached)?;
        entries.changed = false;
        Ok(())
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // Entries are inserted whole; a panic elsewhere leaves none half-made.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(line: &str) -> Option<((u64, u64), (Stamp, Digest))> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let key = (next()?.parse().ok()?, next()?.parse().ok()?);
    let (size, modified, changed) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    Some((
        key,
        (
            Stamp {
                size,
                modified,
                changed,
            },
            next()?.parse().ok()?,
        ),
    ))
}

/// What identifies a file, its device and inode, and what must not have changed.
pub(crate) fn stamp(metadata: &Metadata) -> ((u64, u64), Stamp) {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let stamp = Stamp {
        size: metadata.len(),
        modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    };
    ((metadata.dev(), metadata.ino()), stamp)
}

fn old_enough(stamp: Stamp, looked: SystemTime) -> bool {
    let since = looked.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i128;
    stamp
        .modified
        .max(stamp.changed)
        .saturating_add(YOUNGEST.as_nanos() as i128)
        <= since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_young_file_is_never_entered() {
        let folder = tempfile::tempdir().unwrap();
        let stat = StatCache::load(folder.path().join("stat")).unwrap();
        let path = folder.path().join("data");
        fs::write(&path, "one").unwrap();
        assert_eq!(stat.digest_of(&path, false).unwrap(), Digest::of(b"one"));
        assert!(stat.entries().known.is_empty());
    }

    #[test]
    fn age_is_counted_from_the_later_of_both_times() {
        let second = 1_000_000_000;
        let looked = UNIX_EPOCH + Duration::from_secs(100);
        let aged = |modified, changed| {
            old_enough(
                Stamp {
                    size: 0,
                    modified,
                    changed,
                },
                looked,
            )
        };
        assert!(aged(98 * second, 98 * second));
        assert!(
            !aged(0, 98 * second + 1),
            "an old modification time can be set by hand, a change time cannot"
        );
        assert!(!aged(98 * second + 1, 0));
    }

    #[test]
    fn what_is_known_is_used_until_the_stamp_differs_or_a_rehash_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        fs::write(&path, "one").unwrap();
        let (key, known) = stamp(&fs::metadata(&path).unwrap());
        let stat = StatCache::load(folder.path().join("stat")).unwrap();
        // A wrong digest on purpose: only so can one see whether it was remembered or hashed.
        stat.entries().known.insert(key, (known, Digest::of(b"remembered")));
        stat.entries().changed = true;
        stat.save().unwrap();

        let stat = StatCache::load(folder.path().join("stat")).unwrap();
        assert_eq!(stat.digest_of(&path, false).unwrap(), Digest::of(b"remembered"));
        assert_eq!(stat.digest_of(&path, true).unwrap(), Digest::of(b"one"));
        fs::write(&path, "two").unwrap();
        assert_eq!(stat.digest_of(&path, false).unwrap(), Digest::of(b"two"));
    }

    #[test]
    fn a_torn_file_costs_a_hash_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("stat"), "1 2 3 4 5\nnonsense\n\u{fffd}").unwrap();
        let stat = StatCache::load(folder.path().join("stat")).unwrap();
        assert!(stat.entries().known.is_empty());
    }
}
