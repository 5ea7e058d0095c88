//! The kind `checkpoint`: a trained recognizer from a directory → a `model`, to be evaluated, calibrated or trained on.
//!
//! Three layouts are read, told apart by the files that are there:
//!
//! | layout | files |
//! |---|---|
//! | ours, and the reference's for publishing | `config.json`, `model.safetensors`, `token_encoder_config.json`, `type_encoder_config.json`, tokenizer files |
//! | the reference's bi-encoder | `config.json`, `model.pt`, `token_encoder/config.json`, `type_encoder/config.json`; no tokenizer |
//! | the reference's cross-encoder | `config.json`, `model.bin`, `tokenizer/tokenizer.json`; no configuration of the encoder |
//!
//! What a layout lacks comes from the encoders at the ports `token_encoder` and `type_encoder`. Pickles are read without running
//! anything in them. Out comes our own layout, whatever went in.

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Artifact, ArtifactFile, Context, Digest, Field, Input, InputFile, InputParts, Kind, Port, Resolved, SettingError,
    StageError, Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{TOKENIZER_DIGEST, TRAINING, config_json, read, rows_of, single, with_vocabulary, write};
use crate::batch::{LABEL_MARKER, THRESHOLD_MARKER};
use crate::model::{EncoderConfig, HostTensor, Recognizer};
use crate::recognizer::{Architecture, Masking, RecognizerConfig, Threshold};
use crate::tensors::{ModelFiles, WEIGHT_FILES, write_safetensors};
use crate::thresholds::THRESHOLDS;
use crate::tokenizer::TextTokenizer;
use crate::tokens::Format;

/// Keys of the reference's `config.json` that say nothing about the recognizer itself.
const OTHER_KEYS: [&str; 12] = [
    TRAINING,
    TOKENIZER_DIGEST,
    "token_encoder",
    "type_encoder",
    "transformers_version",
    "architectures",
    "model_type",
    "torch_dtype",
    "dtype",
    "_name_or_path",
    "vocab_size",
    "hidden_size",
];
/// The reference's window where nothing else is said.
const USUAL_WINDOW: usize = 512;

/// The settings of `checkpoint`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The checkpoint's directory.
    source: String,
    /// Which of the two it holds, because their artifacts have other parts.
    #[serde(default = "bi_encoder")]
    architecture: Architecture,
    /// Whether its `thresholds.json` is taken along.
    #[serde(default)]
    calibrated: bool,
    /// Replaces what the checkpoint says. The reference's do not say it: null means `tokens` there.
    #[serde(default)]
    annotation_format: Option<Format>,
    /// Replaces what the checkpoint says. Null where it says nothing: `subwords` with tokens, `none` with text.
    #[serde(default)]
    loss_masking: Option<Masking>,
    /// Replaces what the checkpoint says. Null where it says nothing: 512, or what the encoder can read.
    #[serde(default)]
    max_seq_length: Option<usize>,
    /// Replaces what the checkpoint says.
    #[serde(default)]
    prediction_threshold: Option<Threshold>,
}

fn bi_encoder() -> Architecture {
    Architecture::BiEncoder
}

/// The kind `checkpoint`. See the module's text.
pub struct TakeCheckpoint;

impl Kind for TakeCheckpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "takes a trained recognizer from a directory, also the reference's own"
    }

    fn weight(&self) -> Weight {
        Weight::Heavy
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 7] = [
            Field::input("source"),
            Field::counted("architecture"),
            Field::counted("calibrated"),
            Field::counted("annotation_format"),
            Field::counted("loss_masking"),
            Field::counted("max_seq_length"),
            Field::counted("prediction_threshold"),
        ];
        &FIELDS
    }

    fn takes_names(&self, setting: &str, _value: &str) -> bool {
        setting == "source"
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        const fn port(name: &'static str) -> Port {
            Port {
                name,
                takes: "encoder",
                required: false,
                collects: false,
            }
        }
        const PORTS: [Port; 2] = [port("token_encoder"), port("type_encoder")];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "model"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        if settings.source.contains(['*', '?', '[']) {
            return Err(
                SettingError::new("source", format!("`{}` is a pattern, not a directory", settings.source))
                    .help("name one checkpoint's directory"),
            );
        }
        let bi = settings.architecture == Architecture::BiEncoder;
        let mut parts = vec![
            "config.json",
            "model.safetensors",
            "token_encoder_config.json",
            "tokenizer.json",
        ];
        let mut ports = vec!["token_encoder"];
        if bi {
            parts.extend(["type_encoder_config.json", "type_tokenizer.json"]);
            ports.push("type_encoder");
        }
        parts.extend(settings.calibrated.then_some(THRESHOLDS));
        let mut resolved = Resolved::new(&settings)?.makes(parts);
        for port in ports.into_iter().filter(|port| inputs.connected(port)) {
            resolved = resolved.reads(port, ["config.json", "tokenizer.json"]);
        }
        if let Some(threshold) = settings.prediction_threshold {
            resolved = resolved.tells(super::THRESHOLD_KIND, threshold.kind());
        }
        Ok(resolved)
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let source = Source::open(ctx, &settings)?;
        let tensors = source.tensors()?;
        let architecture = if tensors.iter().any(|tensor| tensor.name.starts_with("type_encoder.")) {
            Architecture::BiEncoder
        } else {
            Architecture::CrossEncoder
        };
        if architecture != settings.architecture {
            let word = json!(architecture);
            return Err(StageError::new(format!(
                "the checkpoint holds {} type encoder, so it is a {word}, and `architecture` says otherwise",
                if architecture == Architecture::BiEncoder {
                    "a"
                } else {
                    "no"
                }
            ))
            .help(format!("set `architecture: {}`", word.as_str().unwrap_or_default())));
        }
        let bi = architecture == Architecture::BiEncoder;

        let token = source.encoder("token_encoder")?;
        let types = if bi {
            Some(source.encoder("type_encoder")?)
        } else {
            None
        };
        let config = source.recognizer(ctx, &settings, &token.config)?;
        let text_tokenizer = source.tokenizer(&config)?;
        let type_tokenizer = if bi {
            Some(source.type_tokenizer(&text_tokenizer.bytes)?)
        } else {
            None
        };

        let device = burn::tensor::Device::flex();
        let type_config = types.as_ref().map(|found| found.config.clone());
        let failed = |error: crate::model::RecognizerError| {
            StageError::new(format!(
                "`{}` does not fit the checkpoint's configuration: {error}",
                source.weights.name()
            ))
        };
        let recognizer =
            Recognizer::new(config.clone(), token.config.clone(), type_config, tensors, &device).map_err(failed)?;
        recognizer.check_vocabulary(text_tokenizer.tokens).map_err(failed)?;

        let rows = |prefix: &str, found: &Found| {
            let table = format!("{prefix}.{}", found.config.token_table());
            rows_of(recognizer.weights().shape(&table))
        };
        let training = source.config.get(TRAINING).cloned().unwrap_or(Value::Null);
        write(
            &ctx.out("config.json")?,
            &config_json(&config, training, &text_tokenizer.digest)?,
        )?;
        let json = with_vocabulary(&token.json, rows("token_encoder", &token))?;
        write(&ctx.out("token_encoder_config.json")?, &json)?;
        write(&ctx.out("tokenizer.json")?, &text_tokenizer.bytes)?;
        if let (Some(found), Some(bytes)) = (&types, &type_tokenizer) {
            let json = with_vocabulary(&found.json, rows("type_encoder", found))?;
            write(&ctx.out("type_encoder_config.json")?, &json)?;
            write(&ctx.out("type_tokenizer.json")?, bytes)?;
        }
        match (source.file(THRESHOLDS), settings.calibrated) {
            (Some(file), true) => write(&ctx.out(THRESHOLDS)?, &read(&file.path)?)?,
            (None, true) => {
                return Err(
                    StageError::new(format!("the checkpoint has no `{THRESHOLDS}`, so it is not calibrated"))
                        .help("leave `calibrated` out"),
                );
            }
            (Some(_), false) => ctx.warn(&format!(
                "the checkpoint's `{THRESHOLDS}` is not taken along; set `calibrated: true` to do so"
            )),
            (None, false) => {}
        }
        let tensors: Vec<HostTensor> = recognizer.weights().to_host().collect();
        write_safetensors(&ctx.out("model.safetensors")?, &tensors)
    }
}

/// The directory, and what stands in for what it lacks.
struct Source<'a> {
    files: &'a [InputFile],
    config: Map<String, Value>,
    weights: ModelFiles,
    token_encoder: Option<&'a Input>,
    type_encoder: Option<&'a Input>,
}

/// An encoder's configuration, as read and as it stands in the file.
struct Found {
    config: EncoderConfig,
    json: Vec<u8>,
}

/// The text's tokenizer.
struct FoundTokenizer {
    bytes: Vec<u8>,
    /// Of the `tokenizer.json` that texts are cut with, without markers where that is known.
    digest: Digest,
    tokens: usize,
}

impl<'a> Source<'a> {
    fn open(ctx: &'a Context, settings: &Settings) -> Result<Self, StageError> {
        let files = ctx.files("source");
        let shown = &settings.source;
        let Some(config) = files.iter().find(|file| file.name == "config.json") else {
            let inner = files.iter().find_map(|file| file.name.strip_suffix("/config.json"));
            let help = match inner {
                Some(inner) => format!("name the checkpoint itself, such as `{shown}/{inner}`"),
                None => "a checkpoint has config.json and its weights".to_owned(),
            };
            return Err(StageError::new(format!("`{shown}` has no `config.json`")).help(help));
        };
        let config_path = config.path.display();
        let config: Map<String, Value> = serde_json::from_slice(&read(&config.path)?)
            .map_err(|error| StageError::new(format!("`{config_path}` cannot be used: {error}")))?;
        let weights = ModelFiles::find(files)?.ok_or_else(|| {
            StageError::new(format!("`{shown}` has no weights"))
                .help(format!("they are looked for as `{}`", WEIGHT_FILES.join("`, `")))
        })?;
        Ok(Self {
            files,
            config,
            weights,
            token_encoder: ctx.input("token_encoder").ok(),
            type_encoder: ctx.input("type_encoder").ok(),
        })
    }

    fn file(&self, name: &str) -> Option<&InputFile> {
        self.files.iter().find(|file| file.name == name)
    }

    /// Every weight. Wrappers of a whole model leave their names before it.
    fn tensors(&self) -> Result<Vec<HostTensor>, StageError> {
        let mut tensors = Vec::new();
        for (file, entry) in self.weights.tensors() {
            let Some(mut tensor) = file.tensor(entry) else { continue };
            for wrapper in ["module.", "_orig_mod."] {
                if let Some(name) = tensor.name.strip_prefix(wrapper) {
                    tensor.name = name.to_owned();
                }
            }
            tensors.push(tensor);
        }
        Ok(tensors)
    }

    /// The bytes of the first file of these names, or else those of `part` at a port.
    fn bytes(&self, names: &[String], port: Option<&Input>, part: &str) -> Result<Option<Vec<u8>>, StageError> {
        match (names.iter().find_map(|name| self.file(name)), port) {
            (Some(file), _) => read(&file.path).map(Some),
            (None, Some(input)) => read(&single(input, part)?).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// What the reference calls the encoder in its configuration, for messages.
    fn named(&self, key: &str) -> String {
        let name = self.config.get(key).and_then(Value::as_str);
        name.map_or_else(|| "it".to_owned(), |name| format!("`{name}`"))
    }

    fn encoder(&self, which: &str) -> Result<Found, StageError> {
        let port = if which == "token_encoder" {
            self.token_encoder
        } else {
            self.type_encoder
        };
        let names = [format!("{which}_config.json"), format!("{which}/config.json")];
        let json = self.bytes(&names, port, "config.json")?.ok_or_else(|| {
            StageError::new(format!("the checkpoint has neither `{}` nor `{}`", names[0], names[1])).help(format!(
                "connect the encoder that it was made from ({}) to the port `{which}`",
                self.named(which)
            ))
        })?;
        let config = EncoderConfig::from_json(&json)
            .map_err(|error| StageError::new(format!("the configuration of `{which}`: {error}")))?;
        Ok(Found { config, json })
    }

    /// The recognizer's settings: the checkpoint's, those of the stage, and what is usual where both are silent.
    fn recognizer(
        &self,
        ctx: &Context,
        settings: &Settings,
        encoder: &EncoderConfig,
    ) -> Result<RecognizerConfig, StageError> {
        let failed = |error: serde_json::Error| {
            StageError::new(format!("the checkpoint's `config.json` cannot be used: {error}"))
        };
        let Value::Object(mut map) = serde_json::to_value(RecognizerConfig::default()).map_err(failed)? else {
            return Err(StageError::new("the recognizer's settings are no map"));
        };
        let mut unknown = Vec::new();
        for (key, value) in self.config.iter().filter(|(_, value)| !value.is_null()) {
            if map.contains_key(key) {
                map.insert(key.clone(), value.clone());
            } else if !OTHER_KEYS.contains(&key.as_str()) {
                unknown.push(format!("`{key}`"));
            }
        }
        if !unknown.is_empty() {
            ctx.warn(&format!(
                "the checkpoint's `config.json` has keys that mean nothing here: {}",
                unknown.join(", ")
            ));
        }
        map.insert("architecture".to_owned(), json!(settings.architecture));
        let said = |key: &str| self.config.get(key).is_some_and(|value| !value.is_null());
        let mut assumed = Map::new();
        let mut choose = |key: &str, asked: Value, usual: Value| {
            if !asked.is_null() {
                map.insert(key.to_owned(), asked);
            } else if !said(key) {
                assumed.insert(key.to_owned(), usual.clone());
                map.insert(key.to_owned(), usual);
            }
            map[key].clone()
        };
        let format = choose(
            "annotation_format",
            json!(settings.annotation_format),
            json!(Format::Tokens),
        );
        let masking = if format == json!(Format::Text) {
            Masking::None
        } else {
            Masking::Subwords
        };
        choose("loss_masking", json!(settings.loss_masking), json!(masking));
        let window = USUAL_WINDOW.min(encoder.window());
        choose("max_seq_length", json!(settings.max_seq_length), json!(window));
        if let Some(threshold) = settings.prediction_threshold {
            map.insert("prediction_threshold".to_owned(), json!(threshold));
        }
        if !assumed.is_empty() {
            ctx.note("assumed", Value::Object(assumed));
        }
        serde_json::from_value(Value::Object(map)).map_err(failed)
    }

    fn tokenizer(&self, config: &RecognizerConfig) -> Result<FoundTokenizer, StageError> {
        let names = [
            "tokenizer.json",
            "tokenizer/tokenizer.json",
            "token_encoder/tokenizer.json",
        ]
        .map(String::from);
        let bytes = self
            .bytes(&names, self.token_encoder, "tokenizer.json")?
            .ok_or_else(|| {
                StageError::new("the checkpoint has no tokenizer").help(format!(
                    "connect the encoder that it was made from ({}) to the port `token_encoder`",
                    self.named("token_encoder")
                ))
            })?;
        let parse = |bytes: &[u8], whose: &str| {
            TextTokenizer::from_bytes(bytes).map_err(|error| StageError::new(format!("{whose}: {error}")))
        };
        let tokenizer = parse(&bytes, "the checkpoint's tokenizer")?;
        let markers = [LABEL_MARKER]
            .into_iter()
            .chain(config.has_threshold_marker().then_some(THRESHOLD_MARKER));
        for marker in markers.filter(|_| !config.is_bi_encoder()) {
            if tokenizer.id(marker).is_none() {
                return Err(StageError::new(format!("the tokenizer has no `{marker}` token"))
                    .help("a cross-encoder's own tokenizer is needed, which has its markers"));
            }
        }
        let own = self.config.get(TOKENIZER_DIGEST).and_then(Value::as_str);
        let digest = match (own.and_then(|text| text.parse().ok()), self.token_encoder) {
            (Some(digest), _) => digest,
            (None, Some(input)) => {
                let plain = parse(&read(&single(input, "tokenizer.json")?)?, "the encoder's tokenizer")?;
                let is_same = |id: &u32| plain.token(*id) == tokenizer.token(*id);
                if let Some(id) = (0..plain.vocab_size() as u32).find(|id| !is_same(id)) {
                    let shown = |tokenizer: &TextTokenizer| tokenizer.token(id).unwrap_or_default();
                    return Err(StageError::new(format!(
                        "the encoder at `token_encoder` has another tokenizer than the checkpoint: token {id} is `{}` and `{}`",
                        shown(&plain),
                        shown(&tokenizer)
                    )));
                }
                let part = input.part("tokenizer.json");
                part.ok_or_else(|| StageError::new("the encoder has no `tokenizer.json`"))?
                    .digest
            }
            (None, None) => part_digest("tokenizer.json", &bytes)?,
        };
        Ok(FoundTokenizer {
            tokens: tokenizer.vocab_size(),
            bytes,
            digest,
        })
    }

    fn type_tokenizer(&self, text: &[u8]) -> Result<Vec<u8>, StageError> {
        let names = [
            "type_tokenizer.json",
            "type_tokenizer/tokenizer.json",
            "type_encoder/tokenizer.json",
        ]
        .map(String::from);
        if let Some(bytes) = self.bytes(&names, self.type_encoder, "tokenizer.json")? {
            return Ok(bytes);
        }
        let name = |key: &str| self.config.get(key).and_then(Value::as_str);
        match (name("token_encoder"), name("type_encoder")) {
            (Some(token), Some(types)) if token == types => Ok(text.to_owned()),
            _ => Err(
                StageError::new("the checkpoint has no tokenizer for the names of types").help(format!(
                    "connect the encoder that reads types ({}) to the port `type_encoder`",
                    self.named("type_encoder")
                )),
            ),
        }
    }
}

/// The digest that the part `name` of one file with these bytes will have.
fn part_digest(name: &str, bytes: &[u8]) -> Result<Digest, StageError> {
    let file = ArtifactFile {
        name: name.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let artifact = Artifact::new(vec![file]);
    let digest = artifact.parts().get(name).copied();
    digest.ok_or_else(|| StageError::new(format!("`{name}` is no part")))
}
