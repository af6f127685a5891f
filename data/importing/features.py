"""The signals of an import: what `signals` in a mapping asks for, computed for some lists at a time.

features = make_features(mapping.signals, items, log, lists)
features.compute(chosen, asks, labels, offsets)[0]["popularity"]       # float64 [K]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reshelf.data.importing.lists import Lists
from reshelf.data.importing.mapping import SignalsConfig
from reshelf.data.importing.splits import TRAIN
from reshelf.data.schema import Item
from reshelf.data.signals import COUNTED, SIGNALS, Ask, Signals, Texts
from reshelf.data.signals.event_log import EventLog, Int64
from reshelf.data.signals.list_outcomes import OUTCOMES, Outcomes, Shown
from reshelf.errors import InputError

_DESCRIPTION = 2000
"""Characters of a description that count."""


@dataclass(frozen=True)
class Features:
    """Signals of one import."""

    names: list[str]
    signals: Signals
    outcomes: Outcomes | None
    lists: Lists

    def compute(
        self, chosen: Int64, asks: Sequence[Ask], labels: npt.NDArray[np.int8], offsets: Int64
    ) -> list[dict[str, npt.NDArray[np.float64]]]:
        """For every chosen list, its signals by name, float64 [K] each.

        Args:
            chosen: places of the lists.
            labels: of all their candidates, those of list i from `offsets[i]` to `offsets[i + 1]`.
        """
        values = self.signals.compute(asks, [name for name in self.names if name not in OUTCOMES])
        if self.outcomes is not None:
            for i, place in enumerate(chosen.tolist()):
                wanted = labels[offsets[i] : offsets[i + 1]] > 0
                one = Shown(str(self.lists.user[place]), asks[i].candidates, wanted)
                values[i] |= self.outcomes.compute([one], bool(self.lists.split[place] == TRAIN))[0]
        return values


def make_features(spec: SignalsConfig, items: Sequence[Item], log: EventLog | None, lists: Lists) -> Features | None:
    """What a mapping asks for; None where it asks for nothing.

    Raises:
        InputError: a signal is unknown, or there are no train events to count.
    """
    names = list(dict.fromkeys([*spec.names, *spec.first_stage]))
    unknown = [n for n in names if n not in SIGNALS + OUTCOMES]
    if unknown:
        raise InputError(f"signals: {unknown[0]!r} is unknown; there are {', '.join(SIGNALS + OUTCOMES)}")
    if not names:
        return None
    counted = [n for n in names if n in COUNTED]
    if log is None and counted:
        raise InputError(f"signals: {counted[0]} is counted on events, and the mapping has no events table")
    if counted and log is not None and not (log.split == TRAIN).any():
        raise InputError(
            f"signals: {counted[0]} is counted on train events, and there are none; "
            "map events.split, or set split.by to time, user or leave_one_out"
        )
    named = [" ".join((item.title, item.brand or "")) for item in items]
    full = [" ".join((text, *item.category)) for text, item in zip(named, items)]
    whole = [" ".join((text, (item.description or "")[:_DESCRIPTION])) for text, item in zip(full, items)]
    texts = Texts(named, full, [item.category for item in items], whole)
    signals = Signals(texts, log, spec.history, spec.decay, spec.recent_days)
    outcomes = None
    if any(name in OUTCOMES for name in names):
        outcomes = Outcomes(
            [_shown(lists, place) for place in np.flatnonzero(lists.split == TRAIN).tolist()],
            [item.category for item in items],
        )
    return Features(names, signals, outcomes, lists)


def _shown(lists: Lists, place: int) -> Shown:
    span = slice(int(lists.start[place]), int(lists.start[place] + lists.size[place]))
    candidates = lists.candidates
    return Shown(str(lists.user[place]), candidates["item"][span], candidates["label"][span] > 0)
