//! The table for people: rows and columns by axes, a mean where several results fall into one field.

use comfy_table::{CellAlignment, ContentArrangement, Table as Grid, presets};
use indexmap::{IndexMap, IndexSet};
use nerpipe_engine::StageError;
use serde_json::Value;

use super::Settings;
use super::rows::{OWN_AXES, Row};

/// What a field without a result shows.
const NOTHING: &str = "–";

/// A table of text, ready to be drawn.
pub(super) struct Table {
    /// The heads of all columns.
    head: Vec<String>,
    /// How many columns name the row; they are aligned to the left, the others to the right.
    names: usize,
    rows: Vec<Vec<String>>,
}

/// The values of some axes.
type Names<'a> = Vec<&'a str>;

impl Table {
    pub(super) fn new(results: &[Row], settings: &Settings) -> Result<Self, StageError> {
        let axes: IndexSet<&str> = results
            .iter()
            .flat_map(|row| row.names.keys().map(String::as_str))
            .collect();
        let columns: Vec<&str> = settings.columns.iter().map(String::as_str).collect();
        let mut rows: Vec<&str> = match &settings.rows {
            Some(rows) => rows.iter().map(String::as_str).collect(),
            None => axes
                .iter()
                .copied()
                .filter(|axis| !OWN_AXES.contains(axis) && !columns.contains(axis))
                .collect(),
        };
        if !results.is_empty() {
            check(&axes, "rows", &rows)?;
            check(&axes, "columns", &columns)?;
            check_metrics(results, &settings.value)?;
        }
        for axis in OWN_AXES {
            if !rows.contains(&axis) && !columns.contains(&axis) && mixes(results, &rows, &columns, axis) {
                rows.push(axis);
            }
        }

        let tops: IndexSet<Names<'_>> = results.iter().map(|row| names(row, &columns)).collect();
        let mut fields: IndexMap<Names<'_>, IndexMap<(Names<'_>, &str), Vec<f64>>> = IndexMap::new();
        for row in results {
            let line = fields.entry(names(row, &rows)).or_default();
            for metric in &settings.value {
                if let Some(number) = row.metrics.get(metric).and_then(Value::as_f64) {
                    line.entry((names(row, &columns), metric.as_str()))
                        .or_default()
                        .push(number);
                }
            }
        }

        let mut head: Vec<String> = rows.iter().map(|axis| (*axis).to_owned()).collect();
        let mut wanted = Vec::new();
        for top in &tops {
            for metric in &settings.value {
                head.push(match (columns.is_empty(), settings.value.len()) {
                    (true, _) => metric.clone(),
                    (false, 1) => top.join(" "),
                    (false, _) => format!("{} {metric}", top.join(" ")),
                });
                wanted.push((top.clone(), metric.as_str()));
            }
        }
        let whole = |metric: &str| {
            results
                .iter()
                .filter_map(|row| row.metrics.get(metric))
                .all(|value| value.is_u64() || value.is_i64())
        };
        let rows_of_text = fields
            .iter()
            .map(|(line, numbers)| {
                let names = line
                    .iter()
                    .map(|name| if name.is_empty() { NOTHING } else { name }.to_owned());
                let shown = wanted.iter().map(|field| {
                    numbers
                        .get(field)
                        .map_or(NOTHING.to_owned(), |n| show(n, whole(field.1)))
                });
                names.chain(shown).collect()
            })
            .collect();
        Ok(Self {
            head,
            names: rows.len(),
            rows: rows_of_text,
        })
    }

    /// The table with lines drawn between its columns, for a terminal.
    pub(super) fn text(&self) -> String {
        let mut grid = Grid::new();
        grid.load_style(presets::UTF8_HORIZONTAL_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled);
        grid.set_header(&self.head);
        for row in &self.rows {
            grid.add_row(row);
        }
        for (index, column) in grid.column_iter_mut().enumerate() {
            let side = if index < self.names {
                CellAlignment::Left
            } else {
                CellAlignment::Right
            };
            column.set_cell_alignment(side);
        }
        let lines: Vec<String> = grid.lines().map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n") + "\n"
    }

    /// The table in Markdown, with its columns aligned in the source as well.
    pub(super) fn markdown(&self) -> String {
        let escape = |text: &String| text.replace('|', "\\|").replace('\n', " ");
        let lines: Vec<Vec<String>> = std::iter::once(&self.head)
            .chain(&self.rows)
            .map(|line| line.iter().map(escape).collect())
            .collect();
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| {
                lines
                    .iter()
                    .map(|line| line[column].chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(3)
            })
            .collect();
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            for (column, field) in line.iter().enumerate() {
                let width = widths[column];
                text.push_str(&match column < self.names {
                    true => format!("| {field:<width$} "),
                    false => format!("| {field:>width$} "),
                });
            }
            text.push_str("|\n");
            if number == 0 {
                for (column, width) in widths.iter().enumerate() {
                    text.push_str(&match column < self.names {
                        true => format!("| {} ", "-".repeat(*width)),
                        false => format!("| {}: ", "-".repeat(width - 1)),
                    });
                }
                text.push_str("|\n");
            }
        }
        text
    }
}

/// The row's values of `axes`; empty where it has none.
fn names<'a>(row: &'a Row, axes: &[&str]) -> Names<'a> {
    axes.iter()
        .map(|axis| row.names.get(*axis).map_or("", String::as_str))
        .collect()
}

/// Whether results that differ in `axis` would fall into one field.
fn mixes(results: &[Row], rows: &[&str], columns: &[&str], axis: &str) -> bool {
    let mut seen: IndexMap<(Names<'_>, Names<'_>), &str> = IndexMap::new();
    results.iter().any(|row| {
        let value = row.names.get(axis).map_or("", String::as_str);
        *seen.entry((names(row, rows), names(row, columns))).or_insert(value) != value
    })
}

fn check(axes: &IndexSet<&str>, field: &str, wanted: &[&str]) -> Result<(), StageError> {
    match wanted.iter().find(|axis| !axes.contains(*axis)) {
        None => Ok(()),
        Some(unknown) => {
            let known: Vec<String> = axes.iter().map(|axis| format!("`{axis}`")).collect();
            Err(
                StageError::new(format!("`{field}` names `{unknown}`, which no score has"))
                    .help(format!("the scores differ in {}", known.join(", "))),
            )
        }
    }
}

fn check_metrics(results: &[Row], wanted: &[String]) -> Result<(), StageError> {
    let number = |row: &Row, metric: &str| row.metrics.get(metric).is_some_and(Value::is_number);
    let Some(unknown) = wanted
        .iter()
        .find(|metric| !results.iter().any(|row| number(row, metric)))
    else {
        return Ok(());
    };
    let known: IndexSet<&String> = results.iter().flat_map(|row| row.metrics.keys()).collect();
    let mut near: Vec<(f64, &String)> = known
        .into_iter()
        .map(|key| (strsim::normalized_damerau_levenshtein(key, unknown), key))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    let near: Vec<String> = near.iter().take(3).map(|(_, key)| format!("`{key}`")).collect();
    Err(
        StageError::new(format!("`value` names `{unknown}`, which is no metric of the scores"))
            .help(format!("the nearest are {}", near.join(", "))),
    )
}

/// The number of a field, or the mean and standard deviation of several (of the sample: divided by n − 1).
fn show(numbers: &[f64], whole: bool) -> String {
    if let [number] = numbers {
        return if whole {
            format!("{number:.0}")
        } else {
            format!("{number:.4}")
        };
    }
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    let deviation = (squares / (count - 1.0)).sqrt();
    format!("{mean:.4} ± {deviation:.4}")
}
