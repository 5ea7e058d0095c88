//! Finding instances by a part of their name.

use super::{Graph, Instance};
use crate::suggest::did_you_mean;

/// A selector that fits no instance, or more than one where one is asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SelectError {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Graph {
    /// The numbers of the instances that `selector` fits: `model`, `model@loss=bce`, `loss=bce,seed=42`; if it is none of
    /// these, any part of a name.
    pub fn select(&self, selector: &str) -> Vec<usize> {
        let (stage, axes) = match selector.split_once('@') {
            Some((stage, axes)) => (Some(stage), axes),
            None if selector.contains('=') => (None, selector),
            None => (Some(selector), ""),
        };
        let wanted: Vec<(&str, &str)> = axes
            .split(',')
            .filter(|part| !part.is_empty())
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .collect();
        let fits = |instance: &Instance| {
            stage.is_none_or(|stage| instance.stage == stage)
                && wanted
                    .iter()
                    .all(|(axis, value)| instance.axes.get(*axis).is_some_and(|has| has == value))
        };
        let found = self.numbers(fits);
        if found.is_empty() {
            self.numbers(|instance| instance.name().contains(selector))
        } else {
            found
        }
    }

    /// The number of the one instance that `selector` fits.
    ///
    /// # Errors
    /// If it fits none or several; the help names what is near, or some of those it fits.
    pub fn select_one(&self, selector: &str) -> Result<usize, SelectError> {
        match self.select(selector).as_slice() {
            [one] => Ok(*one),
            [] => {
                let mut names: Vec<String> = self.instances.iter().map(Instance::name).collect();
                let mut stages: Vec<&str> = self.instances.iter().map(|instance| instance.stage.as_str()).collect();
                stages.dedup();
                let stage = selector.split('@').next().unwrap_or_default();
                // With a right stage the axes are wrong: only that stage's instances are worth showing.
                let help = if stages.contains(&stage) {
                    names.retain(|name| name.split('@').next() == Some(stage));
                    did_you_mean(selector, some(&names))
                } else {
                    did_you_mean(stage, stages)
                };
                Err(SelectError {
                    message: format!("no instance fits `{selector}`"),
                    help,
                })
            }
            several => {
                let names: Vec<String> = several.iter().map(|number| self.instances[*number].name()).collect();
                let more = if names.len() > SHOWN { ", …" } else { "" };
                let help = format!(
                    "it fits {}{more}",
                    some(&names)
                        .map(|name| format!("`{name}`"))
                        .collect::<Vec<_>>()
                        .join(", ")
                );
                let message = format!("`{selector}` fits {} instances", names.len());
                Err(SelectError {
                    message,
                    help: Some(help),
                })
            }
        }
    }

    fn numbers(&self, fits: impl Fn(&Instance) -> bool) -> Vec<usize> {
        (0..self.instances.len())
            .filter(|number| fits(&self.instances[*number]))
            .collect()
    }
}

/// How many names a message shows.
const SHOWN: usize = 8;

fn some(names: &[String]) -> impl Iterator<Item = &str> {
    names.iter().take(SHOWN).map(String::as_str)
}
