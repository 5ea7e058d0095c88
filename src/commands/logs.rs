//! `nerpipe logs`: what an instance wrote, and writes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use nerpipe_engine::{Account, RunState};

use super::{Session, select};
use crate::cli::Pipeline;
use crate::completion;
use crate::exit::{Error, Exit};
use crate::interrupt;
use crate::render::numbers::some;
use crate::terminal::Terminal;

/// How often a log that is followed is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// The instance, such as `model@loss=bce`; a part that fits only one is enough
    #[arg(value_name = "SELECTOR", add = ArgValueCompleter::new(completion::selectors))]
    pub(crate) instance: String,
    /// Go on until the instance has ended
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Prints the log of an instance: of its execution now, or else of the last one.
pub(crate) fn logs(args: &LogsArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let number = match select(&session.graph, std::slice::from_ref(&args.instance))?.as_slice() {
        [one] => *one,
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|number| session.graph.instances[*number].name())
                .collect();
            let message = format!(
                "`{}` chooses {} instances, and a log is of one",
                args.instance,
                names.len()
            );
            return Err(Error::usage(message, Some(format!("they are {}", some(&names)))));
        }
    };
    let name = session.graph.instances[number].name();
    let find = || -> Result<Option<PathBuf>, Error> {
        let (graph, registry) = (&session.graph, &session.registry);
        let shown = nerpipe_engine::show(graph, registry, &session.cache, &session.project, &[number])?;
        Ok(shown.into_iter().find_map(|shown| shown.log))
    };
    let mut log = Log::default();
    if !args.follow {
        match find()? {
            Some(path) => log.print(path, terminal)?,
            None => terminal.err(&format!("`{name}` has written no log")),
        }
        return Ok(Exit::Done);
    }
    let cancel = interrupt::watch();
    loop {
        // Asked before the log is read, so that what is written last is read after it was found to have ended.
        let goes_on = goes_on(&session, &name)?;
        if let Some(path) = find()? {
            log.print(path, terminal)?;
        }
        if !goes_on {
            if !log.found {
                terminal.err(&format!("`{name}` has written no log, and no run will come to it"));
            }
            return Ok(Exit::Done);
        }
        pause(&cancel);
        if cancel.load(Ordering::Relaxed) {
            return Ok(Exit::Interrupted);
        }
    }
}

fn pause(cancel: &AtomicBool) {
    if !cancel.load(Ordering::Relaxed) {
        thread::sleep(BETWEEN_LOOKS);
    }
}

/// Whether a run of this manifest has yet to end this instance.
fn goes_on(session: &Session, name: &str) -> Result<bool, Error> {
    let accounts = Account::all(&session.cache).map_err(Error::environment)?;
    let mut alive = accounts
        .iter()
        .filter(|account| account.state == RunState::Running && account.manifest == session.graph.name);
    Ok(alive.any(|account| {
        let ended = account.finished.iter().any(|one| one.instance == name)
            || account.failed.iter().any(|one| one.instance == name)
            || account.blocked.iter().any(|blocked| blocked == name);
        !ended
    }))
}

/// A log that is printed as it grows.
#[derive(Default)]
struct Log {
    path: PathBuf,
    printed: u64,
    found: bool,
}

impl Log {
    /// Prints what was not printed yet.
    fn print(&mut self, path: PathBuf, terminal: &Terminal) -> Result<(), Error> {
        if path != self.path {
            self.path = path;
            self.printed = 0;
        }
        let Ok(mut file) = File::open(&self.path) else {
            // An execution begins with a new log.
            self.printed = 0;
            return Ok(());
        };
        self.found = true;
        let mut text = Vec::new();
        let read = file.metadata().and_then(|metadata| {
            if metadata.len() < self.printed {
                self.printed = 0;
            }
            file.seek(SeekFrom::Start(self.printed))?;
            file.read_to_end(&mut text)
        });
        read.map_err(|error| Error::environment(format!("failed to read `{}`: {error}", self.path.display())))?;
        // A line that is being written is printed when it is whole.
        let Some(end) = text.iter().rposition(|byte| *byte == b'\n') else {
            return Ok(());
        };
        self.printed += end as u64 + 1;
        terminal.out(&String::from_utf8_lossy(&text[..end]));
        Ok(())
    }
}
