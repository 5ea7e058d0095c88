//! What the tests of formats share.

use super::Record;
use super::read::{CorpusError, Counts, read_source};
use super::source::{Format, Source};

/// What came of reading.
pub(super) type Read = Result<Vec<Record>, CorpusError>;

/// The records of `content`, a file that messages call `name`.
pub(super) fn read_all(content: &[u8], name: &str, format: Format) -> Read {
    read_counted(content, name, format).map(|(records, _)| records)
}

/// The records of `content` and what was counted.
pub(super) fn read_counted(content: &[u8], name: &str, format: Format) -> Result<(Vec<Record>, Counts), CorpusError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, content).unwrap();
    records(&Source {
        name: name.to_owned(),
        path,
        format,
        ..Source::default()
    })
}

/// The records of a source and what was counted.
pub(super) fn records(source: &Source) -> Result<(Vec<Record>, Counts), CorpusError> {
    let mut records = Vec::new();
    let counts = read_source(
        source,
        |record| Ok::<_, CorpusError>(record.clone()),
        |record| {
            records.push(record);
            Ok(())
        },
    )?;
    Ok((records, counts))
}
