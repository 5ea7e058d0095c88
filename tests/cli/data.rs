//! `nerpipe data`: checks, figures and other formats.

use serde_json::{Value, json};

use crate::project::Project;

const GOOD: &str = r#"{"id": "1", "text": "in Köln", "tokens": ["in", "Köln"], "token_spans": [{"start": 1, "end": 2, "label": "city"}]}"#;

#[test]
fn a_check_lists_all_that_is_wrong() {
    let project = Project::new();
    let wrong = GOOD.replace("\"end\": 2", "\"end\": 3");
    project.write("a.jsonl", &format!("{GOOD}\n{wrong}\n\n[]\n{GOOD}\n"));
    project.write("b.conll", "in O\nKöln B-city\n\nx X-y\n\nz O\n");
    let outcome = project.nerpipe(&["data", "check", "a.jsonl", "b.conll"]).expect(1);
    let lines: Vec<&str> = outcome
        .stdout
        .lines()
        .filter(|line| !line.starts_with("  help: "))
        .collect();
    assert_eq!(
        lines,
        [
            "a.jsonl:2: `token_spans[0].end`: the span 1..3 ends past the 2 tokens of the record",
            "a.jsonl:4: the line is a JSON array, not an object",
            "b.conll:4: `tag`: the tag \"X-y\" has the unknown prefix \"X\"",
        ]
    );
    assert!(
        outcome
            .stderr
            .contains("3 problems in 2 files: 4 sentences read, 7 words, 3 entities"),
        "{}",
        outcome.stderr
    );
    let events = project.nerpipe(&["data", "check", "--json", "."]).expect(1).events();
    assert_eq!(events.len(), 4);
    assert_eq!(
        (&events[0]["file"], &events[0]["line"], &events[0]["field"]),
        (&json!("./a.jsonl"), &json!(2), &json!("token_spans[0].end"))
    );
    assert_eq!(
        (&events[3]["event"], &events[3]["problems"]),
        (&json!("checked"), &json!(3))
    );
    project.write("b.conll", "in O\n");
    let outcome = project.nerpipe(&["data", "check", "b.conll"]).expect(0);
    assert!(outcome.stderr.contains("no problems in 1 file"), "{}", outcome.stderr);
    let outcome = project.nerpipe(&["data", "check", "nothing.jsonl"]).expect(1);
    assert!(
        outcome.stdout.starts_with("nothing.jsonl: failed to open"),
        "{}",
        outcome.stdout
    );
}

/// Of each record everything is told that can be told, not only the first.
#[test]
fn all_that_is_wrong_with_a_record_is_told() {
    let project = Project::new();
    let lines = [
        // Four fields of one line, of which three cannot even be read.
        r#"{"id": true, "text": "in Köln", "tokens": ["in", 7], "char_spans": [{"start": "3", "end": 7}, {"start": 3, "end": 9, "label": " "}]}"#,
        // All can be read, and five things are wrong.
        r#"{"text": "in Köln", "language": " ", "tokens": ["in", "", "Köln"], "token_spans": [{"start": 1, "end": 1, "label": ""}, {"start": 2, "end": 9, "label": "city"}]}"#,
        // Two pairs of spans that do not agree.
        r#"{"text": "in Köln", "tokens": ["in", "Köln"], "token_spans": [{"start": 0, "end": 1, "label": "a"}, {"start": 1, "end": 2, "label": "city"}], "char_spans": [{"start": 0, "end": 2, "label": "b"}, {"start": 3, "end": 8, "label": "city"}]}"#,
    ];
    // The last one's second end is past the text, which is told before spans are compared; made right, both are compared.
    let compared = lines[2].replace("\"end\": 8", "\"end\": 6");
    project.write("a.jsonl", &format!("{}\n{}\n{compared}\n{GOOD}\n", lines[0], lines[1]));
    project.write("b.conll", "in X-y\nKöln B-\nda\n\nin O\n");
    project.write(
        "c.json",
        r#"[{"tokenized_text": ["a", 7], "ner": [[0, -1, "x"], [0, 0, 5]]}, {"tokenized_text": ["a"], "ner": [[0, 1, ""]]}]"#,
    );
    let outcome = project
        .nerpipe(&["data", "check", "--json", "a.jsonl", "b.conll", "c.json"])
        .expect(1);
    let told: Vec<String> = outcome
        .events()
        .iter()
        .filter(|event| event["event"] == "problem")
        .map(|event| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            format!("{}:{} {}", text("file"), event["line"], text("field"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "a.jsonl:1 id",
            "a.jsonl:1 tokens[1]",
            "a.jsonl:1 char_spans[0].label",
            "a.jsonl:1 char_spans[0].start",
            "a.jsonl:1 char_spans[1].end",
            "a.jsonl:1 char_spans[1].label",
            "a.jsonl:2 language",
            "a.jsonl:2 tokens[1]",
            "a.jsonl:2 token_spans[0]",
            "a.jsonl:2 token_spans[0].label",
            "a.jsonl:2 token_spans[1].end",
            "a.jsonl:3 token_spans[0].label",
            "a.jsonl:3 token_spans[1]",
            "b.conll:1 tag",
            "b.conll:2 tag",
            "b.conll:3 tag",
            "c.json:1 [0].tokenized_text[1]",
            "c.json:1 [0].ner[0][1]",
            "c.json:1 [0].ner[1][2]",
            "c.json:1 [1].ner[0][1]",
            "c.json:1 [1].ner[0][2]",
        ]
    );
    let checked = outcome.events().pop().unwrap_or_default();
    assert_eq!(checked["problems"], told.len());
    assert_eq!(checked["files"][0]["sentences"], 1);
}

#[test]
fn stats_count_and_compare() {
    let project = Project::new();
    project.write(
        "train.jsonl",
        &format!(
            "{GOOD}\n{}\n",
            GOOD.replace("city", "place")
                .replace("in ", "an ")
                .replace("\"in\"", "\"an\"")
        ),
    );
    project.write("test.tsv", "in\tO\nKöln\tB-city\n");
    let outcome = project.nerpipe(&["data", "stats", "train.jsonl", "test.tsv"]).expect(0);
    for words in [
        "sentences    2, of which 0 have no entity",
        "types        city 1, place 1",
        "       1  train.jsonl, test.tsv",
    ] {
        assert!(outcome.stdout.contains(words), "{words} in\n{}", outcome.stdout);
    }
    let stats: Value = serde_json::from_str(
        &project
            .nerpipe(&["data", "stats", "--json", "train.jsonl", "test.tsv"])
            .expect(0)
            .stdout,
    )
    .unwrap();
    assert_eq!(stats["files"][0]["labels"], json!({"city": 1, "place": 1}));
    assert_eq!(
        stats["shared_texts"],
        json!([{"files": ["train.jsonl", "test.tsv"], "texts": 1}])
    );
    project.write("train.jsonl", "{}\n");
    let outcome = project.nerpipe(&["data", "stats", "train.jsonl"]).expect(4);
    assert!(
        outcome.stderr.contains("train.jsonl:1: `text`: the field is missing"),
        "{}",
        outcome.stderr
    );
}

#[test]
fn conversions_come_back() {
    let project = Project::new();
    project.write("a.jsonl", &format!("{GOOD}\n"));
    let convert = |arguments: &[&str], code: i32| {
        let all: Vec<&str> = ["data", "convert"].iter().chain(arguments).copied().collect();
        project.nerpipe(&all).expect(code)
    };
    convert(&["a.jsonl", "--to", "conll", "--out", "x/a.conll"], 0);
    assert_eq!(project.read("x/a.conll"), "# sent_id = 1\nin\tO\nKöln\tB-city\n\n");
    convert(&["x/a.conll", "--to", "gliner", "--out", "x/a.json"], 0);
    convert(&["x/a.json", "--to", "jsonl", "--out", "b.jsonl"], 0);
    convert(&["a.jsonl", "--to", "jsonl", "--out", "c.jsonl"], 0);
    assert_eq!(project.read("b.jsonl"), project.read("c.jsonl"));
    // What is there stays, unless it is said; what cannot be written leaves nothing behind.
    assert!(
        convert(&["a.jsonl", "--to", "jsonl", "--out", "b.jsonl"], 2)
            .stderr
            .contains("`b.jsonl` is there already")
    );
    convert(
        &[
            "a.jsonl",
            "--to",
            "jsonl",
            "--out",
            "b.jsonl",
            "--overwrite",
            "--language",
            "de",
        ],
        0,
    );
    assert!(project.read("b.jsonl").contains(r#""language":"de""#));
    // A blank line counts as a line.
    let overlapping = GOOD.replace(r#"[{"start""#, r#"[{"start": 0, "end": 2, "label": "x"}, {"start""#);
    project.write("o.jsonl", &format!("\n{overlapping}\n"));
    let refused = convert(&["o.jsonl", "--to", "conll", "--out", "o/o.conll"], 4);
    assert!(
        refused
            .stderr
            .contains("o.jsonl:2: `token_spans[1]`: record `1`: the entity 1..2 (\"city\") overlaps another"),
        "{}",
        refused.stderr
    );
    assert_eq!(std::fs::read_dir(project.path("o")).unwrap().count(), 0);
    let longest = convert(&["o.jsonl", "--to", "conll", "--out", "o", "--overlaps", "longest"], 0);
    assert!(
        longest
            .stderr
            .contains("1 entity was left out, because it overlaps a longer one"),
        "{}",
        longest.stderr
    );
    assert!(project.read("o/o.conll").contains("in\tB-x\nKöln\tI-x\n"));
    let outcome = convert(&["a.jsonl", "o.jsonl", "--to", "gliner", "--out", "both"], 0);
    assert!(outcome.stderr.contains("both/a.json: 1 sentence"), "{}", outcome.stderr);
}
