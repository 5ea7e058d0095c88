//! [`Schedule`]: the learning rate over the optimizer's steps, by the names and formulae of `transformers`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shape of the learning rate after (or without) warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Warm-up, then a straight line to 0 at `max_steps`.
    #[default]
    Linear,
    /// Warm-up, then half a cosine wave to 0.
    Cosine,
    /// The full rate from the first step on; no warm-up.
    Constant,
    /// Warm-up, then the full rate.
    ConstantWithWarmup,
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// The shape.
    pub kind: ScheduleKind,
    /// Steps of linear warm-up; the first update then has rate 0, as in `transformers`.
    pub warmup_steps: u64,
    /// The step at which a decaying schedule reaches 0.
    pub max_steps: u64,
}

impl Schedule {
    /// The factor on the base rate for optimizer step `step`, counted from 0.
    pub fn factor(&self, step: u64) -> f64 {
        if self.kind == ScheduleKind::Constant {
            return 1.0;
        }
        if step < self.warmup_steps {
            return step as f64 / self.warmup_steps as f64;
        }
        let rest = self.max_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        match self.kind {
            ScheduleKind::Linear => (self.max_steps.saturating_sub(step) as f64 / rest).max(0.0),
            ScheduleKind::Cosine => {
                let progress = (step - self.warmup_steps) as f64 / rest;
                (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0)
            }
            ScheduleKind::Constant | ScheduleKind::ConstantWithWarmup => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn factors(kind: ScheduleKind, warmup_steps: u64) -> Vec<f64> {
        let schedule = Schedule {
            kind,
            warmup_steps,
            max_steps: 6,
        };
        (0..7).map(|step| schedule.factor(step)).collect()
    }

    #[test]
    fn linear_warms_up_from_zero_and_ends_at_zero() {
        assert_eq!(factors(ScheduleKind::Linear, 2), [0.0, 0.5, 1.0, 0.75, 0.5, 0.25, 0.0]);
        assert_eq!(factors(ScheduleKind::Linear, 0)[0], 1.0);
    }

    #[test]
    fn cosine_is_half_way_down_in_the_middle() {
        let factors = factors(ScheduleKind::Cosine, 2);
        assert_eq!(factors[2], 1.0);
        assert!((factors[4] - 0.5).abs() < 1e-12 && factors[6].abs() < 1e-12);
    }

    #[test]
    fn constant_ignores_warmup_and_the_other_does_not() {
        assert_eq!(factors(ScheduleKind::Constant, 2), [1.0; 7]);
        assert_eq!(
            factors(ScheduleKind::ConstantWithWarmup, 2),
            [0.0, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
        );
    }
}
