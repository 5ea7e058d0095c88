//! What reading a corpus could cost at least: the time to read the file, and that of the tokenizers library's `encode_batch`
//! on its texts. `cargo xtask bench data` holds `load` and `tokenize` against it.
//!
//!     encode_batch CORPUS.jsonl TOKENIZER.json tokens|text
//!
//! Prints one JSON object of seconds. `RAYON_NUM_THREADS` says how many threads there are.

#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement for people and for xtask, not a stage"
)]

use std::error::Error;
use std::time::Instant;

use serde::Deserialize;
use tokenizers::{EncodeInput, InputSequence, Tokenizer};

#[derive(Deserialize)]
struct Line {
    text: String,
    tokens: Vec<String>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, corpus, tokenizer, view] = arguments.as_slice() else {
        return Err("usage: encode_batch CORPUS.jsonl TOKENIZER.json tokens|text".into());
    };
    let mut tokenizer = Tokenizer::from_file(tokenizer).map_err(|error| error.to_string())?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(|error| error.to_string())?;

    let begun = Instant::now();
    let bytes = std::fs::read(corpus)?;
    let read = begun.elapsed();
    let lines: Vec<Line> = bytes
        .split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(serde_json::from_slice)
        .collect::<Result<_, _>>()?;
    let inputs: Vec<EncodeInput<'_>> = lines
        .iter()
        .map(|line| match view.as_str() {
            "tokens" => EncodeInput::Single(InputSequence::from(line.tokens.as_slice())),
            _ => EncodeInput::Single(InputSequence::from(line.text.as_str())),
        })
        .collect();

    let begun = Instant::now();
    let encodings = tokenizer
        .encode_batch(inputs, false)
        .map_err(|error| error.to_string())?;
    let encode = begun.elapsed();
    let subwords: usize = encodings.iter().map(|encoding| encoding.len()).sum();
    println!(
        "{}",
        serde_json::json!({
            "sentences": lines.len(), "subwords": subwords,
            "read": read.as_secs_f64(), "encode_batch": encode.as_secs_f64()
        })
    );
    Ok(())
}
