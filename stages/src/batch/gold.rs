//! Marked entities → subwords.

use crate::tokens::{Format, Gold, Sentence};

use super::collate::LostReason;

/// First and last subword of a gold among the first `room` of its sentence, or why there are none.
pub(super) fn locate(
    sentence: &Sentence<'_>,
    gold: Gold,
    room: usize,
    format: Format,
    snap: bool,
) -> Result<(usize, usize), LostReason> {
    match format {
        Format::Tokens => by_words(sentence, gold, room, snap),
        Format::Text => by_characters(sentence, gold, room, snap),
    }
}

/// The first subword of the first word, the last of the last. A boundary word without subwords (white space, say, or
/// characters that the tokenizer strips) moves the boundary inwards; the reference drops the gold then (its defect 23), which
/// `snap` = false repeats.
fn by_words(sentence: &Sentence<'_>, gold: Gold, room: usize, snap: bool) -> Result<(usize, usize), LostReason> {
    let words = sentence.words;
    // Words never fall, so the gold's subwords are those between two partition points.
    let first = words.partition_point(|&word| word < gold.start);
    let behind = words.partition_point(|&word| word < gold.end);
    if first == behind {
        return Err(LostReason::NoSubwords);
    }
    if !snap && (words[first] != gold.start || words[behind - 1] + 1 != gold.end) {
        return Err(LostReason::NoSubwords);
    }
    // The last word counts if its first subword is inside the window, as the reference has it.
    let last_word = words[..behind].partition_point(|&word| word < words[behind - 1]);
    if last_word >= room {
        return Err(LostReason::CutOff);
    }
    Ok((first, behind.min(room) - 1))
}

/// Every subword that shares a character with the gold, so that white space at its edges moves the boundary inwards. The
/// reference takes the last subword that starts at or before the first character and the first that ends at or behind the last:
/// the same where golds and subwords meet, outwards where they do not. `snap` = false repeats that.
fn by_characters(sentence: &Sentence<'_>, gold: Gold, room: usize, snap: bool) -> Result<(usize, usize), LostReason> {
    let (starts, ends) = (sentence.starts, sentence.ends);
    let (first, last) = if snap {
        let first = ends.partition_point(|&end| end <= gold.start);
        (
            Some(first),
            starts.partition_point(|&start| start < gold.end).checked_sub(1),
        )
    } else {
        (
            starts.iter().rposition(|&start| start <= gold.start),
            ends.iter().position(|&end| end >= gold.end),
        )
    };
    match (first, last) {
        (Some(first), Some(last)) if first <= last && last < room => Ok((first, last)),
        (Some(first), Some(last)) if first <= last => Err(LostReason::CutOff),
        _ => Err(LostReason::NoSubwords),
    }
}
