//! One instance for people: what goes into it, what is known of it, where its files are.

use std::fmt::Write as _;

use nerpipe_engine::{Graph, Instance, Planned, Shown, Status};

use super::numbers;
use crate::terminal::Paint;

/// How many artifacts of a collecting port are named.
const NAMED: usize = 10;

/// What is known of an instance, as text.
pub(crate) fn render(instance: &Instance, graph: &Graph, shown: &Shown, paint: Paint) -> String {
    let mut text = format!("{}  {}", paint.bold(&shown.planned.instance), paint.dim(&instance.kind));
    let _ = write!(text, "\n  {}", status(&shown.planned, paint));
    if let Some(fingerprint) = &shown.planned.fingerprint {
        let _ = write!(text, "\n  fingerprint {fingerprint}");
    }

    section(&mut text, "settings", paint);
    for (name, value) in instance.resolved.settings.iter().filter(|(_, value)| !value.is_null()) {
        let _ = write!(text, "\n  {name}: {value}");
    }

    if !instance.wires.is_empty() || !instance.files.is_empty() {
        section(&mut text, "inputs", paint);
    }
    for (port, wire) in &instance.wires {
        let (from, parts) = (wire.sources(), wire.parts());
        let _ = write!(text, "\n  {port}: {} of", parts.join(", "));
        let names = from.iter().take(NAMED).map(|number| graph.instances[*number].name());
        let _ = write!(text, " {}", names.collect::<Vec<_>>().join(", "));
        if from.len() > NAMED {
            let _ = write!(text, " and {} more", from.len() - NAMED);
        }
    }
    for (field, paths) in &instance.files {
        let _ = write!(text, "\n  {field}: {}", paths.join(", "));
        let files = shown
            .document
            .as_ref()
            .and_then(|document| document.files.get(field))
            .map(AsRef::as_ref);
        for (name, digest) in files.into_iter().flatten() {
            let _ = write!(text, "\n    {} {name}", paint.dim(&digest.to_string()));
        }
    }

    if let Some(record) = &shown.record {
        let of = if matches!(shown.planned.status, Status::Fresh) {
            "record"
        } else {
            "last record"
        };
        section(&mut text, of, paint);
        let _ = write!(
            text,
            "\n  ran {} as {} of {}",
            numbers::seconds(record.seconds),
            record.instance,
            record.manifest
        );
        let _ = write!(text, "\n  on {} ({})", record.device, record.machine);
        if let Some(peak) = record.peak_memory {
            let _ = write!(text, ", at most {} of memory", numbers::bytes(peak));
        }
        if record.steps.executed + record.steps.restored > 0 {
            let (executed, restored) = (
                numbers::count(record.steps.executed),
                numbers::count(record.steps.restored),
            );
            let _ = write!(text, "\n  steps: {executed} executed, {restored} restored");
        }
        for (key, value) in &record.notes {
            let _ = write!(text, "\n  {}: {}", numbers::words(key), numbers::note(value));
        }
        for warning in &record.warnings {
            let _ = write!(text, "\n  {}: {warning}", paint.yellow("warning"));
        }
        section(&mut text, "files", paint);
        for file in &shown.files {
            let gone = if file.present {
                String::new()
            } else {
                format!(" {}", paint.red("(gone)"))
            };
            let size = numbers::bytes(file.file.size);
            let _ = write!(
                text,
                "\n  {} ({size}){gone}\n    {}",
                file.file.name,
                paint.dim(&file.path.display().to_string())
            );
        }
    }
    if !instance.publish.is_empty() {
        section(&mut text, "publish", paint);
        for publish in &instance.publish {
            let part = publish.part.as_deref().unwrap_or("everything");
            let _ = write!(text, "\n  {part} to {}", publish.target.display());
        }
    }
    if let Some(log) = &shown.log {
        let _ = write!(text, "\n\n{}: {}", paint.bold("log"), log.display());
    }
    text
}

fn section(text: &mut String, title: &str, paint: Paint) {
    let _ = write!(text, "\n\n{}", paint.bold(title));
}

/// What a run would do with an instance, and why.
pub(crate) fn status(planned: &Planned, paint: Paint) -> String {
    match &planned.status {
        Status::Fresh => format!("{}: it is in the cache", paint.green("fresh")),
        Status::Stale { reasons } => {
            let reasons: Vec<String> = reasons.iter().map(|reason| format!("\n    {reason}")).collect();
            format!("{}: it would run, because{}", paint.yellow("stale"), reasons.concat())
        }
        Status::Waits { on } => {
            let cause = planned.cause.as_ref();
            let cause = cause.map(|cause| format!("\n    {}: {}", cause.instance, cause.reason));
            format!(
                "{} on {}{}",
                paint.cyan("waits"),
                numbers::some(on),
                cause.unwrap_or_default()
            )
        }
        Status::Shared { with } => format!("{} with {with}", paint.green("shared")),
        Status::Impossible { message, help } => {
            let help = help
                .as_ref()
                .map_or(String::new(), |help| format!("\n  {}: {help}", paint.cyan("help")));
            format!("{}: {message}{help}", paint.red("impossible"))
        }
    }
}
