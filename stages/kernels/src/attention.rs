//! Scaled dot-product attention within sequences that lie one behind the other (Vaswani et al., 2017).
//!
//! Letters: T tokens of all sequences, A heads, D the width of one; n tokens of one sequence.

use std::sync::Arc;

use crate::dropout::Dropout;
use crate::math;
use crate::product::{Matrix, product_into};
use crate::rows::each;
use crate::vectorize::vectorized;

/// How tokens attend.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Where each sequence begins, and T.
    pub offsets: Arc<[usize]>,
    /// How many tokens of each sequence can be attended to; absent if all can.
    pub readable: Option<Arc<[usize]>>,
    /// A.
    pub heads: usize,
    /// Tokens further apart than this do not attend to each other.
    pub window: Option<usize>,
    /// Dropout of the probabilities. An element's number counts sequence by sequence, in it head by head, in it query by query.
    pub dropout: Option<Dropout>,
}

/// One sequence.
#[derive(Clone, Copy)]
struct Sequence {
    first: usize,
    tokens: usize,
    keys: usize,
    /// The number of its first probability.
    probability: usize,
}

impl Attention {
    /// How many probabilities there are: A·n² of each sequence.
    pub fn probabilities(&self) -> usize {
        self.offsets
            .windows(2)
            .map(|pair| self.heads * (pair[1] - pair[0]).pow(2))
            .sum()
    }

    fn sequences(&self) -> impl Iterator<Item = Sequence> + '_ {
        let mut probability = 0;
        self.offsets.windows(2).enumerate().map(move |(number, pair)| {
            let tokens = pair[1] - pair[0];
            let sequence = Sequence {
                first: pair[0],
                tokens,
                keys: self.readable.as_ref().map_or(tokens, |readable| readable[number]),
                probability,
            };
            probability += self.heads * tokens * tokens;
            sequence
        })
    }

    /// The width of all heads together.
    fn width(&self, states: usize) -> usize {
        let tokens = self.offsets.last().copied().unwrap_or(0);
        let width = states.checked_div(tokens).unwrap_or(0);
        assert_eq!(states, tokens * width, "a state for every token");
        assert!(
            width.is_multiple_of(self.heads),
            "as much of every state for every head"
        );
        width
    }
}

/// Query, key and value, [T, A·D] each.
#[derive(Clone, Copy, Debug)]
pub struct Projections<'a> {
    /// What tokens look for.
    pub query: &'a [f32],
    /// What they are found by.
    pub key: &'a [f32],
    /// What they tell.
    pub value: &'a [f32],
}

/// Attends. Into `probabilities` go the softmax's results before any dropout, n by n for each head of each sequence.
///
/// # Shapes
/// `out` [T, A·D], `probabilities` as many as [`Attention::probabilities`] says, or none if they are not needed
pub fn attend(x: Projections<'_>, attention: &Attention, out: &mut [f32], mut probabilities: Option<&mut [f32]>) {
    let width = attention.width(out.len());
    let mut tasks = Vec::with_capacity(attention.offsets.len());
    let (mut rest, elements) = (out, x.query.len());
    for sequence in attention.sequences() {
        let (own, others) = rest.split_at_mut(sequence.tokens * width);
        rest = others;
        let probabilities = take(&mut probabilities, attention.heads * sequence.tokens * sequence.tokens);
        tasks.push((sequence, own, probabilities));
    }
    each(tasks, elements, |(sequence, out, probabilities)| {
        attend_in(x, attention, width, sequence, out, probabilities);
    });
}

/// Splits so many elements off.
fn take<'a>(rest: &mut Option<&'a mut [f32]>, length: usize) -> Option<&'a mut [f32]> {
    let (own, others) = rest.take()?.split_at_mut(length);
    *rest = Some(others);
    Some(own)
}

fn attend_in(
    x: Projections<'_>,
    attention: &Attention,
    width: usize,
    sequence: Sequence,
    out: &mut [f32],
    mut probabilities: Option<&mut [f32]>,
) {
    let Sequence {
        first, tokens: n, keys, ..
    } = sequence;
    let d = width / attention.heads;
    if n == 0 || d == 0 {
        return;
    }
    let factor = 1.0 / (d as f32).sqrt();
    let mut scratch = vec![0.0; if probabilities.is_none() { n * n } else { 0 }];
    let mut dropped = vec![0.0; if attention.dropout.is_some() { n * n } else { 0 }];
    for head in 0..attention.heads {
        let begin = first * width + head * d;
        let of = |states, rows| part(states, begin, rows, d, width);
        let block = match &mut probabilities {
            Some(all) => &mut all[head * n * n..(head + 1) * n * n],
            None => scratch.as_mut_slice(),
        };
        product_into(block, n, factor, of(x.query, n), of(x.key, keys).transposed());
        softmax(block, n, keys, attention.window);
        let weights = match &attention.dropout {
            Some(dropout) => {
                drop_block(
                    *dropout,
                    (sequence.probability + head * n * n) as u64,
                    block,
                    &mut dropped,
                );
                dropped.as_slice()
            }
            None => block,
        };
        product_into(
            &mut out[head * d..],
            width,
            1.0,
            Matrix::new(weights, n, n),
            of(x.value, n),
        );
    }
}

/// The gradients of query, key and value, [T, A·D] each, from that of the result and from the probabilities.
pub fn attend_backward(
    gradient: &[f32],
    x: Projections<'_>,
    probabilities: &[f32],
    attention: &Attention,
) -> [Vec<f32>; 3] {
    let width = attention.width(gradient.len());
    let mut gradients = [(); 3].map(|()| vec![0.0; gradient.len()]);
    let [of_query, of_key, of_value] = &mut gradients;
    let mut rests = [of_query, of_key, of_value].map(|values| Some(values.as_mut_slice()));
    let mut tasks = Vec::with_capacity(attention.offsets.len());
    for sequence in attention.sequences() {
        let [Some(query), Some(key), Some(value)] = rests.each_mut().map(|rest| take(rest, sequence.tokens * width))
        else {
            break;
        };
        tasks.push((sequence, [query, key, value]));
    }
    each(tasks, gradient.len(), |(sequence, gradients)| {
        attend_in_backward(gradient, x, probabilities, attention, width, sequence, gradients);
    });
    gradients
}

fn attend_in_backward(
    gradient: &[f32],
    x: Projections<'_>,
    probabilities: &[f32],
    attention: &Attention,
    width: usize,
    sequence: Sequence,
    [of_query, of_key, of_value]: [&mut [f32]; 3],
) {
    let Sequence { first, tokens: n, .. } = sequence;
    let d = width / attention.heads;
    if n == 0 || d == 0 {
        return;
    }
    let factor = 1.0 / (d as f32).sqrt();
    let mut scores = vec![0.0; n * n];
    let mut dropped = vec![0.0; if attention.dropout.is_some() { n * n } else { 0 }];
    for head in 0..attention.heads {
        let begin = first * width + head * d;
        let of = |states| part(states, begin, n, d, width);
        let number = sequence.probability + head * n * n;
        let block = &probabilities[number..number + n * n];
        let weights = match &attention.dropout {
            Some(dropout) => {
                drop_block(*dropout, number as u64, block, &mut dropped);
                dropped.as_slice()
            }
            None => block,
        };
        let columns = head * d..;
        product_into(
            &mut of_value[columns.clone()],
            width,
            1.0,
            Matrix::new(weights, n, n).transposed(),
            of(gradient),
        );
        product_into(&mut scores, n, 1.0, of(gradient), of(x.value).transposed());
        softmax_backward(&mut scores, block, weights, n);
        product_into(
            &mut of_query[columns.clone()],
            width,
            factor,
            Matrix::new(&scores, n, n),
            of(x.key),
        );
        product_into(
            &mut of_key[columns],
            width,
            factor,
            Matrix::new(&scores, n, n).transposed(),
            of(x.query),
        );
    }
}

/// One head of one sequence.
fn part(states: &[f32], begin: usize, rows: usize, d: usize, width: usize) -> Matrix<'_> {
    Matrix::within(&states[begin..], rows, d, width)
}

vectorized! {
    /// Softmax of each row of a square over its first `keys` elements no further than `window` from the diagonal; 0 elsewhere.
    fn softmax(block: &mut [f32], n: usize, keys: usize, window: Option<usize>) {
        for (query, row) in block.chunks_exact_mut(n).enumerate() {
            let (from, to) = match window {
                Some(window) => (query.saturating_sub(window).min(keys), (query.saturating_add(window) + 1).min(keys)),
                None => (0, keys),
            };
            row[..from].fill(0.0);
            row[to..].fill(0.0);
            let row = &mut row[from..to];
            let mut largest = f32::NEG_INFINITY;
            for &x in row.iter() {
                largest = if x > largest { x } else { largest };
            }
            for x in row.iter_mut() {
                *x = math::exp(*x - largest);
            }
            let share = 1.0 / math::total(row);
            for x in row.iter_mut() {
                *x *= share;
            }
        }
    }

    /// Turns the gradient of the dropped probabilities into that of the scores.
    fn softmax_backward(gradient: &mut [f32], probabilities: &[f32], dropped: &[f32], n: usize) {
        let rows = gradient.chunks_exact_mut(n).zip(probabilities.chunks_exact(n)).zip(dropped.chunks_exact(n));
        for ((g, p), dropped) in rows {
            let along = math::dot(g, dropped);
            for c in 0..n {
                g[c] = g[c] * dropped[c] - p[c] * along;
            }
        }
    }

    fn drop_block(dropout: Dropout, first: u64, block: &[f32], out: &mut [f32]) {
        dropout.fill(first, out);
        for (out, x) in out.iter_mut().zip(block) {
            *out *= x;
        }
    }
}
