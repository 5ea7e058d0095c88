//! The operations as one loop each, with a backward of their own, for the CPU: Burn's tensors around the crate
//! `nerpipe-kernels`.
//!
//! The gain is in memory traffic: no masks, no sums of broadcast gradients, no copies between layouts, results written over
//! arguments that nobody else holds.

use std::sync::{Arc, LazyLock};

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, DispatchDevice, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};
use nerpipe_kernels as kernels;

use super::Attention;
use crate::model::dropout::Dropout;

/// Set to anything, it makes the program use [`super::stock`] everywhere: for developers who suspect an operation here.
static STOCK: LazyLock<bool> = LazyLock::new(|| std::env::var_os("NERPIPE_STOCK_OPERATIONS").is_some());

/// Whether tensors on `device` are served here.
pub(super) fn serves(device: &Device) -> bool {
    !*STOCK && matches!(device.clone().without_autodiff().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether this kind of attention is served here.
pub(super) fn can_attend(input: &Attention<'_>) -> bool {
    input.bias.is_none() && (input.window.is_none() || input.sequences.readable().is_none())
}

/// See [`super::linear`].
pub(super) fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let (x, weight, bias) = (x.into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_linear(x, weight, bias))
}

/// See [`super::gelu`].
pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::fused_gelu(x.into_dispatch()))
}

/// See [`super::layer_norm`].
pub(super) fn layer_norm(x: Tensor<2>, scale: Tensor<1>, shift: Tensor<1>, epsilon: f64) -> Tensor<2> {
    let (x, scale, shift) = (x.into_dispatch(), scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_layer_norm(x, scale, shift, epsilon as f32))
}

/// See [`super::add_norm`].
pub(super) fn add_norm(
    x: Tensor<2>,
    residual: Tensor<2>,
    (scale, shift): (Tensor<1>, Tensor<1>),
    epsilon: f64,
    rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let dropout = dropout.and_then(|dropout| dropout.next(rate));
    let (x, residual) = (x.into_dispatch(), residual.into_dispatch());
    let (scale, shift) = (scale.into_dispatch(), shift.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_add_norm(
        x,
        residual,
        scale,
        shift,
        epsilon as f32,
        dropout,
    ))
}

/// See [`super::attention`].
pub(super) fn attention(input: Attention<'_>, dropout: Option<&Dropout>) -> Tensor<2> {
    let attention = kernels::Attention {
        offsets: input.sequences.offsets().into(),
        readable: input.sequences.readable().map(Into::into),
        heads: input.heads,
        window: input.window,
        dropout: dropout.and_then(|dropout| dropout.next(input.dropout_rate)),
    };
    let [query, key, value] = [input.query, input.key, input.value].map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::fused_attention(query, key, value, attention))
}

/// See [`super::l2_normalize`].
pub(super) fn l2_normalize(x: Tensor<2>) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::fused_unit_rows(x.into_dispatch()))
}

/// See [`super::combine_rows`].
pub(super) fn combine_rows(
    tables: [Tensor<2>; 3],
    rows: [&[u32]; 3],
    rate: f64,
    dropout: Option<&Dropout>,
) -> Tensor<2> {
    let dropout = dropout.and_then(|dropout| dropout.next(rate));
    let [a, b, c] = tables.map(Tensor::into_dispatch);
    Tensor::from_dispatch(Dispatch::fused_combine_rows(a, b, c, rows.map(Into::into), dropout))
}

/// See [`super::compare_rows`].
pub(super) fn compare_rows(x: Tensor<2>, vectors: Tensor<2>, offsets: &[usize]) -> Tensor<2> {
    let (x, vectors) = (x.into_dispatch(), vectors.into_dispatch());
    Tensor::from_dispatch(Dispatch::fused_compare_rows(x, vectors, offsets.into()))
}

/// Row numbers for each of three tables.
type Rows = [Arc<[u32]>; 3];

/// The operations as a backend has them.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait Fused: Backend {
    /// x [R, in], weight [in, out], bias [out] → [R, out]
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Of any shape.
    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// x [R, H], scale [H], shift [H] → [R, H]
    fn fused_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
    /// x [R, H], residual [R, H], scale [H], shift [H] → [R, H]
    fn fused_add_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
        dropout: Option<kernels::Dropout>,
    ) -> FloatTensor<Self>;
    /// [T, A·D] each → [T, A·D]
    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        attention: kernels::Attention,
    ) -> FloatTensor<Self>;
    /// x [R, D] → [R, D]
    fn fused_unit_rows(x: FloatTensor<Self>) -> FloatTensor<Self>;
    /// Tables [any, D] → [N, D]
    fn fused_combine_rows(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        rows: Rows,
        dropout: Option<kernels::Dropout>,
    ) -> FloatTensor<Self>;
    /// x [N, D], vectors [G·C, D] → [N, C]
    fn fused_compare_rows(x: FloatTensor<Self>, vectors: FloatTensor<Self>, offsets: Arc<[usize]>)
    -> FloatTensor<Self>;
}

/// A tensor in host memory.
type Host = FloatTensor<Flex>;

/// The values of a tensor whose rows follow each other; copied only if they do not.
fn in_rows(x: Host) -> Host {
    if x.is_contiguous() { x } else { x.to_contiguous() }
}

fn read(x: &Host) -> &[f32] {
    match x.as_slice::<f32>() {
        Some(values) => values,
        None => unreachable!("models are made of 32-bit floats, and operations are given rows that follow each other"),
    }
}

/// The values to be written over; copied only if somebody else holds them.
fn take(x: Host) -> Vec<f32> {
    match x.into_data().try_into_vec::<f32>() {
        Ok(values) => values,
        Err(error) => unreachable!("models are made of 32-bit floats in host memory: {error:?}"),
    }
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Host {
    Flex::float_from_data(TensorData::new(values, shape), &Default::default())
}

fn matrix(x: &Host) -> kernels::Matrix<'_> {
    let [rows, columns] = x.shape().dims();
    kernels::Matrix::new(read(x), rows, columns)
}

fn normalize(
    x: Host,
    residual: Option<&Host>,
    scale: &Host,
    shift: &Host,
    epsilon: f32,
    dropout: Option<kernels::Dropout>,
    saves: bool,
) -> (Host, Option<(Host, Vec<f32>)>) {
    let shape: [usize; 2] = x.shape().dims();
    let mut x = take(x);
    let norm = kernels::Norm {
        dropout,
        residual: residual.map(read),
        scale: read(scale),
        shift: read(shift),
        epsilon,
    };
    if saves {
        let mut out = vec![0.0; x.len()];
        let inverse = kernels::layer_norm(&mut x, &norm, Some(&mut out));
        (tensor(out, shape), Some((tensor(x, shape), inverse)))
    } else {
        kernels::layer_norm(&mut x, &norm, None);
        (tensor(x, shape), None)
    }
}

fn attend(x: &[Host; 3], attention: &kernels::Attention, probabilities: Option<&mut [f32]>) -> Host {
    let shape: [usize; 2] = x[0].shape().dims();
    let mut out = vec![0.0; shape[0] * shape[1]];
    kernels::attend(projections(x), attention, &mut out, probabilities);
    tensor(out, shape)
}

fn projections(x: &[Host; 3]) -> kernels::Projections<'_> {
    kernels::Projections {
        query: read(&x[0]),
        key: read(&x[1]),
        value: read(&x[2]),
    }
}

fn combine(tables: &[Host; 3], rows: &Rows, dropout: Option<kernels::Dropout>) -> Host {
    let [_, columns]: [usize; 2] = tables[0].shape().dims();
    let parts = kernels::Parts {
        tables: tables.each_ref().map(read),
        rows: rows.each_ref().map(AsRef::as_ref),
        columns,
    };
    tensor(kernels::combine_rows(parts, dropout), [rows[0].len(), columns])
}

fn groups<'a>(x: &'a Host, vectors: &'a Host, offsets: &'a [usize]) -> kernels::Groups<'a> {
    kernels::Groups {
        rows: read(x),
        vectors: read(vectors),
        offsets,
        columns: x.shape()[1],
    }
}

impl Fused for Flex {
    fn fused_linear(x: Host, weight: Host, bias: Host) -> Host {
        let [x, weight, bias] = [x, weight, bias].map(in_rows);
        let [rows, _] = x.shape().dims();
        let [_, columns] = weight.shape().dims();
        tensor(
            kernels::linear(matrix(&x), matrix(&weight), read(&bias)),
            [rows, columns],
        )
    }

    fn fused_gelu(x: Host) -> Host {
        let shape = x.shape();
        let mut x = take(x);
        kernels::gelu(&mut x);
        Flex::float_from_data(TensorData::new(x, shape), &Default::default())
    }

    fn fused_layer_norm(x: Host, scale: Host, shift: Host, epsilon: f32) -> Host {
        normalize(x, None, &in_rows(scale), &in_rows(shift), epsilon, None, false).0
    }

    fn fused_add_norm(
        x: Host,
        residual: Host,
        scale: Host,
        shift: Host,
        epsilon: f32,
        dropout: Option<kernels::Dropout>,
    ) -> Host {
        let [residual, scale, shift] = [residual, scale, shift].map(in_rows);
        normalize(x, Some(&residual), &scale, &shift, epsilon, dropout, false).0
    }

    fn fused_attention(query: Host, key: Host, value: Host, attention: kernels::Attention) -> Host {
        attend(&[query, key, value].map(in_rows), &attention, None)
    }

    fn fused_unit_rows(x: Host) -> Host {
        let shape: [usize; 2] = x.shape().dims();
        let mut x = take(x);
        kernels::unit_rows(&mut x, shape[1]);
        tensor(x, shape)
    }

    fn fused_combine_rows(a: Host, b: Host, c: Host, rows: Rows, dropout: Option<kernels::Dropout>) -> Host {
        combine(&[a, b, c].map(in_rows), &rows, dropout)
    }

    fn fused_compare_rows(x: Host, vectors: Host, offsets: Arc<[usize]>) -> Host {
        let (x, vectors) = (in_rows(x), in_rows(vectors));
        let classes = vectors.shape()[0] / (offsets.len() - 1);
        let products = kernels::compare_rows(groups(&x, &vectors, &offsets));
        tensor(products, [x.shape()[0], classes])
    }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn fused_linear(x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>) -> FloatTensor<Self> {
        let ((x, of_x), (weight, of_weight), (bias, of_bias)) =
            (x.into_parts(), weight.into_parts(), bias.into_parts());
        let (x, weight) = (in_rows(x), in_rows(weight));
        let out = Flex::fused_linear(x.clone(), weight.clone(), bias);
        match LinearBackward
            .prepare::<C>([of_x, of_weight, of_bias])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish([x, weight], out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        match GeluBackward.prepare::<C>([of_x]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape = x.shape();
                let mut slopes = take(x);
                let mut values = vec![0.0; slopes.len()];
                kernels::gelu_with_slope(&mut slopes, &mut values);
                let [slopes, values] = [slopes, values]
                    .map(|x| Flex::float_from_data(TensorData::new(x, shape.clone()), &Default::default()));
                prep.finish(slopes, values)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_gelu(x)),
        }
    }

    fn fused_layer_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (scale, of_scale), (shift, of_shift)) =
            (x.into_parts(), scale.into_parts(), shift.into_parts());
        let (scale, shift) = (in_rows(scale), in_rows(shift));
        match NormBackward
            .prepare::<C>([of_x, of_scale, of_shift])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let (out, saved) = normalize(x, None, &scale, &shift, epsilon, None, true);
                prep.finish(SavedNorm::new(saved, scale, None), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_layer_norm(x, scale, shift, epsilon)),
        }
    }

    fn fused_add_norm(
        x: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        epsilon: f32,
        dropout: Option<kernels::Dropout>,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (residual, of_residual)) = (x.into_parts(), residual.into_parts());
        let ((scale, of_scale), (shift, of_shift)) = (scale.into_parts(), shift.into_parts());
        let [residual, scale, shift] = [residual, scale, shift].map(in_rows);
        let nodes = [of_x, of_residual, of_scale, of_shift];
        match AddNormBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (out, saved) = normalize(x, Some(&residual), &scale, &shift, epsilon, dropout, true);
                prep.finish(SavedNorm::new(saved, scale, dropout), out)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(normalize(x, Some(&residual), &scale, &shift, epsilon, dropout, false).0)
            }
        }
    }

    fn fused_attention(
        query: FloatTensor<Self>,
        key: FloatTensor<Self>,
        value: FloatTensor<Self>,
        attention: kernels::Attention,
    ) -> FloatTensor<Self> {
        let ((query, of_query), (key, of_key), (value, of_value)) =
            (query.into_parts(), key.into_parts(), value.into_parts());
        let states = [query, key, value].map(in_rows);
        match AttentionBackward
            .prepare::<C>([of_query, of_key, of_value])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let mut probabilities = vec![0.0; attention.probabilities()];
                let out = attend(&states, &attention, Some(&mut probabilities));
                let saved = SavedAttention {
                    states,
                    probabilities: tensor(probabilities, [attention.probabilities()]),
                    attention,
                };
                prep.finish(saved, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(attend(&states, &attention, None)),
        }
    }

    fn fused_unit_rows(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let (x, of_x) = x.into_parts();
        match UnitRowsBackward.prepare::<C>([of_x]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let shape: [usize; 2] = x.shape().dims();
                let mut x = take(x);
                let inverse = kernels::unit_rows(&mut x, shape[1]);
                let out = tensor(x, shape);
                prep.finish((out.clone(), inverse), out)
            }
            OpsKind::UnTracked(prep) => prep.finish(Flex::fused_unit_rows(x)),
        }
    }

    fn fused_combine_rows(
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        c: FloatTensor<Self>,
        rows: Rows,
        dropout: Option<kernels::Dropout>,
    ) -> FloatTensor<Self> {
        let ((a, of_a), (b, of_b), (c, of_c)) = (a.into_parts(), b.into_parts(), c.into_parts());
        let tables = [a, b, c].map(in_rows);
        let out = combine(&tables, &rows, dropout);
        match CombineRowsBackward
            .prepare::<C>([of_a, of_b, of_c])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => {
                let lengths = tables.map(|table| table.shape()[0]);
                let saved = SavedRows {
                    out: out.clone(),
                    rows,
                    lengths,
                    dropout,
                };
                prep.finish(saved, out)
            }
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn fused_compare_rows(
        x: FloatTensor<Self>,
        vectors: FloatTensor<Self>,
        offsets: Arc<[usize]>,
    ) -> FloatTensor<Self> {
        let ((x, of_x), (vectors, of_vectors)) = (x.into_parts(), vectors.into_parts());
        let (x, vectors) = (in_rows(x), in_rows(vectors));
        let out = Flex::fused_compare_rows(x.clone(), vectors.clone(), offsets.clone());
        match CompareRowsBackward
            .prepare::<C>([of_x, of_vectors])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((x, vectors, offsets), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

impl Backward<Flex, 3> for LinearBackward {
    /// x and weight.
    type State = [Host; 2];

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = in_rows(grads.consume::<Flex>(&ops.node));
        let [of_x, of_weight, of_bias] = ops.parents;
        let [x, weight] = ops.state;
        let ([rows, inputs], [_, outputs]) = (x.shape().dims(), weight.shape().dims());
        if let Some(node) = of_bias {
            let sums = kernels::column_sums(read(&gradient), outputs);
            grads.register::<Flex>(node.id, tensor(sums, [outputs]));
        }
        if let Some(node) = of_weight {
            let product = kernels::product(matrix(&x).transposed(), matrix(&gradient));
            grads.register::<Flex>(node.id, tensor(product, [inputs, outputs]));
        }
        if let Some(node) = of_x {
            let product = kernels::product(matrix(&gradient), matrix(&weight).transposed());
            grads.register::<Flex>(node.id, tensor(product, [rows, inputs]));
        }
    }
}

#[derive(Debug)]
struct GeluBackward;

impl Backward<Flex, 1> for GeluBackward {
    /// The slopes.
    type State = Host;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let slopes = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
            let shape = gradient.shape();
            let mut gradient = take(gradient);
            kernels::multiply(&mut gradient, read(&slopes));
            Flex::float_from_data(TensorData::new(gradient, shape), &Default::default())
        });
    }
}

/// What the backward pass of a normalization needs.
#[derive(Clone, Debug)]
struct SavedNorm {
    normalized: Host,
    inverse: Arc<[f32]>,
    scale: Host,
    dropout: Option<kernels::Dropout>,
}

impl SavedNorm {
    fn new(saved: Option<(Host, Vec<f32>)>, scale: Host, dropout: Option<kernels::Dropout>) -> Self {
        let Some((normalized, inverse)) = saved else {
            unreachable!("the forward pass was told to save")
        };
        Self {
            normalized,
            inverse: inverse.into(),
            scale,
            dropout,
        }
    }

    /// The gradients of x before any dropout, of what was normalized, of scale and of shift.
    fn gradients(&self, gradient: Host) -> [Host; 4] {
        let shape: [usize; 2] = gradient.shape().dims();
        let mut gradient = take(gradient);
        let mut dropped = self.dropout.map(|dropout| (dropout, vec![0.0; gradient.len()]));
        let sums = kernels::layer_norm_backward(
            &mut gradient,
            read(&self.normalized),
            &self.inverse,
            read(&self.scale),
            dropped
                .as_mut()
                .map(|(dropout, values)| (*dropout, values.as_mut_slice())),
        );
        let gradient = tensor(gradient, shape);
        let dropped = dropped.map_or_else(|| gradient.clone(), |(_, values)| tensor(values, shape));
        [
            dropped,
            gradient,
            tensor(sums.scale, [shape[1]]),
            tensor(sums.shift, [shape[1]]),
        ]
    }
}

#[derive(Debug)]
struct NormBackward;

impl Backward<Flex, 3> for NormBackward {
    type State = SavedNorm;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [_, x, scale, shift] = ops.state.gradients(grads.consume::<Flex>(&ops.node));
        for (node, gradient) in ops.parents.into_iter().zip([x, scale, shift]) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct AddNormBackward;

impl Backward<Flex, 4> for AddNormBackward {
    type State = SavedNorm;

    fn backward(self, ops: Ops<Self::State, 4>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradients = ops.state.gradients(grads.consume::<Flex>(&ops.node));
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, gradient);
            }
        }
    }
}

/// What the backward pass of attention needs.
#[derive(Clone, Debug)]
struct SavedAttention {
    states: [Host; 3],
    probabilities: Host,
    attention: kernels::Attention,
}

#[derive(Debug)]
struct AttentionBackward;

impl Backward<Flex, 3> for AttentionBackward {
    type State = SavedAttention;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = in_rows(grads.consume::<Flex>(&ops.node));
        let saved = ops.state;
        let shape: [usize; 2] = gradient.shape().dims();
        let states = projections(&saved.states);
        let gradients = kernels::attend_backward(read(&gradient), states, read(&saved.probabilities), &saved.attention);
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(gradient, shape));
            }
        }
    }
}

#[derive(Debug)]
struct UnitRowsBackward;

impl Backward<Flex, 1> for UnitRowsBackward {
    /// The unit rows, and what rows were multiplied by.
    type State = (Host, Vec<f32>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (unit, inverse) = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |gradient| {
            let shape: [usize; 2] = gradient.shape().dims();
            let mut gradient = take(gradient);
            kernels::unit_rows_backward(&mut gradient, read(&unit), &inverse);
            tensor(gradient, shape)
        });
    }
}

/// What the backward pass of combined rows needs.
#[derive(Clone, Debug)]
struct SavedRows {
    out: Host,
    rows: Rows,
    lengths: [usize; 3],
    dropout: Option<kernels::Dropout>,
}

#[derive(Debug)]
struct CombineRowsBackward;

impl Backward<Flex, 3> for CombineRowsBackward {
    type State = SavedRows;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let saved = ops.state;
        let [_, columns]: [usize; 2] = saved.out.shape().dims();
        let mut gradient = take(grads.consume::<Flex>(&ops.node));
        let rows = saved.rows.each_ref().map(AsRef::as_ref);
        let tables =
            kernels::combine_rows_backward(&mut gradient, read(&saved.out), rows, saved.lengths, saved.dropout);
        for ((node, gradient), length) in ops.parents.into_iter().zip(tables).zip(saved.lengths) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(gradient, [length, columns]));
            }
        }
    }
}

#[derive(Debug)]
struct CompareRowsBackward;

impl Backward<Flex, 2> for CompareRowsBackward {
    /// x, vectors and where groups begin.
    type State = (Host, Host, Arc<[usize]>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = in_rows(grads.consume::<Flex>(&ops.node));
        let (x, vectors, offsets) = ops.state;
        let gradients = kernels::compare_rows_backward(read(&gradient), groups(&x, &vectors, &offsets));
        for ((node, gradient), like) in ops.parents.into_iter().zip(gradients).zip([&x, &vectors]) {
            if let Some(node) = node {
                grads.register::<Flex>(node.id, tensor(gradient, like.shape().dims::<2>()));
            }
        }
    }
}
