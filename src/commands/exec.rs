//! `nerpipe exec JOB`: what a run starts for an instance that gets a process of its own.

use std::path::PathBuf;

use clap::Args;

use crate::exit::{Error, Exit};

#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// The file with the job
    pub(crate) job: PathBuf,
}

/// Executes the job in the file; how it ended is told to the run through a file beside it.
pub(crate) fn exec(args: &ExecArgs) -> Result<Exit, Error> {
    let code = nerpipe_engine::job::exec(&args.job, &nerpipe_stages::registry());
    Ok(Exit::Child(u8::try_from(code).unwrap_or(1)))
}
