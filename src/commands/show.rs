//! `nerpipe show`: all that is known of some instances.

use crate::cli::Instances;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

/// Shows instances of the manifest.
pub(crate) fn show(args: &Instances, terminal: &Terminal) -> Result<Exit, Error> {
    super::tell_each(
        args,
        terminal,
        |of, numbers| nerpipe_engine::show(&of.graph, &of.registry, &of.cache, &of.project, numbers),
        |of, shown| {
            let mut value = serde_json::to_value(shown).map_err(Error::environment)?;
            // Resolved settings are in the document only as far as they count.
            let settings = of.graph.instances[shown.planned.number].resolved.settings.clone();
            value["settings"] = serde_json::Value::Object(settings);
            super::json(&value)
        },
        |of, shown| {
            let instance = &of.graph.instances[shown.planned.number];
            render::show::render(instance, &of.graph, shown, terminal.out)
        },
    )
}
