//! What is in a cache: which records there are, what they hold, and what holds nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, DirEntry, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Cache, Record, StepRecord};
use crate::digest::Digest;
use crate::files::{self, FileError};
use crate::fingerprint::Fingerprint;

/// Everything in a cache, as it was when it was looked at.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// The finished instances, by manifest, stage and name.
    pub records: Vec<HeldRecord>,
    pub(super) steps: Vec<HeldStep>,
    /// The bytes that are there, by digest.
    pub(super) objects: HashMap<Digest, u64>,
    /// The logs of instances, those that failed among them.
    pub(super) logs: HashMap<Fingerprint, Kept>,
    /// The half-finished work.
    pub(super) unfinished: HashMap<Fingerprint, Kept>,
    /// Records that cannot be understood; they count as none.
    pub(super) unreadable: Vec<Kept>,
    /// Manifest → the fingerprints that its instances had last.
    latest: BTreeMap<String, HashSet<Fingerprint>>,
}

/// A finished instance in the cache.
#[derive(Clone, Debug, Serialize)]
pub struct HeldRecord {
    /// The manifest that made it.
    pub manifest: String,
    /// The stage.
    pub stage: String,
    /// The instance that ran.
    pub instance: String,
    /// Its stage's kind.
    pub kind: String,
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// How long its artifact is, in bytes.
    pub bytes: u64,
    /// How much of that is not in the cache any more.
    pub missing: u64,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// When it ended, in seconds since 1970.
    pub finished_at: u64,
    /// When a run made or found it last, in seconds since 1970; finding it again within the hour does not count.
    pub last_used: u64,
    /// Whether it is the last that an instance of some manifest had.
    pub latest: bool,
    #[serde(skip)]
    pub(super) files: Vec<(Digest, u64)>,
    #[serde(skip)]
    pub(super) kept: Kept,
}

/// A finished step inside a stage.
#[derive(Clone, Debug)]
pub(super) struct HeldStep {
    pub(super) files: Vec<(Digest, u64)>,
    pub(super) kept: Kept,
}

/// A file or folder of the cache.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    /// When it was written or touched last.
    pub(super) used: SystemTime,
}

/// What takes how much space.
#[derive(Clone, Debug, Serialize)]
pub struct Usage {
    /// The cache's folder.
    pub root: PathBuf,
    /// All of it, in bytes.
    pub bytes: u64,
    /// By kind, the largest first. What two kinds hold is counted at both.
    pub kinds: Vec<KindUsage>,
    /// By manifest, the largest first. What two manifests hold is counted at both.
    pub manifests: Vec<ManifestUsage>,
    /// The steps inside stages.
    pub steps: Share,
    /// Half-finished work.
    pub unfinished: Share,
    /// The logs of instances.
    pub logs: Share,
    /// Bytes that nothing refers to.
    pub unreferenced: Share,
}

/// What the instances of one kind hold.
#[derive(Clone, Debug, Serialize)]
pub struct KindUsage {
    /// The kind.
    pub kind: String,
    /// How many records there are.
    pub records: usize,
    /// How many bytes they hold; what is stored once counts once.
    pub bytes: u64,
}

/// What the instances of one manifest hold: those that it made, and those that it had last.
#[derive(Clone, Debug, Serialize)]
pub struct ManifestUsage {
    /// The manifest.
    pub manifest: String,
    /// How many records there are.
    pub records: usize,
    /// How many bytes they hold; what is stored once counts once.
    pub bytes: u64,
    /// How many of them no other manifest holds.
    pub alone: u64,
}

/// A number of things and their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    /// How many.
    pub count: usize,
    /// How many bytes.
    pub bytes: u64,
}

impl Share {
    pub(super) fn of(sizes: impl Iterator<Item = u64>) -> Self {
        let mut share = Self::default();
        for bytes in sizes {
            share.count += 1;
            share.bytes += bytes;
        }
        share
    }
}

pub(super) fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

impl Cache {
    /// Looks at everything in the cache; the bytes themselves are not read.
    ///
    /// # Errors
    /// If a folder cannot be listed or a record not be read.
    pub fn inventory(&self) -> Result<Inventory, FileError> {
        let mut found = Inventory {
            latest: self.latest()?,
            ..Inventory::default()
        };
        each(&self.folder("objects"), &mut |path, metadata| {
            if let Ok(digest) = name_of(path).parse() {
                found.objects.insert(digest, metadata.len());
            }
            Ok(())
        })?;
        let latest: HashSet<Fingerprint> = found.latest.values().flatten().copied().collect();
        each(&self.folder("records"), &mut |path, metadata| {
            let kept = Kept::new(path, &metadata);
            match files::read_if_exists(path)?.map(|bytes| serde_json::from_slice(&bytes)) {
                Some(Ok(record)) => found
                    .records
                    .push(HeldRecord::new(record, kept, &latest, &found.objects)),
                Some(Err(_)) => found.unreadable.push(kept),
                None => {}
            }
            Ok(())
        })?;
        each(&self.folder("steps"), &mut |path, metadata| {
            let kept = Kept::new(path, &metadata);
            match files::read_if_exists(path)?.map(|bytes| serde_json::from_slice::<StepRecord>(&bytes)) {
                Some(Ok(step)) => found.steps.push(HeldStep {
                    files: step.files.iter().map(|file| (file.digest, file.size)).collect(),
                    kept,
                }),
                Some(Err(_)) => found.unreadable.push(kept),
                None => {}
            }
            Ok(())
        })?;
        each(&self.folder("logs"), &mut |path, metadata| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if let Ok(fingerprint) = name.parse() {
                found.logs.insert(fingerprint, Kept::new(path, &metadata));
            }
            Ok(())
        })?;
        for entry in entries(&self.folder("unfinished"))? {
            let Ok(fingerprint) = entry.file_name().to_string_lossy().parse() else {
                continue;
            };
            let mut whole = Kept {
                path: entry.path(),
                bytes: 0,
                used: UNIX_EPOCH,
            };
            each(&entry.path(), &mut |_, metadata| {
                whole.bytes += metadata.len();
                whole.used = whole.used.max(metadata.modified().unwrap_or(UNIX_EPOCH));
                Ok(())
            })?;
            found.unfinished.insert(fingerprint, whole);
        }
        let key = |held: &HeldRecord| {
            let names = (held.manifest.clone(), held.stage.clone(), held.instance.clone());
            (names, held.finished_at, held.kept.used)
        };
        found.records.sort_by_cached_key(key);
        Ok(found)
    }

    /// Manifest → the fingerprints that its instances had last.
    fn latest(&self) -> Result<BTreeMap<String, HashSet<Fingerprint>>, FileError> {
        let mut latest: BTreeMap<String, HashSet<Fingerprint>> = BTreeMap::new();
        let mut read = |path: &Path, _: Metadata| {
            let (manifest, past) = super::records::read_history(path)?;
            // One without a name was begun by an early version.
            latest
                .entry(manifest.unwrap_or_default())
                .or_default()
                .extend(past.fingerprints());
            Ok(())
        };
        each(&self.folder("history"), &mut read)?;
        Ok(latest)
    }

    /// What takes how much space.
    ///
    /// # Errors
    /// As [`Cache::inventory`].
    pub fn usage(&self) -> Result<Usage, FileError> {
        let inventory = self.inventory()?;
        Ok(inventory.usage(self.root()))
    }
}

impl HeldRecord {
    fn new(record: Record, kept: Kept, latest: &HashSet<Fingerprint>, objects: &HashMap<Digest, u64>) -> Self {
        let files: Vec<(Digest, u64)> = record
            .artifact
            .files
            .iter()
            .map(|file| (file.digest, file.size))
            .collect();
        let gone = files.iter().filter(|(digest, size)| objects.get(digest) != Some(size));
        Self {
            stage: record.instance.split('@').next().unwrap_or_default().to_owned(),
            manifest: record.manifest,
            instance: record.instance,
            kind: record.document.kind.clone(),
            fingerprint: record.fingerprint,
            bytes: record.artifact.files.iter().map(|file| file.size).sum(),
            missing: gone.map(|(_, size)| size).sum(),
            seconds: record.seconds,
            finished_at: record.finished_at,
            last_used: seconds(kept.used),
            latest: latest.contains(&record.fingerprint),
            files,
            kept,
        }
    }
}

impl Kept {
    fn new(path: &Path, metadata: &Metadata) -> Self {
        Self {
            path: path.to_owned(),
            bytes: metadata.len(),
            used: metadata.modified().unwrap_or(UNIX_EPOCH),
        }
    }
}

impl Inventory {
    /// Everything in the cache that gc may take away or leave, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let kept = self
            .logs
            .values()
            .chain(self.unfinished.values())
            .chain(&self.unreadable);
        let kept = kept.chain(self.records.iter().map(|record| &record.kept));
        let kept = kept.chain(self.steps.iter().map(|step| &step.kept));
        self.objects.values().sum::<u64>() + kept.map(|kept| kept.bytes).sum::<u64>()
    }

    /// The manifests that hold a record: the one that made it, and those that had it last.
    fn holders<'a>(&'a self, record: &'a HeldRecord) -> impl Iterator<Item = &'a str> {
        let others = self.latest.iter();
        let others =
            others.filter(|(manifest, last)| **manifest != record.manifest && last.contains(&record.fingerprint));
        std::iter::once(record.manifest.as_str()).chain(others.map(|(manifest, _)| manifest.as_str()))
    }

    fn usage(&self, root: &Path) -> Usage {
        let mut kinds: BTreeMap<&str, (usize, HashSet<Digest>)> = BTreeMap::new();
        let mut manifests: BTreeMap<&str, (usize, HashSet<Digest>)> = BTreeMap::new();
        let mut referenced: HashSet<Digest> = HashSet::new();
        for record in &self.records {
            let digests = || record.files.iter().map(|(digest, _)| *digest);
            let of_kind = kinds.entry(&record.kind).or_default();
            of_kind.0 += 1;
            of_kind.1.extend(digests());
            for manifest in self.holders(record) {
                let of_manifest = manifests.entry(manifest).or_default();
                of_manifest.0 += 1;
                of_manifest.1.extend(digests());
            }
        }
        let mut holders: HashMap<Digest, usize> = HashMap::new();
        for digest in manifests.values().flat_map(|(_, digests)| digests) {
            *holders.entry(*digest).or_default() += 1;
        }
        referenced.extend(holders.keys());
        let of_steps: HashSet<Digest> = self
            .steps
            .iter()
            .flat_map(|step| &step.files)
            .map(|(digest, _)| *digest)
            .collect();
        referenced.extend(&of_steps);
        let size = |digest: &Digest| self.objects.get(digest).copied().unwrap_or(0);
        let mut kinds: Vec<KindUsage> = kinds
            .into_iter()
            .map(|(kind, (records, digests))| KindUsage {
                kind: kind.to_owned(),
                records,
                bytes: digests.iter().map(size).sum(),
            })
            .collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.bytes));
        let mut manifests: Vec<ManifestUsage> = manifests
            .into_iter()
            .map(|(manifest, (records, digests))| ManifestUsage {
                manifest: manifest.to_owned(),
                records,
                bytes: digests.iter().map(size).sum(),
                alone: digests.iter().filter(|digest| holders[digest] == 1).map(size).sum(),
            })
            .collect();
        manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.bytes));
        let unreferenced = self.objects.iter().filter(|(digest, _)| !referenced.contains(digest));
        Usage {
            root: root.to_owned(),
            bytes: self.bytes(),
            kinds,
            manifests,
            steps: Share {
                count: self.steps.len(),
                bytes: of_steps.iter().map(size).sum(),
            },
            unfinished: Share::of(self.unfinished.values().map(|kept| kept.bytes)),
            logs: Share::of(self.logs.values().map(|kept| kept.bytes)),
            unreferenced: Share::of(unreferenced.map(|(_, bytes)| *bytes)),
        }
    }
}

/// `ab/cdef….json` as `abcdef…`: how records and objects are filed.
fn name_of(path: &Path) -> String {
    let folder = path
        .parent()
        .and_then(Path::file_name)
        .unwrap_or_default()
        .to_string_lossy();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    format!("{folder}{stem}")
}

fn entries(folder: &Path) -> Result<Vec<DirEntry>, FileError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.map_err(FileError::of("list", folder))?,
    };
    listed.collect::<Result<_, _>>().map_err(FileError::of("list", folder))
}

/// Looks at every file below `folder`, in no order. One that goes away meanwhile was not there.
fn each(folder: &Path, look: &mut dyn FnMut(&Path, Metadata) -> Result<(), FileError>) -> Result<(), FileError> {
    for entry in entries(folder)? {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => each(&path, look)?,
            Ok(metadata) => look(&path, metadata)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(FileError::of("read", path)(error)),
        }
    }
    Ok(())
}
