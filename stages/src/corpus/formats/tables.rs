//! Records from tables: Arrow streams, the shards of a saved dataset, Parquet files.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::Schema;

use super::super::Record;
use super::super::dataset::{self, Classes};
use super::super::parse::{Notes, RecordError};
use super::super::read::{CorpusError, Reader};
use super::super::source::{Format, Source};
use super::arrow::Stream;
use super::lines::BATCH_RECORDS;
#[cfg(feature = "parquet")]
use super::parquet::Parquet;
use super::table::Table;

/// A row of a table.
pub(in super::super) struct Row {
    table: Arc<Opened>,
    /// Its place in the table.
    index: usize,
    /// Its place in the source.
    number: u64,
}

/// A table and the file it is from.
struct Opened {
    file: String,
    table: Table,
}

/// Reads records from the files of a source, one after the other.
pub(in super::super) struct Tables {
    /// Files that were not opened yet.
    files: VecDeque<PathBuf>,
    format: Format,
    /// The names of classes that are said beside the files.
    classes: Classes,
    current: Option<File>,
    table: Option<Arc<Opened>>,
    /// The next row of the table.
    index: usize,
    /// The next row of the source.
    number: u64,
}

/// The file that is read.
struct File {
    name: String,
    classes: Classes,
    batches: Batches,
}

enum Batches {
    Stream(Stream),
    #[cfg(feature = "parquet")]
    Parquet(Parquet),
}

impl Tables {
    pub(in super::super) fn open(source: &Source) -> Result<Self, CorpusError> {
        let (files, classes) = match source.format {
            Format::Dataset => dataset::shards(&source.path, &source.name)?,
            _ => (vec![source.path.clone()], Classes::default()),
        };
        let mut tables = Self {
            files: files.into(),
            format: source.format,
            classes,
            current: None,
            table: None,
            index: 0,
            number: 0,
        };
        // A single file is what the source is called; shards are called by their own names.
        if source.format != Format::Dataset
            && let Some(path) = tables.files.pop_front()
        {
            tables.current = Some(tables.open_file(&path, &source.name)?);
        }
        Ok(tables)
    }

    fn open_file(&self, path: &Path, name: &str) -> Result<File, CorpusError> {
        let (schema, batches) = match self.format {
            Format::Parquet => parquet(path, name)?,
            _ => {
                let stream = Stream::open(path, name)?;
                (Arc::clone(&stream.schema), Batches::Stream(stream))
            }
        };
        Ok(File {
            name: name.to_owned(),
            classes: self.classes.or(Classes::of_schema(&schema)),
            batches,
        })
    }

    /// Goes on to the next table that has rows; false at the end.
    fn advance(&mut self) -> Result<bool, CorpusError> {
        loop {
            if self.table.as_ref().is_some_and(|opened| self.index < opened.table.rows) {
                return Ok(true);
            }
            self.table = None;
            self.index = 0;
            if self.current.is_none() {
                let Some(path) = self.files.pop_front() else {
                    return Ok(false);
                };
                let name = path.display().to_string();
                self.current = Some(self.open_file(&path, &name)?);
            }
            let Some(file) = &mut self.current else {
                return Ok(false);
            };
            match file.next_batch()? {
                None => self.current = None,
                Some(batch) => {
                    let table = Table::new(&batch, &|column| file.classes.names(column))
                        .map_err(|error| CorpusError::of(&file.name, error))?;
                    let file = file.name.clone();
                    self.table = Some(Arc::new(Opened { file, table }));
                }
            }
        }
    }
}

impl File {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, CorpusError> {
        match &mut self.batches {
            Batches::Stream(stream) => stream.next_batch(),
            #[cfg(feature = "parquet")]
            Batches::Parquet(parquet) => parquet.next_batch(),
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(path: &Path, name: &str) -> Result<(Arc<Schema>, Batches), CorpusError> {
    let file = Parquet::open(path, name)?;
    Ok((Arc::clone(&file.schema), Batches::Parquet(file)))
}

#[cfg(not(feature = "parquet"))]
fn parquet(_path: &Path, name: &str) -> Result<(Arc<Schema>, Batches), CorpusError> {
    Err(CorpusError::file(name, "this program was built without Parquet")
        .help("build it with `--features parquet`, or save the data with `save_to_disk`"))
}

impl Reader for Tables {
    type Piece = Row;

    fn next_batch(&mut self) -> Result<Vec<Row>, CorpusError> {
        if !self.advance()? {
            return Ok(Vec::new());
        }
        let Some(table) = &self.table else {
            return Ok(Vec::new());
        };
        let count = (table.table.rows - self.index).min(BATCH_RECORDS);
        let rows = (0..count).map(|offset| Row {
            table: Arc::clone(table),
            index: self.index + offset,
            number: self.number + offset as u64,
        });
        let rows = rows.collect();
        self.index += count;
        self.number += count as u64;
        Ok(rows)
    }

    fn parse(&self, row: &Row) -> Result<(Record, Notes), CorpusError> {
        let Row { table, index, number } = row;
        let record = table.table.record(*index, *number);
        record.map_err(|error| self.about(row, error))
    }

    fn about(&self, row: &Row, error: RecordError) -> CorpusError {
        CorpusError::of(&row.table.file, error).row(row.number)
    }
}
