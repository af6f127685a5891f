"""The head keeps the two rows that a score needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import PhiConfig, PhiForCausalLM

from reshelf.errors import InputError
from reshelf.modeling.packing import pack
from reshelf.modeling.score import LabelHead, attach_head, score
from reshelf.prompts.list_prompt import ListPrompt


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_head_equals_the_whole_head(dtype: torch.dtype, tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("qwen3").to(dtype)
    hidden = torch.randn(3, 5, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = torch.nn.functional.linear(hidden.float(), model.lm_head.weight.float())
    attach_head(model, 7, 11)
    found = model.lm_head(hidden)
    assert found.dtype == torch.float32
    assert found.shape == (3, 5, 2)
    torch.testing.assert_close(found, whole[..., [7, 11]], rtol=1e-6, atol=1e-6)


def test_only_score_positions_meet_the_head(
    tiny_model: Callable[..., Any], make_lists: Callable[..., list[ListPrompt]]
) -> None:
    model = tiny_model("qwen3")
    attach_head(model, 7, 11)
    seen = []
    model.lm_head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    score(model, pack(make_lists((9, [3, 4]), (5, [2]))))
    assert seen == [(1, 3, 64)]


def test_attaching_twice_changes_nothing(tiny_model: Callable[..., Any]) -> None:
    model = tiny_model("llama")
    attach_head(model, 7, 11)
    head = model.lm_head
    attach_head(model, 1, 2)
    assert model.lm_head is head


def test_the_head_is_neither_trained_nor_stored(tiny_model: Callable[..., Any]) -> None:
    head = LabelHead(tiny_model("llama").lm_head.weight[[7, 11]])
    assert list(head.parameters()) == []
    assert head.state_dict() == {}


def test_a_head_with_a_bias_is_refused() -> None:
    model = PhiForCausalLM(
        PhiConfig(vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
    )
    with pytest.raises(InputError, match="PhiForCausalLM has a bias"):
        attach_head(model, 7, 11)
