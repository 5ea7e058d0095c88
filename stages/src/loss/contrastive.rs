//! Contrastive loss: within one sentence and type, golds and a threshold slot compete with all other candidates.

use burn::tensor::{Tensor, TensorData};

use super::Scored;
use crate::model::ops;

/// ln(1e-13): by so much the reference lowers candidates that it means to remove (its defect 19).
pub const MASK_CONSTANT: f32 = -29.933_607;

/// The two parts.
pub(super) struct Parts {
    /// The threshold slot against all negatives, mean over sentences and types.
    pub(super) threshold: Tensor<1>,
    /// Each gold against the slot and all negatives, mean over golds; absent if there are none.
    pub(super) golds: Option<Tensor<1>>,
}

/// `−ln softmax(x / τ)` at the target, among the target, the slot (row 0 of each sentence) and all negatives. Golds of the same
/// row and type are no rivals; they are left out of the sum, or with `lowered` only lowered by [`MASK_CONSTANT`].
///
/// All golds of one sentence and type have the same rivals, so the sum over these is taken once: with s their log-sum-exp the
/// loss of the slot (which is among them) is `s − slot` and that of a gold g is `ln(eˢ + eᵍ) − g = softplus(s − g)`.
pub(super) fn contrastive(scored: &Scored<'_>, tau: f64, lowered: bool) -> Parts {
    let device = scored.logits.device();
    let [_, classes] = scored.logits.dims();
    let (rows, sentences) = (scored.rows, scored.rows.sentences());
    let width = (0..sentences)
        .map(|sentence| rows.of(sentence).len())
        .max()
        .unwrap_or(0);
    let logits = scored.logits.clone() / tau;

    // Each sentence's rows, filled up to the longest: [B, width, C].
    let mut padded_rows = Vec::with_capacity(sentences * width);
    let mut lowering = vec![ops::REMOVED; sentences * width * classes];
    let masked = if lowered { MASK_CONSTANT } else { ops::REMOVED };
    for sentence in 0..sentences {
        let range = rows.of(sentence);
        padded_rows.extend(range.clone().map(|row| row as u32));
        padded_rows.resize((sentence + 1) * width, range.start as u32);
        for (place, row) in range.enumerate() {
            let value = if place == 0 || rows.is_valid(row) { 0.0 } else { masked };
            let first = (sentence * width + place) * classes;
            lowering[first..first + classes].fill(value);
        }
    }
    for gold in &scored.golds {
        let place = gold.row as usize - rows.of(gold.sentence as usize).start;
        if place > 0 {
            lowering[(gold.sentence as usize * width + place) * classes + gold.class as usize] = masked;
        }
    }
    let lowering = Tensor::<3>::from_data(TensorData::new(lowering, [sentences, width, classes]), &device);
    let table = ops::take_rows(logits.clone(), &padded_rows).reshape([sentences, width, classes]);
    let slot = table.clone().slice([0..sentences, 0..1, 0..classes]); // [B, 1, C]
    let rivals = log_sum_exp(table + lowering); // [B, 1, C]

    let entries = (sentences * classes) as f64;
    let threshold = ops::sum((rivals.clone() - slot).reshape([sentences, classes])) / entries;
    let golds = (!scored.golds.is_empty()).then(|| {
        let own: Vec<u32> = scored
            .golds
            .iter()
            .map(|gold| gold.row * classes as u32 + gold.class)
            .collect();
        let theirs: Vec<u32> = scored
            .golds
            .iter()
            .map(|gold| gold.sentence * classes as u32 + gold.class)
            .collect();
        let total_rows = rows.len();
        let own = ops::take_rows(logits.reshape([total_rows * classes, 1]), &own);
        let theirs = ops::take_rows(rivals.reshape([sentences * classes, 1]), &theirs);
        ops::sum(ops::softplus(theirs - own)) / scored.golds.len() as f64
    });
    Parts { threshold, golds }
}

/// `ln Σ eˣ` over the second dimension.
///
/// # Shapes
/// x [B, N, C] → [B, 1, C]
fn log_sum_exp(x: Tensor<3>) -> Tensor<3> {
    // The largest is taken off for range only; its gradient cancels, so none is recorded.
    let largest = x.clone().detach().max_dim(1);
    (x - largest.clone()).exp().sum_dim(1).log() + largest
}
