//! The JSON Schema of manifests, for editors.
//!
//! It is put together from what manifests are checked by: the lists of keys that the reader goes by, and each kind's fields,
//! ports and settings. So it can say less than the checks do, and cannot say anything else: nothing here names a setting.

use serde_json::{Map, Value, json};

use crate::kind::{Field, FieldClass, Kind, Port, Registry};
use crate::manifest;

/// A key that a map in a manifest may have.
#[derive(Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    /// What it is, for people.
    about: &'static str,
    /// Whether it must be there.
    required: bool,
    /// The schema of its value.
    form: fn() -> Value,
}

impl Key {
    /// A key that may be left out.
    pub(crate) const fn new(name: &'static str, about: &'static str, form: fn() -> Value) -> Self {
        Self {
            name,
            about,
            required: false,
            form,
        }
    }

    /// A key that must be there.
    pub(crate) const fn required(name: &'static str, about: &'static str, form: fn() -> Value) -> Self {
        Self {
            required: true,
            ..Self::new(name, about, form)
        }
    }
}

/// A map with these keys and no others.
pub(crate) fn map_of(keys: &[Key]) -> Value {
    let mut properties = Map::new();
    for key in keys {
        properties.insert(key.name.to_owned(), described((key.form)(), key.about));
    }
    let required: Vec<&str> = keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Anything at all.
pub(crate) fn anything() -> Value {
    json!({})
}

/// Text.
pub(crate) fn text() -> Value {
    json!({"type": "string"})
}

/// A map with any keys.
pub(crate) fn any_map() -> Value {
    json!({"type": "object"})
}

/// A value, or `${…}` in its place.
pub(crate) fn or_reference(schema: Value) -> Value {
    const NOTES: [&str; 3] = ["title", "description", "default"];
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    let is_open = |schema: &Map<String, Value>| {
        let says = |key: &&String| !NOTES.contains(&key.as_str());
        let free_text = schema.get("type").is_some_and(|kind| {
            kind == "string"
                || kind
                    .as_array()
                    .is_some_and(|kinds| kinds.iter().any(|kind| kind == "string"))
        });
        let bounds = ["enum", "const", "pattern"].iter().any(|key| schema.contains_key(*key));
        schema.keys().find(says).is_none() || (free_text && !bounds)
    };
    if is_open(&schema) {
        return Value::Object(schema);
    }
    let mut outer = Map::new();
    for note in NOTES {
        outer.extend(schema.shift_remove_entry(note));
    }
    let mut choices = match schema.shift_remove("anyOf").or_else(|| schema.shift_remove("oneOf")) {
        Some(Value::Array(choices)) if schema.is_empty() => choices,
        Some(choices) => {
            schema.insert("anyOf".to_owned(), choices);
            vec![Value::Object(schema)]
        }
        None => vec![Value::Object(schema)],
    };
    choices.push(json!({"$ref": "#/definitions/reference"}));
    outer.insert("anyOf".to_owned(), Value::Array(choices));
    Value::Object(outer)
}

/// A schema with what it is about.
fn described(schema: Value, about: &str) -> Value {
    match schema {
        // Beside a reference nothing else is read.
        Value::Object(schema) if schema.contains_key("$ref") => json!({"description": about, "allOf": [schema]}),
        Value::Object(schema) => {
            let mut described = Map::from_iter([("description".to_owned(), json!(about))]);
            described.extend(schema);
            Value::Object(described)
        }
        other => other,
    }
}

/// The JSON Schema (draft 7) of manifests that name kinds of `registry`.
///
/// ```
/// use nerpipe_engine::{Registry, command::Command, schema::schema};
///
/// let schema = schema(&Registry::default().with(Command));
/// let stage = &schema["definitions"]["stage"];
/// assert_eq!(stage["properties"]["kind"]["oneOf"][0]["const"], "command");
/// let settings = &stage["allOf"][0]["then"]["properties"]["with"];
/// assert_eq!(settings["properties"]["env"]["anyOf"][0]["type"], "array");
/// assert_eq!(settings["additionalProperties"], false);
/// ```
pub fn schema(registry: &Registry) -> Value {
    let kinds: Vec<&dyn Kind> = registry.names().filter_map(|name| registry.get(name)).collect();
    let mut stage = map_of(&manifest::STAGE_KEYS);
    stage["properties"]["kind"]["oneOf"] = kinds
        .iter()
        .map(|kind| json!({"const": kind.name(), "description": kind.about()}))
        .collect();
    stage["allOf"] = kinds.iter().map(|kind| of_kind(*kind)).collect();
    let mut schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "a manifest of nerpipe",
    });
    if let (Value::Object(schema), Value::Object(top)) = (&mut schema, map_of(&manifest::KEYS)) {
        schema.extend(top);
    }
    schema["definitions"] = json!({
        "stage": stage,
        "reference": {
            "description": "A variable, `${vars.name}`, or the value of an axis, `${axis}` or `${axis.field}`.",
            "type": "string",
            "pattern": "\\$\\{",
        },
    });
    schema
}

/// What holds for the stages of one kind.
fn of_kind(kind: &dyn Kind) -> Value {
    let inputs = inputs(kind.ports());
    let mut then = json!({"properties": {"with": settings(kind), "inputs": inputs}});
    if inputs.get("required").is_some() {
        then["required"] = json!(["inputs"]);
    }
    json!({"if": {"properties": {"kind": {"const": kind.name()}}, "required": ["kind"]}, "then": then})
}

fn inputs(ports: &[Port]) -> Value {
    let mut properties = Map::new();
    let mut others = json!(false);
    for port in ports {
        let takes = port.takes.replace('|', "` or `");
        let form = match (port.name, port.collects) {
            ("*", true) => manifest::connection(),
            (_, true) => map_of(&manifest::COLLECT_KEYS),
            (_, false) => text(),
        };
        let about = match port.takes {
            "*" => "Takes artifacts of any type.".to_owned(),
            _ => format!("Takes `{takes}`."),
        };
        let form = described(form, &about);
        match port.name {
            "*" => others = form,
            name => {
                properties.insert(name.to_owned(), form);
            }
        }
    }
    let required: Vec<&str> = ports
        .iter()
        .filter(|port| port.required)
        .map(|port| port.name)
        .collect();
    let mut schema = json!({"type": "object", "additionalProperties": others, "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// The settings of a kind. None is required: an override of the sweep or `--set` may give it.
fn settings(kind: &dyn Kind) -> Value {
    let declared = kind.schema().unwrap_or_default();
    let property = |field: &Field| {
        let schema = declared["properties"].get(field.name).cloned();
        (field.name.to_owned(), setting(field, schema.unwrap_or_else(anything)))
    };
    let properties: Map<String, Value> = kind.fields().iter().map(property).collect();
    json!({"type": "object", "additionalProperties": false, "properties": properties})
}

fn setting(field: &Field, schema: Value) -> Value {
    let mut schema = or_reference(inside(schema));
    let says_nothing = schema
        .as_object()
        .is_none_or(|schema| schema.keys().all(|key| key == "description" || key == "default"));
    if says_nothing && field.class.names_files() {
        let path = json!({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]});
        // The names of files in the project are where they are.
        let paths = match field.class {
            FieldClass::Project => path,
            _ => json!({"anyOf": [path, {"type": "object", "additionalProperties": path}]}),
        };
        let about = schema["description"].as_str().map(str::to_owned);
        schema = match about {
            Some(about) => described(paths, &about),
            None => paths,
        };
    }
    let counts = match field.class {
        FieldClass::Counted => None,
        FieldClass::Recorded => Some("Kept with the result; changes nothing else."),
        FieldClass::Input => Some("Of these files names and bytes count, the text of the setting does not."),
        FieldClass::Project => Some("Of these files places in the project and bytes count."),
        FieldClass::Environment => Some("The values of these variables count."),
    };
    if let (Some(counts), Some(about)) = (counts, schema["description"].as_str()) {
        schema["description"] = json!(format!("{about} {counts}"));
    }
    schema
}

/// A schema whose values may be `${…}`, and without what editors do not know.
fn inside(schema: Value) -> Value {
    let Value::Object(mut schema) = schema else {
        return schema;
    };
    // Names such as `uint64` are no formats of JSON Schema, and a default of nothing is none.
    schema.shift_remove("format");
    let is_nothing = |value: &Value| match value {
        Value::Object(map) => map.values().all(Value::is_null),
        value => value.is_null(),
    };
    if schema.get("default").is_some_and(is_nothing) {
        schema.shift_remove("default");
    }
    // Comments are broken where the source is.
    if let Some(Value::String(about)) = schema.get_mut("description") {
        *about = about.replace('\n', " ");
    }
    let open = |value: &mut Value| *value = or_reference(inside(value.take()));
    for key in ["items", "additionalProperties"] {
        if let Some(value) = schema.get_mut(key) {
            open(value);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(open);
    }
    for key in ["anyOf", "oneOf", "allOf"] {
        if let Some(Value::Array(choices)) = schema.get_mut(key) {
            // The reference is one more choice, not one in each of them.
            choices.iter_mut().for_each(|choice| *choice = inside(choice.take()));
        }
    }
    Value::Object(schema)
}
