//! A run as it happens: engine events → lines for people, or JSON lines for programs.

use std::sync::{Mutex, PoisonError};

use nerpipe_engine::Event;

use super::numbers;
use super::progress::Running;
use crate::terminal::Terminal;

/// Watches a run. Events may come from several threads.
pub(crate) struct Watcher<'a> {
    terminal: &'a Terminal,
    json: bool,
    quiet: bool,
    seen: Mutex<Seen<'a>>,
}

struct Seen<'a> {
    running: Running<'a>,
    /// Failures in the order they came, to be told again at the end.
    failures: Vec<Event>,
    warnings: Vec<String>,
}

impl<'a> Watcher<'a> {
    /// Watches for a person, or for a program if `json`.
    pub(crate) fn new(terminal: &'a Terminal, json: bool, quiet: bool) -> Self {
        let running = Running::new(terminal, quiet || json);
        Self {
            terminal,
            json,
            quiet,
            seen: Mutex::new(Seen {
                running,
                failures: Vec::new(),
                warnings: Vec::new(),
            }),
        }
    }

    /// Takes note of an event and shows it.
    pub(crate) fn see(&self, event: &Event) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if self.json {
            // An event is a map of texts and finite numbers, so it has a JSON form.
            if let Ok(line) = serde_json::to_string(event) {
                self.terminal.out(&line);
            }
        }
        match event {
            Event::InstanceStarted { instance, .. } => seen.running.begin(instance),
            Event::Progress { instance, position } => seen.running.progress(instance, position),
            Event::InstanceFinished { instance, .. } => seen.running.end(instance),
            Event::InstanceFailed { instance, .. } => {
                seen.running.end(instance);
                seen.failures.push(event.clone());
            }
            Event::Warning { instance, message } => {
                let text = instance
                    .as_ref()
                    .map_or(message.clone(), |instance| format!("{instance}: {message}"));
                seen.warnings.push(text);
            }
            _ => {}
        }
        if let Some(line) = self.line(event) {
            seen.running.line(&line);
        }
    }

    /// What a person sees of an event at once.
    fn line(&self, event: &Event) -> Option<String> {
        let paint = self.terminal.err;
        // Ten columns, so that names stand below each other.
        let verb = |word: &str, colour: &dyn Fn(&str) -> String| colour(&format!("{word:>9}"));
        if let Event::Warning { instance, message } = event {
            let whose = instance
                .as_ref()
                .map_or(String::new(), |instance| format!("{instance}: "));
            return Some(format!(
                "{} {whose}{message}",
                verb("warning", &|text| paint.yellow(text))
            ));
        }
        if let Event::InstanceFailed {
            instance,
            message,
            help,
            ..
        } = event
        {
            let mut line = format!(
                "{} {}: {message}",
                verb("failed", &|text| paint.red(text)),
                paint.bold(instance)
            );
            if let Some(help) = help {
                line.push_str(&format!("\n{} {help}", verb("help", &|text| paint.cyan(text))));
            }
            return Some(line);
        }
        if self.quiet || self.json {
            return None;
        }
        Some(match event {
            Event::Started { manifest, instances } => {
                format!(
                    "{} {}",
                    paint.bold(manifest),
                    paint.dim(&numbers::plural(*instances as u64, "instance"))
                )
            }
            Event::InstanceStarted { instance, reason, .. } => {
                format!(
                    "{} {instance} {}",
                    verb("runs", &|text| paint.cyan(text)),
                    paint.dim(&format!("({reason})"))
                )
            }
            Event::InstanceFinished {
                instance,
                seconds,
                steps,
            } => {
                let mut details = numbers::seconds(*seconds);
                if steps.restored > 0 {
                    let restored = numbers::plural(steps.restored, "step");
                    details.push_str(&format!(
                        ", {restored} restored and {} executed",
                        numbers::count(steps.executed)
                    ));
                }
                format!(
                    "{} {instance} {}",
                    verb("done", &|text| paint.green(text)),
                    paint.dim(&format!("({details})"))
                )
            }
            Event::InstanceRestored { instance } => {
                format!("{} {}", verb("restored", &|text| paint.dim(text)), paint.dim(instance))
            }
            Event::InstanceShared { instance, with } => {
                format!(
                    "{} {instance} {}",
                    verb("shared", &|text| paint.dim(text)),
                    paint.dim(&format!("with {with}"))
                )
            }
            Event::InstanceBlocked { instance, by } => {
                let because = paint.dim(&format!("(needs {by}, which failed)"));
                format!("{} {instance} {because}", verb("skipped", &|text| paint.yellow(text)))
            }
            Event::Published { instance, target } => {
                let from = paint.dim(&format!("from {instance}"));
                format!(
                    "{} {} {from}",
                    verb("published", &|text| paint.green(text)),
                    target.display()
                )
            }
            _ => return None,
        })
    }

    /// What went wrong, once more, when all lines have scrolled by: failures with their logs, and warnings.
    pub(crate) fn troubles(&self) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let paint = self.terminal.err;
        let mut lines = Vec::new();
        if !seen.warnings.is_empty() {
            lines.push(format!("{}:", paint.yellow("warnings")));
            lines.extend(seen.warnings.iter().map(|warning| format!("  {warning}")));
        }
        if !seen.failures.is_empty() {
            lines.push(format!("{}:", paint.red("failed")));
        }
        for failure in &seen.failures {
            if let Event::InstanceFailed {
                instance, message, log, ..
            } = failure
            {
                lines.push(format!("  {}: {message}", paint.bold(instance)));
                if let Some(log) = log {
                    lines.push(format!("    log: {}", log.display()));
                }
            }
        }
        lines
    }
}
