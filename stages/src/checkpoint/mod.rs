//! A trained recognizer on disk, as Hugging Face users expect it, and back.
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the recognizer's settings by the reference's names; under `training` those of the run that made it |
//! | `model.safetensors` | every weight by the reference's names, linear layers [out, in], f32 |
//! | `token_encoder_config.json`, `type_encoder_config.json` | the encoders' own `config.json` (the second: bi-encoder only) |
//! | `tokenizer.json` | the text's tokenizer; a cross-encoder's with its marker tokens |
//! | `type_tokenizer.json` | the types' tokenizer (bi-encoder only) |
//! | `README.md` | a model card |
//! | `thresholds.json` | thresholds that were chosen on validation data, if the model was calibrated: [`crate::thresholds`] |
//! | `training_log.jsonl` | loss, learning rate, gradient norm and batch of every step; the evaluations |

mod take;

use std::path::Path;

use nerpipe_engine::{Digest, Input, Part, PartFile, StageError};
use serde_json::{Map, Value};

use crate::model::{EncoderConfig, HostTensor};
use crate::recognizer::RecognizerConfig;
use crate::tensors::read_tensors;
use crate::tokenizer::TextTokenizer;

pub use take::TakeCheckpoint;

/// The key of `config.json` that holds the settings of the training; nothing reads it but people.
const TRAINING: &str = "training";
/// The key under which a kind tells what a model compares its scores with: `probability`, `cls` or `label_token`.
pub const THRESHOLD_KIND: &str = "threshold";
/// The key that holds the digest of the `tokenizer.json` the training texts were cut with (without marker tokens).
const TOKENIZER_DIGEST: &str = "tokenizer_digest";

/// What a checkpoint holds, but for its tokenizer.
pub struct Checkpoint {
    /// The recognizer's settings.
    pub config: RecognizerConfig,
    /// The token encoder's configuration.
    pub token_encoder: EncoderConfig,
    /// The type encoder's, of a bi-encoder.
    pub type_encoder: Option<EncoderConfig>,
    /// Every weight.
    pub tensors: Vec<HostTensor>,
    /// The digest of the tokenizer that texts must be cut with.
    pub tokenizer_digest: String,
}

/// The parts of a checkpoint that [`Checkpoint::read`] needs, of those on offer.
pub fn parts_to_read(offered: &[String]) -> Vec<String> {
    const PARTS: [&str; 6] = [
        "config.json",
        "model.safetensors",
        "token_encoder_config.json",
        "type_encoder_config.json",
        "tokenizer.json",
        "type_tokenizer.json",
    ];
    PARTS
        .into_iter()
        .filter(|part| offered.iter().any(|offer| offer == part))
        .map(String::from)
        .collect()
}

impl Checkpoint {
    /// Reads a checkpoint from the parts of a model artifact.
    ///
    /// # Errors
    /// If a part is missing or cannot be understood.
    pub fn read(model: &Input) -> Result<Self, StageError> {
        let (config, tokenizer_digest) = read_config(model)?;
        let type_encoder = match model.part("type_encoder_config.json") {
            Some(_) => Some(encoder_config(model, "type_encoder_config.json")?),
            None => None,
        };
        Ok(Self {
            config,
            token_encoder: encoder_config(model, "token_encoder_config.json")?,
            type_encoder,
            tensors: read_tensors(&single(model, "model.safetensors")?)?,
            tokenizer_digest,
        })
    }
}

/// The files of a directory that holds a whole model in the layout above, as the artifact that it was; none if something is missing.
///
/// # Errors
/// If a file cannot be read.
pub fn open_directory(folder: &Path) -> Result<Option<Input>, StageError> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let mut parts = parts_to_read(&names);
    let has = |name: &str| parts.iter().any(|part| part == name);
    let needed = [
        "config.json",
        "model.safetensors",
        "token_encoder_config.json",
        "tokenizer.json",
    ];
    let is_whole = needed.into_iter().all(has) && has("type_encoder_config.json") == has("type_tokenizer.json");
    let path = folder.join("config.json");
    if !is_whole || !String::from_utf8_lossy(&read(&path)?).contains(TOKENIZER_DIGEST) {
        return Ok(None);
    }
    parts.extend(names.into_iter().filter(|name| name == crate::thresholds::THRESHOLDS));
    let mut files = Vec::with_capacity(parts.len());
    let mut paths = std::collections::BTreeMap::new();
    for name in parts {
        let path = folder.join(&name);
        let (digest, size) = Digest::of_file(&path)
            .map_err(|error| StageError::new(format!("failed to read `{}`: {error}", path.display())))?;
        files.push(nerpipe_engine::ArtifactFile { name, digest, size });
        paths.insert(digest.to_string(), path);
    }
    let place = |digest: &Digest| paths.get(&digest.to_string()).cloned().unwrap_or_default();
    Ok(Some(nerpipe_engine::Artifact::new(files).open(None, place)))
}

/// The settings of the recognizer in a model artifact.
///
/// # Errors
/// If its `config.json` is missing or cannot be understood.
pub fn recognizer_config(model: &Input) -> Result<RecognizerConfig, StageError> {
    read_config(model).map(|(config, _)| config)
}

/// The digest of the tokenizer that the training texts of a model artifact were cut with.
///
/// # Errors
/// As [`recognizer_config`].
pub(crate) fn tokenizer_digest(model: &Input) -> Result<String, StageError> {
    read_config(model).map(|(_, digest)| digest)
}

fn read_config(model: &Input) -> Result<(RecognizerConfig, String), StageError> {
    let path = single(model, "config.json")?;
    let unusable = |reason: String| StageError::new(format!("the checkpoint's config.json cannot be used: {reason}"));
    let mut config: Map<String, Value> =
        serde_json::from_slice(&read(&path)?).map_err(|error| unusable(error.to_string()))?;
    config.remove(TRAINING);
    let Some(Value::String(tokenizer_digest)) = config.remove(TOKENIZER_DIGEST) else {
        return Err(unusable(format!("it has no `{TOKENIZER_DIGEST}`")));
    };
    let config = serde_json::from_value(Value::Object(config)).map_err(|error| unusable(error.to_string()))?;
    Ok((config, tokenizer_digest))
}

/// The bytes of a checkpoint's `config.json`.
///
/// # Errors
/// If the settings do not serialize (a non-finite number).
pub fn config_json(config: &RecognizerConfig, training: Value, tokenizer: &Digest) -> Result<Vec<u8>, StageError> {
    let failed =
        |error: serde_json::Error| StageError::new(format!("failed to write the checkpoint's config: {error}"));
    let Value::Object(mut map) = serde_json::to_value(config).map_err(failed)? else {
        return Err(StageError::new("the recognizer's settings are no map"));
    };
    map.insert(TOKENIZER_DIGEST.to_owned(), Value::String(tokenizer.to_string()));
    map.insert(TRAINING.to_owned(), training);
    let mut bytes = serde_json::to_vec_pretty(&map).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Whether an input's `tokenizer.json` cuts texts as the model of `checkpoint` needs it: it is the one that the training texts were
/// cut with, or the checkpoint's own, which differs from it by marker tokens only.
pub(crate) fn is_cut_for(tokens: &Input, checkpoint: &Input, tokenizer_digest: &str) -> bool {
    let digest = |input: &Input| input.part("tokenizer.json").map(|part| part.digest);
    let found = digest(tokens);
    found.is_some()
        && (found == digest(checkpoint) || found.map(|digest| digest.to_string()).as_deref() == Some(tokenizer_digest))
}

/// The tokenizer file that names of types are cut with: an artifact's own for them, or else its only one.
pub(crate) fn type_tokenizer(input: &Input) -> Option<&PartFile> {
    let part = input
        .part("type_tokenizer.json")
        .or_else(|| input.part("tokenizer.json"))?;
    part.files.first()
}

/// The rows of an embedding table of this shape.
pub(crate) fn rows_of(shape: Option<&[usize]>) -> usize {
    shape.and_then(|shape| shape.first()).copied().unwrap_or(0)
}

/// An encoder's `config.json` with a `vocab_size` of `rows`, where marker tokens made the table grow: whoever builds the
/// encoder from it gets a table that the weights fit. Unchanged otherwise.
///
/// # Errors
/// If it is no JSON.
pub(crate) fn with_vocabulary(json: &[u8], rows: usize) -> Result<Vec<u8>, StageError> {
    let failed = |error: serde_json::Error| StageError::new(format!("the encoder's config.json: {error}"));
    let mut config: Map<String, Value> = serde_json::from_slice(json).map_err(failed)?;
    if config.get("vocab_size").and_then(Value::as_u64) == Some(rows as u64) {
        return Ok(json.to_owned());
    }
    config.insert("vocab_size".to_owned(), Value::from(rows));
    let mut bytes = serde_json::to_vec_pretty(&config).map_err(failed)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads the encoder configuration in part `name` of an encoder or checkpoint.
///
/// # Errors
/// If the part is missing or describes an encoder that is not supported.
pub fn encoder_config(input: &Input, name: &str) -> Result<EncoderConfig, StageError> {
    let bytes = read(&single(input, name)?)?;
    EncoderConfig::from_json(&bytes).map_err(|error| StageError::new(format!("{name}: {error}")))
}

/// The tokenizer in part `name` of an encoder, tokens or checkpoint.
///
/// # Errors
/// If the part is missing or is no tokenizer.
pub fn open_tokenizer(input: &Input, name: &str) -> Result<TextTokenizer, StageError> {
    TextTokenizer::from_file(&single(input, name)?).map_err(|error| StageError::new(error.to_string()))
}

/// The path of a part that is one file.
///
/// # Errors
/// If the input does not have it.
pub fn single(input: &Input, name: &str) -> Result<std::path::PathBuf, StageError> {
    let file = input.part(name).and_then(|part: &Part| part.files.first());
    file.map(|file| file.path.clone())
        .ok_or_else(|| StageError::new(format!("the input has no `{name}`")))
}

/// The bytes of a file.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, StageError> {
    std::fs::read(path).map_err(|error| StageError::new(format!("failed to read `{}`: {error}", path.display())))
}

/// Writes a file of an artifact.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    std::fs::write(path, bytes)
        .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))
}

/// Copies a file of an input into the artifact.
///
/// # Errors
/// If it cannot be read or written.
pub fn copy(from: &Path, to: &Path) -> Result<(), StageError> {
    write(to, &read(from)?)
}
