//! Writing: sentences batch by batch, and the label table of a file.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow_buffer::OffsetBuffer;
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use indexmap::IndexMap;

use super::{Gold, TokensError, map, read_labels};
use crate::corpus::Origin;
use crate::tokenizer::Encoded;

/// Rows of one record batch at most.
pub(super) const BATCH_ROWS: usize = 4096;
/// Subwords of one record batch after which it is written, so that memory and 32-bit list offsets stay bounded.
const BATCH_SUBWORDS: usize = 1 << 20;

/// A list column that is being filled.
struct ListColumn {
    offsets: Vec<i32>,
    values: Vec<u32>,
}

impl ListColumn {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            values: Vec::new(),
        }
    }

    fn push(&mut self, values: impl IntoIterator<Item = u32>) {
        self.values.extend(values);
        self.offsets.push(i32::try_from(self.values.len()).unwrap_or(i32::MAX));
    }

    /// Hands out what was pushed and starts again.
    fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let Self { offsets, values } = std::mem::replace(self, Self::new());
        let values = Arc::new(UInt32Array::from(values));
        let list = ListArray::try_new(list_item(), OffsetBuffer::new(offsets.into()), values, None)?;
        Ok(Arc::new(list))
    }
}

fn list_item() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::UInt32, false))
}

fn list_field(name: &str) -> Field {
    Field::new(name, DataType::List(list_item()), false)
}

/// The list columns of a sentences file, in order.
const LISTS: [&str; 7] = [
    "ids",
    "words",
    "starts",
    "ends",
    "gold_starts",
    "gold_ends",
    "gold_labels",
];

/// Writes a sentences file, batch by batch.
pub struct SentenceWriter<W: Write> {
    writer: FileWriter<W>,
    schema: Arc<Schema>,
    ids: Vec<String>,
    origins: Vec<Origin>,
    lengths: Vec<u32>,
    lists: [ListColumn; 7],
}

impl<W: Write> SentenceWriter<W> {
    /// Begins a file on `out`, which should be buffered.
    ///
    /// # Errors
    /// If the file's head cannot be written.
    pub fn new(out: W) -> Result<Self, TokensError> {
        let mut fields = vec![
            Field::new("id", DataType::Utf8, false),
            Field::new("language", DataType::Utf8, true),
            Field::new("dataset", DataType::Utf8, true),
            Field::new("length", DataType::UInt32, false),
        ];
        fields.extend(LISTS.map(list_field));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            writer: FileWriter::try_new(out, &schema)?,
            schema,
            ids: Vec::new(),
            origins: Vec::new(),
            lengths: Vec::new(),
            lists: std::array::from_fn(|_| ListColumn::new()),
        })
    }

    /// Adds a sentence of `length` words or code points. Labels of `golds` are indices into the file's own table.
    ///
    /// # Errors
    /// If a full batch cannot be written.
    pub fn push(
        &mut self,
        id: &str,
        origin: &Origin,
        encoded: &Encoded,
        length: u32,
        golds: &[Gold],
    ) -> Result<(), TokensError> {
        self.ids.push(id.to_owned());
        self.origins.push(origin.clone());
        self.lengths.push(length);
        let [ids, words, starts, ends, gold_starts, gold_ends, gold_labels] = &mut self.lists;
        ids.push(encoded.ids.iter().copied());
        words.push(encoded.words.iter().copied());
        starts.push(encoded.starts.iter().copied());
        ends.push(encoded.ends.iter().copied());
        gold_starts.push(golds.iter().map(|gold| gold.start));
        gold_ends.push(golds.iter().map(|gold| gold.end));
        gold_labels.push(golds.iter().map(|gold| gold.label));
        if self.ids.len() >= BATCH_ROWS || self.lists[0].values.len() >= BATCH_SUBWORDS {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes what is left and the file's end, and hands back what was written to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<W, TokensError> {
        self.flush()?;
        self.writer.finish()?;
        let mut out = self.writer.into_inner()?;
        out.flush().map_err(ArrowError::from)?;
        Ok(out)
    }

    fn flush(&mut self) -> Result<(), TokensError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let origins = std::mem::take(&mut self.origins);
        let names = |name: fn(&Origin) -> Option<&str>| StringArray::from_iter(origins.iter().map(name));
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(std::mem::take(&mut self.ids))),
            Arc::new(names(|origin| origin.language.as_deref())),
            Arc::new(names(|origin| origin.dataset.as_deref())),
            Arc::new(UInt32Array::from(std::mem::take(&mut self.lengths))),
        ];
        for list in &mut self.lists {
            columns.push(list.take()?);
        }
        self.writer
            .write(&RecordBatch::try_new(Arc::clone(&self.schema), columns)?)?;
        Ok(())
    }
}

/// The label table of one corpus file, in the order in which its types first appear.
#[derive(Clone, Debug, Default)]
pub struct LabelTable {
    entries: IndexMap<String, Vec<u32>>,
}

impl LabelTable {
    /// The number of the type `name`; if it is new, `ids` gives its subword ids.
    ///
    /// # Errors
    /// Whatever `ids` fails with.
    pub fn index<E>(&mut self, name: &str, ids: impl FnOnce() -> Result<Vec<u32>, E>) -> Result<u32, E> {
        if let Some(index) = self.entries.get_index_of(name) {
            return Ok(index as u32);
        }
        self.entries.insert(name.to_owned(), ids()?);
        Ok(self.entries.len() as u32 - 1)
    }

    /// Adds the types of the label table at `path` that are new.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn add_file(&mut self, path: &Path, name: &str) -> Result<(), TokensError> {
        for (label, ids) in read_labels(&map(path, name)?, name)? {
            self.entries.entry(label).or_insert(ids);
        }
        Ok(())
    }

    /// How many types there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no type.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Pairs of types with the same subword ids, which no model can tell apart; the earlier one comes first.
    pub fn alike(&self) -> Vec<(String, String)> {
        let mut seen: BTreeMap<&[u32], &str> = BTreeMap::new();
        let mut pairs = Vec::new();
        for (name, ids) in &self.entries {
            match seen.get(ids.as_slice()) {
                Some(&earlier) => pairs.push((earlier.to_owned(), name.clone())),
                None => drop(seen.insert(ids, name)),
            }
        }
        pairs
    }

    /// Writes the table as an Arrow IPC file and hands back `out`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write<W: Write>(&self, out: W) -> Result<W, TokensError> {
        let schema = Arc::new(Schema::new(vec![
            Field::new("name", DataType::Utf8, false),
            list_field("ids"),
        ]));
        let mut writer = FileWriter::try_new(out, &schema)?;
        if !self.entries.is_empty() {
            let names = StringArray::from_iter_values(self.entries.keys());
            let mut ids = ListColumn::new();
            self.entries.values().for_each(|entry| ids.push(entry.iter().copied()));
            writer.write(&RecordBatch::try_new(schema, vec![Arc::new(names), ids.take()?])?)?;
        }
        writer.finish()?;
        let mut out = writer.into_inner()?;
        out.flush().map_err(ArrowError::from)?;
        Ok(out)
    }
}
