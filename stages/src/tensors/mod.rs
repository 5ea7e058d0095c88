//! Files of tensors: safetensors, and what `torch.save` writes.
//!
//! [`TensorFile`] maps a file and says which tensors lie where; numbers are read when they are asked for, and always as f32.

mod files;
mod pickle;
mod torch;

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

use half::{bf16, f16};
use memmap2::Mmap;
use nerpipe_engine::{FileError, StageError};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

pub use files::{ModelFiles, WEIGHT_FILES};

use crate::mapped::map_file;
use crate::model::HostTensor;

/// A file of tensors, mapped into memory.
pub struct TensorFile {
    map: Mmap,
    entries: Vec<Entry>,
}

/// A tensor in a [`TensorFile`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// The type of its numbers.
    pub dtype: Dtype,
    /// Its shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Where its numbers lie in the file.
    bytes: Range<usize>,
    /// How many numbers lie from one index to the next, by dimension, where they do not simply lie row by row.
    strides: Option<Vec<usize>>,
}

impl Entry {
    /// Whether its numbers are floating-point. Others, such as the `position_ids` of old BERT files, are no weights.
    pub fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F64 | Dtype::F16 | Dtype::BF16)
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no number at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl TensorFile {
    /// Maps a file: safetensors, or a state dict that `torch.save` wrote, in today's zip form or the older one. What it is, is told
    /// by its content, not by its name. Nothing in it is ever run.
    ///
    /// # Errors
    /// If it cannot be read, is neither, or holds something besides tensors and plain values.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let shown = path.display();
        let map = map_file(path).map_err(|error| StageError::new(format!("failed to read `{shown}`: {error}")))?;
        let mut entries = match torch::read(&map) {
            Some(entries) => entries.map_err(|error| {
                StageError::new(format!("the weights in `{shown}` cannot be used: {error}")).help(
                    "load the model in Python and save it with `safetensors.torch.save_file(model.state_dict(), …)`",
                )
            })?,
            None => safetensors_entries(&map).map_err(|error| {
                StageError::new(format!("`{shown}` is no safetensors file: {error}"))
                    .help("an interrupted download or a Git LFS pointer looks like this; fetch the file again")
            })?,
        };
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { map, entries })
    }

    /// The tensors, ordered by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The numbers of one of [`TensorFile::entries`], row by row, as f32; none if they are not floating-point.
    pub fn floats(&self, entry: &Entry) -> Option<Vec<f32>> {
        let bytes = &self.map[entry.bytes.clone()];
        let stored = match entry.dtype {
            Dtype::F32 => values(bytes, f32::from_le_bytes),
            Dtype::F64 => values(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Dtype::F16 => values(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => values(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            _ => return None,
        };
        Some(match &entry.strides {
            Some(strides) => row_by_row(&stored, &entry.shape, strides),
            None => stored,
        })
    }

    /// One of [`TensorFile::entries`] as it is in memory; none if its numbers are not floating-point.
    pub fn tensor(&self, entry: &Entry) -> Option<HostTensor> {
        Some(HostTensor {
            name: entry.name.clone(),
            shape: entry.shape.clone(),
            data: self.floats(entry)?,
        })
    }
}

/// Reads every floating-point tensor of a file (see [`TensorFile::open`]) as f32, in the order of their names.
///
/// # Errors
/// As [`TensorFile::open`].
pub fn read_tensors(path: &Path) -> Result<Vec<HostTensor>, StageError> {
    let file = TensorFile::open(path)?;
    Ok(file.entries.iter().filter_map(|entry| file.tensor(entry)).collect())
}

fn safetensors_entries(bytes: &[u8]) -> Result<Vec<Entry>, safetensors::SafeTensorError> {
    let (header, metadata) = SafeTensors::read_metadata(bytes)?;
    // The header's length stands before it in 8 bytes.
    let start = 8 + header;
    let entries = metadata.tensors().into_iter().map(|(name, info)| Entry {
        name,
        dtype: info.dtype,
        shape: info.shape.clone(),
        bytes: start + info.data_offsets.0..start + info.data_offsets.1,
        strides: None,
    });
    Ok(entries.collect())
}

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect()
}

/// Numbers that lie in strides, put into the order of their indices.
fn row_by_row(stored: &[f32], shape: &[usize], strides: &[usize]) -> Vec<f32> {
    let count = shape.iter().product();
    let mut index = vec![0; shape.len()];
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        let place: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        ordered.push(stored[place]);
        for (index, &size) in index.iter_mut().zip(shape).rev() {
            *index += 1;
            if *index < size {
                break;
            }
            *index = 0;
        }
    }
    ordered
}

/// Writes tensors as f32 safetensors. Equal tensors give equal bytes: the file's order is by name, and its one metadata entry is
/// `format: pt`, which `transformers` asks for.
///
/// # Errors
/// If the file cannot be written.
pub fn write_safetensors(path: &Path, tensors: &[HostTensor]) -> Result<(), StageError> {
    // With more than one key the order, and so the bytes, would be left to chance.
    write_safetensors_with(path, tensors, [("format".to_owned(), "pt".to_owned())].into())
}

/// As [`write_safetensors`], with texts of one's own in the header.
///
/// # Errors
/// As [`write_safetensors`].
pub fn write_safetensors_with(
    path: &Path,
    tensors: &[HostTensor],
    metadata: HashMap<String, String>,
) -> Result<(), StageError> {
    let shown = path.display();
    let mut named: Vec<(&HostTensor, Vec<u8>)> = tensors
        .iter()
        .map(|tensor| {
            (
                tensor,
                tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect(),
            )
        })
        .collect();
    named.sort_by_key(|(tensor, _)| &tensor.name);
    let views = named
        .iter()
        .map(|(tensor, bytes)| {
            let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes);
            view.map(|view| (tensor.name.as_str(), view))
                .map_err(|error| StageError::new(format!("tensor `{}`: {error}", tensor.name)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    safetensors::serialize_to_file(views, Some(metadata), path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => FileError::of("write", path)(error).into(),
        error => StageError::new(format!("failed to write `{shown}`: {error}")),
    })
}

/// The texts in a safetensors file's header.
///
/// # Errors
/// If it cannot be read or is none.
pub fn safetensors_metadata(path: &Path) -> Result<HashMap<String, String>, StageError> {
    let shown = path.display();
    let map = map_file(path).map_err(|error| StageError::new(format!("failed to read `{shown}`: {error}")))?;
    let (_, metadata) = SafeTensors::read_metadata(&map)
        .map_err(|error| StageError::new(format!("`{shown}` is no safetensors file: {error}")))?;
    Ok(metadata.metadata().clone().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_equal_tensors_give_equal_bytes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (first, second) = (folder.path().join("a.safetensors"), folder.path().join("b.safetensors"));
        let tensor = |name: &str, shape: &[usize], data: &[f32]| HostTensor {
            name: name.to_owned(),
            shape: shape.to_vec(),
            data: data.to_vec(),
        };
        let scale = tensor("scale", &[], &[3.5]);
        let matrix = tensor("matrix", &[2, 2], &[1.0, -0.0, f32::MIN_POSITIVE, 4.0]);
        write_safetensors(&first, &[scale.clone(), matrix.clone()]).expect("written");
        write_safetensors(&second, &[matrix.clone(), scale.clone()]).expect("written");
        assert_eq!(
            std::fs::read(&first).expect("bytes"),
            std::fs::read(&second).expect("bytes")
        );
        assert_eq!(read_tensors(&first).expect("read"), [matrix, scale]);
    }

    fn testdata(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src/tensors/testdata")
            .join(name)
    }

    /// What PyTorch saved, in its three forms, with every float type, views of storages, and integers that are left out.
    #[test]
    fn what_torch_saves_is_read() {
        let text = std::fs::read(testdata("expected.json")).expect("a file");
        let mut expected: BTreeMap<String, (Vec<usize>, Vec<f32>)> =
            serde_json::from_slice::<BTreeMap<String, serde_json::Value>>(&text)
                .expect("json")
                .into_iter()
                .map(|(name, value)| {
                    let shape = serde_json::from_value(value["shape"].clone()).expect("a shape");
                    (
                        name,
                        (shape, serde_json::from_value(value["data"].clone()).expect("numbers")),
                    )
                })
                .collect();
        assert!(expected.remove("ids").is_some(), "integers are no weights");
        for name in ["zip.pt", "old.pt", "nested.pt"] {
            let found: BTreeMap<String, (Vec<usize>, Vec<f32>)> = read_tensors(&testdata(name))
                .expect(name)
                .into_iter()
                .map(|tensor| (tensor.name, (tensor.shape, tensor.data)))
                .collect();
            assert_eq!(found, expected, "{name}");
        }
        let file = TensorFile::open(&testdata("zip.pt")).expect("a file");
        let ids = file.entries().iter().find(|entry| entry.name == "ids").expect("listed");
        assert_eq!((ids.dtype, ids.is_float(), file.floats(ids)), (Dtype::I64, false, None));
    }

    /// A whole module, saved with its class, would need that class to be run.
    #[test]
    fn a_saved_module_is_refused_by_the_name_of_its_class() {
        let error = read_tensors(&testdata("module.pt")).expect_err("refused");
        assert!(
            error.message.contains("module.pt") && error.message.contains("`torch.nn.modules.linear.Linear`"),
            "{error}"
        );
        assert!(error.help.is_some());
    }

    /// Every file cut off at every place, and every byte of it changed, is read or refused.
    #[test]
    fn damage_anywhere_is_no_panic() {
        for name in ["zip.pt", "old.pt"] {
            let bytes = std::fs::read(testdata(name)).expect(name);
            for length in 0..bytes.len() {
                if let Some(Ok(entries)) = torch::read(&bytes[..length]) {
                    assert!(
                        entries.iter().all(|entry| entry.bytes.end <= length),
                        "{name} at {length}"
                    );
                }
            }
            let mut changed = bytes.clone();
            for place in 0..bytes.len() {
                for flip in [0x01, 0x80, 0xff] {
                    changed[place] = bytes[place] ^ flip;
                    if let Some(Ok(entries)) = torch::read(&changed) {
                        assert!(
                            entries.iter().all(|entry| entry.bytes.end <= bytes.len()),
                            "{name} at {place}"
                        );
                    }
                }
                changed[place] = bytes[place];
            }
        }
    }

    #[test]
    fn half_precision_in_safetensors_is_widened_exactly() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("half.safetensors");
        let half: Vec<u8> = [0.5, -3.0]
            .iter()
            .flat_map(|&v| f16::from_f32(v).to_le_bytes())
            .collect();
        let brain: Vec<u8> = bf16::from_f32(1.5).to_le_bytes().to_vec();
        let views = [
            ("half", TensorView::new(Dtype::F16, vec![2], &half).expect("a view")),
            ("brain", TensorView::new(Dtype::BF16, vec![1], &brain).expect("a view")),
        ];
        safetensors::serialize_to_file(views, None, &path).expect("written");
        let read = read_tensors(&path).expect("read");
        assert_eq!((&read[0].data[..], &read[1].data[..]), (&[1.5][..], &[0.5, -3.0][..]));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, b"version https://git-lfs.github.com/spec/v1").expect("written");
        let error = read_tensors(&path).expect_err("no tensors");
        assert!(
            error.message.contains("model.safetensors") && error.help.is_some(),
            "{error}"
        );
    }
}
