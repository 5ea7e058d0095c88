//! The kind `evaluate`: model + tokens → metrics and predictions, at any number of thresholds from one forward pass.
//!
//! The forward pass is a cached step of its own: it keeps the candidates above a floor, so another threshold, or another way of
//! counting, reads its file instead of running the model again.

mod result;
mod score;
mod scores;

use std::fs::File;
use std::io::{BufWriter, Write};

use nerpipe_engine::kind::parse_settings;
use nerpipe_engine::{
    Context, Digest, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Step, Weight,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use scores::{BothMetrics, ScoreWriter, SentenceScores, Tally, read_scores};

use crate::batch::{Collator, LABEL_MARKER, Markers, THRESHOLD_MARKER, TypeReader};
use crate::checkpoint::{self, Checkpoint, open_tokenizer};
use crate::decode::Candidate;
use crate::device::open_device;
use crate::metrics::resample::Bootstrap;
use crate::metrics::table::{self, Head};
use crate::model::Recognizer;
use crate::recognizer::{RecognizerConfig, Threshold};
use crate::tokens::{Format, Sentence, Split};
use result::{Frame, Groups};
pub use score::{LossCounts, ScoreSettings, score_split};

/// The part that holds what was counted in each sentence, for tests between systems.
pub const SENTENCE_COUNTS: &str = "sentence_counts.jsonl";

/// The settings of `evaluate`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateSettings {
    /// Which splits of the tokens.
    pub splits: Vec<String>,
    /// What predictions must exceed; each gives metrics of its own. Null: what the model was trained with.
    pub thresholds: Option<Vec<Threshold>>,
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
        Self {
            splits: vec!["test".to_owned()],
            thresholds: None,
            floor: 0.05,
            per_device_eval_batch_size: 12,
            bootstrap: Bootstrap::default(),
        }
    }
}

/// The kind `evaluate`.
pub struct Evaluate;

impl Kind for Evaluate {
    fn name(&self) -> &'static str {
        "evaluate"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "scores a model on tokenized splits: precision, recall and F1, per type, micro and macro"
    }

    fn weight(&self) -> Weight {
        Weight::Heavy
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
        let offered = inputs.parts("tokens");
        for (index, split) in settings.splits.iter().enumerate() {
            if !offered.contains(split) {
                let known: Vec<&str> = offered
                    .iter()
                    .map(String::as_str)
                    .filter(|part| *part != "tokenizer.json")
                    .collect();
                return Err(SettingError::new(
                    format!("splits[{index}]"),
                    format!("the tokens have no split `{split}`"),
                )
                .help(format!("they have {}", known.join(", "))));
            }
            if settings.splits[..index].contains(split) {
                return Err(SettingError::new(
                    format!("splits[{index}]"),
                    format!("the split `{split}` is named twice"),
                ));
            }
        }
        if settings.per_device_eval_batch_size == 0 {
            return Err(SettingError::new(
                "per_device_eval_batch_size",
                "a batch has at least 1 sentence",
            ));
        }
        if !(settings.floor > 0.0 && settings.floor < 1.0) {
            return Err(SettingError::new("floor", "the floor is a probability between 0 and 1"));
        }
        if let Some((field, problem)) = settings.bootstrap.problem() {
            return Err(SettingError::new(format!("bootstrap.{field}"), problem));
        }
        let thresholds = settings.thresholds.as_deref().unwrap_or_default();
        if settings.thresholds.is_some() && thresholds.is_empty() {
            return Err(SettingError::new("thresholds", "no threshold to evaluate at")
                .help("name one, or leave `thresholds` out for the one the model was trained with"));
        }
        for (index, threshold) in thresholds.iter().enumerate() {
            if matches!(threshold, Threshold::Probability(probability) if *probability < settings.floor) {
                return Err(SettingError::new(
                    format!("thresholds[{index}]"),
                    format!("the threshold {threshold} is below the floor {}", settings.floor),
                )
                .help("lower `floor`; spans below it are not kept"));
            }
        }
        let mut tokens = settings.splits.clone();
        tokens.push("tokenizer.json".to_owned());
        Ok(Resolved::new(&settings)?
            .reads("model", checkpoint::parts_to_read(inputs.parts("model")))
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
    let thresholds = settings
        .thresholds
        .clone()
        .unwrap_or_else(|| vec![config.prediction_threshold]);
    for threshold in &thresholds {
        config
            .accepts(*threshold)
            .map_err(|error| StageError::new(error.problem))?;
    }
    let mut scorer: Option<Scorer> = None;
    let mut results = Vec::new();
    let mut predictions = Predictions::create(ctx)?;
    let mut counts = create(ctx, SENTENCE_COUNTS)?;
    for name in &settings.splits {
        let part = tokens
            .part(name)
            .ok_or_else(|| StageError::new(format!("the tokens have no split `{name}`")))?;
        let split = Split::open(part, config.annotation_format).map_err(|error| StageError::new(error.to_string()))?;
        let read: Vec<Digest> = model
            .parts
            .values()
            .map(|part| part.digest)
            .chain([part.digest])
            .collect();
        let step = Step {
            name: "scores",
            version: 2,
            settings: json!({"floor": settings.floor, "batch": settings.per_device_eval_batch_size}),
            inputs: read,
        };
        let output = ctx.step(step, |folder| {
            let scorer = match &mut scorer {
                Some(scorer) => scorer,
                empty => empty.insert(Scorer::open(ctx)?),
            };
            let mut writer = ScoreWriter::create(&folder.join("scores.jsonl"))?;
            let score = ScoreSettings {
                batch_size: settings.per_device_eval_batch_size,
                floor: match config.prediction_threshold {
                    Threshold::Probability(_) => Threshold::Probability(settings.floor),
                    slot => slot,
                },
            };
            let counts = score_split(
                ctx,
                &scorer.recognizer,
                &scorer.collator,
                &split,
                &score,
                &mut |_, scores| writer.write(&scores),
            )?;
            writer.finish()?;
            Ok(counts
                .named()
                .map(|(name, count)| (name.to_owned(), json!(count)))
                .collect())
        })?;
        if let Value::Object(counts) = &output.value {
            for (key, count) in counts {
                ctx.note(&format!("{name}_{key}"), count.clone());
            }
        }
        let file = output
            .files
            .first()
            .ok_or_else(|| StageError::new("the step `scores` made no file"))?;
        let labels = &split.labels().names;
        let mut tallies: Vec<Tally> = thresholds
            .iter()
            .map(|&threshold| Tally::new(threshold, labels.len()))
            .collect();
        for (index, scores) in read_scores(&file.path)?.enumerate() {
            let scores = scores?;
            for (number, tally) in tallies.iter_mut().enumerate() {
                let spans = tally.add(&scores);
                if number == 0 {
                    predictions.write(name, &split, index, &scores, &spans, thresholds[0], &config)?;
                }
            }
        }
        let frame = Frame {
            split: name,
            labels,
            groups: Groups::of(&split),
            bootstrap: settings.bootstrap,
            left_out: &output.value,
        };
        for (&threshold, tally) in thresholds.iter().zip(&tallies) {
            results.push(frame.entry(threshold, tally)?);
            let head = Head {
                split: name.clone(),
                threshold: json!(threshold),
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

/// A checkpoint ready to score sentences.
struct Scorer {
    recognizer: Recognizer,
    collator: Collator,
}

impl Scorer {
    fn open(ctx: &Context) -> Result<Self, StageError> {
        let (model, tokens) = (ctx.input("model")?, ctx.input("tokens")?);
        let checkpoint = Checkpoint::read(model)?;
        let cut_with = tokens.part("tokenizer.json").map(|part| part.digest.to_string());
        if cut_with.as_ref() != Some(&checkpoint.tokenizer_digest) {
            return Err(
                StageError::new("the tokens were not made with the tokenizer that the model was trained with")
                    .help("connect the model's encoder to the `tokenizer` port of the tokenize stage"),
            );
        }
        let tokenizer = open_tokenizer(model, "tokenizer.json")?;
        let marker = |name: &str| {
            let id = tokenizer.id(name);
            id.ok_or_else(|| StageError::new(format!("the model's tokenizer has no `{name}` token")))
        };
        let config = checkpoint.config.clone();
        let types = match &checkpoint.type_encoder {
            Some(encoder) => TypeReader::Apart {
                special: *open_tokenizer(model, "type_tokenizer.json")?.special(),
                window: encoder.window(),
            },
            None => TypeReader::Prompt(Markers {
                label: marker(LABEL_MARKER)?,
                threshold: if config.has_threshold_marker() {
                    Some(marker(THRESHOLD_MARKER)?)
                } else {
                    None
                },
            }),
        };
        let collator = Collator::new(config.clone(), *tokenizer.special(), types);
        let recognizer = Recognizer::new(
            config,
            checkpoint.token_encoder,
            checkpoint.type_encoder,
            checkpoint.tensors,
            &open_device(ctx)?,
        )
        .map_err(|error| StageError::new(error.to_string()))?;
        Ok(Self { recognizer, collator })
    }
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

    #[expect(
        clippy::too_many_arguments,
        reason = "one line needs all of these, and nothing else does"
    )]
    fn write(
        &mut self,
        split_name: &str,
        split: &Split,
        index: usize,
        scores: &SentenceScores,
        spans: &[Candidate],
        threshold: Threshold,
        config: &RecognizerConfig,
    ) -> Result<(), StageError> {
        let sentence = split.sentence(index);
        let mut found: Vec<(u32, u32, &str, f64)> = spans
            .iter()
            .map(|span| {
                let (start, end) = place(&sentence, span, config);
                let label = split.labels().names[span.label as usize].as_str();
                (start, end, label, scores.confidence(span, threshold))
            })
            .collect();
        found.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
        let spans: Vec<Value> = found
            .iter()
            .map(|(start, end, label, score)| json!({"start": start, "end": end, "label": label, "score": score}))
            .collect();
        let line = json!({"split": split_name, "id": sentence.id, "spans": spans});
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
