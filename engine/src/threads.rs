//! How many threads the process works with.

use std::sync::OnceLock;

/// Bytes of a worker's stack: as much as a program's first thread has.
const STACK: usize = 8 << 20;

/// The number that was asked for.
static THREADS: OnceLock<usize> = OnceLock::new();

/// Has everything in this process that divides its work use at most `threads` threads together. Only the first call in a
/// process counts, and only before any work was divided. The threads are started when there is work for them.
pub fn limit_threads(threads: usize) {
    // A number that is there already stays: results never depend on it.
    let _ = THREADS.set(threads.max(1));
}

/// To be called before work is divided: starts the threads that [`limit_threads`] asked for.
pub(crate) fn start_threads() {
    static STARTED: OnceLock<()> = OnceLock::new();
    let Some(&threads) = THREADS.get() else { return };
    STARTED.get_or_init(|| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
        // It fails only if somebody divided work before; then there are threads.
        let _ = pool.build_global();
    });
}

/// Runs `work` on one of the threads that work is divided among, so that no further thread waits for them.
pub(crate) fn among_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    start_threads();
    rayon::scope(|_| work())
}
