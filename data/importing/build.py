"""Lists made from events: something a shopper chose, among things of the same query that they did not.

    lists, ids, queries = build_lists(work, config, log, catalogue, members, lists, query_keys, seed=0)

A choice is a run of events of one shopper on one item with no long pause (view, cart, purchase: one choice). The list's
time is where that run begins (with `query: search`: where the search before it was made), its grade the best of the
run, and its history what the shopper did strictly before. So nothing of the choice itself is ever in the history.
Negatives are never items the shopper took up to and including that split; a train list knows nothing of later splits.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import scipy.sparse as sp

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.database import Spool, Work
from reshelf.data.importing.events import SEARCH
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.items import Catalogue, QueryMembers
from reshelf.data.importing.lists import Lists
from reshelf.data.importing.rules import BuildConfig
from reshelf.data.importing.splits import TRAIN, UNKNOWN
from reshelf.data.signals.event_log import EventLog, Int64, lower_bound
from reshelf.data.signals.making import tfidf
from reshelf.errors import InputError

_HOUR = 3_600_000_000


@dataclass(frozen=True)
class Choices:
    """Runs of events, one row each; sorted by shopper, then by where they end."""

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]
    begin: npt.NDArray[np.int64]
    """Key of the first event of the run."""
    last: npt.NDArray[np.int64]
    """Row of its last event."""
    grade: npt.NDArray[np.int8]
    split: npt.NDArray[np.int8]


def choices_of(log: EventLog, window: int) -> Choices:
    """Group events on one item by one shopper into runs; without times every event is its own.

    Args:
        window: longest pause inside a run, in microseconds.
    """
    rows = np.flatnonzero(log.item >= 0)
    order = rows[np.lexsort((rows, log.item[rows], log.user[rows]))]
    same = (log.user[order[1:]] == log.user[order[:-1]]) & (log.item[order[1:]] == log.item[order[:-1]])
    near = log.key[order[1:]] - log.key[order[:-1]] <= window if log.timed else np.zeros(len(same), dtype=bool)
    new = np.concatenate([[True], ~(same & near)]) if len(order) else np.zeros(0, dtype=bool)
    starts = np.flatnonzero(new)
    if not len(starts):
        empty = np.zeros(0, dtype=np.int64)
        return Choices(
            empty.astype(np.int32), empty.astype(np.int32), empty, empty, empty.astype(np.int8), empty.astype(np.int8)
        )
    first, last = order[starts], order[np.append(starts[1:], len(order)) - 1]
    grade = np.maximum.reduceat(log.grade[order], starts)
    by_end = np.lexsort((last, log.user[first]))
    first, last, grade = first[by_end], last[by_end], grade[by_end]
    return Choices(log.user[first], log.item[first], log.key[first], last, grade, log.split[first])


class QueryPool:
    """Which items belong to which query, and which queries are alike."""

    def __init__(self, texts: Sequence[str], members: Sequence[npt.NDArray[np.int32]]) -> None:
        self.texts, self.members = list(texts), list(members)
        self.of_item: dict[int, list[int]] = {}
        for query, items in enumerate(self.members):
            for item in items.tolist():
                self.of_item.setdefault(item, []).append(query)
        self.place = {text: query for query, text in reversed(list(enumerate(self.texts)))}
        self._nearest = lru_cache(maxsize=256)(self._likeness)  # one may hold every query: 200 kB of 50,000

    @cached_property
    def _vectors(self) -> tuple[sp.csr_matrix, sp.csr_matrix]:
        """Words of every query, unit vectors [queries, words], and the same turned round."""
        vectors = tfidf({"token_pattern": r"\S+"}).fit_transform(self.texts).tocsr()
        return vectors, vectors.T.tocsr()

    def _likeness(self, query: int) -> npt.NDArray[np.int32]:
        """The queries that share a word with this one, the most similar first."""
        vectors, by_word = self._vectors
        found = (vectors[query] @ by_word).tocsr()
        found.sort_indices()
        others = found.indices != query
        rows, likeness = found.indices[others].astype(np.int32), found.data[others]
        return rows[np.argsort(-likeness, kind="stable")]

    def alike(self, query: int) -> Iterator[int]:
        """Other queries, the most similar words first; those that share none in their order."""
        near = self._nearest(query).tolist()
        yield from near
        passed = {query, *near}
        yield from (other for other in range(len(self.texts)) if other not in passed)


def category_pool(categories: Sequence[tuple[str, ...]]) -> QueryPool:
    """Every leaf category is a query: its words, in lower case."""
    leaves: dict[tuple[str, ...], list[int]] = {}
    for row, category in enumerate(categories):
        if category:
            leaves.setdefault(category, []).append(row)
    if not leaves:
        raise InputError("build.query is category, but no item has one; map items.category")
    texts = [path[-1].lower() for path in leaves]
    return QueryPool(texts, [np.array(rows, dtype=np.int32) for rows in leaves.values()])


def search_pool(log: EventLog, choices: Choices, found: Int64, texts: pa.StringArray) -> QueryPool:
    """Queries are what shoppers typed; an item belongs to those that led to it in the train split.

    Args:
        texts: of every query code, in the spelling that counts.
    """
    members: dict[str, set[int]] = {}
    train = np.flatnonzero((found >= 0) & (choices.split == TRAIN))
    queries = texts.take(pa.array(log.query[found[train]])).to_pylist()
    for text, item in zip(queries, choices.item[train].tolist()):
        members.setdefault(text, set()).add(item)
    if not members:
        raise InputError(
            "build.query is search, but no train choice follows a search event; map search events or use another query"
        )
    return QueryPool(list(members), [np.array(sorted(rows), dtype=np.int32) for rows in members.values()])


def searches_before(log: EventLog, choices: Choices, window: int) -> Int64:
    """Row of the shopper's last search up to `window` before each choice; -1 where there is none."""
    start = log.starts[choices.user]
    end = lower_bound(log.key, start, log.starts[choices.user + 1], choices.begin)
    latest = np.maximum.accumulate(np.where(log.kind == SEARCH, np.arange(len(log)), -1))
    last = np.where(end > start, latest[np.maximum(end - 1, 0)], -1)
    last = np.where(last >= start, last, -1)
    if log.timed:
        last = np.where((last >= 0) & (choices.begin - log.key[last] <= window), last, -1)
    return last


@dataclass(frozen=True)
class Builder:
    """Draws targets and negatives; same seed, same lists."""

    config: BuildConfig
    log: EventLog
    choices: Choices
    found: Int64
    """Row of the search before each choice; -1 for none."""
    pool: QueryPool | None
    query_texts: pa.StringArray
    """As typed, by query code."""
    query_keys: pa.StringArray
    """What counts as the same query, by query code."""
    draw: Callable[[int], Int64]
    users: pa.StringArray
    report: ImportReport
    rng: np.random.Generator


def build_lists(
    work: Work, config: BuildConfig, log: EventLog, catalogue: Catalogue, members: QueryMembers | None, lists: Lists,
    query_keys: pa.StringArray, seed: int,
) -> tuple[Lists, list[str], list[str]]:  # fmt: skip
    """The lists read so far and those made from events, with the ids of the new ones and the texts of their queries.

    Codes of new queries begin behind those of `query_keys`, numbers of new lists behind those in the table `head`.

    Raises:
        InputError: the events cannot give such lists.
    """
    if (log.split == UNKNOWN).all():
        raise InputError(
            "build: the events have no split; map events.split, or set split.by to time, user or leave_one_out"
        )
    rng = np.random.default_rng(seed)
    choices = choices_of(log, int(config.window_hours * _HOUR))
    found = np.full(len(choices.user), -1, dtype=np.int64)
    pool = None
    if config.query == "item_queries" and members is not None:
        pool = QueryPool(members.texts, [np.array(rows, dtype=np.int32) for rows in members.items])
    elif config.query == "category":
        pool = category_pool(catalogue.categories)
    elif config.query == "search":
        found = searches_before(log, choices, int(config.window_hours * _HOUR))
        pool = search_pool(log, choices, found, query_keys)
    if config.negatives == "same_query" and pool is None:
        raise InputError(
            "build.negatives is same_query, but build.query is none; choose a query, or uniform or popularity"
        )
    counts = np.bincount(log.item[(log.item >= 0) & (log.split == TRAIN)], minlength=len(catalogue)).astype(np.float64)
    users = work.texts("SELECT id FROM shopper ORDER BY code")
    texts = work.texts("SELECT text FROM query ORDER BY code")
    draw = _sampler(counts, config.negatives, rng)
    builder = Builder(config, log, choices, found, pool, texts, query_keys, draw, users, work.report, rng)
    spool = Spool(work.folder / "built", {name: values.dtype for name, values in lists.candidates.items()})
    for start in range(0, len(lists.candidates["item"]), 1 << 20):
        spool.add(**{name: values[start : start + (1 << 20)] for name, values in lists.candidates.items()})
    first = work.number("SELECT max(number) + 1 FROM head")
    codes: dict[str, int] = {}
    ids: list[str] = []
    heads: list[tuple[int, int, int, int, int]] = []
    begin = len(lists.candidates["item"])
    for split in config.splits:
        for list_id, user, key, query, candidates, labels in _build_split(split, builder):
            code = codes.setdefault(query, len(codes)) + len(query_keys)
            heads.append((user, key, code, SPLITS.index(split), len(candidates)))
            ids.append(list_id)
            none = np.full(len(candidates), np.nan)
            spool.add(item=candidates, label=labels, position=np.zeros(len(candidates)), score=none, price=none)
    table = np.array(heads, dtype=np.int64).reshape(-1, 5).T
    size = table[4]
    built = Lists(
        part=np.full(len(size), -1, dtype=np.int8), number=first + np.arange(len(size)),
        row=np.zeros(len(size), dtype=np.int64),
        user=table[0].astype(np.int32), time=table[1], query=table[2].astype(np.int32), split=table[3].astype(np.int8),
        start=begin + np.cumsum(size) - size, size=size, candidates={},
    )  # fmt: skip
    names = [name for name in vars(lists) if name != "candidates"]
    merged = {name: np.concatenate([getattr(lists, name), getattr(built, name)]) for name in names}
    return replace(lists, **merged, candidates=spool.columns()), ids, list(codes)


def _build_split(
    split: str, builder: Builder
) -> Iterator[tuple[str, int, int, str, npt.NDArray[np.int32], npt.NDArray[np.int8]]]:
    """Id, shopper, key, query, candidates and labels of every list of a split."""
    config, log, choices, found = builder.config, builder.log, builder.choices, builder.found
    pool, rng, report = builder.pool, builder.rng, builder.report
    code, table = SPLITS.index(split), f"choices ({split})"
    size = config.train_candidates or config.candidates if split == "train" else config.candidates
    chosen, key = _choose(builder, code, table)
    most = config.max_lists.get(split)
    if most is not None and len(chosen) > most:
        report.drop(table, f"more than {most} lists", len(chosen) - most)
        chosen = np.sort(rng.choice(chosen, most, replace=False))
    report.keep(table, len(chosen))
    numbers: dict[int, int] = {}
    for i in chosen.tolist():
        user, target = int(choices.user[i]), int(choices.item[i])
        span = log.span(user)
        known = log.item[span][log.split[span] <= code] if code == TRAIN else log.item[span]
        query, number = "", -1
        banned = {*known.tolist(), target}
        if pool is not None and found[i] < 0:
            number = int(rng.choice(pool.of_item[target]))
            query = pool.texts[number]
        elif found[i] >= 0:
            asked = int(log.query[found[i]])
            query = builder.query_texts[asked].as_py()
            number = pool.place.get(builder.query_keys[asked].as_py(), -1) if pool is not None else -1
        if config.negatives == "same_query" and pool is not None and query and number >= 0:
            negatives = _of_query(pool, number, banned, size - 1, rng)
        else:
            negatives = _fresh(builder.draw, banned, size - 1)
        if len(negatives) < size - 1:
            report.repair(table, f"fewer than {size} candidates, for want of items", 1, [str(len(negatives) + 1)])
        candidates = np.array([target, *negatives], dtype=np.int32)
        labels = np.zeros(len(candidates), dtype=np.int8)
        labels[0] = choices.grade[i]
        order = rng.permutation(len(candidates))
        n = numbers[user] = numbers.get(user, -1) + 1
        list_id = f"{split}-{builder.users[user].as_py()}-{n}"
        yield list_id, user, int(key[i]), query, candidates[order], labels[order]


def _choose(builder: Builder, code: int, table: str) -> tuple[Int64, Int64]:
    """The choices of a split that make lists, and of every choice the key that its history ends before."""
    config, log, choices, found = builder.config, builder.log, builder.choices, builder.found
    report, pool = builder.report, builder.pool
    key = np.where(found >= 0, log.key[np.maximum(found, 0)], choices.begin)
    mine = np.flatnonzero(choices.split == code)
    report.read(table, len(mine))
    good = mine[choices.grade[mine] >= config.min_grade]
    report.drop(table, f"grade below {config.min_grade}", len(mine) - len(good))
    user = choices.user[good]
    taken = np.concatenate([[0], np.cumsum(log.item >= 0)])
    end = lower_bound(log.key, log.starts[user], log.starts[user + 1], key[good])
    long = taken[end] - taken[log.starts[user]] >= config.min_history
    report.drop(table, f"history shorter than {config.min_history}", int((~long).sum()))
    good = good[long]
    if pool is not None:
        placed = np.isin(choices.item[good], np.fromiter(pool.of_item, dtype=np.int64)) | (found[good] >= 0)
        report.drop(table, "target belongs to no query", int((~placed).sum()))
        good = good[placed]
    # choices are sorted by shopper and time: count from the end of each shopper's
    user = choices.user[good]
    last = np.searchsorted(user, user, side="right")
    kept = last - np.arange(len(good)) <= config.per_user
    report.drop(table, f"more than {config.per_user} per shopper", int((~kept).sum()))
    return good[kept], key


def _sampler(
    counts: npt.NDArray[np.float64], negatives: str, rng: np.random.Generator
) -> Callable[[int], npt.NDArray[np.int64]]:
    if negatives == "popularity" and counts.any():
        edges = np.cumsum(counts**0.75)
        return lambda n: np.searchsorted(edges, rng.random(n) * edges[-1], side="right")
    return lambda n: rng.integers(0, len(counts), n)


def _fresh(draw: Callable[[int], npt.NDArray[np.int64]], banned: set[int], n: int) -> list[int]:
    """Up to `n` different items outside `banned`; gives up when the draws bring nothing new."""
    result: dict[int, None] = {}
    for _ in range(50):
        for item in draw(2 * n + 8).tolist():
            if item not in banned and len(result) < n:
                result[item] = None
        if len(result) == n:
            break
    return list(result)


def _of_query(pool: QueryPool, query: int, banned: set[int], n: int, rng: np.random.Generator) -> list[int]:
    """Items of the query, then of the queries with the most similar words."""
    result: list[int] = []
    seen = set(banned)
    for other in itertools.chain([query], pool.alike(query)):
        if len(result) == n:
            break
        items = [item for item in pool.members[other].tolist() if item not in seen]
        take = rng.permutation(items)[: n - len(result)].tolist() if items else []
        result += take
        seen.update(take)
    return result
