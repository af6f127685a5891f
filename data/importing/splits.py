"""Which split every list and event of an import is in, and which lists stay.

    cuts = split_events(work, log, lists, mapping, sources, seed)
    lists = split_lists(work, lists, log, mapping, cuts, seed, limit=None, sources=sources)

share("user 17", seed=0)                        # always the same number in [0, 1) for the same text
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.casts import Column
from reshelf.data.importing.database import Work, quoted
from reshelf.data.importing.lists import Lists, query_key_sql
from reshelf.data.importing.mapping import Mapping, Table
from reshelf.data.importing.mapping_file import events_name
from reshelf.data.importing.rules import SplitConfig
from reshelf.data.importing.shown import ANYONE
from reshelf.data.importing.tables import Source
from reshelf.data.importing.times import time_of
from reshelf.data.signals.event_log import NO_TIME, EventLog, Int64
from reshelf.errors import InputError

UNKNOWN = -1
TRAIN, VALID, TEST = range(3)
Codes = npt.NDArray[np.int8]
Cuts = tuple[int, int]


def share(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but `text` and `seed`."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def by_share(keys: Sequence[str], valid: float, test: float, seed: int) -> Codes:
    """Split codes of keys (shoppers or queries): the first `test` of [0, 1) is test, the next `valid` valid."""
    shares = np.array([share(key, seed) for key in keys], dtype=np.float64)
    return np.where(shares < test, TEST, np.where(shares < test + valid, VALID, TRAIN)).astype(np.int8)


def by_time(times: Int64, cuts: Cuts) -> Codes:
    """Split codes of times: train before the first cut, test from the second on."""
    return (np.asarray(times) >= cuts[0]).astype(np.int8) + (np.asarray(times) >= cuts[1]).astype(np.int8)


def time_cuts(times: Int64, rule: SplitConfig) -> Cuts:
    """The first time of valid and the first time of test: the dates of the rule, or so that about its shares of `times`
    come later, and at least one where there are enough different times."""
    ordered = np.sort(times)
    if not len(ordered):
        return (0, 0)
    end = int(ordered[-1]) + 1
    at = [min(len(ordered) - 1, round(len(ordered) * part)) for part in (1 - rule.valid - rule.test, 1 - rule.test)]
    test = (
        moment(rule.test_from, "split.test_from") if rule.test_from else int(ordered[at[1]]) if rule.test > 0 else end
    )
    valid = int(ordered[at[0]]) if rule.valid + rule.test > 0 else end
    if rule.valid_from:
        valid = moment(rule.valid_from, "split.valid_from")
        if not rule.test_from and rule.test > 0:
            later = ordered[ordered >= valid]
            part = rule.valid / (rule.valid + rule.test)
            test = int(later[min(len(later) - 1, round(len(later) * part))]) if len(later) else end
    elif rule.test_from:
        before = ordered[ordered < test]
        valid = (
            int(before[min(len(before) - 1, round(len(before) * (1 - rule.valid)))])
            if len(before) and rule.valid > 0
            else test
        )
    if rule.valid_from and rule.test_from and valid > test:
        raise InputError(f"split: valid_from {rule.valid_from} is after test_from {rule.test_from}; test is the latest")
    if rule.valid_from or rule.test_from:
        return (valid, test)
    if rule.valid > 0 and rule.test > 0 and valid >= test and len(distinct := np.unique(ordered)) > 2:  # one each
        place = int(np.searchsorted(distinct, test))
        valid = int(distinct[max(place - 1, 1)])
        test = int(distinct[max(place, 2)])
    return (valid, test)


def moment(text: str, key: str) -> int:
    """A date of the mapping as microseconds since 1970 UTC.

    Raises:
        InputError: it is none.
    """
    import duckdb

    found = duckdb.execute(f"SELECT {time_of(Column(quoted(text), 'VARCHAR'), Table(file='-'))}").fetchall()[0][0]
    if found is None:
        raise InputError(f"{key}: {text!r} is no date; write 2024-03-01 or 2024-03-01T12:00:00Z")
    return int(found)


def leave_one_out(starts: Int64) -> Codes:
    """Split codes of events sorted by shopper: the last one of each is test, the one before valid.

    Args:
        starts: int64 [U + 1], where each shopper's events begin. Shoppers with fewer than three events are all train.
    """
    codes = np.full(int(starts[-1]), TRAIN, dtype=np.int8)
    ends = starts[1:][np.diff(starts) >= 3]
    codes[ends - 1] = TEST
    codes[ends - 2] = VALID
    return codes


def split_events(
    work: Work, log: EventLog, lists: Lists, mapping: Mapping, sources: Sequence[Source], seed: int
) -> Cuts | None:
    """Split the events by the mapping's rule; the cuts where that is time. By query or column they may follow the
    lists.

    Raises:
        InputError: an unknown split name, events without times.
    """
    rule = mapping.split
    if rule.by == "time":
        cuts = None
        if len(lists) and (lists.time != NO_TIME).all():
            cuts = time_cuts(lists.time, rule)
        elif mapping.events and not log.timed:
            raise InputError(
                "split.by is time, but the events have none; map events.time, or split by user or leave_one_out"
            )
        elif mapping.events:
            cuts = time_cuts(log.key, rule)
        if cuts and mapping.events and log.timed:
            log.split = by_time(log.key, cuts)
        return cuts
    if not mapping.events:
        return None
    if rule.by == "column" and any(spec.split for spec in mapping.events):
        names = {name: code for code, name in enumerate(SPLITS)}
        names |= {name: SPLITS.index(code) for name, code in rule.names.items()}
        cases = " ".join(f"WHEN {quoted(name)} THEN {code}" for name, code in names.items())
        found = work.arrays(f"SELECT CASE split {cases} ELSE -1 END AS code FROM checked ORDER BY rowid")["code"]
        for part, row, text in work.fetch(
            f"SELECT part, row, split FROM checked WHERE CASE split {cases} ELSE -1 END < 0 ORDER BY part, row LIMIT 1"
        ):
            field = mapping.events[part].split
            source = next(s for s in sources if s.part == events_name(mapping, part))
            source.fail(row, str(field), f"{text!r} is not train, valid or test; map it in split.names")
        log.split = found.astype(np.int8)
    elif rule.by == "leave_one_out":
        log.split = leave_one_out(log.starts)
    elif rule.by == "user":
        names_of_users = work.texts("SELECT id FROM shopper ORDER BY code").slice(0, log.users).to_pylist()
        log.split = by_share(names_of_users, rule.valid, rule.test, seed)[log.user]
    return None


def split_lists(
    work: Work, lists: Lists, log: EventLog, mapping: Mapping, cuts: Cuts | None, seed: int, limit: int | None,
    sources: Sequence[Source],
) -> Lists:  # fmt: skip
    """The lists that stay, each with its split.

    Raises:
        InputError: a list without a split; names file and row.
    """
    rule = mapping.split
    keys = _keys(work, mapping)
    unknown = lists.split == UNKNOWN
    if unknown.any():
        first = int(np.argmax(unknown))
        if rule.by == "time":
            lost = np.flatnonzero(unknown & (lists.time == NO_TIME))
            if len(lost):
                where = sources[lists.part[lost[0]]].place(int(lists.row[lost[0]]))
                raise InputError(
                    f"{where}: the split is by time, but the list has none; "
                    "map a time, or set split.by to user, query or column"
                )
            lists.split[unknown] = by_time(lists.time[unknown], cuts or (0, 0))
        elif rule.by in ("user", "query"):
            codes = lists.user if rule.by == "user" else lists.query
            asked, index = np.unique(codes[unknown], return_inverse=True)
            texts = keys[rule.by].take(pa.array(asked)).to_pylist()
            lists.split[unknown] = by_share(texts, rule.valid, rule.test, seed)[index]
        else:
            where = sources[lists.part[first]].place(int(lists.row[first]))
            raise InputError(
                f"{where}: the list has no split; map a split column, set in_split, or split.by to time, user or query"
            )
    if rule.valid_from_train > 0 and not (lists.split == VALID).any():
        _valid_from_train(lists, keys, rule.valid_from_train, seed)
    if limit is not None and len(lists):
        stays = np.zeros(len(lists), dtype=bool)
        for code in range(len(SPLITS)):
            stays[np.flatnonzero(lists.split == code)[:limit]] = True
        lists = _count(lists, stays, work, "lists before --limit", f"more than {limit} per split")
    _follow_lists(log, lists)
    return lists


def _keys(work: Work, mapping: Mapping) -> dict[str, pa.Array]:
    """What shoppers and queries are divided by."""
    return {
        "user": work.texts("SELECT id FROM shopper ORDER BY code"),
        "query": work.texts(f"SELECT {query_key_sql('text', mapping)} FROM query ORDER BY code"),
    }


def _valid_from_train(lists: Lists, keys: dict[str, pa.Array], part: float, seed: int) -> None:
    users, queries = keys["user"], keys["query"]
    pairs, index = np.unique(np.stack([lists.user, lists.query]), axis=1, return_inverse=True)
    texts = []
    for user, query in pairs.T.tolist():
        name = users[user].as_py()
        texts.append(queries[query].as_py() if name == ANYONE else name)
    small = np.array([share(text, seed + 1) < part for text in texts], dtype=bool)
    lists.split[small[index.ravel()] & (lists.split == TRAIN)] = VALID


def _follow_lists(log: EventLog, lists: Lists) -> None:
    """Events that no rule put into a split: those before the first valid or test list are train, the others test."""
    held_out = lists.time[lists.split != TRAIN]
    if (
        not len(log)
        or not (log.split == UNKNOWN).all()
        or not log.timed
        or not len(lists)
        or (held_out == NO_TIME).any()
    ):
        return
    end = int(held_out.min()) if len(held_out) else int(log.key.max()) + 1
    log.split = np.where(log.key < end, TRAIN, TEST).astype(np.int8)


def guard_users(work: Work, lists: Lists) -> Lists:
    """Only the lists of every shopper's latest split."""
    anyone = work.fetch(f"SELECT code FROM shopper WHERE id = '{ANYONE}'")
    latest = np.full(int(lists.user.max(initial=0)) + 1, TRAIN, dtype=np.int8)
    np.maximum.at(latest, lists.user, lists.split)
    stays = lists.split == latest[lists.user]
    if anyone:
        stays |= lists.user == anyone[0][0]
    return _count(lists, stays, work, "lists before guard_users", "shopper also in a later split")


def check_splits(lists: Lists, work: Work, rule: SplitConfig, built: Sequence[str] | None) -> None:
    """A split by time leaves no split empty, unless the lists are of one or two moments only (a warning). By user or
    query there may be too few of them (a warning).

    Raises:
        InputError: it does; says which dates would not.
    """
    if rule.by not in ("time", "user", "query") or not len(lists):
        return
    wanted = {
        "train": True,
        "valid": rule.valid > 0 or bool(rule.valid_from),
        "test": rule.test > 0 or bool(rule.test_from),
    }
    if built is not None:
        wanted = {split: on and split in built for split, on in wanted.items()}
    empty = [name for code, name in enumerate(SPLITS) if wanted[name] and not (lists.split == code).any()]
    if not empty:
        return
    if rule.by != "time":
        few = "too few users" if rule.by == "user" else "too few queries"
        what = f"split: by {rule.by} no list is left for {' and '.join(empty)}"
        work.report.warn(f"{what}: {few}; set larger shares, or split.by to time")
        return
    times = np.unique(lists.time)
    if len(times) < 3:
        work.report.warn(f"split: by time no list is left for {' and '.join(empty)}: set split.by to user or query")
        return
    places = [
        min(max(round(len(times) * part), low), len(times) - top) for part, low, top in ((0.8, 1, 2), (0.9, 2, 1))
    ]
    first, second = (f"{np.datetime64(int(times[place]), 'us')}Z" for place in places)
    advice = f"split.valid_from: {first!r} and split.test_from: {second!r} would leave some in each"
    if rule.guard_users:
        advice += ", or guard_users: false"
    begin, end = (np.datetime64(int(value), "us") for value in (times[0], times[-1]))
    raise InputError(
        f"split: by time no list is left for {' and '.join(empty)} (lists are from {begin} to {end}); {advice}"
    )


def _count(lists: Lists, stays: npt.NDArray[np.bool_], work: Work, table: str, reason: str) -> Lists:
    work.report.read(table, len(lists))
    work.report.keep(table, int(stays.sum()))
    work.report.drop(table, reason, int((~stays).sum()))
    return lists.only(stays)
