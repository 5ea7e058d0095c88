//! The kind `train`: tokens + encoders → a checkpoint. One training for all four systems; architecture and loss are settings.
//!
//! The loop, in order: draw a batch and its types, collate it (one pass, or several where a prompt must be split), forward, loss,
//! backward; after `gradient_accumulation_steps` batches clip the global norm and step the optimizer. Every `eval_steps`
//! optimizer steps, and after the last, the validation split is evaluated; the best model by micro F1 is what is kept. Without
//! a validation split the last model is.

mod batches;
mod card;
mod data;
mod settings;

use std::io::Write;
use std::time::Instant;

use nerpipe_engine::{
    Context, Field, InputParts, Kind, Port, Progress, Resolved, SettingError, StageError, Weight, kind::parse_settings,
};
use serde_json::{Value, json};

pub use batches::{BatchRows, BatchTypes, Batches, Draw, TypeOrder};
pub use settings::{FIELDS, TrainSettings};

use crate::batch::Collator;
use crate::checkpoint;
use crate::device::open_device;
use crate::evaluate::{LossCounts, ScoreSettings, Tally, score_split};
use crate::model::{Dropout, HostGradients, HostTensor, Recognizer};
use crate::optim::{AdamW, clip_scale, sum_of_squares};
use crate::tensors::write_safetensors;
use crate::tokens::Split;
use data::TrainingData;

/// The kind `train`.
pub struct Train;

impl Kind for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn version(&self) -> u32 {
        2
    }

    fn about(&self) -> &'static str {
        "trains a recognizer: bi- or cross-encoder, with BCE, focal or contrastive loss"
    }

    fn weight(&self) -> Weight {
        Weight::Heavy
    }

    fn fields(&self) -> &'static [Field] {
        FIELDS
    }

    fn ports(&self) -> &'static [Port] {
        const fn port(name: &'static str, takes: &'static str, required: bool) -> Port {
            Port {
                name,
                takes,
                required,
                collects: false,
            }
        }
        const PORTS: [Port; 3] = [
            port("tokens", "tokens", true),
            port("token_encoder", "encoder", true),
            port("type_encoder", "encoder", false),
        ];
        &PORTS
    }

    fn produces(&self) -> &'static str {
        "model"
    }

    fn resolve(&self, settings: &Value, inputs: &InputParts) -> Result<Resolved, SettingError> {
        let settings: TrainSettings = parse_settings(settings)?;
        let settings = settings.resolved()?;
        let bi = settings.recognizer().is_bi_encoder();
        if bi && !inputs.connected("type_encoder") {
            return Err(
                SettingError::new("inputs.type_encoder", "a bi-encoder needs a type encoder")
                    .help("connect one: `inputs: {…, type_encoder: STAGE}`; it may be the token encoder's stage"),
            );
        }
        let offered = |part: &str| inputs.parts("tokens").iter().any(|offer| offer == part);
        if !offered("train") {
            return Err(SettingError::new("inputs.tokens", "the tokens have no `train` split")
                .help("give the load stage a `train` file"));
        }
        let mut tokens = vec!["train"];
        if offered("validation") {
            tokens.push("validation");
        }
        tokens.push("tokenizer.json");
        let encoder = ["config.json", "model.safetensors", "tokenizer.json"];
        let mut parts = vec!["config.json", "model.safetensors", "token_encoder_config.json"];
        let mut resolved = Resolved::new(&settings)?
            .reads("tokens", tokens)
            .reads("token_encoder", encoder);
        if bi {
            resolved = resolved.reads("type_encoder", encoder);
            parts.extend(["type_encoder_config.json", "type_tokenizer.json"]);
        }
        parts.extend(["tokenizer.json", "README.md", "training_log.jsonl"]);
        let threshold = settings.recognizer().prediction_threshold;
        Ok(resolved
            .makes(parts)
            .tells(checkpoint::THRESHOLD_KIND, threshold.kind()))
    }

    fn run(&self, ctx: &Context) -> Result<(), StageError> {
        let settings: TrainSettings = ctx.settings()?;
        let data = TrainingData::open(ctx, &settings)?;
        let device = open_device(ctx)?.autodiff();
        let recognizer = data.recognizer(ctx, &settings, &device)?;
        let mut training = Training::new(ctx, &settings, &data, recognizer)?;
        training.run()?;
        training.write()
    }
}

/// A training under way.
struct Training<'a> {
    ctx: &'a Context,
    settings: &'a TrainSettings,
    data: &'a TrainingData,
    collator: Collator,
    recognizer: Recognizer,
    optimizer: AdamW,
    log: std::io::BufWriter<std::fs::File>,
    /// Text cut off and golds lost in the batches so far.
    losses: LossCounts,
    best: Option<Best>,
}

/// The best model so far.
struct Best {
    step: u64,
    f1: f64,
    tensors: Vec<HostTensor>,
}

impl<'a> Training<'a> {
    fn new(
        ctx: &'a Context,
        settings: &'a TrainSettings,
        data: &'a TrainingData,
        recognizer: Recognizer,
    ) -> Result<Self, StageError> {
        let path = ctx.out("training_log.jsonl")?;
        let log = std::fs::File::create(&path)
            .map_err(|error| StageError::new(format!("failed to create `{}`: {error}", path.display())))?;
        Ok(Self {
            ctx,
            settings,
            data,
            collator: data.collator(settings),
            recognizer,
            optimizer: AdamW::new(settings.optimizer()),
            log: std::io::BufWriter::new(log),
            losses: LossCounts::default(),
            best: None,
        })
    }

    fn run(&mut self) -> Result<(), StageError> {
        let settings = self.settings;
        let draw = Draw {
            size: settings.per_device_train_batch_size,
            types: settings.batch_types,
            order: settings.type_order,
            seed: settings.seed,
        };
        let mut batches = Batches::new(&self.data.train, draw);
        let mut without_gain = 0;
        #[expect(
            clippy::disallowed_methods,
            reason = "only the speed shown to people depends on the clock"
        )]
        let begun = Instant::now();
        let mut sentences = 0;
        for step in 0..settings.max_steps {
            self.ctx.check_cancelled()?;
            let done = self.step(step, &mut batches)?;
            sentences += done.sentences;
            if (step + 1) % settings.logging_steps == 0 || step + 1 == settings.max_steps {
                let speed = sentences as f64 / begun.elapsed().as_secs_f64();
                self.ctx.progress(Progress {
                    done: step + 1,
                    total: Some(settings.max_steps),
                    unit: "steps",
                    figures: vec![("loss", done.loss), ("samples/s", speed)],
                });
            }
            let due =
                settings.eval_steps.is_some_and(|every| (step + 1) % every == 0) || step + 1 == settings.max_steps;
            if let Some(validation) = self.data.validation.as_ref().filter(|_| due) {
                let gained = self.evaluate(step + 1, validation)?;
                without_gain = if gained { 0 } else { without_gain + 1 };
                if settings
                    .early_stopping_patience
                    .is_some_and(|patience| without_gain >= patience)
                {
                    self.ctx.log(&format!(
                        "stopped after step {}: {without_gain} evaluations without gain",
                        step + 1
                    ));
                    self.ctx.note("stopped_early_at_step", json!(step + 1));
                    break;
                }
            }
        }
        if batches.skipped() > 0 {
            self.ctx.note("batches_without_entities", json!(batches.skipped()));
        }
        self.losses.note(self.ctx, "train_");
        Ok(())
    }

    /// One optimizer step.
    fn step(&mut self, step: u64, batches: &mut Batches<'_>) -> Result<StepDone, StageError> {
        let settings = self.settings;
        let accumulated = settings.gradient_accumulation_steps;
        let mut sum: Option<HostGradients> = None;
        let mut loss_sum = 0.0;
        let mut rows = Vec::new();
        let mut pass = 0;
        for _ in 0..accumulated {
            let batch = batches.next_batch()?;
            let sentences = self.data.sentences(&batch);
            let longest = sentences.iter().map(|sentence| sentence.ids.len()).max().unwrap_or(0);
            let passes = self
                .collator
                .passes(&batch.types, &self.data.train.labels().ids, longest);
            let collated = self.collator.collate(&passes, &sentences);
            self.losses.add(&collated);
            self.losses.add_cut_names(passes.cut_names);
            for inputs in &collated.batches {
                let dropout = Dropout::new(settings.seed, step, pass);
                pass += 1;
                let Some(loss) = self.recognizer.loss(inputs, Some(&dropout)) else {
                    continue;
                };
                loss_sum += f64::from(loss.total.clone().into_scalar::<f32>()) / accumulated as f64;
                let gradients = self.recognizer.weights().gradients(&mut loss.total.backward());
                add(&mut sum, gradients);
            }
            rows.push(batch);
        }
        let mut gradients = sum.unwrap_or_default();
        if accumulated > 1 {
            for gradient in gradients.values_mut() {
                gradient.iter_mut().for_each(|value| *value /= accumulated as f32);
            }
        }
        let norm = gradients
            .values()
            .map(|gradient| sum_of_squares(gradient))
            .sum::<f64>()
            .sqrt();
        if !loss_sum.is_finite() || !norm.is_finite() {
            return Err(self.diverged(step, loss_sum, norm, &rows));
        }
        let rate = settings.schedule().factor(step);
        let scale = clip_scale(norm, Some(settings.max_grad_norm));
        let optimizer = &mut self.optimizer;
        self.recognizer
            .weights_mut()
            .update(&gradients, |name, values, gradient| {
                optimizer.update(name, values, gradient, rate * settings.peak_rate(name), scale);
            });
        let sentences: Vec<usize> = rows.iter().flat_map(|batch| batch.sentences.iter().copied()).collect();
        let types: Vec<&str> = rows
            .iter()
            .flat_map(|batch| batch.types.iter().map(|&label| self.data.label(label)))
            .collect();
        let done = StepDone {
            loss: loss_sum,
            sentences: sentences.len() as u64,
        };
        self.log_line(&json!({
            "step": step,
            "loss": loss_sum,
            "learning_rate": rate * settings.learning_rate,
            "gradient_norm": norm,
            "sentences": sentences,
            "types": types,
        }))?;
        Ok(done)
    }

    /// What led to a loss that is no number.
    fn diverged(&self, step: u64, loss: f64, norm: f64, rows: &[BatchRows]) -> StageError {
        let ids: Vec<&str> = rows
            .iter()
            .flat_map(|batch| batch.sentences.iter().map(|&row| self.data.train.sentence(row).id))
            .collect();
        StageError::new(format!(
            "training diverged at step {step}: the loss is {loss}, the gradient's norm {norm}; sentences of the batch: {}",
            ids.join(", ")
        ))
        .help("lower `learning_rate`, raise `warmup_steps`, or lower `max_grad_norm`")
    }

    /// Evaluates on the validation split; whether the model is the best so far.
    fn evaluate(&mut self, step: u64, validation: &Split) -> Result<bool, StageError> {
        let threshold = self.recognizer.config().prediction_threshold;
        let mut tally = Tally::new(threshold.into(), validation.labels().len());
        let model = self.recognizer.for_inference();
        let settings = ScoreSettings {
            batch_size: self.settings.per_device_eval_batch_size,
            floor: threshold,
        };
        score_split(
            self.ctx,
            &model,
            &self.collator,
            validation,
            &settings,
            &mut |_, scores| {
                tally.add(&scores, None);
                Ok(())
            },
        )?;
        drop(model);
        let metrics = tally.metrics(&validation.labels().names);
        let f1 = metrics.reference.micro.f1;
        self.log_line(&json!({
            "step": step,
            "validation": {"micro": metrics.reference.micro, "full_gold": {"micro": metrics.full_gold.micro}},
        }))?;
        self.ctx.log(&format!("step {step}: validation micro F1 {f1:.4}"));
        let gained = self.best.as_ref().is_none_or(|best| f1 > best.f1);
        if gained {
            self.best = Some(Best {
                step,
                f1,
                tensors: self.recognizer.weights().to_host().collect(),
            });
        }
        Ok(gained)
    }

    fn log_line(&mut self, line: &Value) -> Result<(), StageError> {
        writeln!(self.log, "{line}")
            .map_err(|error| StageError::new(format!("failed to write the training log: {error}")))
    }

    /// Writes the checkpoint.
    fn write(mut self) -> Result<(), StageError> {
        self.log
            .flush()
            .map_err(|error| StageError::new(format!("failed to write the training log: {error}")))?;
        let (tensors, best) = match self.best.take() {
            Some(best) => (best.tensors, Some((best.step, best.f1))),
            None => (self.recognizer.weights().to_host().collect(), None),
        };
        if let Some((step, f1)) = best {
            self.ctx.note("best_step", json!(step));
            self.ctx.note("validation_micro_f1", json!(f1));
        }
        write_safetensors(&self.ctx.out("model.safetensors")?, &tensors)?;
        self.data.write_configs(self.ctx, self.settings)?;
        let card = card::model_card(self.settings, &self.data.train.labels().names, best);
        checkpoint::write(&self.ctx.out("README.md")?, card.as_bytes())
    }
}

/// What one optimizer step did.
struct StepDone {
    loss: f64,
    sentences: u64,
}

/// Adds gradients of a further pass, in place.
fn add(sum: &mut Option<HostGradients>, more: HostGradients) {
    let Some(sum) = sum else {
        *sum = Some(more);
        return;
    };
    for (name, gradient) in more {
        match sum.get_mut(&name) {
            Some(total) => total
                .iter_mut()
                .zip(&gradient)
                .for_each(|(total, value)| *total += value),
            None => {
                sum.insert(name, gradient);
            }
        }
    }
}
