"""Why a product stands where it does: each thing the model read is left out in turn, and the list is scored again.

    plan = plan_explanations(builder, ranking, prompt, scores)
    explanations = plan.explain(engine.score(plan.prompts))      # of the best few: {place in the list: Explanation}

Left out are every event that is in the prompt, the query, and every field and number of the product. Without an event
or the query, the whole list is scored again, for they move every product. Without a field only the product changes, so
all products without all their fields are candidates behind the list's own prefix: one more list, whose prefix has been
read. (Joint candidates are scored with the changed list in the prefix, a list for each change.)

Leaving one thing out says what it gave on top of all the rest (Covert, Lundberg and Lee, "Explaining by removing",
JMLR 2021, section 4); two events that say the same may both show as nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.inference.explanation import Explanation, Instead, Reason
from reshelf.prompts.builder import ListPrompt, PromptBuilder
from reshelf.prompts.fields import field_text

EXPLAINED = 5
"""Products, the best ones."""
EVENTS = 20
"""Latest events that are left out one by one."""
_NAMED = 2
"""Reasons for and against that the text names."""
_LENGTH = 60
"""Characters of a name."""
_DID = {
    EventKind.VIEW: "view of", EventKind.CLICK: "click on", EventKind.CART: "cart with",
    EventKind.PURCHASE: "purchase of", EventKind.RATING: "rating of",
}  # fmt: skip
_FIELDS: dict[str, dict[str, Any]] = {
    "title": {"title": ""},
    "brand": {"brand": None},
    "price": {"price": None, "currency": None},
    "price_level": {"price_level": None},
    "rating": {"rating": None, "rating_count": None},
    "category": {"category": ()},
    "leaf": {"category": ()},
    "attributes": {"attributes": {}},
    "description": {"description": None},
}
"""What an item is without a field of the prompt."""


@dataclass(frozen=True)
class _Left:
    """One thing left out, and where its scores are."""

    kind: Literal["event", "query", "field", "number"]
    name: str
    prompt: int
    """Which of the plan's prompts."""
    product: int | None = None
    """The one product it is of; None for what all products are read with."""
    row: int | None = None
    """That product's place in the prompt; None where the prompt is the whole list."""
    event: int | None = None


@dataclass(frozen=True)
class Plan:
    """Prompts to score, and what their scores will mean."""

    prompts: list[ListPrompt]
    items: list[Item]
    """The list's candidates."""
    scores: np.ndarray
    """float32 [K]: the list as it is."""
    _left: list[_Left]
    _best: list[int]

    def explain(self, scores: Sequence[np.ndarray]) -> dict[int, Explanation]:
        """Explanations of the best products, by their place in the request.

        Args:
            scores: of `prompts`, float32 [K] each.
        """
        found = {}
        ranks = _ranks(self.scores)
        for k in self._best:
            seen = [(left, self._without(left, k, scores)) for left in self._left if left.product in (None, k)]
            reasons = [self._reason(left, k, without, ranks) for left, without in seen]
            reasons.sort(key=lambda pair: -abs(pair[0].change))
            instead = self._instead(k, reasons, ranks)
            ordered = [reason for reason, _ in reasons]
            text = _text(int(ranks[k]), k + 1, ordered, instead)
            found[k] = Explanation(reasons=ordered, instead=instead, text=text)
        return found

    def _without(self, left: _Left, k: int, scores: Sequence[np.ndarray]) -> np.ndarray:
        """The list's scores without one thing, float32 [K]."""
        if left.row is None:
            return scores[left.prompt]
        changed = self.scores.copy()
        changed[k] = scores[left.prompt][left.row]
        return changed

    def _reason(self, left: _Left, k: int, without: np.ndarray, ranks: np.ndarray) -> tuple[Reason, np.ndarray]:
        """What leaving it out did to product `k`, and every product's rank without it."""
        after = _ranks(without)
        change = self.scores[k] - without[k]
        if left.product is None:
            change -= self.scores.mean() - without.mean()
        places = int(after[k] - ranks[k])
        return Reason(kind=left.kind, name=left.name, event=left.event, change=float(change), places=places), after

    def _instead(self, k: int, reasons: Sequence[tuple[Reason, np.ndarray]], ranks: np.ndarray) -> Instead | None:
        """The most alike product that an event kept below this one; of the event that did most."""
        for reason, after in reasons:
            if reason.kind != "event" or reason.change <= 0:
                continue
            passed = np.flatnonzero((ranks > ranks[k]) & (after < after[k])).tolist()
            if passed:
                best = max(passed, key=lambda j: (_alike(self.items[k], self.items[j]), -ranks[j]))
                item = self.items[best]
                return Instead(item_id=item.item_id, title=item.title, rank=int(ranks[best]), without=reason.name)
        return None


def plan_explanations(builder: PromptBuilder, ranking: RankingList, prompt: ListPrompt, scores: np.ndarray) -> Plan:
    """What to score to explain the best products of a list.

    Args:
        builder: that wrote `prompt`, over items of the list and the history.
        ranking: the list.
        prompt: it as token ids.
        scores: float32 [K], the list as it is.
    """
    best = np.argsort(-scores, kind="stable")[:EXPLAINED].tolist()
    items = [builder.items[item_id] for item_id in ranking.candidates]
    prompts: list[ListPrompt] = []
    left: list[_Left] = []
    # Events that did not fit would come back in the place of one that is left out.
    kept = ranking.model_copy(update={"history": ranking.history[prompt.trimmed.events :]})
    for n in range(len(kept.history))[-EVENTS:]:
        without = kept.model_copy(update={"history": kept.history[:n] + kept.history[n + 1 :]})
        name = _event(kept.history[n], builder)
        left.append(_Left("event", name, len(prompts), event=prompt.trimmed.events + n))
        prompts.append(builder.build(without))
    if ranking.query:
        left.append(_Left("query", f"query {_short(ranking.query)}", len(prompts)))
        prompts.append(builder.build(kept.model_copy(update={"query": ""})))
    changed = [(k, *change) for k in best for change in _changes(builder, kept, items[k], k)]
    if builder.joint:
        for k, kind, name, item, one in changed:
            rows = _replaced(kept, k, one)
            left.append(_Left(kind, name, len(prompts), product=k))
            prompts.append(builder.with_items({item.item_id: item}).build(rows))
    elif changed:
        together = _joined([one for *_, one in changed], ranking)
        for row, (k, kind, name, *_) in enumerate(changed):
            left.append(_Left(kind, name, len(prompts), product=k, row=row))
        over = builder.with_items({item.item_id: item for *_, item, _ in changed})
        prompts.append(replace(over.build(together), prefix=prompt.prefix))
    return Plan(prompts, items, scores, left, best)


def _changes(
    builder: PromptBuilder, ranking: RankingList, item: Item, k: int
) -> list[tuple[Literal["field", "number"], str, Item, RankingList]]:
    """A product without each of its fields, and with each number the middle one: the item, and a list of it alone."""
    found: list[tuple[Literal["field", "number"], str, Item, RankingList]] = []
    alone = ranking.only([k])
    for name in builder.config.fields:
        text = field_text(item, name)
        if text:
            # An id that no item has: the builder keeps token ids by it.
            less = item.model_copy(update=_FIELDS[name] | {"item_id": f"{item.item_id}\0{name}"})
            one = alone.model_copy(update={"candidates": (less.item_id,)})
            found.append(("field", f"{name.replace('_', ' ')} {_short(text)}", less, one))
    for name in builder.config.features:
        middle = (builder.levels.middle(name),)
        same = item.model_copy(update={"item_id": f"{item.item_id}\0\0{name}"})
        number: dict[str, Any] = (
            {"scores": middle} if name == "first_stage" else {"features": alone.features | {name: middle}}
        )
        one = alone.model_copy(update=number | {"candidates": (same.item_id,)})
        found.append(("number", name.replace("_", " "), same, one))
    return found


def _joined(lists: Sequence[RankingList], ranking: RankingList) -> RankingList:
    """One list of the only candidates of several."""
    names = lists[0].features
    return ranking.model_copy(
        update={
            "history": (),  # its prefix is not read from here
            "candidates": tuple(one.candidates[0] for one in lists),
            "labels": None,
            "positions": None,
            "utility": None,
            "scores": None if lists[0].scores is None else tuple(one.scores[0] for one in lists if one.scores),
            "features": {name: tuple(one.features[name][0] for one in lists) for name in names},
        }
    )


def _replaced(ranking: RankingList, k: int, one: RankingList) -> RankingList:
    """The whole list with another product at place `k`."""

    def put(values: tuple[Any, ...], value: Any) -> tuple[Any, ...]:
        return (*values[:k], value, *values[k + 1 :])

    changes: dict[str, Any] = {"candidates": put(ranking.candidates, one.candidates[0])}
    if ranking.scores is not None and one.scores is not None:
        changes["scores"] = put(ranking.scores, one.scores[0])
    changes["features"] = {name: put(values, one.features[name][0]) for name, values in ranking.features.items()}
    return ranking.model_copy(update=changes)


def _ranks(scores: np.ndarray) -> np.ndarray:
    """int64 [K], 1 is best; equal scores keep first-stage order."""
    ranks = np.empty(len(scores), dtype=np.int64)
    ranks[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return ranks


def _alike(one: Item, other: Item) -> float:
    """Share of their words that two products have in common (Jaccard)."""
    a, b = (
        {*item.title.lower().split(), *item.category, item.brand or "", *item.attributes.values()}
        for item in (one, other)
    )
    return len(a & b) / len(a | b)


def _event(event: Event, builder: PromptBuilder) -> str:
    if event.item_id is None:
        return f"search for {_short(event.query or '')}"
    return f"{_DID[event.kind]} {_short(builder.items[event.item_id].title)}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LENGTH else text[: _LENGTH - 1] + "…"


def _text(rank: int, before: int, reasons: Sequence[Reason], instead: Instead | None) -> str:
    sentences = [f"Place {rank}, {'as' if rank == before else f'{before}'} before."]
    for word, sign in (("For", 1), ("Against", -1)):
        named = [r for r in reasons if sign * r.change >= 0.005][:_NAMED]
        if named:
            sentences.append(f"{word} it: {'; '.join(map(_said, named))}.")
    if instead is not None:
        sentences.append(f"Without the {instead.without}, {_short(instead.title)} would be above it.")
    return " ".join(sentences)


def _said(reason: Reason) -> str:
    moved = f", {abs(reason.places)} place{'s' * (abs(reason.places) > 1)} {'up' if reason.places > 0 else 'down'}"
    return f"{reason.name} ({reason.change:+.2f}{moved if reason.places else ''})"
