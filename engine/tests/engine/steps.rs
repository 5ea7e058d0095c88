//! Steps inside a stage: cached by what is handed to them, usable from several threads, placed by reference.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nerpipe_engine::testing::Bench;
use nerpipe_engine::{
    Context, Digest, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Step, StepCounts, Weight,
};
use serde_json::{Value, json};

/// Runs one step per number, on as many threads as it is given; equal numbers are one step.
#[derive(Default)]
struct Numbers {
    worked: AtomicUsize,
    version: u32,
}

impl Kind for Numbers {
    fn name(&self) -> &'static str {
        "numbers"
    }
    fn version(&self) -> u32 {
        1
    }
    fn about(&self) -> &'static str {
        "squares"
    }
    fn weight(&self) -> Weight {
        Weight::Light
    }
    fn fields(&self) -> &'static [Field] {
        const { &[Field::counted("numbers"), Field::counted("name")] }
    }
    fn ports(&self) -> &'static [Port] {
        &[]
    }
    fn produces(&self) -> &'static str {
        "numbers"
    }
    fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
        Ok(Resolved::new(settings)?.makes(["squares"]))
    }
    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Value = ctx.settings()?;
        let numbers: Vec<u64> = serde_json::from_value(settings["numbers"].clone()).unwrap();
        let square = |number: &u64| {
            let step = Step {
                name: "square",
                version: self.version,
                settings: json!({"number": number}),
                inputs: vec![Digest::of(b"squares")],
            };
            ctx.step(step, |out| {
                self.worked.fetch_add(1, Ordering::SeqCst);
                fs::write(out.join("square"), (number * number).to_string()).unwrap();
                Ok(json!(number * number))
            })
        };
        let outputs: Vec<_> = thread::scope(|scope| {
            let handles: Vec<_> = numbers
                .iter()
                .map(|number| scope.spawn(move || square(number)))
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        for (at, output) in outputs.into_iter().enumerate() {
            ctx.place(&output?, "square", &format!("squares/{at}"))?;
        }
        if let Some(name) = settings["name"].as_str() {
            fs::write(ctx.out(name)?, "x").unwrap();
        }
        Ok(())
    }
}

fn counts(executed: u64, restored: u64) -> StepCounts {
    StepCounts { executed, restored }
}

#[test]
fn equal_steps_run_once_even_at_the_same_time_and_across_instances() {
    let bench = Bench::new().threads(4);
    let kind = Numbers::default();
    let made = bench.run(&kind, json!({"numbers": [3, 4, 3, 3]})).unwrap();
    assert_eq!(kind.worked.load(Ordering::SeqCst), 2);
    assert_eq!(made.steps, counts(2, 2));
    assert_eq!(made.names(), ["squares/0", "squares/1", "squares/2", "squares/3"]);
    assert_eq!(made.text("squares/2"), "9");
    assert_eq!(made.path("squares/0"), made.path("squares/3"), "stored once");

    let made = bench.run(&kind, json!({"numbers": [5, 4]})).unwrap();
    assert_eq!(made.steps, counts(1, 1));
    assert_eq!(kind.worked.load(Ordering::SeqCst), 3);
}

#[test]
fn another_version_of_a_step_is_another_step() {
    let bench = Bench::new();
    bench.run(&Numbers::default(), json!({"numbers": [3]})).unwrap();
    let newer = Numbers {
        version: 2,
        ..Numbers::default()
    };
    assert_eq!(bench.run(&newer, json!({"numbers": [3]})).unwrap().steps, counts(1, 0));
}

#[test]
fn a_damaged_step_is_made_again() {
    let bench = Bench::new();
    let kind = Numbers::default();
    let made = bench.run(&kind, json!({"numbers": [3]})).unwrap();
    fs::remove_file(made.path("squares/0")).unwrap();
    let made = bench.run(&kind, json!({"numbers": [3]})).unwrap();
    assert_eq!(made.steps, counts(1, 0));
    assert_eq!(made.text("squares/0"), "9");
}

#[test]
fn names_that_leave_the_artifact_are_refused() {
    for name in ["../x", "/x", "a/../x", "a//x", "", ".", "a/"] {
        let error = Bench::new()
            .run(&Numbers::default(), json!({"numbers": [], "name": name}))
            .unwrap_err();
        assert!(error.message.contains("cannot name a file"), "{name}: {error}");
    }
    for (name, complaint) in [
        ("squares/0", "written and placed"),
        ("squares/0/x", "both a file and a folder"),
    ] {
        let error = Bench::new()
            .run(&Numbers::default(), json!({"numbers": [1], "name": name}))
            .unwrap_err();
        assert!(error.message.contains(complaint), "{name}: {error}");
    }
}

#[test]
fn a_part_that_was_promised_must_be_made() {
    let error = Bench::new()
        .run(&Numbers::default(), json!({"numbers": [], "name": "x"}))
        .unwrap_err();
    assert!(error.message.contains("should have made the part `squares`"), "{error}");
}
