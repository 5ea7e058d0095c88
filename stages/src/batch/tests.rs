//! Worked by hand: what the collator lists, and the reference's mistakes that it does not make (by their numbers).

use super::*;
use crate::parity::Parity;
use crate::recognizer::{Architecture, LossKind, Masking, RecognizerConfig, Threshold};
use crate::tokenizer::{Encoded, SpecialIds};
use crate::tokens::{Format, Sentence, Split, SplitBuilder, TokensError};

const CLS: u32 = 101;
const SEP: u32 = 102;
const PAD: u32 = 0;
const LABEL: u32 = 103;
const THRESHOLD: u32 = 104;

fn special() -> SpecialIds {
    SpecialIds {
        cls: Some(CLS),
        sep: SEP,
        pad: PAD,
        unk: None,
    }
}

fn config(architecture: Architecture, threshold: Threshold) -> RecognizerConfig {
    RecognizerConfig {
        architecture,
        loss_fn: match threshold {
            Threshold::Probability(_) => LossKind::Bce,
            Threshold::Cls | Threshold::LabelToken => LossKind::Contrastive,
        },
        prediction_threshold: threshold,
        max_span_length: 4,
        max_seq_length: 32,
        ..RecognizerConfig::default()
    }
}

fn bi() -> RecognizerConfig {
    config(Architecture::BiEncoder, Threshold::Probability(0.5))
}

fn cross() -> RecognizerConfig {
    config(Architecture::CrossEncoder, Threshold::Probability(0.5))
}

fn collator(config: &RecognizerConfig) -> Collator {
    let types = match config.architecture {
        Architecture::BiEncoder => TypeReader::Apart {
            special: special(),
            window: 16,
        },
        Architecture::CrossEncoder => TypeReader::Prompt(Markers {
            label: LABEL,
            threshold: config.has_threshold_marker().then_some(THRESHOLD),
        }),
    };
    Collator::new(config.clone(), special(), types)
}

/// A sentence in the words view: how many subwords each word has (ids count up from 1), and its golds.
type Words<'a> = (&'a [usize], &'a [(u32, u32, &'a str)]);

/// Sentences in the words view. Subwords are one character long.
fn words(sentences: &[Words<'_>]) -> Split {
    let mut builder = SplitBuilder::new(Format::Tokens);
    for (number, &(subwords, golds)) in sentences.iter().enumerate() {
        let words: Vec<u32> = subwords
            .iter()
            .enumerate()
            .flat_map(|(word, &count)| std::iter::repeat_n(word as u32, count))
            .collect();
        let n = words.len() as u32;
        let encoded = Encoded {
            ids: (1..=n).collect(),
            words,
            starts: vec![0; n as usize],
            ends: vec![1; n as usize],
        };
        builder
            .sentence(&number.to_string(), &encoded, subwords.len() as u32, golds, label_ids)
            .expect("a sentence in memory");
    }
    builder.build().expect("a split in memory")
}

/// A type's name has as many subwords as letters, 11, 12, …
fn label_ids(name: &str) -> Result<Vec<u32>, TokensError> {
    Ok((11..11 + name.len() as u32).collect())
}

/// Everything of a split in one batch (or one a pass), with all its types.
fn collate(config: &RecognizerConfig, split: &Split) -> Collated {
    collate_with(&collator(config), split)
}

fn collate_with(collator: &Collator, split: &Split) -> Collated {
    let types: Vec<u32> = (0..split.labels().len() as u32).collect();
    let sentences: Vec<Sentence<'_>> = split.sentences().collect();
    let longest = sentences.iter().map(|sentence| sentence.ids.len()).max().unwrap_or(0);
    collator.collate(&collator.passes(&types, &split.labels().ids, longest), &sentences)
}

fn spans(batch: &Batch, sentence: usize) -> Vec<(u32, u32)> {
    batch.spans.rows.of(sentence).map(|row| batch.span(row)).collect()
}

/// (type, start, end) of every gold.
fn golds(batch: &Batch) -> Vec<(u32, u32, u32)> {
    batch
        .golds
        .iter()
        .map(|gold| {
            let (start, end) = batch.span(gold.span as usize);
            (batch.types[gold.class as usize], start, end)
        })
        .collect()
}

fn reasons(collated: &Collated) -> Vec<LostReason> {
    collated.lost.iter().map(|lost| lost.reason).collect()
}

#[test]
fn a_bi_encoder_lists_pairs_of_word_starts_and_word_ends() {
    // Subwords 1 | 2 3 | 4; at positions 1 | 2 3 | 4 behind [CLS].
    let collated = collate(&bi(), &words(&[(&[1, 2, 1], &[(1, 2, "x")]), (&[1], &[])]));
    let batch = &collated.batches[0];
    assert_eq!(batch.text.ids, [CLS, 1, 2, 3, 4, SEP, CLS, 1, SEP]);
    assert_eq!(batch.text.sequences.iter().collect::<Vec<_>>(), [0..6, 6..9]);
    assert_eq!(batch.starts.position, [1, 2, 4, 1]);
    assert_eq!(batch.ends.position, [1, 3, 4, 1]);
    assert_eq!(batch.ends.encoder_row, [1, 3, 4, 7]);
    assert_eq!(spans(batch, 0), [(1, 1), (1, 3), (1, 4), (2, 3), (2, 4), (4, 4)]);
    assert_eq!(batch.spans.width, [1, 3, 4, 2, 3, 1, 1]);
    assert_eq!(spans(batch, 1), [(1, 1)]);
    assert_eq!(golds(batch), [(0, 2, 3)]);
    // What the reference enumerates: 6 positions, of each all ends up to 4 wide: 4 + 4 + 4 + 3 + 2 + 1.
    assert_eq!((batch.starts.rows.enumerated, batch.spans.rows.enumerated), (6, 18));
    let TypeInput::Apart(types) = &batch.type_input else {
        panic!("types are read apart")
    };
    assert_eq!((&types.ids[..], types.sequences.len()), (&[CLS, 11, SEP][..], 1));
}

#[test]
fn without_masking_every_subword_begins_and_ends_spans() {
    let config = RecognizerConfig {
        loss_masking: Masking::None,
        max_span_length: 2,
        ..bi()
    };
    let collated = collate(&config, &words(&[(&[1, 2], &[(0, 1, "x")])]));
    assert_eq!(spans(&collated.batches[0], 0), [(1, 1), (1, 2), (2, 2), (2, 3), (3, 3)]);
}

#[test]
fn prompts_put_markers_and_the_tokenizers_own_separator_by_id() {
    // Defect 18: the separator is an id, whatever it is called.
    let split = words(&[(&[1, 1], &[(0, 1, "ab"), (1, 2, "c")])]);
    let batch = &collate(&cross(), &split).batches[0];
    assert_eq!(batch.text.ids, [CLS, LABEL, 11, 12, LABEL, 11, SEP, 1, 2, SEP]);
    assert_eq!(batch.type_input, TypeInput::Markers(vec![1, 4]));
    assert_eq!((batch.text_position, &batch.starts.position[..]), (0, &[0, 1][..]));
    assert_eq!(batch.starts.encoder_row, [7, 8]);

    let marker = config(Architecture::CrossEncoder, Threshold::LabelToken);
    let batch = &collate(&marker, &split).batches[0];
    assert_eq!(
        batch.text.ids,
        [CLS, THRESHOLD, LABEL, 11, 12, LABEL, 11, SEP, 1, 2, SEP]
    );
    assert_eq!(
        batch.starts.encoder_row,
        [1, 8, 9],
        "the threshold is read at its marker"
    );

    let cls = config(Architecture::CrossEncoder, Threshold::Cls);
    let batch = &collate(&cls, &split).batches[0];
    assert_eq!(batch.text.ids, [CLS, LABEL, 11, 12, LABEL, 11, SEP, 1, 2, SEP]);
    assert_eq!(batch.starts.encoder_row, [0, 7, 8], "the threshold is read at [CLS]");
}

#[test]
fn defect_5_every_arrangement_of_format_and_masking_works() {
    for format in [Format::Tokens, Format::Text] {
        for masking in [Masking::None, Masking::Subwords] {
            let config = RecognizerConfig {
                annotation_format: format,
                loss_masking: masking,
                ..cross()
            };
            let mut builder = SplitBuilder::new(format);
            // "ab c" as a | b | c; two words of two subwords and one.
            let encoded = Encoded {
                ids: vec![1, 2, 3],
                words: vec![0, 0, 1],
                starts: vec![0, 1, 3],
                ends: vec![1, 2, 4],
            };
            let gold = if format == Format::Tokens {
                (0, 1, "x")
            } else {
                (0, 2, "x")
            };
            builder
                .sentence("0", &encoded, 4, &[gold], label_ids)
                .expect("a sentence");
            let collated = collate(&config, &builder.build().expect("a split"));
            assert_eq!(golds(&collated.batches[0]), [(0, 0, 1)], "{format:?} {masking:?}");
            let count = if masking == Masking::None { 6 } else { 3 };
            assert_eq!(spans(&collated.batches[0], 0).len(), count, "{format:?} {masking:?}");
        }
    }
}

#[test]
fn defect_7_a_prompt_longer_than_the_window_becomes_several_passes() {
    // Four types of six subwords, seven with their markers; a window of 32 keeps 16 for the text of 20, so 13 are left for types:
    // one a pass.
    let golds_listed: Vec<(u32, u32, &str)> =
        vec![(0, 1, "aaaaaa"), (1, 2, "bbbbbb"), (2, 3, "cccccc"), (3, 4, "dddddd")];
    let split = words(&[(&[1; 20], &golds_listed)]);
    let collator = collator(&cross());
    let collated = collate_with(&collator, &split);
    assert_eq!(collated.batches.len(), 4);
    for (label, batch) in collated.batches.iter().enumerate() {
        assert_eq!(batch.types, [label as u32]);
        assert_eq!(batch.text.ids[..9], [CLS, LABEL, 11, 12, 13, 14, 15, 16, SEP]);
        assert!(batch.text.sequences.longest() <= 32);
        assert_eq!(golds(batch), [(label as u32, label as u32, label as u32)]);
        assert_eq!((batch.type_share.factor(), batch.gold_share.factor()), (0.25, 0.25));
        assert_eq!(
            spans(batch, 0),
            spans(&collated.batches[0], 0),
            "every pass has the same candidates"
        );
    }
    assert!(collated.lost.is_empty() && collated.cut_sentences == 0);
    // A short text leaves room for three of them at once.
    let short = words(&[(&[1; 4], &golds_listed)]);
    let passes = collator.passes(&[0, 1, 2, 3], &short.labels().ids, 4);
    assert_eq!(
        passes.passes.iter().map(|pass| pass.types.len()).collect::<Vec<_>>(),
        [3, 1]
    );
}

#[test]
fn a_name_longer_than_the_window_is_cut_off_and_counted() {
    let name = "n".repeat(60);
    let split = words(&[(&[1, 1], &[(0, 1, name.as_str())])]);
    for config in [bi(), cross()] {
        let collator = collator(&config);
        let passes = collator.passes(&[0], &split.labels().ids, 2);
        assert_eq!((passes.len(), passes.cut_names), (1, 1));
        let batch = &collate_with(&collator, &split).batches[0];
        assert!(batch.text.sequences.longest() <= 32);
        assert_eq!(golds(batch).len(), 1, "the text is still all there");
        if let TypeInput::Apart(types) = &batch.type_input {
            assert_eq!(types.sequences.longest(), 16, "the type encoder's window");
        }
    }
}

#[test]
fn defects_9_and_14_spans_of_exactly_the_longest_length_count() {
    let split = words(&[(&[1, 1, 1, 1, 1, 1], &[(0, 3, "x"), (1, 5, "x"), (1, 6, "x")])]);
    let collated = collate(&bi(), &split);
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 3), (0, 2, 5)]);
    assert_eq!(reasons(&collated), [LostReason::TooLong]);
    let short = RecognizerConfig {
        max_span_length: 3,
        ..bi()
    };
    assert_eq!(golds(&collate(&short, &split).batches[0]), [(0, 1, 3)]);
    let reference = collator(&bi()).with_parity(Parity::REFERENCE);
    assert_eq!(golds(&collate_with(&reference, &split).batches[0]), [(0, 1, 3)]);
}

#[test]
fn defect_11_word_ends_are_read_where_they_are() {
    // One word of four subwords: only its last one ends a span, in a cross-encoder as in a bi-encoder.
    let split = words(&[(&[4, 1], &[(0, 1, "x")])]);
    let batch = &collate(&cross(), &split).batches[0];
    assert_eq!(batch.ends.position, [3, 4]);
    assert_eq!(spans(batch, 0), [(0, 3), (4, 4)]);
    let wrong = &collate_with(&collator(&cross()).with_parity(Parity::REFERENCE), &split).batches[0];
    let ends: Vec<bool> = (0..5).map(|row| wrong.ends.rows.is_valid(row)).collect();
    // The reference compares with the word of input position 1 + the subword's number: markers, type and separator for the
    // first three, and for the fourth the word's own first subword.
    assert_eq!(ends, [true, true, true, false, true]);
}

#[test]
fn defect_12_the_last_token_ends_spans_and_none_is_too_wide() {
    let config = config(Architecture::CrossEncoder, Threshold::Cls);
    let split = words(&[(&[1, 1, 1, 1, 1, 1], &[(5, 6, "x")])]);
    let batch = &collate(&config, &split).batches[0];
    assert_eq!(golds(batch), [(0, 6, 6)]);
    assert!(spans(batch, 0).contains(&(3, 6)));
    assert_eq!(batch.spans.width.iter().max(), Some(&4));
    // Slot, six subwords and [SEP] are 8 positions: 5 · 4 + 3 + 2 + 1.
    assert_eq!(batch.spans.rows.enumerated, 26);
    let wrong = &collate_with(&collator(&config).with_parity(Parity::REFERENCE), &split).batches[0];
    let valid = |span| {
        let row = wrong.spans.rows.of(0).find(|&row| wrong.span(row) == span);
        row.is_some_and(|row| wrong.spans.rows.is_valid(row))
    };
    assert!(
        !valid((3, 6)) && valid((1, 5)),
        "the reference leaves out the last token, and takes five for four"
    );
}

#[test]
fn defect_13_a_short_text_beside_a_long_one_is_no_overflow() {
    let config = RecognizerConfig {
        annotation_format: Format::Text,
        loss_masking: Masking::None,
        ..cross()
    };
    let mut builder = SplitBuilder::new(Format::Text);
    for length in [2u32, 9] {
        let encoded = Encoded {
            ids: (1..=length).collect(),
            words: (0..length).collect(),
            starts: (0..length).collect(),
            ends: (1..=length).collect(),
        };
        let last = (length - 1, length, "x");
        builder
            .sentence("", &encoded, length, &[last], label_ids)
            .expect("a sentence");
    }
    let collated = collate(&config, &builder.build().expect("a split"));
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 1), (0, 8, 8)]);
    assert!(collated.lost.is_empty());
}

#[test]
fn defect_15_golds_behind_the_window_are_reported() {
    let config = RecognizerConfig {
        max_seq_length: 8,
        ..bi()
    };
    // Six subwords are read: words 0 to 4 and the first subword of word 5.
    let golds_listed: &[_] = &[(0, 1, "x"), (4, 6, "x"), (5, 7, "x"), (6, 7, "y")];
    let collated = collate(&config, &words(&[(&[1, 1, 1, 1, 1, 3, 1], golds_listed)]));
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 1), (0, 5, 6)]);
    assert_eq!(reasons(&collated), [LostReason::CutOff, LostReason::CutOff]);
    assert_eq!(collated.lost[1].label, 1);
    assert_eq!((collated.cut_sentences, collated.cut_subwords), (1, 3));
}

#[test]
fn defect_16_sentences_without_golds_do_not_shift_the_others() {
    for config in [cross(), config(Architecture::CrossEncoder, Threshold::Cls)] {
        let split = words(&[(&[1, 1], &[]), (&[], &[]), (&[1, 1, 1], &[(2, 3, "x")])]);
        let batch = &collate(&config, &split).batches[0];
        let [gold] = batch.golds[..] else { panic!("one gold") };
        assert_eq!(gold.sentence, 2);
        assert!(batch.spans.rows.of(2).contains(&(gold.span as usize)));
        let last = 2 + config.text_position();
        assert_eq!(batch.span(gold.span as usize), (last, last));
        assert_eq!(
            batch.starts.encoder_row[gold.start as usize] as usize,
            batch.text.sequences.of(2).start + 4 + 2
        );
    }
}

#[test]
fn defect_23_boundary_words_without_subwords_move_the_boundary_inwards() {
    // Words 0 and 3 have no subwords.
    let split = words(&[(&[0, 1, 2, 0], &[(0, 3, "x"), (1, 4, "x"), (0, 4, "x"), (3, 4, "x")])]);
    let collated = collate(&bi(), &split);
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 3); 3]);
    assert_eq!(reasons(&collated), [LostReason::NoSubwords]);
    let reference = collator(&bi()).with_parity(Parity::REFERENCE);
    assert!(collate_with(&reference, &split).batches[0].golds.is_empty());
}

#[test]
fn golds_of_texts_cover_the_subwords_that_they_touch() {
    let config = |masking| RecognizerConfig {
        annotation_format: Format::Text,
        loss_masking: masking,
        ..bi()
    };
    // "ab  cd" as ab | c d: subwords at 0..2, 4..5 and 5..6; c and d are one word.
    let encoded = Encoded {
        ids: vec![1, 2, 3],
        words: vec![0, 1, 1],
        starts: vec![0, 4, 5],
        ends: vec![2, 5, 6],
    };
    let build = |golds: &[(u32, u32, &str)]| {
        let mut builder = SplitBuilder::new(Format::Text);
        builder
            .sentence("0", &encoded, 6, golds, label_ids)
            .expect("a sentence");
        builder.build().expect("a split")
    };
    // Blanks at a gold's edges belong to nobody; a gold of blanks only has no subword.
    let split = build(&[(0, 3, "x"), (2, 6, "x"), (1, 5, "x"), (2, 4, "x")]);
    let collated = collate(&config(Masking::None), &split);
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 1), (0, 2, 3), (0, 1, 2)]);
    assert_eq!(reasons(&collated), [LostReason::NoSubwords]);
    // With masking the third ends inside a word, where no span can.
    let collated = collate(&config(Masking::Subwords), &split);
    assert_eq!(golds(&collated.batches[0]), [(0, 1, 1), (0, 2, 3)]);
    assert_eq!(reasons(&collated), [LostReason::InsideWord, LostReason::NoSubwords]);
}

#[test]
fn the_threshold_slot_pairs_with_nothing_and_comes_first() {
    for config in [
        config(Architecture::BiEncoder, Threshold::Cls),
        config(Architecture::CrossEncoder, Threshold::LabelToken),
    ] {
        let batch = &collate(&config, &words(&[(&[1, 1], &[(0, 1, "x")]), (&[1], &[])])).batches[0];
        assert_eq!(spans(batch, 0), [(0, 0), (1, 1), (1, 2), (2, 2)]);
        assert_eq!(spans(batch, 1), [(0, 0), (1, 1)]);
        let logits: Vec<f32> = (0..6).map(|row| row as f32).collect();
        let scores = batch.candidates(&logits, true, 1.5);
        assert_eq!((&scores[0].thresholds, scores[0].candidates.len()), (&vec![0.0], 2));
        assert_eq!(
            (&scores[1].thresholds, scores[1].candidates[0].logit),
            (&vec![4.0], 5.0)
        );
    }
}

#[test]
fn golds_of_types_that_are_not_asked_for_are_left_alone() {
    let split = words(&[(&[1, 1], &[(0, 1, "x"), (1, 2, "y")])]);
    let collator = collator(&bi());
    let sentences: Vec<Sentence<'_>> = split.sentences().collect();
    let collated = collator.collate(&collator.passes(&[1], &split.labels().ids, 2), &sentences);
    assert_eq!(golds(&collated.batches[0]), [(1, 2, 2)]);
    assert!(collated.lost.is_empty());
}

/// T5's tokenizer puts nothing before a text. What would be `[CLS]` is whatever comes first, as in the reference; the threshold span
/// stays a candidate of its own.
#[test]
fn without_a_first_token_the_first_position_takes_its_part() {
    let special = SpecialIds { cls: None, ..special() };
    let split = words(&[(&[1, 1], &[(1, 2, "xy")])]);
    for (config, text, slot, first) in [
        (config(Architecture::BiEncoder, Threshold::Cls), vec![1, 2, SEP], 0, 0),
        (
            config(Architecture::CrossEncoder, Threshold::Cls),
            vec![LABEL, 11, 12, SEP, 1, 2, SEP],
            0,
            4,
        ),
        (
            config(Architecture::CrossEncoder, Threshold::LabelToken),
            vec![THRESHOLD, LABEL, 11, 12, SEP, 1, 2, SEP],
            0,
            5,
        ),
    ] {
        let types = match &collator(&config).types {
            TypeReader::Apart { window, .. } => TypeReader::Apart {
                special,
                window: *window,
            },
            TypeReader::Prompt(markers) => TypeReader::Prompt(*markers),
        };
        let collator = Collator::new(config, special, types);
        let batch = &collate_with(&collator, &split).batches[0];
        assert_eq!(batch.text.ids, text);
        assert_eq!(spans(batch, 0), [(0, 0), (1, 1), (1, 2), (2, 2)]);
        assert_eq!(batch.starts.encoder_row, [slot, first, first + 1]);
        assert_eq!(golds(batch), [(0, 2, 2)]);
        if let TypeInput::Apart(input) = &batch.type_input {
            assert_eq!(input.ids, [11, 12, SEP]);
        }
    }
}
