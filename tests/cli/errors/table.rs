//! Wrong manifests beside what is said about them.
//!
//! Each `NAME.yaml` here is planned in a project with a small corpus, and what comes out on standard error must be `NAME.txt`.
//! After a change of words that is meant, `NERPIPE_UPDATE=1 cargo test --test cli wrong_manifests` writes these
//! files anew; read the difference before it is committed.

use std::fs;
use std::path::Path;

use crate::project::Project;

#[test]
fn wrong_manifests_are_told_as_written_down() {
    let update = std::env::var_os("NERPIPE_UPDATE").is_some();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/errors");
    let project = Project::with_corpus();
    let elsewhere = Project::new();
    std::os::unix::fs::symlink(elsewhere.path(""), project.path("link")).expect("a link");
    let mut checked = 0;
    let mut wrong = Vec::new();
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("the folder of wrong manifests")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    names.sort();
    for manifest in names {
        let name = manifest.file_name().expect("a name").to_string_lossy().into_owned();
        project.write(&name, &fs::read_to_string(&manifest).expect("a manifest"));
        let outcome = project.nerpipe(&["plan", &name]).expect(3);
        assert_eq!(outcome.stdout, "", "{name}");
        assert!(!project.path("cache").exists(), "{name}");
        // Markers are drawn with spaces at the ends of some lines.
        let said: Vec<&str> = outcome.stderr.lines().map(str::trim_end).collect();
        let said = format!("{}\n", said.join("\n"));
        let said = said.replace(
            project.path("").to_str().expect("a path").trim_end_matches('/'),
            "PROJECT",
        );
        let expected = manifest.with_extension("txt");
        if update {
            fs::write(&expected, &said).expect("what was said is written down");
        } else if fs::read_to_string(&expected).ok().as_ref() != Some(&said) {
            wrong.push(format!("{name} is answered with\n{said}"));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked >= 20, "only {checked} were found");
}
