//! The pages `docs/commands.md` and `docs/json.md` show what the program really prints.
//!
//! Each block ` ```console ` begins with lines `$ COMMAND`, each followed by what it prints. The commands are run one after the
//! other in a throwaway project that has the sample corpus, our pipelines, and the files that the page shows in blocks ` ```yaml ` whose
//! first line is `# NAME.yaml`. Times, sizes, fingerprints and the machine are compared as if they were all the same. Where a
//! command has `--json`, keys and types are compared, and one object of each shape is shown.
//!
//! `NERPIPE_UPDATE=1 cargo test --test cli pages` writes what is printed into the pages; read the difference before you commit it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::project::Project;

#[test]
fn the_page_of_commands_shows_what_they_print() {
    check("docs/commands.md");
}

#[test]
fn the_page_of_json_forms_shows_what_is_printed_and_names_every_key() {
    let page = check("docs/json.md");
    let mut missing = Vec::new();
    for section in page.split("\n## ") {
        let (code, prose) = parts(section);
        for key in code
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .flat_map(|value| keys(&value))
        {
            if !prose.contains(&format!("`{key}`")) {
                missing.push(format!(
                    "`{key}` under `{}`",
                    section.lines().next().unwrap_or_default()
                ));
            }
        }
    }
    missing.sort();
    missing.dedup();
    assert!(
        missing.is_empty(),
        "docs/json.md does not say what these are:\n{}",
        missing.join("\n")
    );
}

/// Runs the commands of a page and compares, or writes the page anew. Returns its text.
fn check(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = root.join(name);
    let before = std::fs::read_to_string(&page).expect("the page");
    let project = Project::new();
    for folder in ["data", "pipelines"] {
        std::os::unix::fs::symlink(root.join(folder), project.path(folder)).expect("a link to the sample");
    }
    let mut after = String::new();
    let mut wrong = Vec::new();
    let mut lines = before.lines();
    while let Some(line) = lines.next() {
        let _ = writeln!(after, "{line}");
        let Some(language) = line.strip_prefix("```").filter(|language| !language.is_empty()) else {
            continue;
        };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match (language, block.first().and_then(|first| first.strip_prefix("# "))) {
            ("console", _) => {
                for (command, shown) in commands(&block) {
                    let printed = print(&project, command);
                    let same = if is_json(command) {
                        shapes(&shown) == shapes(&printed)
                    } else {
                        normal(&shown) == normal(&printed)
                    };
                    let text = if same { &shown } else { &printed };
                    let below = if text.is_empty() { "" } else { "\n" };
                    let _ = writeln!(after, "$ {command}{below}{text}");
                    if !same {
                        wrong.push(format!("`{command}` prints\n{printed}\nand the page shows\n{shown}"));
                    }
                }
                while after.ends_with("\n\n") {
                    after.pop();
                }
            }
            (_, Some(file)) if file.ends_with(".yaml") => {
                project.write(file, &format!("{}\n", block.join("\n")));
                let _ = writeln!(after, "{}", block.join("\n"));
            }
            _ => {
                let _ = writeln!(after, "{}", block.join("\n"));
            }
        }
        after.push_str("```\n");
    }
    if std::env::var_os("NERPIPE_UPDATE").is_some() {
        std::fs::write(&page, &after).expect("the page is written");
    } else {
        assert!(
            wrong.is_empty(),
            "{name} is not true; see the head of tests/cli/pages.rs\n{}",
            wrong.join("\n\n")
        );
    }
    after
}

/// The commands of a block, each with what is shown below it.
fn commands<'a>(block: &[&'a str]) -> Vec<(&'a str, String)> {
    let mut found: Vec<(&str, Vec<&str>)> = Vec::new();
    for line in block {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => found.push((command, Vec::new())),
            (None, Some((_, shown))) => shown.push(line),
            (None, None) => panic!("a block begins with `{line}`, which is no command"),
        }
    }
    found
        .into_iter()
        .map(|(command, shown)| (command, shown.join("\n").trim_end().to_owned()))
        .collect()
}

/// What a command prints to both streams, as it is shown.
fn print(project: &Project, command: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_nerpipe"));
    let folder = program.parent().expect("a folder").display();
    let path = std::env::var("PATH").unwrap_or_default();
    // People see both streams, programs read one.
    let streams = if is_json(command) { "" } else { "exec 2>&1\n" };
    let script = format!("{streams}{command}\n");
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(project.path(""))
        .env("PATH", format!("{folder}:{path}"))
        .env_remove("NERPIPE_CACHE_DIR")
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let here = project.path("");
    let text = text.replace(
        here.to_str().expect("a path").trim_end_matches('/'),
        "/home/ada/project",
    );
    if !is_json(command) {
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        return lines.join("\n").trim_end().to_owned();
    }
    let mut seen = Vec::new();
    let mut kept = Vec::new();
    for line in text.lines() {
        let value: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("`{command}`: {error} in `{line}`"));
        if !seen.contains(&tagged(&value)) {
            seen.push(tagged(&value));
            kept.push(few(&value).to_string());
        }
    }
    kept.join("\n")
}

fn is_json(command: &str) -> bool {
    command.contains("--json")
}

/// A text in which all times, sizes, fingerprints and machines are the same, and so are gaps between columns.
fn normal(text: &str) -> String {
    const UNITS: [&str; 9] = ["s", "min", "h", "B", "kB", "MB", "GB", "s,", "s)"];
    let word = |word: &str| -> String {
        let bare = word.trim_matches(|c: char| "(),:;".contains(c));
        let is_hex = bare.len() >= 8
            && bare.bytes().all(|byte| byte.is_ascii_hexdigit())
            && bare.bytes().any(|byte| byte.is_ascii_digit());
        if is_hex {
            word.replace(bare, "HEX")
        } else if bare.starts_with("x86_64") || bare.starts_with("aarch64") {
            word.replace(bare, "MACHINE")
        } else if bare.parse::<f64>().is_ok() && bare.contains('.') {
            word.replace(bare, "N")
        } else {
            word.to_owned()
        }
    };
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words: Vec<String> = Vec::new();
        for next in line.split_whitespace() {
            let unit = next.trim_matches(|c: char| "(),:;.".contains(c));
            if UNITS.contains(&unit)
                && words.last().is_some_and(|last| {
                    last.trim_start_matches('(')
                        .starts_with(|c: char| c.is_ascii_digit() || c == 'N')
                })
            {
                // `1 min 5 s` is one time.
                words.pop();
                if words.last().map(String::as_str) != Some("AMOUNT") {
                    words.push("AMOUNT".to_owned());
                }
            } else {
                words.push(word(next));
            }
        }
        // Rules are as long as the widest cell.
        let is_rule = words.iter().all(|word| word.chars().all(|c| "─═-+|".contains(c)));
        lines.push(if is_rule { String::new() } else { words.join(" ") });
    }
    let text = lines.join("\n");
    // An age says when the page was made.
    ["just now", "AMOUNT ago"]
        .iter()
        .fold(text, |text, age| text.replace(age, "AGO"))
}

/// The shape of a value with its `event`, by which lines of one output are told apart.
fn tagged(value: &Value) -> (String, Shape) {
    (value["event"].as_str().unwrap_or_default().to_owned(), Shape::of(value))
}

/// Keys and types.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Plain(&'static str),
    List(Vec<Shape>),
    Map(BTreeMap<String, Shape>),
}

/// Maps under these keys have other keys in each manifest.
const NAMED: [&str; 13] = [
    "datasets",
    "labels",
    "languages",
    "settled",
    "settings",
    "axes",
    "inputs",
    "files",
    "recorded",
    "notes",
    "steps",
    "figures",
    "environment",
];

impl Shape {
    fn under(key: &str, value: &Value) -> Self {
        match value {
            Value::Object(_) if NAMED.contains(&key) => Self::Plain("names"),
            value => Self::of(value),
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Plain("null"),
            Value::Bool(_) => Self::Plain("true or false"),
            Value::Number(_) => Self::Plain("number"),
            Value::String(_) => Self::Plain("text"),
            Value::Array(items) => {
                let mut shapes: Vec<Self> = items.iter().map(Self::of).collect();
                shapes.sort();
                shapes.dedup();
                Self::List(shapes)
            }
            Value::Object(map) => Self::Map(
                map.iter()
                    .map(|(key, value)| (key.clone(), Self::under(key, value)))
                    .collect(),
            ),
        }
    }
}

/// A value whose lists of maps hold one of each shape.
fn few(value: &Value) -> Value {
    match value {
        Value::Array(items) => {
            let mut seen = Vec::new();
            let mut kept = Vec::new();
            for item in items.iter().map(few) {
                let shape = Shape::of(&item);
                if !item.is_object() || !seen.contains(&shape) {
                    seen.push(shape);
                    kept.push(item);
                }
            }
            Value::Array(kept)
        }
        Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), few(value))).collect()),
        other => other.clone(),
    }
}

/// The shapes of all lines, but for events that a run may be too fast to tell.
fn shapes(text: &str) -> Vec<(String, Shape)> {
    let mut found: Vec<_> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .map(|value| tagged(&few(&value)))
        .collect();
    found.retain(|(event, _)| event != "progress" && event != "log");
    found.sort();
    found.dedup();
    found
}

/// All keys of a value that are not the user's own names.
fn keys(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let mut found = Vec::new();
            for (key, value) in map {
                found.push(key.clone());
                if !NAMED.contains(&key.as_str()) || !value.is_object() {
                    found.extend(keys(value));
                }
            }
            found
        }
        Value::Array(items) => items.iter().flat_map(keys).collect(),
        _ => Vec::new(),
    }
}

/// What is in blocks, and what is not.
fn parts(text: &str) -> (String, String) {
    let mut parts = (String::new(), String::new());
    for (number, part) in text.split("```").enumerate() {
        if number % 2 == 1 { &mut parts.0 } else { &mut parts.1 }.push_str(part);
    }
    parts
}

#[test]
fn amounts_and_ages_are_alike() {
    assert_eq!(
        normal("  done corpus (0.05 s)\n made just now"),
        normal(" done  corpus (1 min 5 s)\nmade 3 min ago")
    );
    assert_eq!(normal("a 3f2a1b9c of 1.2 MB"), normal("a 00ffee11 of  8 kB"));
    assert_ne!(normal("a 1 of 2"), normal("a 1 of 3"));
}
