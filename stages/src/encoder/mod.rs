//! The kind `encoder`: a pretrained encoder from a directory, or one with random weights.
//!
//! Produces an `encoder`: `config.json`, `model.safetensors` (32-bit floats, Hugging Face's tensor names without a
//! prefix), `tokenizer.json` and `tokenizer_config.json`, and `vocab.txt` with random weights. Each is a part of its own,
//! so that new weights never tokenize anything again.
//!
//! `source` is the word `random` or a directory as Hugging Face users keep them. The tokenizer of a random encoder is a
//! WordPiece one: its `vocabulary` is a file with one subword a line, or `vocabulary_size` subwords are trained on the
//! training texts of the port `corpus`, which is read only then.

mod bytelevel;
mod directory;
mod family;
mod random;

use std::path::Path;

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::tokenizer::TextTokenizer;

/// The file of an encoder's sizes.
pub const CONFIG: &str = "config.json";
/// The file of an encoder's weights.
pub const WEIGHTS: &str = "model.safetensors";
/// The file of an encoder's tokenizer.
pub const TOKENIZER: &str = "tokenizer.json";
/// The file that tells Hugging Face users how to load the tokenizer.
pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";

/// The file of a WordPiece vocabulary, one subword a line.
pub const VOCABULARY: &str = "vocab.txt";

/// The files of a directory that are looked at. Each pattern must match one; which of those are needed shows when they are read.
const FILES: [&str; 3] = [
    CONFIG,
    // model.safetensors, pytorch_model.bin, their indexes and shards
    "[mp][oy]*[ns]",
    // tokenizer.json, tokenizer_config.json, vocab.txt, vocab.json, merges.txt, spiece.model, sentencepiece.bpe.model, …
    "[tvms][oep][kcrniem]*",
];

/// The word that asks for random weights.
const RANDOM: &str = "random";
/// The port that a vocabulary is trained on, and the part of it.
const CORPUS: (&str, &str) = ("corpus", "train");

/// The settings of `encoder` as written. All but `source` go with random weights.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// `random`, or a directory with config.json, model.safetensors, and tokenizer.json or vocab.txt.
    source: String,
    /// A file with one subword a line.
    vocabulary: Option<String>,
    /// How many subwords to train on the port `corpus`, special tokens included.
    vocabulary_size: Option<usize>,
    /// Whether the tokenizer lower-cases (default: yes).
    lowercase: Option<bool>,
    /// The width of a token's state (default 128).
    hidden_size: Option<usize>,
    /// Which family the encoder is of (default: BERT).
    family: Option<Family>,
    /// How many layers there are (default 2).
    layers: Option<usize>,
    /// How many attention heads a layer has (default: one for every 64 of `hidden_size`).
    heads: Option<usize>,
    /// The width of a layer's feed-forward part (default: four times `hidden_size`).
    intermediate_size: Option<usize>,
    /// The longest input, special tokens included (default 512).
    max_position_embeddings: Option<usize>,
    /// The dropout that the encoder trains with (default 0.1).
    dropout: Option<f64>,
    /// The standard deviation of the weights (default 0.02).
    initializer_range: Option<f64>,
    /// The seed of the weights (default 0).
    seed: Option<u64>,
}

/// A family that an encoder with random weights can be of, by its `model_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Family {
    Bert,
    Roberta,
    Distilbert,
    Electra,
    Rembert,
    DebertaV2,
    Modernbert,
    T5,
    Mt5,
}

/// The settings of `encoder` with defaults filled in: files of a directory, or everything about random weights.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Settings {
    /// The directory's files; none for random weights.
    source: Option<Vec<String>>,
    vocabulary: Option<String>,
    vocabulary_size: Option<usize>,
    lowercase: Option<bool>,
    /// None is BERT.
    #[serde(default)]
    family: Option<Family>,
    hidden_size: Option<usize>,
    layers: Option<usize>,
    heads: Option<usize>,
    intermediate_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    dropout: Option<f64>,
    initializer_range: Option<f64>,
    seed: Option<u64>,
}

/// The kind `encoder`. See the module's text.
pub struct Encoder;

impl Kind for Encoder {
    fn name(&self) -> &'static str {
        "encoder"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "takes a pretrained encoder, or makes one with random weights"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 13] = [
            Field::input("source"),
            Field::input("vocabulary"),
            Field::counted("vocabulary_size"),
            Field::counted("lowercase"),
            Field::counted("family"),
            Field::counted("hidden_size"),
            Field::counted("layers"),
            Field::counted("heads"),
            Field::counted("intermediate_size"),
            Field::counted("max_position_embeddings"),
            Field::counted("dropout"),
            Field::counted("initializer_range"),
            Field::counted("seed"),
        ];
        &FIELDS
    }

    fn takes_names(&self, setting: &str, value: &str) -> bool {
        setting == "source" && value != RANDOM
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Written>())
    }

    fn ports(&self) -> &'static [Port] {
        const PORTS: [Port; 1] = [Port {
            name: CORPUS.0,
            takes: "corpus",
            required: false,
            collects: false,
        }];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "encoder"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let written: Written = parse_settings(settings)?;
        let settings = if written.source == RANDOM {
            fill_random(&written, inputs)?
        } else {
            directory_files(&written)?
        };
        let trains = settings.vocabulary_size.is_some();
        let parts = [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG].into_iter();
        let random = settings.source.is_none();
        let resolved = Resolved::new(&settings)?.makes(parts.chain(random.then_some(VOCABULARY)));
        Ok(if trains {
            resolved.reads(CORPUS.0, [CORPUS.1])
        } else {
            resolved
        })
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        if settings.source.is_some() {
            directory::take(ctx)
        } else {
            random::make(ctx, &settings)
        }
    }
}

/// The files of a directory that count. Settings about random weights are refused beside it.
fn directory_files(written: &Written) -> Result<Settings, SettingError> {
    let others = [
        ("vocabulary", written.vocabulary.is_some()),
        ("vocabulary_size", written.vocabulary_size.is_some()),
        ("lowercase", written.lowercase.is_some()),
        ("family", written.family.is_some()),
        ("hidden_size", written.hidden_size.is_some()),
        ("layers", written.layers.is_some()),
        ("heads", written.heads.is_some()),
        ("intermediate_size", written.intermediate_size.is_some()),
        ("max_position_embeddings", written.max_position_embeddings.is_some()),
        ("dropout", written.dropout.is_some()),
        ("initializer_range", written.initializer_range.is_some()),
        ("seed", written.seed.is_some()),
    ];
    if let Some((name, _)) = others.into_iter().find(|(_, given)| *given) {
        return Err(SettingError::new(
            name,
            format!("`{name}` goes with random weights, but `source` is a directory"),
        )
        .help(format!("leave `{name}` out, or write `source: random`")));
    }
    let folder = written.source.trim_end_matches('/');
    if folder.is_empty() {
        return Err(SettingError::new("source", "no directory is named").help("name one, or write `random`"));
    }
    if folder.contains(['*', '?', '[']) {
        return Err(
            SettingError::new("source", format!("`{folder}` is a pattern, not a directory"))
                .help("name one directory; its name must not hold `*`, `?` or `[`"),
        );
    }
    let files = FILES.map(|file| format!("{folder}/{file}"));
    Ok(Settings {
        source: Some(files.to_vec()),
        ..Settings::default()
    })
}

/// Everything about random weights, defaults filled in.
fn fill_random(written: &Written, inputs: &InputParts) -> Result<Settings, SettingError> {
    match (&written.vocabulary, written.vocabulary_size) {
        (Some(_), Some(_)) => {
            return Err(
                SettingError::new("vocabulary_size", "the vocabulary is given as a file already")
                    .help("leave out `vocabulary` or `vocabulary_size`"),
            );
        }
        (None, None) => {
            return Err(SettingError::new("source", "random weights need a vocabulary")
                .help("name a file as `vocabulary`, or set `vocabulary_size` and connect a `corpus`"));
        }
        (None, Some(size)) if size < 100 => {
            return Err(
                SettingError::new("vocabulary_size", format!("a vocabulary of {size} is too small"))
                    .help("set it to 100 or more"),
            );
        }
        (None, Some(_)) if !inputs.connected(CORPUS.0) => {
            return Err(
                SettingError::new("vocabulary_size", "there is no corpus to train a vocabulary on")
                    .help("connect one under `inputs: {corpus: …}`"),
            );
        }
        (None, Some(_)) if !inputs.parts(CORPUS.0).iter().any(|part| part == CORPUS.1) => {
            return Err(SettingError::new(
                "inputs.corpus",
                "the corpus has no `train` split to train a vocabulary on",
            ));
        }
        _ => {}
    }
    let hidden_size = written.hidden_size.unwrap_or(128);
    let heads = written.heads.unwrap_or((hidden_size / 64).max(1));
    let settings = Settings {
        source: None,
        vocabulary: written.vocabulary.clone(),
        vocabulary_size: written.vocabulary_size,
        lowercase: Some(written.lowercase.unwrap_or(true)),
        family: written.family.filter(|family| *family != Family::Bert),
        hidden_size: Some(hidden_size),
        layers: Some(written.layers.unwrap_or(2)),
        heads: Some(heads),
        intermediate_size: Some(written.intermediate_size.unwrap_or(4 * hidden_size)),
        max_position_embeddings: Some(written.max_position_embeddings.unwrap_or(512)),
        dropout: Some(written.dropout.unwrap_or(0.1)),
        initializer_range: Some(written.initializer_range.unwrap_or(0.02)),
        seed: Some(written.seed.unwrap_or(0)),
    };
    for (name, size, least) in [
        ("hidden_size", settings.hidden_size, 1),
        ("layers", settings.layers, 1),
        ("heads", settings.heads, 1),
        ("intermediate_size", settings.intermediate_size, 1),
        ("max_position_embeddings", settings.max_position_embeddings, 8),
    ] {
        if size.is_some_and(|size| size < least) {
            return Err(SettingError::new(name, format!("`{name}` must be at least {least}")));
        }
    }
    if !hidden_size.is_multiple_of(heads) {
        return Err(SettingError::new(
            "heads",
            format!("{hidden_size} states cannot be shared out among {heads} heads"),
        )
        .help("`hidden_size` must be a multiple of `heads`"));
    }
    if written.family == Some(Family::Modernbert) && !(hidden_size / heads).is_multiple_of(2) {
        return Err(SettingError::new("heads", "ModernBERT's heads must have an even width")
            .help("`hidden_size` must be an even multiple of `heads`"));
    }
    if settings.dropout.is_some_and(|dropout| !(0.0..1.0).contains(&dropout)) {
        return Err(SettingError::new("dropout", "dropout lies in 0 .. 1"));
    }
    if settings
        .initializer_range
        .is_some_and(|range| !(range > 0.0 && range.is_finite()))
    {
        return Err(SettingError::new(
            "initializer_range",
            "the weights' standard deviation must be above 0",
        ));
    }
    Ok(settings)
}

/// How Hugging Face users load a tokenizer that comes without a word about it.
fn tokenizer_config(tokenizer: &TextTokenizer, max_length: usize) -> Value {
    let special = tokenizer.special();
    let token = |id: u32| tokenizer.token(id).map_or(Value::Null, Value::from);
    let mut config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": token(special.pad)
    });
    match special.cls {
        Some(cls) => {
            config["cls_token"] = token(cls);
            config["sep_token"] = token(special.sep);
        }
        None => config["eos_token"] = token(special.sep),
    }
    if let Some(unk) = special.unk {
        config["unk_token"] = token(unk);
    }
    config
}

fn write_json(ctx: &Context, name: &str, value: &Value) -> Result<(), StageError> {
    let mut text = serde_json::to_string_pretty(value).map_err(|error| StageError::new(error.to_string()))?;
    text.push('\n');
    write(&ctx.out(name)?, text.as_bytes())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), StageError> {
    std::fs::write(path, bytes)
        .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::testing::{Bench, Made};

    use super::*;

    fn resolve(settings: Value, corpus: Option<&[&str]>) -> Result<Resolved, SettingError> {
        let mut inputs = InputParts::default();
        if let Some(parts) = corpus {
            inputs
                .ports
                .insert("corpus".to_owned(), parts.iter().map(|&part| part.to_owned()).collect());
        }
        Encoder.resolve(&settings, &inputs)
    }

    #[test]
    fn a_directory_counts_by_its_files_and_nothing_else() {
        let resolved = resolve(json!({"source": "models/mini/"}), Some(&["train"])).unwrap();
        let files = FILES.map(|file| format!("models/mini/{file}"));
        assert_eq!(resolved.settings["source"], json!(files));
        assert!(
            resolved
                .settings
                .iter()
                .all(|(name, value)| name == "source" || value.is_null())
        );
        assert!(resolved.reads.is_empty(), "the corpus is not read");
        let error = resolve(json!({"source": "models/mini", "layers": 2}), None).unwrap_err();
        assert_eq!(error.path, "layers");
        assert_eq!(resolve(json!({"source": "models/*"}), None).unwrap_err().path, "source");
    }

    #[test]
    fn random_weights_get_their_defaults() {
        let short = resolve(json!({"source": "random", "vocabulary": "vocab.txt"}), Some(&["train"])).unwrap();
        let long = resolve(
            json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 128, "heads": 2, "layers": 2,
                   "intermediate_size": 512, "max_position_embeddings": 512, "dropout": 0.1,
                   "initializer_range": 0.02, "seed": 0, "lowercase": true}),
            None,
        )
        .unwrap();
        assert_eq!(short.settings, long.settings);
        assert!(short.settings["source"].is_null() && short.reads.is_empty());
        assert_eq!(short.parts, [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY]);
    }

    #[test]
    fn a_trained_vocabulary_reads_the_training_texts() {
        let settings = json!({"source": "random", "vocabulary_size": 500});
        let resolved = resolve(settings.clone(), Some(&["train", "test"])).unwrap();
        assert_eq!(resolved.reads["corpus"], ["train"]);
        assert_eq!(resolve(settings.clone(), None).unwrap_err().path, "vocabulary_size");
        assert_eq!(resolve(settings, Some(&["test"])).unwrap_err().path, "inputs.corpus");
    }

    #[test]
    fn wrong_sizes_name_their_field() {
        let path = |mut settings: Value| {
            settings["source"] = json!("random");
            settings["vocabulary"] = json!("vocab.txt");
            resolve(settings, None).unwrap_err().path
        };
        assert_eq!(path(json!({"heads": 3})), "heads");
        assert_eq!(path(json!({"layers": 0})), "layers");
        assert_eq!(path(json!({"dropout": 1.0})), "dropout");
        assert_eq!(path(json!({"vocabulary_size": 900})), "vocabulary_size");
        assert_eq!(path(json!({"hidden_size": "big"})), "hidden_size");
        assert_eq!(resolve(json!({"source": "random"}), None).unwrap_err().path, "source");
    }

    /// A vocabulary file and the encoder made with it.
    fn random(bench: &Bench, settings: Value) -> Made {
        bench.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nnew\nyork\n##er\n");
        let mut all =
            json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 16, "heads": 2, "layers": 1});
        all.as_object_mut()
            .unwrap()
            .extend(settings.as_object().unwrap().clone());
        bench.run(&Encoder, all).unwrap()
    }

    #[test]
    fn a_random_encoder_is_a_directory_that_can_be_taken() {
        let bench = Bench::new();
        let made = random(&bench, json!({"seed": 3}));
        assert_eq!(made.names(), [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG, VOCABULARY]);
        assert_eq!(
            made.artifact,
            random(&bench, json!({"seed": 3})).artifact,
            "the same bytes every time"
        );
        assert_eq!(made.json(CONFIG)["vocab_size"], 8);
        assert_eq!(made.json(TOKENIZER_CONFIG)["cls_token"], "[CLS]");

        for name in made.names() {
            bench.write(&format!("models/mini/{name}"), std::fs::read(made.path(name)).unwrap());
        }
        let taken = bench.run(&Encoder, json!({"source": "models/mini"})).unwrap();
        assert_eq!(taken.names(), [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG]);
        for part in taken.names() {
            let digest = |made: &Made| made.input.part(part).unwrap().digest;
            assert_eq!(digest(&taken), digest(&made), "{part}");
        }

        // An older directory has a vocabulary in place of a tokenizer.
        std::fs::remove_file(bench.project().join("models/mini/tokenizer.json")).unwrap();
        bench.write(
            "models/mini/vocab.txt",
            std::fs::read(bench.project().join("vocab.txt")).unwrap(),
        );
        let older = bench.run(&Encoder, json!({"source": "models/mini/"})).unwrap();
        let encode = |made: &Made| {
            TextTokenizer::from_file(made.path(TOKENIZER))
                .unwrap()
                .text("New Yorker")
                .unwrap()
        };
        assert_eq!(encode(&older), encode(&made));
    }

    #[test]
    fn another_seed_is_another_weight_part_only() {
        let bench = Bench::new();
        let (one, two) = (random(&bench, json!({"seed": 1})), random(&bench, json!({"seed": 2})));
        for part in [CONFIG, WEIGHTS, TOKENIZER, TOKENIZER_CONFIG] {
            let digest = |made: &Made| made.input.part(part).unwrap().digest;
            assert_eq!(digest(&one) == digest(&two), part != WEIGHTS, "{part}");
        }
    }

    #[test]
    fn directories_that_do_not_fit_say_why() {
        let bench = Bench::new();
        let made = random(&bench, json!({}));
        let with = |file: &str, content: Vec<u8>| {
            for name in made.names() {
                bench.write(&format!("mini/{name}"), std::fs::read(made.path(name)).unwrap());
            }
            bench.write(&format!("mini/{file}"), content);
            bench.run(&Encoder, json!({"source": "mini"})).unwrap_err().message
        };
        let config = |key: &str, value: Value| {
            let mut config = made.json(CONFIG);
            config[key] = value;
            config.to_string().into_bytes()
        };
        assert!(with(CONFIG, config("model_type", json!("gpt2"))).contains("`model_type` is `gpt2`"));
        assert!(with(CONFIG, config("num_hidden_layers", json!(2))).contains("`encoder.layer.1"));
        assert!(with(CONFIG, config("vocab_size", json!(7))).contains("the tokenizer has 8 tokens"));
        assert!(with(WEIGHTS, b"junk".to_vec()).contains("is no safetensors file"));
        assert!(with(TOKENIZER, b"{}".to_vec()).contains("`tokenizer.json`: the tokenizer cannot be used"));
    }

    /// Nothing is guessed where only SentencePiece's own file is there: the lines that convert it are told, ready to be copied.
    #[test]
    fn a_sentencepiece_model_alone_is_refused_with_what_converts_it() {
        let bench = Bench::new();
        let made = random(&bench, json!({}));
        for name in [CONFIG, WEIGHTS, TOKENIZER_CONFIG] {
            bench.write(&format!("mt5/{name}"), std::fs::read(made.path(name)).unwrap());
        }
        let folder = bench.project().join("mt5");
        for model in ["spiece.model", "spm.model", "sentencepiece.bpe.model"] {
            bench.write(&format!("mt5/{model}"), "a model");
            let error = bench.run(&Encoder, json!({"source": "mt5"})).unwrap_err();
            let said = format!("the tokenizer is there as `{model}` only, a SentencePiece model, which is not read");
            assert_eq!(error.message, said);
            let help = error.help.unwrap();
            let folder = folder.display();
            let line = format!(
                "python -c \"from transformers import AutoTokenizer; \
                 AutoTokenizer.from_pretrained('{folder}').save_pretrained('{folder}')\""
            );
            assert!(help.contains("tokenizer.json") && help.ends_with(&line), "{help}");
            std::fs::remove_file(bench.project().join("mt5").join(model)).unwrap();
        }
        // Beside a tokenizer.json it is left alone.
        bench.write("mt5/spiece.model", "a model");
        bench.write("mt5/tokenizer.json", std::fs::read(made.path(TOKENIZER)).unwrap());
        bench.run(&Encoder, json!({"source": "mt5"})).unwrap();
    }

    #[test]
    fn a_vocabulary_is_trained_once_for_all_seeds() {
        let bench = Bench::new();
        let line =
            r#"{"text": "the bank of the river", "tokens": ["the", "bank", "of", "the", "river"], "token_spans": []}"#;
        bench.write("train.jsonl", format!("{line}\n").repeat(3));
        let corpus = bench.run(&crate::load::Load, json!({"train": "train.jsonl"})).unwrap();
        let bench = bench.input("corpus", &corpus);
        let make = |seed: u64| {
            let settings =
                json!({"source": "random", "vocabulary_size": 100, "hidden_size": 8, "heads": 1, "seed": seed});
            bench.run(&Encoder, settings).unwrap()
        };
        let first = make(1);
        assert_eq!((first.steps.executed, first.steps.restored), (1, 0));
        assert_eq!(make(2).steps.restored, 1);
        assert!(first.warnings[0].contains("subwords, not 100"), "{:?}", first.warnings);
        let tokenizer = TextTokenizer::from_file(first.path(TOKENIZER)).unwrap();
        assert_eq!(
            tokenizer.text("the river").unwrap().ids.len(),
            2,
            "words that repeat become one subword"
        );
    }
}
