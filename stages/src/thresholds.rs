//! Thresholds: what an evaluation asks for ([`Asked`]), those that were chosen on validation data ([`Thresholds`], a
//! checkpoint's `thresholds.json`), and what spans of a split are compared with in the end ([`Cut`]).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use nerpipe_engine::{Input, StageError};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::checkpoint::single;
use crate::decode::{Bar, logit};
use crate::recognizer::Threshold;

/// The part of a checkpoint that holds its calibrated thresholds.
pub const THRESHOLDS: &str = "thresholds.json";

/// The word for a model's calibrated thresholds in settings.
const CALIBRATED: &str = "calibrated";

/// A threshold as a manifest names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Asked {
    /// This one.
    At(Threshold),
    /// Those that the model was calibrated to.
    Calibrated,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(threshold) => threshold.fmt(f),
            Self::Calibrated => f.write_str(CALIBRATED),
        }
    }
}

impl Serialize for Asked {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::At(threshold) => threshold.serialize(serializer),
            Self::Calibrated => serializer.serialize_str(CALIBRATED),
        }
    }
}

impl JsonSchema for Asked {
    fn schema_name() -> Cow<'static, str> {
        "Asked".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Threshold>(), {"const": CALIBRATED}]})
    }
}

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let value = serde_json::Value::deserialize(deserializer)?;
        if value == CALIBRATED {
            return Ok(Self::Calibrated);
        }
        serde_json::from_value(value).map(Self::At).map_err(|error| {
            let told = error.to_string();
            D::Error::custom(told.replace("`cls` or `label_token`", "`cls`, `label_token` or `calibrated`"))
        })
    }
}

/// Probabilities that were chosen on validation data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thresholds {
    /// The one for every type and language that has none of its own.
    pub all: f64,
    /// By entity type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub types: BTreeMap<String, f64>,
    /// By language, as the records of a corpus call it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub languages: BTreeMap<String, f64>,
}

impl Thresholds {
    /// The thresholds of a checkpoint, if it was calibrated.
    ///
    /// # Errors
    /// If its `thresholds.json` cannot be understood.
    pub fn of(model: &Input) -> Result<Option<Self>, StageError> {
        if model.part(THRESHOLDS).is_none() {
            return Ok(None);
        }
        let path = single(model, THRESHOLDS)?;
        let unusable = |reason: &dyn fmt::Display| {
            StageError::new(format!("the checkpoint's {THRESHOLDS} cannot be used: {reason}"))
                .help("calibrate the model again")
        };
        let bytes = std::fs::read(&path).map_err(|error| unusable(&error))?;
        let thresholds: Self = serde_json::from_slice(&bytes).map_err(|error| unusable(&error))?;
        let wrong = thresholds
            .every()
            .find(|(_, threshold)| !(*threshold > 0.0 && *threshold < 1.0));
        match wrong {
            Some((name, threshold)) => Err(unusable(&format!("{name} is {threshold}, which is no probability"))),
            None => Ok(Some(thresholds)),
        }
    }

    /// Every threshold with what it is for.
    fn every(&self) -> impl Iterator<Item = (String, f64)> + '_ {
        let own =
            |kind: &'static str| move |(name, threshold): (&String, &f64)| (format!("{kind} `{name}`"), *threshold);
        std::iter::once(("`all`".to_owned(), self.all))
            .chain(self.types.iter().map(own("type")))
            .chain(self.languages.iter().map(own("language")))
    }

    /// The lowest of them.
    pub fn lowest(&self) -> f64 {
        self.every().map(|(_, threshold)| threshold).fold(1.0, f64::min)
    }

    /// What spans of a split with these types are compared with.
    pub fn cut(&self, labels: &[String]) -> Cut {
        let of_type = |name: &String| logit(*self.types.get(name).unwrap_or(&self.all));
        Cut {
            bar: if self.types.is_empty() {
                CutBar::Fixed(logit(self.all))
            } else {
                CutBar::Types(labels.iter().map(of_type).collect())
            },
            languages: self
                .languages
                .iter()
                .map(|(name, own)| (name.clone(), logit(*own)))
                .collect(),
        }
    }
}

/// What the spans of a split are compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Cut {
    bar: CutBar,
    /// Languages that have a bar of their own.
    languages: BTreeMap<String, f32>,
}

#[derive(Clone, Debug, PartialEq)]
enum CutBar {
    /// One logit.
    Fixed(f32),
    /// One logit a type.
    Types(Vec<f32>),
    /// The logits of each sentence's threshold span.
    Slot,
}

impl From<Threshold> for Cut {
    fn from(threshold: Threshold) -> Self {
        Self {
            bar: match threshold {
                Threshold::Probability(probability) => CutBar::Fixed(logit(probability)),
                Threshold::Cls | Threshold::LabelToken => CutBar::Slot,
            },
            languages: BTreeMap::new(),
        }
    }
}

impl Cut {
    /// The bar for a sentence in `language` whose threshold span has the logits `slot`, one a type.
    pub fn bar<'a>(&'a self, slot: &'a [f32], language: Option<&str>) -> Bar<'a> {
        if let Some(own) = language.and_then(|language| self.languages.get(language)) {
            return Bar::Fixed(*own);
        }
        match &self.bar {
            CutBar::Fixed(logit) => Bar::Fixed(*logit),
            CutBar::Types(logits) => Bar::PerType(logits),
            CutBar::Slot => Bar::PerType(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_read_and_written() {
        for (text, asked) in [
            ("0.5", Asked::At(Threshold::Probability(0.5))),
            ("\"cls\"", Asked::At(Threshold::Cls)),
            ("\"calibrated\"", Asked::Calibrated),
        ] {
            assert_eq!(serde_json::from_str::<Asked>(text).unwrap(), asked);
            assert_eq!(serde_json::to_string(&asked).unwrap(), text);
        }
        let error = serde_json::from_str::<Asked>("\"calibrate\"").unwrap_err().to_string();
        assert!(error.contains("`cls`, `label_token` or `calibrated`"), "{error}");
    }

    #[test]
    fn own_thresholds_come_before_the_one_for_all() {
        let thresholds = Thresholds {
            all: 0.5,
            types: [("city".to_owned(), 0.2)].into(),
            languages: [("de".to_owned(), 0.9)].into(),
        };
        assert_eq!(thresholds.lowest(), 0.2);
        let cut = thresholds.cut(&["city".to_owned(), "person".to_owned()]);
        assert_eq!(cut.bar(&[], None), Bar::PerType(&[logit(0.2), 0.0]));
        assert_eq!(cut.bar(&[], Some("en")), Bar::PerType(&[logit(0.2), 0.0]));
        assert_eq!(cut.bar(&[], Some("de")), Bar::Fixed(logit(0.9)));
        assert_eq!(Cut::from(Threshold::Cls).bar(&[3.0], Some("de")), Bar::PerType(&[3.0]));
    }
}
