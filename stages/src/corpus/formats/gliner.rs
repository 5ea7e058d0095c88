//! GLiNER's JSON: `{"tokenized_text": [..], "ner": [[start, end, label], ..]}`, with inclusive ends.
//!
//! A file is one array of such objects, or one object a line. `id`, `language`, `lang`, `dataset` and `text` may be there
//! too; without a `text` the tokens, joined by blanks, make it up.

use serde::Deserialize;

use super::super::Record;
use super::super::check::check;
use super::super::parse::{Doubtful, Id, Notes, Position, RawRecord, RawSpan, RecordError, decode, gather, utf8};
use super::super::read::{CorpusError, Reader};
use super::super::source::Source;
use super::lines::{BATCH_BYTES, BATCH_RECORDS, MAX_RECORD, TextFile};

/// An object of the file.
pub(in super::super) struct Object {
    /// The line on which it begins.
    line: u64,
    /// Its place in the array, from 0, if the file is one.
    index: Option<u64>,
    bytes: Vec<u8>,
}

/// Reads records from GLiNER's JSON.
pub(in super::super) struct Gliner {
    file: TextFile,
    /// Whether the file is one array.
    array: bool,
    /// The line that is read.
    line: u64,
    /// Objects that were read.
    count: u64,
    /// What has to come next.
    state: State,
}

/// Where between objects the reader stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the beginning of the file.
    Start,
    /// Before an object, or the end of an empty array.
    First,
    /// After an object.
    After,
    /// After a comma.
    Comma,
    /// After the array.
    End,
}

impl Gliner {
    pub(in super::super) fn open(source: &Source) -> Result<Self, CorpusError> {
        let (file, head, _) = TextFile::open(&source.path, &source.name)?;
        let array = head.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        Ok(Self {
            file,
            array,
            line: 1,
            count: 0,
            state: State::Start,
        })
    }

    /// The next object; none at the end of the file.
    fn next_object(&mut self) -> Result<Option<Object>, CorpusError> {
        loop {
            let Some(&byte) = self.file.buffer()?.first() else {
                return self.ended().map(|()| None);
            };
            let state = self.state;
            match byte {
                b'\n' => self.line += 1,
                byte if byte.is_ascii_whitespace() => {}
                b'[' if state == State::Start && self.array => self.state = State::First,
                b']' if self.array && matches!(state, State::First | State::After) => self.state = State::End,
                b',' if self.array && state == State::After => self.state = State::Comma,
                b'{' if state != State::End && (!self.array || matches!(state, State::First | State::Comma)) => {
                    let object = self.object()?;
                    self.state = State::After;
                    self.count += 1;
                    return Ok(Some(object));
                }
                byte => return Err(self.unexpected(byte)),
            }
            self.file.consume(1);
        }
    }

    /// Whether the file may end here.
    fn ended(&self) -> Result<(), CorpusError> {
        if self.array && self.state != State::End {
            let error = RecordError::new("", "the file ends before its array does").help("copy the file again");
            return Err(self.file.at(self.line, error));
        }
        Ok(())
    }

    fn unexpected(&self, byte: u8) -> CorpusError {
        let found = match byte {
            byte if byte.is_ascii_graphic() => format!("`{}`", char::from(byte)),
            byte => format!("byte 0x{byte:02X}"),
        };
        let wanted = match (self.state, self.array) {
            (State::End, _) => "the end of the file",
            (State::After, true) => "`,` or `]`",
            (State::Comma, _) => "an object `{…}`",
            (State::First, true) => "an object `{…}` or `]`",
            _ => "an object `{…}` or an array of objects",
        };
        let error = RecordError::new("", format!("there is {found} where {wanted} should be"));
        self.file.at(
            self.line,
            error.help("GLiNER's data are objects with `tokenized_text` and `ner`"),
        )
    }

    /// Reads the object that begins here, to the bracket that closes it.
    fn object(&mut self) -> Result<Object, CorpusError> {
        let (line, index) = (self.line, self.array.then_some(self.count));
        let mut bytes = Vec::new();
        let (mut depth, mut in_string, mut escaped) = (0u64, false, false);
        loop {
            let buffer = self.file.buffer()?;
            if buffer.is_empty() {
                let error = RecordError::new("", "the object is cut off").help("copy the file again");
                return Err(self.file.at(line, prefixed(error, index)));
            }
            let mut end = None;
            for (place, &byte) in buffer.iter().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' if in_string => escaped = true,
                    b'"' => in_string = !in_string,
                    b'{' | b'[' if !in_string => depth += 1,
                    b'}' | b']' if !in_string => {
                        depth -= 1;
                        if depth == 0 {
                            end = Some(place + 1);
                            break;
                        }
                    }
                    _ => {}
                }
            }
            let taken = end.unwrap_or(buffer.len());
            bytes.extend_from_slice(&buffer[..taken]);
            self.file.consume(taken);
            if bytes.len() as u64 > MAX_RECORD {
                return Err(self
                    .file
                    .at(line, RecordError::new("", "the object is longer than 1 GiB")));
            }
            if end.is_some() {
                self.line += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                return Ok(Object { line, index, bytes });
            }
        }
    }
}

impl Reader for Gliner {
    type Piece = Object;

    fn next_batch(&mut self) -> Result<Vec<Object>, CorpusError> {
        let mut batch = Vec::new();
        let mut size = 0;
        while batch.len() < BATCH_RECORDS && size < BATCH_BYTES {
            let Some(object) = self.next_object()? else { break };
            size += object.bytes.len();
            batch.push(object);
        }
        Ok(batch)
    }

    fn parse(&self, object: &Object) -> Result<(Record, Notes), CorpusError> {
        read_object(object).map_err(|error| self.about(object, error))
    }

    fn about(&self, object: &Object, error: RecordError) -> CorpusError {
        self.file.at(object.line, prefixed(error, object.index))
    }
}

/// An object as written.
#[derive(Deserialize)]
struct RawObject {
    #[serde(default)]
    id: Option<Id>,
    #[serde(default, alias = "lang")]
    language: Option<String>,
    #[serde(default)]
    dataset: Option<String>,
    #[serde(default)]
    text: Option<String>,
    tokenized_text: Vec<String>,
    ner: Vec<(Position, Position, String)>,
}

fn read_object(object: &Object) -> Result<(Record, Notes), RecordError> {
    let json = utf8(&object.bytes)?;
    let raw: RawObject = decode(json).map_err(|error| {
        Doubtful::read(json, error, |doubtful| {
            if let Some(text) = doubtful.fields.get("text").cloned() {
                doubtful.value::<Option<String>>("text", &text);
            }
            doubtful.needed("tokenized_text", Doubtful::list::<String>);
            doubtful.needed("ner", Doubtful::list::<(Position, Position, String)>);
        })
    })?;
    let made = || match object.index {
        Some(index) => Id(format!("item-{index}")),
        None => Id(format!("line-{}", object.line)),
    };
    let spans = raw.ner.into_iter().enumerate().map(|(index, (start, end, label))| {
        // An end that is too large for a position is past every text as well.
        let past = end.0.checked_add(1);
        match past {
            Some(past) if start.0 <= end.0 => Ok(RawSpan {
                start: start.0,
                end: past,
                label,
            }),
            _ => Err(RecordError::new(
                format!("ner[{index}]"),
                format!(
                    "the span {}..{} ends before it starts; ends are inclusive",
                    start.0, end.0
                ),
            )),
        }
    });
    let record = RawRecord {
        id: Some(raw.id.unwrap_or_else(made)),
        language: raw.language,
        dataset: raw.dataset,
        text: raw.text.unwrap_or_else(|| raw.tokenized_text.join(" ")),
        tokens: raw.tokenized_text,
        token_spans: Some(gather(spans)?),
        char_spans: None,
    };
    let (record, notes) = check(record, object.line).map_err(by_its_own_names)?;
    // The format has one list of spans and no ids: neither is worth a word.
    let notes = Notes {
        derived_spans: false,
        made_id: false,
        ..notes
    };
    Ok((record, notes))
}

/// An error about a record, with the names that the fields have in GLiNER's data.
fn by_its_own_names(error: RecordError) -> RecordError {
    error.each(&own_name)
}

fn own_name(error: RecordError) -> RecordError {
    let field = &error.field;
    let field = if let Some(rest) = field.strip_prefix("token_spans") {
        let rest = rest
            .replace(".start", "[0]")
            .replace(".end", "[1]")
            .replace(".label", "[2]");
        format!("ner{rest}")
    } else if let Some(rest) = field.strip_prefix("tokens") {
        format!("tokenized_text{rest}")
    } else {
        field.clone()
    };
    RecordError { field, ..error }
}

fn prefixed(error: RecordError, index: Option<u64>) -> RecordError {
    let Some(index) = index else { return error };
    error.each(&|error| {
        let field = match error.field.as_str() {
            "" => format!("[{index}]"),
            field => format!("[{index}].{field}"),
        };
        RecordError { field, ..error }
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::source::Format;
    use super::super::super::testing::{Read, read_all};

    fn read(content: &str) -> Read {
        read_all(content.as_bytes(), "g.json", Format::Gliner)
    }

    const ADA: &str =
        r#"{"tokenized_text": ["Ada", "Lovelace", "saw", "Köln"], "ner": [[0, 1, "person"], [3, 3, "city"]]}"#;

    #[test]
    fn an_array_and_an_object_a_line_are_the_same() {
        let array = read(&format!(
            "[{ADA},\n {{\"ner\": [], \"tokenized_text\": [\"a{{}}[\\\"]\"], \"id\": 7, \"lang\": \"de\"}}]\n"
        ))
        .unwrap();
        assert_eq!(array.len(), 2);
        let ada = &array[0];
        assert_eq!(
            (ada.id.as_str(), ada.text.as_str()),
            ("item-0", "Ada Lovelace saw Köln")
        );
        let spans: Vec<_> = ada
            .char_spans
            .iter()
            .map(|span| (span.start, span.end, span.label.as_str()))
            .collect();
        assert_eq!(spans, [(0, 12, "person"), (17, 21, "city")]);
        assert_eq!(array[1].tokens, ["a{}[\"]"]);
        assert_eq!(
            (array[1].id.as_str(), array[1].origin.language.as_deref()),
            ("7", Some("de"))
        );
        let lines = read(&format!("{ADA}\n\n{ADA}")).unwrap();
        assert_eq!(lines[1].id, "line-3");
        assert_eq!(lines[1].token_spans, ada.token_spans);
        let pretty = read("[\n  {\n    \"tokenized_text\": [\n \"a\"\n],\n \"ner\": []\n  }\n]").unwrap();
        assert_eq!(pretty[0].text, "a");
    }

    #[test]
    fn what_is_wrong_is_named_by_line_item_and_field() {
        let error = |content: &str| read(content).unwrap_err();
        let cases = [
            (
                format!("[{ADA},\n{}]", ADA.replace("[3, 3,", "[3, 4,")),
                "g.json:2: `[1].ner[1][1]`: the span 3..5 ends past the 4 tokens",
            ),
            (
                ADA.replace("[0, 1,", "[1, 0,"),
                "g.json:1: `ner[0]`: the span 1..0 ends before it starts; ends are inclusive",
            ),
            (
                ADA.replace("[0, 1,", "[0, -1,"),
                "g.json:1: `ner[0][1]`: -1 is negative",
            ),
            (
                ADA.replace("\"city\"", "7"),
                "g.json:1: `ner[1][2]`: invalid type: integer `7`",
            ),
            (
                ADA.replace("\"saw\"", "\"\""),
                "g.json:1: `tokenized_text[2]`: the token is empty",
            ),
            (
                "{\"tokenized_text\": [\"a\"]}".to_owned(),
                "g.json:1: `ner`: the field is missing",
            ),
            (format!("[{ADA}"), "g.json:1: the file ends before its array does"),
            (
                format!("[{ADA} {ADA}]"),
                "g.json:1: there is `{` where `,` or `]` should be",
            ),
            (
                format!("[{ADA}, ]"),
                "g.json:1: there is `]` where an object `{…}` should be",
            ),
            (
                format!("[{ADA}] x"),
                "g.json:1: there is `x` where the end of the file should be",
            ),
            (
                format!("[{ADA},\n{}", &ADA[..30]),
                "g.json:2: `[1]`: the object is cut off",
            ),
            ("[]".to_owned(), "g.json: there are no records in the file"),
            (String::new(), "g.json: there are no records in the file"),
            ("7".to_owned(), "g.json:1: there is `7` where an object"),
        ];
        for (content, expected) in cases {
            let found = error(&content).to_string();
            assert!(found.starts_with(expected), "{content}\n{found}");
        }
    }
}
