"""The `evaluate` metrics against slow, obvious arithmetic and against what any ranking metric must satisfy."""

from __future__ import annotations

import math
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import reshelf.metrics as metrics
from reshelf.metrics.auc import Auc, auc_of_rows
from reshelf.metrics.mrr import Mrr, reciprocal_rank_of_list
from reshelf.metrics.ndcg import Ndcg, ndcg_of_list
from reshelf.metrics.ordering import (
    exponential_gains,
    mean_or_none,
    order,
    rank_scores,
    relevance_threshold,
)
from reshelf.metrics.recall import Recall, recall_of_list
from reshelf.metrics.uauc import Uauc

SCRIPTS = Path(metrics.__file__).parent

# Few distinct scores, so that ties are common.
SCORE = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-30, 0.5, 3.0, 1e30])


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    n = draw(st.integers(1, 15))
    return (
        draw(st.lists(SCORE, min_size=n, max_size=n)),
        draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)),
    )


def slow_order(scores: list[float]) -> list[int]:
    """Insertion sort: a candidate passes another only with a strictly higher score."""
    placed: list[int] = []
    for candidate, score in enumerate(scores):
        at = len(placed)
        while at > 0 and score > scores[placed[at - 1]]:
            at -= 1
        placed.insert(at, candidate)
    return placed


def slow_ndcg(scores: list[float], gains: list[float], k: int) -> float:
    def dcg(ordered: list[float]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ordered[:k], start=1))

    best = dcg(sorted(gains, reverse=True))
    return dcg([gains[i] for i in slow_order(scores)]) / best if best else math.nan


def slow_reciprocal_rank(scores: list[float], labels: list[int], relevant_from: int) -> float:
    for rank, i in enumerate(slow_order(scores), start=1):
        if labels[i] >= relevant_from:
            return 1 / rank
    return math.nan


def slow_recall(scores: list[float], labels: list[int], k: int, relevant_from: int) -> float:
    relevant = [i for i, label in enumerate(labels) if label >= relevant_from]
    found = [i for i in slow_order(scores)[:k] if i in relevant]
    return len(found) / len(relevant) if relevant else math.nan


def slow_auc(scores: list[float], labels: list[int], relevant_from: int) -> float:
    wins = [
        1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0
        for i in range(len(scores))
        for j in range(len(scores))
        if labels[i] >= relevant_from > labels[j]
    ]
    return sum(wins) / len(wins) if wins else math.nan


@given(lists(), st.integers(1, 20), st.integers(1, 3))
def test_every_metric_equals_the_slow_reference(one: tuple[list[float], list[int]], k: int, relevant_from: int) -> None:
    scores, labels = one
    gains = [2.0**label - 1 for label in labels]
    assert order(scores).tolist() == slow_order(scores)
    assert ndcg_of_list(scores, gains, k) == pytest.approx(slow_ndcg(scores, gains, k), abs=1e-5, nan_ok=True)
    assert reciprocal_rank_of_list(scores, labels, relevant_from) == pytest.approx(
        slow_reciprocal_rank(scores, labels, relevant_from), nan_ok=True
    )
    assert recall_of_list(scores, labels, k, relevant_from) == pytest.approx(
        slow_recall(scores, labels, k, relevant_from), nan_ok=True
    )
    assert auc_of_rows(scores, labels, relevant_from) == pytest.approx(
        slow_auc(scores, labels, relevant_from), nan_ok=True
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 50))
def test_linear_gains_equal_the_slow_reference(utility: list[float], k: int) -> None:
    scores = list(np.random.default_rng(0).permutation(len(utility)))
    if max(utility) > 1e-30:  # below that the float32 of the library is zero
        assert ndcg_of_list(scores, utility, k) == pytest.approx(slow_ndcg(scores, utility, k), abs=1e-5)


@given(lists(), st.integers(1, 20))
def test_the_order_by_label_is_perfect_and_nothing_is_better(one: tuple[list[float], list[int]], k: int) -> None:
    scores, labels = one
    if max(labels) == 0:
        return
    gains = exponential_gains(labels)
    best = [float(label) for label in labels]
    assert ndcg_of_list(best, gains, k) == pytest.approx(1, abs=1e-6)
    assert 0 <= ndcg_of_list(scores, gains, k) <= 1
    assert reciprocal_rank_of_list(best, labels, max(labels)) == 1
    assert recall_of_list(best, labels, len(labels), 1) == 1
    assert reciprocal_rank_of_list(scores, labels, 1) >= 1 / len(labels)


@given(lists(), st.randoms(use_true_random=False))
def test_without_ties_the_order_of_the_candidates_does_not_matter(
    one: tuple[list[float], list[int]],
    random: np.random.RandomState,
) -> None:
    _, labels = one
    scores = [float(i) for i in range(len(labels))]
    shuffled = list(range(len(labels)))
    random.shuffle(shuffled)
    other_scores, other_labels = [scores[i] for i in shuffled], [labels[i] for i in shuffled]
    for metric in (
        lambda s, y: ndcg_of_list(s, exponential_gains(y), 3),
        lambda s, y: reciprocal_rank_of_list(s, y, 1),
        lambda s, y: recall_of_list(s, y, 3, 1),
        lambda s, y: auc_of_rows(s, y, 1),
    ):
        assert metric(scores, labels) == pytest.approx(metric(other_scores, other_labels), abs=1e-6, nan_ok=True)


@given(lists())
def test_any_rising_function_of_the_scores_gives_the_same_numbers(one: tuple[list[float], list[int]]) -> None:
    scores, labels = one
    ranks = [float(sorted(set(scores)).index(s)) for s in scores]
    assert ndcg_of_list(scores, exponential_gains(labels), 10) == pytest.approx(
        ndcg_of_list(ranks, exponential_gains(labels), 10), nan_ok=True
    )
    assert auc_of_rows(scores, labels, 1) == pytest.approx(auc_of_rows(ranks, labels, 1), nan_ok=True)


def test_ties_keep_first_stage_order() -> None:
    tied = [1.0] * 30
    assert rank_scores(tied).tolist() == list(range(30, 0, -1))
    first_is_wanted, last_is_wanted = [3] + [0] * 29, [0] * 29 + [3]
    assert reciprocal_rank_of_list(tied, first_is_wanted, 3) == 1
    assert reciprocal_rank_of_list(tied, last_is_wanted, 3) == pytest.approx(1 / 30)
    assert ndcg_of_list(tied, first_is_wanted, 10) == 1
    assert ndcg_of_list(tied, last_is_wanted, 10) == 0
    assert recall_of_list(tied, last_is_wanted, 29, 3) == 0


def test_scores_that_differ_only_in_double_precision_are_not_ties() -> None:
    assert rank_scores([1.0, 1.0 + 1e-12]).tolist() == [1, 2]


def test_negative_log_odds_count_like_any_score() -> None:
    assert reciprocal_rank_of_list([-9.0, -3.0], [0, 1], 1) == 1
    assert recall_of_list([-9.0, -3.0], [1, 1], 2, 1) == 1


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf], [[1.0]]])
def test_scores_that_cannot_be_ranked_are_refused(scores: list) -> None:
    with pytest.raises(ValueError, match="score"):
        rank_scores(scores)


@pytest.mark.parametrize("gains", [[-0.1, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_gains_that_are_none_are_refused(gains: list[float]) -> None:
    with pytest.raises(ValueError, match="gains"):
        ndcg_of_list([1.0, 2.0], gains, 10)


def test_relevance_is_purchase_where_there_is_one() -> None:
    assert relevance_threshold([[0, 1], [2, 3]]) == 3
    assert relevance_threshold([[0, 1], [2, 0]]) == 1
    assert relevance_threshold([]) == 1


def test_mean_or_none() -> None:
    assert mean_or_none([1.0, math.nan, 3.0]) == 2
    assert mean_or_none([math.nan]) is None
    assert mean_or_none([]) is None


def test_lists_without_gain_are_skipped_and_counted() -> None:
    scores, labels = [[1.0, 2.0], [1.0, 2.0, 3.0]], [[3, 0], [0, 0, 0]]
    ndcg = Ndcg(keep_in_memory=True).compute(predictions=scores, references=labels, k=5)
    assert ndcg["ndcg@5"] == pytest.approx(1 / math.log2(3), abs=1e-6)
    assert ndcg["skipped"] == 1
    assert math.isnan(ndcg["per_list"][1])
    mrr = Mrr(keep_in_memory=True).compute(predictions=scores, references=labels, relevant_from=3)
    assert (mrr["mrr"], mrr["skipped"]) == (0.5, 1)
    recall = Recall(keep_in_memory=True).compute(predictions=scores, references=labels, relevant_from=3, k=1)
    assert (recall["recall@1"], recall["skipped"]) == (0.0, 1)


def test_gain_is_exponential_or_linear_and_nothing_else() -> None:
    inputs = {"predictions": [[1.0, 2.0, 0.0]], "references": [[3, 1, 2]]}
    exponential = Ndcg(keep_in_memory=True).compute(**inputs)["ndcg@10"]
    linear = Ndcg(keep_in_memory=True).compute(**inputs, gain="linear")["ndcg@10"]
    assert exponential == pytest.approx(slow_ndcg([1, 2, 0], [7, 1, 3], 10), abs=1e-6)
    assert linear == pytest.approx(slow_ndcg([1, 2, 0], [3, 1, 2], 10), abs=1e-6)
    with pytest.raises(ValueError, match="gain"):
        Ndcg(keep_in_memory=True).compute(**inputs, gain="quadratic")


def test_auc_compares_rows_across_lists_and_uauc_only_within_a_user() -> None:
    # Right within each user, but u2's scores are all higher.
    scores, labels, users = [[1.0, 2.0], [11.0, 12.0]], [[0, 1], [0, 1]], ["u1", "u2"]
    auc = Auc(keep_in_memory=True).compute(predictions=scores, references=labels)
    assert auc["auc"] == 0.75
    assert auc["per_list"] == [1.0, 1.0]
    uauc = Uauc(keep_in_memory=True).compute(predictions=scores, references=labels, users=users)
    assert uauc["uauc"] == 1
    assert Uauc(keep_in_memory=True).compute(predictions=scores, references=labels, users=["u1", "u1"])["uauc"] == 0.75


def test_uauc_is_the_unweighted_mean_over_users_with_both_labels() -> None:
    scores = [[2.0, 1.0], [3.0], [0.0], [5.0, 1.0, 2.0, 3.0]]
    labels = [[0, 3], [3], [3], [0, 3, 0, 0]]
    result = Uauc(keep_in_memory=True).compute(
        predictions=scores, references=labels, users=["a", "a", "b", "c"], relevant_from=3
    )
    assert result["per_user"]["a"] == 0.5
    assert math.isnan(result["per_user"]["b"])
    assert result["uauc"] == pytest.approx((0.5 + 0.0) / 2)
    assert result["skipped"] == 1
    assert result["per_list"][:2] == [0.5, 0.5]


def test_single_rows_with_one_label_have_no_auc() -> None:
    result = Auc(keep_in_memory=True).compute(predictions=[[1.0], [2.0]], references=[[1], [1]])
    assert result["auc"] is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [("ndcg", {"ndcg@10": 1.0}), ("mrr", {"mrr": 1.0}), ("recall", {"recall@10": 1.0}), ("auc", {"auc": 1.0})],
)
def test_evaluate_load_takes_the_scripts_offline(
    script: str, expected: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a metric opened a connection"))
    metric = evaluate.load(str(SCRIPTS / f"{script}.py"), cache_dir=str(tmp_path))
    result = metric.compute(predictions=[[0.1, 0.7], [0.9]], references=[[0, 3], [3]])
    assert {name: result[name] for name in expected} == pytest.approx(expected)


def test_evaluate_load_takes_the_uauc_script(tmp_path: Path) -> None:
    metric = evaluate.load(str(SCRIPTS / "uauc.py"), cache_dir=str(tmp_path))
    assert metric.compute(predictions=[[0.1, 0.7]], references=[[0, 3]], users=["u"])["uauc"] == 1
