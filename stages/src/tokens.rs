//! Tokenized sentences on disk: Arrow IPC, memory-mapped, so that a split of any size costs constant memory.
//!
//! Every corpus file `<stem>.jsonl` becomes up to three files: `<stem>.tokens.arrow` and `<stem>.text.arrow` hold its
//! sentences in the two [`Format`]s, `<stem>.labels.arrow` its table of entity types with their own subword ids. A
//! [`Split`] joins the files of one split and merges their label tables when it is opened; no file knows of another,
//! so a changed file never touches its neighbours.
//!
//! Columns of a sentences file, one row a sentence: `id`; `length` (words or code points); the lists `ids`, `words`,
//! `starts`, `ends` of [`Encoded`]; the lists `gold_starts`, `gold_ends` (exclusive), `gold_labels` (an index into
//! the file's own label table). Columns of a label table: `name`, `ids`.

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use indexmap::IndexMap;
use nerpipe_engine::Part;
use serde::{Deserialize, Serialize};

use crate::mapped::map_file;
use crate::tokenizer::Encoded;

/// Rows of one record batch at most.
const BATCH_ROWS: usize = 4096;
/// Subwords of one record batch after which it is written, so that memory and 32-bit list offsets stay bounded.
const BATCH_SUBWORDS: usize = 1 << 20;

/// Which view of a record is used: its words, or its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Pre-split words; golds are word positions.
    Tokens,
    /// Raw text; golds are positions in code points.
    Text,
}

impl Format {
    /// The word used in settings and file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tokens => "tokens",
            Self::Text => "text",
        }
    }

    /// The name of the sentences file of the corpus file `stem`.
    pub fn file(self, stem: &str) -> String {
        format!("{stem}.{}.arrow", self.name())
    }
}

/// The name of the label table of the corpus file `stem`.
pub fn labels_file(stem: &str) -> String {
    format!("{stem}.labels.arrow")
}

/// An entity that the corpus marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gold {
    /// Where it starts: a word ([`Format::Tokens`]) or a code point of the text ([`Format::Text`]).
    pub start: u32,
    /// Where it ends, exclusive.
    pub end: u32,
    /// Its type: an index into the label table.
    pub label: u32,
}

/// One sentence of a [`Split`]; everything borrows from the mapped file.
#[derive(Clone, Copy, Debug)]
pub struct Sentence<'a> {
    /// The record's id.
    pub id: &'a str,
    /// Subword ids, without special tokens; see [`Encoded`] for this and the next three, all equally long.
    pub ids: &'a [u32],
    /// The word of each subword.
    pub words: &'a [u32],
    /// Where each subword starts.
    pub starts: &'a [u32],
    /// Where each subword ends, exclusive.
    pub ends: &'a [u32],
    /// How many words ([`Format::Tokens`], those without subwords included) or code points ([`Format::Text`]) there are.
    pub length: u32,
    gold_starts: &'a [u32],
    gold_ends: &'a [u32],
    gold_labels: &'a [u32],
    /// From the file's label numbers to the split's.
    label_map: &'a [u32],
}

impl<'a> Sentence<'a> {
    /// How many entities are marked.
    pub fn gold_count(&self) -> usize {
        self.gold_labels.len()
    }

    /// Entity number `index`; its label is an index into [`Split::labels`].
    ///
    /// # Panics
    /// If `index` is not less than [`Sentence::gold_count`].
    pub fn gold(&self, index: usize) -> Gold {
        Gold {
            start: self.gold_starts[index],
            end: self.gold_ends[index],
            label: self.label_map[self.gold_labels[index] as usize],
        }
    }

    /// The entities that are marked, in the order of the record.
    pub fn golds(&self) -> impl ExactSizeIterator<Item = Gold> + use<'a> {
        let sentence = *self;
        (0..sentence.gold_count()).map(move |index| sentence.gold(index))
    }
}

/// A table of entity types.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// The types' names, sorted.
    pub names: Vec<String>,
    /// The subword ids of each name, without special tokens.
    pub ids: Vec<Vec<u32>>,
}

impl Labels {
    /// How many types there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no type at all.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The index of the type called `name`.
    pub fn index(&self, name: &str) -> Option<u32> {
        self.names
            .binary_search_by(|entry| entry.as_str().cmp(name))
            .ok()
            .map(|index| index as u32)
    }
}

/// Why tokenized sentences could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// The tokens were made without the view that is asked for.
    #[error("the tokens of `{part}` have no `{format}` view; add `{format}` to the `formats` of the tokenize stage")]
    NoFormat {
        /// The split.
        part: String,
        /// The view's name.
        format: &'static str,
    },
    /// A file could not be opened.
    #[error("failed to open the tokens `{name}`: {source}")]
    Open {
        /// The file's name in the artifact.
        name: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what [`SentenceWriter`] or [`LabelTable`] writes.
    #[error("the tokens `{name}` are damaged: {reason}; remove them from the cache and run again")]
    Damaged {
        /// The file's name in the artifact.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Two files of a split were made with different tokenizers.
    #[error("the type `{label}` has other subword ids in `{name}` than in an earlier file of the split")]
    Mixed {
        /// The type's name.
        label: String,
        /// The later file.
        name: String,
    },
    /// A file could not be written.
    #[error("failed to write tokens: {0}")]
    Write(#[from] ArrowError),
}

/// A column of lists: row `r` is `values[offsets[r]..offsets[r + 1]]`.
struct Lists {
    offsets: OffsetBuffer<i32>,
    values: ScalarBuffer<u32>,
}

impl Lists {
    fn row(&self, row: usize) -> &[u32] {
        &self.values[self.offsets[row] as usize..self.offsets[row + 1] as usize]
    }
}

/// A record batch of a sentences file, as its columns.
struct Batch {
    /// The split's number of its first sentence.
    first: usize,
    /// The number of its file in the split.
    file: usize,
    id: StringArray,
    length: ScalarBuffer<u32>,
    ids: Lists,
    words: Lists,
    starts: Lists,
    ends: Lists,
    gold_starts: Lists,
    gold_ends: Lists,
    gold_labels: Lists,
}

/// The sentences of one split in one format. See the module's text.
pub struct Split {
    format: Format,
    len: usize,
    batches: Vec<Batch>,
    /// Stem and sentence numbers of each file.
    files: Vec<(String, Range<usize>)>,
    /// For each file, from its own label numbers to those of `labels`.
    label_maps: Vec<Vec<u32>>,
    labels: Labels,
}

impl Split {
    /// Opens the files of `part` that are in `format`, in the order of their names.
    ///
    /// # Errors
    /// If the part lacks this format, or a file cannot be opened or is damaged.
    pub fn open(part: &Part, format: Format) -> Result<Self, TokensError> {
        let suffix = format.file("");
        let mut sources = Vec::new();
        for file in &part.files {
            let Some(stem) = file.name.strip_suffix(&suffix) else {
                continue;
            };
            let table = labels_file(stem);
            let labels = part.file(&table).ok_or_else(|| TokensError::Damaged {
                name: file.name.clone(),
                reason: format!("its label table `{table}` is missing"),
            })?;
            sources.push(Source {
                stem: stem.to_owned(),
                sentences: map(&file.path, &file.name)?,
                labels: map(&labels.path, &labels.name)?,
            });
        }
        if sources.is_empty() {
            return Err(TokensError::NoFormat {
                part: part.name.clone(),
                format: format.name(),
            });
        }
        Self::from_sources(sources, format)
    }

    fn from_sources(sources: Vec<Source>, format: Format) -> Result<Self, TokensError> {
        let tables: Vec<(String, IndexMap<String, Vec<u32>>)> = sources
            .iter()
            .map(|source| {
                let name = labels_file(&source.stem);
                read_labels(&source.labels, &name).map(|table| (name, table))
            })
            .collect::<Result<_, _>>()?;
        let mut merged: BTreeMap<&str, &[u32]> = BTreeMap::new();
        for (name, table) in &tables {
            for (label, ids) in table {
                if merged.insert(label, ids).is_some_and(|earlier| earlier != ids) {
                    return Err(TokensError::Mixed {
                        label: label.clone(),
                        name: name.clone(),
                    });
                }
            }
        }
        let labels = Labels {
            names: merged.keys().map(|&name| name.to_owned()).collect(),
            ids: merged.values().map(|ids| ids.to_vec()).collect(),
        };
        let label_maps: Vec<Vec<u32>> = tables
            .iter()
            .map(|(_, table)| table.keys().filter_map(|label| labels.index(label)).collect())
            .collect();

        let (mut batches, mut files, mut len) = (Vec::new(), Vec::new(), 0);
        for (file, source) in sources.into_iter().enumerate() {
            let first = len;
            let name = format.file(&source.stem);
            for batch in read_batches(&source.sentences, &name)? {
                let batch = Batch::new(&batch, len, file)
                    .and_then(|batch| batch.check(label_maps[file].len()).map(|()| batch))
                    .map_err(|reason| TokensError::Damaged {
                        name: name.clone(),
                        reason,
                    })?;
                len += batch.length.len();
                batches.push(batch);
            }
            files.push((source.stem, first..len));
        }
        Ok(Self {
            format,
            len,
            batches,
            files,
            label_maps,
            labels,
        })
    }

    /// The view that the sentences are in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no sentence.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Every entity type of the split; [`Gold::label`] is an index into it.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// The stem of each corpus file and the numbers of its sentences.
    pub fn files(&self) -> &[(String, Range<usize>)] {
        &self.files
    }

    /// Sentence number `index`.
    ///
    /// # Panics
    /// If `index` is not less than [`Split::len`].
    pub fn sentence(&self, index: usize) -> Sentence<'_> {
        assert!(index < self.len, "sentence {index} of {}", self.len);
        let batch = &self.batches[self.batches.partition_point(|batch| batch.first <= index) - 1];
        let row = index - batch.first;
        Sentence {
            id: batch.id.value(row),
            ids: batch.ids.row(row),
            words: batch.words.row(row),
            starts: batch.starts.row(row),
            ends: batch.ends.row(row),
            length: batch.length[row],
            gold_starts: batch.gold_starts.row(row),
            gold_ends: batch.gold_ends.row(row),
            gold_labels: batch.gold_labels.row(row),
            label_map: &self.label_maps[batch.file],
        }
    }

    /// Every sentence, in order.
    pub fn sentences(&self) -> impl ExactSizeIterator<Item = Sentence<'_>> {
        (0..self.len).map(|index| self.sentence(index))
    }
}

/// The bytes of one corpus file's sentences and labels.
struct Source {
    stem: String,
    sentences: Buffer,
    labels: Buffer,
}

impl Batch {
    fn new(batch: &RecordBatch, first: usize, file: usize) -> Result<Self, String> {
        Ok(Self {
            first,
            file,
            id: column::<StringArray>(batch, "id")?.clone(),
            length: column::<UInt32Array>(batch, "length")?.values().clone(),
            ids: lists(batch, "ids")?,
            words: lists(batch, "words")?,
            starts: lists(batch, "starts")?,
            ends: lists(batch, "ends")?,
            gold_starts: lists(batch, "gold_starts")?,
            gold_ends: lists(batch, "gold_ends")?,
            gold_labels: lists(batch, "gold_labels")?,
        })
    }

    /// Checks what [`Split::sentence`] relies on: lists of a row are equally long, labels are in the table.
    fn check(&self, labels: usize) -> Result<(), String> {
        let same = |a: &Lists, b: &Lists| a.offsets == b.offsets;
        let subwords = same(&self.ids, &self.words) && same(&self.ids, &self.starts) && same(&self.ids, &self.ends);
        let golds = same(&self.gold_labels, &self.gold_starts) && same(&self.gold_labels, &self.gold_ends);
        if !subwords || !golds {
            return Err("lists of a sentence differ in length".to_owned());
        }
        match self.gold_labels.values.iter().find(|&&label| label as usize >= labels) {
            Some(label) => Err(format!("label {label} is not in the table of {labels}")),
            None => Ok(()),
        }
    }
}

fn column<'a, A: Array + 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a A, String> {
    batch
        .column_by_name(name)
        .and_then(|column| column.as_any().downcast_ref::<A>())
        .ok_or_else(|| format!("column `{name}` is missing or of another type"))
}

fn lists(batch: &RecordBatch, name: &str) -> Result<Lists, String> {
    let list = column::<ListArray>(batch, name)?;
    let values = list
        .values()
        .as_any()
        .downcast_ref::<UInt32Array>()
        .ok_or_else(|| format!("column `{name}` is of another type"))?;
    Ok(Lists {
        offsets: list.offsets().clone(),
        values: values.values().clone(),
    })
}

/// Maps a file into memory, as a buffer for Arrow.
fn map(path: &Path, name: &str) -> Result<Buffer, TokensError> {
    let mapped = map_file(path).map_err(|source| TokensError::Open {
        name: name.to_owned(),
        source,
    })?;
    Ok(Buffer::from(bytes::Bytes::from_owner(mapped)))
}

/// The record batches of an Arrow IPC file, without copying its data.
fn read_batches(buffer: &Buffer, name: &str) -> Result<Vec<RecordBatch>, TokensError> {
    let damaged = |reason: String| TokensError::Damaged {
        name: name.to_owned(),
        reason,
    };
    let arrow = |error: ArrowError| damaged(error.to_string());
    let cut = || damaged("it is cut short".to_owned());

    let trailer = buffer.last_chunk::<10>().ok_or_else(cut)?;
    let footer_length = read_footer_length(*trailer).map_err(arrow)?;
    let footer_end = buffer.len() - trailer.len();
    let footer_start = footer_end.checked_sub(footer_length).ok_or_else(cut)?;
    let footer = arrow_ipc::root_as_footer(&buffer[footer_start..footer_end])
        .map_err(|error| damaged(format!("its footer cannot be read: {error}")))?;
    let schema = footer.schema().ok_or_else(|| damaged("it has no schema".to_owned()))?;
    let schema = try_fb_to_schema(schema).map_err(arrow)?;
    let decoder = FileDecoder::new(Arc::new(schema), footer.version()).with_require_alignment(true);

    let mut batches = Vec::new();
    for block in footer.recordBatches().into_iter().flatten() {
        let start = usize::try_from(block.offset()).map_err(|_| cut())?;
        let length = usize::try_from(block.metaDataLength())
            .ok()
            .zip(usize::try_from(block.bodyLength()).ok())
            .and_then(|(metadata, body)| metadata.checked_add(body))
            .filter(|length| start.checked_add(*length).is_some_and(|end| end <= footer_start))
            .ok_or_else(cut)?;
        let block_bytes = buffer.slice_with_length(start, length);
        batches.extend(decoder.read_record_batch(block, &block_bytes).map_err(arrow)?);
    }
    Ok(batches)
}

fn read_labels(buffer: &Buffer, name: &str) -> Result<IndexMap<String, Vec<u32>>, TokensError> {
    let mut table = IndexMap::new();
    for batch in read_batches(buffer, name)? {
        let columns = column::<StringArray>(&batch, "name").and_then(|names| Ok((names, lists(&batch, "ids")?)));
        let (names, ids) = columns.map_err(|reason| TokensError::Damaged {
            name: name.to_owned(),
            reason,
        })?;
        for row in 0..names.len() {
            table.insert(names.value(row).to_owned(), ids.row(row).to_vec());
        }
    }
    Ok(table)
}

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
            Field::new("length", DataType::UInt32, false),
        ];
        fields.extend(LISTS.map(list_field));
        let schema = Arc::new(Schema::new(fields));
        Ok(Self {
            writer: FileWriter::try_new(out, &schema)?,
            schema,
            ids: Vec::new(),
            lengths: Vec::new(),
            lists: std::array::from_fn(|_| ListColumn::new()),
        })
    }

    /// Adds a sentence of `length` words or code points. Labels of `golds` are indices into the file's own table.
    ///
    /// # Errors
    /// If a full batch cannot be written.
    pub fn push(&mut self, id: &str, encoded: &Encoded, length: u32, golds: &[Gold]) -> Result<(), TokensError> {
        self.ids.push(id.to_owned());
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
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(std::mem::take(&mut self.ids))),
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

/// Makes a [`Split`] in memory, through the same bytes as on disk.
pub struct SplitBuilder {
    format: Format,
    done: Vec<Source>,
    open: Option<OpenFile>,
}

/// The file of a [`SplitBuilder`] that is being filled.
struct OpenFile {
    stem: String,
    sentences: SentenceWriter<Vec<u8>>,
    labels: LabelTable,
}

impl SplitBuilder {
    /// An empty split.
    pub fn new(format: Format) -> Self {
        Self {
            format,
            done: Vec::new(),
            open: None,
        }
    }

    /// The view that its sentences are in.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Begins the file `stem`; sentences that follow belong to it.
    ///
    /// # Errors
    /// If the file before it cannot be finished.
    pub fn file(&mut self, stem: &str) -> Result<&mut Self, TokensError> {
        self.close()?;
        self.open = Some(OpenFile {
            stem: stem.to_owned(),
            sentences: SentenceWriter::new(Vec::new())?,
            labels: LabelTable::default(),
        });
        Ok(self)
    }

    /// Adds a sentence with its entities as (start, end, type); `label_ids` encodes a type's name when it is new. Without
    /// a call of [`SplitBuilder::file`] the sentence belongs to a file called `sentences`.
    ///
    /// # Errors
    /// What `label_ids` fails with, or that a full batch could not be written.
    pub fn sentence<E: From<TokensError>>(
        &mut self,
        id: &str,
        encoded: &Encoded,
        length: u32,
        golds: &[(u32, u32, &str)],
        label_ids: impl Fn(&str) -> Result<Vec<u32>, E>,
    ) -> Result<&mut Self, E> {
        if self.open.is_none() {
            self.file("sentences")?;
        }
        if let Some(file) = &mut self.open {
            let golds = golds
                .iter()
                .map(|&(start, end, label)| {
                    Ok(Gold {
                        start,
                        end,
                        label: file.labels.index(label, || label_ids(label))?,
                    })
                })
                .collect::<Result<Vec<_>, E>>()?;
            file.sentences.push(id, encoded, length, &golds)?;
        }
        Ok(self)
    }

    /// The split.
    ///
    /// # Errors
    /// If the last file cannot be finished.
    pub fn build(mut self) -> Result<Split, TokensError> {
        self.close()?;
        Split::from_sources(self.done, self.format)
    }

    fn close(&mut self) -> Result<(), TokensError> {
        if let Some(file) = self.open.take() {
            self.done.push(Source {
                stem: file.stem,
                sentences: aligned(&file.sentences.finish()?),
                labels: aligned(&file.labels.write(Vec::new())?),
            });
        }
        Ok(())
    }
}

/// Copies bytes to where Arrow's columns are aligned, as they are in a mapped file.
fn aligned(bytes: &[u8]) -> Buffer {
    Buffer::from_slice_ref(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(ids: &[u32]) -> Encoded {
        let n = ids.len() as u32;
        Encoded {
            ids: ids.to_vec(),
            words: (0..n).collect(),
            starts: vec![0; ids.len()],
            ends: vec![3; ids.len()],
        }
    }

    fn label_ids(name: &str) -> Result<Vec<u32>, TokensError> {
        Ok(name.bytes().map(u32::from).collect())
    }

    fn two_files() -> Split {
        let mut builder = SplitBuilder::new(Format::Tokens);
        builder.file("b").unwrap();
        builder
            .sentence(
                "1",
                &encoded(&[7, 8]),
                3,
                &[(0, 2, "person"), (1, 2, "city")],
                label_ids,
            )
            .unwrap();
        builder.sentence("2", &encoded(&[]), 0, &[], label_ids).unwrap();
        builder.file("c").unwrap();
        builder
            .sentence("Ada's", &encoded(&[9]), 1, &[(0, 1, "river")], label_ids)
            .unwrap();
        builder
            .sentence("4", &encoded(&[9]), 1, &[(0, 1, "city")], label_ids)
            .unwrap();
        builder.build().unwrap()
    }

    #[test]
    fn files_are_joined_and_labels_merged_and_sorted() {
        let split = two_files();
        assert_eq!(split.len(), 4);
        assert_eq!(split.labels().names, ["city", "person", "river"]);
        assert_eq!(split.labels().ids[0], [99, 105, 116, 121]);
        assert_eq!(split.labels().index("river"), Some(2));
        assert_eq!(split.labels().index("lake"), None);
        assert_eq!(split.files(), [("b".to_owned(), 0..2), ("c".to_owned(), 2..4)]);
        let golds: Vec<Vec<Gold>> = split.sentences().map(|sentence| sentence.golds().collect()).collect();
        let gold = |start, end, label| Gold { start, end, label };
        assert_eq!(
            golds,
            [
                vec![gold(0, 2, 1), gold(1, 2, 0)],
                vec![],
                vec![gold(0, 1, 2)],
                vec![gold(0, 1, 0)]
            ]
        );
        let first = split.sentence(0);
        assert_eq!(
            (first.id, first.ids, first.words, first.length),
            ("1", &[7, 8][..], &[0, 1][..], 3)
        );
        assert_eq!(split.sentence(2).id, "Ada's");
        assert!(split.sentence(1).ids.is_empty());
    }

    #[test]
    fn many_batches_are_found_by_number() {
        let mut builder = SplitBuilder::new(Format::Text);
        let count = 2 * BATCH_ROWS + 17;
        for index in 0..count {
            builder
                .sentence(&index.to_string(), &encoded(&[index as u32]), 1, &[], label_ids)
                .unwrap();
        }
        let split = builder.build().unwrap();
        assert_eq!(split.len(), count);
        for index in [0, BATCH_ROWS - 1, BATCH_ROWS, 2 * BATCH_ROWS, count - 1] {
            assert_eq!(split.sentence(index).ids, [index as u32]);
            assert_eq!(split.sentence(index).id, index.to_string());
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_split() {
        let mut builder = SplitBuilder::new(Format::Text);
        builder.file("empty").unwrap();
        let split = builder.build().unwrap();
        assert!(split.is_empty() && split.labels().is_empty());
        assert_eq!(split.files(), [("empty".to_owned(), 0..0)]);
    }

    #[test]
    fn bytes_are_the_same_every_time() {
        let write = || {
            let mut writer = SentenceWriter::new(Vec::new()).unwrap();
            writer
                .push(
                    "a",
                    &encoded(&[1, 2, 3]),
                    3,
                    &[Gold {
                        start: 0,
                        end: 1,
                        label: 0,
                    }],
                )
                .unwrap();
            let mut table = LabelTable::default();
            table.index("city", || label_ids("city")).unwrap();
            (writer.finish().unwrap(), table.write(Vec::new()).unwrap())
        };
        assert_eq!(write(), write());
    }

    #[test]
    fn damaged_files_are_errors_and_not_panics() {
        let mut writer = SentenceWriter::new(Vec::new()).unwrap();
        writer
            .push(
                "a",
                &encoded(&[1, 2, 3]),
                3,
                &[Gold {
                    start: 0,
                    end: 1,
                    label: 5,
                }],
            )
            .unwrap();
        let sentences = writer.finish().unwrap();
        let labels = LabelTable::default().write(Vec::new()).unwrap();
        let open = |sentences: &[u8]| {
            let source = Source {
                stem: "x".to_owned(),
                sentences: aligned(sentences),
                labels: aligned(&labels),
            };
            Split::from_sources(vec![source], Format::Tokens)
                .err()
                .map(|error| error.to_string())
        };
        let unknown_label = open(&sentences).unwrap();
        assert!(
            unknown_label.contains("label 5 is not in the table of 0"),
            "{unknown_label}"
        );
        for cut in [0, 5, 10, sentences.len() / 2, sentences.len() - 1] {
            assert!(
                open(&sentences[..cut])
                    .unwrap()
                    .contains("`x.tokens.arrow` are damaged")
            );
        }
        let tail = &sentences[sentences.len() - 600..];
        assert!(open(tail).unwrap().contains("damaged"));
    }

    #[test]
    fn one_type_with_two_spellings_is_an_error() {
        let mut builder = SplitBuilder::new(Format::Tokens);
        builder.file("a").unwrap();
        builder
            .sentence("1", &encoded(&[1]), 1, &[(0, 1, "city")], label_ids)
            .unwrap();
        builder.file("b").unwrap();
        builder
            .sentence("1", &encoded(&[1]), 1, &[(0, 1, "city")], |_| {
                Ok::<_, TokensError>(vec![1])
            })
            .unwrap();
        assert!(matches!(builder.build(), Err(TokensError::Mixed { .. })));
    }
}
