//! [`Watched`]: the files that a manifest reads, looked at again and again.
//!
//! A [`Look`] holds what the stat cache goes by (device, inode, size and times), so it costs a `stat` a file, and works on every
//! file system, one of a network included. What a look tells is that a file *may* have other bytes; whether it has is up to the
//! run that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::axes::Glob;
use crate::cache::{Stamp, stamp};
use crate::graph::Graph;
use crate::inputs::{self, Names};

/// What a manifest reads: files, the patterns of its settings, and those of its axes.
///
/// ```
/// use nerpipe_engine::{Graph, Manifest, Registry, command::Command, watch::{Difference, Watched}};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let project = folder.path();
/// std::fs::write(project.join("a.txt"), "one").unwrap();
/// let text = "name: m\nstages: {s: {kind: command, with: {run: 'cat *', files: '*.txt'}}}";
/// let registry = Registry::default().with(Command);
/// let manifest = Manifest::parse("m.yaml", text, project, &[], &registry).unwrap();
/// let watched = Watched::of(&Graph::build(&manifest, &registry).unwrap(), project, None, []);
///
/// let before = watched.look();
/// assert!(watched.look().differs_from(&before).is_empty());
/// std::fs::write(project.join("b.txt"), "two").unwrap();
/// assert_eq!(watched.look().differs_from(&before), [(project.join("b.txt"), Difference::New)]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Watched {
    project: PathBuf,
    files: Vec<PathBuf>,
    /// Of these both the names and the bytes count.
    patterns: BTreeSet<String>,
    /// Of these only the names count.
    globs: Vec<Glob>,
}

/// How the files were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look(BTreeMap<PathBuf, Seen>);

/// What was seen of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It is there.
    Named,
    /// It is there and read.
    File((u64, u64), Stamp),
}

/// In what two looks at a path differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It was written.
    Changed,
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
}

impl Watched {
    /// Only these.
    pub fn files(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            files: files.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What the instances of `graph` read in `project`, or those of them that are `selected` and what they need; and `files`, such as
    /// the manifest's own.
    pub fn of(
        graph: &Graph,
        project: &Path,
        selected: Option<&[usize]>,
        files: impl IntoIterator<Item = PathBuf>,
    ) -> Self {
        let needed = graph.instances.iter().zip(graph.needed(selected));
        let needed = needed.filter_map(|(instance, needed)| needed.then_some(instance));
        let patterns = needed.flat_map(|instance| instance.files.values().flatten());
        Self {
            project: project.to_owned(),
            files: files.into_iter().collect(),
            patterns: patterns.cloned().collect(),
            globs: graph.globs.clone(),
        }
    }

    /// Looks at everything now.
    pub fn look(&self) -> Look {
        self.look_with(|glob| {
            let found = inputs::matches(&self.project, &glob.pattern);
            found.map(|(_, paths)| paths).unwrap_or_default()
        })
    }

    /// As [`Watched::look`], but axes have the values that the graph was made with: what came to them since differs.
    pub fn look_as_built(&self) -> Look {
        self.look_with(|glob| glob.paths.clone())
    }

    fn look_with(&self, found: impl Fn(&Glob) -> Vec<PathBuf>) -> Look {
        let mut look = BTreeMap::new();
        for path in self.globs.iter().flat_map(found) {
            look.insert(path, Seen::Named);
        }
        // A pattern that matches nothing, or cannot be read, has no files: whoever runs will say so.
        let expanded = self.patterns.iter().flat_map(|pattern| {
            let found = inputs::expand_one(&self.project, "", pattern, Names::BelowFixed);
            found.map(|(_, paths)| paths).unwrap_or_default()
        });
        for path in self.files.iter().cloned().chain(expanded) {
            if let Ok(metadata) = std::fs::metadata(&path) {
                let (identity, stamp) = stamp(&metadata);
                look.insert(path, Seen::File(identity, stamp));
            }
        }
        Look(look)
    }
}

impl Look {
    /// This look, but for what `earlier` saw: that was seen before it was read.
    #[must_use]
    pub fn over(mut self, earlier: Self) -> Self {
        self.0.extend(earlier.0);
        self
    }

    /// How many files there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The paths in which this look differs from an earlier one, and how, sorted.
    pub fn differs_from(&self, before: &Self) -> Vec<(PathBuf, Difference)> {
        let all: BTreeSet<&PathBuf> = self.0.keys().chain(before.0.keys()).collect();
        let difference = |path: &PathBuf| match (before.0.get(path), self.0.get(path)) {
            (Some(before), Some(now)) if before == now => None,
            (Some(_), Some(_)) => Some(Difference::Changed),
            (None, _) => Some(Difference::New),
            (Some(_), None) => Some(Difference::Gone),
        };
        let differing = all.into_iter();
        differing
            .filter_map(|path| Some((path.clone(), difference(path)?)))
            .collect()
    }
}
