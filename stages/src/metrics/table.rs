//! [`CountTable`]: the counts of every sentence side by side, in memory and as lines of a file.
//!
//! A metric of a group of sentences, of a resample, or of another system on the same sentences is a sum over some rows of it;
//! nothing is matched again.

use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::schemes::{Scheme, SchemeCounts};
use super::{Counter, Counts, SentenceCounts};

/// Numbers of one type in one sentence: label, right, wrong, missed, lost.
type Entry = [u32; 5];
/// Numbers of one sentence: those of [`SchemeCounts`] in order, scheme by scheme.
type SchemeRow = [u32; 20];

/// The counts of every sentence of a split at one threshold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountTable {
    /// Where each sentence's entries end.
    ends: Vec<usize>,
    entries: Vec<Entry>,
    schemes: Vec<SchemeRow>,
}

impl CountTable {
    /// Adds the next sentence.
    pub fn push(&mut self, sentence: &SentenceCounts) {
        // A sentence is at most 2³² positions long, and so are these.
        let small = |count: u64| count as u32;
        self.entries.extend(sentence.types.iter().map(|(&label, of_type)| {
            let Counts { tp, fp, missed } = of_type.counts;
            [label, small(tp), small(fp), small(missed), small(of_type.lost)]
        }));
        self.ends.push(self.entries.len());
        let mut row = [0; 20];
        for (slots, scheme) in row.chunks_exact_mut(5).zip(Scheme::ALL) {
            let counts = sentence.schemes.get(scheme);
            let all = [
                counts.correct,
                counts.incorrect,
                counts.partial,
                counts.missed,
                counts.spurious,
            ];
            slots.iter_mut().zip(all).for_each(|(slot, count)| *slot = small(count));
        }
        self.schemes.push(row);
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn entries(&self, sentence: usize) -> &[Entry] {
        let start = sentence.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.entries[start..self.ends[sentence]]
    }

    /// Adds a sentence's exact counts to `counter`, `times` over.
    ///
    /// # Panics
    /// If there is no such sentence, or it holds a type that the counter was not made for.
    pub fn add_types(&self, counter: &mut Counter, sentence: usize, times: u64) {
        for &[label, tp, fp, missed, lost] in self.entries(sentence) {
            let sum = &mut counter.types[label as usize];
            sum.counts.tp += times * u64::from(tp);
            sum.counts.fp += times * u64::from(fp);
            sum.counts.missed += times * u64::from(missed);
            sum.lost += times * u64::from(lost);
        }
    }

    /// Adds a sentence's counts by scheme to `counter`, `times` over: most of the work, and seldom needed.
    ///
    /// # Panics
    /// If there is no such sentence.
    pub fn add_schemes(&self, counter: &mut Counter, sentence: usize, times: u64) {
        let row = &self.schemes[sentence];
        for (slots, scheme) in row.chunks_exact(5).zip(Scheme::ALL) {
            let [correct, incorrect, partial, missed, spurious] = std::array::from_fn(|slot| u64::from(slots[slot]));
            let counts = SchemeCounts {
                correct,
                incorrect,
                partial,
                missed,
                spurious,
            };
            counter.schemes.get_mut(scheme).add(&counts, times);
        }
    }

    /// The sum over some sentences, of `types` types.
    pub fn sum(&self, types: usize, sentences: impl IntoIterator<Item = usize>) -> Counter {
        let mut counter = Counter::new(types);
        for sentence in sentences {
            self.add_types(&mut counter, sentence, 1);
            self.add_schemes(&mut counter, sentence, 1);
        }
        counter
    }

    /// How many golds of each type a sentence has, found or not: the same for every system.
    fn golds(&self, sentence: usize) -> impl Iterator<Item = (u32, u32)> + '_ {
        let entries = self.entries(sentence).iter();
        entries
            .map(|&[label, tp, _, missed, lost]| (label, tp + missed + lost))
            .filter(|&(_, golds)| golds > 0)
    }

    /// The first sentence that has other golds in `other`, so that the two cannot be of the same sentences.
    pub fn differs_from(&self, other: &Self) -> Option<usize> {
        (0..self.len().max(other.len())).find(|&sentence| {
            sentence >= self.len() || sentence >= other.len() || !self.golds(sentence).eq(other.golds(sentence))
        })
    }
}

/// A table with what it is of.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The split and threshold, and the names of the types.
    pub head: Head,
    /// The sentences' counts.
    pub table: CountTable,
}

/// What a table is of: the first line of a section of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Head {
    /// The split.
    pub split: String,
    /// The threshold as it was asked for.
    pub threshold: Value,
    /// The names of the types, sorted.
    pub labels: Vec<String>,
    /// How many lines follow, one a sentence.
    pub sentences: usize,
}

/// Writes a section: its head, then for each sentence `[entries, schemes]`, both flat lists of numbers; an empty list where
/// nothing was counted.
///
/// # Errors
/// If writing fails.
pub fn write(out: &mut impl Write, head: &Head, table: &CountTable) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, head)?;
    out.write_all(b"\n")?;
    for sentence in 0..table.len() {
        let entries = table.entries(sentence);
        if entries.is_empty() {
            out.write_all(b"[]\n")?;
        } else {
            serde_json::to_writer(&mut *out, &(entries.as_flattened(), &table.schemes[sentence][..]))?;
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Reads what [`write`] wrote.
///
/// # Errors
/// If a line is not as it was written; the message names it.
pub fn read(input: impl BufRead) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in input.lines().enumerate() {
        let damaged = |reason: &dyn std::fmt::Display| format!("line {}: {reason}", number + 1);
        let line = line.map_err(|error| damaged(&error))?;
        match sections.last_mut() {
            Some(section) if section.table.len() < section.head.sentences => {
                let row = if line == "[]" {
                    (Vec::new(), vec![0; 20])
                } else {
                    serde_json::from_str::<(Vec<u32>, Vec<u32>)>(&line).map_err(|error| damaged(&error))?
                };
                section.push(&row).map_err(|reason| damaged(&reason))?;
            }
            _ => sections.push(Section {
                head: serde_json::from_str(&line).map_err(|error| damaged(&error))?,
                table: CountTable::default(),
            }),
        }
    }
    match sections.last() {
        Some(section) if section.table.len() < section.head.sentences => Err(format!(
            "it ends after {} of {} sentences",
            section.table.len(),
            section.head.sentences
        )),
        _ => Ok(sections),
    }
}

impl Section {
    fn push(&mut self, (entries, schemes): &(Vec<u32>, Vec<u32>)) -> Result<(), &'static str> {
        let (entries, []) = entries.as_chunks::<5>() else {
            return Err("the numbers of a sentence are not in fives");
        };
        if entries.iter().any(|entry| entry[0] as usize >= self.head.labels.len()) {
            return Err("a type is not in the list of names");
        }
        let schemes: SchemeRow = schemes[..]
            .try_into()
            .map_err(|_| "a sentence has not 20 numbers by scheme")?;
        self.table.entries.extend(entries);
        self.table.ends.push(self.table.entries.len());
        self.table.schemes.push(schemes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{Counting, Key};

    fn table() -> CountTable {
        let mut table = CountTable::default();
        let sentences: [(&[Key], &[Key], &[u32]); 3] = [
            (&[(0, 1, 1), (3, 3, 0)], &[(0, 1, 1), (3, 4, 0)], &[]),
            (&[], &[], &[]),
            (&[(2, 2, 0)], &[(2, 2, 1)], &[0, 0]),
        ];
        for (predicted, golds, lost) in sentences {
            let set = |keys: &[Key]| keys.iter().copied().collect();
            table.push(&SentenceCounts::new(&set(predicted), &set(golds), lost.iter().copied()));
        }
        table
    }

    fn head(sentences: usize) -> Head {
        Head {
            split: "test".to_owned(),
            threshold: Value::from(0.5),
            labels: vec!["city".to_owned(), "person".to_owned()],
            sentences,
        }
    }

    #[test]
    fn rows_add_up() {
        let table = table();
        let all = table.sum(2, 0..3);
        assert_eq!((all.golds(), all.lost()), (5, 2));
        let mut twice = table.sum(2, [0, 0]);
        table.add_types(&mut twice, 2, 3);
        table.add_schemes(&mut twice, 2, 3);
        let micro = twice.micro(Counting::FullGold);
        assert_eq!((micro.tp, micro.fp, micro.missed), (2, 2 + 3, 2 + 3 + 6));
        assert_eq!(twice.schemes(Counting::Reference).exact.correct, 2 + 3);
    }

    #[test]
    fn lines_come_back_as_they_were() {
        let mut bytes = Vec::new();
        write(&mut bytes, &head(3), &table()).unwrap();
        write(&mut bytes, &head(0), &CountTable::default()).unwrap();
        let back = read(&bytes[..]).unwrap();
        assert_eq!(
            back[0],
            Section {
                head: head(3),
                table: table()
            }
        );
        assert_eq!((back.len(), back[1].table.len()), (2, 0));

        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let damaged = |number: usize, line: &str| {
            let mut lines = lines.clone();
            lines[number] = line;
            read(lines.join("\n").as_bytes()).unwrap_err()
        };
        assert!(damaged(1, "[[1],[]]").starts_with("line 2: "));
        assert!(damaged(3, "{}").starts_with("line 4: "));
        let cut = read(lines[..2].join("\n").as_bytes()).unwrap_err();
        assert_eq!(cut, "it ends after 1 of 3 sentences");
    }

    #[test]
    fn other_sentences_are_told_by_their_golds() {
        let (one, mut other) = (table(), table());
        assert_eq!(one.differs_from(&other), None);
        other.push(&SentenceCounts::default());
        assert_eq!(one.differs_from(&other), Some(3));
        let mut wrong = CountTable::default();
        wrong.push(&SentenceCounts::new(&[(0, 1, 1)].into(), &[(0, 1, 1)].into(), [1]));
        assert_eq!(wrong.differs_from(&one), Some(0));
    }
}
