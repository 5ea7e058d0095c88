//! Models by their names, such as `google-bert/bert-base-uncased`: where their files are on this machine, and how they get there.
//!
//! A name is looked up in the cache that Hugging Face's own libraries keep, so what they downloaded is found here and the other way
//! round:
//!
//! ```text
//! models--google-bert--bert-base-uncased/
//!   refs/main                      the commit that the branch was at
//!   snapshots/<commit>/config.json links into blobs
//!   blobs/<etag>                   the bytes; <etag>.incomplete while they arrive
//! ```
//!
//! What is not there is downloaded, if the feature `download` is built in and nobody forbids it: resumed where it broke off, and
//! checked against the hub's own checksum. The commit is entered in a [`Lock`] file, and from then on that commit is meant. The
//! variables `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE` mean what they mean there.

#[cfg(feature = "download")]
mod download;
mod environment;
mod lock;
mod name;

use std::fs;
use std::path::{Path, PathBuf};

pub use environment::Environment;
pub use lock::Lock;
pub use name::Name;

/// Why a model could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HubError {
    /// What is wrong, a lower-case fragment.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl HubError {
    fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn file(action: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(format!("failed to {action} `{}`: {error}", path.display()))
    }
}

/// How far a download has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The file that is on its way.
    pub file: &'a str,
    /// Bytes that are here.
    pub done: u64,
    /// Bytes in all, if the hub says so.
    pub total: Option<u64>,
}

/// Whether what is missing may be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetch {
    /// Nothing is downloaded.
    Never,
    /// What is missing is downloaded.
    Missing,
}

/// Finds models.
pub struct Hub {
    environment: Environment,
    lock: Lock,
    fetch: Fetch,
    tell: Box<dyn Fn(Progress<'_>) + Send + Sync>,
}

/// The files that make up a model for us, besides its weights.
#[cfg_attr(
    not(feature = "download"),
    expect(dead_code, reason = "only a download chooses among files")
)]
const FILES: [&str; 9] = [
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
];
/// Weights, the best first: one file, or the list of several.
const WEIGHTS: [&str; 4] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// What every model has.
const CONFIG: &str = "config.json";

impl Hub {
    /// A hub as the environment says; commits are pinned in `lock`. `tell` hears how downloads go on.
    pub fn new(
        environment: Environment,
        lock: Lock,
        fetch: Fetch,
        tell: impl Fn(Progress<'_>) + Send + Sync + 'static,
    ) -> Self {
        Self {
            environment,
            lock,
            fetch,
            tell: Box::new(tell),
        }
    }

    /// The folder that holds the files of the model called `text`; none if that is no model's name.
    ///
    /// # Errors
    /// If the model is not on this machine and cannot be downloaded, or the lock file or cache cannot be used.
    pub fn locate(&self, text: &str) -> Result<Option<PathBuf>, HubError> {
        let Some(name) = Name::parse(text) else { return Ok(None) };
        let pinned = match &name.revision {
            Some(revision) => Some(revision.clone()),
            None => self.lock.revision(&name.repository)?,
        };
        let revision = pinned.clone().unwrap_or_else(|| "main".to_owned());
        let folder = self.environment.cache.join(name.folder());
        if let Some((commit, snapshot)) = snapshot(&folder, &revision)?.filter(|(_, snapshot)| is_whole(snapshot)) {
            self.pin(&name, &commit)?;
            return Ok(Some(snapshot));
        }
        self.fetch(&name, &revision, &folder, pinned.is_some()).map(Some)
    }

    /// Enters the commit, so that it is the one from now on. Who may not download decides nothing.
    fn pin(&self, name: &Name, commit: &str) -> Result<(), HubError> {
        if self.fetch == Fetch::Missing && name.revision.is_none() && name::is_commit(commit) {
            self.lock.pin(&name.repository, commit)?;
        }
        Ok(())
    }

    fn fetch(&self, name: &Name, revision: &str, folder: &Path, pinned: bool) -> Result<PathBuf, HubError> {
        let which = if pinned {
            format!(" at revision {revision}")
        } else {
            String::new()
        };
        let missing = |why: &str, help: String| {
            HubError::new(format!(
                "`{}`{which} is no directory here and not in the Hugging Face cache (`{}`), {why}",
                name.repository,
                folder.join("snapshots").display()
            ))
            .help(help)
        };
        let copy = format!(
            "copy the model into a directory and name that, or put it into the cache with `huggingface-cli download {}`",
            name.repository
        );
        if self.environment.offline {
            return Err(missing("and `HF_HUB_OFFLINE` forbids to download it", copy));
        }
        if self.fetch == Fetch::Never {
            return Err(missing("and only `run` downloads", "`nerpipe run` gets it".to_owned()));
        }
        self.download(name, revision, folder).unwrap_or_else(|| {
            Err(missing(
                "and this program was built without downloads (the feature `hub`)",
                copy,
            ))
        })
    }

    /// Downloads what is missing; none without the feature.
    #[cfg(feature = "download")]
    fn download(&self, name: &Name, revision: &str, folder: &Path) -> Option<Result<PathBuf, HubError>> {
        let downloaded = download::download(&self.environment, &*self.tell, name, revision, folder);
        Some(downloaded.and_then(|(commit, snapshot)| {
            self.pin(name, &commit)?;
            Ok(snapshot)
        }))
    }

    #[cfg(not(feature = "download"))]
    fn download(&self, _: &Name, _: &str, _: &Path) -> Option<Result<PathBuf, HubError>> {
        let _ = &self.tell;
        None
    }
}

/// The commit that a revision stands for, and its folder, if that is in the cache.
fn snapshot(folder: &Path, revision: &str) -> Result<Option<(String, PathBuf)>, HubError> {
    let reference = folder.join("refs").join(revision);
    let commit = match fs::read_to_string(&reference) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(),
    };
    let snapshot = folder.join("snapshots").join(&commit);
    Ok(snapshot.is_dir().then_some((commit, snapshot)))
}

/// Whether a snapshot has a configuration, and weights that are all there.
fn is_whole(snapshot: &Path) -> bool {
    let has = |file: &str| snapshot.join(file).is_file();
    has(CONFIG)
        && WEIGHTS.iter().any(|weights| {
            has(weights)
                && (!weights.ends_with(".index.json") || shards(&snapshot.join(weights)).iter().all(|shard| has(shard)))
        })
}

/// The files that a list of weights names.
fn shards(index: &Path) -> Vec<String> {
    let index: serde_json::Value = fs::read(index)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let files = index["weight_map"].as_object().into_iter().flatten();
    let mut files: Vec<String> = files.filter_map(|(_, file)| file.as_str().map(str::to_owned)).collect();
    files.sort();
    files.dedup();
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub(cache: &Path, fetch: Fetch, offline: bool) -> Hub {
        let environment = Environment {
            cache: cache.to_owned(),
            // Nobody listens there.
            endpoint: "http://127.0.0.1:9".to_owned(),
            token: None,
            offline,
        };
        Hub::new(environment, Lock::at(cache.join("nerpipe.lock")), fetch, |_| {})
    }

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn put(cache: &Path, commit: &str, files: &[(&str, &str)]) {
        let folder = cache.join("models--owner--small");
        for (file, text) in files {
            let path = folder.join("snapshots").join(commit).join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }
        fs::create_dir_all(folder.join("refs")).expect("created");
        fs::write(folder.join("refs/main"), commit).expect("written");
    }

    #[test]
    fn the_cache_of_hugging_face_is_read_and_the_commit_pinned() {
        let cache = tempfile::tempdir().expect("a folder");
        put(
            cache.path(),
            COMMIT,
            &[("config.json", "{}"), ("model.safetensors", "w")],
        );
        let hub = hub(cache.path(), Fetch::Missing, true);
        let found = hub.locate("owner/small").expect("found").expect("a name");
        assert!(
            found.ends_with(format!("models--owner--small/snapshots/{COMMIT}")),
            "{found:?}"
        );
        // The branch moves on; what was pinned stays.
        let later = COMMIT.replace('0', "f");
        put(
            cache.path(),
            &later,
            &[("config.json", "{}"), ("pytorch_model.bin", "w")],
        );
        assert_eq!(hub.locate("owner/small").expect("found"), Some(found));
        let asked = hub
            .locate(&format!("owner/small@{later}"))
            .expect("found")
            .expect("a name");
        assert!(asked.ends_with(&later), "{asked:?}");
        assert_eq!(hub.locate("./owner/small").expect("no name"), None);
    }

    #[test]
    fn a_list_of_weights_needs_all_of_them() {
        let cache = tempfile::tempdir().expect("a folder");
        let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
        let files = [
            ("config.json", "{}"),
            ("model.safetensors.index.json", index),
            ("model-1.safetensors", "w"),
        ];
        put(cache.path(), COMMIT, &files);
        let hub = hub(cache.path(), Fetch::Never, false);
        assert!(hub.locate("owner/small").is_err());
        put(cache.path(), COMMIT, &[("model-2.safetensors", "w")]);
        assert!(hub.locate("owner/small").expect("found").is_some());
        assert!(
            !cache.path().join("nerpipe.lock").exists(),
            "who may not download pins nothing"
        );
    }

    #[test]
    fn what_is_missing_is_told_with_where_it_was_looked_for() {
        let cache = tempfile::tempdir().expect("a folder");
        for (fetch, offline, why) in [
            (Fetch::Missing, true, "`HF_HUB_OFFLINE` forbids"),
            (Fetch::Never, false, "only `run` downloads"),
        ] {
            let error = hub(cache.path(), fetch, offline)
                .locate("owner/small")
                .expect_err("missing");
            assert!(error.message.contains("models--owner--small/snapshots"), "{error}");
            assert!(error.message.contains(why), "{error}");
            assert!(error.help.is_some());
        }
    }
}
