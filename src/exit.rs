//! The table of exit codes, and the errors that lead to them.
//!
//! | code | meaning                                                                |
//! |------|------------------------------------------------------------------------|
//! | 0    | done; a reader that closed its end of a pipe early changes nothing     |
//! | 1    | at least one instance failed, or a check of data found problems        |
//! | 2    | the command line is wrong                                              |
//! | 3    | the manifest is wrong; nothing was started                             |
//! | 4    | the cache, the project folder or the disk is in the way                |
//! | 5    | something would run; only said by `plan --exit-code`                   |
//! | 130  | interrupted                                                            |

use std::process::ExitCode;

use nerpipe_engine::{Diagnostics, StageError};

use crate::render;
use crate::terminal::Terminal;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything that was asked for is there.
    Done,
    /// At least one instance failed.
    Failed,
    /// At least one instance failed because the disk or another part of the machine was in the way.
    Machine,
    /// A run would do something; only `plan --exit-code` ends so.
    WouldRun,
    /// The run was told to stop.
    Interrupted,
    /// What a job in a process of its own tells the run that started it.
    Child(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Machine => 4,
            Exit::WouldRun => 5,
            Exit::Interrupted => 130,
            Exit::Child(code) => code,
        })
    }
}

/// Why a command could not do its work.
#[derive(Debug)]
pub(crate) enum Error {
    /// The command line is wrong in a way that only shows with the manifest at hand.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
    /// The manifest is wrong.
    Manifest(Diagnostics),
    /// The cache, the project folder or the disk is in the way.
    Environment {
        /// What failed.
        message: String,
        /// What to do about it.
        help: Option<String>,
    },
}

impl Error {
    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>, help: Option<String>) -> Self {
        Self::Usage {
            message: message.into(),
            help,
        }
    }

    /// Something outside the manifest is in the way.
    pub(crate) fn environment(message: impl ToString) -> Self {
        Self::Environment {
            message: message.to_string(),
            help: None,
        }
    }

    /// Shows it to a person.
    pub(crate) fn tell(&self, terminal: &Terminal) {
        match self {
            Self::Usage { message, help } | Self::Environment { message, help } => {
                terminal.error(message, help.as_deref());
            }
            Self::Manifest(diagnostics) => {
                for diagnostic in diagnostics.iter() {
                    terminal.err(&render::diagnostics::render(diagnostic, terminal.err.on));
                    terminal.err("");
                }
                let errors = render::numbers::plural(diagnostics.len() as u64, "error");
                terminal.err(&format!(
                    "{}: {errors} in the manifest; nothing was started",
                    terminal.err.red("error")
                ));
            }
        }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Manifest(_) => 3,
            Self::Environment { .. } => 4,
        }
    }
}

impl From<StageError> for Error {
    fn from(StageError { message, help, .. }: StageError) -> Self {
        Self::Environment { message, help }
    }
}

impl From<Diagnostics> for Error {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Manifest(diagnostics)
    }
}
