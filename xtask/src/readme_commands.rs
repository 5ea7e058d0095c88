//! `cargo xtask readme-commands`: every command line of the reference trainer's README, word by word in nerpipe's, run one after the
//! other in a throwaway project that looks as that README has it; and a table of what came of each.
//!
//! Without options it needs nothing but the repository: a part of data/sample, saved datasets of the tests, and random encoders.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};

use crate::Outcome;
use crate::bench::found;
use crate::end_to_end::copy;
use crate::shell::{Shell, root, target};

const SENTENCES: usize = 40;
const STEPS: u64 = 4;

#[derive(Args)]
pub(crate) struct ReadmeCommands {
    /// A corpus: a folder with train.jsonl, validation.jsonl and test.jsonl [default: a part of data/sample]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A directory that `datasets` saved, with a split `test` [default: a small one of the tests]
    #[arg(long, value_name = "DIR")]
    saved: Option<PathBuf>,
    /// An encoder as Hugging Face lays it out [default: a small random one]
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// Sentences that are taken of each file of the corpus
    #[arg(long, value_name = "N", default_value_t = SENTENCES)]
    sentences: usize,
    /// Steps of each training
    #[arg(long, value_name = "N", default_value_t = STEPS)]
    steps: u64,
    /// Another build of nerpipe than the release build, which is then not made
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
}

impl Default for ReadmeCommands {
    fn default() -> Self {
        Self {
            data: None,
            saved: None,
            encoder: None,
            sentences: SENTENCES,
            steps: STEPS,
            program: None,
        }
    }
}

/// The configs of the README, and the threshold that their models take.
const SYSTEMS: [(&str, &str); 5] = [
    ("bi_encoder", "0.5"),
    ("bi_encoder_contrastive", "cls"),
    ("cross_encoder", "0.5"),
    ("cross_encoder_contrastive", "cls"),
    // The same config with the other kind of threshold that the README names.
    (LABEL_TOKEN, "label_token"),
];
const LABEL_TOKEN: &str = "cross_encoder_contrastive_label_token";
const CORPUS: &str = "data/conll2003/test.jsonl";
/// Saved datasets: with a split `test`, and with `dev` in its place.
const SAVED: [&str; 2] = ["data/eval_data/panx/en", "data/eval_data/panx/de"];

/// A command line, and what must come of it.
#[derive(Default)]
struct Line {
    /// What the README has in its place; empty if it has nothing.
    there: String,
    words: Vec<String>,
    input: Option<&'static str>,
    exit: i32,
    /// Files that must be there afterwards.
    makes: Vec<String>,
    /// Whether a file in `evals` must have come.
    evaluates: bool,
    /// What must be in its output.
    says: Vec<String>,
    /// Where its standard output is kept for a later line.
    keep: Option<String>,
}

/// How a line ended.
struct Ended {
    shown: String,
    there: String,
    seconds: f64,
    /// What is not as it must be.
    wrong: Vec<String>,
}

/// Runs all lines.
pub(crate) fn run(options: &ReadmeCommands, shell: &mut Shell) -> Outcome {
    let program = match &options.program {
        Some(program) => found(program)?,
        None => target()?.join("release").join("nerpipe"),
    };
    let project = tempfile::Builder::new()
        .prefix("readme-commands-")
        .tempdir_in(target()?)
        .map_err(|error| format!("cannot create a throwaway project: {error}"))?;
    let project = project.path();
    lay_out(options, project)?;
    let lines = lines(options.steps);
    let mut ended = Vec::with_capacity(lines.len());
    for line in &lines {
        ended.push(perform(line, &program, project)?);
    }
    shell.note(String::new());
    for line in &ended {
        let outcome = if line.wrong.is_empty() { "ok   " } else { "WRONG" };
        shell.note(format!("{outcome} {:6.2} s  {}", line.seconds, line.shown));
        if !line.there.is_empty() {
            shell.note(format!("         there:  {}", line.there));
        }
        for wrong in &line.wrong {
            shell.note(format!("         {wrong}"));
        }
    }
    let wrong = ended.iter().filter(|line| !line.wrong.is_empty()).count();
    shell.note(format!(
        "{} command lines, {wrong} of them not as they must be",
        ended.len()
    ));
    match wrong {
        0 => Ok(()),
        _ => Err(format!(
            "{wrong} of {} command lines did not do what they must",
            ended.len()
        )),
    }
}

/// Makes the folders of the README: `configs`, `data/conll2003`, `data/finerweb_splitted`, `data/eval_data`.
fn lay_out(options: &ReadmeCommands, project: &Path) -> Outcome {
    let sample = root().join("data/sample");
    let corpus = project.join("data/conll2003");
    for split in ["train", "validation", "test"] {
        let files = match &options.data {
            Some(data) => vec![data.join(format!("{split}.jsonl"))],
            None => jsonl(&sample.join(split))?,
        };
        // The same number of each language.
        let each = options.sentences.div_ceil(files.len());
        let mut lines = String::new();
        for file in &files {
            lines.push_str(&head(file, each)?);
        }
        write(&corpus.join(format!("{split}.jsonl")), &lines)?;
    }
    for file in jsonl(&sample.join("train"))?.iter().take(2) {
        let name = file.file_name().unwrap_or_default();
        write(
            &project.join("data/finerweb_splitted").join(name),
            &head(file, options.sentences)?,
        )?;
    }
    let saved = root().join("stages/tests/corpora");
    for (folder, splits) in SAVED.iter().zip([["train", "test"], ["train", "dev"]]) {
        let folder = project.join(folder);
        for split in splits {
            let from = if split == "train" {
                saved.join("legacy")
            } else {
                saved.join("large")
            };
            copy(&from, &folder.join(split)).map_err(|error| format!("cannot copy `{}`: {error}", from.display()))?;
        }
        write(
            &folder.join("dataset_dict.json"),
            &json!({ "splits": splits }).to_string(),
        )?;
    }
    if let Some(own) = &options.saved {
        let folder = project.join(SAVED[0]);
        fs::remove_dir_all(&folder).map_err(|error| format!("cannot remove `{}`: {error}", folder.display()))?;
        copy(own, &folder).map_err(|error| format!("cannot copy `{}`: {error}", own.display()))?;
    }
    copy(&sample.join("vocab.txt"), &project.join("data/sample/vocab.txt"))
        .map_err(|error| format!("cannot copy the vocabulary: {error}"))?;
    let encoder = options.encoder.as_deref().map(found).transpose()?;
    for (name, threshold) in SYSTEMS {
        let mut config = config(
            name.strip_suffix("_label_token").unwrap_or(name),
            options.steps,
            encoder.as_deref(),
        )?;
        config["output_dir"] = json!(format!("models/{name}"));
        if threshold == "label_token" {
            config["prediction_threshold"] = json!(threshold);
        }
        write(&project.join(format!("configs/{name}.json")), &pretty(&config)?)?;
    }
    // "To use multiple training files", as the README has it.
    let mut many = config("bi_encoder", options.steps, encoder.as_deref())?;
    many["train_file"] = json!("data/finerweb_splitted/*.jsonl");
    many["output_dir"] = json!("models/finerweb");
    write(&project.join("configs/finerweb.json"), &pretty(&many)?)
}

/// A config of `pipelines/reference`, cut short.
fn config(name: &str, steps: u64, encoder: Option<&Path>) -> Outcome<Value> {
    let path = root().join(format!("pipelines/reference/{name}.json"));
    let text = fs::read_to_string(&path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    let mut config: Value = serde_json::from_str(&text).map_err(|error| format!("`{}`: {error}", path.display()))?;
    for (key, value) in [
        ("train_file", json!("data/conll2003/train.jsonl")),
        ("validation_file", json!("data/conll2003/validation.jsonl")),
        ("test_file", json!(CORPUS)),
        ("max_steps", json!(steps)),
        ("eval_steps", json!(steps)),
        ("logging_steps", json!(1)),
        ("warmup_steps", json!(0)),
        ("per_device_train_batch_size", json!(4)),
    ] {
        config[key] = value;
    }
    for key in ["token_encoder", "type_encoder"] {
        match encoder {
            _ if config[key] == "none" => {}
            Some(encoder) => config[key] = json!(encoder),
            None => {
                for (size, value) in [("hidden_size", 32), ("layers", 1), ("heads", 2)] {
                    config[key][size] = json!(value);
                }
            }
        }
    }
    Ok(config)
}

fn pretty(value: &Value) -> Outcome<String> {
    serde_json::to_string_pretty(value).map_err(|error| error.to_string())
}

fn write(path: &Path, text: &str) -> Outcome {
    let folder = path.parent().unwrap_or(path);
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(path, text));
    written.map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

/// The files of a folder that end in `.jsonl`, sorted.
fn jsonl(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("cannot read `{}`: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    match files.is_empty() {
        true => Err(format!("there is no corpus in `{}`", folder.display())),
        false => Ok(files),
    }
}

/// The first lines of a file.
fn head(file: &Path, lines: usize) -> Outcome<String> {
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read `{}`: {error}", file.display()))?;
    Ok(text.split_inclusive('\n').take(lines).collect())
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Every line, in an order in which each finds what it needs.
fn lines(steps: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    let trained = |name: &str| {
        let made = [
            "config.json",
            "run.log",
            "test_results.json",
            "best_checkpoint/model.safetensors",
        ];
        let made = made.map(|file| format!("models/{name}/{file}"));
        let weights = format!("models/{name}/checkpoint-{steps}/model.safetensors");
        made.into_iter().chain([weights]).collect::<Vec<_>>()
    };
    for (name, _) in SYSTEMS {
        let script = name.strip_suffix("_label_token").unwrap_or(name);
        lines.push(Line {
            there: format!("accelerate launch train_{script}.py configs/{name}.json"),
            words: words(&format!("run configs/{name}.json")),
            makes: trained(name),
            says: vec!["micro".to_owned(), "macro".to_owned()],
            ..Line::default()
        });
    }
    lines.push(Line {
        there: "accelerate launch train_bi_encoder.py configs/finerweb.json".to_owned(),
        words: words("run configs/finerweb.json"),
        makes: trained("finerweb"),
        ..Line::default()
    });

    for (name, threshold) in SYSTEMS {
        for data in [CORPUS, SAVED[0]] {
            for format in ["tokens", "text"] {
                lines.push(evaluation(name, steps, data, threshold, format));
            }
        }
    }
    // Where there is no split `test`, `dev` is taken.
    for name in ["bi_encoder", "cross_encoder"] {
        let mut line = evaluation(name, steps, SAVED[1], "0.5", "tokens");
        line.says.push("split `dev`".to_owned());
        lines.push(line);
    }
    let mut split = evaluation("bi_encoder", steps, SAVED[0], "0.5", "tokens");
    split.there.clear();
    split.words.extend(words("--split train"));
    lines.push(split);
    let mut dashed = evaluation("cross_encoder", steps, CORPUS, "0.3", "tokens");
    dashed.there.clear();
    for word in dashed.words.iter_mut().filter(|word| word.starts_with("--")) {
        *word = word.replace('_', "-");
    }
    lines.push(dashed);
    // What the reference takes in silence is refused.
    for (name, threshold, reason) in [
        ("bi_encoder", "cls", "it takes a probability"),
        ("cross_encoder", "label_token", "it takes a probability"),
        ("bi_encoder_contrastive", "0.5", "it takes `cls`"),
        ("cross_encoder_contrastive", "label_token", "it takes `cls`"),
    ] {
        let line = evaluation(name, steps, CORPUS, threshold, "tokens");
        lines.push(Line {
            exit: 1,
            evaluates: false,
            says: vec![reason.to_owned()],
            ..line
        });
    }

    for (name, _) in SYSTEMS {
        let manifest = format!("{name}.yaml");
        lines.push(Line {
            words: words(&format!("convert configs/{name}.json")),
            says: vec!["stages:".to_owned(), "kind: train".to_owned()],
            keep: Some(manifest.clone()),
            ..Line::default()
        });
        // The manifest is the same run: all of it is there.
        lines.push(Line {
            words: words(&format!("run {manifest}")),
            says: vec!["0 executed".to_owned()],
            ..Line::default()
        });
    }

    for (name, _) in SYSTEMS {
        let mut words = words(&format!(
            "predict --model models/{name}/best_checkpoint --labels person,location"
        ));
        words.push("Ada Lovelace lived in London.".to_owned());
        lines.push(Line {
            words,
            says: vec![r#"{"text":"Ada Lovelace lived in London.","entities":["#.to_owned()],
            ..Line::default()
        });
    }
    let predict = |more: &str, input: Option<&'static str>, says: &str| Line {
        words: words(&format!(
            "predict --model models/bi_encoder/best_checkpoint --labels person,location {more}"
        )),
        input,
        says: vec![says.to_owned()],
        ..Line::default()
    };
    lines.push(predict(&format!("--file {CORPUS} --nested"), None, r#""entities":["#));
    lines.push(predict("--output text", Some("Ada saw Kim\nand Lee\n"), "and Lee"));
    lines.push(predict(
        "--input jsonl",
        Some("{\"id\": 7, \"tokens\": [\"Ada\", \"slept\"]}\n"),
        r#""id":7"#,
    ));
    lines
}

/// The evaluation of a system's checkpoint, in the README's own words.
fn evaluation(name: &str, steps: u64, data: &str, threshold: &str, format: &str) -> Line {
    let options = format!(
        "--pretrained_model_name_or_path models/{name}/checkpoint-{steps} --evaluation_file {data} --threshold {threshold} \
         --evaluation_format {format}"
    );
    let script = if name.starts_with("bi") { "bi" } else { "cross" };
    Line {
        there: format!("python evaluate_{script}_encoder.py {options}"),
        words: words(&format!("evaluate {options}")),
        evaluates: true,
        says: vec![format!("threshold {threshold}"), "micro".to_owned()],
        ..Line::default()
    }
}

/// Runs a line in the project and looks at what came of it.
fn perform(line: &Line, program: &Path, project: &Path) -> Outcome<Ended> {
    let quoted = |word: &String| {
        if word.contains(' ') {
            format!("\"{word}\"")
        } else {
            word.clone()
        }
    };
    let shown = format!(
        "nerpipe {}",
        line.words.iter().map(quoted).collect::<Vec<_>>().join(" ")
    );
    println!("$ {shown}");
    let before = evaluations(project);
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(&line.words)
        .current_dir(project)
        .stdin(if line.input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{}`: {error}", program.display()))?;
    if let (Some(input), Some(mut pipe)) = (line.input, child.stdin.take()) {
        let written = pipe.write_all(input.as_bytes());
        written.map_err(|error| format!("cannot write to `{shown}`: {error}"))?;
    }
    let output = child.wait_with_output();
    let output = output.map_err(|error| format!("cannot wait for `{shown}`: {error}"))?;
    let seconds = begun.elapsed().as_secs_f64();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );

    let mut wrong = Vec::new();
    if output.status.code() != Some(line.exit) {
        wrong.push(format!(
            "ended with {}, not with exit code {}",
            output.status, line.exit
        ));
    }
    let missing = line.makes.iter().filter(|file| !project.join(file).is_file());
    wrong.extend(missing.map(|file| format!("`{file}` is not there")));
    let all = format!("{stdout}{stderr}");
    let unsaid = line.says.iter().filter(|words| !all.contains(words.as_str()));
    wrong.extend(unsaid.map(|words| format!("{words:?} is not in its output")));
    let new: Vec<String> = evaluations(project).difference(&before).cloned().collect();
    if new.len() != usize::from(line.evaluates) {
        wrong.push(format!("there are {} new files in `evals`", new.len()));
    }
    for name in &new {
        let results = fs::read(project.join("evals").join(name)).unwrap_or_default();
        let results: Value = serde_json::from_slice(&results).unwrap_or_default();
        for part in ["micro", "macro"] {
            if !results["test_metrics"][part]["f1"].is_number() {
                wrong.push(format!("`evals/{name}` has no `test_metrics.{part}.f1`"));
            }
        }
    }
    if let Some(name) = &line.keep {
        write(&project.join(name), &stdout)?;
    }
    if !wrong.is_empty() {
        println!("{}", all.trim_end());
    }
    for problem in &wrong {
        println!("  WRONG: {problem}");
    }
    Ok(Ended {
        shown,
        there: line.there.clone(),
        seconds,
        wrong,
    })
}

/// The names of the files in `evals`.
fn evaluations(project: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(project.join("evals")).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_threshold_and_both_formats_are_asked_for() {
        let lines = lines(4);
        for needed in [
            "run configs/cross_encoder_contrastive.json",
            "--evaluation_file data/conll2003/test.jsonl --threshold 0.5 --evaluation_format tokens",
            "--threshold cls --evaluation_format text",
            "--threshold label_token --evaluation_format tokens",
            "--evaluation_file data/eval_data/panx/en",
            "--evaluation-file",
            "convert configs/bi_encoder.json",
        ] {
            assert!(
                lines.iter().any(|line| line.words.join(" ").contains(needed)),
                "{needed}"
            );
        }
    }

    #[test]
    fn the_project_looks_as_the_readme_has_it() {
        let project = tempfile::tempdir().expect("a folder");
        let options = ReadmeCommands {
            sentences: 12,
            steps: 2,
            ..ReadmeCommands::default()
        };
        lay_out(&options, project.path()).expect("laid out");
        for (name, _) in SYSTEMS {
            let config = fs::read(project.path().join(format!("configs/{name}.json"))).expect("a config");
            let config: Value = serde_json::from_slice(&config).expect("JSON");
            assert_eq!(config["max_steps"], 2);
            assert_eq!(config["type_encoder"] == "none", name.starts_with("cross"));
        }
        let test = fs::read_to_string(project.path().join(CORPUS)).expect("a corpus");
        assert_eq!(test.lines().count(), 12);
        assert!(project.path().join(SAVED[1]).join("dev/state.json").is_file());
    }

    #[test]
    fn what_is_not_as_it_must_be_is_told() {
        let project = tempfile::tempdir().expect("a folder");
        let line = Line {
            words: words("-c true"),
            exit: 1,
            makes: vec!["made".to_owned()],
            evaluates: true,
            says: vec!["words".to_owned()],
            ..Line::default()
        };
        let ended = perform(&line, Path::new("sh"), project.path()).expect("it starts");
        assert_eq!(ended.wrong.len(), 4, "{:?}", ended.wrong);
        let fine = Line {
            words: words("-s"),
            input: Some("echo words"),
            says: vec!["words".to_owned()],
            keep: Some("kept".to_owned()),
            ..Line::default()
        };
        let ended = perform(&fine, Path::new("sh"), project.path()).expect("it starts");
        assert!(ended.wrong.is_empty(), "{:?}", ended.wrong);
        assert!(project.path().join("kept").is_file());
    }
}
