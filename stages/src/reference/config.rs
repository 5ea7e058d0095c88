//! [`Config`]: one of the reference's flat JSON files, every key with its place.

use nerpipe_engine::diagnostic::did_you_mean;
use nerpipe_engine::{Diagnostic, Diagnostics, Place};
use serde_json::{Map, Value};

use crate::train;

/// Keys that `train` has no setting for, but that say something here.
pub(super) const OWN: [&str; 11] = [
    "token_encoder",
    "type_encoder",
    "train_file",
    "validation_file",
    "test_file",
    "output_dir",
    "model_checkpoint",
    "do_train",
    "do_eval",
    "do_predict",
    "warmup_ratio",
];

/// Settings of `train` that no config of the reference has, or has in another meaning.
const NOT_THEIRS: [&str; 2] = ["architecture", "save_steps"];

/// What transformers' TrainingArguments takes besides, and nothing here reads.
#[rustfmt::skip]
const WITHOUT_MEANING: &[&str] = &[
    "accelerator_config", "adafactor", "auto_find_batch_size", "average_tokens_across_devices", "batch_eval_metrics",
    "bf16_full_eval", "data_seed", "dataloader_drop_last", "dataloader_num_workers", "dataloader_persistent_workers",
    "dataloader_pin_memory", "dataloader_prefetch_factor", "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb",
    "ddp_find_unused_parameters", "ddp_timeout", "debug", "deepspeed", "disable_tqdm", "dispatch_batches",
    "eval_accumulation_steps", "eval_delay", "eval_do_concat_batches", "eval_on_start", "eval_strategy",
    "eval_use_gather_object", "evaluation_strategy", "fp16_backend", "fp16_full_eval", "fp16_opt_level", "fsdp",
    "fsdp_config", "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap", "full_determinism",
    "gradient_checkpointing", "gradient_checkpointing_kwargs", "greater_is_better", "group_by_length",
    "half_precision_backend", "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy",
    "hub_token", "ignore_data_skip", "include_for_metrics", "include_inputs_for_metrics",
    "include_num_input_tokens_seen", "include_tokens_per_second", "jit_mode_eval", "label_names",
    "label_smoothing_factor", "length_column_name", "liger_kernel_config", "load_best_model_at_end", "local_rank",
    "log_level", "log_level_replica", "log_on_each_node", "logging_dir", "logging_first_step", "logging_nan_inf_filter",
    "logging_strategy", "lr_scheduler_kwargs", "metric_for_best_model", "mp_parameters", "neftune_noise_alpha",
    "no_cuda", "num_train_epochs", "optim", "optim_args", "optim_target_modules", "overwrite_cache", "overwrite_output_dir", "parallelism_config",
    "past_index", "per_gpu_eval_batch_size", "per_gpu_train_batch_size", "prediction_loss_only", "preprocessing_num_workers",
    "project", "push_to_hub", "push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token", "ray_scope",
    "remove_unused_columns", "report_to", "restore_callback_states_from_checkpoint", "resume_from_checkpoint",
    "save_on_each_node", "save_only_model", "save_safetensors", "save_steps", "save_strategy", "skip_memory_metrics",
    "split_batches", "tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps",
    "torchdynamo", "tpu_metrics_debug", "tpu_num_cores", "trackio_space_id", "use_cpu", "use_ipex", "use_legacy_prediction_loop",
    "use_liger_kernel", "use_mps_device",
];

/// One of the reference's configs, as it was written.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file's name, for messages.
    pub(super) file: String,
    /// Every key with its value, in the file's order.
    pub(super) values: Map<String, Value>,
    lines: Vec<String>,
    entries: Vec<Entry>,
}

/// Where a key and its value begin, as offsets in bytes, and where they end.
#[derive(Clone, Debug)]
struct Entry {
    key: String,
    line: usize,
    column: usize,
    length: usize,
}

impl Config {
    /// Whether `text` is meant as such a config: a JSON object that has no `stages`.
    pub fn is_meant(text: &str) -> bool {
        text.trim_start_matches('\u{feff}').trim_start().starts_with('{')
            && !matches!(serde_json::from_str::<Value>(text), Ok(Value::Object(map)) if map.contains_key("stages"))
    }

    /// Reads a config; `file` is only its name in messages.
    ///
    /// # Errors
    /// Text that is not one JSON object, keys that nobody knows, keys that are there twice.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let (line, column) = (error.line().max(1), error.column().max(1));
            let source = lines.get(line - 1).cloned().unwrap_or_default();
            let place = Place {
                file: file.to_owned(),
                line,
                column: column.min(source.chars().count().max(1)),
                length: 1,
                source,
            };
            let told = error.to_string();
            let told = told.split(" at line ").next().unwrap_or_default().to_owned();
            Diagnostics::from(Diagnostic::error(format!("not valid JSON: {told}")).at(place))
        })?;
        let Value::Object(values) = value else {
            return Err(Diagnostic::error(format!("`{file}` is no JSON object"))
                .help("a config of the reference is one object, `{\"token_encoder\": …}`")
                .into());
        };
        let config = Self {
            file: file.to_owned(),
            values,
            entries: entries(text),
            lines,
        };
        config.check()?;
        Ok(config)
    }

    /// The keys that are given and change nothing here, in the file's order.
    pub(super) fn without_meaning(&self) -> Vec<&str> {
        let keys = self.values.keys().map(String::as_str);
        keys.filter(|key| WITHOUT_MEANING.contains(key)).collect()
    }

    /// A value that is given and not null.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    /// Where `key` is written; the file's first line if it is not.
    pub(super) fn place(&self, key: &str) -> Place {
        let entry = self.entries.iter().rev().find(|entry| entry.key == key);
        let (line, column, length) = entry.map_or((1, 1, 1), |entry| (entry.line, entry.column, entry.length));
        self.place_at(line, column, length)
    }

    fn place_at(&self, line: usize, column: usize, length: usize) -> Place {
        let source = self.lines.get(line - 1).cloned().unwrap_or_default();
        let rest = source.chars().count().saturating_sub(column - 1);
        Place {
            file: self.file.clone(),
            line,
            column,
            length: length.min(rest).max(1),
            source,
        }
    }

    fn check(&self) -> Result<(), Diagnostics> {
        let mut found = Diagnostics::default();
        let known: Vec<&str> = known().collect();
        for (index, entry) in self.entries.iter().enumerate() {
            let place = || self.place_at(entry.line, entry.column, entry.length);
            if self.entries[..index].iter().any(|other| other.key == entry.key) {
                found.push(Diagnostic::error(format!("`{}` is there twice", entry.key)).at(place()));
            }
            let key = entry.key.as_str();
            if known.contains(&key) || WITHOUT_MEANING.contains(&key) {
                continue;
            }
            let nearest = did_you_mean(key, known.iter().copied());
            found.push(
                Diagnostic::error(format!("unknown key `{key}`"))
                    .at(place())
                    .maybe_help(nearest),
            );
        }
        found.or(())
    }
}

/// Every key that says something here.
fn known() -> impl Iterator<Item = &'static str> {
    let trained = train::FIELDS.iter().map(|field| field.name);
    OWN.into_iter().chain(trained.filter(|name| !NOT_THEIRS.contains(name)))
}

/// The keys of the object in `text`, which is valid JSON, with their places.
fn entries(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let (mut line, mut column, mut depth) = (1, 0, 0);
    let mut characters = text.chars().peekable();
    // The string that was read last at the object's own level, if a colon may still follow.
    let mut last: Option<Entry> = None;
    while let Some(character) = characters.next() {
        column += 1;
        match character {
            '\n' => (line, column) = (line + 1, 0),
            '"' => {
                let start = column;
                let mut raw = String::from('"');
                let mut escaped = false;
                for inside in characters.by_ref() {
                    column += 1;
                    raw.push(inside);
                    match inside {
                        '\\' if !escaped => escaped = true,
                        '"' if !escaped => break,
                        _ => escaped = false,
                    }
                }
                last = (depth == 1).then(|| Entry {
                    key: serde_json::from_str(&raw).unwrap_or_default(),
                    line,
                    column: start,
                    length: raw.chars().count(),
                });
            }
            ':' => entries.extend(last.take()),
            '{' | '[' => depth += 1,
            '}' | ']' => depth -= 1,
            _ => {}
        }
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let mistakes = Config::parse("c.json", text).expect_err("mistakes");
        mistakes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_told_with_their_line_and_the_nearest_name() {
        let text = "{\n  \"seed\": 1,\n  \"token_encodr\": {\"lerning_rate\": \"x\\\"y\"},\n\t\"learning_rat\": 1,\n \"nonsense\": []\n}";
        let all = told(text);
        assert_eq!(
            all[0],
            "c.json:3:3: unknown key `token_encodr`; did you mean `token_encoder`?"
        );
        assert_eq!(
            all[1],
            "c.json:4:2: unknown key `learning_rat`; did you mean `learning_rate`?"
        );
        assert!(
            all[2].starts_with("c.json:5:2: unknown key `nonsense`; known here: token_encoder"),
            "{}",
            all[2]
        );
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn keys_that_are_there_twice_and_broken_json_are_told() {
        assert_eq!(
            told("{\"seed\": 1, \"seed\": 2}"),
            ["c.json:1:13: `seed` is there twice"]
        );
        assert_eq!(told("{\"seed\": 1,\n}"), ["c.json:2:1: not valid JSON: trailing comma"]);
        assert!(told("[1]")[0].contains("no JSON object"));
    }

    #[test]
    fn arguments_of_transformers_are_known_to_mean_nothing() {
        let config =
            Config::parse("c.json", r#"{"report_to": "wandb", "seed": 1, "save_steps": 5}"#).expect("known keys");
        assert_eq!(config.without_meaning(), ["report_to", "save_steps"]);
        for key in WITHOUT_MEANING {
            assert!(!known().any(|other| other == *key), "{key} is in both lists");
        }
    }

    #[test]
    fn a_manifest_in_json_is_none() {
        assert!(Config::is_meant(" {\"seed\": 1"));
        assert!(!Config::is_meant("{\"name\": \"m\", \"stages\": {}}"));
        assert!(!Config::is_meant("name: m\nstages: {}"));
    }
}
