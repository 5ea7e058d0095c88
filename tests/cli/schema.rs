//! The JSON Schema of manifests: it accepts what the program accepts, and refuses what it says it does.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::project::Project;

fn schema() -> Value {
    let printed = Project::new().nerpipe(&["schema"]).expect(0).stdout;
    serde_json::from_str(&printed).expect("JSON")
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap_or_else(|error| panic!("{error} in\n{text}"))
}

/// What is wrong with `value`, each with its path. Keywords that it does not know are an error of the test, so none goes unchecked.
fn problems(root: &Value, schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let schema = match schema {
        Value::Bool(true) => return Vec::new(),
        Value::Bool(false) => return vec![format!("{path}: nothing may stand here")],
        schema => schema.as_object().expect("a schema"),
    };
    if let Some(reference) = schema.get("$ref") {
        assert_eq!(schema.len(), 1, "draft 7 reads nothing beside a reference: {schema:?}");
        let pointer = reference
            .as_str()
            .and_then(|text| text.strip_prefix('#'))
            .expect("a reference");
        let target = root.pointer(pointer).unwrap_or_else(|| panic!("there is no {pointer}"));
        return problems(root, target, value, path);
    }
    let mut found = Vec::new();
    for (keyword, wanted) in schema {
        let ok = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "definitions" | "then" => continue,
            "type" => of(wanted).iter().any(|name| is_a(value, name)),
            "const" => value == wanted,
            "enum" => of(wanted).contains(&value),
            "minimum" => value.as_f64().is_none_or(|number| number >= float(wanted)),
            "maximum" => value.as_f64().is_none_or(|number| number <= float(wanted)),
            "exclusiveMinimum" => value.as_f64().is_none_or(|number| number > float(wanted)),
            "exclusiveMaximum" => value.as_f64().is_none_or(|number| number < float(wanted)),
            "minItems" => value.as_array().is_none_or(|items| items.len() as f64 >= float(wanted)),
            "minProperties" => value.as_object().is_none_or(|map| map.len() as f64 >= float(wanted)),
            "pattern" => {
                assert_eq!(wanted, r"\$\{", "no other pattern is known");
                value.as_str().is_none_or(|text| text.contains("${"))
            }
            "required" => {
                let has = |map: &Map<String, Value>| {
                    of(wanted)
                        .iter()
                        .all(|key| map.contains_key(key.as_str().unwrap_or_default()))
                };
                value.as_object().is_none_or(has)
            }
            "anyOf" | "oneOf" => {
                let fit = of(wanted)
                    .iter()
                    .filter(|choice| problems(root, choice, value, path).is_empty())
                    .count();
                fit == 1 || (fit > 1 && keyword == "anyOf")
            }
            "allOf" => {
                found.extend(of(wanted).iter().flat_map(|part| problems(root, part, value, path)));
                continue;
            }
            "if" => {
                if problems(root, wanted, value, path).is_empty() {
                    found.extend(problems(root, &schema["then"], value, path));
                }
                continue;
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    found.extend(problems(root, wanted, item, &format!("{path}/{index}")));
                }
                continue;
            }
            "properties" => {
                for (key, wanted) in wanted.as_object().expect("a map") {
                    if let Some(value) = value.get(key) {
                        found.extend(problems(root, wanted, value, &format!("{path}/{key}")));
                    }
                }
                continue;
            }
            "additionalProperties" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    if schema.get("properties").is_none_or(|known| known.get(key).is_none()) {
                        found.extend(problems(root, wanted, value, &format!("{path}/{key}")));
                    }
                }
                continue;
            }
            other => panic!("the keyword `{other}` is not known to this test"),
        };
        if !ok {
            found.push(format!("{path}: {value} does not fit `{keyword}`: {wanted}"));
        }
    }
    found
}

/// A list, or one value as such.
fn of(value: &Value) -> Vec<&Value> {
    value
        .as_array()
        .map_or_else(|| vec![value], |items| items.iter().collect())
}

fn float(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn is_a(value: &Value, name: &Value) -> bool {
    match name.as_str().expect("the name of a type") {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("there is no type {other}"),
    }
}

#[test]
fn every_manifest_of_the_repository_fits() {
    let schema = schema();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut manifests = Vec::new();
    for entry in std::fs::read_dir(root.join("pipelines")).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            manifests.push((
                path.display().to_string(),
                std::fs::read_to_string(&path).expect("a manifest"),
            ));
        }
    }
    assert!(manifests.len() >= 4, "{manifests:?}");
    // Configs of the reference, as manifests.
    for entry in std::fs::read_dir(root.join("pipelines/reference")).expect("the folder") {
        let path = entry.expect("an entry").path().display().to_string();
        let text = Project::new().nerpipe(&["convert", &path]).expect(0).stdout;
        manifests.push((path, text));
    }
    // What the pages show.
    for page in [
        "docs/commands.md",
        "docs/json.md",
        "docs/running.md",
        "docs/reference.md",
    ] {
        let text = std::fs::read_to_string(root.join(page)).expect("a page");
        for block in text.split("```yaml\n# ").skip(1) {
            let block = block.split("```").next().unwrap_or_default();
            let (name, manifest) = block.split_once('\n').expect("a name and a manifest");
            if name.ends_with(".yaml") {
                manifests.push((format!("{page}: {name}"), manifest.to_owned()));
            }
        }
    }
    for (name, text) in manifests {
        assert_eq!(
            problems(&schema, &schema, &yaml(&text), ""),
            Vec::<String>::new(),
            "{name}"
        );
    }
}

const MANIFEST: &str = "
name: m
vars: {steps: 3}
sweep:
  axes:
    loss: {bce: {fn: bce, threshold: 0.5}, contrastive: {fn: contrastive, threshold: cls}}
    seed: {$range: {from: 1, to: 3}}
    tau: {when: {loss: contrastive}, values: [0.5, 1]}
  exclude: [{loss: bce, seed: [2, 3]}]
  override: [{when: {loss: contrastive}, set: {model.learning_rate: 1e-3}}]
stages:
  corpus: {kind: load, with: {train: [a.jsonl, b.jsonl], test: c.jsonl, limit: {train: 5}, fraction: 0.5, format: conll, columns: {tag: -1}}}
  tokens: {kind: tokenize, inputs: {corpus: corpus, tokenizer: encoder}, with: {formats: [tokens]}}
  encoder: {kind: encoder, with: {source: '${vars.encoder}'}}
  model:
    kind: train
    inputs: {tokens: tokens, token_encoder: encoder}
    with: {loss_fn: '${loss.fn}', prediction_threshold: '${loss.threshold}', max_steps: 5, eval_steps: null, learning_rate: 1e-4, seed: '${seed}'}
    resources: {threads: 2, memory: 4G, timeout: 1h, retries: '${vars.steps}', limits: {site: 2}}
    publish: 'models/${loss}'
  scores: {kind: evaluate, inputs: {model: model, tokens: tokens}, with: {thresholds: ['${loss.threshold}', calibrated, 0.5]}}
  table:
    kind: report
    inputs: {scores: {collect: scores, over: [seed]}}
    with: {rows: loss, value: {F1: micro.f1}, aggregate: mean over seed, best: [max]}
    publish: {table.md: out/table.md}
  own: {kind: command, inputs: {many: {collect: scores}, one: corpus.train}, with: {run: [echo, 5], files: [a, b], env: [A]}}
";

#[test]
fn what_is_right_fits_and_what_is_wrong_does_not() {
    let schema = schema();
    let fits = |text: &str| problems(&schema, &schema, &yaml(text), "");
    assert_eq!(fits(MANIFEST), Vec::<String>::new());
    for (from, to, place) in [
        // Keys at every level.
        ("name: m", "nmae: m", "/nmae"),
        ("vars:", "variables:", "/variables"),
        ("exclude:", "exclud:", "/sweep/exclud"),
        (
            "when: {loss: contrastive}, set",
            "if: {loss: contrastive}, set",
            "/sweep/override/0/if",
        ),
        ("publish: 'models", "publsh: 'models", "/stages/model/publsh"),
        ("memory: 4G", "memry: 4G", "/stages/model/resources/memry"),
        ("site: 2", "site: none", "/stages/model/resources/limits/site"),
        ("over: [seed]", "ovr: [seed]", "/stages/table/inputs/scores/ovr"),
        // Kinds, ports and settings.
        ("kind: evaluate", "kind: evaluat", "/stages/scores/kind"),
        (
            "token_encoder: encoder",
            "tokn_encoder: encoder",
            "/stages/model/inputs/tokn_encoder",
        ),
        ("max_steps: 5", "max_step: 5", "/stages/model/with/max_step"),
        ("limit: {train: 5}", "limit: {trian: 5}", "/stages/corpus/with/limit"),
        (
            "columns: {tag: -1}",
            "columns: {tags: -1}",
            "/stages/corpus/with/columns",
        ),
        // Inputs that are missing, or of the wrong form.
        ("inputs: {model: model, tokens: tokens}, ", "", "/stages/scores"),
        (
            "{scores: {collect: scores, over: [seed]}}",
            "{scores: scores}",
            "/stages/table/inputs/scores",
        ),
        // Types.
        ("max_steps: 5", "max_steps: many", "/stages/model/with/max_steps"),
        ("max_steps: 5", "max_steps: -5", "/stages/model/with/max_steps"),
        (
            "learning_rate: 1e-4",
            "learning_rate: [1e-4]",
            "/stages/model/with/learning_rate",
        ),
        ("formats: [tokens]", "formats: [words]", "/stages/tokens/with/formats"),
        ("calibrated, 0.5", "calibrated, 1.5", "/stages/scores/with/thresholds"),
        ("best: [max]", "best: [most]", "/stages/table/with/best"),
        ("threads: 2", "threads: 0", "/stages/model/resources/threads"),
        ("train: [a.jsonl, b.jsonl]", "train: 5", "/stages/corpus/with/train"),
        ("files: [a, b]", "files: {a: b}", "/stages/own/with/files"),
    ] {
        assert!(MANIFEST.contains(from), "{from}");
        let found = fits(&MANIFEST.replacen(from, to, 1));
        let told = found.iter().any(|problem| problem.starts_with(place));
        assert!(told, "{to}: {found:?}");
    }
}

/// The schema is made of what the kinds declare, so each setting must have a type and words.
#[test]
fn every_setting_has_a_type_and_a_description() {
    let schema = schema();
    let stage = &schema["definitions"]["stage"];
    let kinds = stage["properties"]["kind"]["oneOf"].as_array().expect("kinds");
    let mut settings = 0;
    for (kind, rule) in kinds
        .iter()
        .zip(stage["allOf"].as_array().expect("a rule for each kind"))
    {
        assert_eq!(rule["if"]["properties"]["kind"]["const"], kind["const"]);
        let with = &rule["then"]["properties"]["with"]["properties"];
        for (name, setting) in with.as_object().expect("a map") {
            let about = setting["description"].as_str().unwrap_or_default();
            assert!(
                about.len() > 4 && !about.contains("[`"),
                "{} {name}: {setting}",
                kind["const"]
            );
            let says = ["type", "anyOf", "enum", "const"]
                .iter()
                .any(|key| setting.get(*key).is_some());
            assert!(says, "{} {name} may be anything: {setting}", kind["const"]);
            settings += 1;
        }
    }
    assert!(settings > 100, "{settings}");
    let rate = &stage["allOf"]
        .as_array()
        .expect("rules")
        .iter()
        .find(|rule| rule["if"]["properties"]["kind"]["const"] == "train");
    let rate = &rate.expect("a rule for train")["then"]["properties"]["with"]["properties"]["learning_rate"];
    assert_eq!(rate["default"], json!(3e-5));
    assert!(
        rate["description"]
            .as_str()
            .expect("words")
            .starts_with("Peak learning rate"),
        "{rate}"
    );
}
