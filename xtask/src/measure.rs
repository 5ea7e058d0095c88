//! CPU time and memory of other programs.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::Outcome;
use crate::shell::shown;

/// What a program that has ended used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// CPU time of all its threads, its own and the kernel's for it, in seconds.
    pub(crate) cpu: f64,
    /// From start to end, in seconds.
    pub(crate) wall: f64,
    /// The most memory it held at once, in bytes.
    pub(crate) peak: u64,
}

/// Runs a program to its end and gives what it used; its standard output is thrown away.
///
/// # Errors
/// If it does not start or does not succeed.
pub(crate) fn usage(command: &mut Command) -> Outcome<Usage> {
    let line = shown(command);
    println!("$ {line}");
    let begun = Instant::now();
    let child = command
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    let usage = wait(&child, begun).map_err(|error| format!("cannot wait for `{line}`: {error}"))?;
    usage.ok_or_else(|| format!("`{line}` failed"))
}

/// Waits for a child; nothing if it did not succeed.
#[cfg(unix)]
pub(crate) fn wait(child: &Child, begun: Instant) -> std::io::Result<Option<Usage>> {
    let (mut status, mut used) = (0, std::mem::MaybeUninit::<libc::rusage>::zeroed());
    #[expect(
        unsafe_code,
        reason = "the standard library waits for children without telling what they used"
    )]
    // SAFETY: both pointers are to memory of the right types, and all zeros is a valid `rusage`.
    let (ended, used) = unsafe {
        let ended = libc::wait4(child.id() as libc::pid_t, &raw mut status, 0, used.as_mut_ptr());
        (ended, used.assume_init())
    };
    if ended < 0 {
        return Err(std::io::Error::last_os_error());
    }
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    // Linux counts in KiB, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Ok((status == 0).then(|| Usage {
        cpu: seconds(used.ru_utime) + seconds(used.ru_stime),
        wall: begun.elapsed().as_secs_f64(),
        peak: used.ru_maxrss as u64 * unit,
    }))
}

#[cfg(not(unix))]
pub(crate) fn wait(_: &Child, _: Instant) -> std::io::Result<Option<Usage>> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// The middle value, or the mean of the two in the middle; not a number if there is none.
pub(crate) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n => (values[(n - 1) / 2] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert!(median([]).is_nan());
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_works_uses_time_and_one_that_fails_is_told() {
        let used = usage(Command::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"])).unwrap();
        assert!(used.cpu > 0.0 && used.wall > 0.0 && used.peak > 100_000, "{used:?}");
        assert!(usage(Command::new("sh").args(["-c", "exit 3"])).is_err());
    }
}
