//! [`Rng`]: random numbers that are a function of (seed, purpose, step, position) and of nothing else.
//!
//! A generator with hidden state makes results depend on who drew first: two threads, a resumed run, or one more layer
//! would shift every later number. Here each number is computed from its coordinates, so a training that is interrupted
//! needs no generator state, and a mask can be filled by any number of threads.
//!
//! The numbers are SplitMix64's (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014):
//! position `i` of a stream is the output function applied to `key + (i + 1) · γ`. The key of a stream is a BLAKE3 hash of seed
//! and purpose, mixed with the step.

use nerpipe_kernels::random::{GAMMA, at, mix};

/// A stream of random numbers addressed by position.
///
/// ```
/// use nerpipe_stages::rng::Rng;
///
/// let rng = Rng::new(42, "example");
/// assert_eq!(rng.u64(7), rng.u64(7));
/// assert_ne!(rng.u64(7), rng.step(1).u64(7));
/// assert_ne!(rng.u64(7), Rng::new(43, "example").u64(7));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    key: u64,
}

impl Rng {
    /// The stream of `seed` for `purpose`. Purposes are short fixed words, such as `dropout` or `shuffle`.
    pub fn new(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("nerpipe 2026-11 random stream");
        hasher.update(&seed.to_le_bytes());
        hasher.update(purpose.as_bytes());
        let mut key = [0; 8];
        hasher.finalize_xof().fill(&mut key);
        Self {
            key: u64::from_le_bytes(key),
        }
    }

    /// The stream of one step (or epoch, layer, attempt: any further coordinate; calls may be chained).
    #[must_use]
    pub const fn step(self, step: u64) -> Self {
        Self {
            key: mix(self.key ^ mix(step.wrapping_mul(GAMMA).wrapping_add(GAMMA))),
        }
    }

    /// What [`nerpipe_kernels::random`] knows the stream by.
    pub(crate) const fn key(&self) -> u64 {
        self.key
    }

    /// 64 random bits at `position`.
    #[inline]
    pub const fn u64(&self, position: u64) -> u64 {
        at(self.key, position)
    }

    /// A number in [0, 1) at `position`, a multiple of 2⁻²⁴.
    #[inline]
    pub fn f32(&self, position: u64) -> f32 {
        (self.u64(position) >> 40) as f32 * (1.0 / (1u32 << 24) as f32)
    }

    /// A number in [0, 1) at `position`, a multiple of 2⁻⁵³.
    #[inline]
    pub fn f64(&self, position: u64) -> f64 {
        (self.u64(position) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// A whole number in 0 .. `bound` at `position` (Lemire's multiplication; its bias is below `bound` / 2⁶⁴).
    ///
    /// # Panics
    /// If `bound` is 0.
    #[inline]
    pub fn below(&self, bound: u64, position: u64) -> u64 {
        assert!(bound > 0, "there is no number below 0");
        ((u128::from(self.u64(position)) * u128::from(bound)) >> 64) as u64
    }

    /// A standard normal number at `position` (Box and Muller's transform of two uniform numbers).
    #[inline]
    pub fn normal(&self, position: u64) -> f64 {
        let radius = (-2.0 * (1.0 - self.f64(2 * position)).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.f64(2 * position + 1)).cos()
    }

    /// Puts `items` in random order (Fisher and Yates).
    pub fn shuffle<T>(&self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1, last as u64) as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// If this changes, every trained model and every cached training changes with it.
    #[test]
    fn numbers_are_pinned() {
        let rng = Rng::new(42, "pinned");
        assert_eq!(
            [rng.u64(0), rng.u64(1), rng.step(3).u64(0)],
            [
                6_517_292_902_370_110_116,
                12_115_693_395_870_775_350,
                17_275_795_484_853_764_281,
            ]
        );
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let rng = Rng::new(1, "moments");
        let n = 100_000;
        let mean = |f: &dyn Fn(u64) -> f64| (0..n).map(f).sum::<f64>() / n as f64;
        assert!((mean(&|i| f64::from(rng.f32(i))) - 0.5).abs() < 0.005);
        assert!((mean(&|i| rng.f64(i).powi(2)) - 1.0 / 3.0).abs() < 0.005);
        assert!(mean(&|i| rng.normal(i)).abs() < 0.01);
        assert!((mean(&|i| rng.normal(i).powi(2)) - 1.0).abs() < 0.02);
        assert!((mean(&|i| rng.normal(i).powi(4)) - 3.0).abs() < 0.15);
    }

    #[test]
    fn shuffle_keeps_the_items_and_depends_on_every_coordinate() {
        let order = |rng: Rng| {
            let mut items: Vec<u32> = (0..50).collect();
            rng.shuffle(&mut items);
            items
        };
        let rng = Rng::new(7, "order");
        let mut sorted = order(rng);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        assert_eq!(order(rng), order(rng));
        assert_ne!(order(rng), order(rng.step(1)));
        assert_ne!(order(rng), order(Rng::new(8, "order")));
        assert_ne!(order(rng), order(Rng::new(7, "other")));
    }

    #[test]
    fn below_reaches_every_value_equally() {
        let rng = Rng::new(3, "below");
        let mut counts = [0u32; 7];
        for i in 0..70_000 {
            counts[rng.below(7, i) as usize] += 1;
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
    }
}
