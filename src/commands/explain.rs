//! `nerpipe explain`: why instances would run.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::{Session, select};
use crate::cli::Pipeline;
use crate::completion;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Which instances: `model@loss=bce,seed=1`, `model`, `loss=bce`; `+x` is x and all it needs, `x+` x and all that needs it
    #[arg(value_name = "SELECTOR", required = true, add = ArgValueCompleter::new(completion::selectors))]
    pub(crate) selectors: Vec<String>,
    /// Print one JSON object a line, one for each instance
    #[arg(long)]
    pub(crate) json: bool,
}

/// Explains instances of the manifest.
pub(crate) fn explain(args: &ExplainArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let numbers = select(&session.graph, &args.selectors)?;
    let all = nerpipe_engine::explain(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        &numbers,
    )?;
    for (index, explained) in all.iter().enumerate() {
        if args.json {
            terminal.out(&super::json(explained)?);
        } else {
            let between = if index > 0 { "\n" } else { "" };
            let text = render::explain::render(explained, terminal.out);
            terminal.out(&format!("{between}{text}"));
        }
    }
    Ok(Exit::Done)
}
