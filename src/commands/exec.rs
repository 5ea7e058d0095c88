//! `nerpipe exec JOB`: what a run starts for an instance that gets a process of its own.

use std::process::ExitCode;

use crate::cli::ExecArgs;

/// Executes the job in the file; how it ended is told to the run through a file beside it.
pub(crate) fn exec(args: &ExecArgs) -> ExitCode {
    let code = nerpipe_engine::job::exec(&args.job, &nerpipe_stages::registry());
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
