//! The program: words and exit codes, no logic. It parses the command line, calls one command and turns what comes back
//! into an exit code.

mod cli;
mod commands;
mod exit;
mod interrupt;
mod render;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::Error;
use crate::terminal::Terminal;

fn main() -> ExitCode {
    nerpipe_stages::allocator::keep_freed_memory();
    let cli = Cli::parse();
    let terminal = Terminal::of_process();
    let ended = match &cli.command {
        Command::Run(args) => commands::run::run(args, &terminal),
        Command::Plan(args) => commands::plan::plan(args, &terminal),
        Command::Show(args) => commands::show::show(args, &terminal),
        Command::Exec(args) => commands::exec::exec(args),
    };
    match ended {
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
