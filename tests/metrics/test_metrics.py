"""The `evaluate` metrics against slow, obvious arithmetic and against what any ranking metric must satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import evaluate
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.evaluation.measure import relevance_threshold
from reshelf.metrics import scripts
from reshelf.metrics.auc import auc
from reshelf.metrics.average_precision import average_precision
from reshelf.metrics.mrr import reciprocal_rank
from reshelf.metrics.ndcg import discounts, exponential_gains, ndcg, ndcg_of_lists
from reshelf.metrics.ordering import best_first, finite_scores, ranks, unranked
from reshelf.metrics.recall import recall
from reshelf.metrics.scripts.auc import Auc
from reshelf.metrics.scripts.lists import mean_or_none
from reshelf.metrics.scripts.map import Map
from reshelf.metrics.scripts.mrr import Mrr
from reshelf.metrics.scripts.ndcg import Ndcg
from reshelf.metrics.scripts.recall import Recall
from reshelf.metrics.scripts.uauc import Uauc

SCRIPTS = Path(scripts.__file__).parent

# Few distinct scores, so that ties are common.
SCORE = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 1e-30, 0.5, 3.0, 1e30])


@st.composite
def lists(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    n = draw(st.integers(1, 7))
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


def over_orders(scores: list[float], metric: Callable[[list[int]], float]) -> float:
    """A metric of the order that scores give; of all orders, in the mean, where they give none."""
    if len(scores) > 1 and len(set(scores)) == 1:
        return float(np.mean([metric(list(order)) for order in permutations(range(len(scores)))]))
    return metric(slow_order(scores))


def slow_ndcg(scores: list[float], gains: list[float], k: int) -> float:
    def dcg(ordered: list[float]) -> float:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(ordered[:k], start=1))

    best = dcg(sorted(gains, reverse=True))
    return over_orders(scores, lambda order: dcg([gains[i] for i in order]) / best) if best else math.nan


def slow_reciprocal_rank(scores: list[float], labels: list[int], relevant_from: int) -> float:
    if max(labels) < relevant_from:
        return math.nan
    return over_orders(scores, lambda order: 1 / (1 + [labels[i] >= relevant_from for i in order].index(True)))


def slow_average_precision(scores: list[float], labels: list[int], k: int, relevant_from: int) -> float:
    relevant = [label >= relevant_from for label in labels]
    if not any(relevant):
        return math.nan

    def of(order: list[int]) -> float:
        hits = [relevant[i] for i in order]
        return sum(sum(hits[:r]) / r for r in range(1, len(hits[:k]) + 1) if hits[r - 1]) / min(k, sum(relevant))

    return over_orders(scores, of)


def slow_recall(scores: list[float], labels: list[int], k: int, relevant_from: int) -> float:
    relevant = [i for i, label in enumerate(labels) if label >= relevant_from]
    if not relevant:
        return math.nan
    return over_orders(scores, lambda order: len(set(order[:k]) & set(relevant)) / len(relevant))


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
    assert best_first(scores).tolist() == slow_order(scores)
    assert [slow_order(scores).index(i) + 1 for i in range(len(scores))] == ranks(scores).tolist()
    assert ndcg(scores, gains, k) == pytest.approx(slow_ndcg(scores, gains, k), abs=1e-5, nan_ok=True)
    assert reciprocal_rank(scores, labels, relevant_from) == pytest.approx(
        slow_reciprocal_rank(scores, labels, relevant_from), nan_ok=True
    )
    assert average_precision(scores, labels, k, relevant_from) == pytest.approx(
        slow_average_precision(scores, labels, k, relevant_from), nan_ok=True
    )
    assert recall(scores, labels, k, relevant_from) == pytest.approx(
        slow_recall(scores, labels, k, relevant_from), nan_ok=True
    )
    assert auc(scores, labels, relevant_from) == pytest.approx(slow_auc(scores, labels, relevant_from), nan_ok=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.integers(1, 50))
def test_linear_gains_equal_the_slow_reference(utility: list[float], k: int) -> None:
    scores = list(np.random.default_rng(0).permutation(len(utility)))
    if max(utility) > 0:
        assert ndcg(scores, utility, k) == pytest.approx(slow_ndcg(scores, utility, k), abs=1e-5)


@given(lists(), st.integers(1, 20))
def test_the_order_by_label_is_perfect_and_nothing_is_better(one: tuple[list[float], list[int]], k: int) -> None:
    scores, labels = one
    if max(labels) == 0:
        return
    gains = exponential_gains(labels)
    best = [float(label) for label in labels]
    assert ndcg(best, gains, k) == pytest.approx(1, abs=1e-6)
    assert 0 <= ndcg(scores, gains, k) <= 1
    assert reciprocal_rank(best, labels, max(labels)) == 1
    assert recall(best, labels, len(labels), 1) == 1
    assert reciprocal_rank(scores, labels, 1) >= 1 / len(labels)


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
        lambda s, y: ndcg(s, exponential_gains(y), 3),
        lambda s, y: reciprocal_rank(s, y, 1),
        lambda s, y: recall(s, y, 3, 1),
        lambda s, y: auc(s, y, 1),
    ):
        assert metric(scores, labels) == pytest.approx(metric(other_scores, other_labels), abs=1e-6, nan_ok=True)


@given(lists())
def test_any_rising_function_of_the_scores_gives_the_same_numbers(one: tuple[list[float], list[int]]) -> None:
    scores, labels = one
    ranks = [float(sorted(set(scores)).index(s)) for s in scores]
    assert ndcg(scores, exponential_gains(labels), 10) == pytest.approx(
        ndcg(ranks, exponential_gains(labels), 10), nan_ok=True
    )
    assert auc(scores, labels, 1) == pytest.approx(auc(ranks, labels, 1), nan_ok=True)


def test_ties_keep_first_stage_order() -> None:
    tied = [1.0] * 29 + [0.0]
    assert best_first(tied).tolist() == list(range(30))
    first_is_wanted, late_is_wanted = [3] + [0] * 29, [0] * 28 + [3, 0]
    assert reciprocal_rank(tied, first_is_wanted, 3) == 1
    assert reciprocal_rank(tied, late_is_wanted, 3) == pytest.approx(1 / 29)
    assert ndcg(tied, first_is_wanted, 10) == 1
    assert ndcg(tied, late_is_wanted, 10) == 0
    assert recall(tied, late_is_wanted, 28, 3) == 0


@pytest.mark.parametrize("score", [0.0, -7.5, 1e30])
@pytest.mark.parametrize("wanted", [0, 29])
def test_scores_that_do_not_differ_are_worth_a_random_order_wherever_the_first_stage_had_it(
    score: float, wanted: int
) -> None:
    constant, labels = [score] * 30, [3 if i == wanted else 0 for i in range(30)]
    assert unranked(constant)
    assert ndcg(constant, labels, 10) == pytest.approx(discounts(range(1, 11)).sum() / 30)
    assert reciprocal_rank(constant, labels) == pytest.approx(sum(1 / rank for rank in range(1, 31)) / 30)
    assert recall(constant, labels, 10) == pytest.approx(1 / 3)
    assert auc(constant, labels) == 0.5


def test_a_list_of_one_candidate_is_always_ranked() -> None:
    assert not unranked([0.5])
    assert ndcg([0.5], [1.0]) == reciprocal_rank([0.5], [1]) == recall([0.5], [1]) == 1


def test_unranked_lists_are_counted_beside_the_mean() -> None:
    inputs = {"predictions": [[1.0, 1.0], [1.0, 2.0], [4.0]], "references": [[0, 3], [0, 3], [3]]}
    for metric in (Ndcg, Mrr, Map, Recall, Auc):
        assert metric(keep_in_memory=True).compute(**inputs)["unranked"] == 1
    assert Uauc(keep_in_memory=True).compute(**inputs, users=["a", "b", "b"])["unranked"] == 1


@given(st.lists(lists(), min_size=1, max_size=5), st.integers(1, 20), st.floats(-9, 9))
def test_many_lists_at_once_equal_each_alone_whatever_fills_them_up(
    several: list[tuple[list[float], list[int]]], k: int, fill: float
) -> None:
    width = max(len(scores) for scores, _ in several)
    mask = np.array([[place < len(scores) for place in range(width)] for scores, _ in several])
    columns = [np.full(mask.shape, fill), np.full(mask.shape, abs(fill))]
    for column, rows in zip(columns, zip(*[(s, exponential_gains(y)) for s, y in several])):
        column[mask] = np.concatenate(rows)
    alone = [ndcg(scores, exponential_gains(labels), k) for scores, labels in several]
    np.testing.assert_allclose(ndcg_of_lists(*columns, mask, k), alone, rtol=1e-12)


def test_scores_that_differ_only_in_double_precision_are_not_ties() -> None:
    assert best_first([1.0, 1.0 + 1e-12]).tolist() == [1, 0]


def test_infinite_scores_are_ordered_as_numbers_and_nan_is_refused() -> None:
    assert best_first([-math.inf, 0.0, math.inf, -math.inf]).tolist() == [2, 1, 0, 3]
    assert best_first([[0.0, 1.0], [2.0, 1.0]]).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ValueError, match="score 1 is NaN"):
        best_first([0.0, math.nan])


def test_negative_log_odds_count_like_any_score() -> None:
    assert reciprocal_rank([-9.0, -3.0], [0, 1], 1) == 1
    assert recall([-9.0, -3.0], [1, 1], 2, 1) == 1


@pytest.mark.parametrize("scores", [[], [1.0, math.nan], [math.inf], [[1.0]]])
def test_scores_that_cannot_be_ranked_are_refused(scores: list) -> None:
    with pytest.raises(ValueError, match="score"):
        finite_scores(scores)


@pytest.mark.parametrize("gains", [[-0.1, 1.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_gains_that_are_none_are_refused(gains: list[float]) -> None:
    with pytest.raises(ValueError, match="gains"):
        ndcg([1.0, 2.0], gains, 10)


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


@pytest.mark.parametrize("metric", [average_precision, recall, reciprocal_rank])
@pytest.mark.parametrize("scores", [[0.5, 0.5], [0.9, 0.2]])
@pytest.mark.parametrize("labels", [[3, 3, 0], [3]])
def test_labels_of_another_list_are_refused(
    metric: Callable[..., float], scores: list[float], labels: list[int]
) -> None:
    """A list that is not ranked had a value by its number of candidates alone."""
    with pytest.raises(ValueError, match="there are 2 scores for labels of shape"):
        metric(scores, labels)
