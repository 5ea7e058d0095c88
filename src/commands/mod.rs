//! One verb per file, and what all of them begin with: the manifest, read and expanded, and the cache.

pub(crate) mod cache;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod graph;
pub(crate) mod logs;
pub(crate) mod man;
mod manifest;
mod names;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;

use std::path::{Path, PathBuf};

use nerpipe_engine::{Cache, Graph, Registry};
use nerpipe_hub::Fetch;

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
        } = Expanded::read_with(pipeline, fetch)?;
        let cache_dir = pipeline.cache_dir.clone().unwrap_or_else(|| project.join("cache"));
        let cache = Cache::open(&cache_dir).map_err(Error::environment)?;
        if pipeline.rehash {
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
        Self::read_with(pipeline, Fetch::Never)
    }

    fn read_with(pipeline: &Pipeline, fetch: Fetch) -> Result<Self, Error> {
        let project = project(pipeline.project.as_deref())?;
        let (registry, graph) = manifest::read(pipeline, &project, fetch)?;
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
