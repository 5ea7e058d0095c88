//! `nerpipe plan`: what a run would do and why.

use clap::Args;
use nerpipe_engine::Plan;

use super::Session;
use crate::cli::{Pipeline, Selectors};
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    /// End with code 5 if a run would do something, and with 0 if it would not
    #[arg(long)]
    pub(crate) exit_code: bool,
    /// Print the plan as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors; the exit code tells
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Plans the manifest.
pub(crate) fn plan(args: &PlanArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let selected = session.selected(&args.selectors)?;
    let plan = of(&session, selected.as_deref())?;
    if !args.quiet {
        show(&plan, args.json, terminal)?;
    }
    let exit = match exit(&plan) {
        Exit::Done if args.exit_code && !plan.is_nothing() => Exit::WouldRun,
        exit => exit,
    };
    // The process ends here. To free ten thousand instances piece by piece would take a tenth of all its time.
    std::mem::forget((plan, session));
    Ok(exit)
}

/// What a run of these instances would do; of all, if none are chosen.
pub(super) fn of(session: &Session, selected: Option<&[usize]>) -> Result<Plan, Error> {
    let plan = nerpipe_engine::plan(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        selected,
    )?;
    Ok(plan)
}

/// Prints a plan.
pub(super) fn show(plan: &Plan, json: bool, terminal: &Terminal) -> Result<(), Error> {
    if json {
        terminal.out(&super::json(plan)?);
    } else {
        terminal.out(&render::plan::render(plan, terminal.out));
    }
    Ok(())
}

/// Whether everything in a plan can be done.
pub(super) fn exit(plan: &Plan) -> Exit {
    match plan.counts.impossible {
        0 => Exit::Done,
        _ => Exit::Failed,
    }
}
