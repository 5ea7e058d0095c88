//! Focal loss: binary cross-entropy in which entries count less the surer they are right (Lin et al., 2017).

use burn::tensor::Tensor;

use super::bce::SCALE;
use super::{Scored, entries, enumerated_entries};
use crate::model::ops;

/// α where the settings say null. The reference fails there (its defect 10).
pub(super) const DEFAULT_ALPHA: f64 = 0.75;
/// γ where the settings say null.
pub(super) const DEFAULT_GAMMA: f64 = 2.0;

/// `100 · mean(a · (1 − p)^γ · bce)`, p being the probability given to the truth, a = α for golds and 1 − α for negatives, or 1
/// if α is below 0.
///
/// With z as in [`bce`](super::bce), 1 − p = σ(z) and its power is `exp(−γ · softplus(−z))`.
pub(super) fn focal(scored: &Scored<'_>, alpha: f64, gamma: f64) -> Tensor<1> {
    let device = scored.logits.device();
    let (negative, gold) = if alpha < 0.0 {
        (1.0, 1.0)
    } else {
        (1.0 - alpha as f32, alpha as f32)
    };
    let z = scored.logits.clone() * entries(scored, 1.0, -1.0, 0.0, &device);
    let weight = entries(scored, negative, gold, 0.0, &device);
    let unsure = (ops::softplus(z.clone().neg()) * -gamma).exp();
    ops::sum(unsure * ops::softplus(z) * weight) * (SCALE / enumerated_entries(scored))
}
