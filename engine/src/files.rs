//! Small file operations that say which file failed and what for.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kind::{ErrorClass, StageError};

/// A file operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} `{}`: {source}", path.display())]
pub struct FileError {
    /// What was to be done, such as `read` or `create`.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl FileError {
    /// For `map_err`: names what was to be done to which file.
    pub fn of(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { action, path, source }
    }
}

impl From<FileError> for StageError {
    fn from(error: FileError) -> Self {
        let full = matches!(
            error.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::ReadOnlyFilesystem
        );
        let class = if full { ErrorClass::Machine } else { ErrorClass::Wrong };
        Self::new(error.to_string()).of(class)
    }
}

/// Makes `folder` and what is above it.
pub(crate) fn create_folder(folder: &Path) -> Result<(), FileError> {
    fs::create_dir_all(folder).map_err(FileError::of("create the folder", folder))
}

/// Does `work`, which puts something into a folder; if that is not there, makes it and tries again.
pub(crate) fn in_folder<T>(folder: &Path, mut work: impl FnMut() -> Result<T, FileError>) -> Result<T, FileError> {
    match work() {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => {
            create_folder(folder)?;
            work()
        }
        done => done,
    }
}

/// Whether files are forced to the disk before anything refers to them.
///
/// Without that, a power failure (never the death of a process) may lose what was written last, and the cache then finds
/// it missing or damaged and makes it again. So only work that took a while is worth the wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    Synced,
    Cached,
}

impl Durability {
    /// Work that took this long is synced.
    const WORTH_SYNCING: Duration = Duration::from_secs(1);

    pub(crate) fn after(work: Duration) -> Self {
        if work < Self::WORTH_SYNCING {
            Self::Cached
        } else {
            Self::Synced
        }
    }

    pub(crate) fn apply(self, file: &File) -> io::Result<()> {
        match self {
            Self::Synced => file.sync_all(),
            Self::Cached => Ok(()),
        }
    }
}

/// Writes `bytes` to `path` so that a reader sees the old content or the new, never half of it.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(FileError::of("create a file in", folder))?;
    let written = file.write_all(bytes).and_then(|()| durability.apply(file.as_file()));
    written.map_err(FileError::of("write", path))?;
    set_mode(file.path(), 0o644)?;
    file.persist(path)
        .map_err(|error| FileError::of("write", path)(error.error))?;
    Ok(())
}

/// Writes a file for its owner's group only, whole or not at all, unless it is there already.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(FileError::of("create a file in", folder))?;
    file.write_all(bytes).map_err(FileError::of("write", path))?;
    set_mode(file.path(), 0o640)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => {
            Err(FileError::of("write", path)(error.error))
        }
        _ => Ok(()),
    }
}

/// The content of `path`, or none if there is no such file.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::of("read", path)(error)),
    }
}

/// Sets a file's permission bits.
pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<(), FileError> {
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(FileError::of("set the permissions of", path))
}

/// Removes a folder and everything in it, be it read-only; one that is not there is fine.
pub(crate) fn remove_folder(folder: &Path) -> Result<(), FileError> {
    let mut removed = fs::remove_dir_all(folder);
    if removed
        .as_ref()
        .is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    {
        make_writable(folder);
        removed = fs::remove_dir_all(folder);
    }
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", folder)(error)),
        _ => Ok(()),
    }
}

/// Lets the owner change what is in `folder` and the folders below it, as far as that is possible.
pub(crate) fn make_writable(folder: &Path) {
    let Ok(metadata) = fs::symlink_metadata(folder) else {
        return;
    };
    if !metadata.is_dir() {
        return;
    }
    let _ = set_mode(folder, metadata.permissions().mode() | 0o700);
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        make_writable(&entry.path());
    }
}

/// Removes everything in a folder but the entry called `keep`.
pub(crate) fn empty_folder(folder: &Path, keep: Option<&str>) -> Result<(), FileError> {
    for entry in fs::read_dir(folder).map_err(FileError::of("list", folder))? {
        let entry = entry.map_err(FileError::of("list", folder))?;
        if keep.is_some_and(|keep| entry.file_name() == keep) {
            continue;
        }
        let path = entry.path();
        if entry.file_type().is_ok_and(|is| is.is_dir()) {
            remove_folder(&path)?;
        } else {
            remove_file(&path)?;
        }
    }
    Ok(())
}

/// Removes a file; one that is not there is fine.
pub(crate) fn remove_file(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FileError::of("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Opens a file for appending, making it if need be.
pub(crate) fn open_for_append(path: &Path) -> Result<File, FileError> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .map_err(FileError::of("open", path))
}

/// What [`walk`] does with a symbolic link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// It stands for what it points to: how inputs are read.
    Follow,
    /// It is listed as if it were a file, and where it leads to is not looked at.
    List,
    /// It is an error: an artifact holds bytes, and a link would let it depend on what lies elsewhere.
    Refuse,
}

/// Every file below `folder` as (name with `/`, path), sorted by name. `keep` is asked about each entry's own name.
pub(crate) fn walk(folder: &Path, links: Links, keep: fn(&str) -> bool) -> Result<Vec<(String, PathBuf)>, FileError> {
    let mut found = Vec::new();
    walk_into(folder, "", links, keep, 0, &mut found)?;
    found.sort();
    Ok(found)
}

/// Deeper than any artifact or corpus; reached only by links that lead in a circle.
const DEEPEST: usize = 64;

fn walk_into(
    folder: &Path,
    prefix: &str,
    links: Links,
    keep: fn(&str) -> bool,
    depth: usize,
    found: &mut Vec<(String, PathBuf)>,
) -> Result<(), FileError> {
    let refuse = |path: &Path, why: &str| FileError::of("read", path)(io::Error::other(why.to_owned()));
    if depth > DEEPEST {
        return Err(refuse(
            folder,
            "folders are nested too deeply; do links lead in a circle?",
        ));
    }
    for entry in fs::read_dir(folder).map_err(FileError::of("list", folder))? {
        let entry = entry.map_err(FileError::of("list", folder))?;
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| refuse(&path, "its name is not UTF-8"))?;
        if !keep(&name) {
            continue;
        }
        let name = format!("{prefix}{name}");
        let mut file_type = entry.file_type().map_err(FileError::of("read", &path))?;
        if file_type.is_symlink() {
            match links {
                Links::Follow => {}
                Links::List => {
                    found.push((name, path));
                    continue;
                }
                Links::Refuse => {
                    return Err(refuse(
                        &path,
                        "it is a symbolic link; an artifact holds files and folders only",
                    ));
                }
            }
            file_type = fs::metadata(&path).map_err(FileError::of("read", &path))?.file_type();
        }
        if file_type.is_dir() {
            walk_into(&path, &format!("{name}/"), links, keep, depth + 1, found)?;
        } else if file_type.is_file() {
            found.push((name, path));
        } else {
            return Err(refuse(&path, "it is neither a file nor a folder"));
        }
    }
    Ok(())
}
