//! The one judge that plan and run both ask: is an instance fresh, stale, waiting, or the same as another?
//!
//! The judge is asked upstream first. It builds the instance's [`Document`] from settings, input files and the digests of
//! what the instances upstream made, and looks its fingerprint up. It runs nothing and writes nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::artifact::{Artifact, EVERY_PART};
use crate::cache::{Cache, Pasts, Record};
use crate::context::InputFile;
use crate::digest::Digest;
use crate::environment;
use crate::fingerprint::{CollectedDigests, Difference, Document, Fingerprint, InputDigests};
use crate::graph::{Graph, Instance, Wire};
use crate::inputs::{InputFiles, Names};
use crate::kind::{FieldClass, Registry, StageError};

/// What the judge says of one instance.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// There is a record with its fingerprint.
    Fresh(Arc<Record>),
    /// It must run.
    Stale(Vec<Reason>),
    /// What these instances upstream will make is not known yet.
    Waits(Vec<usize>),
    /// This instance has the same fingerprint and came first.
    SharedWith(usize),
    /// It cannot even be looked up, such as when an input file is missing.
    Impossible(StageError),
}

/// Why an instance must run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Reason {
    /// No instance of this stage has a record.
    NeverRan,
    /// A field that counts differs from the last record of the same stage whose axis values agree most.
    Changed(Difference),
    /// It ran with this very fingerprint, and its record is gone from the cache.
    RecordGone,
    /// Its record is there, its bytes are not, and someone needs them.
    BytesGone {
        /// Who needs them: an instance that must run, or a target to publish to.
        needed_by: String,
    },
    /// The user asked for it.
    Forced,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NeverRan => f.write_str("never ran"),
            Self::Changed(difference) => difference.fmt(f),
            Self::RecordGone => f.write_str("its record is gone from the cache"),
            Self::BytesGone { needed_by } => write!(f, "its bytes are gone from the cache and {needed_by} needs them"),
            Self::Forced => f.write_str("forced"),
        }
    }
}

/// What an instance made, as far as judging those downstream needs it.
#[derive(Debug)]
pub(crate) struct Made {
    record: Arc<Record>,
    /// Part → digest, once somebody asks: nobody reads from the last instances of a graph.
    parts: OnceLock<BTreeMap<String, Digest>>,
}

impl Made {
    pub(crate) fn of(record: Arc<Record>) -> Self {
        Self {
            record,
            parts: OnceLock::new(),
        }
    }

    pub(crate) fn artifact(&self) -> &Artifact {
        &self.record.artifact
    }

    fn parts(&self) -> &BTreeMap<String, Digest> {
        self.parts.get_or_init(|| {
            let parts = self.artifact().parts().into_iter();
            parts.map(|(part, digest)| (part.to_owned(), digest)).collect()
        })
    }

    /// The digests of the parts in `parts`; those that do not exist are named in the error.
    fn digests(&self, parts: &[String]) -> Result<BTreeMap<String, Digest>, String> {
        if parts.iter().any(|part| part == EVERY_PART) {
            return Ok(self.parts().clone());
        }
        parts
            .iter()
            .map(|part| Ok((part.clone(), *self.parts().get(part).ok_or_else(|| part.clone())?)))
            .collect()
    }
}

/// A verdict and what it was based on.
#[derive(Clone, Debug)]
pub(crate) struct Judged {
    pub(crate) verdict: Verdict,
    /// The fingerprint and what was hashed; none while waiting.
    pub(crate) key: Option<Arc<Key>>,
}

/// A fingerprint, what was hashed, and the files behind it.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) document: Arc<Document>,
    pub(crate) files: BTreeMap<String, Arc<Vec<InputFile>>>,
}

/// See the module's text.
pub(crate) struct Judge<'a> {
    graph: &'a Graph,
    registry: &'a Registry,
    cache: &'a Cache,
    inputs: InputFiles<'a>,
    pasts: Pasts,
    /// Fingerprint → the first instance that has it.
    first: HashMap<Fingerprint, usize>,
    /// Instance → the fingerprint it was judged with last.
    judged: HashMap<usize, Fingerprint>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(graph: &'a Graph, registry: &'a Registry, cache: &'a Cache, project: &'a Path) -> Self {
        Self {
            graph,
            registry,
            cache,
            inputs: InputFiles::new(project, cache),
            pasts: Pasts::default(),
            first: HashMap::new(),
            judged: HashMap::new(),
        }
    }

    /// Judges instance `number`; `made` says what those upstream made, as far as it is known.
    pub(crate) fn judge(&mut self, number: usize, made: impl Fn(usize) -> Option<Arc<Made>>) -> Judged {
        let graph = self.graph;
        let instance = &graph.instances[number];
        let waits: BTreeSet<usize> = instance.upstream().filter(|from| made(*from).is_none()).collect();
        if !waits.is_empty() {
            let waits = waits.into_iter().collect();
            return Judged {
                verdict: Verdict::Waits(waits),
                key: None,
            };
        }
        let key = match self.key(instance, made) {
            Ok(key) => Arc::new(key),
            Err(error) => {
                return Judged {
                    verdict: Verdict::Impossible(error),
                    key: None,
                };
            }
        };
        let verdict = self.look_up(number, instance, &key).unwrap_or_else(Verdict::Impossible);
        Judged {
            verdict,
            key: Some(key),
        }
    }

    fn look_up(&mut self, number: usize, instance: &Instance, key: &Key) -> Result<Verdict, StageError> {
        if let Some(before) = self.judged.insert(number, key.fingerprint)
            && before != key.fingerprint
            && self.first.get(&before) == Some(&number)
        {
            self.first.remove(&before);
        }
        let first = *self.first.entry(key.fingerprint).or_insert(number);
        if first != number {
            return Ok(Verdict::SharedWith(first));
        }
        if let Some(record) = self.cache.record_of(&key.fingerprint, &key.document)? {
            return Ok(Verdict::Fresh(Arc::new(record)));
        }
        Ok(Verdict::Stale(self.reasons(instance, key)?))
    }

    /// The differences to the last record of the same manifest and stage whose axis values agree most.
    fn reasons(&mut self, instance: &Instance, key: &Key) -> Result<Vec<Reason>, StageError> {
        let past = self.pasts.of(self.cache, &self.graph.name, &instance.stage)?;
        let Some(last) = past.closest(&instance.axes) else {
            return Ok(vec![Reason::NeverRan]);
        };
        if last == key.fingerprint {
            return Ok(vec![Reason::RecordGone]);
        }
        let Some(record) = self.cache.record(&last)? else {
            return Ok(vec![Reason::NeverRan]);
        };
        Ok(record
            .document
            .difference(&key.document)
            .into_iter()
            .map(Reason::Changed)
            .collect())
    }

    /// Whether `fingerprint` is the one that the history has for this instance.
    pub(crate) fn is_last(&mut self, instance: &Instance, fingerprint: &Fingerprint) -> Result<bool, StageError> {
        let past = self.pasts.of(self.cache, &self.graph.name, &instance.stage)?;
        Ok(past.is_last(&instance.axes, fingerprint))
    }

    /// The record that a stale instance is compared with.
    pub(crate) fn last_record(&mut self, instance: &Instance) -> Result<Option<Record>, StageError> {
        let past = self.pasts.of(self.cache, &self.graph.name, &instance.stage)?;
        match past.closest(&instance.axes) {
            Some(fingerprint) => Ok(self.cache.record(&fingerprint)?),
            None => Ok(None),
        }
    }

    /// What goes into an instance; `made` says what those upstream made.
    pub(crate) fn key(
        &mut self,
        instance: &Instance,
        made: impl Fn(usize) -> Option<Arc<Made>>,
    ) -> Result<Key, StageError> {
        let kind = self
            .registry
            .get(&instance.kind)
            .ok_or_else(|| StageError::new(format!("there is no kind `{}` in this program", instance.kind)))?;
        let counts = |name: &str| {
            let field = kind.fields().iter().find(|field| field.name == name);
            // What a kind fills in beyond its fields counts: better one run too many than a wrong hit.
            field.is_none_or(|field| field.class == FieldClass::Counted)
        };
        let settings = instance.resolved.settings.iter();
        let settings = settings.filter(|(name, value)| counts(name) && !value.is_null());
        let settings = settings.map(|(name, value)| (name.clone(), value.clone())).collect();

        let mut files = BTreeMap::new();
        let mut file_digests = BTreeMap::new();
        let class = |name: &str| {
            kind.fields()
                .iter()
                .find(|field| field.name == name)
                .map(|field| field.class)
        };
        for (field, patterns) in &instance.files {
            let setting = field.split('.').next().unwrap_or_default();
            let found = self.inputs.find(field, patterns, Names::of(class(setting)))?;
            file_digests.insert(field.clone(), found.digests);
            files.insert(field.clone(), found.files);
        }

        let mut inputs = BTreeMap::new();
        for (port, wire) in &instance.wires {
            inputs.insert(port.clone(), self.input_digests(port, wire, &made)?);
        }
        let environment = kind
            .fields()
            .iter()
            .filter(|field| field.class == FieldClass::Environment);
        let environment = environment.flat_map(|field| instance.resolved.settings.get(field.name));
        let document = Document {
            kind: instance.kind.clone(),
            version: kind.version(),
            settings,
            inputs,
            files: file_digests,
            environment: environment::hashes(environment, self.cache)?,
        };
        let fingerprint = document
            .fingerprint()
            .map_err(|error| StageError::new(error.to_string()))?;
        Ok(Key {
            fingerprint,
            document: Arc::new(document),
            files,
        })
    }

    fn input_digests(
        &self,
        port: &str,
        wire: &Wire,
        made: &impl Fn(usize) -> Option<Arc<Made>>,
    ) -> Result<InputDigests, StageError> {
        let digests = |from: usize, parts: &[String]| {
            let missing = |part: &str| {
                let name = self.graph.instances[from].name();
                StageError::new(format!("input `{port}`: `{name}` made no part `{part}`"))
            };
            let made = made(from).ok_or_else(|| missing("at all"))?;
            made.digests(parts).map_err(|part| missing(&part))
        };
        match wire {
            Wire::One { from, parts } => Ok(InputDigests::One(digests(*from, parts)?)),
            Wire::Collect { from, parts } => {
                let mut order = Vec::with_capacity(from.len());
                let mut artifacts = BTreeMap::new();
                for &from in from {
                    let instance = &self.graph.instances[from];
                    let name = instance.name();
                    artifacts.insert(
                        name.clone(),
                        CollectedDigests::new(&instance.axes, digests(from, parts)?),
                    );
                    order.push(name);
                }
                Ok(InputDigests::Collected { order, artifacts })
            }
        }
    }
}
