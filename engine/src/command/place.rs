//! The folders of a command: where it works, what it reads, what it writes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::artifact::{Input, PartFile, is_among};
use crate::context::Context;
use crate::files::{self, FileError};
use crate::kind::StageError;

/// The folders of one execution, below its staging folder.
pub(super) struct Place {
    /// Where the command runs.
    pub(super) work: PathBuf,
    /// What it writes its artifact into.
    pub(super) out: PathBuf,
    /// Port → the folder of what is connected.
    pub(super) inputs: BTreeMap<String, PathBuf>,
    /// When each file of an input was written last.
    written: BTreeMap<PathBuf, SystemTime>,
}

impl Place {
    /// Makes the folders and what the command finds in them.
    pub(super) fn prepare(ctx: &Context) -> Result<Self, StageError> {
        let staging = ctx.staging();
        let work = staging.join("work");
        files::create_folder(&work)?;
        for file in ctx.files("files") {
            // A copy: a script that is a link finds what lies beside the original, declared or not.
            let to = work.join(&file.name);
            files::create_folder(to.parent().unwrap_or(&work))?;
            fs::copy(&file.path, &to).map_err(FileError::of("copy", &file.path))?;
        }
        let mut inputs = BTreeMap::new();
        for (port, input) in ctx.inputs() {
            let folder = staging.join("inputs").join(port);
            lay_out(&folder, input)?;
            inputs.insert(port.to_owned(), folder);
        }
        for (port, artifacts) in ctx.all_collected() {
            let folder = staging.join("inputs").join(port);
            files::create_folder(&folder)?;
            for artifact in artifacts {
                lay_out(&folder.join(folder_name(&artifact.instance)), &artifact.input)?;
            }
            files::set_mode(&folder, 0o555)?;
            inputs.insert(port.to_owned(), folder);
        }
        let out = staging.join(crate::cache::OUT);
        files::create_folder(&out)?;
        let written = ctx
            .input_files()
            .map(|file| Ok((file.path.clone(), written(&file.path)?)));
        Ok(Self {
            written: written.collect::<Result<_, FileError>>()?,
            work,
            out,
            inputs,
        })
    }

    /// Refuses a command that wrote into its inputs: to the system's administrator read-only means nothing. What it wrote
    /// into is taken out of the cache, to be made again when somebody needs it.
    pub(super) fn check_inputs(&self, ctx: &Context) -> Result<(), StageError> {
        for file in ctx.input_files() {
            if written(&file.path).ok().as_ref() != self.written.get(&file.path) {
                files::remove_file(&file.path)?;
                let message = format!("the command changed `{}` of an input", file.name);
                return Err(StageError::new(message).help("copy what is to be changed: inputs are read-only"));
            }
        }
        Ok(())
    }

    /// Checks what the command made, and hands on what it took over from its inputs.
    pub(super) fn collect(&self, ctx: &Context, parts: Option<&[String]>) -> Result<(), StageError> {
        files::make_writable(&self.out);
        let mut made = Vec::new();
        self.look(ctx, &self.out, "", &mut made)?;
        if made.is_empty() {
            let left = left_behind(&self.work, ctx)?;
            let error = StageError::new("the command wrote nothing into `$OUT`");
            return Err(match left {
                Some(left) => error.help(format!(
                    "it left `{left}` in its working folder, which is lost: write it to `$OUT`"
                )),
                None => error.help("what it makes has to be written there; a mere check can `touch \"$OUT/done\"`"),
            });
        }
        if let Some(parts) = parts {
            let part_of = |name: &str| name.split('/').next().unwrap_or_default().to_owned();
            if let Some(extra) = made.iter().find(|name| !is_among(&part_of(name), parts)) {
                let message = format!("the command wrote `{extra}`, which is in none of its `parts`");
                return Err(StageError::new(message).help(format!("add `{}` to `parts`", part_of(extra))));
            }
            if let Some(missing) = parts
                .iter()
                .find(|part| !made.iter().any(|name| part_of(name) == **part))
            {
                let message = format!("the command did not write the part `{missing}`");
                return Err(StageError::new(message).help("write it to `$OUT`, or take it out of `parts`"));
            }
        }
        Ok(())
    }

    /// Notes the files below `folder`; a link to a file of an input becomes that file, without a copy.
    fn look(&self, ctx: &Context, folder: &Path, prefix: &str, made: &mut Vec<String>) -> Result<(), StageError> {
        for entry in fs::read_dir(folder).map_err(FileError::of("list", folder))? {
            let entry = entry.map_err(FileError::of("list", folder))?;
            let path = entry.path();
            let is = entry.file_type().map_err(FileError::of("read", &path))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if is.is_dir() {
                self.look(ctx, &path, &format!("{name}/"), made)?;
                continue;
            }
            if is.is_symlink()
                && let Ok(real) = fs::canonicalize(&path)
                && let Some(file) = ctx.input_files().find(|file| file.path == real)
            {
                ctx.place_file(file, &name)?;
                files::remove_file(&path)?;
            }
            made.push(name);
        }
        Ok(())
    }
}

fn written(path: &Path) -> Result<SystemTime, FileError> {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    modified.map_err(FileError::of("read", path))
}

/// Lays the files of an input out as links into the cache, in folders that cannot be written to.
fn lay_out(folder: &Path, input: &Input) -> Result<(), FileError> {
    files::create_folder(folder)?;
    let mut folders = vec![folder.to_owned()];
    for part in input.parts.values() {
        for PartFile { name, path, .. } in &part.files {
            let to = if part.is_folder {
                folder.join(&part.name).join(name)
            } else {
                folder.join(name)
            };
            let above = to.parent().unwrap_or(folder);
            if !above.exists() {
                files::create_folder(above)?;
                let new = above.ancestors().take_while(|above| *above != folder);
                folders.extend(new.map(Path::to_owned));
            }
            symlink(path, &to).map_err(FileError::of("link", &to))?;
        }
    }
    folders.sort();
    folders.dedup();
    folders
        .iter()
        .rev()
        .try_for_each(|folder| files::set_mode(folder, 0o555))
}

/// An instance's name as a folder's: values of axes may hold slashes.
fn folder_name(instance: &str) -> String {
    instance.replace('%', "%25").replace('/', "%2F")
}

/// A file in the working folder that was not put there.
fn left_behind(work: &Path, ctx: &Context) -> Result<Option<String>, StageError> {
    let found = files::walk(work, files::Links::Follow, |_| true).unwrap_or_default();
    let declared = ctx.files("files");
    let mut names = found.into_iter().map(|(name, _)| name);
    Ok(names.find(|name| declared.iter().all(|file| file.name != *name)))
}
