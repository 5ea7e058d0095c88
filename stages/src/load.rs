//! The kind `load`: files of several formats → a checked corpus.
//!
//! Consumes files; produces a `corpus` with a part for each split that is given: `train`, `validation`, `test`. A part
//! holds one JSONL file of normalized records for every input file, under the same name (but for its end, if that is
//! another format's), and one for every saved dataset. Each is a cached step of its own, so one changed file of
//! ninety-one is one file read.
//!
//! With `limit`, `fraction` or `shuffle_seed` a split is a selection: its records in file order, or shuffled with the
//! seed; of these the first `fraction`, and of these the first `limit`. They are written to one file `selected.jsonl`. A
//! smaller selection with the same seed is always the beginning of a larger one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nerpipe_engine::context::InputFile;
use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Context, Digest, Field, InputParts, Kind, Port, Progress, Resolved, SettingError, StageError, Step, StepOutput,
    Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::corpus::{self, Columns, Counts, Format, Found, Given, Origin, Source};
use crate::rng::Rng;

/// The splits that a corpus can have, in order.
pub const SPLITS: [&str; 3] = ["train", "validation", "test"];

/// The file of a split that is a selection.
const SELECTED: &str = "selected.jsonl";
/// The file that a step writes.
const RECORDS: &str = "records.jsonl";

/// The settings of `load`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The training files: a path, a glob, or a list of them.
    #[serde(default)]
    pub train: Option<Value>,
    /// The validation files.
    #[serde(default)]
    pub validation: Option<Value>,
    /// The test files.
    #[serde(default)]
    pub test: Option<Value>,
    /// What the files are: `jsonl`, `conll`, `gliner`, `arrow` or `parquet`. If nothing is said, each file's name and first
    /// bytes tell, and folders that `datasets` saved are read as such.
    #[serde(default)]
    pub format: Option<Format>,
    /// The columns of column files, `{token: 1, tag: -1}`; what the files hold tells if nothing is said.
    #[serde(default)]
    pub columns: Option<Columns>,
    /// The language of records that do not name one.
    #[serde(default)]
    pub language: Option<String>,
    /// The dataset of records that do not name one.
    #[serde(default)]
    pub dataset: Option<String>,
    /// How many records to take at most: a number for every split, or a map from split to number.
    #[serde(default)]
    #[schemars(with = "Forms<u64>")]
    pub limit: PerSplit<u64>,
    /// Which share of the records to take, above 0 and at most 1 (rounded up): a number, or a map from split to number.
    #[serde(default)]
    #[schemars(with = "Forms<f64>")]
    pub fraction: PerSplit<f64>,
    /// Shuffles the records before `limit` and `fraction` choose among them. Given alone it shuffles every split.
    #[serde(default)]
    pub shuffle_seed: Option<u64>,
}

/// A value for some of the splits; written as one value for all of them, or as a map.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PerSplit<T> {
    train: Option<T>,
    validation: Option<T>,
    test: Option<T>,
}

impl<T> Default for PerSplit<T> {
    fn default() -> Self {
        Self {
            train: None,
            validation: None,
            test: None,
        }
    }
}

impl<T: Copy> PerSplit<T> {
    /// The value for `split`.
    pub fn get(&self, split: &str) -> Option<T> {
        match split {
            "train" => self.train,
            "validation" => self.validation,
            _ => self.test,
        }
    }

    /// The splits that have a value, with it.
    fn iter(&self) -> impl Iterator<Item = (&'static str, T)> {
        SPLITS
            .into_iter()
            .filter_map(|split| self.get(split).map(|value| (split, value)))
    }
}

/// A value for each split, or for some of them.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, bound = "T: Deserialize<'de>")]
struct SplitMap<T> {
    #[serde(default = "none::<T>")]
    train: Option<T>,
    #[serde(default = "none::<T>")]
    validation: Option<T>,
    #[serde(default = "none::<T>")]
    test: Option<T>,
}

/// The forms of [`PerSplit`], for editors.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Forms<T> {
    All(Option<T>),
    Each(SplitMap<T>),
}

fn none<T>() -> Option<T> {
    None
}

impl<'de, T: Copy + serde::de::DeserializeOwned> Deserialize<'de> for PerSplit<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        // The shape is looked at first, so that a wrong key or number is reported as such.
        let value = Value::deserialize(deserializer)?;
        if value.is_object() {
            let SplitMap {
                train,
                validation,
                test,
            } = serde_json::from_value(value).map_err(D::Error::custom)?;
            return Ok(Self {
                train,
                validation,
                test,
            });
        }
        let value: Option<T> = serde_json::from_value(value).map_err(D::Error::custom)?;
        Ok(Self {
            train: value,
            validation: value,
            test: value,
        })
    }
}

/// How the records of a split are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Selection {
    limit: Option<u64>,
    fraction: Option<f64>,
    shuffle_seed: Option<u64>,
}

impl Settings {
    /// The splits that files are given for.
    fn splits(&self) -> impl Iterator<Item = &'static str> {
        SPLITS
            .into_iter()
            .zip([&self.train, &self.validation, &self.test])
            .filter_map(|(split, paths)| paths.as_ref().is_some_and(|paths| !paths.is_null()).then_some(split))
    }

    /// How `split` is selected from; none if all its files are taken as they are.
    fn selection(&self, split: &str) -> Option<Selection> {
        let (limit, fraction) = (self.limit.get(split), self.fraction.get(split));
        let only_shuffled =
            self.shuffle_seed.is_some() && self.limit == PerSplit::default() && self.fraction == PerSplit::default();
        (limit.is_some() || fraction.is_some() || only_shuffled).then_some(Selection {
            limit,
            fraction,
            shuffle_seed: self.shuffle_seed,
        })
    }

    fn check(&self) -> Result<(), SettingError> {
        for (field, name) in [("language", &self.language), ("dataset", &self.dataset)] {
            if let Some(problem) = name
                .as_deref()
                .and_then(|name| corpus::problem_of_name(name, "the name"))
            {
                return Err(SettingError::new(field, problem).help("give a short name, or leave the setting out"));
            }
        }
        if self.splits().next().is_none() {
            return Err(SettingError::new("", "no files are given").help("set `train`, `validation` or `test`"));
        }
        if let Some((split, _)) = self.limit.iter().find(|(_, limit)| *limit == 0) {
            return Err(SettingError::new("limit", format!("the limit of `{split}` is 0"))
                .help("a split needs at least one record; leave the split out to have none"));
        }
        if let Some((split, share)) = self.fraction.iter().find(|(_, share)| !(*share > 0.0 && *share <= 1.0)) {
            return Err(
                SettingError::new("fraction", format!("the fraction of `{split}` is {share}"))
                    .help("a fraction lies above 0 and is at most 1"),
            );
        }
        Ok(())
    }
}

/// The kind `load`. See the module's text.
pub struct Load;

impl Kind for Load {
    fn name(&self) -> &'static str {
        "load"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "reads and checks corpus files"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 10] = [
            Field::input("train"),
            Field::input("validation"),
            Field::input("test"),
            Field::counted("format"),
            Field::counted("columns"),
            Field::counted("language"),
            Field::counted("dataset"),
            Field::counted("limit"),
            Field::counted("fraction"),
            Field::counted("shuffle_seed"),
        ];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        &[]
    }

    fn produces(&self) -> &'static str {
        "corpus"
    }

    fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        settings.check()?;
        Ok(Resolved::new(&settings)?.makes(settings.splits()))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let splits: Vec<(&str, Vec<Found>)> = settings
            .splits()
            .map(|split| Ok((split, sources(split, ctx.files(split), &settings)?)))
            .collect::<Result<_, StageError>>()?;
        let total: usize = splits.iter().map(|(_, found)| found.len()).sum();
        let mut done = 0;
        for (split, found) in splits {
            let files = ctx.files(split);
            let mut counts = Counts::default();
            let mut outputs = Vec::with_capacity(found.len());
            for one in &found {
                ctx.check_cancelled()?;
                let output = load_source(ctx, one, files)?;
                counts += of_step(&output)?;
                outputs.push(output);
                done += 1;
                ctx.progress(Progress {
                    done,
                    total: Some(total as u64),
                    unit: "files",
                    figures: vec![("sentences", counts.sentences as f64)],
                });
            }
            match settings.selection(split) {
                None => {
                    for (one, output) in found.iter().zip(&outputs) {
                        ctx.place(output, RECORDS, &format!("{split}/{}", one.name))?;
                    }
                }
                Some(selection) => {
                    let given = counts.sentences;
                    let output = select(ctx, split, &outputs, selection, given)?;
                    counts = of_step(&output)?;
                    ctx.place(&output, RECORDS, &format!("{split}/{SELECTED}"))?;
                }
            }
            ctx.note(split, summary(&counts));
        }
        Ok(())
    }
}

/// The sources among the files of `split`; two of one name would be one file of the corpus.
fn sources(split: &str, files: &[InputFile], settings: &Settings) -> Result<Vec<Found>, StageError> {
    let patterns = match split {
        "train" => &settings.train,
        "validation" => &settings.validation,
        _ => &settings.test,
    };
    let patterns: Vec<String> = match patterns {
        Some(Value::Array(patterns)) => patterns.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(pattern)) => vec![pattern.clone()],
        _ => Vec::new(),
    };
    let given: Vec<Given<'_>> = files
        .iter()
        .map(|file| Given {
            name: &file.name,
            path: &file.path,
        })
        .collect();
    let named = |folder: &Path| corpus::is_named(folder, &patterns);
    let mut found = corpus::find(&given, settings.format, Some(split), &named)?;
    for one in &mut found {
        one.source.columns = settings.columns.clone().unwrap_or_default();
        one.source.origin = Origin {
            language: settings.language.clone(),
            dataset: settings.dataset.clone(),
        };
    }

    let mut seen: BTreeMap<&str, &Source> = BTreeMap::new();
    for Found { name, source, .. } in &found {
        if let Some(other) = seen.insert(name, source) {
            return Err(StageError::new(format!(
                "two files of `{split}` have the name `{name}`: `{}` and `{}`",
                other.path.display(),
                source.path.display()
            ))
            .help("name them by one glob, so that their folders tell them apart, or rename one"));
        }
    }
    Ok(found)
}

/// Reads, checks and normalizes one source, or takes what an earlier run made of it. `files` are all of its split.
fn load_source(ctx: &Context, found: &Found, files: &[InputFile]) -> Result<StepOutput, StageError> {
    let source = &found.source;
    let step = Step {
        name: "file",
        version: 2,
        settings: step_settings(source),
        inputs: found.files.iter().map(|&place| files[place].digest).collect(),
    };
    ctx.step(step, |out| {
        let path = out.join(RECORDS);
        let mut writer = create(&path)?;
        let to_line = |record: &corpus::Record| -> Result<Vec<u8>, StageError> {
            let mut line = Vec::new();
            record.write_line(&mut line);
            Ok(line)
        };
        let counts = corpus::read_source(source, to_line, |line| {
            writer.write_all(&line).map_err(|error| cannot_write(&path, &error))
        })?;
        writer.flush().map_err(|error| cannot_write(&path, &error))?;
        serde_json::to_value(counts).map_err(|error| StageError::new(error.to_string()))
    })
}

/// What the records of a source depend on besides its bytes; only what is said, so that the rest can grow.
fn step_settings(source: &Source) -> Value {
    let mut settings = json!({ "format": source.format });
    if source.columns != Columns::default() {
        settings["columns"] = json!(source.columns);
    }
    let Origin { language, dataset } = &source.origin;
    for (key, name) in [("language", language), ("dataset", dataset)] {
        if let Some(name) = name {
            settings[key] = json!(name);
        }
    }
    settings
}

/// Writes the records that `selection` chooses from the files of a split.
fn select(
    ctx: &Context,
    split: &str,
    files: &[StepOutput],
    selection: Selection,
    given: u64,
) -> Result<StepOutput, StageError> {
    if let Some(limit) = selection.limit.filter(|&limit| limit > given) {
        ctx.warn(&format!(
            "the limit of `{split}` is {limit}, but there are only {given} records"
        ));
    }
    let sources: Vec<(PathBuf, Digest)> = files
        .iter()
        .flat_map(|output| &output.files)
        .map(|file| (file.path.clone(), file.digest))
        .collect();
    let step = Step {
        name: "select",
        version: 1,
        settings: serde_json::to_value(selection).map_err(|error| StageError::new(error.to_string()))?,
        inputs: sources.iter().map(|(_, digest)| *digest).collect(),
    };
    ctx.step(step, |out| {
        let path = out.join(RECORDS);
        let paths: Vec<PathBuf> = sources.iter().map(|(path, _)| path.clone()).collect();
        write_selection(&paths, &path, selection)?;
        // Counted by reading it back: the lines were copied without looking inside.
        let counts = corpus::read(&path, SELECTED, |_| Ok::<_, StageError>(()), |()| Ok(()))?;
        serde_json::to_value(counts).map_err(|error| StageError::new(error.to_string()))
    })
}

/// A line of a file.
#[derive(Clone, Copy)]
struct Place {
    file: u32,
    length: u32,
    offset: u64,
}

fn write_selection(files: &[PathBuf], path: &Path, selection: Selection) -> Result<(), StageError> {
    let cannot_read =
        |path: &Path, error: &std::io::Error| StageError::new(format!("failed to read `{}`: {error}", path.display()));
    let mut places = Vec::new();
    let mut opened = Vec::with_capacity(files.len());
    for (number, source) in files.iter().enumerate() {
        let file = File::open(source).map_err(|error| cannot_read(source, &error))?;
        let mut reader = BufReader::with_capacity(1 << 20, &file);
        let mut line = Vec::new();
        let mut offset = 0;
        loop {
            line.clear();
            let length = reader
                .read_until(b'\n', &mut line)
                .map_err(|error| cannot_read(source, &error))?;
            if length == 0 {
                break;
            }
            places.push(Place {
                file: number as u32,
                length: length as u32,
                offset,
            });
            offset += length as u64;
        }
        opened.push(file);
    }

    let chosen = choose(places.len(), selection);
    let mut writer = create(path)?;
    let mut line = Vec::new();
    for index in chosen {
        let place = places[index];
        let number = place.file as usize;
        line.resize(place.length as usize, 0);
        opened[number]
            .read_exact_at(&mut line, place.offset)
            .map_err(|error| cannot_read(&files[number], &error))?;
        writer.write_all(&line).map_err(|error| cannot_write(path, &error))?;
    }
    writer.flush().map_err(|error| cannot_write(path, &error))
}

/// Which of `count` records are taken, in the order in which they are written.
fn choose(count: usize, selection: Selection) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    if let Some(seed) = selection.shuffle_seed {
        // Sorting by a key of its own per record, rather than swapping, leaves the order of the others as it is when a
        // record is added at the end.
        let rng = Rng::new(seed, "select");
        order.sort_by_cached_key(|&index| (rng.u64(index as u64), index));
    }
    let share = selection
        .fraction
        .map_or(count, |fraction| (fraction * count as f64).ceil() as usize);
    let limit = selection
        .limit
        .map_or(count, |limit| usize::try_from(limit).unwrap_or(count));
    order.truncate(share.min(limit));
    order
}

fn create(path: &Path) -> Result<BufWriter<File>, StageError> {
    File::create(path)
        .map(|file| BufWriter::with_capacity(1 << 20, file))
        .map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> StageError {
    StageError::new(format!("failed to write `{}`: {error}", path.display()))
}

/// The counts that a step returned.
fn of_step(output: &StepOutput) -> Result<Counts, StageError> {
    serde_json::from_value(output.value.clone())
        .map_err(|error| StageError::new(format!("the record of a cached file cannot be read: {error}")))
}

/// Counts for the run's summary; what was settled by rule only where there was something to settle.
fn summary(counts: &Counts) -> Value {
    let mut summary = json!({ "sentences": counts.sentences, "words": counts.words, "entities": counts.entities });
    for (key, count) in counts.settled() {
        summary[key] = json!(count);
    }
    summary
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::testing::Bench;

    use super::*;

    fn resolve(settings: Value) -> Result<Resolved, SettingError> {
        Load.resolve(&settings, &InputParts::default())
    }

    #[test]
    fn parts_are_the_splits_that_are_given() {
        let resolved = resolve(json!({"test": "a.jsonl", "train": ["b.jsonl", "c/*.jsonl"]})).unwrap();
        assert_eq!(resolved.parts, ["train", "test"]);
    }

    #[test]
    fn one_number_for_all_splits_is_the_same_as_spelling_them_out() {
        let short = resolve(json!({"train": "a", "limit": 5})).unwrap();
        let long = resolve(json!({"train": "a", "limit": {"train": 5, "validation": 5, "test": 5}}));
        assert_eq!(short.settings, long.unwrap().settings);
    }

    #[test]
    fn wrong_settings_name_their_field() {
        let path = |settings: Value| resolve(settings).expect_err("the settings are wrong").path;
        assert_eq!(path(json!({})), "");
        assert_eq!(path(json!({"train": "a", "limit": 0})), "limit");
        assert_eq!(path(json!({"train": "a", "limit": -1})), "limit");
        assert_eq!(path(json!({"train": "a", "limit": {"trian": 1}})), "limit");
        assert_eq!(path(json!({"train": "a", "fraction": {"train": 1.5}})), "fraction");
        assert_eq!(path(json!({"train": "a", "format": "xml"})), "format");
        assert_eq!(path(json!({"train": "a", "columns": {"tga": 1}})), "columns.tga");
        assert_eq!(path(json!({"train": "a", "language": " "})), "language");
    }

    #[test]
    fn only_named_splits_are_selected_from() {
        let settings = |value: Value| parse_settings::<Settings>(&value).unwrap();
        let some = settings(json!({"train": "a", "test": "b", "limit": {"train": 3}, "shuffle_seed": 1}));
        assert!(some.selection("train").is_some() && some.selection("test").is_none());
        let all = settings(json!({"train": "a", "test": "b", "shuffle_seed": 1}));
        assert!(all.selection("train").is_some() && all.selection("test").is_some());
        assert!(settings(json!({"train": "a"})).selection("train").is_none());
    }

    #[test]
    fn smaller_selections_begin_larger_ones() {
        let selection = |limit, fraction, shuffle_seed| Selection {
            limit,
            fraction,
            shuffle_seed,
        };
        let all = choose(100, selection(None, None, Some(7)));
        assert_ne!(all, (0..100).collect::<Vec<_>>());
        assert_eq!(choose(100, selection(Some(10), None, Some(7))), all[..10]);
        assert_eq!(choose(100, selection(None, Some(0.25), Some(7))), all[..25]);
        assert_eq!(choose(100, selection(Some(10), Some(0.05), Some(7))), all[..5]);
        assert_ne!(choose(100, selection(None, None, Some(8))), all);
        assert_eq!(choose(100, selection(Some(3), None, None)), [0, 1, 2]);
        assert_eq!(
            choose(5, selection(None, Some(0.3), None)),
            [0, 1],
            "a share is rounded up"
        );
        assert_eq!(choose(2, selection(Some(9), None, None)), [0, 1]);
    }

    #[test]
    fn selected_lines_are_copied_from_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b, out) = (
            folder.path().join("a"),
            folder.path().join("b"),
            folder.path().join("out"),
        );
        std::fs::write(&a, "1\n22\n").unwrap();
        std::fs::write(&b, "Köln\n4\n").unwrap();
        let selection = Selection {
            limit: None,
            fraction: None,
            shuffle_seed: Some(3),
        };
        write_selection(&[a, b], &out, selection).unwrap();
        let lines = ["1", "22", "Köln", "4"];
        let expected: String = choose(4, selection)
            .into_iter()
            .map(|index| format!("{}\n", lines[index]))
            .collect();
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected);
    }

    fn record(id: &str) -> String {
        format!(
            r#"{{"id":"{id}","text":"in Köln","tokens":["in","Köln"],"token_spans":[{{"start":1,"end":2,"label":"city"}}],"char_spans":[{{"start":3,"end":7,"label":"city"}}]}}"#
        ) + "\n"
    }

    #[test]
    fn a_changed_file_is_one_step() {
        let bench = Bench::new();
        bench.write("train/a.jsonl", record("1"));
        bench.write("train/more/b.jsonl", record("2") + &record("3"));
        bench.write("test.jsonl", record("4"));
        let settings = json!({"train": "train", "test": "test.jsonl"});
        let first = bench.run(&Load, settings.clone()).unwrap();
        assert_eq!(
            first.names(),
            ["test/test.jsonl", "train/a.jsonl", "train/more/b.jsonl"]
        );
        assert_eq!(first.text("train/more/b.jsonl"), record("2") + &record("3"));
        assert_eq!(first.notes["train"], json!({"sentences": 3, "words": 6, "entities": 3}));
        assert_eq!((first.steps.executed, first.steps.restored), (3, 0));

        bench.write("test.jsonl", record("5"));
        let second = bench.run(&Load, settings).unwrap();
        assert_eq!((second.steps.executed, second.steps.restored), (1, 2));
        let digest = |made: &nerpipe_engine::testing::Made, part: &str| made.input.part(part).unwrap().digest;
        assert_eq!(digest(&first, "train"), digest(&second, "train"));
        assert_ne!(digest(&first, "test"), digest(&second, "test"));
    }

    #[test]
    fn what_is_written_otherwise_but_says_the_same_gives_the_same_bytes() {
        let bench = Bench::new();
        bench.write("train.jsonl", record("1"));
        let first = bench.run(&Load, json!({"train": "train.jsonl"})).unwrap();
        let other = r#"
            {"char_spans": [{"label": "city", "end": 7, "start": 3}], "tokens": ["in", "K\u00f6ln"], "x": 1, "text": "in Köln", "id": 1}"#;
        bench.write("train.jsonl", other);
        let second = bench.run(&Load, json!({"train": "train.jsonl"})).unwrap();
        assert_eq!(first.artifact, second.artifact);
        assert_eq!(second.notes["train"]["records_with_derived_spans"], 1);
    }

    #[test]
    fn other_formats_become_the_same_records() {
        let bench = Bench::new();
        bench.write("a.jsonl", record("x"));
        bench.write("b.tsv", "# sent_id = x\nin\tO\nKöln\tB-city\n");
        bench.write(
            "c.json",
            r#"[{"id": "x", "tokenized_text": ["in", "Köln"], "ner": [[1, 1, "city"]]}]"#,
        );
        let made = bench.run(&Load, json!({"train": "*"})).unwrap();
        assert_eq!(made.names(), ["train/a.jsonl", "train/b.jsonl", "train/c.jsonl"]);
        for name in ["a", "b", "c"] {
            assert_eq!(made.text(&format!("train/{name}.jsonl")), record("x"));
        }
        let said =
            json!({"train": "*.tsv", "format": "conll", "columns": {"tag": 2}, "language": "de", "dataset": "d"});
        let made = bench.run(&Load, said).unwrap();
        let expected = record("x").replace(r#""text""#, r#""language":"de","dataset":"d","text""#);
        assert_eq!(made.text("train/b.jsonl"), expected);
        bench.write("b.jsonl", record("x"));
        let error = bench.run(&Load, json!({"train": "*"})).unwrap_err();
        assert!(
            error
                .message
                .starts_with("two files of `train` have the name `b.jsonl`"),
            "{error}"
        );
    }

    #[test]
    fn a_selection_is_one_file() {
        let bench = Bench::new();
        bench.write("a.jsonl", (0..20).map(|id| record(&id.to_string())).collect::<String>());
        bench.write("b.jsonl", record("b"));
        let select = |limit: u64| {
            let settings = json!({"train": "*.jsonl", "test": "b.jsonl", "limit": {"train": limit}, "shuffle_seed": 1});
            bench.run(&Load, settings).unwrap()
        };
        let (five, ten) = (select(5), select(10));
        assert_eq!(five.names(), ["test/b.jsonl", "train/selected.jsonl"]);
        assert_eq!(five.notes["train"]["sentences"], 5);
        assert!(
            ten.text("train/selected.jsonl")
                .starts_with(&five.text("train/selected.jsonl"))
        );
        assert!(select(50).warnings[0].contains("only 21 records"));
    }

    #[test]
    fn a_wrong_record_stops_with_its_place() {
        let bench = Bench::new();
        let path = bench.write("test.jsonl", record("1") + "{\"id\": 2}\n");
        let error = bench.run(&Load, json!({"test": "test.jsonl"})).unwrap_err();
        assert_eq!(
            error.message,
            format!("{}:2: `text`: the field is missing", path.display())
        );
        bench.write("test.jsonl", "");
        let error = bench.run(&Load, json!({"test": "test.jsonl"})).unwrap_err();
        assert!(error.message.contains("there are no records"), "{error}");
    }
}
