//! A throwaway project: files, a manifest, a cache, and calls of plan and run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nerpipe_engine::{
    Cache, Diagnostics, Event, Graph, Manifest, Outcome, Plan, Planned, RunOptions, Shown, StageError, Status, Summary,
    plan, run, show,
};

use crate::toy::Toys;

pub(crate) struct Project {
    /// Removed with the project, unless it belongs to another process.
    folder: Folder,
    pub(crate) toys: Arc<Toys>,
    pub(crate) options: RunOptions,
    pub(crate) manifest: String,
}

enum Folder {
    Own(tempfile::TempDir),
    Others(PathBuf),
}

impl Project {
    /// The project that another process made in `folder`.
    pub(crate) fn at(folder: &Path, manifest: &str) -> Self {
        let folder = Folder::Others(folder.to_owned());
        Self {
            folder,
            toys: Arc::default(),
            options: RunOptions::default(),
            manifest: manifest.to_owned(),
        }
    }

    pub(crate) fn new(manifest: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("project")).unwrap();
        let mut project = Self::at(folder.path(), manifest);
        project.folder = Folder::Own(folder);
        project.write("data/a.txt", "One\nTwo\n");
        project.write("data/b.txt", "Three\n");
        project.write("test/t.txt", "Test\n");
        project
    }

    /// What holds the project and the cache.
    pub(crate) fn folder(&self) -> &Path {
        match &self.folder {
            Folder::Own(folder) => folder.path(),
            Folder::Others(folder) => folder,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join("project")
    }

    pub(crate) fn cache_path(&self) -> PathBuf {
        self.folder().join("cache")
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::open(&self.cache_path()).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(name)).unwrap()
    }

    pub(crate) fn replace(&mut self, old: &str, new: &str) {
        assert!(self.manifest.contains(old), "{old}");
        self.manifest = self.manifest.replace(old, new);
    }

    pub(crate) fn graph(&self) -> Graph {
        self.try_graph().expect("a graph")
    }

    pub(crate) fn try_graph(&self) -> Result<Graph, Diagnostics> {
        let registry = self.toys.registry();
        let text = format!("name: toys\n{}", self.manifest);
        let manifest = Manifest::parse("toys.yaml", &text, &self.path(), &[], &registry)?;
        Graph::build(&manifest, &registry)
    }

    pub(crate) fn plan(&self) -> Plan {
        self.plan_of(&self.graph())
    }

    fn plan_of(&self, graph: &Graph) -> Plan {
        plan(graph, &self.toys.registry(), &self.cache(), &self.path(), None).unwrap()
    }

    pub(crate) fn planned(&self) -> Vec<String> {
        self.planned_of(&self.graph())
    }

    /// The status of each instance in a few words.
    pub(crate) fn planned_of(&self, graph: &Graph) -> Vec<String> {
        let words = |status: &Status| match status {
            Status::Fresh => "fresh".to_owned(),
            Status::Stale { reasons } => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                format!("stale: {}", reasons.join("; "))
            }
            Status::Waits { on } => format!("waits on {}", on.join(", ")),
            Status::Shared { with } => format!("shared with {with}"),
            Status::Impossible { message, .. } => format!("impossible: {message}"),
        };
        let line = |one: &Planned| format!("{} {}", one.instance, words(&one.status));
        self.plan_of(graph).instances.iter().map(line).collect()
    }

    pub(crate) fn show(&self, instance: &str) -> Shown {
        let graph = self.graph();
        let number = graph.instances.iter().position(|one| one.name() == instance).unwrap();
        let shown = show(&graph, &self.toys.registry(), &self.cache(), &self.path(), &[number]);
        shown.unwrap().remove(0)
    }

    pub(crate) fn run(&self) -> Summary {
        self.watch(&mut |_| {})
    }

    /// Like [`Self::run`], and expects that all went well.
    pub(crate) fn run_well(&self) -> Summary {
        let summary = self.run();
        for one in &summary.instances {
            assert!(one.error.is_none(), "{}: {:?}", one.instance, one.error);
        }
        assert!(summary.is_success());
        summary
    }

    pub(crate) fn watch(&self, observer: &mut dyn FnMut(Event)) -> Summary {
        self.watch_graph(&self.graph(), observer)
    }

    pub(crate) fn watch_graph(&self, graph: &Graph, observer: &mut dyn FnMut(Event)) -> Summary {
        let registry = self.toys.registry();
        run(graph, &registry, &self.cache(), &self.path(), &self.options, observer).unwrap()
    }

    pub(crate) fn try_run(&self, graph: &Graph, cache: &Cache) -> Result<Summary, StageError> {
        let registry = self.toys.registry();
        run(graph, &registry, cache, &self.path(), &self.options, &mut |_| {})
    }

    /// Every file below the cache's folder `name`.
    pub(crate) fn cached(&self, name: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut stack = vec![self.cache_path().join("v1").join(name)];
        while let Some(folder) = stack.pop() {
            // It may not be there yet, or no longer.
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    stack.push(path)
                } else {
                    found.push(path)
                }
            }
        }
        found.sort();
        found
    }

    /// Where the bytes of an artifact's file are in the cache.
    pub(crate) fn object(&self, instance: &str, file: &str) -> PathBuf {
        let shown = self.show(instance);
        shown
            .files
            .iter()
            .find(|one| one.file.name == file)
            .unwrap()
            .path
            .clone()
    }

    /// The digests of everything every instance made.
    pub(crate) fn digests(&self) -> Vec<(String, Vec<(String, String)>)> {
        let graph = self.graph();
        let files = |name: &str| -> Vec<(String, String)> {
            let record = self.show(name).record.expect("a record");
            record
                .artifact
                .files
                .iter()
                .map(|file| (file.name.clone(), file.digest.to_string()))
                .collect()
        };
        graph
            .instances
            .iter()
            .map(|one| (one.name(), files(&one.name())))
            .collect()
    }
}

/// Overwrites a read-only file of the cache.
pub(crate) fn damage(path: &Path, content: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

/// How each instance ended, in words.
pub(crate) fn outcomes(summary: &Summary) -> Vec<(String, Outcome)> {
    summary
        .instances
        .iter()
        .map(|one| (one.instance.clone(), one.outcome))
        .collect()
}

/// (executed, restored, shared, failed, blocked)
pub(crate) fn counts(summary: &Summary) -> (usize, usize, usize, usize, usize) {
    (
        summary.executed,
        summary.restored,
        summary.shared,
        summary.failed,
        summary.blocked,
    )
}

/// A corpus of two parts, counts of the left one at two factors, a count of the right one, a table.
pub(crate) const MANIFEST: &str = "
sweep:
  axes:
    factor: [1, 2]
stages:
  corpus:
    kind: words
    with: {left: data/*.txt, right: test/*.txt}
  count:
    kind: lines
    inputs: {words: corpus}
    with: {factor: \"${factor}\"}
  test:
    kind: lines
    inputs: {words: corpus}
    with: {side: right}
  table:
    kind: gather
    inputs: {counts: {collect: count}}
    publish: {table.txt: reports/table.txt}
";
