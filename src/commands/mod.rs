//! One verb per file, and what all of them begin with: the manifest, read and expanded, and the cache.

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod evaluate;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod logs;
pub(crate) mod man;
mod manifest;
mod names;
pub(crate) mod plan;
pub(crate) mod predict;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod show;
pub(crate) mod status;
mod watch;

use std::path::{Path, PathBuf};

use nerpipe_engine::{Cache, Graph, Manifest, Registry};
use nerpipe_hub::{Fetch, Lock};

use crate::cli::{Pipeline, Selectors};
use crate::exit::Error;

/// A manifest that is ready to be planned, with the places that go with it.
pub(crate) struct Session {
    pub(crate) registry: Registry,
    pub(crate) graph: Graph,
    pub(crate) cache: Cache,
    /// The folder that paths are relative to.
    pub(crate) project: PathBuf,
}

impl Session {
    /// Reads and expands the manifest, and opens the cache. Nothing is downloaded.
    pub(crate) fn open(pipeline: &Pipeline) -> Result<Self, Error> {
        Self::open_with(pipeline, Fetch::Never)
    }

    /// As [`Session::open`], but models that the manifest names and that are nowhere yet are downloaded.
    pub(crate) fn open_and_fetch(pipeline: &Pipeline) -> Result<Self, Error> {
        Self::open_with(pipeline, Fetch::Missing)
    }

    fn open_with(pipeline: &Pipeline, fetch: Fetch) -> Result<Self, Error> {
        let Expanded {
            registry,
            graph,
            project,
        } = Expanded::read_with(pipeline, fetch, true)?;
        Self::of(registry, graph, project, pipeline.cache_dir.as_deref(), pipeline.rehash)
    }

    /// The session of a manifest that the program made itself; `file` is its name in messages.
    fn of_text(file: &str, text: &str, project: PathBuf, cache_dir: Option<&Path>) -> Result<Self, Error> {
        let lock = Lock::beside(&project.join(file));
        let registry = names::registry(lock, Fetch::Missing);
        let manifest = Manifest::parse(file, text, &project, &[], &registry)?;
        let graph = Graph::build(&manifest, &registry)?;
        Self::of(registry, graph, project, cache_dir, false)
    }

    /// The session of a graph: opens the cache.
    fn of(
        registry: Registry,
        graph: Graph,
        project: PathBuf,
        cache_dir: Option<&Path>,
        rehash: bool,
    ) -> Result<Self, Error> {
        let cache_dir = cache_dir.map_or_else(|| project.join("cache"), Path::to_owned);
        let cache = Cache::open(&cache_dir).map_err(Error::environment)?;
        if rehash {
            cache.rehash();
        }
        Ok(Self {
            registry,
            graph,
            cache,
            project,
        })
    }

    /// The instances that the command line chooses; none if it leaves the choice.
    pub(crate) fn selected(&self, selectors: &Selectors) -> Result<Option<Vec<usize>>, Error> {
        if selectors.selectors.is_empty() {
            return Ok(None);
        }
        select(&self.graph, &selectors.selectors).map(Some)
    }
}

/// The numbers of the instances that `selectors` choose.
fn select(graph: &Graph, selectors: &[String]) -> Result<Vec<usize>, Error> {
    let selected = graph.select(selectors);
    selected.map_err(|error| Error::usage(error.message, error.help))
}

/// A manifest, read and expanded, and what its kinds and paths mean.
pub(crate) struct Expanded {
    registry: Registry,
    pub(crate) graph: Graph,
    project: PathBuf,
}

impl Expanded {
    /// Reads and expands the manifest. Nothing is downloaded.
    pub(crate) fn read(pipeline: &Pipeline) -> Result<Self, Error> {
        Self::read_with(pipeline, Fetch::Never, true)
    }

    /// As [`Expanded::read`], and nobody is told anything.
    pub(crate) fn read_silently(pipeline: &Pipeline) -> Result<Self, Error> {
        Self::read_with(pipeline, Fetch::Never, false)
    }

    fn read_with(pipeline: &Pipeline, fetch: Fetch, tell: bool) -> Result<Self, Error> {
        let project = project(pipeline.project.as_deref())?;
        let (registry, graph) = manifest::read(pipeline, &project, fetch, tell)?;
        Ok(Self {
            registry,
            graph,
            project,
        })
    }
}

/// The folder that paths are relative to.
fn project(given: Option<&Path>) -> Result<PathBuf, Error> {
    let project = given.unwrap_or(Path::new("."));
    if !project.is_dir() {
        let message = format!("`--project {}` is no folder", project.display());
        return Err(Error::usage(message, None));
    }
    Ok(project.to_owned())
}

/// One line of JSON.
fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::environment)
}
