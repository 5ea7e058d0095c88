//! What a training reads: tokenized splits, tokenizers and encoders, checked to belong together.
//!
//! The encoders come from the ports `token_encoder` and `type_encoder`, or all of a recognizer from a checkpoint at the port `start`.

use nerpipe_engine::{Context, Digest, Input, StageError};

use super::batches::BatchRows;
use super::settings::TrainSettings;
use crate::batch::{Collator, LABEL_MARKER, Markers, THRESHOLD_MARKER, TypeReader};
use crate::checkpoint::{self, config_json, copy, encoder_config, open_tokenizer, read, rows_of, single, write};
use crate::model::{EncoderConfig, HostTensor, Recognizer, add_token_rows, new_heads};
use crate::recognizer::RecognizerConfig;
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

/// Where an encoder's configuration and tokenizer lie.
struct Place<'a> {
    input: &'a Input,
    config: &'static str,
    tokenizer: &'static str,
}

impl<'a> Place<'a> {
    /// The encoder that reads text.
    fn of_text(ctx: &'a Context) -> Result<Self, StageError> {
        Self::of(ctx, "token_encoder", "token_encoder_config.json", "tokenizer.json")
    }

    /// The encoder that reads types.
    fn of_types(ctx: &'a Context) -> Result<Self, StageError> {
        Self::of(ctx, "type_encoder", "type_encoder_config.json", "type_tokenizer.json")
    }

    fn of(ctx: &'a Context, port: &str, config: &'static str, tokenizer: &'static str) -> Result<Self, StageError> {
        Ok(match ctx.input("start") {
            Ok(input) => Self {
                input,
                config,
                tokenizer,
            },
            Err(_) => Self {
                input: ctx.input(port)?,
                config: "config.json",
                tokenizer: "tokenizer.json",
            },
        })
    }
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
        let text = Place::of_text(ctx)?;
        check_tokenizer(ctx, tokens)?;
        let tokenizer = open_tokenizer(text.input, text.tokenizer)?;
        let types = if config.is_bi_encoder() {
            Some(Place::of_types(ctx)?)
        } else {
            None
        };
        if let Some(types) = &types {
            let needed = types.input.part(types.tokenizer).and_then(|part| part.files.first());
            if needed.map(|file| file.digest) != checkpoint::type_tokenizer(tokens).map(|file| file.digest) {
                return Err(
                    StageError::new("the names of types were not cut with the type encoder's tokenizer")
                        .help("connect the type encoder to the `type_tokenizer` port of the tokenize stage"),
                );
            }
        }
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
        let open_types = |types: &Place<'_>| open_tokenizer(types.input, types.tokenizer);
        Ok(Self {
            train,
            validation: split("validation")?,
            tokenizer,
            tokenizer_digest: digest_of(tokens, "tokenizer.json")?,
            type_tokenizer: types.as_ref().map(open_types).transpose()?,
            token_encoder: encoder_config(text.input, text.config)?,
            type_encoder: types
                .map(|types| encoder_config(types.input, types.config))
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

    /// The untrained model: pretrained (or random) encoders, marker rows, and heads with their start values; or all of it as the
    /// checkpoint has it that the training starts from.
    ///
    /// # Errors
    /// If weights are missing or do not fit the configuration, or the window is longer than the encoder's positions.
    pub(super) fn recognizer(
        &self,
        ctx: &Context,
        settings: &TrainSettings,
        device: &burn::tensor::Device,
    ) -> Result<Recognizer, StageError> {
        let config = settings.recognizer();
        let mut tensors = match ctx.input("start") {
            Ok(start) => {
                check_sizes(&config, &checkpoint::recognizer_config(start)?)?;
                read_tensors(&single(start, "model.safetensors")?)?
            }
            Err(_) => self.new_tensors(ctx, &config, settings.seed)?,
        };
        if let Some((markers, _)) = &self.markers {
            let is_new = |id: &u32| self.tokenizer.token(*id).is_none();
            let ids: Vec<u32> = [markers.label]
                .into_iter()
                .chain(markers.threshold)
                .filter(is_new)
                .collect();
            let name = format!("token_encoder.{}", self.token_encoder.token_table());
            let table = tensors.iter_mut().find(|tensor| tensor.name == name);
            let table = table.ok_or_else(|| StageError::new(format!("the token encoder has no `{name}`")))?;
            add_token_rows(table, self.tokenizer.vocab_size(), &ids, settings.seed);
        }
        let (token_encoder, type_encoder) = (self.token_encoder.clone(), self.type_encoder.clone());
        let recognizer = Recognizer::new(config, token_encoder, type_encoder, tensors, device)
            .map_err(|error| StageError::new(error.to_string()))?;
        recognizer
            .check_vocabulary(self.tokenizer.vocab_size())
            .map_err(|error| StageError::new(error.to_string()))?;
        Ok(recognizer)
    }

    /// The encoders' tensors, and heads with their start values.
    fn new_tensors(&self, ctx: &Context, config: &RecognizerConfig, seed: u64) -> Result<Vec<HostTensor>, StageError> {
        let mut tensors = prefixed(ctx.input("token_encoder")?, "token_encoder")?;
        if self.type_encoder.is_some() {
            tensors.extend(prefixed(ctx.input("type_encoder")?, "type_encoder")?);
        }
        let token_width = self.token_encoder.hidden_size();
        let type_width = self
            .type_encoder
            .as_ref()
            .map_or(token_width, EncoderConfig::hidden_size);
        tensors.extend(new_heads(config, token_width, type_width, seed));
        Ok(tensors)
    }

    /// The sentences of a batch.
    pub(super) fn sentences(&self, batch: &BatchRows) -> Vec<Sentence<'_>> {
        batch.sentences.iter().map(|&row| self.train.sentence(row)).collect()
    }

    /// The name of a type of the training split.
    pub(super) fn label(&self, label: u32) -> &str {
        &self.train.labels().names[label as usize]
    }

    /// Writes the checkpoint's configurations and tokenizer; `tensors` are its weights.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub(super) fn write_configs(
        &self,
        ctx: &Context,
        settings: &TrainSettings,
        tensors: &[HostTensor],
    ) -> Result<(), StageError> {
        let training = serde_json::to_value(settings).map_err(|error| StageError::new(error.to_string()))?;
        let config = config_json(&settings.recognizer(), training, &self.tokenizer_digest)?;
        write(&ctx.out("config.json")?, &config)?;
        let text = Place::of_text(ctx)?;
        let table = format!("token_encoder.{}", self.token_encoder.token_table());
        let table = tensors.iter().find(|tensor| tensor.name == table);
        let rows = rows_of(table.map(|table| table.shape.as_slice()));
        let config = checkpoint::with_vocabulary(&read(&single(text.input, text.config)?)?, rows)?;
        write(&ctx.out("token_encoder_config.json")?, &config)?;
        if self.type_encoder.is_some() {
            let types = Place::of_types(ctx)?;
            copy(
                &single(types.input, types.config)?,
                &ctx.out("type_encoder_config.json")?,
            )?;
            copy(&single(types.input, types.tokenizer)?, &ctx.out("type_tokenizer.json")?)?;
        }
        match &self.markers {
            Some((_, json)) => write(&ctx.out("tokenizer.json")?, json),
            None => copy(&single(text.input, text.tokenizer)?, &ctx.out("tokenizer.json")?),
        }
    }
}

/// Refuses tokens that were cut with another tokenizer than that of the encoder or checkpoint.
fn check_tokenizer(ctx: &Context, tokens: &Input) -> Result<(), StageError> {
    if let Ok(start) = ctx.input("start") {
        return match checkpoint::is_cut_for(tokens, start, &checkpoint::tokenizer_digest(start)?) {
            true => Ok(()),
            false => Err(StageError::new(
                "the tokens were not made with the tokenizer of the checkpoint to start from",
            )
            .help("connect the checkpoint, or its encoder, to the `tokenizer` port of the tokenize stage")),
        };
    }
    let encoder = ctx.input("token_encoder")?;
    if digest_of(encoder, "tokenizer.json")? == digest_of(tokens, "tokenizer.json")? {
        return Ok(());
    }
    Err(
        StageError::new("the tokens were not made with the token encoder's tokenizer")
            .help("connect the same encoder to the `tokenizer` port of the tokenize stage"),
    )
}

/// Refuses settings that ask for other heads than the checkpoint has.
fn check_sizes(asked: &RecognizerConfig, start: &RecognizerConfig) -> Result<(), StageError> {
    let sizes = |config: &RecognizerConfig| {
        [
            ("linear_hidden_size", config.linear_hidden_size),
            ("span_width_embedding_size", config.span_width_embedding_size),
            ("max_span_length", config.max_span_length),
        ]
    };
    for ((name, asked), (_, own)) in sizes(asked).into_iter().zip(sizes(start)) {
        // A table of widths may have more rows than are needed.
        if asked != own && !(name == "max_span_length" && asked < own) {
            return Err(StageError::new(format!(
                "`{name}` is {asked}, but the checkpoint to start from was made with {own}"
            ))
            .help(format!("set `{name}: {own}`")));
        }
    }
    Ok(())
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
