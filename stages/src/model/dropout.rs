//! [`Dropout`]: masks that are a function of (seed, step, pass, site) alone.

use std::cell::Cell;

use burn::tensor::{Device, Tensor, TensorData};
use nerpipe_kernels as kernels;
use rayon::prelude::*;

use super::input::Sequences;
use crate::rng::Rng;

/// Elements filled by one task.
const CHUNK: usize = 1 << 14;

/// The source of dropout masks for one forward pass in training.
///
/// Every place in the model that drops something draws the next *site* number, so one model with the same inputs asks for the
/// same masks in the same order, whatever threads do.
#[derive(Debug)]
pub struct Dropout {
    rng: Rng,
    site: Cell<u64>,
}

impl Dropout {
    /// The masks of training `seed`, optimizer step `step`; `pass` counts the forward passes within the step (accumulation, and
    /// the passes over a split label set).
    pub fn new(seed: u64, step: u64, pass: u64) -> Self {
        Self {
            rng: Rng::new(seed, "dropout").step(step).step(pass),
            site: Cell::new(0),
        }
    }

    /// Which elements to drop at `rate` at the next site; if nothing is dropped there is no site.
    pub(super) fn next(&self, rate: f64) -> Option<kernels::Dropout> {
        (rate > 0.0).then(|| kernels::Dropout::new(self.next_site().key(), rate))
    }

    /// A mask of 0 (with probability `rate`) and 1 / (1 − `rate`), for the next site.
    pub(super) fn mask<const D: usize>(&self, rate: f64, shape: [usize; D], device: &Device) -> Tensor<D> {
        let values = fill(self.next_site(), rate, shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// A mask of attention probabilities, for the next site. An element's number counts real queries and keys alone: sequence by
    /// sequence, in it head by head, in it query by query. So filling up shorter sequences changes no draw.
    ///
    /// # Shapes
    /// [B, A, L, L], 0 where a sequence is filled up
    pub(super) fn attention_mask(&self, rate: f64, heads: usize, sequences: &Sequences, device: &Device) -> Tensor<4> {
        let (b, l) = (sequences.len(), sequences.longest());
        let elements = sequences.iter().map(|tokens| heads * tokens.len() * tokens.len());
        let drawn = fill(self.next_site(), rate, elements.sum());
        let mut values = vec![0f32; b * heads * l * l];
        let mut rest = drawn.as_slice();
        for (sequence, tokens) in sequences.iter().enumerate() {
            let length = tokens.len();
            for row in (0..heads).flat_map(|head| (0..length).map(move |query| (sequence * heads + head) * l + query)) {
                let (head, tail) = rest.split_at(length);
                values[row * l..row * l + length].copy_from_slice(head);
                rest = tail;
            }
        }
        Tensor::from_data(TensorData::new(values, [b, heads, l, l]), device)
    }

    fn next_site(&self) -> Rng {
        self.rng.step(self.site.replace(self.site.get() + 1))
    }
}

/// See [`Dropout::mask`].
fn fill(rng: Rng, rate: f64, length: usize) -> Vec<f32> {
    let dropout = kernels::Dropout::new(rng.key(), rate);
    let mut values = vec![0f32; length];
    values
        .par_chunks_mut(CHUNK)
        .enumerate()
        .for_each(|(chunk, values)| dropout.fill((chunk * CHUNK) as u64, values));
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_have_their_rate_and_mean() {
        for rate in [0.1, 0.5] {
            let values = fill(Rng::new(1, "test"), rate, 200_001);
            let zeros = values.iter().filter(|&&value| value == 0.0).count() as f64 / values.len() as f64;
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
            assert!((zeros - rate).abs() < 0.005, "{zeros}");
            assert!((mean - 1.0).abs() < 0.01, "{mean}");
        }
    }

    #[test]
    fn masks_depend_on_every_key_and_not_on_threads() {
        let device = Device::flex();
        let mask = |seed, step, pass, skip| {
            let dropout = Dropout::new(seed, step, pass);
            for _ in 0..skip {
                dropout.mask(0.5, [1], &device);
            }
            dropout
                .mask(0.5, [40_000], &device)
                .to_data()
                .try_into_vec::<f32>()
                .expect("f32")
        };
        let base = mask(1, 2, 3, 0);
        for other in [mask(0, 2, 3, 0), mask(1, 3, 3, 0), mask(1, 2, 0, 0), mask(1, 2, 3, 1)] {
            assert_ne!(base, other);
        }
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
        assert_eq!(base, pool.install(|| mask(1, 2, 3, 0)));
    }
}
