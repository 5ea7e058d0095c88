//! What a run did, told at its end.

use std::path::PathBuf;

use super::schedule::Scheduler;
use super::slot::State;
use super::{InstanceSummary, Outcome, Summary};
use crate::event::Event;

impl Scheduler<'_> {
    pub(super) fn warn(&mut self, number: usize, message: String) {
        (self.observer)(Event::Warning {
            instance: Some(self.names[number].clone()),
            message: message.clone(),
        });
        self.slots[number].warnings.push(message);
    }

    pub(super) fn warn_run(&mut self, message: String) {
        (self.observer)(Event::Warning {
            instance: None,
            message: message.clone(),
        });
        self.warnings.push(message);
    }

    pub(super) fn log(&self, number: usize) -> Option<PathBuf> {
        let key = self.slots[number].key.as_ref()?;
        Some(self.cache.log_path(&key.fingerprint)).filter(|path| path.exists())
    }

    pub(super) fn summary(self) -> Summary {
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
                record: own.cloned(),
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
