//! The kind `report`: the scores of many instances → one table.
//!
//! Consumes `scores` (collected); produces a `report` of four files: `table.txt` for a terminal, `table.md`, and, with
//! one row for every instance, split and threshold, `table.csv` and `table.json`. Their keys are flat: the axes,
//! `instance`, `split`, `threshold`, and every metric by its path, such as `micro.f1` or `full_gold.macro.recall`.
//!
//! The tables for people have the axes of `rows` down the side and those of `columns` along the top. If further results
//! fall into one field, such as those of several seeds, it shows their mean and standard deviation; several splits or
//! thresholds are never mixed but become rows of their own.

mod rows;
mod table;

use std::collections::BTreeSet;

use nerpipe_engine::kind::parse_settings;
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use rows::Row;

/// The part of a score that is read.
const METRICS: &str = "metrics.json";
/// The parts that are made.
const PARTS: [&str; 4] = ["table.md", "table.csv", "table.json", "table.txt"];

/// The settings of `report`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The axes that make the rows, or `split` or `threshold`; by default every axis that is no column.
    #[serde(default, deserialize_with = "optional_list")]
    pub rows: Option<Vec<String>>,
    /// The axes that make the columns, or `split` or `threshold`; by default none.
    #[serde(default, deserialize_with = "list")]
    pub columns: Vec<String>,
    /// The metrics that are shown, as flat keys.
    #[serde(default = "micro_f1", deserialize_with = "list")]
    pub value: Vec<String>,
}

fn micro_f1() -> Vec<String> {
    vec!["micro.f1".to_owned()]
}

/// One name, or a list of them.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    use serde::de::Error;
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::String(name) => Ok(vec![name]),
        other => serde_json::from_value(other).map_err(D::Error::custom),
    }
}

fn optional_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let names = list(deserializer)?;
    Ok((!names.is_empty()).then_some(names))
}

/// The kind `report`. See the module's text.
pub struct Report;

impl Kind for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "puts scores into one table"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 3] = [
            Field::counted("rows"),
            Field::counted("columns"),
            Field::counted("value"),
        ];
        &FIELDS
    }

    fn ports(&self) -> &'static [Port] {
        const PORTS: [Port; 1] = [Port {
            name: "scores",
            takes: "scores",
            required: true,
            collects: true,
        }];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "report"
    }

    fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        if settings.value.is_empty() {
            return Err(SettingError::new("value", "no metric is named").help("name one, such as `micro.f1`"));
        }
        let mut seen = BTreeSet::new();
        for (field, names) in [
            ("rows", settings.rows.as_deref().unwrap_or_default()),
            ("columns", &settings.columns),
        ] {
            if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
                return Err(SettingError::new(field, format!("`{name}` is named twice"))
                    .help("an axis makes rows or columns, not both"));
            }
        }
        Ok(Resolved::new(&settings)?.reads("scores", [METRICS]).makes(PARTS))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let mut rows = Vec::new();
        for scores in ctx.collected("scores") {
            let file = scores
                .input
                .part(METRICS)
                .and_then(|part| part.files.first())
                .ok_or_else(|| StageError::new(format!("`{}` has no `{METRICS}`", scores.instance)))?;
            let bytes = std::fs::read(&file.path).map_err(|error| {
                StageError::new(format!("failed to read the scores of `{}`: {error}", scores.instance))
            })?;
            rows.extend(rows::read(&scores.instance, &scores.axes, &bytes)?);
        }
        let files = render(&rows, &settings)?;
        for (name, content) in &files {
            let path = ctx.out(name)?;
            std::fs::write(&path, content)
                .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))?;
            if *name == "table.txt" {
                content.lines().for_each(|line| ctx.log(line));
            }
        }
        Ok(())
    }
}

/// The content of every file of the report.
fn render(rows: &[Row], settings: &Settings) -> Result<[(&'static str, String); 4], StageError> {
    let table = table::Table::new(rows, settings)?;
    Ok([
        ("table.md", table.markdown()),
        ("table.csv", rows::csv(rows)),
        ("table.json", rows::json(rows)),
        ("table.txt", table.text()),
    ])
}

#[cfg(test)]
mod tests {
    use indexmap::IndexMap;
    use nerpipe_engine::testing::Bench;
    use serde_json::json;

    use super::*;

    fn settings(value: Value) -> Settings {
        parse_settings(&Report.resolve(&value, &InputParts::default()).unwrap().settings.into()).unwrap()
    }

    /// Scores of two systems, each with one threshold of its own.
    fn scores() -> Vec<Row> {
        let mut rows = Vec::new();
        for (architecture, seed, loss, threshold, f1) in [
            ("bi", 1, "bce", json!(0.5), 0.5),
            ("bi", 2, "bce", json!(0.5), 0.7),
            ("bi", 1, "contrastive|x", json!("cls"), 0.25),
            ("cross", 1, "bce", json!(0.5), 1.0),
        ] {
            let axes: IndexMap<String, String> = [
                ("architecture", architecture.to_owned()),
                ("loss", loss.to_owned()),
                ("seed", seed.to_string()),
            ]
            .into_iter()
            .map(|(axis, value)| (axis.to_owned(), value))
            .collect();
            let metrics = json!({"results": [{
                "split": "test", "threshold": threshold,
                "micro": {"f1": f1, "tp": 3}, "intervals": {"micro": {"f1": {"low": 0.1}}}, "full_gold": {"micro": {"f1": f1 / 2.0}},
                "per_class": {"city, \"big\"": {"f1": f1}}
            }]});
            let instance = format!("scores@architecture={architecture},loss={loss},seed={seed}");
            rows.extend(rows::read(&instance, &axes, metrics.to_string().as_bytes()).unwrap());
        }
        rows
    }

    #[test]
    fn rows_columns_and_means() {
        let files = render(&scores(), &settings(json!({"rows": "architecture", "columns": "loss"}))).unwrap();
        let markdown = "\
| architecture |             bce | contrastive\\|x |
| ------------ | --------------: | -------------: |
| bi           | 0.6000 ± 0.1414 |         0.2500 |
| cross        |          1.0000 |              – |
";
        assert_eq!(files[0].1, markdown);
        assert!(files[3].1.contains("0.6000 ± 0.1414") && files[3].1.contains("contrastive|x"));
    }

    #[test]
    fn several_metrics_get_a_column_each() {
        let files = render(
            &scores()[..1],
            &settings(json!({"rows": ["architecture"], "value": ["micro.f1", "micro.tp", "full_gold.micro.f1"]})),
        )
        .unwrap();
        let lines: Vec<&str> = files[0].1.lines().collect();
        assert_eq!(lines[0], "| architecture | micro.f1 | micro.tp | full_gold.micro.f1 |");
        assert_eq!(lines[2], "| bi           |   0.5000 |        3 |             0.2500 |");
    }

    #[test]
    fn thresholds_of_one_field_are_rows_and_not_a_mean() {
        let axes = IndexMap::from([("loss".to_owned(), "bce".to_owned())]);
        let metrics = json!({"results": [
            {"split": "test", "threshold": 0.3, "micro": {"f1": 0.1}},
            {"split": "test", "threshold": 0.5, "micro": {"f1": 0.2}}
        ]});
        let rows = rows::read("scores@loss=bce", &axes, metrics.to_string().as_bytes()).unwrap();
        let files = render(&rows, &settings(json!({"rows": "loss"}))).unwrap();
        let lines: Vec<&str> = files[0].1.lines().collect();
        assert_eq!(lines[0], "| loss | threshold | micro.f1 |");
        assert_eq!(
            &lines[2..],
            ["| bce  | 0.3       |   0.1000 |", "| bce  | 0.5       |   0.2000 |"]
        );
    }

    #[test]
    fn data_formats_have_one_flat_row_a_result() {
        let files = render(&scores(), &settings(json!({}))).unwrap();
        let json: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&files[2].1).unwrap();
        assert_eq!(json.len(), 4);
        assert_eq!(json[2]["loss"], "contrastive|x");
        assert_eq!(json[2]["threshold"], "cls");
        assert_eq!(json[0]["micro.f1"], 0.5);
        assert_eq!(json[0]["full_gold.micro.f1"], 0.25);
        assert_eq!(json[0]["micro.f1.low"], 0.1);
        assert_eq!(json[0]["per_class.city, \"big\".f1"], 0.5);
        let lines: Vec<&str> = files[1].1.lines().collect();
        let head = "architecture,loss,seed,instance,split,threshold,micro.f1,micro.tp,micro.f1.low,full_gold.micro.f1,\
                    \"per_class.city, \"\"big\"\".f1\"";
        assert_eq!(lines[0], head);
        let row = "bi,bce,1,\"scores@architecture=bi,loss=bce,seed=1\",test,0.5,0.5,3,0.1,0.25,0.5";
        assert_eq!(lines[1], row);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn unknown_names_are_answered_with_those_that_exist() {
        let error = render(&scores(), &settings(json!({"rows": "achitecture"}))).unwrap_err();
        assert!(error.message.contains("`achitecture`"), "{error}");
        assert!(error.help.unwrap().contains("`architecture`"));
        let error = render(&scores(), &settings(json!({"rows": "loss", "value": "micro.f2"}))).unwrap_err();
        assert!(error.help.unwrap().contains("`micro.f1`"));
        let error = Report
            .resolve(&json!({"rows": "a", "columns": ["b", "a"]}), &InputParts::default())
            .unwrap_err();
        assert_eq!(error.path, "columns");
    }

    #[test]
    fn scores_that_cannot_be_read_name_their_instance() {
        let error = rows::read("scores@seed=1", &IndexMap::new(), b"{}").unwrap_err();
        assert!(error.message.contains("`scores@seed=1`"), "{error}");
    }

    /// A kind that makes the scores it is told.
    struct Scores;

    impl Kind for Scores {
        fn name(&self) -> &'static str {
            "scores"
        }

        fn version(&self) -> u32 {
            1
        }

        fn about(&self) -> &'static str {
            "makes the scores it is told"
        }

        fn weight(&self) -> Weight {
            Weight::Light
        }

        fn fields(&self) -> &'static [Field] {
            const FIELDS: [Field; 1] = [Field::counted("f1")];
            &FIELDS
        }

        fn ports(&self) -> &'static [Port] {
            &[]
        }

        fn produces(&self) -> &'static str {
            "scores"
        }

        fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
            Ok(Resolved::new(settings)?.makes([METRICS]))
        }

        fn run(&self, ctx: &Context) -> Result<(), StageError> {
            let settings: Value = ctx.settings()?;
            let result = json!({"split": "test", "threshold": 0.5, "micro": {"f1": settings["f1"]}});
            std::fs::write(ctx.out(METRICS)?, json!({ "results": [result] }).to_string()).unwrap();
            Ok(())
        }
    }

    #[test]
    fn collected_scores_become_four_files() {
        let bench = Bench::new();
        let scores = [0.25, 0.5].map(|f1| bench.run(&Scores, json!({ "f1": f1 })).unwrap());
        let bench =
            bench
                .collect("scores", &[("loss", "focal")], &scores[0])
                .collect("scores", &[("loss", "bce")], &scores[1]);
        let report = bench.run(&Report, json!({"rows": ["loss"]})).unwrap();
        assert_eq!(report.names(), ["table.csv", "table.json", "table.md", "table.txt"]);
        let expected = "| loss  | micro.f1 |\n| ----- | -------: |\n| focal |   0.2500 |\n| bce   |   0.5000 |\n";
        assert_eq!(report.text("table.md"), expected);
        assert_eq!(report.json("table.json")[1]["micro.f1"], 0.5);
        assert_eq!(
            report.artifact,
            bench.run(&Report, json!({"rows": "loss"})).unwrap().artifact
        );
    }
}
