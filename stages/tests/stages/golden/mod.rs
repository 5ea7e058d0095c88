//! Parity with the Python reference, from data that it wrote (`golden_data/README.md` says what and how).
//!
//! `NERPIPE_GOLDEN=DIR` points these tests at another set of the same layout.

mod case;
mod cases;
mod checkpoints;
mod collated;
mod edges;
mod evaluation;
mod steps;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nerpipe_stages::batch::{Markers, TypeReader};
use nerpipe_stages::model::{EncoderConfig, HostTensor};
use nerpipe_stages::parity::Parity;
use nerpipe_stages::recognizer::RecognizerConfig;
use nerpipe_stages::tokenizer::{Encoded, TextTokenizer};
use nerpipe_stages::tokens::{Format, Split, SplitBuilder, TokensError};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Makes the models use Burn's stock operations.
const STOCK: &str = "NERPIPE_STOCK_OPERATIONS";

/// Whether the models use Burn's stock operations.
fn with_stock_operations() -> bool {
    std::env::var_os(STOCK).is_some()
}

/// A folder of fixtures.
struct Golden {
    folder: PathBuf,
}

impl Golden {
    fn open() -> Self {
        let folder = match std::env::var_os("NERPIPE_GOLDEN") {
            Some(folder) => PathBuf::from(folder),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_data"),
        };
        Self { folder }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let path = self.folder.join(name);
        std::fs::read(&path).unwrap_or_else(|error| panic!("failed to read {}: {error}", path.display()))
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> T {
        serde_json::from_slice(&self.bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn tensors(&self, name: &str) -> Tensors {
        Tensors::read(&self.bytes(name))
    }

    fn encoder(&self, name: &str) -> EncoderConfig {
        EncoderConfig::from_json(&self.bytes(&format!("{name}/config.json")))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn tokenizer(&self, name: &str) -> TextTokenizer {
        TextTokenizer::from_bytes(&self.bytes(&format!("{name}/tokenizer.json")))
            .unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The ids of a cross-encoder's marker tokens.
    fn markers(&self, config: &RecognizerConfig) -> Markers {
        let folder = if config.has_threshold_slot() {
            "tokenizer_label_threshold"
        } else {
            "tokenizer_label"
        };
        let tokenizer: Value = self.json(&format!("{folder}/tokenizer.json"));
        let id = |content: &str| {
            let tokens = tokenizer["added_tokens"].as_array().expect("a list of added tokens");
            let token = tokens.iter().find(|token| token["content"] == content);
            token
                .and_then(|token| token["id"].as_u64())
                .unwrap_or_else(|| panic!("{folder} has no {content}")) as u32
        };
        Markers {
            label: id("[LABEL]"),
            threshold: config.has_threshold_marker().then(|| id("[SPAN_THRESHOLD]")),
        }
    }

    fn type_reader(&self, config: &RecognizerConfig) -> TypeReader {
        if config.is_bi_encoder() {
            TypeReader::Apart {
                special: *self.tokenizer("type_encoder").special(),
                window: self.encoder("type_encoder").window(),
            }
        } else {
            TypeReader::Prompt(self.markers(config))
        }
    }

    /// Samples as a tokenized split; its label table holds `labels` besides those of the samples.
    fn split(&self, samples: &[Sample], format: Format) -> Split {
        let tokenizer = self.tokenizer("encoder");
        let mut builder = SplitBuilder::new(format);
        for (number, sample) in samples.iter().enumerate() {
            let (encoded, length, golds) = sample.view(&tokenizer, format);
            builder
                .sentence(&number.to_string(), &encoded, length, &golds, |label| {
                    Ok::<_, TokensError>(tokenizer.label(label).expect("a label's subwords"))
                })
                .expect("a sentence in memory");
        }
        builder.build().expect("a split in memory")
    }
}

/// A recognizer's configuration from a fixture's own keys and what its case says besides.
fn recognizer_config(keys: &Value, extra: Value) -> RecognizerConfig {
    let mut merged = keys.as_object().expect("a map of settings").clone();
    merged.extend(extra.as_object().expect("a map of settings").clone());
    serde_json::from_value(Value::Object(merged)).expect("settings by the reference's names")
}

fn arrangement(arch: &str, format: &str, masking: &str, window: usize) -> Value {
    json!({
        "architecture": if arch.starts_with("bi") { "bi_encoder" } else { "cross_encoder" },
        "annotation_format": format,
        "loss_masking": masking,
        "max_seq_length": window,
    })
}

fn parity(variant: &str) -> Parity {
    match variant {
        "ref" => Parity::REFERENCE,
        "fixed" => Parity::FIXED,
        other => panic!("unknown variant {other}"),
    }
}

#[derive(Clone, Deserialize)]
struct Span {
    start: u32,
    end: u32,
    label: String,
}

#[derive(Clone, Deserialize)]
struct Sample {
    text: String,
    tokens: Vec<String>,
    token_spans: Vec<Span>,
    char_spans: Vec<Span>,
}

impl Sample {
    fn view(&self, tokenizer: &TextTokenizer, format: Format) -> (Encoded, u32, Vec<(u32, u32, &str)>) {
        let (encoded, length, spans) = match format {
            Format::Tokens => (tokenizer.words(&self.tokens), self.tokens.len(), &self.token_spans),
            Format::Text => (tokenizer.text(&self.text), self.text.chars().count(), &self.char_spans),
        };
        let golds = spans
            .iter()
            .map(|span| (span.start, span.end, span.label.as_str()))
            .collect();
        (encoded.expect("subwords"), length as u32, golds)
    }
}

/// The tensors of a fixture file.
struct Tensors {
    floats: BTreeMap<String, HostTensor>,
    integers: BTreeMap<String, (Vec<usize>, Vec<i64>)>,
}

impl Tensors {
    fn read(bytes: &[u8]) -> Self {
        let file = SafeTensors::deserialize(bytes).expect("a safetensors file");
        let (mut floats, mut integers) = (BTreeMap::new(), BTreeMap::new());
        for (name, view) in file.iter() {
            let (name, shape, bytes) = (name.to_owned(), view.shape().to_vec(), view.data());
            let mut keep = |data: Vec<f32>| {
                let tensor = HostTensor {
                    name: name.clone(),
                    shape: shape.clone(),
                    data,
                };
                floats.insert(name.clone(), tensor);
            };
            match view.dtype() {
                Dtype::F32 => keep(
                    bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|&b| f32::from_le_bytes(b))
                        .collect(),
                ),
                Dtype::F16 => {
                    let widen = |&b: &[u8; 2]| half::f16::from_le_bytes(b).to_f32();
                    keep(bytes.as_chunks::<2>().0.iter().map(widen).collect());
                }
                Dtype::I32 => {
                    let values = bytes
                        .as_chunks::<4>()
                        .0
                        .iter()
                        .map(|&b| i64::from(i32::from_le_bytes(b)));
                    integers.insert(name, (shape, values.collect()));
                }
                Dtype::U8 => {
                    integers.insert(name, (shape, bytes.iter().map(|&b| i64::from(b)).collect()));
                }
                other => panic!("{name} is of type {other:?}"),
            }
        }
        Self { floats, integers }
    }

    fn float(&self, name: &str) -> &HostTensor {
        self.floats.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn integer(&self, name: &str) -> &(Vec<usize>, Vec<i64>) {
        self.integers.get(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    fn has(&self, name: &str) -> bool {
        self.floats.contains_key(name) || self.integers.contains_key(name)
    }
}

/// A tolerance: `absolute` + `relative` · |expected|.
#[derive(Clone, Copy)]
struct Tolerance {
    absolute: f64,
    relative: f64,
}

impl Tolerance {
    const fn absolute(absolute: f64) -> Self {
        Self {
            absolute,
            relative: 0.0,
        }
    }

    const fn relative(relative: f64) -> Self {
        Self {
            absolute: 0.0,
            relative,
        }
    }
}

/// What was compared and what differed.
#[derive(Default)]
struct Findings {
    comparisons: usize,
    problems: Vec<String>,
    /// The largest share of its tolerance that any comparison of a kind used.
    used: BTreeMap<&'static str, f64>,
}

impl Findings {
    fn equal<T: PartialEq + std::fmt::Debug>(&mut self, what: &str, got: &T, expected: &T) {
        self.comparisons += 1;
        if got != expected {
            let shorten = |text: String| text.chars().take(400).collect::<String>();
            let (got, expected) = (shorten(format!("{got:?}")), shorten(format!("{expected:?}")));
            self.problems.push(format!("{what}: got {got}, expected {expected}"));
        }
    }

    fn close(&mut self, kind: &'static str, what: &str, got: &[f32], expected: &[f32], tolerance: Tolerance) {
        self.comparisons += 1;
        if got.len() != expected.len() {
            self.problems
                .push(format!("{what}: {} values, expected {}", got.len(), expected.len()));
            return;
        }
        let (mut worst, mut place) = (0f64, 0);
        for (i, (&got, &expected)) in got.iter().zip(expected).enumerate() {
            let (got, expected) = (f64::from(got), f64::from(expected));
            let allowed = tolerance.absolute + tolerance.relative * expected.abs();
            let gap = (got - expected).abs();
            let share = if gap == 0.0 { 0.0 } else { gap / allowed };
            // A NaN counts as the worst.
            if share > worst || share.is_nan() {
                (worst, place) = (share, i);
            }
        }
        let used = self.used.entry(kind).or_default();
        *used = used.max(worst);
        if worst > 1.0 || worst.is_nan() {
            let (got, expected) = (got[place], expected[place]);
            self.problems.push(format!(
                "{what}: [{place}] is {got}, expected {expected}: {worst:.2} of the tolerance"
            ));
        }
    }

    fn number(&mut self, kind: &'static str, what: &str, got: f64, expected: f64, tolerance: Tolerance) {
        self.close(kind, what, &[got as f32], &[expected as f32], tolerance);
    }

    /// Prints a line for the case; its problems are added to `all`.
    fn finish(self, name: &str, all: &mut Vec<String>) {
        let used: Vec<String> = self
            .used
            .iter()
            .map(|(kind, used)| format!("{kind} {used:.2}"))
            .collect();
        println!(
            "{name}: {} comparisons; of tolerances used: {}",
            self.comparisons,
            used.join(", ")
        );
        all.extend(self.problems.into_iter().map(|problem| format!("{name}: {problem}")));
    }
}

/// Fails with every problem, or if nothing ran.
fn conclude(what: &str, ran: usize, problems: &[String]) {
    println!("golden: {ran} {what} ran");
    assert!(ran > 0, "no {what} ran");
    assert!(
        problems.is_empty(),
        "{} problems:\n{}",
        problems.len(),
        problems.join("\n")
    );
}
