//! Splits in memory, for tests and for texts that never were files.

use arrow_buffer::Buffer;

use super::{Format, Gold, LabelTable, SentenceWriter, Source, Split, TokensError};
use crate::corpus::Origin;
use crate::tokenizer::Encoded;

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

    /// Adds a sentence of no known origin with its entities as (start, end, type); `label_ids` encodes a type's name when it is new. Without
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
            file.sentences.push(id, &Origin::default(), encoded, length, &golds)?;
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
pub(super) fn aligned(bytes: &[u8]) -> Buffer {
    Buffer::from_slice_ref(bytes)
}
