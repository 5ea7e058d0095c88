//! Ctrl-C and SIGTERM: the first asks the run to stop, the second ends the program at once.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

/// Raised once the program was asked to stop.
static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on the first signal raises the flag that is returned, and the second ends the process.
pub(crate) fn watch() -> Arc<AtomicBool> {
    let flag = Arc::clone(INTERRUPTED.get_or_init(Arc::default));
    #[cfg(unix)]
    on_signals();
    flag
}

#[cfg(unix)]
fn on_signals() {
    use std::sync::atomic::Ordering;

    extern "C" fn on_signal(signal: libc::c_int) {
        // Set before the handler is: a handler must not be the one to make the flag.
        let Some(flag) = INTERRUPTED.get() else { return };
        if flag.swap(true, Ordering::SeqCst) {
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
}
