//! Downloads from a small hub on loopback: what arrives, what is resumed, what is refused.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use nerpipe_hub::{Environment, Fetch, Hub, Lock};
use sha1::Sha1;
use sha2::{Digest, Sha256};

const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";
const TOKEN: &str = "a secret";

/// A hub of one model.
struct Server {
    address: String,
    state: Arc<State>,
}

struct State {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// Files in the large storage: behind a redirect, with SHA-256.
    large: &'static [&'static str],
    /// Whether a token is needed.
    gated: bool,
    /// So many transfers of large files break off in the middle.
    breaks: AtomicUsize,
    /// Bytes of large files are spoiled on their way.
    spoils: bool,
    /// What was asked: method, path, range.
    asked: Mutex<Vec<String>>,
    address: String,
}

impl Server {
    fn start(change: impl FnOnce(&mut State)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("an address"));
        let mut state = State {
            files: BTreeMap::from([
                ("config.json", b"{\"model_type\": \"bert\"}".to_vec()),
                ("tokenizer.json", b"{}".to_vec()),
                (
                    "model.safetensors",
                    (0..200_000u32).flat_map(u32::to_le_bytes).collect(),
                ),
                ("pytorch_model.bin", b"not wanted".to_vec()),
                ("README.md", b"# not wanted".to_vec()),
            ]),
            large: &["model.safetensors"],
            gated: false,
            breaks: AtomicUsize::new(0),
            spoils: false,
            asked: Mutex::default(),
            address: address.clone(),
        };
        change(&mut state);
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { address, state }
    }

    fn hub(&self, cache: &Path, token: Option<&str>) -> Hub {
        let environment = Environment {
            cache: cache.to_owned(),
            endpoint: self.address.clone(),
            token: token.map(str::to_owned),
            offline: false,
        };
        Hub::new(
            environment,
            Lock::at(cache.join("nerpipe.lock")),
            Fetch::Missing,
            |_| {},
        )
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.asked.lock().expect("unpoisoned"))
    }
}

impl State {
    /// Answers one request a connection.
    fn answer(&self, mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().expect("a stream"))
            .lines()
            .map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let headers: BTreeMap<String, String> = lines
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_lowercase(), value.trim().to_owned()))
            })
            .collect();
        let mut words = first.split(' ');
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let range = headers.get("range").map_or("", String::as_str);
        let with_token = headers.contains_key("authorization");
        let noted = format!("{method} {path} {range}");
        self.asked.lock().expect("unpoisoned").push(noted.trim().to_owned());
        if path.starts_with("/storage/") && with_token {
            return respond(&mut stream, "400 the token went where it does not belong", &[], b"");
        }
        if self.gated
            && !path.starts_with("/storage/")
            && headers.get("authorization") != Some(&format!("Bearer {TOKEN}"))
        {
            return respond(&mut stream, "401 Unauthorized", &[], b"");
        }
        if let Some(rest) = path.strip_prefix("/api/models/owner/small/revision/") {
            if !["main", COMMIT].contains(&rest) {
                return respond(&mut stream, "404 Not Found", &[], b"");
            }
            let siblings: Vec<String> = self
                .files
                .keys()
                .map(|file| format!("{{\"rfilename\": \"{file}\"}}"))
                .collect();
            let listing = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{}]}}", siblings.join(", "));
            return respond(&mut stream, "200 OK", &[], listing.as_bytes());
        }
        let (file, stored) = match path.strip_prefix("/storage/") {
            Some(file) => (file, true),
            None => (
                path.strip_prefix(&format!("/owner/small/resolve/{COMMIT}/"))
                    .unwrap_or(""),
                false,
            ),
        };
        let Some(bytes) = self.files.get(file) else {
            return respond(&mut stream, "404 Not Found", &[], b"");
        };
        let is_large = self.large.contains(&file);
        let etag = if is_large {
            hex(&Sha256::digest(bytes))
        } else {
            git(bytes)
        };
        if is_large && !stored {
            let storage = format!("{}/storage/{file}", self.address.replace("127.0.0.1", "localhost"));
            let size = bytes.len().to_string();
            let headers = [
                ("Location", storage.as_str()),
                ("X-Linked-Etag", &format!("\"{etag}\"")),
                ("X-Linked-Size", &size),
            ];
            return respond(&mut stream, "302 Found", &headers, b"");
        }
        let from: usize = range
            .strip_prefix("bytes=")
            .and_then(|range| range.strip_suffix('-')?.parse().ok())
            .unwrap_or(0);
        let mut body = bytes[from.min(bytes.len())..].to_vec();
        if self.spoils && stored && !body.is_empty() {
            body[0] ^= 1;
        }
        let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
        let broken = stored
            && self
                .breaks
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok();
        let length = body.len();
        if broken {
            body.truncate(length / 2);
        }
        let sent = if method == "HEAD" { &[][..] } else { &body[..] };
        respond_with_length(&mut stream, status, &[("ETag", &format!("\"{etag}\""))], sent, length);
    }
}

fn respond(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8]) {
    respond_with_length(stream, status, headers, body, body.len());
}

fn respond_with_length(stream: &mut TcpStream, status: &str, headers: &[(&str, &str)], body: &[u8], length: usize) {
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // A client that has gone away is none of the server's concern.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The name that git gives these bytes.
fn git(bytes: &[u8]) -> String {
    hex(&Sha1::digest(
        [format!("blob {}\0", bytes.len()).as_bytes(), bytes].concat(),
    ))
}

#[test]
fn a_model_is_downloaded_once_and_pinned() {
    let server = Server::start(|_| {});
    let cache = tempfile::tempdir().expect("a folder");
    let hub = server.hub(cache.path(), Some(TOKEN));
    let folder = hub.locate("owner/small").expect("downloaded").expect("a name");
    for (file, bytes) in &server.state.files {
        let wanted = !["README.md", "pytorch_model.bin"].contains(file);
        assert_eq!(
            fs::read(folder.join(file)).ok().as_ref(),
            wanted.then_some(bytes),
            "{file}"
        );
    }
    let link = fs::read_link(folder.join("config.json")).expect("a link");
    assert_eq!(
        link,
        Path::new("../../blobs").join(git(&server.state.files["config.json"]))
    );
    assert_eq!(
        fs::read_to_string(folder.join("../../refs/main")).expect("a branch"),
        COMMIT
    );
    let lock = fs::read_to_string(cache.path().join("nerpipe.lock")).expect("a lock file");
    assert!(lock.contains("\"owner/small\"") && lock.contains(COMMIT), "{lock}");
    assert!(!server.asked().is_empty());

    assert_eq!(hub.locate("owner/small").expect("found"), Some(folder));
    assert_eq!(server.asked(), Vec::<String>::new(), "the second time nobody is asked");
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let server = Server::start(|state| state.breaks = AtomicUsize::new(2));
    let cache = tempfile::tempdir().expect("a folder");
    let folder = server
        .hub(cache.path(), None)
        .locate("owner/small")
        .expect("downloaded")
        .expect("a name");
    let weights = &server.state.files["model.safetensors"];
    assert_eq!(&fs::read(folder.join("model.safetensors")).expect("weights"), weights);
    let (half, more) = (weights.len() / 2, weights.len() / 2 + weights.len() / 4);
    let asked: Vec<String> = server
        .asked()
        .into_iter()
        .filter(|line| line.starts_with("GET /storage/"))
        .collect();
    assert_eq!(
        asked,
        [
            "GET /storage/model.safetensors".to_owned(),
            format!("GET /storage/model.safetensors bytes={half}-"),
            format!("GET /storage/model.safetensors bytes={more}-"),
        ]
    );
}

#[test]
fn what_an_earlier_process_left_is_used_by_a_later_one() {
    let server = Server::start(|_| {});
    let cache = tempfile::tempdir().expect("a folder");
    let weights = &server.state.files["model.safetensors"];
    let blobs = cache.path().join("models--owner--small/blobs");
    fs::create_dir_all(&blobs).expect("created");
    let arriving = blobs.join(format!("{}.incomplete", hex(&Sha256::digest(weights))));
    fs::write(&arriving, &weights[..1000]).expect("written");
    server
        .hub(cache.path(), None)
        .locate("owner/small")
        .expect("downloaded");
    assert!(
        server
            .asked()
            .contains(&"GET /storage/model.safetensors bytes=1000-".to_owned())
    );
    assert!(!arriving.exists());
}

#[test]
fn damaged_bytes_are_thrown_away() {
    let server = Server::start(|state| state.spoils = true);
    let cache = tempfile::tempdir().expect("a folder");
    let error = server
        .hub(cache.path(), None)
        .locate("owner/small")
        .expect_err("damaged");
    assert!(error.message.contains("arrived damaged"), "{error}");
    let weights = cache
        .path()
        .join(format!("models--owner--small/snapshots/{COMMIT}/model.safetensors"));
    assert!(!weights.exists());
    assert!(!cache.path().join("nerpipe.lock").exists(), "nothing is pinned");
    let left: Vec<_> = fs::read_dir(cache.path().join("models--owner--small/blobs"))
        .expect("a folder")
        .flatten()
        .collect();
    assert!(
        left.iter()
            .all(|entry| !entry.file_name().to_string_lossy().ends_with(".incomplete")),
        "{left:?}"
    );
}

#[test]
fn a_model_that_is_not_open_needs_the_token() {
    let server = Server::start(|state| state.gated = true);
    let cache = tempfile::tempdir().expect("a folder");
    let error = server
        .hub(cache.path(), None)
        .locate("owner/small")
        .expect_err("no token");
    assert!(error.message.contains("401"), "{error}");
    assert!(
        error.help.as_deref().is_some_and(|help| help.contains("HF_TOKEN")),
        "{error:?}"
    );
    // The token opens the hub, and does not go along to the storage on another host.
    assert!(
        server
            .hub(cache.path(), Some(TOKEN))
            .locate("owner/small")
            .expect("downloaded")
            .is_some()
    );
}

#[test]
fn a_model_or_revision_that_does_not_exist_is_told() {
    let server = Server::start(|_| {});
    let cache = tempfile::tempdir().expect("a folder");
    let hub = server.hub(cache.path(), None);
    for name in ["owner/other", "owner/small@v2"] {
        let error = hub.locate(name).expect_err("missing");
        assert!(error.message.contains("404"), "{error}");
        assert!(
            error
                .help
                .as_deref()
                .is_some_and(|help| help.contains("name and revision")),
            "{error:?}"
        );
    }
}
