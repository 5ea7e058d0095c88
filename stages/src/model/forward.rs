//! [`Forward`]: what one forward pass carries along, and [`View`], the weights as model code asks for them.

use burn::tensor::{Device, Tensor};

use super::dropout::Dropout;
use super::ops;
use super::weights::Weights;

/// One forward pass: the weights it reads and, in training, what it drops.
#[derive(Debug)]
pub struct Forward<'a> {
    weights: &'a Weights,
    dropout: Option<&'a Dropout>,
}

impl<'a> Forward<'a> {
    /// A pass over `weights`; without `dropout` nothing is dropped.
    pub fn new(weights: &'a Weights, dropout: Option<&'a Dropout>) -> Self {
        Self { weights, dropout }
    }

    /// All weights.
    pub fn root(&self) -> View<'_> {
        View {
            forward: self,
            prefix: String::new(),
        }
    }
}

/// The weights below a prefix, and the operations that need nothing but them. That they exist with the right shape is checked
/// when a recognizer is made.
#[derive(Clone, Debug)]
pub struct View<'a> {
    forward: &'a Forward<'a>,
    prefix: String,
}

impl View<'_> {
    /// The weights whose names go on with `name` and a point.
    #[must_use]
    pub fn at(&self, name: &str) -> Self {
        Self {
            forward: self.forward,
            prefix: self.full(name),
        }
    }

    /// Where the tensors are.
    pub fn device(&self) -> Device {
        self.forward.weights.device().clone()
    }

    /// The source of dropout masks; none outside training.
    pub fn dropout(&self) -> Option<&Dropout> {
        self.forward.dropout
    }

    /// A vector, or a scalar as a vector of one element.
    pub fn vector(&self, name: &str) -> Tensor<1> {
        self.forward.weights.vector(&self.full(name))
    }

    /// A matrix; a linear layer's is [in, out].
    pub fn matrix(&self, name: &str) -> Tensor<2> {
        self.forward.weights.matrix(&self.full(name))
    }

    /// Rows of the embedding table `name` by number.
    ///
    /// # Shapes
    /// table [any, D], `rows` of length N → [N, D]
    pub fn rows(&self, name: &str, rows: &[u32]) -> Tensor<2> {
        self.forward.weights.rows(&self.full(name), rows)
    }

    /// The linear layer of `weight` and `bias` below here.
    ///
    /// # Shapes
    /// x [R, in] → [R, out]
    pub fn linear(&self, x: Tensor<2>) -> Tensor<2> {
        ops::linear(x, self.matrix("weight"), self.vector("bias"))
    }

    /// The linear layer of `weight` below here, which has no bias.
    ///
    /// # Shapes
    /// x [R, in] → [R, out]
    pub fn product(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.matrix("weight"))
    }

    /// The layer normalization of `weight` and `bias` below here.
    ///
    /// # Shapes
    /// x [R, H] → [R, H]
    pub fn layer_norm(&self, x: Tensor<2>, epsilon: f64) -> Tensor<2> {
        ops::layer_norm(x, self.vector("weight"), self.vector("bias"), epsilon)
    }

    /// The layer normalization of `weight` below here, which has no shift.
    ///
    /// # Shapes
    /// x [R, H] → [R, H]
    pub fn layer_norm_unshifted(&self, x: Tensor<2>, epsilon: f64) -> Tensor<2> {
        let [_, width] = x.dims();
        let shift = Tensor::zeros([width], &x.device());
        ops::layer_norm(x, self.vector("weight"), shift, epsilon)
    }

    /// The normalization by the root mean square of `weight` below here.
    ///
    /// # Shapes
    /// x [R, H] → [R, H]
    pub fn rms_norm(&self, x: Tensor<2>, epsilon: f64) -> Tensor<2> {
        ops::rms_norm(x, self.vector("weight"), epsilon)
    }

    /// The layer normalization of `weight` and `bias` below here, of x plus a residual; in training x is dropped at `rate`
    /// before.
    ///
    /// # Shapes
    /// x [R, H], residual [R, H] → [R, H]
    pub fn add_norm(&self, x: Tensor<2>, residual: Tensor<2>, rate: f64, epsilon: f64) -> Tensor<2> {
        let weights = (self.vector("weight"), self.vector("bias"));
        ops::add_norm(x, residual, weights, epsilon, rate, self.dropout())
    }

    /// Drops elements at `rate` in training.
    pub fn drop_out(&self, x: Tensor<2>, rate: f64) -> Tensor<2> {
        ops::drop_out(x, rate, self.dropout())
    }

    /// See [`ops::attention`].
    pub(super) fn attention(&self, input: ops::Attention<'_>) -> Tensor<2> {
        ops::attention(input, self.dropout())
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.prefix)
        }
    }
}
