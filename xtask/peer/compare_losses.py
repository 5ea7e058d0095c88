#!/usr/bin/env python3
"""Replays a training of nerpipe in PyTorch, from the same weights and with the same batches, and compares the losses.

  python compare_losses.py --peer torch_peer.py --encoder DIR --train train.jsonl --initial CHECKPOINT --trained CHECKPOINT

`--peer` is a PyTorch program of the four systems with `Config`, `build`, `FastCollator`, `make_optimizer` and `set_rate`;
`--initial` a checkpoint of the same manifest with `max_steps: 0`, `--trained` one with N steps, whose training_log.jsonl says
which sentences and types each batch had.  Exit status 1 if a loss is off by more than --tolerance (relative).
"""
import argparse, importlib.util, json, sys
from pathlib import Path

import torch
from safetensors.torch import load_file


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("peer", "encoder", "train", "initial", "trained"):
        ap.add_argument(f"--{flag}", required=True)
    ap.add_argument("--tolerance", type=float, default=1e-3)
    args = ap.parse_args()
    spec = importlib.util.spec_from_file_location("torch_peer", args.peer)
    peer = importlib.util.module_from_spec(spec)
    sys.modules["torch_peer"] = peer
    spec.loader.exec_module(peer)

    own = json.loads((Path(args.trained) / "config.json").read_text())
    training = own["training"]
    cfg = peer.Config(
        "cross" if own["architecture"] == "cross_encoder" else "bi", own["loss_fn"],
        own["prediction_threshold"] if own["loss_fn"] == "contrastive" else "cls",
        own["max_span_length"], own["max_seq_length"], own["linear_hidden_size"], own["span_width_embedding_size"], 0.0,
        own["init_temperature"])
    tok, model = peer.build(cfg, args.encoder, args.encoder)
    weights, shapes = load_file(str(Path(args.initial) / "model.safetensors")), model.state_dict()
    weights = {k: v.float()[tuple(slice(n) for n in shapes[k].shape)] for k, v in weights.items() if k in shapes}
    missing = set(shapes) - set(weights)
    assert all("pooler" in name or "position_ids" in name for name in missing), sorted(missing)
    model.load_state_dict(weights, strict=False)
    model.eval()  # dropout off, gradients on
    samples = peer.read_jsonl(args.train)
    collate = peer.FastCollator(tok, cfg, samples)
    steps = [json.loads(line) for line in (Path(args.trained) / "training_log.jsonl").read_text().splitlines()]
    steps = [step for step in steps if "loss" in step]
    opt, worst = peer.make_optimizer(model, training["learning_rate"]), 0.0
    for k, step in enumerate(steps):
        _, loss = model(collate(step["sentences"], step["types"]))
        peer.set_rate(opt, k, training["max_steps"], training["warmup_steps"])
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        opt.step()
        gap = abs(loss.item() - step["loss"]) / max(abs(loss.item()), 1e-12)
        worst = max(worst, gap)
        print(f"step {k}: here {loss.item():.6f}, nerpipe {step['loss']:.6f}, off by {gap:.1e}")
    print(f"{len(steps)} steps, largest relative difference {worst:.1e}")
    sys.exit(0 if steps and worst <= args.tolerance else 1)


if __name__ == "__main__":
    main()
