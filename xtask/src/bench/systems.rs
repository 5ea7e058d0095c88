//! `cargo xtask bench systems`: the four systems beside a PyTorch program, one after the other, again and again.
//!
//! What is measured is CPU time of whole programs, because other work may run on the machine: a training of many steps minus
//! one of few is the steps between them, and so loading and writing fall out; likewise an evaluation of many sentences minus
//! one of few. The PyTorch program measures its own steps and evaluations, without its start.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use super::data::{last_json, number_of};
use super::{SYSTEMS, found, set};
use crate::Outcome;
use crate::measure::{Usage, median, usage};
use crate::shell::{Shell, nerpipe, root, target};

/// Steps before measuring begins, which the PyTorch program leaves out too.
const WARM: u64 = 5;
/// Sentences of the small evaluation, whose time is taken off.
const FEW: usize = 20;

#[derive(Args, Clone)]
pub(crate) struct Systems {
    /// A folder with wnut17/, which holds train.jsonl and test.jsonl
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// A BERT encoder as Hugging Face lays it out: config.json, model.safetensors, tokenizer.json
    #[arg(long, value_name = "DIR")]
    encoder: PathBuf,
    /// A PyTorch program of the same four systems that measures itself; without it only nerpipe is measured
    #[arg(long, value_name = "FILE", requires = "python")]
    peer: Option<PathBuf>,
    /// A Python that has torch and transformers
    #[arg(long, value_name = "PROGRAM", requires = "peer")]
    python: Option<PathBuf>,
    /// Training steps that are measured
    #[arg(long, default_value_t = 20)]
    steps: u64,
    /// How often everything is measured, each time with other batches; medians are told
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Sentences that are evaluated; 0 to measure training alone
    #[arg(long, default_value_t = 500)]
    sentences: usize,
    /// Has so many entity types in the sentences that are evaluated: every word is an entity of the next type. The bi-encoders
    /// alone are measured then
    #[arg(long, value_name = "N")]
    types: Option<usize>,
    /// Threads of either program
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Where to write all figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Systems {
    /// The measurement of one thread, with evaluation.
    pub(crate) fn new(data: &Path, encoder: &Path, peer: Option<&Path>, python: &Path, rounds: u64) -> Self {
        Self {
            data: data.to_owned(),
            encoder: encoder.to_owned(),
            peer: peer.map(Path::to_owned),
            python: peer.map(|_| python.to_owned()),
            steps: 20,
            rounds,
            sentences: 500,
            types: None,
            threads: 1,
            json: None,
        }
    }

    /// Training alone, by so many threads.
    pub(crate) fn with_threads(&self, threads: u64) -> Self {
        Self {
            threads,
            sentences: 0,
            ..self.clone()
        }
    }

    /// With so many entity types, once: the PyTorch program takes long.
    pub(crate) fn with_types(&self, types: usize) -> Self {
        Self {
            types: Some(types),
            steps: 5,
            rounds: 1,
            ..self.clone()
        }
    }

    /// Training alone, of another encoder.
    pub(crate) fn with_encoder(&self, encoder: &Path) -> Self {
        Self {
            encoder: encoder.to_owned(),
            steps: 10,
            sentences: 0,
            ..self.clone()
        }
    }

    fn measures(&self, (architecture, _): (&str, &str)) -> bool {
        self.types.is_none() || architecture == "bi_encoder"
    }
}

/// One system's measurements, one a round.
#[derive(Default)]
struct Measured {
    steps: Vec<f64>,
    walls: Vec<f64>,
    peaks: Vec<f64>,
    floors: Vec<f64>,
    products: Vec<f64>,
    evaluations: Vec<f64>,
    peers: [PeerMeasured; 3],
}

/// The PyTorch program's: as research code does it, optimized, and the encoders alone.
#[derive(Default)]
struct PeerMeasured {
    steps: Vec<f64>,
    walls: Vec<f64>,
    peaks: Vec<f64>,
    evaluations: Vec<f64>,
}

/// The names of [`Measured::peers`], and how to ask for them.
const PEERS: [(&str, &str, bool); 3] = [
    ("peer", "train", false),
    ("optimized", "train", true),
    ("encoder", "encoder-step", true),
];

/// Measures, and gives the figures.
pub(crate) fn run(options: &Systems, shell: &mut Shell) -> Outcome<Value> {
    let project = tempfile::Builder::new()
        .prefix("bench-systems-")
        .tempdir_in(target()?)
        .map_err(|error| format!("cannot create a throwaway project: {error}"))?;
    let bench = Bench::new(options, project.path())?;
    let mut measured: [Measured; 4] = Default::default();
    for round in 1..=options.rounds {
        for (system, measured) in SYSTEMS.iter().zip(&mut measured) {
            if options.measures(*system) {
                bench.round(*system, round, measured)?;
            }
        }
    }
    let report = bench.report(&measured);
    println!("{}", markdown(&report));
    if let Some(path) = &options.json {
        fs::write(path, format!("{report:#}\n"))
            .map_err(|error| format!("cannot write `{}`: {error}", path.display()))?;
        shell.note(format!("all figures: {}", path.display()));
    }
    Ok(report)
}

struct Bench<'a> {
    options: &'a Systems,
    project: &'a Path,
    train: PathBuf,
    encoder: PathBuf,
    sizes: Sizes,
}

/// What decides how many multiplications a step needs.
struct Sizes {
    hidden: f64,
    inner: f64,
    layers: f64,
    parameters: f64,
}

impl<'a> Bench<'a> {
    fn new(options: &'a Systems, project: &'a Path) -> Outcome<Self> {
        let folder = found(&options.data.join("wnut17"))?;
        let test =
            fs::read_to_string(folder.join("test.jsonl")).map_err(|error| format!("cannot read wnut17: {error}"))?;
        for (name, sentences) in [("few.jsonl", FEW), ("many.jsonl", FEW + options.sentences)] {
            let lines: Vec<&str> = test.lines().take(sentences).collect();
            let mut text = lines.join("\n") + "\n";
            if let (Some(types), "many.jsonl") = (options.types, name) {
                text = with_types(&text, types)?;
            }
            fs::write(project.join(name), text).map_err(|error| format!("cannot write {name}: {error}"))?;
        }
        let encoder = found(&options.encoder)?;
        let bench = Self {
            options,
            project,
            train: found(&folder.join("train.jsonl"))?,
            sizes: Sizes::read(&encoder)?,
            encoder,
        };
        // Everything that is not measured is put into the cache.
        for test in ["few.jsonl", "many.jsonl"] {
            usage(&mut bench.ours("bench_evaluate.yaml", SYSTEMS[0], 1, 0, test)?)?;
        }
        Ok(bench)
    }

    /// One measurement of one system by every program.
    fn round(&self, system: (&str, &str), round: u64, measured: &mut Measured) -> Outcome {
        let short = usage(&mut self.ours("bench_train.yaml", system, WARM, round, "few.jsonl")?)?;
        let long = usage(&mut self.ours(
            "bench_train.yaml",
            system,
            WARM + self.options.steps,
            round,
            "few.jsonl",
        )?)?;
        let of_step = |of: fn(&Usage) -> f64| (of(&long) - of(&short)) / self.options.steps as f64;
        measured.steps.push(of_step(|usage| usage.cpu));
        measured.walls.push(of_step(|usage| usage.wall));
        measured.peaks.push(long.peak as f64);
        let rates = Rates::measure()?;
        measured.floors.push(self.floor(system, &rates)?);
        measured.products.push(rates.products);
        if self.options.sentences > 0 {
            let few = usage(&mut self.ours("bench_evaluate.yaml", system, WARM, round, "few.jsonl")?)?;
            let many = usage(&mut self.ours("bench_evaluate.yaml", system, WARM, round, "many.jsonl")?)?;
            measured.evaluations.push(many.cpu - few.cpu);
        }
        for ((_, mode, optimized), measured) in PEERS.iter().zip(&mut measured.peers) {
            if let Some(found) = self.peer(system, round, mode, *optimized)? {
                measured.add(&found);
            }
        }
        Ok(())
    }

    /// nerpipe's own command.
    fn ours(&self, manifest: &str, system: (&str, &str), steps: u64, seed: u64, test: &str) -> Outcome<Command> {
        let mut command = nerpipe()?;
        command
            .arg("run")
            .arg(root().join("xtask/peer").join(manifest))
            .arg("--quiet");
        command.arg("--project").arg(self.project);
        command.args(["--jobs", "1", "--device", "cpu", "--overwrite"]);
        command.args(["--threads", &self.options.threads.to_string()]);
        set(&mut command, "train", &self.train);
        set(&mut command, "test", &self.project.join(test));
        set(&mut command, "encoder", &self.encoder);
        let threshold = if system.1 == "bce" { "0.5" } else { "cls" };
        for (name, value) in [("architecture", system.0), ("loss", system.1), ("threshold", threshold)] {
            command.arg("--set").arg(format!("vars.{name}={value}"));
        }
        command.arg("--set").arg(format!("vars.steps={steps}"));
        command.arg("--set").arg(format!("vars.seed={seed}"));
        Ok(command)
    }

    /// What the PyTorch program says of itself.
    fn peer(&self, system: (&str, &str), seed: u64, mode: &str, optimized: bool) -> Outcome<Option<Value>> {
        let (Some(peer), Some(python)) = (&self.options.peer, &self.options.python) else {
            return Ok(None);
        };
        let out = self.project.join("peer.json");
        let mut command = Command::new(python);
        command.arg(found(peer)?).arg(mode).arg("--model").arg(&self.encoder);
        command.arg("--train").arg(&self.train).arg("--json").arg(&out);
        command.args([
            "--architecture",
            system.0.trim_end_matches("_encoder"),
            "--loss",
            system.1,
        ]);
        command.args([
            "--steps",
            &(WARM + self.options.steps).to_string(),
            "--seed",
            &seed.to_string(),
        ]);
        command.args([
            "--batch",
            "8",
            "--warmup",
            "4",
            "--threads",
            &self.options.threads.to_string(),
        ]);
        command.env("OMP_NUM_THREADS", self.options.threads.to_string());
        if optimized {
            command.arg("--optimized");
        }
        if mode == "train" && self.options.sentences > 0 {
            command.arg("--test").arg(self.project.join("many.jsonl"));
            command.args(["--eval-samples", &self.options.sentences.to_string()]);
        }
        usage(&mut command)?;
        read_json(&out).map(Some)
    }

    /// The least CPU time of a step: the matrix products of the subwords and candidates that the last training had, three
    /// times (once forward, twice backward), at the rate of large products, and one pass of the optimizer.
    fn floor(&self, system: (&str, &str), rates: &Rates) -> Outcome<f64> {
        let text = fs::read_to_string(self.project.join("log.jsonl"))
            .map_err(|error| format!("cannot read the log: {error}"))?;
        let works: Vec<f64> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["step"].as_u64().is_some_and(|step| step >= WARM))
            .filter_map(|line| self.sizes.multiplications(&line["work"]))
            .collect();
        if works.is_empty() {
            return Err("the training log says nothing of the work done".to_owned());
        }
        let work = works.iter().sum::<f64>() / works.len() as f64;
        let encoders = if system.0 == "bi_encoder" { 2.0 } else { 1.0 };
        Ok(3.0 * 2.0 * work / rates.products + encoders * self.sizes.parameters * rates.optimizer)
    }

    fn report(&self, measured: &[Measured; 4]) -> Value {
        let options = self.options;
        let all = |values: &[f64]| json!({"median": median(values.iter().copied()), "rounds": values});
        let systems = SYSTEMS
            .iter()
            .zip(measured)
            .filter(|(system, _)| options.measures(**system));
        let train: Vec<Value> = systems
            .clone()
            .map(|((architecture, loss), measured)| {
                // With several threads the clock counts: waiting for each other is part of the cost.
                let several = options.threads > 1;
                let counted = if several { &measured.walls } else { &measured.steps };
                let own = median(counted.iter().copied());
                let floor = median(measured.floors.iter().copied()) / options.threads as f64;
                let mut row = json!({
                    "architecture": architecture,
                    "loss": loss,
                    "cpu_s": all(&measured.steps),
                    "wall_s": all(&measured.walls),
                    "peak_bytes": all(&measured.peaks),
                    "counted_s": own,
                    "floor_s": floor,
                    "floors_cpu_s": all(&measured.floors),
                    "ratio_floor": own / floor,
                });
                for ((name, ..), peer) in PEERS.iter().zip(&measured.peers) {
                    let theirs = median(if several { &peer.walls } else { &peer.steps }.iter().copied());
                    row[*name] = json!({
                        "counted_s": theirs,
                        "cpu_s": all(&peer.steps),
                        "wall_s": all(&peer.walls),
                        "peak_bytes": all(&peer.peaks),
                    });
                    row[format!("ratio_{name}")] = json!(own / theirs);
                }
                row
            })
            .collect();
        let evaluate: Vec<Value> = systems
            .filter(|_| options.sentences > 0)
            .map(|((architecture, loss), measured)| {
                let own = median(measured.evaluations.iter().copied());
                let mut row = json!({"architecture": architecture, "loss": loss, "cpu_s": all(&measured.evaluations)});
                for ((name, ..), peer) in PEERS.iter().zip(&measured.peers).take(2) {
                    row[*name] = json!({"cpu_s": all(&peer.evaluations)});
                    row[format!("ratio_{name}")] = json!(own / median(peer.evaluations.iter().copied()));
                }
                row
            })
            .collect();
        json!({
            "threads": options.threads,
            "steps": options.steps,
            "rounds": options.rounds,
            "sentences": options.sentences,
            "types": options.types,
            "gemm_flop_per_s": all(&measured.iter().flat_map(|measured| measured.products.clone()).collect::<Vec<_>>()),
            "train": train,
            "evaluate": evaluate,
        })
    }
}

impl PeerMeasured {
    fn add(&mut self, found: &Value) {
        let push = |values: &mut Vec<f64>, value: &Value| values.extend(value.as_f64());
        push(&mut self.steps, &found["train"]["cpu_s_per_step"]);
        push(&mut self.walls, &found["train"]["mean_s"]);
        if let Some(megabytes) = found["train"]["peak_rss_mb"].as_f64() {
            self.peaks.push(megabytes * f64::from(1 << 20));
        }
        push(&mut self.evaluations, &found["test"]["cpu_s"]);
    }
}

impl Sizes {
    fn read(encoder: &Path) -> Outcome<Self> {
        let config = read_json(&encoder.join("config.json"))?;
        let size = |name: &str| {
            config[name]
                .as_f64()
                .ok_or_else(|| format!("the encoder's config.json has no `{name}`"))
        };
        let (hidden, inner, layers) = (
            size("hidden_size")?,
            size("intermediate_size")?,
            size("num_hidden_layers")?,
        );
        let rows = size("vocab_size")? + size("max_position_embeddings")?;
        let layer = 4.0 * hidden * hidden + 2.0 * hidden * inner;
        Ok(Self {
            hidden,
            inner,
            layers,
            parameters: rows * hidden + layers * layer,
        })
    }

    /// The multiplications of one forward pass: of encoders, per subword in linear layers and per pair in attention; of heads,
    /// whose width is the encoder's here.
    fn multiplications(&self, work: &Value) -> Option<f64> {
        let of = |name: &str| work[name].as_f64();
        let (h, subwords) = (self.hidden, of("subwords")?);
        let linear = self.layers * (4.0 * h * h + 2.0 * h * self.inner);
        let attention = self.layers * 2.0 * h * of("pairs")?;
        let heads = h * h * (3.0 * of("positions")? + of("spans")?);
        Some(subwords * linear + attention + heads)
    }
}

/// The records, every word of which is an entity of the next of `types` types.
fn with_types(text: &str, types: usize) -> Outcome<String> {
    let mut number = 0;
    let mut out = String::new();
    for line in text.lines() {
        let mut record: Value =
            serde_json::from_str(line).map_err(|error| format!("wnut17 has a line that is no record: {error}"))?;
        let words = record["tokens"].as_array().map_or(0, Vec::len);
        let spans = (0..words).map(|word| {
            number += 1;
            json!({"start": word, "end": word + 1, "label": format!("entity type {}", number % types)})
        });
        record["token_spans"] = spans.collect();
        if let Some(fields) = record.as_object_mut() {
            fields.remove("char_spans");
        }
        let _ = writeln!(out, "{record}");
    }
    if number < types {
        return Err(format!(
            "the sentences have {number} words, too few for {types} types: raise --sentences"
        ));
    }
    Ok(out)
}

/// What one thread can do at the moment.
struct Rates {
    /// Operations per second in large matrix products.
    products: f64,
    /// Seconds of the optimizer for one parameter.
    optimizer: f64,
}

impl Rates {
    fn measure() -> Outcome<Self> {
        let measured = last_json(&mut Command::new(target()?.join("release/examples/rates")))?;
        Ok(Self {
            products: number_of(&measured, "gemm_flop_per_s")?,
            optimizer: number_of(&measured, "optimizer_s_per_parameter")?,
        })
    }
}

fn read_json(path: &Path) -> Outcome<Value> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("`{}`: {error}", path.display()))
}

/// The figures as tables.
pub(crate) fn markdown(report: &Value) -> String {
    let mut text = format!(
        "Products: {:.0} GFLOP/s. {} thread(s), {} steps, {} rounds.\n\n",
        report["gemm_flop_per_s"]["median"].as_f64().unwrap_or(f64::NAN) / 1e9,
        report["threads"],
        report["steps"],
        report["rounds"]
    );
    let _ = writeln!(
        text,
        "| train step, {} s | nerpipe | floor | peer | optimized | encoder alone | ÷ floor | ÷ peer | ÷ optimized | peak MB | peer's | optimized's |\n|{}",
        if report["threads"] == 1 { "CPU" } else { "wall" },
        "---|".repeat(12)
    );
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for row in report["train"].as_array().into_iter().flatten() {
        let seconds = |value: &Value| format!("{:.3}", number(value));
        let _ = writeln!(
            text,
            "| {} {} | {} | {} | {} | {} | {} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.0} |",
            row["architecture"].as_str().unwrap_or_default(),
            row["loss"].as_str().unwrap_or_default(),
            seconds(&row["counted_s"]),
            seconds(&row["floor_s"]),
            seconds(&row["peer"]["counted_s"]),
            seconds(&row["optimized"]["counted_s"]),
            seconds(&row["encoder"]["counted_s"]),
            number(&row["ratio_floor"]),
            number(&row["ratio_peer"]),
            number(&row["ratio_optimized"]),
            number(&row["peak_bytes"]["median"]) / 1e6,
            number(&row["peer"]["peak_bytes"]["median"]) / 1e6,
            number(&row["optimized"]["peak_bytes"]["median"]) / 1e6,
        );
    }
    let rows = report["evaluate"].as_array().map_or(&[][..], Vec::as_slice);
    if !rows.is_empty() {
        let _ = writeln!(
            text,
            "\n| evaluation of {} sentences, CPU s | nerpipe | peer | optimized | ÷ peer | ÷ optimized |\n|{}",
            report["sentences"],
            "---|".repeat(6)
        );
    }
    for row in rows {
        let _ = writeln!(
            text,
            "| {} {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            row["architecture"].as_str().unwrap_or_default(),
            row["loss"].as_str().unwrap_or_default(),
            number(&row["cpu_s"]["median"]),
            number(&row["peer"]["cpu_s"]["median"]),
            number(&row["optimized"]["cpu_s"]["median"]),
            number(&row["ratio_peer"]),
            number(&row["ratio_optimized"]),
        );
    }
    text
}
