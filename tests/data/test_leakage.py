"""What must hold for any log: nothing of a list's outcome, and nothing later, is in its history or numbers."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st
from imported import imported
from shop_tables import Shop, write_table

from reshelf.data.dataset_folder import SPLITS, RankingData
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.mapping import (
    BuildConfig,
    EventsTable,
    ItemsTable,
    Mapping,
    PairsTable,
    SignalsConfig,
    SplitConfig,
)
from reshelf.data.signals import Ask, Signals, Texts
from reshelf.data.signals.event_log import EventLog
from reshelf.errors import InputError

HOUR = 3600
START = 1_700_000_000
# Such a log is drawn anew, and hypothesis fails where nearly all are.
_NOTHING_TO_RANK = (
    "no list is left|no train choice follows|none of .* events is usable|there are no events in it|"
    "train events, and there are none"
)
ITEMS = [{"id": f"p{n}", "title": f"thing {n}", "leaf": f"leaf {n % 3}"} for n in range(9)]
KINDS = ("search", "view", "click", "cart", "purchase")

event = st.tuples(
    st.integers(0, 4), st.integers(0, 8), st.integers(0, 60).map(lambda k: k * HOUR // 2), st.sampled_from(KINDS)
)
logs = st.lists(event, min_size=16, max_size=60)


def assembled(
    log: list[tuple[int, int, int, str]], timed: bool, split: str, query: str = "none"
) -> tuple[RankingData, ImportReport]:
    """Lists built from a log, and the books."""
    books = ImportReport()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_table(root / "items.jsonl", ITEMS)
        rows = [
            {"user": f"u{u}", "item": f"p{i}", "time": START + t, "kind": kind, "query": f"leaf {i % 3}", "n": n}
            for n, (u, i, t, kind) in enumerate(log)
        ]
        write_table(root / "events.jsonl", rows)
        mapping = Mapping(
            items=ItemsTable(file="items.jsonl", item_id="id", title="title", category="leaf"),
            events=[
                EventsTable(
                    file="events.jsonl",
                    user_id="user",
                    item_id="item",
                    kind_column="kind",
                    query="query",
                    time="time" if timed else None,
                    order=None if timed else "n",
                )
            ],
            build=BuildConfig(candidates=4, per_user=3, query=query, window_hours=2.0),
            split=SplitConfig(by=split, valid=0.2, test=0.2),
            signals=SignalsConfig(names=["popularity", "recent", "cobought"]),
        )
        try:
            return imported(mapping, root, books), books
        except InputError as error:
            if not re.search(_NOTHING_TO_RANK, str(error)):
                raise
            reject()


@given(logs, st.sampled_from(["none", "category", "search"]), st.sampled_from(["time", "user", "leave_one_out"]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=40)
def test_history_is_strictly_earlier_and_never_the_outcome(
    log: list[tuple[int, int, int, str]], query: str, split: str
) -> None:
    data, _ = assembled(log, True, split, query)
    for lists in data.lists.values():
        for ranking in lists:
            assert ranking.time is not None
            now = ranking.time.timestamp() - START
            mine = [(f"p{i}", t, kind) for u, i, t, kind in log if ranking.user_id == f"u{u}"]
            assert all(e.time is not None and e.time < ranking.time for e in ranking.history)
            # rows that say the same thing at the same moment are one event; a search is known by its query
            said = {(f"leaf {int(i[1:]) % 3}" if kind == "search" else i, t, kind) for i, t, kind in mine if t < now}
            assert len(ranking.history) == len(said), "all that came before is there"
            target = ranking.candidates[[bool(label) for label in ranking.labels or ()].index(True)]
            # the choice is a run of events with pauses of at most two hours: none of it lies before the list
            times = sorted(t for i, t, kind in mine if i == target and kind != "search" and t >= now)
            assert times
            before = [t for i, t, kind in mine if i == target and kind != "search" and t < now]
            first = times[0]
            assert all(first - t > 2 * HOUR for t in before) or query == "search"


@given(logs, st.sampled_from(["leave_one_out", "user"]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
def test_without_times_history_is_what_comes_before_in_order(log: list[tuple[int, int, int, str]], split: str) -> None:
    data, _ = assembled(log, False, split)
    for lists in data.lists.values():
        for ranking in lists:
            mine = [(f"p{i}", kind) for u, i, _, kind in log if ranking.user_id == f"u{u}"]
            n = len(ranking.history)
            assert [(e.item_id, e.kind) for e in ranking.history if e.item_id] == [
                p for p in mine[:n] if p[1] != "search"
            ]
            target = ranking.candidates[[bool(label) for label in ranking.labels or ()].index(True)]
            assert target in [item for item, kind in mine[n:] if kind != "search"]


@given(logs, st.booleans(), st.sampled_from(["leave_one_out", "user"]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25)
def test_books_add_up_and_splits_are_disjoint(log: list[tuple[int, int, int, str]], timed: bool, split: str) -> None:
    data, books = assembled(log, timed, split)
    for table, counts in books.to_json()["tables"].items():
        assert counts["read"] == counts["kept"] + sum(counts["dropped"].values()), table
    ids = [r.list_id for lists in data.lists.values() for r in lists]
    assert len(ids) == len(set(ids))
    if split == "user":
        users = [{r.user_id for r in lists} for lists in data.lists.values()]
        assert sum(map(len, users)) == len(set().union(*users))
    assert all(len(r.candidates) <= 4 for lists in data.lists.values() for r in lists)


@given(logs, st.lists(st.tuples(st.integers(0, 4), st.integers(0, 60)), min_size=1, max_size=6, unique=True))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=25, deadline=None)
def test_an_impression_log_knows_what_came_before_and_learns_from_what_came_after(
    log: list[tuple[int, int, int, str]], shown: list[tuple[int, int]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_table(root / "items.jsonl", ITEMS)
        rows = [
            {"user": f"u{u}", "item": f"p{i}", "time": START + t, "kind": kind, "query": f"leaf {i}"}
            for u, i, t, kind in log
        ]
        write_table(root / "events.jsonl", rows)
        lists = [
            {"list": f"l{n}", "user": f"u{u}", "time": START + t * HOUR // 2, "item": f"p{i}"}
            for n, (u, t) in enumerate(shown)
            for i in range(9)
        ]
        write_table(root / "shown.jsonl", lists)
        mapping = Mapping(
            items=ItemsTable(file="items.jsonl", item_id="id", title="title"),
            events=[
                EventsTable(
                    file="events.jsonl", user_id="user", item_id="item", time="time", kind_column="kind", query="query"
                )
            ],
            pairs=[
                PairsTable(
                    file="shown.jsonl",
                    list_id="list",
                    user_id="user",
                    time="time",
                    item_id="item",
                    window_hours=3,
                    attribution="every_list",
                    skew_seconds=0,
                )
            ],
            split=SplitConfig(by="user", valid=0.2, test=0.2),
        )
        end = max(START + t for _, _, t, _ in log)
        report = ImportReport()
        try:
            data = imported(mapping, root, report)
        except InputError as error:
            if not re.search(_NOTHING_TO_RANK, str(error)):
                raise
            reject()
    seen = {r.list_id: r.model_dump() for lists in data.lists.values() for r in lists}
    closed = {f"l{n}" for n, (_, t) in enumerate(shown) if START + t * HOUR // 2 + 3 * HOUR <= end}
    assert set(seen) == (closed or {f"l{n}" for n in range(len(shown))})
    grades = {"click": 1, "cart": 2, "purchase": 3}
    for n, (user, half_hours) in enumerate(shown):
        if f"l{n}" not in seen:
            continue
        row, now = seen[f"l{n}"], half_hours * HOUR // 2
        before = {(t, kind, i) for u, i, t, kind in log if u == user and t < now}
        assert len(row["history"]) == len(before)
        assert {
            (e["time"].timestamp() - START, e["kind"], int((e["item_id"] or e["query"])[-1])) for e in row["history"]
        } == before
        assert [e["time"] for e in row["history"]] == sorted(e["time"] for e in row["history"])
        after = [(i, grades.get(kind, 0)) for u, i, t, kind in log if u == user and now <= t < now + 3 * HOUR]
        assert list(row["labels"]) == [max((grade for i, grade in after if i == item), default=0) for item in range(9)]


def test_time_splits_do_not_overlap(shop: Shop) -> None:
    del shop.mapping["lists"][0]["split"]
    shop.mapping["split"] = {"by": "time", "valid": 0.2, "test": 0.2}
    data = shop.load()
    train, valid, test = ([r.time for r in data.lists[s] if r.time] for s in SPLITS)
    assert max(train) < min(valid)
    assert max(valid) < min(test)


def _order_only(log: list[tuple[str, str]], folder: Path, names: list[str]) -> RankingData:
    write_table(folder / "items.jsonl", ITEMS)
    write_table(folder / "events.jsonl", [{"user": u, "item": i} for u, i in log])
    mapping = Mapping(
        items=ItemsTable(file="items.jsonl", item_id="id", title="title"),
        events=[EventsTable(file="events.jsonl", user_id="user", item_id="item")],
        build=BuildConfig(candidates=9),
        split=SplitConfig(by="leave_one_out"),
        signals=SignalsConfig(names=names),
    )
    return imported(mapping, folder, ImportReport())


OTHERS = [("a", "p1"), ("a", "p2"), ("a", "p3"), ("a", "p4"), ("b", "p1"), ("b", "p3"), ("b", "p5"), ("b", "p6")]
MINE = [("me", "p1"), ("me", "p2"), ("me", "p3"), ("me", "p7"), ("me", "p8")]


@pytest.mark.parametrize("name", ["popularity", "recent", "cobought"])
def test_a_train_list_is_scored_as_if_its_shopper_had_never_been_counted(tmp_path: Path, name: str) -> None:
    """Counted by hand over the other shoppers alone."""
    data = _order_only([*OTHERS, *MINE], tmp_path, [name])
    ranking = next(r for r in data.lists["train"] if r.user_id == "me")
    got = dict(zip(ranking.candidates, ranking.features[name]))
    taken = {"a": {"p1", "p2"}, "b": {"p1", "p3"}}  # train parts of the others: all but their last two
    assert [e.item_id for e in ranking.history] == ["p1", "p2"]
    counts = {p: sum(p in items for items in taken.values()) for p in (*got, "p1", "p2")}
    if name == "popularity":
        want = {p: np.log1p(counts[p]) for p in got}
    elif name == "recent":
        want = {p: np.log1p({"p2": 1, "p3": 1}.get(p, 0)) for p in got}
    else:
        want = {
            p: sum(
                weight
                * sum({p, h} <= items for items in taken.values())
                / np.sqrt(max(counts[p], 1) * max(counts[h], 1))
                for weight, h in ((0.8, "p1"), (1.0, "p2"))
                if h != p
            )
            for p in got
        }
    assert got == pytest.approx(want)


def test_a_test_list_counts_train_events_only(tmp_path: Path) -> None:
    data = _order_only([*OTHERS, *MINE], tmp_path, ["popularity", "cobought"])
    changed = [(u, "p0" if (u, i) in {("a", "p3"), ("a", "p4"), ("b", "p5")} else i) for u, i in [*OTHERS, *MINE]]
    again = _order_only(changed, tmp_path, ["popularity", "cobought"])
    first, second = (next(r for r in d.lists["test"] if r.user_id == "me") for d in (data, again))
    for name in first.features:
        assert dict(zip(first.candidates, first.features[name])) == dict(zip(second.candidates, second.features[name]))


def signals_of(people: list[list[int]]) -> Signals:
    """Signals of shoppers (all train) who took these of nine items, in this order."""
    user = np.repeat(np.arange(len(people)), [len(p) for p in people]).astype(np.int32)
    item = np.array([i for p in people for i in p], dtype=np.int32)
    n = len(item)
    log = EventLog(
        starts=np.concatenate([[0], np.cumsum([len(p) for p in people])]).astype(np.int64),
        user=user,
        item=item,
        kind=np.full(n, 4, dtype=np.int8),
        key=np.arange(n, dtype=np.int64),
        timed=False,
        value=np.full(n, np.nan),
        split=np.zeros(n, dtype=np.int8),
    )
    return Signals.of(Texts([""] * 9, [""] * 9, [()] * 9, [""] * 9), log)


@given(st.lists(st.lists(st.integers(0, 8), min_size=3, max_size=7, unique=True), min_size=2, max_size=8))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=30)
def test_leaving_a_shopper_out_equals_counting_without_them(sequences: list[list[int]]) -> None:
    """Closed form against counting again, for popularity and co-occurrence."""
    for me, mine in enumerate(sequences):
        history, candidates = np.array(mine[:-1]), np.arange(9, dtype=np.int32)
        without = [[] if u == me else p for u, p in enumerate(sequences)]
        names = ["popularity", "cobought", "recent"]
        closed = signals_of(sequences).compute([Ask(history, candidates, leave_out=me)], names)[0]
        counted = signals_of(without).compute([Ask(history, candidates)], names)[0]
        for name in names:
            assert closed[name] == pytest.approx(counted[name], abs=1e-12)


def test_taste_of_a_train_list_does_not_depend_on_what_its_shopper_took() -> None:
    rng = np.random.default_rng(0)
    people = [rng.permutation(9)[:4].tolist() for _ in range(40)]
    ask = Ask(np.array(people[7][:-1]), np.arange(9, dtype=np.int32), leave_out=7)
    before = signals_of(people).compute([ask], ["taste"])[0]["taste"]
    people[7][-1] = next(i for i in range(9) if i not in people[7])
    after = signals_of(people).compute([ask], ["taste"])[0]["taste"]
    assert before == pytest.approx(after, abs=1e-9)
    people[8][-1] = next(i for i in range(9) if i not in people[8])
    assert signals_of(people).compute([ask], ["taste"])[0]["taste"] != pytest.approx(after, abs=1e-3)
