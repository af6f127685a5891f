"""What the recipes rely on: checkpointing changes nothing, joint candidates train, a recipe's curve stays as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reshelf.data.dataset_folder import RankingData
from reshelf.finetune.batches import Batch, ListDataset, collate, padded
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.run import finetune
from reshelf.modeling.checkpoint import load_reranker
from reshelf.modeling.config import LoraConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import PromptBuilder

REFERENCE = Path(__file__).with_name("reference_curve.json")


def trainable(config: FinetuneConfig, data: RankingData) -> tuple[Any, Batch]:
    """A model in training mode whose adapter is no longer zero, and a batch for it."""
    torch.manual_seed(0)
    model, tokenizer = load_base(config.model)
    builder = PromptBuilder(tokenizer, config.prompt, data.items)
    attach_head(model, *builder.label_ids)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.1)).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    dataset = ListDataset(data.lists["train"], builder)
    return model, collate([dataset[n] for n in range(3)])


def loss_and_gradients(model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(1)  # of the dropout
    model.zero_grad()
    loss = listnet(
        padded(score(model, batch.packed), batch.mask),
        batch.labels,
        batch.mask,
        batch.weights,
        batch.inverse_propensity,
    ).mean()
    loss.backward()
    return loss.detach(), {name: w.grad.clone() for name, w in model.named_parameters() if w.requires_grad}


@pytest.mark.parametrize("quantise", [True, False])
def test_gradient_checkpointing_changes_nothing(config: FinetuneConfig, data: RankingData, quantise: bool) -> None:
    config.model.quantise = quantise
    model, batch = trainable(config, data)
    plain, plain_gradients = loss_and_gradients(model, batch)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    runs = []
    layer = model.base_model.model.model.layers[0].self_attn
    layer.register_forward_hook(lambda *_: runs.append(1))
    loss, gradients = loss_and_gradients(model, batch)
    assert len(runs) == 2, "forward once more in the backward pass, or nothing was checkpointed"
    assert torch.equal(loss, plain)
    assert gradients.keys() == plain_gradients.keys()
    for name, expected in plain_gradients.items():
        assert expected.abs().max() > 0, name
        assert torch.equal(gradients[name], expected), name


@pytest.mark.slow
def test_joint_candidates_train_and_score(config: FinetuneConfig, data: RankingData) -> None:
    config.candidates, config.max_candidates, config.lora.dropout, config.patience = "joint", 0, 0.0, 99
    config.prompt.list_tokens = 2048
    config.optimizer.epochs, config.optimizer.learning_rate, config.eval_every = 8, 1e-2, 40
    config.optimizer.gradient_checkpointing = True
    finetune(config)
    losses = [point["loss"] for point in json.loads((config.out / "curve.json").read_text())["train"]]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    trained = load_reranker(config.out, "cpu")
    assert trained.spec.candidates == "joint"
    builder = trained.builder(data.items)
    scores = []
    for ranking in data.lists["valid"]:
        with torch.no_grad():
            orders = ([0], [0, 1, 2], [0, 2, 1])
            scores.append([float(score(trained.model, pack([builder.build(ranking.only(o))]))[0]) for o in orders])
    alone, beside, behind = np.array(scores).T
    assert (abs(beside - alone) > 1e-4).all(), "a joint candidate is judged beside those after it too"
    assert abs(beside - behind).mean() < abs(beside - alone).mean(), "which ones counts more than in which order"


@pytest.mark.slow
def test_the_curve_is_the_stored_one(config: FinetuneConfig) -> None:
    """Whatever changes what is trained on, in which order, or how, shows here: loss by step, loss and nDCG on valid.

    After such a change on purpose, put the curve that the failure names in the place of the stored one.
    """
    config.lora.dropout, config.optimizer.accumulation, config.optimizer.epochs = 0.0, 2, 5  # 10 steps
    config.optimizer.gradient_checkpointing = True
    finetune(replace(config, patience=99))
    found, stored = (json.loads(path.read_text()) for path in (config.out / "curve.json", REFERENCE))
    for part in ("train", "valid"):
        assert [point["step"] for point in found[part]] == [point["step"] for point in stored[part]]
        losses = ([point["loss"] for point in curve[part]] for curve in (found, stored))
        np.testing.assert_allclose(*losses, rtol=1e-3, err_msg=f"new curve: {config.out / 'curve.json'}")
