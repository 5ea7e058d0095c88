//! What every verb begins with: a manifest, or a config of the reference trainer that is made one, read and expanded.

use std::path::Path;

use nerpipe_engine::{Diagnostic, Diagnostics, Graph, Manifest, Registry};
use nerpipe_hub::{Fetch, Lock};
use nerpipe_stages::reference::{self, Config, Converted};

use super::names;
use crate::cli::Pipeline;
use crate::exit::Error;
use crate::render;
use crate::terminal::Terminal;

/// Reads and expands what the command line names. Models that it names are looked up, and downloaded if `fetch` says so; `tell` is
/// whether people hear of what may be wrong with a config.
pub(super) fn read(pipeline: &Pipeline, project: &Path, fetch: Fetch, tell: bool) -> Result<(Registry, Graph), Error> {
    let file = &pipeline.manifest;
    let registry = names::registry(Lock::beside(file), fetch);
    let graph = match config(file)? {
        None => {
            let manifest = Manifest::read(file, project, &pipeline.set, &registry)?;
            Graph::build(&manifest, &registry)?
        }
        Some(converted) => {
            if tell {
                warn(&converted.warnings);
            }
            let shown = format!("{}, as a manifest", file.display());
            Manifest::parse(&shown, &converted.text, project, &pipeline.set, &registry)
                .and_then(|manifest| Graph::build(&manifest, &registry))
                .map_err(|found| converted.retrace(&found))?
        }
    };
    Ok((registry, graph))
}

/// What the config in `file` says as a manifest; none if it is no config, or cannot be read, which whoever reads it as a manifest
/// will tell.
pub(super) fn config(file: &Path) -> Result<Option<Converted>, Diagnostics> {
    if file.extension().is_none_or(|extension| extension != "json") {
        return Ok(None);
    }
    let Ok(text) = std::fs::read_to_string(file) else {
        return Ok(None);
    };
    if !Config::is_meant(&text) {
        return Ok(None);
    }
    let config = Config::parse(&file.display().to_string(), &text)?;
    reference::convert(&config).map(Some)
}

/// Says what is to be said of a config that can run.
pub(super) fn warn(warnings: &[Diagnostic]) {
    let terminal = Terminal::of_process();
    for warning in warnings {
        terminal.err(&render::diagnostics::render(warning, terminal.err.on));
        terminal.err("");
    }
}
