//! An explanation for people: what differs, old and new.

use std::fmt::Write as _;

use nerpipe_engine::{Difference, Explained, Reason, Status};

use super::numbers;
use crate::terminal::Paint;

/// An explanation as text.
pub(crate) fn render(explained: &Explained, paint: Paint) -> String {
    let planned = &explained.planned;
    let mut text = format!("{}  {}", paint.bold(&planned.instance), paint.dim(&planned.kind));
    let _ = write!(text, "\n  {}", status(explained, paint));
    if let Some(past) = &explained.against {
        let which = match planned.status {
            Status::Fresh | Status::Shared { .. } => "its record",
            _ => "compared with",
        };
        let details = format!("{}, made {}", past.fingerprint.short(), numbers::ago(past.finished_at));
        let _ = write!(
            text,
            "\n  {which} {} of {} {}",
            past.instance,
            past.manifest,
            paint.dim(&format!("({details})"))
        );
    }
    for difference in &explained.differences {
        let _ = write!(text, "\n    {}", line(difference, paint));
    }
    for unknown in &explained.unknown {
        let _ = write!(
            text,
            "\n    inputs.{}: {}",
            unknown.port,
            paint.dim(&format!("not known before {} ran", numbers::some(&unknown.on)))
        );
    }
    if explained.against.is_some() && explained.differences.is_empty() && matches!(planned.status, Status::Waits { .. })
    {
        let _ = write!(text, "\n    {}", paint.dim("nothing else differs"));
    }
    text
}

/// What a run would do with it, in a line or two.
fn status(explained: &Explained, paint: Paint) -> String {
    let differ = numbers::plural(explained.differences.len() as u64, "field");
    match &explained.planned.status {
        Status::Stale { reasons } => {
            let others = reasons.iter().filter(|reason| !matches!(reason, Reason::Changed(_)));
            let others = others.map(|reason| format!(": {reason}"));
            let differ = (!explained.differences.is_empty()).then(|| format!(": {differ} changed"));
            let why: String = others.chain(differ).collect();
            format!("{}{why}", paint.yellow("stale"))
        }
        _ => super::show::status(&explained.planned, paint),
    }
}

/// One field, old in red and new in green.
fn line(difference: &Difference, paint: Paint) -> String {
    let field = difference.field();
    match difference.values() {
        (Some(old), Some(new)) => format!("{field}: {} → {}", paint.red(&old), paint.green(&new)),
        (None, Some(new)) => format!("{field}: new, {}", paint.green(&new)),
        (Some(old), None) => format!("{field}: gone, was {}", paint.red(&old)),
        (None, None) => field,
    }
}
