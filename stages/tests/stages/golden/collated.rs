//! A batch against the collator's tensors, which hold every enumerated span, padding included.

use nerpipe_stages::batch::{Batch, Rows, TypeInput};
use nerpipe_stages::model::EncoderInput;

use super::case::{Meta, Setting};
use super::{Findings, Tensors};

impl Setting<'_> {
    /// The collator's tensors, expanded to those of the reference.
    pub(super) fn check_batch(
        &self,
        batch: &Batch,
        meta: &Meta,
        expected: &Tensors,
        prefix: &str,
        findings: &mut Findings,
    ) {
        padded(&batch.text, expected, &format!("{prefix}token"), findings);
        match &batch.type_input {
            TypeInput::Apart(input) => padded(input, expected, &format!("{prefix}type"), findings),
            TypeInput::Markers(positions) => {
                findings.equal(
                    &format!("{prefix}markers"),
                    &Some(positions.clone()),
                    &meta.label_token_subword_positions,
                );
                let text_start =
                    batch.text.sequences.longest() + batch.text_position as usize - batch.starts.rows.enumerated;
                findings.equal(
                    &format!("{prefix}text start"),
                    &Some(text_start),
                    &meta.text_start_index,
                );
            }
        }

        // With every span listed all sentences have the same rows, and these are the reference's columns.
        let columns = batch.spans.rows.of(0).len();
        let spans: Vec<(u32, u32)> = (0..batch.spans.rows.len()).map(|row| batch.span(row)).collect();
        let same = spans.chunks(columns).all(|chunk| chunk == &spans[..columns]);
        findings.equal(&format!("{prefix}spans are those of every sentence"), &same, &true);
        let pairs = spans[..columns]
            .iter()
            .flat_map(|&(start, end)| [i64::from(start), i64::from(end)])
            .collect();
        let name = format!("{prefix}span_subword_indices");
        findings.equal(&name, &(vec![columns, 2], pairs), expected.integer(&name));
        let widths = batch.spans.width[..columns]
            .iter()
            .map(|&width| i64::from(width))
            .collect();
        let name = format!("{prefix}span_lengths");
        findings.equal(&name, &(vec![columns], widths), expected.integer(&name));
        findings.equal(
            &format!("{prefix}number of spans"),
            &batch.spans.rows.enumerated,
            &columns,
        );

        for (kind, rows, gold_rows) in kinds(batch) {
            let (b, c, n) = (batch.sentences(), batch.types.len(), rows.of(0).len());
            let valid = flags(rows.valid.as_deref().expect("every span is listed"));
            let name = format!("{prefix}valid_{kind}_mask");
            // Evaluation data of contrastive models leave the threshold slot out of the mask.
            if expected.has(&name) {
                let mut valid = valid.clone();
                if self.config.has_threshold_slot() {
                    (0..b).for_each(|sentence| valid[sentence * n] = 0);
                }
                findings.equal(&name, &(vec![b, n], valid), expected.integer(&name));
            }
            let mut labels = vec![0i64; b * c * n];
            for (gold, &row) in batch.golds.iter().zip(&gold_rows) {
                let column = row as usize - rows.of(gold.sentence as usize).start;
                labels[(gold.sentence as usize * c + gold.class as usize) * n + column] = 1;
            }
            let name = format!("{prefix}{kind}_labels");
            if expected.has(&name) {
                findings.equal(&name, &(vec![b, c, n], labels.clone()), expected.integer(&name));
            }
            let name = format!("{prefix}{kind}_negative_mask");
            if !expected.has(&name) {
                continue;
            }
            let mut negative = Vec::with_capacity(labels.len());
            for row in 0..b * c {
                for column in 0..n {
                    let open = valid[row / c * n + column] == 1 && labels[row * n + column] == 0;
                    negative.push(i64::from(open || column == 0));
                }
            }
            // One row a gold: its sentence's and type's negatives and itself.
            let mut entity_rows: Vec<Vec<i64>> = batch
                .golds
                .iter()
                .zip(&gold_rows)
                .map(|(gold, &row)| {
                    let (sentence, class) = (gold.sentence as usize, gold.class as usize);
                    let column = row as usize - rows.of(sentence).start;
                    let mut entity = negative[(sentence * c + class) * n..][..n].to_vec();
                    entity[column] = 1;
                    entity.extend([sentence as i64, class as i64, column as i64]);
                    entity
                })
                .collect();
            findings.equal(&name, &(vec![b, c, n], negative), expected.integer(&name));
            let indices = meta.ner_indices.as_ref().expect("golds of a contrastive case");
            let goal = &indices[match kind {
                "start" => 2,
                "end" => 3,
                _ => 4,
            }];
            let name = format!("{prefix}ner_{kind}_mask");
            let mut expected_rows: Vec<Vec<i64>> = expected
                .integer(&name)
                .1
                .chunks(n)
                .enumerate()
                .map(|(e, mask)| {
                    let mut row = mask.to_vec();
                    row.extend([indices[0][e], indices[1][e], goal[e]].map(i64::from));
                    row
                })
                .collect();
            entity_rows.sort();
            expected_rows.sort();
            findings.equal(&name, &entity_rows, &expected_rows);
        }
    }
}

/// An encoder input against ids and mask of the reference, which fills every row up to the longest.
fn padded(input: &EncoderInput, expected: &Tensors, prefix: &str, findings: &mut Findings) {
    let (rows, length) = (input.sequences.len(), input.sequences.longest());
    let (mut ids, mut mask) = (vec![0i64; rows * length], vec![0i64; rows * length]);
    for row in 0..rows {
        let (tokens, keys) = (input.sequences.of(row), input.sequences.keys(row));
        mask[row * length..row * length + keys.len()].fill(1);
        for (place, &id) in input.ids[tokens].iter().enumerate() {
            ids[row * length + place] = i64::from(id);
        }
    }
    for (name, values) in [("input_ids", ids), ("attention_mask", mask)] {
        let name = format!("{prefix}.{name}");
        findings.equal(&name, &(vec![rows, length], values), expected.integer(&name));
    }
}

fn flags(flags: &[bool]) -> Vec<i64> {
    flags.iter().map(|&flag| i64::from(flag)).collect()
}

/// Name, rows and the golds' rows of starts, ends and spans.
fn kinds(batch: &Batch) -> [(&'static str, &Rows, Vec<u32>); 3] {
    [
        (
            "start",
            &batch.starts.rows,
            batch.golds.iter().map(|gold| gold.start).collect(),
        ),
        (
            "end",
            &batch.ends.rows,
            batch.golds.iter().map(|gold| gold.end).collect(),
        ),
        (
            "span",
            &batch.spans.rows,
            batch.golds.iter().map(|gold| gold.span).collect(),
        ),
    ]
}
