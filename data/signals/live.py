"""What shoppers did since tables were made, in memory: counts, co-purchases and clicks follow a running shop by it.

    live = LiveEvents()
    live.add([Interaction(1, shopper=17, item_id="p3", time=1_700_000_000_000_000, query="mug")])
    since = Since(live, items={0: "p3"}, rows={"p3": 0}, until=0, moment=1_800_000_000_000_000)
    since.shoppers(np.array([0]))        # array([1.])

A shopper is new to an item where no earlier event on it is in memory: the history store tells events of before the
tables too, as far as it kept them.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from reshelf.data.signals.event_log import NEVER, Float64, Int64
from reshelf.data.signals.query_clicks import REACH, joined_key, words_key

MOST_EVENTS = 1_000_000
"""That are held of a tenant, in some 100 MB; of more, the older half goes."""
_NOBODY = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)


class Interaction(NamedTuple):
    """An event on an item, as the history store tells it."""

    number: int
    """Rises in the order in which events were stored."""
    shopper: int
    """Stands for one."""
    item_id: str
    """Empty where the shopper was forgotten."""
    time: int = 0
    """Microseconds since 1970 UTC."""
    query: str = ""
    """What a click, cart or purchase was found by."""


class ItemEvents(NamedTuple):
    """Of one item, in the order of time."""

    times: Int64
    """Of every event."""
    shoppers: Int64
    """Codes of those who took it, in the order of their first events."""
    firsts: Int64
    """Times of those."""
    clicks: Int64
    """Times of those with a query."""

    def with_next(self, time: int, shopper: int, clicked: bool) -> ItemEvents | None:
        """With one event more; None where that is not the last one."""
        if len(self.times) and time < self.times[-1]:
            return None
        is_new = not (self.shoppers == shopper).any()
        return ItemEvents(
            np.append(self.times, time),
            np.append(self.shoppers, shopper) if is_new else self.shoppers,
            np.append(self.firsts, time) if is_new else self.firsts,
            np.append(self.clicks, time) if clicked else self.clicks,
        )


class LiveEvents:
    """One tenant's events, by item and by query."""

    def __init__(self) -> None:
        self.number = 0
        """Of the latest event that was added."""
        self._clear()

    def _clear(self) -> None:
        self.latest = 0
        """Time of the last event."""
        self.shoppers = 0
        """How many there are; their codes are below that."""
        self._code_of_shopper: dict[int, int] = {}
        self._shoppers, self._times, self._items = array("q"), array("q"), array("q")
        self._item_ids: list[str] = []
        self._code: dict[str, int] = {}
        # Places in the arrays above.
        self._of_item: dict[str, array[int]] = {}
        self._clicks_on: dict[str, array[int]] = {}
        self._by_query: dict[str, array[int]] = {}
        self._by_joined: dict[str, array[int]] = {}
        self._sorted: dict[str, ItemEvents] = {}

    def __len__(self) -> int:
        return len(self._times)

    def add(self, events: Iterable[Interaction]) -> None:
        """Add events in the order of their numbers; one that was added before is passed over."""
        for event in events:
            if event.number <= self.number:
                continue
            self.number = event.number
            if event.item_id:
                self._add(event)
            else:
                self.forget(event.shopper)
        if len(self) > MOST_EVENTS:
            self._drop_older_half()

    def _add(self, event: Interaction) -> None:
        item_id, place = event.item_id, len(self)
        if item_id not in self._code:
            self._code[item_id] = len(self._item_ids)
            self._item_ids.append(item_id)
        shopper = self._code_of_shopper.setdefault(event.shopper, self.shoppers)
        self.shoppers = max(self.shoppers, shopper + 1)
        self._shoppers.append(shopper)
        self._times.append(event.time)
        self._items.append(self._code[item_id])
        self.latest = max(self.latest, event.time)
        keyed = [(self._of_item, item_id)]
        if event.query:
            keyed += [
                (self._clicks_on, item_id),
                (self._by_query, words_key(event.query)),
                (self._by_joined, joined_key(event.query)),
            ]
        for places, key in keyed:
            places.setdefault(key, array("q")).append(place)
        if (known := self._sorted.pop(item_id, None)) is not None:
            more = known.with_next(event.time, shopper, bool(event.query))
            if more is not None:
                self._sorted[item_id] = more

    def forget(self, shopper: int) -> None:
        """Leave a shopper's events out, and what nobody else searched for."""
        code = self._code_of_shopper.pop(shopper, None)
        if code is None:
            return
        times = np.frombuffer(self._times, dtype=np.int64)
        times[np.frombuffer(self._shoppers, dtype=np.int64) == code] = NEVER
        self.latest = int(times[times < NEVER].max(initial=0))
        self._sorted.clear()
        for queries in (self._by_query, self._by_joined):
            for key in [key for key, places in queries.items() if (times[places] == NEVER).all()]:
                del queries[key]

    def last_before(self, moment: int) -> int:
        """Time of the last event before a moment; 0 where there is none."""
        if self.latest < moment:
            return self.latest
        times = np.frombuffer(self._times, dtype=np.int64)
        return int(times[times < moment].max(initial=0))

    def _drop_older_half(self) -> None:
        middle = float(np.median(np.frombuffer(self._times, dtype=np.int64)))
        queries = {place: key for key, places in self._by_query.items() for place in places}
        numbers = {code: shopper for shopper, code in self._code_of_shopper.items()}
        columns = zip(self._shoppers, self._items, self._times, strict=True)
        younger = [
            Interaction(n, numbers[shopper], self._item_ids[item], time, queries.get(n, ""))
            for n, (shopper, item, time) in enumerate(columns)
            if middle < time < NEVER
        ]
        self._clear()
        for event in younger:
            self._add(event)

    def of_item(self, item_id: str) -> ItemEvents | None:
        """Events on an item; None for none."""
        places = self._of_item.get(item_id)
        if places is None:
            return None
        found = self._sorted.get(item_id)
        if found is None:
            times, ordered = self._in_time(places)
            shoppers = np.frombuffer(self._shoppers, dtype=np.int64)[ordered]
            _, first = np.unique(shoppers, return_index=True)
            first.sort()
            clicks, _ = self._in_time(self._clicks_on.get(item_id, array("q")))
            found = self._sorted[item_id] = ItemEvents(times, shoppers[first], times[first], clicks)
        return found

    def clicks(self, key: str, joined: bool, after: int, before: int) -> list[str]:
        """Items of the latest clicks for a query between two moments, oldest first.

        Args:
            key: of `words_key`, or of `joined_key` where `joined`.
        """
        times, places = self._in_time((self._by_joined if joined else self._by_query).get(key, array("q")))
        wanted = places[times.searchsorted(after, side="right") : times.searchsorted(before)][-REACH:]
        return [self._item_ids[self._items[place]] for place in wanted.tolist()]

    def _in_time(self, places: array[int]) -> tuple[Int64, Int64]:
        """Times in rising order, and the places they are at; nothing of forgotten shoppers."""
        found = np.array(places, dtype=np.int64)
        times = np.frombuffer(self._times, dtype=np.int64)[found] if len(found) else found
        order = np.argsort(times, kind="stable")[: int((times < NEVER).sum())]
        return times[order], found[order]


@dataclass(frozen=True)
class Since:
    """The events between tables and a list, by rows of the catalogue."""

    live: LiveEvents
    items: Mapping[int, str]
    """Ids of the list's candidates and history, by row."""
    rows: Mapping[str, int]
    """Row of every item in the tables."""
    until: int
    """Time of the last event that the tables count, microseconds since 1970 UTC."""
    moment: int
    """Of the list; events are strictly before it."""
    _found: dict[int, tuple[Int64, Int64]] = field(default_factory=dict)
    """Takers by row, which several signals read."""

    def _new(self, times: Int64, after: int) -> slice:
        end = len(times) if self._is_last else int(times.searchsorted(self.moment))
        return slice(int(times.searchsorted(after, side="right")), end)

    @cached_property
    def _is_last(self) -> bool:
        """Nothing in memory is later than the list."""
        return self.live.latest < self.moment

    @property
    def last(self) -> int:
        """Time of the last event."""
        return self.live.last_before(self.moment)

    def shoppers(self, rows: npt.NDArray[np.integer]) -> Float64:
        """How many are new to each item, [K]."""
        return np.array([len(new) for _, new in map(self._takers, rows.tolist())], dtype=np.float64)

    def events(self, rows: npt.NDArray[np.integer], start: int) -> Float64:
        """How many there were on each item from `start` on, [K]."""
        after = max(self.until, start - 1)
        found = [self.live.of_item(self.items[row]) for row in rows.tolist()]
        new = [slice(0, 0) if one is None else self._new(one.times, after) for one in found]
        return np.array([max(one.stop - one.start, 0) for one in new], dtype=np.float64)

    def pairs(self, history: Int64, weights: Float64, candidates: npt.NDArray[np.integer]) -> Float64:
        """Weighted sum over history items of the shoppers who took it and a candidate, and one of the two anew, [K]."""
        every, anew = np.zeros(self.live.shoppers), np.zeros(self.live.shoppers)
        for row, weight in zip(history.tolist(), weights.tolist()):
            before, new = self._takers(row)
            every[before] += weight
            every[new] += weight
            anew[new] += weight
        found = np.zeros(len(candidates))
        for k, (before, new) in enumerate(map(self._takers, candidates.tolist())):
            if len(before):
                found[k] = anew[before].sum()
            if len(new):
                found[k] += every[new].sum()
        return found

    def _takers(self, row: int) -> tuple[Int64, Int64]:
        """Codes of those who took an item before the tables were made, and of those who did since, before the list."""
        if row not in self._found:
            one = self.live.of_item(self.items[row])
            if one is None:
                self._found[row] = _NOBODY
            else:
                new = self._new(one.firsts, self.until)
                self._found[row] = one.shoppers[: min(new.start, new.stop)], one.shoppers[new]
        return self._found[row]

    def clicks(self, key: str, joined: bool, after: int) -> Int64:
        """Rows that were clicked for a query after a time, oldest first; -1 for items that the tables do not know."""
        items = self.live.clicks(key, joined, after, self.moment)
        return np.array([self.rows.get(item_id, -1) for item_id in items], dtype=np.int64)

    def click_times(self, row: int, after: int) -> Int64:
        """When an item was clicked for a query after a time, in rising order."""
        found = self.live.of_item(self.items[row])
        return np.zeros(0, dtype=np.int64) if found is None else found.clicks[self._new(found.clicks, after)]
