//! `nerpipe explain`: why instances would run.

use crate::cli::Instances;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

/// Explains instances of the manifest.
pub(crate) fn explain(args: &Instances, terminal: &Terminal) -> Result<Exit, Error> {
    super::tell_each(
        args,
        terminal,
        |of, numbers| nerpipe_engine::explain(&of.graph, &of.registry, &of.cache, &of.project, numbers),
        |_, explained| super::json(explained),
        |_, explained| render::explain::render(explained, terminal.out),
    )
}
