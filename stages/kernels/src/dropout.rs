//! [`Dropout`]: which elements are dropped, computed from their numbers instead of stored.

use crate::random;

/// Drops elements at a rate and multiplies those it keeps, as a function of a key and the element's number.
///
/// Four elements share 64 random bits, so the rate is rounded to a multiple of 2⁻¹⁶; the factor fits the rounded rate, which
/// keeps the expectation exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    key: u64,
    dropped: u16,
    factor: f32,
}

impl Dropout {
    /// Drops at `rate`, below 1, by the stream `key`.
    pub fn new(key: u64, rate: f64) -> Self {
        let dropped = (rate * 65536.0).round().clamp(0.0, 65535.0) as u16;
        Self {
            key,
            dropped,
            factor: 65536.0 / (65536.0 - f32::from(dropped)),
        }
    }

    /// What kept elements are multiplied by.
    pub fn factor(&self) -> f32 {
        self.factor
    }

    /// Writes the factors of elements `first`, `first + 1` and so on: 0 or [`Dropout::factor`].
    #[inline(always)]
    pub fn fill(&self, first: u64, values: &mut [f32]) {
        let lead = values.len().min(((4 - first % 4) % 4) as usize);
        let (head, body) = values.split_at_mut(lead);
        for (value, position) in head.iter_mut().zip(first..) {
            *value = self.pick(random::at(self.key, position / 4), position % 4);
        }
        let group = first.div_ceil(4);
        let mut groups = body.chunks_exact_mut(4);
        let mut next = group;
        for values in &mut groups {
            let bits = random::at(self.key, next);
            for (lane, value) in values.iter_mut().enumerate() {
                *value = self.pick(bits, lane as u64);
            }
            next += 1;
        }
        for (lane, value) in groups.into_remainder().iter_mut().enumerate() {
            *value = self.pick(random::at(self.key, next), lane as u64);
        }
    }

    #[inline(always)]
    fn pick(&self, bits: u64, lane: u64) -> f32 {
        if ((bits >> (16 * lane)) as u16) < self.dropped {
            0.0
        } else {
            self.factor
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_dropped_by_its_number_wherever_a_slice_begins() {
        let dropout = Dropout::new(7, 0.4);
        let mut all = [0.0; 100];
        dropout.fill(0, &mut all);
        for first in 0..20 {
            for length in 0..20 {
                let mut some = vec![0.0; length];
                dropout.fill(first as u64, &mut some);
                assert_eq!(some, all[first..first + length], "{first} {length}");
            }
        }
    }
}
