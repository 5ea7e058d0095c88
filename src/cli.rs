//! The command line. The doc comments here are the help texts.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};
use nerpipe_stages::device::DeviceChoice;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// Builds, trains and compares named-entity recognizers from one YAML manifest
///
/// A manifest describes stages that depend on each other: corpora, tokenizers, models, their evaluation, reports.
/// nerpipe fingerprints what goes into each, takes from its cache what was made before, and runs only what is missing.
#[derive(Debug, Parser)]
#[command(version, styles = STYLES, max_term_width = 100, arg_required_else_help = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "\
Start here:
  nerpipe run pipelines/all_encoders.yaml     train four systems on the sample corpus and compare them
  nerpipe plan pipelines/all_encoders.yaml    show what that would run, and why

Exit codes: 0 done, 1 an instance failed, 2 wrong command line, 3 wrong manifest, 4 cache or disk trouble,
130 interrupted";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run what is missing, publish the results, print the report
    Run(RunArgs),
    /// Show what `run` would do and why; runs nothing
    Plan(PlanArgs),
    /// Show one instance: its settings, inputs, digests and files
    Show(ShowArgs),
    /// Run one job in this process; started by `run`
    #[command(hide = true)]
    Exec(ExecArgs),
}

/// What every command that reads a manifest takes.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// The manifest, a YAML file
    pub(crate) manifest: PathBuf,
    /// Replace a variable or a stage's setting; the value is read as YAML
    ///
    /// `--set vars.steps=50` replaces a variable, `--set model.learning_rate=1e-3` a setting. May be given many times.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The folder that the manifest's paths are relative to [default: the working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Where artifacts are kept [default: `cache` in the project]
    #[arg(long, value_name = "DIR", env = "NERPIPE_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Hash every input file again, even if its size and times say that it is unchanged
    #[arg(long)]
    pub(crate) rehash: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// How many instances may run side by side [default: one per thread, at most 4]
    #[arg(long, short, value_name = "N", value_parser = positive)]
    pub(crate) jobs: Option<usize>,
    /// How many threads the instances share [default: one per core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,
    /// Where models train and predict: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Replace published files that were changed by hand since
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Print one JSON object a line for each thing that happens; the last one is `finished`
    #[arg(long)]
    pub(crate) json: bool,
    /// Say nothing but warnings, errors and the report
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// The instance, such as `model@architecture=bi_encoder,loss=bce`; a part that fits only one is enough
    pub(crate) instance: String,
    /// Print it as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The file with the job
    pub(crate) job: PathBuf,
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
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
