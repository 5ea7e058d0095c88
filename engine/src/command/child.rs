//! Runs a command to its end, or ends it with everything it started.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::files::{self, FileError};
use crate::guard::{self, Guarded};
use crate::kind::{ErrorClass, StageError};
use crate::process::{self, End, Signal};

/// How often it is looked whether the run was told to stop, or the time is up.
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// How long a command that is told to stop may take to do so.
const GRACE: Duration = Duration::from_secs(5);

/// How much of what it printed last is shown with an error, in lines and bytes.
const TAIL: (usize, u64) = (10, 8 * 1024);

/// Runs `command` with what it prints in the instance's log.
///
/// # Errors
/// If it cannot be started, ends with anything but success, or the run is told to stop; it is then killed with its group.
pub(super) fn run(mut command: Command, ctx: &Context) -> Result<(), StageError> {
    let mut log = files::open_for_append(ctx.log_path())?;
    let begin = log
        .seek(SeekFrom::End(0))
        .map_err(FileError::of("read", ctx.log_path()))?;
    let both = log.try_clone().map_err(FileError::of("open", ctx.log_path()))?;
    command.stdin(Stdio::null()).stdout(both).stderr(log);
    // Ctrl-C reaches this process alone, and what the command starts can be told together with it.
    command.process_group(0);
    let program = command.get_program().to_string_lossy().into_owned();
    guard::stand();
    let child = command.spawn().map_err(|error| {
        let error = StageError::new(format!("cannot start `{program}`: {error}"));
        error.help("a program is looked for in `PATH`; one of the project's must be among `files`")
    })?;
    let group = child.id();
    let guarded = Guarded::group(group);
    let end = End::of(group);
    let mut told: Option<Instant> = None;
    while !end.wait(BETWEEN_LOOKS).map_err(FileError::of("wait for", &program))? {
        if ctx.check_cancelled().is_err() {
            let since = told.get_or_insert_with(|| {
                process::signal_group(group, Signal::Terminate);
                Instant::now()
            });
            if since.elapsed() > GRACE {
                process::signal_group(group, Signal::Kill);
            }
        }
    }
    // What it left running would go on writing into the artifact. Not reaped yet, its number is still the group's.
    process::signal_group(group, Signal::Kill);
    drop(guarded);
    let ended = process::reap(group).map_err(FileError::of("wait for", &program))?;
    ctx.held_memory(ended.peak_memory);
    if ended.status.success() {
        return Ok(());
    }
    ctx.check_cancelled()?;
    Err(failed(process::how_ended(ended.status), ctx, begin))
}

fn failed(how: String, ctx: &Context, begin: u64) -> StageError {
    let mut message = format!("the command {how}");
    let last = last_lines(ctx, begin).unwrap_or_default();
    if last.is_empty() {
        message.push_str(" and printed nothing");
    } else {
        message.push_str(&format!("; it printed last:\n  {}", last.join("\n  ")));
    }
    StageError::new(message).of(ErrorClass::Died)
}

fn last_lines(ctx: &Context, begin: u64) -> std::io::Result<Vec<String>> {
    let mut log = File::open(ctx.log_path())?;
    let end = log.seek(SeekFrom::End(0))?;
    let from = begin.max(end.saturating_sub(TAIL.1));
    log.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    log.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let mut last: Vec<String> = lines.rev().take(TAIL.0).map(str::to_owned).collect();
    last.reverse();
    Ok(last)
}
