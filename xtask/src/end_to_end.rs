//! The main job from an empty cache, as a newcomer would run it, and what must have come of it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Outcome;
use crate::shell::{Shell, nerpipe, root, target};

const MANIFEST: &str = "pipelines/all_encoders.yaml";
/// What the manifest needs of the repository.
const NEEDED: [&str; 2] = [MANIFEST, "data/sample"];
/// Where the manifest publishes its results, one object an instance and split.
const TABLE: &str = "reports/all_encoders.json";
/// Architecture × loss.
const SYSTEMS: usize = 4;
/// The least micro F1 on test sentences whose templates occur in training.
const LEAST_SEEN: f64 = 0.80;

/// Runs the manifest twice in a throwaway project.
pub(crate) fn run(shell: &mut Shell) -> Outcome {
    let project = tempfile::Builder::new()
        .prefix("end-to-end-")
        .tempdir_in(target()?)
        .map_err(|error| format!("cannot create a throwaway project: {error}"))?;
    let project = project.path();
    for name in NEEDED {
        copy(&root().join(name), &project.join(name)).map_err(|error| format!("cannot copy `{name}`: {error}"))?;
    }

    let first = once(project, shell)?;
    if first.failed > 0 || first.executed == 0 {
        return Err(format!(
            "the first run should execute everything without a failure, but: {first:?}"
        ));
    }
    let table = fs::read_to_string(project.join(TABLE)).map_err(|error| format!("cannot read `{TABLE}`: {error}"))?;
    let rows: Vec<Value> = serde_json::from_str(&table).map_err(|error| format!("`{TABLE}`: {error}"))?;
    let checked = check(&rows);
    for line in figures(&rows) {
        shell.note(line);
    }
    checked?;

    let second = once(project, shell)?;
    if second.executed > 0 || second.failed > 0 || second.restored == 0 {
        return Err(format!(
            "the second run should find everything in the cache, but: {second:?}"
        ));
    }
    shell.note(format!(
        "first run: {} executed in {:.1} s",
        first.executed, first.seconds
    ));
    shell.note(format!(
        "second run: nothing executed, {} restored in {:.2} s",
        second.restored, second.seconds
    ));
    Ok(())
}

/// How a run ended, from the last event it printed.
#[derive(Debug)]
struct Finished {
    executed: u64,
    restored: u64,
    failed: u64,
    seconds: f64,
}

fn once(project: &Path, shell: &mut Shell) -> Outcome<Finished> {
    let mut command = nerpipe()?;
    command
        .args(["run", MANIFEST, "--cache-dir", "cache", "--json"])
        .current_dir(project);
    let mut last = Value::Null;
    let ended = shell.lines(&mut command, &mut |line| {
        // A line that is no event leaves null behind, which is refused below.
        last = serde_json::from_str(line).unwrap_or_default();
        if last["event"] == "instance_finished" {
            println!(
                "  {} ({:.1} s)",
                last["instance"].as_str().unwrap_or_default(),
                last["seconds"].as_f64().unwrap_or(0.0)
            );
        }
    });
    ended?;
    finished(&last).ok_or_else(|| format!("the last line of the run is no `finished` event: {last}"))
}

fn finished(event: &Value) -> Option<Finished> {
    let count = |key: &str| event[key].as_u64();
    (event["event"] == "finished").then_some(())?;
    Some(Finished {
        executed: count("executed")?,
        restored: count("restored")?,
        failed: count("failed")?,
        seconds: event["seconds"].as_f64()?,
    })
}

/// Micro F1 of a row on one file of the test split.
fn f1(row: &Value, file: &str) -> Option<f64> {
    row[format!("files.{file}.micro.f1")].as_f64()
}

fn test_rows(rows: &[Value]) -> impl Iterator<Item = &Value> {
    rows.iter().filter(|row| row["split"] == "test")
}

fn figures(rows: &[Value]) -> Vec<String> {
    let shown = |row: &Value, file| f1(row, file).map_or("none".to_owned(), |f1| format!("{f1:.3}"));
    test_rows(rows)
        .map(|row| {
            let instance = row["instance"].as_str().unwrap_or_default();
            format!(
                "micro F1: seen {}, unseen {}  {instance}",
                shown(row, "seen"),
                shown(row, "unseen")
            )
        })
        .collect()
}

/// Whether all systems are there and have learnt.
fn check(rows: &[Value]) -> Outcome {
    let systems = test_rows(rows).count();
    if systems < SYSTEMS {
        return Err(format!(
            "`{TABLE}` has results of {systems} systems on the test split, not {SYSTEMS}"
        ));
    }
    for row in test_rows(rows) {
        let seen = f1(row, "seen").unwrap_or(0.0);
        if seen < LEAST_SEEN {
            return Err(format!(
                "micro F1 on seen templates is {seen:.3}, below {LEAST_SEEN}: {}",
                row["instance"]
            ));
        }
        if f1(row, "unseen").is_none() {
            return Err(format!("there is no figure for unseen templates: {}", row["instance"]));
        }
    }
    Ok(())
}

/// Copies a file, or a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if from.is_dir() {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy(&entry.path(), &to.join(entry.file_name()))?;
        }
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(seen: f64) -> Value {
        json!({"instance": "scores@x", "split": "test", "files.seen.micro.f1": seen, "files.unseen.micro.f1": 0.5})
    }

    #[test]
    fn every_system_must_be_there_and_have_learnt() {
        assert!(check(&[row(0.8), row(0.9), row(0.95), row(1.0)]).is_ok());
        assert!(check(&[row(0.8), row(0.9), row(0.95)]).is_err_and(|problem| problem.contains("3 systems")));
        assert!(check(&[row(0.8), row(0.79), row(0.95), row(1.0)]).is_err_and(|problem| problem.contains("0.790")));
        let mut other = row(0.9);
        other["split"] = "validation".into();
        assert!(check(&[row(0.8), row(0.9), row(0.95), other]).is_err());
    }

    #[test]
    fn only_a_finished_event_counts() {
        let event = json!({"event": "finished", "executed": 3, "restored": 0, "shared": 0, "failed": 1, "steps": {}, "seconds": 2.5});
        let ended = finished(&event).expect("a finished event");
        assert_eq!(
            (ended.executed, ended.restored, ended.failed, ended.seconds),
            (3, 0, 1, 2.5)
        );
        assert!(finished(&json!({"event": "refused", "diagnostics": []})).is_none());
        assert!(finished(&Value::Null).is_none());
    }
}
