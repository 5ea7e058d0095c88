//! Safetensors files and the tensors they hold.

use std::path::Path;

use half::{bf16, f16};
use nerpipe_engine::StageError;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::model::HostTensor;

/// Reads every floating-point tensor of a safetensors file as f32, in the order of their names. Others, such as the
/// `position_ids` of old BERT files, are left out.
///
/// # Errors
/// If the file cannot be read or is no safetensors file.
pub fn read_safetensors(path: &Path) -> Result<Vec<HostTensor>, StageError> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| StageError::new(format!("failed to read `{shown}`: {error}")))?;
    let file = SafeTensors::deserialize(&bytes).map_err(|error| {
        StageError::new(format!("`{shown}` is no safetensors file: {error}"))
            .help("an interrupted download or a Git LFS pointer looks like this; fetch the file again")
    })?;
    let mut tensors: Vec<HostTensor> = file
        .iter()
        .filter_map(|(name, view)| {
            let data = floats(&view)?;
            Some(HostTensor {
                name: name.to_owned(),
                shape: view.shape().to_vec(),
                data,
            })
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}

fn floats(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let bytes = view.data();
    match view.dtype() {
        Dtype::F32 => Some(values(bytes, f32::from_le_bytes)),
        Dtype::F64 => Some(values(bytes, |bytes| f64::from_le_bytes(bytes) as f32)),
        Dtype::F16 => Some(values(bytes, |bytes| f16::from_le_bytes(bytes).to_f32())),
        Dtype::BF16 => Some(values(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32())),
        _ => None,
    }
}

fn values<const N: usize>(bytes: &[u8], read: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&chunk| read(chunk)).collect()
}

/// Writes tensors as f32 safetensors. Equal tensors give equal bytes: the file's order is by name, and its one metadata entry is
/// `format: pt`, which `transformers` asks for.
///
/// # Errors
/// If the file cannot be written.
pub fn write_safetensors(path: &Path, tensors: &[HostTensor]) -> Result<(), StageError> {
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
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(metadata), path)
        .map_err(|error| StageError::new(format!("failed to write `{shown}`: {error}")))
}

#[cfg(test)]
mod tests {
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
        assert_eq!(read_safetensors(&first).expect("read"), [matrix, scale]);
    }

    #[test]
    fn half_precision_is_widened_exactly() {
        let bytes: Vec<u8> = [f16::from_f32(0.5), f16::from_f32(-3.0)]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F16, vec![2], &bytes).expect("a view");
        assert_eq!(floats(&view), Some(vec![0.5, -3.0]));
        let bytes: Vec<u8> = bf16::from_f32(1.5).to_le_bytes().to_vec();
        let view = TensorView::new(Dtype::BF16, vec![1], &bytes).expect("a view");
        assert_eq!(floats(&view), Some(vec![1.5]));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        std::fs::write(&path, b"version https://git-lfs.github.com/spec/v1").expect("written");
        let error = read_safetensors(&path).expect_err("no tensors");
        assert!(
            error.message.contains("model.safetensors") && error.help.is_some(),
            "{error}"
        );
    }
}
