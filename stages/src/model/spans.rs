//! Candidates → vectors → scores.
//!
//! Shapes: R rows (candidates of all sentences together), C types, H encoder width, D `linear_hidden_size`, W width embedding.
//!
//! A start, an end, a span and a type each become a vector of length 1 in the same space; a score is their cosine times a learned
//! scale. Only rows that can be right are computed (see [`crate::batch`]).

use burn::tensor::{Tensor, activation};

use super::forward::View;
use super::ops;
use crate::batch::{Batch, Rows, Spans};
use crate::loss::Scores;

/// The types' vectors.
#[derive(Clone, Debug)]
pub enum TypeVectors {
    /// The same for every sentence, [C, D] (bi-encoder).
    Shared(Tensor<2>),
    /// Each sentence's own, [B, C, D] (cross-encoder).
    PerSentence(Tensor<3>),
}

/// Which kinds of candidates to score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Start positions.
    pub start: bool,
    /// End positions.
    pub end: bool,
    /// Spans.
    pub span: bool,
}

/// `x → W₂ · drop(relu(W₁ · x + b₁)) + b₂`, of length 1.
///
/// # Shapes
/// x [R, H] → [R, D]
pub(super) fn unit_vectors(weights: &View<'_>, x: Tensor<2>, rate: f64) -> Tensor<2> {
    let inner = weights.drop_out(activation::relu(weights.at("0").linear(x)), rate);
    ops::l2_normalize(weights.at("3").linear(inner))
}

/// Scores the wanted kinds of candidates against the types. A kind without any candidate is absent.
///
/// # Shapes
/// hidden [T, H] → scores of [R, C] each
pub(super) fn scores(
    weights: &View<'_>,
    hidden: &Tensor<2>,
    types: &TypeVectors,
    batch: &Batch,
    wanted: Wanted,
    rate: f64,
) -> Scores {
    let mut scores = Scores {
        start: None,
        end: None,
        span: None,
    };
    if batch.starts.rows.is_empty() || batch.ends.rows.is_empty() {
        return scores;
    }
    let at = |name: &str, rows: &[u32]| {
        let states = ops::take_rows(hidden.clone(), rows); // [R, H]
        unit_vectors(&weights.at(name), states, rate)
    };
    let starts = at("token_start_linear", &batch.starts.encoder_row);
    let ends = at("token_end_linear", &batch.ends.encoder_row);
    if wanted.start {
        scores.start = Some(compare(weights, "start", starts.clone(), types, &batch.starts.rows));
    }
    if wanted.end {
        scores.end = Some(compare(weights, "end", ends.clone(), types, &batch.ends.rows));
    }
    if wanted.span && !batch.spans.rows.is_empty() {
        let spans = span_vectors(weights, starts, ends, &batch.spans, rate);
        scores.span = Some(compare(weights, "span", spans, types, &batch.spans.rows));
    }
    scores
}

/// The vectors of spans: the MLP of [start ; end ; width embedding].
///
/// Its first layer is linear in these three, so each start, end and width is projected once, and a span adds up its own three.
///
/// # Shapes
/// starts [Rs, D], ends [Re, D] → [N, D]
fn span_vectors(weights: &View<'_>, starts: Tensor<2>, ends: Tensor<2>, spans: &Spans, rate: f64) -> Tensor<2> {
    let [_, d] = starts.dims();
    let mlp = weights.at("token_span_linear");
    let first = mlp.matrix("0.weight"); // [2D + W, D]
    let [inputs, outputs] = first.dims();
    let part = |from: usize, to: usize| first.clone().slice([from..to, 0..outputs]);

    let widths = weights.matrix("width_embedding.weight"); // [K, W]
    let tables = [
        starts.matmul(part(0, d)),
        ends.matmul(part(d, 2 * d)),
        ops::linear(widths, part(2 * d, inputs), mlp.vector("0.bias")),
    ];
    let rows = [&spans.start[..], &spans.end, &spans.width];
    let inner = ops::combine_rows(tables, rows, rate, mlp.dropout());
    ops::l2_normalize(mlp.at("3").linear(inner))
}

/// `exp(scale) · ⟨x, type⟩`.
///
/// # Shapes
/// x [R, D], types [C, D] or [B, C, D] → [R, C]
fn compare(weights: &View<'_>, kind: &str, x: Tensor<2>, types: &TypeVectors, rows: &Rows) -> Tensor<2> {
    let scale = weights.vector(&format!("{kind}_logit_scale")).exp().unsqueeze::<2>();
    let cosines = match types {
        TypeVectors::Shared(types) => ops::compare_rows(x, types.clone(), &[0, rows.len()]),
        TypeVectors::PerSentence(types) => {
            let [sentences, classes, d] = types.dims();
            ops::compare_rows(x, types.clone().reshape([sentences * classes, d]), &rows.offsets)
        }
    };
    cosines * scale
}
