//! Scores and golds → one number to minimize, and its parts.
//!
//! The formulae are those of the reference, as described in its fixtures' notes; they were published with binary focal loss (Lin
//! et al., 2017) and with the contrastive objective of Binder (Zhang et al., 2023). Golds are few among many candidates, so
//! they are given by row and class, and never as a dense tensor of the caller's.
//!
//! Shapes: R candidate rows of all sentences together, C types, B sentences.

mod bce;
mod contrastive;
mod focal;

use burn::tensor::{Device, Tensor, TensorData};

use crate::batch::{Batch, Rows};
use crate::parity::Parity;
use crate::recognizer::{LossKind, RecognizerConfig};

pub use contrastive::MASK_CONSTANT;

/// Candidates of one kind with their scores.
#[derive(Clone, Debug)]
pub struct Scored<'a> {
    /// Logits, [R, C].
    pub logits: Tensor<2>,
    /// How the R rows are divided among sentences.
    pub rows: &'a Rows,
    /// The golds.
    pub golds: Vec<GoldEntry>,
}

/// A gold's place among candidates of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoldEntry {
    /// Its row, below R.
    pub row: u32,
    /// Its type, below C.
    pub class: u32,
    /// Its sentence, below B.
    pub sentence: u32,
}

/// What the model scored. Kinds whose loss has no weight are absent.
#[derive(Clone, Debug)]
pub struct Scores {
    /// Start positions, [starts, C].
    pub start: Option<Tensor<2>>,
    /// End positions, [ends, C].
    pub end: Option<Tensor<2>>,
    /// Spans, [N, C].
    pub span: Option<Tensor<2>>,
}

/// A loss and its parts.
#[derive(Clone, Debug)]
pub struct Loss {
    /// What to minimize, one element.
    pub total: Tensor<1>,
    /// The parts before weighting, one element each: start, end and span, for contrastive loss first against the threshold and
    /// then the golds'. Parts without weight are absent.
    pub components: Vec<(&'static str, Tensor<1>)>,
}

/// The weighted sum of the losses of all scored kinds.
pub fn loss(scores: Scores, batch: &Batch, config: &RecognizerConfig, parity: Parity) -> Option<Loss> {
    let entry = |row: u32, gold: &crate::batch::GoldRow| GoldEntry {
        row,
        class: gold.class,
        sentence: gold.sentence,
    };
    let golds =
        |row: fn(&crate::batch::GoldRow) -> u32| batch.golds.iter().map(|gold| entry(row(gold), gold)).collect();
    let kinds = [
        (
            ["start", "threshold_start", "entity_start"],
            scores.start,
            &batch.starts.rows,
            golds(|gold| gold.start),
            config.start_loss_weight,
            config.bce_start_pos_weight,
        ),
        (
            ["end", "threshold_end", "entity_end"],
            scores.end,
            &batch.ends.rows,
            golds(|gold| gold.end),
            config.end_loss_weight,
            config.bce_end_pos_weight,
        ),
        (
            ["span", "threshold_span", "entity_span"],
            scores.span,
            &batch.spans.rows,
            golds(|gold| gold.span),
            config.span_loss_weight,
            config.bce_span_pos_weight,
        ),
    ];
    let (type_share, gold_share) = (batch.type_share.factor(), batch.gold_share.factor());
    let (mut weighted, mut components) = (Vec::new(), Vec::new());
    let mut later = Vec::new();
    for ([plain, against_threshold, of_golds], logits, rows, golds, weight, positive_weight) in kinds {
        let Some(logits) = logits else { continue };
        let scored = Scored { logits, rows, golds };
        match config.loss_fn {
            LossKind::Bce => {
                let part = bce::bce(&scored, positive_weight.unwrap_or(1.0));
                weighted.push(part.clone() * (weight * type_share));
                components.push((plain, part));
            }
            LossKind::Focal => {
                let alpha = config.focal_alpha.unwrap_or(focal::DEFAULT_ALPHA);
                let part = focal::focal(&scored, alpha, config.focal_gamma.unwrap_or(focal::DEFAULT_GAMMA));
                weighted.push(part.clone() * (weight * type_share));
                components.push((plain, part));
            }
            LossKind::Contrastive => {
                let parts = contrastive::contrastive(&scored, config.contrastive_tau, parity.every_span);
                let threshold_weight = config.contrastive_threshold_loss_weight * type_share;
                weighted.push(parts.threshold.clone() * (weight * threshold_weight));
                components.push((against_threshold, parts.threshold));
                if let Some(part) = parts.golds {
                    let gold_weight = config.contrastive_span_loss_weight * gold_share;
                    weighted.push(part.clone() * (weight * gold_weight));
                    later.push((of_golds, part));
                }
            }
        }
    }
    components.extend(later);
    let total = weighted.into_iter().reduce(|sum, part| sum + part)?;
    Some(Loss { total, components })
}

/// A tensor like the scores: `elsewhere` everywhere, `gold` at the golds, `masked` in rows that cannot be right.
fn entries(scored: &Scored<'_>, elsewhere: f32, gold: f32, masked: f32, device: &Device) -> Tensor<2> {
    let [rows, classes] = scored.logits.dims();
    let mut values = vec![elsewhere; rows * classes];
    for entry in &scored.golds {
        values[entry.row as usize * classes + entry.class as usize] = gold;
    }
    for row in (0..rows).filter(|&row| !scored.rows.is_valid(row)) {
        values[row * classes..(row + 1) * classes].fill(masked);
    }
    Tensor::from_data(TensorData::new(values, [rows, classes]), device)
}

/// How many entries the reference's mean is over: all that it enumerates, masked ones included.
fn enumerated_entries(scored: &Scored<'_>) -> f64 {
    let [_, classes] = scored.logits.dims();
    scored.rows.sentences() as f64 * classes as f64 * scored.rows.enumerated as f64
}
