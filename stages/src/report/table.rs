//! Rows → the table for people: aggregated, rows and columns by axes, the best marked.

use indexmap::{IndexMap, IndexSet};
use nerpipe_engine::StageError;
use serde_json::Value;

use super::aggregate::{Cell, Score, axes, deviation, mean};
use super::grid::{Field, Grid, Head, NOTHING};
use super::rows::{OWN_AXES, Row};
use super::{Best, Settings};

/// The values of some axes.
type Names<'a> = Vec<&'a str>;

/// Puts the table together; what may be unfair about it is added to `warnings`.
pub(super) fn table(rows: &[Row], settings: &Settings, warnings: &mut Vec<String>) -> Result<Grid, StageError> {
    let mut scores: Vec<Score> = rows.iter().map(|row| score(row, settings)).collect();
    check(&scores, "columns", &settings.columns)?;
    check(&scores, "rows", settings.rows.as_deref().unwrap_or_default())?;
    check_metrics(rows, settings)?;
    for (number, step) in settings.aggregate.iter().enumerate() {
        check(
            &scores,
            &format!("aggregate[{number}]"),
            std::slice::from_ref(&step.axis),
        )?;
        scores = step.apply(scores, warnings)?;
    }

    let columns: Vec<&str> = settings.columns.iter().map(String::as_str).collect();
    let mut lines: Vec<&str> = match &settings.rows {
        Some(rows) => rows.iter().map(String::as_str).collect(),
        None => axes(&scores)
            .into_iter()
            .filter(|axis| !OWN_AXES.contains(axis) && !columns.contains(axis))
            .collect(),
    };
    for axis in OWN_AXES {
        if !lines.contains(&axis) && !columns.contains(&axis) && mixes(&scores, &lines, &columns, axis) {
            lines.push(axis);
        }
    }
    if !settings.aggregate.is_empty() {
        refuse_mixing(&scores, &lines, &columns)?;
    }

    let tops: IndexSet<Names<'_>> = scores.iter().map(|score| names(score, &columns)).collect();
    let mut fields: IndexMap<Names<'_>, IndexMap<(Names<'_>, usize), Vec<Cell>>> = IndexMap::new();
    for score in &scores {
        let line = fields.entry(names(score, &lines)).or_default();
        for (metric, cell) in score.values.iter().enumerate() {
            if let Some(cell) = cell {
                line.entry((names(score, &columns), metric)).or_default().push(*cell);
            }
        }
    }

    let metrics = settings.value.len();
    let wanted: Vec<(Names<'_>, usize)> = tops
        .iter()
        .flat_map(|top| (0..metrics).map(move |metric| (top.clone(), metric)))
        .collect();
    let values = wanted.iter().map(|(top, metric)| Head {
        group: (!columns.is_empty()).then(|| top.join(" ")),
        title: match (columns.is_empty(), metrics) {
            (false, 1) => String::new(),
            _ => settings.value[*metric].title.clone(),
        },
    });
    let cells: Vec<Vec<Option<Cell>>> = fields
        .values()
        .map(|line| {
            wanted
                .iter()
                .map(|field| line.get(field).map(|cells| unite(cells)))
                .collect()
        })
        .collect();
    let whole: Vec<bool> = settings.value.iter().map(|shown| is_whole(rows, &shown.key)).collect();
    let show = |cell: &Option<Cell>, metric: usize| match cell {
        Some(cell) => settings.show(cell, whole[metric]),
        None => NOTHING.to_owned(),
    };
    let mut grid = Grid {
        names: lines.iter().map(|axis| (*axis).to_owned()).collect(),
        values: values.collect(),
        lines: fields
            .keys()
            .zip(&cells)
            .map(|(line, cells)| {
                let name = |name: &&str| if name.is_empty() { NOTHING } else { name }.to_owned();
                let shown = cells.iter().zip(&wanted).map(|(cell, (_, metric))| show(cell, *metric));
                line.iter().map(name).chain(shown).map(Field::from).collect()
            })
            .collect(),
    };
    mark_best(&mut grid, &cells, &wanted, &lines, settings)?;
    Ok(grid)
}

/// A row as the table needs it.
fn score(row: &Row, settings: &Settings) -> Score {
    let number = |key: &str| row.metrics.get(key).and_then(Value::as_f64);
    let value = |key: &String| -> Option<Cell> {
        let ends = number(&format!("{key}.low")).zip(number(&format!("{key}.high")));
        Some(Cell {
            interval: ends.filter(|_| settings.intervals),
            ..Cell::from(number(key)?)
        })
    };
    Score {
        names: row.names.clone(),
        values: settings.value.iter().map(|shown| value(&shown.key)).collect(),
    }
}

/// The score's values of `axes`; empty where it has none.
fn names<'a>(score: &'a Score, axes: &[&str]) -> Names<'a> {
    axes.iter()
        .map(|axis| score.names.get(*axis).map_or("", String::as_str))
        .collect()
}

/// Whether scores that differ in `axis` would fall into one field.
fn mixes(scores: &[Score], lines: &[&str], columns: &[&str], axis: &str) -> bool {
    let mut seen: IndexMap<(Names<'_>, Names<'_>), &str> = IndexMap::new();
    scores.iter().any(|score| {
        let value = score.names.get(axis).map_or("", String::as_str);
        *seen
            .entry((names(score, lines), names(score, columns)))
            .or_insert(value)
            != value
    })
}

/// Who says how scores are brought together says it of all axes.
fn refuse_mixing(scores: &[Score], lines: &[&str], columns: &[&str]) -> Result<(), StageError> {
    match axes(scores)
        .into_iter()
        .find(|axis| mixes(scores, lines, columns, axis))
    {
        None => Ok(()),
        Some(axis) => Err(StageError::new(format!(
            "scores that differ in `{axis}` fall into one field of the table"
        ))
        .help(format!(
            "add `mean±std over {axis}` to `aggregate`, or `{axis}` to `rows` or `columns`"
        ))),
    }
}

/// One cell for those of a field: itself, or the mean and standard deviation of several.
fn unite(cells: &[Cell]) -> Cell {
    if let [cell] = cells {
        return *cell;
    }
    let numbers: Vec<f64> = cells.iter().map(|cell| cell.number).collect();
    Cell {
        deviation: deviation(&numbers),
        ..Cell::from(mean(&numbers).unwrap_or(f64::NAN))
    }
}

fn is_whole(rows: &[Row], key: &str) -> bool {
    let mut values = rows.iter().filter_map(|row| row.metrics.get(key));
    values.all(|value| value.is_u64() || value.is_i64())
}

impl Settings {
    /// A cell as text.
    fn show(&self, cell: &Cell, whole: bool) -> String {
        let spread = cell.deviation.is_some() || cell.interval.is_some();
        if whole && !spread && cell.number.fract() == 0.0 {
            return format!("{:.0}", cell.number);
        }
        let (factor, digits) = match (self.percent && !whole, self.digits) {
            (true, digits) => (100.0, digits.unwrap_or(1)),
            (false, digits) => (1.0, digits.unwrap_or(4)),
        };
        let number = |number: f64| format!("{:.digits$}", number * factor);
        let mut text = number(cell.number);
        if let Some(deviation) = cell.deviation {
            text += &format!(" ± {}", number(deviation));
        }
        if let Some((low, high)) = cell.interval {
            text += &format!(" [{}, {}]", number(low), number(high));
        }
        text
    }
}

/// Marks the best fields of every column, among the lines that agree on the axes of `best_within`. Fields that show the same number
/// are equally good; the only field of its kind is no best.
fn mark_best(
    grid: &mut Grid,
    cells: &[Vec<Option<Cell>>],
    wanted: &[(Names<'_>, usize)],
    lines: &[&str],
    settings: &Settings,
) -> Result<(), StageError> {
    let mut within = Vec::new();
    for axis in &settings.best_within {
        let place = lines.iter().position(|line| line == axis).ok_or_else(|| {
            StageError::new(format!("`best_within` names `{axis}`, which makes no rows"))
                .help(format!("the rows are by {}", lines.join(", ")))
        })?;
        within.push(place);
    }
    let mut groups: IndexMap<Vec<String>, Vec<usize>> = IndexMap::new();
    for (number, line) in grid.lines.iter().enumerate() {
        let key = within.iter().map(|place| line[*place].text.clone()).collect();
        groups.entry(key).or_default().push(number);
    }
    for group in groups.values() {
        for (column, (_, metric)) in wanted.iter().enumerate() {
            let sign = match settings.best_of(*metric) {
                Best::None => continue,
                Best::Max => 1.0,
                Best::Min => -1.0,
            };
            let numbers = group
                .iter()
                .filter_map(|line| Some((*line, sign * cells[*line][column]?.number)));
            let Some((best, _)) = numbers
                .clone()
                .reduce(|one, other| if other.1 > one.1 { other } else { one })
            else {
                continue;
            };
            if numbers.count() < 2 {
                continue;
            }
            let place = lines.len() + column;
            let first_word = |field: &Field| field.text.split(' ').next().map(str::to_owned);
            let shown = first_word(&grid.lines[best][place]);
            for line in group {
                let field = &mut grid.lines[*line][place];
                field.best = first_word(field) == shown;
            }
        }
    }
    Ok(())
}

fn check(scores: &[Score], field: &str, wanted: &[String]) -> Result<(), StageError> {
    let axes = axes(scores);
    match wanted.iter().find(|axis| !axes.contains(axis.as_str())) {
        None => Ok(()),
        Some(_) if scores.is_empty() => Ok(()),
        Some(unknown) => {
            let known: Vec<String> = axes.iter().map(|axis| format!("`{axis}`")).collect();
            Err(
                StageError::new(format!("`{field}` names `{unknown}`, which no score has"))
                    .help(format!("the scores differ in {}", known.join(", "))),
            )
        }
    }
}

fn check_metrics(rows: &[Row], settings: &Settings) -> Result<(), StageError> {
    if rows.is_empty() {
        return Ok(());
    }
    let number = |row: &Row, metric: &str| row.metrics.get(metric).is_some_and(Value::is_number);
    let mut keys = settings.value.iter().map(|shown| &shown.key);
    let Some(unknown) = keys.find(|key| !rows.iter().any(|row| number(row, key))) else {
        return Ok(());
    };
    let known: IndexSet<&String> = rows.iter().flat_map(|row| row.metrics.keys()).collect();
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
