//! Variables of the environment that a manifest declares: the only ones that the engine reads.
//!
//! Those that a setting lists may be secret. They are never written down: what is hashed, stored and compared is a keyed hash of
//! each. Those that `vars` name become values like any other.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::cache::Cache;
use crate::digest::Digest;
use crate::files::FileError;

/// The value of a declared variable; none if it is not set.
pub(crate) fn value(name: &str) -> Option<OsString> {
    std::env::var_os(name)
}

/// The value of a variable that `vars` name; none if it is not set, or is no text.
pub(crate) fn text(name: &str) -> Option<String> {
    value(name)?.into_string().ok()
}

/// Name → keyed hash of the value (none if it is not set) of the variables that lists of names declare.
pub(crate) fn hashes<'a>(
    lists: impl Iterator<Item = &'a Value>,
    cache: &Cache,
) -> Result<BTreeMap<String, Option<Digest>>, FileError> {
    let mut hashes = BTreeMap::new();
    for name in lists.flat_map(Value::as_array).flatten().filter_map(Value::as_str) {
        let hash = match value(name) {
            Some(value) => Some(hash(&cache.secret()?, name, value.as_bytes())),
            None => None,
        };
        hashes.insert(name.to_owned(), hash);
    }
    Ok(hashes)
}

/// The name is hashed too: two variables with one secret do not show that they are alike.
fn hash(secret: &[u8; 32], name: &str, value: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&(name.len() as u64).to_le_bytes());
    hasher.update(name.as_bytes());
    hasher.update(value);
    Digest::from_bytes(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_depends_on_secret_name_and_value() {
        let hashes = [
            hash(&[0; 32], "TOKEN", b"x"),
            hash(&[1; 32], "TOKEN", b"x"),
            hash(&[0; 32], "TOKE", b"Nx"),
            hash(&[0; 32], "TOKEN", b"y"),
        ];
        assert_eq!(hashes.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        assert_eq!(hash(&[0; 32], "TOKEN", b"x"), hashes[0]);
    }

    #[test]
    fn a_cache_keeps_its_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secret = Cache::open(folder.path()).unwrap().secret().unwrap();
        assert_ne!(secret, [0; 32]);
        assert_eq!(Cache::open(folder.path()).unwrap().secret().unwrap(), secret);
    }
}
