"""Calibration from training to the ranked item: fitted on validation lists, kept in the folder, never in the order."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.errors import InputError
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.run import finetune
from reshelf.inference.reranker import RankedList, Reranker
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.spec import read_spec


def short(config: FinetuneConfig, **changes: Any) -> FinetuneConfig:
    config.optimizer.epochs, config.eval_every = 1, 2
    return replace(config, **changes)


def ranked(reranker: Reranker, ranking: RankingList) -> RankedList:
    return reranker.rerank(ranking.query, ranking.candidates, ranking.history, time=ranking.time)


@pytest.mark.parametrize("method", ["isotonic", "platt"])
def test_what_validation_showed_comes_back_as_probabilities(
    config: FinetuneConfig, data: RankingData, method: str
) -> None:
    finetune(short(config, calibration=method))
    spec = read_spec(config.out)
    assert spec.calibration is not None
    assert spec.calibration.method == method
    assert (
        f"| calibration | {method}, on all candidates of the validation lists |"
        in (config.out / "README.md").read_text()
    )
    lists = data.lists["valid"]
    with Reranker.from_pretrained(config.out, "transformers", data.items, "cpu") as reranker:
        scores = np.concatenate(reranker.score_lists(lists))
        answers = [ranked(reranker, ranking) for ranking in lists]
        reranker.spec.calibration = Calibration("platt", slope=-1.0)
        turned = [ranked(reranker, ranking) for ranking in lists]
        reranker.spec.calibration = None
        bare = [ranked(reranker, ranking) for ranking in lists]
    for answer in answers:
        for entry in answer:
            assert entry.probability == pytest.approx(float(spec.calibration.probability(np.array(entry.score))))
    assert [a.item_ids for a in answers] == [b.item_ids for b in turned] == [c.item_ids for c in bare]
    assert all(entry.probability is None for answer in bare for entry in answer)
    wanted = np.concatenate([np.array(ranking.labels) > 0 for ranking in lists])
    if method == "isotonic":
        expected = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(scores.astype(float), wanted)
        np.testing.assert_allclose(spec.calibration.probability(scores), expected.predict(scores), atol=0.02)
    assert spec.calibration.probability(scores).mean() == pytest.approx(wanted.mean(), abs=0.02)


def test_lists_without_a_positive_are_outcomes_too(config: FinetuneConfig, data: RankingData, tmp_path: Path) -> None:
    """Half of the validation lists were left without a click: probabilities are half of what they would be."""
    bare = [
        r.model_copy(update={"list_id": f"{r.list_id}-bare", "labels": (0,) * len(r.candidates)})
        for r in data.lists["valid"]
    ]
    lists = {"train": data.lists["train"], "valid": [*data.lists["valid"], *bare]}
    save_dataset_folder(tmp_path / "shop", RankingData(data.items, lists))
    finetune(short(config, data=tmp_path / "shop", calibration="platt"))
    calibration = read_spec(config.out).calibration
    assert calibration is not None
    with Reranker.from_pretrained(config.out, "transformers", data.items, "cpu") as reranker:
        scores = np.concatenate(reranker.score_lists(load_dataset_folder(tmp_path / "shop").lists["valid"]))
    wanted = np.concatenate([np.array(r.labels) > 0 for r in lists["valid"]])
    assert calibration.probability(scores).mean() == pytest.approx(wanted.mean(), abs=0.02)


def test_none_where_it_is_not_wanted_or_cannot_be(config: FinetuneConfig, data: RankingData, tmp_path: Path) -> None:
    finetune(short(config, calibration="none"))
    assert read_spec(config.out).calibration is None
    assert "| calibration | none |" in (config.out / "README.md").read_text()
    all_wanted = [r.model_copy(update={"labels": (1,) * len(r.candidates)}) for r in data.lists["valid"]]
    lists = {"train": data.lists["train"], "valid": all_wanted}
    save_dataset_folder(tmp_path / "shop", RankingData(data.items, lists))
    finetune(replace(config, data=tmp_path / "shop", out=tmp_path / "same", calibration="isotonic"))
    assert read_spec(tmp_path / "same").calibration is None
    card = (tmp_path / "same" / "README.md").read_text()
    assert "| calibration | none: all validation candidates had the same outcome |" in card


def test_folders_from_before_load_and_broken_ones_are_one_sentence(config: FinetuneConfig) -> None:
    finetune(short(config))
    path = config.out / "reshelf.json"
    stored = json.loads(path.read_text())
    calibration = stored.pop("calibration")
    path.write_text(json.dumps(stored))
    assert read_spec(config.out).calibration is None
    for broken in (calibration | {"scores": []}, calibration | {"method": "guess"}, calibration | {"more": 1}, 3):
        path.write_text(json.dumps(stored | {"calibration": broken}))
        with pytest.raises(InputError, match=r"reshelf\.json"):
            read_spec(config.out)
    path.write_text(json.dumps(stored | {"calibration": calibration}))
    assert read_spec(config.out).calibration == Calibration(**calibration)
