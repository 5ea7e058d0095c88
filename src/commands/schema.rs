//! `nerpipe schema`: the JSON Schema of manifests, for editors.

use crate::exit::{Error, Exit};
use crate::terminal::Terminal;

/// Prints the schema of manifests that name the kinds of this program.
pub(crate) fn schema(terminal: &Terminal) -> Result<Exit, Error> {
    let schema = nerpipe_engine::schema::schema(&nerpipe_stages::registry());
    terminal.out(&serde_json::to_string_pretty(&schema).map_err(Error::environment)?);
    Ok(Exit::Done)
}
