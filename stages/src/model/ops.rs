//! The tensor operations that the models are made of, each once, so that a faster version has one place to go.
//!
//! Only Burn's stock operations are used, in forms that give the same numbers on every backend: the error function for
//! GELU (the ready-made one has another backward on GPUs), and no infinities (WGSL may assume that there are none).

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::dropout::Dropout;

/// Stands for −∞ in masks: far below any score, yet finite. Its exponential is exactly 0 next to any real score.
pub(crate) const REMOVED: f32 = -1e30;

/// `x · weight + bias`.
///
/// # Shapes
/// x [R, in], weight [in, out], bias [out] → [R, out]. Batches are flattened to rows first: one matrix product is faster than
/// many small ones.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    x.matmul(weight) + bias.unsqueeze::<2>()
}

/// Layer normalization over the last dimension (Ba, Kiros and Hinton, 2016), with the biased variance.
///
/// # Shapes
/// x [R, H], scale [H], shift [H] → [R, H]
pub(crate) fn layer_norm(x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + epsilon).sqrt() * scale.unsqueeze::<2>() + shift.unsqueeze::<2>()
}

/// The Gaussian error linear unit in its exact form, `x · (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel, 2016).
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let share = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * share * 0.5
}

/// Scaled dot-product attention with dropout on the probabilities (Vaswani et al., 2017).
///
/// # Shapes
/// query, key, value [B, A, L, H/A], keep_out [B, 1, 1, L] (0, or [`REMOVED`] for padding) → [B, A, L, H/A]
pub(crate) fn attention(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    keep_out: Tensor<4>,
    dropout_rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<4> {
    let [.., width] = query.dims();
    let scores = query
        .mul_scalar(1.0 / (width as f64).sqrt())
        .matmul(key.swap_dims(2, 3));
    let probabilities = activation::softmax(scores + keep_out, 3);
    drop_out(probabilities, dropout_rate, dropout).matmul(value)
}

/// Each row divided by its length, or by 1e-12 if it is shorter.
///
/// # Shapes
/// x [R, D] → [R, D]
pub(crate) fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    // Clamped before the root: the root's slope at 0 is infinite, and would turn a zero row's gradient into NaN.
    let length = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / length
}

/// `ln(1 + eˣ)`, without overflow, exact in both tails, with slope σ(x) everywhere.
pub(crate) fn softplus<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    activation::log_sigmoid(x.neg()).neg()
}

/// Drops elements at `rate` and scales the rest, if there is a source of dropout (there is none outside training).
pub(crate) fn drop_out<const D: usize>(x: Tensor<D>, rate: f64, dropout: Option<&Dropout>) -> Tensor<D> {
    match dropout {
        Some(dropout) if rate > 0.0 => {
            let mask = dropout.mask(rate, x.dims(), &x.device());
            x * mask
        }
        _ => x,
    }
}

/// Rows of a matrix by number; the gradient adds up where a row is taken more than once.
///
/// # Shapes
/// x [R, D], `rows` of length N → [N, D]
pub(crate) fn take_rows(x: Tensor<2>, rows: &[u32]) -> Tensor<2> {
    let device = x.device();
    x.select(0, indices(rows, &device))
}

/// Row numbers as a tensor.
pub(crate) fn indices(rows: &[u32], device: &Device) -> Tensor<1, Int> {
    // Row numbers fit in 31 bits: a tensor with more rows than that would not fit in memory.
    let values: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// 0 where `keep` is true, [`REMOVED`] elsewhere.
pub(crate) fn removal<const D: usize>(keep: &[bool], shape: [usize; D], device: &Device) -> Tensor<D> {
    let values: Vec<f32> = keep.iter().map(|&keep| if keep { 0.0 } else { REMOVED }).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// The sum of a matrix, as a tensor of one element. Rows first, then columns: Burn's whole-tensor sum groups its parts by
/// which thread was free, so its last digit is not always the same.
///
/// # Shapes
/// x [R, C] → [1]
pub(crate) fn sum(x: Tensor<2>) -> Tensor<1> {
    let [rows, _] = x.dims();
    x.sum_dim(1).reshape([1, rows]).sum_dim(1).reshape([1])
}
