"""What shoppers did, as arrays: the events of an import, sorted by shopper and time.

log.item[log.span(user)]        # what a shopper's events were on, oldest first
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
NO_TIME = int(np.iinfo(np.int64).min)
NEVER = int(np.iinfo(np.int64).max)


@dataclass
class EventLog:
    """All kept events, sorted by shopper and then by `key`; arrays run parallel, and may lie on disk."""

    starts: Int64
    """int64 [U + 1]: where each shopper's events begin."""
    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    """Row of the catalogue; -1 for a search."""
    kind: npt.NDArray[np.int8]
    """Index into `KINDS`."""
    key: Int64
    """Time in microseconds since 1970 where `timed`, else a rank. Equal keys are simultaneous."""
    timed: bool
    value: npt.NDArray[np.float64]
    """NaN where missing."""
    split: npt.NDArray[np.int8]
    """-1 where no rule says."""
    grade: npt.NDArray[np.int8] = field(default_factory=lambda: np.zeros(0, dtype=np.int8))
    query: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, dtype=np.int32))
    """Code of a search's text; -1 for none."""
    undone: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Key of the event that took it back; `NEVER` where none did."""

    def __len__(self) -> int:
        return len(self.item)

    @property
    def users(self) -> int:
        """How many shoppers there are."""
        return len(self.starts) - 1

    def span(self, user: int) -> slice:
        return slice(int(self.starts[user]), int(self.starts[user + 1]))


def lower_bound(values: Int64, low: Int64, high: Int64, wanted: Int64) -> Int64:
    """`np.searchsorted(values[low:high], wanted) + low` for many slices, each of them sorted, at once."""
    low, high = low.copy(), high.copy()
    last = max(len(values) - 1, 0)
    while (low < high).any():
        middle = (low + high) // 2
        below = (low < high) & (values[np.minimum(middle, last)] < wanted)
        low, high = np.where(below, middle + 1, low), np.where(below, high, np.minimum(middle, high))
    return low


def ranges(starts: Int64, sizes: Int64) -> tuple[Int64, Int64]:
    """The numbers start, start + 1, … of every range one after another, and which range each belongs to."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    owner = np.repeat(np.arange(len(starts)), sizes)
    return np.arange(offsets[-1]) + (starts - offsets[:-1])[owner], owner
