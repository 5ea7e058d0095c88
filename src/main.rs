//! The program: words and exit codes, no logic. It parses the command line, calls one command and turns what comes back
//! into an exit code.

mod cli;
mod commands;
mod completion;
mod exit;
mod interrupt;
mod machine;
mod render;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::exit::Error;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    completion::answer();
    nerpipe_stages::allocator::keep_freed_memory();
    let terminal = Terminal::of_process();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // There is nobody to tell if that fails.
            let _ = error.print();
            if error.kind() == ErrorKind::InvalidSubcommand {
                terminal.err(&format!("\n{}", cli::verbs()));
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command.perform(&terminal) {
        Ok(exit) => exit.into(),
        Err(error) => {
            tell(&error, &terminal);
            ExitCode::from(error.code())
        }
    }
}

/// Shows an error to a person.
fn tell(error: &Error, terminal: &Terminal) {
    match error {
        Error::Usage { message, help } | Error::Environment { message, help } => {
            terminal.error(message, help.as_deref());
        }
        Error::Manifest(diagnostics) => {
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
