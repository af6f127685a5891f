"""The pipeline: identical products get one score and keep first-stage order, whatever is beside them in a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reshelf.data.schema import Item, RankingList
from reshelf.inference.engines.transformers_engine import Budget, TransformersEngine
from reshelf.inference.ranking import NonFiniteScoreError, prepare, rank, score
from reshelf.modeling.checkpoint import TrainedReranker, load_reranker


@pytest.fixture(scope="module")
def trained(reranker_folder: Path) -> TrainedReranker:
    return load_reranker(reranker_folder, "cpu")


@pytest.mark.parametrize("candidates", ["independent", "joint"])
@settings(max_examples=25, deadline=None)
@given(
    lists=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=14), min_size=1, max_size=4),
    tokens=st.sampled_from([64, 200, 16384]),
)
def test_identical_products_get_one_score_and_keep_first_stage_order(
    trained: TrainedReranker, catalogue: dict[str, Item], candidates: str, lists: list[list[int]], tokens: int
) -> None:
    products = list(catalogue.values())[:5]
    items = {
        f"{n}-{k}": products[which].model_copy(update={"item_id": f"{n}-{k}"})
        for n, kinds in enumerate(lists)
        for k, which in enumerate(kinds)
    }
    spec = replace(trained.spec, candidates=candidates)  # type: ignore[arg-type]
    builder = spec.builder(trained.tokenizer, items)
    prepared = [
        prepare(
            builder,
            RankingList(
                list_id=str(n), user_id="u", query="blue wool coat",
                candidates=[f"{n}-{k}" for k in range(len(kinds))], scores=[0.5] * len(kinds),
            ),
        )
        for n, kinds in enumerate(lists)
    ]  # fmt: skip
    engine = TransformersEngine(trained.model, Budget(tokens=tokens))
    for one, kinds, values in zip(prepared, lists, score(engine, prepared), strict=True):
        assert len(one.prompt.items) == len(set(kinds))
        # Each of the whole list's candidates, scored one by one, has the score it got.
        for k, ids in enumerate(builder.build(one.ranking).items):
            np.testing.assert_array_equal(one.prompt.items[one.rows[k]], ids)
            assert len({float(values[j]) for j, kind in enumerate(kinds) if kind == kinds[k]}) == 1
        order = rank(values).order.tolist()
        for kind in set(kinds):
            places = [k for k in order if kinds[k] == kind]
            assert places == sorted(places)


def test_scores_that_are_no_numbers_are_refused(
    trained: TrainedReranker, catalogue: dict[str, Item], lists: list[RankingList]
) -> None:
    prepared = prepare(trained.builder(catalogue), lists[0])
    for wrong in (np.nan, np.inf):
        values = np.zeros(len(prepared.prompt.items), dtype=np.float32)
        values[3] = wrong
        with pytest.raises(NonFiniteScoreError, match="list l0"):
            prepared.scores(values)
