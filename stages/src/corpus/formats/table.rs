//! Rows of Arrow columns → records.
//!
//! A table has the columns `tokens` and `token_spans`, `char_spans` or both, as a line of JSONL has them; or `tokens` and `ner_tags`
//! (or `tags`), words or class numbers. `id`, `text`, `language` (or `lang`) and `dataset` may be there too; without a
//! `text` the tokens, joined by blanks, make it up. Columns are found by name, and their children by place, for writers
//! do not agree on names there. Strings and lists may be of any width, positions any whole numbers; spans may be a list
//! of structs or, as `Sequence` once had it, a struct of lists.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Schema};

use super::super::Record;
use super::super::check::check;
use super::super::parse::{Id, Notes, RawRecord, RawSpan, RecordError, gather};
use super::conll::Spans as TaggedSpans;

/// The columns that are read.
const COLUMNS: [&str; 8] = [
    "id",
    "language",
    "lang",
    "dataset",
    "text",
    "tokens",
    "token_spans",
    "char_spans",
];
/// Columns of tags, which are read if there are no spans.
const TAGS: [&str; 2] = ["ner_tags", "tags"];

/// The places of the columns that records are made from.
pub(super) fn needed(schema: &Schema) -> Result<Vec<usize>, RecordError> {
    let find = |name: &&str| schema.fields().iter().position(|field| field.name() == name);
    let there = || {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .map(|field| format!("`{}`", field.name()))
            .collect();
        match names.is_empty() {
            true => "there are no columns".to_owned(),
            false => format!("the columns are {}", names.join(", ")),
        }
    };
    if find(&"tokens").is_none() {
        return Err(RecordError::new("tokens", "the column is missing").help(there()));
    }
    let mut places: Vec<usize> = COLUMNS.iter().filter_map(find).collect();
    if find(&"token_spans").or(find(&"char_spans")).is_none() {
        let Some(tags) = TAGS.iter().find_map(find) else {
            let wrong = RecordError::new(
                "token_spans",
                "none of the columns `token_spans`, `char_spans` and `ner_tags` is there",
            );
            return Err(wrong.help(there()));
        };
        places.push(tags);
    }
    Ok(places)
}

/// Some rows.
pub(super) struct Table {
    pub(super) rows: usize,
    id: Option<Ids>,
    language: Option<Text>,
    dataset: Option<Text>,
    text: Option<Text>,
    tokens: Lists<Text>,
    token_spans: Option<Spans>,
    char_spans: Option<Spans>,
    tags: Option<(String, Lists<Tags>)>,
}

impl Table {
    /// The rows of `batch`. `classes` gives the names of a column's classes.
    pub(super) fn new(
        batch: &RecordBatch,
        classes: &dyn Fn(&str) -> Option<Arc<[String]>>,
    ) -> Result<Self, RecordError> {
        let column = |name: &str| batch.column_by_name(name);
        let text = |name: &str| column(name).map(|array| Text::of(name, array)).transpose();
        let spans = |name: &str| column(name).map(|array| Spans::of(name, array)).transpose();
        let tokens = column("tokens").ok_or_else(|| RecordError::new("tokens", "the column is missing"))?;
        let (token_spans, char_spans) = (spans("token_spans")?, spans("char_spans")?);
        let tags = match TAGS.iter().find_map(|name| column(name).map(|array| (*name, array))) {
            Some((name, array)) if token_spans.is_none() && char_spans.is_none() => {
                let tags = |array: &ArrayRef| Tags::of(name, array, classes(name));
                Some((name.to_owned(), Lists::of(name, array, "a list of tags", tags)?))
            }
            _ => None,
        };
        Ok(Self {
            rows: batch.num_rows(),
            id: column("id").map(Ids::of).transpose()?,
            language: text("language")?.map_or_else(|| text("lang"), |column| Ok(Some(column)))?,
            dataset: text("dataset")?,
            text: text("text")?,
            tokens: Lists::of("tokens", tokens, "a list of strings", |array| Text::of("tokens", array))?,
            token_spans,
            char_spans,
            tags,
        })
    }

    /// The record of a row; `number` is the row's in its source.
    pub(super) fn record(&self, row: usize, number: u64) -> Result<(Record, Notes), RecordError> {
        let mut notes = Notes::default();
        let optional = |column: &Option<Text>| column.as_ref().and_then(|column| column.get(row)).map(str::to_owned);
        let id = self.id.as_ref().and_then(|column| column.get(row)).unwrap_or_else(|| {
            notes.made_id = self.id.is_some();
            format!("row-{number}")
        });
        let tokens = self.tokens.row("tokens", row).and_then(|places| {
            let tokens = places.map(|place| self.tokens.values.get(place)).enumerate();
            gather(tokens.map(|(index, token)| {
                let token = token.ok_or_else(|| null(format!("tokens[{index}]")));
                token.map(str::to_owned)
            }))
        });
        let text = match &self.text {
            Some(column) => column.get(row).map(str::to_owned).ok_or_else(|| null("text")).map(Some),
            None => Ok(None),
        };
        let spans = |name: &str, spans: &Option<Spans>| spans.as_ref().map(|spans| spans.row(name, row)).transpose();
        let token_spans = match (&self.tags, &tokens) {
            (Some((name, tags)), Ok(tokens)) => tags.spans(name, row, tokens.len(), &mut notes).map(Some),
            _ => spans("token_spans", &self.token_spans),
        };
        let char_spans = spans("char_spans", &self.char_spans);
        let (text, tokens, token_spans, char_spans) = match (text, tokens, token_spans, char_spans) {
            (Ok(text), Ok(tokens), Ok(token_spans), Ok(char_spans)) => (
                text.unwrap_or_else(|| tokens.join(" ")),
                tokens,
                token_spans,
                char_spans,
            ),
            (text, tokens, token_spans, char_spans) => {
                let wrong = [text.err(), tokens.err(), token_spans.err(), char_spans.err()];
                return Err(RecordError::join(wrong.into_iter().flatten().collect()));
            }
        };
        let raw = RawRecord {
            id: Some(Id(id)),
            language: optional(&self.language),
            dataset: optional(&self.dataset),
            text,
            tokens,
            token_spans,
            char_spans,
        };
        let (record, checked) = check(raw, number)?;
        Ok((
            record,
            Notes {
                duplicate_spans: checked.duplicate_spans,
                derived_spans: checked.derived_spans && self.tags.is_none(),
                ..notes
            },
        ))
    }
}

fn null(field: impl Into<String>) -> RecordError {
    RecordError::new(field, "the value is null")
}

fn wrong_type(name: &str, found: &DataType, wanted: &str) -> RecordError {
    RecordError::new(name, format!("the column's type is {found}, where {wanted} is needed"))
}

/// A column of strings.
struct Text(ArrayRef);

impl Text {
    fn of(name: &str, array: &ArrayRef) -> Result<Self, RecordError> {
        match array.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(Self(Arc::clone(array))),
            // A column without any value has no type of its own.
            DataType::Null => Ok(Self(Arc::clone(array))),
            other => Err(wrong_type(name, other, "a string")),
        }
    }

    /// The value at `place`; none if it is null.
    fn get(&self, place: usize) -> Option<&str> {
        if self.0.is_null(place) {
            return None;
        }
        match self.0.data_type() {
            DataType::Utf8 => Some(self.0.as_string::<i32>().value(place)),
            DataType::LargeUtf8 => Some(self.0.as_string::<i64>().value(place)),
            DataType::Utf8View => Some(self.0.as_string_view().value(place)),
            _ => None,
        }
    }
}

/// A column of whole numbers.
struct Numbers {
    values: Vec<i64>,
    nulls: Option<NullBuffer>,
}

impl Numbers {
    fn of(name: &str, array: &ArrayRef, wanted: &str) -> Result<Self, RecordError> {
        macro_rules! values {
            ($kind:ty) => {
                array
                    .as_primitive::<$kind>()
                    .values()
                    .iter()
                    .map(|&value| i64::try_from(value).unwrap_or(i64::MAX))
                    .collect()
            };
        }
        let values: Vec<i64> = match array.data_type() {
            DataType::Int64 => array.as_primitive::<Int64Type>().values().to_vec(),
            DataType::Int32 => values!(Int32Type),
            DataType::Int16 => values!(Int16Type),
            DataType::Int8 => values!(Int8Type),
            DataType::UInt64 => values!(UInt64Type),
            DataType::UInt32 => values!(UInt32Type),
            DataType::UInt16 => values!(UInt16Type),
            DataType::UInt8 => values!(UInt8Type),
            other => return Err(wrong_type(name, other, wanted)),
        };
        Ok(Self {
            values,
            nulls: array.nulls().cloned(),
        })
    }

    fn get(&self, place: usize) -> Option<i64> {
        let is_null = self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(place));
        (!is_null).then(|| self.values[place])
    }
}

/// A column of ids: strings or whole numbers.
enum Ids {
    Text(Text),
    Numbers(Numbers),
}

impl Ids {
    fn of(array: &ArrayRef) -> Result<Self, RecordError> {
        match Text::of("id", array) {
            Ok(text) => Ok(Self::Text(text)),
            Err(_) => Numbers::of("id", array, "a string or a whole number").map(Self::Numbers),
        }
    }

    fn get(&self, row: usize) -> Option<String> {
        match self {
            Self::Text(text) => text.get(row).map(str::to_owned),
            Self::Numbers(numbers) => numbers.get(row).map(|number| number.to_string()),
        }
    }
}

/// A column of lists.
struct Lists<T> {
    /// Row r's elements are `offsets[r]..offsets[r + 1]` of the values.
    offsets: Vec<usize>,
    nulls: Option<NullBuffer>,
    values: T,
}

impl<T> Lists<T> {
    fn of(
        name: &str,
        array: &ArrayRef,
        wanted: &str,
        values: impl FnOnce(&ArrayRef) -> Result<T, RecordError>,
    ) -> Result<Self, RecordError> {
        // The offsets were checked to be within the values, so they are not negative.
        let (offsets, child) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (
                    list.offsets().iter().map(|&offset| offset as usize).collect(),
                    list.values(),
                )
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                (
                    list.offsets().iter().map(|&offset| offset as usize).collect(),
                    list.values(),
                )
            }
            other => return Err(wrong_type(name, other, wanted)),
        };
        Ok(Self {
            offsets,
            nulls: array.nulls().cloned(),
            values: values(child)?,
        })
    }

    /// Where the elements of a row are among the values.
    fn row(&self, name: &str, row: usize) -> Result<std::ops::Range<usize>, RecordError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Err(null(name).help("a sentence without entities has an empty list"));
        }
        Ok(self.offsets[row]..self.offsets[row + 1])
    }
}

/// A column of lists of spans.
enum Spans {
    /// A list of structs.
    Structs(Lists<Fields>),
    /// A struct of lists.
    Lists {
        start: Lists<Numbers>,
        end: Lists<Numbers>,
        label: Lists<Text>,
        nulls: Option<NullBuffer>,
    },
}

/// The fields of structs.
struct Fields {
    start: Numbers,
    end: Numbers,
    label: Text,
    nulls: Option<NullBuffer>,
}

const POSITION: &str = "a whole number";

impl Spans {
    fn of(name: &str, array: &ArrayRef) -> Result<Self, RecordError> {
        let part = |part: &str| format!("{name}.{part}");
        if let DataType::Struct(_) = array.data_type() {
            let child = children(name, array)?;
            let numbers = |what: &str| {
                let name = part(what);
                Lists::of(&name, child(what)?, "a list of whole numbers", |array| {
                    Numbers::of(&name, array, POSITION)
                })
            };
            let label = part("label");
            return Ok(Self::Lists {
                start: numbers("start")?,
                end: numbers("end")?,
                label: Lists::of(&label, child("label")?, "a list of strings", |array| {
                    Text::of(&label, array)
                })?,
                nulls: array.nulls().cloned(),
            });
        }
        let wanted = "a list of structs `{start, end, label}`";
        let fields = |array: &ArrayRef| {
            if !matches!(array.data_type(), DataType::Struct(_)) {
                return Err(wrong_type(name, array.data_type(), wanted));
            }
            let child = children(name, array)?;
            Ok(Fields {
                start: Numbers::of(&part("start"), child("start")?, POSITION)?,
                end: Numbers::of(&part("end"), child("end")?, POSITION)?,
                label: Text::of(&part("label"), child("label")?)?,
                nulls: array.nulls().cloned(),
            })
        };
        Lists::of(name, array, wanted, fields).map(Self::Structs)
    }

    fn row(&self, name: &str, row: usize) -> Result<Vec<RawSpan>, RecordError> {
        match self {
            Self::Structs(lists) => {
                let fields = &lists.values;
                let places = lists.row(name, row)?.enumerate();
                gather(places.map(|(index, place)| {
                    let is_null = fields.nulls.as_ref().is_some_and(|nulls| nulls.is_null(place));
                    match is_null {
                        true => Err(null(format!("{name}[{index}]"))),
                        false => span(
                            name,
                            index,
                            (&fields.start, place),
                            (&fields.end, place),
                            (&fields.label, place),
                        ),
                    }
                }))
            }
            Self::Lists {
                start,
                end,
                label,
                nulls,
            } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Err(null(name).help("a sentence without entities has empty lists"));
                }
                let (starts, ends) = (
                    start.row(&format!("{name}.start"), row)?,
                    end.row(&format!("{name}.end"), row)?,
                );
                let labels = label.row(&format!("{name}.label"), row)?;
                if starts.len() != ends.len() || starts.len() != labels.len() {
                    let reason = format!(
                        "there are {} starts, {} ends and {} labels",
                        starts.len(),
                        ends.len(),
                        labels.len()
                    );
                    return Err(RecordError::new(name, reason));
                }
                let places = starts.zip(ends).zip(labels).enumerate();
                gather(places.map(|(index, ((s, e), l))| {
                    span(name, index, (&start.values, s), (&end.values, e), (&label.values, l))
                }))
            }
        }
    }
}

/// Finds a struct's fields by name.
fn children<'a>(
    name: &'a str,
    array: &'a ArrayRef,
) -> Result<impl Fn(&str) -> Result<&'a ArrayRef, RecordError>, RecordError> {
    let array = array.as_struct();
    Ok(move |part: &str| {
        let missing = || {
            RecordError::new(format!("{name}.{part}"), "the column is missing")
                .help(format!("the columns are {}", array.column_names().join(", ")))
        };
        array.column_by_name(part).ok_or_else(missing)
    })
}

fn span(
    name: &str,
    index: usize,
    start: (&Numbers, usize),
    end: (&Numbers, usize),
    label: (&Text, usize),
) -> Result<RawSpan, RecordError> {
    let field = |part: &str| format!("{name}[{index}].{part}");
    let position = |part: &str, (numbers, place): (&Numbers, usize)| {
        let number = numbers.get(place).ok_or_else(|| null(field(part)))?;
        u32::try_from(number).map_err(|_| {
            let problem = if number < 0 {
                "negative; positions count from the start of the text"
            } else {
                "too large for a position"
            };
            RecordError::new(field(part), format!("{number} is {problem}"))
        })
    };
    let label = label.0.get(label.1).ok_or_else(|| null(field("label")));
    match (position("start", start), position("end", end), label) {
        (Ok(start), Ok(end), Ok(label)) => Ok(RawSpan {
            start,
            end,
            label: label.to_owned(),
        }),
        (start, end, label) => {
            let wrong = [start.err(), end.err(), label.err()];
            Err(RecordError::join(wrong.into_iter().flatten().collect()))
        }
    }
}

/// Tags of tokens.
enum Tags {
    Words(Text),
    Classes(Numbers, Arc<[String]>),
}

impl Tags {
    fn of(name: &str, array: &ArrayRef, classes: Option<Arc<[String]>>) -> Result<Self, RecordError> {
        if let Ok(text) = Text::of(name, array) {
            return Ok(Self::Words(text));
        }
        let numbers = Numbers::of(name, array, "a list of tags, as strings or class numbers,")?;
        let classes = classes.ok_or_else(|| {
            RecordError::new(name, "the tags are numbers, and no names are given for them")
                .help("save the data with a `ClassLabel` feature, whose names dataset_info.json keeps, or with the tags as words")
        })?;
        Ok(Self::Classes(numbers, classes))
    }
}

impl Lists<Tags> {
    /// The spans of a row of `tokens` tokens.
    fn spans(&self, name: &str, row: usize, tokens: usize, notes: &mut Notes) -> Result<Vec<RawSpan>, RecordError> {
        let places = self.row(name, row)?;
        if places.len() != tokens {
            return Err(RecordError::new(
                name,
                format!("there are {} tags for {tokens} tokens", places.len()),
            ));
        }
        let mut spans = TaggedSpans::default();
        gather(places.enumerate().map(|(index, place)| {
            let field = || format!("{name}[{index}]");
            let tag = match &self.values {
                Tags::Words(words) => words.get(place).ok_or_else(|| null(field()))?,
                Tags::Classes(numbers, classes) => {
                    let number = numbers.get(place).ok_or_else(|| null(field()))?;
                    let class = usize::try_from(number).ok().and_then(|number| classes.get(number));
                    class.ok_or_else(|| {
                        RecordError::new(
                            field(),
                            format!("{number} is no class; there are {}, from 0", classes.len()),
                        )
                    })?
                }
            };
            spans.push_text(index as u32, tag, notes).map_err(|error| RecordError {
                field: field(),
                ..error
            })
        }))?;
        Ok(spans.done)
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::StringArray;
    use arrow_array::builder::{ListBuilder, StringBuilder};

    use super::*;

    fn lists(rows: &[&[Option<&str>]]) -> ArrayRef {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in rows {
            lists.append_value(row.iter().copied());
        }
        Arc::new(lists.finish())
    }

    #[test]
    fn all_that_is_wrong_with_a_row_is_told() {
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None, Some("a b c"), Some(" ")]));
        let tokens = lists(&[
            &[Some("a"), None, None],
            &[Some("a"), Some("b"), Some("c")],
            &[Some("a"), Some("")],
        ]);
        let tags = lists(&[
            &[Some("O"), None, None],
            &[Some("B-x"), Some("x"), None],
            &[Some("B- y"), Some("O")],
        ]);
        let columns = [("text", texts), ("tokens", tokens), ("ner_tags", tags)];
        let table = Table::new(&RecordBatch::try_from_iter(columns).unwrap(), &|_| None).unwrap();
        let fields = |row: usize| -> Vec<String> {
            let all = table.record(row, 0).unwrap_err().apart();
            all.into_iter().map(|error| error.field).collect()
        };
        // Without tokens there is nothing that tags could be compared with.
        assert_eq!(fields(0), ["text", "tokens[1]", "tokens[2]"]);
        assert_eq!(fields(1), ["ner_tags[1]", "ner_tags[2]"]);
        assert_eq!(fields(2), ["text", "tokens[1]", "token_spans[0].label"]);
    }
}
