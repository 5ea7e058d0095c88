//! A text file, line by line.

use std::fs::File;
use std::io::{BufRead, BufReader, Chain, Cursor, Read};
use std::path::Path;

use super::super::parse::RecordError;
use super::super::read::CorpusError;

/// Records that are parsed together.
pub(super) const BATCH_RECORDS: usize = 1024;
/// Bytes after which a batch is full.
pub(super) const BATCH_BYTES: usize = 4 << 20;
/// The longest line or record that is taken, so that a file without ends cannot fill the memory.
pub(super) const MAX_RECORD: u64 = 1 << 30;
/// Bytes at the beginning of a file that its layout is told by.
const HEAD: u64 = 1 << 18;

/// First bytes of files that are sometimes handed over under another name.
const OTHER_FORMATS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"PAR1", "a Parquet file; say so by `format: parquet`"),
    (
        b"ARROW1",
        "an Arrow file in the file format; save the data with `save_to_disk`",
    ),
    (b"\xff\xfe", "UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16; save it as UTF-8"),
];

/// Reads a text file.
pub(super) struct TextFile {
    /// What it is called in messages.
    pub(super) name: String,
    reader: BufReader<Chain<Cursor<Vec<u8>>, File>>,
    /// What the file is, if its first bytes tell that it is no text.
    other_format: Option<&'static str>,
    /// Lines that were read.
    pub(super) number: u64,
}

impl TextFile {
    /// Opens `path`; also returns the file's first bytes, without the byte order mark, and whether they are all of it.
    pub(super) fn open(path: &Path, name: &str) -> Result<(Self, Vec<u8>, bool), CorpusError> {
        let failed =
            |error: std::io::Error| CorpusError::file(name, format!("failed to open the corpus file: {error}"));
        // A pipe would block for ever, so what it is comes before opening it.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(CorpusError::file(name, "the corpus file is not a regular file"));
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut head = Vec::new();
        (&mut file).take(HEAD).read_to_end(&mut head).map_err(failed)?;
        let whole = (head.len() as u64) < HEAD;
        let other_format = OTHER_FORMATS
            .iter()
            .find(|(magic, _)| head.starts_with(magic))
            .map(|(_, what)| *what);
        if head.starts_with(b"\xef\xbb\xbf") {
            head.drain(..3);
        }
        let reader = BufReader::with_capacity(1 << 20, Cursor::new(head.clone()).chain(file));
        let text = Self {
            name: name.to_owned(),
            reader,
            other_format,
            number: 0,
        };
        Ok((text, head, whole))
    }

    /// Appends the next line to `bytes`, with its end; none at the end of the file.
    pub(super) fn line(&mut self, bytes: &mut Vec<u8>) -> Result<Option<usize>, CorpusError> {
        let read = (&mut self.reader)
            .take(MAX_RECORD)
            .read_until(b'\n', bytes)
            .map_err(|error| self.failed(&error))?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        if read as u64 == MAX_RECORD {
            return Err(self.at(self.number, RecordError::new("", "the line is longer than 1 GiB")));
        }
        Ok(Some(read))
    }

    /// The bytes that are there to be read next; none at the end of the file.
    pub(super) fn buffer(&mut self) -> Result<&[u8], CorpusError> {
        // Borrowed twice, because an error needs the name.
        if let Err(error) = self.reader.fill_buf() {
            return Err(self.failed(&error));
        }
        Ok(self.reader.buffer())
    }

    /// Goes past `count` bytes of the buffer.
    pub(super) fn consume(&mut self, count: usize) {
        self.reader.consume(count);
    }

    fn failed(&self, error: &std::io::Error) -> CorpusError {
        CorpusError::file(&self.name, format!("failed to read the corpus file: {error}"))
    }

    /// The error at a line, or a better one if the file is not text at all.
    pub(super) fn at(&self, line: u64, error: RecordError) -> CorpusError {
        let error = match self.other_format {
            Some(what) if line == 1 => RecordError::new("", format!("the file is {what}")),
            _ => error,
        };
        CorpusError::at(&self.name, line, error)
    }
}
