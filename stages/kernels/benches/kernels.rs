//! How long the loops take, by one thread, at the sizes of a training step: 8 sentences of 27 subwords, a MiniLM.
//!
//! `cargo bench -p nerpipe-kernels`, with a part of a name behind it for some of them.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use nerpipe_kernels as kernels;
use nerpipe_kernels::{AdamWStep, Attention, Dropout, Matrix, Norm, Parts, Projections};

/// Subwords of all sentences, sentences, the encoder's width, the width within its layers, its heads.
const T: usize = 216;
const SENTENCES: usize = 8;
const H: usize = 384;
const F: usize = 1536;
const HEADS: usize = 12;
/// Candidate spans.
const SPANS: usize = 1600;

fn numbers(length: usize) -> Vec<f32> {
    (0..length).map(|i| (i % 89) as f32 * 0.02 - 0.9).collect()
}

fn products(c: &mut Criterion) {
    let (x, w, gradient) = (numbers(T * H), numbers(H * F), numbers(T * F));
    let (x, w) = (Matrix::new(&x, T, H), Matrix::new(&w, H, F));
    let gradient = Matrix::new(&gradient, T, F);
    let bias = numbers(F);
    c.bench_function("product/forward", |b| b.iter(|| kernels::linear(x, w, &bias)));
    c.bench_function("product/of_input", |b| {
        b.iter(|| kernels::product(gradient, w.transposed()))
    });
    c.bench_function("product/of_weight", |b| {
        b.iter(|| kernels::product(x.transposed(), gradient))
    });
}

fn attention(c: &mut Criterion) {
    let states = [(); 3].map(|()| numbers(T * H));
    let projections = Projections {
        query: &states[0],
        key: &states[1],
        value: &states[2],
    };
    let offsets: Arc<[usize]> = (0..=SENTENCES).map(|number| number * T / SENTENCES).collect();
    let attention = Attention {
        offsets,
        readable: None,
        heads: HEADS,
        window: None,
        dropout: Some(Dropout::new(1, 0.1)),
    };
    let mut out = vec![0.0; T * H];
    let mut probabilities = vec![0.0; attention.probabilities()];
    c.bench_function("attention/forward", |b| {
        b.iter(|| kernels::attend(projections, &attention, &mut out, Some(&mut probabilities)));
    });
    let gradient = numbers(T * H);
    c.bench_function("attention/backward", |b| {
        b.iter(|| kernels::attend_backward(&gradient, projections, &probabilities, &attention));
    });
}

fn elements(c: &mut Criterion) {
    let x = numbers(T * F);
    let mut y = vec![0.0; T * F];
    c.bench_function("gelu/forward_and_slope", |b| {
        b.iter_batched_ref(
            || x.clone(),
            |x| kernels::gelu_with_slope(x, &mut y),
            BatchSize::LargeInput,
        );
    });
    let (x, residual, scale, shift) = (numbers(T * H), numbers(T * H), numbers(H), numbers(H));
    let norm = Norm {
        dropout: Some(Dropout::new(2, 0.1)),
        residual: Some(&residual),
        scale: &scale,
        shift: &shift,
        epsilon: 1e-12,
    };
    let mut out = vec![0.0; T * H];
    c.bench_function("norm/forward", |b| {
        b.iter_batched_ref(
            || x.clone(),
            |x| kernels::layer_norm(x, &norm, Some(&mut out)),
            BatchSize::LargeInput,
        );
    });
    let mut normalized = x.clone();
    let inverse = kernels::layer_norm(&mut normalized, &norm, Some(&mut out));
    let mut dropped = vec![0.0; T * H];
    c.bench_function("norm/backward", |b| {
        b.iter_batched_ref(
            || x.clone(),
            |gradient| {
                let dropped = norm.dropout.map(|dropout| (dropout, dropped.as_mut_slice()));
                kernels::layer_norm_backward(gradient, &normalized, &inverse, &scale, dropped)
            },
            BatchSize::LargeInput,
        );
    });
}

fn spans(c: &mut Criterion) {
    let tables = [T, T, 30].map(|rows| numbers(rows * H));
    let rows = [T, T, 30].map(|rows| (0..SPANS).map(|span| (span * 7 % rows) as u32).collect::<Vec<u32>>());
    let parts = Parts {
        tables: tables.each_ref().map(Vec::as_slice),
        rows: rows.each_ref().map(Vec::as_slice),
        columns: H,
    };
    c.bench_function("spans/forward", |b| b.iter(|| kernels::combine_rows(parts, None)));
    let out = kernels::combine_rows(parts, None);
    c.bench_function("spans/backward", |b| {
        b.iter_batched_ref(
            || out.clone(),
            |gradient| kernels::combine_rows_backward(gradient, &out, parts.rows, [T, T, 30], None),
            BatchSize::LargeInput,
        );
    });
}

fn optimizer(c: &mut Criterion) {
    let gradient = numbers(H * F);
    let [mut parameter, mut mean, mut square] = [(); 3].map(|()| vec![0.1; H * F]);
    let step = AdamWStep {
        scale: 1.0,
        keep: 1.0,
        mean_share: 0.1,
        square_keep: 0.999,
        square_share: 0.001,
        step_size: 1e-4,
        root_correction: 0.5,
        epsilon: 1e-8,
    };
    c.bench_function("optimizer/update", |b| {
        b.iter(|| kernels::adamw(&mut parameter, &gradient, &mut mean, &mut square, &step));
    });
    c.bench_function("optimizer/norm", |b| {
        b.iter(|| kernels::sum_of_squares(black_box(&gradient)))
    });
}

/// Everything on one thread, so that what else runs on the machine matters least.
fn single(c: &mut Criterion) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build_global();
    assert!(pool.is_ok(), "the pool is made before anything uses it");
    products(c);
    attention(c);
    elements(c);
    spans(c);
    optimizer(c);
}

criterion_group!(benches, single);
criterion_main!(benches);
