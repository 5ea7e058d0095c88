//! Which instance is next.
//!
//! One thread decides everything; workers only execute. An instance is judged once all it reads from is known. A fresh one is
//! done at once and costs no worker; equal fingerprints run once; a failure stops its descendants only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, Scope};
use std::time::Duration;

use super::pool::{Need, Pool, Share};
use super::slot::{Slot, State};
use super::work::{Ended, Task, Told, Workshop};
use super::{Outcome, RunOptions, Summary};
use crate::cache::{Cache, StepCounts};
use crate::event::{Event, Message};
use crate::graph::Graph;
use crate::job::Children;
use crate::judge::{Judge, Reason, Verdict};
use crate::kind::{Registry, StageError, Weight};
use crate::publish::Publisher;
use crate::resources::in_units;

/// How often a run looks whether it was told to stop.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// The stack of a worker: as much as a main thread has.
const STACK: usize = 8 * 1024 * 1024;

/// How many of the instances that could begin are looked at to see how many of them can do so side by side.
const LOOKED_AT: usize = 256;

/// What workers send.
enum Report {
    Told(usize, Told),
    Ended(usize, Ended),
}

/// What decides, and all it knows.
pub(super) struct Scheduler<'a> {
    pub(super) graph: &'a Graph,
    pub(super) cache: &'a Cache,
    pub(super) options: &'a RunOptions,
    pub(super) publisher: Publisher<'a>,
    pub(super) judge: Judge<'a>,
    pub(super) observer: &'a mut dyn FnMut(Event),
    /// Called now and then, even if nothing happens.
    tick: &'a mut dyn FnMut(),
    pub(super) names: Vec<String>,
    pub(super) slots: Vec<Slot>,
    pub(super) ready: BTreeSet<usize>,
    pub(super) runnable: BTreeSet<usize>,
    pub(super) pool: Pool,
    /// Stage → the most memory that one of its instances held in this run.
    pub(super) peaks: BTreeMap<String, u64>,
    registry: &'a Registry,
    pub(super) forced: Vec<bool>,
    /// Whether any stage names a limit.
    limited: bool,
    /// Nothing new is started any more.
    pub(super) stopping: bool,
    pub(super) warnings: Vec<String>,
    pub(super) steps: BTreeMap<String, StepCounts>,
}

/// Runs what must run; see [`super::run`].
pub(super) fn walk(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    options: &RunOptions,
    observer: &mut dyn FnMut(Event),
    tick: &mut dyn FnMut(),
) -> Result<Summary, StageError> {
    let publisher = Publisher::open(cache, project, options.overwrite)?;
    publisher.check(graph)?;
    let staging = cache.staging()?;
    let needed = graph.needed(options.selected.as_deref());
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
        tick,
        names: graph.instances.iter().map(|instance| instance.name()).collect(),
        slots: needed.into_iter().map(Slot::new).collect(),
        ready: BTreeSet::new(),
        runnable: BTreeSet::new(),
        pool: Pool::new(options),
        peaks: BTreeMap::new(),
        registry,
        forced,
        limited: graph
            .instances
            .iter()
            .any(|instance| !instance.resources.limits.is_empty()),
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
            let sources: BTreeSet<usize> = self.graph.instances[number].upstream().collect();
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
            workshop.children.end_overdue();
            (self.tick)();
            while !self.stopping
                && let Some(number) = self.ready.pop_first()
            {
                self.consider(number);
            }
            while !self.stopping
                && let Some((number, share)) = self.next()
            {
                self.start(number, share, scope, workshop, sender)?;
            }
            if self.pool.running() == 0 && (self.stopping || (self.ready.is_empty() && self.runnable.is_empty())) {
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

    pub(super) fn make_ready(&mut self, number: usize) {
        self.slots[number].state = State::Ready;
        self.runnable.remove(&number);
        self.ready.insert(number);
    }

    pub(super) fn queue(&mut self, number: usize, reason: Reason) {
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

    /// The first runnable instance for which everything that it needs is free.
    fn next(&mut self) -> Option<(usize, Share)> {
        if self.pool.is_full() {
            return None;
        }
        let candidates = self.candidates();
        let mut refused: Vec<Need> = Vec::new();
        let mut next = self.runnable.first().copied();
        while let Some(number) = next {
            next = self.runnable.range(number + 1..).next().copied();
            let need = self.need(number);
            if refused.contains(&need) {
                continue;
            }
            if let Some(share) = self.pool.take(&need, candidates) {
                self.runnable.remove(&number);
                return Some((number, share));
            }
            refused.push(need);
        }
        None
    }

    /// How many instances could begin now if there were threads for all of them. Those that a limit keeps waiting are none.
    fn candidates(&self) -> usize {
        if !self.limited {
            return self.runnable.len();
        }
        let looked_at = self.runnable.iter().take(LOOKED_AT);
        let limits = looked_at.map(|number| &self.graph.instances[*number].resources.limits);
        self.pool.side_by_side(limits)
    }

    /// What an instance needs: what its stage says; of memory otherwise what the same stage held before, and a little more.
    fn need(&mut self, number: usize) -> Need {
        let instance = &self.graph.instances[number];
        let mut need = match &self.slots[number].need {
            Some(need) => need.clone(),
            None => {
                let resources = &instance.resources;
                let weight = self.registry.get(&instance.kind).map(|kind| kind.weight());
                let is_measured = matches!(weight, Some(Weight::Heavy | Weight::Foreign));
                let memory = resources.memory.or_else(|| {
                    // What cannot be read says nothing; it is judged elsewhere.
                    let last = is_measured.then(|| self.judge.last_record(instance).ok()??.peak_memory);
                    last.flatten().map(with_margin)
                });
                let need = Need {
                    threads: resources.threads,
                    memory: memory.unwrap_or(0),
                    devices: resources.devices.unwrap_or(0),
                    limits: resources
                        .limits
                        .iter()
                        .map(|(name, most)| (name.clone(), *most))
                        .collect(),
                };
                self.slots[number].need = Some(need.clone());
                if let Some(memory) = self.pool.exceeds_memory(need.memory) {
                    let (needs, there) = (in_units(need.memory), in_units(memory));
                    self.warn(
                        number,
                        format!("it needs {needs} of memory and {there} are there; it runs alone"),
                    );
                }
                need
            }
        };
        if instance.resources.memory.is_none()
            && let Some(peak) = self.peaks.get(&instance.stage)
        {
            need.memory = need.memory.max(with_margin(*peak));
        }
        need
    }

    fn start<'scope>(
        &mut self,
        number: usize,
        share: Share,
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
        let (threads, devices) = (share.threads, share.devices.clone());
        slot.share = Some(share);
        let force = slot.reason == Some(Reason::Forced);
        let instance = &self.graph.instances[number];
        let made = |from: usize| Some((from, self.slots[from].made.clone()?));
        let task = Task {
            number,
            name: self.names[number].clone(),
            key,
            upstream: instance.upstream().filter_map(made).collect(),
            force,
            threads,
            devices,
        };
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
            Told::Again {
                attempt,
                attempts,
                error,
            } => Event::InstanceRetried {
                instance,
                attempt,
                attempts,
                message: error.message,
            },
            Told::Message(Message::Progress(position)) => Event::Progress { instance, position },
            Told::Message(Message::Log { line }) => Event::Log { instance, line },
            Told::Message(Message::Warning { line }) => Event::Warning {
                instance: Some(instance),
                message: line,
            },
        });
    }
}

/// Memory that is expected of an instance where another of its stage held this much.
fn with_margin(peak: u64) -> u64 {
    peak + peak / 10
}
