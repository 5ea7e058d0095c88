//! Records → JSONL, column files, GLiNER's JSON; and what these cannot hold.
//!
//! JSONL and GLiNER's JSON hold all of a record. A column file has one tag a token, so entities must not overlap; and its
//! `# text` is one line, so a text with line breaks becomes its tokens, joined by blanks, which is counted.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::check::is_space;
use super::formats::{begins_like_comment, is_document};
use super::parse::RecordError;
use super::{Record, Span};

/// A format that records are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// One JSON object a line.
    Jsonl,
    /// Token and tag (IOB2), parted by a tab.
    Conll,
    /// One array of GLiNER's objects.
    Gliner,
}

impl Target {
    /// The usual end of a file's name.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Conll => "conll",
            Self::Gliner => "json",
        }
    }
}

/// What becomes of entities that overlap where a format cannot hold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlaps {
    /// They are an error.
    #[default]
    Refuse,
    /// Longer ones stay, of equally long ones the first; the others are left out and counted.
    Longest,
}

/// What a format could not hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Entities that overlap others.
    pub entities: u64,
    /// Texts that became their tokens, joined by blanks.
    pub texts: u64,
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, other: Self) {
        self.entities += other.entities;
        self.texts += other.texts;
    }
}

/// A record as it is written in a format, with what was lost.
///
/// # Errors
/// If the format cannot hold it.
pub fn format_record(record: &Record, target: Target, overlaps: Overlaps) -> Result<(Vec<u8>, Lost), RecordError> {
    match target {
        Target::Jsonl => {
            let mut line = Vec::new();
            record.write_line(&mut line);
            Ok((line, Lost::default()))
        }
        Target::Gliner => Ok((gliner(record), Lost::default())),
        Target::Conll => conll(record, overlaps),
    }
}

/// Puts records that [`format_record`] made into a file.
pub struct Writer<W: Write> {
    out: W,
    target: Target,
    count: u64,
}

impl<W: Write> Writer<W> {
    /// A writer of one file.
    pub fn new(out: W, target: Target) -> Self {
        Self { out, target, count: 0 }
    }

    /// Appends a record.
    ///
    /// # Errors
    /// If writing fails.
    pub fn push(&mut self, record: &[u8]) -> io::Result<()> {
        if self.target == Target::Gliner {
            self.out.write_all(if self.count == 0 { b"[\n" } else { b",\n" })?;
        }
        self.count += 1;
        self.out.write_all(record)
    }

    /// Ends the file.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self) -> io::Result<()> {
        if self.target == Target::Gliner {
            self.out.write_all(if self.count == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.out.flush()
    }
}

fn gliner(record: &Record) -> Vec<u8> {
    let spans = record.token_spans.iter();
    let ner: Vec<_> = spans
        .map(|span| json!([span.start, span.end - 1, span.label]))
        .collect();
    let mut object = json!({ "id": record.id });
    for (key, name) in [
        ("language", &record.origin.language),
        ("dataset", &record.origin.dataset),
    ] {
        if let Some(name) = name {
            object[key] = json!(name);
        }
    }
    if record.text != record.tokens.join(" ") {
        object["text"] = json!(record.text);
    }
    object["tokenized_text"] = json!(record.tokens);
    object["ner"] = json!(ner);
    object.to_string().into_bytes()
}

fn conll(record: &Record, overlaps: Overlaps) -> Result<(Vec<u8>, Lost), RecordError> {
    let mut lost = Lost::default();
    let tags = tags(record, overlaps, &mut lost)?;
    let mut out = String::new();
    let mut comment = |key: &str, value: &str| {
        out.push_str(&format!("# {key} = {value}\n"));
    };
    if !is_one_line(&record.id) {
        let error = RecordError::new(
            "id",
            "a column file cannot hold an id that is blank, begins or ends with white space, or has line breaks",
        );
        return Err(error);
    }
    comment("sent_id", &record.id);
    if record.text != record.tokens.join(" ") {
        if is_one_line(&record.text) {
            comment("text", &record.text);
        } else {
            lost.texts += 1;
        }
    }
    for (key, name) in [
        ("language", &record.origin.language),
        ("dataset", &record.origin.dataset),
    ] {
        if let Some(name) = name {
            comment(key, name);
        }
    }
    for (index, (token, tag)) in record.tokens.iter().zip(tags).enumerate() {
        let blank = |c: char| c.is_ascii_whitespace();
        let splits = token.contains(['\t', '\n', '\r']) || token.trim_matches(blank) != token;
        if splits || is_document(token) || (index == 0 && begins_like_comment(token)) {
            return Err(RecordError::new(
                format!("tokens[{index}]"),
                format!("a column file cannot hold the token {token:?}: it would be read as something else"),
            ));
        }
        out.push_str(token);
        out.push('\t');
        out.push_str(&tag);
        out.push('\n');
    }
    out.push('\n');
    Ok((out.into_bytes(), lost))
}

/// Whether a comment holds the text as it is.
fn is_one_line(text: &str) -> bool {
    !text.is_empty()
        && text.trim() == text
        && !text.starts_with(is_space)
        && !text.ends_with(is_space)
        && !text.contains(['\n', '\r'])
}

/// The tags of the tokens in IOB2.
fn tags(record: &Record, overlaps: Overlaps, lost: &mut Lost) -> Result<Vec<String>, RecordError> {
    let mut tags = vec![String::new(); record.tokens.len()];
    let mut order: Vec<(usize, &Span)> = record.token_spans.iter().enumerate().collect();
    if overlaps == Overlaps::Longest {
        order.sort_by_key(|(index, span)| (std::cmp::Reverse(span.end - span.start), span.start, *index));
    }
    for (index, span) in order {
        let place = span.start as usize..span.end as usize;
        if tags[place.clone()].iter().any(|tag| !tag.is_empty()) {
            if overlaps == Overlaps::Refuse {
                return Err(RecordError::new(
                    format!("token_spans[{index}]"),
                    format!(
                        "the entity {}..{} ({:?}) overlaps another, which a column file cannot hold",
                        span.start, span.end, span.label
                    ),
                ));
            }
            lost.entities += 1;
            continue;
        }
        for (offset, tag) in tags[place].iter_mut().enumerate() {
            *tag = format!("{}-{}", if offset == 0 { "B" } else { "I" }, span.label);
        }
    }
    for tag in &mut tags {
        if tag.is_empty() {
            tag.push('O');
        }
    }
    Ok(tags)
}

#[cfg(test)]
mod tests {
    use super::super::testing::read_all;
    use super::super::{Format, Origin};
    use super::*;

    fn span(start: u32, end: u32, label: &str) -> Span {
        Span {
            start,
            end,
            label: label.to_owned(),
        }
    }

    fn record() -> Record {
        Record {
            id: "a/1".to_owned(),
            origin: Origin {
                language: Some("de".to_owned()),
                dataset: None,
            },
            text: "In Köln,  #1 = \"x\"".to_owned(),
            tokens: ["In", "Köln", ",", "#1", "=", "\"x\""].map(str::to_owned).to_vec(),
            token_spans: vec![span(1, 2, "city"), span(3, 6, "a-b c")],
            char_spans: vec![span(3, 7, "city"), span(10, 18, "a-b c")],
        }
    }

    fn written(records: &[Record], target: Target) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::new(&mut out, target);
        for record in records {
            let (bytes, lost) = format_record(record, target, Overlaps::Refuse).unwrap();
            assert_eq!(lost, Lost::default());
            writer.push(&bytes).unwrap();
        }
        writer.finish().unwrap();
        out
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut joined = record();
        joined.text = joined.tokens.join(" ");
        joined.origin = Origin {
            language: None,
            dataset: Some("d".to_owned()),
        };
        joined.char_spans = vec![span(3, 7, "city"), span(10, 18, "a-b c")];
        let records = [record(), joined];
        for (target, format) in [
            (Target::Jsonl, Format::Jsonl),
            (Target::Conll, Format::Conll),
            (Target::Gliner, Format::Gliner),
        ] {
            let bytes = written(&records, target);
            let text = String::from_utf8_lossy(&bytes).into_owned();
            assert_eq!(read_all(&bytes, "written", format).unwrap(), records, "{text}");
        }
        assert_eq!(written(&[], Target::Gliner), b"[]\n");
    }

    #[test]
    fn a_column_file_looks_like_one() {
        let text = String::from_utf8(written(&[record()], Target::Conll)).unwrap();
        let expected = "# sent_id = a/1\n# text = In Köln,  #1 = \"x\"\n# language = de\nIn\tO\nKöln\tB-city\n,\tO\n#1\tB-a-b c\n=\tI-a-b c\n\"x\"\tI-a-b c\n\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn overlapping_entities_are_refused_or_counted() {
        let mut nested = record();
        nested.token_spans = vec![
            span(4, 5, "inner"),
            span(3, 6, "outer"),
            span(0, 1, "x"),
            span(0, 1, "y"),
        ];
        let error = format_record(&nested, Target::Conll, Overlaps::Refuse).unwrap_err();
        assert_eq!(error.field, "token_spans[1]");
        let (bytes, lost) = format_record(&nested, Target::Conll, Overlaps::Longest).unwrap();
        assert_eq!(lost, Lost { entities: 2, texts: 0 });
        let text = String::from_utf8(bytes).unwrap();
        assert!(
            text.contains("In\tB-x\n") && text.contains("#1\tB-outer\n=\tI-outer\n"),
            "{text}"
        );
    }

    #[test]
    fn what_a_column_file_cannot_hold_is_refused_or_counted() {
        let lines = Record {
            text: "In\nKöln,\n#1 = \"x\"".to_owned(),
            ..record()
        };
        let (_, lost) = format_record(&lines, Target::Conll, Overlaps::Refuse).unwrap();
        assert_eq!(lost, Lost { entities: 0, texts: 1 });
        for token in ["a\tb", "a\n", " a", "-DOCSTART-x", "# a = b"] {
            let mut tokens = record().tokens;
            tokens[0] = token.to_owned();
            let error = format_record(&Record { tokens, ..record() }, Target::Conll, Overlaps::Refuse).unwrap_err();
            assert_eq!(error.field, "tokens[0]", "{token:?}");
        }
        let error = format_record(
            &Record {
                id: "a\nb".to_owned(),
                ..record()
            },
            Target::Conll,
            Overlaps::Refuse,
        )
        .unwrap_err();
        assert_eq!(error.field, "id");
    }
}
