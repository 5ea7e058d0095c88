//! The end of a run for people: what was done, what was cut or dropped, what went wrong.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use nerpipe_engine::{InstanceSummary, Outcome, Summary};

use super::numbers;
use crate::terminal::Paint;

/// How many instances of one stage are told apart; where they note the same they are one line anyway.
const LINES: usize = 8;

/// How many failed instances are named one by one in the command that runs them again.
const CHOSEN: usize = 10;

/// The summary, line by line. `again` is the command that ran, without a choice of instances; empty if
/// there is none that runs a part.
pub(crate) fn lines(summary: &Summary, again: &[String], paint: Paint) -> Vec<String> {
    let mut lines = notes(summary, paint);
    lines.extend(warnings(summary, paint));
    lines.extend(failures(summary, again, paint));
    lines.extend(steps(summary, paint));
    if !lines.is_empty() {
        lines.insert(0, String::new());
    }
    lines.push(String::new());
    lines.push(counts(summary, paint));
    lines
}

/// What the stages noted: what was read, cut or dropped and why. Equal notes of several instances are told once.
fn notes(summary: &Summary, paint: Paint) -> Vec<String> {
    let mut said: IndexMap<&str, IndexMap<String, Vec<&str>>> = IndexMap::new();
    for instance in &summary.instances {
        let notes = instance.notes.iter().filter(|(_, value)| !numbers::is_nothing(value));
        for (key, value) in notes {
            let text = format!("{}: {}", numbers::words(key), numbers::note(value));
            said.entry(stage(instance))
                .or_default()
                .entry(text)
                .or_default()
                .push(&instance.instance);
        }
    }
    let mut lines = Vec::new();
    if !said.is_empty() {
        lines.push(paint.bold("noted"));
    }
    for (stage, texts) in said {
        for (text, instances) in texts.iter().take(LINES) {
            let whose = match instances.as_slice() {
                [one] => (*one).to_owned(),
                several => format!("{stage} ({})", several.len()),
            };
            lines.push(format!("  {whose}  {}", paint.dim(text)));
        }
        if texts.len() > LINES {
            lines.push(paint.dim(&format!(
                "  {stage}  … and {} more, see `nerpipe show`",
                texts.len() - LINES
            )));
        }
    }
    lines
}

/// Warnings of all instances, each once, restored ones included: what was wrong with a result still is.
fn warnings(summary: &Summary, paint: Paint) -> Vec<String> {
    let mut whose: IndexMap<&str, Vec<&str>> = summary
        .warnings
        .iter()
        .map(|text| (text.as_str(), Vec::new()))
        .collect();
    for instance in &summary.instances {
        for warning in &instance.warnings {
            whose.entry(warning).or_default().push(&instance.instance);
        }
    }
    let line = |(text, instances): (&str, Vec<&str>)| match instances.as_slice() {
        [] => format!("  {text}"),
        [one] => format!("  {one}: {text}"),
        [one, rest @ ..] => format!("  {one} and {} more: {text}", rest.len()),
    };
    let mut lines: Vec<String> = whose.into_iter().map(line).collect();
    if !lines.is_empty() {
        lines.insert(0, paint.yellow("warnings"));
    }
    lines
}

fn failures(summary: &Summary, again: &[String], paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    let mut names = Vec::new();
    for instance in summary
        .instances
        .iter()
        .filter(|instance| instance.outcome == Outcome::Failed)
    {
        names.push(instance.instance.clone());
        let message = instance.error.as_ref().map_or("", |error| error.message.as_str());
        lines.push(format!("  {}: {message}", paint.bold(&instance.instance)));
        if let Some(help) = instance.error.as_ref().and_then(|error| error.help.as_ref()) {
            lines.push(format!("    {}: {help}", paint.cyan("help")));
        }
        if let Some(log) = &instance.log {
            lines.push(format!("    log: {}", log.display()));
        }
    }
    if !lines.is_empty() {
        lines.insert(0, paint.red("failed"));
    }
    if !lines.is_empty() && !again.is_empty() {
        lines.push(paint.dim("to run only these again:"));
        // Without a choice the same command comes to them too: all else is in the cache, or depends on them.
        let chosen = if names.len() <= CHOSEN { names.as_slice() } else { &[] };
        let words: Vec<String> = again.iter().chain(chosen).map(|word| quoted(word)).collect();
        lines.push(format!("  {}", words.join(" ")));
    }
    lines
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_-./@=,:+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The cached steps inside stages, where some were restored and some were not.
fn steps(summary: &Summary, paint: Paint) -> Vec<String> {
    let told: BTreeMap<_, _> = summary
        .steps
        .iter()
        .filter(|(_, steps)| steps.executed > 0 && steps.restored > 0)
        .collect();
    let line = |(kind, steps): (&String, &nerpipe_engine::StepCounts)| {
        let (executed, restored) = (numbers::count(steps.executed), numbers::count(steps.restored));
        format!("  {kind}: {executed} executed, {restored} restored")
    };
    let mut lines: Vec<String> = told.into_iter().map(line).collect();
    if !lines.is_empty() {
        lines.insert(0, paint.bold("steps inside stages"));
    }
    lines
}

/// `small: 4 executed, 12 restored in 3.2 s`
pub(crate) fn counts(summary: &Summary, paint: Paint) -> String {
    let count = |number: usize, word: &str| format!("{} {word}", numbers::count(number as u64));
    let mut parts = vec![count(summary.executed, "executed"), count(summary.restored, "restored")];
    if summary.shared > 0 {
        parts.push(count(summary.shared, "shared"));
    }
    if summary.failed > 0 {
        parts.push(paint.red(&count(summary.failed, "failed")));
    }
    if summary.blocked > 0 {
        parts.push(paint.yellow(&count(summary.blocked, "skipped because of that")));
    }
    if summary.stopped > 0 {
        parts.push(paint.yellow(&count(summary.stopped, "stopped")));
    }
    let time = numbers::seconds(summary.seconds);
    format!("{}: {} in {time}", paint.bold(&summary.manifest), parts.join(", "))
}

/// The stage of an instance: what stands before the `@` of its name.
fn stage(instance: &InstanceSummary) -> &str {
    instance.instance.split('@').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn words_that_a_shell_would_take_apart_are_quoted() {
        assert_eq!(quoted("model@loss=bce,seed=1"), "model@loss=bce,seed=1");
        assert_eq!(quoted("vars.x=a b"), "'vars.x=a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
