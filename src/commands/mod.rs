//! One verb per file, and what all of them begin with: the manifest, read and expanded, and the cache.

pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod exec;
pub(crate) mod logs;
mod manifest;
mod names;
pub(crate) mod plan;
pub(crate) mod run;
pub(crate) mod show;
pub(crate) mod status;

use std::path::PathBuf;

use nerpipe_engine::{Cache, Graph, Registry};
use nerpipe_hub::Fetch;

use crate::cli::Pipeline;
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
        let project = pipeline.project.clone().unwrap_or_else(|| PathBuf::from("."));
        if !project.is_dir() {
            return Err(Error::usage(
                format!("`--project {}` is no folder", project.display()),
                None,
            ));
        }
        let (registry, graph) = manifest::read(pipeline, &project, fetch)?;
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
}

/// One line of JSON.
fn json(value: &impl serde::Serialize) -> Result<String, Error> {
    serde_json::to_string(value).map_err(Error::environment)
}
