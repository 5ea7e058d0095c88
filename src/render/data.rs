//! Checks and figures of corpora, for people.

use nerpipe_stages::corpus::stats::{Histogram, Stats};
use nerpipe_stages::corpus::write::Lost;
use nerpipe_stages::corpus::{Counts, Source};
use serde_json::Value;

use super::numbers::{count, plural, words};
use crate::terminal::Paint;

/// How many entity types are named.
const LABELS: usize = 20;

/// The end of a check.
pub(crate) fn checked(files: &[Value], total: &Counts, problems: u64, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, number) in total.settled() {
        lines.push(paint.dim(&format!("{}: {}", words(what), count(number))));
    }
    let wrong = match problems {
        0 => paint.green("no problems"),
        _ => paint.red(&plural(problems, "problem")),
    };
    lines.push(format!(
        "{wrong} in {}: {} read, {}, {}",
        plural(files.len() as u64, "file"),
        plural(total.sentences, "sentence"),
        plural(total.words, "word"),
        entities(total.entities)
    ));
    lines
}

fn entities(number: u64) -> String {
    format!("{} {}", count(number), if number == 1 { "entity" } else { "entities" })
}

/// What a format could not hold.
pub(crate) fn lost(lost: Lost) -> Vec<String> {
    let mut lines = Vec::new();
    match lost.entities {
        0 => {}
        1 => lines.push("1 entity was left out, because it overlaps a longer one".to_owned()),
        many => lines.push(format!(
            "{} entities were left out, because they overlap longer ones",
            count(many)
        )),
    }
    match lost.texts {
        0 => {}
        many => lines.push(format!(
            "{} with line breaks or outer white space became tokens joined by blanks",
            plural(many, "text")
        )),
    }
    lines
}

/// The figures of each source, and the texts that two of them share.
pub(crate) fn stats(all: &[(&Source, Stats)], shared: &[(&str, &str, u64)], paint: Paint) -> String {
    let mut lines = Vec::new();
    for (source, stats) in all {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.push(paint.bold(&source.name));
        lines.extend(
            of_one(stats)
                .into_iter()
                .map(|(what, text)| format!("  {what:<12} {text}")),
        );
    }
    if !shared.is_empty() {
        lines.push(String::new());
        lines.push(paint.bold("texts that are in two of them"));
        for (one, other, texts) in shared {
            lines.push(format!("  {:>8}  {one}, {other}", count(*texts)));
        }
    }
    lines.join("\n")
}

fn of_one(stats: &Stats) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        (
            "sentences",
            format!(
                "{}, of which {} have no entity",
                count(stats.sentences),
                count(stats.without_entities)
            ),
        ),
        (
            "words",
            format!(
                "{}; {}",
                count(stats.words),
                spread(&stats.words_per_sentence, "a sentence")
            ),
        ),
        (
            "entities",
            format!(
                "{}; {}",
                count(stats.entities),
                spread(&stats.words_per_entity, "an entity")
            ),
        ),
    ];
    let mut labels: Vec<(&String, &u64)> = stats.labels.iter().collect();
    labels.sort_by_key(|(label, number)| (std::cmp::Reverse(**number), *label));
    let named: Vec<String> = labels
        .iter()
        .take(LABELS)
        .map(|(label, number)| format!("{label} {}", count(**number)))
        .collect();
    let more = labels.len().saturating_sub(LABELS);
    let rest = if more > 0 {
        format!(", and {more} more")
    } else {
        String::new()
    };
    if !named.is_empty() {
        lines.push(("types", format!("{}{rest}", named.join(", "))));
    }
    for (what, names) in [("languages", &stats.languages), ("datasets", &stats.datasets)] {
        if !names.is_empty() {
            let names: Vec<String> = names
                .iter()
                .map(|(name, number)| format!("{name} {}", count(*number)))
                .collect();
            lines.push((what, names.join(", ")));
        }
    }
    let overlaps = &stats.overlaps;
    if overlaps.nested + overlaps.crossing + overlaps.same > 0 {
        lines.push((
            "overlaps",
            format!(
                "{} nested, {} crossing, {} on the same words",
                count(overlaps.nested),
                count(overlaps.crossing),
                count(overlaps.same)
            ),
        ));
    }
    if stats.repeated_texts > 0 {
        lines.push((
            "repetitions",
            format!(
                "{} have a text that came before",
                plural(stats.repeated_texts, "sentence")
            ),
        ));
    }
    if let Some(cut) = &stats.window {
        let per_sentence = cut.subwords as f64 / stats.sentences.max(1) as f64;
        lines.push((
            "subwords",
            format!(
                "{}; {per_sentence:.1} a sentence, at most {}",
                count(cut.subwords),
                count(cut.longest)
            ),
        ));
        let text = match cut.sentences {
            0 => format!("nothing is cut off at {}", cut.max_seq_length),
            sentences => format!(
                "at {} {} lose {} and {}",
                cut.max_seq_length,
                plural(sentences, "sentence"),
                plural(cut.cut_subwords, "subword"),
                entities(cut.entities)
            ),
        };
        lines.push(("window", text));
    }
    lines
}

fn spread(lengths: &Histogram, each: &str) -> String {
    format!(
        "{:.1} {each}, half have {} or fewer, 95 % {} or fewer, at most {}",
        lengths.mean(),
        count(lengths.quantile(0.5)),
        count(lengths.quantile(0.95)),
        count(lengths.quantile(1.0))
    )
}
