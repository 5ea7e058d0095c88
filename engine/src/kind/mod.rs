//! What a kind of stage is: its settings, its ports, what it reads and makes, and its one function.
//!
//! A kind is one file and one line in the [`Registry`]. It reads nothing but its settings and its declared inputs:
//! no clock, no environment, no current directory, no unseeded randomness.

mod settings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[cfg(doc)]
use crate::artifact::EVERY_PART;
use crate::artifact::Input;
use crate::context::Context;
use crate::resources::Resources;

pub use settings::{SettingError, parse_settings, schema_of};

/// A kind of stage, such as `load` or `train`.
///
/// ```
/// use nerpipe_engine::kind::{Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight, parse_settings};
/// use nerpipe_engine::{Context, testing::Bench};
/// use serde_json::{Value, json};
///
/// /// Keeps the first lines of a text.
/// struct Head;
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     file: String,
///     #[serde(default = "ten")]
///     lines: usize,
/// }
///
/// fn ten() -> usize {
///     10
/// }
///
/// impl Kind for Head {
///     fn name(&self) -> &'static str {
///         "head"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn about(&self) -> &'static str {
///         "keeps the first lines of a text"
///     }
///     fn weight(&self) -> Weight {
///         Weight::Light
///     }
///     fn fields(&self) -> &'static [Field] {
///         const { &[Field::input("file"), Field::counted("lines")] }
///     }
///     fn ports(&self) -> &'static [Port] {
///         &[]
///     }
///     fn produces(&self) -> &'static str {
///         "text"
///     }
///     fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
///         let settings: Settings = parse_settings(settings)?;
///         if settings.lines == 0 {
///             return Err(SettingError::new("lines", "`lines` is 0").help("keep one at least"));
///         }
///         Ok(Resolved::new(&settings)?.makes(["text"]))
///     }
///     fn run(&self, ctx: &Context) -> Result<(), StageError> {
///         let settings: Settings = ctx.settings()?;
///         let failed = |error: std::io::Error| StageError::new(error.to_string());
///         let text = std::fs::read_to_string(&ctx.files("file")[0].path).map_err(failed)?;
///         let kept: Vec<&str> = text.lines().take(settings.lines).collect();
///         std::fs::write(ctx.out("text")?, kept.join("\n")).map_err(failed)
///     }
/// }
///
/// let bench = Bench::new();
/// bench.write("a.txt", "one\ntwo\nthree\n");
/// let made = bench.run(&Head, json!({"file": "a.txt", "lines": 2})).unwrap();
/// assert_eq!(made.text("text"), "one\ntwo");
/// assert_eq!(bench.run(&Head, json!({"file": "a.txt", "lines": 0})).unwrap_err().message, "lines: `lines` is 0");
/// ```
pub trait Kind: Send + Sync {
    /// The word after `kind:` in a manifest.
    fn name(&self) -> &'static str;

    /// The version of this kind's meaning. It enters the fingerprint; raise it when equal inputs would give other bytes.
    fn version(&self) -> u32;

    /// One line for people.
    fn about(&self) -> &'static str;

    /// Whether an instance runs inside the program or as a process of its own.
    fn weight(&self) -> Weight;

    /// What an instance needs while it runs, where its stage does not say otherwise.
    fn resources(&self) -> Resources {
        Resources::default()
    }

    /// Every setting of this kind and what becomes of it. A key that is not here is refused before [`Kind::resolve`].
    fn fields(&self) -> &'static [Field];

    /// The JSON Schema of its settings, for editors: [`schema_of`] the struct that [`Kind::resolve`] reads. Only what [`Kind::fields`] names
    /// is looked at; without one, editors know the names alone.
    fn schema(&self) -> Option<Value> {
        None
    }

    /// The inputs this kind takes.
    fn ports(&self) -> &'static [Port];

    /// The type of artifact this kind makes, such as `corpus`, `encoder`, `tokens`, `model`, `scores`, `report`.
    fn produces(&self) -> &'static str;

    /// The type of artifact that one stage makes, for a kind whose settings say it. `with` holds them as the manifest does.
    fn type_of<'a>(&'a self, with: &'a Map<String, Value>) -> &'a str {
        let _ = with;
        self.produces()
    }

    /// Whether the input setting `setting` may hold a name, such as that of a model on a hub, where `value` is no path of the project.
    /// [`Registry::locating`] then says which path is meant.
    fn takes_names(&self, setting: &str, value: &str) -> bool {
        let _ = (setting, value);
        false
    }

    /// Checks the settings of one instance, fills in defaults, and says which parts of which ports it reads and which
    /// parts it will make. `inputs` holds the parts that the connected ports offer.
    ///
    /// # Errors
    /// A [`SettingError`] names the setting that is wrong; the engine adds file and line.
    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError>;

    /// Makes the artifact of one instance. `ctx` holds the resolved settings, the inputs and the output place.
    ///
    /// # Errors
    /// Whatever stops the stage; it fails this instance and its descendants only.
    fn run(&self, ctx: &Context) -> Result<(), StageError>;
}

/// Where an instance runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// In the program itself, on a worker thread.
    Light,
    /// As a child process with its own threads, log and measured peak memory.
    Heavy,
    /// As a program of somebody else's that the kind starts from a worker thread, with its own log and measured peak memory.
    Foreign,
}

/// What a setting does to the fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldClass {
    /// Its value enters the fingerprint.
    Counted,
    /// It is kept in the record and changes nothing else.
    Recorded,
    /// A path or glob (or a list of them): the names below its fixed part and the digests of the files enter the
    /// fingerprint, its text does not.
    Input,
    /// A path or glob inside the project (or a list of them): the files' whole names below the project and their
    /// digests enter the fingerprint.
    Project,
    /// A list of names of environment variables: the names and keyed hashes of the values enter the fingerprint.
    Environment,
}

impl FieldClass {
    /// Whether the setting names files.
    pub(crate) fn names_files(self) -> bool {
        matches!(self, Self::Input | Self::Project)
    }
}

/// One setting of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name in the manifest.
    pub name: &'static str,
    /// What it does to the fingerprint.
    pub class: FieldClass,
}

impl Field {
    /// A setting that enters the fingerprint.
    pub const fn counted(name: &'static str) -> Self {
        Self {
            name,
            class: FieldClass::Counted,
        }
    }

    /// A setting that is only kept in the record.
    pub const fn recorded(name: &'static str) -> Self {
        Self {
            name,
            class: FieldClass::Recorded,
        }
    }

    /// A path or glob whose files enter the fingerprint.
    pub const fn input(name: &'static str) -> Self {
        Self {
            name,
            class: FieldClass::Input,
        }
    }

    /// A path or glob whose files enter the fingerprint with their places in the project.
    pub const fn project(name: &'static str) -> Self {
        Self {
            name,
            class: FieldClass::Project,
        }
    }

    /// Names of environment variables whose values enter the fingerprint.
    pub const fn environment(name: &'static str) -> Self {
        Self {
            name,
            class: FieldClass::Environment,
        }
    }
}

/// One input of a kind.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its name under `inputs:`; `*` takes inputs of any name.
    pub name: &'static str,
    /// The artifact type it takes, which the upstream kind's [`Kind::produces`] must be; several are written `encoder|model`. `*`
    /// takes any.
    pub takes: &'static str,
    /// Whether it must be connected.
    pub required: bool,
    /// Whether it takes `{collect: stage}` (many artifacts) rather than one; a port called `*` then takes both.
    pub collects: bool,
}

impl Port {
    /// Whether it takes artifacts of type `artifact`.
    pub fn accepts(&self, artifact: &str) -> bool {
        self.takes == "*" || self.takes.split('|').any(|one| one == artifact)
    }

    /// The types it takes, for messages.
    pub(crate) fn shown(&self) -> String {
        self.takes.replace('|', "` or `")
    }
}

/// What is known of the artifacts at each connected port before any is made, for [`Kind::resolve`].
#[derive(Clone, Debug, Default)]
pub struct InputParts {
    /// Port name → part names. For a collecting port: the parts that every collected artifact has.
    pub ports: BTreeMap<String, Vec<String>>,
    /// Port name → what the kind upstream tells of its artifact ([`Resolved::tells`]). For a collecting port: what every kind
    /// tells alike.
    pub told: BTreeMap<String, BTreeMap<String, Value>>,
}

impl InputParts {
    /// The parts offered at `port`; empty if it is not connected.
    pub fn parts(&self, port: &str) -> &[String] {
        self.ports.get(port).map_or(&[], Vec::as_slice)
    }

    /// What the kind at `port` tells of its artifact under `key`. None says nothing: there are kinds that cannot know.
    pub fn told(&self, port: &str, key: &str) -> Option<&Value> {
        self.told.get(port)?.get(key)
    }

    /// Whether anything is connected to `port`.
    pub fn connected(&self, port: &str) -> bool {
        self.ports.contains_key(port)
    }
}

/// What [`Kind::resolve`] found out about one instance.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// Every setting with its value, defaults filled in. A setting that is absent (an optional one left out) is null.
    pub settings: Map<String, Value>,
    /// Which parts of which ports are read ([`EVERY_PART`] for all there are). A connected port that is not named here gives neither edge nor axes.
    pub reads: BTreeMap<String, Vec<String>>,
    /// The parts that the artifact will have, or [`EVERY_PART`] if that shows only when it is made.
    pub parts: Vec<String>,
    /// What is known of the artifact already, for kinds downstream that would otherwise find out only when they run.
    pub told: BTreeMap<String, Value>,
}

impl Resolved {
    /// Starts from typed settings with their defaults filled in.
    ///
    /// # Errors
    /// Only if `settings` does not serialize to a map (a mistake of the kind's author).
    pub fn new<S: Serialize>(settings: &S) -> Result<Self, SettingError> {
        match serde_json::to_value(settings) {
            Ok(Value::Object(settings)) => Ok(Self {
                settings,
                ..Self::default()
            }),
            Ok(_) => Err(SettingError::new("", "settings of a kind must be a map")),
            Err(error) => Err(SettingError::new("", error.to_string())),
        }
    }

    /// Adds a port and the parts read from it.
    #[must_use]
    pub fn reads<I: IntoIterator<Item = S>, S: Into<String>>(mut self, port: &str, parts: I) -> Self {
        self.reads
            .insert(port.to_owned(), parts.into_iter().map(Into::into).collect());
        self
    }

    /// Tells something of the artifact. It must follow from the settings and from what is told upstream.
    #[must_use]
    pub fn tells(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.told.insert(key.to_owned(), value.into());
        self
    }

    /// Sets the parts the artifact will have.
    #[must_use]
    pub fn makes<I: IntoIterator<Item = S>, S: Into<String>>(mut self, parts: I) -> Self {
        self.parts = parts.into_iter().map(Into::into).collect();
        self
    }
}

/// Why a stage stopped. The message says what failed, where (file, line, field) and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StageError {
    /// The message, lower-case, without a full stop.
    pub message: String,
    /// What the user can do.
    pub help: Option<String>,
    /// What it says of the stage.
    #[serde(default)]
    pub class: ErrorClass,
}

/// What an error says of the stage that stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// Something is wrong with it, and would be again.
    #[default]
    Wrong,
    /// It was told to stop.
    Cancelled,
    /// It took longer than it may.
    TimedOut,
    /// Its process, or one that it started, died: it may well succeed the next time.
    Died,
    /// The machine is in the way, such as a full disk.
    Machine,
}

impl StageError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            help: None,
            class: ErrorClass::Wrong,
        }
    }

    /// The stage stopped because the run was told to.
    pub fn cancelled() -> Self {
        Self {
            message: "stopped before it was done".to_owned(),
            help: None,
            class: ErrorClass::Cancelled,
        }
    }

    /// Says that this is of another class than [`ErrorClass::Wrong`].
    #[must_use]
    pub fn of(mut self, class: ErrorClass) -> Self {
        self.class = class;
        self
    }

    /// Whether the stage stopped because it was told to, not because something is wrong.
    pub fn is_cancelled(&self) -> bool {
        self.class == ErrorClass::Cancelled
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// [`StageError::help`], if there is any.
    #[must_use]
    pub(crate) fn maybe_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

/// One artifact of a collecting port, with the axis values it stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// The instance's name, such as `scores@architecture=bi_encoder,loss=bce`.
    pub instance: String,
    /// Axis → the value's name as text (the key of a named map, the scalar of a list), in the manifest's order.
    pub axes: IndexMap<String, String>,
    /// The artifact.
    pub input: Input,
}

/// The kinds that a manifest can name.
///
/// ```
/// use nerpipe_engine::{Registry, command::Command};
///
/// let registry = Registry::default().with(Command);
/// assert_eq!(registry.names().collect::<Vec<_>>(), ["command"]);
/// assert_eq!(registry.get("command").unwrap().about(), "runs a command of yours");
/// ```
#[derive(Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Box<dyn Kind>>,
    locator: Option<Box<Locator>>,
}

/// Name → the path that is meant; none if it is no name that it could know.
pub type Locator = dyn Fn(&str) -> Result<Option<PathBuf>, StageError> + Send + Sync;

impl Registry {
    /// Adds a kind.
    #[must_use]
    pub fn with(mut self, kind: impl Kind + 'static) -> Self {
        self.kinds.insert(kind.name(), Box::new(kind));
        self
    }

    /// Asks `locator` for the paths of names in settings where a kind takes them ([`Kind::takes_names`]). It is asked when a manifest is
    /// expanded; what counts are the files that are found, not the name.
    #[must_use]
    pub fn locating(
        mut self,
        locator: impl Fn(&str) -> Result<Option<PathBuf>, StageError> + Send + Sync + 'static,
    ) -> Self {
        self.locator = Some(Box::new(locator));
        self
    }

    pub(crate) fn locator(&self) -> Option<&Locator> {
        self.locator.as_deref()
    }

    /// The kind called `name`.
    pub fn get(&self, name: &str) -> Option<&dyn Kind> {
        self.kinds.get(name).map(AsRef::as_ref)
    }

    /// The names of all kinds, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.kinds.keys().copied()
    }
}
