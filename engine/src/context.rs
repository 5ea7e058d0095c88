//! What a running stage sees: its settings, its inputs, its output place, cached steps, and a way to tell how it goes.
//!
//! [`Context`] is `Sync`: a kind may call [`Context::step`] from several threads at once.
//!
//! What a kind's `run` looks like that works file by file; an unchanged file is not worked on again:
//!
//! ```
//! # use nerpipe_engine::{kind::*, testing::Bench};
//! use nerpipe_engine::{Context, StageError, Step};
//! use serde_json::{Value, json};
//!
//! fn run(ctx: &Context) -> Result<(), StageError> {
//!     for file in ctx.files("texts") {
//!         let step = Step { name: "upper", version: 1, settings: json!(null), inputs: vec![file.digest] };
//!         let output = ctx.step(step, |folder| {
//!             let failed = |error: std::io::Error| StageError::new(error.to_string());
//!             let text = std::fs::read_to_string(&file.path).map_err(failed)?;
//!             std::fs::write(folder.join("text"), text.to_uppercase()).map_err(failed)?;
//!             Ok(json!({"characters": text.chars().count()}))
//!         })?;
//!         ctx.note(&file.name, output.value.clone());
//!         ctx.place(&output, "text", &format!("texts/{}", file.name))?;
//!     }
//!     Ok(())
//! }
//! # struct Upper;
//! # impl Kind for Upper {
//! #     fn name(&self) -> &'static str { "upper" }
//! #     fn version(&self) -> u32 { 1 }
//! #     fn about(&self) -> &'static str { "writes texts in capitals" }
//! #     fn weight(&self) -> Weight { Weight::Light }
//! #     fn fields(&self) -> &'static [Field] { const { &[Field::input("texts")] } }
//! #     fn ports(&self) -> &'static [Port] { &[] }
//! #     fn produces(&self) -> &'static str { "texts" }
//! #     fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
//! #         Ok(Resolved::new(settings)?.makes(["texts"]))
//! #     }
//! #     fn run(&self, ctx: &Context) -> Result<(), StageError> { run(ctx) }
//! # }
//!
//! let bench = Bench::new();
//! bench.write("in/a", "one");
//! bench.write("in/b", "two");
//! let made = bench.run(&Upper, json!({"texts": "in/*"})).unwrap();
//! assert_eq!((made.text("texts/a").as_str(), made.steps.executed), ("ONE", 2));
//! bench.write("in/b", "three");
//! let made = bench.run(&Upper, json!({"texts": "in/*"})).unwrap();
//! assert_eq!((made.steps.executed, made.steps.restored), (1, 1));
//! ```

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::artifact::{Artifact, ArtifactFile, EVERY_PART, Input, PartFile};
use crate::cache::{Bytes, Cache, OUT, StepCounts, StepRecord};
use crate::digest::Digest;
use crate::event::{Message, Progress};
use crate::files::{self, Durability, FileError, Links};
use crate::fingerprint::StepDocument;
use crate::job::{Finished, Job, JobInput, timed_out};
use crate::kind::{Collected, ErrorClass, StageError};
use crate::process;
use crate::resources::in_units;

/// Progress is told at most this often; more would only keep a pipe and a terminal busy.
const BETWEEN_PROGRESS: Duration = Duration::from_millis(100);

/// One file that an input setting (a path or glob) named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// The name below the fixed part of the path or glob, with `/`; for a plain file its file name.
    pub name: String,
    /// Where to read it.
    pub path: PathBuf,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// A cached piece of work inside a stage. Its key is the kind, `name`, `version`, `settings` and `inputs`, nothing else;
/// so equal steps of different instances and of earlier runs are shared.
#[derive(Clone, Debug)]
pub struct Step {
    /// The step's name, such as `file` or `scores`.
    pub name: &'static str,
    /// The version of the step's meaning.
    pub version: u32,
    /// What steers it.
    pub settings: Value,
    /// The digests of what it reads, in order.
    pub inputs: Vec<Digest>,
}

/// The sealed files of a step, to be read or placed into the artifact without copying.
#[derive(Clone, Debug)]
pub struct StepOutput {
    /// The files by their name in the step's folder, sorted.
    pub files: Vec<PartFile>,
    /// The value the step's closure returned (kept in the step's record), such as counts for the summary.
    pub value: Value,
    /// Whether it was restored rather than executed.
    pub restored: bool,
}

impl StepOutput {
    /// The file the step wrote under this name.
    pub fn file(&self, name: &str) -> Option<&PartFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

/// Where messages of a running instance go.
pub(crate) type Sink = Arc<dyn Fn(Message) + Send + Sync>;

/// What a running stage sees. See the module's text.
pub struct Context {
    job: Job,
    inputs: BTreeMap<String, Input>,
    collected: BTreeMap<String, Vec<Collected>>,
    cache: Cache,
    sink: Sink,
    cancel: Arc<AtomicBool>,
    placed: Mutex<BTreeMap<String, ArtifactFile>>,
    links: Mutex<BTreeMap<String, String>>,
    notes: Mutex<BTreeMap<String, Value>>,
    warnings: Mutex<Vec<String>>,
    executed: AtomicU64,
    restored: AtomicU64,
    started: Instant,
    own_process: bool,
    peak_memory: AtomicU64,
    last_progress: Mutex<Option<Instant>>,
}

impl Context {
    pub(crate) fn new(mut job: Job, cache: Cache, sink: Sink, cancel: Arc<AtomicBool>, own_process: bool) -> Self {
        let (mut inputs, mut collected) = (BTreeMap::new(), BTreeMap::new());
        for (port, input) in std::mem::take(&mut job.inputs) {
            match input {
                JobInput::One(input) => drop(inputs.insert(port, input)),
                JobInput::Collected(artifacts) => drop(collected.insert(port, artifacts)),
            }
        }
        Self {
            job,
            inputs,
            collected,
            cache,
            sink,
            cancel,
            placed: Mutex::default(),
            links: Mutex::default(),
            notes: Mutex::default(),
            warnings: Mutex::default(),
            executed: AtomicU64::new(0),
            restored: AtomicU64::new(0),
            started: Instant::now(),
            own_process,
            peak_memory: AtomicU64::new(0),
            last_progress: Mutex::default(),
        }
    }

    /// The resolved settings, as the kind's own type.
    ///
    /// # Errors
    /// If what [`crate::Kind::resolve`] returned does not read back as `S`, a mistake of the kind's author.
    pub fn settings<S: DeserializeOwned>(&self) -> Result<S, StageError> {
        serde_path_to_error::deserialize(Value::Object(self.job.settings.clone())).map_err(|error| {
            let path = error.path().to_string();
            StageError::new(format!(
                "the resolved settings of kind `{}` do not read back: {path}: {}",
                self.job.kind,
                error.into_inner()
            ))
        })
    }

    /// The input at `port`: the parts that were declared as read.
    ///
    /// # Errors
    /// If the port is not connected, not read with these settings, or takes `{collect: …}`.
    pub fn input(&self, port: &str) -> Result<&Input, StageError> {
        self.inputs.get(port).ok_or_else(|| {
            StageError::new(format!("input `{port}` of {} is not connected", self.job.instance))
                .help(format!("add `{port}` below `inputs:` of the stage"))
        })
    }

    /// The artifacts of a collecting port, in the order of the sweep's cells; empty if it is not connected.
    pub fn collected(&self, port: &str) -> &[Collected] {
        self.collected.get(port).map_or(&[], Vec::as_slice)
    }

    /// The files that the input setting `field` named, sorted by name; empty if it was left out.
    /// A field that is a map of paths is addressed as `field.key`.
    pub fn files(&self, field: &str) -> &[InputFile] {
        self.job.files.get(field).map_or(&[], Vec::as_slice)
    }

    /// The path to write the artifact's file `name` to (`train/x.jsonl`, `config.json`); folders are made.
    /// The first component of `name` is the part; a file without a folder is a part by itself.
    ///
    /// # Errors
    /// If `name` is no relative path of plain names, or its folder cannot be made.
    pub fn out(&self, name: &str) -> Result<PathBuf, StageError> {
        check_name(name)?;
        let path = self.out_folder().join(name);
        if let Some(folder) = path.parent() {
            files::create_folder(folder)?;
        }
        Ok(path)
    }

    /// Runs `work` or restores what it made before. `work` writes its files into the folder it is given and returns a
    /// small JSON value that is kept with them. May be called from several threads; a step inside a step must differ
    /// from it.
    ///
    /// Nothing that `work` tells the context besides (notes, warnings) is repeated when the step is restored: what must
    /// reach the summary each time belongs into the value.
    ///
    /// # Errors
    /// Whatever `work` returns, a failure of the cache, or a cancelled run.
    pub fn step(
        &self,
        step: Step,
        work: impl FnOnce(&Path) -> Result<Value, StageError>,
    ) -> Result<StepOutput, StageError> {
        self.step_of(&self.job.kind, step, work)
    }

    /// As [`Context::step`], a step that belongs to another kind: whichever of the two comes first executes it for both.
    ///
    /// # Errors
    /// As [`Context::step`].
    pub fn step_of(
        &self,
        kind: &str,
        step: Step,
        work: impl FnOnce(&Path) -> Result<Value, StageError>,
    ) -> Result<StepOutput, StageError> {
        self.check_cancelled()?;
        let document = StepDocument {
            kind: kind.to_owned(),
            step: step.name.to_owned(),
            version: step.version,
            settings: step.settings,
            inputs: step.inputs,
        };
        let key = document
            .fingerprint()
            .map_err(|error| StageError::new(format!("step `{}`: {error}", step.name)))?;
        let may_restore = !self.job.force;
        if may_restore && let Some(output) = self.restore_step(&self.cache.step_record(&key)?) {
            return Ok(output);
        }
        let waiting = || self.log(&format!("waiting for another process to end step `{}`", step.name));
        let _lock = self.cache.lock(&format!("{key}.step"), &self.cancel, waiting)?;
        let before = self.cache.step_record(&key)?;
        if may_restore && let Some(output) = self.restore_step(&before) {
            return Ok(output);
        }

        let folder = self.job.staging.join("steps").join(key.to_string());
        files::remove_folder(&folder)?;
        files::create_folder(&folder)?;
        let started = Instant::now();
        let value = work(&folder)?;
        let durability = Durability::after(started.elapsed());
        let record = StepRecord {
            document,
            files: self.seal(&folder, durability)?,
            value,
        };
        files::remove_folder(&folder)?;
        if before.is_some_and(|before| before.files != record.files) {
            self.warn(&format!(
                "step `{}` made other bytes than the last time from the same inputs",
                step.name
            ));
        }
        self.cache.write_step_record(&key, &record, durability)?;
        self.executed.fetch_add(1, Ordering::Relaxed);
        Ok(self.step_output(record, false))
    }

    /// The output of a step whose record and bytes are there.
    fn restore_step(&self, record: &Option<StepRecord>) -> Option<StepOutput> {
        let record = record.as_ref()?;
        for file in &record.files {
            match self.cache.objects().verify(&file.digest, file.size) {
                Bytes::Good => {}
                Bytes::Missing => return None,
                Bytes::Damaged => {
                    let step = &record.document.step;
                    self.warn(&format!(
                        "`{}` of step `{step}` is damaged in the cache; it is made again",
                        file.name
                    ));
                    return None;
                }
            }
        }
        self.restored.fetch_add(1, Ordering::Relaxed);
        Some(self.step_output(record.clone(), true))
    }

    fn step_output(&self, record: StepRecord, restored: bool) -> StepOutput {
        let file = |file: ArtifactFile| PartFile {
            path: self.cache.objects().path(&file.digest),
            name: file.name,
            digest: file.digest,
            size: file.size,
        };
        StepOutput {
            files: record.files.into_iter().map(file).collect(),
            value: record.value,
            restored,
        }
    }

    /// Makes file `file` of a step part of the artifact under `name`, by reference.
    ///
    /// # Errors
    /// If the step has no such file, or `name` is no relative path of plain names or is placed already.
    pub fn place(&self, output: &StepOutput, file: &str, name: &str) -> Result<(), StageError> {
        let found = output
            .file(file)
            .ok_or_else(|| StageError::new(format!("the step made no file `{file}`")))?;
        self.place_file(found, name)
    }

    /// Makes file `name` of the input at `port` part of the artifact under the same name, by reference.
    ///
    /// # Errors
    /// If the input has no such file, or `name` is placed already.
    pub fn pass_on(&self, port: &str, name: &str) -> Result<(), StageError> {
        let found = self
            .input(port)?
            .file(name)
            .ok_or_else(|| StageError::new(format!("the input `{port}` has no file `{name}`")))?;
        self.place_file(found, name)
    }

    /// Makes every file of part `part` of the input at `port` part of the artifact, in the folder `folder`, by reference.
    ///
    /// # Errors
    /// If the input has no such part, or a name is placed already.
    pub fn place_part(&self, port: &str, part: &str, folder: &str) -> Result<(), StageError> {
        let found = self
            .input(port)?
            .part(part)
            .ok_or_else(|| StageError::new(format!("the input `{port}` has no part `{part}`")))?;
        found.files.iter().try_for_each(|file| {
            let name = match found.is_folder {
                true => format!("{folder}/{part}/{}", file.name),
                false => format!("{folder}/{part}"),
            };
            self.place_file(file, &name)
        })
    }

    /// Gives the artifact's file or folder `target` a second name at the top of the artifact: a relative symbolic link, once the
    /// whole artifact is published. It is no part, and nothing downstream sees it.
    ///
    /// # Errors
    /// If `name` is no plain name.
    pub fn link(&self, name: &str, target: &str) -> Result<(), StageError> {
        check_name(name)?;
        check_name(target)?;
        if name.contains('/') {
            return Err(StageError::new(format!(
                "`{name}` cannot name a link: links stand at the top of an artifact"
            )));
        }
        lock(&self.links).insert(name.to_owned(), target.to_owned());
        Ok(())
    }

    /// Makes a file whose bytes are in the cache already part of the artifact under `name`.
    pub(crate) fn place_file(&self, file: &PartFile, name: &str) -> Result<(), StageError> {
        check_name(name)?;
        let entry = ArtifactFile {
            name: name.to_owned(),
            digest: file.digest,
            size: file.size,
        };
        if lock(&self.placed).insert(name.to_owned(), entry).is_some() {
            return Err(StageError::new(format!(
                "two files of the artifact are called `{name}`"
            )));
        }
        Ok(())
    }

    /// A folder for half-finished work, such as the state of a training. It outlives a run that is killed, is there again
    /// when the same instance starts again, and goes once its record is written. It is no part of the artifact, and a stage
    /// must end with the same bytes whether it found something there or not.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn unfinished(&self) -> Result<PathBuf, StageError> {
        files::create_folder(&self.job.unfinished)?;
        Ok(self.job.unfinished.clone())
    }

    /// Checks that there is room for what the stage is going to write, so that it need not find out when most of the work is done.
    ///
    /// # Errors
    /// If less than `bytes` are free where artifacts and half-finished work are kept.
    pub fn check_space(&self, bytes: u64) -> Result<(), StageError> {
        let folder = self.cache.root();
        // A file system that does not tell is no reason to stop.
        let Ok(free) = process::free_space(folder) else {
            return Ok(());
        };
        if free >= bytes {
            return Ok(());
        }
        let message = format!(
            "it may write {}, and {} are free on the disk of `{}`",
            in_units(bytes),
            in_units(free),
            folder.display()
        );
        Err(StageError::new(message)
            .help("make room, with `nerpipe cache gc` for example, or keep the cache elsewhere: `--cache-dir`")
            .of(ErrorClass::Machine))
    }

    /// The folder that belongs to this execution.
    pub(crate) fn staging(&self) -> &Path {
        &self.job.staging
    }

    /// Where the instance's log is, for what the context does not write itself.
    pub(crate) fn log_path(&self) -> &Path {
        &self.job.log
    }

    /// Takes note of the most memory that a program of the stage's held, in bytes.
    pub(crate) fn held_memory(&self, bytes: u64) {
        self.peak_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    /// Every port that reads one artifact.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = (&str, &Input)> {
        self.inputs.iter().map(|(port, input)| (port.as_str(), input))
    }

    /// Every collecting port.
    pub(crate) fn all_collected(&self) -> impl Iterator<Item = (&str, &[Collected])> {
        self.collected.iter().map(|(port, all)| (port.as_str(), all.as_slice()))
    }

    /// Every file that is read at any port.
    pub(crate) fn input_files(&self) -> impl Iterator<Item = &PartFile> {
        let collected = self.collected.values().flatten().map(|one| &one.input);
        let parts = self
            .inputs
            .values()
            .chain(collected)
            .flat_map(|input| input.parts.values());
        parts.flat_map(|part| &part.files)
    }

    /// Keeps a figure in the record and shows it in the run's summary, such as counts of what was cut or dropped.
    pub fn note(&self, key: &str, value: Value) {
        lock(&self.notes).insert(key.to_owned(), value);
    }

    /// Tells how far the stage has come. Cheap; call it as often as a step ends.
    pub fn progress(&self, progress: Progress) {
        let is_last = progress.total == Some(progress.done);
        let mut last = lock(&self.last_progress);
        if !is_last && last.is_some_and(|last| last.elapsed() < BETWEEN_PROGRESS) {
            return;
        }
        *last = Some(Instant::now());
        drop(last);
        (self.sink)(Message::Progress(progress.into()));
    }

    /// One line for people, kept in the instance's log.
    pub fn log(&self, line: &str) {
        (self.sink)(Message::Log { line: line.to_owned() });
    }

    /// A warning, shown at once and again in the summary.
    pub fn warn(&self, line: &str) {
        lock(&self.warnings).push(line.to_owned());
        (self.sink)(Message::Warning { line: line.to_owned() });
    }

    /// How many threads this instance may use.
    pub fn threads(&self) -> usize {
        self.job.threads
    }

    /// The device asked for: `auto`, `cpu`, `wgpu`, `cuda` or `cuda:N`.
    pub fn device(&self) -> &str {
        &self.job.device
    }

    /// The numbers of the accelerators that are this instance's own; none if the run hands none out.
    pub fn devices(&self) -> Option<&[u32]> {
        self.job.devices.as_deref()
    }

    /// Fails with a cancelled [`StageError`] if the run was told to stop, or if the time is up; call it once per training step.
    ///
    /// # Errors
    /// Only these.
    pub fn check_cancelled(&self) -> Result<(), StageError> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(StageError::cancelled());
        }
        match self.job.timeout {
            // A process of its own is told from outside.
            Some(timeout) if !self.own_process && self.started.elapsed() > timeout => Err(timed_out(timeout)),
            _ => Ok(()),
        }
    }

    /// Seals what the stage wrote and placed.
    pub(crate) fn finish(self) -> Result<Finished, StageError> {
        let written = self.seal(&self.out_folder(), Durability::after(self.started.elapsed()))?;
        let mut files = self.placed.into_inner().unwrap_or_else(PoisonError::into_inner);
        for file in written {
            let name = file.name.clone();
            if files.insert(name.clone(), file).is_some() {
                return Err(StageError::new(format!(
                    "file `{name}` of the artifact was written and placed"
                )));
            }
        }
        check_tree(files.keys())?;
        let links = self.links.into_inner().unwrap_or_else(PoisonError::into_inner);
        check_links(&links, files.keys())?;
        let mut artifact = Artifact::new(files.into_values().collect());
        artifact.links = links;
        let parts = artifact.parts();
        let is_missing = |part: &&String| part.as_str() != EVERY_PART && !parts.contains_key(part.as_str());
        if let Some(missing) = self.job.parts.iter().find(is_missing) {
            return Err(StageError::new(format!(
                "{} should have made the part `{missing}` and did not; this is a mistake in kind `{}`",
                self.job.instance, self.job.kind
            )));
        }
        let mut warnings = self.warnings.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Threads may warn in any order.
        warnings.sort();
        Ok(Finished {
            artifact,
            notes: self.notes.into_inner().unwrap_or_else(PoisonError::into_inner),
            warnings,
            steps: StepCounts {
                executed: self.executed.into_inner(),
                restored: self.restored.into_inner(),
            },
            peak_memory: Some(self.peak_memory.into_inner()).filter(|bytes| *bytes > 0),
        })
    }

    fn out_folder(&self) -> PathBuf {
        self.job.staging.join(OUT)
    }

    /// Takes every file below `folder` into the store.
    fn seal(&self, folder: &Path, durability: Durability) -> Result<Vec<ArtifactFile>, FileError> {
        if !folder.exists() {
            return Ok(Vec::new());
        }
        let mut sealed = Vec::new();
        for (name, path) in files::walk(folder, Links::Refuse, |_| true)? {
            let (digest, size) = self.cache.objects().adopt(&path, durability)?;
            sealed.push(ArtifactFile { name, digest, size });
        }
        Ok(sealed)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("job", &self.job)
            .finish_non_exhaustive()
    }
}

/// What a lock guards here is only inserted into; a panic elsewhere leaves nothing half-done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses names that would leave the artifact or be spelled differently elsewhere.
fn check_name(name: &str) -> Result<(), StageError> {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    // `components` quietly drops `a//b`, `a/.` and a trailing slash.
    let exact = name.split('/').all(|part| !part.is_empty() && part != ".");
    if plain && exact && !name.contains('\0') {
        return Ok(());
    }
    Err(StageError::new(format!(
        "`{name}` cannot name a file of an artifact: it must be a relative path of plain names"
    )))
}

/// Refuses a link that stands for nothing, or in the place of something.
fn check_links<'a>(
    links: &BTreeMap<String, String>,
    files: impl Iterator<Item = &'a String> + Clone,
) -> Result<(), StageError> {
    let is_there = |name: &str| {
        let inside = |file: &String| {
            file.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        files.clone().any(inside)
    };
    for (name, target) in links {
        if is_there(name) {
            return Err(StageError::new(format!(
                "`{name}` is both a link and something else of the artifact"
            )));
        }
        if !is_there(target) {
            return Err(StageError::new(format!(
                "the link `{name}` stands for `{target}`, which the artifact does not have"
            )));
        }
    }
    Ok(())
}

/// Refuses a file whose name is also a folder's: a placed `a` beside a written `a/b`.
fn check_tree<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), StageError> {
    let names: std::collections::BTreeSet<&str> = names.map(String::as_str).collect();
    for name in &names {
        let folders = name.match_indices('/').map(|(at, _)| &name[..at]);
        if let Some(both) = folders.into_iter().find(|folder| names.contains(folder)) {
            return Err(StageError::new(format!(
                "`{both}` is both a file and a folder of the artifact"
            )));
        }
    }
    Ok(())
}
