//! The operations composed of Burn's own: for any device, and what the fused ones are tested against.

use burn::tensor::{Tensor, activation};

use super::{Attention, by_heads, by_tokens, drop_out, removal, take_rows};
use crate::model::dropout::Dropout;
use crate::model::input::Sequences;

/// See [`super::linear`].
pub(super) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    x.matmul(weight) + bias.unsqueeze::<2>()
}

/// See [`super::layer_norm`].
pub(super) fn layer_norm(x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = centred.clone().square().mean_dim(1);
    centred / (variance + epsilon).sqrt() * scale.unsqueeze::<2>() + shift.unsqueeze::<2>()
}

/// See [`super::gelu`].
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let share = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0;
    x * share * 0.5
}

/// See [`super::attention`]. The sequences are filled up to the longest here, and only here.
pub(super) fn attention(input: Attention<'_>, dropout: Option<&Dropout>) -> Tensor<2> {
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

/// See [`super::l2_normalize`].
pub(super) fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    // Clamped before the root: the root's slope at 0 is infinite, and would turn a zero row's gradient into NaN.
    let length = x.clone().square().sum_dim(1).clamp_min(1e-24).sqrt();
    x / length
}

/// See [`super::combine_rows`].
pub(super) fn combine_rows(
    tables: [Tensor<2>; 3],
    rows: [&[u32]; 3],
    rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let [a, b, c] = tables;
    let sum = take_rows(a, rows[0]) + take_rows(b, rows[1]) + take_rows(c, rows[2]);
    drop_out(activation::relu(sum), rate, dropout)
}

/// See [`super::compare_rows`]. The groups' rows are filled up to the longest, so that it is one batched product.
pub(super) fn compare_rows(x: Tensor<2>, vectors: Tensor<2>, offsets: &[usize]) -> Tensor<2> {
    let [n, d] = x.dims();
    let groups = offsets.len() - 1;
    let [vectors_in_all, _] = vectors.dims();
    let classes = vectors_in_all / groups;
    if groups == 1 {
        return x.matmul(vectors.transpose());
    }
    let width = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
    let vectors = vectors.reshape([groups, classes, d]).swap_dims(1, 2); // [G, D, C]
    if n == groups * width {
        return x.reshape([groups, width, d]).matmul(vectors).reshape([n, classes]);
    }
    let (mut filled, mut back) = (Vec::with_capacity(groups * width), Vec::with_capacity(n));
    for (group, pair) in offsets.windows(2).enumerate() {
        back.extend((0..pair[1] - pair[0]).map(|place| (group * width + place) as u32));
        filled.extend((pair[0]..pair[1]).map(|row| row as u32));
        filled.resize((group + 1) * width, 0);
    }
    let product = take_rows(x, &filled).reshape([groups, width, d]).matmul(vectors);
    take_rows(product.reshape([groups * width, classes]), &back)
}
