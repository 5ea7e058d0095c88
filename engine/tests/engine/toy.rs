//! Toy kinds. Each run of one is counted under a word that says which instance it was.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nerpipe_engine::kind::parse_settings;
use nerpipe_engine::{
    Context, Field, InputParts, Kind, Port, Progress, Registry, Resolved, SettingError, StageError, Step, Weight,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// What the toys did, and switches that no fingerprint sees.
#[derive(Default)]
pub(crate) struct Toys {
    pub(crate) ran: Mutex<Vec<String>>,
    pub(crate) steps: Mutex<Vec<String>>,
    /// `lines` fails while it is raised.
    pub(crate) broken: AtomicBool,
    /// How many `lines` run at once, and the most there ever were.
    pub(crate) inside: AtomicUsize,
    pub(crate) most_inside: AtomicUsize,
    /// What `unsteady` writes: a kind that breaks the rule of equal bytes.
    pub(crate) moon: AtomicUsize,
    pub(crate) threads: AtomicUsize,
    /// A file that `words` finds changed by somebody else while it reads.
    pub(crate) meddled: Mutex<Option<PathBuf>>,
}

impl Toys {
    pub(crate) fn registry(self: &Arc<Self>) -> Registry {
        Registry::default()
            .with(Words(Arc::clone(self)))
            .with(Lines(Arc::clone(self)))
            .with(Gather(Arc::clone(self)))
            .with(Unsteady(Arc::clone(self)))
            .with(Heavy)
            .with(nerpipe_engine::command::Command)
    }

    /// What ran since the last time this was asked, sorted.
    pub(crate) fn ran(&self) -> Vec<String> {
        let mut ran = std::mem::take(&mut *self.ran.lock().unwrap());
        ran.sort();
        ran
    }

    /// The steps that ran since the last time this was asked, sorted.
    pub(crate) fn steps(&self) -> Vec<String> {
        let mut steps = std::mem::take(&mut *self.steps.lock().unwrap());
        steps.sort();
        steps
    }

    fn count(&self, word: &str) {
        self.ran.lock().unwrap().push(word.to_owned());
    }
}

fn write(ctx: &Context, name: &str, content: &str) -> Result<(), StageError> {
    fs::write(ctx.out(name)?, content).map_err(|error| StageError::new(error.to_string()))
}

/// A source. `left` and `right` are files; each becomes a part, one step per file, words in lower case.
struct Words(Arc<Toys>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WordsSettings {
    left: String,
    right: Option<String>,
    #[serde(default)]
    salt: u64,
    note: Option<String>,
}

impl Kind for Words {
    fn name(&self) -> &'static str {
        "words"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "reads files of words"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        const {
            &[
                Field::input("left"),
                Field::input("right"),
                Field::counted("salt"),
                Field::recorded("note"),
            ]
        }
    }
    fn ports(&self) -> &'static [Port] {
        &[]
    }
    fn produces(&self) -> &'static str {
        "words"
    }
    fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        let settings: WordsSettings = parse_settings(settings)?;
        let parts = if settings.right.is_some() {
            vec!["left", "right"]
        } else {
            vec!["left"]
        };
        Ok(Resolved::new(&settings)?.makes(parts))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        self.0.count("words");
        if let Some(path) = self.0.meddled.lock().unwrap().take() {
            fs::write(path, "changed behind its back").unwrap();
        }
        for part in ["left", "right"] {
            for file in ctx.files(part) {
                let step = Step {
                    name: "file",
                    version: 1,
                    settings: json!(null),
                    inputs: vec![file.digest],
                };
                let output = ctx.step(step, |out| {
                    self.0.steps.lock().unwrap().push(file.name.clone());
                    let text = fs::read_to_string(&file.path).map_err(|error| StageError::new(error.to_string()))?;
                    fs::write(out.join("words"), text.to_lowercase()).unwrap();
                    Ok(json!(text.split_whitespace().count()))
                })?;
                ctx.note(&format!("{part}/{}", file.name), output.value.clone());
                ctx.place(&output, "words", &format!("{part}/{}", file.name))?;
            }
        }
        Ok(())
    }
}

/// Reads the part `side` of words and writes its number of lines times `factor`.
struct Lines(Arc<Toys>);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinesSettings {
    #[serde(default = "left")]
    side: String,
    #[serde(default = "one")]
    factor: usize,
    #[serde(default)]
    nap_ms: u64,
}

fn left() -> String {
    "left".to_owned()
}

fn one() -> usize {
    1
}

impl Kind for Lines {
    fn name(&self) -> &'static str {
        "lines"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "counts lines"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        const {
            &[
                Field::counted("side"),
                Field::counted("factor"),
                Field::recorded("nap_ms"),
            ]
        }
    }
    fn ports(&self) -> &'static [Port] {
        const {
            &[Port {
                name: "words",
                takes: "*",
                required: true,
                collects: false,
            }]
        }
    }
    fn produces(&self) -> &'static str {
        "count"
    }
    fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        let settings: LinesSettings = parse_settings(settings)?;
        let side = settings.side.clone();
        Ok(Resolved::new(&settings)?.reads("words", [side]).makes(["count.txt"]))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: LinesSettings = ctx.settings()?;
        self.0.count(&format!("lines {} {}", settings.side, settings.factor));
        self.0.threads.store(ctx.threads(), Ordering::SeqCst);
        self.0
            .most_inside
            .fetch_max(self.0.inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(settings.nap_ms));
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
        ctx.check_cancelled()?;
        if self.0.broken.load(Ordering::SeqCst) {
            return Err(StageError::new("`lines` is broken").help("mend it"));
        }
        assert_ne!(settings.factor, 6666, "the number of the beast");
        let mut lines = 0;
        for file in &ctx
            .input("words")?
            .part(&settings.side)
            .ok_or_else(|| StageError::new("no such side"))?
            .files
        {
            lines += fs::read_to_string(&file.path).unwrap().lines().count();
        }
        ctx.progress(Progress {
            done: 1,
            total: Some(1),
            unit: "files",
            figures: vec![("lines", lines as f64)],
        });
        write(ctx, "count.txt", &format!("{}\n", lines * settings.factor))
    }
}

/// Writes one line per collected artifact: its axes and its count.
struct Gather(Arc<Toys>);

impl Kind for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "puts counts together"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn ports(&self) -> &'static [Port] {
        const {
            &[Port {
                name: "counts",
                takes: "count",
                required: true,
                collects: true,
            }]
        }
    }
    fn produces(&self) -> &'static str {
        "table"
    }
    fn resolve(&self, _: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        Ok(Resolved::new(&json!({}))?
            .reads("counts", ["count.txt"])
            .makes(["table.txt", "more"]))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        self.0.count("gather");
        let mut table = String::new();
        for one in ctx.collected("counts") {
            let count = fs::read_to_string(&one.input.file("count.txt").unwrap().path).unwrap();
            let axes: Vec<String> = one.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
            table.push_str(&format!("{} {}", axes.join(","), count));
        }
        write(ctx, "more/a.txt", "a\n")?;
        write(ctx, "more/b/c.txt", "c\n")?;
        write(ctx, "table.txt", &table)
    }
}

/// Makes other bytes each time the moon changes, without saying so.
struct Unsteady(Arc<Toys>);

impl Kind for Unsteady {
    fn name(&self) -> &'static str {
        "unsteady"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "does what no kind may"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn ports(&self) -> &'static [Port] {
        &[]
    }
    fn produces(&self) -> &'static str {
        "words"
    }
    fn resolve(&self, _: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        Ok(Resolved::new(&json!({}))?.makes(["left"]))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        self.0.count("unsteady");
        write(ctx, "left/x", &"line\n".repeat(self.0.moon.load(Ordering::SeqCst)))
    }
}

/// A heavy kind that does what it is told, for tests of child processes.
struct Heavy;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HeavySettings {
    task: String,
    /// A switch outside the fingerprint: while this file exists, the task is done, and nothing otherwise.
    switch: Option<String>,
}

impl Kind for Heavy {
    fn name(&self) -> &'static str {
        "heavy"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "runs in a process of its own"
    }
    fn weight(&self) -> Weight {
        Weight::Heavy
    }
    fn fields(&self) -> &'static [Field] {
        const { &[Field::counted("task"), Field::recorded("switch")] }
    }
    fn ports(&self) -> &'static [Port] {
        &[]
    }
    fn produces(&self) -> &'static str {
        "words"
    }
    fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        let settings: HeavySettings = parse_settings(settings)?;
        Ok(Resolved::new(&settings)?.makes(["left"]))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: HeavySettings = ctx.settings()?;
        let on = settings
            .switch
            .as_ref()
            .is_none_or(|switch| fs::exists(switch).unwrap_or(false));
        // What stands behind a dash only tells tasks apart.
        match settings.task.split('-').next().unwrap_or_default() {
            "die" if on => std::process::abort(),
            "die_once" if on => {
                fs::remove_file(settings.switch.unwrap_or_default()).unwrap();
                std::process::abort();
            }
            "panic" if on => panic!("heavy heart"),
            "wait" if on => {
                // What a killed run leaves behind, and the next one finds.
                fs::write(ctx.unfinished()?.join("half"), "half").unwrap();
                loop {
                    ctx.check_cancelled()?;
                    ctx.progress(Progress {
                        done: 1,
                        total: None,
                        unit: "naps",
                        figures: Vec::new(),
                    });
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            "hoard" => ctx.check_space(u64::MAX / 2)?,
            "grow" => {
                let memory = vec![1_u8; 64 * 1024 * 1024];
                ctx.note("grown", json!(std::hint::black_box(&memory).len()));
            }
            _ => {}
        }
        ctx.log(&format!("process {}", std::process::id()));
        ctx.warn("heavy is heavy");
        write(ctx, "left/x", "one\ntwo\n")
    }
}
