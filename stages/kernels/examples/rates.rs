//! What one thread of this machine can do, as JSON: operations a second in large matrix products, and seconds that the optimizer
//! needs for one parameter. `cargo xtask bench systems` compares training steps with it.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::hint::black_box;
use std::time::Instant;

use nerpipe_kernels as kernels;

/// How often each is tried; the fastest time is what the machine can do when nothing else runs.
const TIMES: usize = 200;

fn main() -> Result<(), rayon::ThreadPoolBuildError> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    let (products, optimizer) = (product_rate(), optimizer_time());
    println!("{{\"gemm_flop_per_s\": {products:e}, \"optimizer_s_per_parameter\": {optimizer:e}}}");
    Ok(())
}

/// In a product of the shape that an encoder's widest layer has: 384 subwords, 384 and 1536 wide.
fn product_rate() -> f64 {
    let (m, k, n) = (384, 384, 1536);
    let (a, b) = (vec![0.5; m * k], vec![0.5; k * n]);
    let mut out = vec![0.0; m * n];
    let once = || {
        let (a, b) = (kernels::Matrix::new(&a, m, k), kernels::Matrix::new(&b, k, n));
        kernels::product_into(black_box(&mut out), n, 1.0, a, b);
    };
    2.0 * (m * k * n) as f64 / fastest(once)
}

/// In as many parameters as do not fit into any cache.
fn optimizer_time() -> f64 {
    const LENGTH: usize = 1 << 23;
    let gradient = vec![0.5f32; LENGTH];
    let [mut parameter, mut mean, mut square] = [(); 3].map(|()| vec![0.5f32; LENGTH]);
    let step = kernels::AdamWStep {
        scale: 1.0,
        keep: 1.0,
        mean_share: 0.1,
        square_keep: 0.999,
        square_share: 0.001,
        step_size: 1e-4,
        root_correction: 0.5,
        epsilon: 1e-8,
    };
    fastest(|| kernels::adamw(&mut parameter, &gradient, &mut mean, &mut square, &step)) / LENGTH as f64
}

#[expect(clippy::disallowed_methods, reason = "what is measured is time")]
fn fastest(mut once: impl FnMut()) -> f64 {
    let time = |_| {
        let begun = Instant::now();
        once();
        begun.elapsed().as_secs_f64()
    };
    (0..TIMES).map(time).fold(f64::INFINITY, f64::min)
}
