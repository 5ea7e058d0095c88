//! The kind `output`: the folder that the reference leaves behind in `output_dir`.
//!
//! Consumes a `model`, `results`, or both; produces an `output`, to be published as a whole:
//!
//! | file | what |
//! |---|---|
//! | `config.json` | the config, as it was given |
//! | `checkpoint-<step>/` | the model, at the step that was kept |
//! | `best_checkpoint` | a relative link to it |
//! | `run.log` | the course of the training: losses, evaluations; no times |
//! | `test_results.json` | the results |

use std::fmt::Write;

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Context, EVERY_PART, Field, Input, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::results::RESULTS;
use crate::checkpoint::{single, write};

/// The part of a model that tells how it was trained.
const TRAINING_LOG: &str = "training_log.jsonl";
const CONFIG: &str = "config.json";
const RUN_LOG: &str = "run.log";
const BEST: &str = "best_checkpoint";

/// The settings of `output`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The config that the run was made from.
    #[serde(default)]
    config: Map<String, Value>,
}

/// The kind `output`. See the module's text.
pub struct Output;

impl Kind for Output {
    fn name(&self) -> &'static str {
        "output"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "puts together an output directory as the reference leaves it"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 1] = [Field::counted("config")];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        const fn port(name: &'static str) -> Port {
            Port {
                name,
                takes: name,
                required: false,
                collects: false,
            }
        }
        const PORTS: [Port; 2] = [port("model"), port("results")];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "output"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        let mut resolved = Resolved::new(&settings)?;
        let (model, results) = (inputs.connected("model"), inputs.connected("results"));
        if !model && !results {
            return Err(SettingError::new("inputs", "there is nothing to put into the folder")
                .help("connect a `model`, `results`, or both"));
        }
        if model {
            // The step that was kept shows only when the model is there, and with it the folder's name.
            resolved = resolved.reads("model", [EVERY_PART]);
        }
        if results {
            resolved = resolved.reads("results", [RESULTS]);
        }
        Ok(resolved.makes([EVERY_PART]))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let mut config = serde_json::to_string_pretty(&settings.config)
            .map_err(|error| StageError::new(format!("failed to write `{CONFIG}`: {error}")))?;
        config.push('\n');
        write(&ctx.out(CONFIG)?, config.as_bytes())?;

        let mut log = String::new();
        if let Ok(model) = ctx.input("model") {
            let course = Course::read(model)?;
            let every = settings
                .config
                .get("logging_steps")
                .and_then(Value::as_u64)
                .unwrap_or(1);
            log = course.lines(every.max(1));
            let folder = format!("checkpoint-{}", course.kept);
            let parts: Vec<String> = model.parts.keys().cloned().collect();
            for part in parts {
                ctx.place_part("model", &part, &folder)?;
            }
            ctx.link(BEST, &folder)?;
            ctx.note("checkpoint", Value::from(folder));
        }
        if let Ok(results) = ctx.input("results") {
            ctx.pass_on("results", RESULTS)?;
            let path = single(results, RESULTS)?;
            let bytes = std::fs::read(&path)
                .map_err(|error| StageError::new(format!("failed to read `{}`: {error}", path.display())))?;
            let results: Value = serde_json::from_slice(&bytes)
                .map_err(|error| StageError::new(format!("`{}` is no JSON: {error}", path.display())))?;
            let micro = &results["test_metrics"]["micro"];
            let _ = writeln!(log, "test: {}", figures(micro));
        }
        write(&ctx.out(RUN_LOG)?, log.as_bytes())
    }
}

/// The course of a training.
struct Course {
    /// What happened, one JSON object each, in order.
    events: Vec<Value>,
    /// The optimizer step whose model was kept.
    kept: u64,
}

impl Course {
    fn read(model: &Input) -> Result<Self, StageError> {
        let path = single(model, TRAINING_LOG)
            .map_err(|error| error.help("only a model that `train` has made can be put into an output directory"))?;
        let unreadable = |reason: String| {
            StageError::new(format!(
                "failed to read the training's log `{}`: {reason}",
                path.display()
            ))
        };
        let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
        let mut course = Self {
            events: Vec::new(),
            kept: 0,
        };
        let mut best: Option<f64> = None;
        for (number, line) in text.lines().enumerate() {
            let event: Value =
                serde_json::from_str(line).map_err(|error| unreadable(format!("line {}: {error}", number + 1)))?;
            let step = event["step"].as_u64().unwrap_or(0);
            match f1(&event) {
                // The first of equals is kept, as `train` keeps it.
                Some(f1) if best.is_none_or(|best| f1 > best) => (best, course.kept) = (Some(f1), step),
                Some(_) => {}
                // Training steps count from 0: after step 0 there was one.
                None if best.is_none() => course.kept = step + 1,
                None => {}
            }
            course.events.push(event);
        }
        Ok(course)
    }

    /// The course for people: every `every`-th step and the last, and every evaluation.
    fn lines(&self, every: u64) -> String {
        let mut lines = String::new();
        let last = self.events.iter().rev().find(|event| f1(event).is_none());
        let last = last.and_then(|event| event["step"].as_u64());
        for event in &self.events {
            let step = event["step"].as_u64().unwrap_or(0);
            if f1(event).is_some() {
                let _ = writeln!(
                    lines,
                    "step {step}: validation: {}",
                    figures(&event["validation"]["micro"])
                );
            } else if (step + 1).is_multiple_of(every) || Some(step) == last {
                let number = |key: &str| event[key].as_f64().unwrap_or(f64::NAN);
                let _ = writeln!(
                    lines,
                    "step {}: loss {:.4}, learning rate {:.3e}, gradient norm {:.4}",
                    step + 1,
                    number("loss"),
                    number("learning_rate"),
                    number("gradient_norm")
                );
            }
        }
        let _ = writeln!(lines, "kept the model of step {}", self.kept);
        lines
    }
}

/// The validation micro F1 of an evaluation; none for a training step.
fn f1(event: &Value) -> Option<f64> {
    event.pointer("/validation/micro/f1").and_then(Value::as_f64)
}

fn figures(micro: &Value) -> String {
    let share = |key: &str| micro[key].as_f64().unwrap_or(f64::NAN);
    format!(
        "micro F1 {:.4}, precision {:.4}, recall {:.4}",
        share("f1"),
        share("precision"),
        share("recall")
    )
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::testing::Bench;
    use serde_json::json;

    use super::super::results::Results;
    use super::super::results::tests::{Scores, metrics};
    use super::*;

    /// A model of two parts whose training's log its setting holds.
    struct Model;

    impl Kind for Model {
        fn name(&self) -> &'static str {
            "fixed_model"
        }
        fn version(&self) -> u32 {
            1
        }
        fn about(&self) -> &'static str {
            "a model that is written down"
        }
        fn weight(&self) -> Weight {
            Weight::Light
        }
        fn fields(&self) -> &'static [Field] {
            const FIELDS: [Field; 1] = [Field::counted("log")];
            &FIELDS
        }
        fn ports(&self) -> &'static [Port] {
            &[]
        }
        fn produces(&self) -> &'static str {
            "model"
        }
        fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
            Ok(Resolved::new(settings)?.makes([TRAINING_LOG, "model.safetensors"]))
        }
        fn run(&self, ctx: &Context) -> Result<(), StageError> {
            let settings: Value = ctx.settings()?;
            let lines: Vec<String> = settings["log"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Value::to_string)
                .collect();
            write(&ctx.out(TRAINING_LOG)?, lines.join("\n").as_bytes())?;
            write(&ctx.out("model.safetensors")?, b"weights")
        }
    }

    fn step(step: u64) -> Value {
        json!({"step": step, "loss": 2.5, "learning_rate": 1e-5, "gradient_norm": 0.5})
    }

    fn evaluation(step: u64, f1: f64) -> Value {
        json!({"step": step, "validation": {"micro": {"f1": f1, "precision": 0.5, "recall": 0.25}}})
    }

    #[test]
    fn the_folder_holds_the_best_checkpoint_and_a_link_to_it() {
        let bench = Bench::new();
        let log = json!([
            step(0),
            step(1),
            evaluation(2, 0.5),
            step(2),
            step(3),
            evaluation(4, 0.5),
            step(4)
        ]);
        let model = bench.run(&Model, json!({ "log": log })).expect("a model");
        let scores = bench.run(&Scores, json!({ "metrics": metrics() })).expect("scores");
        let bench = bench.input("scores", &scores);
        let results = bench.run(&Results, json!({})).expect("results");
        let bench = bench.input("model", &model).input("results", &results);
        let config = json!({"seed": 1, "logging_steps": 2});
        let made = bench.run(&Output, json!({ "config": config })).expect("an output");
        assert_eq!(
            made.names(),
            [
                "checkpoint-2/model.safetensors",
                "checkpoint-2/training_log.jsonl",
                "config.json",
                "run.log",
                "test_results.json"
            ]
        );
        assert_eq!(made.artifact.links[BEST], "checkpoint-2");
        assert_eq!(made.json("config.json"), config);
        let log = made.text("run.log");
        let starts: Vec<&str> = log
            .lines()
            .map(|line| line.split(&[':', ','][..]).next().unwrap_or(""))
            .collect();
        assert_eq!(
            starts,
            [
                "step 2",
                "step 2",
                "step 4",
                "step 4",
                "step 5",
                "kept the model of step 2",
                "test"
            ]
        );
        assert!(
            log.contains("test: micro F1 0.6667, precision 0.5000, recall 1.0000"),
            "{log}"
        );
    }

    /// Defect 28 of the reference: a training that is never evaluated, or whose F1 is 0, leaves its model all the same.
    #[test]
    fn without_a_gain_there_is_a_checkpoint_too() {
        for (log, folder) in [
            (json!([step(0), step(1), step(2)]), "checkpoint-3"),
            (
                json!([step(0), evaluation(1, 0.0), step(1), evaluation(2, 0.0)]),
                "checkpoint-1",
            ),
        ] {
            let bench = Bench::new();
            let model = bench.run(&Model, json!({ "log": log })).expect("a model");
            let made = bench.input("model", &model).run(&Output, json!({})).expect("an output");
            assert_eq!(made.artifact.links[BEST], folder);
        }
    }

    #[test]
    fn nothing_to_put_in_is_refused() {
        let error = Bench::new().run(&Output, json!({})).expect_err("nothing");
        assert!(error.message.contains("nothing to put"), "{error}");
    }
}
