//! Selectors: a few words on the command line → instances.
//!
//! | selector | what it chooses |
//! |---|---|
//! | `model` | all instances of the stage |
//! | `model@loss=bce,seed=1` | those of them with these axis values, in any order |
//! | `loss=bce` | all instances with this axis value |
//! | `model@l` | the one instance whose name has this part |
//! | `+model` | also everything that the chosen need |
//! | `model+` | also everything that needs the chosen |
//!
//! Several selectors choose what any of them does.

use std::collections::BTreeSet;

use indexmap::IndexSet;

use super::{Graph, Instance};
use crate::suggest::{did_you_mean, nearest};

/// A selector that chooses nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SelectError {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

/// How many names a message shows.
const SHOWN: usize = 8;

/// A selector taken apart: a stage, if it names one, and axis values.
struct Wanted<'a> {
    stage: Option<&'a str>,
    axes: Vec<(&'a str, &'a str)>,
}

impl<'a> Wanted<'a> {
    fn read(text: &'a str) -> Self {
        let (stage, axes) = match text.split_once('@') {
            Some((stage, axes)) if !stage.contains('=') => (Some(stage), axes),
            _ if text.contains('=') => (None, text),
            _ => (Some(text), ""),
        };
        let axes = axes.split(',').filter(|piece| !piece.is_empty());
        let axes = axes.map(|piece| piece.split_once('=').unwrap_or((piece, ""))).collect();
        Self { stage, axes }
    }

    fn is_of_stage(&self, instance: &Instance) -> bool {
        self.stage.is_none_or(|stage| instance.stage == stage)
    }

    fn fits(&self, instance: &Instance) -> bool {
        let has = |(axis, value): &(&str, &str)| instance.axes.get(*axis).is_some_and(|has| has == value);
        self.is_of_stage(instance) && self.axes.iter().all(has)
    }
}

impl Graph {
    /// The numbers of the instances that `selectors` choose, in the graph's order; see the table above.
    ///
    /// ```
    /// use nerpipe_engine::{Graph, Manifest, Registry, command::Command};
    ///
    /// let registry = Registry::default().with(Command);
    /// let text = "
    /// name: m
    /// sweep: {axes: {n: [1, 2]}}
    /// stages:
    ///   count: {kind: command, with: {run: 'seq ${n} > \"$OUT/numbers\"'}}
    ///   sum: {kind: command, inputs: {numbers: count}, with: {run: 'wc -l \"$NUMBERS/numbers\" > \"$OUT/lines\"'}}
    /// ";
    /// let manifest = Manifest::parse("m.yaml", text, ".".as_ref(), &[], &registry).unwrap();
    /// let graph = Graph::build(&manifest, &registry).unwrap();
    /// let chosen = |selector: &str| -> Vec<String> {
    ///     let numbers = graph.select(&[selector]).unwrap();
    ///     numbers.into_iter().map(|number| graph.instances[number].name()).collect()
    /// };
    /// assert_eq!(chosen("sum"), ["sum@n=1", "sum@n=2"]);
    /// assert_eq!(chosen("n=2"), ["count@n=2", "sum@n=2"]);
    /// assert_eq!(chosen("+sum@n=2"), ["count@n=2", "sum@n=2"]);
    /// assert_eq!(chosen("count@n=1+"), ["count@n=1", "sum@n=1"]);
    /// let error = graph.select(&["sun"]).unwrap_err();
    /// assert_eq!(error.help.as_deref(), Some("did you mean `sum`?"));
    /// ```
    ///
    /// # Errors
    /// If one of them chooses nothing; the help names the nearest valid name.
    pub fn select(&self, selectors: &[impl AsRef<str>]) -> Result<Vec<usize>, SelectError> {
        let mut chosen = BTreeSet::new();
        for selector in selectors {
            let selector = selector.as_ref();
            // An axis value may end with a plus.
            if let Some(number) = self.named(selector) {
                chosen.insert(number);
                continue;
            }
            let (text, above) = selector
                .strip_prefix('+')
                .map_or((selector, false), |rest| (rest, true));
            let (text, below) = text.strip_suffix('+').map_or((text, false), |rest| (rest, true));
            let found = self.find(text)?;
            if above {
                chosen.extend(closure(&found, |number| self.instances[number].upstream().collect()));
            }
            if below {
                let readers = self.readers();
                chosen.extend(closure(&found, |number| readers[number].clone()));
            }
            chosen.extend(found);
        }
        Ok(chosen.into_iter().collect())
    }

    /// Which instances `selected` need, themselves included, by number; all if there is no selection.
    pub(crate) fn needed(&self, selected: Option<&[usize]>) -> Vec<bool> {
        let Some(selected) = selected else {
            return vec![true; self.instances.len()];
        };
        let mut needed = vec![false; self.instances.len()];
        for number in closure(selected, |number| self.instances[number].upstream().collect()) {
            needed[number] = true;
        }
        needed
    }

    /// For each instance the numbers of those that read from it.
    fn readers(&self) -> Vec<Vec<usize>> {
        let mut readers = vec![Vec::new(); self.instances.len()];
        for (number, instance) in self.instances.iter().enumerate() {
            for from in instance.upstream() {
                readers[from].push(number);
            }
        }
        readers
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.instances.iter().position(|instance| instance.name() == name)
    }

    fn numbers(&self, fits: impl Fn(&Instance) -> bool) -> Vec<usize> {
        (0..self.instances.len())
            .filter(|number| fits(&self.instances[*number]))
            .collect()
    }

    /// The instances that a selector without pluses chooses.
    fn find(&self, text: &str) -> Result<Vec<usize>, SelectError> {
        let wanted = Wanted::read(text);
        let found = self.numbers(|instance| wanted.fits(instance));
        if !found.is_empty() {
            return Ok(found);
        }
        let parts = self.numbers(|instance| !text.is_empty() && instance.name().contains(text));
        match parts.as_slice() {
            [one] => Ok(vec![*one]),
            _ => Err(self.no_such(text, &wanted, &parts)),
        }
    }

    /// Why nothing fits, and what is nearest.
    fn no_such(&self, text: &str, wanted: &Wanted<'_>, parts: &[usize]) -> SelectError {
        let error = |message: String, help: Option<String>| SelectError { message, help };
        let stages: IndexSet<&str> = self.instances.iter().map(|instance| instance.stage.as_str()).collect();
        if let Some(stage) = wanted.stage
            && !stages.contains(stage)
        {
            if parts.len() > 1 {
                let message = format!("`{text}` is a part of {} names; say more of one", parts.len());
                return error(message, Some(format!("such as {}", self.listed(parts))));
            }
            // Whoever gives a value alone is shown its axis.
            let mut pairs = self.instances.iter().flat_map(|instance| &instance.axes);
            let axis = pairs.find(|(_, value)| *value == stage).map(|(axis, _)| axis);
            let help = match (nearest(stage, stages.iter().copied()), axis) {
                (None, Some(axis)) => Some(format!("did you mean `{axis}={stage}`?")),
                _ => did_you_mean(stage, stages),
            };
            return error(format!("there is no stage `{stage}`"), help);
        }
        let of_stage = self.numbers(|instance| wanted.is_of_stage(instance));
        let whose = wanted
            .stage
            .map_or("no stage has an".to_owned(), |stage| format!("`{stage}` has no"));
        for (axis, value) in &wanted.axes {
            let of_stage = || of_stage.iter().map(|number| &self.instances[*number]);
            let values: IndexSet<&str> = of_stage()
                .filter_map(|one| one.axes.get(*axis))
                .map(String::as_str)
                .collect();
            if values.is_empty() {
                let axes: IndexSet<&str> = of_stage().flat_map(|one| one.axes.keys()).map(String::as_str).collect();
                let help = match axes.is_empty() {
                    true => Some("it has no axes".to_owned()),
                    false => did_you_mean(axis, axes),
                };
                return error(format!("{whose} axis `{axis}`"), help);
            }
            if !values.contains(value) {
                let help = match nearest(value, values.iter().copied()) {
                    Some(value) => Some(format!("did you mean `{axis}={value}`?")),
                    None => did_you_mean(value, values.into_iter().take(SHOWN)),
                };
                return error(format!("no `{axis}` is `{value}`"), help);
            }
        }
        // Every axis and value is right by itself.
        let near = of_stage.into_iter().filter(|number| {
            let has =
                |(axis, value): &&(&str, &str)| self.instances[*number].axes.get(*axis).is_some_and(|has| has == value);
            wanted.axes.iter().filter(has).count() + 1 == wanted.axes.len()
        });
        let near: Vec<usize> = near.collect();
        let help = (!near.is_empty()).then(|| format!("there is {}", self.listed(&near)));
        error(format!("no instance is `{text}`"), help)
    }

    /// Some of the names, quoted.
    fn listed(&self, numbers: &[usize]) -> String {
        let names = numbers.iter().take(SHOWN);
        let names: Vec<String> = names
            .map(|number| format!("`{}`", self.instances[*number].name()))
            .collect();
        let more = if numbers.len() > SHOWN { ", …" } else { "" };
        format!("{}{more}", names.join(", "))
    }
}

/// `from` and everything that `next` leads to from there.
fn closure(from: &[usize], next: impl Fn(usize) -> Vec<usize>) -> BTreeSet<usize> {
    let mut reached = BTreeSet::new();
    let mut stack = from.to_vec();
    while let Some(number) = stack.pop() {
        if reached.insert(number) {
            stack.extend(next(number));
        }
    }
    reached
}
