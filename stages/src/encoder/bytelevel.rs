//! The byte-level tokenizer of RoBERTa from its two older files, `vocab.json` and `merges.txt`.

use std::path::Path;

use nerpipe_engine::StageError;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::BPE;
use tokenizers::processors::roberta::RobertaProcessing;
use tokenizers::{AddedToken, Tokenizer};

/// RoBERTa's special tokens, which its vocabulary holds.
const SPECIAL: [&str; 5] = ["<s>", "</s>", "<unk>", "<pad>", "<mask>"];

/// The bytes of the `tokenizer.json` that says the same.
///
/// # Errors
/// If a file cannot be read, or the vocabulary lacks a special token.
pub(super) fn tokenizer_json(vocabulary: &Path, merges: &Path, blank_first: bool) -> Result<Vec<u8>, StageError> {
    let shown = vocabulary.display();
    let failed = |error: &dyn std::fmt::Display| StageError::new(format!("`{shown}` and its `merges.txt`: {error}"));
    let text = |path: &Path| {
        path.to_str()
            .map(str::to_owned)
            .ok_or_else(|| failed(&"the path is not UTF-8"))
    };
    let model = BPE::from_file(&text(vocabulary)?, &text(merges)?)
        .build()
        .map_err(|error| failed(&error))?;
    let mut tokenizer = Tokenizer::new(model);
    let id = |token: &str| {
        let found = tokenizer.token_to_id(token);
        found.ok_or_else(|| failed(&format!("the vocabulary lacks `{token}`, so it is not RoBERTa's")))
    };
    for token in SPECIAL {
        id(token)?;
    }
    let processing = RobertaProcessing::new(("</s>".to_owned(), id("</s>")?), ("<s>".to_owned(), id("<s>")?))
        .trim_offsets(true)
        .add_prefix_space(blank_first);
    tokenizer
        .with_pre_tokenizer(Some(ByteLevel::new(blank_first, true, true)))
        .with_decoder(Some(ByteLevel::default()))
        .with_post_processor(Some(processing));
    let special: Vec<AddedToken> = SPECIAL.iter().map(|&token| AddedToken::from(token, true)).collect();
    tokenizer.add_special_tokens(&special);
    let json = tokenizer.to_string(true).map_err(|error| failed(&error))?;
    Ok(json.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TextTokenizer;

    #[test]
    fn the_two_files_make_a_tokenizer() {
        let folder = tempfile::tempdir().unwrap();
        let (vocabulary, merges) = (folder.path().join("vocab.json"), folder.path().join("merges.txt"));
        let tokens =
            r#"{"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4, "a": 5, "b": 6, "Ġ": 7, "ab": 8, "Ġab": 9}"#;
        std::fs::write(&vocabulary, tokens).unwrap();
        std::fs::write(&merges, "#version: 0.2\na b\nĠ ab\n").unwrap();
        let json = tokenizer_json(&vocabulary, &merges, false).unwrap();
        let tokenizer = TextTokenizer::from_bytes(&json).unwrap();
        assert_eq!(
            (
                tokenizer.special().cls,
                tokenizer.special().sep,
                tokenizer.special().pad
            ),
            (Some(0), 2, 1)
        );
        let text = tokenizer.text("ab ab").unwrap();
        assert_eq!((text.ids, text.starts, text.ends), (vec![8, 9], vec![0, 3], vec![2, 5]));
        // Each word has the blank before it that tells words from their middles.
        let words = tokenizer.words(&["ab".to_owned(), "abb".to_owned()]).unwrap();
        assert_eq!((words.ids, words.words), (vec![9, 9, 6], vec![0, 1, 1]));
        assert_eq!((words.starts, words.ends), (vec![0, 0, 2], vec![2, 2, 3]));

        std::fs::write(&vocabulary, r#"{"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġab": 4}"#).unwrap();
        let error = tokenizer_json(&vocabulary, &merges, false).unwrap_err();
        assert!(error.message.contains("lacks `<s>`"), "{error}");
    }
}
