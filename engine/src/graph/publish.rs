//! Publish targets: inside the project, and one owner each.

use std::collections::{BTreeSet, HashMap};
use std::path::{Component, Path, PathBuf};

use super::build::silent;
use super::{Instance, Publish};
use crate::artifact::EVERY_PART;
use crate::diagnostic::Diagnostic;
use crate::manifest::{Manifest, PublishEntry};
use crate::publish::real_place;
use crate::source::ValuePath;
use crate::suggest::did_you_mean;

/// Where links lead, asked once for each folder that something is published to.
#[derive(Default)]
pub(super) struct Folders {
    /// The project's real path, once it is known.
    project: Option<PathBuf>,
    known: HashMap<PathBuf, Option<&'static str>>,
}

impl Folders {
    /// Why `target` may not be published to, if a link leads it out of the project.
    fn refuse(&mut self, project: &Path, target: &Path) -> Option<&'static str> {
        if self.project.is_none() {
            self.project = std::fs::canonicalize(project).ok();
        }
        let project = self.project.as_deref()?;
        let folder = target.parent().unwrap_or(Path::new(""));
        if let Some(known) = self.known.get(folder) {
            return *known;
        }
        let refused = real_place(project, target).err();
        self.known.insert(folder.to_owned(), refused);
        refused
    }
}

/// Judges a target whose `${…}` are written out.
pub(super) fn entry(
    manifest: &Manifest,
    entry: &PublishEntry,
    target: &str,
    parts: &[String],
    folders: &mut Folders,
) -> Result<Publish, Diagnostic> {
    let place = || manifest.source.value(&entry.path);
    if let Some(part) = entry.part.as_ref().filter(|part| !parts.contains(part)) {
        if parts.iter().any(|part| part == EVERY_PART) {
            let stage = entry.path.stage().unwrap_or_default();
            return Err(silent(stage, part).at(manifest.source.key(&entry.path)));
        }
        return Err(Diagnostic::error(format!("the artifact has no part `{part}`"))
            .at(manifest.source.key(&entry.path))
            .maybe_help(did_you_mean(part, parts.iter().map(String::as_str))));
    }
    let inside = inside_project(target).and_then(|inside| match folders.refuse(&manifest.project, &inside) {
        Some(reason) => Err(reason),
        None => Ok(inside),
    });
    let target = inside.map_err(|reason| {
        Diagnostic::error(format!("cannot publish to `{target}`: {reason}"))
            .at(place())
            .help("targets are relative to the project and stay inside it")
    })?;
    Ok(Publish {
        part: entry.part.clone(),
        target,
    })
}

/// The target without `.` and doubled slashes, if it stays inside the project by its text.
fn inside_project(target: &str) -> Result<PathBuf, &'static str> {
    let mut inside = PathBuf::new();
    for component in Path::new(target).components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir => return Err("`..` may lead out of the project"),
            Component::RootDir | Component::Prefix(_) => return Err("it is absolute"),
        }
    }
    if target.contains('\0') {
        return Err("it contains a zero byte");
    }
    if inside.as_os_str().is_empty() {
        Err("it is the project itself")
    } else {
        Ok(inside)
    }
}

/// Refuses two instances with one target, and a target inside another's.
pub(super) fn collisions(manifest: &Manifest, instances: &[Instance]) -> Vec<Diagnostic> {
    let mut targets: Vec<(&Path, &Instance, &Publish)> = instances
        .iter()
        .flat_map(|instance| {
            instance
                .publish
                .iter()
                .map(move |entry| (entry.target.as_path(), instance, entry))
        })
        .collect();
    // Paths sort by their components, so what lies inside a target follows it directly.
    targets.sort_by_key(|(target, ..)| *target);
    let mut found = Vec::new();
    let mut told = BTreeSet::new();
    for pair in targets.windows(2) {
        let [(outer, first, _), (inner, second, entry)] = pair else {
            continue;
        };
        if !inner.starts_with(outer) {
            continue;
        }
        let mut path = ValuePath::from(["stages", &second.stage, "publish"]);
        if let Some(part) = &entry.part {
            path = path.child(part);
        }
        // One wrong template gives a collision per pair of cells; the first tells the story.
        if !told.insert(path.clone()) {
            continue;
        }
        let (first, second) = (first.name(), second.name());
        let target = inner.display();
        let message = match inner == outer {
            true if first == second => format!("`{first}` publishes two things to `{target}`"),
            true => format!("`{first}` and `{second}` both publish to `{target}`"),
            false => format!(
                "`{second}` publishes to `{target}`, inside `{}` of `{first}`",
                outer.display()
            ),
        };
        let help = if inner == outer && first != second {
            "name the axes that tell them apart in the target, such as `${axis}`"
        } else {
            "give each its own place"
        };
        found.push(Diagnostic::error(message).at(manifest.source.value(&path)).help(help));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_stay_inside() {
        assert_eq!(inside_project("./models//a"), Ok(PathBuf::from("models/a")));
        for wrong in ["../a", "a/../../b", "a/..", "/tmp/a", "", ".", "a\0b"] {
            assert!(inside_project(wrong).is_err(), "{wrong}");
        }
    }
}
