//! What a training reads: tokenized splits, tokenizers and encoders, checked to belong together.

use nerpipe_engine::{Context, Digest, Input, StageError};

use super::batches::BatchRows;
use super::settings::TrainSettings;
use crate::batch::{Collator, LABEL_MARKER, Markers, THRESHOLD_MARKER, TypeReader};
use crate::checkpoint::{config_json, copy, encoder_config, open_tokenizer, single, write};
use crate::model::{EncoderConfig, HostTensor, Recognizer, add_token_rows, new_heads};
use crate::tensors::read_tensors;
use crate::tokenizer::TextTokenizer;
use crate::tokens::{Sentence, Split};

/// Everything that a training reads.
pub(super) struct TrainingData {
    /// The training split.
    pub train: Split,
    /// The split that the best model is chosen on.
    pub validation: Option<Split>,
    tokenizer: TextTokenizer,
    tokenizer_digest: Digest,
    type_tokenizer: Option<TextTokenizer>,
    token_encoder: EncoderConfig,
    type_encoder: Option<EncoderConfig>,
    /// A cross-encoder's marker tokens, and its tokenizer with them.
    markers: Option<(Markers, Vec<u8>)>,
}

impl TrainingData {
    /// Opens the inputs of a training.
    ///
    /// # Errors
    /// If a file is missing or damaged, or tokens and encoder have different tokenizers.
    pub(super) fn open(ctx: &Context, settings: &TrainSettings) -> Result<Self, StageError> {
        let config = settings.recognizer();
        let tokens = ctx.input("tokens")?;
        let split = |name: &str| -> Result<Option<Split>, StageError> {
            let Some(part) = tokens.part(name) else { return Ok(None) };
            let split = Split::open(part, settings.annotation_format);
            split.map(Some).map_err(|error| StageError::new(error.to_string()))
        };
        let train = split("train")?.ok_or_else(|| StageError::new("the tokens have no `train` split"))?;
        let token_input = ctx.input("token_encoder")?;
        let tokenizer_digest = digest_of(tokens, "tokenizer.json")?;
        if digest_of(token_input, "tokenizer.json")? != tokenizer_digest {
            return Err(
                StageError::new("the tokens were not made with the token encoder's tokenizer")
                    .help("connect the same encoder to the `tokenizer` port of the tokenize stage"),
            );
        }
        let tokenizer = open_tokenizer(tokens, "tokenizer.json")?;
        let type_input = if config.is_bi_encoder() {
            Some(ctx.input("type_encoder")?)
        } else {
            None
        };
        let markers = if config.is_bi_encoder() {
            None
        } else {
            let names: &[&str] = if config.has_threshold_marker() {
                &[LABEL_MARKER, THRESHOLD_MARKER]
            } else {
                &[LABEL_MARKER]
            };
            let added = tokenizer.with_special_tokens(names);
            let (json, ids) = added.map_err(|error| StageError::new(error.to_string()))?;
            Some((
                Markers {
                    label: ids[0],
                    threshold: ids.get(1).copied(),
                },
                json,
            ))
        };
        Ok(Self {
            train,
            validation: split("validation")?,
            tokenizer,
            tokenizer_digest,
            type_tokenizer: type_input
                .map(|input| open_tokenizer(input, "tokenizer.json"))
                .transpose()?,
            token_encoder: encoder_config(token_input, "config.json")?,
            type_encoder: type_input
                .map(|input| encoder_config(input, "config.json"))
                .transpose()?,
            markers,
        })
    }

    /// Which tokens and windows batches are made with.
    pub(super) fn collator(&self, settings: &TrainSettings) -> Collator {
        let types = match (&self.markers, &self.type_tokenizer, &self.type_encoder) {
            (Some((markers, _)), _, _) => TypeReader::Prompt(*markers),
            (None, Some(tokenizer), Some(encoder)) => TypeReader::Apart {
                special: *tokenizer.special(),
                window: encoder.window(),
            },
            // Unreachable by `open`: a recognizer has either markers or a type encoder.
            (None, _, _) => TypeReader::Apart {
                special: *self.tokenizer.special(),
                window: 0,
            },
        };
        Collator::new(settings.recognizer(), *self.tokenizer.special(), types)
    }

    /// The untrained model: pretrained (or random) encoders, marker rows, and heads with their start values.
    ///
    /// # Errors
    /// If weights are missing or do not fit the configuration, or the window is longer than the encoder's positions.
    pub(super) fn recognizer(
        &self,
        ctx: &Context,
        settings: &TrainSettings,
        device: &burn::tensor::Device,
    ) -> Result<Recognizer, StageError> {
        let mut tensors = prefixed(ctx.input("token_encoder")?, "token_encoder")?;
        if let Some((markers, _)) = &self.markers {
            let ids: Vec<u32> = [markers.label].into_iter().chain(markers.threshold).collect();
            let name = format!("token_encoder.{}", self.token_encoder.token_table());
            let table = tensors.iter_mut().find(|tensor| tensor.name == name);
            let table = table.ok_or_else(|| StageError::new(format!("the token encoder has no `{name}`")))?;
            add_token_rows(table, self.tokenizer.vocab_size(), &ids, settings.seed);
        }
        if self.type_encoder.is_some() {
            tensors.extend(prefixed(ctx.input("type_encoder")?, "type_encoder")?);
        }
        let config = settings.recognizer();
        let token_width = self.token_encoder.hidden_size();
        let type_width = self
            .type_encoder
            .as_ref()
            .map_or(token_width, EncoderConfig::hidden_size);
        tensors.extend(new_heads(&config, token_width, type_width, settings.seed));
        let (token_encoder, type_encoder) = (self.token_encoder.clone(), self.type_encoder.clone());
        let recognizer = Recognizer::new(config, token_encoder, type_encoder, tensors, device)
            .map_err(|error| StageError::new(error.to_string()))?;
        recognizer
            .check_vocabulary(self.tokenizer.vocab_size())
            .map_err(|error| StageError::new(error.to_string()))?;
        Ok(recognizer)
    }

    /// The sentences of a batch.
    pub(super) fn sentences(&self, batch: &BatchRows) -> Vec<Sentence<'_>> {
        batch.sentences.iter().map(|&row| self.train.sentence(row)).collect()
    }

    /// The name of a type of the training split.
    pub(super) fn label(&self, label: u32) -> &str {
        &self.train.labels().names[label as usize]
    }

    /// Writes the checkpoint's configurations and tokenizer.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn write_configs(&self, ctx: &Context, settings: &TrainSettings) -> Result<(), StageError> {
        let training = serde_json::to_value(settings).map_err(|error| StageError::new(error.to_string()))?;
        let config = config_json(&settings.recognizer(), training, &self.tokenizer_digest)?;
        write(&ctx.out("config.json")?, &config)?;
        copy(
            &single(ctx.input("token_encoder")?, "config.json")?,
            &ctx.out("token_encoder_config.json")?,
        )?;
        if self.type_encoder.is_some() {
            let types = ctx.input("type_encoder")?;
            copy(&single(types, "config.json")?, &ctx.out("type_encoder_config.json")?)?;
            copy(&single(types, "tokenizer.json")?, &ctx.out("type_tokenizer.json")?)?;
        }
        match &self.markers {
            Some((_, json)) => write(&ctx.out("tokenizer.json")?, json),
            None => copy(
                &single(ctx.input("tokens")?, "tokenizer.json")?,
                &ctx.out("tokenizer.json")?,
            ),
        }
    }
}

fn digest_of(input: &Input, part: &str) -> Result<Digest, StageError> {
    let part = input
        .part(part)
        .ok_or_else(|| StageError::new(format!("the input has no `{part}`")))?;
    Ok(part.digest)
}

/// An encoder's tensors under a checkpoint's names.
fn prefixed(encoder: &Input, prefix: &str) -> Result<Vec<HostTensor>, StageError> {
    let tensors = read_tensors(&single(encoder, "model.safetensors")?)?;
    Ok(tensors
        .into_iter()
        .map(|tensor| HostTensor {
            name: format!("{prefix}.{}", tensor.name),
            ..tensor
        })
        .collect())
}
