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

use nerpipe_engine::{Cache, Graph, Manifest, Registry, StageError};
use nerpipe_hub::{Fetch, Lock};

use crate::cli::{Instances, Pipeline, Place, Selectors};
use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

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

/// Tells something of each instance that is chosen: an object a line for programs, or texts with an empty line between them.
fn tell_each<T>(
    args: &Instances,
    terminal: &Terminal,
    find: impl FnOnce(&Session, &[usize]) -> Result<Vec<T>, StageError>,
    object: impl Fn(&Session, &T) -> Result<String, Error>,
    text: impl Fn(&Session, &T) -> String,
) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let numbers = select(&session.graph, &args.selectors)?;
    for (index, found) in find(&session, &numbers)?.iter().enumerate() {
        if args.json {
            terminal.out(&object(&session, found)?);
        } else {
            let between = if index > 0 { "\n" } else { "" };
            terminal.out(&format!("{between}{}", text(&session, found)));
        }
    }
    Ok(Exit::Done)
}

/// Opens a cache that is there: looking at one must not make it.
fn cache_at(place: &Place) -> Result<Cache, Error> {
    let project = project(place.project.as_deref())?;
    let folder = place.cache_dir.clone().unwrap_or_else(|| project.join("cache"));
    if !Cache::is_at(&folder) {
        return Err(Error::Environment {
            message: format!("there is no cache in `{}`", folder.display()),
            help: Some("name its folder with `--cache-dir`, or the project with `--project`".to_owned()),
        });
    }
    Cache::open(&folder).map_err(Error::environment)
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
