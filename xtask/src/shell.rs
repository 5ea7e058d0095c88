//! Starting other programs, and remembering what they said for the end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Outcome;

/// What a test runner's closing lines begin with.
const TEST_RESULT: &str = "test result: ";

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The target folder: this program lies in its `debug`.
pub(crate) fn target() -> Outcome<PathBuf> {
    let own = std::env::current_exe().map_err(|error| format!("cannot find the own program file: {error}"))?;
    let target = own.ancestors().nth(2);
    target
        .map(Path::to_owned)
        .ok_or_else(|| format!("`{}` lies in no target folder", own.display()))
}

/// A cargo command in the repository's root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // What the cargo that started this program says of its package is not for others: build scripts that look at it would run
    // again, and all that depends on them be compiled anew, whenever cargo is called by hand in between.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The program's release build, started in the repository's root.
pub(crate) fn nerpipe() -> Outcome<Command> {
    let mut command = Command::new(target()?.join("release").join("nerpipe"));
    command.current_dir(root());
    Ok(command)
}

/// Starts programs one after the other.
#[derive(Default)]
pub(crate) struct Shell {
    /// What ran, and how long.
    ran: Vec<(String, Duration)>,
    /// The closing lines of test runners.
    results: Vec<String>,
    /// Further lines for the end.
    notes: Vec<String>,
}

impl Shell {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// If it does not start or does not succeed.
    pub(crate) fn run(&mut self, command: &mut Command) -> Outcome {
        self.watch(command, None)
    }

    /// Runs a program and gives each line of its standard output to `see`.
    ///
    /// # Errors
    /// If it does not start or does not succeed.
    pub(crate) fn lines(&mut self, command: &mut Command, see: &mut dyn FnMut(&str)) -> Outcome {
        self.watch(command, Some(see))
    }

    /// Runs a test runner, shows what it prints and keeps its closing lines. Returns how many tests passed.
    ///
    /// # Errors
    /// If it does not start or a test fails.
    pub(crate) fn tests(&mut self, command: &mut Command) -> Outcome<u64> {
        let mut results = Vec::new();
        let outcome = self.lines(command, &mut |line| {
            println!("{line}");
            if line.starts_with(TEST_RESULT) {
                results.push(line.to_owned());
            }
        });
        let passed = results.iter().map(|line| passed(line)).sum();
        self.results.extend(results);
        outcome.map(|()| passed)
    }

    /// Keeps a line for the end.
    pub(crate) fn note(&mut self, line: String) {
        self.notes.push(line);
    }

    /// Says once more what matters of all that was printed.
    pub(crate) fn sum_up(&self) {
        if self.ran.len() > 1 {
            println!();
            for (shown, took) in &self.ran {
                println!("{:8.1} s  {shown}", took.as_secs_f64());
            }
        }
        for line in self.results.iter().chain(&self.notes) {
            println!("{line}");
        }
    }

    fn watch(&mut self, command: &mut Command, see: Option<&mut dyn FnMut(&str)>) -> Outcome {
        let shown = shown(command);
        println!("$ {shown}");
        let begun = Instant::now();
        if see.is_some() {
            command.stdout(Stdio::piped());
        }
        let mut child = command
            .spawn()
            .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
        if let Some(see) = see {
            read(&mut child, see).map_err(|error| format!("cannot read what `{shown}` prints: {error}"))?;
        }
        let status = child
            .wait()
            .map_err(|error| format!("cannot wait for `{shown}`: {error}"))?;
        self.ran.push((shown.clone(), begun.elapsed()));
        if status.success() {
            Ok(())
        } else {
            Err(format!("`{shown}`: {status}"))
        }
    }
}

fn read(child: &mut Child, see: &mut dyn FnMut(&str)) -> std::io::Result<()> {
    let Some(stdout) = child.stdout.take() else {
        return Ok(());
    };
    BufReader::new(stdout)
        .lines()
        .try_for_each(|line| line.map(|line| see(&line)))
}

/// A command as a person would type it, but for quotes; programs by their names only.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words: Vec<_> = std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect();
    words.join(" ")
}

/// `test result: ok. 12 passed; 0 failed; …` → 12
fn passed(line: &str) -> u64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let place = words.iter().position(|word| *word == "passed;");
    place
        .and_then(|place| words.get(place.checked_sub(1)?)?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted() {
        assert_eq!(
            passed("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out"),
            12
        );
        assert_eq!(passed("test result: FAILED. 0 passed; 2 failed; 0 ignored"), 0);
        assert_eq!(passed("test result: "), 0);
    }

    #[test]
    fn lines_arrive_and_a_failure_is_one() {
        let mut shell = Shell::default();
        let mut seen = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        let outcome = shell.lines(&mut command, &mut |line| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two"]);
        assert!(outcome.is_err_and(|problem| problem.contains("exit status: 3")));
        assert!(shell.run(&mut Command::new("no-such-program-anywhere")).is_err());
    }
}
