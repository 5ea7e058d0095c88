//! wgpu and CUDA against the CPU: the same trainings of the golden fixtures' tiny BERT, from the same start values, with the
//! same batches. Needs such a device; for wgpu a software one will do.

use std::path::{Path, PathBuf};

use nerpipe_engine::testing::{Bench, Made};
use nerpipe_stages::encoder::Encoder;
use nerpipe_stages::load::Load;
use nerpipe_stages::tensors::read_tensors;
use nerpipe_stages::tokenize::Tokenize;
use nerpipe_stages::train::Train;
use serde_json::{Value, json};

/// How far losses (relative) and weights (absolute) may be apart.
const TOLERANCE: f64 = 1e-4;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_data")
}

/// A bench with the fixtures' sentences, tokenized, and one of their encoders without dropout.
fn prepared() -> (Bench, Made, Made) {
    let bench = Bench::new();
    let samples: Value =
        serde_json::from_slice(&std::fs::read(golden().join("samples.json")).expect("samples.json")).expect("JSON");
    let lines: Vec<String> = samples["train"]
        .as_array()
        .expect("a list")
        .iter()
        .map(Value::to_string)
        .collect();
    bench.write("train.jsonl", lines.join("\n"));
    let corpus = bench.run(&Load, json!({"train": "train.jsonl"})).expect("loaded");
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        bench.write(
            &format!("encoder/{file}"),
            std::fs::read(golden().join("encoder").join(file)).expect(file),
        );
    }
    let encoder = bench.run(&Encoder, json!({"source": "encoder"})).expect("read");
    let bench = bench.input("corpus", &corpus).input("tokenizer", &encoder);
    let tokens = bench.run(&Tokenize, json!({})).expect("tokenized");
    (bench, tokens, encoder)
}

fn losses(model: &Made) -> Vec<f64> {
    let lines = model.text("training_log.jsonl");
    let steps = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    steps.filter_map(|line| line["loss"].as_f64()).collect()
}

#[cfg(feature = "wgpu")]
#[test]
fn gpu_trainings_with_wgpu_agree_with_the_cpu() {
    trainings_agree_with_the_cpu("wgpu");
}

#[cfg(feature = "cuda")]
#[test]
fn gpu_trainings_with_cuda_agree_with_the_cpu() {
    trainings_agree_with_the_cpu("cuda:0");
}

fn trainings_agree_with_the_cpu(device: &str) {
    for (architecture, loss) in [
        ("bi_encoder", "bce"),
        ("bi_encoder", "contrastive"),
        ("cross_encoder", "bce"),
        ("cross_encoder", "contrastive"),
    ] {
        let settings = json!({
            "architecture": architecture, "loss_fn": loss, "max_steps": 4, "warmup_steps": 1, "learning_rate": 1e-3,
            "per_device_train_batch_size": 4, "max_seq_length": 72, "max_span_length": 8, "linear_hidden_size": 24,
            "span_width_embedding_size": 8, "start_loss_weight": 0.2, "end_loss_weight": 0.2, "span_loss_weight": 0.6,
        });
        let train = |device: &str| {
            let (bench, tokens, encoder) = prepared();
            let bench = bench
                .input("tokens", &tokens)
                .input("token_encoder", &encoder)
                .input("type_encoder", &encoder);
            let bench = bench.device(device);
            let model = bench.run(&Train, settings.clone()).expect(device);
            let weights = read_tensors(model.path("model.safetensors")).expect("weights");
            (losses(&model), weights)
        };
        let ((cpu_losses, cpu), (gpu_losses, gpu)) = (train("cpu"), train(device));
        assert_eq!((cpu_losses.len(), gpu_losses.len()), (4, 4));
        for (step, (cpu, gpu)) in cpu_losses.iter().zip(&gpu_losses).enumerate() {
            let gap = (cpu - gpu).abs() / cpu.abs();
            assert!(
                gap < TOLERANCE,
                "{architecture} {loss}, step {step}: {cpu} on the CPU, {gpu} on {device}"
            );
        }
        let mut worst = (0f64, String::new());
        for (a, b) in cpu.iter().zip(&gpu) {
            assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
            for (x, y) in a.data.iter().zip(&b.data) {
                let gap = f64::from((x - y).abs());
                if gap > worst.0 {
                    worst = (gap, a.name.clone());
                }
            }
        }
        println!(
            "{device}, {architecture} {loss}: losses {gpu_losses:?}, largest gap of a weight {:.1e} ({})",
            worst.0, worst.1
        );
    }
}
