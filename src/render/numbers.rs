//! Numbers, times and notes as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// `1234567` as `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 instance`, `2 instances`.
pub(crate) fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `0.03 s`, `4.1 s`, `2 min 5 s`, `3 h 20 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        ..0.995 => format!("{seconds:.2} s"),
        ..59.95 => format!("{seconds:.1} s"),
        _ => {
            let whole = seconds.round() as u64;
            let (hours, minutes, seconds) = (whole / 3600, whole / 60 % 60, whole % 60);
            if hours > 0 {
                format!("{hours} h {minutes} min")
            } else {
                format!("{minutes} min {seconds} s")
            }
        }
    }
}

/// [`duration`] of a number of seconds.
pub(crate) fn seconds(seconds: f64) -> String {
    duration(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// How long ago a moment was, in seconds since 1970: `just now`, `5 min ago`, `3 h ago`, `12 days ago`.
pub(crate) fn ago(moment: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    match now.saturating_sub(moment) {
        ..60 => "just now".to_owned(),
        seconds @ ..7_200 => format!("{} min ago", seconds / 60),
        seconds @ ..172_800 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} days ago", count(seconds / 86_400)),
    }
}

/// Some names of a list: `a, b and 7 more`.
pub(crate) fn some(names: &[String]) -> String {
    match names {
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [one, rest @ ..] => format!("{one} and {} more", count(rest.len() as u64)),
        [] => String::new(),
    }
}

/// `12 B`, `3.4 kB`, `1.2 GB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if size < 999.5 {
            return if unit == "B" {
                format!("{bytes} B")
            } else {
                format!("{size:.1} {unit}")
            };
        }
        size /= 1000.0;
    }
    format!("{size:.1} TB")
}

/// A figure with four digits that matter.
pub(crate) fn figure(number: f64) -> String {
    match number.abs() {
        0.0 => "0".to_owned(),
        ..0.001 => format!("{number:.2e}"),
        ..10.0 => format!("{number:.4}"),
        ..1000.0 => format!("{number:.1}"),
        _ => format!("{number:.0}"),
    }
}

/// A note (a small JSON value) on one line: `sentences 1,200, truncated 3`. Counts of nothing are left out.
pub(crate) fn note(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let counts: Vec<String> = map
                .iter()
                .filter(|(_, value)| !is_nothing(value))
                .map(|(key, value)| match value {
                    Value::Object(_) => format!("{}: {}", words(key), note(value)),
                    _ => format!("{} {}", words(key), note(value)),
                })
                .collect();
            counts.join(", ")
        }
        Value::Array(items) => items.iter().map(note).collect::<Vec<_>>().join(" "),
        Value::Number(number) => match number.as_u64() {
            Some(number) => count(number),
            None => figure(number.as_f64().unwrap_or(0.0)),
        },
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a value says that there was nothing: zero, empty, or made of such.
pub(crate) fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.iter().all(is_nothing),
        Value::Object(map) => map.values().all(is_nothing),
        Value::Bool(true) => false,
    }
}

/// `spans_too_long` as `spans too long`.
pub(crate) fn words(key: &str) -> String {
    key.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(
            (plural(1, "step"), plural(1000, "step")),
            ("1 step".to_owned(), "1,000 steps".to_owned())
        );
        let durations = [0.031, 4.06, 59.96, 125.0, 12_000.0].map(|s| duration(Duration::from_secs_f64(s)));
        assert_eq!(durations, ["0.03 s", "4.1 s", "1 min 0 s", "2 min 5 s", "3 h 20 min"]);
        assert_eq!([12, 3_400, 1_200_000_000].map(bytes), ["12 B", "3.4 kB", "1.2 GB"]);
        assert_eq!(
            [0.0, 0.000_12, 0.5, 12.34, 2345.6].map(figure),
            ["0", "1.20e-4", "0.5000", "12.3", "2346"]
        );
    }

    #[test]
    fn notes_leave_out_what_did_not_happen() {
        let value = json!({"sentences": 1200, "truncated": 0, "spans": {"too_long": 3, "past_window": 0}, "none": {}});
        assert_eq!(note(&value), "sentences 1,200, spans: too long 3");
    }
}
