"""Lists made from events: something a shopper chose, among things of the same query that they did not.

    drafts = build_lists(config, log, items, links, books, seed=0)

A choice is a run of events of one shopper on one item with no long pause (view, cart, purchase: one choice). The list's
time is where that run begins (with `query: search`: where the search before it was made), its grade the best of the
run, and its history what the shopper did strictly before. So nothing of the choice itself is ever in the history.
Negatives are never items the shopper took up to and including that split; a train list knows nothing of later splits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.feature_extraction.text import TfidfVectorizer

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.drafts import Draft
from reshelf.data.importing.history import KINDS, EventLog
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.mapping import BuildConfig
from reshelf.data.importing.pairs import event_grades
from reshelf.data.importing.readers import NO_TIME
from reshelf.data.importing.splits import TRAIN, UNKNOWN
from reshelf.data.schema import EventKind, Item
from reshelf.errors import InputError

_HOUR = 3_600_000_000
_SEARCH = KINDS.index(EventKind.SEARCH)


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


def choices_of(log: EventLog, grades: npt.NDArray[np.int8], window: int) -> Choices:
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
    grade = np.maximum.reduceat(grades[order], starts)
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
        vectors = TfidfVectorizer(token_pattern=r"\S+").fit_transform(self.texts)
        self._vectors = vectors
        self._alike: dict[int, npt.NDArray[np.int64]] = {}

    def alike(self, query: int) -> npt.NDArray[np.int64]:
        """Other queries, the most similar words first."""
        if query not in self._alike:
            likeness = np.asarray((self._vectors @ self._vectors[query].T).todense()).ravel()
            likeness[query] = -1
            self._alike[query] = np.argsort(-likeness, kind="stable")[:-1]
        return self._alike[query]


def category_pool(items: Sequence[Item]) -> QueryPool:
    """Every leaf category is a query: its words, in lower case."""
    leaves: dict[tuple[str, ...], list[int]] = {}
    for row, item in enumerate(items):
        if item.category:
            leaves.setdefault(item.category, []).append(row)
    if not leaves:
        raise InputError("build.query is category, but no item has one; map items.category")
    texts = [path[-1].lower() for path in leaves]
    return QueryPool(texts, [np.array(rows, dtype=np.int32) for rows in leaves.values()])


def search_pool(log: EventLog, choices: Choices, found: npt.NDArray[np.int64]) -> QueryPool:
    """Queries are what shoppers typed; an item belongs to those that led to it in the train split."""
    members: dict[str, set[int]] = {}
    texts = log.query or []
    for i in np.flatnonzero((found >= 0) & (choices.split == TRAIN)).tolist():
        members.setdefault(str(texts[found[i]]), set()).add(int(choices.item[i]))
    if not members:
        raise InputError(
            "build.query is search, but no train choice follows a search event; map search events or use another query"
        )
    return QueryPool(list(members), [np.array(sorted(rows), dtype=np.int32) for rows in members.values()])


def searches_before(log: EventLog, choices: Choices, window: int) -> npt.NDArray[np.int64]:
    """Row of the shopper's last search up to `window` before each choice; -1 where there is none."""
    result = np.full(len(choices.user), -1, dtype=np.int64)
    for i, user in enumerate(choices.user.tolist()):
        past = log.before(user, int(choices.begin[i]))
        past = past[log.kind[past] == _SEARCH]
        if len(past) and (not log.timed or choices.begin[i] - log.key[past[-1]] <= window):
            result[i] = past[-1]
    return result


def build_lists(
    config: BuildConfig, log: EventLog, items: Sequence[Item], pool: QueryPool | None, books: Accounts, seed: int
) -> list[Draft]:
    """Draw targets and negatives; same seed, same lists.

    Args:
        items: the catalogue in its order.
        pool: of `item_queries`, where the mapping has them.

    Raises:
        InputError: the events cannot give such lists.
    """
    if (log.split == UNKNOWN).all():
        raise InputError(
            "build: the events have no split; map events.split, or set split.by to time, user or leave_one_out"
        )
    rng = np.random.default_rng(seed)
    choices = choices_of(
        log, event_grades(log.kind, log.value, config.rating_thresholds), int(config.window_hours * _HOUR)
    )
    found = np.full(len(choices.user), -1, dtype=np.int64)
    if config.query == "category":
        pool = category_pool(items)
    elif config.query == "search":
        found = searches_before(log, choices, int(config.window_hours * _HOUR))
        pool = search_pool(log, choices, found)
    elif config.query == "none":
        pool = None
    if config.negatives == "same_query" and pool is None:
        raise InputError(
            "build.negatives is same_query, but build.query is none; choose a query, or uniform or popularity"
        )
    counts = np.bincount(log.item[(log.item >= 0) & (log.split == TRAIN)], minlength=len(items)).astype(np.float64)
    draw = _sampler(counts, config.negatives, rng)
    drafts: list[Draft] = []
    for split in config.splits:
        drafts += _build_split(split, config, log, choices, found, pool, draw, books, rng)
    return drafts


def _build_split(
    split: str,
    config: BuildConfig,
    log: EventLog,
    choices: Choices,
    found: npt.NDArray[np.int64],
    pool: QueryPool | None,
    draw: Callable[[int], npt.NDArray[np.int64]],
    books: Accounts,
    rng: np.random.Generator,
) -> list[Draft]:
    code, table = SPLITS.index(split), f"choices ({split})"
    size = config.train_candidates or config.candidates if split == "train" else config.candidates
    mine = np.flatnonzero(choices.split == code)
    books.read(table, len(mine))
    good = mine[choices.grade[mine] >= config.min_grade]
    books.drop(table, f"grade below {config.min_grade}", len(mine) - len(good))
    histories, usable = {}, []
    for i in good.tolist():
        key = int(log.key[found[i]]) if found[i] >= 0 else int(choices.begin[i])
        past = log.before(int(choices.user[i]), key)
        if int((log.item[past] >= 0).sum()) < config.min_history:
            books.drop(table, f"history shorter than {config.min_history}", 1)
        elif pool is not None and found[i] < 0 and int(choices.item[i]) not in pool.of_item:
            books.drop(table, "target belongs to no query", 1)
        else:
            histories[i] = (past, key)
            usable.append(i)
    latest: Counter[int] = Counter()
    chosen = []
    for i in reversed(usable):
        latest[int(choices.user[i])] += 1
        if latest[int(choices.user[i])] <= config.per_user:
            chosen.append(i)
    books.drop(table, f"more than {config.per_user} per shopper", len(usable) - len(chosen))
    chosen.reverse()
    most = config.max_lists.get(split)
    if most is not None and len(chosen) > most:
        books.drop(table, f"more than {most} lists", len(chosen) - most)
        chosen = sorted(rng.choice(chosen, most, replace=False).tolist())
    books.keep(table, len(chosen))
    numbers: Counter[int] = Counter()
    drafts = []
    for i in chosen:
        user, target = int(choices.user[i]), int(choices.item[i])
        span = log.span(user)
        known = log.item[span][log.split[span] <= code] if code == TRAIN else log.item[span]
        query = ""
        banned = {*known.tolist(), target}
        if pool is not None and found[i] < 0:
            number = int(rng.choice(pool.of_item[target]))
            query = pool.texts[number]
        elif found[i] >= 0:
            query = str((log.query or [])[found[i]])
            number = pool.texts.index(query) if pool is not None and query in pool.texts else -1
        if config.negatives == "same_query" and pool is not None and query and number >= 0:
            negatives = _of_query(pool, number, banned, size - 1, rng)
        else:
            negatives = _fresh(draw, banned, size - 1)
        if len(negatives) < size - 1:
            books.repair(table, f"fewer than {size} candidates, for want of items", 1)
        candidates = np.array([target, *negatives], dtype=np.int32)
        labels = np.zeros(len(candidates), dtype=np.int8)
        labels[0] = choices.grade[i]
        order = rng.permutation(len(candidates))
        past, key = histories[i]
        drafts.append(
            Draft(
                list_id=f"{split}-{log.users[user]}-{numbers[user]}",
                place=f"list built from the events of {log.users[user]!r}",
                user_id=log.users[user],
                time=key if log.timed else NO_TIME,
                query=query,
                split=code,
                candidates=candidates[order],
                labels=labels[order],
                past=past,
            )
        )
        numbers[user] += 1
    return drafts


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
    for other in (query, *pool.alike(query).tolist()):
        items = [item for item in pool.members[other].tolist() if item not in seen]
        take = rng.permutation(items)[: n - len(result)].tolist() if items else []
        result += take
        seen.update(take)
        if len(result) == n:
            break
    return result
