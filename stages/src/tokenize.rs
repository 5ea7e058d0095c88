//! The kind `tokenize`: corpus + tokenizer → tokenized sentences.
//!
//! Consumes a `corpus` and the `tokenizer.json` of an `encoder` or a `model` (and of a second one for the names of entity types, if
//! `type_tokenizer` is connected); produces `tokens`: for every split of the corpus a part with the files that
//! [`crate::tokens`] describes, and the tokenizers themselves. Every corpus file is a cached step of its own.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Context, Digest, Field, InputParts, Kind, PartFile, Port, Progress, Resolved, SettingError, StageError, Step,
    Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::corpus::{self, Origin, Record};
use crate::tokenizer::{Encoded, TextTokenizer, TokenizerError};
use crate::tokens::{Format, Gold, LabelTable, SentenceWriter, SplitBuilder, TokensError, labels_file};

/// The part that holds the tokenizer of texts.
pub const TOKENIZER: &str = "tokenizer.json";
/// The part that holds the tokenizer of entity types, if it is another one.
pub const TYPE_TOKENIZER: &str = "type_tokenizer.json";

/// The stem that a step writes its files under; they get the corpus file's own stem when they are placed.
const STEM: &str = "file";
/// How many pairs of alike types a warning names.
const SHOWN_PAIRS: usize = 3;

/// The settings of `tokenize`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The views to tokenize: `tokens`, `text`, or both. A training needs the view of its `annotation_format`.
    #[serde(default = "both")]
    pub formats: Vec<Format>,
}

fn both() -> Vec<Format> {
    vec![Format::Tokens, Format::Text]
}

/// The kind `tokenize`. See the module's text.
pub struct Tokenize;

impl Kind for Tokenize {
    fn name(&self) -> &'static str {
        "tokenize"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "cuts texts and entity types into subwords"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 1] = [Field::counted("formats")];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        const PORTS: [Port; 3] = [
            Port {
                name: "corpus",
                takes: "corpus",
                required: true,
                collects: false,
            },
            Port {
                name: "tokenizer",
                takes: "encoder|model",
                required: true,
                collects: false,
            },
            Port {
                name: "type_tokenizer",
                takes: "encoder|model",
                required: false,
                collects: false,
            },
        ];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "tokens"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let mut settings: Settings = parse_settings(settings)?;
        settings.formats.sort_unstable();
        settings.formats.dedup();
        if settings.formats.is_empty() {
            return Err(SettingError::new("formats", "no format is given").help("name `tokens`, `text`, or both"));
        }
        let splits = inputs.parts("corpus");
        let mut parts = splits.to_vec();
        parts.push(TOKENIZER.to_owned());
        let mut resolved = Resolved::new(&settings)?
            .reads("corpus", splits.iter().cloned())
            .reads("tokenizer", [TOKENIZER]);
        if inputs.connected("type_tokenizer") {
            let offered = inputs.parts("type_tokenizer");
            let own = offered.iter().any(|part| part == TYPE_TOKENIZER);
            resolved = resolved.reads("type_tokenizer", [if own { TYPE_TOKENIZER } else { TOKENIZER }]);
            parts.push(TYPE_TOKENIZER.to_owned());
        }
        Ok(resolved.makes(parts))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let text_file = tokenizer_file(ctx, "tokenizer")?;
        let type_file = match ctx.input("type_tokenizer") {
            Ok(_) => Some(tokenizer_file(ctx, "type_tokenizer")?),
            Err(_) => None,
        };
        let tokenizers = Tokenizers {
            text: TextTokenizer::from_file(&text_file.path).map_err(stage)?,
            types: type_file
                .map(|file| TextTokenizer::from_file(&file.path))
                .transpose()
                .map_err(stage)?,
        };
        copy(&text_file.path, &ctx.out(TOKENIZER)?)?;
        if let Some(file) = type_file {
            copy(&file.path, &ctx.out(TYPE_TOKENIZER)?)?;
        }
        let type_digest = type_file.unwrap_or(text_file).digest;

        let corpus = ctx.input("corpus")?;
        let total: usize = corpus.parts.values().map(|part| part.files.len()).sum();
        let mut done = 0;
        for (split, part) in &corpus.parts {
            let mut counts = Counts::default();
            let mut labels = LabelTable::default();
            for file in &part.files {
                ctx.check_cancelled()?;
                let step = Step {
                    name: "file",
                    version: 2,
                    settings: json!({ "formats": settings.formats }),
                    inputs: inputs(file.digest, text_file.digest, type_digest),
                };
                let output = ctx.step(step, |out| {
                    let counts = tokenize_file(&file.path, &file.name, out, &settings.formats, &tokenizers)?;
                    serde_json::to_value(counts).map_err(|error| StageError::new(error.to_string()))
                })?;
                let stem = file.name.strip_suffix(".jsonl").unwrap_or(&file.name);
                for format in &settings.formats {
                    ctx.place(&output, &format.file(STEM), &format!("{split}/{}", format.file(stem)))?;
                }
                ctx.place(&output, &labels_file(STEM), &format!("{split}/{}", labels_file(stem)))?;

                if let Some(table) = output.file(&labels_file(STEM)) {
                    labels.add_file(&table.path, &table.name)?;
                }
                let of_file: Counts = serde_json::from_value(output.value.clone())
                    .map_err(|error| StageError::new(format!("the record of a cached file cannot be read: {error}")))?;
                counts.add(&of_file);
                done += 1;
                ctx.progress(Progress {
                    done,
                    total: Some(total as u64),
                    unit: "files",
                    figures: vec![("sentences", counts.sentences as f64)],
                });
            }
            ctx.note(split, counts.summary());
            warn_alike(ctx, split, &labels.alike());
        }
        Ok(())
    }
}

/// What a step of one corpus file depends on.
fn inputs(corpus: Digest, tokenizer: Digest, type_tokenizer: Digest) -> Vec<Digest> {
    vec![corpus, tokenizer, type_tokenizer]
}

/// Says which entity types the tokenizer cannot tell apart.
fn warn_alike(ctx: &Context, split: &str, alike: &[(String, String)]) {
    if alike.is_empty() {
        return;
    }
    let pairs: Vec<String> = alike
        .iter()
        .take(SHOWN_PAIRS)
        .map(|(a, b)| format!("`{a}` and `{b}`"))
        .collect();
    let more = if alike.len() > SHOWN_PAIRS { ", and more" } else { "" };
    ctx.warn(&format!(
        "entity types of `{split}` have the same subwords: {}{more}",
        pairs.join(", ")
    ));
}

fn tokenizer_file<'a>(ctx: &'a Context, port: &str) -> Result<&'a PartFile, StageError> {
    let input = ctx.input(port)?;
    let own = input.part(TYPE_TOKENIZER).filter(|_| port == "type_tokenizer");
    own.or_else(|| input.part(TOKENIZER))
        .and_then(|part| part.files.first())
        .ok_or_else(|| StageError::new(format!("the encoder at `{port}` has no `{TOKENIZER}`")))
}

fn copy(from: &Path, to: &Path) -> Result<(), StageError> {
    // Read and written rather than copied, so that the copy does not inherit the store's read-only mode.
    std::fs::read(from)
        .and_then(|bytes| std::fs::write(to, bytes))
        .map_err(|error| StageError::new(format!("failed to copy `{}`: {error}", from.display())))
}

fn stage(error: impl std::fmt::Display) -> StageError {
    StageError::new(error.to_string())
}

/// The tokenizers of texts and of entity types.
pub struct Tokenizers {
    /// Of texts.
    pub text: TextTokenizer,
    /// Of entity types; none if they share the texts' one.
    pub types: Option<TextTokenizer>,
}

impl Tokenizers {
    /// The subword ids of an entity type.
    ///
    /// # Errors
    /// If its name has no subwords.
    pub fn label(&self, name: &str) -> Result<Vec<u32>, StageError> {
        let ids = self.types.as_ref().unwrap_or(&self.text).label(name).map_err(stage)?;
        if ids.is_empty() {
            return Err(StageError::new(format!("the entity type {name:?} has no subwords"))
                .help("rename it to something that can be read"));
        }
        Ok(ids)
    }
}

/// What was counted while a file was tokenized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    sentences: u64,
    words: u64,
    /// Subwords of the first view.
    subwords: u64,
    /// Subwords of the first view that are the unknown token.
    unknown: u64,
    /// Words without any subword; only the words view can tell.
    words_without_subwords: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sentences += other.sentences;
        self.words += other.words;
        self.subwords += other.subwords;
        self.unknown += other.unknown;
        self.words_without_subwords += other.words_without_subwords;
    }

    fn summary(&self) -> Value {
        // Rounded, so that the summary reads well; the counts themselves are exact.
        let share = self.unknown as f64 / self.subwords.max(1) as f64;
        json!({
            "sentences": self.sentences,
            "subwords": self.subwords,
            "unknown_share": (share * 1e4).round() / 1e4,
            "words_without_subwords": self.words_without_subwords
        })
    }
}

/// A record in the views asked for, ready to be written.
struct Row {
    id: String,
    origin: Origin,
    views: Vec<View>,
    words: u64,
}

/// A record in one view; golds carry an index into `labels` of the record's spans.
struct View {
    format: Format,
    encoded: Encoded,
    length: u32,
    spans: Vec<corpus::Span>,
}

impl View {
    fn new(record: &Record, format: Format, tokenizer: &TextTokenizer) -> Result<Self, TokenizerError> {
        Ok(match format {
            Format::Tokens => Self {
                format,
                encoded: tokenizer.words(&record.tokens)?,
                length: record.tokens.len() as u32,
                spans: record.token_spans.clone(),
            },
            Format::Text => Self {
                format,
                encoded: tokenizer.text(&record.text)?,
                length: record.text.chars().count() as u32,
                spans: record.char_spans.clone(),
            },
        })
    }

    /// Counts words without subwords; 0 in the text view, which has no words of the record's.
    fn empty_words(&self) -> u64 {
        if self.format == Format::Text {
            return 0;
        }
        let mut words = self.encoded.words.clone();
        words.dedup();
        u64::from(self.length) - words.len() as u64
    }
}

/// Writes the sentences and the label table of the corpus file `path`, called `name` in messages, into the folder `out`.
fn tokenize_file(
    path: &Path,
    name: &str,
    out: &Path,
    formats: &[Format],
    tokenizers: &Tokenizers,
) -> Result<Counts, StageError> {
    let create = |file: String| -> Result<BufWriter<File>, StageError> {
        let path = out.join(file);
        let file = File::create(&path)
            .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))?;
        Ok(BufWriter::with_capacity(1 << 20, file))
    };
    let mut writers = formats
        .iter()
        .map(|format| SentenceWriter::new(create(format.file(STEM))?).map_err(stage))
        .collect::<Result<Vec<_>, _>>()?;
    let mut labels = LabelTable::default();
    let mut counts = Counts::default();
    let unknown = tokenizers.text.special().unk;

    let encode = |record: &Record| -> Result<Row, StageError> {
        let views = formats
            .iter()
            .map(|&format| View::new(record, format, &tokenizers.text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| StageError::new(format!("record `{}`: {error}", record.id)))?;
        Ok(Row {
            id: record.id.clone(),
            origin: record.origin.clone(),
            views,
            words: record.tokens.len() as u64,
        })
    };
    corpus::read(path, name, encode, |row: Row| {
        counts.sentences += 1;
        counts.words += row.words;
        if let Some(view) = row.views.first() {
            counts.subwords += view.encoded.ids.len() as u64;
            counts.unknown += view.encoded.ids.iter().filter(|&&id| Some(id) == unknown).count() as u64;
            counts.words_without_subwords += view.empty_words();
        }
        for (view, writer) in row.views.iter().zip(&mut writers) {
            let golds = view
                .spans
                .iter()
                .map(|span| {
                    let label = labels.index(&span.label, || tokenizers.label(&span.label))?;
                    Ok(Gold {
                        start: span.start,
                        end: span.end,
                        label,
                    })
                })
                .collect::<Result<Vec<_>, StageError>>()?;
            writer
                .push(&row.id, &row.origin, &view.encoded, view.length, &golds)
                .map_err(stage)?;
        }
        Ok(())
    })?;

    for writer in writers {
        writer.finish().map_err(stage)?;
    }
    labels.write(create(labels_file(STEM))?).map_err(stage)?;
    Ok(counts)
}

/// Adds `record` to a split in memory.
///
/// # Errors
/// If its texts or labels cannot be tokenized.
pub fn add_record(builder: &mut SplitBuilder, record: &Record, tokenizers: &Tokenizers) -> Result<(), StageError> {
    let view = View::new(record, builder.format(), &tokenizers.text).map_err(stage)?;
    let golds: Vec<(u32, u32, &str)> = view
        .spans
        .iter()
        .map(|span| (span.start, span.end, span.label.as_str()))
        .collect();
    builder.sentence(&record.id, &view.encoded, view.length, &golds, |label| {
        tokenizers.label(label)
    })?;
    Ok(())
}

impl From<TokensError> for StageError {
    fn from(error: TokensError) -> Self {
        Self::new(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::testing::Bench;

    use super::*;
    use crate::corpus::parse_record;
    use crate::tokens::Split;
    use crate::wordpiece;

    fn tokenizer(vocabulary: &[&str]) -> TextTokenizer {
        let vocabulary: Vec<String> = wordpiece::SPECIAL_TOKENS
            .iter()
            .chain(vocabulary)
            .map(|&token| token.to_owned())
            .collect();
        let json = wordpiece::tokenizer_json(&vocabulary, wordpiece::Options::default());
        TextTokenizer::from_bytes(json.to_string().as_bytes()).unwrap()
    }

    fn tokenizers() -> Tokenizers {
        Tokenizers {
            text: tokenizer(&["new", "york", "京", "東", "city", "##s", "."]),
            types: None,
        }
    }

    const LINES: [&str; 3] = [
        r#"{"id": "a", "language": "en", "text": "New \u200b Yorks .", "tokens": ["New", "\u200b", "Yorks", "."], "token_spans": [{"start": 0, "end": 3, "label": "city"}]}"#,
        r#"{"id": "b", "text": "東京", "tokens": ["東京"], "token_spans": [{"start": 0, "end": 1, "label": "City"}]}"#,
        r#"{"id": "c", "dataset": "x", "text": "new .", "tokens": ["new", "."], "token_spans": []}"#,
    ];

    #[test]
    fn both_views_hold_their_own_positions() {
        for (format, gold, words, length) in [
            (Format::Tokens, (0, 3), vec![0, 2, 2, 3], 4),
            (Format::Text, (0, 11), vec![0, 1, 1, 2], 13),
        ] {
            let mut builder = SplitBuilder::new(format);
            for line in LINES {
                let (record, _) = parse_record(line.as_bytes(), 1).unwrap();
                add_record(&mut builder, &record, &tokenizers()).unwrap();
            }
            let split = builder.build().unwrap();
            assert_eq!(split.labels().names, ["City", "city"]);
            let first = split.sentence(0);
            assert_eq!(
                first
                    .golds()
                    .map(|gold| (gold.start, gold.end, gold.label))
                    .collect::<Vec<_>>(),
                [(gold.0, gold.1, 1)]
            );
            assert_eq!(
                (first.ids, first.words, first.length),
                (&[5, 6, 10, 11][..], &words[..], length)
            );
            assert_eq!(split.sentence(1).ids, [8, 7]);
            assert_eq!(split.sentence(2).gold_count(), 0);
        }
    }

    #[test]
    fn a_file_is_tokenized_into_the_same_bytes_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = folder.path().join("corpus.jsonl");
        // More than one batch of lines, so that they are encoded side by side.
        let lines: String = (0..3000).map(|index| format!("{}\n", LINES[index % 3])).collect();
        std::fs::write(&corpus, lines).unwrap();
        let run = |name: &str| {
            let out = folder.path().join(name);
            std::fs::create_dir(&out).unwrap();
            let counts = tokenize_file(&corpus, "corpus.jsonl", &out, &both(), &tokenizers()).unwrap();
            let read = |file: String| std::fs::read(out.join(file)).unwrap();
            (
                counts,
                read(Format::Tokens.file(STEM)),
                read(Format::Text.file(STEM)),
                read(labels_file(STEM)),
            )
        };
        let (first, second) = (run("first"), run("second"));
        assert!(first.1 == second.1 && first.2 == second.2 && first.3 == second.3);
        let counts = first.0;
        assert_eq!((counts.sentences, counts.words, counts.subwords), (3000, 7000, 8000));
        assert_eq!((counts.unknown, counts.words_without_subwords), (0, 1000));
    }

    #[test]
    fn types_are_spelled_by_their_own_tokenizer() {
        let tokenizers = Tokenizers {
            text: tokenizer(&["a"]),
            types: Some(tokenizer(&["x", "y", "city"])),
        };
        assert_eq!(tokenizers.label("city").unwrap(), [7]);
        assert!(
            tokenizers
                .label("\u{200b}")
                .unwrap_err()
                .message
                .contains("has no subwords")
        );
    }

    #[test]
    fn formats_are_put_in_order_and_parts_follow_the_corpus() {
        let mut inputs = InputParts::default();
        inputs
            .ports
            .insert("corpus".to_owned(), vec!["train".to_owned(), "test".to_owned()]);
        inputs.ports.insert("tokenizer".to_owned(), vec![TOKENIZER.to_owned()]);
        let resolved = Tokenize
            .resolve(&json!({"formats": ["text", "tokens", "text"]}), &inputs)
            .unwrap();
        assert_eq!(
            resolved.settings,
            Tokenize.resolve(&json!({}), &inputs).unwrap().settings
        );
        assert_eq!(resolved.parts, ["train", "test", TOKENIZER]);
        assert!(!resolved.reads.contains_key("type_tokenizer"));
        inputs
            .ports
            .insert("type_tokenizer".to_owned(), vec![TOKENIZER.to_owned()]);
        let resolved = Tokenize.resolve(&json!({"formats": ["text"]}), &inputs).unwrap();
        assert_eq!(resolved.parts, ["train", "test", TOKENIZER, TYPE_TOKENIZER]);
        assert_eq!(
            Tokenize.resolve(&json!({"formats": []}), &inputs).unwrap_err().path,
            "formats"
        );
    }

    #[test]
    fn splits_are_opened_file_by_file_and_stay_apart() {
        let bench = Bench::new();
        let vocabulary = |more: &str| format!("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nnew\nyork\n.\n{more}");
        bench.write("vocab.txt", vocabulary("city\n"));
        bench.write("types.txt", vocabulary("ci\n##ty\n"));
        bench.write("train/a.jsonl", LINES[0]);
        bench.write("train/b.jsonl", format!("{}\n{}", LINES[1], LINES[2]));
        bench.write("test.jsonl", LINES[2]);
        let encoder = |vocabulary: &str| {
            let settings = json!({"source": "random", "vocabulary": vocabulary, "hidden_size": 8, "layers": 1});
            bench.run(&crate::encoder::Encoder, settings).unwrap()
        };
        let (encoder, types) = (encoder("vocab.txt"), encoder("types.txt"));
        let load = |bench: &Bench| {
            bench
                .run(
                    &crate::load::Load,
                    json!({"train": "train/*.jsonl", "test": "test.jsonl"}),
                )
                .unwrap()
        };
        let corpus = load(&bench);
        let bench = bench.input("tokenizer", &encoder).input("corpus", &corpus);
        let first = bench.run(&Tokenize, json!({})).unwrap();
        assert_eq!((first.steps.executed, first.names().len()), (3, 10));

        let part = first.input.part("train").unwrap();
        let split = Split::open(part, Format::Text).unwrap();
        assert_eq!(split.files(), [("a".to_owned(), 0..1), ("b".to_owned(), 1..3)]);
        assert_eq!(split.labels().names, ["City", "city"]);
        assert_eq!(split.sentence(0).id, "a");
        let origins: Vec<_> = split.sentences().map(|s| (s.language, s.dataset)).collect();
        assert_eq!(origins, [(Some("en"), None), (None, None), (None, Some("x"))]);
        let only = bench.run(&Tokenize, json!({"formats": ["tokens"]})).unwrap();
        let error = Split::open(only.input.part("train").unwrap(), Format::Text)
            .err()
            .unwrap();
        assert!(error.to_string().contains("no `text` view"), "{error}");

        bench.write("test.jsonl", LINES[1]);
        let corpus = load(&bench);
        let bench = bench.input("corpus", &corpus);
        let second = bench.run(&Tokenize, json!({})).unwrap();
        assert_eq!((second.steps.executed, second.steps.restored), (1, 2));
        assert_eq!(second.input.part("train").unwrap().digest, part.digest);

        let bench = bench.input("type_tokenizer", &types);
        let third = bench.run(&Tokenize, json!({})).unwrap();
        assert_eq!(third.text(TYPE_TOKENIZER), types.text("tokenizer.json"));
        let split = Split::open(third.input.part("train").unwrap(), Format::Tokens).unwrap();
        assert_eq!(split.labels().ids, [[8, 9], [8, 9]]);
        assert!(
            third.warnings.iter().any(|line| line.contains("`city` and `City`")),
            "{:?}",
            third.warnings
        );
    }
}
