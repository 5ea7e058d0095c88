//! [`Activation`]: the activations that configurations name.

use burn::tensor::{Tensor, activation};
use serde::Deserialize;

use crate::model::ops;

/// An activation by its name in `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The Gaussian error linear unit in its exact form.
    Gelu,
    /// Its approximation with a hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh", alias = "gelu_fast")]
    GeluNew,
    /// max(x, 0).
    Relu,
    /// x · σ(x).
    #[serde(alias = "swish")]
    Silu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// What is usual.
    pub(super) fn gelu() -> Self {
        Self::Gelu
    }

    /// Applies it to each element.
    pub(super) fn of(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Gelu => ops::gelu(x),
            Self::GeluNew => ops::gelu_tanh(x),
            Self::Relu => activation::relu(x),
            Self::Silu => x.clone() * activation::sigmoid(x),
            Self::Tanh => x.tanh(),
        }
    }
}
