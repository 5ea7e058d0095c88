//! The whole model on a random encoder: what must not matter does not, and what must does.

use burn::tensor::Device;

use super::*;
use crate::batch::{Collator, Markers, TypeReader};
use crate::recognizer::{Architecture, LossKind, Threshold};
use crate::rng::Rng;
use crate::tokenizer::{Encoded, SpecialIds};
use crate::tokens::{Format, Sentence, Split, SplitBuilder, TokensError};

const LABEL: u32 = 60;

fn special() -> SpecialIds {
    SpecialIds {
        cls: Some(1),
        sep: 2,
        pad: 0,
        unk: None,
    }
}

fn encoder() -> EncoderConfig {
    let sizes = serde_json::json!({
        "model_type": "bert", "vocab_size": 60, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 64,
    });
    EncoderConfig::from_json(sizes.to_string().as_bytes()).expect("a plain BERT")
}

fn config(architecture: Architecture, threshold: Threshold) -> RecognizerConfig {
    RecognizerConfig {
        architecture,
        loss_fn: match threshold {
            Threshold::Probability(_) => LossKind::Bce,
            Threshold::Cls | Threshold::LabelToken => LossKind::Contrastive,
        },
        prediction_threshold: threshold,
        max_seq_length: 64,
        max_span_length: 6,
        linear_hidden_size: 48,
        span_width_embedding_size: 16,
        dropout: 0.2,
        start_loss_weight: 0.3,
        ..RecognizerConfig::default()
    }
}

fn systems() -> [RecognizerConfig; 4] {
    [
        config(Architecture::BiEncoder, Threshold::Probability(0.5)),
        config(Architecture::BiEncoder, Threshold::Cls),
        config(Architecture::CrossEncoder, Threshold::Probability(0.5)),
        config(Architecture::CrossEncoder, Threshold::LabelToken),
    ]
}

/// Random weights, all of them nonzero.
fn random_encoder(prefix: &str) -> Vec<HostTensor> {
    let shapes = encoder().shapes().into_iter();
    shapes
        .map(|(name, shape)| {
            let rng = Rng::new(2, &name);
            let centre = if name.ends_with("LayerNorm.weight") { 1.0 } else { 0.0 };
            let draw = |position| (centre + 0.05 * rng.normal(position)) as f32;
            HostTensor {
                name: format!("{prefix}.{name}"),
                data: (0..shape.iter().product::<usize>() as u64).map(draw).collect(),
                shape,
            }
        })
        .collect()
}

fn recognizer(config: &RecognizerConfig, device: &Device) -> Recognizer {
    let mut tensors = new_heads(config, 64, 64, 1);
    for prefix in ["token_encoder", "type_encoder"] {
        if prefix == "token_encoder" || config.is_bi_encoder() {
            tensors.extend(random_encoder(prefix));
        }
    }
    let words = "token_encoder.embeddings.word_embeddings.weight";
    let table = tensors.iter_mut().find(|tensor| tensor.name == words).expect("a table");
    add_token_rows(table, 60, &[LABEL, LABEL + 1], 3);
    let types = config.is_bi_encoder().then(encoder);
    Recognizer::new(config.clone(), encoder(), types, tensors, device).expect("all weights are there")
}

fn collator(config: &RecognizerConfig) -> Collator {
    let types = if config.is_bi_encoder() {
        TypeReader::Apart {
            special: special(),
            window: 64,
        }
    } else {
        TypeReader::Prompt(Markers {
            label: LABEL,
            threshold: config.has_threshold_marker().then_some(LABEL + 1),
        })
    };
    Collator::new(config.clone(), special(), types)
}

/// Sentences of these many words, one subword each, with a gold each but for empty ones.
fn split(lengths: &[u32]) -> Split {
    let mut builder = SplitBuilder::new(Format::Tokens);
    for (number, &length) in lengths.iter().enumerate() {
        let encoded = Encoded {
            ids: (0..length).map(|i| 5 + (i * 7 + number as u32 * 11) % 50).collect(),
            words: (0..length).collect(),
            starts: vec![0; length as usize],
            ends: vec![1; length as usize],
        };
        let label = ["city", "person"][number % 2];
        let golds: &[(u32, u32, &str)] = if length == 0 {
            &[]
        } else {
            &[(length / 2, length / 2 + 1, label)]
        };
        builder
            .sentence("", &encoded, length, golds, |name| {
                Ok::<_, TokensError>(vec![name.len() as u32 + 5])
            })
            .expect("a sentence in memory");
    }
    builder.build().expect("a split in memory")
}

fn batches(config: &RecognizerConfig, split: &Split) -> Vec<Batch> {
    let types: Vec<u32> = (0..split.labels().len() as u32).collect();
    let sentences: Vec<Sentence<'_>> = split.sentences().collect();
    let collator = collator(config);
    let passes = collator.passes(&types, &split.labels().ids, 20);
    collator.collate(&passes, &sentences).batches
}

/// Loss and gradients of one step.
fn step(recognizer: &Recognizer, batch: &Batch, dropout: Option<&Dropout>) -> (f32, HostGradients) {
    let loss = recognizer.loss(batch, dropout).expect("something to learn from");
    let gradients = recognizer.weights().gradients(&mut loss.total.backward());
    (loss.total.into_scalar(), gradients)
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let device = Device::flex().autodiff();
    for config in systems() {
        let recognizer = recognizer(&config, &device);
        let batch = &batches(&config, &split(&[40, 33, 21, 40, 12, 38, 29, 17]))[0];
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| step(&recognizer, batch, Some(&Dropout::new(7, 1, 0))))
        };
        let bits = |(loss, gradients): (f32, HostGradients)| {
            let all = gradients
                .into_iter()
                .map(|(name, gradient)| (name, gradient.values().iter().map(|x| x.to_bits()).collect::<Vec<_>>()));
            (loss.to_bits(), all.collect::<Vec<_>>())
        };
        assert!(bits(with(1)) == bits(with(3)), "{config:?}");
    }
}

#[test]
fn dropout_acts_in_training_only_and_by_its_keys() {
    let device = Device::flex().autodiff();
    for config in systems() {
        let recognizer = recognizer(&config, &device);
        let batch = &batches(&config, &split(&[5, 9]))[0];
        let loss = |dropout: Option<Dropout>| step(&recognizer, batch, dropout.as_ref()).0;
        assert_eq!(loss(None), loss(None));
        assert_eq!(loss(Some(Dropout::new(1, 2, 3))), loss(Some(Dropout::new(1, 2, 3))));
        assert_ne!(loss(Some(Dropout::new(1, 2, 3))), loss(Some(Dropout::new(1, 2, 4))));
        assert_ne!(loss(Some(Dropout::new(1, 2, 3))), loss(None));
    }
}

/// What stands beside a sentence in its batch must not change its scores.
#[test]
fn sentences_are_scored_alone() {
    for config in systems() {
        let recognizer = recognizer(&config, &Device::flex());
        let together = split(&[6, 15, 0, 3]);
        let scored = |split: &Split| {
            let batch = &batches(&config, split)[0];
            let logits = recognizer.span_logits(batch, None);
            batch.candidates(&logits, config.has_threshold_slot(), f32::NEG_INFINITY)
        };
        let both = scored(&together);
        assert_eq!(both.len(), 4);
        assert!(both[2].candidates.is_empty());
        let alone = &scored(&split(&[6, 1]))[0];
        assert_eq!(alone.candidates.len(), both[0].candidates.len());
        for (a, b) in alone.candidates.iter().zip(&both[0].candidates) {
            assert_eq!((a.start, a.end, a.label), (b.start, b.end, b.label));
            assert!((a.logit - b.logit).abs() < 1e-4, "{a:?} {b:?}");
        }
    }
}

#[test]
fn types_encoded_once_give_the_scores_of_types_encoded_in_the_batch() {
    let config = config(Architecture::BiEncoder, Threshold::Cls);
    let recognizer = recognizer(&config, &Device::flex());
    let split = split(&[7, 4]);
    let batch = &batches(&config, &split)[0];
    let (input, _) = collator(&config).type_input(&[0, 1], &split.labels().ids);
    let types = recognizer.type_vectors(&input);
    assert!(types.is_some());
    assert_eq!(
        recognizer.span_logits(batch, types.as_ref()),
        recognizer.span_logits(batch, None)
    );
}

/// Batches in which nothing can be scored are no reason to fail.
#[test]
fn empty_batches_have_no_loss_and_no_scores() {
    for config in systems() {
        let recognizer = recognizer(&config, &Device::flex());
        let empty = split(&[0, 0]);
        let batch = &batches(&config, &empty)[0];
        assert!(batch.types.is_empty());
        assert!(recognizer.loss(batch, None).is_none());
        assert!(recognizer.span_logits(batch, None).is_empty());
        // Types are asked for, but there is no text.
        let collator = collator(&config);
        let sentences: Vec<Sentence<'_>> = empty.sentences().collect();
        let batch = &collator
            .collate(&collator.passes(&[0], &[vec![9]], 0), &sentences)
            .batches[0];
        let slots = if config.has_threshold_slot() { 2 } else { 0 };
        assert_eq!(recognizer.span_logits(batch, None).len(), slots);
        assert_eq!(recognizer.loss(batch, None).is_some(), slots > 0);
    }
}

#[test]
fn settings_and_weights_that_do_not_fit_are_named() {
    let config = config(Architecture::BiEncoder, Threshold::Cls);
    let device = Device::flex();
    let tensors: Vec<HostTensor> = recognizer(&config, &device).weights().to_host().collect();
    let with = |config: &RecognizerConfig, types, tensors: Vec<HostTensor>| {
        Recognizer::new(config.clone(), encoder(), types, tensors, &device)
            .map(|_| ())
            .expect_err("refused")
            .to_string()
    };
    assert!(with(&config, None, tensors.clone()).contains("needs a type encoder"));

    let mut renamed = tensors.clone();
    let query = "token_encoder.encoder.layer.1.attention.self.query.weight";
    renamed
        .iter_mut()
        .find(|tensor| tensor.name == query)
        .expect(query)
        .name
        .push('s');
    let message = with(&config, Some(encoder()), renamed);
    assert!(message.contains(query) && message.contains("there is"), "{message}");

    let wider = RecognizerConfig {
        linear_hidden_size: 50,
        ..config.clone()
    };
    let message = with(&wider, Some(encoder()), tensors.clone());
    assert!(
        message.contains("type_linear.0.weight") && message.contains("[50, 64]"),
        "{message}"
    );

    let longer = RecognizerConfig {
        max_seq_length: 65,
        ..config.clone()
    };
    assert!(with(&longer, Some(encoder()), tensors.clone()).contains("at most 64"));

    // A table with spare rows, as the reference's contrastive cross-encoder has, is no misfit.
    let shorter = RecognizerConfig {
        max_span_length: 5,
        ..config.clone()
    };
    assert!(Recognizer::new(shorter, encoder(), Some(encoder()), tensors, &device).is_ok());
}

#[test]
fn a_checkpoint_survives_its_tensors() {
    for config in systems() {
        let device = Device::flex();
        let first = recognizer(&config, &device);
        let tensors: Vec<HostTensor> = first.weights().to_host().collect();
        let types = config.is_bi_encoder().then(encoder);
        let second = Recognizer::new(config.clone(), encoder(), types, tensors.clone(), &device).expect("complete");
        assert_eq!(second.weights().to_host().collect::<Vec<_>>(), tensors);
        let batch = &batches(&config, &split(&[4, 5]))[0];
        assert_eq!(second.span_logits(batch, None), first.span_logits(batch, None));
    }
}
