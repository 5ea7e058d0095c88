//! `nerpipe plan`: what a run would do and why.

use clap::Args;

use super::Session;
use crate::cli::Pipeline;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Plans the manifest.
pub(crate) fn plan(args: &PlanArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    show(&session, args.json, terminal)
}

/// Shows what a run would do.
pub(super) fn show(session: &Session, json: bool, terminal: &Terminal) -> Result<Exit, Error> {
    let plan = nerpipe_engine::plan(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        None,
    )
    .map_err(|error| Error::Environment {
        message: error.message,
        help: error.help,
    })?;
    if json {
        terminal.out(&super::json(&plan)?);
    } else {
        terminal.out(&render::plan::render(&plan, terminal.out));
    }
    Ok(if plan.counts.impossible > 0 {
        Exit::Failed
    } else {
        Exit::Done
    })
}
