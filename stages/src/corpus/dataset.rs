//! Directories that `save_to_disk` of Hugging Face `datasets` leaves: a `Dataset`, or a `DatasetDict` of several.
//!
//! A folder with `dataset_dict.json` is a `DatasetDict` and holds a folder for each split; one with `dataset_info.json` and `state.json`
//! is a `Dataset`. `state.json` says which files belong to it and in which order; others that lie there do not count.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use arrow_schema::Schema;
use serde_json::Value;

use super::read::CorpusError;

/// Lists the splits of a `DatasetDict`.
pub(super) const DICT: &str = "dataset_dict.json";
/// Says what the columns of a `Dataset` are.
pub(super) const INFO: &str = "dataset_info.json";
/// Lists the files of a `Dataset`.
pub(super) const STATE: &str = "state.json";

/// The names of splits that may stand for a part, the first that is there.
fn stand_ins(part: &str) -> Vec<&str> {
    match part {
        "validation" => vec!["validation", "dev"],
        part => vec![part],
    }
}

/// The splits of the `DatasetDict` in `folder`, as its `dataset_dict.json` lists them.
///
/// # Errors
/// If the list cannot be read, or names what is no folder's name.
pub fn splits(folder: &Path) -> Result<Vec<String>, CorpusError> {
    let path = folder.join(DICT);
    let json = read_json(&path)?;
    let wrong = || CorpusError::file(path.display().to_string(), "there is no list `splits` of names");
    let list = json.get("splits").and_then(Value::as_array).ok_or_else(wrong)?;
    let names: Vec<String> = list
        .iter()
        .map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong))
        .collect::<Result<_, _>>()?;
    match names.iter().find(|name| !is_plain(name)) {
        Some(name) => Err(CorpusError::file(
            path.display().to_string(),
            format!("the split {name:?} leads out of the folder"),
        )),
        None => Ok(names),
    }
}

/// The split of the `DatasetDict` in `folder` that makes up `part`: the one of this name; for `validation` also `dev`.
///
/// # Errors
/// If there is none, or its folder is not there.
pub(super) fn split_for(folder: &Path, part: &str) -> Result<String, CorpusError> {
    let splits = splits(folder)?;
    let Some(split) = stand_ins(part)
        .into_iter()
        .find(|name| splits.iter().any(|split| split == name))
    else {
        let there: Vec<String> = splits.iter().map(|split| format!("`{split}`")).collect();
        let reason = format!("the dataset has no split for `{part}`; it has {}", there.join(", "));
        let shown = folder.display();
        return Err(
            CorpusError::file(shown.to_string(), reason).help(format!("name a split's folder, such as `{shown}/NAME`"))
        );
    };
    Ok(split.to_owned())
}

/// The files of the `Dataset` in `folder` in their order, and the names of its classes. `name` is what messages call it.
///
/// # Errors
/// If the folder is not there or incomplete, or its files of JSON cannot be read.
pub(super) fn shards(folder: &Path, name: &str) -> Result<(Vec<PathBuf>, Classes), CorpusError> {
    if !folder.is_dir() {
        return Err(CorpusError::file(name, "the folder of the split is not there").help("copy the dataset again"));
    }
    for file in [STATE, INFO] {
        if !folder.join(file).is_file() {
            return Err(CorpusError::file(name, format!("the dataset has no `{file}`")).help("copy the dataset again"));
        }
    }
    let state = folder.join(STATE);
    let json = read_json(&state)?;
    let shown = state.display().to_string();
    let wrong = || CorpusError::file(&shown, "there is no list `_data_files` of objects with a `filename`");
    let files = json.get("_data_files").and_then(Value::as_array).ok_or_else(wrong)?;
    let mut paths = Vec::with_capacity(files.len());
    for file in files {
        let file = file.get("filename").and_then(Value::as_str).ok_or_else(wrong)?;
        if !is_plain(file) {
            return Err(CorpusError::file(
                &shown,
                format!("the file {file:?} leads out of the folder"),
            ));
        }
        paths.push(folder.join(file));
    }
    if paths.is_empty() {
        return Err(CorpusError::file(
            name,
            "there are no records in the split: `state.json` lists no files",
        ));
    }
    if let Some(missing) = paths.iter().find(|path| !path.exists()) {
        return Err(CorpusError::file(
            missing.display().to_string(),
            "the file is missing, though `state.json` lists it",
        )
        .help("copy the dataset again"));
    }
    let info = read_json(&folder.join(INFO))?;
    Ok((paths, Classes::of_features(info.get("features"))))
}

/// Whether `name` names something right in a folder.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let one = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    one && !name.contains(['/', '\\'])
}

fn read_json(path: &Path) -> Result<Value, CorpusError> {
    let shown = || path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|error| CorpusError::file(shown(), format!("failed to read it: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        CorpusError::file(shown(), format!("the file is not JSON: {error}")).help("copy the dataset again")
    })
}

/// The names of columns' classes.
#[derive(Clone, Debug, Default)]
pub(super) struct Classes(BTreeMap<String, Arc<[String]>>);

impl Classes {
    /// The names that `features` gives, in any of the spellings that `datasets` had.
    fn of_features(features: Option<&Value>) -> Self {
        let columns = features.and_then(Value::as_object).into_iter().flatten();
        Self(
            columns
                .filter_map(|(column, feature)| Some((column.clone(), names(feature)?)))
                .collect(),
        )
    }

    /// The names that the metadata of a file give.
    pub(super) fn of_schema(schema: &Schema) -> Self {
        let json = schema
            .metadata()
            .get("huggingface")
            .and_then(|text| serde_json::from_str::<Value>(text).ok());
        Self::of_features(json.as_ref().and_then(|json| json.get("info")?.get("features")))
    }

    /// These names, and the others where these say nothing.
    pub(super) fn or(&self, others: Self) -> Self {
        let mut all = others;
        all.0.extend(self.0.clone());
        all
    }

    /// The names of the classes of `column`.
    pub(super) fn names(&self, column: &str) -> Option<Arc<[String]>> {
        self.0.get(column).cloned()
    }
}

/// The classes of a feature: of a `ClassLabel`, or of the elements of a list, which was written in three ways.
fn names(feature: &Value) -> Option<Arc<[String]>> {
    match feature {
        Value::Array(one) => names(one.first()?),
        Value::Object(object) if object.get("_type").and_then(Value::as_str) == Some("ClassLabel") => {
            let list = object.get("names")?.as_array()?;
            list.iter().map(|name| name.as_str().map(str::to_owned)).collect()
        }
        Value::Object(object) => names(object.get("feature")?),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::source::{Format, Found, Source, below};
    use super::super::testing::{Read, records};
    use super::super::{CorpusError, Record};

    /// The fixtures that make.py made, which lies beside them.
    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpora").join(name)
    }

    fn read(path: &Path, format: Format) -> Read {
        let source = Source {
            name: "f".to_owned(),
            path: path.to_owned(),
            format,
            ..Source::default()
        };
        records(&source).map(|(records, _)| records)
    }

    fn expected() -> Vec<Record> {
        read(&fixture("records.jsonl"), Format::Jsonl).unwrap()
    }

    fn copy(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
        folder
    }

    #[test]
    fn every_layout_holds_the_same_records() {
        let whole = expected();
        for name in ["dict/train", "legacy", "large"] {
            assert_eq!(read(&fixture(name), Format::Dataset).unwrap(), whole, "{name}");
        }
        for name in ["tags", "classes"] {
            let found = read(&fixture(name), Format::Dataset).unwrap();
            for (found, whole) in found.iter().zip(&whole) {
                assert_eq!(
                    (&found.id, &found.tokens, &found.token_spans),
                    (&whole.id, &whole.tokens, &whole.token_spans)
                );
                assert_eq!(found.text, whole.tokens.join(" "));
            }
            assert_eq!(found.len(), 3);
        }
        let shard = fixture("dict/train/data-00001-of-00002.arrow");
        assert_eq!(read(&shard, Format::of_file(&shard)).unwrap(), whole[2..]);
        for name in ["records.parquet", "records.zstd.parquet"] {
            let found = read(&fixture(name), Format::Parquet);
            if cfg!(feature = "parquet") {
                assert_eq!(found.unwrap(), whole, "{name}");
            } else {
                assert_eq!(found.unwrap_err().reason, "this program was built without Parquet");
            }
        }
    }

    #[test]
    fn a_dict_is_as_many_sources_as_it_has_splits() {
        let found = below(&fixture("dict"), None).unwrap();
        let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
        assert_eq!(names, ["dict/dev.jsonl", "dict/test.jsonl", "dict/train.jsonl"]);
        let files: Vec<usize> = found.iter().map(|found| found.files.len()).collect();
        assert_eq!(files, [3, 3, 4]);
        let of = |place: usize| {
            let Found { source, .. } = &found[place];
            records(source).map(|(records, _)| records)
        };
        let whole = expected();
        assert_eq!(of(0).unwrap(), [whole[1].clone(), whole[0].clone()]);
        assert_eq!(of(1).unwrap_err().reason, "there are no records in the split");
    }

    #[test]
    fn a_split_stands_for_a_part_by_its_name_or_dev_for_validation() {
        let dict = fixture("dict");
        assert_eq!(super::split_for(&dict, "train").unwrap(), "train");
        assert_eq!(super::split_for(&dict, "validation").unwrap(), "dev");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(super::DICT), r#"{"splits": ["train", "a b"]}"#).unwrap();
        let error = super::split_for(folder.path(), "test").unwrap_err();
        assert_eq!(
            error.reason,
            "the dataset has no split for `test`; it has `train`, `a b`"
        );
        for (json, reason) in [
            (r#"{"splits": ["../x"]}"#, "the split \"../x\" leads out of the folder"),
            (r#"{"splits": [""]}"#, "the split \"\" leads out of the folder"),
            (r#"{"splits": [1]}"#, "there is no list `splits` of names"),
            ("[", "the file is not JSON: EOF while parsing a list at line 1 column 1"),
        ] {
            std::fs::write(folder.path().join(super::DICT), json).unwrap();
            assert_eq!(super::splits(folder.path()).unwrap_err().reason, reason);
        }
    }

    #[test]
    fn what_is_not_whole_is_told_by_its_file() {
        let error = |change: &dyn Fn(&Path)| -> CorpusError {
            let folder = copy("dict/train");
            change(folder.path());
            read(folder.path(), Format::Dataset).unwrap_err()
        };
        let gone = |name: &'static str| move |folder: &Path| std::fs::remove_file(folder.join(name)).unwrap();
        assert_eq!(error(&gone("state.json")).reason, "the dataset has no `state.json`");
        assert_eq!(
            error(&gone("dataset_info.json")).reason,
            "the dataset has no `dataset_info.json`"
        );
        let missing = error(&gone("data-00001-of-00002.arrow"));
        assert!(missing.file.ends_with("data-00001-of-00002.arrow"), "{missing}");
        let state = |json: &'static str| move |folder: &Path| std::fs::write(folder.join("state.json"), json).unwrap();
        let escape = error(&state(r#"{"_data_files": [{"filename": "../a"}]}"#));
        assert_eq!(escape.reason, "the file \"../a\" leads out of the folder");
        assert_eq!(
            error(&state(r#"{"_data_files": []}"#)).reason,
            "there are no records in the split: `state.json` lists no files"
        );
        assert!(error(&state("{}")).reason.starts_with("there is no list `_data_files`"));
        let shard = |bytes: &'static [u8]| {
            move |folder: &Path| std::fs::write(folder.join("data-00000-of-00002.arrow"), bytes).unwrap()
        };
        assert_eq!(error(&shard(b"")).reason, "the Arrow file is empty");
        assert_eq!(
            error(&shard(b"{\"text\": 1}")).reason,
            "the file is not an Arrow stream"
        );
        assert_eq!(
            error(&shard(b"ARROW1\0\0...")).reason,
            "the file is in Arrow's file format, where the stream format is needed"
        );
        assert_eq!(
            error(&shard(b"\xff\xff\xff\xff\xff\xff\xff\x7f")).reason,
            "the file is cut off: metadata of 2147483647 bytes is announced, 0 are left"
        );
        assert_eq!(
            error(&shard(b"\xff\xff\xff")).reason,
            "the file ends within the head of a message"
        );
    }

    /// Bytes are changed and files cut at every place that matters: what comes of it is an error or records, never a panic.
    #[test]
    fn damaged_files_never_panic() {
        let path = fixture("large/data-00000-of-00001.arrow");
        let whole = std::fs::read(&path).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let damaged = folder.path().join("d.arrow");
        let (mut errors, mut tried) = (0, 0);
        let mut try_one = |bytes: &[u8]| {
            std::fs::write(&damaged, bytes).unwrap();
            errors += u32::from(read(&damaged, Format::Arrow).is_err());
            tried += 1;
        };
        for place in (0..whole.len()).step_by(3) {
            for value in [0x01, 0xff] {
                let mut bytes = whole.clone();
                bytes[place] = value;
                try_one(&bytes);
            }
        }
        for length in (0..whole.len()).step_by(24) {
            try_one(&whole[..length]);
        }
        println!("{errors} errors of {tried}");
        assert!(errors > 300, "{errors} errors of {tried}");
    }
}
