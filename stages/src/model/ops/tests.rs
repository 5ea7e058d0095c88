//! Operations against their formulae, and fused ones against stock ones.

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
            let score = |j: usize| (0..d).map(|k| at(&query, i, k) * at(&key, j, k)).sum::<f64>() / (d as f64).sqrt();
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

/// Values and gradients of one operation, computed twice.
mod fused_and_stock {
    use proptest::prelude::*;

    use crate::rng::Rng;

    use super::*;

    /// A tensor of normal numbers that gathers a gradient.
    fn leaf<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
        let rng = Rng::new(seed, "values");
        let values = (0..shape.iter().product::<usize>() as u64).map(|i| rng.normal(i) as f32);
        let data = TensorData::new(values.collect::<Vec<_>>(), shape);
        Tensor::from_data(data, &Device::flex().autodiff()).require_grad()
    }

    fn numbers<const D: usize>(x: Tensor<D>) -> Vec<f32> {
        x.into_data().try_into_vec().expect("floats")
    }

    /// The result of `f`, and the gradients of `leaves` when the result's elements are weighted at random.
    fn run(leaves: &[Tensor<2>], f: &dyn Fn(&[Tensor<2>]) -> Tensor<2>) -> Vec<Vec<f32>> {
        let out = f(leaves);
        let weights = leaf(out.dims(), 99).detach();
        let gradients = (out.clone() * weights).sum().backward();
        let mut all = vec![numbers(out.without_autodiff())];
        all.extend(
            leaves
                .iter()
                .map(|leaf| leaf.grad(&gradients).map_or_else(Vec::new, numbers)),
        );
        all
    }

    fn same(leaves: &[Tensor<2>], one: &dyn Fn(&[Tensor<2>]) -> Tensor<2>, other: &dyn Fn(&[Tensor<2>]) -> Tensor<2>) {
        let (one, other) = (run(leaves, one), run(leaves, other));
        for (part, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one.len(), other.len(), "part {part}");
            let largest = other.iter().fold(1f32, |largest, x| largest.max(x.abs()));
            for (place, (x, y)) in one.iter().zip(other).enumerate() {
                assert!(
                    (x - y).abs() <= 4e-6 * largest,
                    "part {part}, element {place}: {x} and {y}"
                );
            }
        }
    }

    fn row(x: &Tensor<2>) -> Tensor<1> {
        let [_, columns] = x.dims();
        x.clone().reshape([columns])
    }

    /// The source of dropout for one of two computations that must drop the same.
    fn dropout(drops: bool) -> Option<Dropout> {
        drops.then(|| Dropout::new(5, 7, 0))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn linear(rows in 1usize..90, inputs in 1usize..40, outputs in 1usize..40) {
            let leaves = [leaf([rows, inputs], 1), leaf([inputs, outputs], 2), leaf([1, outputs], 3)];
            same(
                &leaves,
                &|x| fused::linear(x[0].clone(), x[1].clone(), row(&x[2])),
                &|x| stock::linear(x[0].clone(), x[1].clone(), row(&x[2])),
            );
        }

        #[test]
        fn gelu(rows in 1usize..90, columns in 1usize..40) {
            same(&[leaf([rows, columns], 1) ], &|x| fused::gelu(x[0].clone() * 3.0), &|x| stock::gelu(x[0].clone() * 3.0));
        }

        // Fewer columns may be so alike that what is left of them after the mean is rounding.
        #[test]
        fn norms(rows in 1usize..200, columns in 8usize..70, drops: bool) {
            let leaves = [leaf([rows, columns], 1), leaf([rows, columns], 2), leaf([1, columns], 3), leaf([1, columns], 4)];
            same(
                &leaves[..3],
                &|x| fused::layer_norm(x[0].clone(), row(&x[2]), row(&x[2]), 1e-5),
                &|x| stock::layer_norm(x[0].clone(), row(&x[2]), row(&x[2]), 1e-5),
            );
            same(
                &leaves,
                &|x| {
                    let weights = (row(&x[2]), row(&x[3]));
                    fused::add_norm(x[0].clone(), x[1].clone(), weights, 1e-5, 0.3, dropout(drops).as_ref())
                },
                &|x| {
                    let sum = drop_out(x[0].clone(), 0.3, dropout(drops).as_ref()) + x[1].clone();
                    stock::layer_norm(sum, row(&x[2]), row(&x[3]), 1e-5)
                },
            );
        }

        #[test]
        fn attention(
            lengths in proptest::collection::vec(0usize..40, 1..5),
            heads in 1usize..4,
            d in 1usize..9,
            window in proptest::option::of(0usize..20),
            drops: bool,
            padded: bool,
        ) {
            prop_assume!(lengths.iter().any(|&length| length > 0));
            // The reference's padding is tokens that nobody attends to; windows do not come with it.
            let padded = padded && window.is_none() && lengths.iter().all(|&length| length > 0);
            let sequences = if padded {
                let rows: Vec<Vec<u32>> = lengths.iter().map(|&length| vec![1; length]).collect();
                crate::model::EncoderInput::padded(&rows, 0).sequences
            } else {
                Sequences::of_lengths(lengths)
            };
            let shape = [sequences.tokens(), heads * d];
            let input = |x: &[Tensor<2>]| Attention {
                query: x[0].clone(),
                key: x[1].clone(),
                value: x[2].clone(),
                heads,
                sequences: &sequences,
                bias: None,
                window,
                dropout_rate: 0.2,
            };
            let leaves = [leaf(shape, 1), leaf(shape, 2), leaf(shape, 3)];
            prop_assert!(fused::can_attend(&input(&leaves)));
            same(
                &leaves,
                &|x| fused::attention(input(x), dropout(drops).as_ref()),
                &|x| stock::attention(input(x), dropout(drops).as_ref()),
            );
        }

        #[test]
        fn l2_normalize(rows in 1usize..200, columns in 1usize..70) {
            // From 1 to 3: the gradient of a short row is large, and so is its rounding.
            let long = |x: &[Tensor<2>]| x[0].clone().tanh() + 2.0;
            let leaves = [leaf([rows, columns], 1)];
            same(&leaves, &|x| fused::l2_normalize(long(x)), &|x| stock::l2_normalize(long(x)));
        }

        #[test]
        fn combine_rows(
            rows in proptest::collection::vec((0u32..5, 0u32..3, 0u32..4), 1..200),
            columns in 1usize..20,
            drops: bool,
        ) {
            let leaves = [leaf([5, columns], 1), leaf([3, columns], 2), leaf([4, columns], 3)];
            let of = |part: fn(&(u32, u32, u32)) -> u32| rows.iter().map(part).collect::<Vec<_>>();
            let (a, b, c) = (of(|row| row.0), of(|row| row.1), of(|row| row.2));
            let tables = |x: &[Tensor<2>]| [x[0].clone(), x[1].clone(), x[2].clone()];
            same(
                &leaves,
                &|x| fused::combine_rows(tables(x), [&a, &b, &c], 0.3, dropout(drops).as_ref()),
                &|x| stock::combine_rows(tables(x), [&a, &b, &c], 0.3, dropout(drops).as_ref()),
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn compare_rows(lengths in proptest::collection::vec(0usize..30, 1..6), classes in 1usize..7, d in 1usize..20) {
            let mut offsets = vec![0];
            for length in &lengths {
                offsets.push(offsets[offsets.len() - 1] + length);
            }
            let rows = offsets[lengths.len()];
            prop_assume!(rows > 0);
            let leaves = [leaf([rows, d], 1), leaf([lengths.len() * classes, d], 2)];
            same(
                &leaves,
                &|x| fused::compare_rows(x[0].clone(), x[1].clone(), &offsets),
                &|x| stock::compare_rows(x[0].clone(), x[1].clone(), &offsets),
            );
        }
    }

    /// A row of zeros has no direction: both divide it by 1e-12, and its gradient by the same.
    #[test]
    fn rows_of_zeros_stay_zeros() {
        for normalize in [fused::l2_normalize, stock::l2_normalize] {
            let x = Tensor::<2>::zeros([1, 3], &Device::flex().autodiff()).require_grad();
            let out = normalize(x.clone());
            let gradients = out.clone().sum().backward();
            assert_eq!(numbers(out.without_autodiff()), [0.0; 3]);
            let gradient = numbers(x.grad(&gradients).expect("a gradient"));
            assert!(gradient.iter().all(|g| (g / 1e12 - 1.0).abs() < 1e-6), "{gradient:?}");
        }
    }

    /// What is no number stays none, so that a training that diverges is noticed.
    #[test]
    fn nothing_hides_that_a_value_is_no_number() {
        let x = || Tensor::<2>::from_data([[1.0, f32::NAN, 2.0]], &Device::flex());
        let weights = || Tensor::<1>::ones([3], &Device::flex());
        let all_nan = |x: Tensor<2>| numbers(x).iter().all(|x| x.is_nan());
        assert!(all_nan(fused::layer_norm(x(), weights(), weights(), 1e-5)));
        assert!(all_nan(fused::l2_normalize(x())));
        assert!(numbers(fused::gelu(x()))[1].is_nan());
        assert!(numbers(fused::combine_rows([x(), x(), x()], [&[0], &[0], &[0]], 0.0, None))[1].is_nan());
        let sequences = Sequences::of_lengths([1]);
        let input = Attention {
            query: x(),
            key: x(),
            value: x(),
            heads: 1,
            sequences: &sequences,
            bias: None,
            window: None,
            dropout_rate: 0.0,
        };
        assert!(all_nan(fused::attention(input, None)));
    }
}
