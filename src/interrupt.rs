//! Ctrl-C and SIGTERM: the first asks the run to stop, the second ends the program at once.

use std::sync::atomic::AtomicBool;

/// Set once the program was asked to stop.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on the first signal sets the flag that is returned, and the second ends the process.
#[cfg(unix)]
pub(crate) fn watch() -> &'static AtomicBool {
    use std::sync::atomic::Ordering;

    extern "C" fn on_signal(signal: libc::c_int) {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
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
        // SAFETY: the handler touches only an atomic and calls only `_exit`, which a handler may do.
        unsafe {
            libc::signal(signal, handler);
        }
    }
    &INTERRUPTED
}

/// Where there are no such signals, nothing ever sets the flag.
#[cfg(not(unix))]
pub(crate) fn watch() -> &'static AtomicBool {
    &INTERRUPTED
}
