//! The cache: what is known of finished instances, and the bytes they made.
//!
//! Two stores that know nothing of each other: `records` by fingerprint and `objects` by digest. A record is written
//! last, so without it nothing happened; and it outlives its bytes: a record whose objects are gone still says what the
//! digests are, which is all that a stage downstream needs to be judged.
//!
//! ```text
//! cache/
//! ├── CACHEDIR.TAG              backup programs leave the folder out
//! └── v1/                       the format's version
//!     ├── objects/ab/cdef…      bytes by digest, read-only
//!     ├── records/ab/cdef….json instances by fingerprint
//!     ├── steps/ab/cdef….json   steps inside stages by fingerprint
//!     ├── history/….jsonl       which fingerprints a stage of a manifest had: the reason of a rerun is found here
//!     ├── logs/….log            one log per fingerprint
//!     ├── runs/ID/run.json      accounts of the last runs
//!     ├── unfinished/…          half-finished work of an instance, under its fingerprint, until its record exists
//!     ├── secret                the key that values of the environment are hashed with
//!     ├── lock  staging/        who works on what right now, and where
//!     └── hosts/NAME/           what is true on one host only: the stat cache and the ledger of published files
//! ```
//!
//! Several processes may use one cache at the same time.

mod gc;
mod inventory;
mod lock;
mod objects;
mod records;
mod stat;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub use gc::{GcOptions, Swept};
pub use inventory::{HeldRecord, Inventory, KindUsage, ManifestUsage, Share, Usage};
pub use lock::Lock;
pub(crate) use lock::{OUT, Staging};
pub use objects::{Bytes, Objects};
pub use records::{Past, Record, StepCounts};
pub(crate) use records::{Pasts, StepRecord};
pub(crate) use stat::{Stamp, stamp};

use crate::artifact::{Artifact, Input, is_among};
use crate::digest::Digest;
use crate::files::{self, Durability, FileError};
use crate::fingerprint::Fingerprint;
use lock::Locks;
use stat::StatCache;

/// The version of everything below the cache's root. Another format is another folder.
const FORMAT: &str = "v1";

/// The first line that <https://bford.info/cachedir/> asks for, and why it is there.
const TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
# This folder is nerpipe's cache: everything in it can be made again.\n";

/// An open cache. Cheap to clone; clones share what they know.
#[derive(Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

struct Shared {
    root: PathBuf,
    folder: PathBuf,
    host: PathBuf,
    objects: Objects,
    stat: StatCache,
    locks: Arc<Locks>,
    rehash: AtomicBool,
}

impl Cache {
    /// Opens the cache at `root`, making its folders if need be.
    ///
    /// # Errors
    /// If a folder cannot be made.
    pub fn open(root: &Path) -> Result<Self, FileError> {
        files::create_folder(root)?;
        let root = fs::canonicalize(root).map_err(FileError::of("find", root))?;
        let folder = root.join(FORMAT);
        let host = folder.join("hosts").join(host_name());
        for name in [
            "objects",
            "records",
            "steps",
            "history",
            "logs",
            "unfinished",
            "staging",
        ] {
            files::create_folder(&folder.join(name))?;
        }
        files::create_folder(&host)?;
        let tag = root.join("CACHEDIR.TAG");
        if !tag.exists() {
            files::write_atomically(&tag, TAG.as_bytes(), Durability::Cached)?;
        }
        let objects = Objects::new(folder.join("objects"));
        let stat = StatCache::load(host.join("stat"))?;
        let locks = Arc::new(Locks::open(folder.join("lock"))?);
        Ok(Self {
            shared: Arc::new(Shared {
                root,
                folder,
                host,
                objects,
                stat,
                locks,
                rehash: AtomicBool::new(false),
            }),
        })
    }

    /// Whether there is a cache of this format at `root`.
    pub fn is_at(root: &Path) -> bool {
        root.join(FORMAT).is_dir()
    }

    /// From now on, files are hashed even if the stat cache knows them (`--rehash`).
    pub fn rehash(&self) {
        self.shared.rehash.store(true, Ordering::Relaxed);
    }

    /// The folder that was opened, absolute.
    pub fn root(&self) -> &Path {
        &self.shared.root
    }

    /// The store of bytes.
    pub fn objects(&self) -> &Objects {
        &self.shared.objects
    }

    /// The digest of a file outside the cache: remembered if nothing about the file changed, else hashed.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn digest_of(&self, path: &Path) -> Result<Digest, FileError> {
        self.shared
            .stat
            .digest_of(path, self.shared.rehash.load(Ordering::Relaxed))
    }

    /// Writes down what the stat cache learned since it was opened.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_stat(&self) -> Result<(), FileError> {
        self.shared.stat.save()
    }

    /// Where an instance's log is, whether it exists or not.
    pub fn log_path(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.folder("logs").join(format!("{fingerprint}.log"))
    }

    /// The parts of `artifact` named in `parts` (or all), with paths to bytes that have just been verified.
    ///
    /// # Errors
    /// The files whose bytes are missing or damaged, by name.
    pub fn open_artifact(&self, artifact: &Artifact, parts: Option<&[String]>) -> Result<Input, BytesGone> {
        let wanted = |part: &str| parts.is_none_or(|parts| is_among(part, parts));
        let mut gone = BytesGone::default();
        for file in artifact.files.iter().filter(|file| wanted(file.part())) {
            match self.objects().verify(&file.digest, file.size) {
                Bytes::Good => {}
                Bytes::Missing => gone.missing.push(file.name.clone()),
                Bytes::Damaged => gone.damaged.push(file.name.clone()),
            }
        }
        if !gone.missing.is_empty() || !gone.damaged.is_empty() {
            return Err(gone);
        }
        Ok(artifact.open(parts, |digest| self.objects().path(digest)))
    }

    /// Whether the bytes of all files of `artifact` are there with their right lengths; nothing is read.
    pub fn is_complete(&self, artifact: &Artifact) -> bool {
        artifact
            .files
            .iter()
            .all(|file| self.objects().exists(&file.digest, file.size))
    }

    /// The key that values of the environment are hashed with: random, made when it is first asked for, and never shown.
    /// Whoever reads the whole cache can read it too; it protects what leaves the cache, such as explanations.
    pub(crate) fn secret(&self) -> Result<[u8; 32], FileError> {
        let path = self.folder("secret");
        loop {
            if let Some(bytes) = files::read_if_exists(&path)?
                && let Ok(secret) = <[u8; 32]>::try_from(bytes)
            {
                return Ok(secret);
            }
            let mut secret = [0; 32];
            File::open("/dev/urandom")
                .and_then(|mut random| random.read_exact(&mut secret))
                .map_err(FileError::of("read", "/dev/urandom"))?;
            files::write_new(&path, &secret)?;
        }
    }

    fn locks(&self) -> &Arc<Locks> {
        &self.shared.locks
    }

    /// Where half-finished work of an instance is kept until its record exists.
    pub(crate) fn unfinished(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.folder("unfinished").join(fingerprint.to_string())
    }

    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.shared.folder.join(name)
    }

    /// The folder of what is true on this host only.
    pub(crate) fn host(&self) -> &Path {
        &self.shared.host
    }
}

/// Files whose bytes the store no longer has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BytesGone {
    /// Those that are not there, or not as long as they should be.
    pub missing: Vec<String>,
    /// Those whose bytes have another digest.
    pub damaged: Vec<String>,
}

impl std::fmt::Display for BytesGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[String]| match names {
            [one] => format!("`{one}`"),
            [one, rest @ ..] => format!("`{one}` and {} more", rest.len()),
            [] => String::new(),
        };
        match (self.missing.is_empty(), self.damaged.is_empty()) {
            (_, true) => write!(f, "the bytes of {} are gone from the cache", list(&self.missing)),
            (true, _) => write!(f, "the bytes of {} are damaged in the cache", list(&self.damaged)),
            _ => write!(
                f,
                "the bytes of {} are gone from the cache and those of {} damaged",
                list(&self.missing),
                list(&self.damaged)
            ),
        }
    }
}

/// A name for this host that is fit for a folder.
fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.trim().chars().map(fit).collect();
    if name.is_empty() { "host".to_owned() } else { name }
}
