"""Writes the files beside it, which the tests of `tensors` read. Needs torch; any version will do.

    python make.py
"""

import json
import pathlib

import torch

here = pathlib.Path(__file__).parent
grid = torch.arange(12, dtype=torch.float32).reshape(3, 4)
state = {
    "float": grid,
    "half": torch.tensor([0.5, -3.0], dtype=torch.float16),
    "bfloat": torch.tensor([[1.5], [-0.25]], dtype=torch.bfloat16),
    "double": torch.tensor([0.1], dtype=torch.float64),
    "scalar": torch.tensor(2.5),
    "turned": grid.t(),
    "cut": grid[1:, 1:3],
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "empty": torch.zeros(0, 3),
    "ids": torch.arange(3),
}
expected = {name: {"shape": list(value.shape), "data": value.float().flatten().tolist()} for name, value in state.items()}
(here / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
torch.save(state, here / "zip.pt")
torch.save(state, here / "old.pt", _use_new_zipfile_serialization=False)
torch.save({"epoch": 3, "model_state_dict": state}, here / "nested.pt")
torch.save({"model": torch.nn.Linear(1, 1)}, here / "module.pt")
