//! What a person sees on a terminal: bars, colours, and a clean screen at the end.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Command, ExitStatus, Stdio};

use crate::project::Project;

/// A pseudo terminal: what is written to `theirs` can be read from `ours`, as if a person sat there.
pub(crate) struct Terminal {
    pub(crate) ours: File,
    theirs: File,
}

impl Terminal {
    /// A terminal of [`WIDTH`] columns.
    pub(crate) fn open() -> Self {
        #[expect(unsafe_code, reason = "the standard library opens no terminals")]
        // SAFETY: the call returns a new descriptor that nobody else owns, or -1.
        let ours = unsafe {
            let descriptor = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(descriptor >= 0, "no terminal: {}", std::io::Error::last_os_error());
            File::from(OwnedFd::from_raw_fd(descriptor))
        };
        let size = libc::winsize {
            ws_row: 30,
            ws_col: WIDTH as u16,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let mut name = [0_u8; 64];
        #[expect(unsafe_code, reason = "the standard library opens no terminals")]
        // SAFETY: the descriptor is open, `name` is as long as is said, and `size` outlives the call.
        let ready = unsafe {
            let descriptor = ours.as_raw_fd();
            libc::grantpt(descriptor) == 0
                && libc::unlockpt(descriptor) == 0
                && libc::ptsname_r(descriptor, name.as_mut_ptr().cast(), name.len()) == 0
                && libc::ioctl(descriptor, libc::TIOCSWINSZ, &size) == 0
        };
        assert!(ready, "no terminal: {}", std::io::Error::last_os_error());
        let end = name.iter().position(|byte| *byte == 0).expect("its name ends");
        let name = std::str::from_utf8(&name[..end]).expect("its name is UTF-8");
        let theirs = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY)
            .open(name)
            .expect("its other end opens");
        Self { ours, theirs }
    }

    /// Starts a command whose three streams are this terminal. From then on what is written to it can be read to its end.
    pub(crate) fn start(self, command: &mut Command) -> (std::process::Child, File) {
        let theirs = || Stdio::from(self.theirs.try_clone().expect("a descriptor"));
        command.env("TERM", "xterm-256color");
        let child = command.stdin(theirs()).stdout(theirs()).stderr(theirs()).spawn();
        // A terminal ends when nobody has it open any more, this command included.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        (child.expect("the program starts"), self.ours)
    }

    /// What a command writes to a terminal.
    fn run(command: &mut Command) -> (String, ExitStatus) {
        let (mut child, mut ours) = Self::open().start(command);
        let written = read(&mut ours);
        (written, child.wait().expect("the program ends"))
    }
}

/// All that is written to a terminal until everyone has closed it.
pub(crate) fn read(terminal: &mut File) -> String {
    let mut written = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match terminal.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => written.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // So Linux says that the other end is closed.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => break,
            Err(error) => panic!("the terminal cannot be read: {error}"),
        }
    }
    String::from_utf8(written).expect("the program writes UTF-8")
}

/// How wide the terminals are.
const WIDTH: usize = 100;

/// The lines on the screen after `text` was written to it, without their colours. A sequence that it does not know is an error.
fn screen(text: &str) -> Vec<String> {
    let mut lines: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0_usize, 0_usize);
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        match next {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                assert_eq!(chars.next(), Some('['), "an unknown sequence in {text:?}");
                let mut parameters = String::new();
                let command = loop {
                    match chars.next().expect("a sequence ends") {
                        letter if letter.is_ascii_alphabetic() => break letter,
                        other => parameters.push(other),
                    }
                };
                let number = || parameters.parse().unwrap_or(1);
                match (command, parameters.as_str()) {
                    ('m', _) => {}
                    ('A', _) => row = row.saturating_sub(number()),
                    ('B', _) => row += number(),
                    ('K', "2") => lines[row].clear(),
                    ('K', "" | "0") => lines[row].truncate(column),
                    ('J', "" | "0") => {
                        lines[row].truncate(column);
                        lines.truncate(row + 1);
                    }
                    _ => panic!("the unknown sequence {parameters}{command} in {text:?}"),
                }
            }
            shown => {
                // A line that is full goes on in the next one, but only when there is more to show.
                if column == WIDTH {
                    (row, column) = (row + 1, 0);
                }
                while lines.len() <= row {
                    lines.push(Vec::new());
                }
                let line = &mut lines[row];
                while line.len() <= column {
                    line.push(' ');
                }
                line[column] = shown;
                column += 1;
            }
        }
        while lines.len() <= row {
            lines.push(Vec::new());
        }
    }
    let text = |line: Vec<char>| line.into_iter().collect::<String>().trim_end().to_owned();
    let mut lines: Vec<String> = lines.into_iter().map(text).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Whether there is any colour in what was written.
fn has_colours(text: &str) -> bool {
    text.split("\x1b[").skip(1).any(|rest| {
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == ';'));
        end.is_some_and(|end| rest[end..].starts_with('m'))
    })
}

/// Two instances that take so long that a bar is drawn, and one that reads both.
const SLOW: &str = r#"name: slow
sweep: {axes: {n: [1, 2]}}
stages:
  wait: {kind: command, with: {run: 'sleep 0.4; echo ${n} > "$OUT/x"', parts: [x]}}
  both: {kind: command, inputs: {all: {collect: wait}}, with: {run: 'cat "$ALL"/*/x > "$OUT/x"'}}
"#;

/// What is left on the screen of a run of [`SLOW`].
const LEFT: [&str; 9] = [
    "slow 3 instances",
    "     runs wait@n=1 (never ran)",
    "     done wait@n=1 (TIME)",
    "     runs wait@n=2 (never ran)",
    "     done wait@n=2 (TIME)",
    "     runs both (never ran)",
    "     done both (TIME)",
    "",
    "slow: 3 executed, 0 restored in TIME",
];

/// A line in which times at the end are all the same.
fn timeless(line: &str) -> String {
    let (line, end) = line.strip_suffix(')').map_or((line, ""), |line| (line, ")"));
    let before = line.strip_suffix(" s").unwrap_or(line);
    let words = before.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    match before.len() < line.len() && words.len() < before.len() {
        true => format!("{words}TIME{end}"),
        false => format!("{line}{end}"),
    }
}

#[test]
fn a_run_draws_bars_and_colours_and_leaves_a_clean_screen() {
    let project = Project::new();
    project.write("slow.yaml", SLOW);
    let (written, status) = Terminal::run(&mut project.command(&["run", "slow.yaml", "--jobs", "1"]));
    assert!(status.success(), "{written:?}");
    // A spinner with the instance's name, a bar for the run as a whole, and both drawn over.
    for part in ["wait@n=2 ", "1/3 instances", "===", "\x1b[1A", "\x1b[2K"] {
        assert!(written.contains(part), "{part:?} in {written:?}");
    }
    for coloured in [
        "\x1b[36m     runs\x1b[0m",
        "\x1b[32m     done\x1b[0m",
        "\x1b[1mslow\x1b[0m",
    ] {
        assert!(written.contains(coloured), "{coloured:?} in {written:?}");
    }
    let left: Vec<String> = screen(&written).iter().map(|line| timeless(line)).collect();
    assert_eq!(left, LEFT, "{written:?}");
}

#[test]
fn a_run_that_fails_leaves_a_clean_screen_too() {
    let project = Project::new();
    project.write("slow.yaml", &SLOW.replace("echo ${n}", "test ${n} = 2; echo ${n}"));
    let (written, status) = Terminal::run(&mut project.command(&["run", "slow.yaml", "--jobs", "2"]));
    assert_eq!(status.code(), Some(1), "{written:?}");
    assert!(
        written.contains("\x1b[1;31m   failed\x1b[0m \x1b[1mwait@n=1\x1b[0m: "),
        "{written:?}"
    );
    assert!(written.contains(" failed"), "the bar counts failures: {written:?}");
    let left = screen(&written);
    let bars: Vec<&String> = left.iter().filter(|line| line.contains("/3 instances")).collect();
    assert!(bars.is_empty(), "{bars:?}");
    let last = left.last().expect("a line");
    assert!(
        last.starts_with("slow: 1 executed, 0 restored, 1 failed, 1 skipped"),
        "{last}"
    );
}

#[test]
fn no_color_leaves_the_bars_and_takes_the_colours() {
    let project = Project::new();
    project.write("slow.yaml", SLOW);
    let run = &mut project.command(&["run", "slow.yaml", "--jobs", "1"]);
    let (written, status) = Terminal::run(run.env("NO_COLOR", "1"));
    assert!(status.success(), "{written:?}");
    assert!(
        written.contains("1/3 instances") && written.contains("\x1b[2K"),
        "{written:?}"
    );
    assert!(!has_colours(&written), "{written:?}");
    let left: Vec<String> = screen(&written).iter().map(|line| timeless(line)).collect();
    assert_eq!(left, LEFT, "{written:?}");
    project.write("wrong.yaml", "name: wrong\nstages: {a: {kind: comand}}\n");
    for arguments in [
        &["plan", "slow.yaml"][..],
        &["plan", "wrong.yaml"],
        &["explain", "slow.yaml", "wait"],
        &["status"],
        &["cache", "ls"],
        &["--help"],
        &["plan", "--nonsense"],
    ] {
        let (coloured, _) = Terminal::run(&mut project.command(arguments));
        assert!(has_colours(&coloured), "{arguments:?} on a terminal: {coloured:?}");
        let (plain, _) = Terminal::run(project.command(arguments).env("NO_COLOR", "1"));
        assert!(!plain.contains('\x1b'), "{arguments:?} with NO_COLOR: {plain:?}");
    }
}

#[test]
fn what_is_quiet_or_for_programs_draws_nothing_on_a_terminal() {
    let project = Project::new();
    project.write("slow.yaml", SLOW);
    for option in ["--quiet", "--json"] {
        let (written, status) = Terminal::run(&mut project.command(&["run", "slow.yaml", "--force", option]));
        assert!(status.success() && !written.contains('\x1b'), "{option}: {written:?}");
    }
    let run = &mut project.command(&["run", "slow.yaml", "--force"]);
    let mut dumb = Command::new("sh");
    dumb.args(["-c", "TERM=dumb exec \"$0\" \"$@\""])
        .arg(run.get_program())
        .args(run.get_args());
    dumb.current_dir(project.path(""))
        .env_remove("NERPIPE_CACHE_DIR")
        .env_remove("NO_COLOR");
    let (written, status) = Terminal::run(&mut dumb);
    assert!(status.success() && !written.contains('\x1b'), "{written:?}");
}

#[test]
fn there_is_no_escape_code_in_a_pipe() {
    let project = Project::new();
    project.write("slow.yaml", &SLOW.replace("sleep 0.4; ", ""));
    project.write("wrong.yaml", "name: wrong\nstages: {a: {kind: comand}}\n");
    for (arguments, code) in [
        (&["plan", "slow.yaml"][..], 0),
        (&["run", "slow.yaml", "--jobs", "1"], 0),
        (&["run", "slow.yaml", "--json"], 0),
        (&["explain", "slow.yaml", "wait"], 0),
        (&["show", "slow.yaml", "both"], 0),
        (&["graph", "slow.yaml"], 0),
        (&["status"], 0),
        (&["logs", "slow.yaml", "both"], 0),
        (&["cache", "ls"], 0),
        (&["cache", "du"], 0),
        (&["cache", "gc", "--unreferenced", "--dry-run"], 0),
        (&["plan", "wrong.yaml"], 3),
        (&["data", "check", "nothing.jsonl"], 1),
        (&["--help"], 0),
        (&["run", "--help"], 0),
        (&["plan", "--nonsense"], 2),
    ] {
        let outcome = project.nerpipe(arguments).expect(code);
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(!text.contains('\x1b'), "{arguments:?}: {text:?}");
        }
    }
}

#[test]
fn the_screen_of_these_tests_shows_what_a_terminal_would() {
    assert_eq!(screen("one\r\ntwo\r\x1b[2Kthree\r\n"), ["one", "three"]);
    assert_eq!(screen("a\r\nb\x1b[1A\rA\x1b[1B\x1b[32mc\x1b[0m"), ["A", "bc"]);
    assert_eq!(screen("abc\r\x1b[Kx\r\ny\x1b[1A\r\x1b[J"), Vec::<String>::new());
    let full = "x".repeat(WIDTH);
    assert_eq!(screen(&format!("{full}\r\ny")), [full.as_str(), "y"]);
    assert_eq!(screen(&format!("{full}y\x1b[1A\r\x1b[2K")), ["", "y"]);
    assert_eq!(timeless("done a (1.2 s)"), "done a (TIME)");
    assert_eq!(timeless("in 0.03 s"), "in TIME");
    assert_eq!(timeless("takes s"), "takes s");
}
