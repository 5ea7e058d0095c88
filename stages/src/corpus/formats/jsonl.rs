//! JSONL: a record a line.

use super::super::Record;
use super::super::parse::{Notes, RecordError, parse_record};
use super::super::read::{CorpusError, Reader};
use super::super::source::Source;
use super::lines::{BATCH_BYTES, BATCH_RECORDS, TextFile};

/// A line that is not blank.
pub(in super::super) struct Line {
    number: u64,
    bytes: Vec<u8>,
}

/// Reads records from JSONL.
pub(in super::super) struct Jsonl {
    file: TextFile,
}

impl Jsonl {
    pub(in super::super) fn open(source: &Source) -> Result<Self, CorpusError> {
        let (file, ..) = TextFile::open(&source.path, &source.name)?;
        Ok(Self { file })
    }
}

impl Reader for Jsonl {
    type Piece = Line;

    fn next_batch(&mut self) -> Result<Vec<Line>, CorpusError> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < BATCH_RECORDS && size < BATCH_BYTES {
            let mut bytes = Vec::new();
            let Some(read) = self.file.line(&mut bytes)? else {
                break;
            };
            size += read;
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                batch.push(Line {
                    number: self.file.number,
                    bytes,
                });
            }
        }
        Ok(batch)
    }

    fn parse(&self, line: &Line) -> Result<(Record, Notes), CorpusError> {
        // Inside a string that is cut off, the line's end would be a control character.
        let bytes = line.bytes.strip_suffix(b"\n").unwrap_or(&line.bytes);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        parse_record(bytes, line.number).map_err(|error| self.about(line, error))
    }

    fn about(&self, line: &Line, error: RecordError) -> CorpusError {
        self.file.at(line.number, error)
    }
}
