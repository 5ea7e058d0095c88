//! [`Fingerprint`]: the hash of everything that can change what a stage makes, and nothing else.
//!
//! | counts                                                          | does not count                                  |
//! |-----------------------------------------------------------------|-------------------------------------------------|
//! | the kind's name and version                                     | the stage's name, the manifest's name           |
//! | every *counted* setting, defaults filled in (seed, precision)   | *recorded* settings (`run_name`), publish targets |
//! | the digest of every part that a port reads                      | parts it does not read, how they were made      |
//! | of an *input* setting: file names below the fixed part, digests | the text of the path or glob, absolute paths    |
//! | of a collecting port: the artifacts' names, axes and their order | modification times, owners, permissions        |
//! | keyed hashes of declared variables of the environment           | all other variables                             |
//! |                                                                 | device, threads, executor, host, attempt, clock |
//!
//! Settings that are null count as absent, so that a kind may gain an optional setting and keep its users' caches.
//!
//! What is hashed is a [`Document`]. The same document is kept in the record and compared when someone asks why a stage
//! reruns ([`Document::difference`]), so an explanation cannot drift from the key.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::digest::{Digest, ParseHexError, bytes_from_hex};
use crate::encode::{EncodeError, encode_integer, encode_list, encode_map, encode_null, encode_text, encode_value};

/// BLAKE3's key-derivation context of instances: a fingerprint can never be mistaken for a digest of bytes.
const INSTANCE_CONTEXT: &str = "nerpipe 2025-11-23 fingerprint of an instance v1";
/// The context of steps inside a stage.
const STEP_CONTEXT: &str = "nerpipe 2025-11-23 fingerprint of a step v1";

/// The hash of what goes into a stage or a step; written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The hash of the bytes that `encode` appends to what it is given.
    fn derive(
        context: &str,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<Self, EncodeError> {
        thread_local! {
            /// Used again and again: a manifest may have very many instances.
            static BYTES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        BYTES.with_borrow_mut(|bytes| {
            bytes.clear();
            encode(bytes)?;
            Ok(Self(blake3::derive_key(context, bytes)))
        })
    }

    /// The first eight digits, for people.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(8);
        text
    }
}

impl FromStr for Fingerprint {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes_from_hex(text)
            .map(Self)
            .ok_or_else(|| ParseHexError(text.to_owned()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The one list of what counts for an instance: hashed, stored in its record, and compared for the reason of a rerun.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// The kind's name.
    pub kind: String,
    /// The version of the kind's meaning.
    pub version: u32,
    /// The counted settings that are not null.
    pub settings: BTreeMap<String, Value>,
    /// Port → what is read there.
    pub inputs: BTreeMap<String, InputDigests>,
    /// Input setting → file name below the fixed part → digest.
    pub files: BTreeMap<String, Arc<BTreeMap<String, Digest>>>,
    /// Declared variable of the environment → keyed hash of its value; none if it is not set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Option<Digest>>,
}

/// What a port contributes to a [`Document`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputDigests {
    /// A collecting port. Names and axes count because the kind sees them, order because it sees that too.
    Collected {
        /// The artifacts' names, in the order of the cells.
        order: Vec<String>,
        /// The artifacts by name.
        artifacts: BTreeMap<String, CollectedDigests>,
    },
    /// One artifact: part → digest.
    One(BTreeMap<String, Digest>),
}

/// One artifact of a collecting port.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectedDigests {
    /// Axis and value, in the manifest's order.
    pub axes: Vec<(String, String)>,
    /// Part → digest.
    pub parts: BTreeMap<String, Digest>,
}

impl CollectedDigests {
    /// The digests of an artifact that stands for these axis values.
    pub fn new(axes: &IndexMap<String, String>, parts: BTreeMap<String, Digest>) -> Self {
        Self {
            axes: axes.iter().map(|(axis, value)| (axis.clone(), value.clone())).collect(),
            parts,
        }
    }
}

impl InputDigests {
    fn encode(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::One(parts) => encode_digests(parts, bytes),
            Self::Collected { order, artifacts } => {
                encode_map(2, bytes);
                encode_text("artifacts", bytes);
                encode_map(artifacts.len(), bytes);
                for (name, CollectedDigests { axes, parts }) in artifacts {
                    encode_text(name, bytes);
                    encode_map(2, bytes);
                    encode_text("axes", bytes);
                    encode_list(axes.len(), bytes);
                    for (axis, value) in axes {
                        encode_list(2, bytes);
                        encode_text(axis, bytes);
                        encode_text(value, bytes);
                    }
                    encode_text("parts", bytes);
                    encode_digests(parts, bytes);
                }
                encode_text("order", bytes);
                encode_list(order.len(), bytes);
                order.iter().for_each(|name| encode_text(name, bytes));
            }
        }
    }
}

fn encode_digests(digests: &BTreeMap<String, Digest>, bytes: &mut Vec<u8>) {
    encode_map(digests.len(), bytes);
    for (name, digest) in digests {
        encode_text(name, bytes);
        encode_text(&digest.hex(), bytes);
    }
}

impl Document {
    /// The document's hash.
    ///
    /// # Errors
    /// If a setting cannot be hashed, such as a number that is not one.
    pub fn fingerprint(&self) -> Result<Fingerprint, EncodeError> {
        Fingerprint::derive(INSTANCE_CONTEXT, |bytes| self.encode(bytes))
    }

    /// Every field in which `self` (old) and `new` differ, sorted by path.
    ///
    /// ```
    /// use nerpipe_engine::Document;
    ///
    /// let document = |text: &str| serde_json::from_str::<Document>(text).unwrap();
    /// let old = document(r#"{"kind": "train", "version": 1, "settings": {"seed": 1}, "inputs": {}, "files": {}}"#);
    /// let new = document(r#"{"kind": "train", "version": 2, "settings": {"seed": 7}, "inputs": {}, "files": {}}"#);
    /// let lines: Vec<String> = old.difference(&new).iter().map(ToString::to_string).collect();
    /// assert_eq!(lines, ["settings.seed: 1 → 7", "version: 1 → 2"]);
    /// assert_ne!(old.fingerprint().unwrap(), new.fingerprint().unwrap());
    /// ```
    pub fn difference(&self, new: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        difference(&mut Vec::new(), Some(&self.value()), Some(&new.value()), &mut found);
        found
    }

    /// The canonical bytes of [`Document::value`], without that being made: a plan does this for every instance. Keys come in
    /// order.
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let Self {
            kind,
            version,
            settings,
            inputs,
            files,
            environment,
        } = self;
        encode_map(5 + usize::from(!environment.is_empty()), bytes);
        if !environment.is_empty() {
            encode_text("environment", bytes);
            encode_map(environment.len(), bytes);
            for (name, hash) in environment {
                encode_text(name, bytes);
                match hash {
                    Some(hash) => encode_text(&hash.hex(), bytes),
                    None => encode_null(bytes),
                }
            }
        }
        encode_text("files", bytes);
        encode_map(files.len(), bytes);
        for (setting, digests) in files {
            encode_text(setting, bytes);
            encode_digests(digests, bytes);
        }
        encode_text("inputs", bytes);
        encode_map(inputs.len(), bytes);
        for (port, digests) in inputs {
            encode_text(port, bytes);
            digests.encode(bytes);
        }
        encode_text("kind", bytes);
        encode_text(kind, bytes);
        encode_text("settings", bytes);
        encode_map(settings.len(), bytes);
        for (name, value) in settings {
            encode_text(name, bytes);
            encode_value(value, bytes)?;
        }
        encode_text("version", bytes);
        encode_integer((*version).into(), bytes);
        Ok(())
    }

    fn value(&self) -> Value {
        // A document holds texts, integers, digests and values that came from JSON: all of it has a JSON form.
        serde_json::to_value(self).expect("a document is JSON")
    }
}

/// One field in which two documents differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The field, such as `settings`, `learning_rate` or `files`, `train`, `en.jsonl`.
    pub path: Vec<String>,
    /// The value in the last record; none if the field is new.
    pub old: Option<Value>,
    /// The value now; none if the field is gone.
    pub new: Option<Value>,
}

impl Difference {
    /// The field in one word: `settings.learning_rate`.
    pub fn field(&self) -> String {
        self.path.join(".")
    }

    /// The old and the new value for people: JSON, and of a digest the first eight digits.
    pub fn values(&self) -> (Option<String>, Option<String>) {
        let text = |value: &Value| match value {
            Value::String(text) if text.parse::<Digest>().is_ok() => text[..8].to_owned(),
            other => other.to_string(),
        };
        (self.old.as_ref().map(text), self.new.as_ref().map(text))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.field();
        match self.values() {
            (Some(old), Some(new)) => write!(f, "{path}: {old} → {new}"),
            (None, Some(new)) => write!(f, "{path}: new, {new}"),
            (Some(old), None) => write!(f, "{path}: gone, was {old}"),
            (None, None) => f.write_str(&path),
        }
    }
}

fn difference(path: &mut Vec<String>, old: Option<&Value>, new: Option<&Value>, found: &mut Vec<Difference>) {
    if old == new {
        return;
    }
    if let (Some(Value::Object(old)), Some(Value::Object(new))) = (old, new) {
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            path.push(key.clone());
            difference(path, old.get(key), new.get(key), found);
            path.pop();
        }
        return;
    }
    found.push(Difference {
        path: path.clone(),
        old: old.cloned(),
        new: new.cloned(),
    });
}

/// The one list of what counts for a step inside a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepDocument {
    /// The kind's name.
    pub kind: String,
    /// The step's name.
    pub step: String,
    /// The version of the step's meaning.
    pub version: u32,
    /// What steers it.
    pub settings: Value,
    /// The digests of what it reads, in order.
    pub inputs: Vec<Digest>,
}

impl StepDocument {
    /// The document's hash.
    ///
    /// # Errors
    /// If a setting cannot be hashed.
    pub fn fingerprint(&self) -> Result<Fingerprint, EncodeError> {
        let mut map = Map::new();
        map.insert("kind".to_owned(), self.kind.clone().into());
        map.insert("step".to_owned(), self.step.clone().into());
        map.insert("version".to_owned(), self.version.into());
        map.insert("settings".to_owned(), self.settings.clone());
        map.insert("inputs".to_owned(), self.inputs.iter().map(Digest::to_string).collect());
        Fingerprint::derive(STEP_CONTEXT, |bytes| encode_value(&Value::Object(map), bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn document() -> Document {
        Document {
            kind: "train".to_owned(),
            version: 1,
            settings: [
                ("learning_rate".to_owned(), json!(1e-4)),
                ("seed".to_owned(), json!(42)),
            ]
            .into(),
            inputs: [(
                "tokens".to_owned(),
                InputDigests::One([("train".to_owned(), Digest::of(b"train"))].into()),
            )]
            .into(),
            files: [(
                "vocabulary".to_owned(),
                Arc::new([("vocab.txt".to_owned(), Digest::of(b"[PAD]"))].into()),
            )]
            .into(),
            environment: BTreeMap::new(),
        }
    }

    /// If this literal changes, every user's cache is lost. That must be meant, and said in the changelog.
    #[test]
    fn the_fingerprint_is_pinned() {
        let fingerprint = document().fingerprint().unwrap().to_string();
        assert_eq!(
            fingerprint,
            "3fd14ecc481e8163913f6053f9345b9239289baba99feefa8e27c945dd7d1ec0"
        );
        let step = StepDocument {
            kind: "load".to_owned(),
            step: "file".to_owned(),
            version: 1,
            settings: json!({"limit": null}),
            inputs: vec![Digest::of(b"{}")],
        };
        assert_eq!(
            step.fingerprint().unwrap().to_string(),
            "0230b58bb7d08a170b1a7c8968857986f0a29c3d82dec6b301566c8f52f47cf6"
        );
    }

    #[test]
    fn a_difference_names_the_field_old_and_new() {
        let old = document();
        let mut new = document();
        new.settings.insert("seed".to_owned(), json!(43));
        new.settings.insert("clip".to_owned(), json!({"norm": 1.0}));
        new.files.insert("vocabulary".to_owned(), Arc::default());
        let lines: Vec<String> = old.difference(&new).iter().map(ToString::to_string).collect();
        let vocabulary = &Digest::of(b"[PAD]").to_string()[..8];
        assert_eq!(
            lines,
            [
                format!("files.vocabulary.vocab.txt: gone, was {vocabulary}"),
                "settings.clip: new, {\"norm\":1.0}".to_owned(),
                "settings.seed: 42 → 43".to_owned(),
            ]
        );
        assert_eq!(old.difference(&old), []);
    }

    #[test]
    fn a_document_goes_through_its_stored_form_unchanged() {
        let mut document = document();
        let axes: IndexMap<String, String> = [("loss".to_owned(), "bce".to_owned())].into_iter().collect();
        let parts: BTreeMap<String, Digest> = [("metrics.json".to_owned(), Digest::of(b"1"))].into();
        document.inputs.insert(
            "scores".to_owned(),
            InputDigests::Collected {
                order: vec!["scores@loss=bce".to_owned()],
                artifacts: [("scores@loss=bce".to_owned(), CollectedDigests::new(&axes, parts))].into(),
            },
        );
        let stored = serde_json::to_string(&document).unwrap();
        let read: Document = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, document);
        assert_eq!(read.fingerprint().unwrap(), document.fingerprint().unwrap());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("[a-d]{1,2}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    fn reversed(value: &Value) -> Value {
        match value {
            Value::Array(items) => items.iter().map(reversed).collect(),
            Value::Object(map) => Value::Object(map.iter().rev().map(|(k, v)| (k.clone(), reversed(v))).collect()),
            other => other.clone(),
        }
    }

    fn encoded(encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes).unwrap();
        bytes
    }

    proptest! {
        /// There is one list of what counts: what is hashed are the bytes of what is stored and compared.
        #[test]
        fn a_documents_bytes_are_those_of_its_stored_form(
            settings in proptest::collection::btree_map("[a-c_é]{0,3}", any_value(), 0..4),
            parts in proptest::collection::btree_map("[a-c]{1,2}", any::<u8>(), 0..3),
            ports in 0..3_usize,
            environment in proptest::collection::btree_map("[A-C]{1,2}", any::<Option<u8>>(), 0..3),
        ) {
            let digests: BTreeMap<String, Digest> =
                parts.into_iter().map(|(part, byte)| (part, Digest::of(&[byte]))).collect();
            let axes: IndexMap<String, String> = digests.keys().map(|name| (name.clone(), "v".to_owned())).collect();
            let collected = InputDigests::Collected {
                order: digests.keys().rev().cloned().collect(),
                artifacts: digests
                    .keys()
                    .map(|name| (name.clone(), CollectedDigests::new(&axes, digests.clone())))
                    .collect(),
            };
            let inputs = [("one", InputDigests::One(digests.clone())), ("more", collected)];
            let document = Document {
                kind: "kind".to_owned(),
                version: 7,
                settings,
                inputs: inputs.into_iter().take(ports).map(|(port, input)| (port.to_owned(), input)).collect(),
                files: digests.keys().map(|name| (name.clone(), Arc::new(digests.clone()))).collect(),
                environment: environment
                    .into_iter()
                    .map(|(name, byte)| (name, byte.map(|byte| Digest::of(&[byte]))))
                    .collect(),
            };
            let direct = encoded(|bytes| document.encode(bytes));
            prop_assert_eq!(direct, encoded(|bytes| encode_value(&document.value(), bytes)));
        }

        #[test]
        fn key_order_never_changes_a_fingerprint(value in any_value()) {
            let mut one = document();
            one.settings.insert("x".to_owned(), value.clone());
            let mut other = document();
            other.settings.insert("x".to_owned(), reversed(&value));
            prop_assert_eq!(one.fingerprint().unwrap(), other.fingerprint().unwrap());
            prop_assert_eq!(one.difference(&other), vec![]);
        }

        #[test]
        fn one_changed_field_changes_the_fingerprint_and_is_named(old in any_value(), new in any_value()) {
            let mut one = document();
            one.settings.insert("x".to_owned(), old.clone());
            let mut other = document();
            other.settings.insert("x".to_owned(), new.clone());
            let differences = one.difference(&other);
            prop_assert_eq!(one.fingerprint().unwrap() == other.fingerprint().unwrap(), old == new);
            prop_assert_eq!(differences.is_empty(), old == new);
            prop_assert!(differences.iter().all(|difference| difference.path[..2] == ["settings", "x"]));
        }
    }
}
