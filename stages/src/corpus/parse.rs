//! One line → one checked [`Record`].

use std::fmt;

use serde::Deserialize;
use serde::de::{self, DeserializeOwned, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::Record;
use super::check::{Parts, check, check_parts, no_spans, problem_of_origin};

/// What is wrong with a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordError {
    /// The field, such as `char_spans[1].end`; empty if the line is no record at all.
    pub field: String,
    /// What is wrong, as a lower-case fragment.
    pub reason: String,
    /// What to do about it, if that can be told.
    pub help: Option<String>,
    /// What else is wrong with the record, in the order of its fields.
    pub also: Vec<RecordError>,
}

impl RecordError {
    pub(super) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            reason: reason.into(),
            ..Self::default()
        }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// What is wrong with a record as a whole.
    pub fn whole(reason: impl Into<String>) -> Self {
        Self::new("", reason)
    }

    /// Says which record is meant.
    pub fn of_record(self, id: &str) -> Self {
        self.each(&|error| Self {
            reason: format!("record `{id}`: {}", error.reason),
            ..error
        })
    }

    /// This error and those beside it, changed one by one.
    pub(super) fn each(mut self, change: &impl Fn(Self) -> Self) -> Self {
        let also = std::mem::take(&mut self.also);
        let also = also.into_iter().map(|error| error.each(change)).collect();
        Self { also, ..change(self) }
    }

    /// This error and those beside it, apart.
    pub(super) fn apart(mut self) -> Vec<Self> {
        let also = std::mem::take(&mut self.also);
        std::iter::once(self).chain(also).collect()
    }

    /// Several errors, of which there is at least one, as one: the first, with the others beside it.
    pub(super) fn join(errors: Vec<Self>) -> Self {
        let mut errors = errors.into_iter();
        let mut first = errors.next().unwrap_or_default();
        first.also.extend(errors.flat_map(Self::apart));
        first
    }
}

/// All values, or all that is wrong.
pub(super) fn gather<T>(results: impl IntoIterator<Item = Result<T, RecordError>>) -> Result<Vec<T>, RecordError> {
    let mut errors = Vec::new();
    let results = results.into_iter();
    let mut values = Vec::with_capacity(results.size_hint().0);
    for result in results {
        match result {
            Ok(value) => values.push(value),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(values)
    } else {
        Err(RecordError::join(errors))
    }
}

/// What was settled by rule while a record was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// Spans that were given twice and count once.
    pub duplicate_spans: u64,
    /// Whether one list of spans was worked out from the other.
    pub derived_spans: bool,
    /// Whether the record had no id.
    pub made_id: bool,
    /// Lines of a column file without a token.
    pub empty_tokens: u64,
    /// Whether the tokens make up the text, because the one that was given does not hold them.
    pub joined_text: bool,
    /// Entities whose first tag says that it is the first.
    pub marked_begins: u64,
    /// Entities whose first tag does not say so.
    pub bare_begins: u64,
}

/// Reads and checks one line. `line` is its number, for a record without an id.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_record(bytes: &[u8], line: u64) -> Result<(Record, Notes), RecordError> {
    let json = utf8(bytes)?;
    shape(json)?;
    match decode(json) {
        Ok(raw) => check(raw, line),
        Err(error) => Err(Doubtful::read(json, error, |doubtful| {
            let text = doubtful.needed("text", Doubtful::value::<String>);
            let tokens = doubtful.needed("tokens", Doubtful::list::<String>);
            let token_spans = doubtful.spans("token_spans");
            let char_spans = doubtful.spans("char_spans");
            if token_spans.is_none() && char_spans.is_none() {
                doubtful.problems.push(no_spans());
            }
            let parts = Parts {
                text: text.as_deref(),
                tokens: tokens.as_deref(),
                token_spans: token_spans.as_deref().unwrap_or_default(),
                char_spans: char_spans.as_deref().unwrap_or_default(),
            };
            check_parts(&parts, &mut doubtful.problems);
        })),
    }
}

/// An object of which something could not be read, field by field: finds all that is wrong with it.
pub(super) struct Doubtful<'a> {
    json: &'a str,
    pub(super) fields: serde_json::Map<String, Value>,
    pub(super) problems: Vec<RecordError>,
}

impl<'a> Doubtful<'a> {
    /// What is wrong with the object `json` besides `first`. `read` looks at the fields of a record that are its own.
    pub(super) fn read(json: &'a str, first: RecordError, read: impl FnOnce(&mut Self)) -> RecordError {
        // What is not JSON has no fields.
        let Ok(fields) = serde_json::from_str(json) else {
            return first;
        };
        let mut doubtful = Self {
            json,
            fields,
            problems: Vec::new(),
        };
        if let Some(id) = doubtful.fields.get("id").cloned() {
            doubtful.value::<Option<Id>>("id", &id);
        }
        for field in ["language", "lang", "dataset"] {
            if let Some(name) = doubtful.fields.get(field).cloned() {
                let name = doubtful.value::<Option<String>>(field, &name).flatten();
                doubtful
                    .problems
                    .extend(name.and_then(|name| problem_of_origin(field, &name)));
            }
        }
        read(&mut doubtful);
        let mut problems = doubtful.problems;
        problems.retain(|problem| problem.field != first.field);
        problems.insert(0, first);
        RecordError::join(problems)
    }

    /// The value of a field that must be there.
    pub(super) fn needed<T>(
        &mut self,
        field: &str,
        read: impl FnOnce(&mut Self, &str, &Value) -> Option<T>,
    ) -> Option<T> {
        match self.fields.get(field).cloned() {
            Some(value) => read(self, field, &value),
            None => {
                let error = RecordError::new(field, "the field is missing");
                self.problems.push(similar_key(self.json, field, error));
                None
            }
        }
    }

    /// A value that is at `path`.
    pub(super) fn value<T: DeserializeOwned>(&mut self, path: &str, value: &Value) -> Option<T> {
        match serde_path_to_error::deserialize(value) {
            Ok(value) => Some(value),
            Err(error) => {
                let error = explain("", error);
                let dot = if error.field.is_empty() || error.field.starts_with('[') {
                    ""
                } else {
                    "."
                };
                let field = format!("{path}{dot}{}", error.field);
                self.problems.push(RecordError { field, ..error });
                None
            }
        }
    }

    /// A list whose elements can all be read.
    pub(super) fn list<T: DeserializeOwned>(&mut self, path: &str, value: &Value) -> Option<Vec<T>> {
        let Value::Array(elements) = value else {
            return self.value(path, value);
        };
        // Not stopped by the first that is wrong.
        let mut read = Vec::with_capacity(elements.len());
        for (index, element) in elements.iter().enumerate() {
            read.push(self.value(&format!("{path}[{index}]"), element));
        }
        read.into_iter().collect()
    }

    /// The spans of a field that can be read, with their places in its list; none if there is no such field.
    fn spans(&mut self, field: &str) -> Option<Vec<(usize, RawSpan)>> {
        let value = self.fields.get(field).cloned()?;
        let Value::Array(elements) = value else {
            self.value::<Vec<RawSpan>>(field, &value);
            return Some(Vec::new());
        };
        let mut spans = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let path = format!("{field}[{index}]");
            let Value::Object(parts) = element else {
                self.value::<RawSpan>(&path, element);
                continue;
            };
            let mut part = |name: &str| {
                let path = format!("{path}.{name}");
                let value = parts.get(name);
                if value.is_none() {
                    self.problems.push(RecordError::new(&path, "the field is missing"));
                }
                value.map(|value| (path, value))
            };
            let (start, end, label) = (part("start"), part("end"), part("label"));
            let mut position = |part: Option<(String, &Value)>| {
                let (path, value) = part?;
                self.value::<Position>(&path, value)
            };
            let (start, end) = (position(start), position(end));
            let label = label.and_then(|(path, value)| self.value::<String>(&path, value));
            if let (Some(start), Some(end), Some(label)) = (start, end, label) {
                let (start, end) = (start.0, end.0);
                spans.push((index, RawSpan { start, end, label }));
            }
        }
        Some(spans)
    }
}

/// One JSON object as `T`, or the field that is wrong.
pub(super) fn decode<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T, RecordError> {
    // Keeping track of where in the object the reader is costs as much as reading, so only what is wrong is read that way.
    if let Ok(value) = serde_json::from_str(json) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| explain(json, error))?;
    deserializer.end().map_err(|error| trailing(json, &error))?;
    Ok(value)
}

/// The line as text, or where it stops being UTF-8.
pub(super) fn utf8(bytes: &[u8]) -> Result<&str, RecordError> {
    std::str::from_utf8(bytes).map_err(|error| {
        let position = error.valid_up_to();
        RecordError::new(
            "",
            format!("byte 0x{:02X} at byte {} is not UTF-8", bytes[position], position + 1),
        )
        .help("save the file as UTF-8")
    })
}

/// Refuses what is no JSON object with a message that says what it is instead.
fn shape(json: &str) -> Result<(), RecordError> {
    let start = json.trim_start();
    if start.starts_with('{') {
        return Ok(());
    }
    Err(if start.starts_with('[') {
        RecordError::new("", "the line is a JSON array, not an object")
            .help("write one object a line (JSONL), without brackets and commas around them")
    } else {
        RecordError::new("", "the line is not a JSON object").help("every line must be one object: `{\"text\": …}`")
    })
}

/// A record as written.
#[derive(Default, Deserialize)]
pub(super) struct RawRecord {
    #[serde(default)]
    pub(super) id: Option<Id>,
    #[serde(default, alias = "lang")]
    pub(super) language: Option<String>,
    #[serde(default)]
    pub(super) dataset: Option<String>,
    pub(super) text: String,
    pub(super) tokens: Vec<String>,
    #[serde(default, deserialize_with = "present")]
    pub(super) token_spans: Option<Vec<RawSpan>>,
    #[serde(default, deserialize_with = "present")]
    pub(super) char_spans: Option<Vec<RawSpan>>,
}

/// A field that may be missing, but is not `null` when it is there.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// An id: text, or a whole number taken as text.
pub(super) struct Id(pub(super) String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or a whole number")
            }
            fn visit_str<E>(self, value: &str) -> Result<Id, E> {
                Ok(Id(value.to_owned()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Id, E> {
                Ok(Id(value.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}

/// A span as written. Read by hand because a derived reader would also take `[start, end, label]`.
pub(super) struct RawSpan {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) label: String,
}

impl<'de> Deserialize<'de> for RawSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SpanVisitor;
        impl<'de> Visitor<'de> for SpanVisitor {
            type Value = RawSpan;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span `{\"start\": …, \"end\": …, \"label\": …}`")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawSpan, A::Error> {
                let (mut start, mut end, mut label) = (None::<Position>, None::<Position>, None::<String>);
                while let Some(key) = map.next_key::<SpanKey>()? {
                    match key {
                        SpanKey::Start if start.is_some() => return Err(de::Error::duplicate_field("start")),
                        SpanKey::End if end.is_some() => return Err(de::Error::duplicate_field("end")),
                        SpanKey::Label if label.is_some() => return Err(de::Error::duplicate_field("label")),
                        SpanKey::Start => start = Some(map.next_value()?),
                        SpanKey::End => end = Some(map.next_value()?),
                        SpanKey::Label => label = Some(map.next_value()?),
                        SpanKey::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(RawSpan {
                    start: start.ok_or_else(|| de::Error::missing_field("start"))?.0,
                    end: end.ok_or_else(|| de::Error::missing_field("end"))?.0,
                    label: label.ok_or_else(|| de::Error::missing_field("label"))?,
                })
            }
        }
        deserializer.deserialize_map(SpanVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum SpanKey {
    Start,
    End,
    Label,
    #[serde(other)]
    Other,
}

/// A position: a whole number that fits in 32 bits.
pub(super) struct Position(pub(super) u32);

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PositionVisitor;
        impl Visitor<'_> for PositionVisitor {
            type Value = Position;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a position (a whole number from 0)")
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Position, E> {
                u32::try_from(value)
                    .map(Position)
                    .map_err(|_| E::custom(format_args!("{value} is too large for a position")))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Position, E> {
                Err(E::custom(format_args!(
                    "{value} is negative; positions count from the start of the text"
                )))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Position, E> {
                Err(E::custom(format_args!(
                    "{value:?} is not a whole number; write positions as 0, 1, 2, …"
                )))
            }
        }
        deserializer.deserialize_any(PositionVisitor)
    }
}

/// Turns a JSON or type error into one that names the field.
fn explain(json: &str, error: serde_path_to_error::Error<serde_json::Error>) -> RecordError {
    let path = error.path().to_string();
    let error = error.into_inner();
    let message = plain_message(&error);
    if error.is_syntax() || error.is_eof() {
        let field = if path == "." { String::new() } else { path };
        let wrong = RecordError::new(
            field,
            format!("the line is not JSON: {message} at byte {}", error.column()),
        );
        return if error.is_eof() {
            wrong.help("the line is cut off; copy the file again")
        } else if json.contains("{'") {
            wrong.help("JSON needs double quotes; write the line with `json.dumps`")
        } else if error.column() <= json.len() && json[..error.column()].ends_with('N') {
            wrong.help("NaN is not JSON; leave the field out")
        } else {
            wrong
        };
    }
    if let Some(missing) = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        let field = if path == "." {
            missing.to_owned()
        } else {
            format!("{path}.{missing}")
        };
        let wrong = RecordError::new(field, "the field is missing");
        return if path == "." {
            similar_key(json, missing, wrong)
        } else {
            wrong
        };
    }
    RecordError::new(if path == "." { String::new() } else { path }, message)
}

/// serde_json's message without its position: a record is one line, which is named already.
fn plain_message(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

fn trailing(json: &str, error: &serde_json::Error) -> RecordError {
    let wrong = RecordError::new(
        "",
        format!("there is more after the object, at byte {}", error.column()),
    );
    if json.contains('\r') {
        wrong.help("lines end with CR only; write the file with LF line ends")
    } else {
        wrong.help("every line must hold one object and nothing else")
    }
}

/// The keys of a record that are read.
const KEYS: [&str; 8] = [
    "id",
    "language",
    "lang",
    "dataset",
    "text",
    "tokens",
    "token_spans",
    "char_spans",
];

/// Points at a key that looks like the missing one.
fn similar_key(json: &str, missing: &str, error: RecordError) -> RecordError {
    let keys: Vec<String> = serde_json::from_str::<indexmap::IndexMap<String, IgnoredAny>>(json)
        .map(|map| map.into_keys().collect())
        .unwrap_or_default();
    let plain = |name: &str| name.to_lowercase().replace(['_', '-'], "");
    let near = keys
        .iter()
        .filter(|key| !KEYS.contains(&key.as_str()))
        .map(|key| {
            (
                strsim::normalized_damerau_levenshtein(&plain(key), &plain(missing)),
                key,
            )
        })
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    match near {
        Some((_, key)) => error.help(format!("there is a field `{key}`; rename it to `{missing}`")),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::corpus::Origin;

    fn parse(value: &Value) -> Result<(Record, Notes), RecordError> {
        parse_record(value.to_string().as_bytes(), 3)
    }

    fn ada() -> Value {
        json!({
            "id": "a", "text": "Ada Lovelace saw Köln", "tokens": ["Ada", "Lovelace", "saw", "Köln"],
            "token_spans": [{"start": 0, "end": 2, "label": "person"}, {"start": 3, "end": 4, "label": "city"}],
            "char_spans": [{"start": 0, "end": 12, "label": "person"}, {"start": 17, "end": 21, "label": "city"}]
        })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Value {
        let mut value = ada();
        change(&mut value);
        value
    }

    fn without(key: &str) -> Value {
        with(|value| drop(value.as_object_mut().unwrap().remove(key)))
    }

    fn error(value: &Value) -> RecordError {
        parse(value).expect_err("the record is wrong")
    }

    #[test]
    fn a_record_may_say_where_it_comes_from() {
        let origin = |value: &Value| parse(value).unwrap().0.origin;
        let given = |language: &str, dataset: Option<&str>| Origin {
            language: Some(language.to_owned()),
            dataset: dataset.map(str::to_owned),
        };
        let both = with(|value| (value["language"], value["dataset"]) = (json!("de"), json!("panx")));
        assert_eq!(origin(&both), given("de", Some("panx")));
        assert_eq!(origin(&with(|value| value["lang"] = json!("sw"))), given("sw", None));
        assert_eq!(
            origin(&with(|value| value["language"] = Value::Null)),
            Origin::default()
        );

        let mut line = Vec::new();
        parse(&both).unwrap().0.write_line(&mut line);
        let mut expected = both;
        let written: Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(written, expected);
        expected["language"] = json!(" ");
        let blank = error(&expected);
        assert_eq!(
            (blank.field.as_str(), blank.reason.as_str()),
            ("language", "the name is blank: \" \"")
        );
        assert_eq!(error(&with(|value| value["dataset"] = json!(["a"]))).field, "dataset");
    }

    #[test]
    fn a_record_is_written_as_it_was_read() {
        let (record, notes) = parse(&ada()).unwrap();
        assert_eq!(notes, Notes::default());
        let mut line = Vec::new();
        record.write_line(&mut line);
        assert_eq!(line, format!("{}\n", ada()).as_bytes());
    }

    #[test]
    fn missing_spans_are_worked_out_and_missing_ids_made() {
        let (whole, _) = parse(&ada()).unwrap();
        for key in ["token_spans", "char_spans"] {
            let (record, notes) = parse(&without(key)).unwrap();
            assert_eq!(record, whole);
            assert!(notes.derived_spans);
        }
        let (record, notes) = parse(&without("id")).unwrap();
        assert_eq!(record.id, "line-3");
        assert!(notes.made_id);
    }

    #[test]
    fn spans_are_matched_as_sets_and_duplicates_dropped() {
        let value = with(|value| {
            value["char_spans"].as_array_mut().unwrap().reverse();
            let again = value["token_spans"][0].clone();
            value["token_spans"].as_array_mut().unwrap().push(again);
        });
        let (record, notes) = parse(&value).unwrap();
        assert_eq!(notes.duplicate_spans, 1);
        assert_eq!(record, parse(&ada()).unwrap().0);
    }

    #[test]
    fn texts_without_spaces_and_marks_beyond_ascii_align() {
        let (record, _) = parse(&json!({
            "text": "東京は👩‍💻ภาษาไทย", "tokens": ["東京", "は", "👩‍💻", "ภาษา", "ไทย"],
            "token_spans": [{"start": 0, "end": 1, "label": "city"}, {"start": 3, "end": 5, "label": "language"}]
        }))
        .unwrap();
        let places: Vec<(u32, u32)> = record.char_spans.iter().map(|span| (span.start, span.end)).collect();
        assert_eq!(places, [(0, 2), (6, 13)]);
    }

    #[test]
    fn wrong_units_are_recognized() {
        let bytes = with(|value| value["char_spans"][1] = json!({"start": 17, "end": 22, "label": "city"}));
        let wrong = error(&bytes);
        assert_eq!(wrong.field, "char_spans[1].end");
        assert!(wrong.help.unwrap().contains("UTF-8 bytes"));
        let inside = json!({
            "text": "Köln und Bonn .", "tokens": ["Köln", "und", "Bonn", "."],
            "token_spans": [{"start": 0, "end": 1, "label": "city"}],
            "char_spans": [{"start": 0, "end": 5, "label": "city"}]
        });
        let wrong = error(&inside);
        assert_eq!(wrong.field, "token_spans[0]");
        assert!(
            wrong
                .reason
                .contains("\"Köln\" (tokens 0..1, characters 0..4), but `char_spans[0]` covers")
        );
        assert!(wrong.help.unwrap().contains("UTF-8 bytes"));
        let utf16 = json!({
            "text": "😀 Bonn .", "tokens": ["😀", "Bonn", "."],
            "token_spans": [{"start": 1, "end": 2, "label": "city"}],
            "char_spans": [{"start": 3, "end": 7, "label": "city"}]
        });
        assert!(error(&utf16).help.unwrap().contains("UTF-16"));
        let inclusive = with(|value| value["token_spans"][0]["end"] = json!(1));
        assert!(error(&inclusive).help.unwrap().contains("looks inclusive"));
    }

    #[test]
    fn errors_name_the_field() {
        let field = |value: &Value| error(value).field;
        assert_eq!(field(&without("text")), "text");
        assert_eq!(field(&without("tokens")), "tokens");
        assert_eq!(field(&with(|v| v["tokens"][2] = json!("swa"))), "tokens[2]");
        assert_eq!(field(&with(|v| v["tokens"][2] = json!(7))), "tokens[2]");
        assert_eq!(field(&with(|v| v["char_spans"] = Value::Null)), "char_spans");
        assert_eq!(
            field(&with(|v| v["char_spans"][1]["start"] = json!(-1))),
            "char_spans[1].start"
        );
        assert_eq!(
            field(&with(|v| v["char_spans"][1]["start"] = json!(0.0))),
            "char_spans[1].start"
        );
        assert_eq!(
            field(&with(|v| v["token_spans"][1]["end"] = json!(4_294_967_296u64))),
            "token_spans[1].end"
        );
        assert_eq!(
            field(&with(|v| v["token_spans"][0] = json!([0, 2, "person"]))),
            "token_spans[0]"
        );
        assert_eq!(
            field(&with(|v| v["token_spans"][0] = json!({"start": 0, "end": 2}))),
            "token_spans[0].label"
        );
        assert_eq!(
            field(&with(|v| v["token_spans"][0]["label"] = json!(" person"))),
            "token_spans[0].label"
        );
        assert_eq!(
            field(&with(|v| v["token_spans"][0]["label"] = json!("place"))),
            "token_spans[0].label"
        );
        assert_eq!(
            field(&with(|v| drop(v["token_spans"].as_array_mut().unwrap().pop()))),
            "char_spans[1]"
        );
    }

    #[test]
    fn all_that_is_wrong_is_told() {
        let fields = |value: &Value| -> Vec<String> {
            let all = error(value).apart();
            assert!(
                all.iter()
                    .all(|error| error.also.is_empty() && !error.reason.is_empty()),
                "{all:?}"
            );
            all.into_iter().map(|error| error.field).collect()
        };
        // Of what can be read, every field by itself.
        let value = with(|v| {
            v["language"] = json!("\n");
            v["char_spans"][0]["end"] = json!(0);
            v["token_spans"][0]["label"] = json!("");
            v["token_spans"][1]["end"] = json!(9);
        });
        let expected = [
            "language",
            "char_spans[0]",
            "token_spans[0].label",
            "token_spans[1].end",
        ];
        assert_eq!(fields(&value), expected);
        // Of what cannot, as well: what is right beside it is checked.
        let value = with(|v| {
            v["text"] = json!(7);
            v["tokens"][1] = Value::Null;
            v["tokens"][3] = json!([]);
            v["token_spans"][0] = json!([0, 2, "person"]);
            v["token_spans"][1] = json!({"start": -1, "label": 7});
            v["char_spans"][1] = json!({"start": 7, "end": 7, "label": "city"});
            v["dataset"] = json!(" x");
        });
        let mut found = fields(&value);
        found.sort();
        let expected = [
            "char_spans[1]",
            "dataset",
            "text",
            "token_spans[0]",
            "token_spans[1].end",
            "token_spans[1].label",
            "token_spans[1].start",
            "tokens[1]",
            "tokens[3]",
        ];
        assert_eq!(found, expected);
        assert_eq!(fields(&json!({})), ["text", "tokens", "token_spans"]);
        assert_eq!(
            fields(&json!({"text": "a", "tokens": ["a"], "char_spans": null})),
            ["char_spans"]
        );
        // Spans are compared when each is right by itself; each pair that differs is told once, and what is left over.
        let value = with(|v| {
            v["token_spans"][0]["label"] = json!("place");
            v["char_spans"][1]["start"] = json!(16);
            let more = json!({"start": 13, "end": 16, "label": "verb"});
            v["char_spans"].as_array_mut().unwrap().push(more);
        });
        assert_eq!(
            fields(&value),
            ["token_spans[0].label", "token_spans[1]", "char_spans[2]"]
        );
    }

    #[test]
    fn a_misspelled_field_is_pointed_at() {
        let value = with(|value| {
            let tokens = value.as_object_mut().unwrap().remove("tokens").unwrap();
            value["Tokens"] = tokens;
        });
        assert_eq!(
            error(&value).help.unwrap(),
            "there is a field `Tokens`; rename it to `tokens`"
        );
    }

    #[test]
    fn lines_that_are_no_records_say_what_they_are() {
        let reason = |line: &[u8]| {
            let error = parse_record(line, 1).expect_err("the line is wrong");
            format!("{}; {}", error.reason, error.help.unwrap_or_default())
        };
        assert!(reason(b"[{}]").contains("JSON array"));
        assert!(reason(b"17").contains("not a JSON object"));
        assert!(reason(b"{\"text\": \"caf\xe9\"}").contains("byte 0xE9 at byte 14 is not UTF-8"));
        assert!(reason(b"{'text': 'a'}").contains("double quotes"));
        assert!(reason(b"{\"text\": \"a").contains("cut off"));
        assert!(reason(b"{\"x\": NaN}").contains("NaN is not JSON"));
        let one = ada().to_string();
        assert!(reason(format!("{one}{one}").as_bytes()).contains("more after the object"));
        assert!(reason(format!("{one}\r{one}").as_bytes()).contains("LF line ends"));
    }
}
