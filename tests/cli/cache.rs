//! `nerpipe cache`: what is there, how large it is, and what goes.

use crate::project::Project;

#[test]
fn a_cache_is_listed_measured_and_emptied() {
    let project = Project::with_corpus();
    let none = project.nerpipe(&["cache", "ls"]).expect(4);
    assert!(
        none.stderr.starts_with("error: there is no cache in `./cache`\n"),
        "{}",
        none.stderr
    );
    assert!(!project.path("cache").exists());
    project.nerpipe(&["run", "m.yaml"]).expect(0);
    project.nerpipe(&["run", "m.yaml", "--set", "vars.limit=1"]).expect(0);

    let listed = project.nerpipe(&["cache", "ls"]).expect(0).stdout;
    let lines: Vec<&str> = listed.lines().collect();
    assert_eq!(lines[..3], ["2 records", "toy", "  corpus load"]);
    assert!(
        lines[3].contains("  used just now, ran ") && lines[3].ends_with(", not the latest"),
        "{listed}"
    );
    assert!(
        lines[4].starts_with("    corpus  ") && !lines[4].contains("latest"),
        "{listed}"
    );
    assert_eq!(
        project.nerpipe(&["cache", "ls", "--manifest", "x"]).expect(0).stdout,
        "no records\n"
    );
    let records = &project.nerpipe(&["cache", "ls", "--json"]).expect(0).events()[0]["records"];
    assert_eq!(
        (&records[0]["latest"], &records[1]["latest"]),
        (&false.into(), &true.into())
    );

    let measured = project.nerpipe(&["cache", "du"]).expect(0).stdout;
    let words: Vec<&str> = measured.split_whitespace().collect();
    for row in [["kind", "records", "holds", "load", "2"].as_slice(), &["toy", "2"]] {
        assert!(words.windows(row.len()).any(|words| words == row), "{measured}");
    }

    let dry = project
        .nerpipe(&["cache", "gc", "--unreferenced", "--dry-run"])
        .expect(0)
        .stdout;
    assert!(
        dry.starts_with("would remove ") && dry.contains("\n  1 instance\n    corpus of toy, "),
        "{dry}"
    );
    let swept = &project
        .nerpipe(&["cache", "gc", "--unreferenced", "--json"])
        .expect(0)
        .events()[0];
    assert_eq!(swept["records"].as_array().map(Vec::len), Some(1));
    assert!(swept["freed"].as_u64() > Some(0));
    let rest = project
        .nerpipe(&["run", "m.yaml", "--set", "vars.limit=1", "--json"])
        .expect(0)
        .events();
    assert_eq!(rest.last().expect("an event")["executed"], 0, "the latest stayed");

    project
        .nerpipe(&["cache", "gc", "--max-size", "0", "--quiet"])
        .expect(0);
    let emptied = project.nerpipe(&["cache", "ls"]).expect(0).stdout;
    assert!(emptied.contains(", bytes gone"), "{emptied}");
    let wrong = project.nerpipe(&["cache", "gc", "--max-size", "much"]).expect(2);
    assert!(wrong.stderr.contains("give a size such as 500MB"), "{}", wrong.stderr);
}
