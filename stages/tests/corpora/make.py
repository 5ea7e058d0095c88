"""Makes the saved datasets and Parquet files beside it, from records.jsonl.

    python make.py

Needs `datasets` (5.2.0) and `pyarrow` (26.0.1). All of them hold the records of records.jsonl, unless their name says otherwise:
dict: a DatasetDict with train (two shards), dev and an empty test. legacy: spans as a struct of lists. large: large strings
and lists, 32-bit positions, one column more. classes: tokens and class numbers. tags: tokens and tags as words.
records.parquet (Snappy), records.zstd.parquet.
"""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset, DatasetDict, Features, List, Value

HERE = Path(__file__).parent
RECORDS = [json.loads(line) for line in (HERE / "records.jsonl").open(encoding="utf-8")]


def folder(name):
    path = HERE / name
    shutil.rmtree(path, ignore_errors=True)
    return path


def tags(record):
    tags = ["O"] * len(record["tokens"])
    for span in record["token_spans"]:
        for place in range(span["start"], span["end"]):
            tags[place] = ("B-" if place == span["start"] else "I-") + span["label"]
    return tags


def main():
    whole = Dataset.from_list(RECORDS)
    splits = DatasetDict({"train": whole, "dev": whole.select([1, 0]), "test": whole.select([])})
    splits.save_to_disk(folder("dict"), num_shards={"train": 2, "dev": 1, "test": 1})

    tagged = [{"id": r["id"], "tokens": r["tokens"], "ner_tags": tags(r)} for r in RECORDS]
    Dataset.from_list(tagged).save_to_disk(folder("tags"))
    names = ["O"] + sorted({tag for row in tagged for tag in row["ner_tags"]} - {"O"})
    numbers = [{**row, "ner_tags": [names.index(tag) for tag in row["ner_tags"]]} for row in tagged]
    features = Features(
        {"id": Value("string"), "tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))}
    )
    Dataset.from_list(numbers, features=features).save_to_disk(folder("classes"))

    # What `datasets` of today does not write any more, or only from tables of other programs.
    write("large", large())
    write("legacy", legacy())
    pq.write_table(whole.data.table.combine_chunks(), HERE / "records.parquet", compression="snappy")
    pq.write_table(large(), HERE / "records.zstd.parquet", compression="zstd")


def large():
    span = pa.struct([("start", pa.int32()), ("end", pa.uint16()), ("label", pa.large_string())])
    schema = pa.schema(
        [
            ("note", pa.timestamp("us")),
            ("text", pa.large_string()),
            ("id", pa.large_string()),
            ("tokens", pa.large_list(pa.large_string())),
            ("char_spans", pa.large_list(span)),
        ]
    )
    return pa.Table.from_pylist([{**record, "note": None} for record in RECORDS], schema=schema)


def legacy():
    def lists(spans):
        return {key: [span[key] for span in spans] for key in ("start", "end", "label")}

    rows = [{**r, "token_spans": lists(r["token_spans"]), "char_spans": lists(r["char_spans"])} for r in RECORDS]
    spans = pa.struct(
        [("start", pa.list_(pa.int64())), ("end", pa.list_(pa.int64())), ("label", pa.list_(pa.string()))]
    )
    strings = pa.list_(pa.string())
    schema = pa.schema(
        [("id", pa.string()), ("text", pa.string()), ("tokens", strings), ("token_spans", spans), ("char_spans", spans)]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def write(name, table):
    path = folder(name)
    path.mkdir()
    with pa.ipc.new_stream(path / "data-00000-of-00001.arrow", table.schema) as writer:
        # A batch whose offsets do not begin at 0, as slices of other tables have it.
        writer.write_batch(table.to_batches()[0].slice(0, 1))
        writer.write_batch(table.to_batches()[0].slice(1))
    files = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
    (path / "state.json").write_text(json.dumps(files, indent=2))
    (path / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=2))


if __name__ == "__main__":
    main()
