//! Expected against found, for every folder of fixtures below `NERPIPE_CORPORA`. What is expected is what the notes beside
//! the fixtures say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::source::{Format, Found, Given, Source, find};
use super::testing::{Read, records};
use super::{Record, Span};

/// The folder of the fixtures; none, with a word about it, if the variable is not set.
pub(super) fn root() -> Option<PathBuf> {
    let root = std::env::var_os("NERPIPE_CORPORA").map(PathBuf::from);
    if root.is_none() {
        println!("skipped: NERPIPE_CORPORA is not set");
    }
    root
}

/// What should come of a part of a dataset.
enum Expected {
    /// The records of `ner/<corpus>/<split>.jsonl`.
    Same(&'static str, &'static str),
    /// Their tokens and entities; there is no text.
    SameTokens(&'static str, &'static str),
    /// So many of them, in another order.
    Some(u64, &'static str, &'static str),
    /// An error that holds these words.
    Error(&'static [&'static str]),
}
use Expected::{Error, Same, SameTokens, Some as SomeOf};

/// Reads `part` of the saved dataset in `folder`, as `load` does.
fn read_part(folder: &Path, part: &str) -> Read {
    let mut files = Vec::new();
    walk(folder, folder, &mut files);
    let given: Vec<Given<'_>> = files.iter().map(|(name, path)| Given { name, path }).collect();
    let found = find(&given, None, Some(part), &|named| named == folder)?;
    let mut all = Vec::new();
    for Found { source, .. } in found {
        all.extend(records(&source)?.0);
    }
    Ok(all)
}

fn walk(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            files.push((name, path));
        }
    }
}

/// The records of a corpus in JSONL.
struct Corpora {
    root: PathBuf,
    known: BTreeMap<(&'static str, &'static str), Vec<Record>>,
}

impl Corpora {
    fn get(&mut self, corpus: &'static str, split: &'static str) -> &[Record] {
        let root = &self.root;
        self.known.entry((corpus, split)).or_insert_with(|| {
            let path = root.join("ner").join(corpus).join(format!("{split}.jsonl"));
            let source = Source {
                name: path.display().to_string(),
                path,
                ..Source::default()
            };
            records(&source).unwrap().0
        })
    }
}

/// Says what was found, and whether it is what was expected.
fn compare(found: &Read, expected: &Expected, corpora: &mut Corpora) -> (bool, String, String) {
    let shown = match found {
        Ok(records) => format!("{} records", records.len()),
        Err(error) => format!("error: {error}"),
    };
    match (expected, found) {
        (Same(corpus, split), _) => {
            let right = found.as_ref().is_ok_and(|found| found == corpora.get(corpus, split));
            (right, format!("the records of {corpus}/{split}"), shown)
        }
        (SameTokens(corpus, split), _) => {
            let key = |record: &Record| (record.tokens.clone(), record.token_spans.clone());
            let right = found.as_ref().is_ok_and(|found| {
                let joined = found.iter().all(|record| record.text == record.tokens.join(" "));
                joined && found.iter().map(key).eq(corpora.get(corpus, split).iter().map(key))
            });
            (right, format!("tokens and entities of {corpus}/{split}"), shown)
        }
        (SomeOf(count, corpus, split), _) => {
            let right = found.as_ref().is_ok_and(|found| {
                found.len() as u64 == *count && found.iter().all(|record| corpora.get(corpus, split).contains(record))
            });
            (right, format!("{count} records of {corpus}/{split}"), shown)
        }
        (Error(words), _) => {
            let right = found.as_ref().is_err_and(|error| {
                let message = error.to_string();
                words.iter().all(|word| message.contains(word))
            });
            (right, format!("error: {}", words.join(" … ")), shown)
        }
    }
}

const HF: &[(&str, &str, Expected)] = &[
    (
        "hf/bad_null_span_list",
        "train",
        Error(&["train/data-00000-of-00001.arrow: row 3: `token_spans`: the value is null"]),
    ),
    ("hf/thainer_th_sharded_uneven", "train", Same("thainer_th", "train")),
    (
        "hf/thainer_th_sharded_uneven",
        "validation",
        Same("thainer_th", "validation"),
    ),
    ("hf/thainer_th_sharded_uneven", "test", Same("thainer_th", "test")),
    ("hf/uner_hr_set_sharded3", "train", Same("uner_hr_set", "train")),
    (
        "hf/uner_hr_set_sharded3",
        "validation",
        Same("uner_hr_set", "validation"),
    ),
    ("hf/uner_hr_set_sharded3", "test", Same("uner_hr_set", "test")),
    ("hf/uner_pt_bosque", "train", Same("uner_pt_bosque", "train")),
    ("hf/uner_pt_bosque", "validation", Same("uner_pt_bosque", "validation")),
    ("hf/uner_pt_bosque", "test", Same("uner_pt_bosque", "test")),
    ("hf/uner_pt_bosque_train_only", "train", Same("uner_pt_bosque", "train")),
    (
        "hf/uner_pt_bosque_train_only",
        "test",
        Error(&["hf/uner_pt_bosque_train_only: ", "no split for `test`; it has `train`"]),
    ),
    (
        "hf/wikigold_empty_train",
        "train",
        Error(&["wikigold_empty_train/train: ", "there are no records in the split"]),
    ),
    ("hf/wikigold_empty_train", "validation", Same("wikigold", "validation")),
    // Its first row has entities in `token_spans` and an empty `char_spans`, as span_counts_differ.jsonl has.
    (
        "hf/wikigold_extra_columns_and_nulls",
        "train",
        Error(&[
            "row 0: `token_spans[0]`: the span covers",
            "which no character span covers",
        ]),
    ),
    ("hf/wikigold_inferred", "train", Same("wikigold", "train")),
    ("hf/wikigold_inferred", "validation", Same("wikigold", "validation")),
    ("hf/wikigold_inferred", "test", Same("wikigold", "test")),
    ("hf/wikigold_large_types", "train", Same("wikigold", "train")),
    ("hf/wikigold_large_types", "validation", Same("wikigold", "validation")),
    ("hf/wikigold_large_types", "test", Same("wikigold", "test")),
    (
        "hf/wikigold_ner_tags_classlabel",
        "train",
        SameTokens("wikigold", "train"),
    ),
    (
        "hf/wikigold_ner_tags_classlabel",
        "validation",
        SameTokens("wikigold", "validation"),
    ),
    (
        "hf/wikigold_ner_tags_classlabel",
        "test",
        SameTokens("wikigold", "test"),
    ),
    (
        "hf/wikigold_shuffled_select300",
        "train",
        SomeOf(300, "wikigold", "train"),
    ),
    ("hf/wikigold_single_dataset", "train", Same("wikigold", "train")),
    ("hf/wnut17", "train", Same("wnut17", "train")),
    ("hf/wnut17", "validation", Same("wnut17", "validation")),
    ("hf/wnut17", "test", Same("wnut17", "test")),
    ("hf/wnut17_train_dev", "train", Same("wnut17", "train")),
    ("hf/wnut17_train_dev", "validation", Same("wnut17", "validation")),
    (
        "hf/wnut17_train_dev",
        "test",
        Error(&["no split for `test`; it has `train`, `dev`"]),
    ),
    ("hf/wnut17_via_json_loader", "train", Same("wnut17", "train")),
    ("hf/wnut17_via_json_loader", "validation", Same("wnut17", "validation")),
    ("hf/wnut17_via_json_loader", "test", Same("wnut17", "test")),
    (
        "hf_datasets2/uner_hr_set_sharded3",
        "train",
        Same("uner_hr_set", "train"),
    ),
    ("hf_datasets2/uner_hr_set_sharded3", "test", Same("uner_hr_set", "test")),
    ("hf_datasets2/uner_pt_bosque", "train", Same("uner_pt_bosque", "train")),
    ("hf_datasets2/uner_pt_bosque", "test", Same("uner_pt_bosque", "test")),
    (
        "hf_datasets2/uner_pt_bosque_train_only",
        "train",
        Same("uner_pt_bosque", "train"),
    ),
    (
        "hf_datasets2/wikigold_legacy_Sequence_struct_of_lists",
        "train",
        Same("wikigold", "train"),
    ),
    ("hf_datasets2/wnut17", "train", Same("wnut17", "train")),
    ("hf_datasets2/wnut17", "validation", Same("wnut17", "validation")),
    (
        "hf_datasets2/wnut17_train_dev",
        "validation",
        Same("wnut17", "validation"),
    ),
    (
        "hf_bad/missing_shard",
        "train",
        Error(&["train/data-00001-of-00003.arrow: the file is missing"]),
    ),
    ("hf_bad/extra_shard_not_listed", "train", Same("wikigold", "train")),
    (
        "hf_bad/missing_state_json",
        "train",
        Error(&["missing_state_json/train: the dataset has no `state.json`"]),
    ),
    (
        "hf_bad/missing_dataset_info_json",
        "train",
        Error(&["/train: the dataset has no `dataset_info.json`"]),
    ),
    (
        "hf_bad/missing_dataset_dict_json",
        "train",
        Error(&["missing_dataset_dict_json: the folder is neither a saved `DatasetDict` nor a `Dataset`"]),
    ),
    (
        "hf_bad/split_dir_missing",
        "test",
        Error(&["split_dir_missing/test: the folder of the split is not there"]),
    ),
    (
        "hf_bad/truncated_arrow",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the file is cut off"]),
    ),
    ("hf_bad/truncated_arrow_no_eos", "train", Same("wikigold", "train")),
    (
        "hf_bad/zero_byte_arrow",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the Arrow file is empty"]),
    ),
    (
        "hf_bad/garbage_arrow",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the file is not an Arrow stream"]),
    ),
    (
        "hf_bad/huge_length_prefix",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the file is cut off: metadata of 2147483647 bytes"]),
    ),
    (
        "hf_bad/bitflip_in_metadata",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the metadata of a message are damaged"]),
    ),
    (
        "hf_bad/bad_offsets",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the Arrow file is damaged", "ffset"]),
    ),
    (
        "hf_bad/invalid_utf8_in_arrow",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the Arrow file is damaged", "UTF8"]),
    ),
    (
        "hf_bad/arrow_file_format",
        "train",
        Error(&["train/data-00000-of-00001.arrow: the file is in Arrow's file format"]),
    ),
    (
        "hf_bad/lz4_compressed_stream",
        "train",
        Error(&["compressed buffers are not supported"]),
    ),
    (
        "hf_bad/wrong_column_type",
        "train",
        Error(&["`token_spans.start`: the column's type is Utf8, where a whole number is needed"]),
    ),
    (
        "hf_bad/missing_column",
        "train",
        Error(&["none of the columns `token_spans`, `char_spans` and `ner_tags` is there"]),
    ),
    (
        "hf_bad/path_escape_in_state",
        "train",
        Error(&["train/state.json: the file \"../../../", "leads out of the folder"]),
    ),
    (
        "hf_bad/path_escape_in_dataset_dict",
        "train",
        Error(&["dataset_dict.json: the split \"../", "leads out of the folder"]),
    ),
    (
        "hf_bad/state_json_not_json",
        "train",
        Error(&["train/state.json: the file is not JSON"]),
    ),
    (
        "hf_bad/shards_with_different_schemas",
        "train",
        Same("uner_hr_set", "train"),
    ),
];

#[test]
fn saved_datasets_end_as_their_notes_say() {
    let Some(root) = root() else { return };
    let mut corpora = Corpora {
        root: root.clone(),
        known: BTreeMap::new(),
    };
    let fixtures = root.join("fixtures");
    let mut wrong = 0;
    for (folder, part, expected) in HF {
        let found = read_part(&fixtures.join(folder), part);
        let (right, expected, found) = compare(&found, expected, &mut corpora);
        let found = found.replace(&format!("{}/", fixtures.display()), "");
        println!(
            "{} | {folder} | {part} | {expected} | {found}",
            if right { "ok" } else { "WRONG" }
        );
        wrong += u32::from(!right);
    }
    assert_eq!(wrong, 0);
    // No folder is forgotten.
    for area in ["hf", "hf_datasets2", "hf_bad"] {
        for entry in std::fs::read_dir(fixtures.join(area)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{area}/{}", path.file_name().unwrap().to_str().unwrap());
            let known = HF.iter().any(|(folder, ..)| *folder == name) || name == "hf/wnut17_parquet";
            assert!(known || path.is_file(), "{name} is not in the table");
        }
    }
}

#[test]
fn parquet_files_hold_the_same_records() {
    let Some(root) = root() else { return };
    let mut corpora = Corpora {
        root: root.clone(),
        known: BTreeMap::new(),
    };
    for split in ["train", "validation", "test"] {
        let path = root.join(format!(
            "fixtures/hf/wnut17_parquet/data/{split}-00000-of-00001.parquet"
        ));
        let source = Source {
            name: "p".to_owned(),
            format: Format::of_file(&path),
            path,
            ..Source::default()
        };
        let found = records(&source);
        if cfg!(feature = "parquet") {
            assert!(found.unwrap().0 == corpora.get("wnut17", split));
        } else {
            assert_eq!(
                found.unwrap_err().to_string(),
                "p: this program was built without Parquet"
            );
        }
    }
}

/// The files of `conll_original/_malformed`: each ends as its `expect.json` says; what may end either way is settled here.
#[test]
fn odd_column_files_end_as_expected() {
    let Some(root) = root() else { return };
    let folder = root.join("fixtures/conll_original/_malformed");
    let expectations: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&std::fs::read(folder.join("expect.json")).unwrap()).unwrap();
    let mut wrong = 0;
    for (name, expected) in &expectations {
        let source = Source {
            name: name.clone(),
            path: folder.join(name),
            format: Format::Conll,
            ..Source::default()
        };
        let found = records(&source);
        let right = match (&found, expected["expect"].as_str().unwrap()) {
            // All that may be refused or read is read.
            (Ok((records, _)), "accept" | "either") => expected["sentences"] == records.len(),
            (Err(error), "error") => error.line == expected["line"].as_u64(),
            _ => false,
        };
        let shown = match found {
            Ok((records, _)) => format!("{} records", records.len()),
            Err(error) => error.to_string(),
        };
        println!(
            "{} | {name} | {} | {shown}",
            if right { "ok" } else { "WRONG" },
            expected["expect"]
        );
        wrong += u32::from(!right);
    }
    assert!(expectations.len() >= 20, "only {} expectations", expectations.len());
    assert_eq!(wrong, 0);
}

/// The column files that corpora of `ner` were made from hold the same sentences and the same entities, under the names that
/// their authors gave the types.
#[test]
fn original_column_files_hold_the_corpora() {
    let Some(root) = root() else { return };
    let mut corpora = Corpora {
        root: root.clone(),
        known: BTreeMap::new(),
    };
    let original = root.join("fixtures/conll_original");
    let table = [
        ("bc5cdr_iobes/train.tsv", "bc5cdr", "train"),
        ("bc5cdr_iobes/devel.tsv", "bc5cdr", "validation"),
        ("bc5cdr_iobes/test.tsv", "bc5cdr", "test"),
        ("turku_fi/train.tsv", "turku_fi", "train"),
        ("turku_fi/dev.tsv", "turku_fi", "validation"),
        ("turku_fi/test.tsv", "turku_fi", "test"),
        ("uner_pt_bosque/train.iob2", "uner_pt_bosque", "train"),
        ("uner_pt_bosque/dev.iob2", "uner_pt_bosque", "validation"),
        ("uner_pt_bosque/test.iob2", "uner_pt_bosque", "test"),
        ("wnut17/train.conll", "wnut17", "train"),
        ("wnut17/validation.conll", "wnut17", "validation"),
        ("wnut17/test.conll", "wnut17", "test"),
    ];
    let mut wrong = 0;
    for (file, corpus, split) in table {
        let path = original.join(file);
        let source = Source {
            name: file.to_owned(),
            format: Format::of_file(&path),
            path,
            ..Source::default()
        };
        let (found, counts) = records(&source).unwrap();
        let expected = corpora.get(corpus, split);
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut off = Vec::new();
        for (found, expected) in found.iter().zip(expected) {
            let place = |span: &Span| (span.start, span.end);
            let same = found.tokens == expected.tokens
                && found
                    .token_spans
                    .iter()
                    .map(place)
                    .eq(expected.token_spans.iter().map(place));
            let labels = found.token_spans.iter().zip(&expected.token_spans);
            let one_name = same
                && labels.into_iter().all(|(own, plain)| {
                    *names.entry(own.label.clone()).or_insert_with(|| plain.label.clone()) == plain.label
                });
            if !one_name {
                off.push(format!(
                    "{} {:?} | {:?}",
                    found.id, found.token_spans, expected.token_spans
                ));
            }
        }
        println!(
            "{file}: {} sentences, {} expected, {} differ, {names:?}, {counts:?}",
            found.len(),
            expected.len(),
            off.len()
        );
        for line in off.iter().take(3) {
            println!("    {line}");
        }
        wrong += u32::from(found.len() != expected.len() || !off.is_empty());
    }
    assert_eq!(wrong, 0);
}
