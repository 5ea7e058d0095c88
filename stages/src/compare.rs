//! The kind `compare`: the scores of several systems → how far they differ, and whether that can be chance.
//!
//! Consumes `scores` (collected); produces a `report` as the kind `report` does. The axis `between` tells the systems apart.
//! Those that agree in all other axes are compared, each with the `baseline`, or without one each with each. Axes that
//! are named in `over`, such as the seed, make runs of one system: what is compared is the mean over runs.
//!
//! Nothing is predicted or matched again: the counts of each sentence, which an evaluation keeps, are drawn and swapped. See
//! [`crate::metrics::resample`] for the interval and the test. `p_holm` is corrected for the number of comparisons of a metric
//! in the table (Holm 1979).

use std::io::BufReader;

use indexmap::IndexMap;
use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Collected, Context, Field, InputParts, Kind, Port, Progress, Resolved, SettingError, StageError, Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};

use crate::metrics::figure::Figure;
use crate::metrics::resample::{Bootstrap, Comparison, compare};
use crate::metrics::table::{self, Section};
use crate::report::grid::{self, Grid, Head};
use crate::report::rows::{csv_lines, json_lines, plain};
use crate::report::{self, OneOrMany, Shown, ShownForms};

/// The part of a score that is read; `evaluate` makes it.
const COUNTS: &str = "sentence_counts.jsonl";

/// The settings of `compare`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The axis whose values are the systems.
    pub between: String,
    /// The value of `between` that all others are compared with; by default each is compared with each.
    #[serde(default)]
    pub baseline: Option<String>,
    /// The axes whose values are runs of one system, such as `seed`.
    #[serde(default, deserialize_with = "report::list")]
    #[schemars(with = "OneOrMany<String>")]
    pub over: Vec<String>,
    /// The metrics that are compared, as flat keys; a map from titles to keys gives them other names.
    #[serde(default = "report::micro_f1", deserialize_with = "report::shown")]
    #[schemars(with = "ShownForms")]
    pub value: Vec<Shown>,
    /// How sentences are drawn, 10,000 times by default.
    #[serde(default = "many_draws", deserialize_with = "draws")]
    pub bootstrap: Bootstrap,
}

/// A p-value near 0.05 is known to 0.002 from so many draws.
const DRAWS: usize = 10_000;

fn many_draws() -> Bootstrap {
    Bootstrap {
        n_resamples: DRAWS,
        ..Bootstrap::default()
    }
}

fn draws<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bootstrap, D::Error> {
    let mut written = Map::deserialize(deserializer)?;
    written.entry("n_resamples").or_insert(json!(DRAWS));
    serde_json::from_value(Value::Object(written)).map_err(serde::de::Error::custom)
}

/// The kind `compare`. See the module's text.
pub struct Compare;

impl Kind for Compare {
    fn name(&self) -> &'static str {
        "compare"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "tests whether systems differ by more than chance"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 5] = [
            Field::counted("between"),
            Field::counted("baseline"),
            Field::counted("over"),
            Field::counted("value"),
            Field::counted("bootstrap"),
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
        if settings.over.contains(&settings.between) {
            let told = format!(
                "`{}` tells the systems apart and cannot make runs of one",
                settings.between
            );
            return Err(SettingError::new("over", told));
        }
        if settings.value.is_empty() {
            return Err(SettingError::new("value", "no metric is named").help("name one, such as `micro.f1`"));
        }
        for (number, shown) in settings.value.iter().enumerate() {
            if Figure::parse(&shown.key).is_none() {
                return Err(SettingError::new(
                    format!("value[{number}]"),
                    format!("`{}` is no metric that can be compared", shown.key),
                )
                .help(
                    "precision, recall or f1 of `micro`, `macro`, `schemes.partial` (strict, exact, type) or \
                     `per_class.TYPE`, all of these also of `full_gold`: `full_gold.micro.f1`",
                ));
            }
        }
        if settings.bootstrap.n_resamples == 0 {
            return Err(SettingError::new(
                "bootstrap.n_resamples",
                "without draws there is no test",
            ));
        }
        if let Some((field, problem)) = settings.bootstrap.problem() {
            return Err(SettingError::new(format!("bootstrap.{field}"), problem));
        }
        Ok(Resolved::new(&settings)?.reads("scores", [COUNTS]).makes(report::PARTS))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let scores: Vec<Scores<'_>> = ctx
            .collected("scores")
            .iter()
            .map(Scores::read)
            .collect::<Result<_, _>>()?;
        let pairs = pairs(&scores, &settings)?;
        let mut rows = Vec::new();
        for (done, pair) in pairs.iter().enumerate() {
            ctx.check_cancelled()?;
            rows.extend(pair.rows(&settings)?);
            ctx.progress(Progress {
                done: done as u64 + 1,
                total: Some(pairs.len() as u64),
                unit: "pairs",
                figures: Vec::new(),
            });
        }
        correct(&mut rows);
        report::write(ctx, &files(&rows, &settings))
    }
}

/// The counts of one instance.
struct Scores<'a> {
    instance: &'a str,
    axes: &'a IndexMap<String, String>,
    sections: Vec<Section>,
}

impl<'a> Scores<'a> {
    fn read(collected: &'a Collected) -> Result<Self, StageError> {
        let instance = &collected.instance;
        let part = collected.input.part(COUNTS).and_then(|part| part.files.first());
        let file = part.ok_or_else(|| StageError::new(format!("`{instance}` has no `{COUNTS}`")))?;
        let failed = |reason: &dyn std::fmt::Display| {
            StageError::new(format!("failed to read the counts of `{instance}`: {reason}"))
        };
        let opened = std::fs::File::open(&file.path).map_err(|error| failed(&error))?;
        let sections = table::read(BufReader::new(opened)).map_err(|reason| failed(&reason))?;
        Ok(Self {
            instance,
            axes: &collected.axes,
            sections,
        })
    }

    fn of_split<'b>(&'b self, split: &'b str) -> impl Iterator<Item = &'b Section> {
        self.sections.iter().filter(move |section| section.head.split == split)
    }
}

/// Two systems that agree in all axes but one, on one split.
struct Pair<'a> {
    /// The axes that they agree in.
    axes: Vec<(&'a str, &'a str)>,
    split: &'a str,
    baseline: &'a str,
    system: &'a str,
    /// Run by run: of the baseline, of the system.
    runs: Vec<(&'a Section, &'a Section)>,
}

/// Axis values, by axis.
type Point<'a> = Vec<(&'a str, &'a str)>;

/// Everything that is to be compared, in the order of the scores.
fn pairs<'a>(scores: &'a [Scores<'a>], settings: &'a Settings) -> Result<Vec<Pair<'a>>, StageError> {
    let known: Vec<&String> = scores.iter().flat_map(|scores| scores.axes.keys()).collect();
    let named = [("between", &settings.between)].into_iter();
    for (field, axis) in named.chain(settings.over.iter().map(|axis| ("over", axis))) {
        if !known.contains(&axis) {
            let mut known: Vec<String> = known.iter().map(|axis| format!("`{axis}`")).collect();
            known.dedup();
            known.sort();
            known.dedup();
            return Err(StageError::new(format!("`{field}` names `{axis}`, which no score has"))
                .help(format!("the scores differ in {}", known.join(", "))));
        }
    }
    // Group → system → its runs.
    let mut groups: IndexMap<Point<'a>, IndexMap<&'a str, IndexMap<Point<'a>, &'a Scores<'a>>>> = IndexMap::new();
    for scores in scores {
        let (mut group, mut run, mut system) = (Vec::new(), Vec::new(), "");
        for (axis, value) in scores.axes {
            if *axis == settings.between {
                system = value;
            } else if settings.over.contains(axis) {
                run.push((axis.as_str(), value.as_str()));
            } else {
                group.push((axis.as_str(), value.as_str()));
            }
        }
        groups
            .entry(group)
            .or_default()
            .entry(system)
            .or_default()
            .insert(run, scores);
    }
    if let Some(baseline) = &settings.baseline
        && !groups.values().any(|systems| systems.contains_key(baseline.as_str()))
    {
        let mut known: Vec<&str> = groups.values().flat_map(|systems| systems.keys().copied()).collect();
        known.sort_unstable();
        known.dedup();
        return Err(StageError::new(format!(
            "`baseline` is `{baseline}`, which `{}` never is",
            settings.between
        ))
        .help(format!("it is {}", known.join(", "))));
    }
    let mut pairs = Vec::new();
    for (axes, systems) in &groups {
        for (number, (baseline, baseline_runs)) in systems.iter().enumerate() {
            for (other, (system, runs)) in systems.iter().enumerate() {
                let wanted = match &settings.baseline {
                    Some(named) => named == baseline && system != baseline,
                    None => number < other,
                };
                if wanted {
                    pairs.extend(on_splits(axes, (baseline, baseline_runs), (system, runs))?);
                }
            }
        }
    }
    if pairs.is_empty() {
        let told = format!("there are no two scores that differ in `{}` only", settings.between);
        return Err(StageError::new(told).help("name the axes that make several runs of a system in `over`"));
    }
    Ok(pairs)
}

/// A system's name and its runs.
type System<'a, 'b> = (&'a str, &'b IndexMap<Point<'a>, &'a Scores<'a>>);

/// Two systems on every split and threshold that both have.
fn on_splits<'a>(
    axes: &Point<'a>,
    baseline: System<'a, '_>,
    system: System<'a, '_>,
) -> Result<Vec<Pair<'a>>, StageError> {
    for (one, other) in [(baseline, system), (system, baseline)] {
        if let Some((_, alone)) = one.1.iter().find(|(run, _)| !other.1.contains_key(*run)) {
            let told = format!("`{}` has no partner among the runs of `{}`", alone.instance, other.0);
            return Err(StageError::new(told)
                .help("systems are compared by the same runs: train the missing one, or leave this one out"));
        }
    }
    let Some(first) = baseline.1.values().next() else {
        return Ok(Vec::new());
    };
    let mut splits: Vec<&str> = first
        .sections
        .iter()
        .map(|section| section.head.split.as_str())
        .collect();
    splits.dedup();
    let mut pairs = Vec::new();
    for split in splits {
        // (threshold of the baseline, of the system) → runs
        let mut found: IndexMap<(String, String), Vec<(&Section, &Section)>> = IndexMap::new();
        for (run, of_baseline) in baseline.1 {
            let of_system = system.1[run];
            let (ours, theirs): (Vec<&Section>, Vec<&Section>) = (
                of_baseline.of_split(split).collect(),
                of_system.of_split(split).collect(),
            );
            let matched: Vec<(&Section, &Section)> = match (&ours[..], &theirs[..]) {
                // Each at the only threshold it has, which may be of another kind.
                ([one], [other]) => vec![(one, other)],
                _ => ours
                    .iter()
                    .filter_map(|one| {
                        let other = theirs.iter().find(|other| other.head.threshold == one.head.threshold)?;
                        Some((*one, *other))
                    })
                    .collect(),
            };
            if matched.is_empty() {
                let told = format!(
                    "`{}` and `{}` have no threshold in common on `{split}`",
                    of_baseline.instance, of_system.instance
                );
                return Err(StageError::new(told).help("evaluate both at the same thresholds, or each at one"));
            }
            for (one, other) in matched {
                same_sentences(of_baseline, of_system, one, other)?;
                let key = (plain(&one.head.threshold), plain(&other.head.threshold));
                found.entry(key).or_default().push((one, other));
            }
        }
        pairs.extend(found.into_values().map(|runs| Pair {
            axes: axes.clone(),
            split,
            baseline: baseline.0,
            system: system.0,
            runs,
        }));
    }
    Ok(pairs)
}

fn same_sentences(one: &Scores<'_>, other: &Scores<'_>, a: &Section, b: &Section) -> Result<(), StageError> {
    let different = |what: String| {
        let (one, other) = (one.instance, other.instance);
        let told = format!("`{one}` and `{other}` were not evaluated on the same sentences: {what}");
        Err(StageError::new(told).help("a test between systems needs one test set for all"))
    };
    if a.head.labels != b.head.labels {
        return different("they have other entity types".to_owned());
    }
    match a.table.differs_from(&b.table) {
        Some(sentence) => different(format!("the golds of sentence {} differ", sentence + 1)),
        None => Ok(()),
    }
}

/// One line of the table.
struct Row {
    axes: Vec<(String, String)>,
    split: String,
    threshold: String,
    baseline: String,
    system: String,
    metric: String,
    found: Comparison,
    p_holm: f64,
    runs: usize,
    sentences: usize,
}

impl Pair<'_> {
    fn rows(&self, settings: &Settings) -> Result<Vec<Row>, StageError> {
        let (first, second) = self.runs[0];
        let figures: Vec<Figure> = settings
            .value
            .iter()
            .filter_map(|shown| Figure::parse(&shown.key))
            .collect();
        let tables: Vec<_> = self
            .runs
            .iter()
            .map(|(one, other)| (&one.table, &other.table))
            .collect();
        let found = compare(&tables, &first.head.labels, &figures, &settings.bootstrap);
        let thresholds = [&first.head.threshold, &second.head.threshold].map(plain);
        let row = |(found, shown): (Comparison, &Shown)| Row {
            axes: self
                .axes
                .iter()
                .map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned()))
                .collect(),
            split: self.split.to_owned(),
            threshold: match thresholds[0] == thresholds[1] {
                true => thresholds[0].clone(),
                false => thresholds.join(" / "),
            },
            baseline: self.baseline.to_owned(),
            system: self.system.to_owned(),
            metric: shown.title.clone(),
            found,
            p_holm: found.p,
            runs: self.runs.len(),
            sentences: first.table.len(),
        };
        Ok(found.into_iter().zip(&settings.value).map(row).collect())
    }
}

/// Corrects the p-values of each metric for their number (Holm 1979): the k-th smallest of n is multiplied by n − k + 1, and none
/// is less than those before it.
fn correct(rows: &mut [Row]) {
    let mut metrics: IndexMap<String, Vec<usize>> = IndexMap::new();
    for (number, row) in rows.iter().enumerate() {
        metrics.entry(row.metric.clone()).or_default().push(number);
    }
    for mut members in metrics.into_values() {
        members.sort_by(|one, other| rows[*one].found.p.total_cmp(&rows[*other].found.p));
        let mut least: f64 = 0.0;
        for (place, number) in members.iter().enumerate() {
            let factor = (members.len() - place) as f64;
            least = least.max((factor * rows[*number].found.p).min(1.0));
            rows[*number].p_holm = least;
        }
    }
}

/// The content of every file of the report.
fn files(rows: &[Row], settings: &Settings) -> report::Files {
    let flat: Vec<Map<String, Value>> = rows.iter().map(|row| row.flat(settings)).collect();
    let keys: Vec<&str> = flat
        .first()
        .map(|row| row.keys().map(String::as_str).collect())
        .unwrap_or_default();
    let grid = grid(rows, settings);
    [
        ("table.md", grid.markdown()),
        ("table.csv", csv_lines(&keys, &flat)),
        ("table.json", json_lines(&flat)),
        ("table.txt", grid.text()),
        ("table.tex", grid.latex()),
    ]
}

impl Row {
    fn flat(&self, settings: &Settings) -> Map<String, Value> {
        let mut flat: Map<String, Value> = self
            .axes
            .iter()
            .map(|(axis, value)| (axis.clone(), json!(value)))
            .collect();
        let found = &self.found;
        for (key, value) in [
            (settings.between.as_str(), json!(self.system)),
            ("baseline", json!(self.baseline)),
            ("split", json!(self.split)),
            ("threshold", json!(self.threshold)),
            ("metric", json!(self.metric)),
            ("value", json!(found.second)),
            ("baseline.value", json!(found.first)),
            ("difference", json!(found.difference)),
            ("difference.low", json!(found.interval.low)),
            ("difference.high", json!(found.interval.high)),
            ("p", json!(found.p)),
            ("p_holm", json!(self.p_holm)),
            ("runs", json!(self.runs)),
            ("sentences", json!(self.sentences)),
        ] {
            flat.insert(key.to_owned(), value);
        }
        flat
    }
}

/// What a column shows of a row.
type Shows = fn(&Row) -> &String;

/// The table for people: what all rows have in common of split, threshold and metric is not shown.
fn grid(rows: &[Row], settings: &Settings) -> Grid {
    let differs = |of: Shows| rows.iter().any(|row| of(row) != of(&rows[0]));
    let several = settings.value.len() > 1;
    let optional: Vec<(&str, Shows)> = [
        (
            "split",
            differs(|row| &row.split),
            (|row| &row.split) as fn(&Row) -> &String,
        ),
        ("threshold", differs(|row| &row.threshold), |row| &row.threshold),
        ("metric", several, |row| &row.metric),
    ]
    .into_iter()
    .filter_map(|(name, shown, of)| shown.then_some((name, of)))
    .collect();
    let mut names: Vec<String> = rows
        .first()
        .map(|row| row.axes.iter().map(|axis| axis.0.clone()).collect())
        .unwrap_or_default();
    names.extend([settings.between.clone(), "baseline".to_owned()]);
    names.extend(optional.iter().map(|(name, _)| (*name).to_owned()));
    let metric = match several {
        true => "value".to_owned(),
        false => settings.value[0].title.clone(),
    };
    let level = 100.0 * settings.bootstrap.confidence_level;
    let heads = [
        metric,
        "baseline's".to_owned(),
        "difference".to_owned(),
        format!("{level}% interval"),
        "p".to_owned(),
        "p (Holm)".to_owned(),
    ];
    let line = |row: &Row| {
        let found = &row.found;
        let signed = |number: f64| format!("{number:+.4}").replace('-', "−");
        let mut fields: Vec<String> = row.axes.iter().map(|axis| axis.1.clone()).collect();
        fields.extend([row.system.clone(), row.baseline.clone()]);
        fields.extend(optional.iter().map(|(_, of)| of(row).clone()));
        fields.extend([
            format!("{:.4}", found.second),
            format!("{:.4}", found.first),
            signed(found.difference),
            format!("[{}, {}]", signed(found.interval.low), signed(found.interval.high)),
            format!("{:.4}", found.p),
            format!("{:.4}", row.p_holm),
        ]);
        fields.into_iter().map(grid::Field::from).collect()
    };
    Grid {
        names,
        values: heads.into_iter().map(|title| Head { group: None, title }).collect(),
        lines: rows.iter().map(line).collect(),
    }
}

#[cfg(test)]
mod tests {
    use nerpipe_engine::testing::{Bench, Made};

    use super::*;
    use crate::metrics::SentenceCounts;
    use crate::metrics::table::{CountTable, Head};
    use crate::rng::Rng;

    /// Makes the counts of a system that finds the one gold of each sentence with a given chance.
    struct System;

    impl Kind for System {
        fn name(&self) -> &'static str {
            "system"
        }

        fn version(&self) -> u32 {
            1
        }

        fn about(&self) -> &'static str {
            "makes counts"
        }

        fn weight(&self) -> Weight {
            Weight::Light
        }

        fn fields(&self) -> &'static [Field] {
            const FIELDS: [Field; 4] = [
                Field::counted("chance"),
                Field::counted("seed"),
                Field::counted("sentences"),
                Field::counted("threshold"),
            ];
            &FIELDS
        }

        fn ports(&self) -> &'static [Port] {
            &[]
        }

        fn produces(&self) -> &'static str {
            "scores"
        }

        fn resolve(&self, settings: &Value, _inputs: &InputParts) -> Result<Resolved, SettingError> {
            Ok(Resolved::new(settings)?.makes([COUNTS]))
        }

        fn run(&self, ctx: &Context) -> Result<(), StageError> {
            let settings: Value = ctx.settings()?;
            let rng = Rng::new(settings["seed"].as_u64().unwrap(), "system");
            let mut bytes = Vec::new();
            for threshold in settings["threshold"].as_array().unwrap() {
                let mut table = CountTable::default();
                for sentence in 0..settings["sentences"].as_u64().unwrap() {
                    let found = rng.f64(sentence) < settings["chance"].as_f64().unwrap();
                    let predicted = if found { [(0, 0, 0)] } else { [(1, 1, 0)] };
                    table.push(&SentenceCounts::new(&predicted.into(), &[(0, 0, 0)].into(), []));
                }
                let head = Head {
                    split: "test".to_owned(),
                    threshold: threshold.clone(),
                    labels: vec!["city".to_owned()],
                    sentences: table.len(),
                };
                table::write(&mut bytes, &head, &table).unwrap();
            }
            std::fs::write(ctx.out(COUNTS)?, bytes).unwrap();
            Ok(())
        }
    }

    fn system(bench: &Bench, chance: f64, seed: u64, threshold: Value, sentences: u64) -> Made {
        let settings = json!({"chance": chance, "seed": seed, "threshold": threshold, "sentences": sentences});
        bench.run(&System, settings).unwrap()
    }

    /// Two architectures, two losses, two seeds; the cross-encoder is better with BCE and the same with focal loss.
    fn bench() -> Bench {
        let mut bench = Bench::new();
        for (architecture, loss, chance) in [
            ("bi", "bce", 0.5),
            ("cross", "bce", 0.75),
            ("bi", "focal", 0.6),
            ("cross", "focal", 0.6),
        ] {
            for seed in ["1", "2"] {
                let threshold = json!([if loss == "bce" { json!(0.5) } else { json!("cls") }]);
                let number = seed.parse::<u64>().unwrap() + if architecture == "bi" { 0 } else { 10 };
                let made = system(&bench, chance, number, threshold, 200);
                bench = bench.collect(
                    "scores",
                    &[("architecture", architecture), ("loss", loss), ("seed", seed)],
                    &made,
                );
            }
        }
        bench
    }

    fn rows(report: &Made) -> Vec<Value> {
        serde_json::from_value(report.json("table.json")).unwrap()
    }

    #[test]
    fn systems_are_compared_within_the_other_axes() {
        let settings = json!({"between": "architecture", "over": "seed", "value": ["micro.f1", "macro.recall"],
            "bootstrap": {"n_resamples": 500}});
        let bench = bench();
        let report = bench.run(&Compare, settings).unwrap();
        let rows = rows(&report);
        assert_eq!(rows.len(), 4);
        let [bce, focal] = [&rows[0], &rows[2]];
        assert_eq!(
            (&bce["loss"], &bce["architecture"], &bce["baseline"]),
            (&json!("bce"), &json!("cross"), &json!("bi"))
        );
        assert_eq!(
            (&bce["runs"], &bce["sentences"], &bce["threshold"]),
            (&json!(2), &json!(200), &json!("0.5"))
        );
        let number = |row: &Value, key: &str| row[key].as_f64().unwrap();
        assert!(
            number(bce, "difference") > 0.15 && number(bce, "difference.low") > 0.0,
            "{bce}"
        );
        assert!((number(bce, "p") - 1.0 / 501.0).abs() < 1e-12);
        assert!((number(bce, "p_holm") - 2.0 / 501.0).abs() < 1e-12);
        assert!(
            number(focal, "p") > 0.05 && number(focal, "p_holm") >= number(focal, "p"),
            "{focal}"
        );
        assert_eq!(rows[1]["metric"], "macro.recall");
        let head = "loss,architecture,baseline,split,threshold,metric,value,baseline.value,difference,difference.low,\
                    difference.high,p,p_holm,runs,sentences";
        assert_eq!(report.text("table.csv").lines().next(), Some(head));
        let shown = report.text("table.md");
        assert!(
            shown.starts_with("| loss  | architecture | baseline | threshold | metric       |"),
            "{shown}"
        );
        assert!(shown.contains("0.0020 |   0.0040 |"), "{shown}");
    }

    #[test]
    fn a_baseline_is_compared_with_all_others() {
        let bench = bench();
        let report = bench
            .run(
                &Compare,
                json!({"between": "loss", "baseline": "focal", "over": ["seed"], "bootstrap": {"n_resamples": 100}}),
            )
            .unwrap();
        let rows = rows(&report);
        assert_eq!(rows.len(), 2);
        assert!(
            rows.iter()
                .all(|row| row["baseline"] == "focal" && row["loss"] == "bce")
        );
        assert_eq!(rows[0]["threshold"], "cls / 0.5");
    }

    #[test]
    fn what_cannot_be_compared_says_why() {
        let error = |bench: &Bench, settings: Value| bench.run(&Compare, settings).unwrap_err();
        let found = error(&bench(), json!({"between": "los"}));
        assert!(found.message.contains("`los`, which no score has"), "{found}");
        assert_eq!(
            found.help.unwrap(),
            "the scores differ in `architecture`, `loss`, `seed`"
        );
        let found = error(&bench(), json!({"between": "loss", "baseline": "x"}));
        assert_eq!(found.help.unwrap(), "it is bce, focal");
        for (settings, path) in [
            (json!({"between": "a", "over": ["a"]}), "over: "),
            (json!({"between": "a", "value": ["micro.tp"]}), "value[0]: "),
            (
                json!({"between": "a", "bootstrap": {"n_resamples": 0}}),
                "bootstrap.n_resamples: ",
            ),
            (json!({"between": "a", "bootstrap": {"n_resample": 100}}), "bootstrap: "),
        ] {
            let found = error(&bench(), settings);
            assert!(found.message.starts_with(path), "{found}");
        }

        let two = |a: (Value, u64), b: (Value, u64)| {
            let bench = Bench::new();
            let (one, other) = (system(&bench, 0.5, 1, a.0, a.1), system(&bench, 0.5, 2, b.0, b.1));
            bench
                .collect("scores", &[("x", "a")], &one)
                .collect("scores", &[("x", "b")], &other)
        };
        let found = error(&two((json!([0.5]), 20), (json!([0.5]), 21)), json!({"between": "x"}));
        assert!(found.message.contains("the golds of sentence 21 differ"), "{found}");
        let found = error(
            &two((json!([0.3, 0.5]), 20), (json!([0.4]), 20)),
            json!({"between": "x"}),
        );
        assert!(found.message.contains("no threshold in common"), "{found}");
        let shared = two((json!([0.3, 0.5]), 20), (json!([0.5, 0.7]), 20));
        let report = shared
            .run(&Compare, json!({"between": "x", "bootstrap": {"n_resamples": 100}}))
            .unwrap();
        assert_eq!(rows(&report).len(), 1);

        let bench = bench();
        let alone = system(&bench, 0.5, 3, json!([0.5]), 200);
        let bench = bench.collect(
            "scores",
            &[("architecture", "bi"), ("loss", "bce"), ("seed", "3")],
            &alone,
        );
        let found = error(&bench, json!({"between": "architecture", "over": "seed"}));
        assert!(
            found
                .message
                .contains("seed=3` has no partner among the runs of `cross`"),
            "{found}"
        );
    }
}
