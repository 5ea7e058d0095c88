//! `cargo xtask bench`: every measurement one after the other, and one table and one JSON file of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::{Value, json};

use super::{data, engine, found, systems};
use crate::Outcome;
use crate::shell::{Shell, nerpipe, target};

/// What a Python of our own is given.
const PACKAGES: [&str; 6] = ["torch", "transformers", "safetensors", "datasets", "dvc", "snakemake"];
/// The corpus whose reading is measured.
const CORPUS: &str = "nerkor_hu/train.jsonl";
/// A BERT-base: its weights do not matter for its speed.
const BASE: &str = "name: base
vars: {vocabulary: vocab.txt}
stages:
  encoder:
    kind: encoder
    with: {source: random, vocabulary: '${vars.vocabulary}', hidden_size: 768, layers: 12, heads: 12, seed: 0}
    publish: bert-base
";

/// What to measure with.
#[derive(Args)]
pub(crate) struct All {
    /// A folder with wnut17/ and nerkor_hu/, each with its JSONL files
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A BERT encoder as Hugging Face lays it out, with vocab.txt
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// A PyTorch program of the same four systems that measures itself
    #[arg(long, value_name = "FILE")]
    peer: Option<PathBuf>,
    /// A Python with torch, transformers, datasets, DVC and Snakemake; without it one is made in the target folder
    #[arg(long, value_name = "PROGRAM")]
    python: Option<PathBuf>,
    /// The program b3sum
    #[arg(long, value_name = "FILE")]
    b3sum: Option<PathBuf>,
    /// How often training and evaluation are measured
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Where all figures are written [default: bench.json in `bench` in the target folder]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// The options, and what must be there before anything is built.
pub(crate) struct Task<'a> {
    options: &'a All,
    data: PathBuf,
    encoder: PathBuf,
}

impl<'a> Task<'a> {
    /// Looks for corpora and encoder.
    pub(crate) fn new(options: &'a All) -> Outcome<Self> {
        let (Some(data), Some(encoder)) = (&options.data, &options.encoder) else {
            return Err(
                "say where corpora and an encoder are: `cargo xtask bench --data DIR --encoder DIR`".to_owned(),
            );
        };
        Ok(Self {
            options,
            data: found(data)?,
            encoder: found(encoder)?,
        })
    }
}

/// Measures everything.
pub(crate) fn run(task: &Task<'_>, shell: &mut Shell) -> Outcome {
    let Task { options, data, encoder } = task;
    let out = target()?.join("bench");
    fs::create_dir_all(&out).map_err(|error| format!("cannot create `{}`: {error}", out.display()))?;
    let python = match &options.python {
        Some(python) => engine::absolute(python)?,
        None => own_python(&out, shell)?,
    };
    let base = base_encoder(&out, encoder, shell)?;

    engine::run(
        &engine::Task {
            chain: 200,
            instances: 10_000,
            program: None,
            python: Some(&python),
            b3sum: options.b3sum.as_deref(),
            large: 10,
            out: Some(&out),
        },
        shell,
    )?;
    let read = data::run(
        &data::Settings {
            corpus: &data.join(CORPUS),
            encoder,
            python: Some(&python),
            json: None,
        },
        shell,
    )?;
    let systems = systems::Systems::new(data, encoder, options.peer.as_deref(), &python, options.rounds);
    let one = systems::run(&systems, shell)?;
    let two = systems::run(&systems.with_threads(2), shell)?;
    let types = systems::run(&systems.with_types(1000), shell)?;
    let base = systems::run(&systems.with_encoder(&base), shell)?;

    let engine = fs::read_to_string(out.join("engine.json")).map_err(|error| error.to_string())?;
    let figures = json!({
        "machine": machine(),
        "versions": versions(&python),
        "command": std::env::args().collect::<Vec<_>>(),
        "train": one["train"],
        "evaluate": one["evaluate"],
        "gemm_flop_per_s": one["gemm_flop_per_s"],
        "two_threads": two,
        "thousand_types": types,
        "bert_base": base,
        "data": read,
        "engine": serde_json::from_str::<Value>(&engine).map_err(|error| error.to_string())?["measured"],
    });
    let headed = |title: &str, report: &Value| format!("## {title}\n\n{}\n", systems::markdown(report));
    let table = [
        format!("{}\n{}\n\n", figures["machine"], figures["versions"]),
        headed("One thread", &one),
        headed("Two threads", &two),
        headed("A thousand entity types", &types),
        headed("BERT-base", &base),
        format!("## Data\n\n{}\n", data::markdown(&read)),
        "## Engine\n\n".to_owned(),
        fs::read_to_string(out.join("engine.md")).map_err(|error| error.to_string())?,
    ]
    .concat();
    let json = options.json.clone().unwrap_or_else(|| out.join("bench.json"));
    write(&json, &format!("{figures:#}\n"))?;
    write(&out.join("bench.md"), &table)?;
    println!("\n{table}");
    shell.note(format!(
        "written to {} and {}",
        json.display(),
        out.join("bench.md").display()
    ));
    Ok(())
}

fn write(path: &Path, text: &str) -> Outcome {
    fs::write(path, text).map_err(|error| format!("cannot write `{}`: {error}", path.display()))
}

/// A virtual environment in the target folder.
fn own_python(out: &Path, shell: &mut Shell) -> Outcome<PathBuf> {
    let folder = out.join("python");
    let python = folder.join("bin/python");
    if !python.exists() {
        shell.run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        shell.run(
            Command::new(&python)
                .args(["-m", "pip", "install", "--quiet"])
                .args(PACKAGES),
        )?;
    }
    Ok(python)
}

/// A BERT-base with random weights and the encoder's vocabulary.
fn base_encoder(out: &Path, encoder: &Path, shell: &mut Shell) -> Outcome<PathBuf> {
    let project = out.join("base");
    fs::create_dir_all(&project).map_err(|error| error.to_string())?;
    write(&project.join("base.yaml"), BASE)?;
    let mut command = nerpipe()?;
    command.current_dir(&project).args(["run", "base.yaml", "--quiet"]);
    super::set(&mut command, "vocabulary", &found(&encoder.join("vocab.txt"))?);
    shell.run(&mut command)?;
    Ok(project.join("bert-base"))
}

/// The processor and how many cores there are.
fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split(": ").nth(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{}, {cores} cores, {}",
        model.unwrap_or("unknown processor"),
        std::env::consts::OS
    )
}

/// The versions of what was measured beside.
fn versions(python: &Path) -> Value {
    const SCRIPT: &str = "import sys, json, importlib.metadata as m
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
names = ['torch', 'transformers', 'datasets', 'tokenizers', 'dvc', 'snakemake']
print(json.dumps({'python': sys.version.split()[0], **{n: version(n) for n in names}}))";
    let told = Command::new(python).args(["-c", SCRIPT]).output().ok();
    let told = told.and_then(|output| serde_json::from_slice(&output.stdout).ok());
    json!({"nerpipe": env!("CARGO_PKG_VERSION"), "beside": told.unwrap_or(Value::Null)})
}
