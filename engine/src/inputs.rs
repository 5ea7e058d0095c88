//! Input settings: paths and globs → files with the names and digests that count.
//!
//! A file's name is what follows the *fixed part*: the folders before the first wildcard, or the folder of a plain file,
//! or a folder that was named itself (all files below it, but for those whose name begins with a dot). A list of paths
//! has the fixed part that all its entries share. So data can move as a whole without anything running again. (A setting
//! whose files keep their places is told apart by [`Names`].)

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use glob::{MatchOptions, Pattern};

use crate::cache::Cache;
use crate::context::InputFile;
use crate::digest::Digest;
use crate::files::{FileError, Links, walk};
use crate::kind::{FieldClass, StageError};

/// A wildcard stays within one folder, and hidden files are left out, as in a shell.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: true,
};

/// What files are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Names {
    /// What follows the fixed part.
    BelowFixed,
    /// The whole path in the project; files outside are refused.
    InProject,
}

impl Names {
    /// What the files of a setting of this class are called.
    pub(crate) fn of(class: Option<FieldClass>) -> Self {
        match class {
            Some(FieldClass::Project) => Self::InProject,
            _ => Self::BelowFixed,
        }
    }
}

/// Expands input settings of one project; each distinct list of patterns is looked up once.
pub(crate) struct InputFiles<'a> {
    project: PathBuf,
    cache: &'a Cache,
    known: [HashMap<Vec<String>, Result<Found, StageError>>; 2],
}

/// The files of an input setting. Cheap to clone: however many instances read them, they are there once.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Sorted by name.
    pub(crate) files: Arc<Vec<InputFile>>,
    /// Name → digest.
    pub(crate) digests: Arc<BTreeMap<String, Digest>>,
}

impl Found {
    fn new(files: Vec<InputFile>) -> Self {
        let digests = files.iter().map(|file| (file.name.clone(), file.digest)).collect();
        Self {
            files: Arc::new(files),
            digests: Arc::new(digests),
        }
    }
}

impl<'a> InputFiles<'a> {
    pub(crate) fn new(project: &Path, cache: &'a Cache) -> Self {
        // Jobs name files by these paths, and must not depend on anybody's current directory.
        let project = std::path::absolute(project).unwrap_or_else(|_| project.to_owned());
        Self {
            project,
            cache,
            known: Default::default(),
        }
    }

    /// The files that `patterns` name, sorted by name; `field` is the setting, for messages.
    pub(crate) fn find(&mut self, field: &str, patterns: &[String], names: Names) -> Result<Found, StageError> {
        if let Some(found) = self.known[names as usize].get(patterns) {
            return found.clone();
        }
        let found = expand(&self.project, field, patterns, names).and_then(|paths| {
            let file = |(name, path): (String, PathBuf)| -> Result<InputFile, FileError> {
                let digest = self.cache.digest_of(&path)?;
                Ok(InputFile { name, path, digest })
            };
            let files = paths.into_iter().map(file).collect::<Result<Vec<_>, _>>()?;
            Ok(Found::new(files))
        });
        self.known[names as usize].insert(patterns.to_vec(), found.clone());
        found
    }
}

/// (name, path) of every file that `patterns` name, sorted by name, each path once.
fn expand(
    project: &Path,
    field: &str,
    patterns: &[String],
    names: Names,
) -> Result<Vec<(String, PathBuf)>, StageError> {
    let mut paths: Vec<PathBuf> = Vec::new();
    let mut fixed: Option<PathBuf> = None;
    for pattern in patterns {
        let (folder, found) = expand_one(project, field, pattern, names)?;
        fixed = Some(fixed.map_or(folder.clone(), |fixed| shared_folder(&fixed, &folder)));
        paths.extend(found);
    }
    let fixed = match names {
        Names::BelowFixed => fixed.unwrap_or_default(),
        Names::InProject => clean(project),
    };
    let mut named = Vec::with_capacity(paths.len());
    for path in paths {
        let below = path.strip_prefix(&fixed).unwrap_or(&path);
        let components: Option<Vec<&str>> = below.components().map(|part| part.as_os_str().to_str()).collect();
        let name = components
            .ok_or_else(|| StageError::new(format!("`{field}`: the name of `{}` is not UTF-8", path.display())))?
            .join("/");
        named.push((name, path));
    }
    named.sort();
    named.dedup();
    Ok(named)
}

/// The fixed part of one pattern, and the files it names.
pub(crate) fn expand_one(
    project: &Path,
    field: &str,
    pattern: &str,
    names: Names,
) -> Result<(PathBuf, Vec<PathBuf>), StageError> {
    let nothing = || {
        StageError::new(format!("`{field}`: nothing matches `{pattern}`"))
            .help(format!("the path is relative to the project, `{}`", project.display()))
    };
    if pattern.is_empty() {
        return Err(StageError::new(format!("`{field}`: the path is empty")));
    }
    let leaves = Path::new(pattern).is_absolute() || clean(Path::new(pattern)).starts_with("..");
    if names == Names::InProject && leaves {
        return Err(
            StageError::new(format!("`{field}`: `{pattern}` lies outside the project"))
                .help("link it into the project, or load it with a stage of its own and connect that"),
        );
    }
    let full = clean(&project.join(pattern));
    if !has_wildcard(pattern) {
        if full.is_dir() {
            let files = walk(&full, Links::Follow, |name| !name.starts_with('.'))?;
            if files.is_empty() {
                return Err(StageError::new(format!("`{field}`: there is no file in `{pattern}`")));
            }
            return Ok((full, files.into_iter().map(|(_, path)| path).collect()));
        }
        if !full.exists() {
            return Err(nothing());
        }
        return Ok((full.parent().unwrap_or(&full).to_owned(), vec![full]));
    }

    let (fixed, mut paths) = matches(project, pattern)
        .map_err(|error| StageError::new(format!("`{field}`: {}", error.message)).maybe_help(error.help))?;
    paths.retain(|path| path.is_file());
    if paths.is_empty() {
        return Err(nothing());
    }
    Ok((fixed, paths))
}

/// The fixed part of a pattern, and the files and folders that fit it, sorted.
pub(crate) fn matches(project: &Path, pattern: &str) -> Result<(PathBuf, Vec<PathBuf>), StageError> {
    let relative = Path::new(pattern);
    let plain: PathBuf = relative
        .components()
        .take_while(|part| !part.as_os_str().to_str().is_some_and(has_wildcard))
        .collect();
    let fixed = clean(&project.join(&plain));
    let rest = relative.strip_prefix(&plain).unwrap_or(relative);
    // Only what the user wrote as a wildcard is one; the folders before it may hold any characters.
    let text = match (fixed.to_str(), rest.to_str()) {
        (Some(""), Some(rest)) => rest.to_owned(),
        (Some(fixed), Some(rest)) => format!("{}/{rest}", Pattern::escape(fixed).trim_end_matches('/')),
        _ => return Err(StageError::new(format!("the path of `{pattern}` is not UTF-8"))),
    };
    let found = glob::glob_with(&text, OPTIONS)
        .map_err(|error| StageError::new(format!("`{pattern}` is not a glob: {}", error.msg)))?;
    let mut paths = Vec::new();
    for path in found {
        let path = path.map_err(|error| {
            let place = error.path().to_owned();
            FileError::of("read", place)(error.into())
        })?;
        paths.push(path);
    }
    Ok((fixed, paths))
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// `path` without `.` components, and `..` resolved by name: the same path on every spelling.
fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if cleaned.file_name().is_some() => {
                cleaned.pop();
            }
            part => cleaned.push(part),
        }
    }
    cleaned
}

fn shared_folder(one: &Path, other: &Path) -> PathBuf {
    one.components()
        .zip(other.components())
        .take_while(|(a, b)| a == b)
        .map(|(part, _)| part)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn project() -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("a[b]*").tempdir().unwrap();
        for name in [
            "data/train/b.jsonl",
            "data/train/a.jsonl",
            "data/train/.hidden",
            "data/dev/a.jsonl",
            "x/y/z.txt",
        ] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        folder
    }

    fn named(kind: Names, patterns: &[&str]) -> Result<Vec<String>, String> {
        let project = project();
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let found = expand(project.path(), "train", &patterns, kind).map_err(|error| error.message)?;
        Ok(found.into_iter().map(|(name, _)| name).collect())
    }

    fn names(patterns: &[&str]) -> Result<Vec<String>, String> {
        named(Names::BelowFixed, patterns)
    }

    #[test]
    fn files_of_the_project_keep_their_places() {
        let names = |patterns: &[&str]| named(Names::InProject, patterns);
        assert_eq!(
            names(&["data/dev/a.jsonl", "x/y/*"]).unwrap(),
            ["data/dev/a.jsonl", "x/y/z.txt"]
        );
        assert_eq!(names(&["./data/../x"]).unwrap(), ["x/y/z.txt"]);
        for outside in ["../x", "data/../../x", "/etc/hostname"] {
            let expected = format!("`train`: `{outside}` lies outside the project");
            assert_eq!(names(&[outside]).unwrap_err(), expected);
        }
    }

    #[test]
    fn names_are_what_follows_the_fixed_part() {
        assert_eq!(names(&["data/train/*.jsonl"]).unwrap(), ["a.jsonl", "b.jsonl"]);
        assert_eq!(
            names(&["./data/../data/train/*.jsonl"]).unwrap(),
            ["a.jsonl", "b.jsonl"]
        );
        assert_eq!(names(&["data/*/a.jsonl"]).unwrap(), ["dev/a.jsonl", "train/a.jsonl"]);
        assert_eq!(names(&["**/*.txt"]).unwrap(), ["x/y/z.txt"]);
        assert_eq!(names(&["data/train/b.jsonl"]).unwrap(), ["b.jsonl"]);
        assert_eq!(
            names(&["data"]).unwrap(),
            ["dev/a.jsonl", "train/a.jsonl", "train/b.jsonl"]
        );
    }

    #[test]
    fn a_wildcard_may_stand_right_below_a_relative_project() {
        let found = |pattern| matches(Path::new("."), pattern).unwrap().1;
        assert_eq!(found("Cargo.t*"), [Path::new("Cargo.toml")]);
        assert_eq!(found("./src/lib.*"), [Path::new("src/lib.rs")]);
    }

    #[test]
    fn a_list_shares_one_fixed_part_and_names_each_file_once() {
        assert_eq!(
            names(&["data/train/a.jsonl", "data/dev/a.jsonl"]).unwrap(),
            ["dev/a.jsonl", "train/a.jsonl"]
        );
        assert_eq!(
            names(&["data/train/a.jsonl", "data/train/*.jsonl"]).unwrap(),
            ["a.jsonl", "b.jsonl"]
        );
    }

    #[test]
    fn no_match_names_the_field_and_the_pattern() {
        assert_eq!(
            names(&["data/test/*.jsonl"]).unwrap_err(),
            "`train`: nothing matches `data/test/*.jsonl`"
        );
        assert_eq!(
            names(&["data/test.jsonl"]).unwrap_err(),
            "`train`: nothing matches `data/test.jsonl`"
        );
        assert_eq!(
            names(&["data/*"]).unwrap_err(),
            "`train`: nothing matches `data/*`",
            "folders are not files"
        );
    }
}
