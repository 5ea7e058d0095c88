//! `nerpipe evaluate`: the reference's evaluation, by its own options: one checkpoint, one corpus, one threshold.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use nerpipe_stages::device::DeviceChoice;
use nerpipe_stages::reference::Evaluation;
use nerpipe_stages::tokens::Format;
use serde_json::{Value, json};

use super::{Session, names, run};
use crate::cli::positive;
use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The checkpoint's directory, or a model's name on the hub
    #[arg(
        long = "pretrained_model_name_or_path",
        alias = "pretrained-model-name-or-path",
        alias = "model",
        value_name = "DIR"
    )]
    pub(crate) checkpoint: String,
    /// A corpus file, or a directory that `datasets` saved
    #[arg(long = "evaluation_file", alias = "evaluation-file", value_name = "FILE_OR_DIR")]
    pub(crate) data: String,
    /// A probability such as 0.5, `cls`, `label_token`, or `calibrated` [default: the checkpoint's own]
    #[arg(long, value_parser = threshold)]
    pub(crate) threshold: Option<Value>,
    /// Whether the model reads words or raw text [default: what the checkpoint says]
    #[arg(long = "evaluation_format", alias = "evaluation-format", value_name = "FORMAT")]
    pub(crate) format: Option<View>,
    /// Which split of a directory [default: test, else dev, else validation]
    #[arg(long)]
    pub(crate) split: Option<String>,
    /// Where the results go, in the working directory [default: evals/eval_TIME.json]
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<String>,
    /// Sentences in a forward pass
    #[arg(long = "per_device_eval_batch_size", alias = "per-device-eval-batch-size", value_name = "N", value_parser = positive)]
    pub(crate) batch_size: Option<usize>,
    /// The encoder that the checkpoint was made from, if it has no tokenizer [default: what the checkpoint says]
    #[arg(long = "token_encoder", alias = "token-encoder", value_name = "DIR_OR_NAME")]
    pub(crate) token_encoder: Option<String>,
    /// The same for the encoder of types
    #[arg(long = "type_encoder", alias = "type-encoder", value_name = "DIR_OR_NAME")]
    pub(crate) type_encoder: Option<String>,
    /// Where artifacts are kept [default: `cache`]
    #[arg(long, value_name = "DIR", env = "NERPIPE_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// How many threads to use [default: one per core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,
    /// Where the model runs: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Say nothing but warnings, errors and the results
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// A view of a corpus.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum View {
    /// Pre-split words
    Tokens,
    /// Raw text
    Text,
}

impl From<View> for Format {
    fn from(view: View) -> Self {
        match view {
            View::Tokens => Self::Tokens,
            View::Text => Self::Text,
        }
    }
}

/// Evaluates a checkpoint.
pub(crate) fn evaluate(args: &EvaluateArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let project = PathBuf::from(".");
    let target = match &args.output {
        Some(file) => file.clone(),
        None => free_target(&project, &stamp(SystemTime::now())),
    };
    let evaluation = Evaluation {
        checkpoint: names::directory(&args.checkpoint, &project)?,
        data: args.data.clone(),
        threshold: args.threshold.clone(),
        format: args.format.map(Format::from),
        split: args.split.clone(),
        batch_size: args.batch_size,
        token_encoder: args.token_encoder.clone(),
        type_encoder: args.type_encoder.clone(),
        target: target.clone(),
    };
    let manifest = evaluation
        .manifest(&project)
        .map_err(|error| Error::usage(error.message, error.help))?;
    let split = evaluation.chosen_split(&project);
    if let (Ok(Some(split)), false) = (split, args.quiet) {
        terminal.err(&format!("evaluates the split `{split}` of `{}`", args.data));
    }
    let session = Session::of_text("evaluate", &manifest, project, args.cache_dir.as_deref())?;
    let options = run::options(None, args.threads, args.device)?;
    let exit = run::perform(&session, &options, (false, args.quiet), &[], terminal)?;
    if exit == Exit::Done {
        terminal.err(&format!("results in {target}"));
    }
    Ok(exit)
}

/// `evals/eval_STAMP.json`, or with a number behind it, if there was an evaluation in the same second.
fn free_target(project: &Path, stamp: &str) -> String {
    let numbered = (2..).map(|number| format!("evals/eval_{stamp}_{number}.json"));
    std::iter::once(format!("evals/eval_{stamp}.json"))
        .chain(numbered)
        .find(|target| !project.join(target).exists())
        .unwrap_or_default()
}

/// A threshold: a number between 0 and 1, or a word.
pub(crate) fn threshold(text: &str) -> Result<Value, String> {
    match (text, text.parse::<f64>()) {
        ("cls" | "label_token" | "calibrated", _) => Ok(json!(text)),
        (_, Ok(number)) if number > 0.0 && number < 1.0 => Ok(json!(number)),
        _ => Err("give a probability between 0 and 1, `cls`, `label_token` or `calibrated`".to_owned()),
    }
}

/// A time in a file's name, in UTC: `20260228_091500`.
fn stamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, so that the leap day ends a year; 400 years have 146,097 days.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!(
        "{year:04}{month:02}{day:02}_{:02}{:02}{:02}",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_written_as_people_write_them() {
        for (seconds, text) in [
            (0, "19700101_000000"),
            (951_782_399, "20000228_235959"),
            (951_782_400, "20000229_000000"),
            (1_772_269_500, "20260228_090500"),
            (4_107_542_400, "21000301_000000"),
        ] {
            assert_eq!(stamp(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn results_of_one_second_do_not_replace_each_other() {
        let project = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(project.path().join("evals")).expect("created");
        for name in ["evals/eval_1.json", "evals/eval_1_2.json", "evals/eval_1_3.json"] {
            assert_eq!(free_target(project.path(), "1"), name);
            std::fs::write(project.path().join(name), "").expect("written");
        }
    }

    #[test]
    fn thresholds_are_numbers_or_words() {
        assert_eq!(threshold("0.5"), Ok(json!(0.5)));
        assert_eq!(threshold("cls"), Ok(json!("cls")));
        for wrong in ["1", "0", "nan", "sep", ""] {
            assert!(threshold(wrong).is_err(), "{wrong}");
        }
    }
}
