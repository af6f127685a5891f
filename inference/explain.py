"""Why a product stands where it does, by leave-one-out: the list is scored again without each thing the model read.

    ablations = leave_one_out(prepared, scores)
    explanations = ablations.explain(score(engine, ablations.lists))      # of the best few: {candidate: Explanation}

Left out are every event that is in the prompt, the query, and every field and feature of the product. Without an event
or the query, the whole list is scored again, for they move every product. Without a field only the product changes, so
all products without all their fields are candidates behind the list's own prefix: one more list, whose prefix has been
read. (Joint candidates are scored with the changed list in the prefix, a list for each change.)

Leaving one thing out says what it gave on top of all the rest (Covert, Lundberg and Lee, "Explaining by removing",
JMLR 2021, section 4); two events that say the same may both show as nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from gettext import NullTranslations
from typing import Any, Literal

import numpy as np

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.inference.explanation import Contrast, Explanation, Reason
from reshelf.inference.ranking import PreparedList, prepare
from reshelf.metrics.ordering import best_first, ranks
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import WITHOUT
from reshelf.prompts.fields import field_text
from reshelf.prompts.levels import values_of
from reshelf.translation import gettext_noop, translations

EXPLAINED = 5
"""Products, the best ones."""
EVENTS = 20
"""Latest events that are left out one by one."""
_NAMED = 2
"""Reasons for and against that the text names."""
_NAME_LENGTH = 60
"""Characters."""
_EVENT_NAMES = {
    EventKind.VIEW: gettext_noop("view of {what}"), EventKind.CLICK: gettext_noop("click on {what}"),
    EventKind.CART: gettext_noop("cart with {what}"), EventKind.PURCHASE: gettext_noop("purchase of {what}"),
    EventKind.RATING: gettext_noop("rating of {what}"), EventKind.SEARCH: gettext_noop("search for {what}"),
}  # fmt: skip
_FIELD_NAMES = {
    "title": gettext_noop("title {what}"), "brand": gettext_noop("brand {what}"), "price": gettext_noop("price {what}"),
    "price_level": gettext_noop("price level {what}"), "rating": gettext_noop("rating {what}"),
    "category": gettext_noop("category {what}"), "leaf": gettext_noop("leaf {what}"),
    "attributes": gettext_noop("attributes {what}"), "description": gettext_noop("description {what}"),
}  # fmt: skip


@dataclass(frozen=True)
class _Ablation:
    """One thing left out, and where the scores without it are."""

    kind: Literal["event", "query", "field", "feature"]
    name: str
    scored: int
    """Which of `LeaveOneOut.lists`."""
    candidate: int | None = None
    """The one candidate it is of; None for what all candidates are read with."""
    row: int | None = None
    """That candidate's place in the list that is scored; None where that is the whole list."""
    event: int | None = None


@dataclass(frozen=True)
class LeaveOneOut:
    """Lists to score, and what their scores will say about the best candidates of one list."""

    lists: list[PreparedList]
    items: list[Item]
    """The candidates."""
    scores: np.ndarray
    """float32 [K]: of the list as it is."""
    _translations: NullTranslations
    _ablations: list[_Ablation]
    _explained: list[int]

    def explain(self, scores: Sequence[np.ndarray]) -> dict[int, Explanation]:
        """Explanations of the best candidates, by their place in first-stage order.

        Args:
            scores: of `lists`, float32 [K] each.
        """
        found = {}
        before = ranks(self.scores)
        for k in self._explained:
            reasons = [
                self._reason(ablation, k, self._without(ablation, k, scores), before)
                for ablation in self._ablations
                if ablation.candidate in (None, k)
            ]
            reasons.sort(key=lambda pair: -abs(pair[0].change))
            contrast = self._contrast(k, reasons, before)
            strongest_first = [reason for reason, _ in reasons]
            text = _text(int(before[k]), k + 1, strongest_first, contrast, self._translations)
            found[k] = Explanation(reasons=strongest_first, contrast=contrast, text=text)
        return found

    def _without(self, ablation: _Ablation, k: int, scores: Sequence[np.ndarray]) -> np.ndarray:
        """The list's scores without one thing, float32 [K]."""
        if ablation.row is None:
            return scores[ablation.scored]
        changed = self.scores.copy()
        changed[k] = scores[ablation.scored][ablation.row]
        return changed

    def _reason(
        self, ablation: _Ablation, k: int, without: np.ndarray, before: np.ndarray
    ) -> tuple[Reason, np.ndarray]:
        """What leaving it out did to candidate `k`, and every candidate's rank without it."""
        after = ranks(without)
        change = self.scores[k] - without[k]
        if ablation.candidate is None:
            change -= self.scores.mean() - without.mean()
        gained = int(after[k] - before[k])
        reason = Reason(
            kind=ablation.kind, name=ablation.name, event=ablation.event, change=float(change), ranks_gained=gained
        )
        return reason, after

    def _contrast(self, k: int, reasons: Sequence[tuple[Reason, np.ndarray]], before: np.ndarray) -> Contrast | None:
        """The most similar product that an event kept below this one; of the event that did most."""
        for reason, after in reasons:
            if reason.kind != "event" or reason.change <= 0:
                continue
            passed = np.flatnonzero((before > before[k]) & (after < after[k])).tolist()
            if passed:
                best = max(passed, key=lambda j: (_similarity(self.items[k], self.items[j]), -before[j]))
                item = self.items[best]
                return Contrast(item_id=item.item_id, title=item.title, rank=int(before[best]), without=reason.name)
        return None


def leave_one_out(prepared: PreparedList, scores: np.ndarray) -> LeaveOneOut:
    """What to score to explain the best candidates of a list.

    Args:
        prepared: the list.
        scores: float32 [K], as it is.
    """
    builder, ranking, truncated = prepared.builder, prepared.ranking, prepared.truncated
    say = translations(builder.config.language)
    explained = best_first(scores)[:EXPLAINED].tolist()
    items = [builder.items[item_id] for item_id in ranking.candidates]
    lists: list[PreparedList] = []
    ablations: list[_Ablation] = []
    # Events that did not fit would come back in the place of one that is left out.
    kept = ranking.model_copy(update={"history": ranking.history[truncated.events :]})
    for n in range(len(kept.history))[-EVENTS:]:
        without = kept.model_copy(update={"history": kept.history[:n] + kept.history[n + 1 :]})
        name = _event(kept.history[n], builder)
        ablations.append(_Ablation("event", name, len(lists), event=truncated.events + n))
        lists.append(prepare(builder, without))
    if ranking.query:
        name = say.gettext("query {what}").format(what=_short(ranking.query))
        ablations.append(_Ablation("query", name, len(lists)))
        lists.append(prepare(builder, kept.model_copy(update={"query": ""})))
    changed = [(k, *change) for k in explained for change in _changes(builder, kept, items[k], k)]
    if builder.joint:
        for k, kind, name, item, alone in changed:
            ablations.append(_Ablation(kind, name, len(lists), candidate=k))
            lists.append(prepare(builder.with_items({item.item_id: item}), _replaced(kept, k, alone)))
    elif changed:
        for row, (k, kind, name, *_) in enumerate(changed):
            ablations.append(_Ablation(kind, name, len(lists), candidate=k, row=row))
        over = builder.with_items({item.item_id: item for *_, item, _ in changed})
        together = prepare(over, _joined([alone for *_, alone in changed], ranking))
        lists.append(replace(together, prompt=replace(together.prompt, prefix=prepared.prompt.prefix)))
    return LeaveOneOut(lists, items, scores, say, ablations, explained)


def _changes(
    builder: PromptBuilder, ranking: RankingList, item: Item, k: int
) -> list[tuple[Literal["field", "feature"], str, Item, RankingList]]:
    """A product without each of its fields and features (`FeatureLevels.absent`): the item, and a list of it alone."""
    found: list[tuple[Literal["field", "feature"], str, Item, RankingList]] = []
    alone = ranking.only([k])
    say = translations(builder.config.language)
    for name in builder.config.fields:
        text = field_text(item, name)
        if text:
            # An id that no item has: the builder keeps token ids by it.
            less = item.model_copy(update=WITHOUT[name] | {"item_id": f"{item.item_id}\0{name}"})
            one = alone.model_copy(update={"candidates": (less.item_id,)})
            found.append(("field", say.gettext(_FIELD_NAMES[name]).format(what=_short(text)), less, one))
    for name in builder.config.features:
        if np.isnan(values_of(alone, name)[0]):
            continue  # it is left out already
        absent = (builder.levels.absent(name),)
        same = item.model_copy(update={"item_id": f"{item.item_id}\0\0{name}"})
        value: dict[str, Any] = (
            {"scores": absent} if name == "first_stage" else {"features": alone.features | {name: absent}}
        )
        one = alone.model_copy(update=value | {"candidates": (same.item_id,)})
        # Of a shop's own there is no translation; it keeps its name.
        found.append(("feature", say.gettext(name.replace("_", " ")), same, one))
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


def _similarity(one: Item, other: Item) -> float:
    """Share of their words that two products have in common (Jaccard)."""
    a, b = (
        {*item.title.lower().split(), *item.category, item.brand or "", *item.attributes.values()}
        for item in (one, other)
    )
    return len(a & b) / len(a | b)


def _event(event: Event, builder: PromptBuilder) -> str:
    what = (event.query or "") if event.item_id is None else builder.items[event.item_id].title
    return translations(builder.config.language).gettext(_EVENT_NAMES[event.kind]).format(what=_short(what))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _NAME_LENGTH else text[: _NAME_LENGTH - 1] + "…"


def _text(rank: int, before: int, reasons: Sequence[Reason], contrast: Contrast | None, say: NullTranslations) -> str:
    # Sentences end with their own space: Chinese has none.
    _ = say.gettext
    moved = _("Place {rank}, as before. ") if rank == before else _("Place {rank}, {before} before. ")
    sentences = [moved.format(rank=rank, before=before)]
    for sentence, sign in ((_("For it: {reasons}. "), 1), (_("Against it: {reasons}. "), -1)):
        named = [r for r in reasons if sign * r.change >= 0.005][:_NAMED]
        if named:
            sentences.append(sentence.format(reasons=_("; ").join(_phrase(reason, say) for reason in named)))
    if contrast is not None:
        sentence = _("Without the {reason}, {title} would be above it. ")
        sentences.append(sentence.format(reason=contrast.without, title=_short(contrast.title)))
    return "".join(sentences).strip()


def _phrase(reason: Reason, say: NullTranslations) -> str:
    n = abs(reason.ranks_gained)
    if not n:
        text = say.gettext("{name} ({change})")
    elif reason.ranks_gained > 0:
        text = say.ngettext("{name} ({change}, {n} place up)", "{name} ({change}, {n} places up)", n)
    else:
        text = say.ngettext("{name} ({change}, {n} place down)", "{name} ({change}, {n} places down)", n)
    return text.format(name=reason.name, change=f"{reason.change:+.2f}", n=n)
