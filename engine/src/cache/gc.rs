//! Taking away what is no longer wanted.
//!
//! Whatever goes can be made again, so nothing here can make a result wrong; it can only cost time. Records go before the
//! bytes that they refer to, so one who is interrupted leaves bytes that nothing refers to, and the next gc takes those.
//!
//! A run holds the lock on its staging folder from beginning to end, and gc the one that a run takes to make such a
//! folder: while a run lives gc does not begin, and while gc works no run does.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::Cache;
use super::inventory::{HeldRecord, Inventory, Kept, Share};
use crate::digest::Digest;
use crate::files::{self, FileError};
use crate::fingerprint::Fingerprint;
use crate::kind::StageError;

/// What may go. The defaults take only what nothing refers to and nobody could use.
#[derive(Clone, Debug, Default)]
pub struct GcOptions {
    /// What no run made or found for this long goes, be it an instance, a step, half-finished work or a log.
    pub keep: Option<Duration>,
    /// The bytes that were used least recently go until the cache is not larger than this. Records stay: what was made
    /// from those bytes is still fresh, and they are made again only when someone needs them.
    pub max_size: Option<u64>,
    /// Records go that are the last of no manifest's instance: those of settings that were changed since.
    pub unreferenced: bool,
    /// Nothing is removed; what would be is told.
    pub dry_run: bool,
}

/// What was, or would be, taken away.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Swept {
    /// Whether nothing was removed.
    pub dry_run: bool,
    /// The records.
    pub records: Vec<HeldRecord>,
    /// The records that stay and whose bytes go.
    pub emptied: Vec<HeldRecord>,
    /// The steps inside stages.
    pub steps: usize,
    /// The bytes by digest.
    pub objects: Share,
    /// Half-finished work.
    pub unfinished: Share,
    /// Logs.
    pub logs: Share,
    /// All that goes, in bytes.
    pub freed: u64,
    /// All that stays, in bytes.
    pub left: u64,
}

impl Cache {
    /// Takes away what `options` say. `waiting` is called once if another gc is at work.
    ///
    /// ```
    /// use std::sync::atomic::AtomicBool;
    ///
    /// use nerpipe_engine::cache::GcOptions;
    /// use nerpipe_engine::{Cache, Graph, Manifest, Registry, RunOptions, command::Command, run};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let project = folder.path();
    /// let registry = Registry::default().with(Command);
    /// let cache = Cache::open(&project.join("cache"))?;
    /// for size in [3, 4] {
    ///     let text = format!("name: m\nstages: {{s: {{kind: command, with: {{run: 'seq {size} > \"$OUT/n\"'}}}}}}");
    ///     let graph = Graph::build(&Manifest::parse("m.yaml", &text, project, &[], &registry)?, &registry)?;
    ///     run(&graph, &registry, &cache, project, &RunOptions::default(), &mut |_| {})?;
    /// }
    /// // Size 3 is what no manifest has any more.
    /// let options = GcOptions { unreferenced: true, ..GcOptions::default() };
    /// let swept = cache.gc(&options, &AtomicBool::new(false), || {})?;
    /// assert_eq!((swept.records.len(), swept.records[0].bytes), (1, 6));
    /// assert_eq!(cache.inventory()?.records.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If a run uses the cache (a dry run does not mind), or a file cannot be removed.
    pub fn gc(&self, options: &GcOptions, cancel: &AtomicBool, waiting: impl FnOnce()) -> Result<Swept, StageError> {
        if options.dry_run {
            return Ok(Choice::new(&self.inventory()?, options).swept(options));
        }
        let _no_run_begins = self.lock("staging", cancel, waiting)?;
        if !self.sweep_staging()? {
            let message = "a run uses the cache; nothing was removed";
            return Err(
                StageError::new(message).help("wait until it has ended, or add `--dry-run` to see what would go")
            );
        }
        let inventory = self.inventory()?;
        let choice = Choice::new(&inventory, options);
        choice.remove(self)?;
        Ok(choice.swept(options))
    }

    /// Notes that a run found this record: gc takes first what was not found for long.
    pub(crate) fn mark_used(&self, fingerprint: &Fingerprint) {
        mark_used(&self.place("records", fingerprint));
    }
}

/// Notes that a file of the cache is in use.
pub(super) fn mark_used(path: &Path) {
    /// Marking costs more than reading, and age is told in days.
    const OFTEN_ENOUGH: Duration = Duration::from_secs(3600);
    let now = SystemTime::now();
    let is_old = |metadata: std::fs::Metadata| {
        let age = now.duration_since(metadata.modified()?);
        Ok::<bool, std::io::Error>(age.is_ok_and(|age| age > OFTEN_ENOUGH))
    };
    if std::fs::metadata(path).and_then(is_old).unwrap_or(false) {
        // The record of another user cannot be marked; it then seems older than it is, and what is lost can be made
        // again.
        let _ = std::fs::File::options()
            .append(true)
            .open(path)
            .and_then(|file| file.set_modified(now));
    }
}

/// What goes and what stays.
struct Choice<'a> {
    inventory: &'a Inventory,
    /// The bytes of these records go; whether the record goes too.
    records: HashMap<usize, bool>,
    steps: HashSet<usize>,
    objects: HashSet<Digest>,
    logs: Vec<&'a Kept>,
    unfinished: Vec<&'a Kept>,
}

impl<'a> Choice<'a> {
    fn new(inventory: &'a Inventory, options: &GcOptions) -> Self {
        let now = SystemTime::now();
        let is_old = |kept: &Kept| {
            let age = now.duration_since(kept.used).unwrap_or_default();
            options.keep.is_some_and(|keep| age > keep)
        };
        let goes = |record: &HeldRecord| is_old(&record.kept) || (options.unreferenced && !record.latest);
        let records = inventory.records.iter().enumerate();
        let records: HashMap<usize, bool> = records.filter(|(_, one)| goes(one)).map(|(at, _)| (at, true)).collect();
        let steps = inventory.steps.iter().enumerate();
        let steps = steps.filter(|(_, step)| is_old(&step.kept)).map(|(at, _)| at).collect();
        let of_record: HashSet<_> = inventory.records.iter().map(|record| record.fingerprint).collect();
        let gone: HashSet<_> = records.keys().map(|at| inventory.records[*at].fingerprint).collect();
        let logs = inventory.logs.iter().filter(|(fingerprint, log)| {
            // The log of one that failed has no record, and may be all that is left to find out why.
            gone.contains(fingerprint) || (!of_record.contains(fingerprint) && is_old(log))
        });
        let unfinished = inventory.unfinished.iter();
        // Once there is a record, half-finished work is of no use.
        let unfinished = unfinished.filter(|(fingerprint, kept)| of_record.contains(fingerprint) || is_old(kept));
        let mut choice = Self {
            inventory,
            records,
            steps,
            objects: HashSet::new(),
            logs: logs.map(|(_, log)| log).collect(),
            unfinished: unfinished.map(|(_, kept)| kept).collect(),
        };
        choice.drop_objects(options.max_size);
        choice
    }

    /// Chooses the bytes that nothing that stays refers to, and, least recently used first, those that do not fit.
    fn drop_objects(&mut self, max_size: Option<u64>) {
        let inventory = self.inventory;
        let records = inventory.records.iter().enumerate();
        let records = records.filter(|(at, _)| !self.records.contains_key(at));
        let records = records.map(|(at, one)| (Place::Record(at), &one.kept, one.files.as_slice()));
        let steps = inventory
            .steps
            .iter()
            .enumerate()
            .filter(|(at, _)| !self.steps.contains(at));
        let steps = steps.map(|(at, one)| (Place::Step(at), &one.kept, one.files.as_slice()));
        let mut staying: Vec<_> = records.chain(steps).collect();

        let mut references: HashMap<Digest, usize> = inventory.objects.keys().map(|digest| (*digest, 0)).collect();
        for (digest, _) in staying.iter().flat_map(|(_, _, files)| *files) {
            if let Some(count) = references.get_mut(digest) {
                *count += 1;
            }
        }
        let unreferenced = references.iter().filter(|(_, count)| **count == 0);
        self.objects.extend(unreferenced.map(|(digest, _)| *digest));

        let Some(max_size) = max_size else { return };
        let mut left = self.left();
        staying.sort_by_key(|(_, kept, _)| kept.used);
        for (place, kept, files) in staying {
            if left <= max_size {
                break;
            }
            let mut had_bytes = false;
            for (digest, _) in files {
                if let Some(count) = references.get_mut(digest) {
                    had_bytes = true;
                    *count -= 1;
                    if *count == 0 {
                        left = left.saturating_sub(inventory.objects[digest]);
                        self.objects.insert(*digest);
                    }
                }
            }
            match place {
                Place::Record(at) if had_bytes => {
                    self.records.insert(at, false);
                }
                Place::Record(_) => {}
                // A step without its bytes is of no use.
                Place::Step(at) => {
                    self.steps.insert(at);
                    left = left.saturating_sub(kept.bytes);
                }
            }
        }
    }

    /// What goes, but for the bytes by digest.
    fn files(&self) -> impl Iterator<Item = &Kept> {
        let inventory = self.inventory;
        let records = self.records.iter().filter(|(_, whole)| **whole);
        let records = records.map(|(at, _)| &inventory.records[*at].kept);
        let steps = self.steps.iter().map(|at| &inventory.steps[*at].kept);
        let others = self.logs.iter().chain(&self.unfinished).copied();
        records.chain(steps).chain(others).chain(&inventory.unreadable)
    }

    fn freed(&self) -> u64 {
        let objects = self.objects.iter().map(|digest| self.inventory.objects[digest]);
        objects.chain(self.files().map(|kept| kept.bytes)).sum()
    }

    fn left(&self) -> u64 {
        self.inventory.bytes().saturating_sub(self.freed())
    }

    fn remove(&self, cache: &Cache) -> Result<(), FileError> {
        for kept in self.files() {
            if kept.path.is_dir() {
                files::remove_folder(&kept.path)?;
            } else {
                files::remove_file(&kept.path)?;
            }
        }
        for digest in &self.objects {
            files::remove_file(&cache.objects().path(digest))?;
        }
        Ok(())
    }

    fn swept(&self, options: &GcOptions) -> Swept {
        let mut numbers: Vec<(&usize, &bool)> = self.records.iter().collect();
        numbers.sort();
        let chosen = |whole: bool| {
            let these = numbers.iter().filter(|(_, is_whole)| **is_whole == whole);
            these.map(|(at, _)| self.inventory.records[**at].clone()).collect()
        };
        Swept {
            dry_run: options.dry_run,
            records: chosen(true),
            emptied: chosen(false),
            steps: self.steps.len(),
            objects: Share::of(self.objects.iter().map(|digest| self.inventory.objects[digest])),
            unfinished: Share::of(self.unfinished.iter().map(|kept| kept.bytes)),
            logs: Share::of(self.logs.iter().map(|kept| kept.bytes)),
            freed: self.freed(),
            left: self.left(),
        }
    }
}

/// Where something stands in the inventory.
#[derive(Clone, Copy)]
enum Place {
    Record(usize),
    Step(usize),
}
