"""Span logits of a nerpipe checkpoint, with nothing but torch, transformers and safetensors.

    python logits.py CHECKPOINT < asked.json > logits.json

asked.json: {"sentences": [{"ids": [..], "markers": [..], "spans": [[start, end, width], ..]}, ..], "types": [[..], ..]}
    ids      a sentence's subwords as the token encoder reads them, special tokens and prompt included
    markers  where its types' markers stand (cross-encoder; empty otherwise)
    spans    places of each span's first and last subword in ids, and the row of the width embedding
    types    the subwords of each type as the type encoder reads them (bi-encoder; empty otherwise)
logits.json: for each sentence a list of spans, each a list of its logits by type.

This is how a checkpoint can be used without nerpipe; the whole model stands below.
"""

import json
import pathlib
import sys

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file


class Checkpoint:
    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.weights = load_file(self.folder / "model.safetensors")
        self.config = json.loads((self.folder / "config.json").read_text())
        self.token_encoder = self.encoder("token_encoder")
        self.is_bi = self.config["architecture"] == "bi_encoder"
        self.type_encoder = self.encoder("type_encoder") if self.is_bi else None

    def encoder(self, name):
        config = json.loads((self.folder / f"{name}_config.json").read_text())
        config = transformers.AutoConfig.for_model(config.pop("model_type"), **config)
        classes = {"t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel}
        build = classes.get(config.model_type)
        model = build(config) if build else transformers.AutoModel.from_config(config)
        own = {key[len(name) + 1:]: value for key, value in self.weights.items() if key.startswith(f"{name}.")}
        missing, unexpected = model.load_state_dict(own, strict=False)
        # A table that is tied to another has two names; a pooler is not used.
        missing = [key for key in missing if "pooler" not in key and key != "encoder.embed_tokens.weight"]
        if missing or unexpected:
            raise SystemExit(f"{name}: missing {missing}, unexpected {unexpected}")
        return model.eval()

    def mlp(self, name, x):
        w = lambda part: self.weights[f"{name}.{part}"]
        inner = F.relu(x @ w("0.weight").T + w("0.bias"))
        return F.normalize(inner @ w("3.weight").T + w("3.bias"), dim=-1)

    def read(self, encoder, ids):
        return encoder(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).last_hidden_state[0]

    def types(self, rows):
        pooled = []
        for ids in rows:
            hidden = self.read(self.type_encoder, ids)
            pooled.append(hidden[0] if self.config["type_encoder_pooling"] == "cls" else hidden.mean(0))
        return self.mlp("type_linear", torch.stack(pooled))

    def logits(self, sentence, types):
        hidden = self.read(self.token_encoder, sentence["ids"])
        if types is None:
            types = self.mlp("type_linear", hidden[sentence["markers"]])
        starts, ends, widths = torch.tensor(sentence["spans"]).T
        spans = torch.cat([
            self.mlp("token_start_linear", hidden)[starts],
            self.mlp("token_end_linear", hidden)[ends],
            self.weights["width_embedding.weight"][widths],
        ], dim=-1)
        return self.mlp("token_span_linear", spans) @ types.T * self.weights["span_logit_scale"].exp()


@torch.no_grad()
def main():
    checkpoint = Checkpoint(sys.argv[1])
    asked = json.load(sys.stdin)
    types = checkpoint.types(asked["types"]) if checkpoint.is_bi else None
    json.dump([checkpoint.logits(sentence, types).tolist() for sentence in asked["sentences"]], sys.stdout)


if __name__ == "__main__":
    main()
