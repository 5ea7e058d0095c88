//! The developer's commands: `cargo xtask COMMAND`, here and in CI alike.
//!
//! Every command is a short list of other programs to start, each shown before it runs, so that any line can be copied
//! and run by itself.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

mod bench;
mod end_to_end;
mod instructions;
mod measure;
mod readme_commands;
mod shell;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::shell::{Shell, cargo, nerpipe};

/// The developer's commands of nerpipe
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Format all code
    Fmt {
        /// Change nothing; fail if something is not formatted
        #[arg(long)]
        check: bool,
    },
    /// Run clippy on everything, tests and the feature `parquet` included; a warning is an error
    Lint,
    /// Run all tests: unit, integration and documentation tests of every crate
    Test {
        /// What `cargo test --workspace` is given besides, such as a filter or `-- --nocapture`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Run pipelines/all_encoders.yaml twice in a throwaway project and check what came of it
    ///
    /// The first run begins with an empty cache: nothing may fail, and every system must reach a micro F1 of 0.80 on the
    /// test sentences from templates it has seen. The second run must execute nothing.
    EndToEnd,
    /// Count the instructions of a run and of a plan with nothing to do; fail if they are many more than before
    ///
    /// Needs valgrind; without it nothing is counted, which is said.
    Instructions,
    /// Run every command line of the reference trainer's README in nerpipe's words, and check what comes of each
    ReadmeCommands(readme_commands::ReadmeCommands),
    /// Run everything a change must pass: fmt --check, lint, test, a release build, instructions, readme-commands, end-to-end
    Ci,
    /// Measure everything side by side with what else there is: engine, data, the four systems
    ///
    /// Takes hours with a PyTorch program beside it; the subcommands measure parts. Writes bench.md and bench.json.
    Bench(Box<BenchArgs>),
    /// Compare wgpu with the CPU, and check the types of the cuda build; builds apart from all else
    ///
    /// Needs an adapter that wgpu finds; Mesa's software Vulkan (`mesa-vulkan-drivers` on Debian) is enough. The first
    /// build takes about 20 minutes of CPU time and goes to `gpu` and `cuda` in the target folder.
    GpuCheck,
    /// Make data/sample again from its grammar: runs pipelines/sample.yaml, replacing what is there
    Sample,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
struct BenchArgs {
    #[command(subcommand)]
    part: Option<Bench>,
    #[command(flatten)]
    all: bench::all::All,
}

#[derive(Subcommand)]
enum Bench {
    /// Run pipelines/real_data.yaml and show its table
    ///
    /// With `--peer` and `--python` the four systems are also trained for 20 steps without dropout and replayed in
    /// PyTorch from the same weights with the same batches; every loss must agree within 1e-3.
    Real {
        /// A folder with bc5cdr/ and wnut17/, each with train.jsonl and test.jsonl
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// A BERT encoder as Hugging Face lays it out: config.json, model.safetensors, tokenizer.json
        #[arg(long, value_name = "DIR")]
        encoder: PathBuf,
        /// A PyTorch program of the same four systems; xtask/peer/compare_losses.py says what it must offer
        #[arg(long, value_name = "FILE", requires = "python")]
        peer: Option<PathBuf>,
        /// A Python that has torch, transformers and safetensors
        #[arg(long, value_name = "PROGRAM", requires = "peer")]
        python: Option<PathBuf>,
    },
    /// Measure the engine: a chain of small commands, many instances that do next to nothing, hashing of input files
    ///
    /// Time, CPU time and memory of the release build, for the first run and for one with nothing to do.
    Engine {
        /// How many commands are in the chain
        #[arg(long, value_name = "N", default_value_t = 200)]
        chain: usize,
        /// How many instances do next to nothing
        #[arg(long, value_name = "N", default_value_t = 10_000)]
        instances: usize,
        /// A Python that has DVC or Snakemake, which then run the same chain
        #[arg(long, value_name = "PROGRAM")]
        python: Option<PathBuf>,
        /// The program b3sum, which then hashes the same files: `cargo install b3sum --root DIR` makes DIR/bin/b3sum
        #[arg(long, value_name = "FILE")]
        b3sum: Option<PathBuf>,
        /// The length in GiB of a large input file, which is hashed once and then found unchanged; 0 for none
        #[arg(long, value_name = "GIB", default_value_t = 10)]
        large: u64,
        /// Another build of nerpipe than the release build, which is then not made
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// Where engine.md and engine.json are written [default: `bench` in the target folder]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Read, check and tokenize a corpus, against the tokenizers library alone and against Python
    Data {
        /// A corpus in JSONL, or a folder with its train.jsonl
        #[arg(long, value_name = "PATH")]
        data: PathBuf,
        /// An encoder as Hugging Face lays it out: config.json, model.safetensors, tokenizer.json
        #[arg(long, value_name = "DIR")]
        encoder: PathBuf,
        /// A Python that has datasets and transformers
        #[arg(long, value_name = "PROGRAM")]
        python: Option<PathBuf>,
        /// Where to write the figures as JSON
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// Measure training and evaluation of the four systems, side by side with a PyTorch program
    ///
    /// CPU time of whole programs is measured, so other work beside it matters little; medians over rounds, in which the
    /// programs take turns, are told. Beside each training step stands its floor: the matrix products that its subwords and
    /// candidates need, at the rate of large products, and one pass of the optimizer.
    Systems(bench::systems::Systems),
}

/// How a command ends: nothing to say, or why it failed.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let mut shell = Shell::default();
    let outcome = run(Cli::parse().command, &mut shell);
    shell.sum_up();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            println!("failed: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task, shell: &mut Shell) -> Outcome {
    match task {
        Task::Fmt { check } => format(check, shell),
        Task::Lint => lint(shell),
        Task::Test { arguments } => test(&arguments, shell),
        Task::EndToEnd => {
            build(shell)?;
            end_to_end::run(shell)
        }
        Task::ReadmeCommands(options) => {
            if options.program.is_none() {
                build(shell)?;
            }
            readme_commands::run(&options, shell)
        }
        Task::Ci => {
            format(true, shell)?;
            lint(shell)?;
            test(&[], shell)?;
            build(shell)?;
            instructions::run(shell)?;
            readme_commands::run(&readme_commands::ReadmeCommands::default(), shell)?;
            end_to_end::run(shell)
        }
        Task::Instructions => {
            build(shell)?;
            instructions::run(shell)
        }
        Task::Bench(arguments) => match *arguments {
            BenchArgs { part: Some(part), .. } => measure(part, shell),
            BenchArgs { part: None, all } => {
                let task = bench::all::Task::new(&all)?;
                build(shell)?;
                examples(shell)?;
                bench::all::run(&task, shell)
            }
        },
        Task::GpuCheck => gpu_check(shell),
        Task::Sample => {
            build(shell)?;
            shell.run(nerpipe()?.args(["run", "pipelines/sample.yaml", "--overwrite"]))
        }
    }
}

/// One part of the benchmarks.
fn measure(part: Bench, shell: &mut Shell) -> Outcome {
    match part {
        Bench::Real {
            data,
            encoder,
            peer,
            python,
        } => {
            build(shell)?;
            bench::real(&data, &encoder, shell)?;
            match (peer, python) {
                (Some(peer), Some(python)) => bench::losses(&data, &encoder, &peer, &python, shell),
                _ => Ok(()),
            }
        }
        Bench::Engine {
            chain,
            instances,
            python,
            b3sum,
            large,
            program,
            out,
        } => {
            if program.is_none() {
                build(shell)?;
            }
            let task = bench::engine::Task {
                chain: chain.max(1),
                instances: instances.max(1),
                program: program.as_deref(),
                python: python.as_deref(),
                b3sum: b3sum.as_deref(),
                large,
                out: out.as_deref(),
            };
            bench::engine::run(&task, shell)
        }
        Bench::Data {
            data,
            encoder,
            python,
            json,
        } => {
            build(shell)?;
            examples(shell)?;
            let corpus = if data.is_dir() { data.join("train.jsonl") } else { data };
            let settings = bench::data::Settings {
                corpus: &corpus,
                encoder: &encoder,
                python: python.as_deref(),
                json: json.as_deref(),
            };
            bench::data::run(&settings, shell).map(drop)
        }
        Bench::Systems(options) => {
            build(shell)?;
            examples(shell)?;
            bench::systems::run(&options, shell).map(drop)
        }
    }
}

/// Builds the programs that measure what the machine and libraries can do.
fn examples(shell: &mut Shell) -> Outcome {
    shell.run(&mut cargo(&["build", "--release", "--workspace", "--examples"]))
}

fn format(check: bool, shell: &mut Shell) -> Outcome {
    let mut command = cargo(&["fmt", "--all"]);
    if check {
        command.arg("--check");
    }
    shell.run(&mut command)
}

fn lint(shell: &mut Shell) -> Outcome {
    shell.run(&mut cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        // What only this feature builds is looked at nowhere else.
        "--features",
        "parquet",
        "--",
        "-D",
        "warnings",
    ]))
}

fn test(arguments: &[String], shell: &mut Shell) -> Outcome {
    shell.tests(cargo(&["test", "--workspace"]).args(arguments)).map(drop)
}

fn build(shell: &mut Shell) -> Outcome {
    shell.run(&mut cargo(&["build", "--release"]))
}

/// A target folder holds one set of Burn's features: another set in the same folder would rebuild it every time.
fn gpu_check(shell: &mut Shell) -> Outcome {
    let target = shell::target()?;
    let mut wgpu = cargo(&["test", "-p", "nerpipe-stages", "--features", "wgpu", "--test", "stages"]);
    wgpu.arg("--target-dir").arg(target.join("gpu")).arg("gpu");
    if shell.tests(&mut wgpu)? == 0 {
        return Err("no test of the wgpu backend ran".to_owned());
    }
    let mut cuda = cargo(&["check", "-p", "nerpipe-stages", "--features", "cuda"]);
    // Without this a dependency's build script fetches a compiler that only running on a device needs.
    cuda.env("DOCS_RS", "1").arg("--target-dir").arg(target.join("cuda"));
    shell.run(&mut cuda)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
