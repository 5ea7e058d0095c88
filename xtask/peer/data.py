"""Reads a JSONL corpus with Hugging Face `datasets` and tokenizes it in batches, as trainers in Python do.

    python data.py CORPUS.jsonl ENCODER tokens|text CACHE

Prints one JSON object: seconds of the clock and of the processor, without imports and the tokenizer's loading. CACHE is a folder for
the files of `datasets`, which must be new each time.
"""

import json
import sys
import time

import datasets
from transformers import AutoTokenizer


def main(corpus, encoder, view, cache):
    datasets.disable_progress_bars()
    tokenizer = AutoTokenizer.from_pretrained(encoder)
    tokenizer.model_max_length = 10**9

    def encode(batch):
        words = view == "tokens"
        texts = batch["tokens"] if words else batch["text"]
        return tokenizer(
            texts, is_split_into_words=words, add_special_tokens=False, return_offsets_mapping=True
        )

    clock, processor = time.perf_counter(), time.process_time()
    loaded = datasets.load_dataset("json", data_files=corpus, split="train", cache_dir=cache)
    encoded = loaded.map(encode, batched=True)
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(json.dumps({"sentences": len(encoded), "wall": clock, "cpu": processor}))


if __name__ == "__main__":
    main(*sys.argv[1:])
