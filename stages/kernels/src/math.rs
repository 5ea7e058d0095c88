//! Elementary functions in a form that compilers turn into vector instructions, and sums with a fixed tree.

/// Partial sums of a row: two registers of eight.
pub(crate) const LANES: usize = 16;

/// `eˣ`, within 1e-7 of itself; 0 below −87, and no number stays none.
///
/// The argument is split into k·ln 2 and a rest below ln 2 / 2, as in Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it rounds to a whole number, which then stands in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] = [
        1.987_569_1e-4,
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        5.0e-1,
    ];
    let within = x.clamp(-87.0, 88.0);
    let rounded = within * std::f32::consts::LOG2_E + ROUND;
    let k = rounded - ROUND;
    let r = within - k * LN_2_HIGH - k * LN_2_LOW;
    let mut p = COEFFICIENTS[0];
    for c in &COEFFICIENTS[1..] {
        p = p * r + c;
    }
    let p = p * r * r + r + 1.0;
    let value = f32::from_bits(p.to_bits().wrapping_add(rounded.to_bits() << 23));
    if x < -87.0 {
        0.0
    } else if x.is_nan() {
        x
    } else {
        value
    }
}

/// `Σ f(i)` for i below `length`.
#[inline(always)]
pub(crate) fn sum(length: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let whole = length / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        for (lane, partial) in lanes.iter_mut().enumerate() {
            *partial += f(first + lane);
        }
    }
    for index in whole..length {
        lanes[index - whole] += f(index);
    }
    fold(lanes)
}

/// `Σ x`.
#[inline(always)]
pub(crate) fn total(x: &[f32]) -> f32 {
    sum(x.len(), |i| x[i])
}

/// `Σ x·y`.
#[inline(always)]
pub(crate) fn dot(x: &[f32], y: &[f32]) -> f32 {
    let y = &y[..x.len()];
    sum(x.len(), |i| x[i] * y[i])
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_a_ten_millionth() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let off = f64::from(exp(x)) / f64::from(x).exp() - 1.0;
            assert!(off.abs() < 2e-7, "exp({x}) is off by {off}");
        }
        assert_eq!((exp(0.0), exp(-1e30), exp(f32::NEG_INFINITY)), (1.0, 0.0, 0.0));
        // Whatever is in the lowest bits of what is no number.
        assert!(exp(f32::NAN).is_nan() && exp(f32::from_bits(0x7fc0_0001)).is_nan());
    }

    #[test]
    fn sums_take_every_element_once() {
        for length in 0..70 {
            let x: Vec<f32> = (0..length).map(|i| i as f32).collect();
            assert_eq!(total(&x), (0..length).sum::<usize>() as f32);
            assert_eq!(dot(&x, &x), (0..length).map(|i| i * i).sum::<usize>() as f32);
        }
    }
}
