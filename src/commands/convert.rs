//! `nerpipe convert`: a JSON config of the reference trainer, as the manifest that does the same.

use std::path::PathBuf;

use clap::Args;

use super::manifest;
use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct ConvertArgs {
    /// The config, such as `configs/bi_encoder.json`
    pub(crate) config: PathBuf,
}

/// Prints the manifest of a config.
pub(crate) fn convert(args: &ConvertArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let file = args.config.display();
    // Told here, for below a file that cannot be read is nobody's config.
    std::fs::read_to_string(&args.config)
        .map_err(|error| Error::usage(format!("cannot read the config `{file}`: {error}"), None))?;
    let Some(converted) = manifest::config(&args.config)? else {
        return Err(Error::usage(
            format!("`{file}` is no config of the reference"),
            Some("such a config is a JSON file that holds one flat object".to_owned()),
        ));
    };
    manifest::warn(&converted.warnings);
    terminal.out(converted.text.trim_end());
    Ok(Exit::Done)
}
