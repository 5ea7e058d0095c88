//! Copies of artifacts in the project, where people look for them.
//!
//! A target is copied or reflinked, never hard-linked: editing it must not reach into the cache. It appears whole or not at
//! all. It replaces what is there only if nerpipe put it there and nobody changed it since, which a ledger in the cache
//! knows by digest; anything else is refused unless the user says to overwrite. A target that is missing is put back
//! without running anything.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, ArtifactFile};
use crate::cache::{BytesGone, Cache};
use crate::digest::Digest;
use crate::files::{self, FileError, Links};
use crate::graph::{Graph, Publish};
use crate::kind::StageError;
use crate::process;

/// What is at a target now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetState {
    /// What should be there.
    Current,
    /// Nothing.
    Missing,
    /// What nerpipe put there earlier, unchanged.
    Outdated,
    /// Something that may be replaced only if the user says so, and why.
    Foreign(&'static str),
}

/// Why something was not published.
#[derive(Debug)]
pub(crate) enum PublishError {
    /// The bytes must be made again first.
    BytesGone(BytesGone),
    /// It was refused or failed.
    Failed(StageError),
}

impl<E: Into<StageError>> From<E> for PublishError {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Publishes into one project.
pub(crate) struct Publisher<'a> {
    cache: &'a Cache,
    project: PathBuf,
    overwrite: bool,
    ledger: Ledger,
}

impl<'a> Publisher<'a> {
    pub(crate) fn open(cache: &'a Cache, project: &Path, overwrite: bool) -> Result<Self, FileError> {
        let project = fs::canonicalize(project).map_err(FileError::of("find the project", project))?;
        let ledger = Ledger::open(cache, &project)?;
        Ok(Self {
            cache,
            project,
            overwrite,
            ledger,
        })
    }

    /// What is at the target of `publish`, compared with what `artifact` would put there.
    pub(crate) fn state(&self, publish: &Publish, artifact: Option<&Artifact>) -> Result<TargetState, StageError> {
        let target = self.place(publish)?;
        let metadata = match fs::symlink_metadata(&target) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TargetState::Missing),
            Err(error) => return Err(FileError::of("read", target)(error).into()),
        };
        let found = if metadata.is_file() {
            tree_digest([("".to_owned(), self.cache.digest_of(&target)?)])
        } else if metadata.is_dir() {
            let Ok(files) = files::walk(&target, Links::List, |_| true) else {
                return Ok(TargetState::Foreign("holds something that nerpipe did not put there"));
            };
            let mut digests = Vec::with_capacity(files.len());
            for (name, path) in files {
                let digest = match fs::read_link(&path) {
                    Ok(leads_to) => link_digest(leads_to.as_os_str().as_encoded_bytes()),
                    Err(_) => self.cache.digest_of(&path)?,
                };
                digests.push((name, digest));
            }
            tree_digest(digests)
        } else {
            return Ok(TargetState::Foreign("is a link or a special file"));
        };
        if let Some(artifact) = artifact
            && found == wanted_digest(publish, artifact)
        {
            return Ok(TargetState::Current);
        }
        Ok(match self.ledger.digest(&publish.target) {
            Some(ours) if ours == found => TargetState::Outdated,
            Some(_) => TargetState::Foreign("was changed since nerpipe published it"),
            None => TargetState::Foreign("was not put there by nerpipe"),
        })
    }

    /// Brings the target up to date. Returns whether anything was copied.
    pub(crate) fn publish(&self, publish: &Publish, artifact: &Artifact) -> Result<bool, PublishError> {
        let shown = publish.target.display();
        match self.state(publish, Some(artifact))? {
            TargetState::Current => {
                // Equal bytes from elsewhere count as ours from now on, so that a later change replaces them.
                self.enter(publish, artifact)?;
                return Ok(false);
            }
            TargetState::Foreign(why) if !self.overwrite => {
                let error = StageError::new(format!("`{shown}` {why}; it is left as it is"));
                return Err(error
                    .help("move it away, or run with `--overwrite` to replace it")
                    .into());
            }
            TargetState::Missing | TargetState::Outdated | TargetState::Foreign(_) => {}
        }
        let parts = publish.part.as_ref().map(std::slice::from_ref);
        self.cache
            .open_artifact(artifact, parts)
            .map_err(PublishError::BytesGone)?;

        let target = self.place(publish)?;
        let folder = target.parent().unwrap_or(&self.project);
        files::create_folder(folder)?;
        let temporary = tempfile::Builder::new()
            .prefix(".nerpipe-")
            .tempdir_in(folder)
            .map_err(FileError::of("create a folder in", folder))?;
        let new = temporary.path().join("new");
        for (name, file) in wanted(publish, artifact) {
            let path = if name.is_empty() { new.clone() } else { new.join(name) };
            self.copy(file, &path)?;
        }
        if publish.part.is_none() {
            for (name, leads_to) in &artifact.links {
                std::os::unix::fs::symlink(leads_to, new.join(name))
                    .map_err(FileError::of("create the link", &target))?;
            }
        }
        replace(&new, &target, &temporary.path().join("old"))?;
        self.enter(publish, artifact)?;
        Ok(true)
    }

    fn enter(&self, publish: &Publish, artifact: &Artifact) -> Result<(), FileError> {
        self.ledger.enter(&publish.target, wanted_digest(publish, artifact))
    }

    fn copy(&self, file: &ArtifactFile, to: &Path) -> Result<(), FileError> {
        if let Some(folder) = to.parent() {
            files::create_folder(folder)?;
        }
        // On file systems that can, this shares the blocks instead of copying them.
        fs::copy(self.cache.objects().path(&file.digest), to).map_err(FileError::of("write", to))?;
        files::set_mode(to, 0o644)?;
        File::open(to)
            .and_then(|file| file.sync_all())
            .map_err(FileError::of("write", to))
    }

    /// Refuses targets outside the project or among the cache's own files, before anything is run for them.
    pub(crate) fn check(&self, graph: &Graph) -> Result<(), StageError> {
        let mut folders = HashSet::new();
        for publish in graph.instances.iter().flat_map(|instance| &instance.publish) {
            if folders.insert(publish.target.parent()) {
                self.place(publish)?;
            }
        }
        Ok(())
    }

    /// Where the target is, if it lies in the project and not in the cache.
    fn place(&self, publish: &Publish) -> Result<PathBuf, StageError> {
        let refuse = |why: &str| {
            StageError::new(format!("cannot publish to `{}`: {why}", publish.target.display()))
                .help("targets lie in the project, outside the cache")
        };
        let real = real_place(&self.project, &publish.target).map_err(refuse)?;
        // The project may lie in a cache folder's parent, but nothing is published among the cache's own files.
        if real.starts_with(self.cache.root()) {
            return Err(refuse("it is inside the cache"));
        }
        Ok(self.project.join(&publish.target))
    }
}

/// Where a target really is, with links on the way followed. `project` is a path without links.
///
/// # Errors
/// In words, if a link leads out of the project.
pub(crate) fn real_place(project: &Path, target: &Path) -> Result<PathBuf, &'static str> {
    let target = project.join(target);
    let parent = target.parent().ok_or("it has no folder")?;
    let existing = parent.ancestors().find(|folder| fs::symlink_metadata(folder).is_ok());
    let existing = existing.ok_or("it has no folder")?;
    let real = fs::canonicalize(existing).map_err(|_| "a link on the way leads nowhere")?;
    if !real.starts_with(project) {
        return Err("a link on the way leads out of the project");
    }
    Ok(real.join(target.strip_prefix(existing).unwrap_or(&target)))
}

/// (name below the target, file) of everything that belongs to a target; the name is empty if the target is one file.
fn wanted<'a>(publish: &'a Publish, artifact: &'a Artifact) -> impl Iterator<Item = (&'a str, &'a ArtifactFile)> {
    artifact.files.iter().filter_map(|file| match &publish.part {
        None => Some((file.name.as_str(), file)),
        Some(part) if file.name == *part => Some(("", file)),
        Some(part) if file.part() == part => Some((file.name_in_part(), file)),
        Some(_) => None,
    })
}

/// One digest for what should be at a target.
fn wanted_digest(publish: &Publish, artifact: &Artifact) -> Digest {
    let files = wanted(publish, artifact).map(|(name, file)| (name.to_owned(), file.digest));
    let links = artifact.links.iter().filter(|_| publish.part.is_none());
    tree_digest(files.chain(links.map(|(name, leads_to)| (name.clone(), link_digest(leads_to.as_bytes())))))
}

/// What stands for a link among the digests of files.
fn link_digest(leads_to: &[u8]) -> Digest {
    Digest::of(&[b"a link to ", leads_to].concat())
}

/// One digest for what is at a target: the names and digests of its files, sorted by name.
fn tree_digest(files: impl IntoIterator<Item = (String, Digest)>) -> Digest {
    let mut files: Vec<(String, Digest)> = files.into_iter().collect();
    files.sort();
    let mut bytes = Vec::with_capacity(files.len() * 64);
    for (name, digest) in files {
        bytes.extend((name.len() as u64).to_le_bytes());
        bytes.extend(name.as_bytes());
        bytes.extend(digest.as_bytes());
    }
    Digest::of(&bytes)
}

/// Puts `new` at `target` in one step; what was there goes to `old`, in a folder that is about to be removed.
fn replace(new: &Path, target: &Path, old: &Path) -> Result<(), FileError> {
    let plain = match fs::symlink_metadata(target) {
        // A file, or nothing, is replaced by a rename; a folder cannot be.
        Ok(metadata) => !metadata.is_dir() && new.is_file(),
        Err(_) => true,
    };
    if plain {
        return fs::rename(new, target).map_err(FileError::of("replace", target));
    }
    if process::exchange(new, target).is_ok() {
        return Ok(());
    }
    // Where the file system cannot exchange two names, the target is missing for a moment; the next run repairs that.
    fs::rename(target, old).map_err(FileError::of("replace", target))?;
    fs::rename(new, target).map_err(FileError::of("replace", target))
}

/// What nerpipe published into a project from this host: target → [`tree_digest`]. Lines are appended, the last one
/// counts.
struct Ledger {
    path: PathBuf,
    entries: Mutex<HashMap<PathBuf, Digest>>,
}

#[derive(Serialize, Deserialize)]
struct LedgerLine {
    target: PathBuf,
    digest: Digest,
}

impl Ledger {
    fn open(cache: &Cache, project: &Path) -> Result<Self, FileError> {
        let folder = cache.host().join("published");
        files::create_folder(&folder)?;
        let path = folder.join(format!("{}.jsonl", Digest::of(project.as_os_str().as_encoded_bytes())));
        let mut entries = HashMap::new();
        for line in files::read_if_exists(&path)?
            .unwrap_or_default()
            .split(|byte| *byte == b'\n')
        {
            // A torn line makes its target look changed by hand; refusing to replace it is the safe side.
            if let Ok(LedgerLine { target, digest }) = serde_json::from_slice(line) {
                entries.insert(target, digest);
            }
        }
        Ok(Self {
            path,
            entries: Mutex::new(entries),
        })
    }

    fn digest(&self, target: &Path) -> Option<Digest> {
        self.entries().get(target).copied()
    }

    fn enter(&self, target: &Path, digest: Digest) -> Result<(), FileError> {
        let mut entries = self.entries();
        if entries.get(target) == Some(&digest) {
            return Ok(());
        }
        let line = LedgerLine {
            target: target.to_owned(),
            digest,
        };
        let line = serde_json::to_string(&line).map_err(|error| FileError::of("write", &self.path)(error.into()))?;
        let mut file = files::open_for_append(&self.path)?;
        file.write_all(format!("\n{line}\n").as_bytes())
            .map_err(FileError::of("write", &self.path))?;
        entries.insert(target.to_owned(), digest);
        Ok(())
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<PathBuf, Digest>> {
        // Entries are inserted whole.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
