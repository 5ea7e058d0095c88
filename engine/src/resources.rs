//! [`Resources`]: what an instance needs while it runs, and what it may take.
//!
//! They decide when an instance runs and whether it is tried again, never what it makes: they are kept in the record and are no
//! part of a fingerprint.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::interpolate::{VarsOnly, interpolate};
use crate::manifest::reader::{Reader, given, kind_of};
use crate::schema::{Key, or_reference};
use crate::source::ValuePath;

/// What an instance needs. What is not said is decided by the run.
///
/// ```
/// use nerpipe_engine::resources::{Resources, duration, memory};
///
/// assert_eq!(memory("1.5G"), Ok(3 << 29));
/// assert_eq!(duration("1h30m").unwrap().as_secs(), 5400);
/// let kind = Resources { devices: Some(1), ..Resources::default() };
/// let stage = Resources { threads: Some(2), ..Resources::default() };
/// assert_eq!(stage.or(kind), Resources { threads: Some(2), devices: Some(1), ..Resources::default() });
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Resources {
    /// Threads; otherwise a share of those that are free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Memory in bytes; otherwise what earlier runs held.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Accelerators, where the run hands them out; otherwise none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<usize>,
    /// How long it may run; otherwise as long as it takes.
    #[serde(skip_serializing_if = "Option::is_none", with = "seconds")]
    pub timeout: Option<Duration>,
    /// How often it is tried again when its process dies; otherwise never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
    /// Name → how many instances of all stages that name it may run side by side.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, usize>,
}

impl Resources {
    /// These, and what they do not say from `others`.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        let mut limits = others.limits;
        limits.extend(self.limits);
        Self {
            threads: self.threads.or(others.threads),
            memory: self.memory.or(others.memory),
            devices: self.devices.or(others.devices),
            timeout: self.timeout.or(others.timeout),
            retries: self.retries.or(others.retries),
            limits,
        }
    }

    /// Whether they say nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the key `resources` of a stage; what is wrong is reported and left out.
    pub(crate) fn read(value: &Value, path: &ValuePath, vars: &Map<String, Value>, reader: &mut Reader<'_>) -> Self {
        let mut resources = Self::default();
        let Some(map) = reader.map(value, path, "`resources`") else {
            return resources;
        };
        reader.keys(map, path, &KEYS, "`resources`");
        let read = |written: &Value, path: &ValuePath, reader: &mut Reader<'_>| {
            let value = interpolate(written, &VarsOnly(vars));
            value.unwrap_or_else(|errors| {
                reader.bad_references(path, errors);
                None
            })
        };
        for key in KEYS.map(|key| key.name).into_iter().filter(|key| *key != LIMITS) {
            let path = path.child(key);
            let Some(value) = given(map, key).and_then(|written| read(written, &path, reader)) else {
                continue;
            };
            if let Err(problem) = resources.set(key, &value) {
                reader.bad_value(&path, problem, None);
            }
        }
        let path = path.child(LIMITS);
        let limits = given(map, LIMITS).and_then(|limits| reader.map(limits, &path, "`limits`"));
        for (name, written) in limits.into_iter().flatten() {
            let path = path.child(name);
            reader.name(name, &path, "a limit");
            let Some(value) = read(written, &path, reader) else {
                continue;
            };
            match count(name, &value, 1) {
                Ok(most) => {
                    resources.limits.insert(name.clone(), most as usize);
                }
                Err(problem) => reader.bad_value(&path, problem, None),
            }
        }
        resources
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), String> {
        match key {
            "threads" => self.threads = Some(count(key, value, 1)? as usize),
            "devices" => self.devices = Some(count(key, value, 0)? as usize),
            "retries" => self.retries = Some(count(key, value, 0)? as u32),
            "memory" => self.memory = Some(memory(&text(value))?),
            _ => self.timeout = Some(duration(&text(value))?),
        }
        Ok(())
    }
}

/// A time as a number of seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.serialize_some(&time.as_secs_f64()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        time.map_err(serde::de::Error::custom)
    }
}

/// The keys of `resources`.
pub(crate) const KEYS: [Key; 6] = [
    Key::new("threads", "Threads it has, and waits for.", || number_from(1)),
    Key::new(
        "memory",
        "Memory that must be free before it begins, such as `4G`.",
        amount,
    ),
    Key::new("devices", "Accelerators of its own, if the run hands them out.", || {
        number_from(0)
    }),
    Key::new(
        "timeout",
        "It is ended after this time, such as `90s`, `30m` or `1h30m`.",
        amount,
    ),
    Key::new("retries", "How often it is tried again if its process dies.", || {
        number_from(0)
    }),
    Key::new(
        LIMITS,
        "Name → how many instances of all stages that name it may run side by side.",
        || json!({"type": "object", "additionalProperties": number_from(1)}),
    ),
];

/// The key that has names of the author's own below it.
const LIMITS: &str = "limits";

fn number_from(least: u64) -> Value {
    or_reference(json!({"type": "integer", "minimum": least, "maximum": MOST}))
}

fn amount() -> Value {
    json!({"type": ["string", "number"]})
}

/// More of anything is a mistake.
const MOST: u64 = 1_000_000;

fn count(key: &str, value: &Value, least: u64) -> Result<u64, String> {
    let number = value.as_u64().filter(|number| (least..=MOST).contains(number));
    number.ok_or_else(|| match value {
        Value::Number(number) => format!("`{key}` must be a number from {least}, not {number}"),
        other => format!("`{key}` must be a number from {least}, not {}", kind_of(other)),
    })
}

fn text(value: &Value) -> String {
    crate::interpolate::scalar_text(value).unwrap_or_else(|| kind_of(value).to_owned())
}

/// A size in bytes: `512M`, `4G`, `1.5GiB`, or a plain number of bytes. Units are powers of 1024.
///
/// # Errors
/// In words, if it is none.
pub fn memory(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size; give one such as `512M` or `4G`");
    let text_only = text.trim();
    let end = text_only
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text_only.len());
    let (number, unit) = text_only.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let power = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024_f64.powi(power);
    if (1.0..1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err(wrong())
    }
}

/// A time: `90s`, `30m`, `2h`, `1h30m`, `2d`, `250ms`.
///
/// # Errors
/// In words, if it is none or no time at all.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time; give one such as `90s`, `30m` or `1h30m`");
    let mut rest = text.trim();
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let end = after
            .find(|c: char| c.is_ascii_digit() || c.is_whitespace())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        seconds += number
            * match unit {
                "ms" => 0.001,
                "s" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3600.0,
                "d" => 86400.0,
                _ => return Err(wrong()),
            };
        rest = after.trim_start();
    }
    if (0.001..1e9).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

/// A size in the largest unit that gives at least 1: `9.1 GiB`, `64.0 MiB`.
pub(crate) fn in_units(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if size < 1024.0 {
            return match unit {
                "bytes" => format!("{bytes} bytes"),
                unit => format!("{size:.1} {unit}"),
            };
        }
        size /= 1024.0;
    }
    format!("{size:.1} TiB")
}

/// A time in as few words as possible: `2 h`, `1 h 30 min`, `250 ms`.
pub(crate) fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 => return format!("{} ms", time.as_millis()),
        1..60 => return format!("{} s", time.as_millis() as f64 / 1000.0),
        _ => {}
    }
    let parts = [(seconds / 3600, "h"), (seconds / 60 % 60, "min"), (seconds % 60, "s")];
    let said: Vec<String> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number} {unit}"))
        .collect();
    said.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_or_refused() {
        for (text, bytes) in [
            ("1", 1),
            ("2k", 2048),
            ("1.5 GiB", 3 << 29),
            ("512MB", 512 << 20),
            ("1T", 1 << 40),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "-1G", "4X", "0", "1..2G", "9999999T"] {
            assert!(memory(text).is_err(), "{text}");
        }
        for (text, seconds) in [
            ("90s", 90.0),
            ("1h30m", 5400.0),
            ("2 d", 0.0),
            ("250ms", 0.25),
            ("1m 30s", 90.0),
        ] {
            let read = duration(text).map(|time| time.as_secs_f64());
            assert_eq!(read.is_ok(), seconds > 0.0, "{text}");
            assert!(read.is_err() || read == Ok(seconds), "{text}");
        }
        for text in ["", "5", "h", "-5s", "0s", "5 parsecs"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_told_in_units() {
        let told = [512, 1536, 100 << 20, 9 << 30, 3 << 40].map(in_units);
        assert_eq!(told, ["512 bytes", "1.5 KiB", "100.0 MiB", "9.0 GiB", "3.0 TiB"]);
    }

    #[test]
    fn times_are_told_in_words() {
        for (milliseconds, words) in [
            (250, "250 ms"),
            (1500, "1.5 s"),
            (90_000, "1 min 30 s"),
            (7_200_000, "2 h"),
            (3_601_000, "1 h 1 s"),
        ] {
            assert_eq!(in_words(Duration::from_millis(milliseconds)), words);
        }
    }
}
