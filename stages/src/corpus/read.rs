//! Streaming a JSONL file: lines are cut in order, records parsed side by side, results handed out in order.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use nerpipe_engine::StageError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Record;
use super::parse::{Notes, RecordError, parse_record};

/// Lines that are parsed together.
const BATCH_LINES: usize = 1024;
/// Bytes after which a batch is full.
const BATCH_BYTES: usize = 4 << 20;
/// The longest line that is taken, so that a file without line ends cannot fill the memory.
const MAX_LINE: u64 = 1 << 30;

/// What a file holds, and what was settled by rule while it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Records.
    pub sentences: u64,
    /// Tokens of all records.
    pub words: u64,
    /// Entities of all records.
    pub entities: u64,
    /// Spans that were given twice and count once.
    pub duplicate_spans: u64,
    /// Records of which one list of spans was worked out from the other.
    pub derived_spans: u64,
    /// Records without an id.
    pub made_ids: u64,
}

impl Counts {
    fn record(&mut self, record: &Record, notes: Notes) {
        self.sentences += 1;
        self.words += record.tokens.len() as u64;
        self.entities += record.token_spans.len() as u64;
        self.duplicate_spans += notes.duplicate_spans;
        self.derived_spans += u64::from(notes.derived_spans);
        self.made_ids += u64::from(notes.made_id);
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.sentences += other.sentences;
        self.words += other.words;
        self.entities += other.entities;
        self.duplicate_spans += other.duplicate_spans;
        self.derived_spans += other.derived_spans;
        self.made_ids += other.made_ids;
    }
}

/// What is wrong with a corpus file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}{}{}: {reason}", line.map(|line| format!(":{line}")).unwrap_or_default(), shown_field(field))]
pub struct CorpusError {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1; none if the whole file is meant.
    pub line: Option<u64>,
    /// The field, such as `char_spans[1].end`; empty if none is meant.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub help: Option<String>,
}

fn shown_field(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!(": `{field}`")
    }
}

impl CorpusError {
    fn file(file: &str, reason: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            line: None,
            field: String::new(),
            reason: reason.into(),
            help: None,
        }
    }

    fn at(file: &str, line: u64, error: RecordError) -> Self {
        let RecordError { field, reason, help } = error;
        Self {
            file: file.to_owned(),
            line: Some(line),
            field,
            reason,
            help,
        }
    }
}

impl From<CorpusError> for StageError {
    fn from(error: CorpusError) -> Self {
        let stage = Self::new(error.to_string());
        match error.help {
            Some(help) => stage.help(help),
            None => stage,
        }
    }
}

/// Reads the JSONL file `path`, called `file` in messages. `work` is applied to the records side by side; `take` gets
/// its results one after the other, in the order of the lines. Memory stays constant, whatever the file's length.
///
/// # Errors
/// The first record that is wrong, in the order of the lines, or what `work` or `take` fail with; also if the file
/// cannot be read or holds no record.
pub fn read<T: Send, E: From<CorpusError> + Send>(
    path: &Path,
    file: &str,
    work: impl Fn(&Record) -> Result<T, E> + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<Counts, E> {
    let mut lines = Lines::open(path, file)?;
    let mut counts = Counts::default();
    loop {
        let batch = lines.next_batch()?;
        if batch.is_empty() {
            break;
        }
        let results: Vec<Result<_, E>> = batch
            .par_iter()
            .map(|line| {
                let (record, notes) = parse_record(&line.bytes, line.number)
                    .map_err(|error| CorpusError::at(file, line.number, lines.better(line.number, error)))?;
                let mut counts = Counts::default();
                counts.record(&record, notes);
                Ok((counts, work(&record)?))
            })
            .collect();
        for result in results {
            let (of_record, value) = result?;
            counts += of_record;
            take(value)?;
        }
    }
    if counts.sentences == 0 {
        let error = CorpusError {
            help: Some("a corpus file needs a record a line".to_owned()),
            ..CorpusError::file(file, "there are no records in the file")
        };
        return Err(error.into());
    }
    Ok(counts)
}

/// A line that is not blank.
struct Line {
    number: u64,
    bytes: Vec<u8>,
}

/// Cuts a file into batches of lines.
struct Lines<'a> {
    file: &'a str,
    reader: BufReader<File>,
    number: u64,
    /// What the file is, if its first bytes tell that it is no text.
    other_format: Option<&'static str>,
}

/// First bytes of files that are sometimes handed over under a JSONL name.
const OTHER_FORMATS: [(&[u8], &str); 7] = [
    (b"\x1f\x8b", "gzip data; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd data; unpack it first"),
    (b"PK\x03\x04", "a zip archive; unpack it first"),
    (b"PAR1", "a Parquet file; write it as JSONL first"),
    (b"ARROW1", "an Arrow file; write it as JSONL first"),
    (b"\xff\xfe", "UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "UTF-16; save it as UTF-8"),
];

impl<'a> Lines<'a> {
    fn open(path: &Path, file: &'a str) -> Result<Self, CorpusError> {
        let failed =
            |error: std::io::Error| CorpusError::file(file, format!("failed to open the corpus file: {error}"));
        // A pipe would block for ever, so what it is comes before opening it.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(CorpusError::file(file, "the corpus file is not a regular file"));
        }
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
        let head = reader.fill_buf().map_err(failed)?;
        let other_format = OTHER_FORMATS
            .iter()
            .find(|(magic, _)| head.starts_with(magic))
            .map(|(_, what)| *what);
        if head.starts_with(b"\xef\xbb\xbf") {
            reader.consume(3);
        }
        Ok(Self {
            file,
            reader,
            number: 0,
            other_format,
        })
    }

    /// The next lines that are not blank; none at the end of the file.
    fn next_batch(&mut self) -> Result<Vec<Line>, CorpusError> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < BATCH_LINES && size < BATCH_BYTES {
            let mut bytes = Vec::new();
            let read = (&mut self.reader)
                .take(MAX_LINE)
                .read_until(b'\n', &mut bytes)
                .map_err(|error| CorpusError::file(self.file, format!("failed to read the corpus file: {error}")))?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if read as u64 == MAX_LINE {
                let error = RecordError {
                    field: String::new(),
                    reason: "the line is longer than 1 GiB".to_owned(),
                    help: None,
                };
                return Err(CorpusError::at(self.file, self.number, error));
            }
            size += read;
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                batch.push(Line {
                    number: self.number,
                    bytes,
                });
            }
        }
        Ok(batch)
    }

    /// The error, or a better one if the file is not text at all.
    fn better(&self, line: u64, error: RecordError) -> RecordError {
        match self.other_format {
            Some(what) if line == 1 => RecordError {
                field: String::new(),
                reason: format!("the file is {what}"),
                help: None,
            },
            _ => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    fn record(id: usize) -> String {
        format!(
            r#"{{"id": {id}, "text": "in Köln .", "tokens": ["in", "Köln", "."], "token_spans": [{{"start": 1, "end": 2, "label": "city"}}]}}"#
        )
    }

    fn ids(content: &[u8]) -> Result<(Vec<String>, Counts), CorpusError> {
        let mut ids = Vec::new();
        let counts = read(
            file(content).path(),
            "corpus.jsonl",
            |record| Ok(record.id.clone()),
            |id| {
                ids.push(id);
                Ok::<_, CorpusError>(())
            },
        )?;
        Ok((ids, counts))
    }

    #[test]
    fn records_come_in_order_across_batches() {
        let count = 2 * BATCH_LINES + 100;
        let lines: String = (0..count).map(|id| record(id) + "\n").collect();
        let (ids, counts) = ids(lines.as_bytes()).unwrap();
        assert_eq!(ids, (0..count).map(|id| id.to_string()).collect::<Vec<_>>());
        let n = count as u64;
        let expected = Counts {
            sentences: n,
            words: 3 * n,
            entities: n,
            derived_spans: n,
            ..Counts::default()
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn byte_order_mark_crlf_and_blank_lines_are_fine_and_lines_are_counted() {
        let content = format!("\u{feff}{}\r\n\r\n  \n{}", record(1), record(2));
        assert_eq!(ids(content.as_bytes()).unwrap().0, ["1", "2"]);
        let wrong = ids(format!("{content}\n{{}}\n").as_bytes()).unwrap_err();
        assert_eq!(wrong.to_string(), "corpus.jsonl:5: `text`: the field is missing");
    }

    #[test]
    fn the_first_wrong_line_is_reported_whatever_the_threads() {
        let mut lines: Vec<String> = (0..3000).map(record).collect();
        lines[700] = "{".to_owned();
        lines[701] = "[".to_owned();
        lines[2500] = "}".to_owned();
        for _ in 0..5 {
            assert_eq!(ids(lines.join("\n").as_bytes()).unwrap_err().line, Some(701));
        }
    }

    #[test]
    fn files_without_records_or_of_another_format_are_errors() {
        for content in [&b""[..], b"\n \n", b"\xef\xbb\xbf"] {
            assert_eq!(
                ids(content).unwrap_err().to_string(),
                "corpus.jsonl: there are no records in the file"
            );
        }
        let gzip = ids(b"\x1f\x8b\x08\x00abc").unwrap_err();
        assert_eq!(
            gzip.to_string(),
            "corpus.jsonl:1: the file is gzip data; unpack it first"
        );
        let error = read(Path::new("/"), "dir", |_| Ok::<_, CorpusError>(()), |()| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "dir: the corpus file is not a regular file");
    }

    /// Real corpora under `NERPIPE_CORPORA` are read without a complaint.
    #[test]
    fn real_corpora_are_read() {
        let Some(root) = std::env::var_os("NERPIPE_CORPORA") else {
            return;
        };
        let mut sentences = 0;
        for corpus in std::fs::read_dir(Path::new(&root).join("ner")).unwrap() {
            let folder = corpus.unwrap().path();
            for split in ["train", "validation", "test"] {
                let path = folder.join(format!("{split}.jsonl"));
                if path.exists() {
                    let name = path.display().to_string();
                    let counts = read(&path, &name, |_| Ok::<_, CorpusError>(()), |()| Ok(())).unwrap();
                    sentences += counts.sentences;
                }
            }
        }
        println!("{sentences} sentences");
        assert!(sentences > 0);
    }

    /// The files of `fixtures/malformed` under `NERPIPE_CORPORA`: each ends as its `expect.json` says.
    #[test]
    fn malformed_files_end_as_expected() {
        let Some(root) = std::env::var_os("NERPIPE_CORPORA") else {
            return;
        };
        let folder = Path::new(&root).join("fixtures/malformed");
        let expectations: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&std::fs::read(folder.join("expect.json")).unwrap()).unwrap();
        let mut different = Vec::new();
        for (name, expected) in &expectations {
            let found = read(&folder.join(name), name, |_| Ok::<_, CorpusError>(()), |()| Ok(()));
            let line = expected["line"].as_u64();
            let right = match (&found, expected["expect"].as_str().unwrap()) {
                (Ok(counts), "accept" | "either") => expected["records"]
                    .as_u64()
                    .is_none_or(|records| records == counts.sentences),
                (Err(error), "error" | "either") => {
                    error.line == line && line.is_none_or(|line| error.to_string().contains(&format!("{name}:{line}")))
                }
                _ => false,
            };
            if !right {
                different.push(format!("{name}: expected {expected}, found {found:?}"));
            }
        }
        println!("{} malformed files", expectations.len());
        assert!(expectations.len() >= 100, "only {} expectations", expectations.len());
        assert!(different.is_empty(), "{}", different.join("\n"));
        let error = read(
            &folder.join("_dir.jsonl"),
            "_dir.jsonl",
            |_| Ok::<_, CorpusError>(()),
            |()| Ok(()),
        );
        assert!(error.is_err());
    }
}
