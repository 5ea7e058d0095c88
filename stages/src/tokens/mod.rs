//! Tokenized sentences on disk: Arrow IPC, memory-mapped, so that a split of any size costs constant memory.
//!
//! Every corpus file `<stem>.jsonl` becomes up to three files: `<stem>.tokens.arrow` and `<stem>.text.arrow` hold its
//! sentences in the two [`Format`]s, `<stem>.labels.arrow` its table of entity types with their own subword ids. A
//! [`Split`] joins the files of one split and merges their label tables when it is opened; no file knows of another,
//! so a changed file never touches its neighbours.
//!
//! Columns of a sentences file, one row a sentence: `id`; `language` and `dataset` (null where the corpus does not say);
//! `length` (words or code points); the lists `ids`, `words`,
//! `starts`, `ends` of [`Encoded`](crate::tokenizer::Encoded); the lists `gold_starts`, `gold_ends` (exclusive), `gold_labels` (an index into
//! the file's own label table). Columns of a label table: `name`, `ids`.

mod memory;
mod write;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ListArray, RecordBatch, StringArray, UInt32Array};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::convert::try_fb_to_schema;
use arrow_ipc::reader::{FileDecoder, read_footer_length};
use arrow_schema::ArrowError;
use indexmap::IndexMap;
use nerpipe_engine::Part;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mapped::map_file;

pub use memory::SplitBuilder;
pub use write::{LabelTable, SentenceWriter};

/// Which view of a record is used: its words, or its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// Its language, if the corpus says so.
    pub language: Option<&'a str>,
    /// Its dataset, if the corpus says so.
    pub dataset: Option<&'a str>,
    /// Subword ids, without special tokens; see [`Encoded`](crate::tokenizer::Encoded) for this and the next three, all equally long.
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
    language: StringArray,
    dataset: StringArray,
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
            language: name(&batch.language, row),
            dataset: name(&batch.dataset, row),
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
            language: column::<StringArray>(batch, "language")?.clone(),
            dataset: column::<StringArray>(batch, "dataset")?.clone(),
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

/// The name in a row, if there is one.
fn name(names: &StringArray, row: usize) -> Option<&str> {
    names.is_valid(row).then(|| names.value(row))
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

#[cfg(test)]
mod tests {
    use super::memory::aligned;
    use super::write::BATCH_ROWS;
    use super::*;
    use crate::corpus::Origin;
    use crate::tokenizer::Encoded;

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
                    &Origin::default(),
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
                &Origin::default(),
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
    fn types_with_the_same_subwords_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let mut all = LabelTable::default();
        for (file, labels) in [("a", ["city", "Person"]), ("b", ["City", "city"])] {
            let mut table = LabelTable::default();
            for label in labels {
                table.index(label, || label_ids(&label.to_lowercase())).unwrap();
            }
            let path = folder.path().join(file);
            std::fs::write(&path, table.write(Vec::new()).unwrap()).unwrap();
            all.add_file(&path, file).unwrap();
        }
        assert_eq!(all.len(), 3);
        assert_eq!(all.alike(), [("city".to_owned(), "City".to_owned())]);
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
