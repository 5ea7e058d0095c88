//! Models from the hub into the cache, in the layout that Hugging Face's own libraries keep.
//!
//! What the hub says of a file in its headers decides everything: `ETag` (or `X-Linked-Etag` for files in its large storage) is the
//! name of the blob and its checksum, SHA-256 for large files and git's SHA-1 for others. Bytes arrive in `<etag>.incomplete`, which a
//! later try goes on with, and become a blob only if the checksum is right.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use ureq::Agent;
use ureq::http::{Response, StatusCode};

use crate::{Environment, FILES, HubError, Name, Progress, WEIGHTS, shards};

/// How often a transfer that breaks off is taken up again.
const TRIES: usize = 5;
/// Redirects within the hub, such as a renamed model's.
const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(20);
/// A transfer that brings nothing for so long has broken off.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes that are read at a time.
const CHUNK: usize = 1 << 16;

type Tell<'a> = dyn Fn(Progress<'_>) + Send + Sync + 'a;

/// Fetches the model's files at `revision` into `folder`; gives the commit and the snapshot's folder.
pub(crate) fn download(
    environment: &Environment,
    tell: &Tell<'_>,
    name: &Name,
    revision: &str,
    folder: &Path,
) -> Result<(String, PathBuf), HubError> {
    let client = Client::new(environment, name);
    let listing = client.listing(revision)?;
    let snapshot = folder.join("snapshots").join(&listing.sha);
    for part in ["blobs", "refs"] {
        create(&folder.join(part))?;
    }
    let has = |file: &str| listing.siblings.iter().any(|sibling| sibling.rfilename == file);
    let weights = WEIGHTS.into_iter().find(|weights| has(weights)).ok_or_else(|| {
        HubError::new(format!("`{}` has no weights that can be read", name.repository)).help(format!(
            "looked for {}",
            WEIGHTS.map(|file| format!("`{file}`")).join(", ")
        ))
    })?;
    let small = FILES.into_iter().filter(|file| has(file));
    let first: Vec<&str> = small.chain([weights]).collect();
    for file in first {
        client.file(tell, &listing.sha, file, folder, &snapshot)?;
    }
    if weights.ends_with(".index.json") {
        for shard in shards(&snapshot.join(weights)) {
            if !has(&shard) {
                return Err(HubError::new(format!(
                    "`{}` names the weights `{shard}` in `{weights}`, but has no such file",
                    name.repository
                )));
            }
            client.file(tell, &listing.sha, &shard, folder, &snapshot)?;
        }
    }
    // Last, so that a branch never points to a snapshot that is not whole.
    if !crate::name::is_commit(revision) {
        let reference = folder.join("refs").join(revision);
        create(reference.parent().unwrap_or(folder))?;
        fs::write(&reference, &listing.sha).map_err(|error| HubError::file("write", &reference, &error))?;
    }
    Ok((listing.sha, snapshot))
}

/// What the hub knows of a model at a revision.
#[derive(Deserialize)]
struct Listing {
    /// The commit.
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

/// What the hub says of a file.
struct Remote {
    /// Where the bytes are.
    url: String,
    etag: String,
    size: Option<u64>,
}

struct Client<'a> {
    environment: &'a Environment,
    repository: &'a str,
    agent: Agent,
}

impl<'a> Client<'a> {
    fn new(environment: &'a Environment, name: &'a Name) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            // Redirects are followed by hand: the one to the large storage carries the checksum.
            .max_redirects(0)
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("nerpipe/", env!("CARGO_PKG_VERSION")))
            .build();
        Self {
            environment,
            repository: &name.repository,
            agent: config.into(),
        }
    }

    fn listing(&self, revision: &str) -> Result<Listing, HubError> {
        let url = format!(
            "{}/api/models/{}/revision/{}",
            self.environment.endpoint,
            self.repository,
            revision.replace('/', "%2F")
        );
        let (_, response) = self.follow("GET", &url, None)?;
        self.check(&url, response.status())?;
        let mut text = String::new();
        let read = response.into_body().into_reader().read_to_string(&mut text);
        read.map_err(|error| self.broken(&url, &error))?;
        let listing: Listing = serde_json::from_str(&text)
            .map_err(|error| HubError::new(format!("`{url}` gave an answer that cannot be understood: {error}")))?;
        if !crate::name::is_commit(&listing.sha) {
            return Err(HubError::new(format!(
                "`{url}` names the commit `{}`, which is none",
                listing.sha
            )));
        }
        Ok(listing)
    }

    /// Brings one file into the snapshot.
    fn file(&self, tell: &Tell<'_>, commit: &str, file: &str, folder: &Path, snapshot: &Path) -> Result<(), HubError> {
        let place = snapshot.join(file);
        if !is_inside(file) {
            return Err(HubError::new(format!(
                "`{}` has a file called `{file}`",
                self.repository
            )));
        }
        if place.is_file() {
            return Ok(());
        }
        let remote = self.remote(commit, file)?;
        let blob = folder.join("blobs").join(&remote.etag);
        if !blob.is_file() {
            self.blob(tell, file, &remote, &blob)?;
        }
        let above = place.parent().unwrap_or(snapshot);
        create(above)?;
        let up = "../".repeat(2 + file.matches('/').count());
        // A link that leads nowhere is in the way of a new one.
        if fs::symlink_metadata(&place).is_ok() {
            fs::remove_file(&place).map_err(|error| HubError::file("remove", &place, &error))?;
        }
        std::os::unix::fs::symlink(format!("{up}blobs/{}", remote.etag), &place)
            .map_err(|error| HubError::file("create the link", &place, &error))
    }

    /// Asks what a file is and where.
    fn remote(&self, commit: &str, file: &str) -> Result<Remote, HubError> {
        let url = format!(
            "{}/{}/resolve/{commit}/{file}",
            self.environment.endpoint, self.repository
        );
        let (url, response) = self.follow("HEAD", &url, None)?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let moved = location(&url, &response);
        if moved.is_none() {
            self.check(&url, response.status())?;
        }
        let etag = header("x-linked-etag").or_else(|| header("etag"));
        let etag = etag.map(|etag| etag.trim_start_matches("W/").trim_matches('"').to_owned());
        let etag = etag.filter(|etag| !etag.is_empty() && etag.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        let length = if moved.is_some() {
            None
        } else {
            header("content-length")
        };
        Ok(Remote {
            etag: etag.ok_or_else(|| {
                HubError::new(format!(
                    "`{url}` comes without a checksum (`ETag`), so it cannot be trusted"
                ))
                .help("check `HF_ENDPOINT`")
            })?,
            size: header("x-linked-size").or(length).and_then(|size| size.parse().ok()),
            url: moved.unwrap_or_else(|| url.clone()),
        })
    }

    /// Fetches a blob, going on with what arrived earlier.
    fn blob(&self, tell: &Tell<'_>, file: &str, remote: &Remote, blob: &Path) -> Result<(), HubError> {
        let arriving = blob.with_file_name(format!("{}.incomplete", remote.etag));
        let mut part = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&arriving)
            .map_err(|error| HubError::file("create", &arriving, &error))?;
        // One process at a time; whoever waited finds the blob there.
        part.lock().map_err(|error| HubError::file("lock", &arriving, &error))?;
        if blob.is_file() {
            return Ok(());
        }
        let mut last = None;
        for _ in 0..TRIES {
            let here = part
                .seek(io::SeekFrom::End(0))
                .map_err(|error| HubError::file("read", &arriving, &error))?;
            let too_long = remote.size.is_some_and(|size| here > size);
            if too_long {
                part.set_len(0)
                    .map_err(|error| HubError::file("write", &arriving, &error))?;
                continue;
            }
            if here > 0 && remote.size == Some(here) {
                last = None;
                break;
            }
            match self.transfer(tell, file, remote, &mut part, here) {
                Ok(()) => {
                    last = None;
                    break;
                }
                Err(error) => last = Some(error),
            }
        }
        if let Some(error) = last {
            return Err(error.help("start it again; it goes on where it broke off"));
        }
        let found = checksum(&mut part, &remote.etag).map_err(|error| HubError::file("read", &arriving, &error))?;
        if found.is_some_and(|found| found != remote.etag) {
            drop(part);
            fs::remove_file(&arriving).map_err(|error| HubError::file("remove", &arriving, &error))?;
            return Err(HubError::new(format!(
                "`{file}` of `{}` arrived damaged: its checksum is not `{}`",
                self.repository, remote.etag
            ))
            .help("start it again; it was thrown away"));
        }
        part.sync_all()
            .map_err(|error| HubError::file("write", &arriving, &error))?;
        fs::rename(&arriving, blob).map_err(|error| HubError::file("write", blob, &error))
    }

    /// One transfer of the bytes from `here` on.
    fn transfer(
        &self,
        tell: &Tell<'_>,
        file: &str,
        remote: &Remote,
        part: &mut File,
        here: u64,
    ) -> Result<(), HubError> {
        let (url, response) = self.follow("GET", &remote.url, (here > 0).then_some(here))?;
        let mut done = here;
        match response.status() {
            StatusCode::PARTIAL_CONTENT => {}
            StatusCode::RANGE_NOT_SATISFIABLE if remote.size.is_none() => return Ok(()),
            status => {
                self.check(&url, status)?;
                // The server sends everything.
                done = 0;
                let cut = part.set_len(0).and_then(|()| part.seek(io::SeekFrom::Start(0)));
                cut.map_err(|error| self.broken(&url, &error))?;
            }
        }
        let mut reader = response.into_body().into_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = reader.read(&mut chunk).map_err(|error| self.broken(&url, &error))?;
            if read == 0 {
                break;
            }
            part.write_all(&chunk[..read])
                .map_err(|error| self.broken(&url, &error))?;
            done += read as u64;
            tell(Progress {
                model: self.repository,
                file,
                done,
                total: remote.size,
            });
        }
        match remote.size {
            Some(size) if done < size => Err(HubError::new(format!("`{url}` broke off after {done} of {size} bytes"))),
            _ => Ok(()),
        }
    }

    /// Sends a request and follows redirects; a `HEAD` only up to the answer that has the checksum. The last address and the answer.
    fn follow(&self, method: &str, url: &str, from: Option<u64>) -> Result<(String, Response<ureq::Body>), HubError> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let mut request = match method {
                "HEAD" => self.agent.head(&url),
                _ => self.agent.get(&url),
            };
            // The checksum and the range are of the bytes themselves.
            request = request.header("Accept-Encoding", "identity");
            if let Some(token) = self.environment.token.as_ref().filter(|_| self.is_hub(&url)) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if let Some(from) = from {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| {
                HubError::new(format!("cannot reach `{url}`: {error}"))
                    .help("check the network and `HF_ENDPOINT`; with `HF_HUB_OFFLINE=1` only the cache is looked at")
            })?;
            let next = location(&url, &response);
            let Some(next) = next.filter(|_| method == "GET" || !has_checksum(&response)) else {
                return Ok((url, response));
            };
            url = next;
        }
        Err(HubError::new(format!("`{url}` was redirected {REDIRECTS} times")))
    }

    fn is_hub(&self, url: &str) -> bool {
        host(url) == host(&self.environment.endpoint)
    }

    fn check(&self, url: &str, status: StatusCode) -> Result<(), HubError> {
        if status.is_success() {
            return Ok(());
        }
        let error = HubError::new(format!("`{url}` answered {status}"));
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => error.help(match self.environment.token {
                Some(_) => "the token in `HF_TOKEN` does not open this model; is its licence accepted?",
                None => "the model does not exist or is not open to everybody; set `HF_TOKEN` if you have access",
            }),
            StatusCode::NOT_FOUND => error.help("check the model's name and revision"),
            _ => error.help("try again later"),
        })
    }

    fn broken(&self, url: &str, error: &io::Error) -> HubError {
        HubError::new(format!("the transfer of `{url}` broke off: {error}"))
    }
}

fn has_checksum(response: &Response<ureq::Body>) -> bool {
    response.headers().contains_key("x-linked-etag")
}

/// Where a redirect leads; none if the answer is no redirect.
fn location(url: &str, response: &Response<ureq::Body>) -> Option<String> {
    let location = response.headers().get("location")?.to_str().ok()?;
    response
        .status()
        .is_redirection()
        .then(|| match location.starts_with('/') {
            true => format!("{}{location}", host(url)),
            false => location.to_owned(),
        })
}

/// Scheme and host of an address.
fn host(url: &str) -> &str {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find('/').map_or(url.len(), |at| after + at);
    &url[..end]
}

/// Whether a file's name stays in the snapshot.
fn is_inside(file: &str) -> bool {
    file.split('/')
        .all(|part| !part.is_empty() && part != "." && part != "..")
        && !file.contains('\\')
}

/// The checksum of a file in the form that `etag` has; none if that form is unknown.
fn checksum(file: &mut File, etag: &str) -> io::Result<Option<String>> {
    let hexadecimal = etag.chars().all(|c| c.is_ascii_hexdigit());
    let length = file.seek(io::SeekFrom::End(0))?;
    file.seek(io::SeekFrom::Start(0))?;
    Ok(match etag.len() {
        64 if hexadecimal => Some(hash(Sha256::new(), file)?),
        // What git calls a blob.
        40 if hexadecimal => Some(hash(Sha1::new_with_prefix(format!("blob {length}\0")), file)?),
        _ => None,
    })
}

fn hash(mut hasher: impl Digest, file: &mut File) -> io::Result<String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn create(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(|error| HubError::file("create the folder", folder, &error))
}
