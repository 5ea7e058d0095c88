//! [`Recognizer`]: the four systems as one model.
//!
//! Text and types become vectors, their cosines are scores. A bi-encoder reads types with an encoder of their own, a
//! cross-encoder reads them in the text's prompt; everything else is shared.
//!
//! # Shapes
//! The letters used in all of this module:
//!
//! | letter | number of |
//! |---|---|
//! | B | sentences in a batch |
//! | T | subwords of all encoder inputs together, special tokens and prompt included |
//! | L | subwords of the longest encoder input |
//! | S | positions that spans can cover |
//! | C | types asked for |
//! | R, N | candidate rows of all sentences together; N: of spans |
//! | H, A, F | encoder width, attention heads, feed-forward width |
//! | D | `linear_hidden_size`, the width of compared vectors |
//! | W | `span_width_embedding_size` |

mod bi_encoder;
mod cross_encoder;
mod dropout;
mod encoders;
mod forward;
mod init;
mod input;
pub(crate) mod ops;
mod spans;
#[cfg(test)]
mod tests;
mod weights;

pub use dropout::Dropout;
pub use encoders::{
    BertConfig, DebertaV2Config, DistilBertConfig, ElectraConfig, EncoderConfig, EncoderConfigError, ModernBertConfig,
    RemBertConfig, RobertaConfig, T5Config,
};
pub use forward::{Forward, View};
pub use init::{add_token_rows, new_heads};
pub use input::{EncoderInput, Sequences};
pub use spans::{TypeVectors, Wanted};
pub use weights::{Gradient, HostGradients, HostTensor, Weights, WeightsError};

use burn::tensor::{Device, Tensor};

use crate::batch::{Batch, TypeInput};
use crate::loss::{self, Loss, Scores};
use crate::parity::Parity;
use crate::recognizer::{ConfigError, RecognizerConfig};

/// Type names that are encoded together in inference; more take several passes of the type encoder.
const TYPE_CHUNK: usize = 128;

/// Why settings and weights do not make a recognizer.
#[derive(Debug, thiserror::Error)]
pub enum RecognizerError {
    /// The settings contradict themselves.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The weights do not fit the settings.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A bi-encoder without a type encoder.
    #[error("a bi-encoder needs a type encoder; give the stage one, or use `architecture: cross_encoder`")]
    NoTypeEncoder,
    /// The encoder cannot read inputs as long as the settings ask.
    #[error("`max_seq_length` is {asked}, but the encoder reads at most {possible} subwords")]
    Window {
        /// The setting.
        asked: usize,
        /// The encoder's positions.
        possible: usize,
    },
    /// The tokenizer has more tokens than the encoder has rows.
    #[error(
        "the tokenizer has {tokens} tokens, but the encoder has embeddings for {rows}; they do not belong together"
    )]
    Vocabulary {
        /// Tokens.
        tokens: usize,
        /// Rows.
        rows: usize,
    },
}

/// A model that finds spans of given types.
#[derive(Clone, Debug)]
pub struct Recognizer {
    config: RecognizerConfig,
    token_encoder: EncoderConfig,
    type_encoder: Option<EncoderConfig>,
    weights: Weights,
    parity: Parity,
}

impl Recognizer {
    /// Puts a recognizer together from all its tensors: `token_encoder.*`, `type_encoder.*` (bi-encoder), and the heads. Tensors
    /// that it does not read (a pooler, say) are kept, so that they are written again. On an autodiff device it can be trained.
    ///
    /// # Errors
    /// If the settings contradict themselves or the weights; all missing tensors are named.
    pub fn new(
        config: RecognizerConfig,
        token_encoder: EncoderConfig,
        type_encoder: Option<EncoderConfig>,
        tensors: impl IntoIterator<Item = HostTensor>,
        device: &Device,
    ) -> Result<Self, RecognizerError> {
        config.validate()?;
        if config.max_seq_length > token_encoder.window() {
            return Err(RecognizerError::Window {
                asked: config.max_seq_length,
                possible: token_encoder.window(),
            });
        }
        let type_encoder = match type_encoder {
            Some(encoder) if config.is_bi_encoder() => Some(encoder),
            None if config.is_bi_encoder() => return Err(RecognizerError::NoTypeEncoder),
            _ => None,
        };
        let mut weights = Weights::new(tensors, device)?;
        let type_width = type_encoder.as_ref().unwrap_or(&token_encoder).hidden_size();
        let prefixed = |prefix: &str, encoder: &EncoderConfig| {
            let shapes = encoder.shapes().into_iter();
            shapes
                .map(|(name, shape)| (format!("{prefix}.{name}"), shape))
                .collect::<Vec<_>>()
        };
        let mut needed = prefixed("token_encoder", &token_encoder);
        needed.extend(
            type_encoder
                .iter()
                .flat_map(|encoder| prefixed("type_encoder", encoder)),
        );
        needed.extend(init::head_shapes(&config, token_encoder.hidden_size(), type_width));
        let tables = [
            Some(("token_encoder", &token_encoder)),
            type_encoder.as_ref().map(|encoder| ("type_encoder", encoder)),
        ];
        let tables = tables
            .into_iter()
            .flatten()
            .map(|(prefix, encoder)| format!("{prefix}.{}", encoder.token_table()));
        check_shapes(&weights, needed, &tables.collect::<Vec<_>>())?;

        for (prefix, encoder) in [
            ("token_encoder", Some(&token_encoder)),
            ("type_encoder", type_encoder.as_ref()),
        ] {
            let Some(encoder) = encoder else { continue };
            let table = format!("{prefix}.{}", encoder.token_table());
            weights.set_padding_row(&table, encoder.pad_token_id() as usize);
            weights.set_by_rows(&table);
        }
        weights.set_padding_row("width_embedding.weight", 0);
        Ok(Self {
            config,
            token_encoder,
            type_encoder,
            weights,
            parity: Parity::default(),
        })
    }

    /// Repeats mistakes of the reference, for tests against its fixtures.
    #[doc(hidden)]
    #[must_use]
    pub fn with_parity(mut self, parity: Parity) -> Self {
        self.parity = parity;
        self
    }

    /// What the recognizer is made of.
    pub fn config(&self) -> &RecognizerConfig {
        &self.config
    }

    /// The configuration of the encoder that reads text.
    pub fn token_encoder(&self) -> &EncoderConfig {
        &self.token_encoder
    }

    /// The configuration of the encoder that reads types, in a bi-encoder.
    pub fn type_encoder(&self) -> Option<&EncoderConfig> {
        self.type_encoder.as_ref()
    }

    /// Its parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Its parameters, to be changed.
    pub fn weights_mut(&mut self) -> &mut Weights {
        &mut self.weights
    }

    /// The token tables that a pass over `batch` reads, each with the rows that it reads, ascending.
    pub fn table_rows(&self, batch: &Batch) -> Vec<(String, Vec<u32>)> {
        let rows = |input: &EncoderInput| weights::sorted(input.ids.iter().copied());
        let mut tables = vec![(
            format!("token_encoder.{}", self.token_encoder.token_table()),
            rows(&batch.text),
        )];
        if let (TypeInput::Apart(input), Some(encoder)) = (&batch.type_input, &self.type_encoder) {
            tables.push((format!("type_encoder.{}", encoder.token_table()), rows(input)));
        }
        tables
    }

    /// Checks that every id of a tokenizer with `tokens` tokens has an embedding.
    ///
    /// # Errors
    /// If not.
    pub fn check_vocabulary(&self, tokens: usize) -> Result<(), RecognizerError> {
        let table = format!("token_encoder.{}", self.token_encoder.token_table());
        match self.weights.shape(&table) {
            Some(&[rows, _]) if rows < tokens => Err(RecognizerError::Vocabulary { tokens, rows }),
            _ => Ok(()),
        }
    }

    /// The same model without gradients, sharing its parameters' memory; see [`Weights::for_inference`].
    #[must_use]
    pub fn for_inference(&self) -> Self {
        Self {
            weights: self.weights.for_inference(),
            config: self.config.clone(),
            token_encoder: self.token_encoder.clone(),
            type_encoder: self.type_encoder.clone(),
            parity: self.parity,
        }
    }

    /// The loss of one pass over a batch; `None` if nothing in the batch can be scored. The losses of all passes of a
    /// split label set add up to that of the whole set.
    pub fn loss(&self, batch: &Batch, dropout: Option<&Dropout>) -> Option<Loss> {
        let wanted = Wanted {
            start: self.config.start_loss_weight > 0.0,
            end: self.config.end_loss_weight > 0.0,
            span: self.config.span_loss_weight > 0.0,
        };
        let scores = self.scores(batch, None, wanted, dropout);
        loss::loss(scores, batch, &self.config, self.parity)
    }

    /// The vectors of types, to be used for many batches (bi-encoder). `None` for a cross-encoder, whose types know each text.
    pub fn type_vectors(&self, input: &EncoderInput) -> Option<TypeVectors> {
        let encoder = self.type_encoder.as_ref()?;
        let forward = Forward::new(&self.weights, None);
        let types = input.sequences.len();
        let chunks: Vec<Tensor<2>> = (0..types)
            .step_by(TYPE_CHUNK)
            .map(|first| {
                let chunk = input.slice(first..types.min(first + TYPE_CHUNK));
                bi_encoder::type_vectors(&self.config, encoder, &forward.root(), &chunk)
            })
            .collect();
        (!chunks.is_empty()).then(|| TypeVectors::Shared(Tensor::cat(chunks, 0)))
    }

    /// The logits of all spans, [N, C] row by row; `types` replaces the batch's own, in the same order.
    pub fn span_logits(&self, batch: &Batch, types: Option<&TypeVectors>) -> Vec<f32> {
        let wanted = Wanted {
            start: false,
            end: false,
            span: true,
        };
        let scores = self.scores(batch, types, wanted, None);
        scores
            .span
            .map_or_else(Vec::new, |span| span.into_data().iter::<f32>().collect())
    }

    /// Scores of the wanted kinds of candidates.
    pub fn scores(
        &self,
        batch: &Batch,
        types: Option<&TypeVectors>,
        wanted: Wanted,
        dropout: Option<&Dropout>,
    ) -> Scores {
        if batch.types.is_empty() || batch.sentences() == 0 {
            return Scores {
                start: None,
                end: None,
                span: None,
            };
        }
        let forward = Forward::new(&self.weights, dropout);
        let root = forward.root();
        let hidden = self.token_encoder.forward(&root.at("token_encoder"), &batch.text);
        let types = match (types, &batch.type_input, &self.type_encoder) {
            (Some(types), ..) => types.clone(),
            (None, TypeInput::Apart(input), Some(encoder)) => {
                TypeVectors::Shared(bi_encoder::type_vectors(&self.config, encoder, &root, input))
            }
            (None, TypeInput::Markers(markers), _) => {
                let types = cross_encoder::type_vectors(&self.config, &root, &hidden, batch, markers);
                TypeVectors::PerSentence(types)
            }
            (None, TypeInput::Apart(_), None) => {
                unreachable!("the batch was made for a bi-encoder, and the recognizer is none")
            }
        };
        spans::scores(&root, &hidden, &types, batch, wanted, self.config.dropout)
    }
}

/// Checks that every needed tensor exists in its shape. The table of widths and those of tokens (`tables`) may have more rows than needed.
fn check_shapes(weights: &Weights, needed: Vec<(String, Vec<usize>)>, tables: &[String]) -> Result<(), WeightsError> {
    let mut missing = Vec::new();
    for (name, expected) in needed {
        let Some(found) = weights.shape(&name) else {
            let near = weights
                .shapes()
                .map(|(other, _)| (strsim::jaro_winkler(other, &name), other))
                .filter(|&(likeness, _)| likeness > 0.95)
                .max_by(|a, b| a.0.total_cmp(&b.0));
            missing.push(match near {
                Some((_, near)) => format!("{name} (there is {near})"),
                None => name,
            });
            continue;
        };
        let may_grow = tables.contains(&name) || name == "width_embedding.weight";
        let fits = match (found, &expected[..]) {
            (&[rows, width], &[needed_rows, needed_width]) if may_grow => rows >= needed_rows && width == needed_width,
            _ => found == expected,
        };
        if !fits {
            return Err(WeightsError::Shape {
                name,
                found: found.to_vec(),
                expected,
            });
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(WeightsError::Missing { names: missing })
    }
}
