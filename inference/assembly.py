"""The parts of one request put together as a `RankingList`: the first step of the pipeline in `inference.ranking`.

    assembled = assemble(builder, "rain jacket", candidates, history, scores=[2.0, 1.0])
    prepared = prepare(assembled.builder, assembled.ranking)

Batch jobs read whole `RankingList`s and begin at `prepare`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from pydantic import ValidationError

from reshelf.data.dataset_folder import problem_of
from reshelf.data.schema import Event, Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.levels import FeatureLevels

REQUEST = "request"
"""Id of the list and of the shopper: neither is in a prompt."""


@dataclass(frozen=True)
class AssembledList:
    """One request's list, and a builder that knows its items."""

    builder: PromptBuilder
    """Over the catalogue and the items that came with the request, which win."""
    ranking: RankingList
    unknown_events: int = 0
    """History events left out, for nobody said what their item is."""
    imputed: tuple[str, ...] = ()
    """Features the model reads that were not sent: `scores`, or `features.NAME`."""


def assemble(
    builder: PromptBuilder,
    query: str,
    candidates: Sequence[Item | str],
    history: Sequence[Event] = (),
    *,
    history_items: Sequence[Item] = (),
    scores: Sequence[float] | None = None,
    features: Mapping[str, Sequence[float]] | None = None,
    time: datetime | None = None,
    impute: bool = False,
) -> AssembledList:
    """Put the parts of a request together.

    Args:
        builder: over the catalogue.
        query: what the shopper searches for; empty for a recommendation slot.
        candidates: in first-stage order, best first: items, or ids of the catalogue's.
        history: oldest first.
        history_items: items that `history` names and that are neither candidates nor in the catalogue.
        scores: first-stage scores [K], higher is better.
        features: further numbers [K], by name.
        time: now; every event must be earlier.
        impute: go on with what is there, as a service must: events whose item is unknown are left out, and features
            the model reads are imputed where they were not sent. Otherwise `ranking.prepare` refuses both.

    Raises:
        InputError: the parts do not make a valid `RankingList`.
    """
    items = {item.item_id: item for item in history_items}
    items |= {item.item_id: item for item in candidates if isinstance(item, Item)}
    over = builder.with_items(items)
    events, features = list(history), features or {}
    missing: tuple[str, ...] = ()
    if impute:
        known = ChainMap(items, builder.items)  # type: ignore[arg-type]
        events = [event for event in history if event.item_id is None or event.item_id in known]
        scores, features, missing = impute_features(builder.levels, len(candidates), scores, features)
    try:
        ranking = RankingList(
            list_id=REQUEST,
            user_id=REQUEST,
            time=time,
            query=query,
            history=tuple(events),
            candidates=tuple(one if isinstance(one, str) else one.item_id for one in candidates),
            scores=None if scores is None else tuple(scores),
            features={name: tuple(values) for name, values in features.items()},
        )
    except ValidationError as error:
        raise InputError(f"{REQUEST}, {problem_of(error)}") from error
    return AssembledList(over, ranking, len(history) - len(events), missing)


def impute_features(
    levels: FeatureLevels, count: int, scores: Sequence[float] | None, features: Mapping[str, Sequence[float]]
) -> tuple[Sequence[float] | None, dict[str, Sequence[float]], tuple[str, ...]]:
    """First-stage scores and features for `count` candidates with those the model reads imputed, and their names.

    First-stage scores fall evenly over the levels with the first-stage rank. Any other feature is the middle of its
    levels for all candidates, so that it favours none.

    >>> levels = FeatureLevels({"first_stage": [0.1, 0.4, 0.8], "popularity": [3.0, 20.0, 90.0]})
    >>> impute_features(levels, 3, None, {})
    ([0.8, 0.4, 0.1], {'popularity': [20.0, 20.0, 20.0]}, ('scores', 'features.popularity'))
    """
    imputed = []
    complete = dict(features)
    for name, edges in levels.edges.items():
        if name == "first_stage" and scores is None:
            level = np.linspace(len(edges) - 1, 0, count).round().astype(int)
            scores = [edges[n] for n in level] if edges else [0.0] * count
            imputed.append("scores")
        elif name != "first_stage" and name not in complete:
            complete[name] = [levels.middle(name)] * count
            imputed.append(f"features.{name}")
    return scores, complete, tuple(imputed)
