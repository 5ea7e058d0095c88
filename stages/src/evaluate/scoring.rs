//! The cached step `scores`: one forward pass of a model over a split. `evaluate` and `calibrate` share it.

use std::path::PathBuf;

use nerpipe_engine::{Context, Digest, Input, Part, SettingError, StageError, Step};
use serde_json::{Value, json};

use super::score::{ScoreSettings, score_split};
use super::scores::ScoreWriter;
use crate::batch::{Collator, LABEL_MARKER, Markers, THRESHOLD_MARKER, TypeReader};
use crate::checkpoint::{self, Checkpoint, open_tokenizer};
use crate::device::open_device;
use crate::model::Recognizer;
use crate::recognizer::{RecognizerConfig, Threshold};
use crate::tokenizer::TextTokenizer;
use crate::tokens::Split;

/// How a split is scored. Equal values are one step, whichever kind asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scoring {
    /// The lowest probability that will ever be asked for (BCE and focal models).
    pub(crate) floor: f64,
    /// Sentences in a forward pass.
    pub(crate) batch: usize,
}

impl Default for Scoring {
    fn default() -> Self {
        Self { floor: 0.05, batch: 12 }
    }
}

/// Where a split's scores are.
pub(crate) struct Scored {
    /// The file, for [`super::read_scores`].
    pub(crate) path: PathBuf,
    /// What was left out, by name.
    pub(crate) left_out: Value,
}

impl Scoring {
    /// Refuses what makes no sense, by the name of the setting.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        if self.batch == 0 {
            return Err(SettingError::new(
                "per_device_eval_batch_size",
                "a batch has at least 1 sentence",
            ));
        }
        if !(self.floor > 0.0 && self.floor < 1.0) {
            return Err(SettingError::new("floor", "the floor is a probability between 0 and 1"));
        }
        Ok(())
    }

    /// The scores of `split`, which lies in `part` of the input `tokens`, by the input `model`. `scorer` is opened if the step
    /// must be executed.
    pub(crate) fn scores(
        &self,
        ctx: &Context,
        config: &RecognizerConfig,
        split: &Split,
        part: &Part,
        scorer: &mut Option<Scorer>,
    ) -> Result<Scored, StageError> {
        let model = ctx.input("model")?;
        let names: Vec<String> = model.parts.keys().cloned().collect();
        let read = checkpoint::parts_to_read(&names);
        let mut inputs: Vec<Digest> = read.iter().filter_map(|name| Some(model.part(name)?.digest)).collect();
        inputs.push(part.digest);
        let step = Step {
            name: "scores",
            version: 2,
            settings: json!({"floor": self.floor, "batch": self.batch}),
            inputs,
        };
        let output = ctx.step_of("evaluate", step, |folder| {
            let scorer = match scorer {
                Some(scorer) => scorer,
                empty => empty.insert(Scorer::open(ctx)?),
            };
            let mut writer = ScoreWriter::create(&folder.join("scores.jsonl"))?;
            let settings = ScoreSettings {
                batch_size: self.batch,
                floor: match config.prediction_threshold {
                    Threshold::Probability(_) => Threshold::Probability(self.floor),
                    slot => slot,
                },
            };
            let counts = score_split(
                ctx,
                &scorer.recognizer,
                &scorer.collator,
                split,
                &settings,
                &mut |_, scores| writer.write(&scores),
            )?;
            writer.finish()?;
            Ok(counts
                .named()
                .map(|(name, count)| (name.to_owned(), json!(count)))
                .collect())
        })?;
        let file = output.files.into_iter().next();
        Ok(Scored {
            path: file
                .ok_or_else(|| StageError::new("the step `scores` made no file"))?
                .path,
            left_out: output.value,
        })
    }
}

/// A checkpoint ready to score sentences.
pub(crate) struct Scorer {
    recognizer: Recognizer,
    collator: Collator,
}

impl Scorer {
    fn open(ctx: &Context) -> Result<Self, StageError> {
        let (model, tokens) = (ctx.input("model")?, ctx.input("tokens")?);
        let checkpoint = Checkpoint::read(model)?;
        if !checkpoint::is_cut_for(tokens, model, &checkpoint.tokenizer_digest) {
            return Err(
                StageError::new("the tokens were not made with the tokenizer that the model was trained with")
                    .help("connect the model, or its encoder, to the `tokenizer` port of the tokenize stage"),
            );
        }
        let digest = |input| checkpoint::type_tokenizer(input).map(|file| file.digest);
        if checkpoint.type_encoder.is_some() && digest(tokens) != digest(model) {
            return Err(StageError::new(
                "the names of types were not cut with the tokenizer of the model's type encoder",
            )
            .help("connect the model, or its type encoder, to the `type_tokenizer` port of the tokenize stage"));
        }
        let (collator, _) = collator(model, &checkpoint)?;
        let config = checkpoint.config.clone();
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

/// What makes batches for the model artifact `model`, whose files are read as `checkpoint`; and the tokenizer of its texts.
///
/// # Errors
/// If a tokenizer is missing or has no markers.
pub(crate) fn collator(model: &Input, checkpoint: &Checkpoint) -> Result<(Collator, TextTokenizer), StageError> {
    let tokenizer = open_tokenizer(model, "tokenizer.json")?;
    let marker = |name: &str| {
        let id = tokenizer.id(name);
        id.ok_or_else(|| StageError::new(format!("the model's tokenizer has no `{name}` token")))
    };
    let config = &checkpoint.config;
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
    Ok((collator, tokenizer))
}
