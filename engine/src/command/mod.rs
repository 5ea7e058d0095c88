//! `command`: a program of the user's own as a stage.
//!
//! It runs in an empty folder that holds copies of the declared `files` at their places in the project. What it writes into
//! `$OUT` is the artifact; each input is a read-only folder in `$<PORT>`. Of the environment it sees `PATH`, `HOME` and
//! `TMPDIR`, which do not count, `LANG=C.UTF-8`, and the variables that `env` declares, which count. What it prints goes
//! to the instance's log.
//!
//! ```yaml
//! clean:
//!   kind: command
//!   inputs: {corpus: corpus.train}
//!   with:
//!     run: python scripts/clean.py "$CORPUS/train" > "$OUT/train.jsonl"
//!     files: [scripts/clean.py]
//!     env: [SALT]
//!     type: text                 # what ports take it; `files` if not said
//!     parts: [train.jsonl]       # all it writes; without it, others can only read the whole
//! ```

mod child;
mod place;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command as Process;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::artifact::EVERY_PART;
use crate::context::Context;
use crate::environment;
use crate::guard::SHELL;
use crate::job::{DEVICES, device_list};
use crate::kind::{
    Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight, parse_settings, schema_of,
};
use place::Place;

/// The type of what a command makes that says nothing else.
const TYPE: &str = "files";

/// Variables that a command sees and that do not count.
const PASSED: [&str; 3] = ["PATH", "HOME", "TMPDIR"];

/// Variables that no port may be called after, besides those that are passed.
const OWN: [&str; 5] = ["OUT", "LANG", "NERPIPE_THREADS", "NERPIPE_DEVICE", DEVICES];

/// The kind `command`; see the module's text.
pub struct Command;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Text for `sh`, or a program and its arguments.
    #[schemars(with = "RunForms")]
    run: Run,
    /// Paths or patterns of files that are copied into the command's folder.
    #[serde(default)]
    files: Value,
    /// Names of variables of the environment.
    #[serde(default)]
    env: Vec<String>,
    /// The type of the artifact.
    #[serde(rename = "type", default = "files")]
    produces: String,
    /// The parts of the artifact, if others are to read them by name.
    parts: Option<Vec<String>>,
}

/// Either form of `run`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
enum Run {
    Text(String),
    Program(Vec<String>),
}

/// The forms that [`Run`] reads, for editors.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
enum RunForms {
    Text(String),
    Program(Vec<Word>),
}

/// A word of a program's command line.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
enum Word {
    Text(String),
    Number(f64),
    Switch(bool),
}

fn files() -> String {
    TYPE.to_owned()
}

impl TryFrom<Value> for Run {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        const FORMS: &str = "`run` must be text for `sh`, or a list of a program and its arguments";
        match value {
            Value::String(text) if text.trim().is_empty() => Err("`run` is empty"),
            Value::String(text) => Ok(Self::Text(text)),
            Value::Array(items) => {
                // A number among the arguments is written as the manifest's author would write it.
                let word = |item: &Value| crate::interpolate::scalar_text(item).filter(|_| !item.is_null());
                let words: Option<Vec<String>> = items.iter().map(word).collect();
                match words {
                    Some(words) if words.is_empty() => Err("`run` is empty"),
                    Some(words) => Ok(Self::Program(words)),
                    None => Err(FORMS),
                }
            }
            _ => Err(FORMS),
        }
    }
}

impl From<Run> for Value {
    fn from(run: Run) -> Self {
        match run {
            Run::Text(text) => Self::from(text),
            Run::Program(words) => Self::from(words),
        }
    }
}

impl Kind for Command {
    fn name(&self) -> &'static str {
        "command"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "runs a command of yours"
    }

    fn weight(&self) -> Weight {
        Weight::Foreign
    }

    fn fields(&self) -> &'static [Field] {
        const {
            &[
                Field::counted("run"),
                Field::project("files"),
                Field::environment("env"),
                // Whoever reads the artifact sees its bytes, not its type.
                Field::recorded("type"),
                Field::counted("parts"),
            ]
        }
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        const {
            &[Port {
                name: "*",
                takes: "*",
                required: false,
                collects: true,
            }]
        }
    }

    fn produces(&self) -> &'static str {
        TYPE
    }

    fn type_of<'a>(&'a self, with: &'a Map<String, Value>) -> &'a str {
        with.get("type").and_then(Value::as_str).unwrap_or(TYPE)
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        if settings.files.is_object() {
            return Err(SettingError::new(
                "files",
                "`files` must be a path or a list of paths, not a map",
            ));
        }
        check_env(&settings.env)?;
        if let Some(parts) = &settings.parts {
            check_parts(parts)?;
        }
        let variables = variables(inputs.ports.keys(), &settings.env)?;
        check_words(&settings.run, variables.values())?;
        let parts = settings.parts.clone().unwrap_or_else(|| vec![EVERY_PART.to_owned()]);
        let mut resolved = Resolved::new(&settings)?.makes(parts);
        for (port, parts) in &inputs.ports {
            resolved = resolved.reads(port, parts);
        }
        Ok(resolved)
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let place = Place::prepare(ctx)?;
        let mut process = match &settings.run {
            Run::Text(text) => {
                let mut shell = Process::new(SHELL);
                // It ends at the first line that fails, and at a variable that is not there.
                shell.args(["-e", "-u", "-c", text]);
                shell
            }
            Run::Program(words) => {
                let mut program = Process::new(&words[0]);
                program.args(&words[1..]);
                program
            }
        };
        process.env_clear().envs(self.environment(ctx, &settings, &place)?);
        process.current_dir(&place.work);
        let ended = child::run(process, ctx);
        place.check_inputs(ctx)?;
        ended?;
        place.collect(ctx, settings.parts.as_deref())
    }
}

impl Command {
    fn environment(
        &self,
        ctx: &Context,
        settings: &Settings,
        place: &Place,
    ) -> Result<BTreeMap<OsString, OsString>, StageError> {
        let named = PASSED.into_iter().chain(settings.env.iter().map(String::as_str));
        let mut environment: BTreeMap<OsString, OsString> = named
            .filter_map(|name| Some((name.into(), environment::value(name)?)))
            .collect();
        if !settings.env.iter().any(|name| name == "LANG") {
            environment.insert("LANG".into(), "C.UTF-8".into());
        }
        environment.insert("OUT".into(), place.out.clone().into());
        environment.insert("NERPIPE_THREADS".into(), ctx.threads().to_string().into());
        environment.insert("NERPIPE_DEVICE".into(), ctx.device().into());
        if let Some(devices) = ctx.devices() {
            environment.insert(DEVICES.into(), device_list(devices).into());
        }
        for (port, folder) in &place.inputs {
            environment.insert(variable(port).into(), folder.into());
        }
        Ok(environment)
    }
}

/// The variable that holds the folder of `port`: `corpus` is `$CORPUS`, `old-scores` is `$OLD_SCORES`.
fn variable(port: &str) -> String {
    port.to_uppercase().replace('-', "_")
}

fn is_variable(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn check_env(names: &[String]) -> Result<(), SettingError> {
    for (index, name) in names.iter().enumerate() {
        let path = format!("env[{index}]");
        if !is_variable(name) {
            let help = "give names alone; a value that belongs to the manifest can stand in `run`";
            return Err(SettingError::new(path, format!("`{name}` is not the name of a variable")).help(help));
        }
        if OWN.contains(&name.as_str()) && name != "LANG" {
            return Err(SettingError::new(path, format!("`{name}` is set by nerpipe")));
        }
        if names[..index].contains(name) {
            return Err(SettingError::new(path, format!("`{name}` is declared twice")));
        }
    }
    Ok(())
}

fn check_parts(parts: &[String]) -> Result<(), SettingError> {
    if parts.is_empty() {
        return Err(SettingError::new("parts", "`parts` is empty").help("leave it out if nobody reads a part by name"));
    }
    for (index, part) in parts.iter().enumerate() {
        let path = format!("parts[{index}]");
        if part.is_empty() || part.contains('/') || part == "." || part == ".." || part == EVERY_PART {
            let help = "a part is a file or folder right below `$OUT`: `train`, `table.csv`";
            return Err(SettingError::new(path, format!("`{part}` cannot name a part")).help(help));
        }
        if parts[..index].contains(part) {
            return Err(SettingError::new(path, format!("the part `{part}` is named twice")));
        }
    }
    Ok(())
}

/// Port → variable.
fn variables<'a>(
    ports: impl Iterator<Item = &'a String>,
    env: &[String],
) -> Result<BTreeMap<&'a String, String>, SettingError> {
    let mut variables = BTreeMap::new();
    for port in ports {
        let name = variable(port);
        let refuse = |why: String| {
            let message = format!("input `{port}` would be the variable `{name}`, {why}");
            Err(SettingError::new(format!("inputs.{port}"), message).help("call the input something else"))
        };
        if !is_variable(&name) {
            return refuse("which no shell can read".to_owned());
        }
        if PASSED.contains(&name.as_str()) || OWN.contains(&name.as_str()) {
            return refuse("which means something else".to_owned());
        }
        if env.contains(&name) {
            return refuse("which `env` declares".to_owned());
        }
        if let Some((other, _)) = variables.iter().find(|(_, other)| **other == name) {
            return refuse(format!("as would `{other}`"));
        }
        variables.insert(port, name);
    }
    Ok(variables)
}

/// Without a shell nobody replaces `$OUT` by the folder it means.
fn check_words<'a>(run: &Run, variables: impl Iterator<Item = &'a String>) -> Result<(), SettingError> {
    let Run::Program(words) = run else { return Ok(()) };
    let names: Vec<&str> = variables.map(String::as_str).chain(["OUT"]).collect();
    for (index, word) in words.iter().enumerate() {
        let wrong = names
            .iter()
            .find(|name| word.contains(&format!("${name}")) || word.contains(&format!("${{{name}}}")));
        if let Some(name) = wrong {
            let message = format!("`${name}` stays as it is in a list: no shell reads it");
            let help = "write `run` as text for `sh`, or have the program look into its environment";
            return Err(SettingError::new(format!("run[{index}]"), message).help(help));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn resolve(settings: Value, ports: &[(&str, &[&str])]) -> Result<Resolved, (String, String)> {
        let ports = ports.iter().map(|(port, parts)| {
            let parts = parts.iter().map(|part| (*part).to_owned()).collect();
            ((*port).to_owned(), parts)
        });
        let inputs = InputParts {
            ports: ports.collect(),
            ..InputParts::default()
        };
        Command
            .resolve(&settings, &inputs)
            .map_err(|error| (error.path, error.message))
    }

    #[test]
    fn what_is_not_said_is_filled_in() {
        let resolved = resolve(json!({"run": "true"}), &[("corpus", &["train", "test"])]).unwrap();
        assert_eq!(resolved.reads["corpus"], ["train", "test"]);
        assert_eq!(resolved.parts, ["*"]);
        let resolved = resolve(json!({"run": ["head", "-n", 3], "parts": ["a"]}), &[]).unwrap();
        assert_eq!(resolved.parts, ["a"]);
        assert_eq!(resolved.settings["run"], json!(["head", "-n", "3"]));
        let with = |value: Value| value.as_object().cloned().unwrap();
        assert_eq!(Command.type_of(&with(json!({"run": "true"}))), "files");
        assert_eq!(Command.type_of(&with(json!({"type": "corpus"}))), "corpus");
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (settings, ports, path, message) in [
            (json!({}), vec![], "", "the setting `run` is missing"),
            (json!({"run": " "}), vec![], "run", "`run` is empty"),
            (json!({"run": []}), vec![], "run", "`run` is empty"),
            (
                json!({"run": {"sh": "x"}}),
                vec![],
                "run",
                "`run` must be text for `sh`, or a list of a program and its arguments",
            ),
            (
                json!({"run": "x", "env": ["A=1"]}),
                vec![],
                "env[0]",
                "`A=1` is not the name of a variable",
            ),
            (
                json!({"run": "x", "env": ["A", "A"]}),
                vec![],
                "env[1]",
                "`A` is declared twice",
            ),
            (
                json!({"run": "x", "env": ["OUT"]}),
                vec![],
                "env[0]",
                "`OUT` is set by nerpipe",
            ),
            (json!({"run": "x", "parts": []}), vec![], "parts", "`parts` is empty"),
            (
                json!({"run": "x", "parts": ["a/b"]}),
                vec![],
                "parts[0]",
                "`a/b` cannot name a part",
            ),
            (
                json!({"run": "x", "parts": ["a", "a"]}),
                vec![],
                "parts[1]",
                "the part `a` is named twice",
            ),
            (
                json!({"run": "x"}),
                vec!["path"],
                "inputs.path",
                "input `path` would be the variable `PATH`, which means something else",
            ),
            (
                json!({"run": "x"}),
                vec!["größe"],
                "inputs.größe",
                "input `größe` would be the variable `GRÖSSE`, which no shell can read",
            ),
            (
                json!({"run": "x"}),
                vec!["a-b", "a_b"],
                "inputs.a_b",
                "input `a_b` would be the variable `A_B`, as would `a-b`",
            ),
            (
                json!({"run": "x", "env": ["A"]}),
                vec!["a"],
                "inputs.a",
                "input `a` would be the variable `A`, which `env` declares",
            ),
            (
                json!({"run": ["cp", "$A/x", "${OUT}"]}),
                vec!["a"],
                "run[1]",
                "`$A` stays as it is in a list: no shell reads it",
            ),
        ] {
            let ports: Vec<(&str, &[&str])> = ports.into_iter().map(|port| (port, &["x"][..])).collect();
            let expected = (path.to_owned(), message.to_owned());
            assert_eq!(resolve(settings.clone(), &ports).err(), Some(expected), "{settings}");
        }
    }
}
