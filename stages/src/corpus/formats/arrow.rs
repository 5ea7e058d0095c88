//! Arrow's stream format, as `datasets` writes it: messages of metadata and a body, one after the other.
//!
//! Lengths are checked against the file before anything is allocated or sliced, and the library checks offsets and UTF-8:
//! a damaged file is an error, never a panic and never a wrong string.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::read_record_batch;
use arrow_ipc::{Message, MessageHeader, MetadataVersion, root_as_message};
use arrow_schema::{ArrowError, DataType, Schema, UnionMode};

use super::super::parse::RecordError;
use super::super::read::CorpusError;
use super::table::needed;

/// What a message begins with.
const CONTINUATION: [u8; 4] = [0xff; 4];
/// The most rows of a batch that can be meant.
const MAX_ROWS: i64 = 1 << 40;

/// A stream of record batches.
pub(super) struct Stream {
    name: String,
    reader: BufReader<File>,
    /// Bytes that are left.
    left: u64,
    pub(super) schema: Arc<Schema>,
    /// The places of the columns that are read.
    columns: Vec<usize>,
}

impl Stream {
    /// Opens the file `path`, called `name` in messages.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, CorpusError> {
        let failed = |error: std::io::Error| CorpusError::file(name, format!("failed to open the Arrow file: {error}"));
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() {
            return Err(CorpusError::file(name, "the Arrow file is not a regular file"));
        }
        let mut stream = Self {
            name: name.to_owned(),
            reader: BufReader::with_capacity(1 << 16, File::open(path).map_err(failed)?),
            left: metadata.len(),
            schema: Arc::new(Schema::empty()),
            columns: Vec::new(),
        };
        if metadata.len() == 0 {
            return Err(stream.wrong("the Arrow file is empty"));
        }
        let Some(first) = stream.metadata()? else {
            return Err(stream.wrong("the Arrow file has no schema"));
        };
        let message = stream.message(&first)?;
        let Some(schema) = message.header_as_schema() else {
            return Err(stream.wrong("the Arrow file does not begin with a schema"));
        };
        stream.schema = Arc::new(try_fb_to_schema(schema).map_err(|error| stream.arrow(&error))?);
        stream.columns = needed(&stream.schema).map_err(|error: RecordError| CorpusError::of(name, error))?;
        Ok(stream)
    }

    /// The next batch, with the needed columns only; none at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, CorpusError> {
        let Some(bytes) = self.metadata()? else { return Ok(None) };
        let message = self.message(&bytes)?;
        let length = u64::try_from(message.bodyLength()).unwrap_or(u64::MAX);
        let body = self.body(length)?;
        let batch = match message.header_type() {
            MessageHeader::RecordBatch => message.header_as_record_batch(),
            MessageHeader::DictionaryBatch => {
                return Err(self
                    .wrong("dictionary-encoded columns are not supported")
                    .help("write the strings themselves"));
            }
            other => return Err(self.wrong(format!("there is a message of kind {other:?} among the record batches"))),
        };
        let Some(batch) = batch else {
            return Err(self.wrong("a record batch has no header"));
        };
        if batch.compression().is_some() {
            return Err(self
                .wrong("compressed buffers are not supported")
                .help("write the stream without compression, as `save_to_disk` does"));
        }
        let inside = |offset: i64, length: i64| {
            let end = offset.checked_add(length);
            offset >= 0 && length >= 0 && end.is_some_and(|end| end <= body.len() as i64)
        };
        let buffers_fit = batch
            .buffers()
            .is_none_or(|buffers| buffers.iter().all(|buffer| inside(buffer.offset(), buffer.length())));
        let rows_fit = |rows: i64| (0..MAX_ROWS).contains(&rows);
        let nodes_fit = batch.nodes().is_none_or(|nodes| {
            nodes
                .iter()
                .all(|node| rows_fit(node.length()) && rows_fit(node.null_count()))
        });
        if !(buffers_fit && nodes_fit && rows_fit(batch.length()) && offsets_are_whole(&self.schema, &batch)) {
            return Err(self.wrong("a record batch says of its buffers what cannot be"));
        }
        let version = match message.version() {
            version @ (MetadataVersion::V4 | MetadataVersion::V5) => version,
            other => return Err(self.wrong(format!("the Arrow file has version {other:?}"))),
        };
        read_record_batch(
            &body,
            batch,
            Arc::clone(&self.schema),
            &HashMap::new(),
            Some(&self.columns),
            &version,
        )
        .map(Some)
        .map_err(|error| self.arrow(&error))
    }

    /// The metadata of the next message; none at the end of the stream. A missing end mark is forgiven.
    fn metadata(&mut self) -> Result<Option<Vec<u8>>, CorpusError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut head = [0u8; 8];
        let what = "the file ends within the head of a message";
        self.fill(&mut head, what)?;
        let [mark @ .., a, b, c, d] = head;
        if mark != CONTINUATION {
            let what = match &head {
                b"ARROW1\0\0" => "the file is in Arrow's file format, where the stream format is needed",
                _ => "the file is not an Arrow stream",
            };
            return Err(self.wrong(what).help("save the data with `save_to_disk` of `datasets`"));
        }
        let length = i32::from_le_bytes([a, b, c, d]);
        if length == 0 {
            self.left = 0;
            return Ok(None);
        }
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if length > self.left {
            return Err(self.cut(length, "metadata"));
        }
        let mut bytes = vec![0; length as usize];
        self.fill(&mut bytes, what)?;
        Ok(Some(bytes))
    }

    fn message<'a>(&self, bytes: &'a [u8]) -> Result<Message<'a>, CorpusError> {
        root_as_message(bytes).map_err(|_| self.wrong("the metadata of a message are damaged"))
    }

    fn body(&mut self, length: u64) -> Result<Buffer, CorpusError> {
        if length > self.left {
            return Err(self.cut(length, "a record batch"));
        }
        let mut body = MutableBuffer::from_len_zeroed(length as usize);
        self.fill(body.as_slice_mut(), "the file ends within a record batch")?;
        Ok(body.into())
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), CorpusError> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            return Err(self.wrong(what).help("copy the file again"));
        };
        self.left = left;
        self.reader
            .read_exact(bytes)
            .map_err(|error| self.wrong(format!("failed to read the Arrow file: {error}")))
    }

    fn cut(&self, length: u64, what: &str) -> CorpusError {
        self.wrong(format!(
            "the file is cut off: {what} of {length} bytes is announced, {} are left",
            self.left
        ))
        .help("copy the file again")
    }

    fn arrow(&self, error: &ArrowError) -> CorpusError {
        self.wrong(format!("the Arrow file is damaged: {error}"))
    }

    fn wrong(&self, reason: impl Into<String>) -> CorpusError {
        CorpusError::file(&self.name, reason)
    }
}

/// Whether every buffer of offsets holds a whole number of them, which the library takes for granted.
fn offsets_are_whole(schema: &Schema, batch: &arrow_ipc::RecordBatch<'_>) -> bool {
    let lengths: Vec<i64> = batch
        .buffers()
        .into_iter()
        .flatten()
        .map(|buffer| buffer.length())
        .collect();
    let mut views = batch.variadicBufferCounts().into_iter().flatten();
    let mut widths = Vec::with_capacity(lengths.len());
    for field in schema.fields() {
        buffer_widths(field.data_type(), &mut views, lengths.len(), &mut widths);
    }
    lengths.iter().zip(widths).all(|(length, width)| length % width == 0)
}

/// Appends the width of an offset for every buffer of offsets of a column, and 1 for its other buffers. `most` is how many
/// buffers there are.
fn buffer_widths(data_type: &DataType, views: &mut impl Iterator<Item = i64>, most: usize, widths: &mut Vec<i64>) {
    let mut child = |data_type: &DataType, widths: &mut Vec<i64>| buffer_widths(data_type, views, most, widths);
    match data_type {
        DataType::Null => {}
        DataType::Utf8 | DataType::Binary => widths.extend([1, 4, 1]),
        DataType::LargeUtf8 | DataType::LargeBinary => widths.extend([1, 8, 1]),
        DataType::Utf8View | DataType::BinaryView => {
            let count = views.next().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            widths.extend(std::iter::repeat_n(1, 2 + count.min(most)));
        }
        DataType::List(field) | DataType::Map(field, _) => {
            widths.extend([1, 4]);
            child(field.data_type(), widths);
        }
        DataType::LargeList(field) => {
            widths.extend([1, 8]);
            child(field.data_type(), widths);
        }
        DataType::ListView(field) => {
            widths.extend([1, 4, 4]);
            child(field.data_type(), widths);
        }
        DataType::LargeListView(field) => {
            widths.extend([1, 8, 8]);
            child(field.data_type(), widths);
        }
        DataType::FixedSizeList(field, _) => {
            widths.push(1);
            child(field.data_type(), widths);
        }
        DataType::Struct(fields) => {
            widths.push(1);
            fields.iter().for_each(|field| child(field.data_type(), widths));
        }
        DataType::RunEndEncoded(ends, values) => {
            child(ends.data_type(), widths);
            child(values.data_type(), widths);
        }
        DataType::Union(fields, mode) => {
            widths.push(1);
            if *mode == UnionMode::Dense {
                widths.push(4);
            }
            fields.iter().for_each(|(_, field)| child(field.data_type(), widths));
        }
        _ => widths.extend([1, 1]),
    }
}
