//! Ctrl-C and SIGTERM: the first asks the run to stop, the second ends the program at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// Raised once the program was asked to stop.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Whether nothing goes on that would take its time to stop.
static IDLE: AtomicBool = AtomicBool::new(false);

/// Says whether the program only waits, so that the first signal ends it at once and needs no word.
pub(crate) fn idle(idle: bool) {
    IDLE.store(idle, Ordering::SeqCst);
}

/// From now on the first signal raises the flag that is returned, and the second ends the process.
pub(crate) fn watch() -> Arc<AtomicBool> {
    let flag = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    #[cfg(unix)]
    on_signals();
    flag
}

/// A second signal this soon after the first is the same one: `timeout` and some shells send theirs to the process and to
/// its group.
#[cfg(unix)]
const ONE_SIGNAL: u64 = 300;

#[cfg(unix)]
fn on_signals() {
    use std::sync::atomic::AtomicU64;

    /// When the first signal came, in milliseconds.
    static FIRST_AT: AtomicU64 = AtomicU64::new(0);
    const STOPPING: &[u8] = b"\nstopping; once more ends at once\n";

    /// Milliseconds on a clock that never goes back.
    fn now() -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        #[expect(unsafe_code, reason = "`Instant` is not promised to be safe in a signal handler")]
        // SAFETY: async-signal-safe; it writes into `time` only.
        unsafe {
            libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        }
        time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
    }

    extern "C" fn on_signal(signal: libc::c_int) {
        // Set before the handler is: a handler must not be the one to make the flag.
        let Some(flag) = INTERRUPTED.get() else { return };
        if !flag.swap(true, Ordering::SeqCst) {
            FIRST_AT.store(now(), Ordering::SeqCst);
            if IDLE.load(Ordering::SeqCst) {
                return;
            }
            #[expect(
                unsafe_code,
                reason = "the standard streams take a lock, which a signal handler may not wait for"
            )]
            // SAFETY: async-signal-safe; it reads the given bytes only.
            unsafe {
                libc::write(libc::STDERR_FILENO, STOPPING.as_ptr().cast(), STOPPING.len());
            }
        } else if now().saturating_sub(FIRST_AT.load(Ordering::SeqCst)) > ONE_SIGNAL {
            #[expect(
                unsafe_code,
                reason = "`exit` would run destructors inside a signal handler; `_exit` is safe there"
            )]
            // SAFETY: `_exit` is async-signal-safe and takes any status.
            unsafe {
                libc::_exit(128 + signal);
            }
        }
    }

    let handler = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        #[expect(unsafe_code, reason = "the standard library has no signal handlers")]
        // SAFETY: the handler touches only atomics and calls only what a handler may call.
        unsafe {
            libc::signal(signal, handler);
        }
    }
}
