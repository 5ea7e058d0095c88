//! Results that differ in one axis → one result, step by step: `mean over language`, then `max over threshold`, and so on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use indexmap::{IndexMap, IndexSet};
use nerpipe_engine::StageError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::rows::SPLIT;

/// One result on its way into the table: where it belongs, and a number for each metric that is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Score {
    /// Axis → value; an axis that the result does not have is missing.
    pub(super) names: IndexMap<String, String>,
    /// None where the result does not have the metric.
    pub(super) values: Vec<Option<Cell>>,
}

/// One number and how sure it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cell {
    pub(super) number: f64,
    /// The standard deviation of the numbers it is the mean of.
    pub(super) deviation: Option<f64>,
    /// Its confidence interval.
    pub(super) interval: Option<(f64, f64)>,
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self {
            number,
            deviation: None,
            interval: None,
        }
    }
}

/// A step, such as `mean over language`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) function: Function,
    /// The axis that goes.
    pub(super) axis: String,
    /// Where [`Function::Max`] and [`Function::Min`] choose: on the results of this split, which then go too.
    pub(super) on: Option<String>,
}

/// How several numbers become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Mean,
    MeanStd,
    Median,
    /// The whole result whose first metric is largest.
    Max,
    /// The whole result whose first metric is smallest.
    Min,
}

impl Function {
    const ALL: [Self; 5] = [Self::Mean, Self::MeanStd, Self::Median, Self::Max, Self::Min];

    const fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::MeanStd => "mean±std",
            Self::Median => "median",
            Self::Max => "max",
            Self::Min => "min",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} over {}", self.function.name(), self.axis)?;
        match &self.on {
            Some(split) => write!(f, " on {split}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (function, axis, on) = match words[..] {
            [function, "over", axis] => (function, axis, None),
            [function, "over", axis, "on", split] => (function, axis, Some(split)),
            _ => {
                return Err(format!(
                    "`{text}` is no step; write `mean over seed`, `max over threshold on validation`"
                ));
            }
        };
        // Plus-minus is not on every keyboard.
        let function = if function == "mean_std" { "mean±std" } else { function };
        let Some(function) = Function::ALL.into_iter().find(|known| known.name() == function) else {
            let known: Vec<&str> = Function::ALL.iter().map(|known| known.name()).collect();
            return Err(format!("`{function}` is none of {}, mean_std", known.join(", ")));
        };
        if on.is_some() && !matches!(function, Function::Max | Function::Min) {
            return Err(format!("`{text}`: only `max` and `min` choose on a split"));
        }
        Ok(Self {
            function,
            axis: axis.to_owned(),
            on: on.map(str::to_owned),
        })
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Step {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The values of all axes but those that were taken away, as a key.
type Point = BTreeMap<String, String>;

fn point(names: &IndexMap<String, String>) -> Point {
    names.clone().into_iter().collect()
}

/// Scores that agree in all axes but one, with their value of that one.
type Groups = IndexMap<Point, Vec<(Option<String>, Score)>>;

impl Step {
    /// One result for all that differ in the step's axis only. A warning says where they are not the same ones everywhere.
    pub(super) fn apply(&self, results: Vec<Score>, warnings: &mut Vec<String>) -> Result<Vec<Score>, StageError> {
        let results = match &self.on {
            Some(split) => self.choose_on(split, results)?,
            None => results,
        };
        let mut groups: Groups = IndexMap::new();
        for mut result in results {
            let value = result.names.shift_remove(&self.axis);
            groups.entry(point(&result.names)).or_default().push((value, result));
        }
        self.compare_members(&groups, warnings);
        let one = |mut members: Vec<(Option<String>, Score)>| Score {
            names: std::mem::take(&mut members[0].1.names),
            values: self.unite(members.into_iter().map(|(_, result)| result.values).collect()),
        };
        Ok(groups.into_values().map(one).collect())
    }

    fn unite(&self, members: Vec<Vec<Option<Cell>>>) -> Vec<Option<Cell>> {
        if matches!(self.function, Function::Max | Function::Min) {
            return self.best(members.into_iter(), |values| values[0]).unwrap_or_default();
        }
        let metrics = members.first().map_or(0, Vec::len);
        let column = |metric: usize| -> Option<Cell> {
            let cells: Vec<Cell> = members.iter().filter_map(|values| values[metric]).collect();
            // One result is itself, with its interval.
            if let ([cell], Function::Mean | Function::Median) = (&cells[..], self.function) {
                return Some(*cell);
            }
            let numbers: Vec<f64> = cells.iter().map(|cell| cell.number).collect();
            let mut united = Cell::from(match self.function {
                Function::Median => median(numbers.clone())?,
                _ => mean(&numbers)?,
            });
            if self.function == Function::MeanStd {
                united.deviation = deviation(&numbers);
            }
            Some(united)
        };
        (0..metrics).map(column).collect()
    }

    /// The member whose number is largest or smallest; the first of several. A member without a number never wins against one
    /// that has one.
    fn best<T>(&self, members: impl Iterator<Item = T>, cell: impl Fn(&T) -> Option<Cell>) -> Option<T> {
        let rank = |member: &T| match (cell(member).map(|cell| cell.number), self.function) {
            (None, _) => f64::NEG_INFINITY,
            (Some(number), Function::Min) => -number,
            (Some(number), _) => number,
        };
        members.reduce(|best, next| if rank(&next) > rank(&best) { next } else { best })
    }

    /// Keeps those results whose value of the axis is the best on the split `on`, and drops the results of that split.
    fn choose_on(&self, on: &str, results: Vec<Score>) -> Result<Vec<Score>, StageError> {
        let rest = |result: &Score| {
            let mut names = result.names.clone();
            names.shift_remove(&self.axis);
            names.shift_remove(SPLIT);
            point(&names)
        };
        let is_on = |result: &Score| result.names.get(SPLIT).is_some_and(|split| split == on);
        let mut judges: IndexMap<_, Vec<&Score>> = IndexMap::new();
        for result in results.iter().filter(|result| is_on(result)) {
            judges.entry(rest(result)).or_default().push(result);
        }
        let chosen: IndexMap<_, Option<String>> = judges
            .into_iter()
            .filter_map(|(names, judges)| {
                let best = self.best(judges.into_iter(), |result| result.values[0])?;
                Some((names, best.names.get(&self.axis).cloned()))
            })
            .collect();
        let mut kept = Vec::new();
        for result in results.iter().filter(|result| !is_on(result)) {
            let names = rest(result);
            let Some(value) = chosen.get(&names) else {
                let which: Vec<String> = names.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
                return Err(StageError::new(format!(
                    "`{self}`: there is no result on the split `{on}` for {}",
                    which.join(",")
                ))
                .help(format!("evaluate it too: `splits: [{on}, test]`")));
            };
            if result.names.get(&self.axis) == value.as_ref() {
                kept.push(result.clone());
            }
        }
        Ok(kept)
    }

    /// A mean over twelve languages beside one over thirteen is no fair comparison.
    fn compare_members(&self, groups: &Groups, warnings: &mut Vec<String>) {
        if matches!(self.function, Function::Max | Function::Min) {
            return;
        }
        let members = |group: &Vec<(Option<String>, Score)>| -> BTreeSet<String> {
            group.iter().filter_map(|(value, _)| value.clone()).collect()
        };
        let all: BTreeSet<String> = groups.values().flat_map(members).collect();
        let mut lacking = groups.iter().filter_map(|(names, group)| {
            let missing: Vec<String> = all
                .difference(&members(group))
                .map(|value| format!("{}={value}", self.axis))
                .collect();
            (!missing.is_empty()).then_some((names, missing))
        });
        if let Some((names, missing)) = lacking.next() {
            let which: Vec<String> = names.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            let more = match lacking.count() {
                0 => String::new(),
                more => format!(", and others for {more} more"),
            };
            warnings.push(format!(
                "`{self}` is not over the same results everywhere: for {} there is no {}{more}",
                which.join(","),
                missing.join(", ")
            ));
        }
    }
}

/// The mean, and none of nothing.
pub(super) fn mean(numbers: &[f64]) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}

/// The standard deviation of a sample (divided by n − 1), and none of a single number.
pub(super) fn deviation(numbers: &[f64]) -> Option<f64> {
    let mean = mean(numbers)?;
    let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
    (numbers.len() > 1).then(|| (squares / (numbers.len() - 1) as f64).sqrt())
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    match numbers.len() % 2 {
        _ if numbers.is_empty() => None,
        1 => Some(numbers[middle]),
        _ => Some((numbers[middle - 1] + numbers[middle]) / 2.0),
    }
}

/// The axes that any of the results has.
pub(super) fn axes(results: &[Score]) -> IndexSet<&str> {
    results
        .iter()
        .flat_map(|result| result.names.keys().map(String::as_str))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(names: &[(&str, &str)], values: &[f64]) -> Score {
        Score {
            names: names
                .iter()
                .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
                .collect(),
            values: values.iter().map(|number| Some(Cell::from(*number))).collect(),
        }
    }

    fn apply(step: &str, results: Vec<Score>) -> (Vec<Score>, Vec<String>) {
        let mut warnings = Vec::new();
        let step: Step = step.parse().unwrap();
        (step.apply(results, &mut warnings).unwrap(), warnings)
    }

    #[test]
    fn steps_are_read_as_they_are_written() {
        for text in [
            "mean over language",
            "mean±std over seed",
            "median over x",
            "max over threshold on validation",
        ] {
            assert_eq!(text.parse::<Step>().unwrap().to_string(), text);
        }
        assert_eq!(
            "mean_std over seed".parse::<Step>().unwrap().function,
            Function::MeanStd
        );
        for (wrong, hint) in [
            ("mean language", "mean over seed"),
            ("average over seed", "mean, mean±std, median, max, min, mean_std"),
            ("mean over seed on validation", "only `max` and `min`"),
        ] {
            let error = wrong.parse::<Step>().unwrap_err();
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn the_largest_first_metric_takes_its_whole_result() {
        let results = vec![
            result(&[("loss", "bce"), ("threshold", "0.3")], &[0.5, 0.9]),
            result(&[("loss", "bce"), ("threshold", "0.5")], &[0.6, 0.1]),
            result(&[("loss", "focal"), ("threshold", "0.3")], &[0.4, 0.2]),
        ];
        let (best, warnings) = apply("max over threshold", results.clone());
        assert_eq!(
            best,
            [
                result(&[("loss", "bce")], &[0.6, 0.1]),
                result(&[("loss", "focal")], &[0.4, 0.2])
            ]
        );
        assert_eq!(warnings, [""; 0]);
        assert_eq!(
            apply("min over threshold", results).0[0],
            result(&[("loss", "bce")], &[0.5, 0.9])
        );
    }

    #[test]
    fn a_threshold_is_chosen_on_another_split() {
        let of = |split: &str, threshold: &str, f1: f64| result(&[("split", split), ("threshold", threshold)], &[f1]);
        let results = vec![
            of("validation", "0.3", 0.8),
            of("validation", "0.5", 0.7),
            of("test", "0.3", 0.55),
            of("test", "0.5", 0.6),
        ];
        assert_eq!(
            apply("max over threshold on validation", results.clone()).0,
            [result(&[("split", "test")], &[0.55])]
        );
        let step: Step = "max over threshold on dev".parse().unwrap();
        let error = step.apply(results, &mut Vec::new()).unwrap_err();
        assert!(error.message.contains("no result on the split `dev`"), "{error}");
        assert!(error.help.unwrap().contains("splits: [dev, test]"));
    }

    #[test]
    fn means_and_deviations_follow_one_another() {
        let of = |seed: &str, language: &str, f1: f64| result(&[("seed", seed), ("language", language)], &[f1]);
        let results = vec![
            of("1", "de", 0.2),
            of("1", "en", 0.4),
            of("2", "de", 0.4),
            of("2", "en", 0.6),
        ];
        let (means, _) = apply("mean over language", results);
        let numbers: Vec<f64> = means.iter().map(|result| result.values[0].unwrap().number).collect();
        assert!((numbers[0] - 0.3).abs() < 1e-12 && (numbers[1] - 0.5).abs() < 1e-12);
        let (one, _) = apply("mean±std over seed", means);
        let cell = one[0].values[0].unwrap();
        assert!((cell.number - 0.4).abs() < 1e-12 && (cell.deviation.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!(one[0].names, IndexMap::<String, String>::new());
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![3.0, 1.0]), Some(2.0));
    }

    #[test]
    fn a_mean_over_other_members_is_told() {
        let results = vec![
            result(&[("loss", "bce"), ("language", "de")], &[0.2]),
            result(&[("loss", "bce"), ("language", "en")], &[0.2]),
            result(&[("loss", "focal"), ("language", "de")], &[0.4]),
        ];
        let (_, warnings) = apply("mean over language", results);
        assert_eq!(
            warnings,
            ["`mean over language` is not over the same results everywhere: for loss=focal there is no language=en"]
        );
    }
}
