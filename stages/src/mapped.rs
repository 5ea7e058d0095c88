//! Files mapped into memory, read-only.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Maps the whole of `path`.
///
/// # Errors
/// If it cannot be opened or mapped.
#[expect(
    unsafe_code,
    reason = "mapping a file is only sound while nobody changes it, which no type can say"
)]
pub(crate) fn map_file(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    // SAFETY: the callers map sealed files of the object store, which are read-only and replaced by renaming, and input
    // files that were digested a moment ago; nobody writes to either in place while a stage runs.
    unsafe { Mmap::map(&file) }
}
