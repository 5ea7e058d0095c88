//! The loops that a training step spends its time in, over plain slices of `f32`: each forward, and backward beside it.
//!
//! They know nothing of tensors, graphs or models; `nerpipe-stages` makes them operations of its backend and tests each
//! against the same operation composed of the backend's own. They are a crate of their own so that they are optimized in
//! development builds too.
//!
//! # Determinism
//! Every result is a function of the arguments alone. Sums over rows are taken over chunks of a fixed number of rows, which
//! are then added in order; sums within a row have a fixed number of partial sums. So threads change no digit. Nor do the
//! vector instructions of the machine: nothing here but a matrix product uses fused multiplication and addition.
//!
//! # Shapes
//! Matrices are row by row, [R, C] with R rows; the functions take R from the slices' lengths.

mod attention;
mod combine;
mod compare;
mod dropout;
mod gelu;
mod math;
mod norm;
mod optimizer;
mod product;
pub mod random;
mod rows;
mod unit;
mod vectorize;

pub use attention::{Attention, Projections, attend, attend_backward};
pub use combine::{Parts, combine_rows, combine_rows_backward};
pub use compare::{Groups, compare_rows, compare_rows_backward};
pub use dropout::Dropout;
pub use gelu::{gelu, gelu_with_slope, multiply};
pub use norm::{Norm, NormGradients, layer_norm, layer_norm_backward};
pub use optimizer::{AdamWStep, adamw, adamw_without_gradient, sum_of_squares};
pub use product::{Matrix, add_product, linear, product, product_into};
pub use rows::column_sums;
pub use unit::{unit_rows, unit_rows_backward};
