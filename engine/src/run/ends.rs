//! What the end of an instance means for the others.
//!
//! Bytes can be missing where a record is fresh. They are made again when a worker or a publish target asks for them: the
//! one who asks waits, the producer runs, and if it makes something else than its record said, everything that was judged
//! by the old digests is judged again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Outcome;
use super::schedule::Scheduler;
use super::slot::{Slot, State};
use super::work::Ended;
use crate::cache::{Record, StepCounts};
use crate::event::Event;
use crate::files::FileError;
use crate::judge::{Made, Reason};
use crate::kind::StageError;
use crate::publish::PublishError;

/// How often bytes of one instance are made again before the disk is blamed.
const MOST_REMAKES: u32 = 3;

impl Scheduler<'_> {
    pub(super) fn end(&mut self, number: usize, ended: Ended) {
        if let Some(share) = self.slots[number].share.take() {
            self.pool.give_back(&share);
        }
        let judge_again = std::mem::take(&mut self.slots[number].judge_again);
        match ended {
            Ended::Finished(record) => {
                if record.steps != StepCounts::default() {
                    let kind = self.graph.instances[number].kind.clone();
                    self.steps.entry(kind).or_default().add(record.steps);
                }
                if let Some(peak) = record.peak_memory {
                    let most = self
                        .peaks
                        .entry(self.graph.instances[number].stage.clone())
                        .or_default();
                    *most = peak.max(*most);
                }
                // It ran and is forced no longer, should it be looked at again.
                self.forced[number] = false;
                if judge_again {
                    self.make_ready(number);
                } else {
                    self.settle(number, Arc::new(*record), Outcome::Executed);
                }
            }
            Ended::Failed(error) if error.is_cancelled() => self.fail(number, error),
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
    pub(super) fn stands_for(&self, number: usize) -> usize {
        self.slots[number].shares.unwrap_or(number)
    }

    /// Has the bytes of an instance made again. False if that was tried too often.
    pub(super) fn remake(&mut self, number: usize, needed_by: &str) -> bool {
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
    pub(super) fn settle(&mut self, number: usize, record: Arc<Record>, outcome: Outcome) {
        let made = match &self.slots[number].made {
            Some(made) if *made.artifact() == record.artifact => Arc::clone(made),
            _ => Arc::new(Made::of(Arc::clone(&record))),
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
        self.cache.mark_used(&record.fingerprint);

        match before {
            None => {
                for reader in self.slots[number].readers.clone() {
                    self.wait_less(reader);
                }
            }
            Some(before) if before.artifact() != made.artifact() => self.judge_readers_again(number),
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

    pub(super) fn tell_done(&mut self, number: usize, record: &Record, outcome: Outcome) {
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
    pub(super) fn remember(&mut self, number: usize) {
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

    pub(super) fn wait_less(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        slot.waiting_for = slot.waiting_for.saturating_sub(1);
        if slot.waiting_for == 0 && slot.state == State::Waiting {
            self.make_ready(number);
        }
    }

    /// Remade bytes differ from what the record said: whoever was judged by the old digests is judged again.
    pub(super) fn judge_readers_again(&mut self, number: usize) {
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

    pub(super) fn publish(&mut self, number: usize, made: &Made) {
        for publish in &self.graph.instances[number].publish {
            match self.publisher.publish(publish, made.artifact()) {
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
    pub(super) fn fail_to_publish(&mut self, number: usize, error: StageError) {
        self.slots[number].outcome = Some(Outcome::Failed);
        self.tell_failed(number, &error);
        self.slots[number].error = Some(error);
        self.stopping |= self.options.fail_fast;
    }

    pub(super) fn fail(&mut self, number: usize, error: StageError) {
        self.slots[number].state = State::Failed;
        // A stage that somebody else stopped has failed.
        if error.is_cancelled() && self.options.cancel.load(Ordering::Relaxed) {
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

    pub(super) fn tell_failed(&mut self, number: usize, error: &StageError) {
        let log = self.log(number);
        (self.observer)(Event::InstanceFailed {
            instance: self.names[number].clone(),
            message: error.message.clone(),
            help: error.help.clone(),
            log,
        });
    }

    /// `number` cannot run because `by` failed; nor can those that read from it.
    pub(super) fn block(&mut self, number: usize, by: usize) {
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
    pub(super) fn block_followers(&mut self, number: usize, by: usize) {
        let slot = &mut self.slots[number];
        for follower in followers(slot) {
            self.block(follower, by);
        }
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
