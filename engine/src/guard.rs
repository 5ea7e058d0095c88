//! What ends commands when the run that started them dies without a word.
//!
//! A command is not a child of a process of ours that could be told: `sh` and whatever it starts run directly below the
//! run. So the first command of a process starts one guard for all of them, a shell that reads from a pipe which process
//! groups are at work. The pipe ends with this process, however that ends, and the guard kills the groups it read last.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The shell, by its path: a program that is looked for in `PATH` would be started by copying this process first.
pub(crate) const SHELL: &str = "/bin/sh";

/// Each line it reads has all groups that are at work.
const SCRIPT: &str = "while read -r now; do groups=$now; done; \
                      for group in $groups; do kill -s KILL -- \"-$group\"; done";

/// One for the process: it is the process's end that is watched.
static GUARD: OnceLock<Mutex<Guard>> = OnceLock::new();

struct Guard {
    /// None if the guard did not start; commands then run without one.
    pipe: Option<ChildStdin>,
    groups: BTreeSet<u32>,
}

impl Guard {
    fn start() -> Self {
        let mut shell = Command::new(SHELL);
        // In a group of its own, for Ctrl-C is this process's to deal with; and holding nothing open that others wait for.
        shell.args(["-c", SCRIPT]).env_clear().current_dir("/").process_group(0);
        let shell = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self {
            pipe: shell.spawn().ok().and_then(|shell| shell.stdin),
            groups: BTreeSet::new(),
        }
    }

    fn tell(&mut self) {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        if let Some(pipe) = &mut self.pipe {
            // A guard that somebody ended must not end the run.
            let _ = pipe.write_all(format!("{}\n", groups.join(" ")).as_bytes());
        }
    }
}

/// A process group that is killed if this process dies before this is dropped.
pub(crate) struct Guarded {
    group: u32,
}

/// Starts the guard if it does not stand yet; to be called before a command begins, so that it is told of it at once.
pub(crate) fn stand() {
    drop(guard());
}

impl Guarded {
    /// To be dropped before the group's leader is reaped: from then on its number may be another's.
    pub(crate) fn group(group: u32) -> Self {
        let mut guard = guard();
        guard.groups.insert(group);
        guard.tell();
        Self { group }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut guard = guard();
        guard.groups.remove(&self.group);
        guard.tell();
    }
}

fn guard() -> MutexGuard<'static, Guard> {
    let guard = GUARD.get_or_init(|| Mutex::new(Guard::start()));
    // Groups are inserted and removed whole.
    guard.lock().unwrap_or_else(PoisonError::into_inner)
}
