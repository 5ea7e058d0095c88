//! Reading, checking and tokenizing a corpus, against the tokenizers library alone and against Python.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::found;
use crate::Outcome;
use crate::shell::{Shell, nerpipe, root, target};

/// How often each is measured; the median counts.
const TIMES: usize = 5;
/// How many sentences the long corpus has at least.
const LONG: usize = 1_000_000;
/// The manifest that is measured.
const MANIFEST: &str = "name: data
vars: {corpus: null, encoder: null, view: null}
stages:
  encoder: {kind: encoder, with: {source: '${vars.encoder}'}}
  corpus: {kind: load, with: {train: '${vars.corpus}'}}
  tokens:
    kind: tokenize
    inputs: {corpus: corpus, tokenizer: encoder}
    with: {formats: ['${vars.view}']}
";
/// The same without the corpus: the encoder is in the cache before anything is measured.
const ENCODER: &str = "name: encoder
vars: {encoder: null}
stages:
  encoder: {kind: encoder, with: {source: '${vars.encoder}'}}
";

/// What is measured.
pub(crate) struct Settings<'a> {
    /// A corpus in JSONL.
    pub(crate) corpus: &'a Path,
    /// An encoder as Hugging Face lays it out.
    pub(crate) encoder: &'a Path,
    /// A Python with `datasets` and `transformers`.
    pub(crate) python: Option<&'a Path>,
    /// Where the figures are written.
    pub(crate) json: Option<&'a Path>,
}

/// Seconds and bytes of one run of a program.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak: u64,
}

/// Measures everything side by side, A B A B, prints a table and gives the figures.
pub(crate) fn run(settings: &Settings<'_>, shell: &mut Shell) -> Outcome<Value> {
    let project = tempfile::Builder::new()
        .prefix("bench-data-")
        .tempdir_in(target()?)
        .map_err(|error| format!("cannot create a throwaway project: {error}"))?;
    let bench = Bench {
        project: project.path().to_owned(),
        encoder: found(settings.encoder)?,
        python: settings.python.map(Path::to_owned),
        text: fs::read_to_string(settings.corpus)
            .map_err(|error| format!("cannot read `{}`: {error}", settings.corpus.display()))?,
    };
    bench.write("m.yaml", MANIFEST)?;
    bench.write("encoder.yaml", ENCODER)?;
    shell.run(bench.command("encoder.yaml", 1)?.arg("--quiet"))?;

    let sentences = bench.text.lines().count();
    let mut rows = Vec::new();
    for view in ["tokens", "text"] {
        for threads in [1, 2] {
            rows.push(bench.compare(view, threads)?);
        }
    }
    let long = bench.long(sentences)?;

    let figures = json!({"sentences": sentences, "rows": rows, "long": long});
    println!("\n{}", markdown(&figures));
    if let Some(path) = settings.json {
        fs::write(path, format!("{:#}\n", json!({"data": figures})))
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
    }
    Ok(figures)
}

/// The figures as a table.
pub(crate) fn markdown(figures: &Value) -> String {
    let (sentences, long) = (&figures["sentences"], &figures["long"]);
    let mut table = format!(
        "{sentences} sentences, medians of {TIMES} (seconds of the clock)\n\n\
         | view | threads | load + tokenize | file + encode_batch | ratio | Python | times faster |\n|---|---|---|---|---|---|---|\n"
    );
    for row in figures["rows"].as_array().into_iter().flatten() {
        let figure = |key: &str| {
            row[key]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.2}"))
        };
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} | {} |",
            row["view"].as_str().unwrap_or_default(),
            row["threads"],
            figure("wall"),
            figure("floor"),
            figure("ratio_floor"),
            figure("python_wall"),
            figure("python_ratio"),
        );
    }
    let _ = writeln!(
        table,
        "\n{} sentences: {:.1} s, {:.2} times as long a sentence, peak {:.0} MB (short: {:.0} MB)",
        long["sentences"],
        long["wall"].as_f64().unwrap_or_default(),
        long["ratio_per_sentence"].as_f64().unwrap_or_default(),
        long["peak"].as_f64().unwrap_or_default() / 1e6,
        long["peak_short"].as_f64().unwrap_or_default() / 1e6,
    );
    table
}

struct Bench {
    project: PathBuf,
    encoder: PathBuf,
    python: Option<PathBuf>,
    text: String,
}

impl Bench {
    fn write(&self, name: &str, text: &str) -> Outcome<PathBuf> {
        let path = self.project.join(name);
        fs::write(&path, text).map_err(|error| format!("cannot write `{name}`: {error}"))?;
        Ok(path)
    }

    fn command(&self, manifest: &str, threads: usize) -> Outcome<Command> {
        let mut command = nerpipe()?;
        command
            .current_dir(&self.project)
            .args(["run", manifest, "--jobs", "1", "--threads", &threads.to_string()])
            .arg("--set")
            .arg(format!("vars.encoder={}", Value::from(self.encoder.to_string_lossy())));
        Ok(command)
    }

    /// The corpus as a file that no run has seen.
    fn fresh(&self, number: usize, repeat: usize) -> Outcome<PathBuf> {
        let path = self.project.join(format!("corpus-{number}.jsonl"));
        let failed = |error: std::io::Error| format!("cannot write `{}`: {error}", path.display());
        let mut writer = BufWriter::new(fs::File::create(&path).map_err(failed)?);
        let text = self.text.replacen("\"id\": \"", &format!("\"id\": \"{number}-"), 1);
        for _ in 0..repeat {
            writer.write_all(text.as_bytes()).map_err(failed)?;
        }
        writer.flush().map_err(failed)?;
        Ok(path)
    }

    /// Loads and tokenizes a file that no run has seen.
    fn ours(&self, view: &str, threads: usize, number: usize, repeat: usize) -> Outcome<Cost> {
        let corpus = self.fresh(number, repeat)?;
        let mut command = self.command("m.yaml", threads)?;
        command.arg("--quiet").arg("--set").arg(format!("vars.view={view}"));
        command
            .arg("--set")
            .arg(format!("vars.corpus={}", Value::from(corpus.to_string_lossy())));
        measured(&mut command)
    }

    /// One view with one number of threads.
    fn compare(&self, view: &str, threads: usize) -> Outcome<Value> {
        let (mut ours, mut floors, mut theirs) = (Vec::new(), Vec::new(), Vec::new());
        for time in 0..TIMES {
            let number = time + TIMES * (threads + if view == "text" { 10 } else { 0 });
            ours.push(self.ours(view, threads, number, 1)?);
            let corpus = self.project.join(format!("corpus-{number}.jsonl"));
            let mut command = Command::new(target()?.join("release/examples/encode_batch"));
            command.arg(&corpus).arg(self.encoder.join("tokenizer.json")).arg(view);
            let floor = last_json(command.env("RAYON_NUM_THREADS", threads.to_string()))?;
            floors.push(number_of(&floor, "read")? + number_of(&floor, "encode_batch")?);
            if let Some(python) = self.python.as_ref().filter(|_| threads == 1) {
                let cache = self.project.join(format!("hf-{number}"));
                let mut command = Command::new(python);
                command
                    .arg(root().join("xtask/peer/data.py"))
                    .arg(&corpus)
                    .arg(&self.encoder);
                command
                    .arg(view)
                    .arg(&cache)
                    .env("HF_HOME", &cache)
                    .env("RAYON_NUM_THREADS", "1");
                let peer = last_json(command.env("TOKENIZERS_PARALLELISM", "false"))?;
                theirs.push(number_of(&peer, "wall")?);
                let _ = fs::remove_dir_all(&cache);
            }
            let _ = fs::remove_file(&corpus);
        }
        let wall = median(ours.iter().map(|cost| cost.wall));
        let floor = median(floors.into_iter());
        let mut row = json!({
            "view": view, "threads": threads, "wall": wall, "cpu": median(ours.iter().map(|cost| cost.cpu)),
            "peak": ours.iter().map(|cost| cost.peak).max(), "floor": floor, "ratio_floor": wall / floor,
        });
        if !theirs.is_empty() {
            let theirs = median(theirs.into_iter());
            row["python_wall"] = json!(theirs);
            row["python_ratio"] = json!(theirs / wall);
        }
        println!("{row}");
        Ok(row)
    }

    /// The corpus as often as it takes to be long.
    fn long(&self, sentences: usize) -> Outcome<Value> {
        let repeat = LONG.div_ceil(sentences.max(1));
        let short = self.ours("tokens", 2, 1001, 1)?;
        let long = self.ours("tokens", 2, 1002, repeat)?;
        Ok(json!({
            "sentences": sentences * repeat, "wall": long.wall, "cpu": long.cpu, "peak": long.peak, "peak_short": short.peak,
            "ratio_per_sentence": long.wall / repeat as f64 / short.wall,
        }))
    }
}

/// Runs a program and looks at what the system knows of it while it runs.
fn measured(command: &mut Command) -> Outcome<Cost> {
    let begun = Instant::now();
    let mut child = command
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start a program that is to be measured: {error}"))?;
    let folder = PathBuf::from(format!("/proc/{}", child.id()));
    let mut cost = Cost::default();
    let status = loop {
        if let Some(seen) = look(&folder) {
            (cost.cpu, cost.peak) = seen;
        }
        match child.try_wait().map_err(|error| format!("cannot wait: {error}"))? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    cost.wall = begun.elapsed().as_secs_f64();
    match status.success() {
        true => Ok(cost),
        false => Err(format!("a program that was to be measured ended with {status}")),
    }
}

/// Processor seconds and peak memory of a process so far.
fn look(folder: &Path) -> Option<(f64, u64)> {
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    // The second field is the program's name in brackets; 14 and 15 are ticks, of which a second has 100.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let status = fs::read_to_string(folder.join("status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some((ticks as f64 / 100.0, kilobytes * 1024))
}

/// The last line that a program prints, as JSON.
pub(crate) fn last_json(command: &mut Command) -> Outcome<Value> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|error| format!("{:?} did not print JSON: {error}", command.get_program()))
}

pub(crate) fn number_of(value: &Value, key: &str) -> Outcome<f64> {
    value[key]
        .as_f64()
        .ok_or_else(|| format!("there is no `{key}` in {value}"))
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), 2.0);
        assert_eq!(median([].into_iter()), 0.0);
    }

    #[test]
    fn a_process_can_be_looked_at() {
        let (cpu, peak) = look(Path::new("/proc/self")).expect("this process");
        assert!(cpu >= 0.0 && peak > 1 << 20);
    }
}
