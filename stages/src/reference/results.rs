//! The kind `results`: an evaluation in the form that the reference writes it.
//!
//! Consumes `scores` of one split at one threshold; produces `results`: `test_results.json` with
//! `{"test_metrics": {"per_class", "micro", "macro"}}`, and `table.txt` for people. Golds that cannot be found do not count
//! in these figures, as in the reference; the table shows beside them what they are if those golds count as missed.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::checkpoint::{single, write};

/// The part with the figures, called as the reference calls it.
pub const RESULTS: &str = "test_results.json";
/// The part for people.
const TABLE: &str = "table.txt";
/// The part of `scores` that is read.
const METRICS: &str = "metrics.json";

/// The figures of a type or of all types, in the reference's order.
const OF_A_TYPE: [&str; 6] = ["tp", "fp", "fn", "precision", "recall", "f1"];
const OF_ALL: [&str; 6] = ["precision", "recall", "f1", "tp", "fp", "fn"];
const OF_THE_MEAN: [&str; 4] = ["precision", "recall", "f1", "num_classes"];

/// The settings of `results`: there are none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {}

/// The kind `results`. See the module's text.
pub struct Results;

impl Kind for Results {
    fn name(&self) -> &'static str {
        "results"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "brings an evaluation into the reference's form"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        &[Port {
            name: "scores",
            takes: "scores",
            required: true,
            collects: false,
        }]
    }

    fn produces(&self) -> &'static str {
        "results"
    }

    fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        Ok(Resolved::new(&settings)?
            .reads("scores", [METRICS])
            .makes([RESULTS, TABLE]))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let path = single(ctx.input("scores")?, METRICS)?;
        let unreadable =
            |reason: String| StageError::new(format!("failed to read the scores `{}`: {reason}", path.display()));
        let bytes = std::fs::read(&path).map_err(|error| unreadable(error.to_string()))?;
        let mut metrics: Value = serde_json::from_slice(&bytes).map_err(|error| unreadable(error.to_string()))?;
        let entries = metrics["results"]
            .as_array_mut()
            .map(std::mem::take)
            .unwrap_or_default();
        let [entry] = &entries[..] else {
            return Err(StageError::new(format!(
                "there are results of {} splits and thresholds, where one is needed",
                entries.len()
            ))
            .help("give the evaluation one of `splits` and one of `thresholds`"));
        };
        let mut text = serde_json::to_string_pretty(&json!({ "test_metrics": theirs(entry) }))
            .map_err(|error| StageError::new(error.to_string()))?;
        text.push('\n');
        write(&ctx.out(RESULTS)?, text.as_bytes())?;
        write(&ctx.out(TABLE)?, table(entry).as_bytes())
    }
}

/// The figures of an evaluation's entry in the reference's form.
fn theirs(entry: &Value) -> Value {
    let pick = |figures: &Value, names: &[&str]| -> Map<String, Value> {
        let named = names.iter().map(|name| ((*name).to_owned(), figures[*name].clone()));
        named.collect()
    };
    let types = entry["per_class"].as_object().into_iter().flatten();
    let per_class: Map<String, Value> = types
        .map(|(name, figures)| (name.clone(), pick(figures, &OF_A_TYPE).into()))
        .collect();
    let mut all = json!({
        "per_class": per_class,
        "micro": pick(&entry["micro"], &OF_ALL),
        "macro": pick(&entry["macro"], &OF_THE_MEAN),
    });
    if let Some(loss) = entry.get("loss") {
        all["loss"] = loss.clone();
    }
    all
}

/// The figures as a table: a line for each type, then all of them together.
fn table(entry: &Value) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_HORIZONTAL_ONLY)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(["type", "precision", "recall", "F1", "tp", "fp", "fn"]);
    let mut line = |name: &str, figures: &Value| {
        let share = |key: &str| {
            figures[key]
                .as_f64()
                .map_or(String::new(), |value| format!("{value:.4}"))
        };
        let count = |key: &str| figures[key].as_u64().map_or(String::new(), |value| value.to_string());
        let shares = ["precision", "recall", "f1"].map(share);
        table.add_row(
            std::iter::once(name.to_owned())
                .chain(shares)
                .chain(["tp", "fp", "fn"].map(count)),
        );
    };
    for (name, figures) in entry["per_class"].as_object().into_iter().flatten() {
        line(name, figures);
    }
    line("micro", &entry["micro"]);
    line("macro", &entry["macro"]);
    if entry["golds"]["lost"].as_u64().unwrap_or(0) > 0 {
        line("micro, all golds", &entry["full_gold"]["micro"]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let head = format!(
        "split {}, threshold {}, {} sentences",
        entry["split"].as_str().unwrap_or_default(),
        entry["threshold"].to_string().trim_matches('"'),
        entry["sentences"]
    );
    format!("{head}\n{table}\n")
}

#[cfg(test)]
pub(super) mod tests {
    use nerpipe_engine::testing::Bench;

    use super::*;

    /// Hands on an evaluation's `metrics.json` that its setting holds.
    pub(in crate::reference) struct Scores;

    impl Kind for Scores {
        fn name(&self) -> &'static str {
            "fixed_scores"
        }
        fn version(&self) -> u32 {
            1
        }
        fn about(&self) -> &'static str {
            "scores that are written down"
        }
        fn weight(&self) -> Weight {
            Weight::Light
        }
        fn fields(&self) -> &'static [Field] {
            const FIELDS: [Field; 1] = [Field::counted("metrics")];
            &FIELDS
        }
        fn ports(&self) -> &'static [Port] {
            &[]
        }
        fn produces(&self) -> &'static str {
            "scores"
        }
        fn resolve(&self, settings: &Value, _: &InputParts) -> Result<Resolved, SettingError> {
            Ok(Resolved::new(settings)?.makes([METRICS]))
        }
        fn run(&self, ctx: &Context) -> Result<(), StageError> {
            let settings: Value = ctx.settings()?;
            write(&ctx.out(METRICS)?, settings["metrics"].to_string().as_bytes())
        }
    }

    pub(in crate::reference) fn metrics() -> Value {
        let figures = json!({"precision": 0.5, "recall": 1.0, "f1": 2.0 / 3.0, "tp": 1, "fp": 1, "fn": 0});
        json!({"results": [{
            "split": "test", "threshold": "cls", "sentences": 2,
            "micro": figures,
            "macro": {"precision": 0.5, "recall": 1.0, "f1": 2.0 / 3.0, "num_classes": 1},
            "per_class": {"city": figures},
            "golds": {"all": 2, "lost": 1},
            "full_gold": {"micro": {"precision": 0.5, "recall": 0.5, "f1": 0.5, "tp": 1, "fp": 1, "fn": 1}},
        }]})
    }

    #[test]
    fn an_evaluation_is_written_as_the_reference_writes_it() {
        let bench = Bench::new();
        let scores = bench.run(&Scores, json!({ "metrics": metrics() })).expect("scores");
        let bench = bench.input("scores", &scores);
        let made = bench.run(&Results, json!({})).expect("results");
        let keys = |value: &Value| -> Vec<String> {
            value
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect()
        };
        let results = made.json(RESULTS);
        assert_eq!(keys(&results), ["test_metrics"]);
        let results = &results["test_metrics"];
        assert_eq!(keys(results), ["per_class", "micro", "macro"]);
        assert_eq!(keys(&results["per_class"]["city"]), OF_A_TYPE);
        assert_eq!(keys(&results["micro"]), OF_ALL);
        assert_eq!(keys(&results["macro"]), OF_THE_MEAN);
        assert_eq!(results["micro"]["tp"], 1);
        let table = made.text(TABLE);
        assert!(table.starts_with("split test, threshold cls, 2 sentences\n"), "{table}");
        assert!(table.contains("micro, all golds"), "{table}");
    }

    #[test]
    fn results_of_several_thresholds_are_refused() {
        let bench = Bench::new();
        let mut many = metrics();
        let entry = many["results"][0].clone();
        many["results"] = json!([entry, entry]);
        let scores = bench.run(&Scores, json!({ "metrics": many })).expect("scores");
        let error = bench
            .input("scores", &scores)
            .run(&Results, json!({}))
            .expect_err("two");
        assert!(error.message.contains("results of 2 splits and thresholds"), "{error}");
    }
}
