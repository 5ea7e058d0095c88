"""Writes the fixtures beside this file: what transformers computes for small encoders with random weights.

    python make.py            # needs torch, transformers, safetensors

Each NAME.safetensors holds, for one encoder:

    metadata "config"   its config.json
    weights.*           its state dict (f32); every tensor random, biases and norms included
    ids                 [B, L] i32, filled up with the padding token; lengths [B] i32 says how many are real
    hidden              [B, L, H] the last hidden states, computed with the padding masked
    direction           [B, L, H] random, 0 at padding; the loss is the sum of hidden * direction
    grads.*             the loss's gradient with respect to each weight that has one
"""

import json
import pathlib
import sys

import torch
import transformers
from safetensors.torch import save_file

HERE = pathlib.Path(__file__).parent
LENGTHS = [13, 5, 9]

BERT_LIKE = dict(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
    max_position_embeddings=20, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)

CASES = {
    "bert": ("bert", BERT_LIKE),
    "bert_relu": ("bert", BERT_LIKE | dict(hidden_act="relu", num_hidden_layers=1)),
    "roberta": ("roberta", BERT_LIKE | dict(type_vocab_size=1, pad_token_id=1)),
    "xlm_roberta": ("xlm-roberta", BERT_LIKE | dict(type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5)),
    "distilbert": ("distilbert", dict(
        vocab_size=40, dim=16, n_layers=2, n_heads=2, hidden_dim=24, max_position_embeddings=20, dropout=0.0,
        attention_dropout=0.0)),
    "electra": ("electra", BERT_LIKE | dict(embedding_size=12)),
    "electra_even": ("electra", BERT_LIKE | dict(embedding_size=16, num_hidden_layers=1)),
    "rembert": ("rembert", BERT_LIKE | dict(input_embedding_size=12)),
    # As DeBERTa-v3 and mDeBERTa: buckets, shared keys, no absolute positions.
    "deberta_v3": ("deberta-v2", BERT_LIKE | dict(
        type_vocab_size=0, relative_attention=True, position_buckets=4, max_relative_positions=-1, share_att_key=True,
        norm_rel_ebd="layer_norm", pos_att_type="p2c|c2p", position_biased_input=False, layer_norm_eps=1e-7)),
    # As DeBERTa-v2 (xlarge): a convolution beside the first layer, keys of their own, narrower embeddings, absolute positions.
    "deberta_v2": ("deberta-v2", BERT_LIKE | dict(
        type_vocab_size=2, relative_attention=True, position_buckets=-1, max_relative_positions=6, share_att_key=False,
        norm_rel_ebd="none", pos_att_type=["c2p", "p2c"], position_biased_input=True, embedding_size=12,
        conv_kernel_size=3, conv_act="gelu", layer_norm_eps=1e-7)),
    "deberta_c2p": ("deberta-v2", BERT_LIKE | dict(
        type_vocab_size=0, relative_attention=True, position_buckets=3, share_att_key=True, norm_rel_ebd="layer_norm",
        pos_att_type=["c2p"], position_biased_input=False, num_hidden_layers=1)),
    "deberta_absolute": ("deberta-v2", BERT_LIKE | dict(relative_attention=False, num_hidden_layers=1)),
    "modernbert": ("modernbert", dict(
        vocab_size=40, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=20, local_attention=4, global_attn_every_n_layers=3, global_rope_theta=160000.0,
        local_rope_theta=100.0, attention_dropout=0.0, embedding_dropout=0.0, mlp_dropout=0.0, pad_token_id=0,
        cls_token_id=1, sep_token_id=2, bos_token_id=1, eos_token_id=2)),
    "modernbert_biases": ("modernbert", dict(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        max_position_embeddings=20, local_attention=6, global_attn_every_n_layers=2, norm_bias=True,
        attention_bias=True, mlp_bias=True, pad_token_id=0, cls_token_id=1, sep_token_id=2, bos_token_id=1,
        eos_token_id=2)),
    "t5": ("t5", dict(
        vocab_size=40, d_model=16, d_kv=6, d_ff=24, num_layers=2, num_heads=2, relative_attention_num_buckets=8,
        relative_attention_max_distance=10, dropout_rate=0.0, feed_forward_proj="relu")),
    "mt5": ("mt5", dict(
        vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, relative_attention_num_buckets=8,
        relative_attention_max_distance=10, dropout_rate=0.0, feed_forward_proj="gated-gelu")),
}


def build(model_type, settings):
    config = transformers.AutoConfig.for_model(model_type, **settings)
    config._attn_implementation = "eager"
    classes = {"t5": transformers.T5EncoderModel, "mt5": transformers.MT5EncoderModel}
    if model_type in classes:
        return classes[model_type](config)
    arguments = {"add_pooling_layer": False} if model_type in ("bert", "roberta", "xlm-roberta", "rembert") else {}
    return transformers.AutoModel.from_config(config, **arguments)


def make(name):
    model_type, settings = CASES[name]
    torch.manual_seed(sum(map(ord, name)))
    model = build(model_type, settings).train()
    with torch.no_grad():
        for key, weight in model.named_parameters():
            centre = 1.0 if weight.dim() == 1 and key.endswith("weight") else 0.0
            weight.copy_(centre + 0.2 * torch.randn_like(weight))
    pad = model.config.pad_token_id or 0
    ids = torch.full((len(LENGTHS), max(LENGTHS)), pad, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(3, settings["vocab_size"], (length,))
        mask[row, :length] = 1
    hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
    direction = torch.randn_like(hidden) * mask.unsqueeze(-1)
    (hidden * direction).sum().backward()
    tensors = {"ids": ids.int(), "lengths": torch.tensor(LENGTHS, dtype=torch.int32), "hidden": hidden.detach(),
               "direction": direction}
    for key, weight in model.named_parameters():
        tensors[f"weights.{key}"] = weight.detach()
        if weight.grad is not None:
            tensors[f"grads.{key}"] = weight.grad
    config = {key: value for key, value in model.config.to_dict().items() if key not in ("transformers_version",)}
    save_file({key: value.contiguous() for key, value in tensors.items()}, HERE / f"{name}.safetensors",
              metadata={"config": json.dumps(config)})


if __name__ == "__main__":
    print("transformers", transformers.__version__, "torch", torch.__version__)
    for name in sys.argv[1:] or CASES:
        make(name)
        print(name, (HERE / f"{name}.safetensors").stat().st_size)
