//! One canonical byte form for every value that is hashed into a key.
//!
//! Two values have the same bytes exactly if they mean the same: maps are sorted by key, everything has a type tag,
//! everything of varying length has its length in front, integers have one width whatever their sign, and floats go in by
//! their bits. A whole number and a float differ (`1` and `1.0`): kinds hand over *resolved* settings, where the type of a
//! field decides which of the two it is, not the way the manifest spells it.

use serde_json::Value;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INTEGER: u8 = 3;
const FLOAT: u8 = 4;
const TEXT: u8 = 5;
const LIST: u8 = 6;
const MAP: u8 = 7;

/// A value that cannot be hashed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Not a number is equal to nothing, not even itself.
    #[error("not-a-number cannot be part of a fingerprint")]
    NotANumber,
    /// A number that fits neither 64 bits nor a float.
    #[error("the number {0} cannot be part of a fingerprint")]
    Number(String),
}

/// Appends the canonical bytes of `value`.
///
/// # Errors
/// If a number in it is not a number or too large.
pub(crate) fn encode_value(value: &Value, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    match value {
        Value::Null => encode_null(bytes),
        Value::Bool(false) => bytes.push(FALSE),
        Value::Bool(true) => bytes.push(TRUE),
        Value::Number(number) => {
            if let Some(integer) = number.as_i128() {
                encode_integer(integer, bytes);
            } else {
                let float = number.as_f64().ok_or_else(|| EncodeError::Number(number.to_string()))?;
                encode_float(float, bytes)?;
            }
        }
        Value::String(text) => encode_text(text, bytes),
        Value::Array(items) => {
            encode_list(items.len(), bytes);
            for item in items {
                encode_value(item, bytes)?;
            }
        }
        Value::Object(map) => {
            let mut entries: Vec<(&String, &Value)> = map.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            encode_map(entries.len(), bytes);
            for (key, value) in entries {
                encode_text(key, bytes);
                encode_value(value, bytes)?;
            }
        }
    }
    Ok(())
}

fn encode_float(float: f64, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
    if float.is_nan() {
        return Err(EncodeError::NotANumber);
    }
    bytes.push(FLOAT);
    bytes.extend(float.to_bits().to_le_bytes());
    Ok(())
}

pub(crate) fn encode_null(bytes: &mut Vec<u8>) {
    bytes.push(NULL);
}

pub(crate) fn encode_integer(integer: i128, bytes: &mut Vec<u8>) {
    bytes.push(INTEGER);
    bytes.extend(integer.to_le_bytes());
}

/// Begins a list of so many items.
pub(crate) fn encode_list(items: usize, bytes: &mut Vec<u8>) {
    bytes.push(LIST);
    encode_length(items, bytes);
}

/// Begins a map of so many entries: the keys, as texts, in order, and behind each its value.
pub(crate) fn encode_map(entries: usize, bytes: &mut Vec<u8>) {
    bytes.push(MAP);
    encode_length(entries, bytes);
}

pub(crate) fn encode_text(text: &str, bytes: &mut Vec<u8>) {
    bytes.push(TEXT);
    encode_length(text.len(), bytes);
    bytes.extend(text.as_bytes());
}

fn encode_length(length: usize, bytes: &mut Vec<u8>) {
    bytes.extend((length as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn encode(value: &Value) -> Result<Vec<u8>, EncodeError> {
        let mut bytes = Vec::new();
        encode_value(value, &mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn the_byte_form_is_pinned() {
        let bytes = encode(&json!({"b": [true, null], "a": -1})).unwrap();
        let mut expected = vec![MAP, 2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([TEXT, 1, 0, 0, 0, 0, 0, 0, 0, b'a', INTEGER]);
        expected.extend([0xff; 16]);
        expected.extend([
            TEXT, 1, 0, 0, 0, 0, 0, 0, 0, b'b', LIST, 2, 0, 0, 0, 0, 0, 0, 0, TRUE, NULL,
        ]);
        assert_eq!(bytes, expected);
    }

    #[test]
    fn values_that_mean_something_else_have_other_bytes() {
        let values = [
            json!(null),
            json!(false),
            json!(0),
            json!(0.0),
            json!(-0.0),
            json!(1),
            json!(1.0),
            json!("1"),
            json!(""),
            json!([]),
            json!({}),
            json!([""]),
            json!(["a", "b"]),
            json!(["ab"]),
            json!([["a"], "b"]),
            json!([["a", "b"]]),
            json!({"a": "b"}),
            json!({"a": null}),
            json!(u64::MAX),
            json!(i64::MIN),
        ];
        for (i, one) in values.iter().enumerate() {
            for (j, other) in values.iter().enumerate() {
                assert_eq!(
                    encode(one).unwrap() == encode(other).unwrap(),
                    i == j,
                    "{one} and {other}"
                );
            }
        }
    }

    #[test]
    fn not_a_number_is_refused() {
        assert_eq!(encode_float(f64::NAN, &mut Vec::new()), Err(EncodeError::NotANumber));
        assert_eq!(encode_float(f64::INFINITY, &mut Vec::new()), Ok(()));
    }
}
