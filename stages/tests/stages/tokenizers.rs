//! Unigram and byte-level tokenizers against Hugging Face's own (`tokenizer_data/make.py` says what the files hold).

use std::path::Path;

use nerpipe_stages::tokenizer::TextTokenizer;
use serde_json::{Value, json};

#[test]
fn unigram_and_byte_level_tokenizers_cut_as_hugging_face_does() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tokenizer_data");
    let expected = std::fs::read(folder.join("expected.json")).expect("a file");
    let expected: Value = serde_json::from_slice(&expected).expect("json");
    let mut texts = 0;
    for (name, of_one) in expected.as_object().expect("by name") {
        let tokenizer = TextTokenizer::from_file(&folder.join(format!("{name}.json"))).expect(name);
        let special = tokenizer.special();
        let reserved = [special.cls, Some(special.sep), Some(special.pad)];
        // A literal `<s>` stays text; where the vocabulary spells it, it becomes the unknown token.
        let plain = |ids: &Value| -> Vec<u32> {
            let ids: Vec<u32> = serde_json::from_value(ids.clone()).expect("ids");
            let plain = |id| {
                if reserved.contains(&Some(id)) {
                    special.unk.expect("<unk>")
                } else {
                    id
                }
            };
            ids.into_iter().map(plain).collect()
        };
        assert_eq!(
            json!([special.cls, special.sep, special.pad]),
            of_one["special"],
            "{name}"
        );
        for text in of_one["texts"].as_array().expect("texts") {
            let whole = text["text"].as_str().expect("a text");
            let found = tokenizer.text(whole).expect("encoded");
            assert_eq!(found.ids, plain(&text["ids"]), "{name}: {whole}");
            // Blanks that a subword begins with are none of it here.
            let characters: Vec<char> = whole.chars().collect();
            for (index, offsets) in text["offsets"].as_array().expect("places").iter().enumerate() {
                let at = |side: usize| offsets[side].as_u64().expect("a place") as usize;
                let piece = |start: usize, end: usize| characters[start..end].iter().collect::<String>();
                let (start, end) = (found.starts[index] as usize, found.ends[index] as usize);
                assert_eq!(
                    piece(start, end).trim(),
                    piece(at(0), at(1)).trim(),
                    "{name}: {whole}, {index}"
                );
            }

            let words: Vec<String> = serde_json::from_value(text["words"].clone()).expect("words");
            let found = tokenizer.words(&words).expect("encoded");
            assert_eq!(found.ids, plain(&text["word_ids"]), "{name}: {words:?}");
            assert_eq!(json!(found.words), text["words_of_ids"], "{name}: {words:?}");
            for (index, &word) in found.words.iter().enumerate() {
                let length = words[word as usize].chars().count() as u32;
                assert!(
                    found.starts[index] <= found.ends[index] && found.ends[index] <= length,
                    "{name}: {words:?}"
                );
            }
            texts += 1;
        }
    }
    assert_eq!(texts, 12);
}
