//! An encoder with random weights: matrices N(0, `initializer_range`), the row of `[PAD]` and biases 0, norms 1.
//!
//! Every tensor draws from a stream named after it, so a further layer leaves the weights of the others as they are.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use nerpipe_engine::{Context, Part, PartFile, StageError, Step};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::{Value, json};

use super::family;
use super::{CONFIG, CORPUS, Settings, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, WEIGHTS, tokenizer_config, write_json};
use crate::corpus;
use crate::model::EncoderConfig;
use crate::rng::Rng;
use crate::tokenizer::TextTokenizer;
use crate::wordpiece::{self, WordCounter, WordCounts};

/// Writes the artifact.
pub(super) fn make(ctx: &Context, settings: &Settings) -> Result<(), StageError> {
    let options = wordpiece::Options {
        lowercase: settings.lowercase.unwrap_or(true),
    };
    let vocabulary = match settings.vocabulary_size {
        Some(size) => trained_vocabulary(ctx, size, options)?,
        None => vocabulary_file(ctx)?,
    };
    let json = wordpiece::tokenizer_json(&vocabulary, options);
    let tokenizer = TextTokenizer::from_bytes(json.to_string().as_bytes())
        .map_err(|error| StageError::new(format!("the vocabulary makes no tokenizer: {error}")))?;

    let pad = tokenizer.special().pad;
    let initializer_range = settings.initializer_range.unwrap_or(0.02);
    let config = family::config(settings, vocabulary.len(), pad)?;
    let encoder = EncoderConfig::from_json(config.to_string().as_bytes())
        .map_err(|error| StageError::new(format!("the sizes make no encoder: {error}")))?;
    let weights = Weights {
        seed: settings.seed.unwrap_or(0),
        initializer_range,
        pad: pad as usize,
    };
    weights.write(&encoder, &ctx.out(WEIGHTS)?)?;
    write_json(ctx, CONFIG, &config)?;
    write_json(ctx, TOKENIZER, &json)?;
    super::write(&ctx.out(VOCABULARY)?, lines(&vocabulary).as_bytes())?;
    let mut tokenizer_settings = tokenizer_config(&tokenizer, encoder.window());
    tokenizer_settings["do_lower_case"] = Value::from(options.lowercase);
    write_json(ctx, TOKENIZER_CONFIG, &tokenizer_settings)?;
    ctx.note("vocabulary", Value::from(vocabulary.len()));
    Ok(())
}

/// A vocabulary as a file: one subword a line.
fn lines(vocabulary: &[String]) -> String {
    vocabulary.iter().map(|token| format!("{token}\n")).collect()
}

fn vocabulary_file(ctx: &Context) -> Result<Vec<String>, StageError> {
    let [file] = ctx.files("vocabulary") else {
        return Err(StageError::new("`vocabulary` must name one file"));
    };
    read_vocabulary(&file.path)
}

fn read_vocabulary(path: &Path) -> Result<Vec<String>, StageError> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).map_err(|error| StageError::new(format!("failed to read `{shown}`: {error}")))?;
    wordpiece::read_vocabulary(&text).map_err(|error| StageError::new(format!("`{shown}`:{error}")))
}

/// Trains a vocabulary on the training texts; a cached step, so that other weights do not train it again.
fn trained_vocabulary(ctx: &Context, size: usize, options: wordpiece::Options) -> Result<Vec<String>, StageError> {
    let part: &Part = ctx
        .input(CORPUS.0)?
        .part(CORPUS.1)
        .ok_or_else(|| StageError::new("the corpus has no `train` split to train a vocabulary on"))?;
    let step = Step {
        name: "vocabulary",
        version: 1,
        settings: json!({ "size": size, "options": options }),
        inputs: part.files.iter().map(|file| file.digest).collect(),
    };
    let output = ctx.step(step, |out| {
        let counts = count_words(&part.files, options)?;
        let vocabulary = wordpiece::train(&counts, size);
        let path = out.join(VOCABULARY);
        super::write(&path, lines(&vocabulary).as_bytes())?;
        Ok(json!({ "subwords": vocabulary.len(), "words": counts.len() }))
    })?;
    let trained = output.value["subwords"].as_u64().unwrap_or(0);
    if trained < size as u64 {
        ctx.warn(&format!(
            "the training texts give a vocabulary of {trained} subwords, not {size}"
        ));
    }
    let file = output
        .files
        .iter()
        .find(|file| file.name == VOCABULARY)
        .ok_or_else(|| StageError::new("the trained vocabulary is not in the cache"))?;
    read_vocabulary(&file.path)
}

fn count_words(files: &[PartFile], options: wordpiece::Options) -> Result<WordCounts, StageError> {
    let counter = WordCounter::new(options);
    let mut counts = WordCounts::new();
    for file in files {
        let words = |record: &corpus::Record| {
            counter
                .words(&record.text)
                .map_err(|error| StageError::new(format!("record `{}`: {error}", record.id)))
        };
        corpus::read(&file.path, &file.name, words, |words| {
            for word in words {
                *counts.entry(word).or_default() += 1;
            }
            Ok(())
        })?;
    }
    Ok(counts)
}

/// How weights are drawn.
#[derive(Clone, Copy)]
struct Weights {
    seed: u64,
    initializer_range: f64,
    /// The row of the word embeddings that stays 0.
    pad: usize,
}

impl Weights {
    fn write(self, encoder: &EncoderConfig, path: &Path) -> Result<(), StageError> {
        let shapes = encoder.shapes().into_iter().chain(encoder.spare_shapes());
        let tensors = shapes.map(|(name, shape)| {
            let tensor = RandomTensor {
                weights: self,
                name: name.clone(),
                table: encoder.token_table(),
                shape,
            };
            (name, tensor)
        });
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize_to_file(tensors, Some(metadata), path)
            .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))
    }
}

/// A tensor that is drawn when it is written.
struct RandomTensor {
    weights: Weights,
    name: String,
    /// The name of the token embedding.
    table: &'static str,
    shape: Vec<usize>,
}

impl RandomTensor {
    fn values(&self) -> Vec<f32> {
        let count = self.shape.iter().product();
        if self.name.ends_with(".bias") {
            return vec![0.0; count];
        }
        // The only weights that are vectors are those of normalizations.
        if self.shape.len() < 2 {
            return vec![1.0; count];
        }
        let rng = Rng::new(self.weights.seed, &format!("encoder.{}", self.name));
        let mut values: Vec<f32> = (0..count as u64)
            .into_par_iter()
            .map(|index| (rng.normal(index) * self.weights.initializer_range) as f32)
            .collect();
        if self.name == self.table {
            let width = self.shape[1];
            values[self.weights.pad * width..][..width].fill(0.0);
        }
        values
    }
}

impl View for RandomTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Owned(self.values().into_iter().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.shape.iter().product::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;

    fn encoder(layers: usize) -> EncoderConfig {
        let sizes = json!({
            "model_type": "bert", "vocab_size": 50, "hidden_size": 32, "num_hidden_layers": layers, "num_attention_heads": 2,
            "intermediate_size": 64, "max_position_embeddings": 16,
        });
        EncoderConfig::from_json(sizes.to_string().as_bytes()).unwrap()
    }

    fn draw(seed: u64, layers: usize) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        Weights {
            seed,
            initializer_range: 0.02,
            pad: 3,
        }
        .write(&encoder(layers), &path)
        .unwrap();
        std::fs::read(path).unwrap()
    }

    fn floats(bytes: &[u8], name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        let data = tensors.tensor(name).unwrap().data().to_vec();
        data.chunks_exact(4)
            .map(|float| f32::from_le_bytes([float[0], float[1], float[2], float[3]]))
            .collect()
    }

    #[test]
    fn weights_depend_on_the_seed_and_not_on_further_layers() {
        let two = draw(1, 2);
        assert_eq!(two, draw(1, 2));
        let name = "encoder.layer.1.output.dense.weight";
        assert_eq!(floats(&two, name), floats(&draw(1, 3), name));
        assert_ne!(floats(&two, name), floats(&draw(2, 2), name));
        assert_ne!(floats(&two, name), floats(&two, "encoder.layer.0.output.dense.weight"));
    }

    #[test]
    fn weights_have_their_spread_and_norms_biases_and_padding_their_values() {
        let bytes = draw(7, 1);
        let words = floats(&bytes, "embeddings.word_embeddings.weight");
        assert!(words[3 * 32..4 * 32].iter().all(|&weight| weight == 0.0));
        let rest: Vec<f64> = words
            .iter()
            .enumerate()
            .filter(|(index, _)| index / 32 != 3)
            .map(|(_, &weight)| f64::from(weight))
            .collect();
        let spread = (rest.iter().map(|weight| weight * weight).sum::<f64>() / rest.len() as f64).sqrt();
        assert!((spread - 0.02).abs() < 0.001, "{spread}");
        assert!(
            floats(&bytes, "embeddings.LayerNorm.weight")
                .iter()
                .all(|&weight| weight == 1.0)
        );
        assert!(
            floats(&bytes, "encoder.layer.0.attention.self.query.bias")
                .iter()
                .all(|&weight| weight == 0.0)
        );
    }

    #[test]
    fn at_most_one_metadata_key_is_written() {
        let (_, header) = SafeTensors::read_metadata(&draw(7, 1)).unwrap();
        let metadata = header.metadata().clone().unwrap_or_default();
        assert_eq!(metadata, HashMap::from([("format".to_owned(), "pt".to_owned())]));
    }
}
