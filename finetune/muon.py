"""Muon for the matrices inside the blocks, AdamW for embeddings and norms, as one optimiser.

    optimiser = MuonAdamW(model, learning_rate=4e-3)

Muon (Jordan et al. 2024, torch.optim.Muon) makes every update of a matrix orthogonal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class MuonAdamW(torch.optim.Optimizer):
    """Two optimisers that share one learning-rate schedule and one state."""

    def __init__(self, model: torch.nn.Module, learning_rate: float, weight_decay: float = 0.05) -> None:
        embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
        trained = [p for p in model.parameters() if p.requires_grad]
        inner = [p for p in trained if p.dim() == 2 and id(p) not in embeddings]
        chosen = {id(p) for p in inner}
        outer = [p for p in trained if id(p) not in chosen]
        super().__init__(trained, {"lr": learning_rate})
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            # With adjust_lr_fn="match_rms_adamw" one learning rate suits both.
            torch.optim.Muon(inner, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(outer, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule that changes our groups changes theirs."""
        self.param_groups = [group for part in self._parts for group in part.param_groups]

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()
