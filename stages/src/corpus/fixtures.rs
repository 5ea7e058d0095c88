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

/// A table of what was expected and what was found, printed row by row.
#[derive(Default)]
struct Outcome {
    right: usize,
    wrong: usize,
}

impl Outcome {
    fn row(&mut self, right: bool, what: &str, expected: &str, found: &str) {
        println!("{} | {what} | {expected} | {found}", if right { "ok" } else { "WRONG" });
        match right {
            true => self.right += 1,
            false => self.wrong += 1,
        }
    }

    /// There were at least so many rows, and no difference.
    #[track_caller]
    fn end(self, least: usize) {
        println!("{} as expected, {} not", self.right, self.wrong);
        assert!(
            self.right + self.wrong >= least,
            "only {} rows",
            self.right + self.wrong
        );
        assert_eq!(self.wrong, 0, "the table above shows what differs");
    }
}

/// A part of a saved dataset and what should come of it.
type Row = (&'static str, &'static str, Expected);

const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// A dataset of which each split holds the corpus's.
fn whole(folder: &'static str, corpus: &'static str) -> impl Iterator<Item = Row> {
    SPLITS
        .into_iter()
        .map(move |split| (folder, split, Same(corpus, split)))
}

/// A dataset whose split `train` ends in an error that holds these words, and whose other splits hold the corpus's.
fn broken(folder: &'static str, corpus: &'static str, words: &'static [&'static str]) -> impl Iterator<Item = Row> {
    let others = whole(folder, corpus).filter(|(_, split, _)| *split != "train");
    std::iter::once((folder, "train", Error(words))).chain(others)
}

/// Whole folders that end in one error, whichever split is asked for.
fn refused(folder: &'static str, words: &'static [&'static str]) -> impl Iterator<Item = Row> {
    SPLITS.into_iter().map(move |split| (folder, split, Error(words)))
}

/// What `datasets` 5 wrote.
fn written_by_5() -> Vec<Row> {
    let mut rows = vec![
        (
            "hf/bad_null_span_list",
            "train",
            Error(&["train/data-00000-of-00001.arrow: row 3: `token_spans`: the value is null"]),
        ),
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
        (
            "hf/wikigold_shuffled_select300",
            "train",
            SomeOf(300, "wikigold", "train"),
        ),
        (
            "hf/wikigold_shuffled_select300",
            "validation",
            Same("wikigold", "validation"),
        ),
        ("hf/wikigold_single_dataset", "train", Same("wikigold", "train")),
        ("hf/wnut17_train_dev", "train", Same("wnut17", "train")),
        ("hf/wnut17_train_dev", "validation", Same("wnut17", "validation")),
        (
            "hf/wnut17_train_dev",
            "test",
            Error(&["no split for `test`; it has `train`, `dev`"]),
        ),
    ];
    for split in SPLITS {
        rows.push(("hf/wikigold_ner_tags_classlabel", split, SameTokens("wikigold", split)));
    }
    for (folder, corpus) in [
        ("hf/thainer_th_sharded_uneven", "thainer_th"),
        ("hf/uner_hr_set_sharded3", "uner_hr_set"),
        ("hf/uner_pt_bosque", "uner_pt_bosque"),
        ("hf/wikigold_inferred", "wikigold"),
        ("hf/wikigold_large_types", "wikigold"),
        ("hf/wnut17", "wnut17"),
        ("hf/wnut17_via_json_loader", "wnut17"),
    ] {
        rows.extend(whole(folder, corpus));
    }
    rows
}

/// What `datasets` 2.14 wrote.
fn written_by_2() -> Vec<Row> {
    let mut rows = vec![
        (
            "hf_datasets2/uner_pt_bosque_train_only",
            "train",
            Same("uner_pt_bosque", "train"),
        ),
        (
            "hf_datasets2/uner_pt_bosque_train_only",
            "test",
            Error(&["no split for `test`; it has `train`"]),
        ),
        ("hf_datasets2/wnut17_train_dev", "train", Same("wnut17", "train")),
        (
            "hf_datasets2/wnut17_train_dev",
            "validation",
            Same("wnut17", "validation"),
        ),
        (
            "hf_datasets2/wnut17_train_dev",
            "test",
            Error(&["no split for `test`; it has `train`, `dev`"]),
        ),
    ];
    for (folder, corpus) in [
        ("hf_datasets2/uner_hr_set_sharded3", "uner_hr_set"),
        ("hf_datasets2/uner_pt_bosque", "uner_pt_bosque"),
        ("hf_datasets2/wikigold_legacy_Sequence_struct_of_lists", "wikigold"),
        ("hf_datasets2/wnut17", "wnut17"),
    ] {
        rows.extend(whole(folder, corpus));
    }
    rows
}

/// What is broken in one thing, mostly in its split `train`.
fn broken_in_one_thing() -> Vec<Row> {
    let mut rows = Vec::new();
    for (folder, corpus, words) in [
        (
            "hf_bad/missing_shard",
            "uner_hr_set",
            &["train/data-00001-of-00003.arrow: the file is missing"][..],
        ),
        (
            "hf_bad/missing_state_json",
            "wikigold",
            &["missing_state_json/train: the dataset has no `state.json`"],
        ),
        (
            "hf_bad/missing_dataset_info_json",
            "wikigold",
            &["/train: the dataset has no `dataset_info.json`"],
        ),
        (
            "hf_bad/truncated_arrow",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the file is cut off"],
        ),
        (
            "hf_bad/zero_byte_arrow",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the Arrow file is empty"],
        ),
        (
            "hf_bad/garbage_arrow",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the file is not an Arrow stream"],
        ),
        (
            "hf_bad/huge_length_prefix",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the file is cut off: metadata of 2147483647 bytes"],
        ),
        (
            "hf_bad/bitflip_in_metadata",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the metadata of a message are damaged"],
        ),
        (
            "hf_bad/bad_offsets",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the Arrow file is damaged", "ffset"],
        ),
        (
            "hf_bad/invalid_utf8_in_arrow",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the Arrow file is damaged", "UTF8"],
        ),
        (
            "hf_bad/arrow_file_format",
            "wikigold",
            &["train/data-00000-of-00001.arrow: the file is in Arrow's file format"],
        ),
        (
            "hf_bad/lz4_compressed_stream",
            "wikigold",
            &["compressed buffers are not supported"],
        ),
        (
            "hf_bad/wrong_column_type",
            "wikigold",
            &["`token_spans.start`: the column's type is Utf8, where a whole number is needed"],
        ),
        (
            "hf_bad/missing_column",
            "wikigold",
            &["none of the columns `token_spans`, `char_spans` and `ner_tags` is there"],
        ),
        (
            "hf_bad/path_escape_in_state",
            "wikigold",
            &["train/state.json: the file \"../../../", "leads out of the folder"],
        ),
        (
            "hf_bad/state_json_not_json",
            "wikigold",
            &["train/state.json: the file is not JSON"],
        ),
    ] {
        rows.extend(broken(folder, corpus, words));
    }
    rows.extend(refused(
        "hf_bad/missing_dataset_dict_json",
        &["missing_dataset_dict_json: the folder is neither a saved `DatasetDict` nor a `Dataset`"],
    ));
    rows.extend(refused(
        "hf_bad/path_escape_in_dataset_dict",
        &["dataset_dict.json: the split \"../", "leads out of the folder"],
    ));
    // These may be read, and are.
    for (folder, corpus) in [
        ("hf_bad/extra_shard_not_listed", "wikigold"),
        ("hf_bad/truncated_arrow_no_eos", "wikigold"),
        ("hf_bad/shards_with_different_schemas", "uner_hr_set"),
    ] {
        rows.extend(whole(folder, corpus));
    }
    let folder = "hf_bad/split_dir_missing";
    rows.extend(whole(folder, "wikigold").filter(|(_, split, _)| *split != "test"));
    let missing = Error(&["split_dir_missing/test: the folder of the split is not there"]);
    rows.push((folder, "test", missing));
    rows
}

#[test]
fn saved_datasets_end_as_their_notes_say() {
    let Some(root) = root() else { return };
    let mut corpora = Corpora {
        root: root.clone(),
        known: BTreeMap::new(),
    };
    let fixtures = root.join("fixtures");
    let table = written_by_5()
        .into_iter()
        .chain(written_by_2())
        .chain(broken_in_one_thing())
        .collect::<Vec<Row>>();
    let mut outcome = Outcome::default();
    for (folder, part, expected) in &table {
        let found = read_part(&fixtures.join(folder), part);
        let (right, expected, found) = compare(&found, expected, &mut corpora);
        let found = found.replace(&format!("{}/", fixtures.display()), "");
        outcome.row(right, &format!("{folder} | {part}"), &expected, &found);
    }
    // No folder is forgotten, and no split of one.
    for area in ["hf", "hf_datasets2", "hf_bad"] {
        for entry in std::fs::read_dir(fixtures.join(area)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{area}/{}", path.file_name().unwrap().to_str().unwrap());
            if path.is_file() || name == "hf/wnut17_parquet" {
                continue;
            }
            for part in splits(&path) {
                let known = table.iter().any(|row| row.0 == name && row.1 == part);
                assert!(known, "{name}, {part} is not in the table");
            }
        }
    }
    outcome.end(table.len());
}

/// The parts that the splits of a folder make up, as its dataset_dict.json names them.
fn splits(folder: &Path) -> Vec<String> {
    let Ok(bytes) = std::fs::read(folder.join("dataset_dict.json")) else {
        return vec!["train".to_owned()];
    };
    let dict: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let names = dict["splits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap());
    names
        .filter(|name| !name.contains('/'))
        .map(|name| if name == "dev" { "validation" } else { name }.to_owned())
        .collect()
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

/// What an `expect.json` says of a file.
#[derive(serde::Deserialize)]
struct Note {
    /// `accept`, `error`, or `either` where both are sound.
    expect: String,
    /// Where the error is.
    line: Option<u64>,
    /// How many records come out.
    #[serde(alias = "sentences")]
    records: Option<u64>,
}

/// Reads each file that `expect.json` in `folder` names, and compares what comes of it.
fn compare_with_notes(folder: &Path, format: Format, outcome: &mut Outcome) {
    let notes = std::fs::read(folder.join("expect.json")).unwrap();
    let notes: BTreeMap<String, Note> = serde_json::from_slice(&notes).unwrap();
    for (name, note) in &notes {
        let source = Source {
            name: name.clone(),
            path: folder.join(name),
            format,
            ..Source::default()
        };
        let found = records(&source);
        let right = match (&found, note.expect.as_str()) {
            (Ok((records, _)), "accept" | "either") => {
                note.records.is_none_or(|expected| expected == records.len() as u64)
            }
            (Err(error), "error" | "either") => {
                let place = error.line.map(|line| format!("{name}:{line}: ")).unwrap_or_default();
                error.line == note.line && error.to_string().starts_with(&place)
            }
            _ => false,
        };
        let place = note.line.map(|line| format!(", line {line}")).unwrap_or_default();
        let count = note
            .records
            .map(|count| format!(", {count} records"))
            .unwrap_or_default();
        let shown = match found {
            Ok((records, _)) => format!("{} records", records.len()),
            Err(error) => error.to_string().chars().take(160).collect(),
        };
        outcome.row(right, name, &format!("{}{place}{count}", note.expect), &shown);
    }
    // No file is forgotten.
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_corpus = path.is_file() && !["README.md", "expect.json"].contains(&name.as_str());
        assert!(!is_corpus || notes.contains_key(&name), "{name} is not in expect.json");
    }
}

#[test]
fn malformed_lines_end_as_their_notes_say() {
    let Some(root) = root() else { return };
    let folder = root.join("fixtures/malformed");
    let mut outcome = Outcome::default();
    compare_with_notes(&folder, Format::Jsonl, &mut outcome);
    // What the notes name besides.
    let pipe = tempfile::tempdir().unwrap();
    let pipe = pipe.path().join("pipe.jsonl");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    for (path, words) in [
        (folder.join("_dir.jsonl"), "is not a regular file"),
        (folder.join("nothing.jsonl"), "failed to open the corpus file"),
        (PathBuf::from("/dev/null"), "is not a regular file"),
        (pipe, "is not a regular file"),
    ] {
        let name = path.display().to_string();
        let found = records(&Source {
            name: name.clone(),
            path,
            ..Source::default()
        });
        let shown = found.map_or_else(
            |error| error.to_string(),
            |(records, _)| format!("{} records", records.len()),
        );
        outcome.row(shown.contains(words), &name, &format!("error: {words}"), &shown);
    }
    outcome.end(120);
}

#[test]
fn odd_column_files_end_as_their_notes_say() {
    let Some(root) = root() else { return };
    let folder = root.join("fixtures/conll_original/_malformed");
    let mut outcome = Outcome::default();
    compare_with_notes(&folder, Format::Conll, &mut outcome);
    outcome.end(20);
}

/// Records of a corpus: those of some of its splits, one behind the other, or so many from one on.
enum Of {
    Splits(&'static [&'static str]),
    From(&'static str, &'static str, usize),
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
        ("bc5cdr_iobes/train.tsv", "bc5cdr", Of::Splits(&["train"])),
        ("bc5cdr_iobes/devel.tsv", "bc5cdr", Of::Splits(&["validation"])),
        ("bc5cdr_iobes/test.tsv", "bc5cdr", Of::Splits(&["test"])),
        // A part of one genre of its corpus.
        (
            "nerkor_hu_sample/globalvoices_3.conllup",
            "nerkor_hu",
            Of::From("test", "nerkor_hu-test-000923", 198),
        ),
        ("turku_fi/train.tsv", "turku_fi", Of::Splits(&["train"])),
        ("turku_fi/dev.tsv", "turku_fi", Of::Splits(&["validation"])),
        ("turku_fi/test.tsv", "turku_fi", Of::Splits(&["test"])),
        ("uner_pt_bosque/train.iob2", "uner_pt_bosque", Of::Splits(&["train"])),
        ("uner_pt_bosque/dev.iob2", "uner_pt_bosque", Of::Splits(&["validation"])),
        ("uner_pt_bosque/test.iob2", "uner_pt_bosque", Of::Splits(&["test"])),
        // The corpus has no split of its authors: it was cut in the order of the file.
        (
            "wikigold/wikigold.conll.txt",
            "wikigold",
            Of::Splits(&["train", "validation", "test"]),
        ),
        ("wnut17/train.conll", "wnut17", Of::Splits(&["train"])),
        ("wnut17/validation.conll", "wnut17", Of::Splits(&["validation"])),
        ("wnut17/test.conll", "wnut17", Of::Splits(&["test"])),
    ];
    let mut outcome = Outcome::default();
    for &(file, corpus, ref of) in &table {
        let path = original.join(file);
        let source = Source {
            name: file.to_owned(),
            format: Format::of_file(&path),
            path,
            ..Source::default()
        };
        let (found, counts) = records(&source).unwrap();
        let expected: Vec<Record> = match *of {
            Of::Splits(splits) => splits
                .iter()
                .flat_map(|&split| corpora.get(corpus, split).to_vec())
                .collect(),
            Of::From(split, id, count) => {
                let all = corpora.get(corpus, split).iter();
                all.skip_while(|record| record.id != id).take(count).cloned().collect()
            }
        };
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut off = Vec::new();
        for (found, expected) in found.iter().zip(&expected) {
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
        let shown = format!(
            "{} sentences, {} differ, {names:?}, {:?}",
            found.len(),
            off.len(),
            counts.settled().collect::<Vec<_>>()
        );
        let right = found.len() == expected.len() && off.is_empty();
        outcome.row(
            right,
            file,
            &format!("{} sentences of {corpus}", expected.len()),
            &shown,
        );
        for line in off.iter().take(3) {
            println!("    {line}");
        }
    }
    for entry in std::fs::read_dir(&original).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = || {
            std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
        };
        let known = |file: &std::ffi::OsString| {
            let file = format!("{name}/{}", file.to_str().unwrap());
            table.iter().any(|(known, ..)| *known == file)
        };
        assert!(name == "_malformed" || files().all(|file| known(&file)), "{name}");
    }
    outcome.end(table.len());
}

/// Records drawn from many corpora are those of the corpora that their ids name.
#[test]
fn the_mixed_sample_holds_records_of_its_corpora() {
    let Some(root) = root() else { return };
    let mut outcome = Outcome::default();
    for (split, count) in [("train", 5000), ("validation", 500), ("test", 1000)] {
        let read = |path: PathBuf| {
            let name = path.display().to_string();
            records(&Source {
                name,
                path,
                ..Source::default()
            })
        };
        let (found, _) = read(root.join(format!("fixtures/sample_multi/{split}.jsonl"))).unwrap();
        let mut corpora: BTreeMap<String, BTreeMap<String, Record>> = BTreeMap::new();
        let same = found.iter().filter(|record| {
            let Some((corpus, _)) = record.id.split_once(&format!("-{split}-")) else {
                return false;
            };
            let records = corpora.entry(corpus.to_owned()).or_insert_with(|| {
                let (all, _) = read(root.join(format!("ner/{corpus}/{split}.jsonl"))).unwrap();
                all.into_iter().map(|record| (record.id.clone(), record)).collect()
            });
            records.get(&record.id) == Some(*record)
        });
        let same = same.count();
        outcome.row(
            found.len() == count && same == count,
            &format!("sample_multi/{split}.jsonl"),
            &format!("{count} records of their corpora"),
            &format!("{} records, {same} of them in {} corpora", found.len(), corpora.len()),
        );
    }
    outcome.end(3);
}
