//! How many instructions the engine needs to find out that there is nothing to do: unlike a time, a figure that hardly
//! depends on the machine and on what else it does, so that a regression can fail.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::bench::engine::{chain_project, many_project};
use crate::shell::{Shell, target};

/// Commands in the chain, and instances of the plan: enough that what each needs outweighs the program's start.
const CHAIN: usize = 200;
const MANY: usize = 1000;

/// The millions of instructions that were counted when these lines were written. When a change is meant to need more, or has
/// come to need less, write the figures that `cargo xtask instructions` prints in their place.
const RUN_OF_CHAIN: f64 = 51.5;
const PLAN_OF_MANY: f64 = 104.0;

/// How much more than that is a failure; compilers and C libraries differ too.
const SLACK: f64 = 0.15;

/// Counts the instructions of a run and of a plan that find everything in the cache; fails if they are many more than before.
pub(crate) fn run(shell: &mut Shell) -> Outcome {
    if !is_there("valgrind") {
        shell.note("instructions: not counted, for there is no `valgrind`".to_owned());
        return Ok(());
    }
    let run = count(chain_project(CHAIN)?.path(), &["run", "chain.yaml"], shell)?;
    let plan = count(many_project(MANY)?.path(), &["plan", "many.yaml"], shell)?;
    let mut problems = Vec::new();
    for (what, counted, recorded) in [
        (format!("run of a chain of {CHAIN}, nothing to do"), run, RUN_OF_CHAIN),
        (format!("plan of {MANY} instances, all fresh"), plan, PLAN_OF_MANY),
    ] {
        let judged = judge(counted, recorded);
        shell.note(format!(
            "instructions: {what}: {counted:.1} million ({recorded:.1} before){}",
            if judged == Judged::Fewer {
                "; write that down"
            } else {
                ""
            }
        ));
        if judged == Judged::More {
            problems.push(what);
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!(
        "many more instructions than before: {}; if that is meant, write the new figures into xtask/src/instructions.rs",
        problems.join(", ")
    ))
}

#[derive(Debug, PartialEq)]
enum Judged {
    More,
    Alike,
    Fewer,
}

fn judge(counted: f64, recorded: f64) -> Judged {
    if counted > recorded * (1.0 + SLACK) {
        Judged::More
    } else if counted < recorded * (1.0 - SLACK) {
        Judged::Fewer
    } else {
        Judged::Alike
    }
}

fn is_there(program: &str) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs the project's manifest once, then the command in question under callgrind. In millions.
fn count(project: &Path, arguments: &[&str], shell: &mut Shell) -> Outcome<f64> {
    let program = target()?.join("release").join("nerpipe");
    let quietly = |command: &mut Command| {
        command.current_dir(project).stdout(Stdio::null()).stderr(Stdio::null());
    };
    let mut first = Command::new(&program);
    first.args(["run", arguments[1]]);
    quietly(&mut first);
    shell.run(&mut first)?;
    let mut counted = Command::new("valgrind");
    counted.args(["--tool=callgrind", "--callgrind-out-file=counted", "--log-file=log"]);
    counted.arg(program).args(arguments);
    quietly(&mut counted);
    shell.run(&mut counted)?;
    let log = fs::read_to_string(project.join("log")).map_err(|error| format!("valgrind left no log: {error}"))?;
    collected(&log)
        .map(|count| count as f64 / 1e6)
        .ok_or_else(|| format!("valgrind did not tell how many instructions it counted:\n{log}"))
}

/// The figure of the line `==7== Collected : 12345`.
fn collected(log: &str) -> Option<u64> {
    let figure = log.lines().find_map(|line| line.split_once("Collected :"))?.1;
    figure.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regression_fails_and_a_gain_is_to_be_written_down() {
        assert_eq!(judge(116.0, 100.0), Judged::More);
        assert_eq!(judge(114.0, 100.0), Judged::Alike);
        assert_eq!(judge(84.0, 100.0), Judged::Fewer);
    }

    #[test]
    fn valgrinds_figure_is_read() {
        let log = "==7== Events    : Ir\n==7== Collected : 35012345\n==7== \n==7== I   refs:      35,012,345\n";
        assert_eq!(collected(log), Some(35_012_345));
        assert_eq!(collected("==7== killed"), None);
    }
}
