//! The kind `calibrate`: model + tokens → the same checkpoint with thresholds that were chosen on validation data.
//!
//! The checkpoint's files are handed on as they are; `thresholds.json` is added ([`crate::thresholds`]). A model that is calibrated
//! is evaluated at these thresholds unless others are asked for; by name they are `calibrated`.
//!
//! The span scores come from the same cached step as those of `evaluate`: where either has scored a split, the other runs no
//! model on it. Chosen is what gives the best micro F1, in the reference's way of counting, which is also what `train` keeps its
//! best model by. With `per: language` a language gets the threshold that is best for its own sentences, with `per: type` types
//! get those that are best together; where that turns out worse than one threshold for all, because types compete for positions
//! by how far they are above theirs, the one for all stays.

mod choose;

use std::collections::BTreeMap;

use nerpipe_engine::kind::{parse_settings, schema_of};
use nerpipe_engine::{
    Context, Field, InputParts, Kind, PartFile, Port, Resolved, Resources, SettingError, StageError, Weight,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::checkpoint;
use crate::decode::{Bar, logit};
use crate::evaluate::{Scoring, Tally, check_split, read_scores, tokenizers};
use crate::metrics::Counting;
use crate::recognizer::Threshold;
use crate::thresholds::{Cut, THRESHOLDS, Thresholds};
use crate::tokens::Split;
use choose::{Kept, best, best_together};

/// The settings of `calibrate`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The split that thresholds are chosen on; the test split would flatter what is measured on it.
    pub split: String,
    /// What gets a threshold of its own.
    pub per: Per,
    /// A type or language with fewer golds in the split has the threshold for all: a few golds would choose at random.
    pub min_golds: usize,
    /// The lowest probability that can be chosen. Equal to `evaluate`'s, so that both share their scores.
    pub floor: f64,
    /// Sentences in a forward pass. Equal to `evaluate`'s, so that both share their scores.
    pub per_device_eval_batch_size: usize,
}

/// What gets a threshold of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// Nothing: one for all.
    Model,
    /// Each entity type.
    Type,
    /// Each language that the records name.
    Language,
}

impl Default for Settings {
    fn default() -> Self {
        let scoring = Scoring::default();
        Self {
            split: "validation".to_owned(),
            per: Per::Model,
            min_golds: 20,
            floor: scoring.floor,
            per_device_eval_batch_size: scoring.batch,
        }
    }
}

impl Settings {
    fn scoring(&self) -> Scoring {
        Scoring {
            floor: self.floor,
            batch: self.per_device_eval_batch_size,
        }
    }
}

/// The kind `calibrate`. See the module's text.
pub struct Calibrate;

impl Kind for Calibrate {
    fn name(&self) -> &'static str {
        "calibrate"
    }

    fn version(&self) -> u32 {
        1
    }

    fn about(&self) -> &'static str {
        "chooses a model's thresholds on validation data"
    }

    fn weight(&self) -> Weight {
        Weight::Heavy
    }

    fn resources(&self) -> Resources {
        Resources {
            devices: Some(1),
            ..Resources::default()
        }
    }

    fn fields(&self) -> &'static [Field] {
        const FIELDS: [Field; 5] = [
            Field::counted("split"),
            Field::counted("per"),
            Field::counted("min_golds"),
            Field::counted("floor"),
            Field::counted("per_device_eval_batch_size"),
        ];
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
                required: true,
                collects: false,
            }
        }
        const PORTS: [Port; 2] = [port("model"), port("tokens")];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "model"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: Settings = parse_settings(settings)?;
        settings.scoring().check()?;
        check_split(inputs, &settings.split, "split")?;
        let kind = inputs.told("model", checkpoint::THRESHOLD_KIND);
        if let Some(learned) = kind.and_then(Value::as_str).filter(|kind| *kind != "probability") {
            return Err(SettingError::new("inputs.model", learned_threshold(learned)).help(NOTHING_TO_CHOOSE));
        }
        let parts: Vec<String> = inputs
            .parts("model")
            .iter()
            .filter(|part| *part != THRESHOLDS)
            .cloned()
            .collect();
        let mut resolved = Resolved::new(&settings)?
            .reads("model", parts.clone())
            .reads("tokens", tokenizers(inputs).chain([settings.split.clone()]))
            .makes(parts.into_iter().chain([THRESHOLDS.to_owned()]));
        if let Some(kind) = kind {
            resolved = resolved.tells(checkpoint::THRESHOLD_KIND, kind.clone());
        }
        Ok(resolved)
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: Settings = ctx.settings()?;
        let (model, tokens) = (ctx.input("model")?, ctx.input("tokens")?);
        let config = checkpoint::recognizer_config(model)?;
        let Threshold::Probability(own) = config.prediction_threshold else {
            return Err(StageError::new(learned_threshold(config.prediction_threshold.kind())).help(NOTHING_TO_CHOOSE));
        };
        let part = tokens
            .part(&settings.split)
            .ok_or_else(|| StageError::new(format!("the tokens have no split `{}`", settings.split)))?;
        let split = Split::open(part, config.annotation_format).map_err(|error| StageError::new(error.to_string()))?;
        let scored = settings.scoring().scores(ctx, &config, &split, part, &mut None)?;

        let scores = Scores {
            path: &scored.path,
            split: &split,
        };
        let (thresholds, figures) = choose(ctx, &scores, &settings, own)?;
        for (name, f1) in figures {
            ctx.note(name, json!(f1));
        }
        for part in model.parts.values().filter(|part| part.name != THRESHOLDS) {
            for PartFile { name, .. } in &part.files {
                let full = if *name == part.name {
                    name.clone()
                } else {
                    format!("{}/{name}", part.name)
                };
                ctx.pass_on("model", &full)?;
            }
        }
        let mut bytes = serde_json::to_vec_pretty(&thresholds)
            .map_err(|error| StageError::new(format!("failed to write thresholds: {error}")))?;
        bytes.push(b'\n');
        checkpoint::write(&ctx.out(THRESHOLDS)?, &bytes)
    }
}

fn learned_threshold(kind: &str) -> String {
    format!("the model compares its scores with a threshold that it learned, `{kind}`")
}

/// What to do with a model that learned its threshold.
const NOTHING_TO_CHOOSE: &str =
    "only a model with BCE or focal loss has a threshold to choose; leave this stage out for contrastive ones";

/// The span scores of a split, which are read as often as needed.
struct Scores<'a> {
    path: &'a std::path::Path,
    split: &'a Split,
}

impl Scores<'_> {
    /// Micro F1 at `cut`.
    fn f1(&self, cut: Cut) -> Result<f64, StageError> {
        let mut tally = Tally::new(cut, self.split.labels().len());
        for (index, scores) in read_scores(self.path)?.enumerate() {
            tally.add(&scores?, self.split.sentence(index).language);
        }
        Ok(tally.all().micro(Counting::Reference).f1())
    }
}

/// Spans that compete for a threshold, and their golds.
#[derive(Clone, Debug, Default)]
struct Rivals {
    spans: Vec<Kept>,
    golds: usize,
}

impl Rivals {
    /// Whether there is enough to choose a threshold by.
    fn suffice(&self, settings: &Settings) -> bool {
        self.golds >= settings.min_golds && !self.spans.is_empty()
    }
}

/// What was chosen, and micro F1 before and after.
type Chosen = (Thresholds, Vec<(&'static str, f64)>);

fn choose(ctx: &Context, scores: &Scores<'_>, settings: &Settings, own: f64) -> Result<Chosen, StageError> {
    let labels = &scores.split.labels().names;
    let mut all = Rivals::default();
    let mut by_type: Vec<Rivals> = vec![Rivals::default(); labels.len()];
    let mut by_language: BTreeMap<&str, Rivals> = BTreeMap::new();
    for (index, line) in read_scores(scores.path)?.enumerate() {
        let line = line?;
        let language = scores.split.sentence(index).language;
        let golds: std::collections::BTreeSet<_> = line.golds.iter().copied().collect();
        for span in line.decode(Bar::Fixed(logit(settings.floor))) {
            let kept = Kept {
                logit: span.logit,
                right: golds.contains(&(span.start, span.end, span.label)),
            };
            all.spans.push(kept);
            by_type[span.label as usize].spans.push(kept);
            if let Some(language) = language {
                by_language.entry(language).or_default().spans.push(kept);
            }
        }
        for gold in &golds {
            by_type[gold.2 as usize].golds += 1;
        }
        all.golds += golds.len();
        if let Some(language) = language {
            by_language.entry(language).or_default().golds += golds.len();
        }
    }

    let one = |threshold: f64| Thresholds {
        all: threshold,
        types: BTreeMap::new(),
        languages: BTreeMap::new(),
    };
    let Some(threshold) = best(&all.spans, all.golds, settings.floor) else {
        ctx.warn(&format!(
            "no span of `{}` is right at any threshold above {}; the model keeps its own, {own}",
            settings.split, settings.floor
        ));
        return Ok((one(own), vec![]));
    };
    let before = scores.f1(Threshold::Probability(own).into())?;
    let with_one = scores.f1(one(threshold).cut(labels))?;
    let mut figures = vec![
        ("micro_f1_at_own_threshold", before),
        ("micro_f1_at_one_threshold", with_one),
    ];
    let mut chosen = one(threshold);
    match settings.per {
        Per::Model => {}
        Per::Language => {
            for (language, rivals) in by_language.iter().filter(|(_, rivals)| rivals.suffice(settings)) {
                if let Some(own) = best(&rivals.spans, rivals.golds, settings.floor) {
                    chosen.languages.insert((*language).to_owned(), own);
                }
            }
            if by_language.is_empty() {
                return Err(
                    StageError::new(format!("no record of `{}` says its language", settings.split))
                        .help("give the records a field `language`, or choose `per: model`"),
                );
            }
        }
        Per::Type => {
            let (enough, few): (Vec<_>, Vec<_>) = labels
                .iter()
                .zip(&by_type)
                .partition(|(_, rivals)| rivals.suffice(settings));
            let (mut spans, mut right, mut golds) = (0, 0, 0);
            for (_, rivals) in few {
                let passing = rivals.spans.iter().filter(|kept| kept.logit > logit(threshold));
                spans += passing.clone().count();
                right += passing.filter(|kept| kept.right).count();
                golds += rivals.golds;
            }
            let lists: Vec<(Vec<Kept>, usize)> = enough
                .iter()
                .map(|(_, rivals)| (rivals.spans.clone(), rivals.golds))
                .collect();
            let together = best_together(&lists, (spans, right, golds), settings.floor);
            chosen.types = enough.iter().map(|(name, _)| (*name).clone()).zip(together).collect();
        }
    }
    if settings.per != Per::Model {
        let with_own = scores.f1(chosen.cut(labels))?;
        figures.push(("micro_f1_at_own_thresholds", with_own));
        if settings.per == Per::Type && with_own < with_one {
            ctx.warn(&format!(
                "thresholds by type give a micro F1 of {with_own:.4}, one for all {with_one:.4}; the one is kept"
            ));
            chosen = one(threshold);
        }
    }
    Ok((chosen, figures))
}
