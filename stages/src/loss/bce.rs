//! Binary cross-entropy of every candidate and type.

use burn::tensor::Tensor;

use super::{Scored, entries, enumerated_entries};
use crate::model::ops;

/// The reference multiplies its means by this.
pub(super) const SCALE: f64 = 100.0;

/// `100 · mean(−w·y·ln σ(x) − (1 − y)·ln(1 − σ(x)))`, the mean being over all enumerated entries.
///
/// With z = x for negatives and −x for golds each entry is `softplus(z)`: nothing cancels, however sure the score.
pub(super) fn bce(scored: &Scored<'_>, positive_weight: f64) -> Tensor<1> {
    let device = scored.logits.device();
    let z = scored.logits.clone() * entries(scored, 1.0, -1.0, 0.0, &device);
    let weight = entries(scored, 1.0, positive_weight as f32, 0.0, &device);
    ops::sum(ops::softplus(z) * weight) * (SCALE / enumerated_entries(scored))
}
