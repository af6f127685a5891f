"""Which split every list and event of a streamed import is in, and which lists stay: the rules of `data.importing`.

split_events(events.log, mapping.split, seed)
lists = split_lists(lists, events.log, work, mapping, seed, limit=None, place=lambda part, row: "shown.csv row 3")
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.drafts import ANYONE
from reshelf.data.importing.history import EventLog
from reshelf.data.importing.mapping import Mapping, SplitConfig
from reshelf.data.importing.splits import TEST, TRAIN, UNKNOWN, VALID, by_share, by_time, no_split, share, time_cuts
from reshelf.data.importing.stream.lists import Lists
from reshelf.data.importing.stream.work import Work
from reshelf.errors import InputError

Place = Callable[[int, int], str]


def split_events(log: EventLog, rule: SplitConfig, seed: int) -> None:
    """By time or by shopper; by any other rule they follow the lists."""
    if rule.by == "time":
        log.cuts = time_cuts(log.key, rule.valid, rule.test)
        log.split = by_time(log.key, log.cuts)
    elif rule.by == "user":
        log.split = by_share(log.users, rule.valid, rule.test, seed)[log.user]


def split_lists(
    lists: Lists, log: EventLog, work: Work, mapping: Mapping, seed: int, limit: int | None, place: Place
) -> Lists:
    """The lists that stay, each with its split.

    Raises:
        InputError: a list without a split, or a list id that comes twice; names file, row and field.
    """
    rule = mapping.split
    unknown = lists.split == UNKNOWN
    if unknown.any():
        if rule.by == "time" and log.cuts:
            lists.split[unknown] = by_time(lists.time[unknown], log.cuts)
        elif rule.by in ("user", "query"):
            codes, names = (lists.user, work.users) if rule.by == "user" else (lists.query, work.queries)
            asked, index = np.unique(codes[unknown], return_inverse=True)
            texts = names.texts().take(asked).to_pylist()
            lists.split[unknown] = by_share(texts, rule.valid, rule.test, seed)[index]
        else:
            first = int(np.argmax(unknown))
            raise no_split(place(int(lists.part[first]), int(lists.row[first])))
    anyone = work.users.known.get(ANYONE, -1)
    if rule.valid_from_train > 0 and not (lists.split == VALID).any():
        _valid_from_train(lists, work, anyone, rule.valid_from_train, seed)
    if limit is not None:
        stays = np.zeros(len(lists), dtype=bool)
        for code in range(len(SPLITS)):
            stays[np.flatnonzero(lists.split == code)[:limit]] = True
        lists = _count(lists, stays, work, "lists before --limit", f"more than {limit} per split")
    held_out = lists.time[lists.split != TRAIN]
    if (log.split == UNKNOWN).all() and len(lists):
        end = int(held_out.min()) if len(held_out) else int(log.key.max()) + 1
        log.split = np.where(log.key < end, TRAIN, TEST).astype(np.int8)
    if rule.guard_users:
        latest = np.full(len(work.users), TRAIN, dtype=np.int8)
        np.maximum.at(latest, lists.user, lists.split)
        stays = (lists.split == latest[lists.user]) | (lists.user == anyone)
        lists = _count(lists, stays, work, "lists before guard_users", "shopper also in a later split")
    _check_ids(lists, work, place)
    return lists


def _valid_from_train(lists: Lists, work: Work, anyone: int, part: float, seed: int) -> None:
    users, queries = work.users.texts(), work.queries.texts()
    keys = np.stack([lists.user, np.where(lists.user == anyone, lists.query, -1)])
    known, index = np.unique(keys, axis=1, return_inverse=True)
    texts = [queries[query].as_py() if user == anyone else users[user].as_py() for user, query in known.T.tolist()]
    small = np.array([share(text, seed + 1) < part for text in texts])
    lists.split[small[index.ravel()] & (lists.split == TRAIN)] = VALID


def _count(lists: Lists, stays: npt.NDArray[np.bool_], work: Work, table: str, reason: str) -> Lists:
    work.books.read(table, len(lists))
    work.books.keep(table, int(stays.sum()))
    work.books.drop(table, reason, int((~stays).sum()))
    return lists.only(stays)


def _check_ids(lists: Lists, work: Work, place: Place) -> None:
    order = np.argsort(lists.list, kind="stable")
    again = order[1:][np.diff(lists.list[order]) == 0]
    if len(again):
        i = int(again.min())
        first = int(np.flatnonzero(lists.list == lists.list[i])[0])
        here, there = (place(int(lists.part[k]), int(lists.row[k])) for k in (i, first))
        list_id = work.lists.texts()[int(lists.list[i])].as_py()
        raise InputError(f"{here}, field list_id: {list_id!r} is there already ({there}); list ids must be unique")
