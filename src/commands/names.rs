//! Models by their names: the registry's kinds, with a hub that says where a model is.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nerpipe_engine::{Registry, StageError};
use nerpipe_hub::{Environment, Fetch, Hub, Lock, Progress};

use crate::exit::Error;
use crate::render::numbers;
use crate::terminal::Terminal;

/// All kinds; names of models are looked up as the environment says, and pinned in `lock`.
pub(super) fn registry(lock: Lock, fetch: Fetch) -> Registry {
    let hub = hub(lock, fetch);
    nerpipe_stages::registry().locating(move |name| {
        hub.locate(name).map_err(|error| {
            let refused = StageError::new(error.message);
            match error.help {
                Some(help) => refused.help(help),
                None => refused,
            }
        })
    })
}

/// The directory that `text` names: itself if it is one, or else that of the model on the hub, which is fetched if need be.
pub(super) fn directory(text: &str, project: &Path) -> Result<String, Error> {
    if project.join(text).exists() {
        return Ok(text.to_owned());
    }
    let found = hub(Lock::at(project.join(Lock::FILE)), Fetch::Missing).locate(text);
    let found = found.map_err(|error| Error::usage(error.message, error.help))?;
    Ok(found.map_or_else(|| text.to_owned(), |folder| folder.to_string_lossy().into_owned()))
}

fn hub(lock: Lock, fetch: Fetch) -> Hub {
    let told = Mutex::new(String::new());
    let tell = move |progress: Progress<'_>| {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line(&progress);
        if *told != line {
            Terminal::of_process().err(&line);
            *told = line;
        }
    };
    Hub::new(Environment::of_process(), lock, fetch, tell)
}

/// A line for each tenth of a file.
fn line(progress: &Progress<'_>) -> String {
    let (model, file) = (progress.model, progress.file);
    match progress.total.filter(|total| *total > 0) {
        Some(total) => {
            let tenths = progress.done.min(total) * 10 / total;
            format!(
                "downloads {file} of {model}: {}% of {}",
                tenths * 10,
                numbers::bytes(total)
            )
        }
        None => format!("downloads {file} of {model}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_is_told_in_tenths() {
        let at = |done: u64, total: Option<u64>| {
            line(&Progress {
                model: "owner/small",
                file: "config.json",
                done,
                total,
            })
        };
        assert!(at(599, Some(1000)).starts_with("downloads config.json of owner/small: 50% of "));
        assert_eq!(at(5, None), "downloads config.json of owner/small");
    }
}
