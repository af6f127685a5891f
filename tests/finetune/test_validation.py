"""What validation measures and keeps: nDCG@10 or AUC, and the scores of every list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import TrainerState

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.errors import DivergedError, InputError
from reshelf.evaluation.counterfactual import snips_dcg
from reshelf.finetune.batches import Example, ListDataset, collate, inverse_propensity
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.losses.bce import bce
from reshelf.finetune.losses.listnet import listnet
from reshelf.finetune.run import finetune
from reshelf.finetune.trainer import ListTrainer
from reshelf.finetune.validation import AUC, CORRECTED, ERROR, METRIC, Validation
from reshelf.metrics.bootstrap import interval, resample
from reshelf.metrics.ndcg import exponential_gains, ndcg
from reshelf.modeling.blend import blend
from reshelf.modeling.loading import load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.list_prompt import ListPrompt, Truncated
from tests.finetune.curves import valid_and_kept


@pytest.fixture
def single(data: RankingData) -> RankingData:
    """The shop's lists cut into lists of one candidate each."""
    return RankingData(
        data.items,
        {
            split: [
                r.only([k]).model_copy(update={"list_id": f"{r.list_id}-{k}"})
                for r in data.lists[split]
                for k in range(len(r.candidates))
            ]
            for split in ("train", "valid")
        },
    )


def tools(config: FinetuneConfig, data: RankingData) -> tuple[Any, PromptBuilder]:
    model, tokenizer = load_base(replace(config.model, quantise=False), "cpu")
    builder = PromptBuilder(tokenizer, config.prompt, data.items)
    attach_head(model, *builder.label_ids)
    return model, builder


def alone(model: Any, builder: PromptBuilder, lists: list[Any]) -> list[np.ndarray]:
    with torch.no_grad():
        return [score(model, pack([builder.build(ranking)])).numpy() for ranking in lists]


def test_scores_are_of_every_list_in_its_order_and_ndcg_of_those_with_a_positive(
    config: FinetuneConfig, data: RankingData
) -> None:
    model, builder = tools(config, data)
    lists = [r.model_copy(update={"labels": (0,) * len(r.candidates)} if n % 3 == 1 else {})
             for n, r in enumerate(data.lists["valid"])]  # fmt: skip
    lists[0] = lists[0].only(range(3))
    validation = Validation(ListDataset(lists, builder))
    found, expected = validation.scores(model, 3, "cpu"), alone(model, builder, lists)
    assert len(found) == len(lists)
    for mine, theirs in zip(found, expected):
        assert mine.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=1e-4)
    metrics = validation.measure(model, 3, bce, "cpu")
    judged = [ndcg(s, exponential_gains(r.labels or ())) for s, r in zip(expected, lists) if any(r.labels or ())]
    assert 0 < len(judged) < len(lists)
    assert metrics[METRIC] == pytest.approx(np.mean(judged), abs=1e-4)
    assert AUC not in metrics


def test_auc_is_the_share_of_pairs_over_all_lists_in_the_right_order(config: FinetuneConfig, data: RankingData) -> None:
    model, builder = tools(config, data)
    lists = [r.model_copy(update={"labels": (0,) * len(r.candidates)} if n % 3 == 1 else {})
             for n, r in enumerate(data.lists["valid"])]  # fmt: skip
    validation = Validation(ListDataset(lists, builder), "auc")
    assert len(validation.examples) == len(lists)
    metrics = validation.measure(model, 4, bce, "cpu")
    scores = np.concatenate(validation.scores(model, 4, "cpu"))
    labels = np.concatenate([r.labels for r in lists])
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[labels > 0] for b in scores[labels == 0]]
    assert metrics[AUC] == pytest.approx(np.mean(pairs), abs=1e-6)
    logs = torch.nn.functional.binary_cross_entropy_with_logits(torch.tensor(scores), torch.tensor(labels / 3).float())
    assert metrics["eval_loss"] == pytest.approx(float(logs), rel=1e-4), "every candidate weighs the same"


def test_auc_chooses_among_checkpoints_where_lists_hold_one_candidate(
    config: FinetuneConfig, single: RankingData, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_dataset_folder(tmp_path / "single", single)
    config = replace(config, data=tmp_path / "single", loss="bce", metric="auc", train_lists=64, valid_lists=64)
    config.optimizer.lists_per_step, config.optimizer.epochs = 16, 2
    finetune(config)
    valid, kept = valid_and_kept(config.out, "auc")
    found = [point["auc"] for point in valid]
    card = (config.out / "README.md").read_text()
    assert len(set(found)) > 1
    assert f"was kept: step {kept['step']}, {kept['auc']:.4f}." in " ".join(card.split())
    assert "| step | loss | AUC |" in card
    shown = capsys.readouterr().out
    assert "nDCG" not in shown
    for value in found:
        assert f"valid AUC {value:.4f}" in shown


def test_what_a_metric_cannot_do_without_is_one_sentence(
    config: FinetuneConfig, data: RankingData, tmp_path: Path
) -> None:
    for label, metric, match in ((0, "ndcg@10", "no list"), (0, "auc", "no list"), (1, "auc", "all are above 0")):
        same = [r.model_copy(update={"labels": (label,) * len(r.candidates)}) for r in data.lists["valid"]]
        folder = tmp_path / f"{label}{metric}"
        save_dataset_folder(folder, RankingData(data.items, {"train": data.lists["train"], "valid": same}))
        with pytest.raises(InputError, match=rf"valid\.parquet, field labels: {match}"):
            finetune(replace(config, data=folder, metric=metric))  # type: ignore[arg-type]


def judged(lists: int, useful: float) -> tuple[Validation, list[np.ndarray]]:
    """Lists whose one bought product stands high in first-stage order, and scores of a model that adds that much to it,
    with much noise."""
    rng = np.random.default_rng(0)
    examples, scores = [], []
    for n in range(lists):
        bought = min(int(rng.geometric(0.3)) - 1, 9)
        empty = ListPrompt(f"l{n}", np.arange(1), (np.arange(1),) * 10, Truncated())
        examples.append(Example(empty, np.where(np.arange(10) == bought, 3, 0)))
        scores.append(rng.normal(size=10) + useful * (np.arange(10) == bought))
    return Validation(examples), scores  # type: ignore[arg-type]


def test_a_model_that_helps_only_beside_the_first_stage_is_given_its_surest_weight() -> None:
    validation, scores = judged(300, useful=1.0)
    lift = validation.lift(scores)
    assert lift is not None
    assert not lift.helps
    assert lift.blended is not None
    best = lift.blended
    assert 0 < best.personalization < 1
    assert 0 < best.low < best.gain < best.high
    labels = [example.labels for example in validation.every]
    ordered = [np.argsort(-blend(row, best.personalization), kind="stable") for row in scores]
    reached = [1 / np.log2(2 + int(np.flatnonzero(of[order])[0])) for order, of in zip(ordered, labels, strict=True)]
    before = [1 / np.log2(2 + int(np.flatnonzero(of)[0])) for of in labels]
    assert best.gain == pytest.approx(np.mean(reached) - np.mean(before))
    assert lift.helps_at(best.personalization)
    assert lift.helps_at(0.0)
    assert not lift.helps_at(1.0)
    assert f"--personalization {best.personalization:g}" in lift.sentence()


def seen_from_above(lists: int) -> tuple[list[RankingList], np.ndarray, list[np.ndarray]]:
    """Lists whose products are all wanted alike often, wherever the first stage put them, but examined the less the
    lower they stand; how likely each position is; scores of a model that knows what is wanted, with some noise."""
    rng = np.random.default_rng(0)
    examined = 1 / np.arange(1, 11)
    found, scores = [], []
    while len(found) < lists:
        wanted = rng.random(10) < 0.3
        clicked = wanted & (rng.random(10) < examined)
        if not clicked.any():
            continue
        ids, grades = tuple(f"i{n}" for n in range(10)), tuple(clicked.astype(int).tolist())
        found.append(
            RankingList(
                list_id=f"l{len(found)}", user_id="u", candidates=ids, labels=grades, positions=tuple(range(1, 11))
            )
        )
        scores.append(rng.normal(scale=1.5, size=10) + wanted)
    return found, examined, scores


def test_by_inverse_propensities_a_model_is_not_held_against_the_order_that_was_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By clicks as they are it loses to the order they were made in. What is measured is what `evaluation` would."""
    lists, examined, scores = seen_from_above(400)
    empty = ListPrompt("l", np.arange(1), (np.arange(1),) * 10, Truncated())
    plain = [Example(replace(empty, list_id=one.list_id), np.array(one.labels)) for one in lists]
    weighted = [
        replace(e, inverse_propensity=inverse_propensity(one, examined, 5.0))
        for e, one in zip(plain, lists, strict=True)
    ]
    biased = Validation(plain).lift(scores)  # type: ignore[arg-type]
    validation = Validation(weighted, "dcg@10")  # type: ignore[arg-type]
    lift = validation.lift(scores)
    assert biased is not None
    assert lift is not None
    assert biased.high < 0 < lift.low
    assert (biased.metric, lift.metric) == ("ndcg@10", "dcg@10")
    first = [-np.arange(10.0)] * len(lists)
    mine, theirs = (snips_dcg(one, lists, examined, clip=5.0) for one in (scores, first))
    assert [lift.ndcg, lift.first_stage] == pytest.approx([mine.estimate, theirs.estimate])
    gain = interval(mine.values - theirs.values, resample(len(lists), 2000, seed=0), list_weights=mine.weights)
    assert [lift.low, lift.high] == pytest.approx([gain.low, gain.high])
    assert lift.sentence().startswith(f"SNIPS DCG@10 {lift.ndcg:.3f} on 400 validation lists, +")

    rows = [(n, [e], collate([e]), torch.tensor(scores[n])[None]) for n, e in enumerate(validation.every)]
    monkeypatch.setattr("reshelf.finetune.validation._scored", lambda *_: iter(rows))
    measured = validation.measure(None, 1, listnet, "cpu")
    assert measured[CORRECTED] == pytest.approx(mine.estimate)
    middle = mine.interval(resample(len(lists), 4000, seed=1), confidence=0.6827)
    assert measured[CORRECTED + ERROR] == pytest.approx((middle.high - middle.low) / 2, rel=0.1)


def test_a_list_that_the_model_does_not_rank_counts_as_the_order_it_is_served_in_beside_the_first_stage() -> None:
    """Taken as random, it would hide what the model does for the others."""
    validation, scores = judged(400, useful=1.0)
    scores = [np.zeros(10) if n % 4 == 0 else row for n, row in enumerate(scores)]
    lift = validation.lift(scores)
    assert lift is not None
    assert lift.blended is not None
    gains = [exponential_gains(example.labels) for example in validation.every]
    first = np.array([ndcg(-np.arange(10), of) for of in gains])
    blended = np.array(
        [ndcg(blend(row, lift.blended.personalization), of) for row, of in zip(scores, gains, strict=True)]
    )
    changed = np.where(np.arange(400) % 4 == 0, 0, blended - first)
    assert lift.blended.gain == pytest.approx(changed.mean())


def test_the_weight_is_that_of_the_highest_lower_bound_for_all_that_are_tried() -> None:
    """Not that of the highest gain; and nine weights are tried, so that each interval is wider than one alone."""
    validation, scores = judged(300, useful=0.8)
    gains = [exponential_gains(example.labels) for example in validation.every]
    first = np.array([ndcg(-np.arange(10), of) for of in gains])
    resamples = resample(300, 2000, seed=0)
    found = {}
    for weight in (n / 10 for n in range(1, 10)):
        blended = np.array([ndcg(blend(row, weight), of) for row, of in zip(scores, gains, strict=True)])
        found[weight] = interval(blended - first, resamples, confidence=1 - 0.05 / 9)
    surest = max(found, key=lambda weight: found[weight].low)
    assert surest != max(found, key=lambda weight: found[weight].mean)
    lift = validation.lift(scores)
    assert lift is not None
    assert lift.blended is not None
    assert lift.blended.personalization == surest
    assert [lift.blended.gain, lift.blended.low, lift.blended.high] == pytest.approx(list(found[surest]))


def test_a_list_without_a_positive_is_not_calibrated_on_scores_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """nDCG leaves it out, so that no validation saw it."""
    validation, scores = judged(3, useful=1.0)
    validation.every[1].labels[:] = 0
    scores[1][4] = np.nan
    rows = [(n, [one], None, torch.tensor(scores[n])[None]) for n, one in enumerate(validation.every)]
    monkeypatch.setattr("reshelf.finetune.validation._scored", lambda *_: iter(rows))
    with pytest.raises(DivergedError, match=r"NaN or infinite in 1 of 3 validation lists \('l1'\)"):
        validation.scores(None, 1, "cpu")
    trainer: Any = object.__new__(ListTrainer)
    trainer.model, trainer._validation, trainer.state = None, validation, TrainerState(best_global_step=6)
    trainer.args = type("Arguments", (), {"per_device_eval_batch_size": 1, "device": "cpu"})
    with pytest.raises(DivergedError, match=r"of step 6, is no reranker: scores are .*; train anew in another folder"):
        trainer.validation_scores()


@pytest.mark.parametrize("highest", [3e38, -3e38])
def test_finite_scores_whose_loss_is_none_end_the_run(highest: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A first checkpoint of loss NaN would be kept for ever: no other loss is below it."""
    validation, _ = judged(1, useful=1.0)
    example = validation.every[0]
    grid = torch.where(torch.tensor(example.labels) > 0, highest, -highest)[None].float()
    batch = collate([example])
    monkeypatch.setattr("reshelf.finetune.validation._scored", lambda *_: iter([(0, [example], batch, grid)]))
    with pytest.raises(DivergedError, match="the validation loss is NaN or infinite"):
        validation.measure(None, 1, listnet, "cpu")


@pytest.mark.parametrize(("useful", "helps"), [(0.0, False), (6.0, True)])
def test_one_that_helps_alone_or_not_at_all_is_given_none(useful: float, helps: bool) -> None:
    validation, scores = judged(300, useful)
    lift = validation.lift(scores)
    assert lift is not None
    assert lift.helps == helps
    assert lift.blended is None
    assert ("Do not serve it yet" in lift.sentence()) != helps
