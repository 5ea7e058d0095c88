//! The few things about processes that the standard library does not offer.
//!
//! All of the engine's unsafe code is here.

#[cfg(target_os = "linux")]
use std::ffi::CString;
use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// How a child ended.
pub(crate) struct Ended {
    /// Its exit code, or the signal that ended it.
    pub(crate) status: ExitStatus,
    /// The most memory it held at once, in bytes.
    pub(crate) peak_memory: u64,
}

/// Puts the child into a process group of its own, so that Ctrl-C reaches the parent alone and is passed on in good order,
/// and has the system kill it when the parent dies without a word.
pub(crate) fn tie_to_parent(command: &mut Command) {
    command.process_group(0);
    #[cfg(target_os = "linux")]
    {
        let parent = std::process::id();
        let tie = move || {
            // SAFETY: both are system calls without memory arguments, allowed between fork and exec.
            #[expect(unsafe_code, reason = "prctl and getppid have no safe form in std")]
            let (tied, now) = unsafe {
                (
                    libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong),
                    libc::getppid(),
                )
            };
            if tied != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the call above; then nobody would send the signal.
            if now as u32 != parent {
                return Err(io::Error::other("the run that started this process is gone"));
            }
            Ok(())
        };
        // SAFETY: the closure only makes the two calls above and allocates nothing unless it fails.
        #[expect(unsafe_code, reason = "the setting must be made by the child itself")]
        unsafe {
            command.pre_exec(tie);
        }
    }
}

/// What a process group can be told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Signal {
    Terminate,
    Kill,
}

/// Tells every process of the group that `leader` leads.
pub(crate) fn signal_group(leader: u32, signal: Signal) {
    let signal = match signal {
        Signal::Terminate => libc::SIGTERM,
        Signal::Kill => libc::SIGKILL,
    };
    // SAFETY: a system call without memory arguments; the caller keeps `leader` from being reused by not having reaped it.
    #[expect(unsafe_code, reason = "std can only kill one process")]
    unsafe {
        libc::kill(-(leader as libc::pid_t), signal);
    }
}

/// The end of a child that is not reaped yet, to be waited for now and then.
pub(crate) struct End {
    pid: u32,
    /// A file that can be read from once the child has ended; none where the system has no such thing.
    file: Option<OwnedFd>,
}

impl End {
    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            file: end_file(pid),
        }
    }

    /// Waits until the child has ended, at most so long; whether it has. It is left to be reaped.
    pub(crate) fn wait(&self, most: Duration) -> io::Result<bool> {
        match &self.file {
            Some(file) => wait_until_readable(file, most),
            None => thread::sleep(most.min(Duration::from_millis(1))),
        }
        has_ended(self.pid)
    }
}

fn end_file(pid: u32) -> Option<OwnedFd> {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call without memory arguments; what it returns is a new descriptor that nobody else has, or negative.
        #[expect(unsafe_code, reason = "pidfd_open has no safe form in std")]
        unsafe {
            let file = libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0);
            let file = libc::c_int::try_from(file).ok().filter(|file| *file >= 0)?;
            Some(OwnedFd::from_raw_fd(file))
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = pid;
        None
    }
}

/// Waits until a file can be read from, at most so long, or until a signal comes.
fn wait_until_readable(file: &OwnedFd, most: Duration) {
    let mut wanted = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let most = libc::c_int::try_from(most.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the call reads and writes the one structure given, which lives until it returns.
    #[expect(unsafe_code, reason = "poll has no safe form in std")]
    unsafe {
        libc::poll(&mut wanted, 1, most);
    }
}

/// Whether a child has ended; it is left to be reaped.
fn has_ended(pid: u32) -> io::Result<bool> {
    // SAFETY: `siginfo_t` is plain memory for which zeros are a value, and the call writes into it only.
    #[expect(unsafe_code, reason = "waitid has no safe form in std")]
    let (result, who) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let options = libc::WEXITED | libc::WNOWAIT | libc::WNOHANG;
        (libc::waitid(libc::P_PID, pid, &mut info, options), info.si_pid())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(who != 0)
}

/// In words: `exited with code 101`, `was killed by signal 9`.
pub(crate) fn how_ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, code) => format!("exited with code {}", code.unwrap_or(0)),
    }
}

/// Asks a process to stop.
pub(crate) fn terminate(pid: u32) {
    // SAFETY: a system call without memory arguments; the caller keeps `pid` from being reused by not having reaped it.
    #[expect(unsafe_code, reason = "std can only kill")]
    unsafe {
        libc::kill(pid as libc::pid_t, libc::SIGTERM);
    }
}

/// Waits until a child has ended and leaves it to be reaped.
pub(crate) fn wait_without_reaping(pid: u32) -> io::Result<()> {
    loop {
        // SAFETY: `siginfo_t` is plain memory for which zeros are a value, and the call writes into it only.
        #[expect(unsafe_code, reason = "waitid has no safe form in std")]
        let result = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if result == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Reaps a child that has ended.
pub(crate) fn reap(pid: u32) -> io::Result<Ended> {
    let mut status = 0;
    // SAFETY: `rusage` is plain numbers for which zeros are a value; the call writes into the two places given.
    #[expect(unsafe_code, reason = "only wait4 tells the peak memory of one child")]
    let (result, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(pid as libc::pid_t, &mut status, 0, &mut usage), usage)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // Linux counts in KiB, the BSDs (macOS among them) in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Ok(Ended {
        status: ExitStatus::from_raw(status),
        peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit,
    })
}

/// Locks one byte of `file` for writing, for this opening of it; false if another holds it. The byte need not exist.
pub(crate) fn lock_byte(file: &File, at: u64) -> io::Result<bool> {
    match set_lock(file, at, libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets a byte go that [`lock_byte`] has locked.
pub(crate) fn unlock_byte(file: &File, at: u64) -> io::Result<()> {
    set_lock(file, at, libc::F_UNLCK)
}

fn set_lock(file: &File, at: u64, kind: libc::c_int) -> io::Result<()> {
    let start = libc::off_t::try_from(at).map_err(io::Error::other)?;
    // SAFETY: `flock` is plain numbers for which zeros are a value; the call only reads it.
    #[expect(unsafe_code, reason = "std locks whole files only")]
    let result = unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = kind as libc::c_short;
        lock.l_whence = libc::SEEK_SET as libc::c_short;
        lock.l_start = start;
        lock.l_len = 1;
        // Of the open file rather than of the process: closing another opening of the file must not let go of it.
        libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &lock)
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// How many bytes an ordinary user can still write on the file system that holds `path`.
pub(crate) fn free_space(path: &Path) -> io::Result<u64> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `statvfs` is plain numbers for which zeros are a value; the string ends with a zero byte and lives until the call
    // returns, which writes into the place given only.
    #[expect(unsafe_code, reason = "std does not tell free space")]
    let (result, told) = unsafe {
        let mut told: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut told), told)
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // The types differ between systems.
    #[allow(clippy::unnecessary_cast)]
    Ok((told.f_bavail as u64).saturating_mul(told.f_frsize as u64))
}

/// Exchanges two names of one file system in one step.
pub(crate) fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        let one = CString::new(one.as_os_str().as_bytes())?;
        let other = CString::new(other.as_os_str().as_bytes())?;
        // SAFETY: both strings end with a zero byte and live until the call returns.
        #[expect(unsafe_code, reason = "std can only rename")]
        let result = unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                libc::AT_FDCWD,
                one.as_ptr(),
                libc::AT_FDCWD,
                other.as_ptr(),
                libc::RENAME_EXCHANGE,
            )
        };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (one, other);
        Err(io::ErrorKind::Unsupported.into())
    }
}

static CANCELLED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

extern "C" fn on_terminate(_: libc::c_int) {
    if let Some(flag) = CANCELLED.get() {
        flag.store(true, Ordering::Relaxed);
    }
}

/// A flag that is raised when this process is asked to stop.
pub(crate) fn cancel_on_terminate() -> Arc<AtomicBool> {
    let flag = CANCELLED.get_or_init(Arc::default).clone();
    // SAFETY: the handler only reads a static that is set by now and stores to an atomic.
    #[expect(unsafe_code, reason = "std has no signal handlers")]
    unsafe {
        libc::signal(libc::SIGTERM, on_terminate as *const () as libc::sighandler_t);
    }
    flag
}
