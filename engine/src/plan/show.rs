//! All that is known of one instance.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Planned;
use super::survey::Survey;
use crate::artifact::ArtifactFile;
use crate::cache::{Cache, Record};
use crate::fingerprint::Document;
use crate::graph::Graph;
use crate::judge::Verdict;
use crate::kind::{Registry, StageError};
use crate::publish::Publisher;

/// What is known of one instance, for `show`.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// What a run would do with it.
    pub planned: Planned,
    /// What its fingerprint is made of, as soon as that is known.
    pub document: Option<Document>,
    /// Its record; of a stale instance, the last record it is compared with.
    pub record: Option<Record>,
    /// The record's files and where their bytes are.
    pub files: Vec<ShownFile>,
    /// Its log, if there is one.
    pub log: Option<PathBuf>,
}

/// One file of an artifact, for `show`.
#[derive(Clone, Debug, Serialize)]
pub struct ShownFile {
    /// Name, digest and size.
    #[serde(flatten)]
    pub file: ArtifactFile,
    /// Where the bytes are.
    pub path: PathBuf,
    /// Whether they are there.
    pub present: bool,
}

/// What is known of the instances `numbers`.
///
/// # Errors
/// If a file of the cache cannot be read.
pub fn show(
    graph: &Graph,
    registry: &Registry,
    cache: &Cache,
    project: &Path,
    numbers: &[usize],
) -> Result<Vec<Shown>, StageError> {
    let mut survey = Survey::new(graph, registry, cache, project, Some(numbers), numbers);
    let publisher = Publisher::open(cache, project, false)?;
    let causes = survey.causes();
    let shown = numbers.iter().map(|&number| {
        let planned = survey.planned(number, causes[number].clone(), &publisher)?;
        survey.show(graph, cache, number, planned)
    });
    shown.collect()
}

impl Survey<'_> {
    fn show(&mut self, graph: &Graph, cache: &Cache, number: usize, planned: Planned) -> Result<Shown, StageError> {
        let judged = self.judged[number].clone();
        let record = match judged.as_ref().map(|judged| &judged.verdict) {
            Some(Verdict::Fresh(record)) => Some(record.as_ref().clone()),
            Some(Verdict::SharedWith(first)) => self.record(*first).map(|record| record.as_ref().clone()),
            _ => self.judge.last_record(&graph.instances[number])?,
        };
        let files = record.iter().flat_map(|record| &record.artifact.files);
        let files = files.map(|file| ShownFile {
            file: file.clone(),
            path: cache.objects().path(&file.digest),
            present: cache.objects().exists(&file.digest, file.size),
        });
        let files = files.collect();
        let key = judged.and_then(|judged| judged.key);
        let fingerprint = key
            .as_ref()
            .map(|key| key.fingerprint)
            .or(record.as_ref().map(|record| record.fingerprint));
        let log = fingerprint
            .map(|fingerprint| cache.log_path(&fingerprint))
            .filter(|path| path.exists());
        Ok(Shown {
            planned,
            document: key.map(|key| key.document.as_ref().clone()),
            record,
            files,
            log,
        })
    }
}
