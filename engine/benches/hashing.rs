//! How fast files are hashed: `cargo bench -p nerpipe-engine --bench hashing FILE…`, to be held against `b3sum FILE…`.

#![expect(clippy::print_stdout, reason = "a program for people at a terminal")]

use std::path::Path;

use nerpipe_engine::Digest;

fn main() {
    for file in std::env::args().skip(1).filter(|argument| !argument.starts_with("--")) {
        match Digest::of_file(Path::new(&file)) {
            Ok((digest, _)) => println!("{digest}  {file}"),
            Err(error) => println!("{file}: {error}"),
        }
    }
}
