//! [`Figure`]: one number of the metrics, by the key that it has in them.

use std::fmt;

use super::schemes::Scheme;
use super::{Counter, Counting, ratio};

/// One number of the metrics, such as `micro.f1`, `full_gold.macro.recall`, `schemes.partial.precision` or
/// `per_class.city.f1`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What becomes of golds that cannot be found.
    pub counting: Counting,
    /// Over what it is taken.
    pub over: Over,
    /// Which of the three ratios.
    pub ratio: Ratio,
}

/// Over what a figure is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// All spans.
    Micro,
    /// The mean over types.
    Macro,
    /// All spans, under a scheme.
    Scheme(Scheme),
    /// The spans of one type.
    Type(String),
}

/// A ratio of counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ratio {
    /// The share of predictions that are right.
    Precision,
    /// The share of golds that were found.
    Recall,
    /// The harmonic mean of both.
    F1,
}

impl Ratio {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Precision, Self::Recall, Self::F1];

    /// The last word of a figure's key.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counting == Counting::FullGold {
            f.write_str("full_gold.")?;
        }
        match &self.over {
            Over::Micro => f.write_str("micro")?,
            Over::Macro => f.write_str("macro")?,
            Over::Scheme(scheme) => write!(f, "schemes.{}", scheme.name())?,
            Over::Type(name) => write!(f, "per_class.{name}")?,
        }
        write!(f, ".{}", self.ratio.name())
    }
}

impl Figure {
    /// The figure with this key, if there is one.
    pub fn parse(key: &str) -> Option<Self> {
        let (counting, rest) = match key.strip_prefix("full_gold.") {
            Some(rest) => (Counting::FullGold, rest),
            None => (Counting::Reference, key),
        };
        // A type's name may hold full stops.
        let (over, last) = rest.rsplit_once('.')?;
        let ratio = Ratio::ALL.into_iter().find(|ratio| ratio.name() == last)?;
        let over = match (over, over.split_once('.')) {
            ("micro", _) => Over::Micro,
            ("macro", _) => Over::Macro,
            (_, Some(("schemes", name))) => Over::Scheme(Scheme::ALL.into_iter().find(|scheme| scheme.name() == name)?),
            (_, Some(("per_class", name))) => Over::Type(name.to_owned()),
            _ => return None,
        };
        Some(Self { counting, over, ratio })
    }

    /// Every figure over all types: micro, macro and the schemes, in both ways of counting.
    pub fn overall() -> Vec<Self> {
        let mut figures = Vec::new();
        for counting in [Counting::Reference, Counting::FullGold] {
            let schemes = Scheme::ALL.map(Over::Scheme);
            for over in [Over::Micro, Over::Macro].into_iter().chain(schemes) {
                figures.extend(Ratio::ALL.map(|ratio| Self {
                    counting,
                    over: over.clone(),
                    ratio,
                }));
            }
        }
        figures
    }

    /// Its value; `labels` are the sorted names of the counter's types. A type that does not occur has 0.
    pub fn of(&self, counter: &Counter, labels: &[String]) -> f64 {
        let of_counts = |counts: super::Counts| match self.ratio {
            Ratio::Precision => counts.precision(),
            Ratio::Recall => counts.recall(),
            Ratio::F1 => counts.f1(),
        };
        match &self.over {
            Over::Micro => of_counts(counter.micro(self.counting)),
            Over::Macro => {
                let (mut sum, mut types) = (0.0, 0);
                for (_, counts) in counter.by_type(self.counting) {
                    sum += of_counts(counts);
                    types += 1;
                }
                ratio(sum, f64::from(types))
            }
            Over::Scheme(scheme) => {
                let schemes = counter.schemes(self.counting);
                let counts = schemes.get(*scheme);
                match self.ratio {
                    Ratio::Precision => counts.precision(),
                    Ratio::Recall => counts.recall(),
                    Ratio::F1 => counts.f1(),
                }
            }
            Over::Type(name) => match labels.binary_search(name) {
                Ok(label) => of_counts(counter.types[label].by(self.counting)),
                Err(_) => 0.0,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SentenceCounts;

    #[test]
    fn keys_are_read_as_they_are_written() {
        for figure in Figure::overall() {
            assert_eq!(Figure::parse(&figure.to_string()), Some(figure));
        }
        let figure = Figure::parse("full_gold.per_class.a.b.f1").unwrap();
        assert_eq!(figure.over, Over::Type("a.b".to_owned()));
        assert_eq!(figure.to_string(), "full_gold.per_class.a.b.f1");
        for wrong in [
            "f1",
            "micro",
            "micro.f2",
            "schemes.nested.f1",
            "micro.tp",
            "files.en.micro.f1",
        ] {
            assert_eq!(Figure::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn figures_are_those_of_the_metrics() {
        let labels = ["city", "person"].map(String::from);
        let mut counter = Counter::new(2);
        let golds = [(0, 1, 1), (3, 4, 0)].into();
        counter.add(&SentenceCounts::new(&[(0, 1, 1), (3, 3, 0)].into(), &golds, [0]));
        for (prefix, counting) in [("", Counting::Reference), ("full_gold.", Counting::FullGold)] {
            let metrics = counter.metrics(counting, &labels);
            let of = |key: &str| Figure::parse(&format!("{prefix}{key}")).unwrap().of(&counter, &labels);
            assert_eq!(of("micro.f1"), metrics.micro.f1);
            assert_eq!(of("macro.recall"), metrics.macro_.recall);
            assert_eq!(of("schemes.partial.f1"), metrics.schemes.partial.all.f1);
            assert_eq!(of("per_class.person.precision"), metrics.per_class["person"].precision);
            assert_eq!(of("per_class.river.precision"), 0.0);
        }
    }
}
