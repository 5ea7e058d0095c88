//! A model's name: `owner/name`, or `name` alone for the oldest ones, perhaps with `@revision`.

/// A name that the hub could have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// `owner/name`, or `name`.
    pub repository: String,
    /// A branch, tag or commit, if one is asked for.
    pub revision: Option<String>,
}

impl Name {
    /// Reads a name; none if `text` cannot be one, such as a path.
    ///
    /// ```
    /// use nerpipe_hub::Name;
    ///
    /// let name = Name::parse("google-bert/bert-base-uncased@main").unwrap();
    /// assert_eq!((name.repository.as_str(), name.revision.as_deref()), ("google-bert/bert-base-uncased", Some("main")));
    /// assert_eq!(Name::parse("data/encoders/bert"), None);
    /// assert_eq!(Name::parse("../bert"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let fits = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            (1..=96).contains(&part.len())
                && part.chars().all(plain)
                && !part.starts_with(['.', '-'])
                && !part.ends_with(['.', '-'])
                && !part.contains("--")
                && !part.contains("..")
        };
        let parts: Vec<&str> = repository.split('/').collect();
        let revision_fits = revision.is_none_or(|revision| revision.split('/').all(fits));
        (parts.len() <= 2 && parts.iter().all(|part| fits(part)) && revision_fits).then(|| Self {
            repository: repository.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }

    /// The model's folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}

/// Whether a revision is a commit, which always means the same bytes.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_no_names() {
        for path in [
            "/abs",
            "./a",
            "../a",
            "a/b/c",
            "a//b",
            "a/",
            "",
            "a b",
            "a/.hidden",
            "~/a",
            "a--b",
            "a@",
            "a@../../b",
        ] {
            assert_eq!(Name::parse(path), None, "{path}");
        }
        for name in ["bert-base-uncased", "google/rembert", "jhu-clsp/mmBERT-base", "a/b.c_d"] {
            assert!(Name::parse(name).is_some(), "{name}");
        }
    }
}
