//! [`ModelFiles`]: the weights of a model, which may lie in one file or in several.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use nerpipe_engine::StageError;
use nerpipe_engine::context::InputFile;
use serde::Deserialize;

use super::{Entry, TensorFile};

/// What the weights of a model are called, in the order in which they are looked for: Hugging Face's names, then those of
/// the reference's checkpoints.
pub const WEIGHT_FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.pt",
    "model.bin",
];

/// How the name of an index of shards ends.
const INDEX: &str = ".index.json";

/// All tensors of a model: those of one file, or of the shards that an index names.
pub struct ModelFiles {
    /// The file that was found: the weights themselves, or the index.
    name: String,
    files: Vec<TensorFile>,
}

/// The index of weights in several files.
#[derive(Deserialize)]
struct Index {
    /// Tensor → file.
    weight_map: BTreeMap<String, String>,
}

impl ModelFiles {
    /// Opens the first of [`WEIGHT_FILES`] that is among `files`; `None` if none is.
    ///
    /// # Errors
    /// If it cannot be read, or a shard or one of its tensors is missing.
    pub fn find(files: &[InputFile]) -> Result<Option<Self>, StageError> {
        let find = |name: &str| files.iter().find(|file| file.name == name);
        let Some(found) = WEIGHT_FILES.iter().find_map(|name| find(name)) else {
            return Ok(None);
        };
        let names = if found.name.ends_with(INDEX) {
            let shown = found.path.display();
            let unusable = |reason: String| StageError::new(format!("the index `{shown}` cannot be used: {reason}"));
            let bytes = std::fs::read(&found.path).map_err(|error| unusable(error.to_string()))?;
            let index: Index = serde_json::from_slice(&bytes).map_err(|error| unusable(error.to_string()))?;
            if index.weight_map.is_empty() {
                return Err(unusable("it names no tensor".to_owned()));
            }
            Some(index.weight_map)
        } else {
            None
        };
        let files = match names {
            None => vec![TensorFile::open(&found.path)?],
            Some(map) => shards(&map, &found.path, find)?,
        };
        Ok(Some(Self {
            name: found.name.clone(),
            files,
        }))
    }

    /// The name of the file that was found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Every tensor with the file that holds it, ordered by name.
    pub fn tensors(&self) -> Vec<(&TensorFile, &Entry)> {
        let mut all: Vec<(&TensorFile, &Entry)> = self
            .files
            .iter()
            .flat_map(|file| file.entries().iter().map(move |entry| (file, entry)))
            .collect();
        all.sort_by(|a, b| a.1.name.cmp(&b.1.name));
        all
    }
}

/// Opens the shards of an index, and checks that each holds what the index says.
fn shards<'a>(
    map: &BTreeMap<String, String>,
    index: &Path,
    find: impl Fn(&str) -> Option<&'a InputFile>,
) -> Result<Vec<TensorFile>, StageError> {
    let index = index.display();
    let mut names: Vec<&String> = map.values().collect();
    names.sort_unstable();
    names.dedup();
    let missing: Vec<String> = names
        .iter()
        .filter(|name| find(name).is_none())
        .map(|name| format!("`{name}`"))
        .collect();
    if !missing.is_empty() {
        return Err(StageError::new(format!(
            "`{index}` names files that are not there: {}",
            missing.join(", ")
        ))
        .help("a download that was interrupted looks like this; fetch the missing files"));
    }
    let mut files = Vec::with_capacity(names.len());
    let mut holders: HashMap<String, &String> = HashMap::new();
    for name in names {
        let Some(file) = find(name) else { continue };
        let file = TensorFile::open(&file.path)?;
        for entry in file.entries() {
            if let Some(other) = holders.insert(entry.name.clone(), name) {
                return Err(StageError::new(format!(
                    "the tensor `{}` is in `{other}` and in `{name}`, beside `{index}`",
                    entry.name
                )));
            }
        }
        files.push(file);
    }
    match map.iter().find(|(tensor, file)| holders.get(*tensor) != Some(file)) {
        None => Ok(files),
        Some((tensor, file)) => Err(StageError::new(format!(
            "`{index}` says that `{file}` holds the tensor `{tensor}`, which it does not"
        ))
        .help("the files are of different models or versions; fetch all of them again")),
    }
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::Digest;

    use super::*;
    use crate::model::HostTensor;
    use crate::tensors::write_safetensors;

    fn tensor(name: &str, value: f32) -> HostTensor {
        HostTensor {
            name: name.to_owned(),
            shape: vec![1],
            data: vec![value],
        }
    }

    /// The files of a folder, as a stage sees them.
    fn files(folder: &Path) -> Vec<InputFile> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let file = |path: std::path::PathBuf| InputFile {
            name: path.file_name().expect("a name").to_string_lossy().into_owned(),
            digest: Digest::of(b""),
            path,
        };
        entries.map(|entry| file(entry.expect("an entry").path())).collect()
    }

    fn found(folder: &Path) -> Result<Vec<(String, Vec<f32>)>, StageError> {
        let found = ModelFiles::find(&files(folder))?.expect("weights");
        let tensors = found.tensors();
        Ok(tensors
            .into_iter()
            .map(|(file, entry)| (entry.name.clone(), file.floats(entry).expect("floats")))
            .collect())
    }

    #[test]
    fn shards_are_one_model_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        assert!(ModelFiles::find(&files(folder)).expect("nothing").is_none());
        let path = |name: &str| folder.join(name);
        let index = |text: &str| std::fs::write(path("model.safetensors.index.json"), text).expect("written");
        write_safetensors(&path("one.safetensors"), &[tensor("b", 2.0)]).expect("written");
        write_safetensors(&path("two.safetensors"), &[tensor("a", 1.0), tensor("c", 3.0)]).expect("written");
        index(
            r#"{"metadata": {"total_size": 12}, "weight_map": {"a": "two.safetensors", "b": "one.safetensors", "c": "two.safetensors"}}"#,
        );
        let all = [("a", 1.0), ("b", 2.0), ("c", 3.0)].map(|(name, value)| (name.to_owned(), vec![value]));
        assert_eq!(found(folder).expect("read"), all);

        let said = |text: &str| {
            index(text);
            found(folder).expect_err(text).message
        };
        assert!(said(r#"{"weight_map": {"a": "three.safetensors"}}"#).contains("not there: `three.safetensors`"));
        assert!(said(r#"{"weight_map": {"a": "one.safetensors"}}"#).contains("`one.safetensors` holds the tensor `a`"));
        assert!(said(r#"{"weight_map": {}}"#).contains("names no tensor"));
        assert!(said("[").contains("cannot be used"));
        write_safetensors(&path("one.safetensors"), &[tensor("a", 2.0)]).expect("written");
        assert!(
            said(r#"{"weight_map": {"a": "two.safetensors", "d": "one.safetensors"}}"#).contains("`a` is in"),
            "twice"
        );

        // One whole file goes before an index.
        write_safetensors(&path("model.safetensors"), &[tensor("a", 5.0)]).expect("written");
        assert_eq!(found(folder).expect("read"), [("a".to_owned(), vec![5.0])]);
    }
}
