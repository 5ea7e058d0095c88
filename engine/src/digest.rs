//! [`Digest`]: the BLAKE3 hash of bytes that exist.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::str::FromStr;

use blake3::hazmat::{self, ChainingValue, HasherExt, Mode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::threads::start_threads;

/// Files are read and hashed in pieces of this size, a subtree of BLAKE3's tree each: large enough for its widest vectors,
/// and small enough that what was read is still in a core's cache when it is hashed.
const PIECE: u64 = 64 * 1024;

/// The BLAKE3 hash of bytes; written as 64 lower-case hexadecimal digits.
///
/// ```
/// use nerpipe_engine::Digest;
///
/// let digest = Digest::of(b"some bytes");
/// assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The digest of a file's bytes, and how many there are. Large files are hashed on all cores.
    ///
    /// # Errors
    /// Whatever opening or reading the file gives; a file that becomes shorter meanwhile ends too early.
    pub fn of_file(path: &Path) -> io::Result<(Self, u64)> {
        Self::of_open_file(&File::open(path)?)
    }

    /// [`Digest::of_file`] of an open file, from its beginning.
    pub(crate) fn of_open_file(file: &File) -> io::Result<(Self, u64)> {
        let size = file.metadata()?.len();
        let hash = if size <= PIECE {
            piece(file, 0, size, blake3::hash)?
        } else {
            let left = hazmat::left_subtree_len(size);
            let (left, right) = halves(file, 0, left, size)?;
            hazmat::merge_subtrees_root(&left, &right, Mode::Hash)
        };
        Ok((Self(*hash.as_bytes()), size))
    }

    /// As text, in its own place on the stack.
    pub(crate) fn hex(&self) -> impl std::ops::Deref<Target = str> + use<> {
        blake3::Hash::from_bytes(self.0).to_hex()
    }

    /// The digest's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The chaining values of the bytes from `start` to `middle` and from there to `end`.
fn halves(file: &File, start: u64, middle: u64, end: u64) -> io::Result<(ChainingValue, ChainingValue)> {
    start_threads();
    let (left, right) = rayon::join(|| subtree(file, start, middle), || subtree(file, middle, end));
    Ok((left?, right?))
}

/// The chaining value of the bytes from `start` to `end`, a subtree that is not the whole tree.
fn subtree(file: &File, start: u64, end: u64) -> io::Result<ChainingValue> {
    if end - start <= PIECE {
        let value = |bytes: &[u8]| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(start).update(bytes).finalize_non_root()
        };
        return piece(file, start, end, value);
    }
    let middle = start + hazmat::left_subtree_len(end - start);
    let (left, right) = halves(file, start, middle, end)?;
    Ok(hazmat::merge_subtrees_non_root(&left, &right, Mode::Hash))
}

/// Reads the bytes from `start` to `end` into this thread's buffer and gives them to `hash`. (Mapped files would save the
/// copy, but one that is made shorter while it is hashed ends the process.)
fn piece<T>(file: &File, start: u64, end: u64, hash: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
    thread_local! {
        static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        let length = (end - start) as usize;
        if buffer.len() < length {
            buffer.resize(length, 0);
        }
        file.read_exact_at(&mut buffer[..length], start)?;
        Ok(hash(&buffer[..length]))
    })
}

/// 64 hexadecimal digits → 32 bytes; shared with [`crate::fingerprint::Fingerprint`].
pub(crate) fn bytes_from_hex(text: &str) -> Option<[u8; 32]> {
    // `blake3` accepts capitals too; one value has one spelling here.
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

/// Why a text is no digest or fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not 64 lower-case hexadecimal digits")]
pub struct ParseHexError(pub(crate) String);

impl FromStr for Digest {
    type Err = ParseHexError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        bytes_from_hex(text)
            .map(Self)
            .ok_or_else(|| ParseHexError(text.to_owned()))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_its_bytes_have_one_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        let piece = PIECE as usize;
        for length in [
            0,
            1,
            1025,
            piece - 1,
            piece,
            piece + 1,
            2 * piece,
            3 * piece + 17,
            9 * piece + 1024,
        ] {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 31 % 251) as u8).collect();
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(
                Digest::of_file(&path).unwrap(),
                (Digest::of(&bytes), bytes.len() as u64)
            );
        }
    }

    #[test]
    fn text_form_goes_round_and_has_one_spelling() {
        let digest = Digest::of(b"nerpipe");
        let text = digest.to_string();
        assert_eq!(text.len(), 64);
        assert_eq!(text.parse::<Digest>().unwrap(), digest);
        assert!(text.to_uppercase().parse::<Digest>().is_err());
        assert!(text[1..].parse::<Digest>().is_err());
    }
}
