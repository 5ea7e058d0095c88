//! What a kind makes of the settings of an instance, and what is wrong with them.

use serde_json::Value;

use super::inputs::Input;
use super::settings::Written;
use super::{Builder, Point};
use crate::artifact::EVERY_PART;
use crate::diagnostic::Diagnostic;
use crate::kind::{InputParts, Kind, Resolved, SettingError};
use crate::manifest::check;
use crate::source::{ValuePath, split_setting_path};
use crate::suggest::did_you_mean;

impl Builder<'_> {
    pub(super) fn resolve(
        &mut self,
        name: &str,
        kind: &dyn Kind,
        written: &Written,
        inputs: &[Input<'_>],
        choices: &[usize],
        own: &Point,
    ) -> Option<Resolved> {
        let chosen = || {
            inputs
                .iter()
                .zip(choices)
                .map(|(input, choice)| (input, &input.choices[*choice]))
        };
        for (input, choice) in chosen() {
            // A kind that takes one type of artifact looks for its parts by name.
            let is_typed = check::port_of(kind, input.port).is_some_and(|port| port.takes != "*");
            if is_typed && choice.parts.iter().any(|part| part == EVERY_PART) {
                let from = self.manifest.stages[name].inputs[input.port].stage();
                let message = format!("`{from}` does not say which parts it makes");
                let place = self.manifest.source.value(&input.path);
                let help = "add them to its `with`, such as `parts: [train, test]`";
                self.found.push(Diagnostic::error(message).at(place).help(help));
                return None;
            }
        }
        let offered = InputParts {
            ports: chosen()
                .map(|(input, choice)| (input.port.to_owned(), choice.parts.clone()))
                .collect(),
            told: chosen()
                .map(|(input, choice)| (input.port.to_owned(), choice.told.clone()))
                .collect(),
        };
        let resolved = match kind.resolve(&Value::Object(written.settings.clone()), &offered) {
            Ok(resolved) => resolved,
            Err(error) => {
                self.bad_settings(name, kind, written, own, &offered, error);
                return None;
            }
        };
        let mut complete = true;
        // Whoever reads from it was checked against the type as it is written.
        if kind.type_of(&resolved.settings) != kind.type_of(&self.manifest.stages[name].with) {
            let message = format!("the type of what `{name}` makes cannot differ between instances");
            let place = self.manifest.place_of_setting(name, "type");
            let help = "write it as it is, without `${…}` and not in an override";
            self.found.push(Diagnostic::error(message).at(place).help(help));
            complete = false;
        }
        for (port, parts) in &resolved.reads {
            let Some((input, choice)) = chosen().find(|(input, _)| input.port == port) else {
                let message = format!("`{}` needs the input `{port}` with these settings", kind.name());
                let place = self.manifest.source.key(&ValuePath::from(["stages", name, "inputs"]));
                self.found.push(
                    Diagnostic::error(message)
                        .at(place)
                        .help(format!("add `{port}: stage` to `inputs`")),
                );
                complete = false;
                continue;
            };
            let offers = |part: &&String| choice.parts.contains(part) || *part == EVERY_PART;
            for part in parts.iter().filter(|part| !offers(part)) {
                if choice.parts.iter().any(|part| part == EVERY_PART) {
                    let from = self.manifest.stages[name].inputs[port].stage();
                    let place = self.manifest.source.value(&input.path);
                    self.found.push(silent(from, part).at(place));
                    complete = false;
                    continue;
                }
                let upstream = choice
                    .from
                    .first()
                    .map_or(String::new(), |number| self.instances[*number].name());
                let named = self.manifest.stages[name].inputs[port].part();
                let upstream = named.map_or(upstream.clone(), |part| format!("{upstream}.{part}"));
                let message = format!(
                    "`{}` reads the part `{part}`, which `{upstream}` does not have",
                    kind.name()
                );
                let help = did_you_mean(part, choice.parts.iter().map(String::as_str));
                let place = self.manifest.source.value(&input.path);
                self.found.push(Diagnostic::error(message).at(place).maybe_help(help));
                complete = false;
            }
        }
        complete.then_some(resolved)
    }

    /// Reports a setting that the kind refused, and those it refuses when that one is left out: a kind stops at the first.
    fn bad_settings(
        &mut self,
        name: &str,
        kind: &dyn Kind,
        written: &Written,
        own: &Point,
        offered: &InputParts,
        error: SettingError,
    ) {
        let mut rest = written.settings.clone();
        let mut error = Some(error);
        while let Some(wrong) = error.take() {
            let setting = split_setting_path(&wrong.path).into_iter().next();
            self.bad_setting(name, written, own, wrong);
            if setting.is_none_or(|setting| rest.shift_remove(&setting).is_none()) {
                return;
            }
            // What is only wrong because a setting was left out is not the author's mistake.
            let is_written = |error: &SettingError| {
                let first = split_setting_path(&error.path).into_iter().next();
                first.is_some_and(|first| rest.contains_key(&first))
            };
            error = match kind.resolve(&Value::Object(rest.clone()), offered) {
                Ok(resolved) => {
                    self.files(name, kind, &resolved.settings);
                    None
                }
                Err(error) => Some(error).filter(is_written),
            };
        }
    }

    pub(super) fn bad_setting(&mut self, name: &str, written: &Written, own: &Point, error: SettingError) {
        let steps = split_setting_path(&error.path);
        let path = match steps.split_first() {
            Some((first, rest)) if first == "inputs" => ValuePath::from(["stages", name, "inputs"]).join(rest),
            _ => self.setting_place(name, &written.assigned, &steps),
        };
        let source = &self.manifest.source;
        // The whole of `with` is not wrong where one setting is missing from it, so that is marked at its key.
        let mut diagnostic = Diagnostic::error(error.message)
            .at(source.value(&path))
            .maybe_help(error.help);
        let first = steps.first().and_then(|step| written.settings.get(step));
        let value = first.and_then(|first| {
            steps[1..].iter().try_fold(first, |value, step| match value {
                Value::Array(list) => step.parse::<usize>().ok().and_then(|index| list.get(index)),
                value => value.get(step),
            })
        });
        let mut labels = Vec::new();
        if let (Some(value), Some(place)) = (value, &diagnostic.place)
            && place.marked().contains("${")
        {
            labels.push(format!("here `{value}`"));
        }
        if !own.is_empty() {
            labels.push(format!("in `{}`", self.point_name(name, own)));
        }
        if !labels.is_empty() {
            diagnostic = diagnostic.label(labels.join(" "));
        }
        self.found.push(diagnostic);
    }
}

/// `stage` was asked for `part` and tells none of its parts before it ran.
pub(in crate::graph) fn silent(stage: &str, part: &str) -> Diagnostic {
    Diagnostic::error(format!("`{stage}` does not say that it makes the part `{part}`"))
        .help(format!("add `parts: [{part}]`, with all others, to its `with`"))
}
