//! `nerpipe run --watch`: runs again when something has changed, and ends with Ctrl-C.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::project::{Outcome, Project};

const MANIFEST: &str = r#"name: watched
vars: {word: one}
sweep: {axes: {file: {$glob: 'in/*.txt'}}}
stages:
  all: {kind: command, with: {run: 'cat in/*.txt > "$OUT/x"', files: 'in/*.txt', parts: [x]}, publish: {x: out/all}}
  each: {kind: command, with: {run: 'echo ${vars.word} ${file} > "$OUT/x"', parts: [x]}, publish: {x: 'out/${file}'}}
"#;

/// How long a machine that is busy may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that watches, and the lines that it has written.
struct Watching {
    child: Child,
    lines: Receiver<String>,
    /// All that was read so far.
    text: String,
}

impl Watching {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let all: Vec<&str> = ["run", "--watch"].iter().chain(arguments).copied().collect();
        let mut child = project
            .command(&all)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let (sender, lines) = channel();
        let stdout = child.stdout.take().expect("its output");
        let stderr = child.stderr.take().expect("its errors");
        let outputs: [Box<dyn BufRead + Send>; 2] =
            [Box::new(BufReader::new(stdout)), Box::new(BufReader::new(stderr))];
        for output in outputs {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in output.lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            child,
            lines,
            text: String::new(),
        }
    }

    /// Reads on to a line with these words; what was read on the way.
    #[track_caller]
    fn until(&mut self, words: &str) -> String {
        let begun = Instant::now();
        let mut text = String::new();
        loop {
            let left = PATIENCE.saturating_sub(begun.elapsed());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("{words:?} never comes; before: {}\nand then: {text}", self.text);
            };
            text.push_str(&line);
            text.push('\n');
            if line.contains(words) {
                self.text.push_str(&text);
                return text;
            }
        }
    }

    /// Presses Ctrl-C, and waits for the end.
    fn interrupt(&mut self) -> (Option<i32>, Duration) {
        let begun = Instant::now();
        let sent = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        assert!(sent.expect("kill starts").success());
        let ended = self.child.wait().expect("the program ends");
        (ended.code(), begun.elapsed())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // A test that fails must not leave it behind; one that has ended cannot be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn project() -> Project {
    let project = Project::new();
    project.write("in/a.txt", "a\n");
    project.write("m.yaml", MANIFEST);
    project
}

#[test]
fn what_changes_runs_again_and_nothing_else() {
    let project = project();
    let mut watching = Watching::start(&project, &["m.yaml"]);
    watching.until("watched: 2 executed, 0 restored");
    watching.until("waiting for changes of m.yaml and 1 file that it reads; Ctrl-C ends");

    // A file that the patterns match now: both that of the setting and that of the axis.
    project.write("in/b.txt", "b\n");
    let shown = watching.until("waiting for");
    assert!(shown.contains("changed: in/b.txt (new)\n"), "{shown}");
    assert!(shown.contains("watched: 2 executed, 1 restored"), "{shown}");
    assert!(shown.contains("and 2 files that it reads"), "{shown}");
    assert_eq!(
        (project.read("out/all"), project.read("out/b")),
        ("a\nb\n".into(), "one b\n".into())
    );

    // Other bytes.
    project.write("in/a.txt", "A\n");
    let shown = watching.until("waiting for");
    assert!(shown.contains("changed: in/a.txt\n"), "{shown}");
    assert!(shown.contains("watched: 1 executed, 2 restored"), "{shown}");

    // The manifest: what it says differently runs.
    project.write("m.yaml", &MANIFEST.replace("word: one", "word: two"));
    let shown = watching.until("waiting for");
    assert!(shown.contains("changed: m.yaml\n"), "{shown}");
    assert!(shown.contains("watched: 2 executed, 1 restored"), "{shown}");

    std::fs::remove_file(project.path("in/b.txt")).expect("it goes away");
    let shown = watching.until("waiting for");
    assert!(shown.contains("changed: in/b.txt (gone)\n"), "{shown}");

    let (code, time) = watching.interrupt();
    assert_eq!(code, Some(130));
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn a_wrong_manifest_is_shown_and_waited_for() {
    let project = project();
    project.write("m.yaml", &MANIFEST.replace("kind: command", "kind: comand"));
    let mut watching = Watching::start(&project, &["m.yaml"]);
    watching.until("did you mean `command`?");
    watching.until("2 errors in the manifest; nothing was started");
    watching.until("waiting for m.yaml to be mended; Ctrl-C ends");

    // Another mistake is told anew: an input that is not there.
    project.write("m.yaml", &MANIFEST.replace("files: 'in/*.txt'", "files: 'on/*.txt'"));
    watching.until("changed: m.yaml");
    watching.until("nothing matches `on/*.txt`");
    watching.until("waiting for");

    // What the manifest lacks comes to be: nobody touched the manifest.
    project.write("on/c.txt", "c\n");
    watching.until("changed: a file that the manifest names");
    watching.until("waiting for changes");

    // A mistake later is no end either.
    project.write("m.yaml", "name: [");
    watching.until("error");
    watching.until("waiting for m.yaml to be mended");
    std::fs::remove_file(project.path("m.yaml")).expect("it goes away");
    watching.until("changed: m.yaml (gone)");
    watching.until("cannot read the manifest");
    project.write("m.yaml", MANIFEST);
    watching.until("changed: m.yaml (new)");
    watching.until("watched: 1 executed, 1 restored");
    watching.until("waiting for changes");
    assert_eq!(watching.interrupt().0, Some(130));
}

#[test]
fn choices_and_settings_hold_for_each_run() {
    let project = project();
    let arguments = ["m.yaml", "each", "--set", "vars.word=three", "--json"];
    let mut watching = Watching::start(&project, &arguments);
    watching.until(r#"{"event":"finished","executed":1,"#);
    watching.until(r#"{"event":"waiting","files":2}"#);
    project.write("in/b.txt", "b\n");
    let shown = watching.until(r#""event":"waiting""#);
    let changed = r#"{"event":"changed","files":[{"path":"in/b.txt","what":"new"}]}"#;
    assert!(shown.contains(changed), "{shown}");
    assert!(
        shown.contains(r#"{"event":"finished","executed":1,"restored":1,"#),
        "{shown}"
    );
    assert_eq!(project.read("out/b"), "three b\n");
    assert!(!project.path("out/all").exists(), "it was not asked for");

    // A choice that fits nothing any more is told, and is no end.
    project.write("m.yaml", &MANIFEST.replace("each:", "every:"));
    watching.until("there is no stage `each`");
    project.write("m.yaml", MANIFEST);
    watching.until(r#"{"event":"finished","executed":0,"#);
    watching.until(r#""event":"waiting""#);
    assert_eq!(watching.interrupt().0, Some(130));
}

#[test]
fn ctrl_c_while_it_runs_stops_what_runs() {
    let project = project();
    project.write(
        "slow.yaml",
        "name: slow\nstages:\n  one: {kind: command, with: {run: 'echo begun; sleep 600'}}\n",
    );
    let mut watching = Watching::start(&project, &["slow.yaml"]);
    watching.until("runs one");
    let (code, time) = watching.interrupt();
    assert_eq!(code, Some(130));
    assert!(time < Duration::from_secs(30), "{time:?}");
    watching.until("stopping; once more ends at once");
}

/// What is saved while a run goes on is not missed.
#[test]
fn a_change_during_a_run_is_seen_after_it() {
    let project = project();
    let go = project.path("go").display().to_string();
    let wait = format!("while ! test -e {go}; do sleep 0.05; done; cat in/*.txt");
    project.write("m.yaml", &MANIFEST.replace("cat in/*.txt", &wait));
    let mut watching = Watching::start(&project, &["m.yaml", "all"]);
    watching.until("runs all");
    project.write("in/a.txt", "B\n");
    project.write("go", "");
    watching.until("changed: in/a.txt");
    watching.until("waiting for");
    assert_eq!(project.read("out/all"), "B\n");
    watching.interrupt();
}

#[test]
fn what_cannot_be_watched_is_refused_at_once() {
    let project = project();
    let refused = |arguments: &[&str], code: i32, words: &str| {
        let Outcome { stderr, .. } = project.nerpipe(arguments).expect(code);
        assert!(stderr.contains(words), "{stderr}");
    };
    refused(&["run", "--watch", "no.yaml"], 3, "cannot read the manifest");
    refused(
        &["run", "--watch", "m.yaml", "nothing"],
        2,
        "there is no stage `nothing`",
    );
    refused(&["run", "--watch", "--force", "m.yaml"], 2, "cannot be used with");
    refused(&["run", "--watch", "--dry-run", "m.yaml"], 2, "cannot be used with");
}
