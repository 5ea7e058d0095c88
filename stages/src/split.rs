//! The kind `split`: one part of a corpus → training, validation and test parts.
//!
//! Consumes a `corpus`; produces a `corpus` whose files have the names they had. Shares are of records, in all or within each
//! stratum; records with one text stay together, so that no test sentence was trained on. Which records go where is a
//! function of the seed and of their texts: a record that comes or goes moves hardly any other.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Context, Digest, Field, InputParts, Kind, PartFile, Port, Progress, Resolved, SettingError, StageError, Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Number, Value, json};

use crate::rng::Rng;

/// The parts that can be made, in the order in which they are filled: what is rest comes last.
const FILLED: [&str; 3] = ["test", "validation", "train"];

/// The settings of `split`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The part to split; need not be named if the corpus offers only one.
    #[serde(default)]
    pub part: Option<String>,
    /// How much becomes `train`; all that is left if not given.
    #[serde(default)]
    pub train: Option<Share>,
    /// How much becomes `validation`.
    #[serde(default)]
    pub validation: Option<Share>,
    /// How much becomes `test`.
    #[serde(default)]
    pub test: Option<Share>,
    /// Another seed chooses other records.
    #[serde(default)]
    pub seed: u64,
    /// What records have in common that must not be divided.
    #[serde(default)]
    pub group_by: GroupBy,
    /// Within what each share is taken.
    #[serde(default)]
    pub stratify_by: StratifyBy,
}

/// How much of the records: a number below 1 is a share of them, a whole number counts them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Number", into = "Number")]
pub enum Share {
    /// A share, above 0 and below 1.
    Fraction(f64),
    /// A number of records, at least 1.
    Count(u64),
}

impl TryFrom<Number> for Share {
    type Error = String;

    fn try_from(number: Number) -> Result<Self, Self::Error> {
        match (number.as_u64(), number.as_f64()) {
            (Some(count @ 1..), _) => Ok(Self::Count(count)),
            (None, Some(share)) if share > 0.0 && share < 1.0 => Ok(Self::Fraction(share)),
            _ => Err(format!(
                "{number} is neither a share, above 0 and below 1, nor a number of records"
            )),
        }
    }
}

impl From<Share> for Number {
    fn from(share: Share) -> Self {
        match share {
            // A share lies between 0 and 1, so it is a number.
            Share::Fraction(share) => Self::from_f64(share).unwrap_or_else(|| Self::from(0)),
            Share::Count(count) => Self::from(count),
        }
    }
}

impl Share {
    /// How many of `records` that is.
    fn of(self, records: u64) -> u64 {
        match self {
            Self::Fraction(share) => (share * records as f64).round() as u64,
            Self::Count(count) => count,
        }
    }
}

/// What must not be divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// Records with the same text, but for white space.
    #[default]
    Text,
    /// Nothing: each record goes its own way.
    None,
}

/// Within what each share is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StratifyBy {
    /// Within each file, such as a language.
    #[default]
    File,
    /// Within the records that have the same rarest entity type, so that rare types are in every part.
    Label,
    /// In all records together.
    None,
}

impl Settings {
    fn share(&self, part: &str) -> Option<Share> {
        match part {
            "train" => self.train,
            "validation" => self.validation,
            _ => self.test,
        }
    }

    /// The parts to be made.
    fn parts(&self) -> impl Iterator<Item = &'static str> {
        FILLED
            .into_iter()
            .filter(|part| *part == "train" || self.share(part).is_some())
    }

    fn check(&self) -> Result<(), SettingError> {
        if self.validation.is_none() && self.test.is_none() {
            return Err(SettingError::new("", "nothing is split off").help("give `validation` or `test`, such as 0.1"));
        }
        let fractions = FILLED.into_iter().filter_map(|part| match self.share(part) {
            Some(Share::Fraction(share)) => Some(share),
            _ => None,
        });
        let sum: f64 = fractions.sum();
        let whole = if self.train.is_some() { 1.0 + 1e-9 } else { 1.0 - 1e-9 };
        if sum > whole {
            let message = format!("the shares add up to {sum}, which leaves nothing for `train`");
            let message = if self.train.is_some() {
                format!("the shares add up to {sum}")
            } else {
                message
            };
            return Err(SettingError::new("", message).help("together they must be less"));
        }
        Ok(())
    }
}

/// The kind `split`. See the module's text.
pub struct Split;

impl Kind for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "divides one part of a corpus into training, validation and test parts"
    }

    fn weight(&self) -> Weight {
        Weight::Light
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 7] = [
            // The part's digest counts; its name does not.
            Field::recorded("part"),
            Field::counted("train"),
            Field::counted("validation"),
            Field::counted("test"),
            Field::counted("seed"),
            Field::counted("group_by"),
            Field::counted("stratify_by"),
        ];
        &FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<Settings>())
    }

    fn ports(&self) -> &'static [Port] {
        const PORTS: [Port; 1] = [Port {
            name: "corpus",
            takes: "corpus",
            required: true,
            collects: false,
        }];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "corpus"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let mut settings: Settings = parse_settings(settings)?;
        settings.check()?;
        let part = match (settings.part.take(), inputs.parts("corpus")) {
            (Some(part), _) => part,
            (None, [part]) => part.clone(),
            (None, parts) => {
                let message = format!("the corpus has several parts: {}", parts.join(", "));
                let help = "say which to split, such as `part: train`, or connect only that one";
                return Err(SettingError::new("inputs.corpus", message).help(help));
            }
        };
        settings.part = Some(part.clone());
        Ok(Resolved::new(&settings)?
            .reads("corpus", [part])
            .makes(settings.parts()))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let part = settings.part.as_deref().unwrap_or_default();
        let files = &ctx.input("corpus")?.part(part).ok_or_else(|| no_part(part))?.files;
        let records = Records::read(ctx, files, &settings)?;
        let parts = records.divide(&settings)?;
        write(ctx, files, &records, &parts)?;
        let mut left_out = records.of.len() as u64;
        for name in settings.parts() {
            let sentences = records
                .of
                .iter()
                .filter(|group| parts[**group as usize] == Some(name))
                .count() as u64;
            left_out -= sentences;
            ctx.note(name, json!({ "sentences": sentences }));
        }
        if left_out > 0 {
            ctx.note("left out", json!({ "sentences": left_out }));
        }
        let together = records.groups.iter().filter(|group| group.size > 1);
        let together: u64 = together.map(|group| u64::from(group.size)).sum();
        if together > 0 {
            ctx.note("same text as another", json!({ "sentences": together }));
        }
        Ok(())
    }
}

fn no_part(part: &str) -> StageError {
    StageError::new(format!("the corpus has no part `{part}`"))
}

/// What a record says that matters here.
#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
    #[serde(borrow)]
    token_spans: Vec<Span<'a>>,
}

#[derive(Deserialize)]
struct Span<'a> {
    #[serde(borrow)]
    label: Cow<'a, str>,
}

/// Records that stay together.
struct Group {
    /// Its place in the random order.
    key: u64,
    size: u32,
    /// The file and the entity types of its first record.
    file: u32,
    labels: Vec<u32>,
}

/// All records, as far as dividing them needs it.
struct Records {
    /// The number of each record's group, in the order of files and lines.
    of: Vec<u32>,
    groups: Vec<Group>,
    /// How many groups have each entity type.
    with_label: Vec<u64>,
}

impl Records {
    fn read(ctx: &Context, files: &[PartFile], settings: &Settings) -> Result<Self, StageError> {
        let rng = Rng::new(settings.seed, "split");
        let mut found = Self {
            of: Vec::new(),
            groups: Vec::new(),
            with_label: Vec::new(),
        };
        let mut known: HashMap<[u8; 16], u32> = HashMap::new();
        let mut labels: BTreeMap<String, u32> = BTreeMap::new();
        for (number, file) in files.iter().enumerate() {
            ctx.check_cancelled()?;
            lines(file, |line| {
                let record: Record<'_> = serde_json::from_slice(line).map_err(|error| broken(file, &error))?;
                let words: Vec<&str> = record.text.split_whitespace().collect();
                let digest = Digest::of(words.join(" ").as_bytes());
                let [text, position]: [[u8; 8]; 2] =
                    std::array::from_fn(|half| std::array::from_fn(|at| digest.as_bytes()[half * 8 + at]));
                let mut address = [0; 16];
                address[..8].copy_from_slice(&text);
                address[8..].copy_from_slice(&position);
                let place = u64::from_le_bytes(text);
                let mut new = |key: u64| {
                    let mut own: Vec<u32> = record
                        .token_spans
                        .iter()
                        .map(|span| {
                            let next = labels.len() as u32;
                            *labels.entry(span.label.clone().into_owned()).or_insert(next)
                        })
                        .collect();
                    own.sort_unstable();
                    own.dedup();
                    found.with_label.resize(labels.len(), 0);
                    own.iter().for_each(|label| found.with_label[*label as usize] += 1);
                    found.groups.push(Group {
                        key,
                        size: 0,
                        file: number as u32,
                        labels: own,
                    });
                    found.groups.len() as u32 - 1
                };
                let group = match settings.group_by {
                    GroupBy::Text => *known.entry(address).or_insert_with(|| new(rng.u64(place))),
                    // Equal texts draw different numbers.
                    GroupBy::None => {
                        let copy = known.entry(address).or_insert(0);
                        *copy += 1;
                        new(rng.step(u64::from(*copy)).u64(place))
                    }
                };
                found.groups[group as usize].size += 1;
                found.of.push(group);
                Ok(())
            })?;
        }
        Ok(found)
    }

    /// The part of each group; none if it is left out.
    fn divide(&self, settings: &Settings) -> Result<Vec<Option<&'static str>>, StageError> {
        let all = self.of.len() as u64;
        let mut targets: Vec<(&'static str, u64)> = Vec::new();
        for part in settings.parts() {
            let taken: u64 = targets.iter().map(|(_, target)| target).sum();
            let target = match settings.share(part) {
                Some(share) => share.of(all),
                None => all.saturating_sub(taken),
            };
            if target == 0 || taken + target > all {
                let asked = FILLED.map(|part| settings.share(part).map_or(0, |share| share.of(all)));
                let message = match target {
                    0 => format!("`{part}` would have no record: the corpus has {all}"),
                    _ => format!(
                        "{} records are asked for, and the corpus has {all}",
                        asked.iter().sum::<u64>()
                    ),
                };
                return Err(StageError::new(message).help("change `train`, `validation` or `test`"));
            }
            targets.push((part, target));
        }
        let strata = self.strata(settings.stratify_by);
        let mut room: Vec<u64> = strata.iter().map(|stratum| self.size(stratum)).collect();
        let quotas: Vec<Vec<u64>> = targets
            .iter()
            .map(|(_, target)| apportion(*target, &mut room))
            .collect();
        let mut parts = vec![None; self.groups.len()];
        for (at, stratum) in strata.iter().enumerate() {
            let mut open: Vec<u64> = quotas.iter().map(|quota| quota[at]).collect();
            let mut order: Vec<u32> = stratum.clone();
            order.sort_by_key(|group| (self.groups[*group as usize].key, *group));
            for group in order {
                let size = u64::from(self.groups[group as usize].size);
                // What fits nowhere goes to the rest, if somebody takes that.
                let rest = || settings.train.is_none().then_some(targets.len() - 1);
                if let Some(part) = open.iter().position(|open| *open >= size).or_else(rest) {
                    open[part] = open[part].saturating_sub(size);
                    parts[group as usize] = Some(targets[part].0);
                }
            }
        }
        for (part, target) in targets {
            if !parts.contains(&Some(part)) {
                let message = format!("no group of records with one text is small enough for the {target} of `{part}`");
                return Err(
                    StageError::new(message).help("ask for more, or set `group_by: none` or `stratify_by: none`")
                );
            }
        }
        Ok(parts)
    }

    /// The groups by stratum.
    fn strata(&self, by: StratifyBy) -> Vec<Vec<u32>> {
        let of = |group: &Group| match by {
            StratifyBy::None => 0,
            StratifyBy::File => u64::from(group.file),
            // Of equally rare types the one that was seen first.
            StratifyBy::Label => {
                let rarest = group
                    .labels
                    .iter()
                    .min_by_key(|label| (self.with_label[**label as usize], **label));
                rarest.map_or(u64::MAX, |label| u64::from(*label))
            }
        };
        let mut strata: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        for (number, group) in self.groups.iter().enumerate() {
            strata.entry(of(group)).or_default().push(number as u32);
        }
        strata.into_values().collect()
    }

    fn size(&self, groups: &[u32]) -> u64 {
        groups
            .iter()
            .map(|group| u64::from(self.groups[*group as usize].size))
            .sum()
    }
}

/// Divides `target` among strata in proportion to the `room` they have, and takes it from there: whole parts first, then one each
/// where the remainders are largest.
fn apportion(target: u64, room: &mut [u64]) -> Vec<u64> {
    let all: u128 = room.iter().map(|room| u128::from(*room)).sum();
    let exact = |room: u64| u128::from(target) * u128::from(room);
    let all = all.max(1);
    let mut shares: Vec<u64> = room.iter().map(|room| (exact(*room) / all) as u64).collect();
    let mut order: Vec<usize> = (0..room.len()).collect();
    order.sort_by_key(|at| (std::cmp::Reverse(exact(room[*at]) % all), *at));
    let mut missing = target - shares.iter().sum::<u64>();
    for at in order.iter().cycle().take(order.len() * 2) {
        if missing > 0 && shares[*at] < room[*at] {
            shares[*at] += 1;
            missing -= 1;
        }
    }
    for (room, share) in room.iter_mut().zip(&shares) {
        *room -= share;
    }
    shares
}

/// Copies each record's line into its part, file by file.
fn write(
    ctx: &Context,
    files: &[PartFile],
    records: &Records,
    parts: &[Option<&'static str>],
) -> Result<(), StageError> {
    let mut groups = records.of.iter();
    for (done, file) in files.iter().enumerate() {
        ctx.check_cancelled()?;
        let mut writers: BTreeMap<&str, BufWriter<File>> = BTreeMap::new();
        let failed = |error: std::io::Error| {
            StageError::new(format!("failed to write what `{}` is split into: {error}", file.name))
        };
        lines(file, |line| {
            let part = groups.next().and_then(|group| parts[*group as usize]);
            let Some(part) = part else { return Ok(()) };
            let writer = match writers.entry(part) {
                std::collections::btree_map::Entry::Occupied(writer) => writer.into_mut(),
                std::collections::btree_map::Entry::Vacant(none) => {
                    let path = ctx.out(&format!("{part}/{}", file.name))?;
                    none.insert(BufWriter::new(File::create(path).map_err(failed)?))
                }
            };
            writer
                .write_all(line)
                .and_then(|()| writer.write_all(b"\n"))
                .map_err(failed)
        })?;
        for writer in writers.values_mut() {
            writer.flush().map_err(failed)?;
        }
        ctx.progress(Progress {
            done: done as u64 + 1,
            total: Some(files.len() as u64),
            unit: "files",
            figures: Vec::new(),
        });
    }
    Ok(())
}

/// Calls `take` with each line of a file, without its end.
fn lines(file: &PartFile, mut take: impl FnMut(&[u8]) -> Result<(), StageError>) -> Result<(), StageError> {
    let open = || File::open(&file.path);
    let failed =
        |error: std::io::Error| StageError::new(format!("failed to read `{}` of the corpus: {error}", file.name));
    let mut reader = BufReader::new(open().map_err(failed)?);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).map_err(failed)? > 0 {
        if line.ends_with(b"\n") {
            line.pop();
        }
        take(&line)?;
        line.clear();
    }
    Ok(())
}

fn broken(file: &PartFile, error: &serde_json::Error) -> StageError {
    StageError::new(format!("`{}` holds what is no record of a corpus: {error}", file.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use nerpipe_engine::testing::{Bench, Made};

    use super::*;
    use crate::load::Load;

    /// A corpus of 60 English and 40 German sentences; every fifth has a `place`, and one text of each language comes many times.
    fn corpus() -> (Bench, Made) {
        let bench = Bench::new();
        let mut number = 0;
        for (language, count) in [("de", 40), ("en", 60)] {
            let mut text = String::new();
            for at in 0..count {
                number += 1;
                let word = if at % 20 < 3 {
                    format!("same {language}")
                } else {
                    format!("word {number}")
                };
                let label = if at % 5 == 4 { "place" } else { "person" };
                let record = json!({
                    "id": number.to_string(), "text": word, "tokens": word.split(' ').collect::<Vec<_>>(),
                    "token_spans": [{"start": 0, "end": 1, "label": label}],
                });
                text.push_str(&format!("{record}\n"));
            }
            bench.write(&format!("data/{language}.jsonl"), text);
        }
        let made = bench.run(&Load, json!({"train": "data/*.jsonl"})).unwrap();
        let bench = bench.input("corpus", &made);
        (bench, made)
    }

    /// (part, file) → ids.
    fn ids(made: &Made) -> BTreeMap<String, Vec<String>> {
        let ids = |name: &str| {
            let id = |line: &str| {
                serde_json::from_str::<Value>(line).unwrap()["id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            };
            made.text(name).lines().map(id).collect()
        };
        made.names()
            .into_iter()
            .map(|name| (name.to_owned(), ids(name)))
            .collect()
    }

    fn sizes(made: &Made) -> BTreeMap<String, usize> {
        ids(made).into_iter().map(|(name, ids)| (name, ids.len())).collect()
    }

    fn of(part: &str, sizes: &BTreeMap<String, usize>) -> usize {
        sizes
            .iter()
            .filter(|(name, _)| name.starts_with(part))
            .map(|(_, size)| size)
            .sum()
    }

    #[test]
    fn shares_are_taken_of_each_file_and_every_record_has_one_part() {
        let (bench, all) = corpus();
        let made = bench
            .run(&Split, json!({"validation": 0.1, "test": 20, "seed": 1}))
            .unwrap();
        let expected = [
            ("test/de.jsonl", 8),
            ("test/en.jsonl", 12),
            ("train/de.jsonl", 28),
            ("train/en.jsonl", 42),
            ("validation/de.jsonl", 4),
            ("validation/en.jsonl", 6),
        ];
        assert_eq!(
            sizes(&made),
            expected.map(|(name, size)| (name.to_owned(), size)).into()
        );
        let mut every: Vec<String> = ids(&made).into_values().flatten().collect();
        every.sort();
        let mut given: Vec<String> = ids(&all).into_values().flatten().collect();
        given.sort();
        assert_eq!(every, given);
        // Lines are what they were, in the order they had.
        let line = made.text("test/en.jsonl").lines().next().unwrap().to_owned();
        assert!(all.text("train/en.jsonl").lines().any(|other| other == line));
        assert_eq!(made.notes["test"], json!({"sentences": 20}));
        assert_eq!(made.notes["same text as another"], json!({"sentences": 15}));
    }

    #[test]
    fn records_with_one_text_stay_together() {
        let (bench, _) = corpus();
        for seed in 0..10 {
            let made = bench
                .run(&Split, json!({"test": 0.3, "validation": 0.3, "seed": seed}))
                .unwrap();
            let mut parts_of: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
            for name in made.names() {
                for line in made.text(name).lines() {
                    let record: Value = serde_json::from_str(line).unwrap();
                    let part = name.split('/').next().unwrap().to_owned();
                    parts_of.entry(record["text"].to_string()).or_default().insert(part);
                }
            }
            assert!(parts_of.values().all(|parts| parts.len() == 1), "seed {seed}");
        }
    }

    #[test]
    fn the_seed_decides_and_another_record_moves_hardly_any() {
        let (bench, _) = corpus();
        let settings = |seed: u64| json!({"test": 0.2, "seed": seed, "group_by": "none", "stratify_by": "none"});
        let test = |made: &Made| -> BTreeSet<String> {
            let ids = ids(made).into_iter().filter(|(name, _)| name.starts_with("test"));
            ids.flat_map(|(_, ids)| ids).collect()
        };
        let first = test(&bench.run(&Split, settings(1)).unwrap());
        assert_eq!(first, test(&bench.run(&Split, settings(1)).unwrap()));
        assert_ne!(first, test(&bench.run(&Split, settings(2)).unwrap()));
        assert_eq!(first.len(), 20);

        let more =
            "{\"id\": \"new\", \"text\": \"a new one\", \"tokens\": [\"a\", \"new\", \"one\"], \"token_spans\": []}\n";
        let text = format!(
            "{more}{}",
            std::fs::read_to_string(bench.project().join("data/de.jsonl")).unwrap()
        );
        bench.write("data/de.jsonl", text);
        let corpus = bench.run(&Load, json!({"train": "data/*.jsonl"})).unwrap();
        let bench = bench.input("corpus", &corpus);
        let second = test(&bench.run(&Split, settings(1)).unwrap());
        assert!(first.intersection(&second).count() >= 19, "{first:?} {second:?}");
    }

    #[test]
    fn rare_types_are_in_every_part() {
        let (bench, _) = corpus();
        for seed in 0..10 {
            let settings = json!({"test": 0.1, "validation": 0.1, "seed": seed, "stratify_by": "label"});
            let made = bench.run(&Split, settings).unwrap();
            let places = |part: &str| -> usize {
                let names = made.names().into_iter().filter(|name| name.starts_with(part));
                names
                    .map(|name| made.text(name).matches("\"place\"").count())
                    .sum::<usize>()
                    / 2
            };
            assert_eq!((places("test"), places("validation")), (2, 2), "seed {seed}");
        }
    }

    #[test]
    fn what_is_not_asked_for_is_left_out_and_said() {
        let (bench, _) = corpus();
        let made = bench.run(&Split, json!({"train": 30, "test": 10})).unwrap();
        let sizes = sizes(&made);
        assert_eq!((of("train", &sizes), of("test", &sizes)), (30, 10));
        assert_eq!(made.notes["left out"], json!({"sentences": 60}));
    }

    #[test]
    fn threads_change_nothing() {
        let (bench, _) = corpus();
        let one = bench.run(&Split, json!({"test": 0.2})).unwrap();
        assert_eq!(
            one.artifact,
            bench.threads(4).run(&Split, json!({"test": 0.2})).unwrap().artifact
        );
    }

    #[test]
    fn wrong_settings_are_refused_by_name() {
        let offered = |parts: &[&str]| InputParts {
            ports: [(
                "corpus".to_owned(),
                parts.iter().map(|part| (*part).to_owned()).collect(),
            )]
            .into(),
            ..InputParts::default()
        };
        let refused = |settings: Value, parts: &[&str]| {
            let error = Split.resolve(&settings, &offered(parts)).unwrap_err();
            (error.path, error.message)
        };
        for (settings, path, message) in [
            (json!({}), "", "nothing is split off"),
            (
                json!({"test": 0}),
                "test",
                "0 is neither a share, above 0 and below 1, nor a number of records",
            ),
            (
                json!({"test": 1.5}),
                "test",
                "1.5 is neither a share, above 0 and below 1, nor a number of records",
            ),
            (
                json!({"test": -1}),
                "test",
                "-1 is neither a share, above 0 and below 1, nor a number of records",
            ),
            (json!({"test": "a"}), "test", "`test` must be a number, not text"),
            (
                json!({"test": 0.5, "validation": 0.5}),
                "",
                "the shares add up to 1, which leaves nothing for `train`",
            ),
            (json!({"train": 0.8, "test": 0.3}), "", "the shares add up to 1.1"),
            (
                json!({"test": 0.1, "group_by": "txt"}),
                "group_by",
                "`group_by` cannot be `txt`",
            ),
        ] {
            assert_eq!(refused(settings, &["train"]), (path.to_owned(), message.to_owned()));
        }
        let several = refused(json!({"test": 0.1}), &["train", "test"]);
        assert_eq!(several.0, "inputs.corpus");
        let resolved = Split
            .resolve(&json!({"test": 0.1, "part": "test"}), &offered(&["train", "test"]))
            .unwrap();
        assert_eq!(resolved.reads["corpus"], ["test"]);
        assert_eq!(resolved.parts, ["test", "train"]);
    }

    #[test]
    fn more_than_there_is_cannot_be_asked_for() {
        let (bench, _) = corpus();
        let message = |settings: Value| bench.run(&Split, settings).unwrap_err().message;
        assert_eq!(
            message(json!({"test": 101})),
            "101 records are asked for, and the corpus has 100"
        );
        assert_eq!(
            message(json!({"train": 60, "test": 41})),
            "101 records are asked for, and the corpus has 100"
        );
        assert_eq!(
            message(json!({"test": 0.001})),
            "`test` would have no record: the corpus has 100"
        );
        assert_eq!(
            message(json!({"test": 100})),
            "`train` would have no record: the corpus has 100"
        );
    }

    #[test]
    fn shares_of_strata_add_up() {
        let mut room = vec![5, 3, 2];
        assert_eq!(apportion(5, &mut room), [3, 1, 1]);
        assert_eq!(room, [2, 2, 1]);
        assert_eq!(apportion(5, &mut room), [2, 2, 1]);
        assert_eq!(apportion(0, &mut [0, 0]), [0, 0]);
    }
}
