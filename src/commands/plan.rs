//! `nerpipe plan`: what a run would do and why.

use super::Session;
use crate::cli::PlanArgs;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

/// Plans the manifest.
pub(crate) fn plan(args: &PlanArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
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
    if args.json {
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
