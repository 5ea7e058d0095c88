//! Streaming a source: pieces are cut in order, records parsed side by side, results handed out in order.

use std::path::Path;

use nerpipe_engine::StageError;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::formats::{Conll, Gliner, Jsonl, Tables};
use super::parse::{Notes, RecordError};
use super::source::{Format, Source};
use super::{Origin, Record};

/// What a source holds, and what was settled by rule while it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Records without an id, in a format that has ids.
    pub made_ids: u64,
    /// Lines of a column file whose token is empty and whose tag is `O`, which are left out.
    pub empty_tokens: u64,
    /// Records whose `# text` does not hold their tokens, so that the tokens make up the text.
    pub joined_texts: u64,
    /// Entities that begin with a `B-`, `S-` or `U-` where no entity of their type stands before them.
    pub marked_begins: u64,
    /// Entities that begin with another prefix, as IOB1 has it.
    pub bare_begins: u64,
}

impl Counts {
    /// Adds a record that was read.
    pub fn record(&mut self, record: &Record, notes: Notes) {
        self.sentences += 1;
        self.words += record.tokens.len() as u64;
        self.entities += record.token_spans.len() as u64;
        self.duplicate_spans += notes.duplicate_spans;
        self.derived_spans += u64::from(notes.derived_spans);
        self.made_ids += u64::from(notes.made_id);
        self.empty_tokens += notes.empty_tokens;
        self.joined_texts += u64::from(notes.joined_text);
        self.marked_begins += notes.marked_begins;
        self.bare_begins += notes.bare_begins;
    }

    /// What was settled by rule, by the names that people are shown; only what happened.
    pub fn settled(&self) -> impl Iterator<Item = (&'static str, u64)> {
        // A file in IOB1 has no marked begins; where there are both, an inside tag that begins an entity is odd.
        let stray = if self.marked_begins > 0 { self.bare_begins } else { 0 };
        [
            ("duplicate_spans_dropped", self.duplicate_spans),
            ("records_with_derived_spans", self.derived_spans),
            ("ids_made_up", self.made_ids),
            ("empty_tokens_left_out", self.empty_tokens),
            ("texts_made_of_tokens", self.joined_texts),
            ("entities_begun_by_inside_tags", stray),
        ]
        .into_iter()
        .filter(|(_, count)| *count > 0)
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
        self.empty_tokens += other.empty_tokens;
        self.joined_texts += other.joined_texts;
        self.marked_begins += other.marked_begins;
        self.bare_begins += other.bare_begins;
    }
}

/// What is wrong with a corpus file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{file}{}: {}{reason}", shown_place(*line, *row), shown_field(field))]
pub struct CorpusError {
    /// The file as the user named it.
    pub file: String,
    /// The line, counted from 1; none in a file that has no lines, or if the whole file is meant.
    pub line: Option<u64>,
    /// The row, counted from 0 as `datasets` does, in a table; none in other files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<u64>,
    /// The field, such as `char_spans[1].end`; empty if none is meant.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub help: Option<String>,
    /// What else is wrong with the same record.
    #[serde(skip)]
    pub also: Vec<CorpusError>,
}

fn shown_place(line: Option<u64>, row: Option<u64>) -> String {
    match (line, row) {
        (Some(line), _) => format!(":{line}"),
        (None, Some(row)) => format!(": row {row}"),
        (None, None) => String::new(),
    }
}

fn shown_field(field: &str) -> String {
    if field.is_empty() {
        String::new()
    } else {
        format!("`{field}`: ")
    }
}

impl CorpusError {
    /// What is wrong with a file as a whole.
    pub fn new(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::file(file, reason)
    }

    pub(crate) fn file(file: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            line: None,
            row: None,
            field: String::new(),
            reason: reason.into(),
            help: None,
            also: Vec::new(),
        }
    }

    pub(super) fn at(file: &str, line: u64, error: RecordError) -> Self {
        Self::of(file, error).placed(&|error| error.line = Some(line))
    }

    pub(super) fn of(file: &str, error: RecordError) -> Self {
        let RecordError {
            field,
            reason,
            help,
            also,
        } = error;
        Self {
            field,
            help,
            also: also.into_iter().map(|error| Self::of(file, error)).collect(),
            ..Self::file(file, reason)
        }
    }

    pub(super) fn row(self, row: u64) -> Self {
        self.placed(&|error| error.row = Some(row))
    }

    /// Says where the record is.
    fn placed(mut self, place: &impl Fn(&mut Self)) -> Self {
        place(&mut self);
        self.also.iter_mut().for_each(place);
        self
    }

    /// Several problems of one record, of which there is at least one: the first, with the others beside it.
    pub(super) fn join(problems: Vec<Self>) -> Self {
        let mut problems = problems.into_iter();
        let first = problems.next();
        let mut first = first.unwrap_or_else(|| Self::file("", "the record is wrong"));
        first.also.extend(problems);
        first
    }

    /// This problem and the others of its record.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.also)
    }

    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(help.into()),
            ..self
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

/// Hands out the pieces of a source in order, each of which holds one record.
pub(super) trait Reader: Sync {
    /// What one record is made from.
    type Piece: Send + Sync;

    /// The next pieces; none at the end.
    ///
    /// # Errors
    /// What makes reading on impossible.
    fn next_batch(&mut self) -> Result<Vec<Self::Piece>, CorpusError>;

    /// The record of a piece.
    ///
    /// # Errors
    /// All that is wrong with it.
    fn parse(&self, piece: &Self::Piece) -> Result<(Record, Notes), CorpusError>;

    /// What is wrong with the record of a piece, with the place that it has in its file.
    fn about(&self, piece: &Self::Piece, error: RecordError) -> CorpusError;
}

/// A record that was read, with what was settled by rule, or what is wrong with it.
pub type Parsed = Result<(Record, Notes), CorpusError>;

/// Reads the JSONL file `path`, called `file` in messages, as [`read_source`] does.
///
/// # Errors
/// As [`read_source`].
pub fn read<T: Send, E: From<CorpusError> + Send>(
    path: &Path,
    file: &str,
    work: impl Fn(&Record) -> Result<T, E> + Sync,
    take: impl FnMut(T) -> Result<(), E>,
) -> Result<Counts, E> {
    let source = Source {
        name: file.to_owned(),
        path: path.to_owned(),
        format: Format::Jsonl,
        ..Source::default()
    };
    read_source(&source, work, take)
}

/// Reads a source. `work` is applied to the records side by side; `take` gets its results one after the other, in the
/// order of the records. Memory stays constant, whatever the source's length.
///
/// # Errors
/// The first record that is wrong, in their order, or what `work` or `take` fail with; also if the source cannot be
/// read or holds no record.
pub fn read_source<T: Send, E: From<CorpusError> + Send>(
    source: &Source,
    work: impl Fn(&Record) -> Result<T, E> + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<Counts, E> {
    let mut counts = Counts::default();
    scan(
        source,
        |parsed, _| -> Result<(Counts, T), E> {
            let (record, notes) = parsed?;
            let mut counts = Counts::default();
            counts.record(&record, notes);
            Ok((counts, work(&record)?))
        },
        |result| {
            let (of_record, value) = result?;
            counts += of_record;
            take(value)
        },
    )?;
    Ok(counts)
}

/// Makes an error of what somebody finds wrong with a record: one that says where the record is.
pub type Blame<'a> = &'a dyn Fn(RecordError) -> CorpusError;

/// Reads a source to its end, however many records are wrong. `work` gets each record, or what is wrong with it, side by
/// side with others, and a way to blame the record for what is found later; `take` gets its results in the order of the records.
///
/// # Errors
/// What makes reading on impossible, and what `take` fails with; also if the source holds no record.
pub fn scan<T: Send, E: From<CorpusError>>(
    source: &Source,
    work: impl Fn(Parsed, Blame<'_>) -> T + Sync,
    take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let default = &source.origin;
    match source.format {
        Format::Jsonl => pump(Jsonl::open(source)?, source, default, work, take),
        Format::Conll => pump(Conll::open(source)?, source, default, work, take),
        Format::Gliner => pump(Gliner::open(source)?, source, default, work, take),
        Format::Arrow | Format::Parquet | Format::Dataset => pump(Tables::open(source)?, source, default, work, take),
    }
}

fn pump<R: Reader, T: Send, E: From<CorpusError>>(
    mut reader: R,
    source: &Source,
    default: &Origin,
    work: impl Fn(Parsed, Blame<'_>) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let mut any = false;
    loop {
        let batch = reader.next_batch()?;
        if batch.is_empty() {
            break;
        }
        any = true;
        let results: Vec<T> = batch
            .par_iter()
            .map(|piece| {
                let parsed = reader.parse(piece).map(|(mut record, notes)| {
                    let Origin { language, dataset } = default;
                    if record.origin.language.is_none() {
                        record.origin.language.clone_from(language);
                    }
                    if record.origin.dataset.is_none() {
                        record.origin.dataset.clone_from(dataset);
                    }
                    (record, notes)
                });
                work(parsed, &|error| reader.about(piece, error))
            })
            .collect();
        for result in results {
            take(result)?;
        }
    }
    if any {
        return Ok(());
    }
    let what = match source.format {
        Format::Dataset => "there are no records in the split",
        _ => "there are no records in the file",
    };
    let error = CorpusError::file(&source.name, what);
    Err(match source.format {
        Format::Jsonl => error.help("a corpus file needs a record a line"),
        Format::Conll => {
            error.help("a column file needs a token and its tag a line, and a blank line after each sentence")
        }
        _ => error,
    }
    .into())
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
        let count = 3000;
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
        // The end of a line is no part of a string that is cut off.
        for end in ["\n", "\r\n", ""] {
            let cut = ids(format!("{}{end}", &record(1)[..20]).as_bytes()).unwrap_err();
            assert_eq!(
                cut.help.as_deref(),
                Some("the line is cut off; copy the file again"),
                "{cut}"
            );
        }
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
}
