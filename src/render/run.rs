//! A run as it happens: engine events → lines for people, or JSON lines for programs.

use nerpipe_engine::Event;

use super::numbers;
use super::progress::Running;
use crate::terminal::Terminal;

/// In a run of more instances than this, nothing is said of those that needed nothing.
const FEW: usize = 40;

/// Watches a run.
pub(crate) struct Watcher<'a> {
    terminal: &'a Terminal,
    json: bool,
    quiet: bool,
    /// Whether there are so few instances that each of them is told of.
    few: bool,
    /// How many instances there are, are done, and failed or cannot run because of that.
    all: usize,
    done: usize,
    failed: usize,
    running: Running<'a>,
}

impl<'a> Watcher<'a> {
    /// Watches for a person, or for a program if `json`.
    pub(crate) fn new(terminal: &'a Terminal, json: bool, quiet: bool) -> Self {
        Self {
            terminal,
            json,
            quiet,
            few: true,
            all: 0,
            done: 0,
            failed: 0,
            running: Running::new(terminal, quiet || json),
        }
    }

    /// Shows an event.
    pub(crate) fn see(&mut self, event: &Event) {
        if self.json {
            // An event is a map of texts and finite numbers, so it has a JSON form.
            if let Ok(line) = serde_json::to_string(event) {
                self.terminal.out(&line);
            }
        }
        match event {
            Event::Started { instances, .. } => {
                self.few = *instances <= FEW;
                self.all = *instances;
            }
            Event::InstanceStarted { instance, .. } => self.running.begin(instance),
            Event::Progress { instance, position } => self.running.progress(instance, position),
            Event::InstanceFinished { instance, .. } => {
                self.running.end(instance);
                self.done += 1;
            }
            Event::InstanceFailed { instance, .. } => {
                self.running.end(instance);
                self.failed += 1;
            }
            Event::InstanceRestored { .. } | Event::InstanceShared { .. } => self.done += 1,
            Event::InstanceBlocked { .. } => self.failed += 1,
            _ => {}
        }
        if !matches!(
            event,
            Event::Progress { .. } | Event::Log { .. } | Event::Finished { .. }
        ) {
            self.running.whole(self.done, self.failed, self.all);
        }
        if let Some(line) = self.line(event) {
            self.running.line(&line);
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
            log,
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
            if let Some(log) = log {
                line.push_str(&format!("\n{} {}", verb("log", &|text| paint.dim(text)), log.display()));
            }
            return Some(line);
        }
        if let Event::InstanceRetried {
            instance,
            attempt,
            attempts,
            message,
        } = event
        {
            let again = paint.dim(&format!("(attempt {attempt} of {attempts})"));
            let verb = verb("again", &|text| paint.yellow(text));
            return Some(format!("{verb} {instance} {again}: {message}"));
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
            Event::InstanceRestored { instance } if self.few => {
                format!("{} {}", verb("restored", &|text| paint.dim(text)), paint.dim(instance))
            }
            Event::InstanceShared { instance, with } if self.few => {
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
}
