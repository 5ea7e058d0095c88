//! `nerpipe cache`: what the cache holds, and taking away what is no longer wanted.

use std::time::Duration;

use clap::{Args, Subcommand};
use nerpipe_engine::ErrorClass;
use nerpipe_engine::cache::GcOptions;
use serde_json::json;

use crate::cli::Place;
use crate::exit::{Error, Exit};
use crate::interrupt;
use crate::render;
use crate::terminal::Terminal;

#[derive(Debug, Args)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List the finished instances by manifest and stage
    Ls(LsArgs),
    /// Tell what takes how much space
    Du(DuArgs),
    /// Take away what is no longer wanted
    ///
    /// Without an option only what nothing refers to goes. Everything that goes can be made again by a run. While a run
    /// uses the cache nothing is removed.
    Gc(GcArgs),
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only those of this manifest, by its `name`
    #[arg(long, value_name = "NAME")]
    pub(crate) manifest: Option<String>,
    /// Only those of this stage
    #[arg(long, value_name = "NAME")]
    pub(crate) stage: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DuArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GcArgs {
    #[command(flatten)]
    pub(crate) place: Place,
    /// What no run made or found for this many days goes
    #[arg(long, value_name = "DAYS")]
    pub(crate) keep_days: Option<u64>,
    /// The bytes used least recently go until the cache is not larger than this, such as 10GB; their records stay
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_size: Option<u64>,
    /// What is no manifest's latest goes: results of settings that were changed since
    #[arg(long)]
    pub(crate) unreferenced: bool,
    /// Remove nothing, tell what would go
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors
    #[arg(long, short, conflicts_with = "json")]
    pub(crate) quiet: bool,
}

/// Does what was asked for.
pub(crate) fn cache(args: &CacheArgs, terminal: &Terminal) -> Result<Exit, Error> {
    match &args.verb {
        Verb::Ls(args) => ls(args, terminal)?,
        Verb::Du(args) => {
            let usage = super::cache_at(&args.place)?.usage().map_err(Error::environment)?;
            terminal.out(&match args.json {
                true => super::json(&usage)?,
                false => render::cache::usage(&usage, terminal.out),
            });
        }
        Verb::Gc(args) => return gc(args, terminal),
    }
    Ok(Exit::Done)
}

fn ls(args: &LsArgs, terminal: &Terminal) -> Result<(), Error> {
    let mut records = super::cache_at(&args.place)?
        .inventory()
        .map_err(Error::environment)?
        .records;
    let is = |wanted: &Option<String>, has: &str| wanted.as_ref().is_none_or(|wanted| wanted == has);
    records.retain(|record| is(&args.manifest, &record.manifest) && is(&args.stage, &record.stage));
    terminal.out(&match args.json {
        true => super::json(&json!({"records": records}))?,
        false => render::cache::records(&records, terminal.out),
    });
    Ok(())
}

fn gc(args: &GcArgs, terminal: &Terminal) -> Result<Exit, Error> {
    let options = GcOptions {
        keep: args
            .keep_days
            .map(|days| Duration::from_secs(days.saturating_mul(24 * 3600))),
        max_size: args.max_size,
        unreferenced: args.unreferenced,
        dry_run: args.dry_run,
    };
    let waiting = || terminal.err("waiting for another process that looks after the cache");
    let swept = match super::cache_at(&args.place)?.gc(&options, &interrupt::watch(), waiting) {
        Err(error) if error.class == ErrorClass::Cancelled => return Ok(Exit::Interrupted),
        swept => swept?,
    };
    if args.json {
        terminal.out(&super::json(&swept)?);
    } else if !args.quiet {
        terminal.out(&render::cache::swept(&swept, terminal.out));
    }
    Ok(Exit::Done)
}

/// A size in bytes: `500MB`, `1.5 GiB`, `1000`.
fn size(text: &str) -> Result<u64, String> {
    let wrong = || "give a size such as 500MB, 10GB or 2GiB".to_owned();
    let text = text.trim();
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit: f64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        "tib" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    Ok((number * unit) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let sizes = ["0", "1000", "1.5kB", "2 GiB", "10GB", "3m"].map(|text| size(text).ok());
        assert_eq!(sizes, [0, 1000, 1500, 2 << 30, 10_000_000_000, 3_000_000].map(Some));
        for wrong in ["", "GB", "10 parsecs", "-1", "1.2.3"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
