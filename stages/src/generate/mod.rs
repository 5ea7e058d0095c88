//! `generate`: a grammar → a corpus, so that anyone can make as much of the sample as they like.
//!
//! The corpus is built to be learnt from context and not from names: every type draws its names from one stock of
//! invented words, which is dealt out over the splits, so that no invented word of one split occurs in another. The
//! test split has two files: `seen.jsonl` uses the templates of the training split, `unseen.jsonl` uses others.

mod grammar;
mod sentence;
mod words;

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Progress, Resolved, SettingError, StageError, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use grammar::{Grammar, GrammarError};

use crate::corpus::Record;
use crate::rng::Rng;
use sentence::Writer;

/// The settings of [`Generate`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The grammar file.
    pub grammar: String,
    /// Steers every choice; another seed gives another corpus of the same grammar. Default 0.
    #[serde(default)]
    pub seed: u64,
    /// Training sentences per language. Default 504.
    #[serde(default = "Settings::default_train")]
    pub train: u32,
    /// Validation sentences per language. Default 64.
    #[serde(default = "Settings::default_validation")]
    pub validation: u32,
    /// Test sentences per language, half from templates of the training split and half from others. Default 96.
    #[serde(default = "Settings::default_test")]
    pub test: u32,
    /// Draws the labels of the training split at random, texts and spans unchanged. What a system learns from such a
    /// corpus shows how much of its score has nothing to do with labels. Default false.
    #[serde(default)]
    pub shuffle_labels: bool,
}

impl Settings {
    /// The defaults, for the grammar at `grammar`.
    pub fn new(grammar: impl Into<String>) -> Self {
        Self {
            grammar: grammar.into(),
            seed: 0,
            train: Self::default_train(),
            validation: Self::default_validation(),
            test: Self::default_test(),
            shuffle_labels: false,
        }
    }

    const fn default_train() -> u32 {
        504
    }

    const fn default_validation() -> u32 {
        64
    }

    const fn default_test() -> u32 {
        96
    }
}

/// The kind `generate`: writes a corpus from a grammar.
pub struct Generate;

const FIELDS: &[Field] = &[
    Field::input("grammar"),
    Field::counted("seed"),
    Field::counted("train"),
    Field::counted("validation"),
    Field::counted("test"),
    Field::counted("shuffle_labels"),
];

impl Kind for Generate {
    fn name(&self) -> &'static str {
        "generate"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "writes a corpus from a grammar"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
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
        for (name, sentences) in [("train", settings.train), ("test", settings.test)] {
            if sentences == 0 {
                return Err(SettingError::new(
                    name,
                    "a corpus needs at least one sentence per language here",
                ));
            }
        }
        if settings.test % 2 == 1 {
            return Err(
                SettingError::new("test", format!("{} sentences cannot be halved", settings.test))
                    .help("half of the test sentences use templates of the training split; give an even number"),
            );
        }
        let splits = ["train", "validation", "test"];
        let made = splits
            .into_iter()
            .filter(|&split| split != "validation" || settings.validation > 0);
        Ok(Resolved::new(&settings)?.makes(made))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let [file] = ctx.files("grammar") else {
            return Err(
                StageError::new(format!("`grammar` names {} files", ctx.files("grammar").len()))
                    .help("give the path of one grammar file"),
            );
        };
        let failed = |what: &str, error: &dyn std::fmt::Display| StageError::new(format!("failed to {what}: {error}"));
        let text = std::fs::read_to_string(&file.path)
            .map_err(|error| failed(&format!("read the grammar `{}`", file.name), &error))?;
        let grammar =
            Grammar::parse(&text).map_err(|error| failed(&format!("read the grammar `{}`", file.name), &error))?;

        let files = corpus(&grammar, &settings);
        let total = files.len() as u64;
        for (done, (name, records)) in files.iter().enumerate() {
            ctx.check_cancelled()?;
            let mut lines = Vec::new();
            for record in records {
                record.write_line(&mut lines);
            }
            let path = ctx.out(name)?;
            std::fs::write(&path, lines).map_err(|error| failed(&format!("write `{name}`"), &error))?;
            ctx.progress(Progress {
                done: done as u64 + 1,
                total: Some(total),
                unit: "files",
                figures: Vec::new(),
            });
        }
        ctx.note(
            "sentences",
            files.iter().map(|(_, records)| records.len()).sum::<usize>().into(),
        );
        Ok(())
    }
}

/// The files of a corpus by their names (`train/en.jsonl`, `test/seen.jsonl`, …), in the order they are written.
pub fn corpus(grammar: &Grammar, settings: &Settings) -> Vec<(String, Vec<Record>)> {
    let mut files: Vec<(String, Vec<Record>)> = Vec::new();
    let mut add = |name: String, mut records: Vec<Record>| match files.iter_mut().find(|file| file.0 == name) {
        Some(file) => file.1.append(&mut records),
        None if records.is_empty() => {}
        None => files.push((name, records)),
    };
    for (language, rules) in grammar.languages() {
        let writer = Writer::new(language, rules, settings.seed);
        let mut train = writer.write(Split::Train, Templates::Seen, settings.train);
        if settings.shuffle_labels {
            shuffle_labels(
                &mut train,
                grammar.types(),
                Rng::new(settings.seed, &format!("labels {language}")),
            );
        }
        add(format!("train/{language}.jsonl"), train);
        add(
            format!("validation/{language}.jsonl"),
            writer.write(Split::Validation, Templates::Seen, settings.validation),
        );
        add(
            "test/seen.jsonl".to_owned(),
            writer.write(Split::Test, Templates::Seen, settings.test / 2),
        );
        add(
            "test/unseen.jsonl".to_owned(),
            writer.write(Split::Test, Templates::Unseen, settings.test / 2),
        );
    }
    files
}

/// The splits of a corpus. Each has invented words of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Split {
    Train,
    Validation,
    Test,
}

impl Split {
    const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// Which of a language's templates are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Templates {
    /// Those of the training split.
    Seen,
    /// Those that only the test split has.
    Unseen,
}

/// Gives every gold a label drawn from all types with equal chances.
fn shuffle_labels(records: &mut [Record], types: &[String], rng: Rng) {
    let mut position = 0;
    for record in records {
        for (token_span, char_span) in record.token_spans.iter_mut().zip(&mut record.char_spans) {
            let label = &types[rng.below(types.len() as u64, position) as usize];
            position += 1;
            token_span.label.clone_from(label);
            char_span.label.clone_from(label);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in_and_parts_declared() {
        let resolved = Generate
            .resolve(&json!({"grammar": "g.yaml"}), &InputParts::default())
            .unwrap();
        assert_eq!(resolved.parts, ["train", "validation", "test"]);
        assert_eq!(
            Value::Object(resolved.settings),
            serde_json::to_value(Settings::new("g.yaml")).unwrap()
        );
        let without = Generate
            .resolve(&json!({"grammar": "g.yaml", "validation": 0}), &InputParts::default())
            .unwrap();
        assert_eq!(without.parts, ["train", "test"]);
    }

    #[test]
    fn wrong_settings_are_named() {
        let path_of = |settings: Value| Generate.resolve(&settings, &InputParts::default()).unwrap_err().path;
        assert_eq!(path_of(json!({"grammar": "g", "test": 7})), "test");
        assert_eq!(path_of(json!({"grammar": "g", "train": 0})), "train");
        assert_eq!(path_of(json!({"grammar": "g", "seed": "x"})), "seed");
    }

    #[test]
    fn every_declared_field_is_a_setting() {
        let Value::Object(settings) = serde_json::to_value(Settings::new("g")).unwrap() else {
            unreachable!()
        };
        let declared: Vec<&str> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(settings.keys().collect::<Vec<_>>(), declared);
    }
}
