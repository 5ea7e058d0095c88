//! `nerpipe run --watch`: runs again whenever the manifest or a file that it reads has changed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nerpipe_engine::Diagnostics;
use nerpipe_engine::watch::{Difference, Look, Watched};
use nerpipe_hub::Lock;
use serde_json::json;

use super::run::{RunArgs, once, open};
use super::{Expanded, json};
use crate::exit::{Error, Exit};
use crate::interrupt;
use crate::render::numbers::plural;
use crate::terminal::Terminal;

/// How often files are looked at, at most.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// So many times as long as a look takes pass between two: looking at very many files must not take a core.
const REST: u32 = 10;

/// How long nothing must change before the next run begins: editors and downloads write several times.
const SETTLED: Duration = Duration::from_millis(250);

/// How soon Ctrl-C is seen.
const NAP: Duration = Duration::from_millis(50);

/// How many changed files are named.
const NAMED: usize = 3;

/// Runs, waits for a change, and runs again, until Ctrl-C.
pub(super) fn watch(args: &RunArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let cancel = interrupt::watch();
    let manifest = &args.pipeline.manifest;
    let files = [manifest.clone(), manifest.with_file_name(Lock::FILE)];
    // What is wrong with the command line ends it; once something ran, nothing does.
    let mut began = false;
    loop {
        // Seen before it is read, so that what is saved meanwhile is not missed.
        let alone = Watched::files([manifest.clone()]);
        let early = State {
            look: alone.look(),
            mistakes: mistakes(args),
        };
        let awaited = match open(args, terminal) {
            Ok(session) => {
                // A choice that fits nothing is told by the run.
                let selected = session.selected(&args.selectors).unwrap_or_default();
                let watched = Watched::of(&session.graph, &session.project, selected.as_deref(), files.clone());
                let look = watched.look_as_built().over(early.look);
                match once(args, &session, terminal) {
                    Ok(Exit::Interrupted) => return Ok(Exit::Interrupted),
                    Ok(_) => {}
                    Err(error) if began => error.tell(terminal),
                    Err(error) => return Err(error),
                }
                Awaited {
                    watched,
                    rereads: None,
                    before: State { look, mistakes: None },
                }
            }
            Err(error) if began || (matches!(error, Error::Manifest(_)) && manifest.exists()) => {
                error.tell(terminal);
                Awaited {
                    watched: alone,
                    rereads: Some(args),
                    before: early,
                }
            }
            Err(error) => return Err(error),
        };
        began = true;
        announce(&awaited, args, terminal)?;
        interrupt::idle(true);
        let changed = awaited.wait(&cancel);
        interrupt::idle(false);
        match changed {
            Some(changed) => tell(&changed, args, terminal)?,
            None => {
                if terminal.live {
                    // The terminal has shown `^C`.
                    terminal.err("");
                }
                return Ok(Exit::Interrupted);
            }
        }
    }
}

/// What the next run waits for.
struct Awaited<'a> {
    watched: Watched,
    /// The command line whose manifest is wrong, and read again at each look: what it lacks may be a file.
    rereads: Option<&'a RunArgs>,
    before: State,
}

/// How things stand.
#[derive(Clone, PartialEq)]
struct State {
    look: Look,
    /// What is wrong with the manifest, if that is watched.
    mistakes: Option<Diagnostics>,
}

/// What is wrong with the manifest. Nothing is downloaded to find out.
fn mistakes(args: &RunArgs) -> Option<Diagnostics> {
    match Expanded::read_silently(&args.pipeline) {
        Err(Error::Manifest(diagnostics)) => Some(diagnostics),
        _ => None,
    }
}

impl Awaited<'_> {
    fn look(&self) -> State {
        State {
            look: self.watched.look(),
            mistakes: self.rereads.and_then(mistakes),
        }
    }

    /// Waits until something differs and has come to rest, and says what; none if the program was told to stop.
    fn wait(&self, cancel: &AtomicBool) -> Option<Vec<(PathBuf, Difference)>> {
        loop {
            let begun = Instant::now();
            let mut now = self.look();
            let took = begun.elapsed();
            if now == self.before {
                pause(BETWEEN_LOOKS.max(took * REST), cancel)?;
                continue;
            }
            loop {
                pause(SETTLED.max(took), cancel)?;
                let next = self.look();
                if next == now {
                    break;
                }
                now = next;
            }
            // An editor that saved the same file anew, or put it back, has changed nothing after all.
            if now != self.before {
                return Some(now.look.differs_from(&self.before.look));
            }
        }
    }
}

/// Waits so long; none if the program was told to stop.
fn pause(time: Duration, cancel: &AtomicBool) -> Option<()> {
    let until = Instant::now() + time;
    loop {
        if cancel.load(Ordering::SeqCst) {
            return None;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Some(());
        }
        thread::sleep(left.min(NAP));
    }
}

/// Says what is waited for.
fn announce(awaited: &Awaited<'_>, args: &RunArgs, terminal: &Terminal) -> Result<(), Error> {
    let files = awaited.before.look.len();
    if args.json {
        terminal.out(&json(&json!({"event": "waiting", "files": files}))?);
    } else if !args.quiet {
        let manifest = args.pipeline.manifest.display();
        let what = match awaited.rereads {
            Some(_) => format!("{manifest} to be mended"),
            None if files <= 1 => format!("changes of {manifest}"),
            None => format!(
                "changes of {manifest} and {} that it reads",
                plural(files as u64 - 1, "file")
            ),
        };
        let waits = terminal.err.cyan("waiting");
        terminal.err(&format!("\n{waits} for {what}; Ctrl-C ends"));
    }
    Ok(())
}

/// Says what has changed.
fn tell(changed: &[(PathBuf, Difference)], args: &RunArgs, terminal: &Terminal) -> Result<(), Error> {
    let word = |difference: Difference| match difference {
        Difference::Changed => "changed",
        Difference::New => "new",
        Difference::Gone => "gone",
    };
    if args.json {
        let files = changed.iter();
        let files: Vec<_> = files
            .map(|(path, difference)| json!({"path": path.to_string_lossy(), "what": word(*difference)}))
            .collect();
        terminal.out(&json(&json!({"event": "changed", "files": files}))?);
    } else if !args.quiet {
        let name = |(path, difference): &(PathBuf, Difference)| match difference {
            Difference::Changed => path.display().to_string(),
            other => format!("{} ({})", path.display(), word(*other)),
        };
        let names: Vec<String> = changed.iter().map(name).collect();
        let what = match names.len() {
            0 => "a file that the manifest names".to_owned(),
            1..=NAMED => names.join(", "),
            many => format!("{} and {} more", names[..NAMED].join(", "), many - NAMED),
        };
        terminal.err(&format!("{}: {what}\n", terminal.err.cyan("changed")));
    }
    Ok(())
}
