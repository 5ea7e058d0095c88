//! An entry of `metrics.json`: what was counted at one threshold, in all and by group.

use std::collections::BTreeMap;
use std::ops::Range;

use nerpipe_engine::StageError;
use serde_json::{Map, Value, json};

use super::scores::Tally;
use crate::batch::LostReason;
use crate::metrics::figure::{Figure, Over};
use crate::metrics::resample::{Bootstrap, intervals};
use crate::metrics::{Counter, Counting};
use crate::thresholds::{Asked, Thresholds};
use crate::tokens::Split;

/// The groups of a split's sentences that get figures of their own.
pub(super) struct Groups<'a> {
    /// By corpus file; none if there is only one.
    files: Members<'a>,
    /// By what the records say. A record that says nothing is in no group.
    languages: Members<'a>,
    /// By what the records say, and the languages of each.
    datasets: BTreeMap<&'a str, Dataset<'a>>,
}

/// Group → its sentences, in order.
type Members<'a> = BTreeMap<&'a str, Vec<usize>>;

/// The sentences of one dataset.
#[derive(Default)]
struct Dataset<'a> {
    sentences: Vec<usize>,
    languages: Members<'a>,
}

impl<'a> Groups<'a> {
    pub(super) fn of(split: &'a Split) -> Self {
        let mut groups = Self {
            files: BTreeMap::new(),
            languages: BTreeMap::new(),
            datasets: BTreeMap::new(),
        };
        if split.files().len() > 1 {
            let members = |(stem, range): &'a (String, Range<usize>)| (stem.as_str(), range.clone().collect());
            groups.files = split.files().iter().map(members).collect();
        }
        for (index, sentence) in split.sentences().enumerate() {
            if let Some(language) = sentence.language {
                groups.languages.entry(language).or_default().push(index);
            }
            if let Some(dataset) = sentence.dataset {
                let dataset = groups.datasets.entry(dataset).or_default();
                dataset.sentences.push(index);
                if let Some(language) = sentence.language {
                    dataset.languages.entry(language).or_default().push(index);
                }
            }
        }
        groups
    }
}

/// What every entry of a split has in common.
pub(super) struct Frame<'a> {
    /// The split's name.
    pub(super) split: &'a str,
    /// The names of its types.
    pub(super) labels: &'a [String],
    /// Its groups.
    pub(super) groups: Groups<'a>,
    /// How sentences are drawn for intervals.
    pub(super) bootstrap: Bootstrap,
    /// What the forward pass left out.
    pub(super) left_out: &'a Value,
    /// The model's own thresholds, if it was calibrated.
    pub(super) calibrated: Option<&'a Thresholds>,
}

impl Frame<'_> {
    /// The entry for one threshold.
    pub(super) fn entry(&self, asked: Asked, tally: &Tally) -> Result<Value, StageError> {
        let failed = |error: serde_json::Error| StageError::new(format!("failed to write metrics: {error}"));
        let metrics = serde_json::to_value(tally.metrics(self.labels)).map_err(failed)?;
        let everyone: Vec<usize> = (0..tally.table().len()).collect();
        let mut entry = Map::new();
        entry.insert("split".to_owned(), json!(self.split));
        entry.insert("threshold".to_owned(), json!(asked));
        if let (Asked::Calibrated, Some(thresholds)) = (asked, self.calibrated) {
            entry.insert("calibrated".to_owned(), json!(thresholds));
        }
        entry.insert("sentences".to_owned(), json!(everyone.len()));
        if let Value::Object(figures) = metrics {
            entry.extend(figures);
        }
        entry.insert("golds".to_owned(), golds(tally.all(), tally, &everyone));
        entry.insert("left_out".to_owned(), self.left_out.clone());
        if self.bootstrap.n_resamples > 0 {
            entry.insert("bootstrap".to_owned(), json!(self.bootstrap));
            entry.insert(
                "intervals".to_owned(),
                self.intervals(tally, &everyone, &Figure::overall()),
            );
        }
        let by_name = |groups: &Members<'_>| -> Value {
            groups
                .iter()
                .map(|(name, sentences)| ((*name).to_owned(), self.group(tally, sentences)))
                .collect()
        };
        if !self.groups.files.is_empty() {
            entry.insert("files".to_owned(), by_name(&self.groups.files));
        }
        if !self.groups.languages.is_empty() {
            entry.insert("languages".to_owned(), by_name(&self.groups.languages));
        }
        if !self.groups.datasets.is_empty() {
            let dataset = |(name, dataset): (&&str, &Dataset<'_>)| {
                let mut value = self.group(tally, &dataset.sentences);
                if !dataset.languages.is_empty() {
                    value["languages"] = by_name(&dataset.languages);
                }
                ((*name).to_owned(), value)
            };
            entry.insert(
                "datasets".to_owned(),
                self.groups.datasets.iter().map(dataset).collect(),
            );
        }
        Ok(Value::Object(entry))
    }

    /// The figures of some sentences.
    fn group(&self, tally: &Tally, sentences: &[usize]) -> Value {
        let counter = tally.table().sum(self.labels.len(), sentences.iter().copied());
        let figures = counter.metrics(Counting::Reference, self.labels);
        let mut value = json!({
            "sentences": sentences.len(),
            "micro": figures.micro,
            "macro": figures.macro_,
            "schemes": figures.schemes,
            "full_gold": {
                "micro": crate::metrics::Figures::from(counter.micro(Counting::FullGold)),
                "macro": counter.macro_(Counting::FullGold),
            },
            "golds": golds(&counter, tally, sentences),
        });
        if self.bootstrap.n_resamples > 0 {
            let mut figures = Figure::overall();
            figures.retain(|figure| matches!(figure.over, Over::Micro | Over::Macro));
            value["intervals"] = self.intervals(tally, sentences, &figures);
        }
        value
    }

    /// The figures' confidence intervals, each at the place that the figure has in the entry.
    fn intervals(&self, tally: &Tally, sentences: &[usize], figures: &[Figure]) -> Value {
        let drawn = intervals(tally.table(), sentences, self.labels, figures, &self.bootstrap);
        let mut all = json!({});
        for (figure, interval) in figures.iter().zip(drawn) {
            let key = figure.to_string();
            *key.split('.').fold(&mut all, |value, step| &mut value[step]) = json!(interval);
        }
        all
    }
}

/// How many golds some sentences have, and how many of them cannot be found, by reason.
fn golds(counter: &Counter, tally: &Tally, sentences: &[usize]) -> Value {
    let mut reasons: BTreeMap<&str, u64> = LostReason::ALL.iter().map(|reason| (reason.name(), 0)).collect();
    for (_, reason) in tally
        .lost()
        .iter()
        .filter(|(sentence, _)| sentences.binary_search(sentence).is_ok())
    {
        *reasons.entry(reason.name()).or_default() += 1;
    }
    let mut value = json!({"all": counter.golds(), "lost": counter.lost()});
    for (reason, count) in reasons {
        value[reason] = json!(count);
    }
    value
}
