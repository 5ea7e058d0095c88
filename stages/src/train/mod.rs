//! The kind `train`: tokens + encoders (or a checkpoint to start from) → a checkpoint. One training for all four systems;
//! architecture and loss are settings.
//!
//! The loop, in order: draw a batch and its types, collate it (one pass, or several where a prompt must be split), forward, loss,
//! backward; after `gradient_accumulation_steps` batches clip the global norm and step the optimizer. Every `eval_steps`
//! optimizer steps, and after the last, the validation split is evaluated; the best model by micro F1 is what is kept. Without
//! a validation split the last model is.
//!
//! The state is saved from time to time and when the run is told to stop (`resume`); the same training then goes on from there.

mod batches;
mod card;
mod data;
mod resume;
mod settings;

use std::collections::VecDeque;
use std::io::Write;
use std::time::Instant;

use nerpipe_engine::{
    Context, ErrorClass, Field, InputParts, Kind, Port, Progress, Resolved, Resources, SettingError, StageError,
    Weight,
    kind::{parse_settings, schema_of},
};
use serde::Serialize;
use serde_json::{Value, json};

pub use batches::{BatchRows, BatchTypes, Batches, Draw, Position, TypeOrder};
pub use settings::{FIELDS, TrainSettings};

use crate::batch::{Batch, Collator, TypeInput};
use crate::checkpoint;
use crate::device::open_device;
use crate::evaluate::{LossCounts, ScoreSettings, Tally, score_split};
use crate::model::{Dropout, HostGradients, HostTensor, Recognizer};
use crate::optim::{AdamW, clip_scale, sum_of_squares};
use crate::tensors::write_safetensors;
use crate::tokens::Split;
use data::TrainingData;
use resume::{Keeper, Point};

/// The kind `train`.
pub struct Train;

impl Kind for Train {
    fn name(&self) -> &'static str {
        "train"
    }

    fn version(&self) -> u32 {
        4
    }

    fn about(&self) -> &'static str {
        "trains a recognizer: bi- or cross-encoder, with BCE, focal or contrastive loss"
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
        FIELDS
    }

    fn schema(&self) -> Option<Value> {
        Some(schema_of::<TrainSettings>())
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
        const PORTS: [Port; 4] = [
            port("tokens", "tokens", true),
            port("token_encoder", "encoder", false),
            port("type_encoder", "encoder", false),
            port("start", "model", false),
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
        check_encoders(bi, inputs)?;
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
        if bi && offered("type_tokenizer.json") {
            tokens.push("type_tokenizer.json");
        }
        let encoder = ["config.json", "model.safetensors", "tokenizer.json"];
        let mut parts = vec!["config.json", "model.safetensors", "token_encoder_config.json"];
        if bi {
            parts.extend(["type_encoder_config.json", "type_tokenizer.json"]);
        }
        let mut resolved = Resolved::new(&settings)?.reads("tokens", tokens);
        if inputs.connected("start") {
            resolved = resolved.reads("start", checkpoint::parts_to_read(inputs.parts("start")));
        } else {
            resolved = resolved.reads("token_encoder", encoder);
            if bi {
                resolved = resolved.reads("type_encoder", encoder);
            }
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
        ctx.check_space(space(&recognizer))?;
        let mut training = Training::new(ctx, &settings, &data, recognizer)?;
        if let Err(error) = training.run() {
            training.save_if_stopped(&error)?;
            return Err(error);
        }
        training.write()
    }
}

/// How many bytes a training may have on disk at once: while its state is replaced, weights and two moments twice and the best
/// model twice, then the checkpoint beside them; and some for the log.
fn space(recognizer: &Recognizer) -> u64 {
    const COPIES: u64 = 3 + 3 + 1 + 1 + 1;
    const LOG: u64 = 1 << 20;
    let values = |shape: &[usize]| shape.iter().product::<usize>() as u64;
    let weights: u64 = recognizer.weights().shapes().map(|(_, shape)| values(shape)).sum();
    weights * size_of::<f32>() as u64 * COPIES + LOG
}

/// Refuses a training without encoders: they come from a checkpoint to start from, or from ports of their own.
fn check_encoders(bi: bool, inputs: &InputParts) -> Result<(), SettingError> {
    let wrong = |port: &str, message: &str| Err(SettingError::new(format!("inputs.{port}"), message));
    if inputs.connected("start") {
        let start_is_bi = inputs
            .parts("start")
            .iter()
            .any(|part| part == "type_encoder_config.json");
        return match (start_is_bi, bi) {
            (true, false) => wrong("start", "the checkpoint is a bi-encoder, and `architecture` is not"),
            (false, true) => wrong("start", "the checkpoint is a cross-encoder, and `architecture` is not"),
            _ => Ok(()),
        };
    }
    if !inputs.connected("token_encoder") {
        return wrong(
            "token_encoder",
            "a training needs an encoder, or a checkpoint to start from",
        )
        .map_err(|error| {
            error.help("connect one: `inputs: {…, token_encoder: STAGE}`, or `start: STAGE` for a checkpoint")
        });
    }
    if bi && !inputs.connected("type_encoder") {
        return wrong("type_encoder", "a bi-encoder needs a type encoder").map_err(|error| {
            error.help("connect one: `inputs: {…, type_encoder: STAGE}`; it may be the token encoder's stage")
        });
    }
    Ok(())
}

/// A training under way.
struct Training<'a> {
    ctx: &'a Context,
    settings: &'a TrainSettings,
    data: &'a TrainingData,
    collator: Collator,
    recognizer: Recognizer,
    optimizer: AdamW,
    batches: Batches<'a>,
    keeper: Keeper,
    log: std::io::BufWriter<std::fs::File>,
    /// Optimizer steps done.
    done: u64,
    /// The last step after which the validation split was evaluated.
    evaluated: u64,
    /// Evaluations since the best one.
    without_gain: u32,
    /// Text cut off and golds lost in the batches so far.
    losses: LossCounts,
    best: Option<Best>,
    /// Step and loss of the last steps.
    recent: VecDeque<(u64, f64)>,
}

/// How many losses are told of when one is no number.
const RECENT: usize = 5;

/// The best model so far.
struct Best {
    step: u64,
    f1: f64,
    tensors: Vec<HostTensor>,
}

impl<'a> Training<'a> {
    /// The training at its begin, or where the state that was saved is.
    fn new(
        ctx: &'a Context,
        settings: &'a TrainSettings,
        data: &'a TrainingData,
        mut recognizer: Recognizer,
    ) -> Result<Self, StageError> {
        let draw = Draw {
            size: settings.per_device_train_batch_size,
            types: settings.batch_types,
            order: settings.type_order,
            seed: settings.seed,
        };
        let mut keeper = Keeper::new(ctx.unfinished()?, settings.save_steps);
        let batches = Batches::new(&data.train, draw);
        let Some(saved) = keeper.load() else {
            return Ok(Self {
                ctx,
                settings,
                data,
                collator: data.collator(settings),
                recognizer,
                optimizer: AdamW::new(settings.optimizer()),
                batches,
                log: std::io::BufWriter::new(keeper.log(0)?),
                keeper,
                done: 0,
                evaluated: 0,
                without_gain: 0,
                losses: LossCounts::default(),
                best: None,
                recent: VecDeque::new(),
            });
        };
        let point = saved.point;
        recognizer
            .weights_mut()
            .set(saved.weights)
            .map_err(|error| StageError::new(format!("the state that was saved cannot be used: {error}")))?;
        ctx.log(&format!("goes on after step {}", point.step));
        Ok(Self {
            ctx,
            settings,
            data,
            collator: data.collator(settings),
            recognizer,
            optimizer: AdamW::with_moments(settings.optimizer(), saved.moments),
            batches: batches.at(point.batches),
            log: std::io::BufWriter::new(keeper.log(point.log)?),
            keeper,
            done: point.step,
            evaluated: point.evaluated,
            without_gain: point.without_gain,
            losses: point.losses,
            best: saved
                .best
                .zip(point.best)
                .map(|(tensors, (step, f1))| Best { step, f1, tensors }),
            recent: VecDeque::new(),
        })
    }

    fn run(&mut self) -> Result<(), StageError> {
        let settings = self.settings;
        #[expect(
            clippy::disallowed_methods,
            reason = "only the speed shown to people depends on the clock"
        )]
        let begun = Instant::now();
        let mut sentences = 0;
        let threads = rayon::current_num_threads();
        self.ctx
            .log(&format!("trains on {} with {threads} threads", self.ctx.device()));
        loop {
            if self.should_stop_early()? || self.done >= settings.max_steps {
                break;
            }
            if self.keeper.is_due(self.done) {
                self.save()?;
            }
            self.ctx.check_cancelled()?;
            let done = self.step(self.done)?;
            self.done += 1;
            sentences += done.sentences;
            if self.done.is_multiple_of(settings.logging_steps) || self.done == settings.max_steps {
                let speed = sentences as f64 / begun.elapsed().as_secs_f64();
                self.ctx.progress(Progress {
                    done: self.done,
                    total: Some(settings.max_steps),
                    unit: "steps",
                    figures: vec![("loss", done.loss), ("samples/s", speed)],
                });
            }
        }
        if self.batches.skipped() > 0 {
            self.ctx.note("batches_without_entities", json!(self.batches.skipped()));
        }
        self.losses.note(self.ctx, "train_");
        Ok(())
    }

    /// Evaluates if the step that was done last asks for it; whether that ends the training.
    fn should_stop_early(&mut self) -> Result<bool, StageError> {
        let settings = self.settings;
        let Some(validation) = self.data.validation.as_ref() else {
            return Ok(false);
        };
        let step = self.done;
        let due = settings.eval_steps.is_some_and(|every| step.is_multiple_of(every)) || step >= settings.max_steps;
        if self.evaluated < step && due {
            let gained = self.evaluate(step, validation)?;
            self.without_gain = if gained { 0 } else { self.without_gain + 1 };
            self.evaluated = step;
        }
        let stops = settings
            .early_stopping_patience
            .is_some_and(|patience| step > 0 && self.without_gain >= patience);
        if stops {
            let without_gain = self.without_gain;
            self.ctx.log(&format!(
                "stopped after step {step}: {without_gain} evaluations without gain"
            ));
            self.ctx.note("stopped_early_at_step", json!(step));
        }
        Ok(stops)
    }

    /// Saves the state after the steps that were done.
    fn save(&mut self) -> Result<(), StageError> {
        self.log
            .flush()
            .map_err(|error| StageError::new(format!("failed to write the training log: {error}")))?;
        self.settle();
        let point = Point::new(
            self.done,
            self.evaluated,
            self.batches.position(),
            self.losses.clone(),
            self.without_gain,
        );
        let best = self.best.as_ref();
        self.keeper.save(
            point,
            self.log.get_ref(),
            self.recognizer.weights().to_host(),
            self.optimizer.moments(),
            best.map(|best| (best.step, best.f1, best.tensors.as_slice())),
        )
    }

    /// Saves the state of a training that ends because it was told to.
    fn save_if_stopped(&mut self, error: &StageError) -> Result<(), StageError> {
        let stopped = matches!(error.class, ErrorClass::Cancelled | ErrorClass::TimedOut);
        if stopped {
            if !self.keeper.has(self.done) {
                self.save()?;
            }
            self.ctx.log(&format!(
                "stopped after step {}; the next run goes on from there",
                self.done
            ));
        }
        Ok(())
    }

    /// One optimizer step.
    fn step(&mut self, step: u64) -> Result<StepDone, StageError> {
        let settings = self.settings;
        let accumulated = settings.gradient_accumulation_steps;
        let mut sum: Option<HostGradients> = None;
        let mut loss_sum = 0.0;
        let mut rows = Vec::new();
        let mut work = Work::default();
        let mut pass = 0;
        for _ in 0..accumulated {
            let batch = self.batches.next_batch()?;
            let sentences = self.data.sentences(&batch);
            let longest = sentences.iter().map(|sentence| sentence.ids.len()).max().unwrap_or(0);
            let passes = self
                .collator
                .passes(&batch.types, &self.data.train.labels().ids, longest);
            let collated = self.collator.collate(&passes, &sentences);
            self.losses.add(&collated);
            self.losses.add_cut_names(passes.cut_names);
            for inputs in &collated.batches {
                work.add(inputs);
                self.catch_up(inputs);
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
                let values = gradient.values_mut().iter_mut();
                values.for_each(|value| *value /= accumulated as f32);
            }
        }
        let norm = gradients
            .values()
            .map(|gradient| sum_of_squares(gradient.values()))
            .sum::<f64>()
            .sqrt();
        if !loss_sum.is_finite() || !norm.is_finite() {
            return Err(self.diverged(step, loss_sum, norm, &rows));
        }
        let rate = settings.schedule().factor(step);
        let scale = clip_scale(norm, Some(settings.max_grad_norm));
        for (name, gradient) in &gradients {
            let rate = rate * settings.peak_rate(name);
            self.recognizer.weights_mut().change(name, |values| {
                self.optimizer.update(name, values, gradient, rate, scale)
            });
        }
        let sentences: Vec<usize> = rows.iter().flat_map(|batch| batch.sentences.iter().copied()).collect();
        let types: Vec<&str> = rows
            .iter()
            .flat_map(|batch| batch.types.iter().map(|&label| self.data.label(label)))
            .collect();
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((step, loss_sum));
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
            "work": work,
        }))?;
        Ok(done)
    }

    /// Lets the optimizer make up for updates of the rows that a batch reads.
    fn catch_up(&mut self, batch: &Batch) {
        for (table, rows) in self.recognizer.table_rows(batch) {
            self.recognizer
                .weights_mut()
                .change(&table, |values| self.optimizer.catch_up(&table, values, &rows));
        }
    }

    /// Lets the optimizer make up for all updates, so that every parameter can be read.
    fn settle(&mut self) {
        for table in self.optimizer.unsettled() {
            self.recognizer
                .weights_mut()
                .change(&table, |values| self.optimizer.settle(&table, values));
        }
    }

    /// What led to a loss that is no number.
    fn diverged(&self, step: u64, loss: f64, norm: f64, rows: &[BatchRows]) -> StageError {
        let ids: Vec<&str> = rows
            .iter()
            .flat_map(|batch| batch.sentences.iter().map(|&row| self.data.train.sentence(row).id))
            .collect();
        let rate = self.settings.schedule().factor(step) * self.settings.learning_rate;
        let before: Vec<String> = self
            .recent
            .iter()
            .map(|(step, loss)| format!("{loss:.4} at step {step}"))
            .collect();
        let before = if before.is_empty() {
            "it is the first".to_owned()
        } else {
            format!("the losses before were {}", before.join(", "))
        };
        StageError::new(format!(
            "training diverged at step {step}: the loss is {loss}, the gradient's norm {norm}, the learning rate {rate:e}; \
             {before}; sentences of the batch: {}",
            ids.join(", ")
        ))
        .help("lower `learning_rate`, raise `warmup_steps`, or lower `max_grad_norm`")
    }

    /// Evaluates on the validation split; whether the model is the best so far.
    fn evaluate(&mut self, step: u64, validation: &Split) -> Result<bool, StageError> {
        self.settle();
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
        checkpoint::copy(&self.keeper.log_path(), &self.ctx.out("training_log.jsonl")?)?;
        self.settle();
        let (tensors, best) = match self.best.take() {
            Some(best) => (best.tensors, Some((best.step, best.f1))),
            None => (self.recognizer.weights().to_host().collect(), None),
        };
        if let Some((step, f1)) = best {
            self.ctx.note("best_step", json!(step));
            self.ctx.note("validation_micro_f1", json!(f1));
        }
        write_safetensors(&self.ctx.out("model.safetensors")?, &tensors)?;
        // How often the state was saved is no part of what was made.
        let settings = TrainSettings {
            save_steps: None,
            ..self.settings.clone()
        };
        self.data.write_configs(self.ctx, &settings, &tensors)?;
        let card = card::model_card(self.settings, &self.data.train.labels().names, best);
        checkpoint::write(&self.ctx.out("README.md")?, card.as_bytes())
    }
}

/// What one optimizer step did.
struct StepDone {
    loss: f64,
    sentences: u64,
}

/// What the models read and scored in a step, from which the least number of multiplications follows.
#[derive(Debug, Default, Serialize)]
struct Work {
    /// Subwords of texts, prompts and types.
    subwords: usize,
    /// Pairs of subwords of one sequence.
    pairs: usize,
    /// Starts and ends.
    positions: usize,
    /// Spans.
    spans: usize,
}

impl Work {
    fn add(&mut self, batch: &Batch) {
        let types = match &batch.type_input {
            TypeInput::Apart(input) => Some(input),
            TypeInput::Markers(_) => None,
        };
        for input in std::iter::once(&batch.text).chain(types) {
            self.subwords += input.sequences.tokens();
            self.pairs += input.sequences.iter().map(|tokens| tokens.len().pow(2)).sum::<usize>();
        }
        self.positions += batch.starts.rows.len() + batch.ends.rows.len();
        self.spans += batch.spans.rows.len();
    }
}

/// Adds gradients of a further pass, in place.
fn add(sum: &mut Option<HostGradients>, more: HostGradients) {
    let Some(sum) = sum else {
        *sum = Some(more);
        return;
    };
    for (name, gradient) in more {
        match sum.get_mut(&name) {
            Some(total) => total.add(gradient),
            None => {
                sum.insert(name, gradient);
            }
        }
    }
}
