"""Tiny random models of several families, lists of random ids, and the plain way to score them: one prompt each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM

from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling.attention import SHARED_PREFIX
from reshelf.modeling.score import attach_head
from reshelf.prompts.list_prompt import ListPrompt, Truncated

VOCABULARY = 300
YES, NO = 7, 11
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,  # large enough that attention is far from uniform
}
# fmt: off
OWN: dict[str, dict[str, Any]] = {
    "qwen3": {"tie_word_embeddings": True},
    "llama": {},
    "qwen2": {},
    "mistral": {"sliding_window": 256},
    "gemma": {"num_key_value_heads": 1},
    "gemma2": {"attn_logit_softcapping": None, "final_logit_softcapping": 30.0, "sliding_window": 256},
    "gemma3_text": {"sliding_window": 256, "query_pre_attn_scalar": 24},
    "gpt_oss": {
        "sliding_window": 256,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
}
# fmt: on


@pytest.fixture(scope="session")
def tiny_model() -> Callable[..., Any]:
    """`tiny_model("llama", SHARED_PREFIX, num_key_value_heads=1)`: random weights, the same at every call."""

    def make(family: str = "qwen3", attention: str = SHARED_PREFIX, **changes: Any) -> Any:
        kind = transformers.CONFIG_MAPPING[family]
        config = kind(**(SHAPE | OWN[family] | changes))
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=attention, dtype=torch.float32)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def make_lists() -> Callable[..., list[ListPrompt]]:
    """`make_lists((30, [4, 9]), (12, [5]))`: random ids, one list for each (prefix length, item lengths)."""

    def make(*shapes: tuple[int, Sequence[int]], seed: int = 0) -> list[ListPrompt]:
        rng = np.random.default_rng(seed)

        def draw(length: int) -> np.ndarray:
            return rng.integers(20, VOCABULARY, length).astype(np.int32)

        return [
            ListPrompt(f"l{n}", draw(prefix), tuple(draw(length) for length in lengths), Truncated())
            for n, (prefix, lengths) in enumerate(shapes)
        ]

    return make


@pytest.fixture(scope="session")
def separate() -> Callable[..., torch.Tensor]:
    """Scores [N] the plain way: every candidate is a prompt of its own, read with the model's whole head."""

    def scores(model: Any, prompts: Sequence[ListPrompt], yes: int = YES, no: int = NO) -> torch.Tensor:
        found = []
        for prompt in prompts:
            for item in prompt.items:
                ids = torch.from_numpy(np.concatenate([prompt.prefix, item]).astype(np.int64))[None]
                logits = model(input_ids=ids, use_cache=False).logits[0, -1].float()
                found.append(logits[yes] - logits[no])
        return torch.stack(found)

    return scores


@pytest.fixture(scope="session")
def with_head() -> Callable[[Any], Any]:
    """A copy of a model with the head that only knows YES and NO."""

    def attach(model: Any) -> Any:
        model = copy.deepcopy(model)
        attach_head(model, YES, NO)
        return model

    return attach


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory, tiny_model: Callable[..., Any]) -> Path:
    """A base model folder: a tiny Qwen3 and a tokenizer trained on a few words."""
    folder = tmp_path_factory.mktemp("modeling") / "base"
    tokenizer = train_tokenizer(["red oak chair by Nord", "history ;\nviewed query: product: =>", "12 of 20"] * 9, 400)
    tiny_model("qwen3", "eager", vocab_size=len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
