//! [`Lock`]: which commit of each model is meant, in a file `nerpipe.lock` beside the manifest.
//!
//! A branch moves; a result must not change because somebody uploaded something. The file belongs under version control.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::HubError;

/// The lock file; it need not exist yet.
#[derive(Debug)]
pub struct Lock {
    path: PathBuf,
    /// Whoever pins reads, changes and writes the file without anybody between.
    writing: Mutex<()>,
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pins {
    version: u32,
    models: BTreeMap<String, Pin>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    revision: String,
}

const VERSION: u32 = 1;

impl Lock {
    /// The file's usual name.
    pub const FILE: &'static str = "nerpipe.lock";

    /// The lock file at `path`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            writing: Mutex::new(()),
        }
    }

    /// The lock file beside a manifest.
    pub fn beside(manifest: &Path) -> Self {
        Self::at(manifest.with_file_name(Self::FILE))
    }

    /// The commit that is pinned for a model.
    ///
    /// # Errors
    /// If the file is there but cannot be understood.
    pub fn revision(&self, model: &str) -> Result<Option<String>, HubError> {
        Ok(self.read()?.models.remove(model).map(|pin| pin.revision))
    }

    /// Pins a commit. The file is left alone if it says so already.
    ///
    /// # Errors
    /// If the file cannot be read or written.
    pub fn pin(&self, model: &str, commit: &str) -> Result<(), HubError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pins = self.read()?;
        let pin = Pin {
            revision: commit.to_owned(),
        };
        if pins.models.get(model) == Some(&pin) {
            return Ok(());
        }
        pins.version = VERSION;
        pins.models.insert(model.to_owned(), pin);
        let failed = |error: &dyn std::fmt::Display| {
            HubError::new(format!("failed to write `{}`: {error}", self.path.display()))
        };
        let mut text = serde_json::to_string_pretty(&pins).map_err(|error| failed(&error))?;
        text.push('\n');
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut file =
            tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).map_err(|error| failed(&error))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        file.persist(&self.path).map_err(|error| failed(&error.error))?;
        Ok(())
    }

    fn read(&self) -> Result<Pins, HubError> {
        let shown = self.path.display();
        let bytes = match std::fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Pins::default()),
            Err(error) => return Err(HubError::file("read", &self.path, &error)),
        };
        let pins: Pins = serde_json::from_slice(&bytes).map_err(|error| {
            HubError::new(format!("`{shown}` cannot be understood: {error}"))
                .help("remove it to pin anew, or take it from version control again")
        })?;
        if pins.version != VERSION {
            return Err(
                HubError::new(format!("`{shown}` is of version {}, not {VERSION}", pins.version))
                    .help("use the nerpipe that wrote it, or remove it to pin anew"),
            );
        }
        Ok(pins)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_are_kept_and_damage_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = Lock::beside(&folder.path().join("m.yaml"));
        assert_eq!(lock.revision("a/b").expect("no file yet"), None);
        lock.pin("c/d", "2").expect("written");
        lock.pin("a/b", "1").expect("written");
        lock.pin("a/b", "1").expect("unchanged");
        assert_eq!(lock.revision("a/b").expect("read").as_deref(), Some("1"));
        let path = folder.path().join(Lock::FILE);
        let text = std::fs::read_to_string(&path).expect("the file");
        assert!(
            text.starts_with("{\n  \"version\": 1,\n  \"models\": {\n    \"a/b\": {"),
            "{text}"
        );
        std::fs::write(&path, "{").expect("written");
        let error = lock.revision("a/b").expect_err("damaged");
        assert!(error.message.contains("nerpipe.lock"), "{error}");
        std::fs::write(&path, r#"{"version": 2, "models": {}}"#).expect("written");
        assert!(lock.revision("a/b").expect_err("newer").message.contains("version 2"));
    }
}
