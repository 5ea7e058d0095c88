//! `nerpipe run`: runs what is missing, publishes, and prints what came of it.

use std::num::NonZero;
use std::sync::atomic::Ordering;

use clap::Args;
use nerpipe_engine::{RunOptions, Summary};
use nerpipe_stages::device::DeviceChoice;

use super::Session;
use crate::cli::{Pipeline, positive};
use crate::exit::{Error, Exit};
use crate::interrupt;
use crate::render::run::Watcher;
use crate::render::summary;
use crate::terminal::Terminal;

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

/// The part of a report's artifact that is made for a terminal.
const TABLE: &str = "table.txt";

/// More instances than this side by side would rather fill the memory than the cores.
const MOST_JOBS: usize = 4;

/// Runs the manifest.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline).inspect_err(|error| {
        if let (true, Error::Manifest(diagnostics)) = (args.json, error) {
            let event = serde_json::json!({"event": "refused", "diagnostics": diagnostics});
            terminal.out(&event.to_string());
        }
    })?;
    let threads = args
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    let cancel = interrupt::watch();
    let options = RunOptions {
        jobs: args.jobs.unwrap_or(threads.min(MOST_JOBS)),
        threads,
        device: args.device.to_string(),
        program: Some(std::env::current_exe().map_err(|error| {
            Error::environment(format!(
                "cannot find the program's own file, to start it for single instances: {error}"
            ))
        })?),
        overwrite: args.overwrite,
        cancel: cancel.clone(),
        ..RunOptions::default()
    };
    let mut watcher = Watcher::new(terminal, args.json, args.quiet);
    let ended = nerpipe_engine::run(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        &options,
        &mut |event| watcher.see(&event),
    );
    drop(watcher);
    let ended = ended.map_err(|error| Error::Environment {
        message: error.message,
        help: error.help,
    })?;
    if !args.json {
        tell(&ended, &session, args.quiet, terminal);
    }
    Ok(match ended.is_success() {
        true => Exit::Done,
        false if cancel.load(Ordering::SeqCst) => Exit::Interrupted,
        false => Exit::Failed,
    })
}

/// The summary for people, and the tables of reports. Warnings and failures were told when they happened, so with `quiet`
/// only the counts of a run that went wrong are left to say.
fn tell(ended: &Summary, session: &Session, quiet: bool, terminal: &Terminal) {
    let paint = terminal.err;
    let lines = match quiet {
        false => summary::lines(ended, paint),
        true if ended.is_success() => Vec::new(),
        true => vec![summary::counts(ended, paint)],
    };
    for line in lines {
        terminal.err(&line);
    }
    for instance in &ended.instances {
        if let Some(table) = table(instance, session) {
            terminal.out(&format!("\n{}", table.trim_end()));
        }
    }
}

/// The terminal table of an instance that made one.
fn table(instance: &nerpipe_engine::InstanceSummary, session: &Session) -> Option<String> {
    let record = session.cache.record(&instance.fingerprint?).ok()??;
    let file = record.artifact.files.into_iter().find(|file| file.name == TABLE)?;
    std::fs::read_to_string(session.cache.objects().path(&file.digest)).ok()
}
