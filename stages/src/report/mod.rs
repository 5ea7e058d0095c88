//! The kind `report`: the scores of many instances → one table.
//!
//! Consumes `scores` (collected); produces a `report` of five files: `table.txt` for a terminal, `table.md`, `table.tex`, and, with
//! one row for every instance, split and threshold, `table.csv` and `table.json`. Their keys are flat: the axes,
//! `instance`, `split`, `threshold`, and every metric by its path, such as `micro.f1` or `full_gold.macro.recall`.
//!
//! The tables for people have the axes of `rows` down the side and those of `columns` along the top. `language`, `dataset` and
//! `file` can stand for axes too, and give each group of sentences its own rows. Results that fall into one field are brought
//! together by the steps of `aggregate`; without any, the field shows their mean and standard deviation, and several
//! splits or thresholds are never mixed but become rows of their own.

mod aggregate;
pub(crate) mod grid;
pub(crate) mod rows;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{Context, Field, InputParts, Kind, Port, Resolved, SettingError, StageError, Weight};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use aggregate::{Function, Step};
use rows::Found;

/// The part of a score that is read.
const METRICS: &str = "metrics.json";
/// The parts that are made.
pub(crate) const PARTS: [&str; 5] = ["table.md", "table.csv", "table.json", "table.txt", "table.tex"];

/// The settings of `report`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The axes that make the rows; by default every axis that is no column and stays after `aggregate`. As axes count also
    /// `split`, `threshold`, `language`, `dataset` and `file`.
    #[serde(default, deserialize_with = "optional_list")]
    #[schemars(with = "OneOrMany<String>")]
    pub rows: Option<Vec<String>>,
    /// The axes that make the columns; by default none.
    #[serde(default, deserialize_with = "list")]
    #[schemars(with = "OneOrMany<String>")]
    pub columns: Vec<String>,
    /// The metrics that are shown, as flat keys; a map from titles to keys gives them other heads.
    #[serde(default = "micro_f1", deserialize_with = "shown")]
    #[schemars(with = "ShownForms")]
    pub value: Vec<Shown>,
    /// How results that differ in an axis become one, in order: `mean over language`, `max over threshold`, `mean±std over seed`.
    #[serde(default, deserialize_with = "list")]
    #[schemars(with = "OneOrMany<String>")]
    aggregate: Vec<Step>,
    /// What is marked in each column: `max`, `min` or `none`; or a list of these, one for each metric.
    #[serde(default = "no_best", deserialize_with = "list")]
    #[schemars(with = "OneOrMany<Best>")]
    pub best: Vec<Best>,
    /// The axes of `rows` that the best is looked for within, such as the corpus.
    #[serde(default, deserialize_with = "list")]
    #[schemars(with = "OneOrMany<String>")]
    pub best_within: Vec<String>,
    /// How many digits behind the point (default 4; of percent 1).
    #[serde(default)]
    pub digits: Option<usize>,
    /// Whether ratios are shown as percent, without the sign.
    #[serde(default)]
    pub percent: bool,
    /// Whether a metric's confidence interval is shown behind it, where it is that of a single result.
    #[serde(default)]
    pub intervals: bool,
}

/// The forms that [`list`] reads, for editors.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

/// The forms that [`shown`] reads, for editors.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum ShownForms {
    Key(String),
    Many(Vec<ShownForm>),
    Titled(BTreeMap<String, String>),
}

/// One of a list of metrics.
#[expect(dead_code, reason = "only its schema is asked for")]
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(crate) enum ShownForm {
    Key(String),
    Titled(Shown),
}

/// A metric that is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    /// The column's head.
    pub title: String,
    /// The metric's flat key.
    pub key: String,
}

/// Which field of a column is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// The largest.
    Max,
    /// The smallest.
    Min,
    /// None.
    None,
}

impl Shown {
    fn plain(key: String) -> Self {
        Self {
            title: key.clone(),
            key,
        }
    }
}

pub(crate) fn micro_f1() -> Vec<Shown> {
    vec![Shown::plain("micro.f1".to_owned())]
}

fn no_best() -> Vec<Best> {
    vec![Best::None]
}

/// One value, or a list of them; null is an empty list.
pub(crate) fn list<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    use serde::de::Error;
    let values = match Value::deserialize(deserializer)? {
        Value::Null => Vec::new(),
        Value::Array(values) => values,
        one => vec![one],
    };
    values
        .into_iter()
        .map(|value| serde_json::from_value(value).map_err(D::Error::custom))
        .collect()
}

fn optional_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    let names: Vec<String> = list(deserializer)?;
    Ok((!names.is_empty()).then_some(names))
}

/// A key, a list of keys, or a map from titles to keys.
pub(crate) fn shown<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Shown>, D::Error> {
    use serde::de::Error;
    let read = |value: Value| match value {
        Value::String(key) => Ok(Shown::plain(key)),
        other => serde_json::from_value(other).map_err(D::Error::custom),
    };
    match Value::deserialize(deserializer)? {
        Value::Null => Ok(Vec::new()),
        Value::Array(values) => values.into_iter().map(read).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(title, key)| match key {
                Value::String(key) => Ok(Shown { title, key }),
                other => Err(D::Error::custom(format!(
                    "`{title}` should be the key of a metric and is {other}"
                ))),
            })
            .collect(),
        one => Ok(vec![read(one)?]),
    }
}

impl Settings {
    /// Which way a metric is best.
    fn best_of(&self, metric: usize) -> Best {
        match self.best[..] {
            [one] => one,
            _ => self.best[metric],
        }
    }

    /// Every axis that is named anywhere.
    fn axes(&self) -> Vec<&str> {
        let rows = self.rows.iter().flatten();
        let steps = self.aggregate.iter().map(|step| &step.axis);
        rows.chain(&self.columns).chain(steps).map(String::as_str).collect()
    }

    fn check(&self) -> Result<(), SettingError> {
        if self.value.is_empty() {
            return Err(SettingError::new("value", "no metric is named").help("name one, such as `micro.f1`"));
        }
        let mut seen = BTreeSet::new();
        let steps = self.aggregate.iter().enumerate();
        let steps = steps.map(|(number, step)| (format!("aggregate[{number}]"), &step.axis));
        let axes = [
            ("rows", self.rows.as_deref().unwrap_or_default()),
            ("columns", &self.columns),
        ];
        let axes = axes
            .into_iter()
            .flat_map(|(field, names)| names.iter().map(move |name| (field.to_owned(), name)));
        for (field, name) in axes.chain(steps) {
            if !seen.insert(name) {
                return Err(SettingError::new(field, format!("`{name}` is named twice"))
                    .help("an axis makes rows or columns or is aggregated, one of these"));
            }
        }
        let deviations = self
            .aggregate
            .iter()
            .position(|step| step.function == Function::MeanStd);
        if let Some(place) = deviations.filter(|place| place + 1 < self.aggregate.len()) {
            return Err(SettingError::new(
                format!("aggregate[{place}]"),
                "a mean with its standard deviation cannot be aggregated further",
            )
            .help("put it last, or write `mean`"));
        }
        if ![1, self.value.len()].contains(&self.best.len()) {
            let told = format!("there are {} words for {} metrics", self.best.len(), self.value.len());
            return Err(SettingError::new("best", told).help("give one for all, or one for each metric of `value`"));
        }
        if self.digits.is_some_and(|digits| digits > 15) {
            return Err(SettingError::new(
                "digits",
                "a number has at most 15 digits that mean anything",
            ));
        }
        Ok(())
    }
}

/// The kind `report`. See the module's text.
pub struct Report;

impl Kind for Report {
    fn name(&self) -> &'static str {
        "report"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "puts scores into one table"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 9] = [
            Field::counted("rows"),
            Field::counted("columns"),
            Field::counted("value"),
            Field::counted("aggregate"),
            Field::counted("best"),
            Field::counted("best_within"),
            Field::counted("digits"),
            Field::counted("percent"),
            Field::counted("intervals"),
        ];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
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
        settings.check()?;
        Ok(Resolved::new(&settings)?.reads("scores", [METRICS]).makes(PARTS))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let mut found = Vec::new();
        for scores in ctx.collected("scores") {
            let file = scores
                .input
                .part(METRICS)
                .and_then(|part| part.files.first())
                .ok_or_else(|| StageError::new(format!("`{}` has no `{METRICS}`", scores.instance)))?;
            let bytes = std::fs::read(&file.path).map_err(|error| {
                StageError::new(format!("failed to read the scores of `{}`: {error}", scores.instance))
            })?;
            found.extend(rows::read(&scores.instance, &scores.axes, &bytes)?);
        }
        let (files, warnings) = render(&found, &settings)?;
        warnings.iter().for_each(|line| ctx.warn(line));
        write(ctx, &files)
    }
}

/// Writes the files of a report, and the table for a terminal into the log.
pub(crate) fn write(ctx: &Context, files: &[(&str, String)]) -> Result<(), StageError> {
    for (name, content) in files {
        let path = ctx.out(name)?;
        std::fs::write(&path, content)
            .map_err(|error| StageError::new(format!("failed to write `{}`: {error}", path.display())))?;
        if *name == "table.txt" {
            content.lines().for_each(|line| ctx.log(line));
        }
    }
    Ok(())
}

/// A report's files, each under its name.
pub(crate) type Files = [(&'static str, String); PARTS.len()];

/// The content of every file of the report, and what may be unfair about the table.
fn render(found: &[Found], settings: &Settings) -> Result<(Files, Vec<String>), StageError> {
    let rows = rows::rows(found, &settings.axes())?;
    let mut warnings = Vec::new();
    let grid = table::table(&rows, settings, &mut warnings)?;
    let files = [
        ("table.md", grid.markdown()),
        ("table.csv", rows::csv(&rows)),
        ("table.json", rows::json(&rows)),
        ("table.txt", grid.text()),
        ("table.tex", grid.latex()),
    ];
    Ok((files, warnings))
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

    fn files(found: &[Found], settings: &Settings) -> Result<Files, StageError> {
        let (files, warnings) = render(found, settings)?;
        assert_eq!(warnings, [""; 0]);
        Ok(files)
    }

    /// The lines of the Markdown table.
    fn table(found: &[Found], written: Value) -> Vec<String> {
        let (files, _) = render(found, &settings(written)).unwrap();
        files[0].1.lines().map(str::to_owned).collect()
    }

    /// Scores of two systems, each with one threshold of its own.
    fn scores() -> Vec<Found> {
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
                "micro": {"f1": f1, "tp": 3}, "intervals": {"micro": {"f1": {"low": 0.1, "high": 0.3}}}, "full_gold": {"micro": {"f1": f1 / 2.0}},
                "per_class": {"city, \"big\"": {"f1": f1}}
            }]});
            let instance = format!("scores@architecture={architecture},loss={loss},seed={seed}");
            rows.extend(rows::read(&instance, &axes, metrics.to_string().as_bytes()).unwrap());
        }
        rows
    }

    #[test]
    fn rows_columns_and_means() {
        let files = files(&scores(), &settings(json!({"rows": "architecture", "columns": "loss"}))).unwrap();
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
        let files = files(
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
        let found = rows::read("scores@loss=bce", &axes, metrics.to_string().as_bytes()).unwrap();
        let files = files(&found, &settings(json!({"rows": "loss"}))).unwrap();
        let lines: Vec<&str> = files[0].1.lines().collect();
        assert_eq!(lines[0], "| loss | threshold | micro.f1 |");
        assert_eq!(
            &lines[2..],
            ["| bce  | 0.3       |   0.1000 |", "| bce  | 0.5       |   0.2000 |"]
        );
    }

    #[test]
    fn data_formats_have_one_flat_row_a_result() {
        let files = files(&scores(), &settings(json!({}))).unwrap();
        let json: Vec<serde_json::Map<String, Value>> = serde_json::from_str(&files[2].1).unwrap();
        assert_eq!(json.len(), 4);
        assert_eq!(json[2]["loss"], "contrastive|x");
        assert_eq!(json[2]["threshold"], "cls");
        assert_eq!(json[0]["micro.f1"], 0.5);
        assert_eq!(json[0]["full_gold.micro.f1"], 0.25);
        assert_eq!(json[0]["micro.f1.low"], 0.1);
        assert_eq!(json[0]["per_class.city, \"big\".f1"], 0.5);
        let lines: Vec<&str> = files[1].1.lines().collect();
        let head = "architecture,loss,seed,instance,split,threshold,micro.f1,micro.tp,micro.f1.low,micro.f1.high,full_gold.micro.f1,\
                    \"per_class.city, \"\"big\"\".f1\"";
        assert_eq!(lines[0], head);
        let row = "bi,bce,1,\"scores@architecture=bi,loss=bce,seed=1\",test,0.5,0.5,3,0.1,0.3,0.25,0.5";
        assert_eq!(lines[1], row);
        assert_eq!(lines.len(), 5);
    }

    #[test]
    fn unknown_names_are_answered_with_those_that_exist() {
        let error = files(&scores(), &settings(json!({"rows": "achitecture"}))).unwrap_err();
        assert!(error.message.contains("`achitecture`"), "{error}");
        assert!(error.help.unwrap().contains("`architecture`"));
        let error = files(&scores(), &settings(json!({"rows": "loss", "value": "micro.f2"}))).unwrap_err();
        assert!(error.help.unwrap().contains("`micro.f1`"));
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let error = |settings: Value| Report.resolve(&settings, &InputParts::default()).unwrap_err();
        for (wrong, path) in [
            (json!({"rows": "a", "columns": ["b", "a"]}), "columns"),
            (
                json!({"rows": "a", "aggregate": ["mean over b", "max over a"]}),
                "aggregate[1]",
            ),
            (
                json!({"aggregate": ["mean_std over seed", "mean over fold"]}),
                "aggregate[0]",
            ),
            (json!({"value": []}), "value"),
            (json!({"value": ["a", "b"], "best": ["max", "min", "max"]}), "best"),
            (json!({"digits": 99}), "digits"),
        ] {
            assert_eq!(error(wrong.clone()).path, path, "{wrong}");
        }
        let unknown = error(json!({"aggregate": "average over seed"}));
        assert!(unknown.message.contains("`average` is none of mean"), "{unknown}");
    }

    #[test]
    fn the_best_of_a_column_stands_out() {
        let table = |written| table(&scores(), written);
        let all = table(json!({"rows": ["architecture", "loss"], "best": "max", "aggregate": "mean over seed"}));
        assert_eq!(
            &all[2..],
            [
                "| bi           | bce            |     0.6000 |",
                "| bi           | contrastive\\|x |     0.2500 |",
                "| cross        | bce            | **1.0000** |"
            ]
        );
        let written = json!({"rows": ["architecture", "loss"], "best": ["max", "min"], "best_within": "architecture",
            "value": {"F1": "micro.f1", "all": "full_gold.micro.f1"}, "percent": true, "aggregate": "mean±std over seed"});
        let within = table(written);
        assert_eq!(
            within[0],
            "| architecture | loss           |              F1 |        all |"
        );
        assert_eq!(
            &within[2..],
            [
                "| bi           | bce            | **60.0 ± 14.1** | 30.0 ± 7.1 |",
                "| bi           | contrastive\\|x |            25.0 |   **12.5** |",
                "| cross        | bce            |           100.0 |       50.0 |"
            ]
        );
    }

    #[test]
    fn intervals_stand_behind_single_results() {
        let written = json!({"rows": "architecture", "columns": "loss", "intervals": true, "digits": 2});
        let lines = table(&scores()[2..], written);
        assert_eq!(lines[2], "| bi           | 0.25 [0.10, 0.30] |                 – |");
    }

    #[test]
    fn what_is_not_aggregated_is_not_mixed_in_silence() {
        let written = json!({"rows": "loss", "aggregate": "mean over seed"});
        let error = files(&scores()[..4], &settings(written)).unwrap_err();
        assert!(error.message.contains("`architecture`"), "{error}");
        assert!(error.help.unwrap().contains("mean±std over architecture"));
        let written = json!({"rows": "loss", "aggregate": ["mean over seed", "mean over architecture"]});
        let (_, warnings) = render(&scores(), &settings(written)).unwrap();
        assert!(warnings[0].contains("there is no seed=2"), "{warnings:?}");
    }

    /// Figures by language and dataset, as an evaluation has them.
    fn grouped() -> Vec<Found> {
        let group = |f1: f64| json!({"micro": {"f1": f1}, "intervals": {"micro": {"f1": {"low": 0.0, "high": 1.0}}}});
        let metrics = json!({"results": [{
            "split": "test", "threshold": 0.5, "micro": {"f1": 0.5},
            "languages": {"de": group(0.2), "en": group(0.6)},
            "datasets": {
                "panx": {"micro": {"f1": 0.3}, "languages": {"de": group(0.2), "en": group(0.4)}},
                "uner": {"micro": {"f1": 0.8}, "languages": {"en": group(0.8)}},
            },
            "files": {"a.b": group(0.1)},
        }]});
        rows::read("scores", &IndexMap::new(), metrics.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn languages_and_datasets_can_be_axes() {
        let found = grouped();
        assert_eq!(
            &table(&found, json!({"columns": "language"}))[..1],
            ["|     de |     en |"]
        );
        assert_eq!(
            table(&found, json!({"rows": "dataset", "columns": "language"}))[2..],
            ["| panx    | 0.2000 | 0.4000 |", "| uner    |      – | 0.8000 |"]
        );
        let (rendered, warnings) = render(
            &found,
            &settings(json!({"rows": [], "aggregate": ["mean over language", "mean over dataset"]})),
        )
        .unwrap();
        assert_eq!(rendered[0].1.lines().nth(2), Some("|   0.5500 |"));
        assert!(
            warnings[0].contains("for dataset=uner") && warnings[0].contains("there is no language=de"),
            "{warnings:?}"
        );
        let json: Vec<Value> = serde_json::from_str(&rendered[2].1).unwrap();
        assert_eq!(
            (&json[1]["dataset"], &json[1]["language"]),
            (&json!("panx"), &json!("en"))
        );
        assert_eq!(json[1]["micro.f1.high"], 1.0);

        assert!(table(&found, json!({"rows": "file"}))[2].contains("a.b"));
        let error = render(&scores(), &settings(json!({"columns": "language"}))).unwrap_err();
        assert!(error.message.contains("has no figures by language"), "{error}");
        let error = render(&found, &settings(json!({"rows": ["file", "language"]}))).unwrap_err();
        assert!(error.message.contains("by `file` and by `language`"), "{error}");
    }

    #[test]
    fn figures_by_type_under_schemes_can_be_shown_but_do_not_fill_the_data() {
        let metrics = json!({"results": [{"split": "test", "threshold": 0.5, "micro": {"f1": 0.5},
            "schemes": {"partial": {"f1": 0.6, "per_class": {"city": {"f1": 0.7}}}}}]});
        let found = rows::read("scores", &IndexMap::new(), metrics.to_string().as_bytes()).unwrap();
        let shown = table(
            &found,
            json!({"value": ["schemes.partial.f1", "schemes.partial.per_class.city.f1"]}),
        );
        assert!(
            shown[2].contains("0.6000") && shown[2].contains("0.7000"),
            "{}",
            shown[2]
        );
        let files = files(&found, &settings(json!({}))).unwrap();
        assert!(files[1].1.contains("schemes.partial.f1") && !files[1].1.contains("city"));
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
        assert_eq!(
            report.names(),
            ["table.csv", "table.json", "table.md", "table.tex", "table.txt"]
        );
        let expected = "| loss  | micro.f1 |\n| ----- | -------: |\n| focal |   0.2500 |\n| bce   |   0.5000 |\n";
        assert_eq!(report.text("table.md"), expected);
        assert_eq!(report.json("table.json")[1]["micro.f1"], 0.5);
        assert_eq!(
            report.artifact,
            bench.run(&Report, json!({"rows": "loss"})).unwrap().artifact
        );
    }
}
