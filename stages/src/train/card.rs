//! The model card of a checkpoint: what it is, how it was trained, how to use it.

use std::fmt::Write;

use super::settings::TrainSettings;
use crate::recognizer::{Architecture, LossKind, Threshold};

/// The text of `README.md`. `best` is the step and validation micro F1 of the model that was kept, where one was selected.
pub(super) fn model_card(settings: &TrainSettings, types: &[String], best: Option<(u64, f64)>) -> String {
    let architecture = match settings.architecture {
        Architecture::BiEncoder => "bi-encoder (text and entity types are encoded apart)",
        Architecture::CrossEncoder => "cross-encoder (entity types and text are read in one prompt)",
    };
    let loss = match settings.loss_fn {
        LossKind::Bce => "binary cross-entropy",
        LossKind::Focal => "focal loss",
        LossKind::Contrastive => "contrastive loss with a learned threshold",
    };
    let threshold = match settings.recognizer().prediction_threshold {
        Threshold::Probability(probability) => format!("a probability above {probability}"),
        Threshold::Cls => "a score above that of the span at `[CLS]`".to_owned(),
        Threshold::LabelToken => "a score above that of the span at `[SPAN_THRESHOLD]`".to_owned(),
    };
    let mut card =
        String::from("---\nlibrary_name: nerpipe\ntags: [named-entity-recognition, token-classification]\n---\n\n");
    if let Some(name) = &settings.run_name {
        let _ = writeln!(card, "# {name}\n");
    } else {
        card.push_str("# A universal entity recognizer\n\n");
    }
    let _ = writeln!(
        card,
        "A span-based named-entity recognizer that takes entity types as text: a {architecture}, trained with {loss}.\n"
    );
    let _ = writeln!(card, "- a span is predicted with {threshold};");
    let _ = writeln!(
        card,
        "- it reads up to {} subwords, and finds spans of up to {}, of {};",
        settings.max_seq_length,
        settings.max_span_length,
        match settings.annotation_format {
            crate::tokens::Format::Tokens => "pre-split words",
            crate::tokens::Format::Text => "raw text",
        }
    );
    let _ = writeln!(
        card,
        "- {} optimizer steps of {} sentences, learning rate {:e}, seed {}.",
        settings.max_steps,
        settings.per_device_train_batch_size * settings.gradient_accumulation_steps,
        settings.learning_rate,
        settings.seed
    );
    if let Some((step, f1)) = best {
        let _ = writeln!(
            card,
            "- the weights are those of step {step}, the best on the validation split (micro F1 {f1:.4})."
        );
    }
    let _ = writeln!(card, "\nTypes seen in training: {}.", types.join(", "));
    card.push_str(
        "\nWeights are in `model.safetensors`; the encoders' own configurations are in `token_encoder_config.json` and (for a \
         bi-encoder)\n`type_encoder_config.json`; every setting of the training is in `config.json`.\n",
    );
    card
}
