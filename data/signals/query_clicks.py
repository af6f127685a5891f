"""What earlier shoppers clicked for the same query, as of each list's moment: the strongest signal a search log has.

    clicks = QueryClicks(pa.array(queries), items, times)       # every click of the log, in any order
    values = clicks.compute("query_clicks", asked, candidates, moments, since)

query_clicks          log(1 + clicks on the product for the same query), each later click of the query fading the
                      earlier ones by 2 %: shops sell out, new releases come
query_share           the product's share of those faded clicks, between 0 and 1
query_recent          the same where each later click fades the earlier ones by 20 %: what is clicked for the query now
joined_clicks         query_clicks where spaces, case and punctuation do not count: `play station` is `playstation`
similar_query_clicks  the share of a product's clicks in the most alike of the earlier queries (character trigrams,
                      TF-IDF cosine), for queries never seen before and for misspelt ones
clicks_1d, clicks_7d  log(1 + clicks on the product in the day, the 7 days, before the list, whatever the query)
click_age             log(1 + days since the product's last click); of a product never clicked, since the log's first

Only clicks strictly before the list count, whichever split it is in: that is what a shop has at that moment, and a list
never sees its own outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from reshelf.data.signals.event_log import NO_TIME, Float64, Int64
from reshelf.data.signals.making import TRIGRAMS, tfidf, tfidf_rows

if TYPE_CHECKING:
    from sklearn.feature_extraction.text import TfidfVectorizer

    from reshelf.data.signals.live import Since

QUERY_CLICKS = (
    "query_clicks", "query_share", "query_recent", "joined_clicks", "similar_query_clicks", "clicks_1d", "clicks_7d",
    "click_age",
)  # fmt: skip
CLICK_TABLES = ("click_queries", "click_items", "click_times")
_FADE, _FADE_RECENT = 0.98, 0.8
REACH = 512
"""Clicks of a query that are looked back on: the one before has 0.98 ** 512 < 0.0001 of the latest one's weight."""
_NEIGHBOURS = 20
_ALIKE = 0.25
"""Least cosine of a similar query."""
_DAY = 86_400_000_000
_NO_WORD = re.compile(r"[\W_]+")


def words_key(query: str) -> str:
    """Queries that differ in case, punctuation and spacing only are one."""
    return _NO_WORD.sub(" ", query.casefold()).strip()


def joined_key(query: str) -> str:
    """The same without any space."""
    return _NO_WORD.sub("", query.casefold())


class _Asked(NamedTuple):
    query: str
    candidates: npt.NDArray[np.integer]
    moment: int
    since: Since | None


_NO_CLICKS = np.zeros(0, dtype=np.int64)


class QueryClicks:
    """The clicks of a log by query and by product.

    Args:
        queries: text of every click's query, length C.
        items: row of the clicked product, int [C].
        times: when it was clicked, microseconds since 1970 UTC, int64 [C].

    Example:
        >>> queries = pa.array(["xbox", "XBOX!", "xbox"])
        >>> clicks = QueryClicks(queries, np.array([0, 1, 1]), np.array([1, 2, 3]))
        >>> [values] = clicks.compute("query_share", ["Xbox"], [np.array([0, 1])], [3], [None])
        >>> values.round(3).tolist()
        [0.495, 0.505]
    """

    def __init__(self, queries: pa.StringArray, items: npt.NDArray[np.integer], times: Int64) -> None:
        order = np.argsort(times, kind="stable")
        self._items, self._times = np.asarray(items)[order].astype(np.int64), np.asarray(times)[order]
        texts = queries.take(pa.array(order)).to_pylist()
        self._by_key = _grouped([words_key(text) for text in texts])
        self._by_joined = _grouped([joined_key(text) for text in texts])
        # Rising: by item, and of an item by time.
        self._by_item = np.sort(self._items * (len(order) + 1) + np.arange(len(order)))

    def compute(
        self, name: str, queries: Sequence[str], candidates: Sequence[npt.NDArray[np.integer]], moments: Sequence[int],
        since: Sequence[Since | None],
    ) -> list[Float64]:  # fmt: skip
        """One signal of many lists, float64 [K] each.

        Args:
            name: one of `QUERY_CLICKS`.
            queries: of the lists; an empty one has no clicks.
            candidates: rows of products, int [K] each.
            moments: times of the lists, microseconds since 1970 UTC.
            since: clicks after those of the log; None for none.
        """
        asked = [_Asked(*one) for one in zip(queries, candidates, moments, since, strict=True)]
        if name in ("query_clicks", "query_share", "query_recent"):
            fade = _FADE_RECENT if name == "query_recent" else _FADE
            found = [self._faded(words_key(one.query), False, one, fade) for one in asked]
            return [np.log1p(n) if name == "query_clicks" else n / max(total, 1.0) for n, total in found]
        if name == "joined_clicks":
            return [np.log1p(self._faded(joined_key(one.query), True, one)[0]) for one in asked]
        if name == "similar_query_clicks":
            return self._similar(asked)
        if name in ("clicks_1d", "clicks_7d"):
            return [np.log1p(self._of_late(one, days=1 if name == "clicks_1d" else 7)) for one in asked]
        if name == "click_age":
            return [np.log1p(self._age(one)) for one in asked]
        raise ValueError(f"there is no signal {name!r} of query clicks")

    @cached_property
    def _last(self) -> int:
        """Time of the last click of the log."""
        return int(self._times[-1]) if len(self._times) else 0

    def _faded(self, key: str, joined: bool, one: _Asked, fade: float = _FADE) -> tuple[Float64, float]:
        """Faded clicks on each candidate before the list, and on all products together."""
        items, weights = self._latest(key, joined, one, fade)
        return _summed(items, weights, one.candidates), float(weights.sum())

    def _latest(self, key: str, joined: bool, one: _Asked, fade: float = _FADE) -> tuple[Int64, Float64]:
        """Products of the query's latest clicks before the list, and what each click counts."""
        clicks = (self._by_joined if joined else self._by_key).get(key, _NO_CLICKS)
        end = int(np.searchsorted(self._times[clicks], one.moment))
        items = self._items[clicks[max(0, end - REACH) : end]]
        if one.since is not None and key:
            items = np.concatenate([items, one.since.clicks(key, joined, self._last)])[-REACH:]
        return items, fade ** np.arange(len(items) - 1, -1, -1, dtype=np.float64)

    def _end(self, one: _Asked, moment: int) -> Int64:
        """Where the clicks of each candidate before a moment end in `_by_item`."""
        key = one.candidates.astype(np.int64) * (len(self._times) + 1) + np.searchsorted(self._times, moment)
        return np.searchsorted(self._by_item, key)

    def _new(self, one: _Asked) -> Iterator[Int64]:
        """Times of each candidate's clicks since the log's last one."""
        if one.since is not None:
            yield from (one.since.click_times(item, self._last) for item in one.candidates.tolist())

    def _of_late(self, one: _Asked, days: int) -> Int64:
        """Clicks on each candidate in the days before the list."""
        begin = one.moment - days * _DAY
        counts = self._end(one, one.moment) - self._end(one, begin)
        for n, times in enumerate(self._new(one)):
            counts[n] += len(times) - int(np.searchsorted(times, begin))
        return counts

    def _age(self, one: _Asked) -> Float64:
        """Days since the last click on each candidate."""
        end = self._end(one, one.moment)
        latest = np.full(len(end), min(one.moment, int(self._times[0])) if len(self._times) else one.moment)
        clicked = end > self._end(one, NO_TIME)
        latest[clicked] = self._times[self._by_item[end[clicked] - 1] % (len(self._times) + 1)]
        for n, times in enumerate(self._new(one)):
            latest[n] = times[-1] if len(times) else latest[n]
        return (one.moment - latest) / _DAY

    @cached_property
    def _vectors(self) -> tuple[TfidfVectorizer, sp.csr_matrix, list[str]]:
        """Character trigrams, those of every query with clicks, [trigrams, queries], and these queries."""
        keys = list(self._by_key)
        vectors = tfidf(TRIGRAMS).fit(keys)
        return vectors, vectors.transform(keys).T.tocsr(), keys

    def _similar(self, asked: Sequence[_Asked]) -> list[Float64]:
        """Shares of the most alike queries' clicks, weighted by cosine to the third: near ones count far more."""
        wanted = list(dict.fromkeys(words_key(one.query) for one in asked))
        if not self._by_key or not any(wanted):
            return [np.zeros(len(one.candidates)) for one in asked]
        vectors, known, keys = self._vectors
        near: dict[str, list[tuple[str, float]]] = {}
        for start in range(0, len(wanted), 512):
            some = wanted[start : start + 512]
            cosines = tfidf_rows(vectors, some) @ known
            for n, key in enumerate(some):
                row = slice(cosines.indptr[n], cosines.indptr[n + 1])
                alike, places = cosines.data[row], cosines.indices[row]
                best = np.flatnonzero(alike >= _ALIKE)
                best = best[np.lexsort((places[best], -alike[best]))][: _NEIGHBOURS + 1]
                pairs = zip(places[best].tolist(), alike[best].tolist())
                near[key] = [(keys[k], cosine) for k, cosine in pairs if keys[k] != key][:_NEIGHBOURS]
        result = []
        for one in asked:
            items, weights = [_NO_CLICKS], [np.zeros(0)]
            for key, cosine in near[words_key(one.query)]:
                clicked, counted = self._latest(key, False, one)
                items.append(clicked)
                weights.append(counted * cosine**3 / (counted.sum() + 3))  # few clicks say little
            found = np.concatenate(weights)
            result.append(_summed(np.concatenate(items), found, one.candidates) / max(found.sum(), 1e-9))
        return result


def _grouped(keys: Sequence[str]) -> dict[str, Int64]:
    """Places of every key in rising order; the empty key is left out."""
    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        if key:
            places.setdefault(key, []).append(place)
    return {key: np.array(value) for key, value in places.items()}


def _summed(items: Int64, weights: Float64, candidates: npt.NDArray[np.integer]) -> Float64:
    """Weights by candidate."""
    known, inverse = np.unique(items, return_inverse=True)
    sums = np.bincount(inverse, weights, minlength=len(known)) if len(items) else np.zeros(0)
    at = np.minimum(np.searchsorted(known, candidates), max(len(known) - 1, 0))
    return np.where(known[at] == candidates, sums[at], 0.0) if len(known) else np.zeros(len(candidates))
