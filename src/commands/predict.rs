//! `nerpipe predict`: entities of texts that come as arguments, in files or on standard input, as soon as they come.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};

use clap::{Args, ValueEnum};
use nerpipe_engine::Input;
use nerpipe_stages::checkpoint;
use nerpipe_stages::device::DeviceChoice;
use nerpipe_stages::predict::{Document, Predictor, Query};
use nerpipe_stages::reference::Evaluation;
use nerpipe_stages::thresholds::Asked;
use serde_json::Value;

use super::evaluate::threshold;
use super::{Session, names, run};
use crate::cli::positive;
use crate::exit::{Error, Exit};
use crate::render::entities;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Texts; without any, `--file` or standard input is read, one text a line
    #[arg(value_name = "TEXT", conflicts_with = "file")]
    pub(crate) texts: Vec<String>,
    /// The checkpoint's directory, or a model's name on the hub
    #[arg(long, short, value_name = "DIR")]
    pub(crate) model: String,
    /// The types to look for, with commas between: `person,location`
    #[arg(long, short, value_name = "TYPES", required = true, value_delimiter = ',')]
    pub(crate) labels: Vec<String>,
    /// A probability such as 0.5, `cls`, `label_token`, or `calibrated` [default: the model's own]
    #[arg(long, value_parser = threshold)]
    pub(crate) threshold: Option<Value>,
    /// Also find entities inside others
    #[arg(long)]
    pub(crate) nested: bool,
    /// A file with one text a line, or one JSON object a line if its name ends in .jsonl; may be given many times
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Vec<PathBuf>,
    /// What the lines are: text, or JSON objects with `text` or `tokens` [default: by the file's name; on standard input by the first line]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) input: Option<Lines>,
    /// JSON lines, or text with the entities marked [default: text on a terminal, else JSON]
    #[arg(long, value_name = "FORMAT")]
    pub(crate) output: Option<Shown>,
    /// Texts that are read ahead, if they come fast
    #[arg(long, value_name = "N", default_value = "32", value_parser = positive)]
    pub(crate) batch_size: usize,
    /// The encoder that a checkpoint of the reference was made from, if it has no tokenizer [default: what the checkpoint says]
    #[arg(long = "token_encoder", alias = "token-encoder", value_name = "DIR_OR_NAME")]
    pub(crate) token_encoder: Option<String>,
    /// The same for the encoder of types
    #[arg(long = "type_encoder", alias = "type-encoder", value_name = "DIR_OR_NAME")]
    pub(crate) type_encoder: Option<String>,
    /// Where the model runs: auto, cpu, wgpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub(crate) device: DeviceChoice,
    /// Where a checkpoint of the reference is kept in our form [default: `cache`]
    #[arg(long, value_name = "DIR", env = "NERPIPE_CACHE_DIR", hide_env_values = true)]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Lines {
    /// A text
    Text,
    /// A JSON object with `text` or `tokens`
    Jsonl,
}

/// How entities are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shown {
    /// One JSON object a line
    Jsonl,
    /// The text, with its entities marked
    Text,
}

/// A text on its way: what it is, and where it came from.
struct Incoming {
    document: Document,
    id: Option<Value>,
}

type Line = Result<Incoming, Error>;

/// Finds entities.
pub(crate) fn predict(args: &PredictArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let Some(model) = open(args, terminal)? else {
        return Ok(Exit::Failed);
    };
    let query = Query {
        labels: args
            .labels
            .iter()
            .map(|label| label.trim().to_owned())
            .filter(|label| !label.is_empty())
            .collect(),
        threshold: match &args.threshold {
            Some(value) => Some(serde_json::from_value::<Asked>(value.clone()).map_err(Error::environment)?),
            None => None,
        },
        nested: args.nested,
    };
    let device = args
        .device
        .open()
        .map_err(|error| Error::usage(error.to_string(), Some(error.help.to_owned())))?;
    let predictor = Predictor::open(&model, query, &device).map_err(|error| Error::usage(error.message, error.help))?;
    let shown = args.output.unwrap_or(match terminal.out_is_live() {
        true => Shown::Text,
        false => Shown::Jsonl,
    });
    let lines = incoming(args)?;
    while let Ok(first) = lines.recv() {
        let mut batch = vec![first?];
        let mut wrong = None;
        while batch.len() < args.batch_size {
            match lines.try_recv() {
                Ok(Ok(next)) => batch.push(next),
                Ok(Err(error)) => {
                    // What came before it is still answered.
                    wrong = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        let documents: Vec<Document> = batch.iter().map(|incoming| incoming.document.clone()).collect();
        let found = predictor.predict(&documents).map_err(Error::from)?;
        for (incoming, entities) in batch.iter().zip(&found) {
            let text = &incoming.document.text;
            terminal.out(&match shown {
                Shown::Jsonl => entities::json(incoming.id.as_ref(), text, entities)?,
                Shown::Text => entities::marked(text, entities, terminal.out),
            });
        }
        if let Some(error) = wrong {
            return Err(error);
        }
    }
    Ok(Exit::Done)
}

/// The model's files. One of ours is read where it is; another is brought into our form, which the cache keeps. None if that failed,
/// which was told then.
fn open(args: &PredictArgs, terminal: &Terminal) -> Result<Option<Input>, Error> {
    let project = PathBuf::from(".");
    let directory = names::directory(&args.model, &project)?;
    if let Some(model) = checkpoint::open_directory(Path::new(&directory)).map_err(Error::from)? {
        return Ok(Some(model));
    }
    let reading = Evaluation {
        checkpoint: directory,
        token_encoder: args.token_encoder.clone(),
        type_encoder: args.type_encoder.clone(),
        ..Evaluation::default()
    };
    let manifest = reading
        .checkpoint_manifest(&project)
        .map_err(|error| Error::usage(error.message, error.help))?;
    let session = Session::of_text("checkpoint", &manifest, project, args.cache_dir.as_deref())?;
    let options = run::options(None, None, args.device)?;
    let (exit, ended) = run::perform_quietly(&session, &options, terminal)?;
    if exit != Exit::Done {
        return Ok(None);
    }
    let made = ended.instances.iter().find(|instance| instance.instance == "model");
    let record = made
        .and_then(|model| session.cache.record(&model.fingerprint?).transpose())
        .transpose();
    let record = record.map_err(|error| Error::environment(error.to_string()))?;
    let record = record.ok_or_else(|| Error::environment("the checkpoint left no record in the cache"))?;
    Ok(Some(
        record
            .artifact
            .open(None, |digest| session.cache.objects().path(digest)),
    ))
}

/// The texts, read ahead by a thread so that those that are there already are answered together.
fn incoming(args: &PredictArgs) -> Result<Receiver<Line>, Error> {
    let (sender, lines) = sync_channel(2 * args.batch_size);
    if !args.texts.is_empty() {
        let texts = args.texts.clone();
        std::thread::spawn(move || {
            for text in texts {
                let plain = Incoming {
                    document: Document { text, words: None },
                    id: None,
                };
                if sender.send(Ok(plain)).is_err() {
                    return;
                }
            }
        });
        return Ok(lines);
    }
    let mut sources: Vec<(String, Option<Lines>, Box<dyn Read + Send>)> = Vec::new();
    for path in &args.file {
        let file = File::open(path)
            .map_err(|error| Error::usage(format!("cannot read `{}`: {error}", path.display()), None))?;
        let by_name = match path.extension().is_some_and(|extension| extension == "jsonl") {
            true => Lines::Jsonl,
            false => Lines::Text,
        };
        sources.push((
            path.display().to_string(),
            Some(args.input.unwrap_or(by_name)),
            Box::new(file),
        ));
    }
    if sources.is_empty() {
        sources.push(("standard input".to_owned(), args.input, Box::new(std::io::stdin())));
    }
    std::thread::spawn(move || {
        for (name, mut format, source) in sources {
            let mut reader = BufReader::new(source);
            let (mut bytes, mut number) = (Vec::new(), 0);
            loop {
                bytes.clear();
                number += 1;
                let place = || format!("{name}, line {number}");
                let line = match reader.read_until(b'\n', &mut bytes) {
                    Ok(0) => break,
                    Ok(_) => read_line(&bytes, *format.get_or_insert_with(|| looks_like(&bytes)), &place()),
                    Err(error) => Err(Error::environment(format!("{}: {error}", place()))),
                };
                let is_wrong = line.is_err();
                if sender.send(line).is_err() || is_wrong {
                    return;
                }
            }
        }
    });
    Ok(lines)
}

/// What lines are that nobody told of, by the first of them.
fn looks_like(line: &[u8]) -> Lines {
    match serde_json::from_slice::<Value>(line) {
        Ok(Value::Object(record)) if record.contains_key("text") || record.contains_key("tokens") => Lines::Jsonl,
        _ => Lines::Text,
    }
}

/// One line as a text.
fn read_line(bytes: &[u8], format: Lines, place: &str) -> Line {
    let wrong = |reason: String, help: &str| Error::usage(format!("{place}: {reason}"), Some(help.to_owned()));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8".to_owned(), "save the text as UTF-8"))?;
    let text = text.trim_end_matches(['\n', '\r']).trim_start_matches('\u{feff}');
    if format == Lines::Text || text.trim().is_empty() {
        return Ok(Incoming {
            document: Document {
                text: text.to_owned(),
                words: None,
            },
            id: None,
        });
    }
    let help = "each line is an object such as `{\"text\": \"…\"}` or `{\"tokens\": [\"…\"]}`";
    let mut record: Value = serde_json::from_str(text).map_err(|error| wrong(format!("not JSON: {error}"), help))?;
    let id = record.get("id").filter(|id| !id.is_null()).cloned();
    let tokens = match record["tokens"].take() {
        Value::Null => None,
        tokens => {
            let tokens: Vec<String> = serde_json::from_value(tokens)
                .map_err(|error| wrong(format!("`tokens` is no list of words: {error}"), help))?;
            Some(tokens)
        }
    };
    let document = match (record["text"].as_str(), tokens) {
        (Some(text), tokens) => Document::new(text.to_owned(), tokens.as_deref()),
        (None, Some(tokens)) => Document::new(tokens.join(" "), Some(&tokens)),
        (None, None) => return Err(wrong("there is neither `text` nor `tokens`".to_owned(), help)),
    };
    Ok(Incoming {
        document: document.map_err(|error| wrong(error.message, help))?,
        id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, format: Lines) -> Line {
        read_line(line.as_bytes(), format, "x.jsonl, line 3")
    }

    #[test]
    fn the_first_line_of_a_pipe_tells_what_they_are() {
        for (line, format) in [
            (r#"{"text": "Ada"}"#, Lines::Jsonl),
            (r#"{"tokens": ["Ada"]}"#, Lines::Jsonl),
            (r#"{"name": "Ada"}"#, Lines::Text),
            ("{Ada}", Lines::Text),
            ("7", Lines::Text),
            ("", Lines::Text),
        ] {
            assert_eq!(looks_like(line.as_bytes()), format, "{line}");
        }
    }

    #[test]
    fn lines_are_texts_or_records() {
        let plain = read("Ada met Bob\r\n", Lines::Text).expect("a text");
        assert_eq!(
            (plain.document.text.as_str(), plain.document.words),
            ("Ada met Bob", None)
        );
        let record = read(
            r#"{"id": 7, "text": "Ada met Bob", "tokens": ["Ada", "met", "Bob"]}"#,
            Lines::Jsonl,
        );
        let record = record.expect("a record");
        assert_eq!(record.id, Some(Value::from(7)));
        assert_eq!(record.document.words, Some(vec![(0, 3), (4, 7), (8, 11)]));
        let words = read(r#"{"tokens": ["Ada", "."]}"#, Lines::Jsonl).expect("words");
        assert_eq!(words.document.text, "Ada .");
        assert!(
            read("\n", Lines::Jsonl).is_ok(),
            "a blank line is a text without entities"
        );
    }

    #[test]
    fn wrong_lines_are_told_with_their_place() {
        for (line, reason) in [
            ("{", "not JSON"),
            ("{\"id\": 1}", "neither `text` nor `tokens`"),
            (r#"{"text": "a b", "tokens": ["a", "c"]}"#, "the token \"c\""),
            (r#"{"tokens": [1]}"#, "no list of words"),
        ] {
            let Err(Error::Usage { message, .. }) = read(line, Lines::Jsonl) else {
                panic!("{line}")
            };
            assert!(
                message.starts_with("x.jsonl, line 3: ") && message.contains(reason),
                "{message}"
            );
        }
    }
}
