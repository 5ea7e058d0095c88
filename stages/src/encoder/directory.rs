//! An encoder from a Hugging Face directory: files are checked, weights brought to one form.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use half::{bf16, f16};
use nerpipe_engine::context::InputFile;
use nerpipe_engine::{Context, StageError};
use safetensors::tensor::{TensorView, View};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{CONFIG, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, WEIGHTS, tokenizer_config, write, write_json};
use crate::mapped::map_file;
use crate::model::EncoderConfig;
use crate::tokenizer::TextTokenizer;
use crate::wordpiece;

/// How many wrong tensors an error names.
const SHOWN_TENSORS: usize = 5;

/// Writes the artifact from the files of the directory.
pub(super) fn take(ctx: &Context) -> Result<(), StageError> {
    let files = ctx.files("source");
    let config_file = needed(files, CONFIG)?;
    let mut config = read_json(config_file)?;
    let encoder = EncoderConfig::from_json(config.to_string().as_bytes())
        .map_err(|error| StageError::new(format!("`{CONFIG}`: {error}")))?;

    let (tokenizer_bytes, tokenizer_settings) = tokenizer(files)?;
    let tokenizer = TextTokenizer::from_bytes(&tokenizer_bytes)
        .map_err(|error| StageError::new(format!("`{TOKENIZER}`: {error}")))?;
    if tokenizer.vocab_size() > encoder.vocab_size() {
        return Err(StageError::new(format!(
            "the tokenizer has {} tokens, but the encoder has embeddings for {} (`vocab_size` in `{CONFIG}`)",
            tokenizer.vocab_size(),
            encoder.vocab_size()
        ))
        .help("take the tokenizer and the weights from the same model"));
    }

    let weights = needed(files, WEIGHTS)?;
    let mapped = map_file(&weights.path).map_err(|error| cannot_read(weights, error))?;
    let tensors = SafeTensors::deserialize(&mapped)
        .map_err(|error| StageError::new(format!("`{}` is no safetensors file: {error}", weights.path.display())))?;
    let ignored = write_weights(&tensors, &encoder, &ctx.out(WEIGHTS)?)
        .map_err(|reason| StageError::new(format!("`{}`: {reason}", weights.path.display())))?;
    if ignored > 0 {
        ctx.note("tensors_outside_the_encoder", Value::from(ignored));
    }

    // Where the files once were is no property of the encoder.
    remove_key(&mut config, "_name_or_path");
    write_json(ctx, CONFIG, &config)?;
    write(&ctx.out(TOKENIZER)?, &tokenizer_bytes)?;
    let settings = tokenizer_settings.unwrap_or_else(|| tokenizer_config(&tokenizer, encoder.window()));
    write_json(ctx, TOKENIZER_CONFIG, &settings)
}

fn needed<'a>(files: &'a [InputFile], name: &str) -> Result<&'a InputFile, StageError> {
    files.iter().find(|file| file.name == name).ok_or_else(|| {
        StageError::new(format!("the encoder's directory has no `{name}`"))
            .help("a directory needs config.json, model.safetensors, and tokenizer.json or vocab.txt")
    })
}

fn cannot_read(file: &InputFile, error: impl std::fmt::Display) -> StageError {
    StageError::new(format!("failed to read `{}`: {error}", file.path.display()))
}

fn read_json(file: &InputFile) -> Result<Value, StageError> {
    let bytes = std::fs::read(&file.path).map_err(|error| cannot_read(file, error))?;
    serde_json::from_slice(&bytes).map_err(|error| cannot_read(file, error))
}

fn remove_key(value: &mut Value, key: &str) {
    if let Value::Object(map) = value {
        map.shift_remove(key);
    }
}

/// The bytes of tokenizer.json, and what tokenizer_config.json says if it is there.
fn tokenizer(files: &[InputFile]) -> Result<(Vec<u8>, Option<Value>), StageError> {
    let find = |name: &str| files.iter().find(|file| file.name == name);
    let mut settings = find(TOKENIZER_CONFIG).map(read_json).transpose()?;
    if let Some(settings) = &mut settings {
        remove_key(settings, "name_or_path");
    }
    if let Some(file) = find(TOKENIZER) {
        let bytes = std::fs::read(&file.path).map_err(|error| cannot_read(file, error))?;
        return Ok((bytes, settings));
    }
    // Older directories have a vocabulary in place of a tokenizer.
    let Some(file) = find(VOCABULARY) else {
        return Err(StageError::new(format!(
            "the encoder's directory has neither `{TOKENIZER}` nor `{VOCABULARY}`"
        ))
        .help("save the tokenizer with `tokenizer.save_pretrained(directory)`"));
    };
    let text = std::fs::read_to_string(&file.path).map_err(|error| cannot_read(file, error))?;
    let vocabulary = wordpiece::read_vocabulary(&text)
        .map_err(|error| StageError::new(format!("`{}`:{error}", file.path.display())))?;
    let said = |key: &str| settings.as_ref().and_then(|settings| settings[key].as_bool());
    let mut json = wordpiece::tokenizer_json(
        &vocabulary,
        wordpiece::Options {
            lowercase: said("do_lower_case").unwrap_or(true),
        },
    );
    json["normalizer"]["handle_chinese_chars"] = Value::from(said("tokenize_chinese_chars").unwrap_or(true));
    json["normalizer"]["strip_accents"] = said("strip_accents").map_or(Value::Null, Value::from);
    Ok((json.to_string().into_bytes(), settings))
}

/// Writes the encoder's tensors to `path`; gives the number of tensors that are none of the encoder's.
fn write_weights(found: &SafeTensors<'_>, encoder: &EncoderConfig, path: &Path) -> Result<usize, String> {
    let mut by_name: BTreeMap<String, TensorView<'_>> = BTreeMap::new();
    for (name, tensor) in found.iter() {
        let name = our_name(name);
        if by_name.insert(name.clone(), tensor).is_some() {
            return Err(format!(
                "the tensor `{name}` is there twice, with and without the prefix `bert.`"
            ));
        }
    }
    let mut problems = Vec::new();
    let mut tensors = Vec::new();
    let needed = encoder.shapes().into_iter().map(|(name, shape)| (name, shape, true));
    let spare = encoder
        .spare_shapes()
        .into_iter()
        .map(|(name, shape)| (name, shape, false));
    for (name, shape, is_needed) in needed.chain(spare) {
        match by_name.remove(&name) {
            Some(tensor) if tensor.shape() != shape => {
                problems.push(format!("`{name}` is {:?}, expected {shape:?}", tensor.shape()));
            }
            Some(tensor) if !matches!(tensor.dtype(), Dtype::F32 | Dtype::F16 | Dtype::BF16) => {
                problems.push(format!(
                    "`{name}` is of type {:?}, expected F32, F16 or BF16",
                    tensor.dtype()
                ));
            }
            Some(tensor) => tensors.push((name, Floats { tensor })),
            None if is_needed => problems.push(format!("`{name}` is missing")),
            None => {}
        }
    }
    if !problems.is_empty() {
        let more = problems.len().saturating_sub(SHOWN_TENSORS);
        problems.truncate(SHOWN_TENSORS);
        let more = if more > 0 {
            format!(", and {more} more")
        } else {
            String::new()
        };
        return Err(format!(
            "the tensors do not fit `{CONFIG}`: {}{more}",
            problems.join(", ")
        ));
    }
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), path)
        .map_err(|error| format!("failed to write: {error}"))?;
    Ok(by_name.keys().filter(|name| !name.ends_with("position_ids")).count())
}

/// A tensor's name without the prefix of a whole model, and with today's names of normalizations.
fn our_name(name: &str) -> String {
    let name = name.strip_prefix("bert.").unwrap_or(name);
    if let Some(norm) = name.strip_suffix("LayerNorm.gamma") {
        return format!("{norm}LayerNorm.weight");
    }
    if let Some(norm) = name.strip_suffix("LayerNorm.beta") {
        return format!("{norm}LayerNorm.bias");
    }
    name.to_owned()
}

/// A tensor as 32-bit floats, converted when it is written.
struct Floats<'a> {
    tensor: TensorView<'a>,
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.tensor.shape()
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let bytes = self.tensor.data();
        let widen = |float: fn([u8; 2]) -> f32| -> Vec<u8> {
            bytes
                .chunks_exact(2)
                .flat_map(|pair| float([pair[0], pair[1]]).to_le_bytes())
                .collect()
        };
        match self.tensor.dtype() {
            Dtype::F16 => Cow::Owned(widen(|pair| f16::from_le_bytes(pair).to_f32())),
            Dtype::BF16 => Cow::Owned(widen(|pair| bf16::from_le_bytes(pair).to_f32())),
            _ => Cow::Borrowed(bytes),
        }
    }

    fn data_len(&self) -> usize {
        4 * self.tensor.shape().iter().product::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder() -> EncoderConfig {
        EncoderConfig::from_json(
            br#"{"model_type": "bert", "vocab_size": 6, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
                "intermediate_size": 8, "max_position_embeddings": 9}"#,
        )
        .unwrap()
    }

    fn tensors() -> Vec<(String, Vec<usize>)> {
        [encoder().shapes(), encoder().spare_shapes()].concat()
    }

    /// Tensors of a whole model: `change` may rename or drop one, or give it another shape.
    fn model(change: impl Fn(&str, Vec<usize>) -> Option<(String, Vec<usize>)>, float: Dtype) -> Vec<u8> {
        let width = float.bitsize() / 8;
        let data: Vec<(String, Vec<usize>, Vec<u8>)> = tensors()
            .into_iter()
            .chain([("cls.predictions.bias".to_owned(), vec![6])])
            .filter_map(|(name, shape)| change(&name, shape))
            .map(|(name, shape)| {
                let count = shape.iter().product::<usize>();
                let bytes: Vec<u8> = (0..count)
                    .flat_map(|index| {
                        let value = index as f32 * 0.5;
                        match width {
                            2 => f16::from_f32(value).to_le_bytes().to_vec(),
                            _ => value.to_le_bytes().to_vec(),
                        }
                    })
                    .collect();
                (name, shape, bytes)
            })
            .collect();
        let views = data
            .iter()
            .map(|(name, shape, bytes)| (name.clone(), TensorView::new(float, shape.clone(), bytes).unwrap()));
        safetensors::serialize(views, None).unwrap()
    }

    fn normalize(bytes: &[u8]) -> Result<(usize, Vec<u8>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let ignored = write_weights(&SafeTensors::deserialize(bytes).unwrap(), &encoder(), &path)?;
        Ok((ignored, std::fs::read(path).unwrap()))
    }

    #[test]
    fn prefixes_old_names_and_half_floats_come_to_one_form() {
        let plain = normalize(&model(|name, shape| Some((name.to_owned(), shape)), Dtype::F32)).unwrap();
        assert_eq!(plain.0, 1, "one tensor is not the encoder's");
        let old = |name: &str, shape| {
            let name = name
                .replace("LayerNorm.weight", "LayerNorm.gamma")
                .replace("LayerNorm.bias", "LayerNorm.beta");
            Some((
                if name.starts_with("cls.") {
                    name
                } else {
                    format!("bert.{name}")
                },
                shape,
            ))
        };
        assert_eq!(normalize(&model(old, Dtype::F16)).unwrap(), plain);
        let written = SafeTensors::deserialize(&plain.1).unwrap();
        assert_eq!(written.len(), tensors().len());
        let words = written.tensor("embeddings.word_embeddings.weight").unwrap();
        assert_eq!((words.dtype(), words.shape()), (Dtype::F32, &[6, 4][..]));
        assert_eq!(words.data()[4..8], 0.5f32.to_le_bytes());
    }

    #[test]
    fn a_pooler_may_be_missing_and_nothing_else() {
        let without = |part: &'static str| {
            model(
                move |name, shape| (!name.starts_with(part)).then(|| (name.to_owned(), shape)),
                Dtype::F32,
            )
        };
        assert!(normalize(&without("pooler.")).is_ok());
        let error = normalize(&without("encoder.layer.0.attention.self.query")).unwrap_err();
        assert!(
            error.contains("`encoder.layer.0.attention.self.query.weight` is missing"),
            "{error}"
        );
        let wide = model(
            |name, shape| Some((name.to_owned(), [shape, vec![1]].concat())),
            Dtype::F32,
        );
        let error = normalize(&wide).unwrap_err();
        assert!(
            error.contains("is [6, 4, 1], expected [6, 4]") && error.contains("more"),
            "{error}"
        );
    }
}
