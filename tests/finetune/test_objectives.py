"""Which loss is trained on: each of them learns, a teacher is followed, propensities arrive, the card says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.propensity.file import write_propensities
from reshelf.errors import InputError
from reshelf.finetune.augment import AugmentConfig
from reshelf.finetune.config import DistilConfig, FinetuneConfig
from reshelf.finetune.run import LOSSES, finetune
from reshelf.finetune.validation import Validation
from reshelf.modeling.checkpoint import load_reranker
from reshelf.modeling.packing import pack
from reshelf.modeling.score import score
from reshelf.modeling.spec import read_spec


def losses(config: FinetuneConfig) -> list[float]:
    return [point["loss"] for point in json.loads((config.out / "curve.json").read_text())["train"]]


def quick(config: FinetuneConfig, epochs: float = 6) -> FinetuneConfig:
    """Twelve lists, all candidates, nothing left to chance but the order of lists."""
    config.optimizer.epochs, config.optimizer.lists_per_step, config.optimizer.learning_rate = epochs, 12, 1e-2
    config.train_lists, config.valid_lists, config.max_candidates, config.lora.dropout = 12, 4, 0, 0.0
    config.eval_every = config.patience = 99
    config.model.quantise = False
    return config


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_each_loss_falls(config: FinetuneConfig, name: str) -> None:
    finetune(replace(quick(config), loss=name))  # type: ignore[arg-type]
    found = losses(config)
    assert found[-1] < 0.97 * found[0]
    assert f"| loss | {name}," in (config.out / "README.md").read_text()


@pytest.fixture
def taught(config: FinetuneConfig, data: RankingData, tmp_path: Path) -> FinetuneConfig:
    """A data set whose training lists have a teacher that likes cheap products, and mostly no positive label."""
    lists = {}
    for split in ("train", "valid"):
        lists[split] = []
        for n, ranking in enumerate(data.lists[split]):
            teacher = tuple(3.0 - 1.5 * (data.items[c].price_level or 0) for c in ranking.candidates)
            changes: dict[str, object] = {"features": {"teacher": teacher}}
            if split == "train" and n % 4:
                changes["labels"] = (0,) * len(ranking.candidates)
            lists[split].append(ranking.model_copy(update=changes))
    save_dataset_folder(tmp_path / "taught", RankingData(data.items, lists))
    return replace(config, data=tmp_path / "taught")


@pytest.mark.parametrize("loss", ["kl", "margin_mse", "bce"])
def test_a_teacher_is_followed(taught: FinetuneConfig, loss: str) -> None:
    config = quick(taught, epochs=40)
    config.distil = DistilConfig("teacher", loss, weight=1.0)  # type: ignore[arg-type]
    finetune(config)
    trained = load_reranker(config.out, "cpu")
    data = load_dataset_folder(config.data)
    builder = trained.builder(data.items)
    right = []
    with torch.no_grad():
        for ranking in data.lists["train"][:12]:
            scores = score(trained.model, pack([builder.build(ranking)])).numpy()
            teacher = np.array(ranking.features["teacher"])
            better = teacher[:, None] > teacher[None, :]
            right.append((scores[:, None] > scores[None, :])[better])
    assert np.concatenate(right).mean() > 0.9
    assert f"1 × distillation ({loss}" in (config.out / "README.md").read_text()


def test_labels_and_teacher_add_up_whatever_the_size_of_a_forward_pass(taught: FinetuneConfig, tmp_path: Path) -> None:
    """The loss on labels is the mean over the lists that have some: not of the means of the forward passes."""
    config = quick(taught, epochs=2)
    config.distil = DistilConfig("teacher", weight=0.25)
    finetune(config)
    parts = replace(
        config, out=tmp_path / "parts", optimizer=replace(config.optimizer, lists_per_step=4, accumulation=3)
    )
    finetune(parts)
    np.testing.assert_allclose(losses(parts), losses(config), rtol=1e-4)
    both = losses(config)[0]
    alone = []
    for weight in (0.0, 1.0):
        one = replace(config, out=tmp_path / f"{weight}", distil=replace(config.distil, weight=weight))
        finetune(one)
        alone.append(losses(one)[0])
    assert both == pytest.approx(0.75 * alone[0] + 0.25 * alone[1], rel=1e-4)


@pytest.mark.parametrize("loss", ["listnet", "bce"])
def test_lists_without_a_positive_are_trained_on_by_bce_alone(
    taught: FinetuneConfig, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    seen = []
    original = LOSSES[loss]

    def looking(scores, labels, mask, weights, inverse):  # type: ignore[no-untyped-def]
        if torch.is_grad_enabled():
            seen.append(labels)
        return original(scores, labels, mask, weights, inverse)

    monkeypatch.setitem(LOSSES, loss, looking)
    finetune(replace(quick(taught, epochs=1), loss=loss))  # type: ignore[arg-type]
    without = sum(int((~(labels > 0).any(1)).sum()) for labels in seen)
    assert without == (9 if loss == "bce" else 0)  # of twelve lists every fourth keeps its labels


def test_candidates_of_a_step_weigh_the_same_whatever_the_size_of_a_forward_pass(
    config: FinetuneConfig, data: RankingData, tmp_path: Path
) -> None:
    """Lists of unlike length: a mean of the means of the forward passes would be something else."""
    lists = {
        split: [r.only(range(1 + n % len(r.candidates))) for n, r in enumerate(data.lists[split])]
        for split in ("train", "valid")
    }
    save_dataset_folder(tmp_path / "unlike", RankingData(data.items, lists))
    config = replace(quick(config, epochs=2), data=tmp_path / "unlike", loss="bce", metric="auc")
    finetune(config)
    parts = replace(
        config, out=tmp_path / "parts", optimizer=replace(config.optimizer, lists_per_step=4, accumulation=3)
    )
    finetune(parts)
    np.testing.assert_allclose(losses(parts), losses(config), rtol=1e-4)


def test_propensities_reach_the_loss_in_training_and_in_validation(
    config: FinetuneConfig, data: RankingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = LOSSES["listnet"]

    def looking(scores, labels, mask, weights, inverse):  # type: ignore[no-untyped-def]
        seen.append((torch.is_grad_enabled(), labels, mask, inverse))
        return original(scores, labels, mask, weights, inverse)

    monkeypatch.setitem(LOSSES, "listnet", looking)
    propensities = [1 / place for place in range(1, 9)]
    write_propensities(tmp_path / "propensities.json", propensities)
    config = replace(quick(config, epochs=1), propensities=tmp_path / "propensities.json", max_inverse_propensity=5.0)
    finetune(config)
    training = [rest for gradients, *rest in seen if gradients]
    validation = [rest for gradients, *rest in seen if not gradients]
    assert len(training) == 1
    assert validation
    labels, mask, inverse = training[0]
    places = {}
    for ranking in data.lists["train"]:
        shown = ranking.positions or range(1, len(ranking.candidates) + 1)
        places.setdefault(ranking.labels, []).append(shown)
    for row in range(len(labels)):
        size = int(mask[row].sum())
        grades = tuple(labels[row, :size].tolist())
        expected = [
            [min(place, 5.0) if grade else 1.0 for place, grade in zip(shown, grades)] for shown in places[grades]
        ]
        assert any(np.allclose(inverse[row, :size], one) for one in expected)
    assert max(float(inverse.max()) for _, _, inverse in training) > 1
    assert max(float(inverse.max()) for _, _, inverse in validation) > 1
    card = (config.out / "README.md").read_text()
    assert "inverse propensity, at most 5, from" in card
    assert "Of the checkpoints within a standard error of the best SNIPS DCG@10" in card
    lift = read_spec(config.out).lift
    assert lift is not None
    assert lift.metric == "dcg@10"
    assert f"SNIPS DCG@10 {lift.ndcg:.3f} on" in card


@pytest.mark.parametrize("candidates", ["independent", "joint"])
def test_random_changes_train_and_leave_validation_alone(
    config: FinetuneConfig, candidates: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = []
    original = Validation.__init__

    def looking(self: Validation, dataset, metric) -> None:  # type: ignore[no-untyped-def]
        original(self, dataset, metric)
        scored.append([np.concatenate([e.prompt.prefix, *e.prompt.items]).tolist() for e in self.examples])

    monkeypatch.setattr(Validation, "__init__", looking)
    prompt = replace(config.prompt, list_tokens=1024)
    config = replace(quick(config), candidates=candidates, prompt=prompt)  # type: ignore[arg-type]
    finetune(config)
    plain = losses(config)
    augment = AugmentConfig(0.3, 0.2, True, 0.2, 0.2)
    changed = replace(config, out=config.out.with_name("changed"), augment=augment)
    finetune(changed)
    assert losses(changed) != plain
    assert scored[0] == scored[1]
    card = (changed.out / "README.md").read_text()
    assert "history_dropout 0.3, event_dropout 0.2, shuffle True, field_dropout 0.2, word_dropout 0.2" in card


def test_mistakes_are_one_sentence(config: FinetuneConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"distil\.weight is 2"):
        DistilConfig(weight=2.0)
    with pytest.raises(InputError, match=r"distil\.temperature is 0"):
        DistilConfig(temperature=0.0)
    with pytest.raises(InputError, match=r"max_inverse_propensity is 0\.5"):
        replace(config, max_inverse_propensity=0.5)
    with pytest.raises(InputError, match=r"features\.teacher: missing"):
        finetune(replace(config, distil=DistilConfig("teacher")))
    with pytest.raises(InputError, match=r"propensities\.json cannot be read"):
        finetune(replace(config, propensities=tmp_path / "propensities.json"))
    assert not config.out.exists()
