//! An instance as a serializable job, and how it is executed: in this process, or as a child of the same binary.
//!
//! A [`Job`] holds everything that an execution may depend on, already looked up and verified: whoever executes it asks no
//! manifest and judges nothing. A light kind is executed on a thread of the run. A heavy one is written to a
//! file and the program is started again as `nerpipe exec FILE`, which calls [`exec`]: its messages come back as JSON lines
//! on its standard output, its standard error is the instance's log, and its outcome is a file that is written last. A
//! child that dies without one has failed, alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::artifact::{Artifact, Input};
use crate::cache::{Cache, StepCounts};
use crate::context::{Context, InputFile, Sink};
use crate::event::Message;
use crate::files::{self, Durability, FileError};
use crate::kind::{Collected, ErrorClass, Registry, StageError};
use crate::process::{self, Signal};
use crate::resources::in_words;
use crate::threads::{among_threads, limit_threads, start_threads};

/// Everything one execution of an instance depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The instance's name, for messages.
    pub instance: String,
    /// The kind's name.
    pub kind: String,
    /// Resolved settings, defaults filled in.
    pub settings: Map<String, Value>,
    /// Port → what it reads, with verified bytes.
    pub inputs: BTreeMap<String, JobInput>,
    /// Input setting → its files.
    pub files: BTreeMap<String, Vec<InputFile>>,
    /// The parts the artifact must have.
    pub parts: Vec<String>,
    /// A folder on the cache's file system that belongs to this execution; it holds an empty folder `out` for the artifact.
    pub staging: PathBuf,
    /// Where half-finished work is kept.
    pub unfinished: PathBuf,
    /// The instance's log.
    pub log: PathBuf,
    /// The cache's root.
    pub cache: PathBuf,
    /// How many threads it may use; never changes a result.
    pub threads: usize,
    /// The device asked for.
    pub device: String,
    /// The numbers of the accelerators that are this execution's own; none if the run hands none out.
    pub devices: Option<Vec<u32>>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Whether cached steps are executed again.
    pub force: bool,
}

/// What a port of a [`Job`] reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobInput {
    /// One artifact.
    One(Input),
    /// The artifacts of a collecting port, in order.
    Collected(Vec<Collected>),
}

/// What a successful execution leaves: the artifact, its bytes already in the store, and what the record will say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// What was made.
    pub artifact: Artifact,
    /// Figures the stage noted.
    pub notes: BTreeMap<String, Value>,
    /// What it warned of.
    pub warnings: Vec<String>,
    /// Its cached steps.
    pub steps: StepCounts,
    /// The most memory that a process of its own held, in bytes.
    pub peak_memory: Option<u64>,
}

/// Executes a job on this thread; `own_process` says whether the process does nothing besides. A panic of the kind is an error like any other.
///
/// # Errors
/// Whatever stopped the stage.
pub(crate) fn execute(
    job: Job,
    registry: &Registry,
    cache: &Cache,
    sink: Sink,
    cancel: Arc<AtomicBool>,
    own_process: bool,
) -> Result<Finished, StageError> {
    let Some(kind) = registry.get(&job.kind) else {
        return Err(StageError::new(format!(
            "there is no kind `{}` in this program",
            job.kind
        )));
    };
    start_threads();
    let context = Context::new(job, cache.clone(), sink, cancel, own_process);
    // The context is not used again after a panic, so nothing half-changed in it is seen.
    match catch_unwind(AssertUnwindSafe(|| kind.run(&context))) {
        Ok(Ok(())) => context.finish(),
        Ok(Err(error)) => Err(error),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            Err(StageError::new(format!("the stage panicked: {text}"))
                .help("this is a bug in the kind; please report it"))
        }
    }
}

/// The file in a job's staging folder that says how it ended.
const OUTCOME: &str = "outcome.json";

type Outcome = Result<Finished, StageError>;

/// What `nerpipe exec FILE` does: executes the job in `FILE`, tells how it goes on standard output, and leaves the outcome
/// beside the file. Returns the process's exit code.
pub fn exec(file: &Path, registry: &Registry) -> i32 {
    let cancel = process::cancel_on_terminate();
    let read = || -> Result<(Job, Cache), StageError> {
        let bytes = fs::read(file).map_err(FileError::of("read", file))?;
        let job: Job = serde_json::from_slice(&bytes)
            .map_err(|error| StageError::new(format!("`{}` is not a job: {error}", file.display())))?;
        let cache = Cache::open(&job.cache)?;
        Ok((job, cache))
    };
    let outcome: Outcome = read().and_then(|(job, cache)| {
        limit_threads(job.threads);
        among_threads(|| execute(job, registry, &cache, to_stdout(), cancel, true))
    });
    let failed = outcome.is_err();
    let place = file.with_file_name(OUTCOME);
    let written = serde_json::to_vec(&outcome)
        .map_err(|error| error.to_string())
        .and_then(|bytes| {
            files::write_atomically(&place, &bytes, Durability::Cached).map_err(|error| error.to_string())
        });
    if let Err(error) = written {
        // Standard error is the instance's log; the parent shows its last lines when there is no outcome.
        let _ = writeln!(std::io::stderr(), "failed to write the outcome: {error}");
        return 2;
    }
    i32::from(failed)
}

/// Messages as JSON lines. A parent that is gone is no reason to stop: it takes its children with it.
fn to_stdout() -> Sink {
    let stdout = Mutex::new(std::io::stdout());
    Arc::new(move |message| {
        if let Ok(mut line) = serde_json::to_vec(&message) {
            line.push(b'\n');
            let mut stdout = stdout.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        }
    })
}

/// How long a child that is told to stop because its time is up may take to do so.
const GRACE: Duration = Duration::from_secs(10);

/// The running children of a run, so that they can be told to stop.
#[derive(Debug, Default)]
pub(crate) struct Children {
    running: Mutex<Vec<Child>>,
}

/// A child that is not reaped yet: its process id is its own while it is on the list.
#[derive(Debug)]
struct Child {
    pid: u32,
    ends: Option<Instant>,
    told: bool,
}

impl Children {
    /// Tells every child to stop.
    pub(crate) fn terminate(&self) {
        for child in self.lock().iter() {
            process::terminate(child.pid);
        }
    }

    /// Tells every child whose time is up to stop, and ends those that do not, with all they started.
    pub(crate) fn end_overdue(&self) {
        let now = Instant::now();
        for child in self.lock().iter_mut() {
            match child.ends {
                Some(ends) if now >= ends + GRACE => process::signal_group(child.pid, Signal::Kill),
                // Once: a child that is told twice ends at once, and saves nothing.
                Some(ends) if now >= ends && !child.told => {
                    child.told = true;
                    process::terminate(child.pid);
                }
                _ => {}
            }
        }
    }

    fn add(&self, pid: u32, ends: Option<Instant>) {
        let told = false;
        self.lock().push(Child { pid, ends, told });
    }

    /// Takes a child off the list; whether its time was up.
    fn remove(&self, pid: u32) -> bool {
        let mut running = self.lock();
        let at = running.iter().position(|child| child.pid == pid);
        at.is_some_and(|at| running.swap_remove(at).told)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Child>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Executes a job as a child process and waits for it.
///
/// # Errors
/// Whatever stopped the stage, or the process.
pub(crate) fn execute_in_child(
    job: &Job,
    program: &Path,
    log: &Path,
    children: &Children,
    sink: &Sink,
    cancel: &AtomicBool,
) -> Result<Finished, StageError> {
    let file = job.staging.join("job.json");
    let bytes =
        serde_json::to_vec(job).map_err(|error| StageError::new(format!("the job has no JSON form: {error}")))?;
    files::write_atomically(&file, &bytes, Durability::Cached)?;
    let errors = files::open_for_append(log)?;
    let mut command = Command::new(program);
    command
        .arg("exec")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors);
    if let Some(devices) = &job.devices {
        command.env(DEVICES, device_list(devices));
    }
    process::tie_to_parent(&mut command);
    let mut child = command.spawn().map_err(FileError::of("start", program))?;
    let pid = child.id();
    children.add(pid, job.timeout.map(|timeout| Instant::now() + timeout));
    if cancel.load(Ordering::Relaxed) {
        process::terminate(pid);
    }
    if let Some(stdout) = child.stdout.take() {
        forward(stdout, log, sink);
    }
    // Not reaped yet: the process id stays the child's own until it is off the list.
    process::wait_without_reaping(pid).map_err(FileError::of("wait for", program))?;
    let overdue = children.remove(pid);
    let ended = process::reap(pid).map_err(FileError::of("wait for", program))?;
    let outcome: Option<Outcome> = match files::read_if_exists(&job.staging.join(OUTCOME))? {
        Some(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| StageError::new(format!("the outcome of the process cannot be read: {error}")))?,
        None => None,
    };
    match outcome {
        Some(Ok(finished)) => Ok(Finished {
            peak_memory: Some(ended.peak_memory),
            ..finished
        }),
        Some(Err(_)) | None if overdue => Err(timed_out(job.timeout.unwrap_or_default())),
        Some(Err(error)) => Err(error),
        None if cancel.load(Ordering::Relaxed) => Err(StageError::cancelled()),
        None => Err(death(&process::how_ended(ended.status), log)),
    }
}

/// Passes the child's messages on; a line that is none (something a library printed) goes to the log.
fn forward(stdout: impl std::io::Read, log: &Path, sink: &Sink) {
    for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
        match serde_json::from_slice::<Message>(&line) {
            Ok(message) => sink(message),
            Err(_) => {
                let text = String::from_utf8_lossy(&line);
                if let Ok(mut log) = File::options().append(true).open(log) {
                    let _ = writeln!(log, "{text}");
                }
            }
        }
    }
}

/// The variable that tells CUDA programs which devices there are.
pub(crate) const DEVICES: &str = "CUDA_VISIBLE_DEVICES";

/// Device numbers as that variable takes them.
pub(crate) fn device_list(devices: &[u32]) -> String {
    let numbers: Vec<String> = devices.iter().map(u32::to_string).collect();
    numbers.join(",")
}

/// The stage took longer than it may.
pub(crate) fn timed_out(after: Duration) -> StageError {
    StageError::new(format!("timed out after {}", in_words(after)))
        .help("raise `timeout` in the stage's `resources`, or `--timeout`")
        .of(ErrorClass::TimedOut)
}

/// How many lines of a dead child's log are shown with the error.
const LAST_LINES: usize = 5;

fn death(how: &str, log: &Path) -> StageError {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut last: Vec<&str> = text
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(LAST_LINES)
        .collect();
    last.reverse();
    let mut message = format!("its process {how}");
    if !last.is_empty() {
        message.push_str(&format!("; the log ends with:\n  {}", last.join("\n  ")));
    }
    let error = StageError::new(message).of(ErrorClass::Died);
    if how.contains("signal 9") {
        return error.help("the system may have run out of memory: fewer `--jobs`, or a smaller batch");
    }
    error
}
