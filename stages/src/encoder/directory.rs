//! An encoder from a Hugging Face directory: files are checked, weights brought to one form.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use nerpipe_engine::context::InputFile;
use nerpipe_engine::{Context, StageError};
use safetensors::Dtype;
use safetensors::tensor::View;
use serde_json::Value;

use super::bytelevel;
use super::{CONFIG, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, WEIGHTS, tokenizer_config, write, write_json};
use crate::model::EncoderConfig;
use crate::tensors::{Entry, ModelFiles, TensorFile};
use crate::tokenizer::TextTokenizer;
use crate::wordpiece;

/// The two files of a byte-level tokenizer without tokenizer.json.
const BPE_FILES: [&str; 2] = ["vocab.json", "merges.txt"];
/// How many wrong tensors an error names.
const SHOWN_TENSORS: usize = 5;
/// How alike two names must be for one to be taken for a misspelling of the other.
const ALIKE: f64 = 0.9;

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

    let weights = ModelFiles::find(files)?.ok_or_else(|| lacks(WEIGHTS))?;
    let unused = write_weights(&weights.tensors(), &encoder, &ctx.out(WEIGHTS)?)
        .map_err(|reason| StageError::new(format!("`{}`: {reason}", weights.name())))?;
    if !unused.is_empty() {
        ctx.note("tensors_outside_the_encoder", Value::from(unused.len()));
        ctx.log(&format!("tensors outside the encoder: {}", unused.join(", ")));
    }

    // Where the files once were is no property of the encoder.
    remove_key(&mut config, "_name_or_path");
    write_json(ctx, CONFIG, &config)?;
    write(&ctx.out(TOKENIZER)?, &tokenizer_bytes)?;
    let settings = tokenizer_settings.unwrap_or_else(|| tokenizer_config(&tokenizer, encoder.window()));
    write_json(ctx, TOKENIZER_CONFIG, &settings)
}

fn needed<'a>(files: &'a [InputFile], name: &str) -> Result<&'a InputFile, StageError> {
    files.iter().find(|file| file.name == name).ok_or_else(|| lacks(name))
}

fn lacks(name: &str) -> StageError {
    StageError::new(format!("the encoder's directory has no `{name}`")).help(
        "a directory needs config.json, model.safetensors (or pytorch_model.bin, or the index of either), and tokenizer.json or \
         vocab.txt",
    )
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
    if let (Some(vocabulary), Some(merges)) = (find(BPE_FILES[0]), find(BPE_FILES[1])) {
        let said = settings
            .as_ref()
            .and_then(|settings| settings["add_prefix_space"].as_bool());
        let bytes = bytelevel::tokenizer_json(&vocabulary.path, &merges.path, said.unwrap_or(false));
        return Ok((bytes?, settings));
    }
    let Some(file) = find(VOCABULARY) else {
        let sentencepiece = files.iter().find(|file| file.name.ends_with(".model"));
        return Err(match sentencepiece {
            Some(file) => {
                let folder = file.path.parent().unwrap_or(&file.path).display();
                StageError::new(format!(
                    "the tokenizer is there as `{}` only, a SentencePiece model, which is not read",
                    file.name
                ))
                .help(format!(
                    "write the `{TOKENIZER}` that is needed once, with a Python that has transformers, sentencepiece and protobuf: \
                     python -c \"from transformers import AutoTokenizer; \
                     AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
                ))
            }
            None => StageError::new(format!(
                "the encoder's directory has neither `{TOKENIZER}` nor `{VOCABULARY}`"
            ))
            .help("save the tokenizer with `tokenizer.save_pretrained(directory)`"),
        });
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

/// A tensor and the file that holds it.
type Found<'a> = (&'a TensorFile, &'a Entry);

/// Writes the encoder's tensors to `path`; gives the names of those that are none of the encoder's.
fn write_weights(found: &[Found<'_>], encoder: &EncoderConfig, path: &Path) -> Result<Vec<String>, String> {
    let prefix = prefix(found, encoder);
    let mut by_name: BTreeMap<String, Found<'_>> = BTreeMap::new();
    let mut unused = Vec::new();
    for &(file, entry) in found {
        match entry.name.strip_prefix(&prefix) {
            Some(name) => {
                by_name.insert(today(name), (file, entry));
            }
            None => unused.push(entry.name.clone()),
        }
    }
    let mut problems = Vec::new();
    let mut tensors = Vec::new();
    let needed = encoder.shapes().into_iter().map(|(name, shape)| (name, shape, true));
    let spare = encoder
        .spare_shapes()
        .into_iter()
        .map(|(name, shape)| (name, shape, false));
    let mut missing = Vec::new();
    for (name, shape, is_needed) in needed.chain(spare) {
        match by_name.remove(&name) {
            Some((_, entry)) if entry.shape != shape && is_needed => {
                problems.push(format!("`{name}` is {:?}, expected {shape:?}", entry.shape));
            }
            // A pooler of another size, say: nothing reads it.
            Some((_, entry)) if entry.shape != shape => unused.push(entry.name.clone()),
            Some((_, entry)) if !entry.is_float() => {
                problems.push(format!("`{name}` is of type {:?}, expected floats", entry.dtype));
            }
            Some((file, entry)) => tensors.push((name, Floats { file, entry })),
            None if is_needed => missing.push(name),
            None => {}
        }
    }
    unused.extend(by_name.values().map(|(_, entry)| entry.name.clone()));
    // Positions that old files list as tensors are counted from 0 here.
    unused.retain(|name| !name.ends_with("position_ids"));
    unused.sort();
    problems.extend(missing.into_iter().map(|name| {
        let near = unused
            .iter()
            .map(|other| (strsim::jaro_winkler(other, &name), other))
            .filter(|(likeness, _)| *likeness > ALIKE)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        match near {
            Some((_, near)) => format!("`{name}` is missing (there is `{near}`)"),
            None => format!("`{name}` is missing"),
        }
    }));
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
    Ok(unused)
}

/// What stands before the names of the encoder's tensors: nothing, or `bert.`, `model.encoder.` … where the file holds more than the
/// encoder. It shows at the token embedding; of several, that with the most of the encoder's tensors behind it.
fn prefix(found: &[Found<'_>], encoder: &EncoderConfig) -> String {
    let names: std::collections::BTreeSet<&str> = found.iter().map(|(_, entry)| entry.name.as_str()).collect();
    let prefixes = names.iter().filter_map(|name| name.strip_suffix(encoder.token_table()));
    let behind = |prefix: &&str| {
        let shapes = encoder.shapes().into_iter();
        shapes
            .filter(|(name, _)| names.contains(format!("{prefix}{name}").as_str()))
            .count()
    };
    // Of equals the first by name.
    prefixes.rev().max_by_key(behind).unwrap_or_default().to_owned()
}

/// A tensor's name in today's words: normalizations were `gamma` and `beta` once.
fn today(name: &str) -> String {
    for (old, new) in [
        ("LayerNorm.gamma", "LayerNorm.weight"),
        ("LayerNorm.beta", "LayerNorm.bias"),
    ] {
        if let Some(norm) = name.strip_suffix(old) {
            return format!("{norm}{new}");
        }
    }
    name.to_owned()
}

/// A tensor as 32-bit floats, converted when it is written.
struct Floats<'a> {
    file: &'a TensorFile,
    entry: &'a Entry,
}

impl View for Floats<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.entry.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let values = self.file.floats(self.entry).unwrap_or_default();
        Cow::Owned(values.into_iter().flat_map(f32::to_le_bytes).collect())
    }

    fn data_len(&self) -> usize {
        4 * self.entry.len()
    }
}

#[cfg(test)]
mod tests {
    use half::f16;
    use safetensors::SafeTensors;
    use safetensors::tensor::TensorView;

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

    fn normalize(bytes: &[u8]) -> Result<(Vec<String>, Vec<u8>), String> {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("in"), folder.path().join("out"));
        std::fs::write(&from, bytes).unwrap();
        let file = TensorFile::open(&from).unwrap();
        let found: Vec<Found<'_>> = file.entries().iter().map(|entry| (&file, entry)).collect();
        let unused = write_weights(&found, &encoder(), &to)?;
        Ok((unused, std::fs::read(to).unwrap()))
    }

    #[test]
    fn prefixes_old_names_and_half_floats_come_to_one_form() {
        let plain = normalize(&model(|name, shape| Some((name.to_owned(), shape)), Dtype::F32)).unwrap();
        assert_eq!(plain.0, ["cls.predictions.bias"]);
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

    /// As sentence-transformers and whole encoder-decoders keep their encoders; a second table decides nothing.
    #[test]
    fn any_prefix_is_found_by_the_token_embedding() {
        let plain = normalize(&model(|name, shape| Some((name.to_owned(), shape)), Dtype::F32)).unwrap();
        let wrapped = |name: &str, shape| Some((format!("0.auto_model.{name}"), shape));
        assert_eq!(normalize(&model(wrapped, Dtype::F32)).unwrap().1, plain.1);
        let misspelt = |name: &str, shape| Some((name.replace("self.query", "self.qeury"), shape));
        let error = normalize(&model(misspelt, Dtype::F32)).unwrap_err();
        assert!(
            error.contains("(there is `encoder.layer.0.attention.self.qeury.weight`)"),
            "{error}"
        );
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
