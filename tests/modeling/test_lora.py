"""LoRA computes in the type of its model, and its weights are float32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.list_prompt import ListPrompt, Truncated


def test_adapters_compute_in_the_models_type_and_are_trained_in_float32(base_folder: Path) -> None:
    """The same losses as by peft's own layers, which cast the activations, and less kept for the backward pass."""

    def train(as_peft: bool) -> tuple[list[float], int]:
        model, _ = load_base(ModelConfig(base=str(base_folder), dtype="bfloat16"), "cpu")
        attach_head(model, 7, 11)
        torch.manual_seed(0)
        model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.1)).train()
        if as_peft:
            for layer in model.modules():
                if isinstance(layer, LoraLayer):
                    layer.cast_input_dtype_enabled = True
                    vars(layer).pop("forward")
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert {weight.dtype for weight in trained} == {torch.float32}
        optimizer = torch.optim.AdamW(trained, 3e-3)
        ids = np.random.default_rng(0).integers(20, 200, 60).astype(np.int32)
        batch = pack([ListPrompt("", ids[:30], tuple(np.split(ids[30:], 5)), Truncated())])
        losses: list[float] = []
        saved: dict[int, int] = {}

        def count(x: torch.Tensor) -> torch.Tensor:
            saved[x.data_ptr()] = x.nbytes
            return x

        for _ in range(30):
            saved.clear()
            with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
                loss = -torch.log_softmax(score(model, batch), 0)[2]
            loss.backward()
            assert all(weight.grad is not None and weight.grad.dtype == torch.float32 for weight in trained)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses, sum(saved.values())

    (losses, saved), (expected, saved_by_peft) = train(False), train(True)
    assert losses[0] == pytest.approx(expected[0], abs=0.05)
    assert losses[-1] < 0.3 * losses[0]
    assert np.mean(losses) == pytest.approx(np.mean(expected), rel=0.1)
    assert saved < 0.6 * saved_by_peft, saved / saved_by_peft
