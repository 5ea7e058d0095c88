//! Sealed artifacts: what a stage made ([`Artifact`]) and what another reads of it ([`Input`]), part by part.
//!
//! An artifact is a tree of files. The first component of a file's name is its *part*: `train/x.jsonl` belongs to part
//! `train`; `config.json` is a part by itself. A reader declares the parts it reads, and only their digests reach its
//! fingerprint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Separates part digests from digests of bytes: a part can never be mistaken for a file.
const PART_CONTEXT: &str = "nerpipe 2025-11-23 part of an artifact v1";

/// Stands for all parts of an artifact, whatever they are called.
pub const EVERY_PART: &str = "*";

/// Whether `part` is among `parts`.
pub(crate) fn is_among(part: &str, parts: &[String]) -> bool {
    parts.iter().any(|one| one == part || one == EVERY_PART)
}

/// What a stage made, as its record keeps it: names, digests and sizes; no paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The files, sorted by name.
    pub files: Vec<ArtifactFile>,
    /// Second names of files and folders, at the top: name → what it stands for. They are no parts; publishing the whole artifact
    /// makes them relative symbolic links.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
}

/// One file of an [`Artifact`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactFile {
    /// The name in the artifact, with `/`.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

impl ArtifactFile {
    /// The part this file belongs to: the first component of its name.
    pub fn part(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// The name below its part; the part's own name if it is that part.
    pub fn name_in_part(&self) -> &str {
        self.name.split_once('/').map_or(&self.name, |(_, below)| below)
    }
}

impl Artifact {
    /// The artifact of `files`, in any order.
    pub fn new(mut files: Vec<ArtifactFile>) -> Self {
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Self {
            files,
            links: BTreeMap::new(),
        }
    }

    /// Part → digest over the names and digests of its files, in the order of the part's first file.
    ///
    /// ```
    /// use nerpipe_engine::{Artifact, ArtifactFile, Digest};
    ///
    /// let file = |name: &str| ArtifactFile { name: name.to_owned(), digest: Digest::of(b""), size: 0 };
    /// let artifact = Artifact::new(vec![file("train/en.jsonl"), file("train/de.jsonl"), file("labels.json")]);
    /// assert_eq!(artifact.parts().keys().copied().collect::<Vec<_>>(), ["labels.json", "train"]);
    /// ```
    pub fn parts(&self) -> IndexMap<&str, Digest> {
        // Files are sorted by name, so those of a part stand side by side.
        let parts = self.files.chunk_by(|one, next| one.part() == next.part());
        let digest = |files: &[ArtifactFile]| {
            let mut hasher = blake3::Hasher::new_derive_key(PART_CONTEXT);
            for file in files {
                let name = file.name_in_part().as_bytes();
                hasher.update(&(name.len() as u64).to_le_bytes());
                hasher.update(name);
                hasher.update(file.digest.as_bytes());
            }
            Digest::from_bytes(*hasher.finalize().as_bytes())
        };
        parts.map(|files| (files[0].part(), digest(files))).collect()
    }

    /// The files of `part`, sorted by name.
    pub fn files_of<'a>(&'a self, part: &'a str) -> impl Iterator<Item = &'a ArtifactFile> {
        self.files.iter().filter(move |file| file.part() == part)
    }

    /// The length of all files together, in bytes.
    pub fn size(&self) -> u64 {
        self.files.iter().map(|file| file.size).sum()
    }

    /// The parts named in `parts` as an input, their bytes found by `locate`. Parts that do not exist are left out.
    pub fn open(&self, parts: Option<&[String]>, locate: impl Fn(&Digest) -> PathBuf) -> Input {
        let mut input = Input::default();
        for (name, digest) in self.parts() {
            if parts.is_some_and(|parts| !is_among(name, parts)) {
                continue;
            }
            let files = self.files_of(name).map(|file| PartFile {
                name: file.name_in_part().to_owned(),
                digest: file.digest,
                size: file.size,
                path: locate(&file.digest),
            });
            let part = Part {
                name: name.to_owned(),
                digest,
                is_folder: self.files_of(name).any(|file| file.name != name),
                files: files.collect(),
            };
            input.parts.insert(name.to_owned(), part);
        }
        input
    }
}

/// One file of a part. `path` points into the object store and is read-only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The part's name, such as `train` or `weights`.
    pub name: String,
    /// The digest over the names and digests of its files.
    pub digest: Digest,
    /// Whether it is a folder of files rather than one file.
    pub is_folder: bool,
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// The parts by name.
    pub parts: IndexMap<String, Part>,
}

impl Input {
    /// The part called `name`, if it was declared as read and exists.
    pub fn part(&self, name: &str) -> Option<&Part> {
        self.parts.get(name)
    }

    /// The file with this name in the artifact, such as `config.json` or `train/x.jsonl`.
    pub fn file(&self, name: &str) -> Option<&PartFile> {
        match name.split_once('/') {
            Some((part, below)) => self.part(part)?.file(below),
            None => self.part(name)?.file(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &str) -> ArtifactFile {
        ArtifactFile {
            name: name.to_owned(),
            digest: Digest::of(content.as_bytes()),
            size: content.len() as u64,
        }
    }

    #[test]
    fn a_part_is_the_first_component_and_its_digest_covers_names_and_bytes() {
        let artifact = Artifact::new(vec![
            file("train/b", "2"),
            file("config.json", "{}"),
            file("train/a", "1"),
        ]);
        let parts = artifact.parts();
        assert_eq!(parts.keys().copied().collect::<Vec<_>>(), ["config.json", "train"]);
        assert_ne!(parts["config.json"], Digest::of(b"{}"), "a part is not its bytes");

        let renamed = Artifact::new(vec![
            file("train/b", "1"),
            file("config.json", "{}"),
            file("train/a", "2"),
        ]);
        assert_ne!(renamed.parts()["train"], parts["train"]);
        assert_eq!(renamed.parts()["config.json"], parts["config.json"]);
    }

    #[test]
    fn an_input_holds_what_was_declared() {
        let artifact = Artifact::new(vec![
            file("train/a", "1"),
            file("test/a", "2"),
            file("tokenizer.json", "3"),
        ]);
        let read = ["test".to_owned(), "tokenizer.json".to_owned()];
        let input = artifact.open(Some(&read), |digest| PathBuf::from(digest.to_string()));
        assert!(input.part("train").is_none());
        assert_eq!(input.file("test/a").unwrap().digest, Digest::of(b"2"));
        assert_eq!(input.file("tokenizer.json").unwrap().digest, Digest::of(b"3"));
    }
}
