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
            error.tell(&terminal);
            ExitCode::from(error.code())
        }
    }
}
