//! `nerpipe man`: the manual's pages.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::exit::{Error, Exit};

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder, such as ~/.local/share/man/man1; it is made if need be
    pub(crate) folder: PathBuf,
}

/// Writes one page for the program and one for each verb.
pub(crate) fn man(args: &ManArgs) -> Result<Exit, Error> {
    let failed = |error| {
        Error::environment(format!(
            "cannot write the manual into `{}`: {error}",
            args.folder.display()
        ))
    };
    std::fs::create_dir_all(&args.folder).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), &args.folder).map_err(failed)?;
    Ok(Exit::Done)
}
