//! Wrong settings: which one, and what is said about it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::suggest::did_you_mean;

/// A setting that is wrong. Messages are lower-case fragments without a full stop.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct SettingError {
    /// Which setting, as a path below `with`: `thresholds[1]`, `learning_rate`; `inputs.type_encoder` for a port.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

impl SettingError {
    /// An error about the setting at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            help: None,
        }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Reads a kind's typed settings; an error names the path of the wrong value.
///
/// ```
/// # use nerpipe_engine::kind::parse_settings;
/// # use serde_json::json;
/// #[derive(Debug, serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     thresholds: Vec<f64>,
/// }
///
/// let error = parse_settings::<Settings>(&json!({"thresholds": [0.3, "high"]})).unwrap_err();
/// assert_eq!(error.path, "thresholds[1]");
/// assert_eq!(error.message, "`thresholds[1]` must be a number, not text");
/// ```
///
/// # Errors
/// A [`SettingError`] at the value that does not fit.
pub fn parse_settings<S: DeserializeOwned>(settings: &Value) -> Result<S, SettingError> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { &path };
        in_words(path, &error.into_inner().to_string())
    })
}

/// The JSON Schema of a kind's typed settings: their types, defaults, and doc comments.
///
/// ```
/// use nerpipe_engine::kind::schema_of;
///
/// #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
/// #[serde(deny_unknown_fields, default)]
/// struct Settings {
///     /// How many to keep.
///     lines: u32,
/// }
///
/// impl Default for Settings {
///     fn default() -> Self {
///         Self { lines: 10 }
///     }
/// }
///
/// let lines = &schema_of::<Settings>()["properties"]["lines"];
/// assert_eq!((&lines["type"], &lines["default"]), (&"integer".into(), &10.into()));
/// assert_eq!(lines["description"], "How many to keep.");
/// ```
pub fn schema_of<S: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<S>().to_value()
}

/// What serde says, in the words of a manifest's author. What has no such form is passed on as it is.
fn in_words(path: &str, said: &str) -> SettingError {
    let shown = |path: &str| match path {
        "" => "`with`".to_owned(),
        path => format!("`{path}`"),
    };
    // The names that serde quotes: the wrong one, then those it expects.
    let mut names = said.split('`').skip(1).step_by(2);
    let wrong = names.next().unwrap_or_default();
    let known: Vec<&str> = names.collect();
    let (message, help) = if let Some((found, expected)) = said
        .strip_prefix("invalid type: ")
        .or_else(|| said.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        let message = format!("{} must be {}, not {}", shown(path), a(expected), the(found));
        (message, None)
    } else if said.starts_with("unknown variant ") {
        (
            format!("{} cannot be `{wrong}`", shown(path)),
            did_you_mean(wrong, known),
        )
    } else if said.starts_with("unknown field ") {
        // The path ends with the unknown name.
        let holder = path.strip_suffix(wrong).unwrap_or(path).trim_end_matches('.');
        let message = format!("there is no setting `{wrong}` in {}", shown(holder));
        (message, did_you_mean(wrong, known))
    } else if said.starts_with("missing field ") {
        let place = if path.is_empty() {
            String::new()
        } else {
            format!(" in `{path}`")
        };
        (format!("the setting `{wrong}` is missing{place}"), None)
    } else {
        (said.to_owned(), None)
    };
    let path = path.to_owned();
    SettingError { path, message, help }
}

/// What serde expects.
fn a(expected: &str) -> String {
    let words = match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" | "a JSON number" => "a number",
        "a string" | "a borrowed string" => "text",
        "path string" => "a path",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a map",
        text if text.starts_with("struct ") => "a map",
        text if text.starts_with("a nonzero u") => "a whole number from 1",
        text => match text.strip_prefix("an array of length ") {
            Some(length) => return format!("a list of {length}"),
            None => text,
        },
    };
    words.to_owned()
}

/// What serde found.
fn the(found: &str) -> &str {
    match found {
        "null" | "unit value" | "Option value" => "empty",
        "sequence" => "a list",
        "map" => "a map",
        text if text.starts_with("string ") => "text",
        // integer `3`, floating point `1.5`, boolean `true`
        text => text.split('`').nth(1).unwrap_or(text),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        size: u32,
        rate: f64,
        name: String,
        on: bool,
        list: Vec<u64>,
        pair: (u8, u8),
        inner: Inner,
        loss: Loss,
        least: Option<std::num::NonZeroU32>,
    }

    #[derive(Default, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsing is tested")]
    struct Inner {
        beta: f64,
    }

    #[derive(Default, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Loss {
        #[default]
        Bce,
        Focal,
    }

    #[test]
    fn what_serde_says_is_put_into_words() {
        for (settings, path, message, help) in [
            (
                json!({"size": "big"}),
                "size",
                "`size` must be a whole number from 0, not text",
                None,
            ),
            (
                json!({"size": -3}),
                "size",
                "`size` must be a whole number from 0, not -3",
                None,
            ),
            (
                json!({"size": 1.5}),
                "size",
                "`size` must be a whole number from 0, not 1.5",
                None,
            ),
            (
                json!({"rate": [1]}),
                "rate",
                "`rate` must be a number, not a list",
                None,
            ),
            (json!({"name": true}), "name", "`name` must be text, not true", None),
            (json!({"name": null}), "name", "`name` must be text, not empty", None),
            (
                json!({"on": "a, expected b"}),
                "on",
                "`on` must be true or false, not text",
                None,
            ),
            (
                json!({"list": [1, {}]}),
                "list[1]",
                "`list[1]` must be a whole number from 0, not a map",
                None,
            ),
            (json!({"inner": 3}), "inner", "`inner` must be a map, not 3", None),
            (
                json!({"least": 0}),
                "least",
                "`least` must be a whole number from 1, not 0",
                None,
            ),
            (
                json!({"inner": {}}),
                "inner",
                "the setting `beta` is missing in `inner`",
                None,
            ),
            (
                json!({"inner": {"bta": 1}}),
                "inner.bta",
                "there is no setting `bta` in `inner`",
                Some("did you mean `beta`?"),
            ),
            (
                json!({"loss": "bec"}),
                "loss",
                "`loss` cannot be `bec`",
                Some("did you mean `bce`?"),
            ),
            (
                json!({"loss": "x"}),
                "loss",
                "`loss` cannot be `x`",
                Some("known here: bce, focal"),
            ),
            (json!(3), "", "`with` must be a map, not 3", None),
        ] {
            let error = parse_settings::<Settings>(&settings).err().unwrap();
            let found = (error.path.as_str(), error.message.as_str(), error.help.as_deref());
            assert_eq!(found, (path, message, help), "{settings}");
        }
    }
}
