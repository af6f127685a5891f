"""How a list becomes an order: the one pipeline that `Reranker`, `reshelf rerank`, batch jobs and the service call.

    prepared = prepare(builder, ranking)                   # the prompt, equal candidates once
    (values,) = engine.score([prepared.prompt])            # at once, among many, or awaited: the caller's
    ranked = rank(prepared.scores(values), calibration)    # scores, order, probabilities; rules and blending with it
    interleave(ranked, others, seed).ranked                # with another order of the same list, in an experiment
    [ranking.candidates[k] for k in ranked.order]

What comes before the engine and what comes after it are plain functions: a caller awaits a queue, or collects lists
into large calls, between them. `score` is for who calls an engine directly.

Candidates whose token ids are equal are scored once and get that one score. Computed apart, their scores would differ
in the last bits, with the engine and with what else is in the batch, and identical products would change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reshelf.data.schema import Item, RankingList
from reshelf.inference.engines.engine import Engine
from reshelf.inference.interleaving import team_draft
from reshelf.inference.rules import Arranged, Rules
from reshelf.metrics.ordering import best_first
from reshelf.modeling.blend import blend
from reshelf.modeling.calibration import Calibration
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.list_prompt import ListPrompt, Truncated


class NonFiniteScoreError(RuntimeError):
    """A model gave a score that is not a finite number."""


@dataclass(frozen=True)
class PreparedList:
    """A list as an engine reads it."""

    builder: PromptBuilder
    """What wrote the prompt; it knows the list's items."""
    ranking: RankingList
    prompt: ListPrompt
    """To be scored: token ids, with candidates whose ids are equal once, at the first one's place."""
    rows: np.ndarray
    """int64 [K]: which of the prompt's items each candidate is."""

    @property
    def truncated(self) -> Truncated:
        """What did not fit the prompt's budgets."""
        return self.prompt.truncated

    def scores(self, values: np.ndarray) -> np.ndarray:
        """Raw log-odds of every candidate, float32 [K].

        Args:
            values: float32, one per item of `prompt`, as an engine scores it.

        Raises:
            NonFiniteScoreError: one is NaN or infinite.
        """
        if not np.isfinite(values).all():
            raise NonFiniteScoreError(f"list {self.ranking.list_id}: the model gave a score that is not a number")
        return values[self.rows]


@dataclass(frozen=True)
class Ranked:
    """Scores of a list's candidates and the order they make."""

    scores: np.ndarray
    """float32 [K], raw log-odds, in first-stage order."""
    values: np.ndarray
    """float [K], in first-stage order: what is ordered by before rules. The scores, unless blended with the first
    stage."""
    arranged: Arranged
    """The order, and what rules did."""
    probabilities: np.ndarray | None
    """float64 [K], calibrated, in first-stage order; None where the model was not calibrated."""

    @property
    def order(self) -> np.ndarray:
        """int64, candidates best first; equal values keep first-stage order. Fewer than K where rules removed some."""
        return self.arranged.order


def prepare(builder: PromptBuilder, ranking: RankingList) -> PreparedList:
    """Build a list's prompt.

    Raises:
        InputError: as `PromptBuilder.build`.
    """
    return prepared(builder, ranking, builder.build(ranking))


def prepared(builder: PromptBuilder, ranking: RankingList, prompt: ListPrompt) -> PreparedList:
    """A list whose whole prompt is built, with equal candidates once."""
    distinct: dict[bytes, int] = {}
    rows = np.array([distinct.setdefault(ids.tobytes(), len(distinct)) for ids in prompt.items])
    if len(distinct) < len(rows):
        firsts = np.unique(rows, return_index=True)[1]
        prompt = replace(prompt, items=tuple(prompt.items[k] for k in firsts))
    return PreparedList(builder, ranking, prompt, rows)


def score(engine: Engine, lists: Sequence[PreparedList]) -> list[np.ndarray]:
    """Raw log-odds of every candidate of every list, float32 [K] per list.

    Raises:
        InputError: a list is too long for the engine.
        NonFiniteScoreError: a score is not a number.
    """
    values = engine.score([one.prompt for one in lists])
    return [one.scores(found) for one, found in zip(lists, values, strict=True)]


def rank(
    scores: np.ndarray, calibration: Calibration | None = None, personalization: float = 1.0,
    rules: Rules | None = None, items: Sequence[Item] = (),
) -> Ranked:  # fmt: skip
    """The order that scores make, and their probabilities.

    Args:
        scores: float32 [K], raw log-odds in first-stage order.
        calibration: of the model.
        personalization: how much of the order is the model's (`modeling.blend`).
        rules: what a merchandiser asks for (`inference.rules`).
        items: the K candidates, for `rules`.

    >>> rank(np.array([0.5, 2.0, 0.5], dtype=np.float32)).order.tolist()
    [1, 0, 2]
    """
    values = scores if personalization == 1 else blend(scores, personalization)
    arranged = rules.arrange(values, items) if rules else Arranged(best_first(values))
    return Ranked(scores, values, arranged, None if calibration is None else calibration.probability(scores))


@dataclass(frozen=True)
class Interleaved:
    """A team draft of two orders of a list."""

    ranked: Ranked
    """Its values are the first order's own, put in the order of the draft."""
    teams: dict[int, int]
    """Of every candidate, which order picked it: 0 or 1. Those that a rule pins are missing: nobody picked them."""
    orders: tuple[list[int], list[int]] | None
    """The two, candidates best first; None where there are rules, which move candidates after the draft."""


def interleave(
    ranked: Ranked, others: np.ndarray, seed: int, rules: Rules | None = None, items: Sequence[Item] = ()
) -> Interleaved:
    """A team draft of an order and another one of the same list (`inference.interleaving`).

    Rules hold for the draft as for any order: boosts count in both orders, everything else comes after the draft.

    Args:
        ranked: the first order.
        others: float [K], in first-stage order: what the second one orders by.
        seed: of the draft's coins.
        rules: as `rank`.
        items: as `rank`.
    """
    both = [rules.boost(values, items) if rules else values for values in (ranked.values, others)]
    orders = best_first(both[0]).tolist(), best_first(both[1]).tolist()
    draft = team_draft(*orders, seed)
    values = np.empty(len(others))
    values[draft.order] = np.sort(ranked.values)[::-1]
    arranged = rules.rearrange(draft.order, items) if rules else Arranged(np.array(draft.order, dtype=np.int64))
    pinned = {pin.item_id for pin in rules.pins} if rules else ()
    teams = {k: team for k, team in draft.teams.items() if not pinned or items[k].item_id not in pinned}
    return Interleaved(replace(ranked, values=values, arranged=arranged), teams, None if rules else orders)
