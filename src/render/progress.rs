//! How running instances are shown: bars that redraw on a terminal, now and then a line elsewhere.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use nerpipe_engine::event::{Pace, Position};

use super::numbers;
use crate::terminal::Terminal;

/// How often an instance may write a line where nothing can be redrawn.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// The instances that run now.
pub(crate) struct Running<'a> {
    terminal: &'a Terminal,
    quiet: bool,
    /// Draws the bars; none where lines are written instead.
    bars: Option<MultiProgress>,
    /// How far the run as a whole is, below all others.
    whole: Option<ProgressBar>,
    instances: BTreeMap<String, State>,
}

struct State {
    pace: Pace,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl<'a> Running<'a> {
    /// Nothing runs yet. With `quiet`, progress is not shown at all.
    pub(crate) fn new(terminal: &'a Terminal, quiet: bool) -> Self {
        let bars = (terminal.live && !quiet).then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self {
            terminal,
            quiet,
            bars,
            whole: None,
            instances: BTreeMap::new(),
        }
    }

    /// Writes a line to standard error, above the bars.
    pub(crate) fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| self.terminal.err(text)),
            None => self.terminal.err(text),
        }
    }

    /// The run as a whole is this far.
    pub(crate) fn whole(&mut self, done: usize, failed: usize, all: usize) {
        let Some(bars) = &self.bars else { return };
        let whole = self.whole.get_or_insert_with(|| {
            let bar = bars.add(ProgressBar::new(all as u64));
            bar.set_style(style("  {bar:24} {msg}"));
            bar
        });
        let mut text = format!(
            "{}/{} instances",
            numbers::count(done as u64),
            numbers::count(all as u64)
        );
        if failed > 0 {
            text.push_str(&format!(", {} failed", numbers::count(failed as u64)));
        }
        whole.set_position(done as u64);
        whole.set_message(text);
    }

    /// An instance begins.
    pub(crate) fn begin(&mut self, instance: &str) {
        let bar = self.bars.as_ref().map(|bars| {
            let spinner = ProgressBar::new_spinner();
            let bar = match &self.whole {
                Some(whole) => bars.insert_before(whole, spinner),
                None => bars.add(spinner),
            };
            bar.set_style(style("{spinner} {prefix} {msg}"));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let now = Instant::now();
        self.instances.insert(
            instance.to_owned(),
            State {
                pace: Pace::default(),
                last_line: now,
                bar,
            },
        );
        self.align();
    }

    /// Pads the names of what runs to one width, so that the bars stand below each other.
    fn align(&self) {
        let width = self
            .instances
            .keys()
            .map(|name| name.chars().count())
            .max()
            .unwrap_or(0);
        for (name, state) in &self.instances {
            if let Some(bar) = &state.bar {
                bar.set_prefix(format!("{name:width$}"));
            }
        }
    }

    /// An instance has come this far.
    pub(crate) fn progress(&mut self, instance: &str, position: &Position) {
        let Some(state) = self.instances.get_mut(instance) else {
            return;
        };
        let left = state.pace.left(position);
        if let Some(bar) = &state.bar {
            if let Some(total) = position.total
                && bar.length() != Some(total)
            {
                bar.set_length(total);
                bar.set_style(style("{spinner} {prefix} {bar:24} {msg}"));
            }
            bar.set_position(position.done);
            bar.set_message(describe(position, left));
        } else if !self.quiet && state.last_line.elapsed() >= LINE_EVERY {
            state.last_line = Instant::now();
            self.terminal
                .err(&format!("  {instance}: {}", describe(position, left)));
        }
    }

    /// An instance has ended, well or badly.
    pub(crate) fn end(&mut self, instance: &str) {
        if let Some(State { bar: Some(bar), .. }) = self.instances.remove(instance) {
            bar.finish_and_clear();
            if let Some(bars) = &self.bars {
                bars.remove(&bar);
            }
        }
        self.align();
    }
}

/// What was stopped half-way leaves no bar behind.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        let bars = self.instances.values().filter_map(|state| state.bar.as_ref());
        for bar in bars.chain(&self.whole) {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// How far an instance is: `120/300 steps, loss 0.4312, 85.2 samples/s, 20.0 s left`
pub(crate) fn describe(position: &Position, left: Option<Duration>) -> String {
    let mut text = numbers::count(position.done);
    if let Some(total) = position.total {
        text.push('/');
        text.push_str(&numbers::count(total));
    }
    text.push(' ');
    text.push_str(&position.unit);
    for (name, value) in &position.figures {
        // A rate reads better behind its number: `85.2 samples/s`, but `loss 0.4312`.
        let figure = value.map_or_else(|| "not a number".to_owned(), numbers::figure);
        let part = if name.contains('/') {
            format!(", {figure} {name}")
        } else {
            format!(", {name} {figure}")
        };
        text.push_str(&part);
    }
    if let Some(left) = left {
        text.push_str(&format!(", {} left", numbers::duration(left)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            done: 120,
            total: Some(1200),
            unit: "steps".to_owned(),
            figures: [("loss", 0.43125), ("samples/s", 85.17)]
                .map(|(name, figure)| (name.to_owned(), Some(figure)))
                .into(),
        }
    }

    #[test]
    fn progress_tells_step_loss_pace_and_time_left() {
        assert_eq!(
            describe(&position(), Some(Duration::from_secs(90))),
            "120/1,200 steps, loss 0.4313, 85.2 samples/s, 1 min 30 s left"
        );
        let open = Position {
            done: 3,
            unit: "files".to_owned(),
            ..Position::default()
        };
        assert_eq!(describe(&open, None), "3 files");
    }
}
