//! `nerpipe show`: all that is known of some instances.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use super::{Session, select};
use crate::cli::Pipeline;
use crate::completion;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// Which instances: `model@loss=bce,seed=1`, `model`, `loss=bce`; `+x` is x and all it needs, `x+` x and all that needs it
    #[arg(value_name = "SELECTOR", required = true, add = ArgValueCompleter::new(completion::selectors))]
    pub(crate) selectors: Vec<String>,
    /// Print one JSON object a line, one for each instance
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows instances of the manifest.
pub(crate) fn show(args: &ShowArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let numbers = select(&session.graph, &args.selectors)?;
    let all = nerpipe_engine::show(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        &numbers,
    )?;
    for (index, shown) in all.iter().enumerate() {
        let instance = &session.graph.instances[shown.planned.number];
        if args.json {
            let mut value = serde_json::to_value(shown).map_err(Error::environment)?;
            // Resolved settings are in the document only as far as they count.
            value["settings"] = serde_json::Value::Object(instance.resolved.settings.clone());
            terminal.out(&super::json(&value)?);
        } else {
            let between = if index > 0 { "\n" } else { "" };
            let text = render::show::render(instance, &session.graph, shown, terminal.out);
            terminal.out(&format!("{between}{text}"));
        }
    }
    Ok(Exit::Done)
}
