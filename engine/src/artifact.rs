//! What a stage reads: sealed artifacts of earlier stages, part by part.

use std::path::PathBuf;

use indexmap::IndexMap;

use crate::digest::Digest;

/// One file of a part. `path` points into the object store and is read-only.
#[derive(Clone, Debug)]
pub struct PartFile {
    /// The name below the part, with `/`; equal to the part's own name for a part that is one file.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Where the bytes are.
    pub path: PathBuf,
}

/// A named part of an artifact: one file or a tree of files, sorted by name.
#[derive(Clone, Debug)]
pub struct Part {
    /// The part's name, such as `train` or `weights`.
    pub name: String,
    /// The digest over the names and digests of its files.
    pub digest: Digest,
    /// The files, sorted by name.
    pub files: Vec<PartFile>,
}

impl Part {
    /// The file called `name` below this part.
    pub fn file(&self, name: &str) -> Option<&PartFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// One input artifact, as much of it as the reading stage declared.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The parts by name.
    pub parts: IndexMap<String, Part>,
}

impl Input {
    /// The part called `name`, if it was declared as read and exists.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.get(name)
    }
}
