"""A ranking list while it is being made: arrays and catalogue rows instead of records.

draft.past = past_of(log, draft);  finish(draft, log, item_ids, max_history=200)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from reshelf.data.dataset_folder import problem_of
from reshelf.data.importing.history import EventLog
from reshelf.data.importing.readers import NO_TIME, to_datetime
from reshelf.data.importing.splits import UNKNOWN
from reshelf.data.schema import Event, RankingList
from reshelf.errors import InputError

ANYONE = "anyone"
"""User id of a list that no particular shopper saw."""


@dataclass(kw_only=True)
class Draft:
    """See `RankingList`; `candidates` are rows of the catalogue, `past` rows of the event log."""

    list_id: str
    place: str
    """File and row, for messages."""
    candidates: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8]
    user_id: str = ANYONE
    time: int = NO_TIME
    """Microseconds since 1970 UTC."""
    query: str = ""
    split: int = UNKNOWN
    past: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    history: tuple[Event, ...] | None = None
    """Where the table brings its own."""
    scores: npt.NDArray[np.float64] | None = None
    positions: npt.NDArray[np.int64] | None = None
    features: dict[str, npt.NDArray[np.float64]] = field(default_factory=dict)

    def reorder(self, order: npt.NDArray[np.int64]) -> None:
        """Put the candidates, and all that runs parallel to them, into this order."""
        self.candidates, self.labels = self.candidates[order], self.labels[order]
        self.scores = None if self.scores is None else self.scores[order]
        self.positions = None if self.positions is None else self.positions[order]
        self.features = {name: values[order] for name, values in self.features.items()}


def past_of(log: EventLog, draft: Draft) -> npt.NDArray[np.int64]:
    """The shopper's events before the list: strictly earlier by time, or, where lists or events have no time, those
    of earlier splits. Events that the log ties to this very list are its outcome and never its history.

    Raises:
        InputError: there is no way to tell what came first.
    """
    user = log.codes.get(draft.user_id)
    if user is None:
        return np.zeros(0, dtype=np.int64)
    if log.timed and draft.time != NO_TIME:
        past = log.before(user, draft.time)
    elif draft.split > 0 and (log.split[log.span(user)] >= 0).all():
        past = log.before_split(user, draft.split)
    else:
        raise InputError(
            f"{draft.place}: nothing says which events came before this list; "
            "map its time, its history, or the events' split"
        )
    if log.list_id is not None:
        past = np.array([i for i in past if log.list_id[i] != draft.list_id], dtype=np.int64)
    return past


def finish(draft: Draft, log: EventLog | None, item_ids: list[str], max_history: int) -> RankingList:
    """The finished record.

    Raises:
        InputError: it is no valid list; names file, row and field.
    """
    history = draft.history
    if history is None:
        history = log.events(draft.past[-max_history:]) if log is not None and max_history > 0 else ()
    try:
        return RankingList(
            list_id=draft.list_id,
            user_id=draft.user_id,
            time=to_datetime(draft.time),
            query=draft.query,
            history=history[-max_history:] if max_history > 0 else (),
            candidates=tuple(item_ids[c] for c in draft.candidates.tolist()),
            labels=tuple(draft.labels.tolist()),
            scores=None if draft.scores is None else tuple(draft.scores.tolist()),
            positions=None if draft.positions is None else tuple(draft.positions.tolist()),
            features={name: tuple(values.tolist()) for name, values in draft.features.items()},
        )
    except ValidationError as error:
        raise InputError(f"{draft.place}, {problem_of(error)}") from error
