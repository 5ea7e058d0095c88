//! [`Weights`]: every parameter of a model under its checkpoint name.
//!
//! The names are the reference's and Hugging Face's (`token_encoder.encoder.layer.0.attention.self.query.weight`), so a
//! checkpoint is read and written without renaming, and the forward code asks for weights by the same words ([`View`](super::forward::View)).
//!
//! PyTorch keeps a linear layer's weight as [out, in]. In memory it is [in, out] here, because that is the order in which it is
//! multiplied; reading and writing transpose. A convolution's [out, in, width] is a linear layer's of in · width inputs. Embedding
//! tables are left as they are.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Gradients, Tensor, TensorData};
use indexmap::IndexMap;

use super::ops;

/// A tensor in plain memory, as a checkpoint holds it: linear weights [out, in].
#[derive(Clone, Debug, PartialEq)]
pub struct HostTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Its values, row by row.
    pub data: Vec<f32>,
}

/// Gradients by parameter name, in the parameters' order; laid out as the parameters are in memory.
pub type HostGradients = IndexMap<String, Gradient>;

/// A parameter's gradient.
#[derive(Clone, Debug, PartialEq)]
pub enum Gradient {
    /// Of every element.
    Dense(Vec<f32>),
    /// Of some rows of a table; that of all others is 0.
    Rows {
        /// Their numbers, ascending.
        rows: Vec<u32>,
        /// Their gradients, row by row.
        values: Vec<f32>,
    },
}

impl Gradient {
    /// The values that there are; all others are 0.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Dense(values) | Self::Rows { values, .. } => values,
        }
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Dense(values) | Self::Rows { values, .. } => values,
        }
    }

    /// The gradient of every element, of which there are `length`.
    #[must_use]
    pub fn into_dense(self, length: usize) -> Vec<f32> {
        match self {
            Self::Dense(values) => values,
            Self::Rows { rows, values } => {
                let mut all = vec![0.0; length];
                add_rows(&mut all, &rows, &values);
                all
            }
        }
    }

    /// Adds another gradient of the same parameter.
    pub fn add(&mut self, other: Self) {
        let own = std::mem::replace(self, Self::Dense(Vec::new()));
        *self = match (own, other) {
            (Self::Dense(mut sum), Self::Dense(values)) => {
                sum.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value);
                Self::Dense(sum)
            }
            (Self::Dense(mut sum), Self::Rows { rows, values })
            | (Self::Rows { rows, values }, Self::Dense(mut sum)) => {
                add_rows(&mut sum, &rows, &values);
                Self::Dense(sum)
            }
            (Self::Rows { rows: a, values: x }, Self::Rows { rows: b, values: y }) => {
                let rows = sorted(a.iter().chain(&b).copied());
                let mut values = vec![0.0; (x.len() / a.len().max(1)).max(y.len() / b.len().max(1)) * rows.len()];
                for (own, gradients) in [(a, x), (b, y)] {
                    add_rows(&mut values, &places(&rows, &own), &gradients);
                }
                Self::Rows { rows, values }
            }
        };
    }
}

/// Adds `values`, row by row, to the rows of `all`.
fn add_rows(all: &mut [f32], rows: &[u32], values: &[f32]) {
    let width = values.len() / rows.len().max(1);
    for (&row, values) in rows.iter().zip(values.chunks(width.max(1))) {
        let begin = row as usize * width;
        for (sum, value) in all[begin..begin + width].iter_mut().zip(values) {
            *sum += value;
        }
    }
}

/// Each number once, ascending.
pub(crate) fn sorted(numbers: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut numbers: Vec<u32> = numbers.collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

/// Where in `sorted` each of `numbers` stands, all of which are in it.
fn places(sorted: &[u32], numbers: &[u32]) -> Vec<u32> {
    let place = |number: &u32| sorted.partition_point(|other| other < number) as u32;
    numbers.iter().map(place).collect()
}

/// Why tensors do not make a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// Tensors that the model needs are not there.
    #[error("{} weights are missing: {}", names.len(), list(names))]
    Missing {
        /// Their names; where a similar one exists it follows in brackets.
        names: Vec<String>,
    },
    /// A tensor has another shape than the model needs.
    #[error("the weight `{name}` has the shape {found:?}, but {expected:?} is needed")]
    Shape {
        /// Its name.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// What the settings ask for.
        expected: Vec<usize>,
    },
    /// A tensor of more than three dimensions, or one whose values are not as many as its shape says.
    #[error("the weight `{name}` with shape {shape:?} and {values} values is no scalar, vector, matrix or convolution")]
    Rank {
        /// Its name.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// How many values there are.
        values: usize,
    },
}

/// At most five names, and how many more there are.
fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(5).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(5) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[derive(Clone, Debug)]
enum Value {
    /// A scalar or vector.
    Vector(Tensor<1>),
    Matrix(Tensor<2>),
}

impl Value {
    fn without_autodiff(self) -> Self {
        match self {
            Self::Vector(tensor) => Self::Vector(tensor.without_autodiff()),
            Self::Matrix(tensor) => Self::Matrix(tensor.without_autodiff()),
        }
    }

    /// The values, without a copy where nobody else holds them and they lie in host memory.
    fn into_data(self) -> TensorData {
        match self {
            Self::Vector(tensor) => tensor.into_data_as::<f32>(),
            Self::Matrix(tensor) => tensor.into_data_as::<f32>(),
        }
    }
}

#[derive(Clone, Debug)]
struct Parameter {
    value: Value,
    /// The shape in the checkpoint.
    shape: Vec<usize>,
    /// Whether memory holds the checkpoint's matrix transposed.
    transposed: bool,
    /// The row of an embedding table that gets no gradient.
    padding_row: Option<usize>,
    /// Whether rows that are read by number gather gradients of their own.
    by_rows: bool,
}

/// All parameters of a model, ordered by name.
#[derive(Debug)]
pub struct Weights {
    parameters: IndexMap<String, Parameter>,
    device: Device,
    /// The rows of tables that forward passes have read, until their gradients are taken.
    read: Mutex<Vec<ReadRows>>,
}

/// Rows of a table that gather gradients.
#[derive(Debug)]
struct ReadRows {
    table: String,
    /// Ascending.
    rows: Vec<u32>,
    /// [rows, width]
    leaf: Tensor<2>,
}

/// A copy has its own forward passes.
impl Clone for Weights {
    fn clone(&self) -> Self {
        Self::of(self.parameters.clone(), self.device.clone())
    }
}

impl Weights {
    /// Puts tensors on a device. If that is an autodiff device, each becomes a leaf that gathers a gradient.
    ///
    /// # Errors
    /// If a tensor has more than three dimensions or not as many values as its shape says.
    pub fn new(tensors: impl IntoIterator<Item = HostTensor>, device: &Device) -> Result<Self, WeightsError> {
        let mut tensors: Vec<HostTensor> = tensors.into_iter().collect();
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let mut parameters = IndexMap::with_capacity(tensors.len());
        for HostTensor { name, shape, data } in tensors {
            if shape.len() > 3 || shape.iter().product::<usize>() != data.len() {
                return Err(WeightsError::Rank {
                    name,
                    shape,
                    values: data.len(),
                });
            }
            let transposed = as_matrix(&shape).is_some() && !is_table(&name);
            let data = laid_out(data, &shape, transposed);
            let parameter = Parameter {
                value: leaf(data, as_matrix(&shape).is_some(), device),
                shape,
                transposed,
                padding_row: None,
                by_rows: false,
            };
            parameters.insert(name, parameter);
        }
        Ok(Self::of(parameters, device.clone()))
    }

    fn of(parameters: IndexMap<String, Parameter>, device: Device) -> Self {
        Self {
            parameters,
            device,
            read: Mutex::default(),
        }
    }

    /// Replaces every parameter by the tensor of its name, as [`Weights::to_host`] gave it.
    ///
    /// # Errors
    /// If one is missing or has another shape.
    pub fn set(&mut self, tensors: impl IntoIterator<Item = HostTensor>) -> Result<(), WeightsError> {
        let mut tensors: IndexMap<String, HostTensor> = tensors
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor))
            .collect();
        let missing = self.parameters.keys().filter(|name| !tensors.contains_key(*name));
        let names: Vec<String> = missing.cloned().collect();
        if !names.is_empty() {
            return Err(WeightsError::Missing { names });
        }
        for (name, parameter) in &mut self.parameters {
            let Some(tensor) = tensors.swap_remove(name) else {
                continue;
            };
            if tensor.shape != parameter.shape || tensor.shape.iter().product::<usize>() != tensor.data.len() {
                return Err(WeightsError::Shape {
                    name: name.clone(),
                    found: tensor.shape,
                    expected: parameter.shape.clone(),
                });
            }
            let data = laid_out(tensor.data, &parameter.shape, parameter.transposed);
            parameter.value = leaf(data, as_matrix(&parameter.shape).is_some(), &self.device);
        }
        Ok(())
    }

    /// A copy of every tensor as a checkpoint holds it, ordered by name.
    pub fn to_host(&self) -> impl Iterator<Item = HostTensor> + '_ {
        self.parameters.iter().map(|(name, parameter)| {
            let values = floats(parameter.value.clone().without_autodiff().into_data());
            let data = match as_matrix(&parameter.shape) {
                Some([outputs, inputs]) if parameter.transposed => transpose(&values, inputs, outputs),
                _ => values,
            };
            HostTensor {
                name: name.clone(),
                shape: parameter.shape.clone(),
                data,
            }
        })
    }

    /// The same values for inference: no gradients, nothing copied. Drop them before the next [`Weights::update`], which
    /// otherwise has to copy.
    #[must_use]
    pub fn for_inference(&self) -> Self {
        let parameters = self.parameters.iter().map(|(name, parameter)| {
            let value = parameter.value.clone().without_autodiff();
            (
                name.clone(),
                Parameter {
                    value,
                    ..parameter.clone()
                },
            )
        });
        Self::of(parameters.collect(), self.device.clone().without_autodiff())
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Every parameter's name and its shape in the checkpoint, ordered by name.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> {
        self.parameters
            .iter()
            .map(|(name, parameter)| (name.as_str(), parameter.shape.as_slice()))
    }

    /// The shape of one parameter in the checkpoint.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.parameters.get(name).map(|parameter| parameter.shape.as_slice())
    }

    /// Declares that row `row` of the embedding table `name` stands for padding and never gets a gradient.
    pub(super) fn set_padding_row(&mut self, name: &str, row: usize) {
        if let Some(parameter) = self.parameters.get_mut(name) {
            // A configuration may name a padding token that the table does not have; then there is nothing to protect.
            parameter.padding_row = parameter.shape.first().is_some_and(|&rows| row < rows).then_some(row);
        }
    }

    /// Declares that the table `name` is large and mostly read by [`Weights::rows`]: the rows of a pass gather their gradients
    /// by themselves, so that nothing as large as the table is made for a few rows of it.
    pub(super) fn set_by_rows(&mut self, name: &str) {
        if let Some(parameter) = self.parameters.get_mut(name) {
            parameter.by_rows = true;
        }
    }

    /// Takes the gradient of every parameter that has one to host memory, without a copy where it is there already, and
    /// forgets which rows were read.
    pub fn gradients(&self, gradients: &mut Gradients) -> HostGradients {
        let read = std::mem::take(&mut *self.read());
        let mut taken = HostGradients::with_capacity(self.parameters.len());
        for (name, parameter) in &self.parameters {
            let dense = match &parameter.value {
                Value::Vector(tensor) => tensor.grad_remove(gradients).map(Value::Vector),
                Value::Matrix(tensor) => tensor.grad_remove(gradients).map(Value::Matrix),
            };
            let dense = dense.map(|gradient| Gradient::Dense(floats(gradient.into_data())));
            let rows = read.iter().filter(|read| read.table == *name).filter_map(|read| {
                let values = floats(read.leaf.grad_remove(gradients)?.into_data_as::<f32>());
                let rows = read.rows.clone();
                Some(Gradient::Rows { rows, values })
            });
            let Some(mut gradient) = dense.into_iter().chain(rows).reduce(|mut sum, gradient| {
                sum.add(gradient);
                sum
            }) else {
                continue;
            };
            if let (Some(padding), &[_, width]) = (parameter.padding_row, &parameter.shape[..]) {
                let place = match &gradient {
                    Gradient::Dense(_) => Some(padding),
                    Gradient::Rows { rows, .. } => rows.binary_search(&(padding as u32)).ok(),
                };
                if let Some(row) = place {
                    gradient.values_mut()[row * width..(row + 1) * width].fill(0.0);
                }
            }
            taken.insert(name.clone(), gradient);
        }
        taken
    }

    /// Calls `change(values)` with the values of the parameter `name`, which on the CPU are changed where they lie.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut [f32])) {
        let Some(parameter) = self.parameters.get_mut(name) else {
            return;
        };
        let is_matrix = matches!(parameter.value, Value::Matrix(_));
        let empty = Tensor::<1>::zeros([1], &self.device.clone().without_autodiff());
        let value = std::mem::replace(&mut parameter.value, Value::Vector(empty));
        let mut data = value.without_autodiff().into_data();
        match data.as_mut_slice::<f32>() {
            Ok(values) => change(values),
            Err(error) => unreachable!("parameters are kept as 32-bit floats: {error:?}"),
        }
        parameter.value = leaf(data, is_matrix, &self.device);
    }

    /// Rows of the table `name` by number; the gradient adds up where a row is read more than once.
    ///
    /// # Shapes
    /// table [any, D], `rows` of length N → [N, D]
    pub(super) fn rows(&self, name: &str, rows: &[u32]) -> Tensor<2> {
        let gathers = self.device.is_autodiff() && self.parameters.get(name).is_some_and(|table| table.by_rows);
        if !gathers {
            return ops::take_rows(self.matrix(name), rows);
        }
        let own = sorted(rows.iter().copied());
        let values = ops::take_rows(self.matrix(name).without_autodiff(), &own).into_data();
        let leaf = Tensor::<2>::from_data(values, &self.device).require_grad();
        let taken = ops::take_rows(leaf.clone(), &places(&own, rows));
        self.read().push(ReadRows {
            table: name.to_owned(),
            rows: own,
            leaf,
        });
        taken
    }

    fn read(&self) -> MutexGuard<'_, Vec<ReadRows>> {
        // A list is in order even if a thread died holding it.
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Values of a parameter's shape, in the order in which memory holds the parameter's.
    #[cfg(test)]
    pub(super) fn in_memory_order(&self, name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
        match as_matrix(shape) {
            Some([outputs, inputs]) if self.parameters[name].transposed => transpose(values, outputs, inputs),
            _ => values.to_vec(),
        }
    }

    /// A vector, or a scalar as a vector of one element.
    pub(super) fn vector(&self, name: &str) -> Tensor<1> {
        match self.value(name) {
            Value::Vector(tensor) => tensor.clone(),
            Value::Matrix(_) => unreachable!("{name} is a matrix; shapes are checked beforehand"),
        }
    }

    /// A matrix; a linear layer's is [in, out].
    pub(super) fn matrix(&self, name: &str) -> Tensor<2> {
        match self.value(name) {
            Value::Matrix(tensor) => tensor.clone(),
            Value::Vector(_) => unreachable!("{name} is a vector; shapes are checked beforehand"),
        }
    }

    fn value(&self, name: &str) -> &Value {
        match self.parameters.get(name) {
            Some(parameter) => &parameter.value,
            None => unreachable!("{name} is missing; names are checked beforehand"),
        }
    }
}

/// A checkpoint's tensor as it lies in memory.
fn laid_out(data: Vec<f32>, shape: &[usize], transposed: bool) -> TensorData {
    match as_matrix(shape) {
        Some([outputs, inputs]) if transposed => TensorData::new(transpose(&data, outputs, inputs), [inputs, outputs]),
        Some([rows, columns]) => TensorData::new(data, [rows, columns]),
        None => {
            let length = data.len();
            TensorData::new(data, [length])
        }
    }
}

/// The two dimensions of a linear layer's weight, a table or a convolution; none for vectors and scalars.
fn as_matrix(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [rows, columns] => Some([rows, columns]),
        [outputs, inputs, width] => Some([outputs, inputs * width]),
        _ => None,
    }
}

/// Whether a weight is a table of which rows are taken, by what its owner is called.
fn is_table(name: &str) -> bool {
    let owner = name.rsplit('.').nth(1).unwrap_or(name);
    owner.ends_with("embedding")
        || owner.ends_with("embeddings")
        || matches!(owner, "shared" | "relative_attention_bias")
}

fn leaf(data: TensorData, is_matrix: bool, device: &Device) -> Value {
    let track = device.is_autodiff();
    if is_matrix {
        Value::Matrix(Tensor::from_data(data, device).set_require_grad(track))
    } else {
        Value::Vector(Tensor::from_data(data, device).set_require_grad(track))
    }
}

fn floats(data: TensorData) -> Vec<f32> {
    match data.try_into_vec::<f32>() {
        Ok(values) => values,
        Err(error) => unreachable!("read as 32-bit floats: {error:?}"),
    }
}

/// Turns a [rows, columns] matrix into [columns, rows], in blocks that fit the nearest cache.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for row in top..rows.min(top + BLOCK) {
                for column in left..columns.min(left + BLOCK) {
                    turned[column * rows + row] = values[row * columns + column];
                }
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str, shape: &[usize], data: Vec<f32>) -> HostTensor {
        HostTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data,
        }
    }

    fn tensors() -> Vec<HostTensor> {
        vec![
            host("scale", &[], vec![0.5]),
            host("a.bias", &[3], vec![1.0, 2.0, 3.0]),
            host("a.weight", &[3, 2], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            host("word_embeddings.weight", &[2, 2], vec![7.0, 8.0, 9.0, 10.0]),
        ]
    }

    #[test]
    fn linear_weights_are_turned_and_written_back() {
        let weights = Weights::new(tensors(), &Device::flex()).expect("valid tensors");
        let matrix = weights.matrix("a.weight");
        assert_eq!(matrix.dims(), [2, 3]);
        assert_eq!(floats(matrix.into_data()), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(
            floats(weights.matrix("word_embeddings.weight").into_data()),
            [7.0, 8.0, 9.0, 10.0]
        );
        let mut back: Vec<HostTensor> = weights.to_host().collect();
        let mut expected = tensors();
        back.sort_by(|a, b| a.name.cmp(&b.name));
        expected.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(back, expected);
    }

    #[test]
    fn large_matrices_are_turned_block_by_block() {
        let values: Vec<f32> = (0..70 * 45).map(|i| i as f32).collect();
        let turned = transpose(&values, 70, 45);
        assert_eq!(turned[3 * 70 + 64], values[64 * 45 + 3]);
        assert_eq!(transpose(&turned, 45, 70), values);
    }

    #[test]
    fn tensors_of_other_ranks_are_refused() {
        for tensor in [host("x", &[1, 1, 1, 1], vec![0.0]), host("x", &[2, 2], vec![0.0])] {
            let error = Weights::new([tensor], &Device::flex()).expect_err("refused");
            assert!(matches!(error, WeightsError::Rank { .. }));
        }
    }

    #[test]
    fn gradients_skip_padding_rows_and_unused_parameters_and_updates_happen_in_place() {
        let mut weights = Weights::new(tensors(), &Device::flex().autodiff()).expect("valid tensors");
        weights.set_padding_row("word_embeddings.weight", 0);
        let x = weights
            .matrix("word_embeddings.weight")
            .matmul(weights.matrix("a.weight"));
        let loss = (x * weights.vector("scale").unsqueeze::<2>()).sum();
        let gradients = weights.gradients(&mut loss.backward());
        drop(loss);
        assert_eq!(
            gradients.keys().collect::<Vec<_>>(),
            ["a.weight", "scale", "word_embeddings.weight"]
        );
        assert_eq!(
            gradients["word_embeddings.weight"].values(),
            [0.0, 0.0, 0.5 * 9.0, 0.5 * 12.0]
        );

        let mut places = Vec::new();
        for _ in 0..2 {
            for (name, gradient) in &gradients {
                weights.change(name, |values| {
                    if name == "a.weight" {
                        places.push(values.as_ptr());
                    }
                    for (value, gradient) in values.iter_mut().zip(gradient.values()) {
                        *value -= gradient;
                    }
                });
            }
        }
        assert_eq!(places[0], places[1]);
        let changed = floats(weights.matrix("word_embeddings.weight").into_data());
        assert_eq!(changed, [7.0, 8.0, 0.0, -2.0]);
        assert_eq!(
            floats(Value::Vector(weights.vector("a.bias")).into_data()),
            [1.0, 2.0, 3.0]
        );
    }

    /// Reading a table's rows as parameters of their own gives the gradient that the whole table would get.
    #[test]
    fn rows_gather_the_gradient_of_the_table() {
        let table = || {
            host(
                "word_embeddings.weight",
                &[4, 2],
                vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0],
            )
        };
        let gradient = |by_rows: bool, passes: &[&[u32]]| {
            let mut weights = Weights::new([table()], &Device::flex().autodiff()).expect("valid tensors");
            weights.set_padding_row("word_embeddings.weight", 3);
            if by_rows {
                weights.set_by_rows("word_embeddings.weight");
            }
            let losses = passes
                .iter()
                .map(|rows| weights.rows("word_embeddings.weight", rows).square().sum());
            let loss = losses.reduce(|sum, loss| sum + loss).expect("a pass");
            let mut gradients = weights.gradients(&mut loss.backward());
            gradients.swap_remove("word_embeddings.weight").expect("a gradient")
        };
        let passes: [&[u32]; 2] = [&[2, 0, 2, 3], &[1, 2]];
        let by_rows = gradient(true, &passes);
        assert!(matches!(&by_rows, Gradient::Rows { rows, .. } if *rows == [0, 1, 2, 3]));
        assert_eq!(Gradient::Dense(by_rows.into_dense(8)), gradient(false, &passes));
        let one = gradient(true, &passes[1..]);
        assert_eq!(
            one,
            Gradient::Rows {
                rows: vec![1, 2],
                values: vec![6.0, 8.0, 10.0, 12.0]
            }
        );
        let mut sum = Gradient::Dense(vec![1.0; 8]);
        sum.add(one);
        assert_eq!(sum.values(), [1.0, 1.0, 7.0, 9.0, 11.0, 13.0, 1.0, 1.0]);
    }
}
