//! What there is to be read: files and their formats, and saved datasets among the files.

use std::path::{Component, Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Origin;
use super::dataset::{self, DICT, INFO, STATE};
use super::formats::Columns;
use super::read::CorpusError;

/// The format of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Jsonl,
    /// A token and its tag a line.
    Conll,
    /// GLiNER's JSON.
    Gliner,
    /// Arrow's stream format.
    Arrow,
    /// Parquet.
    Parquet,
    /// A folder that `Dataset.save_to_disk` made. No file has this format.
    #[serde(skip_deserializing)]
    Dataset,
}

/// Ends of names that tell the format.
const EXTENSIONS: [(&str, Format); 14] = [
    ("arrow", Format::Arrow),
    ("parquet", Format::Parquet),
    ("jsonl", Format::Jsonl),
    ("ndjson", Format::Jsonl),
    ("json", Format::Gliner),
    ("conll", Format::Conll),
    ("conllu", Format::Conll),
    ("conllup", Format::Conll),
    ("tsv", Format::Conll),
    ("iob", Format::Conll),
    ("iob2", Format::Conll),
    ("bio", Format::Conll),
    ("bioes", Format::Conll),
    ("txt", Format::Conll),
];

/// Bytes at the beginning of a file that its format is told by.
const HEAD: u64 = 1 << 16;

impl Format {
    /// The format of the file `path`, by its name; JSONL if the name does not tell. Lines of GLiNER's objects under a name
    /// of JSONL are told by the first of them, and so are lines of records under `.json`.
    pub fn of_file(path: &Path) -> Self {
        let extension = path
            .extension()
            .and_then(|end| end.to_str())
            .unwrap_or_default()
            .to_lowercase();
        let by_name = EXTENSIONS.iter().find(|(end, _)| *end == extension);
        match by_name.map_or(Self::Jsonl, |(_, format)| *format) {
            Self::Conll if extension == "txt" => Self::of_text(path, Self::Conll),
            format @ (Self::Jsonl | Self::Gliner) => Self::of_text(path, format),
            format => format,
        }
    }

    /// The format of a file of which the name says `named`, if that is to be believed.
    fn of_text(path: &Path, named: Self) -> Self {
        use std::io::Read;
        let mut head = Vec::new();
        // What cannot be read is told of when it is opened.
        let is_file = std::fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        if is_file && let Ok(file) = std::fs::File::open(path) {
            let _ = file.take(HEAD).read_to_end(&mut head);
        }
        let text = String::from_utf8_lossy(&head);
        let text = text.trim_start_matches('\u{feff}').trim_start();
        let first_line = text.lines().next().unwrap_or_default();
        match named {
            Self::Gliner if text.starts_with('[') => Self::Gliner,
            Self::Conll if !text.starts_with('{') => Self::Conll,
            _ if first_line.starts_with('{') && first_line.contains("\"tokenized_text\"") => Self::Gliner,
            _ => Self::Jsonl,
        }
    }

    /// `name` without the end that tells the format.
    pub fn stem(name: &str) -> &str {
        match name.rsplit_once('.') {
            Some((stem, end)) if EXTENSIONS.iter().any(|(known, _)| *known == end.to_lowercase()) => stem,
            _ => name,
        }
    }
}

/// Something to read records from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// What messages call it.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub format: Format,
    /// The columns of a column file.
    pub columns: Columns,
    /// Where records come from that do not say it themselves.
    pub origin: Origin,
}

/// A source among files that were given.
#[derive(Clone, Debug)]
pub struct Found {
    /// A name for its records, below the folder that the files share, ending in `.jsonl`.
    pub name: String,
    /// The source. Its columns and its origin are left to be said.
    pub source: Source,
    /// The places of its files among those that were given.
    pub files: Vec<usize>,
}

/// A file that was given: its name below the folder that all share, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The name, with `/`.
    pub name: &'a str,
    /// Where it is.
    pub path: &'a Path,
}

/// Finds the sources among `given`: every file is one, but those of a saved dataset, of which every split is one. Of a
/// `DatasetDict`, `part` takes the split that makes it up; without, all are taken. `named` says whether a folder was named
/// by itself: a `Dataset` deeper down is half of a broken `DatasetDict`. With a `format`, files are just files.
///
/// # Errors
/// If a dataset is incomplete or has no split for `part`.
pub fn find(
    given: &[Given<'_>],
    format: Option<Format>,
    part: Option<&str>,
    named: &dyn Fn(&Path) -> bool,
) -> Result<Vec<Found>, CorpusError> {
    let mut taken = vec![false; given.len()];
    let mut found = Vec::new();
    if format.is_none() {
        for marks in [&[DICT][..], &[STATE, INFO]] {
            for (index, file) in given.iter().enumerate() {
                let is_mark = file
                    .path
                    .file_name()
                    .is_some_and(|name| marks.iter().any(|mark| name == *mark));
                let Some(folder) = file.path.parent().filter(|_| is_mark && !taken[index]) else {
                    continue;
                };
                let splits: Vec<(PathBuf, &str)> = if marks == [DICT] {
                    let splits = match part {
                        Some(part) => vec![dataset::split_for(folder, part)?],
                        None => dataset::splits(folder)?,
                    };
                    let below = part.is_none();
                    splits
                        .iter()
                        .map(|split| (folder.join(split), if below { "/" } else { "" }))
                        .collect()
                } else if named(folder) {
                    vec![(folder.to_owned(), "")]
                } else {
                    let shown = folder.parent().unwrap_or(folder).display().to_string();
                    return Err(CorpusError::file(
                        shown,
                        format!("the folder is neither a saved `DatasetDict` nor a `Dataset`: it has no `{DICT}`"),
                    )
                    .help(format!(
                        "copy the dataset again, or name the folder of a split: `{}`",
                        folder.display()
                    )));
                };
                let prefix = file.name.rsplit_once('/').map(|(prefix, _)| prefix);
                let own = folder.file_name().and_then(|name| name.to_str()).unwrap_or("dataset");
                for (split, below) in splits {
                    let last = split.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                    let below = if below.is_empty() {
                        String::new()
                    } else {
                        format!("/{last}")
                    };
                    let files = (0..given.len())
                        .filter(|&place| given[place].path.parent() == Some(&split))
                        .collect();
                    found.push(Found {
                        name: format!("{}{below}.jsonl", prefix.unwrap_or(own)),
                        source: Source {
                            name: split.display().to_string(),
                            path: split,
                            format: Format::Dataset,
                            ..Source::default()
                        },
                        files,
                    });
                }
                for (place, other) in given.iter().enumerate() {
                    taken[place] |= other.path.starts_with(folder);
                }
            }
        }
    }
    for (index, file) in given.iter().enumerate().filter(|(index, _)| !taken[*index]) {
        let format = format.unwrap_or_else(|| Format::of_file(file.path));
        found.push(Found {
            name: match format {
                Format::Jsonl => file.name.to_owned(),
                _ => format!("{}.jsonl", Format::stem(file.name)),
            },
            source: Source {
                name: file.path.display().to_string(),
                path: file.path.to_owned(),
                format,
                ..Source::default()
            },
            files: vec![index],
        });
    }
    found.sort_by(|a, b| a.files.first().cmp(&b.files.first()));
    Ok(found)
}

/// The sources at `path`: a file, a saved dataset, or a folder, of which all files are taken whose names tell a format.
///
/// # Errors
/// If a folder cannot be read or holds nothing to read, and as [`find`].
pub fn below(path: &Path, format: Option<Format>) -> Result<Vec<Found>, CorpusError> {
    let mut files = Vec::new();
    if path.is_dir() {
        walk(path, "", &mut files)?;
        let known = |name: &str| {
            let end = name
                .rsplit_once('.')
                .map(|(_, end)| end.to_lowercase())
                .unwrap_or_default();
            // Beside a corpus, a text is its licence.
            format.is_some() || (end != "txt" && EXTENSIONS.iter().any(|(known, _)| *known == end))
        };
        files.retain(|(name, _)| known(name));
    } else {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("corpus");
        files.push((name.to_owned(), path.to_owned()));
    }
    if files.is_empty() {
        return Err(CorpusError::file(
            path.display().to_string(),
            "there is no file in the folder whose name tells its format",
        )
        .help("name the files themselves, or say `--format`"));
    }
    let given: Vec<Given<'_>> = files.iter().map(|(name, path)| Given { name, path }).collect();
    find(&given, format, None, &|folder| folder == path)
}

/// All files below `folder` but hidden ones, sorted by name.
fn walk(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> Result<(), CorpusError> {
    let failed = |error: std::io::Error| {
        CorpusError::file(
            folder.display().to_string(),
            format!("failed to read the folder: {error}"),
        )
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // A name that is not UTF-8 has no end that tells a format.
        if let Some(name) = path
            .file_name()
            .and_then(|name| name.to_str())
            .filter(|name| !name.starts_with('.'))
        {
            entries.push((format!("{prefix}{name}"), path.clone()));
        }
    }
    entries.sort();
    for (name, path) in entries {
        let is_link = path.is_symlink();
        if path.is_dir() && !is_link {
            walk(&path, &format!("{name}/"), files)?;
        } else if !path.is_dir() {
            files.push((name, path));
        }
    }
    Ok(())
}

/// Whether `folder` is what one of `patterns` names; `folder` is absolute and clean.
pub fn is_named(folder: &Path, patterns: &[String]) -> bool {
    patterns.iter().any(|pattern| {
        let mut plain = PathBuf::new();
        for part in Path::new(pattern).components() {
            match part {
                Component::CurDir => {}
                Component::ParentDir => drop(plain.pop()),
                part => plain.push(part),
            }
        }
        folder.ends_with(&plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_first_bytes_tell_the_format() {
        let folder = tempfile::tempdir().unwrap();
        let format = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            Format::of_file(&path)
        };
        let gliner = r#"{"tokenized_text": ["a"], "ner": []}"#;
        assert_eq!(format("a.jsonl", r#"{"text": "a"}"#), Format::Jsonl);
        assert_eq!(format("a.jsonl", gliner), Format::Gliner);
        assert_eq!(format("a.jsonl", "[{}]"), Format::Jsonl);
        assert_eq!(format("a.json", "\u{feff} [\n{}]"), Format::Gliner);
        assert_eq!(format("a.json", r#"{"text": "a"}"#), Format::Jsonl);
        assert_eq!(format("a.JSON", gliner), Format::Gliner);
        assert_eq!(format("a.txt", "[ O\n"), Format::Conll);
        assert_eq!(format("a.txt", "{\"text\": \"a\"}"), Format::Jsonl);
        assert_eq!(format("a.iob2", "{ O"), Format::Conll);
        assert_eq!(format("corpus", "a O"), Format::Jsonl);
        assert_eq!(Format::of_file(folder.path()), Format::Jsonl);
        assert_eq!(format("a.arrow", "{"), Format::Arrow);
        assert_eq!([Format::stem("x/a.b.Tsv"), Format::stem("a")], ["x/a.b", "a"]);
    }
}
