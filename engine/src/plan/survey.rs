//! All instances judged, which is what plans, explanations and what is shown are made of.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::{Cause, Planned, Status};
use crate::artifact::{ArtifactFile, is_among};
use crate::cache::{Cache, Record};
use crate::fingerprint::Fingerprint;
use crate::graph::Graph;
use crate::judge::{Judge, Judged, Made, Reason, Verdict};
use crate::kind::{Registry, StageError};
use crate::publish::{Publisher, TargetState};

/// All instances judged with what the cache knows now.
pub(super) struct Survey<'a> {
    graph: &'a Graph,
    cache: &'a Cache,
    pub(super) judge: Judge<'a>,
    pub(super) names: Vec<String>,
    /// By number; none for those that are not looked at. What was hashed is kept of those alone that are asked about.
    pub(super) judged: Vec<Option<Judged>>,
    pub(super) fingerprints: Vec<Option<Fingerprint>>,
    /// What each fresh instance made, or what the one made that stands for it.
    pub(super) made: Vec<Option<Arc<Made>>>,
}

impl<'a> Survey<'a> {
    /// Judges the instances that are selected and those they need; `asked` are those about which everything is to be told.
    pub(super) fn new(
        graph: &'a Graph,
        registry: &'a Registry,
        cache: &'a Cache,
        project: &'a Path,
        selected: Option<&[usize]>,
        asked: &[usize],
    ) -> Self {
        let asked: HashSet<usize> = asked.iter().copied().collect();
        let mut judge = Judge::new(graph, registry, cache, project);
        let mut made: Vec<Option<Arc<Made>>> = vec![None; graph.instances.len()];
        let mut all = Vec::with_capacity(graph.instances.len());
        let mut fingerprints = vec![None; graph.instances.len()];
        for (number, needed) in graph.needed(selected).into_iter().enumerate() {
            if !needed {
                all.push(None);
                continue;
            }
            let mut judged = judge.judge(number, |from| made[from].clone());
            fingerprints[number] = judged.key.as_ref().map(|key| key.fingerprint);
            if !asked.contains(&number) {
                judged.key = None;
            }
            made[number] = match &judged.verdict {
                Verdict::Fresh(record) => Some(Arc::new(Made::of(Arc::clone(record)))),
                Verdict::SharedWith(first) => made[*first].clone(),
                _ => None,
            };
            all.push(Some(judged));
        }
        let names = graph.instances.iter().map(|instance| instance.name()).collect();
        Self {
            graph,
            cache,
            judge,
            names,
            judged: all,
            fingerprints,
            made,
        }
    }

    /// The record of a fresh instance, or of the one that stands for it.
    pub(super) fn record(&self, number: usize) -> Option<&Arc<Record>> {
        match &self.judged[number].as_ref()?.verdict {
            Verdict::Fresh(record) => Some(record),
            Verdict::SharedWith(first) => self.record(*first),
            _ => None,
        }
    }

    /// Finds fresh instances whose bytes are gone and needed: by one that must run, or by a target to be repaired.
    /// Readers come after what they read, so one pass from the end reaches every producer.
    pub(super) fn remake_missing_bytes(&mut self, publisher: &Publisher<'_>) -> Result<(), StageError> {
        for number in (0..self.graph.instances.len()).rev() {
            let instance = &self.graph.instances[number];
            if let Some(record) = self.record(number).cloned() {
                for publish in &instance.publish {
                    let state = publisher.state(publish, Some(&record.artifact))?;
                    if matches!(state, TargetState::Missing | TargetState::Outdated)
                        && !self.cache.is_complete(&record.artifact)
                    {
                        self.remake(number, &format!("`{}`", publish.target.display()));
                    }
                }
            }
            let runs = |judged: &Judged| matches!(judged.verdict, Verdict::Stale(_));
            if !self.judged[number].as_ref().is_some_and(runs) {
                continue;
            }
            for wire in instance.wires.values() {
                for &from in wire.sources() {
                    let Some(record) = self.record(from) else { continue };
                    let is_read = |file: &&ArtifactFile| is_among(file.part(), wire.parts());
                    let mut read = record.artifact.files.iter().filter(is_read);
                    if !read.all(|file| self.cache.objects().exists(&file.digest, file.size)) {
                        self.remake(from, &format!("`{}`", self.names[number]));
                    }
                }
            }
        }
        Ok(())
    }

    fn remake(&mut self, number: usize, needed_by: &str) {
        if let Some(judged) = &mut self.judged[number] {
            match judged.verdict {
                Verdict::SharedWith(first) => self.remake(first, needed_by),
                Verdict::Fresh(_) => {
                    judged.verdict = Verdict::Stale(vec![Reason::BytesGone {
                        needed_by: needed_by.to_owned(),
                    }]);
                }
                _ => {}
            }
        }
    }

    /// For each instance the stale one at the root of what would happen to it, and that one's first reason.
    pub(super) fn causes(&self) -> Vec<Option<Cause>> {
        let mut causes: Vec<Option<Cause>> = vec![None; self.judged.len()];
        for number in 0..self.judged.len() {
            let Some(judged) = &self.judged[number] else { continue };
            causes[number] = match &judged.verdict {
                Verdict::Stale(reasons) => {
                    let instance = self.names[number].clone();
                    reasons.first().map(|reason| Cause {
                        instance,
                        reason: reason.clone(),
                    })
                }
                Verdict::Waits(on) => on.iter().find_map(|from| causes[*from].clone()),
                Verdict::SharedWith(first) => causes[*first].clone(),
                Verdict::Fresh(_) | Verdict::Impossible(_) => None,
            };
        }
        causes
    }

    pub(super) fn planned(
        &mut self,
        number: usize,
        cause: Option<Cause>,
        publisher: &Publisher<'_>,
    ) -> Result<Planned, StageError> {
        let instance = &self.graph.instances[number];
        let name = |number: &usize| self.names[*number].clone();
        let status = match self.judged[number].as_ref().map(|judged| &judged.verdict) {
            Some(Verdict::Fresh(_)) => Status::Fresh,
            Some(Verdict::Stale(reasons)) => Status::Stale {
                reasons: reasons.clone(),
            },
            Some(Verdict::Waits(on)) => Status::Waits {
                on: on.iter().map(name).collect(),
            },
            Some(Verdict::SharedWith(first)) => Status::Shared { with: name(first) },
            Some(Verdict::Impossible(error)) => Status::Impossible {
                message: error.message.clone(),
                help: error.help.clone(),
            },
            None => Status::Waits { on: Vec::new() },
        };
        let mut repairs = Vec::new();
        let seconds = if let Some(record) = self.record(number).cloned() {
            for publish in &instance.publish {
                let state = publisher.state(publish, Some(&record.artifact))?;
                if matches!(state, TargetState::Missing | TargetState::Outdated) {
                    repairs.push(publish.target.clone());
                }
            }
            Some(record.seconds)
        } else {
            self.judge.last_record(instance)?.map(|record| record.seconds)
        };
        Ok(Planned {
            number,
            instance: self.names[number].clone(),
            stage: instance.stage.clone(),
            kind: instance.kind.clone(),
            axes: instance.axes.clone(),
            status,
            fingerprint: self.fingerprints[number],
            cause,
            seconds,
            repairs,
        })
    }
}
