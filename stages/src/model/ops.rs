//! The tensor operations that the models are made of, each once, so that a faster version has one place to go.
//!
//! Only Burn's stock operations are used, in forms that give the same numbers on every backend: the error function for
//! GELU (the ready-made one has another backward on GPUs), and no infinities (WGSL may assume that there are none).

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
    let share = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * share * 0.5
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
/// The sequences are filled up to the longest here, and only here.
///
/// # Shapes
/// see [`Attention`] → [T, A·D]
pub(crate) fn attention(input: Attention<'_>, dropout: Option<&Dropout>) -> Tensor<2> {
    let Attention { heads, sequences, .. } = input;
    let [_, width] = input.query.dims();
    let device = input.query.device();
    let (b, l) = (sequences.len(), sequences.longest());
    let query = by_heads(input.query, heads, sequences).mul_scalar(1.0 / ((width / heads) as f64).sqrt());
    let key = by_heads(input.key, heads, sequences).swap_dims(2, 3);
    let mut scores = query.matmul(key); // [B, A, L, L]
    if let Some(bias) = input.bias {
        scores = scores + bias;
    }
    if let Some(keep) = visible(sequences, input.window) {
        let [rows, columns] = [keep.len() / l / b, l];
        scores = scores + removal(&keep, [b, 1, rows, columns], &device);
    }
    let mut probabilities = activation::softmax(scores, 3);
    if let Some(dropout) = dropout.filter(|_| input.dropout_rate > 0.0) {
        probabilities = probabilities * dropout.attention_mask(input.dropout_rate, heads, sequences, &device);
    }
    let context = probabilities.matmul(by_heads(input.value, heads, sequences)); // [B, A, L, D]
    by_tokens(context, sequences)
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

/// Which keys a query may attend to, [B, L, L], or [B, L] where all queries of a sequence may attend to the same; `None` if
/// every query may attend to every key.
fn visible(sequences: &Sequences, window: Option<usize>) -> Option<Vec<bool>> {
    let l = sequences.longest();
    match window.filter(|&window| window + 1 < l) {
        None if sequences.are_even() => None,
        None => {
            let keys = (0..sequences.len()).map(|sequence| sequences.keys(sequence).len());
            Some(keys.flat_map(|keys| (0..l).map(move |key| key < keys)).collect())
        }
        Some(window) => {
            let mut keep = Vec::with_capacity(sequences.len() * l * l);
            for sequence in 0..sequences.len() {
                let (tokens, keys) = (sequences.of(sequence).len(), sequences.keys(sequence).len());
                for query in 0..l {
                    // A row of filling sees every key: a softmax over nothing would be no number.
                    keep.extend((0..l).map(|key| key < keys && (query >= tokens || query.abs_diff(key) <= window)));
                }
            }
            Some(keep)
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    const HEADS: usize = 2;
    const WIDTH: usize = 6;

    fn states(rows: usize, purpose: &str) -> Tensor<2> {
        let rng = Rng::new(3, purpose);
        let values: Vec<f32> = (0..(rows * WIDTH) as u64).map(|i| rng.normal(i) as f32).collect();
        Tensor::from_data(TensorData::new(values, [rows, WIDTH]), &Device::flex())
    }

    fn attend(lengths: &[usize], window: Option<usize>, bias: Option<Tensor<4>>) -> Tensor<2> {
        let sequences = Sequences::of_lengths(lengths.iter().copied());
        let of = |purpose| states(sequences.tokens(), purpose);
        let input = Attention {
            query: of("query"),
            key: of("key"),
            value: of("value"),
            heads: HEADS,
            sequences: &sequences,
            bias,
            window,
            dropout_rate: 0.0,
        };
        attention(input, None)
    }

    /// Attention of one query, head and window by its formula, in f64.
    fn by_hand(lengths: &[usize], window: usize) -> Vec<f64> {
        let sequences = Sequences::of_lengths(lengths.iter().copied());
        let of = |purpose| states(sequences.tokens(), purpose).into_data().try_into_vec::<f32>();
        let (query, key, value) = (of("query").unwrap(), of("key").unwrap(), of("value").unwrap());
        let (mut out, d) = (vec![0.0; sequences.tokens() * WIDTH], WIDTH / HEADS);
        for tokens in sequences.iter() {
            for (head, i) in (0..HEADS).flat_map(|head| tokens.clone().map(move |i| (head, i))) {
                let keys: Vec<usize> = tokens.clone().filter(|j| i.abs_diff(*j) <= window).collect();
                let at = |x: &[f32], row: usize, k: usize| f64::from(x[row * WIDTH + head * d + k]);
                let score =
                    |j: usize| (0..d).map(|k| at(&query, i, k) * at(&key, j, k)).sum::<f64>() / (d as f64).sqrt();
                let weights: Vec<f64> = keys.iter().map(|&j| score(j).exp()).collect();
                let total: f64 = weights.iter().sum();
                for k in 0..d {
                    out[i * WIDTH + head * d + k] = keys
                        .iter()
                        .zip(&weights)
                        .map(|(&j, weight)| weight / total * at(&value, j, k))
                        .sum();
                }
            }
        }
        out
    }

    #[test]
    fn sequences_attend_to_themselves_alone_and_within_the_window() {
        for lengths in [&[4][..], &[3, 3], &[1, 5, 2], &[0, 2, 7]] {
            for window in [None, Some(1), Some(3), Some(9)] {
                let got: Vec<f32> = attend(lengths, window, None).into_data().try_into_vec().unwrap();
                let expected = by_hand(lengths, window.unwrap_or(usize::MAX));
                assert_eq!(got.len(), expected.len());
                for (got, expected) in got.iter().zip(expected) {
                    assert!(
                        (f64::from(*got) - expected).abs() < 1e-6,
                        "{lengths:?} {window:?}: {got} {expected}"
                    );
                }
            }
        }
    }

    /// A bias that removes everything but the diagonal leaves each token its own value.
    #[test]
    fn a_bias_is_added_to_the_scores() {
        let keep: Vec<bool> = (0..9).map(|i| i % 4 == 0).collect();
        let bias = removal(&keep, [1, 1, 3, 3], &Device::flex());
        let got: Vec<f32> = attend(&[3, 2], None, Some(bias)).into_data().try_into_vec().unwrap();
        assert_eq!(got, states(5, "value").into_data().try_into_vec::<f32>().unwrap());
    }
}
