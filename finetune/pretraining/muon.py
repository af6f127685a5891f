"""Muon for the matrices inside the blocks, AdamW for embeddings and norms, as one optimiser.

    optimiser = MuonAdamW(model, learning_rate=4e-3)

Muon (Jordan et al. 2024, torch.optim.Muon) makes every update of a matrix orthogonal.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch


class Muon(torch.optim.Muon):
    """torch's Muon, orthogonalising in float32 and all matrices of one shape together.

    torch works in bfloat16, matrix by matrix: without hardware for bfloat16 that took as long as the rest of the step.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            alike = defaultdict(list)
            for p in group["params"]:
                if p.grad is None:
                    continue
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p.grad))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                alike[p.shape].append((p, p.grad.lerp(buffer, group["momentum"])))
            for (rows, columns), pairs in alike.items():
                updates = orthogonal(
                    torch.stack([update for _, update in pairs]), group["ns_coefficients"], group["ns_steps"]
                )
                rate = group["lr"] * 0.2 * max(rows, columns) ** 0.5  # match_rms_adamw
                for (p, _), update in zip(pairs, updates, strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)


def orthogonal(matrices: torch.Tensor, coefficients: tuple[float, float, float], steps: int) -> torch.Tensor:
    """The Newton-Schulz iteration of Muon: float32 [N, rows, columns] with singular values near 1."""
    a, b, c = coefficients
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


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
            Muon(inner, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
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
