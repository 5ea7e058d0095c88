//! Which instance is next, and what an end means for the others.
//!
//! One thread decides everything; workers only execute. An instance is judged once all it reads from is known. A fresh one is
//! done at once and costs no worker; equal fingerprints run once; a failure stops its descendants only.
//!
//! Bytes can be missing where a record is fresh. They are made again when a worker or a publish target asks for them: the
//! one who asks waits, the producer runs, and if it makes something else than its record said, everything that was judged
//! by the old digests is judged again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, Scope};
use std::time::Duration;

use super::work::{Ended, Task, Told, Workshop};
use super::{InstanceSummary, Outcome, RunOptions, Summary};
use crate::cache::{Cache, Record, StepCounts};
use crate::event::{Event, Message};
use crate::files::FileError;
use crate::graph::Graph;
use crate::job::Children;
use crate::judge::{Judge, Key, Made, Reason, Verdict, needed, upstream};
use crate::kind::{Registry, StageError};
use crate::publish::{PublishError, Publisher};

/// How often a run looks whether it was told to stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// The stack of a worker: as much as a main thread has.
const STACK: usize = 8 * 1024 * 1024;

/// How often bytes of one instance are made again before the disk is blamed.
const MOST_REMAKES: u32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not part of this run.
    Unneeded,
    /// Something it reads from is not known, or its bytes are being made again, or an equal instance runs.
    Waiting,
    /// To be judged.
    Ready,
    /// To be executed when a worker is free.
    Runnable,
    Running,
    Done,
    Failed,
    Blocked,
}

/// Everything the run knows of one instance.
struct Slot {
    state: State,
    /// How many instances it waits for.
    waiting_for: usize,
    /// Those that read from it, each once.
    readers: Vec<usize>,
    /// Those that wait for its bytes to be made again.
    askers: Vec<usize>,
    /// Those with the same fingerprint that it stands for.
    sharers: Vec<usize>,
    /// The one that stands for it.
    shares: Option<usize>,
    key: Option<Arc<Key>>,
    made: Option<Arc<Made>>,
    record: Option<Arc<Record>>,
    /// Why it runs, once it is to.
    reason: Option<Reason>,
    /// Its bytes are needed: a fresh record is not enough.
    bytes_needed_by: Option<String>,
    /// What it reads changed while it ran.
    judge_again: bool,
    attempts: u32,
    outcome: Option<Outcome>,
    error: Option<StageError>,
    blocked_by: Option<usize>,
    warnings: Vec<String>,
    published: Vec<PathBuf>,
}

impl Slot {
    fn new(needed: bool) -> Self {
        Self {
            state: if needed { State::Waiting } else { State::Unneeded },
            waiting_for: 0,
            readers: Vec::new(),
            askers: Vec::new(),
            sharers: Vec::new(),
            shares: None,
            key: None,
            made: None,
            record: None,
            reason: None,
            bytes_needed_by: None,
            judge_again: false,
            attempts: 0,
            outcome: None,
            error: None,
            blocked_by: None,
            warnings: Vec::new(),
            published: Vec::new(),
        }
    }
}

/// What workers send.
enum Report {
    Told(usize, Told),
    Ended(usize, Ended),
}

struct Scheduler<'a> {
    graph: &'a Graph,
    cache: &'a Cache,
    options: &'a RunOptions,
    publisher: Publisher<'a>,
    judge: Judge<'a>,
    observer: &'a mut dyn FnMut(Event),
    names: Vec<String>,
    slots: Vec<Slot>,
    ready: BTreeSet<usize>,
    runnable: BTreeSet<usize>,
    running: usize,
    forced: Vec<bool>,
    /// Nothing new is started any more.
    stopping: bool,
    warnings: Vec<String>,
    steps: BTreeMap<String, StepCounts>,
}

/// Runs what must run; see [`super::run`].
pub(super) fn walk(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    options: &RunOptions,
    observer: &mut dyn FnMut(Event),
) -> Result<Summary, StageError> {
    let publisher = Publisher::open(cache, project, options.overwrite)?;
    publisher.check(graph)?;
    let staging = cache.staging()?;
    let needed = needed(graph, options.selected.as_deref());
    observer(Event::Started {
        manifest: graph.name.clone(),
        instances: needed.iter().filter(|needed| **needed).count(),
    });
    let mut forced = vec![options.force && options.selected.is_none(); graph.instances.len()];
    for number in options.selected.iter().flatten().filter(|_| options.force) {
        forced[*number] = true;
    }
    let mut scheduler = Scheduler {
        graph,
        cache,
        options,
        publisher,
        judge: Judge::new(graph, registry, cache, project),
        observer,
        names: graph.instances.iter().map(|instance| instance.name()).collect(),
        slots: needed.into_iter().map(Slot::new).collect(),
        ready: BTreeSet::new(),
        runnable: BTreeSet::new(),
        running: 0,
        forced,
        stopping: false,
        warnings: Vec::new(),
        steps: BTreeMap::new(),
    };
    scheduler.connect();
    let workshop = Workshop {
        graph,
        registry,
        cache,
        options,
        staging: &staging,
        children: Children::default(),
    };
    let (sender, receiver) = channel();
    thread::scope(|scope| scheduler.drive(scope, &workshop, &sender, &receiver))?;
    if let Err(error) = cache.save_stat() {
        scheduler.warn_run(error.to_string());
    }
    Ok(scheduler.summary())
}

impl<'a> Scheduler<'a> {
    /// Counts what each instance waits for; those that wait for nothing are ready.
    fn connect(&mut self) {
        for number in 0..self.slots.len() {
            if self.slots[number].state == State::Unneeded {
                continue;
            }
            let sources: BTreeSet<usize> = upstream(&self.graph.instances[number]).collect();
            self.slots[number].waiting_for = sources.len();
            for from in &sources {
                self.slots[*from].readers.push(number);
            }
            if sources.is_empty() {
                self.make_ready(number);
            }
        }
    }

    /// Judges, starts and listens until nothing is left to do.
    fn drive<'scope>(
        &mut self,
        scope: &'scope Scope<'scope, '_>,
        workshop: &'scope Workshop<'a>,
        sender: &Sender<Report>,
        receiver: &Receiver<Report>,
    ) -> Result<(), StageError>
    where
        'a: 'scope,
    {
        loop {
            self.stop_if_cancelled(workshop);
            while !self.stopping
                && let Some(number) = self.ready.pop_first()
            {
                self.consider(number);
            }
            while !self.stopping
                && self.running < self.options.jobs.max(1)
                && let Some(number) = self.runnable.pop_first()
            {
                self.start(number, scope, workshop, sender)?;
            }
            if self.running == 0 && (self.stopping || (self.ready.is_empty() && self.runnable.is_empty())) {
                return Ok(());
            }
            match receiver.recv_timeout(BETWEEN_LOOKS) {
                Ok(Report::Told(number, told)) => self.pass_on(number, told),
                Ok(Report::Ended(number, ended)) => self.end(number, ended),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
        }
    }

    fn stop_if_cancelled(&mut self, workshop: &Workshop<'_>) {
        if !self.options.cancel.load(Ordering::Relaxed) {
            return;
        }
        // Told again each time: a child may not have been listening yet.
        workshop.children.terminate();
        self.stopping = true;
    }

    /// Judges an instance all of whose sources are known.
    fn consider(&mut self, number: usize) {
        let slots = &self.slots;
        let judged = self.judge.judge(number, |from| slots[from].made.clone());
        self.slots[number].key = judged.key;
        self.slots[number].shares = None;
        match judged.verdict {
            Verdict::Impossible(error) => self.fail(number, error),
            Verdict::SharedWith(first) => self.share(number, first),
            Verdict::Fresh(_) if self.forced[number] => self.queue(number, Reason::Forced),
            Verdict::Fresh(record) => match self.slots[number].bytes_needed_by.take() {
                Some(needed_by) => self.queue(number, Reason::BytesGone { needed_by }),
                None => self.settle(number, record, Outcome::Restored),
            },
            Verdict::Stale(reasons) => {
                let reason = if self.forced[number] {
                    Reason::Forced
                } else {
                    reasons.into_iter().next().unwrap_or(Reason::NeverRan)
                };
                self.queue(number, reason);
            }
            // Nothing is ready before its sources are known.
            Verdict::Waits(_) => self.slots[number].state = State::Waiting,
        }
    }

    fn make_ready(&mut self, number: usize) {
        self.slots[number].state = State::Ready;
        self.runnable.remove(&number);
        self.ready.insert(number);
    }

    fn queue(&mut self, number: usize, reason: Reason) {
        self.slots[number].state = State::Runnable;
        self.slots[number].reason = Some(reason);
        self.runnable.insert(number);
    }

    /// `first` has the same fingerprint: it stands for `number`, now or when it is done.
    fn share(&mut self, number: usize, first: usize) {
        self.slots[number].shares = Some(first);
        match (self.slots[first].state, self.slots[first].record.clone()) {
            (State::Done, Some(record)) => self.settle(number, record, Outcome::Shared),
            (State::Failed | State::Blocked, _) => self.block(number, first),
            _ => {
                self.slots[number].state = State::Waiting;
                self.slots[first].sharers.push(number);
            }
        }
    }

    fn start<'scope>(
        &mut self,
        number: usize,
        scope: &'scope Scope<'scope, '_>,
        workshop: &'scope Workshop<'a>,
        sender: &Sender<Report>,
    ) -> Result<(), StageError>
    where
        'a: 'scope,
    {
        let slot = &mut self.slots[number];
        let Some(key) = slot.key.clone() else { return Ok(()) };
        slot.state = State::Running;
        slot.attempts += 1;
        let force = slot.reason == Some(Reason::Forced);
        let instance = &self.graph.instances[number];
        let made = |from: usize| Some((from, self.slots[from].made.clone()?));
        let task = Task {
            number,
            name: self.names[number].clone(),
            key,
            upstream: upstream(instance).filter_map(made).collect(),
            force,
        };
        self.running += 1;
        let sender = sender.clone();
        let work = move || {
            let messages = sender.clone();
            // The receiver lives as long as the scope, so nothing is lost.
            let tell = move |told| drop(messages.send(Report::Told(task.number, told)));
            let ended = workshop.work(&task, tell);
            drop(sender.send(Report::Ended(task.number, ended)));
        };
        let spawned = thread::Builder::new().stack_size(STACK).spawn_scoped(scope, work);
        spawned.map_err(|error| StageError::new(format!("failed to start a thread: {error}")))?;
        Ok(())
    }

    fn pass_on(&mut self, number: usize, told: Told) {
        let instance = self.names[number].clone();
        (self.observer)(match told {
            Told::Begun => Event::InstanceStarted {
                instance,
                kind: self.graph.instances[number].kind.clone(),
                reason: self.slots[number]
                    .reason
                    .as_ref()
                    .map(ToString::to_string)
                    .unwrap_or_default(),
            },
            Told::Message(Message::Progress(position)) => Event::Progress { instance, position },
            Told::Message(Message::Log { line }) => Event::Log { instance, line },
            Told::Message(Message::Warning { line }) => Event::Warning {
                instance: Some(instance),
                message: line,
            },
        });
    }

    fn end(&mut self, number: usize, ended: Ended) {
        self.running -= 1;
        let judge_again = std::mem::take(&mut self.slots[number].judge_again);
        match ended {
            Ended::Finished(record) => {
                if record.steps != StepCounts::default() {
                    let kind = self.graph.instances[number].kind.clone();
                    self.steps.entry(kind).or_default().add(record.steps);
                }
                // It ran and is forced no longer, should it be looked at again.
                self.forced[number] = false;
                if judge_again {
                    self.make_ready(number);
                } else {
                    self.settle(number, Arc::new(*record), Outcome::Executed);
                }
            }
            Ended::Failed(error) if error.cancelled => self.fail(number, error),
            Ended::Restored(_) | Ended::NeedsBytes(_) | Ended::Failed(_) if judge_again => self.make_ready(number),
            Ended::Restored(record) => self.settle(number, Arc::new(*record), Outcome::Restored),
            Ended::NeedsBytes(gone) => {
                self.slots[number].state = State::Waiting;
                for (from, bytes) in gone {
                    let made_again = format!("{bytes}; `{}` is made again", self.names[from]);
                    if self.remake(from, &format!("`{}`", self.names[number])) {
                        if !bytes.damaged.is_empty() {
                            self.warn(from, made_again);
                        }
                        let producer = self.stands_for(from);
                        self.slots[producer].askers.push(number);
                        self.slots[number].waiting_for += 1;
                    } else {
                        let error = StageError::new(made_again).help("the cache's disk may be failing");
                        return self.fail(number, error);
                    }
                }
            }
            Ended::Failed(error) => self.fail(number, error),
        }
    }

    /// The instance that runs for `number`: itself, or the one it shares with.
    fn stands_for(&self, number: usize) -> usize {
        self.slots[number].shares.unwrap_or(number)
    }

    /// Has the bytes of an instance made again. False if that was tried too often.
    fn remake(&mut self, number: usize, needed_by: &str) -> bool {
        let number = self.stands_for(number);
        if self.slots[number].attempts > MOST_REMAKES {
            return false;
        }
        match self.slots[number].state {
            State::Done => self.queue(
                number,
                Reason::BytesGone {
                    needed_by: needed_by.to_owned(),
                },
            ),
            State::Ready | State::Waiting => self.slots[number].bytes_needed_by = Some(needed_by.to_owned()),
            State::Runnable | State::Running => {}
            State::Unneeded | State::Failed | State::Blocked => return false,
        }
        true
    }

    /// An instance is done: those that read from it go on, and so do those that it stands for.
    fn settle(&mut self, number: usize, record: Arc<Record>, outcome: Outcome) {
        let made = match &self.slots[number].made {
            Some(made) if made.artifact == record.artifact => Arc::clone(made),
            _ => Arc::new(Made::new(record.artifact.clone())),
        };
        let slot = &mut self.slots[number];
        let before = slot.made.replace(Arc::clone(&made));
        slot.state = State::Done;
        slot.record = Some(Arc::clone(&record));
        slot.bytes_needed_by = None;
        // Once executed, an instance counts as that, whatever is found out about it later in the run.
        if slot.outcome != Some(Outcome::Executed) {
            slot.outcome = Some(outcome);
        }
        self.tell_done(number, &record, outcome);
        self.remember(number);

        match before {
            None => {
                for reader in self.slots[number].readers.clone() {
                    self.wait_less(reader);
                }
            }
            Some(before) if before.artifact != made.artifact => self.judge_readers_again(number),
            Some(_) => {}
        }
        for asker in std::mem::take(&mut self.slots[number].askers) {
            self.wait_less(asker);
        }
        for sharer in std::mem::take(&mut self.slots[number].sharers) {
            if self.slots[sharer].shares == Some(number) {
                self.settle(sharer, Arc::clone(&record), Outcome::Shared);
            }
        }
        self.publish(number, &made);
    }

    fn tell_done(&mut self, number: usize, record: &Record, outcome: Outcome) {
        let instance = self.names[number].clone();
        (self.observer)(match (outcome, self.slots[number].shares) {
            (Outcome::Executed, _) => Event::InstanceFinished {
                instance,
                seconds: record.seconds,
                steps: record.steps,
            },
            (Outcome::Shared, Some(first)) => Event::InstanceShared {
                instance,
                with: self.names[first].clone(),
            },
            _ => Event::InstanceRestored { instance },
        });
    }

    /// Enters the fingerprint into the history, so that the reason of the next rerun is found.
    fn remember(&mut self, number: usize) {
        let instance = &self.graph.instances[number];
        let Some(key) = &self.slots[number].key else { return };
        let entered = self.judge.is_last(instance, &key.fingerprint).and_then(|is_last| {
            if is_last {
                return Ok(());
            }
            let axes = &instance.axes;
            self.cache
                .remember(&self.graph.name, &instance.stage, axes, key.fingerprint)
                .map_err(FileError::into)
        });
        if let Err(error) = entered {
            self.warn(number, error.to_string());
        }
    }

    fn wait_less(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        slot.waiting_for = slot.waiting_for.saturating_sub(1);
        if slot.waiting_for == 0 && slot.state == State::Waiting {
            self.make_ready(number);
        }
    }

    /// Remade bytes differ from what the record said: whoever was judged by the old digests is judged again.
    fn judge_readers_again(&mut self, number: usize) {
        for reader in self.slots[number].readers.clone() {
            match self.slots[reader].state {
                State::Running => self.slots[reader].judge_again = true,
                State::Done | State::Runnable | State::Ready => self.make_ready(reader),
                // It waits for an equal instance and is no longer equal to it.
                State::Waiting if self.slots[reader].shares.is_some() => {
                    self.slots[reader].shares = None;
                    self.make_ready(reader);
                }
                State::Waiting | State::Unneeded | State::Failed | State::Blocked => {}
            }
        }
        // Those it stands for made something else too.
        for sharer in 0..self.slots.len() {
            if self.slots[sharer].shares == Some(number) && self.slots[sharer].state == State::Done {
                self.make_ready(sharer);
            }
        }
    }

    fn publish(&mut self, number: usize, made: &Made) {
        for publish in &self.graph.instances[number].publish {
            match self.publisher.publish(publish, &made.artifact) {
                Ok(false) => {}
                Ok(true) => {
                    let target = publish.target.clone();
                    self.slots[number].published.push(target.clone());
                    (self.observer)(Event::Published {
                        instance: self.names[number].clone(),
                        target,
                    });
                }
                Err(PublishError::BytesGone(bytes)) => {
                    if !bytes.damaged.is_empty() {
                        self.warn(number, format!("{bytes}; it is made again"));
                    }
                    let needed_by = format!("`{}`", publish.target.display());
                    if self.remake(number, &needed_by) {
                        // One that is shared publishes when the one that stands for it is done.
                        if let Some(first) = self.slots[number].shares {
                            self.slots[first].sharers.push(number);
                        }
                    } else {
                        let error = StageError::new(format!("cannot publish to {needed_by}: {bytes}"));
                        self.fail_to_publish(number, error);
                    }
                    return;
                }
                Err(PublishError::Failed(error)) => self.fail_to_publish(number, error),
            }
        }
    }

    /// The artifact is there and only its copy is not: descendants go on.
    fn fail_to_publish(&mut self, number: usize, error: StageError) {
        self.slots[number].outcome = Some(Outcome::Failed);
        self.tell_failed(number, &error);
        self.slots[number].error = Some(error);
        self.stopping |= self.options.fail_fast;
    }

    fn fail(&mut self, number: usize, error: StageError) {
        self.slots[number].state = State::Failed;
        // A stage that somebody else stopped has failed.
        if error.cancelled && self.options.cancel.load(Ordering::Relaxed) {
            self.slots[number].outcome = Some(Outcome::Stopped);
            self.stopping = true;
            return;
        }
        self.slots[number].outcome = Some(Outcome::Failed);
        self.tell_failed(number, &error);
        self.slots[number].error = Some(error);
        self.stopping |= self.options.fail_fast;
        self.block_followers(number, number);
    }

    fn tell_failed(&mut self, number: usize, error: &StageError) {
        let log = self.log(number);
        (self.observer)(Event::InstanceFailed {
            instance: self.names[number].clone(),
            message: error.message.clone(),
            help: error.help.clone(),
            log,
        });
    }

    /// `number` cannot run because `by` failed; nor can those that read from it.
    fn block(&mut self, number: usize, by: usize) {
        let by = self.slots[by].blocked_by.unwrap_or(by);
        let mut stack = vec![number];
        while let Some(number) = stack.pop() {
            if self.slots[number].state != State::Waiting && self.slots[number].state != State::Ready {
                continue;
            }
            self.ready.remove(&number);
            let slot = &mut self.slots[number];
            slot.state = State::Blocked;
            slot.outcome = Some(Outcome::Blocked);
            slot.blocked_by = Some(by);
            stack.extend(followers(slot));
            let (instance, by) = (self.names[number].clone(), self.names[by].clone());
            (self.observer)(Event::InstanceBlocked { instance, by });
        }
    }

    /// Blocks everything that waits for `number`.
    fn block_followers(&mut self, number: usize, by: usize) {
        let slot = &mut self.slots[number];
        for follower in followers(slot) {
            self.block(follower, by);
        }
    }

    fn warn(&mut self, number: usize, message: String) {
        (self.observer)(Event::Warning {
            instance: Some(self.names[number].clone()),
            message: message.clone(),
        });
        self.slots[number].warnings.push(message);
    }

    fn warn_run(&mut self, message: String) {
        (self.observer)(Event::Warning {
            instance: None,
            message: message.clone(),
        });
        self.warnings.push(message);
    }

    fn log(&self, number: usize) -> Option<PathBuf> {
        let key = self.slots[number].key.as_ref()?;
        Some(self.cache.log_path(&key.fingerprint)).filter(|path| path.exists())
    }

    fn summary(self) -> Summary {
        let mut summary = Summary {
            manifest: self.graph.name.clone(),
            instances: Vec::new(),
            executed: 0,
            restored: 0,
            shared: 0,
            failed: 0,
            blocked: 0,
            stopped: 0,
            steps: self.steps.clone(),
            warnings: self.warnings.clone(),
            seconds: 0.0,
        };
        for (number, slot) in self.slots.iter().enumerate() {
            if slot.state == State::Unneeded {
                continue;
            }
            let outcome = slot.outcome.unwrap_or(Outcome::Stopped);
            *match outcome {
                Outcome::Executed => &mut summary.executed,
                Outcome::Restored => &mut summary.restored,
                Outcome::Shared => &mut summary.shared,
                Outcome::Failed => &mut summary.failed,
                Outcome::Blocked => &mut summary.blocked,
                Outcome::Stopped => &mut summary.stopped,
            } += 1;
            let own = slot.record.as_ref().filter(|_| outcome != Outcome::Shared);
            let mut warnings = own.map(|record| record.warnings.clone()).unwrap_or_default();
            warnings.extend(slot.warnings.iter().cloned());
            let because_of = slot.blocked_by.or(slot.shares);
            summary.instances.push(InstanceSummary {
                number,
                instance: self.names[number].clone(),
                kind: self.graph.instances[number].kind.clone(),
                outcome,
                error: slot.error.clone(),
                because_of: because_of.map(|number| self.names[number].clone()),
                fingerprint: own.map(|record| record.fingerprint),
                seconds: own.map(|record| record.seconds),
                peak_memory: own.and_then(|record| record.peak_memory),
                notes: own.map(|record| record.notes.clone()).unwrap_or_default(),
                warnings,
                published: slot.published.clone(),
                log: self.log(number),
            });
        }
        summary
    }
}

/// Those that cannot go on without this instance. One that was done before and failed to be made again keeps its
/// readers: they know its digests, and those that need its bytes have asked.
fn followers(slot: &mut Slot) -> Vec<usize> {
    let mut followers = std::mem::take(&mut slot.askers);
    followers.append(&mut slot.sharers);
    if slot.made.is_none() {
        followers.extend(&slot.readers);
    }
    followers
}
