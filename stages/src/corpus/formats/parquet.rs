//! Parquet files.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use arrow_array::RecordBatch;
use arrow_schema::Schema;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};

use super::super::read::CorpusError;
use super::lines::BATCH_RECORDS;
use super::table::needed;

/// The batches of a Parquet file, with the needed columns only.
pub(super) struct Parquet {
    name: String,
    pub(super) schema: Arc<Schema>,
    /// Never locked: threads that parse rows hold references to all of the reader, and this part of it allows no two.
    batches: Mutex<ParquetRecordBatchReader>,
}

impl Parquet {
    /// Opens the file `path`, called `name` in messages.
    pub(super) fn open(path: &Path, name: &str) -> Result<Self, CorpusError> {
        let failed =
            |error: std::io::Error| CorpusError::file(name, format!("failed to open the Parquet file: {error}"));
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(CorpusError::file(name, "the Parquet file is not a regular file"));
        }
        let damaged = |error: parquet::errors::ParquetError| {
            CorpusError::file(name, format!("the Parquet file cannot be read: {error}"))
        };
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path).map_err(failed)?).map_err(damaged)?;
        let schema = Arc::clone(builder.schema());
        let columns = needed(&schema).map_err(|error| CorpusError::of(name, error))?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), columns);
        let batches = builder
            .with_batch_size(BATCH_RECORDS)
            .with_projection(mask)
            .build()
            .map_err(damaged)?;
        Ok(Self {
            name: name.to_owned(),
            schema,
            batches: Mutex::new(batches),
        })
    }

    /// The next batch; none at the end.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, CorpusError> {
        let batches = self.batches.get_mut().unwrap_or_else(PoisonError::into_inner);
        batches
            .next()
            .transpose()
            .map_err(|error| CorpusError::file(&self.name, format!("the Parquet file cannot be read: {error}")))
    }
}
