//! A plan for people: stage by stage, what would run and why.

use std::fmt::Write as _;

use indexmap::IndexMap;
use nerpipe_engine::plan::{Counts, Expected};
use nerpipe_engine::{Plan, Planned, Status};

use super::numbers;
use crate::terminal::Paint;

/// How many lines one stage gets at most.
const LISTED: usize = 20;

/// The plan as text.
pub(crate) fn render(plan: &Plan, paint: Paint) -> String {
    let mut text = format!("{}: {}", paint.bold(&plan.manifest), headline(plan));
    let mut rows = vec![["stage", "cells", "instances", "shared", "time", "status"].map(str::to_owned)];
    for stage in &plan.stages {
        let count = |number: usize| numbers::count(number as u64);
        rows.push([
            stage.stage.clone(),
            count(stage.cells),
            count(stage.instances),
            count(stage.counts.shared),
            expected(&stage.expected).unwrap_or_default(),
            counts(&stage.counts, stage.instances, paint),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..5).map(width).collect();
    let mut planned = plan.instances.as_slice();
    for (number, row) in rows.iter().enumerate() {
        let cell = |column: usize| format!("{:>width$}", row[column], width = widths[column]);
        let numbers = [1, 2, 3, 4].map(cell).join("  ");
        let line = format!("{:width$}  {numbers}  {}", row[0], row[5], width = widths[0]);
        let line = line.trim_end();
        let _ = match number {
            0 => write!(text, "\n  {}", paint.dim(line)),
            _ => write!(text, "\n  {line}"),
        };
        if let Some(stage) = number.checked_sub(1).and_then(|number| plan.stages.get(number)) {
            let (of_stage, rest) = planned.split_at(stage.instances);
            planned = rest;
            let lines = lines(of_stage, paint);
            for line in lines.iter().take(LISTED) {
                let _ = write!(text, "\n    {line}");
            }
            if lines.len() > LISTED {
                let more = format!("… and {} more", numbers::count((lines.len() - LISTED) as u64));
                let _ = write!(text, "\n    {}", paint.dim(&more));
            }
        }
    }
    text
}

fn headline(plan: &Plan) -> String {
    let counts = plan.counts;
    let mut all = numbers::plural(plan.instances.len() as u64, "instance");
    if plan.cells > 1 {
        all = format!("{all} of {} cells", numbers::count(plan.cells as u64));
    }
    let repairs: usize = plan.instances.iter().map(|planned| planned.repairs.len()).sum();
    if plan.is_nothing() {
        return format!("{all}, nothing to run");
    }
    let mut parts = vec![all];
    let mut say = |number: usize, words: &str| {
        if number > 0 {
            parts.push(format!("{} {words}", numbers::count(number as u64)));
        }
    };
    say(counts.stale, "to run");
    say(counts.waits, "may follow");
    say(counts.impossible, "cannot run");
    say(repairs, "to publish");
    parts.extend(expected(&plan.expected).map(|time| format!("{time} of work by earlier runs")));
    parts.join(", ")
}

/// `2 min 5 s`, or `over 2 min 5 s` if it is not known of all; nothing if it is known of none.
fn expected(expected: &Expected) -> Option<String> {
    let over = if expected.unknown > 0 { "over " } else { "" };
    (expected.known > 0).then(|| format!("{over}{}", numbers::seconds(expected.seconds)))
}

/// `3 fresh, 1 stale`
fn counts(counts: &Counts, all: usize, paint: Paint) -> String {
    let parts = [
        (counts.fresh, paint.green("fresh")),
        (counts.stale, paint.yellow("stale")),
        (counts.waits, paint.cyan("waiting")),
        (counts.shared, paint.green("shared")),
        (counts.impossible, paint.red("impossible")),
    ];
    let said = parts.into_iter().filter(|(number, _)| *number > 0);
    let said = said.map(|(number, word)| match all {
        1 => word,
        _ => format!("{} {word}", numbers::count(number as u64)),
    });
    said.collect::<Vec<_>>().join(", ")
}

/// What is said of one instance, and of several of which the same is said.
struct Said {
    /// Names stages where the other names instances.
    of_many: String,
    of_one: String,
}

impl Said {
    /// The same of one as of many.
    fn alike(text: String) -> Self {
        Self {
            of_one: text.clone(),
            of_many: text,
        }
    }

    fn waits(planned: &Planned, on: &[String]) -> Self {
        let cause = planned.cause.as_ref();
        let text = |name: &dyn Fn(&String) -> String| {
            let mut names: Vec<String> = on.iter().map(name).collect();
            names.dedup();
            let cause = cause.map(|cause| match (names.as_slice(), name(&cause.instance)) {
                ([only], instance) if *only == instance => format!(" ({})", cause.reason),
                (_, instance) => format!(" ({instance}: {})", cause.reason),
            });
            format!("waits on {}{}", numbers::some(&names), cause.unwrap_or_default())
        };
        Self {
            of_one: text(&String::clone),
            of_many: text(&|name| name.split('@').next().unwrap_or_default().to_owned()),
        }
    }
}

/// What is to be said of the instances of one stage; those of which the same is to be said have one line.
fn lines(planned: &[Planned], paint: Paint) -> Vec<String> {
    let mut said: IndexMap<String, (String, Vec<String>)> = IndexMap::new();
    for planned in planned {
        let mut say = |what: Said| {
            let entry = said.entry(what.of_many).or_insert_with(|| (what.of_one, Vec::new()));
            entry.1.push(planned.instance.clone());
        };
        match &planned.status {
            Status::Fresh => {}
            Status::Shared { with } => say(Said {
                of_many: "shared with others".to_owned(),
                of_one: format!("shared with {with}"),
            }),
            Status::Stale { reasons } => {
                let first = reasons.first().map_or(String::new(), ToString::to_string);
                let more = match reasons.len() {
                    0 | 1 => String::new(),
                    several => format!(" (and {} more)", numbers::count(several as u64 - 1)),
                };
                say(Said::alike(format!("{first}{more}")));
            }
            Status::Waits { on } => say(Said::waits(planned, on)),
            Status::Impossible { message, help } => {
                let help = help
                    .as_ref()
                    .map(|help| format!("\n      {}: {help}", paint.cyan("help")));
                say(Said::alike(format!(
                    "{}{}",
                    paint.red(message),
                    help.unwrap_or_default()
                )));
            }
        }
        for target in &planned.repairs {
            say(Said::alike(format!("publishes {}", target.display())));
        }
    }
    let line = |(of_many, (of_one, names)): (String, (String, Vec<String>))| {
        let text = if names.len() == 1 { of_one } else { of_many };
        format!("{}  {}", numbers::some(&names), paint.dim(&text))
    };
    said.into_iter().map(line).collect()
}
