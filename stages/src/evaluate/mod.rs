//! The kind `evaluate`: model + tokens → metrics and predictions, at any number of thresholds from one forward pass.
//!
//! The forward pass is a cached step of its own: it keeps the candidates above a floor, so another threshold, or another way of
//! counting, reads its file instead of running the model again.

mod result;
mod score;
mod scores;
mod scoring;

use std::fs::File;
use std::io::{BufWriter, Write};

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Resolved, Resources, SettingError, StageError, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use scores::{BothMetrics, ScoreWriter, SentenceScores, Tally, read_scores};

use crate::checkpoint::{self, THRESHOLD_KIND};
use crate::decode::Candidate;
use crate::metrics::resample::Bootstrap;
use crate::metrics::table::{self, Head};
use crate::recognizer::{RecognizerConfig, Threshold, accepts_kind};
use crate::thresholds::{Asked, Cut, THRESHOLDS, Thresholds};
use crate::tokens::{Format, Sentence, Split};
use result::{Frame, Groups};
pub use score::{LossCounts, ScoreSettings, score_split};
use scoring::Scorer;
pub(crate) use scoring::{Scoring, collator};

/// The part that holds what was counted in each sentence, for tests between systems.
pub const SENTENCE_COUNTS: &str = "sentence_counts.jsonl";

/// The settings of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSettings {
    /// Which splits of the tokens.
    pub splits: Vec<String>,
    /// What predictions must exceed; each gives metrics of its own. Null: what the model was calibrated to, or else what it
    /// was trained with.
    pub thresholds: Option<Vec<Asked>>,
    /// The lowest probability that will ever be asked for (BCE and focal models): what is below is not kept. Lower floors
    /// cost space and time; a threshold below the floor is an error.
    pub floor: f64,
    /// Sentences in a forward pass.
    pub per_device_eval_batch_size: usize,
    /// How sentences are drawn for confidence intervals.
    pub bootstrap: Bootstrap,
}

impl Default for EvaluateSettings {
    fn default() -> Self {
        let scoring = Scoring::default();
        Self {
            splits: vec!["test".to_owned()],
            thresholds: None,
            floor: scoring.floor,
            per_device_eval_batch_size: scoring.batch,
            bootstrap: Bootstrap::default(),
        }
    }
}

impl EvaluateSettings {
    fn scoring(&self) -> Scoring {
        Scoring {
            floor: self.floor,
            batch: self.per_device_eval_batch_size,
        }
    }
}

/// What to do with a model that is not calibrated.
const CALIBRATE: &str = "connect a stage of kind `calibrate`, which reads the model and a validation split";

/// Refuses a split that the tokens do not have; `path` is the setting.
pub(crate) fn check_split(inputs: &InputParts, split: &str, path: &str) -> Result<(), SettingError> {
    let offered = inputs.parts("tokens");
    if offered.iter().any(|part| part == split) {
        return Ok(());
    }
    let known: Vec<&str> = offered
        .iter()
        .map(String::as_str)
        .filter(|part| !part.ends_with(".json"))
        .collect();
    Err(SettingError::new(path, format!("the tokens have no split `{split}`"))
        .help(format!("they have {}", known.join(", "))))
}

/// The tokenizers among the parts of the tokens.
pub(crate) fn tokenizers(inputs: &InputParts) -> impl Iterator<Item = String> {
    let offered = inputs.parts("tokens").iter();
    offered.filter(|part| part.ends_with("tokenizer.json")).cloned()
}

/// The kind `evaluate`.
pub struct Evaluate;

impl Kind for Evaluate {
    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn version(&self) -> u32 {
        3
    }

    fn about(&self) -> &'static str {
        "scores a model on tokenized splits: precision, recall and F1, per type, micro and macro"
    }

    fn weight(&self) -> Weight {
        Weight::Heavy
    }

    fn resources(&self) -> Resources {
        Resources {
            devices: Some(1),
            ..Resources::default()
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 5] = [
            Field::counted("splits"),
            Field::counted("thresholds"),
            Field::counted("floor"),
            Field::counted("per_device_eval_batch_size"),
            Field::counted("bootstrap"),
        ];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<EvaluateSettings>())
    }

    fn ports(&self) -> &'static [Port] {
        &[
            Port {
                name: "model",
                takes: "model",
                required: true,
                collects: false,
            },
            Port {
                name: "tokens",
                takes: "tokens",
                required: true,
                collects: false,
            },
        ]
    }

    fn produces(&self) -> &'static str {
        "scores"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: EvaluateSettings = parse_settings(settings)?;
        if settings.splits.is_empty() {
            return Err(SettingError::new("splits", "no split to evaluate on").help("name one, such as `test`"));
        }
        for (index, split) in settings.splits.iter().enumerate() {
            let path = format!("splits[{index}]");
            check_split(inputs, split, &path)?;
            if settings.splits[..index].contains(split) {
                return Err(SettingError::new(path, format!("the split `{split}` is named twice")));
            }
        }
        settings.scoring().check()?;
        if let Some((field, problem)) = settings.bootstrap.problem() {
            return Err(SettingError::new(format!("bootstrap.{field}"), problem));
        }
        let thresholds = settings.thresholds.as_deref().unwrap_or_default();
        if settings.thresholds.is_some() && thresholds.is_empty() {
            return Err(SettingError::new("thresholds", "no threshold to evaluate at")
                .help("name one, or leave `thresholds` out for the one the model was trained with"));
        }
        let calibrated = inputs.parts("model").iter().any(|part| part == THRESHOLDS);
        let kind = inputs.told("model", THRESHOLD_KIND).and_then(Value::as_str);
        for (index, asked) in thresholds.iter().enumerate() {
            let wrong = |told: String| SettingError::new(format!("thresholds[{index}]"), told);
            match asked {
                Asked::Calibrated if !calibrated => {
                    return Err(wrong("the model is not calibrated".to_owned()).help(CALIBRATE));
                }
                Asked::Calibrated => {}
                Asked::At(threshold) => {
                    if let Some(kind) = kind {
                        accepts_kind(kind, *threshold).map_err(wrong)?;
                    }
                    if matches!(threshold, Threshold::Probability(probability) if *probability < settings.floor) {
                        return Err(wrong(format!(
                            "the threshold {threshold} is below the floor {}",
                            settings.floor
                        ))
                        .help("lower `floor`; spans below it are not kept"));
                    }
                }
            }
        }
        let mut tokens = settings.splits.clone();
        tokens.extend(tokenizers(inputs));
        let mut model = checkpoint::parts_to_read(inputs.parts("model"));
        model.extend(calibrated.then(|| THRESHOLDS.to_owned()));
        Ok(Resolved::new(&settings)?
            .reads("model", model)
            .reads("tokens", tokens)
            .makes(["metrics.json", "predictions.jsonl", SENTENCE_COUNTS]))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        evaluate(ctx)
    }
}

fn evaluate(ctx: &Context) -> Result<(), StageError> {
    let settings: EvaluateSettings = ctx.settings()?;
    let (model, tokens) = (ctx.input("model")?, ctx.input("tokens")?);
    let config = checkpoint::recognizer_config(model)?;
    let calibrated = Thresholds::of(model)?;
    let thresholds = settings.thresholds.clone().unwrap_or_else(|| {
        vec![match calibrated {
            Some(_) => Asked::Calibrated,
            None => Asked::At(config.prediction_threshold),
        }]
    });
    check_thresholds(&thresholds, &config, calibrated.as_ref(), settings.floor)?;
    let mut scorer: Option<Scorer> = None;
    let mut results = Vec::new();
    let mut predictions = Predictions::create(ctx)?;
    let mut counts = create(ctx, SENTENCE_COUNTS)?;
    for name in &settings.splits {
        let part = tokens
            .part(name)
            .ok_or_else(|| StageError::new(format!("the tokens have no split `{name}`")))?;
        let split = Split::open(part, config.annotation_format).map_err(|error| StageError::new(error.to_string()))?;
        let scored = settings.scoring().scores(ctx, &config, &split, part, &mut scorer)?;
        if let Value::Object(counts) = &scored.left_out {
            for (key, count) in counts {
                ctx.note(&format!("{name}_{key}"), count.clone());
            }
        }
        let labels = &split.labels().names;
        let cut = |asked: &Asked| match (asked, &calibrated) {
            (Asked::At(threshold), _) => Cut::from(*threshold),
            (Asked::Calibrated, Some(calibrated)) => calibrated.cut(labels),
            (Asked::Calibrated, None) => Cut::from(config.prediction_threshold),
        };
        let mut tallies: Vec<Tally> = thresholds
            .iter()
            .map(|asked| Tally::new(cut(asked), labels.len()))
            .collect();
        for (index, scores) in read_scores(&scored.path)?.enumerate() {
            let (scores, sentence) = (scores?, split.sentence(index));
            for (number, tally) in tallies.iter_mut().enumerate() {
                let spans = tally.add(&scores, sentence.language);
                if number == 0 {
                    predictions.write(name, labels, &sentence, &scores, &spans, &config)?;
                }
            }
        }
        let frame = Frame {
            split: name,
            labels,
            groups: Groups::of(&split),
            bootstrap: settings.bootstrap,
            left_out: &scored.left_out,
            calibrated: calibrated.as_ref(),
        };
        for (&asked, tally) in thresholds.iter().zip(&tallies) {
            results.push(frame.entry(asked, tally)?);
            let head = Head {
                split: name.clone(),
                threshold: json!(asked),
                labels: labels.clone(),
                sentences: tally.table().len(),
            };
            table::write(&mut counts, &head, tally.table())
                .map_err(|error| StageError::new(format!("failed to write sentence counts: {error}")))?;
        }
    }
    counts
        .flush()
        .map_err(|error| StageError::new(format!("failed to write sentence counts: {error}")))?;
    predictions.finish()?;
    let mut bytes = serde_json::to_vec_pretty(&json!({"results": results}))
        .map_err(|error| StageError::new(format!("failed to write metrics: {error}")))?;
    bytes.push(b'\n');
    checkpoint::write(&ctx.out("metrics.json")?, &bytes)
}

/// Refuses thresholds that the model at hand cannot be evaluated at.
fn check_thresholds(
    thresholds: &[Asked],
    config: &RecognizerConfig,
    calibrated: Option<&Thresholds>,
    floor: f64,
) -> Result<(), StageError> {
    for asked in thresholds {
        match (asked, calibrated) {
            (Asked::At(threshold), _) => config
                .accepts(*threshold)
                .map_err(|error| StageError::new(error.problem))?,
            (Asked::Calibrated, None) => return Err(StageError::new("the model is not calibrated").help(CALIBRATE)),
            (Asked::Calibrated, Some(calibrated)) if calibrated.lowest() < floor => {
                let lowest = calibrated.lowest();
                return Err(StageError::new(format!(
                    "the model is calibrated to thresholds down to {lowest}, which is below the floor {floor}"
                ))
                .help("set `floor` to that of the calibration; spans below it are not kept"));
            }
            (Asked::Calibrated, Some(_)) => {}
        }
    }
    Ok(())
}

/// Begins a file of the artifact.
fn create(ctx: &Context, name: &str) -> Result<BufWriter<File>, StageError> {
    let path = ctx.out(name)?;
    let file = File::create(&path)
        .map_err(|error| StageError::new(format!("failed to create `{}`: {error}", path.display())))?;
    Ok(BufWriter::new(file))
}

/// Writes `predictions.jsonl`: what is predicted at the first threshold, in words or code points, ends exclusive.
struct Predictions {
    out: BufWriter<File>,
}

impl Predictions {
    fn create(ctx: &Context) -> Result<Self, StageError> {
        let out = create(ctx, "predictions.jsonl")?;
        Ok(Self { out })
    }

    fn write(
        &mut self,
        split: &str,
        labels: &[String],
        sentence: &Sentence<'_>,
        scores: &SentenceScores,
        spans: &[Candidate],
        config: &RecognizerConfig,
    ) -> Result<(), StageError> {
        let mut found: Vec<(u32, u32, &str, f64)> = spans
            .iter()
            .map(|span| {
                let (start, end) = place(sentence, span, config);
                (
                    start,
                    end,
                    labels[span.label as usize].as_str(),
                    scores.confidence(span),
                )
            })
            .collect();
        found.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
        let spans: Vec<Value> = found
            .iter()
            .map(|(start, end, label, score)| json!({"start": start, "end": end, "label": label, "score": score}))
            .collect();
        let line = json!({"split": split, "id": sentence.id, "spans": spans});
        writeln!(self.out, "{line}").map_err(|error| StageError::new(format!("failed to write predictions: {error}")))
    }

    fn finish(mut self) -> Result<(), StageError> {
        self.out
            .flush()
            .map_err(|error| StageError::new(format!("failed to write predictions: {error}")))
    }
}

/// Where a span lies in the corpus: words or code points, end exclusive.
fn place(sentence: &Sentence<'_>, span: &Candidate, config: &RecognizerConfig) -> (u32, u32) {
    let shift = config.text_position();
    let (first, last) = ((span.start - shift) as usize, (span.end - shift) as usize);
    match config.annotation_format {
        Format::Tokens => (sentence.words[first], sentence.words[last] + 1),
        Format::Text => (sentence.starts[first], sentence.ends[last]),
    }
}
