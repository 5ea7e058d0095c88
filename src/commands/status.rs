//! `nerpipe status`: what runs do right now, asked from another terminal.

use std::path::PathBuf;

use clap::Args;
use nerpipe_engine::{Account, Manifest, RunState};

use crate::cli::Place;
use crate::exit::{Error, Exit};
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only runs of this manifest [default: of all that use the cache]
    pub(crate) manifest: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print one JSON object: `runs`, a list
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing; the exit code is 0 if a run goes on, and 1 if none does
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Shows the runs that go on, or else the last one that ended.
pub(crate) fn status(args: &StatusArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let cache = super::cache_at(&args.place)?;
    let mut accounts = Account::all(&cache).map_err(Error::environment)?;
    if let Some(manifest) = &args.manifest {
        let project = super::project(args.place.project.as_deref())?;
        let name = Manifest::read(manifest, &project, &[], &nerpipe_stages::registry())?.name;
        accounts.retain(|account| account.manifest == name);
    }
    let goes_on = accounts.iter().any(|account| account.state == RunState::Running);
    if goes_on {
        accounts.retain(|account| account.state == RunState::Running);
    } else {
        accounts.truncate(1);
    }
    if args.json {
        terminal.out(&super::json(&serde_json::json!({"runs": accounts}))?);
    } else if args.quiet {
        return Ok(if goes_on { Exit::Done } else { Exit::Failed });
    } else if accounts.is_empty() {
        terminal.err("nothing has run yet");
    }
    if !args.json {
        for account in &accounts {
            terminal.out(&render::status::render(account, terminal.out));
        }
    }
    Ok(Exit::Done)
}
