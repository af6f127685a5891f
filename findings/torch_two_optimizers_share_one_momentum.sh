#!/usr/bin/env bash
# Guess: tomorrow.load_state_dict(tonight.state_dict()) copies, as load_state_dict of a module does: a ranker can be trained on for two shops
#   from one point, each with its own optimizer.
# Happens: both keep the same tensors. Each step of one moves the moments of the other and counts as its step: after five steps each Adam
#   of both says 15, and weights are neither of those that two runs apart give. A state kept in a variable goes on with the training, so that
#   going back to it goes back to weights of then with moments of now. No warning.
# Source: torch 2.13.0, torch.optim.Optimizer.load_state_dict (value.to(dtype, device) is the tensor itself where both fit; its page says
#   nothing, its comment "shallow copy, to be consistent with module API"); pytorch #196083. copy.deepcopy(optimizer.state_dict()), or a file.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.2.6
OMP_NUM_THREADS=1 "$folder/venv/bin/python" -W error - <<'PYTHON'
import copy

import torch

print("torch", torch.__version__)
torch.manual_seed(0)
features = torch.randn(64, 4)
clicks = features.sum(1, keepdim=True)


def trained(model, optimizer, sign, steps=5):
    for _ in range(steps):
        optimizer.zero_grad()
        ((model(features) - sign * clicks) ** 2).mean().backward()
        optimizer.step()


def made(kind, state=None, weights=None):
    torch.manual_seed(1)
    model = torch.nn.Linear(4, 1)
    optimizer = kind(model.parameters())
    if weights is not None:
        model.load_state_dict(weights)
        optimizer.load_state_dict(state)
    return model, optimizer


kinds = {
    "AdamW": lambda weights: torch.optim.AdamW(weights, lr=0.01),
    "SGD with momentum": lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9),
}
for name, kind in kinds.items():
    found = {}
    for copied in (False, True):
        model, optimizer = made(kind)
        trained(model, optimizer, 1)
        state = optimizer.state_dict()
        other, others = made(kind, copy.deepcopy(state) if copied else state, model.state_dict())
        for _ in range(5):
            trained(model, optimizer, 1, steps=1)
            trained(other, others, -1, steps=1)
        found[copied] = model.weight.detach().clone()
        steps = float(others.state[other.weight].get("step", 0))
        print(f"{name}, {'a deep copy' if copied else 'state_dict()'}: {found[copied].tolist()}, steps counted: {steps:.0f}")
        shared = any(
            one is two for one, two in zip(optimizer.state[model.weight].values(), others.state[other.weight].values(), strict=True)
        )
        assert shared is not copied
        if name == "AdamW":
            assert steps == (10 if copied else 15)
    alone, optimizer = made(kind)
    trained(alone, optimizer, 1, steps=10)
    assert torch.equal(alone.weight, found[True])
    assert (alone.weight - found[False]).abs().max() > 0.01
# The weights are copied by a module's load_state_dict.
one, two = torch.nn.Linear(4, 1), torch.nn.Linear(4, 1)
two.load_state_dict(one.state_dict())
assert one.weight.data_ptr() != two.weight.data_ptr()
PYTHON
