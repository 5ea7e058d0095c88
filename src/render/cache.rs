//! The cache for people: its records, its size, and what was taken away.

use std::fmt::Write as _;

use nerpipe_engine::cache::{HeldRecord, Share, Swept, Usage};

use super::numbers;
use crate::terminal::Paint;

/// How many instances are named when they are taken away.
const NAMED: usize = 20;

/// Records by manifest and stage.
pub(crate) fn records(records: &[HeldRecord], paint: Paint) -> String {
    let mut text = match records.len() {
        0 => return "no records".to_owned(),
        number => numbers::plural(number as u64, "record"),
    };
    let name = |record: &HeldRecord| record.instance.chars().count();
    let width = records.iter().map(name).max().unwrap_or(0);
    let sizes: Vec<String> = records.iter().map(|record| numbers::bytes(record.bytes)).collect();
    let size_width = sizes.iter().map(String::len).max().unwrap_or(0);
    let mut before: Option<&HeldRecord> = None;
    for (record, size) in records.iter().zip(&sizes) {
        if before.is_none_or(|before| before.manifest != record.manifest) {
            let _ = write!(text, "\n{}", paint.bold(&record.manifest));
        }
        if before.is_none_or(|before| (&before.manifest, &before.stage) != (&record.manifest, &record.stage)) {
            let _ = write!(text, "\n  {} {}", record.stage, paint.dim(&record.kind));
        }
        let mut about = format!(
            "used {}, ran {}, {}",
            numbers::ago(record.last_used),
            numbers::seconds(record.seconds),
            record.fingerprint.short()
        );
        if !record.latest {
            about.push_str(", not the latest");
        }
        if record.missing > 0 {
            about.push_str(", bytes gone");
        }
        let _ = write!(
            text,
            "\n    {:width$}  {size:>size_width$}  {}",
            record.instance,
            paint.dim(&about)
        );
        before = Some(record);
    }
    text
}

/// What takes how much space.
pub(crate) fn usage(usage: &Usage, paint: Paint) -> String {
    let mut text = format!(
        "{}: {}",
        paint.bold(&usage.root.display().to_string()),
        numbers::bytes(usage.bytes)
    );
    let count = |number: usize| numbers::count(number as u64);
    let kinds = usage.kinds.iter();
    let kinds = kinds.map(|kind| vec![kind.kind.clone(), count(kind.records), numbers::bytes(kind.bytes)]);
    table(&mut text, &["kind", "records", "holds"], kinds.collect(), paint);
    let manifests = usage.manifests.iter().map(|manifest| {
        let (holds, alone) = (numbers::bytes(manifest.bytes), numbers::bytes(manifest.alone));
        vec![manifest.manifest.clone(), count(manifest.records), holds, alone]
    });
    table(
        &mut text,
        &["manifest", "records", "holds", "alone"],
        manifests.collect(),
        paint,
    );
    let shares = [
        ("steps inside stages", usage.steps),
        ("half-finished work", usage.unfinished),
        ("logs", usage.logs),
        ("unreferenced", usage.unreferenced),
    ];
    let shares = shares.into_iter().filter(|(_, share)| share.count > 0);
    let shares = shares.map(|(name, share)| vec![name.to_owned(), count(share.count), numbers::bytes(share.bytes)]);
    table(&mut text, &["also", "number", "size"], shares.collect(), paint);
    text
}

/// A head and rows, all but the first column set to the right.
fn table(text: &mut String, head: &[&str], rows: Vec<Vec<String>>, paint: Paint) {
    if rows.is_empty() {
        return;
    }
    let head: Vec<String> = head.iter().map(|&word| word.to_owned()).collect();
    let all = || std::iter::once(&head).chain(&rows);
    let widths: Vec<usize> = (0..head.len())
        .map(|at| all().map(|row| row[at].chars().count()).max().unwrap_or(0))
        .collect();
    for (number, row) in all().enumerate() {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(at, (cell, width))| {
            if at == 0 {
                format!("{cell:width$}")
            } else {
                format!("{cell:>width$}")
            }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        let line = if number == 0 { paint.dim(&line) } else { line };
        let _ = write!(text, "\n  {line}");
    }
}

/// What was, or would be, taken away.
pub(crate) fn swept(swept: &Swept, paint: Paint) -> String {
    let (verb, left) = match swept.dry_run {
        true => ("would remove", "would be left"),
        false => ("removed", "left"),
    };
    let freed = numbers::bytes(swept.freed);
    let mut text = format!("{verb} {}, {} {left}", paint.bold(&freed), numbers::bytes(swept.left));
    let mut list = |title: &str, records: &[HeldRecord]| {
        if records.is_empty() {
            return;
        }
        let _ = write!(text, "\n  {}{title}", numbers::plural(records.len() as u64, "instance"));
        for record in records.iter().take(NAMED) {
            let about = format!(
                "of {}, {}, used {}",
                record.manifest,
                numbers::bytes(record.bytes),
                numbers::ago(record.last_used)
            );
            let _ = write!(text, "\n    {} {}", record.instance, paint.dim(&about));
        }
        if records.len() > NAMED {
            let more = format!("… and {} more", numbers::count((records.len() - NAMED) as u64));
            let _ = write!(text, "\n    {}", paint.dim(&more));
        }
    };
    list("", &swept.records);
    list(" of which the bytes go and the record stays", &swept.emptied);
    let steps = Share {
        count: swept.steps,
        bytes: 0,
    };
    for (name, share) in [
        ("steps inside stages", steps),
        ("files of artifacts", swept.objects),
        ("half-finished instances", swept.unfinished),
        ("logs", swept.logs),
    ] {
        if share.count > 0 {
            let size = (share.bytes > 0).then(|| format!(", {}", numbers::bytes(share.bytes)));
            let _ = write!(
                text,
                "\n  {} {name}{}",
                numbers::count(share.count as u64),
                size.unwrap_or_default()
            );
        }
    }
    text
}
