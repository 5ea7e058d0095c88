//! Single sentences that are hard to collate.

use nerpipe_stages::batch::Collator;
use nerpipe_stages::tokens::Sentence;
use serde::Deserialize;
use serde_json::json;

use super::{Findings, Golden, Sample, arrangement, conclude, parity, recognizer_config};

#[derive(Deserialize)]
struct Edges {
    max_span_length: usize,
    max_seq_length: usize,
    cases: Vec<Edge>,
}

#[derive(Deserialize)]
struct Edge {
    name: String,
    sample: Sample,
    types: Vec<String>,
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    arch: String,
    format: String,
    loss_masking: String,
    variant: String,
    outcome: String,
    #[serde(default)]
    tokens: Vec<String>,
    #[serde(default)]
    input_ids: Vec<u32>,
    text_start_index: Option<usize>,
    #[serde(default)]
    positives: Vec<(u32, u32, u32)>,
    start_mask: Option<Vec<u8>>,
    end_mask: Option<Vec<u8>>,
    valid_spans: Option<Vec<(u32, u32)>>,
    valid_spans_count: Option<usize>,
    negatives_any_type: Option<usize>,
    start_negative_mask: Option<Vec<Vec<u8>>>,
    end_negative_mask: Option<Vec<Vec<u8>>>,
}

#[test]
fn golden_edge_cases() {
    let golden = Golden::open();
    let edges: Edges = golden.json("edge_cases.json");
    let (mut ran, mut problems) = (0, Vec::new());
    for edge in &edges.cases {
        let mut findings = Findings::default();
        for outcome in &edge.results {
            check(&golden, &edges, edge, outcome, &mut findings);
            ran += 1;
        }
        findings.finish(&edge.name, &mut problems);
    }
    conclude("edge cases", ran, &problems);
}

fn check(golden: &Golden, edges: &Edges, edge: &Edge, outcome: &Outcome, findings: &mut Findings) {
    let contrastive = outcome.arch.contains("contrastive");
    let marker = outcome.tokens.get(1).is_none_or(|token| token == "[SPAN_THRESHOLD]");
    let threshold = match (contrastive, marker) {
        (false, _) => json!(0.5),
        (true, true) => json!("label_token"),
        (true, false) => json!("cls"),
    };
    let keys = json!({
        "max_span_length": edges.max_span_length,
        "loss_fn": if contrastive { "contrastive" } else { "bce" },
        "prediction_threshold": threshold,
    });
    let window = edges.max_seq_length;
    let config = recognizer_config(
        &keys,
        arrangement(&outcome.arch, &outcome.format, &outcome.loss_masking, window),
    );
    let special = *golden.tokenizer("encoder").special();
    let collator =
        Collator::new(config.clone(), special, golden.type_reader(&config)).with_parity(parity(&outcome.variant));
    let split = golden.split(std::slice::from_ref(&edge.sample), config.annotation_format);
    let index = |name: &String| split.labels().index(name).expect("a type of the sample");
    let types: Vec<u32> = edge.types.iter().map(index).collect();
    let sentences: Vec<Sentence<'_>> = split.sentences().collect();
    let passes = collator.passes(&types, &split.labels().ids, 0);
    let collated = collator.collate(&passes, &sentences);
    let batch = &collated.batches[0];
    let what = |field: &str| {
        format!(
            "{} {} {} {}: {field}",
            outcome.arch, outcome.format, outcome.loss_masking, outcome.variant
        )
    };

    if outcome.outcome != "ok" {
        // The reference drops the batch or fails where no gold is left; a batch without golds is nothing special here.
        findings.equal(&what("golds"), &batch.golds.len(), &0);
        return;
    }
    let text_start = outcome.text_start_index.unwrap_or(1);
    let text = &outcome.tokens[text_start..outcome.tokens.len() - 1];
    if text
        .iter()
        .any(|token| ["[LABEL]", "[SEP]", "[CLS]", "[PAD]", "[MASK]", "[SPAN_THRESHOLD]"].contains(&token.as_str()))
    {
        // Defect 8: the reference takes words of the text for special tokens. Ours stay text, and the gold is found.
        let special_ids = [special.cls.expect("[CLS]"), special.sep, special.pad];
        let ours = &batch.text.ids[text_start..batch.text.ids.len() - 1];
        findings.equal(
            &what("text without special tokens"),
            &ours.iter().any(|id| special_ids.contains(id)),
            &false,
        );
        findings.equal(&what("golds"), &batch.golds.len(), &outcome.positives.len());
        return;
    }
    findings.equal(&what("input_ids"), &batch.text.ids, &outcome.input_ids);

    let mut positives: Vec<(u32, u32, u32)> = batch
        .golds
        .iter()
        .map(|gold| {
            let (start, end) = batch.span(gold.span as usize);
            (gold.class, start, end)
        })
        .collect();
    let mut expected = outcome.positives.clone();
    positives.sort_unstable();
    expected.sort_unstable();
    findings.equal(&what("positives"), &positives, &expected);

    let valid: Vec<usize> = (0..batch.spans.rows.len())
        .filter(|&row| batch.spans.rows.is_valid(row))
        .collect();
    if let Some(spans) = &outcome.valid_spans {
        findings.equal(
            &what("valid_spans"),
            &valid.iter().map(|&row| batch.span(row)).collect::<Vec<_>>(),
            spans,
        );
    }
    if let Some(count) = outcome.valid_spans_count {
        findings.equal(&what("valid_spans_count"), &valid.len(), &count);
    }
    if let Some(count) = outcome.negatives_any_type {
        let is_gold = |row: usize, class: u32| {
            batch
                .golds
                .iter()
                .any(|gold| gold.span as usize == row && gold.class == class)
        };
        let negative = |row: usize| (0..types.len() as u32).any(|class| !is_gold(row, class));
        // The threshold slot is no candidate here.
        let got = valid
            .iter()
            .filter(|&&row| batch.span(row) != (0, 0) && negative(row))
            .count();
        findings.equal(&what("negatives_any_type"), &got, &count);
    }
    let golds = |start: bool| -> Vec<(u32, u32)> {
        let row = |gold: &nerpipe_stages::batch::GoldRow| if start { gold.start } else { gold.end };
        batch.golds.iter().map(|gold| (row(gold), gold.class)).collect()
    };
    for (field, positions, golds, plain, negative) in [
        (
            "start",
            &batch.starts,
            golds(true),
            &outcome.start_mask,
            &outcome.start_negative_mask,
        ),
        (
            "end",
            &batch.ends,
            golds(false),
            &outcome.end_mask,
            &outcome.end_negative_mask,
        ),
    ] {
        let rows = positions.rows.len();
        let open: Vec<u8> = (0..rows).map(|row| u8::from(positions.rows.is_valid(row))).collect();
        if let Some(mask) = plain {
            findings.equal(&what(field), &open, mask);
        }
        if let Some(masks) = negative {
            let got: Vec<Vec<u8>> = (0..types.len() as u32)
                .map(|class| {
                    let mut row = open.clone();
                    for &(gold, _) in golds.iter().filter(|&&(_, other)| other == class) {
                        row[gold as usize] = 0;
                    }
                    row
                })
                .collect();
            findings.equal(&what(&format!("{field}_negative_mask")), &got, masks);
        }
    }
}
