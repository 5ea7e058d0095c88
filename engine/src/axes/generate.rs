//! Generators: axes whose values are computed.
//!
//! | written                                   | values                                                           |
//! |-------------------------------------------|------------------------------------------------------------------|
//! | `{$replicate: 3}`                         | 0, 1, 2                                                          |
//! | `{$range: {from: 1, to: 5, step: 2}}`     | 1, 3, 5; `to` is included if a step meets it; `step` is 1        |
//! | `{$glob: data/*.jsonl}`                   | a named value per file or folder: `en` with `path` and `file`    |

use std::path::Path;

use serde_json::{Map, Number, Value, json};

use super::{AxisValue, Glob, MAX_CELLS, grouped};
use crate::inputs;
use crate::manifest::reader::Reader;
use crate::schema::{Key, map_of, or_reference, text};
use crate::source::ValuePath;
use crate::suggest::did_you_mean;

/// The generators.
pub(super) const GENERATORS: [Key; 3] = [
    Key::new("$replicate", "As many values: 0, 1, 2, …", || {
        or_reference(json!({"type": "integer", "minimum": 1}))
    }),
    Key::new("$range", "Numbers from one to another, both included.", || {
        or_reference(map_of(&RANGE_KEYS))
    }),
    Key::new(
        "$glob",
        "A named value for each file or folder that fits the pattern.",
        text,
    ),
];

/// The keys of `$range`.
const RANGE_KEYS: [Key; 3] = [
    Key::required("from", "The first value.", number),
    Key::required("to", "The last value, if a step meets it.", number),
    Key::new("step", "What lies between two values; 1 if not given.", number),
];

fn number() -> Value {
    or_reference(json!({"type": "number"}))
}

/// What a generator makes.
pub(super) struct Generated {
    pub(super) values: Vec<AxisValue>,
    /// Whether they are named.
    pub(super) named: bool,
    /// What it found on the disk.
    pub(super) glob: Option<Glob>,
}

/// The values of `{generator: argument}`.
pub(super) fn generate(
    generator: &str,
    argument: &Value,
    path: &ValuePath,
    project: &Path,
    reader: &mut Reader<'_>,
) -> Option<Generated> {
    let path = path.child(generator);
    let plain = |values| Generated {
        values,
        named: false,
        glob: None,
    };
    let made = match generator {
        "$replicate" => replicate(argument).map(plain),
        "$range" => range(argument).map(plain),
        "$glob" => find(argument, project).and_then(|glob| {
            Ok(Generated {
                values: files(&glob, project)?,
                named: true,
                glob: Some(glob),
            })
        }),
        _ => {
            let help = did_you_mean(generator, GENERATORS.map(|key| key.name));
            reader.bad_key(&path, format!("unknown generator `{generator}`"), help);
            return None;
        }
    };
    made.map_err(|message| reader.bad_value(&path, message, None)).ok()
}

fn replicate(argument: &Value) -> Result<Vec<AxisValue>, String> {
    let count = argument.as_u64().filter(|count| (1..=MAX_CELLS as u64).contains(count));
    let count = count.ok_or(format!(
        "`$replicate` takes a number from 1 to {}",
        grouped(MAX_CELLS as u128)
    ))?;
    Ok((0..count)
        .map(|index| AxisValue {
            name: index.to_string(),
            value: json!(index),
        })
        .collect())
}

/// Steps are counted in units of the last decimal place that any of the three numbers has, so that 0.1, 0.2, 0.3 are
/// exactly the numbers that the text says.
fn range(argument: &Value) -> Result<Vec<AxisValue>, String> {
    let usage = "`$range` takes `{from: number, to: number, step: number}`";
    let map = argument.as_object().ok_or(usage)?;
    if let Some(key) = map
        .keys()
        .find(|key| !RANGE_KEYS.iter().any(|known| known.name == key.as_str()))
    {
        return Err(format!("{usage}, not `{key}`"));
    }
    let one = Number::from(1);
    let number = |key: &str| match map.get(key) {
        Some(Value::Number(number)) => Ok(number),
        None if key == "step" => Ok(&one),
        _ => Err(usage.to_owned()),
    };
    let (from, to, step) = (number("from")?, number("to")?, number("step")?);
    let places = [from, to, step].map(decimal_places).into_iter().max().unwrap_or(0);
    let units = |number: &Number| -> Result<i64, String> {
        let scaled = number.as_f64().unwrap_or(f64::NAN) * 10f64.powi(places);
        if places > 12 || scaled.is_nan() || scaled.abs() >= 9e15 {
            return Err(format!("`{number}` is out of the reach of `$range`"));
        }
        Ok(scaled.round() as i64)
    };
    let (first, last, width) = (units(from)?, units(to)?, units(step)?);
    if width == 0 || (last - first).signum() * width.signum() < 0 {
        return Err(format!("`$range` never gets from {from} to {to} by steps of {step}"));
    }
    let count = (last - first) / width + 1;
    if count > MAX_CELLS as i64 {
        return Err(format!(
            "`$range` makes {} values; the limit is {}",
            grouped(count as u128),
            grouped(MAX_CELLS as u128)
        ));
    }
    let value = |index: i64| {
        let units = first + index * width;
        if places == 0 {
            json!(units)
        } else {
            json!(units as f64 / 10f64.powi(places))
        }
    };
    Ok((0..count)
        .map(value)
        .map(|value| AxisValue {
            name: value.to_string(),
            value,
        })
        .collect())
}

fn decimal_places(number: &Number) -> i32 {
    if !number.is_f64() {
        return 0;
    }
    // Rust writes floats without an exponent in the plain form.
    let text = format!("{}", number.as_f64().unwrap_or(0.0));
    text.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i32)
}

/// The files and folders that fit the pattern.
fn find(argument: &Value, project: &Path) -> Result<Glob, String> {
    let pattern = argument
        .as_str()
        .ok_or("`$glob` takes a pattern such as `data/*.jsonl`")?;
    let (_, paths) = inputs::matches(project, pattern).map_err(|error| error.message)?;
    if paths.is_empty() {
        return Err(format!("nothing matches `{pattern}`"));
    }
    Ok(Glob {
        pattern: pattern.to_owned(),
        paths,
    })
}

/// A named value for each of them.
fn files(glob: &Glob, project: &Path) -> Result<Vec<AxisValue>, String> {
    let mut found = Vec::new();
    for file in &glob.paths {
        let path = file.strip_prefix(project).unwrap_or(file);
        let text = |name: &Path| name.to_str().map(str::to_owned);
        match (text(path), file.file_name().and_then(|name| text(Path::new(name)))) {
            (Some(path), Some(name)) => found.push((path, name)),
            _ => return Err(format!("the name of `{}` is not UTF-8", path.display())),
        }
    }
    found.sort();
    let stem = |name: &str| match name.split_once('.') {
        Some((stem, _)) if !stem.is_empty() => stem.to_owned(),
        _ => name.to_owned(),
    };
    let stems_are_unique = {
        let mut stems: Vec<String> = found.iter().map(|(_, name)| stem(name)).collect();
        stems.sort();
        stems.windows(2).all(|pair| pair[0] != pair[1])
    };
    // Files of one name in several folders are told apart by their paths.
    let value = |(path, file): (String, String)| {
        let name = if stems_are_unique { stem(&file) } else { path.clone() };
        let fields = Map::from_iter([("path".to_owned(), json!(path)), ("file".to_owned(), json!(file))]);
        AxisValue {
            name,
            value: Value::Object(fields),
        }
    };
    Ok(found.into_iter().map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glob(argument: &Value, project: &Path) -> Result<Vec<AxisValue>, String> {
        files(&find(argument, project)?, project)
    }

    fn names(values: Result<Vec<AxisValue>, String>) -> Result<Vec<String>, String> {
        values.map(|values| values.into_iter().map(|value| value.name).collect())
    }

    #[test]
    fn ranges_hit_the_numbers_that_are_written() {
        assert_eq!(
            names(range(&json!({"from": 1, "to": 5, "step": 2}))).unwrap(),
            ["1", "3", "5"]
        );
        assert_eq!(
            names(range(&json!({"from": 0.1, "to": 0.4, "step": 0.1}))).unwrap(),
            ["0.1", "0.2", "0.3", "0.4"]
        );
        assert_eq!(
            names(range(&json!({"from": 3, "to": 1, "step": -1}))).unwrap(),
            ["3", "2", "1"]
        );
        assert_eq!(names(range(&json!({"from": 1, "to": 1}))).unwrap(), ["1"]);
        for wrong in [
            json!({"from": 1, "to": 5, "step": 0}),
            json!({"from": 5, "to": 1}),
            json!({"from": 1}),
            json!(3),
        ] {
            assert!(range(&wrong).is_err(), "{wrong}");
        }
        assert!(
            range(&json!({"from": 0, "to": 10, "stpe": 1}))
                .unwrap_err()
                .ends_with("not `stpe`")
        );
        assert!(
            range(&json!({"from": 0, "to": 1e9}))
                .unwrap_err()
                .contains("1,000,000,001 values")
        );
    }

    #[test]
    fn replicates_count_from_zero() {
        assert_eq!(names(replicate(&json!(3))).unwrap(), ["0", "1", "2"]);
        assert!(replicate(&json!(0)).is_err() && replicate(&json!("3")).is_err());
    }

    #[test]
    fn globs_name_files_by_their_stems_if_these_are_unique() {
        let project = tempfile::tempdir().unwrap();
        for file in ["b/en.jsonl", "b/de.test.jsonl", "c/en.jsonl"] {
            let path = project.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = glob(&json!("b/*.jsonl"), project.path()).unwrap();
        assert_eq!(found[0].name, "de");
        assert_eq!(
            found[0].value,
            json!({"path": "b/de.test.jsonl", "file": "de.test.jsonl"})
        );
        std::fs::write(project.path().join("b/.hidden.jsonl"), "").unwrap();
        assert_eq!(
            names(glob(&json!("*"), project.path())).unwrap(),
            ["b", "c"],
            "folders too"
        );
        assert_eq!(names(glob(&json!("b/*.jsonl"), project.path())).unwrap(), ["de", "en"]);
        let both = names(glob(&json!("*/en.jsonl"), project.path())).unwrap();
        assert_eq!(both, ["b/en.jsonl", "c/en.jsonl"]);
        assert_eq!(
            names(glob(&json!("x*"), project.path())).unwrap_err(),
            "nothing matches `x*`"
        );
    }
}
