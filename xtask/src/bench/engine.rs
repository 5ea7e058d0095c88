//! What the engine itself costs: a chain of small commands, ten thousand instances that do next to nothing, and the hashing of
//! input files.
//!
//! With a Python that has DVC or Snakemake, they run the same chain on the same machine; with b3sum, it hashes the same files.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Outcome;
use crate::measure::wait;
use crate::shell::{Shell, root, target};

/// How often the memory of a program is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(2);

/// How often each measurement is repeated; the least time is kept, since whatever else runs can only add to it.
const REPEATS: usize = 3;

/// What took longer is not repeated: a thing of the moment hardly matters in it.
const LONG: Duration = Duration::from_secs(20);

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
    /// The program b3sum.
    pub(crate) b3sum: Option<&'a Path>,
    /// The length of a large input file, in GiB.
    pub(crate) large: u64,
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

/// All measurements, and the projects they were made in. These are kept to the end: for minutes after many files were
/// removed, ext4 is slow to make new ones, and the next measurement would be of that.
#[derive(Default)]
struct All {
    measured: Vec<Measured>,
    projects: Vec<tempfile::TempDir>,
}

impl All {
    fn push(&mut self, one: Measured) {
        self.measured.push(one);
    }

    /// Where the project is.
    fn keep(&mut self, project: tempfile::TempDir) -> PathBuf {
        let path = project.path().to_owned();
        self.projects.push(project);
        path
    }
}

/// Measures and writes `engine.md` and `engine.json`.
pub(crate) fn run(task: &Task<'_>, shell: &mut Shell) -> Outcome {
    let program = match task.program {
        Some(program) => absolute(program)?,
        None => target()?.join("release").join("nerpipe"),
    };
    let mut all = All::default();
    chain(task, &program, &mut all)?;
    instances(task, &program, &mut all)?;
    hashing(task, &program, &mut all)?;
    large(task, &program, &mut all)?;
    if let Some(python) = task.python {
        let python = absolute(python)?;
        dvc(task.chain, &python, &mut all)?;
        snakemake(task.chain, &python, &mut all)?;
    }
    let out = match task.out {
        Some(out) => out.to_owned(),
        None => target()?.join("bench"),
    };
    let table = table(&all.measured);
    let lines: Vec<Value> = all
        .measured
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

/// The path from the root, of something that is there.
pub(crate) fn absolute(path: &Path) -> Outcome<PathBuf> {
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

/// A throwaway project with `chain.yaml`, a chain of `cp`.
pub(crate) fn chain_project(count: usize) -> Outcome<tempfile::TempDir> {
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
    let folder = folder()?;
    write(folder.path(), "start", "start\n")?;
    write(folder.path(), "chain.yaml", &manifest)?;
    Ok(folder)
}

/// The chain, run the first time and once more.
fn chain(task: &Task<'_>, program: &Path, all: &mut All) -> Outcome {
    let command = |folder: &Path| {
        let mut command = Command::new(program);
        command.args(["run", "chain.yaml"]).current_dir(folder);
        command
    };
    first_and_again(task.chain, "nerpipe", &|| chain_project(task.chain), &command, all)
}

/// Measures a chain from nothing and, in the same place, with nothing to do.
fn first_and_again(
    count: usize,
    who: &'static str,
    fresh: &dyn Fn() -> Outcome<tempfile::TempDir>,
    command: &dyn Fn(&Path) -> Command,
    all: &mut All,
) -> Outcome {
    let mut project = PathBuf::new();
    let first = least(|| {
        project = all.keep(fresh()?);
        measure(&mut command(&project))
    })?;
    all.push(first.named(format!("chain of {count} cp, first run"), who));
    let again = least(|| measure(&mut command(&project)))?;
    all.push(again.named(format!("chain of {count} cp, nothing to do"), who));
    Ok(())
}

/// A throwaway project with `many.yaml`, many instances of a light kind: one sentence is read at as many limits.
pub(crate) fn many_project(count: usize) -> Outcome<tempfile::TempDir> {
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
    Ok(folder)
}

/// Many instances, planned and run.
fn instances(task: &Task<'_>, program: &Path, all: &mut All) -> Outcome {
    let count = task.instances;
    let folder = all.keep(many_project(count)?);
    let nerpipe = |verb: &str| {
        let mut command = Command::new(program);
        command.args([verb, "many.yaml"]).current_dir(&folder);
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

/// How many MiB are hashed, in one file and in many.
const HASHED: usize = 1024;
/// In how many files.
const FILES: usize = 2048;

/// Input files that are hashed anew, by a plan and by b3sum.
fn hashing(task: &Task<'_>, program: &Path, all: &mut All) -> Outcome {
    let b3sum = task.b3sum.map(absolute).transpose()?;
    if b3sum.is_none() {
        println!("hashing has nothing beside it: give `--b3sum FILE`");
    }
    let folder = all.keep(folder()?);
    for (count, name) in [(1, "one"), (FILES, "many")] {
        let place = folder.join(name);
        fs::create_dir(&place).map_err(|error| format!("cannot create `{name}`: {error}"))?;
        for number in 0..count {
            noise(&place.join(format!("{number:04}")), HASHED * MIB / count, number as u64)
                .map_err(|error| format!("cannot write a file to hash: {error}"))?;
        }
        let stage = format!("{{kind: command, with: {{run: 'true', files: ['{name}/*']}}}}");
        let manifest = format!("{name}.yaml");
        write(&folder, &manifest, &format!("name: hash\nstages: {{s: {stage}}}\n"))?;
        let what = match count {
            1 => format!("hash of {HASHED} MiB in one file"),
            count => format!("hash of {HASHED} MiB in {count} files"),
        };
        let mut plan = Command::new(program);
        plan.args(["plan", "-q", "--rehash", &manifest]).current_dir(&folder);
        all.push(least(|| measure(&mut plan))?.named(what.clone(), "nerpipe"));
        if let Some(b3sum) = &b3sum {
            let files = (0..count).map(|number| format!("{name}/{number:04}"));
            let mut sum = Command::new(b3sum);
            sum.args(files).current_dir(&folder);
            all.push(least(|| measure(&mut sum))?.named(what, "b3sum"));
        }
    }
    Ok(())
}

const MIB: usize = 1024 * 1024;

/// Writes bytes that look random.
fn noise(path: &Path, bytes: usize, seed: u64) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    // Xorshift, which must not begin with 0.
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for _ in 0..bytes / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    file.flush()
}

/// A younger file may change again without its times telling, so its digest is not remembered.
const OLD_ENOUGH: Duration = Duration::from_millis(2100);

/// A large input file, hashed once and not again. It is all zeros, which take no space on the disk.
fn large(task: &Task<'_>, program: &Path, all: &mut All) -> Outcome {
    if task.large == 0 {
        return Ok(());
    }
    let folder = all.keep(folder()?);
    let made = File::create(folder.join("large")).and_then(|file| file.set_len(task.large << 30));
    made.map_err(|error| format!("cannot make a large file: {error}"))?;
    let stage = "{kind: command, with: {run: 'true', files: [large]}}";
    write(&folder, "large.yaml", &format!("name: large\nstages: {{s: {stage}}}\n"))?;
    thread::sleep(OLD_ENOUGH);
    let mut plan = Command::new(program);
    plan.args(["plan", "-q", "large.yaml"]).current_dir(&folder);
    let input = format!("an input of {} GiB", task.large);
    all.push(measure(&mut plan)?.named(format!("plan with {input}, hashed"), "nerpipe"));
    all.push(least(|| measure(&mut plan))?.named(format!("plan with {input}, unchanged"), "nerpipe"));
    Ok(())
}

/// The same chain in DVC, if the Python has it.
fn dvc(count: usize, python: &Path, all: &mut All) -> Outcome {
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
fn snakemake(count: usize, python: &Path, all: &mut All) -> Outcome {
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
    let begun = Instant::now();
    let mut best = once()?;
    for _ in 1..REPEATS {
        if begun.elapsed() > LONG {
            break;
        }
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
    let child = command
        .spawn()
        .map_err(|error| format!("cannot start `{name}`: {error}"))?;
    let mut peak = 0.0_f64;
    while is_running(child.id()) {
        peak = peak.max(peak_mib(child.id()));
        thread::sleep(BETWEEN_LOOKS);
    }
    let used = wait(&child, begun).map_err(|error| format!("cannot wait for `{name}`: {error}"))?;
    let used = used.ok_or_else(|| format!("`{name}` failed"))?;
    Ok(Took {
        seconds: used.wall,
        cpu_seconds: used.cpu,
        peak_mib: peak,
    })
}

/// Whether a child that is not reaped yet goes on.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state stands behind the name, which ends with the last bracket.
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
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
            "| {} | {} | {:.3} | {:.3} | {:.0} |",
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
    }
}
