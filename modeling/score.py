"""The score of a candidate: logit(yes) − logit(no) at its last token, in float32.

    attach_head(model, yes_id, no_id)
    scores = score(model, batch)       # float32 [N]

The vocabulary head is replaced by its two rows for the label words, and only score positions meet it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import reshelf.modeling.attention  # noqa: F401  (registers the attention function)
from reshelf.errors import InputError
from reshelf.modeling.last_layer import prune_last_layer
from reshelf.modeling.packing import PackedBatch


class LabelHead(torch.nn.Module):
    """The rows of a vocabulary head for the positive and the negative label word; float32, not trained."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.detach().float().clone(), persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., D] of any float type to float32 [..., 2]."""
        return F.linear(hidden.float(), self.weight)


def attach_head(model: Any, positive_id: int, negative_id: int) -> None:
    """Replace the model's vocabulary head by a `LabelHead`, once, and let its last layer work for score positions only.

    Raises:
        InputError: the head has a bias, which the classifiers of serving engines have no place for.
    """
    head = model.get_output_embeddings()
    if isinstance(head, LabelHead):
        return
    if getattr(head, "bias", None) is not None:
        raise InputError(f"the vocabulary head of {type(model).__name__} has a bias; choose a model without one")
    model.set_output_embeddings(LabelHead(head.weight[[positive_id, negative_id]]))
    prune_last_layer(model)


def logits_at(model: Any, batch: PackedBatch, rows: torch.Tensor) -> torch.Tensor:
    """The head's outputs [R, head rows] at the tokens `rows` (int64 [R]) of a packed row; no other token meets it."""
    return model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        layout=batch.layout,
        logits_to_keep=rows,
        use_cache=False,
    ).logits[0]


def score(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Raw log-odds of every candidate, float32 [N], lists one after the other.

    Args:
        model: a causal LM (or its peft wrapper) loaded with the shared-prefix attention, after `attach_head`.
        batch: packed lists on the model's device.
    """
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        layout=batch.layout,
        scored_rows=batch.score_positions,
        use_cache=False,
    ).logits[0]
    return (logits[:, 0] - logits[:, 1]).float()
