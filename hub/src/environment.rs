//! What the environment says about the hub, by the names that Hugging Face's own libraries read.

use std::fmt;
use std::path::PathBuf;

/// Where models come from and where they are kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    /// The cache: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`.
    pub cache: PathBuf,
    /// The hub's address without a slash at the end: `HF_ENDPOINT`.
    pub endpoint: String,
    /// What opens models that not everybody may have: `HF_TOKEN`, or what is in the file `HF_TOKEN_PATH`, `token` in `HF_HOME`.
    pub token: Option<String>,
    /// Whether nothing may be downloaded: `HF_HUB_OFFLINE`.
    pub offline: bool,
}

/// The hub, if nobody names another.
const ENDPOINT: &str = "https://huggingface.co";

impl Environment {
    /// What the variables say.
    pub fn of_process() -> Self {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// What `variable` says of each.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = set("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
            cache.unwrap_or_else(|| PathBuf::from(".cache")).join("huggingface")
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let token_file = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = set("HF_TOKEN").or_else(|| set("HUGGING_FACE_HUB_TOKEN"));
        let token = token.or_else(|| std::fs::read_to_string(token_file).ok());
        Self {
            cache: cache.map_or_else(|| home.join("hub"), PathBuf::from),
            endpoint: set("HF_ENDPOINT")
                .unwrap_or_else(|| ENDPOINT.to_owned())
                .trim_end_matches('/')
                .to_owned(),
            token: token
                .map(|token| token.trim().to_owned())
                .filter(|token| !token.is_empty()),
            offline: set("HF_HUB_OFFLINE")
                .is_some_and(|value| ["1", "true", "yes", "on"].contains(&value.to_lowercase().as_str())),
        }
    }
}

/// Without the token, which is nobody's business.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Environment {
        Environment::from_variables(|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_mean_what_they_mean_to_hugging_face() {
        let usual = of(&[("HOME", "/home/ada")]);
        assert_eq!(usual.cache, PathBuf::from("/home/ada/.cache/huggingface/hub"));
        assert_eq!(
            (usual.endpoint.as_str(), usual.offline, usual.token),
            (ENDPOINT, false, None)
        );
        assert_eq!(
            of(&[("HF_HOME", "/hf"), ("HOME", "/h")]).cache,
            PathBuf::from("/hf/hub")
        );
        assert_eq!(
            of(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]).cache,
            PathBuf::from("/c")
        );
        let own = of(&[
            ("HF_ENDPOINT", "http://hub/"),
            ("HF_HUB_OFFLINE", "1"),
            ("HF_TOKEN", " secret\n"),
        ]);
        assert_eq!(
            (own.endpoint.as_str(), own.offline, own.token.as_deref()),
            ("http://hub", true, Some("secret"))
        );
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline);
        assert!(!format!("{own:?}").contains("secret"));
    }

    #[test]
    fn a_token_may_lie_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        std::fs::write(&path, "from-file\n").expect("written");
        let home = folder.path().to_str().expect("UTF-8");
        assert_eq!(of(&[("HF_HOME", home)]).token.as_deref(), Some("from-file"));
        assert_eq!(
            of(&[("HF_TOKEN_PATH", path.to_str().expect("UTF-8"))]).token.as_deref(),
            Some("from-file")
        );
    }
}
