#!/usr/bin/env python3
"""Writes cases.json beside this file: random golds and predictions, and what other programs count on them.

    python stages/tests/metrics_data/generate.py

It needs seqeval 1.2.2 (exact micro, macro and per type), nervaluate 1.2.1 (the schemes of SemEval-2013) and scipy (the
bootstrap and the permutation test). `stages/tests/stages/metrics.rs` reads the file and holds our figures against it.

- `flat`: 100 cases whose golds and predictions do not overlap, so that both seqeval and nervaluate can count them.
- `nested`: 40 cases with overlapping and nested spans, counted by nervaluate alone.
- `sure`: sentences of two systems with scipy's percentile intervals of F1 and its p-value of their difference. Both come
  from random draws, so ours can only be near.

Spans are [start, end inclusive, type], sorted, and none is there twice. nervaluate's lists are correct, incorrect, partial,
missed, spurious, and for all types together precision, recall and F1.
"""

import json
import random
import warnings
from pathlib import Path

import numpy
import scipy.stats
from nervaluate.evaluator import Evaluator
from seqeval.metrics.v1 import classification_report
from seqeval.scheme import IOB2

TYPES = ["city", "date", "drug", "person", "river"]
RESAMPLES = 20_000


def flat(spans):
    """Those of `spans`, in order, that overlap none before them."""
    kept = []
    for span in spans:
        if all(span[1] < other[0] or other[1] < span[0] for other in kept):
            kept.append(span)
    return kept


def draw_span(rng, length, types):
    start = rng.randrange(length)
    return (start, min(length - 1, start + rng.choice([0, 0, 0, 1, 1, 2, 4])), rng.choice(types))


def draw_sentence(rng, types, overlapping):
    """Golds, and predictions that are the golds with some moved, renamed, dropped or made up."""
    length = rng.randint(1, 24)
    golds = [draw_span(rng, length, types) for _ in range(rng.choice([0, 1, 2, 3, 5]))]
    predicted = []
    for start, end, label in golds:
        what = rng.random()
        if what < 0.15:
            continue
        if what < 0.35:
            start, end = sorted(min(length - 1, max(0, bound + rng.choice([-1, 0, 1]))) for bound in (start, end))
        if 0.3 < what < 0.5:
            label = rng.choice(types)
        predicted.append((start, end, label))
    predicted += [draw_span(rng, length, types) for _ in range(rng.choice([0, 0, 1, 2]))]
    rng.shuffle(predicted)
    if not overlapping:
        golds, predicted = flat(golds), flat(predicted)
    return {"length": length, "golds": sorted(set(golds)), "predicted": sorted(set(predicted))}


def tags(sentence, key):
    """The spans as IOB2 tags."""
    words = ["O"] * sentence["length"]
    for start, end, label in sentence[key]:
        words[start : end + 1] = [f"I-{label}"] * (end - start + 1)
        words[start] = f"B-{label}"
    return words


def by_seqeval(sentences):
    golds, predicted = ([tags(sentence, key) for sentence in sentences] for key in ("golds", "predicted"))
    report = classification_report(golds, predicted, output_dict=True, scheme=IOB2, zero_division=0)
    figures = lambda row: {
        "precision": float(row["precision"]),
        "recall": float(row["recall"]),
        "f1": float(row["f1-score"]),
        "golds": int(row["support"]),
    }
    rows = {name: figures(row) for name, row in report.items()}
    rows.pop("weighted avg")
    return {"micro": rows.pop("micro avg"), "macro": rows.pop("macro avg"), "per_class": rows}


def by_nervaluate(sentences):
    spans = lambda key: [
        [{"start": start, "end": end, "label": label} for start, end, label in sentence[key]] for sentence in sentences
    ]
    found = Evaluator(spans("golds"), spans("predicted"), tags=TYPES, loader="dict").evaluate()
    names = {"strict": "strict", "exact": "exact", "partial": "partial", "ent_type": "type"}
    counts = ["correct", "incorrect", "partial", "missed", "spurious"]
    figures = lambda by_strategy, keys: {
        names[strategy]: [getattr(result, key) for key in keys] for strategy, result in by_strategy.items()
    }
    return {
        "all": figures(found["overall"], counts + ["precision", "recall", "f1"]),
        "per_class": {label: figures(found["entities"][label], counts) for label in sorted(found["entities"])},
    }


def draw_case(rng, overlapping):
    types = TYPES[: rng.randint(1, len(TYPES))]
    while True:
        sentences = [draw_sentence(rng, types, overlapping) for _ in range(rng.randint(1, 8))]
        # Neither program counts a case without any gold or any prediction.
        if all(any(sentence[key] for sentence in sentences) for key in ("golds", "predicted")):
            break
    case = {"sentences": sentences, "nervaluate": by_nervaluate(sentences)}
    if not overlapping:
        case["seqeval"] = by_seqeval(sentences)
    return case


def draw_sure(rng, seed):
    """Two systems on the same sentences. The statistic is the micro F1 of the sentences that scipy draws or swaps."""
    pairs = []
    for _ in range(rng.choice([60, 120, 200])):
        one = draw_sentence(rng, TYPES, False)
        other = draw_sentence(rng, TYPES, False)
        # The second system: mostly what the first says, sometimes the gold, sometimes something else.
        predicted = rng.choice([one["predicted"], one["predicted"], one["golds"], flat(other["predicted"])])
        inside = [span for span in predicted if span[1] < one["length"]]
        pairs.append({"golds": one["golds"], "first": one["predicted"], "second": inside})

    def counts(key):
        rows = []
        for pair in pairs:
            golds, predicted = set(pair["golds"]), set(pair[key])
            rows.append([len(golds & predicted), len(predicted), len(golds)])
        return rows

    table = numpy.array(counts("first") + counts("second"))

    def f1(rows):
        sums = table[rows].sum(axis=-2)
        total = sums[..., 1] + sums[..., 2]
        return numpy.where(total == 0, 0.0, 2 * sums[..., 0] / numpy.maximum(total, 1))

    first = numpy.arange(len(pairs))
    second = first + len(pairs)
    options = {"n_resamples": RESAMPLES, "vectorized": True, "axis": -1, "random_state": seed}
    interval = lambda statistic, data: [
        float(end)
        for end in scipy.stats.bootstrap(data, statistic, paired=True, method="percentile", **options).confidence_interval
    ]
    rows = lambda statistic: lambda *data, axis=-1: statistic(*(part.astype(int) for part in data))
    difference = rows(lambda a, b: f1(b) - f1(a))
    swapped = scipy.stats.permutation_test((first, second), difference, permutation_type="samples", **options)
    return {
        "pairs": pairs,
        "first": {"f1": float(f1(first)), "interval": interval(rows(f1), (first,))},
        "second": {"f1": float(f1(second)), "interval": interval(rows(f1), (second,))},
        "difference": {
            "f1": float(f1(second) - f1(first)),
            "interval": interval(difference, (first, second)),
            "p": float(swapped.pvalue),
        },
    }


def main():
    warnings.simplefilter("ignore")
    rng = random.Random(20261124)
    cases = {
        "flat": [draw_case(rng, False) for _ in range(100)],
        "nested": [draw_case(rng, True) for _ in range(40)],
        "sure": [draw_sure(rng, seed) for seed in range(8)],
    }
    lines = [
        f"{json.dumps(name)}: [\n" + ",\n".join(json.dumps(case, separators=(",", ":")) for case in group) + "\n]"
        for name, group in cases.items()
    ]
    Path(__file__).with_name("cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
