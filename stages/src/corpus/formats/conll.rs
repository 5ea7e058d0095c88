//! Column files: a token and its tag a line, a blank line after each sentence.
//!
//! - Columns are parted by tabs if the file's first lines have any, else by blanks. Which of them hold token and tag is told
//!   by `# global.columns`, or by what they hold: the token is in the first column, or in the second if the first counts
//!   tokens (1, 2, 3, …); the tag is in the last one that holds nothing but tags. [`Columns`] says it outright.
//! - A tag is `O`, or a prefix and the type after the first dash: `B` `I` (IOB1, IOB2), `E` `S` (IOBES), `L` `U` (BILOU), `M`
//!   (BMES), in capitals or not. All are read by one rule, conlleval's: an entity begins at `B`, `S` and `U`, and at
//!   every other prefix if no entity of this type is open; it ends before the next one, before `O`, and after `E`, `L`,
//!   `S` and `U`.
//! - Lines before a sentence's first token that read `# key = value` are comments; so is any line there that begins with
//!   `#` and has no tag. `sent_id` is the record's id, `text` its text if that holds the tokens, `language`
//!   (or `lang`) and `dataset` say where it comes from. Without a text the tokens make it up, joined by blanks.
//! - A line whose token is `-DOCSTART-` parts documents and is left out.
//! - A line without a token is left out if its tag is `O`.
//! - If the first column counts tokens, ranges (`1-2`) and empty nodes (`3.1`) are left out, as CoNLL-U has them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::Record;
use super::super::check::{check, holds, is_space, show};
use super::super::parse::{Id, Notes, RawRecord, RawSpan, RecordError, utf8};
use super::super::read::{CorpusError, Reader};
use super::super::source::Source;
use super::lines::{BATCH_BYTES, BATCH_RECORDS, MAX_RECORD, TextFile};

/// The mark between documents.
const DOCUMENT: &str = "-DOCSTART-";
/// Lines that the layout is told by.
const SAMPLE: usize = 2000;

/// The columns to read, where they are not to be told by what the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The column of the token.
    #[serde(default)]
    pub token: Option<Column>,
    /// The column of the tag.
    #[serde(default)]
    pub tag: Option<Column>,
}

/// A column: its number from 1, or from the end (-1), or its name in `# global.columns`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Column {
    /// The number, from 1; below 0 it counts from the end.
    Number(i64),
    /// The name.
    Name(String),
}

/// Where a column is in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Counted from 0.
    FromStart(usize),
    /// Counted from 1, backwards.
    FromEnd(usize),
}

impl Place {
    fn of<'a>(self, columns: &[&'a str]) -> Option<&'a str> {
        match self {
            Self::FromStart(place) => columns.get(place).copied(),
            Self::FromEnd(place) => columns.len().checked_sub(place).map(|place| columns[place]),
        }
    }

    fn shown(self) -> String {
        match self {
            Self::FromStart(place) => format!("column {}", place + 1),
            Self::FromEnd(1) => "the last column".to_owned(),
            Self::FromEnd(place) => format!("column {place} from the end"),
        }
    }
}

/// How a file's lines are read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    /// Whether tabs part the columns; else blanks do.
    tabs: bool,
    token: Place,
    tag: Place,
    /// Whether the first column counts tokens.
    numbered: bool,
}

/// The lines of a sentence.
pub(in super::super) struct Sentence {
    /// The number of its first line.
    line: u64,
    bytes: Vec<u8>,
}

/// Reads records from a column file.
pub(in super::super) struct Conll {
    file: TextFile,
    layout: Layout,
}

impl Conll {
    pub(in super::super) fn open(source: &Source) -> Result<Self, CorpusError> {
        let (file, head, whole) = TextFile::open(&source.path, &source.name)?;
        let layout = Layout::of(&head, whole, &source.columns).map_err(|error| CorpusError::of(&source.name, error))?;
        Ok(Self { file, layout })
    }

    fn next_sentence(&mut self) -> Result<Option<Sentence>, CorpusError> {
        let mut sentence = Sentence {
            line: self.file.number + 1,
            bytes: Vec::new(),
        };
        let mut has_tokens = false;
        loop {
            let start = sentence.bytes.len();
            let read = self.file.line(&mut sentence.bytes)?;
            let line = &sentence.bytes[start..];
            let document = line.starts_with(DOCUMENT.as_bytes());
            if read.is_none() || document || is_blank(line) {
                sentence.bytes.truncate(start);
                if has_tokens {
                    return Ok(Some(sentence));
                }
                if read.is_none() {
                    return Ok(None);
                }
                sentence.line = self.file.number + 1;
                sentence.bytes.clear();
                continue;
            }
            has_tokens = has_tokens || !self.layout.is_comment(line);
            if sentence.bytes.len() as u64 > MAX_RECORD {
                let error = RecordError::new("", "the sentence is longer than 1 GiB")
                    .help("a blank line must stand between sentences");
                return Err(self.file.at(sentence.line, error));
            }
        }
    }
}

/// Whether a line parts sentences. No-break spaces and such do not: they may be tokens.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

impl Reader for Conll {
    type Piece = Sentence;

    fn next_batch(&mut self) -> Result<Vec<Sentence>, CorpusError> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < BATCH_RECORDS && size < BATCH_BYTES {
            let Some(sentence) = self.next_sentence()? else { break };
            size += sentence.bytes.len();
            batch.push(sentence);
        }
        Ok(batch)
    }

    fn parse(&self, sentence: &Sentence) -> Result<(Record, Notes), CorpusError> {
        self.layout.record(sentence).map_err(|wrong| {
            let wrong = wrong.into_iter().map(|(line, error)| self.file.at(line, error));
            CorpusError::join(wrong.collect())
        })
    }

    fn about(&self, sentence: &Sentence, error: RecordError) -> CorpusError {
        self.file.at(sentence.line, error)
    }
}

impl Layout {
    /// The layout that the beginning of a file tells, as far as `columns` does not.
    fn of(head: &[u8], whole: bool, columns: &Columns) -> Result<Self, RecordError> {
        let text = String::from_utf8_lossy(head);
        let end = if whole {
            text.len()
        } else {
            text.rfind('\n').unwrap_or(text.len())
        };
        let lines = || {
            text[..end]
                .lines()
                .take(SAMPLE)
                .filter(|line| !is_blank(line.as_bytes()))
        };
        let names: Vec<&str> = lines()
            .find_map(|line| line.strip_prefix("# global.columns"))
            .and_then(|rest| rest.trim_start().strip_prefix('='))
            .map(|names| names.split_whitespace().collect())
            .unwrap_or_default();
        let tabs = lines().any(|line| line.contains('\t') && comment(line).is_none());
        let rows: Vec<Vec<&str>> = lines()
            .filter(|line| !(line.starts_with(DOCUMENT) || comment(line).is_some()))
            .map(|line| split(line, tabs))
            .collect();

        let numbered = names.first().is_none_or(|name| *name == "ID") && counts_tokens(&rows);
        let rows: Vec<&Vec<&str>> = rows
            .iter()
            .filter(|row| !numbered || row[0].bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        let token = match &columns.token {
            Some(column) => column.place("columns.token", &names)?,
            None => match names.iter().position(|name| *name == "FORM") {
                Some(place) => Place::FromStart(place),
                None => Place::FromStart(usize::from(numbered)),
            },
        };
        let tag = match &columns.tag {
            Some(column) => column.place("columns.tag", &names)?,
            None => match names.iter().position(|name| name.to_uppercase().contains("NER")) {
                Some(place) => Place::FromStart(place),
                None => tag_column(&rows, token),
            },
        };
        Ok(Self {
            tabs,
            token,
            tag,
            numbered,
        })
    }

    /// Whether a line that stands before a sentence's first token is a comment.
    fn is_comment(&self, line: &[u8]) -> bool {
        let Ok(line) = std::str::from_utf8(line) else {
            return false;
        };
        if !line.starts_with('#') {
            return false;
        }
        let has_tag = || {
            self.tag
                .of(&split(line, self.tabs))
                .is_some_and(|tag| Tag::of(tag).is_ok())
        };
        comment(line).is_some() || split(line, self.tabs).len() < 2 || !has_tag()
    }

    /// The record of a sentence, or all that is wrong with it, and on which lines.
    fn record(&self, sentence: &Sentence) -> Result<(Record, Notes), Vec<(u64, RecordError)>> {
        let mut raw = RawRecord::default();
        let mut notes = Notes::default();
        let mut spans = Spans::default();
        let mut lines_of_spans = Vec::new();
        let mut wrong = Vec::new();
        let lines = sentence.bytes.split(|&byte| byte == b'\n');
        for (number, bytes) in (sentence.line..).zip(lines) {
            if bytes.is_empty() {
                continue;
            }
            let line = match utf8(bytes) {
                Ok(line) => line.strip_suffix('\r').unwrap_or(line),
                Err(error) => {
                    wrong.push((number, error));
                    continue;
                }
            };
            if raw.tokens.is_empty() && wrong.is_empty() && self.is_comment(bytes) {
                if let Some((key, value)) = comment(line) {
                    match key {
                        "sent_id" => raw.id = Some(Id(value.to_owned())),
                        "text" => raw.text = value.to_owned(),
                        "language" | "lang" => raw.language = Some(value.to_owned()),
                        "dataset" => raw.dataset = Some(value.to_owned()),
                        _ => {}
                    }
                }
                continue;
            }
            match self.token(line) {
                Ok(None) => {}
                Ok(Some((token, _))) if token.chars().all(is_space) => notes.empty_tokens += 1,
                Ok(Some((token, tag))) => {
                    if spans.push(raw.tokens.len() as u32, tag, &mut notes) {
                        lines_of_spans.push(number);
                    }
                    raw.tokens.push(token.to_owned());
                }
                Err(error) => wrong.push((number, error)),
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        if raw.tokens.is_empty() {
            let error = RecordError::new("token", "no line of the sentence has a token").help("remove the sentence");
            return Err(vec![(sentence.line, error)]);
        }
        if !holds(&raw.text, &raw.tokens) {
            notes.joined_text = !raw.text.is_empty();
            raw.text = raw.tokens.join(" ");
        }
        raw.id.get_or_insert_with(|| Id(format!("line-{}", sentence.line)));
        raw.token_spans = Some(spans.done);
        let (record, _) = check(raw, sentence.line).map_err(|error| {
            // Tokens and places were made here, so only labels and an origin can be wrong.
            let place = |error: RecordError| {
                let index = error
                    .field
                    .strip_prefix("token_spans[")
                    .and_then(|rest| rest.split(']').next());
                let line = index.and_then(|index| lines_of_spans.get(index.parse::<usize>().ok()?));
                match line {
                    Some(&line) => (
                        line,
                        RecordError {
                            field: "tag".to_owned(),
                            ..error
                        },
                    ),
                    None => (sentence.line, error),
                }
            };
            error.apart().into_iter().map(place).collect::<Vec<_>>()
        })?;
        Ok((record, notes))
    }

    /// The token of a line and its tag; none if the line is about something else. An empty token has the tag `O`.
    fn token<'a>(&self, line: &'a str) -> Result<Option<(&'a str, Tag<'a>)>, RecordError> {
        let columns = split(line, self.tabs);
        if self.numbered && columns.first().is_some_and(|id| id.contains(['-', '.'])) {
            return Ok(None);
        }
        let tag = self.column(self.tag, "tag", &columns)?;
        let token = self.column(self.token, "token", &columns)?;
        let tag = Tag::of(tag)?;
        if token.chars().all(is_space) && tag != Tag::Outside {
            let error = RecordError::new("token", "there is no token, but its tag is not `O`");
            return Err(error.help("remove the line, or give it a token"));
        }
        Ok(Some((token, tag)))
    }

    fn column<'a>(&self, place: Place, what: &str, columns: &[&'a str]) -> Result<&'a str, RecordError> {
        place.of(columns).filter(|_| columns.len() > 1).ok_or_else(|| {
            let count = columns.len();
            let parted = if self.tabs { "tabs" } else { "blanks" };
            let plural = if count == 1 { "" } else { "s" };
            RecordError::new(
                what,
                format!(
                    "the line has {count} column{plural} (parted by {parted}), but the {what} is expected in {}",
                    place.shown()
                ),
            )
            .help("every line needs a token and its tag; say which columns hold them by `columns: {token: 1, tag: -1}`")
        })
    }
}

impl Column {
    fn place(&self, field: &str, names: &[&str]) -> Result<Place, RecordError> {
        let wrong = |reason: String| Err(RecordError::new(field, reason));
        match self {
            Self::Number(0) => wrong("columns are counted from 1".to_owned()),
            Self::Number(number) => {
                let place = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
                Ok(if *number > 0 {
                    Place::FromStart(place - 1)
                } else {
                    Place::FromEnd(place)
                })
            }
            Self::Name(name) => match names.iter().position(|known| known == name) {
                Some(place) => Ok(Place::FromStart(place)),
                None if names.is_empty() => wrong(format!(
                    "the column is called `{name}`, but the file has no `# global.columns`"
                )),
                None => wrong(format!("there is no column `{name}`; there are {}", names.join(", "))),
            },
        }
    }
}

/// The columns of a line, without the white space around them.
fn split(line: &str, tabs: bool) -> Vec<&str> {
    let blank = |c: char| c.is_ascii_whitespace();
    let line = line.trim_end_matches(['\r', '\n']);
    if tabs {
        line.split('\t').map(|column| column.trim_matches(blank)).collect()
    } else {
        line.split(blank).filter(|column| !column.is_empty()).collect()
    }
}

/// Key and value of a line that reads `# key = value`.
fn comment(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.strip_prefix('#')?.split_once('=')?;
    // `#love=hate` is a word.
    if !(key.starts_with(' ') || key.ends_with(' ')) {
        return None;
    }
    let key = key.trim();
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':' | ' ' | '-');
    (key.starts_with(char::is_alphabetic) && key.chars().all(is_name)).then(|| (key, value.trim()))
}

/// Whether a line that begins with this token parts documents.
pub(in super::super) fn is_document(token: &str) -> bool {
    token.starts_with(DOCUMENT)
}

/// Whether a sentence's first line would be a comment if it began with this token.
pub(in super::super) fn begins_like_comment(token: &str) -> bool {
    comment(token).is_some()
}

/// Whether the first column counts the tokens of each sentence. `rows` may run through several sentences.
fn counts_tokens(rows: &[Vec<&str>]) -> bool {
    let mut last = 0u64;
    let mut counted = 0;
    for row in rows {
        if row.len() < 3 {
            return false;
        }
        let is_extra =
            |id: &str| id.contains(['-', '.']) && id.split(['-', '.']).all(|part| part.parse::<u64>().is_ok());
        match row[0].parse::<u64>() {
            Ok(1) => last = 1,
            Ok(id) if id == last + 1 => last = id,
            Err(_) if is_extra(row[0]) => continue,
            _ => return false,
        }
        counted += 1;
    }
    counted > 0
}

/// The last column that holds nothing but tags; the last one of all if there is none.
fn tag_column(rows: &[&Vec<&str>], token: Place) -> Place {
    let last = Place::FromEnd(1);
    let width = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    // A line that is too short is told of when it is read.
    let holds_tags = |place: Place| {
        let mut tags = rows
            .iter()
            .filter(|row| row.len() > 1)
            .filter_map(|row| place.of(row))
            .peekable();
        tags.peek().is_some() && tags.all(|tag| Tag::of(tag).is_ok())
    };
    let candidates = (0..width).rev().map(Place::FromStart).filter(|place| *place != token);
    std::iter::once(last)
        .chain(candidates)
        .find(|place| holds_tags(*place))
        .unwrap_or(last)
}

/// A tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tag<'a> {
    /// `O`.
    Outside,
    /// `B-…`, `S-…`, `U-…`: an entity begins here whatever came before, and with all but `B` it also ends here.
    Begin { label: &'a str, ends: bool },
    /// `I-…`, `M-…`, `E-…`, `L-…`: an entity goes on, if there is one; with the last two it ends here.
    Inside { label: &'a str, ends: bool },
}

impl<'a> Tag<'a> {
    fn of(tag: &'a str) -> Result<Self, RecordError> {
        if tag.eq_ignore_ascii_case("o") {
            return Ok(Self::Outside);
        }
        let wrong = |reason: String| {
            RecordError::new("tag", reason).help("a tag is `O`, or `B-`, `I-`, `E-`, `S-`, … and the entity's type")
        };
        let Some((prefix, label)) = tag.split_once('-') else {
            return Err(wrong(format!("the tag {} has no prefix", show(tag))));
        };
        if label.is_empty() {
            return Err(wrong(format!("the tag {} names no type", show(tag))));
        }
        match prefix {
            "B" | "b" => Ok(Self::Begin { label, ends: false }),
            "S" | "s" | "U" | "u" => Ok(Self::Begin { label, ends: true }),
            "I" | "i" | "M" | "m" => Ok(Self::Inside { label, ends: false }),
            "E" | "e" | "L" | "l" => Ok(Self::Inside { label, ends: true }),
            _ => Err(wrong(format!(
                "the tag {} has the unknown prefix {}",
                show(tag),
                show(prefix)
            ))),
        }
    }
}

/// Puts spans together from tags.
#[derive(Default)]
pub(super) struct Spans {
    pub(super) done: Vec<RawSpan>,
    /// Whether the last span may go on.
    open: bool,
}

impl Spans {
    /// Adds the tag of the token `place`, and says whether a span begins there.
    fn push(&mut self, place: u32, tag: Tag<'_>, notes: &mut Notes) -> bool {
        let (label, ends, marked) = match tag {
            Tag::Outside => {
                self.open = false;
                return false;
            }
            Tag::Begin { label, ends } => (label, ends, true),
            Tag::Inside { label, ends } => (label, ends, false),
        };
        let open = match self.done.last_mut() {
            Some(span) if self.open && span.label == label => Some(span),
            _ => None,
        };
        self.open = !ends;
        match open {
            Some(span) if !marked => {
                span.end = place + 1;
                false
            }
            neighbour => {
                // IOB1 marks a begin only behind a neighbour of the same type.
                notes.marked_begins += u64::from(marked && neighbour.is_none());
                notes.bare_begins += u64::from(!marked);
                self.done.push(RawSpan {
                    start: place,
                    end: place + 1,
                    label: label.to_owned(),
                });
                true
            }
        }
    }

    /// Adds the tag of the token `place`, as text.
    pub(super) fn push_text(&mut self, place: u32, tag: &str, notes: &mut Notes) -> Result<(), RecordError> {
        self.push(place, Tag::of(tag)?, notes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::source::{Format, Source};
    use super::super::super::testing::{Read, read_all, read_counted, records};

    fn read(content: &str) -> Read {
        read_all(content.as_bytes(), "c.conll", Format::Conll)
    }

    fn spans(content: &str) -> Vec<(u32, u32, String)> {
        let records = read(content).unwrap();
        let spans = records.into_iter().flat_map(|record| record.token_spans);
        spans.map(|span| (span.start, span.end, span.label)).collect()
    }

    fn labelled(spans: &[(u32, u32, &str)]) -> Vec<(u32, u32, String)> {
        spans
            .iter()
            .map(|&(start, end, label)| (start, end, label.to_owned()))
            .collect()
    }

    #[test]
    fn every_scheme_gives_the_same_entities() {
        // A is two persons side by side, one of two tokens; then a place.
        let expected = labelled(&[(0, 2, "PER"), (2, 3, "PER"), (4, 5, "LOC")]);
        for tags in [
            ["I-PER", "I-PER", "B-PER", "O", "I-LOC"],
            ["B-PER", "I-PER", "B-PER", "O", "B-LOC"],
            ["B-PER", "E-PER", "S-PER", "O", "S-LOC"],
            ["B-PER", "L-PER", "U-PER", "O", "U-LOC"],
            ["b-PER", "i-PER", "b-PER", "o", "b-LOC"],
        ] {
            let lines: Vec<String> = tags
                .iter()
                .zip("abcde".chars())
                .map(|(tag, token)| format!("{token}\t{tag}\n"))
                .collect();
            assert_eq!(spans(&lines.concat()), expected, "{tags:?}");
        }
        assert_eq!(
            spans("a B-x\nb M-x\nc E-x\nd I-x\n"),
            labelled(&[(0, 3, "x"), (3, 4, "x")])
        );
        assert_eq!(spans("a I-x\nb I-y\n"), labelled(&[(0, 1, "x"), (1, 2, "y")]));
        assert_eq!(spans("a B-creative-work\n"), labelled(&[(0, 1, "creative-work")]));
    }

    #[test]
    fn columns_are_found_by_what_they_hold() {
        let four = "EU NNP I-NP I-ORG\nrejects VBZ I-VP O\n";
        assert_eq!(spans(four), labelled(&[(0, 1, "ORG")]));
        let numbered =
            "1\tAna\tB-PER\t-\tann\n2-3\tdos\t_\t_\t_\n2\tviu\tO\t-\tO\n3\tLisboa\tB-LOC\t-\tann\n\n1\tx\tO\t-\t-\n";
        let records = read(numbered).unwrap();
        assert_eq!(records[0].text, "Ana viu Lisboa");
        assert_eq!(spans(numbered), labelled(&[(0, 1, "PER"), (2, 3, "LOC")]));
        let named = "# global.columns = LEMMA FORM CONLL:NER X\nx\ta b\tB-T\tO\n";
        assert_eq!(read(named).unwrap()[0].tokens, ["a b"]);
        assert_eq!(spans(named), labelled(&[(0, 1, "T")]));
        assert_eq!(spans("a x B-T\nb O\nc x y O\n"), labelled(&[(0, 1, "T")]));
    }

    #[test]
    fn columns_can_be_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c");
        let read = |content: &str, columns: serde_json::Value| {
            std::fs::write(&path, content).unwrap();
            let columns = serde_json::from_value(columns).unwrap();
            let source = Source {
                name: "c".to_owned(),
                path: path.clone(),
                format: Format::Conll,
                columns,
                ..Source::default()
            };
            records(&source).map(|(records, _)| records[0].clone())
        };
        let record = read("B-x a O b\n", serde_json::json!({"token": 4, "tag": -4})).unwrap();
        assert_eq!((record.text.as_str(), record.token_spans[0].label.as_str()), ("b", "x"));
        let record = read(
            "# global.columns = A B C\na O B-x\n",
            serde_json::json!({"token": "A", "tag": "B"}),
        )
        .unwrap();
        assert!(record.token_spans.is_empty());
        let error = |content, columns| read(content, columns).unwrap_err().to_string();
        assert_eq!(
            error("a O\n", serde_json::json!({"tag": 0})),
            "c: `columns.tag`: columns are counted from 1"
        );
        assert_eq!(
            error("a O\n", serde_json::json!({"tag": "NER"})),
            "c: `columns.tag`: the column is called `NER`, but the file has no `# global.columns`"
        );
        assert!(
            error("a O\n", serde_json::json!({"tag": 3})).starts_with(
                "c:1: `tag`: the line has 2 columns (parted by blanks), but the tag is expected in column 3"
            )
        );
    }

    #[test]
    fn comments_documents_and_blank_lines_are_no_tokens() {
        let content = "\u{feff}# newdoc id = d\r\n# sent_id = s1\r\n# text = in Köln.\r\n# lang = de\r\nin\tO\r\nKöln\tB-LOC\r\n.\tO\r\n\t\r\n-DOCSTART-\tO\r\n\r\n# text = other\r\n#\tO\r\n#tag\tB-x\r\n# dataset = y\tO\r\n";
        let (records, counts) = read_counted(content.as_bytes(), "c.conll", Format::Conll).unwrap();
        assert_eq!((records[0].id.as_str(), records[0].text.as_str()), ("s1", "in Köln."));
        assert_eq!(records[0].origin.language.as_deref(), Some("de"));
        assert_eq!(records[1].tokens, ["#", "#tag", "# dataset = y"]);
        assert_eq!(
            (records[1].id.as_str(), records[1].token_spans[0].label.as_str()),
            ("line-11", "x")
        );
        assert_eq!((counts.sentences, counts.joined_texts), (2, 1));
        let words = read("#love=hate\tO\n\n#a\tB-x\n").unwrap();
        assert_eq!(
            (words[0].tokens[0].as_str(), words[1].tokens[0].as_str()),
            ("#love=hate", "#a")
        );
    }

    #[test]
    fn what_is_settled_by_rule_is_counted() {
        let content = "a\tB-x\n\tO\nb\tO\nc\tI-x\n";
        let (records, counts) = read_counted(content.as_bytes(), "c.conll", Format::Conll).unwrap();
        assert_eq!(records[0].tokens, ["a", "b", "c"]);
        let settled: Vec<_> = counts.settled().collect();
        assert_eq!(
            settled,
            [("empty_tokens_left_out", 1), ("entities_begun_by_inside_tags", 1)]
        );
        let (_, iob1) = read_counted(b"a I-x\nb B-x\n", "c.conll", Format::Conll).unwrap();
        assert_eq!(iob1.settled().count(), 0, "IOB1 marks no begin but between neighbours");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let cases = [
            (
                "EU\tB-ORG\nrejects\n",
                "c.conll:2: `tag`: the line has 1 column (parted by tabs), but the tag is expected in the last column",
            ),
            ("a O\n\nEU B-\n", "c.conll:3: `tag`: the tag \"B-\" names no type"),
            ("EU ORG\nx O\n", "c.conll:1: `tag`: the tag \"ORG\" has no prefix"),
            (
                "EU Q-ORG\n",
                "c.conll:1: `tag`: the tag \"Q-ORG\" has the unknown prefix \"Q\"",
            ),
            ("a\tO\n\tB-x\n", "c.conll:2: `token`: there is no token"),
            (
                "a\tO\nb\tB-\u{1}\n",
                "c.conll:2: `tag`: the label holds a control character",
            ),
            ("\tO\n", "c.conll:1: `token`: no line of the sentence has a token"),
            ("", "c.conll: there are no records in the file"),
            ("-DOCSTART- -X- O\n\n", "c.conll: there are no records in the file"),
        ];
        for (content, expected) in cases {
            let found = read(content).unwrap_err().to_string();
            assert!(found.starts_with(expected), "{content}\n{found}");
        }
        let found = read_all(b"EU\tB-ORG\nM\xfcller\tO\n", "c", Format::Conll).unwrap_err();
        assert_eq!(found.to_string(), "c:2: byte 0xFC at byte 2 is not UTF-8");
    }
}
