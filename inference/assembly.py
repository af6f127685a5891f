"""The parts of one request put together as a `RankingList`: the first step of the pipeline in `inference.ranking`.

    assembled = assemble(builder, "rain jacket", candidates, history, scores=[2.0, 1.0])
    prepared = prepare(assembled.builder, assembled.ranking)

Batch jobs read whole `RankingList`s and begin at `with_features`.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from reshelf.data.dataset_folder import problem_of
from reshelf.data.schema import Event, Item, RankingList
from reshelf.data.signals.kept import FIRST_STAGE, KeptSignals
from reshelf.data.signals.live import LiveEvents
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.levels import FeatureLevels, field_of

REQUEST = "request"
"""Id of the list and of the shopper: neither is in a prompt."""


class UntrainedContextError(InputError):
    """A request says something of its moment that the model was not trained with.

    Args:
        name: of the context.
        known: names that the model reads.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        read = f"; it reads {', '.join(known)}" if known else ""
        super().__init__(
            f"{REQUEST}, field context.{name}: the model was not trained with it{read}; leave it out, or finetune "
            "with it in prompt.context"
        )
        self.name = name


class MissingFeaturesError(InputError):
    """A list lacks numbers that the model reads.

    Args:
        ranking: the list.
        names: what is missing: `scores`, or `features.NAME`.
    """

    def __init__(self, ranking: RankingList, names: Sequence[str]) -> None:
        super().__init__(
            f"list {ranking.list_id}, field {' and '.join(names)}: missing, and the model reads it; send one value per "
            "candidate, finetune on a data set that keeps its signals, or set impute to rank with medians, which costs "
            "much of the order's quality"
        )
        self.names = tuple(names)


@dataclass(frozen=True)
class AssembledList:
    """One request's list, and a builder that knows its items."""

    builder: PromptBuilder
    """Over the catalogue and the items that came with the request, which win."""
    ranking: RankingList
    unknown_events: int = 0
    """History events left out, for nobody said what their item is."""
    imputed: tuple[str, ...] = ()
    """Features the model reads that are imputed, of all candidates or of some: `scores`, or `features.NAME`."""
    missing: tuple[str, ...] = ()
    """Those that are written as missing."""


def assemble(
    builder: PromptBuilder,
    query: str,
    candidates: Sequence[Item | str],
    history: Sequence[Event] = (),
    *,
    history_items: Sequence[Item] = (),
    scores: Sequence[float | None] | None = None,
    features: Mapping[str, Sequence[float | None]] | None = None,
    time: datetime | None = None,
    context: Mapping[str, str] = MappingProxyType({}),
    signals: KeptSignals | None = None,
    live: LiveEvents | None = None,
    impute: bool = False,
    known_events: Container[str] | None = None,
) -> AssembledList:
    """Put the parts of a request together.

    Args:
        builder: over the catalogue.
        query: what the shopper searches for; empty for a recommendation slot.
        candidates: in first-stage order, best first: items, or ids of the catalogue's.
        history: oldest first.
        history_items: items that `history` names and that are neither candidates nor in the catalogue.
        scores: first-stage scores [K], higher is better; None for one that is not known.
        features: further numbers [K], by name; None as in `scores`.
        time: now; every event must be earlier.
        context: what else is known of the moment, by name (`RankingList.context`).
        signals: what computes features that the model reads and that were not sent.
        live: what happened since the tables of `signals` were made.
        impute: impute those that are missing still.
        known_events: ids of items that the history may name, beside those that came with it; other events are left out.
            None for all, and `ranking.prepare` refuses those whose item is not in the catalogue.

    Raises:
        UntrainedContextError: the model does not read something of `context`.
        MissingFeaturesError: as `with_features`.
        InputError: the parts do not make a valid `RankingList`.
    """
    known_context = builder.config.context
    if untrained := next((name for name in context if name not in known_context), None):
        raise UntrainedContextError(untrained, known_context)
    items = {item.item_id: item for item in history_items}
    items |= {item.item_id: item for item in candidates if isinstance(item, Item)}
    over = builder.with_items(items)
    events = list(history)
    if known_events is not None:
        events = [e for e in history if e.item_id is None or e.item_id in items or e.item_id in known_events]
    try:
        ranking = RankingList(
            list_id=REQUEST,
            user_id=REQUEST,
            time=time,
            query=query,
            context=dict(context),
            history=tuple(events),
            candidates=tuple(one if isinstance(one, str) else one.item_id for one in candidates),
            scores=None if scores is None else tuple(scores),  # type: ignore[arg-type]  # None becomes NaN
            features={name: tuple(values) for name, values in (features or {}).items()},  # type: ignore[arg-type]
        )
    except ValidationError as error:
        raise InputError(f"{REQUEST}, {problem_of(error)}") from error
    ranking, imputed, missing = with_features(ranking, builder.levels, impute, signals, live)
    return AssembledList(over, ranking, len(history) - len(events), imputed, missing)


class Completed(NamedTuple):
    """A list with every number that the model reads, and what of them was not to be had."""

    ranking: RankingList
    imputed: tuple[str, ...] = ()
    """Fields with medians: `scores`, or `features.NAME`."""
    missing: tuple[str, ...] = ()
    """Fields with NaN, for all candidates or for some."""


def with_features(
    ranking: RankingList, levels: FeatureLevels, impute: bool, signals: KeptSignals | None = None,
    live: LiveEvents | None = None,
) -> Completed:  # fmt: skip
    """A list with every number that the model reads: as sent, or computed, or imputed, or missing.

    An imputed feature is the middle of its levels, so that it favours none; first-stage scores fall evenly over their
    levels with the rank. Where a signal is not known of some candidates, only theirs are imputed. A model that was
    trained on missing numbers (`levels.missing`) is told that they are missing, as NaN, unless nearly all are.

    Args:
        ranking: numbers that it carries stay as they are; NaN is one that is not known.
        levels: of the model.
        impute: whether missing numbers are imputed.
        signals: the reranker's own; None where it has none.
        live: what happened since its tables were made.

    Raises:
        MissingFeaturesError: numbers are missing, are not to be imputed, and the model has not been trained on lists
            that lack them, or nearly all of its numbers are (`FeatureLevels.may_lack`).

    Examples:
        >>> levels = FeatureLevels({"first_stage": [0.1, 0.4, 0.8], "popularity": [3.0, 20.0, 90.0]})
        >>> ranking = RankingList(list_id="l", user_id="u", candidates=("a", "b", "c"))
        >>> complete, imputed, _ = with_features(ranking, levels, impute=True)
        >>> complete.scores, complete.features, imputed
        ((0.8, 0.4, 0.1), {'popularity': (20.0, 20.0, 20.0)}, ('scores', 'features.popularity'))
    """
    count = len(ranking.candidates)
    unknown = np.full(count, np.nan)
    sent = {name: np.array(values) for name, values in ranking.features.items() if name in levels.edges}
    if ranking.scores is not None:
        sent[FIRST_STAGE] = np.array(ranking.scores)
    wanted = [name for name in levels.edges if np.isnan(sent.get(name, unknown)).any()]
    if not wanted:
        return Completed(ranking)
    computed = {} if signals is None else signals.compute(ranking, wanted, live)
    found = {}
    for name in wanted:
        own = sent.get(name, unknown)
        found[name] = np.where(np.isnan(own), computed.get(name, unknown), own)
    missing = [name for name in wanted if np.isnan(found[name]).any()]
    fields = tuple(map(field_of, missing))
    if missing and not impute:
        lacking = sum(int(np.isnan(found[name]).sum()) for name in missing)
        if not levels.may_lack(lacking, count):
            raise MissingFeaturesError(ranking, fields)
    if impute:
        for name in missing:
            found[name] = np.where(np.isnan(found[name]), _imputed(levels, name, count), found[name])
    complete = {name: tuple(values.tolist()) for name, values in found.items()}
    scores = complete.pop(FIRST_STAGE, ranking.scores)
    ranking = ranking.model_copy(update={"scores": scores, "features": {**ranking.features, **complete}})
    return Completed(ranking, fields, ()) if impute else Completed(ranking, (), fields)


def _imputed(levels: FeatureLevels, name: str, count: int) -> np.ndarray:
    """Values for candidates of which a feature is not known, float64 [count]."""
    edges = levels.edges[name]
    if name != FIRST_STAGE or not edges:
        return np.full(count, levels.middle(name))
    return np.array(edges)[np.linspace(len(edges) - 1, 0, count).round().astype(int)]
