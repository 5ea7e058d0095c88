//! Measurements on real data.

pub(crate) mod all;
pub(crate) mod data;
pub(crate) mod engine;
pub(crate) mod systems;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::Outcome;
use crate::end_to_end::copy;
use crate::shell::{Shell, nerpipe, root, target};

/// The files of an encoder's directory that both sides read, if they are there.
const ENCODER: [&str; 5] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
];
/// The dropout settings in a BERT's config.json.
const DROPOUTS: [&str; 2] = ["hidden_dropout_prob", "attention_probs_dropout_prob"];
/// The names of the four systems in compare_losses.yaml: architecture, loss.
pub(crate) const SYSTEMS: [(&str, &str); 4] = [
    ("bi_encoder", "bce"),
    ("bi_encoder", "contrastive"),
    ("cross_encoder", "bce"),
    ("cross_encoder", "contrastive"),
];

/// Runs pipelines/real_data.yaml, which prints its table.
pub(crate) fn real(data: &Path, encoder: &Path, shell: &mut Shell) -> Outcome {
    let mut command = nerpipe()?;
    command.args(["run", "pipelines/real_data.yaml"]);
    set(&mut command, "data", &found(data)?);
    set(&mut command, "encoder", &found(encoder)?);
    shell.run(&mut command)
}

/// Trains each system for some steps without dropout and has `peer` replay them; fails if a loss is off.
pub(crate) fn losses(data: &Path, encoder: &Path, peer: &Path, python: &Path, shell: &mut Shell) -> Outcome {
    let train = found(&data.join("bc5cdr/train.jsonl"))?;
    let peer = found(peer)?;
    let project = tempfile::Builder::new()
        .prefix("compare-losses-")
        .tempdir_in(target()?)
        .map_err(|error| format!("cannot create a throwaway project: {error}"))?;
    let project = project.path();
    without_dropout(&found(encoder)?, &project.join("encoder"))?;

    let mut command = nerpipe()?;
    command
        .arg("run")
        .arg(root().join("xtask/peer/compare_losses.yaml"))
        .current_dir(project);
    set(&mut command, "train", &train);
    shell.run(&mut command)?;

    let mut off = Vec::new();
    for (architecture, loss) in SYSTEMS {
        let checkpoint = |steps: u32| project.join(format!("checkpoints/{architecture}-{loss}-{steps}"));
        let mut command = Command::new(python);
        command.arg(root().join("xtask/peer/compare_losses.py"));
        command
            .arg("--peer")
            .arg(&peer)
            .arg("--encoder")
            .arg(project.join("encoder"))
            .arg("--train")
            .arg(&train);
        command
            .arg("--initial")
            .arg(checkpoint(0))
            .arg("--trained")
            .arg(checkpoint(20));
        let mut last = String::new();
        let ended = shell.lines(&mut command, &mut |line| {
            println!("{line}");
            line.clone_into(&mut last);
        });
        shell.note(format!("{architecture}, {loss}: {last}"));
        if ended.is_err() {
            off.push(format!("{architecture} with {loss}"));
        }
    }
    if off.is_empty() {
        Ok(())
    } else {
        Err(format!("the losses do not agree: {}", off.join(", ")))
    }
}

/// Copies an encoder and turns its own dropout off: two programs would draw different masks.
fn without_dropout(from: &Path, to: &Path) -> Outcome {
    for name in ENCODER {
        if from.join(name).exists() {
            copy(&from.join(name), &to.join(name)).map_err(|error| format!("cannot copy `{name}`: {error}"))?;
        }
    }
    let config = to.join("config.json");
    let text =
        fs::read_to_string(&config).map_err(|error| format!("cannot read the encoder's config.json: {error}"))?;
    let mut settings: Value =
        serde_json::from_str(&text).map_err(|error| format!("the encoder's config.json: {error}"))?;
    for key in DROPOUTS {
        settings[key] = 0.0.into();
    }
    fs::write(&config, settings.to_string()).map_err(|error| format!("cannot write the encoder's config.json: {error}"))
}

pub(crate) fn set(command: &mut Command, variable: &str, value: &Path) {
    command
        .arg("--set")
        .arg(format!("vars.{variable}={}", Value::from(value.to_string_lossy())));
}

/// The absolute path of something that exists.
pub(crate) fn found(path: &Path) -> Outcome<PathBuf> {
    fs::canonicalize(path).map_err(|error| format!("cannot find `{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropout_is_turned_off_and_all_else_kept() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let from = folder.path().join("from");
        fs::create_dir(&from).expect("a folder");
        fs::write(
            from.join("config.json"),
            r#"{"hidden_size":8,"hidden_dropout_prob":0.1}"#,
        )
        .expect("a file");
        let to = folder.path().join("to");
        without_dropout(&from, &to).expect("a copy");
        let text = fs::read_to_string(to.join("config.json")).expect("the copy");
        assert_eq!(
            text,
            r#"{"hidden_size":8,"hidden_dropout_prob":0.0,"attention_probs_dropout_prob":0.0}"#
        );
    }
}
