//! `nerpipe data`: checks corpora, counts what is in them, and writes them in other formats.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use nerpipe_stages::corpus::stats::{Sample, Stats, Window, shared_texts};
use nerpipe_stages::corpus::write::{Lost, Overlaps, Target, Writer, format_record};
use nerpipe_stages::corpus::{self, Column, Columns, CorpusError, Counts, Format, Found, Origin, RecordError, Source};
use nerpipe_stages::tokenizer::TextTokenizer;
use nerpipe_stages::tokens::Format as View;
use serde_json::json;

use crate::cli::positive;
use crate::exit::{Error, Exit};
use crate::render;
use crate::render::numbers::plural;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check every record and list all that is wrong, with file, line and field
    Check(CheckArgs),
    /// Count sentences, entities, overlaps, repetitions, and what a window would cut off
    Stats(StatsArgs),
    /// Write as JSONL, as a column file or as GLiNER's JSON
    Convert(ConvertArgs),
}

/// What is read.
#[derive(Debug, Args)]
struct Paths {
    /// Files, saved datasets, or folders with such
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// What the files are [default: told by name and first bytes]
    #[arg(long, value_enum)]
    format: Option<FormatName>,
    /// The column of the token in column files: a number from 1, from the end (-1), or a name [default: told by content]
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    token_column: Option<String>,
    /// The column of the tag in column files
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    tag_column: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Jsonl,
    Conll,
    Gliner,
    Arrow,
    Parquet,
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    paths: Paths,
    /// Print one JSON object a line: a problem each, and `checked` at the end
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatsArgs {
    #[command(flatten)]
    paths: Paths,
    /// Also count what the window of this encoder would cut off: a directory with tokenizer.json
    #[arg(long, value_name = "DIR")]
    encoder: Option<PathBuf>,
    /// The window: the longest input in subwords, special tokens included
    #[arg(long, value_name = "N", default_value = "512", value_parser = positive)]
    max_seq_length: usize,
    /// Whether the encoder reads words or texts, as `annotation_format` of a training says
    #[arg(long, value_enum, default_value = "tokens")]
    view: ViewName,
    /// Print it as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ViewName {
    Tokens,
    Text,
}

#[derive(Debug, Args)]
struct ConvertArgs {
    #[command(flatten)]
    paths: Paths,
    /// The format to write
    #[arg(long, value_enum)]
    to: TargetName,
    /// Where to write: a file, or a folder if there are several things to read
    #[arg(long, short, value_name = "PATH")]
    out: PathBuf,
    /// What becomes of overlapping entities in a column file, which cannot hold them
    #[arg(long, value_enum, default_value = "refuse")]
    overlaps: OverlapsName,
    /// Replace files that are there
    #[arg(long)]
    overwrite: bool,
    /// The language of records that do not name one
    #[arg(long, value_name = "NAME")]
    language: Option<String>,
    /// The dataset of records that do not name one
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Print one JSON object a line: `converted`, one for each file that is written
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TargetName {
    Jsonl,
    Conll,
    Gliner,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OverlapsName {
    /// They are an error
    Refuse,
    /// The longest stay, the others are left out and counted
    Longest,
}

/// Does what was asked for.
pub(crate) fn data(args: &DataArgs, terminal: &Terminal) -> Result<Exit, Error> {
    match &args.action {
        Action::Check(args) => check(args, terminal),
        Action::Stats(args) => stats(args, terminal),
        Action::Convert(args) => convert(args, terminal),
    }
}

impl Paths {
    /// The sources, in the order in which they were named.
    fn sources(&self) -> Result<Vec<Found>, CorpusError> {
        let format = self.format.map(|format| match format {
            FormatName::Jsonl => Format::Jsonl,
            FormatName::Conll => Format::Conll,
            FormatName::Gliner => Format::Gliner,
            FormatName::Arrow => Format::Arrow,
            FormatName::Parquet => Format::Parquet,
        });
        let column = |text: &Option<String>| {
            text.as_ref().map(|text| match text.parse() {
                Ok(number) => Column::Number(number),
                Err(_) => Column::Name(text.clone()),
            })
        };
        let columns = Columns {
            token: column(&self.token_column),
            tag: column(&self.tag_column),
        };
        let mut sources = Vec::new();
        for path in &self.paths {
            let mut found = corpus::below(path, format)?;
            for one in &mut found {
                one.source.columns = columns.clone();
            }
            sources.extend(found);
        }
        Ok(sources)
    }
}

/// An error about the data, where the command can do nothing else than stop.
fn stop(error: CorpusError) -> Error {
    Error::Environment {
        message: error.to_string(),
        help: error.help,
    }
}

fn check(args: &CheckArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let sources = match args.paths.sources() {
        Ok(sources) => sources,
        // What is wrong with a dataset as a whole is a problem like others.
        Err(error) => {
            tell(&error, args.json, terminal);
            return Ok(Exit::Failed);
        }
    };
    let mut problems = 0u64;
    let mut total = Counts::default();
    let mut files = Vec::with_capacity(sources.len());
    for Found { source, .. } in &sources {
        let mut counts = Counts::default();
        let mut wrong = 0u64;
        let ended = corpus::scan(
            source,
            |parsed, _| {
                parsed.map(|(record, notes)| {
                    let mut counts = Counts::default();
                    counts.record(&record, notes);
                    counts
                })
            },
            |parsed| {
                match parsed {
                    Ok(of_record) => counts += of_record,
                    Err(error) => {
                        for problem in error.all() {
                            wrong += 1;
                            tell(problem, args.json, terminal);
                        }
                    }
                }
                Ok::<_, CorpusError>(())
            },
        );
        if let Err(error) = ended {
            wrong += 1;
            tell(&error, args.json, terminal);
        }
        problems += wrong;
        total += counts;
        files.push(json!({
            "file": source.name, "format": source.format, "problems": wrong,
            "sentences": counts.sentences, "words": counts.words, "entities": counts.entities,
            "settled": counts.settled().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    if args.json {
        let event = json!({"event": "checked", "problems": problems, "files": files});
        terminal.out(&super::json(&event)?);
    } else {
        for line in render::data::checked(&files, &total, problems, terminal.err) {
            terminal.err(&line);
        }
    }
    Ok(if problems > 0 { Exit::Failed } else { Exit::Done })
}

fn tell(error: &CorpusError, json: bool, terminal: &Terminal) {
    if json {
        let mut event = json!({"event": "problem", "message": error.to_string()});
        if let (Some(event), Ok(serde_json::Value::Object(fields))) =
            (event.as_object_mut(), serde_json::to_value(error))
        {
            event.extend(fields);
        }
        terminal.out(&event.to_string());
    } else {
        let help = error
            .help
            .as_ref()
            .map(|help| format!("\n  {}: {help}", terminal.out.cyan("help")));
        terminal.out(&format!("{error}{}", help.unwrap_or_default()));
    }
}

fn stats(args: &StatsArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let sources = args.paths.sources().map_err(stop)?;
    let tokenizer = match &args.encoder {
        None => None,
        Some(folder) => {
            let file = folder.join("tokenizer.json");
            Some(TextTokenizer::from_file(&file).map_err(Error::environment)?)
        }
    };
    let window = tokenizer.as_ref().map(|tokenizer| Window {
        tokenizer,
        view: match args.view {
            ViewName::Tokens => View::Tokens,
            ViewName::Text => View::Text,
        },
        max_seq_length: args.max_seq_length,
    });
    let mut all: Vec<(&Source, Stats)> = Vec::with_capacity(sources.len());
    for Found { source, .. } in &sources {
        let mut stats = Stats::new(window.as_ref().map(|window| window.max_seq_length));
        corpus::scan(
            source,
            |parsed, blame| {
                let (record, _) = parsed?;
                Sample::new(record, window.as_ref()).map_err(|error| blame(RecordError::whole(error.to_string())))
            },
            |sample| {
                stats.add(sample?);
                Ok::<_, CorpusError>(())
            },
        )
        .map_err(|error| Error::Environment {
            message: error.to_string(),
            help: error
                .help
                .or_else(|| Some("`nerpipe data check` lists everything that is wrong".to_owned())),
        })?;
        all.push((source, stats));
    }
    let mut shared = Vec::new();
    for (place, (other, of_other)) in all.iter().enumerate() {
        for (one, of_one) in &all[..place] {
            let texts = shared_texts(of_one, of_other);
            if texts > 0 {
                shared.push((one.name.as_str(), other.name.as_str(), texts));
            }
        }
    }
    if args.json {
        let files = all.iter().map(|(source, stats)| {
            let mut value = serde_json::to_value(stats).map_err(Error::environment)?;
            value["file"] = json!(source.name);
            value["format"] = json!(source.format);
            Ok(value)
        });
        let files = files.collect::<Result<Vec<_>, Error>>()?;
        let shared: Vec<_> = shared
            .iter()
            .map(|(one, other, texts)| json!({"files": [one, other], "texts": texts}))
            .collect();
        terminal.out(&super::json(&json!({"files": files, "shared_texts": shared}))?);
    } else {
        terminal.out(&render::data::stats(&all, &shared, terminal.out));
    }
    Ok(Exit::Done)
}

fn convert(args: &ConvertArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let mut sources = args.paths.sources().map_err(stop)?;
    let target = match args.to {
        TargetName::Jsonl => Target::Jsonl,
        TargetName::Conll => Target::Conll,
        TargetName::Gliner => Target::Gliner,
    };
    let overlaps = match args.overlaps {
        OverlapsName::Refuse => Overlaps::Refuse,
        OverlapsName::Longest => Overlaps::Longest,
    };
    let several = sources.len() > 1;
    let mut places: Vec<PathBuf> = Vec::with_capacity(sources.len());
    for found in &mut sources {
        found.source.origin = Origin {
            language: args.language.clone(),
            dataset: args.dataset.clone(),
        };
        let place = if several || args.out.is_dir() {
            args.out
                .join(format!("{}.{}", Format::stem(&found.name), target.extension()))
        } else {
            args.out.clone()
        };
        if places.contains(&place) {
            return Err(Error::usage(
                format!(
                    "two things that are read would both be written to `{}`",
                    place.display()
                ),
                Some("convert them one at a time".to_owned()),
            ));
        }
        if place.exists() && !args.overwrite {
            return Err(Error::usage(
                format!("`{}` is there already", place.display()),
                Some("choose another place, or say `--overwrite`".to_owned()),
            ));
        }
        places.push(place);
    }
    for (Found { source, .. }, place) in sources.iter().zip(&places) {
        let (counts, lost) = write(source, place, target, overlaps).map_err(stop)?;
        if args.json {
            let event = json!({
                "event": "converted", "file": source.name, "written": place, "format": target,
                "sentences": counts.sentences, "words": counts.words, "entities": counts.entities, "lost": lost,
            });
            terminal.out(&super::json(&event)?);
            continue;
        }
        terminal.err(&format!(
            "{}: {}",
            place.display(),
            plural(counts.sentences, "sentence")
        ));
        for line in render::data::lost(lost) {
            terminal.err(&format!("{}: {line}", terminal.err.yellow("warning")));
        }
    }
    Ok(Exit::Done)
}

/// Writes a source to `place`, which is only there when all of it is.
fn write(source: &Source, place: &Path, target: Target, overlaps: Overlaps) -> Result<(Counts, Lost), CorpusError> {
    let failed =
        |error: std::io::Error| CorpusError::new(place.display().to_string(), format!("failed to write it: {error}"));
    let folder = match place.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let mut unfinished = place.as_os_str().to_owned();
    unfinished.push(format!(".{}.unfinished", std::process::id()));
    let unfinished = PathBuf::from(unfinished);
    let written = File::create(&unfinished).map_err(failed).and_then(|file| {
        let mut writer = Writer::new(BufWriter::with_capacity(1 << 20, file), target);
        let (mut counts, mut lost) = (Counts::default(), Lost::default());
        corpus::scan(
            source,
            |parsed, blame| {
                let (record, notes) = parsed?;
                let mut counts = Counts::default();
                counts.record(&record, notes);
                let (bytes, lost) =
                    format_record(&record, target, overlaps).map_err(|error| blame(error.of_record(&record.id)))?;
                Ok((counts, bytes, lost))
            },
            |result: Result<_, CorpusError>| {
                let (of_record, bytes, of_lost) = result?;
                counts += of_record;
                lost += of_lost;
                writer.push(&bytes).map_err(failed)
            },
        )?;
        writer.finish().map_err(failed)?;
        Ok((counts, lost))
    });
    let renamed = written.and_then(|counts| std::fs::rename(&unfinished, place).map_err(failed).map(|()| counts));
    if renamed.is_err() {
        // Nothing half-done stays behind; what went wrong is told already.
        let _ = std::fs::remove_file(&unfinished);
    }
    renamed
}
