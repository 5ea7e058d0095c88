//! [`Manifest`]: the YAML, read strictly. Every value keeps the line it is written on.
//!
//! Reading finds everything that can be wrong without asking a kind about one instance's settings: unknown keys, kinds,
//! ports, settings, variables and axes, wrong connections, cycles. What depends on resolved settings is found by
//! [`crate::graph::Graph::build`], which tells both at once.

pub(crate) mod check;
pub(crate) mod reader;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::{Map, Value, json};

use crate::axes::{self, Sweep};
use crate::diagnostic::{Diagnostic, Diagnostics, Place};
use crate::environment;
use crate::interpolate::resolve_vars;
use crate::kind::Registry;
use crate::resources::{self, Resources};
use crate::schema::{Key, any_map, map_of, text};
use crate::source::{Source, ValuePath, split_setting_path};
use crate::suggest::did_you_mean;
use reader::{Reader, given, kind_of};

/// The keys of a manifest.
pub(crate) const KEYS: [Key; 4] = [
    Key::required("name", "The cache remembers earlier runs under this name.", text),
    Key::new(
        "vars",
        "Values to use as `${vars.…}`; `--set vars.NAME=VALUE` replaces one.",
        any_map,
    ),
    Key::new(
        "sweep",
        "The axes that stages are swept over, and which cells there are.",
        || map_of(&axes::KEYS),
    ),
    Key::required(
        "stages",
        "The stages, by their names.",
        || json!({"type": "object", "minProperties": 1, "additionalProperties": {"$ref": "#/definitions/stage"}}),
    ),
];

/// The keys of a stage.
pub(crate) const STAGE_KEYS: [Key; 5] = [
    Key::required("kind", "What the stage does.", text),
    Key::new(
        "inputs",
        "Where its inputs come from: port → stage.",
        || json!({"type": "object", "additionalProperties": connection()}),
    ),
    Key::new("with", "Its settings.", any_map),
    Key::new(
        "resources",
        "What an instance needs while it runs, and what it may take; none of it counts.",
        || map_of(&resources::KEYS),
    ),
    Key::new(
        "publish",
        "Where its artifact is copied to in the project: one target for the whole, or a map part → target.",
        || json!({"anyOf": [text(), {"type": "object", "additionalProperties": text()}]}),
    ),
];

/// The keys of an input that gathers many artifacts.
pub(crate) const COLLECT_KEYS: [Key; 2] = [
    Key::required("collect", "The stage whose instances are gathered.", text),
    Key::new(
        "over",
        "The axes that are gathered; all if not given.",
        || json!({"type": "array", "minItems": 1, "items": text()}),
    ),
];

/// The schema of what an input is connected to.
pub(crate) fn connection() -> Value {
    json!({"anyOf": [text(), map_of(&COLLECT_KEYS)]})
}

/// A manifest as it was read. What is wrong with it is told by [`crate::graph::Graph::build`].
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The manifest's `name`.
    pub name: String,
    /// The variables, written out, after `--set`.
    pub vars: Map<String, Value>,
    /// The stages as written, in the manifest's order.
    pub(crate) stages: IndexMap<String, Stage>,
    pub(crate) sweep: Sweep,
    pub(crate) source: Source,
    /// The folder that paths are relative to.
    pub(crate) project: PathBuf,
    /// What was found wrong so far.
    pub(crate) found: Diagnostics,
    /// The stages that something is wrong with.
    pub(crate) broken: BTreeSet<String>,
}

/// A stage as written.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) kind: String,
    pub(crate) inputs: IndexMap<String, Connection>,
    pub(crate) with: Map<String, Value>,
    pub(crate) publish: Vec<PublishEntry>,
    pub(crate) resources: Resources,
}

/// What an input is connected to.
#[derive(Clone, Debug)]
pub(crate) enum Connection {
    /// `port: stage`
    One(Upstream),
    /// `port: {collect: stage, over: [axis]}`
    Collect {
        upstream: Upstream,
        /// The axes that are gathered; none for all of them.
        over: Option<Vec<String>>,
    },
}

/// `stage` or `stage.part`. A stage's name has no dot, so what follows the first is the part's.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    stage: String,
    part: Option<String>,
}

impl Upstream {
    fn new(text: &str) -> Self {
        let (stage, part) = match text.split_once('.') {
            Some((stage, part)) => (stage, Some(part.to_owned())),
            None => (text, None),
        };
        Self {
            stage: stage.to_owned(),
            part,
        }
    }
}

impl Connection {
    fn upstream(&self) -> &Upstream {
        match self {
            Self::One(upstream) | Self::Collect { upstream, .. } => upstream,
        }
    }

    pub(crate) fn stage(&self) -> &str {
        &self.upstream().stage
    }

    /// The part that is read, if only one is.
    pub(crate) fn part(&self) -> Option<&str> {
        self.upstream().part.as_deref()
    }

    /// `stage` or `stage.part`, as it was written.
    pub(crate) fn written(&self) -> String {
        match self.part() {
            Some(part) => format!("{}.{part}", self.stage()),
            None => self.stage().to_owned(),
        }
    }

    /// Where the stage is named, if the input is written at `path`.
    pub(crate) fn place(&self, path: &ValuePath) -> ValuePath {
        match self {
            Self::One(_) => path.clone(),
            Self::Collect { .. } => path.child("collect"),
        }
    }
}

/// One target of `publish`.
#[derive(Clone, Debug)]
pub(crate) struct PublishEntry {
    /// The part; none for the whole artifact.
    pub(crate) part: Option<String>,
    /// The target, perhaps with `${…}`.
    pub(crate) target: String,
    /// Where it is written.
    pub(crate) path: ValuePath,
}

/// The path of a stage's settings.
pub(crate) fn with_path(stage: &str) -> ValuePath {
    ValuePath::from(["stages", stage, "with"])
}

impl Manifest {
    /// Where the setting at `path` (`limit`, `thresholds[1]`) of `stage` is written, or the stage if it is not: for
    /// what turns out to be wrong with it later.
    pub fn place_of_setting(&self, stage: &str, path: &str) -> Place {
        self.source.value(&with_path(stage).join(&split_setting_path(path)))
    }

    /// Reads the manifest in `file`. `project` is the folder that paths in it are relative to, `overrides` are the
    /// arguments of `--set` (`vars.steps=50`, `model.learning_rate=1e-3`).
    ///
    /// # Errors
    /// A file that cannot be read, or is not one YAML map.
    pub fn read(file: &Path, project: &Path, overrides: &[String], registry: &Registry) -> Result<Self, Diagnostics> {
        let name = file.display().to_string();
        let unreadable = |reason: String, help: &str| {
            Diagnostics::from(Diagnostic::error(format!("cannot read the manifest `{name}`: {reason}")).help(help))
        };
        let bytes = std::fs::read(file).map_err(|error| {
            let help = match error.kind() {
                std::io::ErrorKind::NotFound => "give the path of a manifest, such as `pipelines/all_encoders.yaml`",
                _ => "check that it is a file you may read",
            };
            unreadable(error.to_string(), help)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let line = 1 + error.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count();
            unreadable(format!("line {line} is not UTF-8"), "save it as UTF-8")
        })?;
        Self::parse(&name, &text, project, overrides, registry)
    }

    /// Like [`Manifest::read`], from text; `file` is only its name in messages.
    ///
    /// # Errors
    /// Text that is not one YAML map.
    pub fn parse(
        file: &str,
        text: &str,
        project: &Path,
        overrides: &[String],
        registry: &Registry,
    ) -> Result<Self, Diagnostics> {
        let mut source = Source::parse(file, text)?;
        let mut wrong_overrides = Diagnostics::default();
        for argument in overrides {
            if let Err(diagnostic) = set(&mut source, argument) {
                wrong_overrides.push(diagnostic);
            }
        }
        let mut reader = Reader::new(&source);
        reader.found = wrong_overrides;
        let root = source.root();
        let top = ValuePath::default();
        reader.keys(root, &top, &KEYS, "a manifest");

        let name_path = top.child("name");
        let name = match root.get("name") {
            Some(name) => reader.text(name, &name_path, "`name`").unwrap_or_default().to_owned(),
            None => {
                let help = "begin with `name: …`; the cache remembers earlier runs under it".to_owned();
                reader.bad_key(&name_path, "the manifest has no `name`", Some(help));
                String::new()
            }
        };
        if root.get("name").is_some_and(Value::is_string) {
            reader.name(&name, &name_path, "a manifest");
        }

        let vars_path = top.child("vars");
        let written = given(root, "vars").and_then(|vars| reader.map(vars, &vars_path, "`vars`"));
        let written = written.cloned().unwrap_or_default();
        for name in written.keys() {
            reader.name(name, &vars_path.child(name), "a variable");
        }
        let vars = resolve_vars(&written, &environment::text).unwrap_or_else(|errors| {
            reader.bad_references(&vars_path, errors);
            written
        });

        let sweep =
            given(root, "sweep").map_or_else(Sweep::none, |sweep| Sweep::read(sweep, &vars, project, &mut reader));

        let stages_path = top.child("stages");
        let mut stages = IndexMap::new();
        match root.get("stages") {
            Some(value) => {
                if let Some(map) = reader.map(value, &stages_path, "`stages`") {
                    for (name, value) in map {
                        reader.name(name, &stages_path.child(name), "a stage");
                        if name == "vars" {
                            let help = "`--set vars.x=1` means a variable".to_owned();
                            reader.bad_key(
                                &stages_path.child(name),
                                "`vars` cannot be the name of a stage",
                                Some(help),
                            );
                        }
                        if let Some(stage) = read_stage(value, &stages_path.child(name), &vars, &mut reader) {
                            stages.insert(name.clone(), stage);
                        }
                    }
                    if map.is_empty() {
                        reader.bad_key(&stages_path, "the manifest has no stage", None);
                    }
                }
            }
            None => reader.bad_key(&stages_path, "the manifest has no `stages`", None),
        }

        let mut manifest = Self {
            name,
            vars,
            stages,
            sweep,
            source: source.clone(),
            project: project.to_owned(),
            found: Diagnostics::default(),
            broken: BTreeSet::new(),
        };
        check::check(&manifest, registry, &mut reader);
        (manifest.found, manifest.broken) = (reader.found, reader.broken);
        Ok(manifest)
    }
}

/// Reads one stage; what is wrong with a part of it is reported and left out.
fn read_stage(value: &Value, path: &ValuePath, vars: &Map<String, Value>, reader: &mut Reader<'_>) -> Option<Stage> {
    let map = reader.map(value, path, "a stage")?;
    reader.keys(map, path, &STAGE_KEYS, "a stage");
    let kind = match map.get("kind") {
        Some(kind) => reader.text(kind, &path.child("kind"), "`kind`")?.to_owned(),
        None => {
            reader.bad_key(path, "the stage has no `kind`", None);
            return None;
        }
    };

    let mut inputs = IndexMap::new();
    let inputs_path = path.child("inputs");
    if let Some(map) = given(map, "inputs").and_then(|value| reader.map(value, &inputs_path, "`inputs`")) {
        for (port, value) in map {
            if let Some(connection) = read_connection(value, &inputs_path.child(port), reader) {
                inputs.insert(port.clone(), connection);
            }
        }
    }
    let with_path = path.child("with");
    let with = given(map, "with")
        .and_then(|value| reader.map(value, &with_path, "`with`"))
        .cloned()
        .unwrap_or_default();

    let resources = given(map, "resources").map_or_else(Resources::default, |value| {
        Resources::read(value, &path.child("resources"), vars, reader)
    });

    let publish_path = path.child("publish");
    let mut publish = Vec::new();
    match given(map, "publish") {
        None => {}
        Some(Value::String(target)) => {
            publish.push(PublishEntry {
                part: None,
                target: target.clone(),
                path: publish_path,
            });
        }
        Some(Value::Object(map)) => {
            for (part, target) in map {
                let path = publish_path.child(part);
                if let Some(target) = reader.text(target, &path, "a target") {
                    publish.push(PublishEntry {
                        part: Some(part.clone()),
                        target: target.to_owned(),
                        path,
                    });
                }
            }
        }
        Some(other) => {
            let help = "give one target for the whole artifact, or a map part → target".to_owned();
            reader.bad_value(
                &publish_path,
                format!("`publish` cannot be {}", kind_of(other)),
                Some(help),
            );
        }
    }
    Some(Stage {
        kind,
        inputs,
        with,
        publish,
        resources,
    })
}

fn read_connection(value: &Value, path: &ValuePath, reader: &mut Reader<'_>) -> Option<Connection> {
    match value {
        Value::String(text) => Some(Connection::One(Upstream::new(text))),
        Value::Object(map) => {
            let before = reader.found.len();
            reader.keys(map, path, &COLLECT_KEYS, "an input");
            let Some(stage) = map.get("collect") else {
                if reader.found.len() > before {
                    return None;
                }
                let help = "write `{collect: stage}` or `{collect: stage, over: [axis]}`".to_owned();
                reader.bad_value(path, "an input that is a map needs `collect`", Some(help));
                return None;
            };
            let upstream = Upstream::new(reader.text(stage, &path.child("collect"), "`collect`")?);
            let over = match given(map, "over") {
                None => None,
                Some(over) => {
                    let path = path.child("over");
                    let mut names = Vec::new();
                    for (index, name) in reader.list(over, &path, "`over`")?.iter().enumerate() {
                        names.push(reader.text(name, &path.child(index), "the name of an axis")?.to_owned());
                    }
                    if names.is_empty() {
                        let help = "leave it out to gather all axes".to_owned();
                        reader.bad_value(&path, "`over` names no axis", Some(help));
                    }
                    Some(names)
                }
            };
            Some(Connection::Collect { upstream, over })
        }
        other => {
            let help = "name a stage, or write `{collect: stage}`".to_owned();
            reader.bad_value(path, format!("an input cannot be {}", kind_of(other)), Some(help));
            None
        }
    }
}

/// Applies one `--set KEY=VALUE`.
fn set(source: &mut Source, argument: &str) -> Result<(), Diagnostic> {
    let usage = "write `--set vars.NAME=VALUE` or `--set STAGE.SETTING=VALUE`";
    // The argument becomes the text that messages show.
    let shown = |column: usize, length: usize, message: String| {
        Diagnostic::error(message).at(Place {
            file: "--set".to_owned(),
            line: 1,
            column,
            length: length.max(1),
            source: argument.to_owned(),
        })
    };
    let Some((key, text)) = argument.split_once('=') else {
        return Err(shown(1, argument.chars().count(), format!("`{argument}` has no `=`")).help(usage));
    };
    let key_length = key.chars().count();
    let value: Value = serde_yaml::from_str(text).map_err(|error| {
        // Lines and columns of a single word on the command line say nothing.
        let reason = error.to_string();
        let reason = reason.split(" at line").next().unwrap_or_default();
        shown(
            key_length + 2,
            text.chars().count(),
            format!("not valid YAML: {reason}"),
        )
    })?;
    let steps: Vec<&str> = key.split('.').collect();
    let names = |path: &[&str]| -> Vec<String> {
        let mut map = Some(source.root());
        for step in path {
            map = map.and_then(|map| map.get(*step)).and_then(Value::as_object);
        }
        map.into_iter().flat_map(|map| map.keys().cloned()).collect()
    };
    let path = match steps.as_slice() {
        ["vars", name, rest @ ..] if !name.is_empty() => {
            let known = names(&["vars"]);
            if !known.iter().any(|known| known == name) {
                let help = did_you_mean(name, known.iter().map(String::as_str));
                return Err(shown(6, name.chars().count(), format!("there is no variable `{name}`")).maybe_help(help));
            }
            let rest: Vec<String> = rest.iter().map(|step| (*step).to_owned()).collect();
            ValuePath::from(["vars", name]).join(&rest)
        }
        [stage, setting, rest @ ..] if !stage.is_empty() && !setting.is_empty() => {
            let known = names(&["stages"]);
            if !known.iter().any(|known| known == stage) {
                let help = did_you_mean(stage, known.iter().map(String::as_str).chain(["vars"]));
                return Err(shown(1, stage.chars().count(), format!("there is no stage `{stage}`")).maybe_help(help));
            }
            let rest: Vec<String> = rest.iter().map(|step| (*step).to_owned()).collect();
            with_path(stage).child(setting).join(&rest)
        }
        _ => return Err(shown(1, key_length, format!("`{key}` names no variable and no setting")).help(usage)),
    };
    source
        .overlay(&path, value, argument)
        .map_err(|_| shown(1, key_length, format!("`{key}` lies inside a value that is no map")))
}
