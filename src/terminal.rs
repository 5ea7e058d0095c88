//! The one gate for output: what is for machines goes to standard output, everything else to standard error.

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// The two streams and what they can show.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Whether a person watches standard error, so that lines may be drawn over.
    pub(crate) live: bool,
    /// Paints what goes to standard error.
    pub(crate) err: Paint,
    /// Whether a person reads standard output.
    out_live: bool,
    /// Paints what goes to standard output.
    pub(crate) out: Paint,
    /// Nobody reads standard output any more.
    out_closed: AtomicBool,
}

impl Terminal {
    /// Looks at the streams and at `NO_COLOR` (<https://no-color.org>).
    pub(crate) fn of_process() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let (out, err) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Self {
            live: err && !dumb,
            out_live: out,
            err: Paint {
                on: err && !dumb && !no_color,
            },
            out: Paint {
                on: out && !dumb && !no_color,
            },
            out_closed: AtomicBool::new(false),
        }
    }

    /// Whether a person reads standard output.
    pub(crate) fn out_is_live(&self) -> bool {
        self.out_live
    }

    /// Writes `text` and a line end to standard output. A reader that has gone away is no error: a run goes on, its
    /// results are in the cache.
    pub(crate) fn out(&self, text: &str) {
        if !self.out_closed.load(Ordering::Relaxed) {
            let mut stdout = io::stdout().lock();
            if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
                self.out_closed.store(true, Ordering::Relaxed);
                if error.kind() != ErrorKind::BrokenPipe {
                    self.err(&format!(
                        "{}: cannot write to standard output: {error}",
                        self.err.yellow("warning")
                    ));
                }
            }
        }
    }

    /// Writes `text` and a line end to standard error. There is nobody to tell if that fails.
    pub(crate) fn err(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// `error: message`, with the help on a line of its own.
    pub(crate) fn error(&self, message: &str, help: Option<&str>) {
        self.err(&format!("{}: {message}", self.err.red("error")));
        if let Some(help) = help {
            self.err(&format!("{}: {help}", self.err.cyan("help")));
        }
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    pub(crate) on: bool,
}

impl Paint {
    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("1;33", text)
    }

    /// One of six colours, for things that are to be told apart.
    pub(crate) fn palette(self, number: usize, text: &str) -> String {
        const COLOURS: [&str; 6] = ["1;36", "1;35", "1;33", "1;32", "1;34", "1;31"];
        self.paint(COLOURS[number % COLOURS.len()], text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }
}
