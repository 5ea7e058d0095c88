//! `nerpipe graph`: the stages and what they read, drawn.

use clap::{Args, ValueEnum};

use super::{Expanded, select};
use crate::cli::{Pipeline, Selectors};
use crate::exit::{Error, Exit};
use crate::render::graph::Drawing;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct GraphArgs {
    #[command(flatten)]
    pub(crate) pipeline: Pipeline,
    #[command(flatten)]
    pub(crate) selectors: Selectors,
    /// The language of the drawing
    #[arg(long, value_enum, default_value = "mermaid", conflicts_with = "json")]
    pub(crate) format: Format,
    /// Draw every instance instead of one box a stage
    #[arg(long)]
    pub(crate) expand: bool,
    /// Print nodes and edges as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// A language that graphs are drawn in.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// Mermaid, which many web pages draw
    Mermaid,
    /// Graphviz's
    Dot,
}

/// Draws the graph of the manifest; the cache is not looked at.
pub(crate) fn graph(args: &GraphArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let Expanded { graph, .. } = Expanded::read(&args.pipeline)?;
    let selected = match args.selectors.selectors.as_slice() {
        [] => None,
        selectors => Some(select(&graph, selectors)?),
    };
    let drawing = Drawing::new(&graph, selected.as_deref(), args.expand);
    terminal.out(&match args.format {
        _ if args.json => super::json(&drawing)?,
        Format::Mermaid => drawing.mermaid(),
        Format::Dot => drawing.dot(),
    });
    Ok(Exit::Done)
}
