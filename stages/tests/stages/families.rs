//! Every encoder family through all of encoder, tokenize, train, checkpoint and evaluate; and the same logits in Python.
//!
//! `NERPIPE_PYTHON=PROGRAM` names a Python with torch, transformers and safetensors. Without it, nothing is compared with Python.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use burn::tensor::Device;
use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::batch::{Batch, Collator, LABEL_MARKER, Markers, THRESHOLD_MARKER, TypeInput, TypeReader};
use nerpipe_stages::checkpoint::{Checkpoint, TakeCheckpoint, open_tokenizer};
use nerpipe_stages::encoder::Encoder;
use nerpipe_stages::evaluate::Evaluate;
use nerpipe_stages::model::Recognizer;
use nerpipe_stages::tokenize::Tokenize;
use nerpipe_stages::tokens::{Format, Sentence, Split};
use nerpipe_stages::train::Train;
use serde_json::{Value, json};

use super::training::{corpus, settings};

const FAMILIES: [&str; 9] = [
    "bert",
    "roberta",
    "distilbert",
    "electra",
    "rembert",
    "deberta-v2",
    "modernbert",
    "t5",
    "mt5",
];
/// Logits reach some 30; both sides compute in 32 bits.
const TOLERANCE: f64 = 2e-4;

/// A trained checkpoint of each system, with encoders of `family`; the last is the training's bench.
fn train(family: &str, architecture: &str, loss: &str, more: Value) -> (Bench, Made, Made) {
    let (bench, corpus) = corpus();
    let encoder = json!({"source": "random", "vocabulary": "vocab.txt", "hidden_size": 32, "layers": 4, "heads": 2,
        "max_position_embeddings": 64, "family": family, "seed": 5});
    let encoder = bench.run(&Encoder, encoder).expect("made");
    let bench = bench.input("corpus", &corpus).input("tokenizer", &encoder);
    let tokens = bench.run(&Tokenize, json!({"formats": ["tokens"]})).expect("tokenized");
    let bench = bench
        .input("tokens", &tokens)
        .input("token_encoder", &encoder)
        .input("type_encoder", &encoder);
    let mut settings = settings(architecture, loss, more);
    settings["max_steps"] = json!(6);
    let model = bench.run(&Train, settings).expect("trained");
    (bench, model, tokens)
}

/// The recognizer of a checkpoint, and all sentences of the test split in one batch.
fn read(model: &Made, tokens: &Made) -> (Recognizer, Batch) {
    let checkpoint = Checkpoint::read(&model.input).expect("read");
    let tokenizer = open_tokenizer(&model.input, "tokenizer.json").expect("a tokenizer");
    let types = match &checkpoint.type_encoder {
        Some(encoder) => TypeReader::Apart {
            special: *open_tokenizer(&model.input, "type_tokenizer.json")
                .expect("a tokenizer")
                .special(),
            window: encoder.window(),
        },
        None => TypeReader::Prompt(Markers {
            label: tokenizer.id(LABEL_MARKER).expect("a marker"),
            threshold: checkpoint
                .config
                .has_threshold_marker()
                .then(|| tokenizer.id(THRESHOLD_MARKER).expect("a marker")),
        }),
    };
    let collator = Collator::new(checkpoint.config.clone(), *tokenizer.special(), types);
    let split = Split::open(tokens.input.part("test").expect("a split"), Format::Tokens).expect("opened");
    let sentences: Vec<Sentence<'_>> = split.sentences().collect();
    let asked: Vec<u32> = (0..split.labels().len() as u32).collect();
    let passes = collator.passes(&asked, &split.labels().ids, 20);
    let batch = collator.collate(&passes, &sentences).batches.remove(0);
    let recognizer = Recognizer::new(
        checkpoint.config,
        checkpoint.token_encoder,
        checkpoint.type_encoder,
        checkpoint.tensors,
        &Device::flex(),
    );
    (recognizer.expect("complete"), batch)
}

/// What Python is asked for.
fn asked(batch: &Batch) -> Value {
    let (markers, types) = match &batch.type_input {
        TypeInput::Markers(markers) => (markers.clone(), Vec::new()),
        TypeInput::Apart(input) => {
            let rows = input.sequences.iter().map(|tokens| input.ids[tokens].to_vec());
            (Vec::new(), rows.collect())
        }
    };
    let sentences = batch.text.sequences.iter().enumerate().map(|(number, tokens)| {
        let first = tokens.start as u32;
        let spans: Vec<[u32; 3]> = batch
            .spans
            .rows
            .of(number)
            .map(|row| {
                let start = batch.starts.encoder_row[batch.spans.start[row] as usize] - first;
                let end = batch.ends.encoder_row[batch.spans.end[row] as usize] - first;
                [start, end, batch.spans.width[row]]
            })
            .collect();
        json!({"ids": batch.text.ids[tokens], "markers": markers, "spans": spans})
    });
    json!({"sentences": sentences.collect::<Vec<_>>(), "types": types})
}

/// The logits that Python computes, [N, C] row by row.
fn python(program: &str, folder: &Path, asked: &Value) -> Vec<f64> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/logits.py");
    let mut child = Command::new(program)
        .arg(script)
        .arg(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("NERPIPE_PYTHON={program}: {error}"));
    let mut input = child.stdin.take().expect("its input");
    input.write_all(asked.to_string().as_bytes()).expect("written");
    drop(input);
    let output = child.wait_with_output().expect("its output");
    assert!(output.status.success(), "Python failed; its error is above");
    let logits: Vec<Vec<Vec<f64>>> = serde_json::from_slice(&output.stdout).expect("logits");
    logits.into_iter().flatten().flatten().collect()
}

/// Copies a checkpoint to where Python, and a user, finds its files by name.
fn publish(model: &Made, bench: &Bench) -> std::path::PathBuf {
    for name in model.names() {
        bench.write(
            &format!("published/{name}"),
            std::fs::read(model.path(name)).expect("a part"),
        );
    }
    bench.project().join("published")
}

#[test]
fn every_family_trains_and_its_checkpoint_is_read_again() {
    #[expect(clippy::disallowed_methods, reason = "where a Python is, which changes no result")]
    let program = std::env::var("NERPIPE_PYTHON").ok();
    if program.is_none() {
        println!("skipped: the same logits in Python (NERPIPE_PYTHON names no program)");
    }
    let systems = [
        ("bi_encoder", "bce", json!({})),
        (
            "cross_encoder",
            "contrastive",
            json!({"prediction_threshold": "label_token"}),
        ),
        (
            "bi_encoder",
            "contrastive",
            json!({"prediction_threshold": "cls", "type_encoder_pooling": "mean"}),
        ),
    ];
    let mut compared = 0;
    for (number, family) in FAMILIES.into_iter().enumerate() {
        // Python takes seconds to start, so each family meets it with one system, and BERT with all.
        let of_family = systems
            .iter()
            .enumerate()
            .filter(|(system, _)| number == 0 || number % 3 == *system);
        for (_, (architecture, loss, more)) in of_family {
            let what = format!("{family} {architecture} {loss}");
            let (bench, model, tokens) = train(family, architecture, loss, more.clone());
            let (recognizer, batch) = read(&model, &tokens);
            let logits = recognizer.span_logits(&batch, None);
            assert!(
                logits.len() > 100 && logits.iter().all(|logit| logit.is_finite()),
                "{what}"
            );
            let folder = publish(&model, &bench);
            if let Some(program) = &program {
                let expected = python(program, &folder, &asked(&batch));
                assert_eq!(logits.len(), expected.len(), "{what}");
                let gaps = logits.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs());
                let gap = gaps.fold(0.0, f64::max);
                println!("{what}: {} logits, at most {gap:.1e} from Python's", logits.len());
                assert!(gap <= TOLERANCE, "{what}: {gap}");
                compared += 1;
            }
            // Taken from where it was published it is the same checkpoint, and evaluates.
            let taken = bench
                .run(
                    &TakeCheckpoint,
                    json!({"source": "published", "architecture": architecture}),
                )
                .expect("taken");
            for part in ["model.safetensors", "token_encoder_config.json", "tokenizer.json"] {
                assert_eq!(taken.bytes(part), model.bytes(part), "{what}: {part}");
            }
            let bench = bench.input("model", &taken).input("tokens", &tokens);
            let scores = bench
                .run(&Evaluate, json!({"bootstrap": {"n_resamples": 0}}))
                .expect("evaluated");
            assert!(
                scores.json("metrics.json")["results"][0]["micro"]["f1"].is_number(),
                "{what}"
            );
        }
    }
    println!("{compared} checkpoints were compared with Python");
}

/// The bytes of a part.
trait Bytes {
    fn bytes(&self, part: &str) -> Vec<u8>;
}

impl Bytes for Made {
    fn bytes(&self, part: &str) -> Vec<u8> {
        std::fs::read(self.path(part)).expect("a part")
    }
}
