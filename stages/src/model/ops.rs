//! The tensor operations that the models are made of.
//!
//! Those that a training spends its time in exist twice. [`stock`] composes them of Burn's own operations, in forms that give
//! the same numbers on every backend: the error function for GELU (the ready-made one has another backward on GPUs), and no
//! infinities (WGSL may assume that there are none). [`fused`] makes each one loop with its own backward, on the CPU. The
//! functions here choose; tests hold the two together, values and gradients.

mod fused;
mod stock;
#[cfg(test)]
mod tests;

use burn::tensor::{Device, Int, Tensor, TensorData, activation};

use super::dropout::Dropout;
use super::input::Sequences;

/// Stands for −∞ in masks: far below any score, yet finite. Its exponential is exactly 0 next to any real score.
pub(crate) const REMOVED: f32 = -1e30;

/// `x · weight + bias`.
///
/// # Shapes
/// x [R, in], weight [in, out], bias [out] → [R, out]. Batches are flattened to rows first: one matrix product is faster than
/// many small ones.
pub(crate) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    if fused::serves(&x.device()) {
        fused::linear(x, weight, bias)
    } else {
        stock::linear(x, weight, bias)
    }
}

/// Layer normalization over the last dimension (Ba, Kiros and Hinton, 2016), with the biased variance.
///
/// # Shapes
/// x [R, H], scale [H], shift [H] → [R, H]
pub(crate) fn layer_norm(x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if fused::serves(&x.device()) {
        fused::layer_norm(x, scale, shift, epsilon)
    } else {
        stock::layer_norm(x, scale, shift, epsilon)
    }
}

/// [`layer_norm`] of `dropped x + residual`; elements of x are dropped at `rate`, if there is a source of dropout.
///
/// # Shapes
/// x [R, H], residual [R, H], scale [H], shift [H] → [R, H]
pub(crate) fn add_norm(
    x: Tensor<2>,
    residual: Tensor<2>,
    (scale, shift): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    if fused::serves(&x.device()) {
        fused::add_norm(x, residual, (scale, shift), epsilon, rate, dropout)
    } else {
        stock::layer_norm(drop_out(x, rate, dropout) + residual, scale, shift, epsilon)
    }
}

/// Each row divided by the root of its mean square (Zhang and Sennrich, 2019).
///
/// # Shapes
/// x [R, H], scale [H] → [R, H]
pub(crate) fn rms_norm(x: Tensor<2>, scale: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let square = x.clone().square().mean_dim(1);
    x / (square + epsilon).sqrt() * scale.unsqueeze::<2>()
}

/// Rotary positions (Su et al., 2021): how far each pair of a head's elements is turned, token by token.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// [T, 1, D]
    cos: Tensor<3>,
    /// [T, 1, D]
    sin: Tensor<3>,
}

impl Rotation {
    /// The rotation of tokens at these positions, T of them, in heads of width `d`; `theta` is its base.
    pub(crate) fn new(positions: &[u32], d: usize, theta: f64, device: &Device) -> Self {
        let frequencies: Vec<f32> = (0..d / 2)
            .map(|pair| 1.0 / (theta as f32).powf(2.0 * pair as f32 / d as f32))
            .collect();
        let table = |of: fn(f32) -> f32| {
            let angles = positions.iter().flat_map(|&position| {
                let half = frequencies.iter().map(move |frequency| of(position as f32 * frequency));
                half.clone().chain(half)
            });
            let values: Vec<f32> = angles.collect();
            Tensor::from_data(TensorData::new(values, [positions.len(), 1, d]), device)
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }

    /// Turns every head. An element of a head's first half makes a pair with that of its second.
    ///
    /// # Shapes
    /// x [T, A·D] → [T, A·D]
    pub(crate) fn apply(&self, x: Tensor<2>, heads: usize) -> Tensor<2> {
        let [tokens, width] = x.dims();
        let d = width / heads;
        let x = x.reshape([tokens, heads, d]);
        let half = |from: usize| x.clone().slice([0..tokens, 0..heads, from..from + d / 2]);
        let turned = Tensor::cat(vec![half(d / 2).neg(), half(0)], 2);
        (x.clone() * self.cos.clone() + turned * self.sin.clone()).reshape([tokens, width])
    }
}

/// The Gaussian error linear unit in its exact form, `x · (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel, 2016).
pub(crate) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if fused::serves(&x.device()) {
        fused::gelu(x)
    } else {
        stock::gelu(x)
    }
}

/// GELU's approximation, `x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2`.
pub(crate) fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let cubic = x.clone() * (x.clone().square() * 0.044_715 + 1.0);
    let share = cubic.mul_scalar((2.0 / std::f64::consts::PI).sqrt()).tanh() + 1.0;
    x * share * 0.5
}

/// What [`attention`] reads. D is the width of a head.
#[derive(Debug)]
pub(crate) struct Attention<'a> {
    /// [T, A·D]
    pub(crate) query: Tensor<2>,
    /// [T, A·D]
    pub(crate) key: Tensor<2>,
    /// [T, A·D]
    pub(crate) value: Tensor<2>,
    /// A.
    pub(crate) heads: usize,
    /// How the tokens divide.
    pub(crate) sequences: &'a Sequences,
    /// Added to the scores before the softmax, [B, A, L, L] or with 1 in place of B or A: query before key, filled up to the
    /// longest sequence in any way.
    pub(crate) bias: Option<Tensor<4>>,
    /// Tokens further apart than this do not attend to each other.
    pub(crate) window: Option<usize>,
    /// Dropout of the probabilities.
    pub(crate) dropout_rate: f64,
}

/// Scaled dot-product attention within each sequence, with dropout on the probabilities (Vaswani et al., 2017). To attend
/// without the scale `1 / √D`, multiply the query by `√D` before.
///
/// # Shapes
/// see [`Attention`] → [T, A·D]
pub(crate) fn attention(input: Attention<'_>, dropout: Option<&Dropout>) -> Tensor<2> {
    if fused::serves(&input.query.device()) && fused::can_attend(&input) {
        fused::attention(input, dropout)
    } else {
        stock::attention(input, dropout)
    }
}

/// Splits states into heads and fills sequences up to the longest; what they are filled with is some other token's state.
///
/// # Shapes
/// x [T, A·D] → [B, A, L, D]
pub(crate) fn by_heads(x: Tensor<2>, heads: usize, sequences: &Sequences) -> Tensor<4> {
    let [_, width] = x.dims();
    let (b, l) = (sequences.len(), sequences.longest());
    let x = if sequences.tokens() == b * l {
        x
    } else {
        let mut rows = Vec::with_capacity(b * l);
        for (sequence, tokens) in sequences.iter().enumerate() {
            rows.extend(tokens.map(|token| token as u32));
            rows.resize((sequence + 1) * l, 0);
        }
        take_rows(x, &rows)
    };
    x.reshape([b, l, heads, width / heads]).swap_dims(1, 2)
}

/// Puts heads together again and leaves out what sequences were filled up with.
///
/// # Shapes
/// x [B, A, L, D] → [T, A·D]
pub(crate) fn by_tokens(x: Tensor<4>, sequences: &Sequences) -> Tensor<2> {
    let [b, heads, l, width] = x.dims();
    let x = x.swap_dims(1, 2).reshape([b * l, heads * width]);
    if sequences.tokens() == b * l {
        return x;
    }
    let rows: Vec<u32> = sequences
        .iter()
        .enumerate()
        .flat_map(|(sequence, tokens)| (0..tokens.len()).map(move |place| (sequence * l + place) as u32))
        .collect();
    take_rows(x, &rows)
}

/// Each row divided by its length, or by 1e-12 if it is shorter.
///
/// # Shapes
/// x [R, D] → [R, D]
pub(crate) fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    if fused::serves(&x.device()) {
        fused::l2_normalize(x)
    } else {
        stock::l2_normalize(x)
    }
}

/// The sum of a row of each of three tables, negatives set to 0, then dropped at `rate`: the first layer of an MLP whose
/// input is put together from parts.
///
/// # Shapes
/// tables [any, D] each, `rows` of length N each → [N, D]
pub(crate) fn combine_rows(
    tables: [Tensor<2>; 3],
    rows: [&[u32]; 3],
    rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    if fused::serves(&tables[0].device()) {
        fused::combine_rows(tables, rows, rate, dropout)
    } else {
        stock::combine_rows(tables, rows, rate, dropout)
    }
}

/// The products of each row with the vectors of its group. `offsets` tell where the rows of each of G groups begin and the
/// last ends; each group has C vectors.
///
/// # Shapes
/// x [N, D], vectors [G·C, D] → [N, C]
pub(crate) fn compare_rows(x: Tensor<2>, vectors: Tensor<2>, offsets: &[usize]) -> Tensor<2> {
    if fused::serves(&x.device()) {
        fused::compare_rows(x, vectors, offsets)
    } else {
        stock::compare_rows(x, vectors, offsets)
    }
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
