//! Runs one kind by itself, without a manifest: for the unit tests of kinds.
//!
//! ```
//! # use nerpipe_engine::{*, kind::*};
//! # use serde_json::{Value, json};
//! # struct Greet;
//! # impl Kind for Greet {
//! #     fn name(&self) -> &'static str { "greet" }
//! #     fn version(&self) -> u32 { 1 }
//! #     fn about(&self) -> &'static str { "greets" }
//! #     fn weight(&self) -> Weight { Weight::Light }
//! #     fn fields(&self) -> &'static [Field] { const { &[Field::counted("name")] } }
//! #     fn ports(&self) -> &'static [Port] { &[] }
//! #     fn produces(&self) -> &'static str { "text" }
//! #     fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
//! #         Ok(Resolved::new(settings)?.makes(["greeting.txt"]))
//! #     }
//! #     fn run(&self, ctx: &Context) -> Result<(), StageError> {
//! #         let settings: Value = ctx.settings()?;
//! #         std::fs::write(ctx.out("greeting.txt")?, format!("hello {}", settings["name"])).unwrap();
//! #         Ok(())
//! #     }
//! # }
//! use nerpipe_engine::testing::Bench;
//!
//! let bench = Bench::new();
//! let made = bench.run(&Greet, json!({"name": 7})).unwrap();
//! assert_eq!(made.text("greeting.txt"), "hello 7");
//! ```
//!
//! Several kinds are chained by handing what one made to the next: `Bench::input`. Whatever goes wrong that no kind
//! should meet (a full disk) panics, as tests want it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use serde_json::Value;

use crate::artifact::{Artifact, Input, is_among};
use crate::cache::{Cache, StepCounts};
use crate::context::{Context, InputFile};
use crate::digest::Digest;
use crate::event::Message;
use crate::files;
use crate::inputs::{InputFiles, Names};
use crate::job::{Job, JobInput};
use crate::kind::{Collected, InputParts, Kind, StageError};

/// A throwaway project with a cache, in which kinds run one at a time.
pub struct Bench {
    folder: tempfile::TempDir,
    cache: Cache,
    inputs: BTreeMap<String, JobInput>,
    threads: usize,
    device: String,
    cancel: Arc<AtomicBool>,
    runs: AtomicUsize,
}

impl Default for Bench {
    fn default() -> Self {
        Self::new()
    }
}

impl Bench {
    /// An empty project with an empty cache; both go when the bench is dropped.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("project")).expect("the project's folder");
        let cache = Cache::open(&folder.path().join("cache")).expect("a cache");
        Self {
            folder,
            cache,
            inputs: BTreeMap::new(),
            threads: 1,
            device: "auto".to_owned(),
            cancel: Arc::default(),
            runs: AtomicUsize::new(0),
        }
    }

    /// Writes a file of the project, for input settings to name.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.project().join(name);
        fs::create_dir_all(path.parent().expect("a file's folder")).expect("the file's folder");
        fs::write(&path, content).expect("a file of the project");
        path
    }

    /// The project's folder: paths in input settings are relative to it.
    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// Connects `port` of the kinds that run from now on to what another made on this bench.
    #[must_use]
    pub fn input(mut self, port: &str, made: &Made) -> Self {
        self.inputs.insert(port.to_owned(), JobInput::One(made.input.clone()));
        self
    }

    /// Adds an artifact to the collecting port `port`, standing for these axis values.
    #[must_use]
    pub fn collect(mut self, port: &str, axes: &[(&str, &str)], made: &Made) -> Self {
        let axes: IndexMap<String, String> = axes
            .iter()
            .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
            .collect();
        let instance = crate::graph::instance_name(port, &axes);
        let artifact = Collected {
            instance,
            axes,
            input: made.input.clone(),
        };
        match self
            .inputs
            .entry(port.to_owned())
            .or_insert_with(|| JobInput::Collected(Vec::new()))
        {
            JobInput::Collected(artifacts) => artifacts.push(artifact),
            JobInput::One(_) => panic!("port `{port}` has one artifact already"),
        }
        self
    }

    /// Gives the kinds this many threads; one if not told.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Asks for a device; `auto` if not told.
    #[must_use]
    pub fn device(mut self, device: &str) -> Self {
        device.clone_into(&mut self.device);
        self
    }

    /// A flag that tells a running kind to stop.
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancel)
    }

    /// Resolves `settings` and executes `kind` in this process. Steps are restored from the bench's earlier runs; the
    /// instance itself is always executed.
    ///
    /// # Errors
    /// What resolving or running the kind gives.
    pub fn run(&self, kind: &dyn Kind, settings: Value) -> Result<Made, StageError> {
        let job = self.job(kind, &settings)?;
        let messages = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&messages);
        let sink = Arc::new(move |message| told.lock().expect("messages").push(message));
        let unfinished = job.unfinished.clone();
        let context = Context::new(job, self.cache.clone(), sink, Arc::clone(&self.cancel), false);
        kind.run(&context)?;
        let finished = context.finish()?;
        files::remove_folder(&unfinished)?;
        let input = finished.artifact.open(None, |digest| self.cache.objects().path(digest));
        let messages = messages.lock().expect("messages").clone();
        Ok(Made {
            input,
            artifact: finished.artifact,
            notes: finished.notes,
            warnings: finished.warnings,
            steps: finished.steps,
            messages,
        })
    }

    fn job(&self, kind: &dyn Kind, settings: &Value) -> Result<Job, StageError> {
        for key in settings.as_object().into_iter().flat_map(|settings| settings.keys()) {
            if !kind.fields().iter().any(|field| field.name == key) {
                return Err(StageError::new(format!(
                    "kind `{}` has no setting `{key}`",
                    kind.name()
                )));
            }
        }
        let mut offered = InputParts::default();
        for (port, input) in &self.inputs {
            let parts = |input: &Input| input.parts.keys().cloned().collect::<Vec<_>>();
            let parts = match input {
                JobInput::One(input) => parts(input),
                JobInput::Collected(artifacts) => {
                    artifacts.first().map(|first| parts(&first.input)).unwrap_or_default()
                }
            };
            offered.ports.insert(port.clone(), parts);
        }
        let resolved = kind.resolve(settings, &offered).map_err(|error| StageError {
            message: format!("{}: {error}", error.path),
            help: error.help,
            class: crate::kind::ErrorClass::Wrong,
        })?;
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let staging = self.cache.folder("staging").join(format!("bench-{run}"));
        fs::create_dir_all(&staging).expect("a staging folder");
        let files = self.files(kind, &resolved.settings)?;
        let inputs: BTreeMap<String, JobInput> = resolved
            .reads
            .iter()
            .filter_map(|(port, parts)| self.opened(port, parts))
            .collect();
        let same = serde_json::to_vec(&(kind.name(), &resolved.settings, &inputs, &files)).expect("JSON");
        let unfinished = self
            .folder
            .path()
            .join("unfinished")
            .join(Digest::of(&same).to_string());
        Ok(Job {
            instance: kind.name().to_owned(),
            kind: kind.name().to_owned(),
            files,
            settings: resolved.settings,
            inputs,
            parts: resolved.parts,
            staging,
            unfinished,
            log: self.folder.path().join(format!("{run}.log")),
            cache: self.cache.root().to_owned(),
            threads: self.threads,
            device: self.device.clone(),
            devices: None,
            timeout: None,
            force: false,
        })
    }

    /// The parts that are read at a port, and no others: as in a run, what was not declared is not there.
    fn opened(&self, port: &str, parts: &[String]) -> Option<(String, JobInput)> {
        let only = |input: &Input| Input {
            parts: input
                .parts
                .iter()
                .filter(|(name, _)| is_among(name, parts))
                .map(|(n, p)| (n.clone(), p.clone()))
                .collect(),
        };
        let input = match self.inputs.get(port)? {
            JobInput::One(input) => JobInput::One(only(input)),
            JobInput::Collected(artifacts) => JobInput::Collected(
                artifacts
                    .iter()
                    .map(|one| Collected {
                        input: only(&one.input),
                        ..one.clone()
                    })
                    .collect(),
            ),
        };
        Some((port.to_owned(), input))
    }

    fn files(
        &self,
        kind: &dyn Kind,
        settings: &serde_json::Map<String, Value>,
    ) -> Result<BTreeMap<String, Vec<InputFile>>, StageError> {
        let project = self.project();
        let mut found = InputFiles::new(&project, &self.cache);
        let mut files = BTreeMap::new();
        for field in kind.fields().iter().filter(|field| field.class.names_files()) {
            let mut patterns = BTreeMap::new();
            if let Some(value) = settings.get(field.name) {
                crate::graph::input_files(field.name, value, &mut patterns)
                    .map_err(|path| StageError::new(format!("`{path}` is not a path")))?;
            }
            for (name, patterns) in patterns {
                let expanded = found.find(&name, &patterns, Names::of(Some(field.class)))?;
                files.insert(name, expanded.files.to_vec());
            }
        }
        Ok(files)
    }
}

/// What a kind made on a [`Bench`].
#[derive(Clone, Debug)]
pub struct Made {
    /// Every part of the artifact, with paths.
    pub input: Input,
    /// Names, digests and sizes.
    pub artifact: Artifact,
    /// Figures the kind noted.
    pub notes: BTreeMap<String, Value>,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// Its cached steps.
    pub steps: StepCounts,
    /// Everything it told while it ran.
    pub messages: Vec<Message>,
}

impl Made {
    /// The names of the artifact's files, sorted.
    pub fn names(&self) -> Vec<&str> {
        self.artifact.files.iter().map(|file| file.name.as_str()).collect()
    }

    /// Where the file with this name in the artifact is.
    ///
    /// # Panics
    /// If there is none.
    pub fn path(&self, name: &str) -> &Path {
        match self.input.file(name) {
            Some(file) => &file.path,
            None => panic!("there is no `{name}` among {:?}", self.names()),
        }
    }

    /// The file's content.
    ///
    /// # Panics
    /// If there is no such file or it is not text.
    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text file")
    }

    /// The file's content as JSON.
    ///
    /// # Panics
    /// If there is no such file or it is not JSON.
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.text(name)).expect("a JSON file")
    }
}
