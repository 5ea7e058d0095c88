//! A throwaway project: a folder, and the program run in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// A folder that goes away when the test ends.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

/// What a run of the program left behind.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The exit code; none if a signal ended it.
    pub(crate) code: Option<i32>,
}

impl Outcome {
    /// The lines of standard output as JSON.
    #[track_caller]
    pub(crate) fn events(&self) -> Vec<Value> {
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in `{line}`"));
        self.stdout.lines().map(parse).collect()
    }

    /// This outcome, if the program ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "stdout:\n{}\nstderr:\n{}",
            self.stdout,
            self.stderr
        );
        self
    }
}

impl Project {
    /// An empty project.
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// A project with a corpus of two training files and a test file, and `m.yaml` that loads it.
    pub(crate) fn with_corpus() -> Self {
        let project = Self::new();
        project.write("data/train/en.jsonl", &sentences("Ada met Bob in Rome", 3));
        project.write("data/train/de.jsonl", &sentences("Eva traf Max in Bonn", 2));
        project.write("data/test.jsonl", &sentences("Kim saw Lee in Oslo", 2));
        project.write(
            "m.yaml",
            "name: toy
vars: {limit: null}
stages:
  corpus:
    kind: load
    with: {train: 'data/train/*.jsonl', test: data/test.jsonl, limit: '${vars.limit}'}
    publish: out/corpus
",
        );
        project
    }

    /// Where `name` is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and the folders above it.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }

    /// The text of a file.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("`{name}`: {error}"))
    }

    /// The program, ready to run in this project, with nothing of the caller's environment that matters to it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nerpipe"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        command.env_remove("NERPIPE_CACHE_DIR").env_remove("NO_COLOR");
        command
    }

    /// Runs the program in this project.
    pub(crate) fn nerpipe(&self, arguments: &[&str]) -> Outcome {
        let output = self.command(arguments).output().expect("the program starts");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the program writes UTF-8");
        Outcome {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code(),
        }
    }
}

/// A manifest of a small pipeline for [`Project::with_corpus`]: its sentences, of which the test file is `part`; an encoder with random
/// weights; subwords; and a model with `settings`, a line each. `sweep` and the stages in `rest` may be empty.
pub(crate) fn small_pipeline(name: &str, sweep: &str, part: &str, settings: &[&str], rest: &str) -> String {
    let settings = settings.join("\n      ");
    format!(
        "name: {name}
{sweep}stages:
  corpus:
    kind: load
    with: {{train: 'data/train/*.jsonl', {part}: data/test.jsonl}}
  encoder:
    kind: encoder
    inputs: {{corpus: corpus}}
    with: {{source: random, vocabulary_size: 100, hidden_size: 16, layers: 1, heads: 2, seed: 0}}
  tokens:
    kind: tokenize
    inputs: {{corpus: corpus, tokenizer: encoder}}
  model:
    kind: train
    inputs: {{tokens: tokens, token_encoder: encoder, type_encoder: encoder}}
    with:
      architecture: bi_encoder
      max_seq_length: 32
      seed: 1
      {settings}
{rest}"
    )
}

/// `count` records of a sentence of single-word names, each followed by its number.
fn sentences(text: &str, count: usize) -> String {
    let mut lines = String::new();
    for number in 0..count {
        let text = format!("{text} {number}");
        let tokens: Vec<&str> = text.split(' ').collect();
        let end = tokens[0].chars().count();
        let record = serde_json::json!({
            "id": number.to_string(),
            "text": text,
            "tokens": tokens,
            "token_spans": [{"start": 0, "end": 1, "label": "person"}],
            "char_spans": [{"start": 0, "end": end, "label": "person"}],
        });
        lines.push_str(&record.to_string());
        lines.push('\n');
    }
    lines
}
