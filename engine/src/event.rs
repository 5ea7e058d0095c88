//! What a run tells whoever watches it.
//!
//! Each [`Event`] has a JSON form, one object whose `event` names it: `run --json` prints one a line, and the last line of
//! a run that was not interrupted by a failure of the engine itself is [`Event::Finished`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::cache::StepCounts;

/// How far a stage has come; sent by [`crate::Context::progress`].
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// Units done so far.
    pub done: u64,
    /// Units in all, when known.
    pub total: Option<u64>,
    /// The unit's name, plural: `steps`, `sentences`, `files`.
    pub unit: &'static str,
    /// A few named figures to show beside the bar, such as `loss` and `samples/s`.
    pub figures: Vec<(&'static str, f64)>,
}

/// One thing that happened in a run. Every variant about an instance has its name in `instance`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The run begins.
    Started {
        /// The manifest's name.
        manifest: String,
        /// How many instances are looked at.
        instances: usize,
    },
    /// An instance begins to execute.
    InstanceStarted {
        /// The instance.
        instance: String,
        /// The kind of its stage.
        kind: String,
        /// Why it runs: the first cause, in one line.
        reason: String,
    },
    /// An instance tells how far it has come.
    Progress {
        /// The instance.
        instance: String,
        /// How far.
        #[serde(flatten)]
        position: Position,
    },
    /// The process of an instance died, and it is tried again.
    InstanceRetried {
        /// The instance.
        instance: String,
        /// Which attempt begins, counted from 1.
        attempt: u32,
        /// How many there may be.
        attempts: u32,
        /// Why the one before failed.
        message: String,
    },
    /// An instance executed and its record is written.
    InstanceFinished {
        /// The instance.
        instance: String,
        /// How long it took, in seconds.
        seconds: f64,
        /// Its cached steps.
        steps: StepCounts,
    },
    /// An instance was found in the cache.
    InstanceRestored {
        /// The instance.
        instance: String,
    },
    /// An instance has the same fingerprint as another, which stands for both.
    InstanceShared {
        /// The instance.
        instance: String,
        /// The one that stands for it.
        with: String,
    },
    /// An instance failed.
    InstanceFailed {
        /// The instance.
        instance: String,
        /// What went wrong, where.
        message: String,
        /// What the user can do.
        help: Option<String>,
        /// Its log, if it got so far.
        log: Option<PathBuf>,
    },
    /// An instance cannot run because one that it needs failed or was stopped.
    InstanceBlocked {
        /// The instance.
        instance: String,
        /// The one that failed.
        by: String,
    },
    /// Something was copied to its place in the project.
    Published {
        /// The instance.
        instance: String,
        /// Where to, relative to the project.
        target: PathBuf,
    },
    /// Something the user should know. Without an instance it concerns the run as a whole.
    Warning {
        /// The instance.
        instance: Option<String>,
        /// One line.
        message: String,
    },
    /// One line of an instance's log.
    Log {
        /// The instance.
        instance: String,
        /// The line.
        line: String,
    },
    /// The run is over.
    Finished {
        /// Instances that executed.
        executed: usize,
        /// Instances found in the cache.
        restored: usize,
        /// Instances that another with the same fingerprint stands for.
        shared: usize,
        /// Instances that failed.
        failed: usize,
        /// Kind → its cached steps.
        steps: BTreeMap<String, StepCounts>,
        /// How long the run took.
        seconds: f64,
    },
}

/// How fast an instance goes on: the time that passed since it first told where it is.
///
/// What it did before does not count: a training that goes on after step 500 did not do these in its first second.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Unit → when the first position in it was told, and how much was done by then.
    firsts: Vec<(String, Instant, u64)>,
}

impl Pace {
    /// The time that the rest takes at the pace so far; none before there is a pace.
    pub fn left(&mut self, position: &Position) -> Option<Duration> {
        self.left_at(Instant::now(), position)
    }

    fn left_at(&mut self, now: Instant, position: &Position) -> Option<Duration> {
        let known = self.firsts.iter().find(|(unit, ..)| *unit == position.unit);
        let Some((_, began, first)) = known.filter(|(_, _, first)| *first <= position.done) else {
            self.firsts.retain(|(unit, ..)| *unit != position.unit);
            self.firsts.push((position.unit.clone(), now, position.done));
            return None;
        };
        let total = position.total.filter(|total| *total >= position.done)?;
        let (elapsed, done) = (now.duration_since(*began), position.done - first);
        if done == 0 || elapsed < Duration::from_millis(500) {
            return None;
        }
        Some(elapsed.mul_f64((total - position.done) as f64 / done as f64))
    }
}

/// [`Progress`] on its way to an observer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// Units done so far.
    pub done: u64,
    /// Units in all, when known.
    pub total: Option<u64>,
    /// The unit's name, plural.
    pub unit: String,
    /// Named figures; null for one that is not a finite number.
    pub figures: IndexMap<String, Option<f64>>,
}

impl From<Progress> for Position {
    fn from(progress: Progress) -> Self {
        let finite = |figure: f64| figure.is_finite().then_some(figure);
        Self {
            done: progress.done,
            total: progress.total,
            unit: progress.unit.to_owned(),
            figures: progress
                .figures
                .into_iter()
                .map(|(name, figure)| (name.to_owned(), finite(figure)))
                .collect(),
        }
    }
}

/// What an executing instance tells the run; a heavy one as a JSON line on its standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "snake_case")]
pub enum Message {
    /// How far it has come.
    Progress(Position),
    /// One line for its log.
    Log {
        /// The line.
        line: String,
    },
    /// A warning.
    Warning {
        /// The line.
        line: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_documented_form() {
        let steps = [(
            "load".to_owned(),
            StepCounts {
                executed: 1,
                restored: 2,
            },
        )]
        .into();
        let event = Event::Finished {
            executed: 3,
            restored: 4,
            shared: 5,
            failed: 6,
            steps,
            seconds: 0.5,
        };
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"finished","executed":3,"restored":4,"shared":5,"failed":6,"steps":{"load":{"executed":1,"restored":2}},"seconds":0.5}"#
        );
    }

    #[test]
    fn the_time_left_follows_from_the_pace_since_the_first_word() {
        let position = |done, unit: &str| Position {
            done,
            total: Some(1200),
            unit: unit.to_owned(),
            ..Position::default()
        };
        let (mut pace, begin) = (Pace::default(), Instant::now());
        let mut left = |seconds, done, unit| {
            let left = pace.left_at(begin + Duration::from_secs(seconds), &position(done, unit));
            left.map(|left| left.as_secs())
        };
        assert_eq!(left(0, 1000, "steps"), None, "went on after step 1000");
        assert_eq!(left(10, 1100, "steps"), Some(10));
        assert_eq!(left(11, 50, "sentences"), None, "another unit");
        assert_eq!(left(13, 600, "sentences"), Some(2));
        assert_eq!(left(20, 1200, "steps"), Some(0));
        assert_eq!(left(30, 0, "steps"), None, "it begins again");
    }

    #[test]
    fn a_loss_that_is_no_number_still_crosses_the_pipe() {
        let progress = Progress {
            done: 1,
            total: None,
            unit: "steps",
            figures: vec![("loss", f64::NAN)],
        };
        let message = Message::Progress(progress.into());
        let line = serde_json::to_string(&message).unwrap();
        assert_eq!(
            line,
            r#"{"message":"progress","done":1,"total":null,"unit":"steps","figures":{"loss":null}}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&line).unwrap(), message);
    }
}
