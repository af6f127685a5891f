"""In the last layer, only score positions are more than keys and values; scores and gradients stay what they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from reshelf.modeling.last_layer import FAMILIES
from reshelf.modeling.packing import pack
from reshelf.modeling.score import LabelHead, logits_at, score
from reshelf.prompts.list_prompt import ListPrompt


def gradients(model: Any, scores: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of every weight, for a loss that weighs scores differently."""
    model.zero_grad()
    (scores * torch.arange(1.0, len(scores) + 1)).sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("family", [*FAMILIES, "gpt_oss"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_scores_and_gradients_equal_those_of_all_rows(
    family: str, checkpointing: bool, tiny_model: Callable[..., Any], with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:  # fmt: skip
    model = with_head(tiny_model(family))
    assert isinstance(model.get_output_embeddings(), LabelHead)
    if checkpointing:
        model.train()
        model.gradient_checkpointing_enable({"use_reentrant": False})
    batch = pack(make_lists((30, [4, 9, 4]), (12, [5])))
    whole = logits_at(model, batch, batch.score_positions)
    expected = (whole[:, 0] - whole[:, 1]).float()
    found = score(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    pairs = gradients(model, expected), gradients(model, found)
    assert pairs[0].keys() == pairs[1].keys()
    for name, gradient in pairs[0].items():
        torch.testing.assert_close(pairs[1][name], gradient, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_mlp_reads_score_positions_alone(
    family: str, tiny_model: Callable[..., Any], with_head: Callable[[Any], Any],
    make_lists: Callable[..., list[ListPrompt]],
) -> None:  # fmt: skip
    model = with_head(tiny_model(family))
    rows: list[int] = []
    for layer in model.get_decoder().layers:
        layer.mlp.register_forward_hook(lambda _, inputs, __: rows.append(inputs[0].shape[1]))
    score(model, pack(make_lists((30, [4, 9, 4]))))
    assert rows == [30 + 17] * (len(rows) - 1) + [3]
