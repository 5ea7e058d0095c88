//! What `torch.save` writes: `model.pt`, `model.bin`, `pytorch_model.bin`.
//!
//! Since PyTorch 1.6 that is a zip archive, never compressed: `NAME/data.pkl` says which tensors there are, `NAME/data/KEY` holds the
//! numbers of one storage. Before, it was five pickles in a row (a magic number, a protocol version, facts about the machine,
//! the object, the storages' keys), followed by each storage: how many numbers, then the numbers. Both come down to tensors at
//! places of the file; see [`super::pickle`] for why reading one runs nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::Cursor;
use std::ops::Range;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

use super::Entry;
use super::pickle::{Id, Pickle, PickleError, Tensor, Value};

/// How a zip archive begins.
const ZIP: &[u8] = b"PK\x03\x04";
/// How an old file begins: the pickle of the number 0x1950a86a20f9469cfc6c, up to its end.
const OLD: &[u8] = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The keys under which a dictionary may hold the state dict beside other things.
const STATE_DICTS: [&str; 3] = ["state_dict", "model_state_dict", "model"];

/// Why the bytes are no tensors.
#[derive(Debug, thiserror::Error)]
pub(super) enum TorchError {
    #[error(transparent)]
    Pickle(#[from] PickleError),
    #[error("it is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Other(String),
}

fn damaged(reason: impl Into<String>) -> TorchError {
    TorchError::Damaged(reason.into())
}

fn other(reason: impl Into<String>) -> TorchError {
    TorchError::Other(reason.into())
}

/// The tensors of a file, or none if it does not begin as `torch.save` begins one.
pub(super) fn read(bytes: &[u8]) -> Option<Result<Vec<Entry>, TorchError>> {
    if bytes.starts_with(ZIP) {
        Some(read_zip(bytes))
    } else if bytes.first() == Some(&0x80) && bytes.get(2..2 + OLD.len()) == Some(OLD) {
        Some(read_old(bytes))
    } else {
        None
    }
}

fn read_zip(bytes: &[u8]) -> Result<Vec<Entry>, TorchError> {
    let broken = |error: zip::result::ZipError| damaged(error.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(broken)?;
    let mut members: HashMap<String, Range<usize>> = HashMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(broken)?;
        let name = member.name().map_err(broken)?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            return Err(other(format!(
                "its member `{name}` is compressed, which `torch.save` never does"
            )));
        }
        let start = member.data_start().and_then(|start| usize::try_from(start).ok());
        let range = start
            .zip(usize::try_from(member.size()).ok())
            .and_then(|(start, size)| {
                let end = start.checked_add(size)?;
                (end <= bytes.len()).then_some(start..end)
            });
        let range = range.ok_or_else(|| damaged(format!("`{name}` reaches beyond its end")))?;
        members.insert(name, range);
    }
    let object = members.iter().find(|(name, _)| name.ends_with("/data.pkl"));
    let (name, place) =
        object.ok_or_else(|| other("it is a zip archive without `data.pkl`, so not what `torch.save` writes"))?;
    let folder = name.trim_end_matches("data.pkl");
    if let Some(order) = members.get(&format!("{folder}byteorder")) {
        refuse_big_endian(bytes[order.clone()].trim_ascii() != b"little")?;
    }
    let pickle = Pickle::read(&bytes[place.clone()])?;
    entries(&pickle, |key| members.get(&format!("{folder}data/{key}")).cloned())
}

fn read_old(bytes: &[u8]) -> Result<Vec<Entry>, TorchError> {
    let mut at = 0;
    let mut next = || -> Result<Pickle, TorchError> {
        let pickle = Pickle::read(&bytes[at..])?;
        at += pickle.length;
        Ok(pickle)
    };
    let (_magic, _protocol, machine, object, keys) = (next()?, next()?, next()?, next()?, next()?);
    if let Value::Dict(facts) = machine.get(machine.root) {
        let big = |&(key, value): &(Id, Id)| {
            machine.text(key) == Some("little_endian") && machine.get(value) == &Value::Bool(false)
        };
        refuse_big_endian(facts.iter().any(big))?;
    }
    let Value::List(order) = keys.get(keys.root) else {
        return Err(damaged("the list of its storages is none"));
    };
    let widths: HashMap<&str, usize> = object
        .storages()
        .map(|storage| (storage.key.as_str(), width(dtype(storage.class))))
        .collect();
    let mut places: HashMap<&str, Range<usize>> = HashMap::new();
    for &key in order {
        let key = keys
            .text(key)
            .ok_or_else(|| damaged("the name of a storage is no text"))?;
        let width = widths
            .get(key)
            .ok_or_else(|| damaged(format!("no tensor lies in the storage `{key}`")))?;
        let head = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
        let start = at + 8;
        let range = head.and_then(|head| {
            let size = usize::try_from(u64::from_le_bytes(*head)).ok()?.checked_mul(*width)?;
            let end = start.checked_add(size)?;
            (end <= bytes.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| damaged(format!("the storage `{key}` reaches beyond its end")))?;
        at = range.end;
        places.insert(key, range);
    }
    entries(&object, |key| places.get(key).cloned())
}

fn refuse_big_endian(big: bool) -> Result<(), TorchError> {
    match big {
        true => Err(other(
            "its numbers are big-endian; load and save it again on a little-endian machine",
        )),
        false => Ok(()),
    }
}

/// The tensors of a state dict; `place` says where a storage's bytes are.
fn entries(pickle: &Pickle, place: impl Fn(&str) -> Option<Range<usize>>) -> Result<Vec<Entry>, TorchError> {
    let Value::Dict(root) = pickle.get(pickle.root) else {
        return Err(other("it holds no dictionary of tensors; save `model.state_dict()`"));
    };
    let named = |entries: &[(Id, Id)]| -> BTreeMap<String, Tensor> {
        let tensors = entries
            .iter()
            .filter_map(|&(name, value)| match (pickle.text(name), pickle.get(value)) {
                (Some(name), Value::Tensor(tensor)) => Some((name.to_owned(), tensor.clone())),
                _ => None,
            });
        tensors.collect()
    };
    let mut tensors = named(root);
    if tensors.is_empty() {
        let inner = root
            .iter()
            .filter(|(key, _)| pickle.text(*key).is_some_and(|key| STATE_DICTS.contains(&key)));
        for &(_, value) in inner {
            if let Value::Dict(dict) = pickle.get(value) {
                tensors.extend(named(dict));
            }
        }
    }
    if tensors.is_empty() {
        return Err(other("its dictionary holds no tensor; save `model.state_dict()`"));
    }
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let storage = &tensor.storage;
            let bytes = place(&storage.key)
                .ok_or_else(|| damaged(format!("the storage `{}` of `{name}` is not there", storage.key)))?;
            entry(name, &tensor, bytes)
        })
        .collect()
}

/// A tensor's place in the file, checked to lie inside its storage.
fn entry(name: String, tensor: &Tensor, storage: Range<usize>) -> Result<Entry, TorchError> {
    let dtype = dtype(tensor.storage.class);
    let width = width(dtype);
    let outside = || damaged(format!("the tensor `{name}` reaches beyond its storage"));
    if tensor.shape.len() != tensor.strides.len() {
        return Err(damaged(format!(
            "the tensor `{name}` has not one stride for each dimension"
        )));
    }
    let count = tensor
        .shape
        .iter()
        .try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.ok_or_else(outside)?;
    // The place behind the last number, counted from the tensor's first one.
    let reach = match count {
        0 => Some(0),
        _ => tensor
            .shape
            .iter()
            .zip(&tensor.strides)
            .try_fold(1usize, |reach, (&size, &stride)| {
                reach.checked_add((size - 1).checked_mul(stride)?)
            }),
    };
    // A tensor that repeats its numbers could ask for any amount of memory; weights have as many as their storage at most.
    let reach = reach.filter(|&reach| count <= reach).ok_or_else(outside)?;
    let range = (|| {
        let first = tensor.storage.offset.checked_add(tensor.offset)?.checked_mul(width)?;
        let start = storage.start.checked_add(first)?;
        let end = start.checked_add(reach.checked_mul(width)?)?;
        (end <= storage.end).then_some(start..end)
    })();
    let bytes = range.ok_or_else(outside)?;
    let mut dense = 1;
    let mut row_major = true;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        row_major &= size == 1 || stride == dense;
        dense *= size.max(1);
    }
    Ok(Entry {
        name,
        dtype,
        shape: tensor.shape.clone(),
        bytes,
        strides: (!row_major && count > 0).then(|| tensor.strides.clone()),
    })
}

/// What a class of storages holds.
fn dtype(class: &str) -> Dtype {
    match class {
        "DoubleStorage" => Dtype::F64,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => Dtype::F32,
    }
}

/// The size of a number, in bytes.
fn width(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}
