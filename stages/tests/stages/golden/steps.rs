//! Three training steps: batches, logits, losses, gradients, learning rates, parameters.

use std::collections::BTreeMap;

use burn::tensor::Device;
use nerpipe_stages::model::{HostTensor, Recognizer};
use nerpipe_stages::optim::{AdamW, AdamWSettings, clip_scale, sum_of_squares};
use nerpipe_stages::parity::Parity;
use nerpipe_stages::recognizer::LossKind;
use nerpipe_stages::schedule::{Schedule, ScheduleKind};
use nerpipe_stages::tokens::Split;
use serde_json::Value;

use super::case::{ALL, Setting, by_type, values};
use super::{Findings, Tolerance};

const LOGITS: Tolerance = Tolerance::absolute(2e-5);
/// Logits after an update stand on parameters that may differ by [`PARAMETERS`].
const LATER_LOGITS: f64 = 5e-4;
const LOSS: Tolerance = Tolerance::relative(1e-5);
const LATER_LOSS: Tolerance = Tolerance::relative(1e-4);
const GRADIENTS: f64 = 1e-3;
const PARAMETERS: f64 = 5e-6;
/// How much further apart the two above may be with fused operations, which add up in another order than the reference and the
/// stock operations do. An activation that lies within rounding of 0 may then fall on the other side of its ReLU after the
/// first update, and gives its whole unit another gradient: `cross_focal_text` uses 7.9 in two units. What comes before the
/// first update is held as strictly as with stock operations, and those are held strictly throughout.
const OF_FUSED: f64 = 10.0;
/// Gradients below this, or below the reference's rounding error, may turn Adam's first steps either way: its update is
/// g / √g².
const UNSTEADY: f32 = 1e-6;
/// Removing masked candidates instead of lowering them changes a contrastive loss by less.
const REMOVED: Tolerance = Tolerance {
    absolute: 1e-6,
    relative: 1e-3,
};

/// See [`OF_FUSED`].
fn after_updates() -> f64 {
    if super::with_stock_operations() { 1.0 } else { OF_FUSED }
}

impl Setting<'_> {
    pub(super) fn train(&self, name: &str, split: &Split, findings: &mut Findings) {
        let case = self.case;
        let folder = format!("cases/{name}");
        let expected = self.golden.tensors(&format!("{folder}/steps.safetensors"));
        let device = Device::flex().autodiff();
        let mut recognizer = self
            .recognizer(self.golden.tensors(&case.init), &device)
            .with_parity(self.parity);
        let mut optimizer = AdamW::new(AdamWSettings {
            beta1: case.adamw.betas[0],
            beta2: case.adamw.betas[1],
            epsilon: case.adamw.eps,
            weight_decay: case.adamw.weight_decay,
        });
        let schedule = Schedule {
            kind: ScheduleKind::Linear,
            warmup_steps: case.optim.warmup_steps,
            max_steps: case.optim.max_steps,
        };
        let (dense, sparse) = (self.collator(self.parity), self.collator(self.sparse()));
        let mut unsteady: BTreeMap<String, Vec<bool>> = BTreeMap::new();
        // The reference's own rounding error. A tensor whose gradient is 0 in exact arithmetic (a key's bias shifts all scores
        // of a query alike) has nothing else, in the reference as here.
        let floor = case.steps[0].max_abs_grad_err_f32_vs_f64.unwrap_or(1e-6);
        let noise = |size: f64| if size < 3.0 * floor { 3.0 * floor } else { 0.0 };
        for (number, step) in case.steps.iter().enumerate() {
            let (prefix, first) = (format!("step{number}."), number == 0);
            let (logits_tolerance, loss_tolerance) = if first {
                (LOGITS, LOSS)
            } else {
                (Tolerance::absolute(LATER_LOGITS * after_updates()), LATER_LOSS)
            };

            let collated = self.collate(&dense, split, &step.sample_indices, &step.types);
            let batch = &collated.batches[0];
            self.check_batch(batch, &step.meta, &expected, &prefix, findings);

            let scores = recognizer.scores(batch, None, ALL, None);
            for (kind, logits) in [("start", scores.start), ("end", scores.end), ("span", scores.span)] {
                let what = format!("{prefix}out.{kind}_logits");
                let got = by_type(&values(logits.expect("scored")), batch);
                findings.close("logits", &what, &got, &expected.float(&what).data, logits_tolerance);
            }
            let loss = recognizer.loss(batch, None).expect("something to learn from");
            let total = f64::from(loss.total.clone().into_scalar::<f32>());
            findings.number("loss", &format!("{prefix}loss"), total, step.loss, loss_tolerance);
            let components: Vec<f32> = loss
                .components
                .iter()
                .map(|(_, part)| part.clone().into_scalar())
                .collect();
            // Components without weight are not computed here.
            let weighted = step.loss_components.iter().zip(self.weights().into_iter().cycle());
            let listed: Vec<f32> = weighted
                .filter(|&(_, weight)| weight > 0.0)
                .map(|(&part, _)| part as f32)
                .collect();
            findings.close(
                "loss",
                &format!("{prefix}loss_components"),
                &components,
                &listed,
                loss_tolerance,
            );

            // Listing only what can be right must not change the loss, but for masked candidates that are really removed.
            let removes = self.config.loss_fn == LossKind::Contrastive;
            if !self.parity.cross_masks || self.config.is_bi_encoder() {
                let collated = self.collate(&sparse, split, &step.sample_indices, &step.types);
                let plain = recognizer.clone().with_parity(Parity::default());
                let loss = plain.loss(&collated.batches[0], None).expect("something to learn from");
                let total = f64::from(loss.total.into_scalar::<f32>());
                let (kind, tolerance) = if removes {
                    ("loss (removed)", REMOVED)
                } else {
                    ("loss (sparse)", loss_tolerance)
                };
                findings.number(
                    kind,
                    &format!("{prefix}loss of listed candidates"),
                    total,
                    step.loss,
                    tolerance,
                );
            }

            let gradients = recognizer.weights().gradients(&mut loss.total.backward());
            drop(loss);
            if let Some(complete) = first.then(|| format!("{folder}/grads_step0.safetensors"))
                && self.golden.folder.join(&complete).exists()
            {
                for (name, tensor) in self.golden.tensors(&complete).floats {
                    let Some(gradient) = gradients.get(&name) else {
                        findings.equal(&format!("gradient of {name}"), &"absent", &"present");
                        continue;
                    };
                    let largest = tensor.data.iter().fold(0f32, |largest, g| largest.max(g.abs()));
                    let tolerance = Tolerance {
                        absolute: (1e-6 * f64::from(largest)).max(floor),
                        relative: GRADIENTS,
                    };
                    let gradient = gradient.clone().into_dense(tensor.data.len());
                    let got = as_checkpoint(&recognizer, &name, &gradient);
                    findings.close(
                        "gradients",
                        &format!("gradient of {name}"),
                        &got,
                        &tensor.data,
                        tolerance,
                    );
                }
            }
            for (name, norm) in &step.grad_norms {
                let got = gradients
                    .get(name)
                    .map(|gradient| sum_of_squares(gradient.values()).sqrt());
                match (got, norm.as_f64()) {
                    (Some(got), Some(norm)) => {
                        let tolerance = Tolerance {
                            absolute: noise(norm),
                            relative: GRADIENTS,
                        };
                        findings.number(
                            "gradient norms",
                            &format!("{prefix}norm of {name}"),
                            got,
                            norm,
                            tolerance,
                        );
                    }
                    // The reference multiplies a loss without weight by 0; here it is left out.
                    (None, Some(0.0)) => {}
                    (got, norm) => {
                        findings.equal(&format!("{prefix}gradient of {name}"), &got.is_some(), &norm.is_some());
                    }
                }
            }
            let norm = gradients
                .values()
                .map(|gradient| sum_of_squares(gradient.values()))
                .sum::<f64>()
                .sqrt();
            findings.number(
                "gradient norms",
                &format!("{prefix}total norm"),
                norm,
                step.total_grad_norm,
                loss_tolerance,
            );
            findings.equal(&format!("{prefix}clipped"), &(norm > case.clip), &step.clipped);

            let factor = schedule.factor(number as u64);
            let rates: Vec<f64> = self.groups().iter().map(|(_, base)| base * factor).collect();
            let (got, listed) = (rates.iter(), step.lr_per_group.iter());
            let same = rates.len() == step.lr_per_group.len() && got.zip(listed).all(|(a, b)| (a - b).abs() < 1e-12);
            findings.equal(&format!("{prefix}learning rates"), &same, &true);

            let scale = clip_scale(norm, Some(case.clip));
            for (name, gradient) in &gradients {
                let rate = factor * self.base_rate(name);
                recognizer.weights_mut().change(name, |values| {
                    let small = unsteady
                        .entry(name.to_owned())
                        .or_insert_with(|| vec![false; values.len()]);
                    for (small, g) in small.iter_mut().zip(gradient.clone().into_dense(values.len())) {
                        *small |= (g * scale).abs() < UNSTEADY || f64::from(g.abs()) < floor;
                    }
                    optimizer.update(name, values, gradient, rate, scale);
                    optimizer.settle(name, values);
                });
            }
        }
        self.check_parameters(&folder, &recognizer, &unsteady, findings);
    }

    fn check_parameters(
        &self,
        folder: &str,
        recognizer: &Recognizer,
        unsteady: &BTreeMap<String, Vec<bool>>,
        findings: &mut Findings,
    ) {
        // Without a weight a scale has no gradient here, and gradient 0 (so decay) in the reference.
        let idle = |name: &str| {
            let scales = ["start_logit_scale", "end_logit_scale", "span_logit_scale"];
            scales
                .iter()
                .zip(self.weights())
                .any(|(&scale, weight)| scale == name && weight == 0.0)
        };
        let tensors = recognizer.weights().to_host();
        let after: Vec<HostTensor> = tensors.filter(|tensor| !idle(&tensor.name)).collect();
        let file = format!("{folder}/params_after_3_steps.safetensors");
        if self.golden.folder.join(&file).exists() {
            let expected = self.golden.tensors(&file);
            for tensor in after.iter().filter(|tensor| expected.floats.contains_key(&tensor.name)) {
                let mut goal = expected.float(&tensor.name).data.clone();
                if let Some(unsteady) = unsteady.get(&tensor.name) {
                    let unsteady: Vec<f32> = unsteady.iter().map(|&small| f32::from(u8::from(small))).collect();
                    let unsteady = as_checkpoint(recognizer, &tensor.name, &unsteady);
                    for ((goal, &got), small) in goal.iter_mut().zip(&tensor.data).zip(unsteady) {
                        if small > 0.0 && (*goal - got).abs() <= 3.0 * self.base_rate(&tensor.name) as f32 {
                            *goal = got;
                        }
                    }
                }
                let what = format!("{} after 3 steps", tensor.name);
                findings.close(
                    "parameters",
                    &what,
                    &tensor.data,
                    &goal,
                    Tolerance::absolute(PARAMETERS * after_updates()),
                );
            }
        }
        for tensor in &after {
            let Some(norm) = self
                .case
                .param_norms_after_3_steps
                .get(&tensor.name)
                .and_then(Value::as_f64)
            else {
                continue;
            };
            let got = sum_of_squares(&tensor.data).sqrt();
            let what = format!("norm of {} after 3 steps", tensor.name);
            let loose = unsteady
                .get(&tensor.name)
                .map_or(0, |small| small.iter().filter(|&&small| small).count());
            let tolerance = Tolerance {
                absolute: PARAMETERS * after_updates() + 3.0 * self.base_rate(&tensor.name) * (loose as f64).sqrt(),
                relative: 1e-5,
            };
            findings.number("parameter norms", &what, got, norm, tolerance);
        }
    }
}

/// Turns values laid out as a parameter is in memory into a checkpoint's order: linear weights are [in, out] in memory.
fn as_checkpoint(recognizer: &Recognizer, name: &str, values: &[f32]) -> Vec<f32> {
    match recognizer.weights().shape(name) {
        Some(&[outputs, inputs]) if !name.contains("embedding") => (0..outputs * inputs)
            .map(|i| values[i % inputs * outputs + i / inputs])
            .collect(),
        _ => values.to_vec(),
    }
}
