//! `nerpipe run`: runs what is missing, publishes, and prints what came of it.

use std::num::NonZero;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use nerpipe_engine::{ErrorClass, RunOptions, Summary};
use nerpipe_stages::device::DeviceChoice;

use super::Session;
use crate::cli::{Pipeline, Selectors, positive};
use crate::exit::{Error, Exit};
use crate::render::run::Watcher;
use crate::render::summary;
use crate::terminal::Terminal;
use crate::{interrupt, machine};

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    /// How many instances may run side by side [default: one per thread, at most 4]
    #[arg(long, short, value_name = "N", value_parser = positive)]
    pub(crate) jobs: Option<usize>,
    /// How many threads the instances share [default: one per core]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) threads: Option<usize>,
    /// Where models train and predict: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// The accelerators, one instance each: how many, or their numbers [default: all instances use --device]
    ///
    /// `--devices 2` hands out the first two, `--devices 0,3` these. A number that is given twice has two instances at a time.
    /// How many devices an instance needs is said by its kind, or by `resources` of its stage.
    #[arg(long, value_name = "N|N,N…", value_parser = devices)]
    pub(crate) devices: Option<Devices>,
    /// How much memory the instances share, such as 12G [default: what is available]
    ///
    /// What an instance needs is known from earlier runs of its stage, or from `resources` of the stage; as many run side by
    /// side as fit.
    #[arg(long, value_name = "SIZE", value_parser = nerpipe_engine::resources::memory)]
    pub(crate) memory: Option<u64>,
    /// Execute everything, even if the cache has it; what comes out is cached as ever
    #[arg(long)]
    pub(crate) force: bool,
    /// Show what would run and why, as `plan` does; run nothing
    #[arg(long, conflicts_with = "force")]
    pub(crate) dry_run: bool,
    /// Run again whenever the manifest or a file that it reads has changed, until Ctrl-C
    #[arg(long, conflicts_with_all = ["force", "dry_run"])]
    pub(crate) watch: bool,
    /// Start nothing new after the first failure [default: only what depends on it is left out]
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// How often an instance whose process dies is tried again [default: 0, or what `resources` of its stage say]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) retries: u32,
    /// How long an instance may run, such as 90s, 30m or 2h [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = nerpipe_engine::resources::duration)]
    pub(crate) timeout: Option<Duration>,
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

/// The numbers of the devices that are handed out.
#[derive(Clone, Debug)]
pub(crate) struct Devices(Vec<u32>);

/// `2` is the first two, `0,3` are these.
fn devices(text: &str) -> Result<Devices, String> {
    let wrong = || "give how many there are, such as 2, or their numbers, such as 0,3".to_owned();
    let number = |text: &str| text.trim().parse::<u32>().map_err(|_| wrong());
    let numbers = match text.split_once(',') {
        Some(_) => text
            .trim_end_matches(',')
            .split(',')
            .map(number)
            .collect::<Result<_, _>>()?,
        None => match number(text)? {
            0 => return Err(wrong()),
            count => (0..count.min(MOST_DEVICES)).collect(),
        },
    };
    Ok(Devices(numbers))
}

/// No machine has more.
const MOST_DEVICES: u32 = 1024;

/// The devices to hand out; only CUDA's have numbers that a process can be shut in with.
fn numbers(args: &RunArgs) -> Result<Vec<u32>, Error> {
    let Some(Devices(numbers)) = &args.devices else {
        return Ok(Vec::new());
    };
    match args.device {
        DeviceChoice::Auto | DeviceChoice::Cuda(_) => Ok(numbers.clone()),
        DeviceChoice::Cpu | DeviceChoice::Wgpu => {
            let message = format!(
                "`--devices` hands out CUDA devices, but `--device {}` is asked for",
                args.device
            );
            Err(Error::usage(message, Some("leave one of them out".to_owned())))
        }
    }
}

/// The part of a report's artifact that is made for a terminal.
const TABLE: &str = "table.txt";

/// More instances than this side by side would rather fill the memory than the cores.
const MOST_JOBS: usize = 4;

/// How a run uses the machine. From here on Ctrl-C stops it.
pub(super) fn options(jobs: Option<usize>, threads: Option<usize>, device: DeviceChoice) -> Result<RunOptions, Error> {
    let threads = threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, NonZero::get));
    nerpipe_engine::limit_threads(threads);
    Ok(RunOptions {
        jobs: jobs.unwrap_or(threads.min(MOST_JOBS)),
        threads,
        device: device.to_string(),
        program: Some(std::env::current_exe().map_err(|error| {
            Error::environment(format!(
                "cannot find the program's own file, to start it for single instances: {error}"
            ))
        })?),
        cancel: interrupt::watch(),
        ..RunOptions::default()
    })
}

/// Runs the manifest.
pub(crate) fn run(args: &RunArgs, terminal: &Terminal) -> Result<Exit, Error> {
    if args.watch {
        return super::watch::watch(args, terminal);
    }
    let session = open(args, terminal)?;
    if args.dry_run {
        let selected = session.selected(&args.selectors)?;
        let plan = super::plan::of(&session, selected.as_deref())?;
        super::plan::show(&plan, args.json, terminal)?;
        return Ok(super::plan::exit(&plan));
    }
    once(args, &session, terminal)
}

/// Reads the manifest. A program hears of what is wrong with it too.
pub(super) fn open(args: &RunArgs, terminal: &Terminal) -> Result<Session, Error> {
    let session = match args.dry_run {
        true => Session::open(&args.pipeline),
        false => Session::open_and_fetch(&args.pipeline),
    };
    session.inspect_err(|error| {
        if let (true, Error::Manifest(diagnostics)) = (args.json, error) {
            let event = serde_json::json!({"event": "refused", "diagnostics": diagnostics});
            terminal.out(&event.to_string());
        }
    })
}

/// Runs what the command line chooses.
pub(super) fn once(args: &RunArgs, session: &Session, terminal: &Terminal) -> Result<Exit, Error> {
    let options = RunOptions {
        memory: args.memory.or_else(machine::available_memory),
        devices: numbers(args)?,
        force: args.force,
        fail_fast: args.fail_fast,
        retries: args.retries,
        timeout: args.timeout,
        selected: session.selected(&args.selectors)?,
        overwrite: args.overwrite,
        ..options(args.jobs, args.threads, args.device)?
    };
    options
        .check(&session.graph)
        .map_err(|error| Error::usage(error.message, error.help))?;
    perform(
        session,
        &options,
        (args.json, args.quiet),
        &again(&args.pipeline),
        terminal,
    )
}

/// Runs what is missing and says nothing but what went wrong.
pub(super) fn perform_quietly(
    session: &Session,
    options: &RunOptions,
    terminal: &Terminal,
) -> Result<(Exit, Summary), Error> {
    let mut watcher = Watcher::new(terminal, false, true);
    let ended = execute(session, options, &mut watcher)?;
    Ok((exit(&ended, options), ended))
}

/// Runs what is missing, tells how it goes, and prints what came of it; `again` are the words of the command that does the same.
pub(super) fn perform(
    session: &Session,
    options: &RunOptions,
    (json, quiet): (bool, bool),
    again: &[String],
    terminal: &Terminal,
) -> Result<Exit, Error> {
    let mut watcher = Watcher::new(terminal, json, quiet);
    let ended = execute(session, options, &mut watcher)?;
    drop(watcher);
    if !json {
        tell(&ended, session, quiet, again, terminal);
    }
    Ok(exit(&ended, options))
}

fn execute(session: &Session, options: &RunOptions, watcher: &mut Watcher<'_>) -> Result<Summary, Error> {
    let ended = nerpipe_engine::run(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        options,
        &mut |event| watcher.see(&event),
    )?;
    Ok(ended)
}

fn exit(ended: &Summary, options: &RunOptions) -> Exit {
    match ended.is_success() {
        true => Exit::Done,
        false if options.cancel.load(Ordering::SeqCst) => Exit::Interrupted,
        false if is_machines_fault(ended) => Exit::Machine,
        false => Exit::Failed,
    }
}

/// Whether an instance failed because the machine was in the way, such as a full disk.
fn is_machines_fault(ended: &Summary) -> bool {
    let errors = ended.instances.iter().filter_map(|instance| instance.error.as_ref());
    errors.into_iter().any(|error| error.class == ErrorClass::Machine)
}

/// The summary for people, and the tables of reports. Warnings and failures were told when they happened, so with `quiet`
/// only the counts of a run that went wrong are left to say.
fn tell(ended: &Summary, session: &Session, quiet: bool, again: &[String], terminal: &Terminal) {
    let paint = terminal.err;
    let lines = match quiet {
        false => summary::lines(ended, again, paint),
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

/// The words of the command that runs the manifest with the same settings and places.
fn again(pipeline: &Pipeline) -> Vec<String> {
    let mut words = vec![
        "nerpipe".to_owned(),
        "run".to_owned(),
        pipeline.manifest.display().to_string(),
    ];
    for set in &pipeline.set {
        words.extend(["--set".to_owned(), set.clone()]);
    }
    for (option, folder) in [("--project", &pipeline.project), ("--cache-dir", &pipeline.cache_dir)] {
        if let Some(folder) = folder {
            words.extend([option.to_owned(), folder.display().to_string()]);
        }
    }
    words
}

/// The terminal table of an instance that made one.
fn table(instance: &nerpipe_engine::InstanceSummary, session: &Session) -> Option<String> {
    let files = &instance.record.as_ref()?.artifact.files;
    let file = files.iter().find(|file| file.name == TABLE)?;
    std::fs::read_to_string(session.cache.objects().path(&file.digest)).ok()
}
