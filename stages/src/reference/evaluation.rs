//! An evaluation as the reference's command line asks for it: one checkpoint, one corpus, one threshold → a manifest.

use std::path::Path;

use nerpipe_engine::StageError;
use serde_json::{Map, Value, json};

use super::manifest::spell;
use super::results::RESULTS;
use crate::corpus;
use crate::tensors::WEIGHT_FILES;
use crate::thresholds::THRESHOLDS;
use crate::tokens::Format;

/// What is to be evaluated, on what, and how. Paths are relative to the project.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The checkpoint's directory, of the reference or ours.
    pub checkpoint: String,
    /// A corpus file, or a directory with a saved dataset or several.
    pub data: String,
    /// A probability, `cls`, `label_token` or `calibrated`; none for the checkpoint's own.
    pub threshold: Option<Value>,
    /// Which view of the corpus; none for what the checkpoint says.
    pub format: Option<Format>,
    /// Which split of a directory; none for `test`, else `dev`, else `validation`.
    pub split: Option<String>,
    /// Sentences in a forward pass.
    pub batch_size: Option<usize>,
    /// The encoder that the checkpoint was made from; none for what the checkpoint says. Read only where the checkpoint lacks its
    /// tokenizer or its encoder's configuration.
    pub token_encoder: Option<String>,
    /// The same for a bi-encoder's second one.
    pub type_encoder: Option<String>,
    /// Where the results go, in the project.
    pub target: String,
}

/// The splits that are looked for in a directory, in order.
const SPLITS: [&str; 3] = ["test", "dev", "validation"];
/// The lowest probability that an evaluation keeps if nobody asks for a lower one.
const FLOOR: f64 = 0.05;

impl Evaluation {
    /// The manifest of this evaluation. Looks into the checkpoint's directory and the corpus's, relative to `project`, to see what is
    /// there.
    ///
    /// # Errors
    /// If they are not there, or hold nothing that can be evaluated.
    pub fn manifest(&self, project: &Path) -> Result<String, StageError> {
        let held = Held::look(&project.join(&self.checkpoint), &self.checkpoint)?;
        let corpus = self.corpus(project)?;
        let format = match self.format {
            Some(format) => format.name(),
            None => held.format(),
        };
        let mut text = String::from("name: evaluate\nstages:\n");
        self.model(&held, &mut text)?;
        let mut stage = |name: &str, kind: &str, rest: &[String]| write_stage(&mut text, name, kind, rest);
        stage(
            "corpus",
            "load",
            &[format!("with: {{test: {}}}", spell(&json!(corpus)))],
        );
        let inputs = "inputs: {corpus: corpus, tokenizer: model, type_tokenizer: model}".to_owned();
        stage(
            "tokens",
            "tokenize",
            &[inputs, format!("with: {{formats: [{format}]}}")],
        );

        let mut with = Map::new();
        with.insert("splits".to_owned(), json!(["test"]));
        if let Some(threshold) = &self.threshold {
            with.insert("thresholds".to_owned(), json!([threshold]));
            if let Some(probability) = threshold.as_f64().filter(|probability| *probability < FLOOR) {
                with.insert("floor".to_owned(), json!(probability));
            }
        }
        if let Some(size) = self.batch_size {
            with.insert("per_device_eval_batch_size".to_owned(), json!(size));
        }
        let with = format!("with: {}", spell(&Value::Object(with)));
        stage(
            "scores",
            "evaluate",
            &["inputs: {model: model, tokens: tokens}".to_owned(), with],
        );
        let publish = format!("publish: {{{RESULTS}: {}}}", spell(&json!(self.target)));
        stage("results", "results", &["inputs: {scores: scores}".to_owned(), publish]);
        Ok(text)
    }

    /// The manifest that only reads the checkpoint, in a stage `model`.
    ///
    /// # Errors
    /// As [`Evaluation::manifest`].
    pub fn checkpoint_manifest(&self, project: &Path) -> Result<String, StageError> {
        let held = Held::look(&project.join(&self.checkpoint), &self.checkpoint)?;
        let mut text = String::from("name: checkpoint\nstages:\n");
        self.model(&held, &mut text)?;
        Ok(text)
    }

    /// The stage `model`, and those of the encoders that it lacks something of.
    fn model(&self, held: &Held, text: &mut String) -> Result<(), StageError> {
        let mut encoders = Vec::new();
        for (name, own) in [
            ("token_encoder", &self.token_encoder),
            ("type_encoder", &self.type_encoder),
        ] {
            if let Some(source) = held.encoder(name, own.as_deref())? {
                let with = format!("with: {{source: {}}}", spell(&json!(source)));
                write_stage(text, name, "encoder", &[with]);
                encoders.push(format!("{name}: {name}"));
            }
        }
        let mut with = Map::new();
        with.insert("source".to_owned(), json!(self.checkpoint.trim_end_matches('/')));
        with.insert("architecture".to_owned(), json!(held.architecture()));
        if let Some(format) = self.format {
            with.insert("annotation_format".to_owned(), json!(format));
        }
        if held.has(THRESHOLDS) {
            with.insert("calibrated".to_owned(), json!(true));
        }
        let mut model = Vec::new();
        if !encoders.is_empty() {
            model.push(format!("inputs: {{{}}}", encoders.join(", ")));
        }
        model.push(format!("with: {}", spell(&Value::Object(with))));
        write_stage(text, "model", "checkpoint", &model);
        Ok(())
    }

    /// The path of the corpus; of a directory with several splits, that of one.
    fn corpus(&self, project: &Path) -> Result<String, StageError> {
        let data = self.data.trim_end_matches('/');
        Ok(match self.chosen_split(project)? {
            Some(split) => format!("{data}/{split}"),
            None => data.to_owned(),
        })
    }

    /// The split that is evaluated, where the corpus is a directory with several: the one that is asked for, or else the first of
    /// `test`, `dev` and `validation` that is there.
    ///
    /// # Errors
    /// If there is none, or the directory does not say which it has.
    pub fn chosen_split(&self, project: &Path) -> Result<Option<String>, StageError> {
        let data = self.data.trim_end_matches('/');
        let place = project.join(data);
        if !place.join("dataset_dict.json").is_file() {
            return match &self.split {
                Some(split) => Err(
                    StageError::new(format!("`{data}` has no splits, so there is no `{split}` in it"))
                        .help("leave `--split` out"),
                ),
                None => Ok(None),
            };
        }
        let there = corpus::splits(&place)?;
        let named: Vec<&str> = match &self.split {
            Some(split) => vec![split],
            None => SPLITS.to_vec(),
        };
        let found = named.iter().find(|split| there.iter().any(|name| name == *split));
        found.map(|split| Some((*split).to_owned())).ok_or_else(|| {
            let there: Vec<String> = there.iter().map(|split| format!("`{split}`")).collect();
            StageError::new(format!("`{data}` has no split `{}`", named.join("`, `")))
                .help(format!("name one of these with `--split`: {}", there.join(", ")))
        })
    }
}

/// Adds a stage to a manifest.
fn write_stage(text: &mut String, name: &str, kind: &str, rest: &[String]) {
    text.push_str(&format!("  {name}:\n    kind: {kind}\n"));
    for line in rest {
        text.push_str(&format!("    {line}\n"));
    }
}

/// What a checkpoint's directory holds.
struct Held {
    shown: String,
    /// Names of the files in it and in its folders, such as `tokenizer/tokenizer.json`.
    files: Vec<String>,
    config: Map<String, Value>,
}

impl Held {
    fn look(folder: &Path, shown: &str) -> Result<Self, StageError> {
        let shown = shown.trim_end_matches('/').to_owned();
        if !folder.is_dir() {
            return Err(StageError::new(format!("there is no directory `{shown}`"))
                .help("name the directory of a checkpoint, such as `models/bi_encoder/best_checkpoint`"));
        }
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            for inner in std::fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                files.push(format!("{name}/{}", inner.file_name().to_string_lossy()));
            }
            files.push(name);
        }
        files.sort();
        let mut held = Self {
            shown,
            files,
            config: Map::new(),
        };
        if !WEIGHT_FILES.iter().any(|name| held.has(name)) {
            let is_checkpoint = |file: &&String| *file == "best_checkpoint" || file.starts_with("checkpoint-");
            let inner = held.files.iter().find(is_checkpoint);
            let help = match inner {
                Some(inner) => format!("name the checkpoint itself, such as `{}/{inner}`", held.shown),
                None => format!("weights are looked for as `{}`", WEIGHT_FILES.join("`, `")),
            };
            return Err(StageError::new(format!("`{}` has no weights", held.shown)).help(help));
        }
        let bytes = std::fs::read(folder.join("config.json"))
            .map_err(|error| StageError::new(format!("failed to read `{}/config.json`: {error}", held.shown)))?;
        held.config = serde_json::from_slice(&bytes)
            .map_err(|error| StageError::new(format!("`{}/config.json` cannot be used: {error}", held.shown)))?;
        Ok(held)
    }

    fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn is_bi_encoder(&self) -> bool {
        self.has("type_encoder_config.json") || self.has("type_encoder/config.json")
    }

    fn architecture(&self) -> &'static str {
        if self.is_bi_encoder() {
            "bi_encoder"
        } else {
            "cross_encoder"
        }
    }

    /// The view of the corpus that the model reads.
    fn format(&self) -> &str {
        match self.config.get("annotation_format").and_then(Value::as_str) {
            Some("text") => "text",
            _ => "tokens",
        }
    }

    /// Where the encoder called `which` comes from, if something of it is missing here.
    fn encoder(&self, which: &str, own: Option<&str>) -> Result<Option<String>, StageError> {
        let has_any = |names: &[String]| names.iter().any(|name| self.has(name));
        let tokenizers: &[&str] = match which {
            "token_encoder" => &[
                "tokenizer.json",
                "tokenizer/tokenizer.json",
                "token_encoder/tokenizer.json",
            ],
            _ if !self.is_bi_encoder() => return Ok(None),
            _ => &[
                "type_tokenizer.json",
                "type_tokenizer/tokenizer.json",
                "type_encoder/tokenizer.json",
            ],
        };
        let configs = [format!("{which}_config.json"), format!("{which}/config.json")];
        let tokenizers: Vec<String> = tokenizers.iter().map(|name| (*name).to_owned()).collect();
        if has_any(&configs) && has_any(&tokenizers) && own.is_none() {
            return Ok(None);
        }
        let said = self
            .config
            .get(which)
            .and_then(Value::as_str)
            .filter(|said| *said != "none");
        own.or(said).map(|source| Some(source.to_owned())).ok_or_else(|| {
            StageError::new(format!(
                "the checkpoint `{}` lacks its tokenizer, and does not say which encoder it was made from",
                self.shown
            ))
            .help(format!("name it with `--{which}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, text).expect("written");
        }
        folder
    }

    fn evaluation() -> Evaluation {
        Evaluation {
            checkpoint: "m/".to_owned(),
            data: "test.jsonl".to_owned(),
            target: "evals/eval_1.json".to_owned(),
            ..Evaluation::default()
        }
    }

    const OURS: [(&str, &str); 5] = [
        ("m/config.json", r#"{"annotation_format": "text"}"#),
        ("m/model.safetensors", ""),
        ("m/tokenizer.json", ""),
        ("m/token_encoder_config.json", ""),
        ("test.jsonl", ""),
    ];

    #[test]
    fn our_checkpoint_needs_nothing_besides() {
        let project = project(&OURS);
        let text = evaluation().manifest(project.path()).expect("a manifest");
        assert!(!text.contains("kind: encoder"), "{text}");
        assert!(text.contains("source: m, architecture: cross_encoder"), "{text}");
        assert!(text.contains("formats: [text]"), "{text}");
        assert!(
            text.contains("publish: {test_results.json: evals/eval_1.json}"),
            "{text}"
        );
        assert!(!text.contains("thresholds"), "{text}");
        let low = Evaluation {
            threshold: Some(json!(0.01)),
            ..evaluation()
        };
        let text = low.manifest(project.path()).expect("a manifest");
        assert!(text.contains("thresholds: [0.01], floor: 0.01"), "{text}");
    }

    /// Defect 30 of the reference: its bi-encoder checkpoints have no tokenizer.
    #[test]
    fn the_encoders_of_the_references_checkpoints_are_added() {
        let project = project(&[
            (
                "m/config.json",
                r#"{"token_encoder": "google-bert/bert-base-uncased", "type_encoder": "other"}"#,
            ),
            ("m/model.pt", ""),
            ("m/token_encoder/config.json", ""),
            ("m/type_encoder/config.json", ""),
        ]);
        let text = evaluation().manifest(project.path()).expect("a manifest");
        assert!(text.contains("source: google-bert/bert-base-uncased"), "{text}");
        assert!(
            text.contains("inputs: {token_encoder: token_encoder, type_encoder: type_encoder}"),
            "{text}"
        );
        assert!(text.contains("architecture: bi_encoder"), "{text}");
        let named = Evaluation {
            token_encoder: Some("data/encoders/mine".to_owned()),
            ..evaluation()
        };
        assert!(
            named
                .manifest(project.path())
                .expect("a manifest")
                .contains("source: data/encoders/mine")
        );
    }

    #[test]
    fn of_a_directory_the_test_split_is_taken_or_else_the_next_best() {
        let project = project(&OURS);
        let in_folder = |split: Option<&str>| {
            let asked = Evaluation {
                data: "d/".to_owned(),
                split: split.map(str::to_owned),
                ..evaluation()
            };
            asked.manifest(project.path())
        };
        let dict = |splits: &[&str]| {
            fs::create_dir_all(project.path().join("d")).expect("created");
            let text = json!({ "splits": splits }).to_string();
            fs::write(project.path().join("d/dataset_dict.json"), text).expect("written");
        };
        dict(&["train"]);
        let error = in_folder(None).expect_err("only train");
        assert!(
            error.message.contains("no split `test`, `dev`, `validation`"),
            "{error}"
        );
        assert!(error.help.is_some_and(|help| help.contains("`train`")));
        assert!(
            in_folder(Some("train"))
                .expect("a manifest")
                .contains("{test: d/train}")
        );
        let all = ["train", "validation", "dev", "test"];
        for last in 1..all.len() {
            dict(&all[..=last]);
            let text = in_folder(None).expect("a manifest");
            assert!(text.contains(&format!("{{test: d/{}}}", all[last])), "{text}");
        }
        // The list counts, not the folders: a folder that is missing is told of when it is read.
        let error = in_folder(Some("nothing")).expect_err("no such split");
        assert!(
            error
                .help
                .is_some_and(|help| help.contains("`train`, `validation`, `dev`, `test`"))
        );
        dict(&["../d"]);
        let error = in_folder(Some("../d")).expect_err("leads out");
        assert!(error.message.contains("leads out of the folder"), "{error}");
    }

    #[test]
    fn an_output_directory_is_not_taken_for_a_checkpoint() {
        let project = project(&[("m/config.json", "{}"), ("m/best_checkpoint/config.json", "{}")]);
        let error = evaluation().manifest(project.path()).expect_err("no weights");
        assert_eq!(
            error.help.as_deref(),
            Some("name the checkpoint itself, such as `m/best_checkpoint`")
        );
        let missing = Evaluation {
            checkpoint: "nowhere".to_owned(),
            ..evaluation()
        };
        assert!(
            missing
                .manifest(project.path())
                .expect_err("missing")
                .message
                .contains("no directory `nowhere`")
        );
    }
}
