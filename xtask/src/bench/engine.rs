//! What the engine itself costs: a chain of small commands, and ten thousand instances that do next to nothing.
//!
//! With a Python that has DVC or Snakemake, they run the same chain on the same machine.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::shell::{Shell, root, target};

/// How often the memory of a program is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// How often each measurement is repeated; the least time is kept, since whatever else runs can only add to it.
const REPEATS: usize = 3;

/// What to measure.
pub(crate) struct Task<'a> {
    /// Commands in the chain.
    pub(crate) chain: usize,
    /// Instances that do next to nothing.
    pub(crate) instances: usize,
    /// The program; the release build if none is given.
    pub(crate) program: Option<&'a Path>,
    /// A Python that has DVC or Snakemake.
    pub(crate) python: Option<&'a Path>,
    /// Where the results are written.
    pub(crate) out: Option<&'a Path>,
}

/// One measurement.
struct Measured {
    what: String,
    who: &'static str,
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

/// Measures and writes `engine.md` and `engine.json`.
pub(crate) fn run(task: &Task<'_>, shell: &mut Shell) -> Outcome {
    let program = match task.program {
        Some(program) => absolute(program)?,
        None => target()?.join("release").join("nerpipe"),
    };
    let mut all = Vec::new();
    chain(task, &program, &mut all)?;
    instances(task, &program, &mut all)?;
    if let Some(python) = task.python {
        let python = absolute(python)?;
        dvc(task.chain, &python, &mut all)?;
        snakemake(task.chain, &python, &mut all)?;
    }
    let out = match task.out {
        Some(out) => out.to_owned(),
        None => target()?.join("bench"),
    };
    let table = table(&all);
    let lines: Vec<Value> = all
        .iter()
        .map(|one| {
            json!({"what": one.what, "who": one.who, "seconds": one.seconds, "cpu_seconds": one.cpu_seconds, "peak_mib": one.peak_mib})
        })
        .collect();
    let written = fs::create_dir_all(&out)
        .and_then(|()| fs::write(out.join("engine.md"), &table))
        .and_then(|()| fs::write(out.join("engine.json"), format!("{:#}\n", json!({"measured": lines}))));
    written.map_err(|error| format!("cannot write to `{}`: {error}", out.display()))?;
    println!("\n{table}");
    shell.note(format!("written to {}", out.display()));
    Ok(())
}

fn absolute(path: &Path) -> Outcome<PathBuf> {
    // A link stays one: a virtual environment's Python is told by its own path.
    std::path::absolute(path)
        .ok()
        .filter(|path| path.exists())
        .ok_or_else(|| format!("cannot find `{}`", path.display()))
}

fn folder() -> Outcome<tempfile::TempDir> {
    let made = tempfile::Builder::new().prefix("bench-engine-").tempdir_in(target()?);
    made.map_err(|error| format!("cannot create a throwaway project: {error}"))
}

fn write(folder: &Path, name: &str, text: &str) -> Outcome {
    fs::write(folder.join(name), text).map_err(|error| format!("cannot write `{name}`: {error}"))
}

/// A chain of `cp`, run the first time and once more.
fn chain(task: &Task<'_>, program: &Path, all: &mut Vec<Measured>) -> Outcome {
    let count = task.chain;
    // The copies bear numbers: equal commands on equal bytes would run once.
    let first = "s0: {kind: command, with: {run: 'cp start \"$OUT/x0\"', files: [start]}}";
    let mut manifest = format!("name: chain\nstages:\n  {first}\n");
    for number in 1..count {
        let before = number - 1;
        let _ = writeln!(
            manifest,
            "  s{number}: {{kind: command, inputs: {{before: s{before}}}, with: {{run: 'cp \"$BEFORE/x{before}\" \"$OUT/x{number}\"'}}}}"
        );
    }
    let fresh = || -> Outcome<tempfile::TempDir> {
        let folder = folder()?;
        write(folder.path(), "start", "start\n")?;
        write(folder.path(), "chain.yaml", &manifest)?;
        Ok(folder)
    };
    let command = |folder: &Path| {
        let mut command = Command::new(program);
        command.args(["run", "chain.yaml"]).current_dir(folder);
        command
    };
    first_and_again(count, "nerpipe", &fresh, &command, all)
}

/// Measures a chain from nothing and, in the same place, with nothing to do.
fn first_and_again(
    count: usize,
    who: &'static str,
    fresh: &dyn Fn() -> Outcome<tempfile::TempDir>,
    command: &dyn Fn(&Path) -> Command,
    all: &mut Vec<Measured>,
) -> Outcome {
    let mut last = fresh()?;
    let first = least(|| {
        last = fresh()?;
        measure(&mut command(last.path()))
    })?;
    all.push(first.named(format!("chain of {count} cp, first run"), who));
    let again = least(|| measure(&mut command(last.path())))?;
    all.push(again.named(format!("chain of {count} cp, nothing to do"), who));
    Ok(())
}

/// Many instances of a light kind: one sentence is read at as many limits.
fn instances(task: &Task<'_>, program: &Path, all: &mut Vec<Measured>) -> Outcome {
    let count = task.instances;
    let folder = folder()?;
    let sentence = json!({
        "id": "1", "text": "Ada", "tokens": ["Ada"],
        "token_spans": [{"start": 0, "end": 1, "label": "person"}],
        "char_spans": [{"start": 0, "end": 3, "label": "person"}],
    });
    write(folder.path(), "one.jsonl", &format!("{sentence}\n"))?;
    let manifest = format!(
        "name: many\nsweep: {{axes: {{n: {{$range: {{from: 1, to: {count}}}}}}}}}\nstages:\n  \
         corpus: {{kind: load, with: {{train: one.jsonl, limit: '${{n}}'}}}}\n"
    );
    write(folder.path(), "many.yaml", &manifest)?;
    let nerpipe = |verb: &str| {
        let mut command = Command::new(program);
        command.args([verb, "many.yaml"]).current_dir(folder.path());
        command
    };
    let plan = least(|| measure(&mut nerpipe("plan")))?;
    all.push(plan.named(format!("plan of {count} instances, nothing made"), "nerpipe"));
    let run = measure(&mut nerpipe("run"))?;
    let each = run.seconds * 1000.0 / count as f64;
    all.push(run.named(format!("run of {count} instances ({each:.2} ms each)"), "nerpipe"));
    let plan = least(|| measure(&mut nerpipe("plan")))?;
    all.push(plan.named(format!("plan of {count} instances, all fresh"), "nerpipe"));
    let run = least(|| measure(&mut nerpipe("run")))?;
    all.push(run.named(format!("run of {count} instances, nothing to do"), "nerpipe"));
    Ok(())
}

/// The same chain in DVC, if the Python has it.
fn dvc(count: usize, python: &Path, all: &mut Vec<Measured>) -> Outcome {
    if !has(python, "dvc") {
        return Ok(());
    }
    let mut stages = "stages:\n".to_owned();
    for number in 0..count {
        let from = number
            .checked_sub(1)
            .map_or("start".to_owned(), |before| format!("x{before}"));
        let _ = writeln!(
            stages,
            "  s{number}: {{cmd: cp {from} x{number}, deps: [{from}], outs: [x{number}]}}"
        );
    }
    let command = |folder: &Path, arguments: &[&str]| {
        let mut command = Command::new(python);
        command.args(["-m", "dvc"]).args(arguments).current_dir(folder);
        command.env("DVC_NO_ANALYTICS", "1");
        command
    };
    let fresh = || -> Outcome<tempfile::TempDir> {
        let folder = folder()?;
        write(folder.path(), "start", "start\n")?;
        write(folder.path(), "dvc.yaml", &stages)?;
        measure(&mut command(folder.path(), &["init", "--no-scm", "-q"]))?;
        Ok(folder)
    };
    first_and_again(count, "dvc", &fresh, &|folder| command(folder, &["repro", "-q"]), all)
}

/// The same chain in Snakemake, if the Python has it.
fn snakemake(count: usize, python: &Path, all: &mut Vec<Measured>) -> Outcome {
    if !has(python, "snakemake") {
        return Ok(());
    }
    let mut rules = format!("rule all:\n    input: \"x{}\"\n", count - 1);
    for number in 0..count {
        let from = number
            .checked_sub(1)
            .map_or("start".to_owned(), |before| format!("x{before}"));
        let _ = writeln!(
            rules,
            "rule s{number}:\n    input: \"{from}\"\n    output: \"x{number}\"\n    shell: \"cp {{input}} {{output}}\""
        );
    }
    let fresh = || -> Outcome<tempfile::TempDir> {
        let folder = folder()?;
        write(folder.path(), "start", "start\n")?;
        write(folder.path(), "Snakefile", &rules)?;
        Ok(folder)
    };
    let command = |folder: &Path| {
        let mut command = Command::new(python);
        command
            .args(["-m", "snakemake", "-c1", "--quiet", "all"])
            .current_dir(folder);
        command
    };
    first_and_again(count, "snakemake", &fresh, &command, all)
}

fn has(python: &Path, module: &str) -> bool {
    let mut command = Command::new(python);
    command.args(["-c", &format!("import {module}")]).current_dir(root());
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    ended.is_ok_and(|status| status.success())
}

/// What one execution of a program took.
struct Took {
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
}

impl Took {
    fn named(self, what: String, who: &'static str) -> Measured {
        println!(
            "{:9.3} s  {:9.3} s CPU  {:7.1} MiB  {who}: {what}",
            self.seconds, self.cpu_seconds, self.peak_mib
        );
        Measured {
            what,
            who,
            seconds: self.seconds,
            cpu_seconds: self.cpu_seconds,
            peak_mib: self.peak_mib,
        }
    }
}

/// The execution of several that took the least CPU time.
fn least(mut once: impl FnMut() -> Outcome<Took>) -> Outcome<Took> {
    let mut best = once()?;
    for _ in 1..REPEATS {
        let other = once()?;
        if other.cpu_seconds < best.cpu_seconds {
            best = other;
        }
    }
    Ok(best)
}

/// Runs a program and measures it with all it waited for; the memory is its own alone.
fn measure(command: &mut Command) -> Outcome<Took> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut child = command
        .spawn()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    let (mut peak, mut cpu) = (0.0_f64, 0.0);
    while let Some((state, seconds)) = stat(child.id()) {
        cpu = seconds;
        // It has ended and is not reaped yet: its times are final.
        if state == 'Z' {
            break;
        }
        peak = peak.max(peak_mib(child.id()));
        thread::sleep(BETWEEN_LOOKS);
    }
    let seconds = begun.elapsed().as_secs_f64();
    let status = child
        .wait()
        .map_err(|error| format!("cannot wait for `{name}`: {error}"))?;
    if !status.success() {
        return Err(format!("`{name}` ended with {status}"));
    }
    Ok(Took {
        seconds,
        cpu_seconds: cpu,
        peak_mib: peak,
    })
}

/// A process's state, and the CPU time of itself and of the children it waited for.
fn stat(pid: u32) -> Option<(char, f64)> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<(char, f64)> {
    // Behind the name, which ends with the last bracket: the state, and from the 12th word on four times in hundredths.
    let words: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = words
        .get(11..15)?
        .iter()
        .filter_map(|word| word.parse::<f64>().ok())
        .sum();
    Some((words.first()?.chars().next()?, ticks / 100.0))
}

fn peak_mib(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kibibytes.unwrap_or(0.0) / 1024.0
}

fn table(all: &[Measured]) -> String {
    let mut text = "| what | program | wall, s | CPU, s | peak memory, MiB |\n|---|---|--:|--:|--:|\n".to_owned();
    for one in all {
        let _ = writeln!(
            text,
            "| {} | {} | {:.3} | {:.2} | {:.0} |",
            one.what, one.who, one.seconds, one.cpu_seconds, one.peak_mib
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_programs_time_and_memory_are_measured() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]);
        let took = measure(&mut command).expect("it runs");
        assert!(
            took.seconds > 0.0 && took.cpu_seconds > 0.0,
            "{} {}",
            took.seconds,
            took.cpu_seconds
        );
        assert!(took.peak_mib > 0.1, "{}", took.peak_mib);
        assert!(measure(&mut Command::new("false")).is_err());
        assert_eq!(
            parse_stat("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 100 50 25 25 0"),
            Some(('S', 2.0))
        );
    }
}
