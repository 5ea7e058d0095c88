//! `nerpipe show`: all that is known of one instance.

use clap::Args;

use super::Session;
use crate::cli::Pipeline;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    /// The instance, such as `model@architecture=bi_encoder,loss=bce`; a part that fits only one is enough
    pub(crate) instance: String,
    /// Print it as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Shows one instance of the manifest.
pub(crate) fn show(args: &ShowArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let session = Session::open(&args.pipeline)?;
    let number = session
        .graph
        .select_one(&args.instance)
        .map_err(|error| Error::usage(error.message, error.help))?;
    let shown = nerpipe_engine::show(
        &session.graph,
        &session.registry,
        &session.cache,
        &session.project,
        number,
    )
    .map_err(|error| Error::Environment {
        message: error.message,
        help: error.help,
    })?;
    let instance = &session.graph.instances[number];
    if args.json {
        let mut value = serde_json::to_value(&shown).map_err(Error::environment)?;
        // Resolved settings are in the document only as far as they count.
        value["settings"] = serde_json::Value::Object(instance.resolved.settings.clone());
        terminal.out(&super::json(&value)?);
    } else {
        terminal.out(&render::show::render(instance, &session.graph, &shown, terminal.out));
    }
    Ok(Exit::Done)
}
