//! A plan for people: stage by stage, what would run and why.

use std::fmt::Write as _;

use indexmap::IndexMap;
use nerpipe_engine::{Plan, Planned, Status};

use super::numbers;
use crate::terminal::Paint;

/// How many instances of one stage are listed one by one.
const LISTED: usize = 20;

/// The plan as text.
pub(crate) fn render(plan: &Plan, paint: Paint) -> String {
    let mut text = format!("{}: {}", paint.bold(&plan.manifest), headline(plan));
    let mut stages: IndexMap<&str, Vec<&Planned>> = IndexMap::new();
    for planned in &plan.instances {
        stages.entry(&planned.stage).or_default().push(planned);
    }
    let width = stages.keys().map(|stage| stage.chars().count()).max().unwrap_or(0);
    for (stage, planned) in &stages {
        let _ = write!(text, "\n  {stage:width$}  {}", counts(planned, paint));
        let lines: Vec<String> = planned.iter().flat_map(|planned| lines(planned, paint)).collect();
        for line in lines.iter().take(LISTED) {
            let _ = write!(text, "\n    {line}");
        }
        if lines.len() > LISTED {
            let _ = write!(
                text,
                "\n    {}",
                paint.dim(&format!("… and {} more", numbers::count((lines.len() - LISTED) as u64)))
            );
        }
    }
    text
}

fn headline(plan: &Plan) -> String {
    let counts = plan.counts;
    let all = numbers::plural(plan.instances.len() as u64, "instance");
    if counts.stale + counts.waits + counts.impossible == 0 {
        return format!("{all}, nothing to run");
    }
    let mut parts = vec![format!("{} of {all} to run", numbers::count(counts.stale as u64))];
    if counts.waits > 0 {
        parts.push(format!("{} may follow", numbers::count(counts.waits as u64)));
    }
    if counts.impossible > 0 {
        parts.push(format!("{} cannot run", numbers::count(counts.impossible as u64)));
    }
    // An expectation only if an earlier run of every one of them is known.
    let would_run = |planned: &&Planned| matches!(planned.status, Status::Stale { .. } | Status::Waits { .. });
    let seconds: Option<f64> = plan
        .instances
        .iter()
        .filter(would_run)
        .map(|planned| planned.seconds)
        .sum();
    if let Some(seconds) = seconds {
        parts.push(format!("{} of work by earlier runs", numbers::seconds(seconds)));
    }
    parts.join(", ")
}

/// `3 fresh, 1 stale`
fn counts(planned: &[&Planned], paint: Paint) -> String {
    let count = |fits: fn(&Status) -> bool| planned.iter().filter(|planned| fits(&planned.status)).count();
    let parts = [
        (count(|status| matches!(status, Status::Fresh)), paint.green("fresh")),
        (
            count(|status| matches!(status, Status::Shared { .. })),
            paint.green("shared"),
        ),
        (
            count(|status| matches!(status, Status::Stale { .. })),
            paint.yellow("stale"),
        ),
        (
            count(|status| matches!(status, Status::Waits { .. })),
            paint.cyan("waiting"),
        ),
        (
            count(|status| matches!(status, Status::Impossible { .. })),
            paint.red("impossible"),
        ),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| {
            if planned.len() == 1 {
                word
            } else {
                format!("{} {word}", numbers::count(count as u64))
            }
        })
        .collect();
    said.join(", ")
}

/// What is to be said of one instance; nothing if it needs nothing.
fn lines(planned: &Planned, paint: Paint) -> Vec<String> {
    let name = &planned.instance;
    let mut lines = match &planned.status {
        Status::Fresh | Status::Shared { .. } => Vec::new(),
        Status::Stale { reasons } => {
            let first = reasons.first().map_or(String::new(), ToString::to_string);
            let more = match reasons.len() {
                0 | 1 => String::new(),
                several => format!(" (and {} more)", several - 1),
            };
            vec![format!("{name}  {}", paint.dim(&format!("{first}{more}")))]
        }
        Status::Waits { on } => {
            let mut on = on.clone();
            let more = on.len().saturating_sub(2);
            on.truncate(2);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            vec![format!(
                "{name}  {}",
                paint.dim(&format!("waits on {}{more}", on.join(", ")))
            )]
        }
        Status::Impossible { message, help } => {
            let mut lines = vec![format!("{name}  {}", paint.red(message))];
            lines.extend(help.iter().map(|help| format!("  {}: {help}", paint.cyan("help"))));
            lines
        }
    };
    let published = planned
        .repairs
        .iter()
        .map(|target| format!("{name}  {}", paint.dim(&format!("publishes {}", target.display()))));
    lines.extend(published);
    lines
}
