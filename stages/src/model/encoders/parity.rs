//! Every family against `transformers`: small encoders with random weights (`testdata/make.py` says what the files hold).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::SafeTensors;

use super::EncoderConfig;
use crate::model::forward::Forward;
use crate::model::input::EncoderInput;
use crate::model::weights::{HostTensor, Weights};

/// Hidden states are of the size of 1; transformers' own differ by this much between its ways of attention.
const STATES: f32 = 1e-5;
/// Gradients sum over all tokens: this share of the largest of all, of a tensor's largest, and of each. (That of a key's bias is 0 but for
/// rounding, hence the first.)
const GRADIENTS: [f32; 3] = [1e-6, 2e-5, 1e-3];

struct Fixture {
    config: EncoderConfig,
    tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
    rows: Vec<Vec<u32>>,
    /// L.
    longest: usize,
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a fixture");
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let metadata = header.metadata().as_ref().expect("metadata");
        let config = EncoderConfig::from_json(metadata["config"].as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let file = SafeTensors::deserialize(&bytes).expect("tensors");
        let integers = |name: &str| -> Vec<u32> {
            let data = file.tensor(name).expect(name).data();
            data.as_chunks()
                .0
                .iter()
                .map(|&four| u32::from_le_bytes(four))
                .collect()
        };
        let lengths = integers("lengths");
        let ids = integers("ids");
        let longest = ids.len() / lengths.len();
        let rows = ids.chunks(longest).zip(&lengths);
        let rows = rows.map(|(row, &length)| row[..length as usize].to_vec()).collect();
        let floats = file.iter().filter(|(name, _)| *name != "ids" && *name != "lengths");
        let floats = floats.map(|(name, view)| {
            let values = view.data().as_chunks().0.iter().map(|&four| f32::from_le_bytes(four));
            (name.to_owned(), view.shape().to_vec(), values.collect())
        });
        Self {
            config,
            tensors: floats.collect(),
            rows,
            longest,
        }
    }

    fn get(&self, name: &str) -> &[f32] {
        let found = self.tensors.iter().find(|(other, ..)| other == name);
        &found.unwrap_or_else(|| panic!("no tensor {name}")).2
    }

    /// The rows of real tokens of a [B, L, H] tensor.
    fn real(&self, name: &str) -> Vec<f32> {
        let h = self.config.hidden_size();
        let rows = self.get(name).chunks(self.longest * h).zip(&self.rows);
        rows.flat_map(|(values, row)| values[..row.len() * h].to_vec())
            .collect()
    }

    fn weights(&self, device: &Device) -> Weights {
        let mut shapes: Vec<(String, Vec<usize>)> = Vec::new();
        let tensors = self.tensors.iter().filter_map(|(name, shape, data)| {
            let name = name.strip_prefix("weights.")?.to_owned();
            shapes.push((name.clone(), shape.clone()));
            Some(HostTensor {
                name,
                shape: shape.clone(),
                data: data.clone(),
            })
        });
        let weights = Weights::new(tensors, device).expect("weights");
        let mut known = self.config.shapes();
        known.sort();
        let spare = self.config.spare_shapes();
        shapes.retain(|shape| !spare.contains(shape));
        shapes.sort();
        assert_eq!(known, shapes, "the names and shapes of transformers");
        weights
    }
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("32-bit floats")
}

/// The largest difference.
fn gap(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let gaps = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, |most, gap| if gap > most || gap.is_nan() { gap } else { most })
}

fn check(name: &str, path: &Path) {
    let fixture = Fixture::read(path);
    let device = Device::flex().autodiff();
    let mut weights = fixture.weights(&device);
    weights.set_padding_row(fixture.config.token_table(), fixture.config.pad_token_id() as usize);
    let packed = EncoderInput::packed(&fixture.rows);
    let forward = Forward::new(&weights, None);
    let hidden = fixture.config.forward(&forward.root(), &packed);
    let expected = fixture.real("hidden");
    let states = gap(&values(hidden.clone()), &expected);
    assert!(states <= STATES, "{name}: hidden states differ by {states}");

    // Filled up as transformers does it, the real tokens' states stay the same.
    let padded = EncoderInput::padded(&fixture.rows, fixture.config.pad_token_id());
    let all = values(fixture.config.forward(&forward.root(), &padded));
    let h = fixture.config.hidden_size();
    let real: Vec<f32> = all
        .chunks(fixture.longest * h)
        .zip(&fixture.rows)
        .flat_map(|(values, row)| values[..row.len() * h].to_vec())
        .collect();
    let states_padded = gap(&real, &expected);
    assert!(
        states_padded <= STATES,
        "{name}: padded, hidden states differ by {states_padded}"
    );

    let direction = TensorData::new(fixture.real("direction"), [expected.len() / h, h]);
    let loss = (hidden * Tensor::from_data(direction, &device)).sum();
    let gradients = weights.gradients(&mut loss.backward());
    let magnitude = |values: &[f32]| values.iter().fold(0f32, |most, value| most.max(value.abs()));
    let all = fixture.tensors.iter().filter(|(name, ..)| name.starts_with("grads."));
    let overall = all.map(|(.., values)| magnitude(values)).fold(0.0, f32::max);
    let (mut compared, mut used) = (0, 0f32);
    for (name_of, shape, expected) in &fixture.tensors {
        let Some(weight) = name_of.strip_prefix("grads.") else {
            continue;
        };
        let found = gradients
            .get(weight)
            .unwrap_or_else(|| panic!("{name}: {weight} has no gradient"));
        let expected = weights.in_memory_order(weight, shape, expected);
        let largest = magnitude(&expected);
        for (found, expected) in found.clone().into_dense(expected.len()).iter().zip(&expected) {
            let allowed = GRADIENTS[0] * overall + GRADIENTS[1] * largest + GRADIENTS[2] * expected.abs();
            used = used.max((found - expected).abs() / allowed);
        }
        assert!(
            used <= 1.0,
            "{name}: the gradient of {weight} differs by {used} of its tolerance"
        );
        compared += 1;
    }
    assert_eq!(compared, gradients.len(), "{name}: every gradient is compared");
    println!(
        "{name}: states {states:.1e} packed, {states_padded:.1e} padded; {compared} gradients, {used:.2} of their tolerance"
    );
}

#[test]
fn every_family_computes_what_transformers_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/model/encoders/testdata");
    let mut names: Vec<_> = std::fs::read_dir(&folder)
        .expect("the fixtures")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .collect();
    names.sort();
    for path in &names {
        check(&path.file_stem().expect("a name").to_string_lossy(), path);
    }
    assert!(names.len() >= 8, "only {} fixtures", names.len());
}
