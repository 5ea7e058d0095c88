//! The command line: the verbs and what they share. Doc comments are the help texts; the arguments of a verb are in its own
//! file.

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::engine::ArgValueCompleter;

use crate::commands::{
    cache, completions, convert, data, evaluate, exec, explain, graph, logs, man, plan, predict, run, schema, show,
    status,
};
use crate::completion;
use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

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

Exit codes: 0 done, 1 an instance failed or data are wrong, 2 wrong command line, 3 wrong manifest, 4 cache or disk trouble,
5 something would run (`plan --exit-code`), 130 interrupted";

const SCHEMA_HELP: &str = "\
Keep it in a file, nerpipe schema > nerpipe.schema.json, and begin manifests with this line:
  # yaml-language-server: $schema=nerpipe.schema.json";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run what is missing, publish the results, print the report
    Run(run::RunArgs),
    /// Show what `run` would do and why; runs nothing
    Plan(plan::PlanArgs),
    /// Explain why instances would run: the fields that differ from an earlier run, old and new
    Explain(Instances),
    /// Show instances: their settings, inputs, digests and files
    Show(Instances),
    /// Draw the stages and what they read, as Mermaid or DOT
    Graph(graph::GraphArgs),
    /// Show what runs do right now: instances, steps, time left, failures
    Status(status::StatusArgs),
    /// Print the log of one instance, or follow it
    Logs(logs::LogsArgs),
    /// List the cache, tell its size, or take away what is no longer wanted
    Cache(cache::CacheArgs),
    /// Check corpora, count what is in them, write them in other formats
    Data(data::DataArgs),
    /// Evaluate one checkpoint on one corpus, by the reference trainer's options
    Evaluate(evaluate::EvaluateArgs),
    /// Find entities in texts: arguments, files or standard input
    Predict(predict::PredictArgs),
    /// Print a JSON config of the reference trainer as a manifest
    Convert(convert::ConvertArgs),
    /// Print the JSON Schema of manifests, with which editors check and complete them
    #[command(after_help = SCHEMA_HELP)]
    Schema,
    /// Print a script that completes command lines in a shell, names of the manifest included
    Completions(completions::CompletionsArgs),
    /// Write the manual's pages into a folder
    Man(man::ManArgs),
    /// Run one job in this process; started by `run`
    #[command(hide = true)]
    Exec(exec::ExecArgs),
}

impl Command {
    /// Does what was asked for.
    pub(crate) fn perform(&self, terminal: &Terminal) -> Result<Exit, Error> {
        match self {
            Self::Run(args) => run::run(args, terminal),
            Self::Plan(args) => plan::plan(args, terminal),
            Self::Show(args) => show::show(args, terminal),
            Self::Status(args) => status::status(args, terminal),
            Self::Logs(args) => logs::logs(args, terminal),
            Self::Data(args) => data::data(args, terminal),
            Self::Evaluate(args) => evaluate::evaluate(args, terminal),
            Self::Predict(args) => predict::predict(args, terminal),
            Self::Convert(args) => convert::convert(args, terminal),
            Self::Explain(args) => explain::explain(args, terminal),
            Self::Graph(args) => graph::graph(args, terminal),
            Self::Cache(args) => cache::cache(args, terminal),
            Self::Schema => schema::schema(terminal),
            Self::Completions(args) => completions::completions(args, terminal),
            Self::Man(args) => man::man(args),
            Self::Exec(args) => exec::exec(args),
        }
    }
}

/// What a wrong command is answered with: one line for each verb.
pub(crate) fn verbs() -> String {
    let cli = Cli::command();
    let shown = || cli.get_subcommands().filter(|verb| !verb.is_hide_set());
    let width = shown().map(|verb| verb.get_name().len()).max().unwrap_or(0);
    let line = |verb: &clap::Command| {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        format!("  {:width$}  {about}", verb.get_name())
    };
    let lines: Vec<String> = shown().map(line).collect();
    format!("commands:\n{}", lines.join("\n"))
}

/// What every command that reads a manifest takes.
#[derive(Debug, Args)]
pub(crate) struct Pipeline {
    /// The manifest, a YAML file; or a JSON config of the reference trainer
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

/// Where the cache is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The project folder [default: the working directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) project: Option<PathBuf>,
    /// Where artifacts are kept [default: `cache` in the project]
    #[arg(long, value_name = "DIR", env = "NERPIPE_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What a command that can look at a part of a manifest takes.
#[derive(Debug, Args)]
pub(crate) struct Selectors {
    /// Only these: `model`, `model@loss=bce,seed=1`, `loss=bce`; `+x` is x and all it needs, `x+` x and all that needs it
    ///
    /// A stage's name chooses all its instances, `model@loss=bce` those with that axis value, `loss=bce` those of any
    /// stage; a part of one single name chooses that one. A plus in front adds what the chosen need, a plus behind what
    /// needs them.
    #[arg(value_name = "SELECTOR", add = ArgValueCompleter::new(completion::selectors))]
    pub(crate) selectors: Vec<String>,
}

/// What a command that tells something of single instances takes.
#[derive(Debug, Args)]
pub(crate) struct Instances {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Which instances: `model@loss=bce,seed=1`, `model`, `loss=bce`; `+x` is x and all it needs, `x+` x and all that needs it
    #[arg(value_name = "SELECTOR", required = true, add = ArgValueCompleter::new(completion::selectors))]
    pub(crate) selectors: Vec<String>,
    /// Print one JSON object a line, one for each instance
    #[arg(long)]
    pub(crate) json: bool,
}

/// A number from 1.
pub(crate) fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("give a number from 1".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
