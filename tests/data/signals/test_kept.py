"""Numbers computed for a request are those of the import, value for value; and broken tables are refused."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from shop_tables import write_table

from reshelf.data.atomic import locked_folder
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.importer import ImportConfig, write_folder
from reshelf.data.importing.mapping import EventsTable, ItemsTable, Mapping
from reshelf.data.importing.rules import BuildConfig, SignalsConfig, SplitConfig
from reshelf.data.schema import Event, RankingList
from reshelf.data.signals import FOLLOWING, READS, Clicks, Signals, Texts
from reshelf.data.signals.event_log import EventLog
from reshelf.data.signals.kept import FIRST_STAGE, FOLDER, Description, KeptSignals, copy_signals, open_signals
from reshelf.data.signals.live import Interaction, LiveEvents
from reshelf.data.signals.query_clicks import QUERY_CLICKS
from reshelf.data.signals.tables import read_tables, write_tables
from reshelf.errors import InputError

HOUR, START = 3600, 1_700_000_000
WORDS = ("red mug", "steel mug", "garden hose", "red hose", "travel pillow", "pillow", "mug rack", "steel rack", "lamp")
ITEMS = [
    {
        "id": f"p{n}",
        "title": title,
        "leaf": f"leaf {n % 3}",
        "brand": "nord" if n % 2 else None,
        "about": f"for {title}",
    }
    for n, title in enumerate(WORDS)
]
WEIGHTS = {"bm25": 1.0, "popularity": 0.5}
event = st.tuples(
    st.integers(0, 5), st.integers(0, 8), st.integers(0, 200).map(lambda k: k * HOUR // 2),
    st.sampled_from(("search", "click", "purchase")),
)  # fmt: skip


Log = list[tuple[int, int, int, str]]
"""Shopper, item, seconds and kind."""


def query_of(item: int, n: int) -> str:
    """What the n-th event of a log was found by."""
    return WORDS[item].split()[-1] + "s" * (n % 2)


def shop(folder: Path, log: Log, timed: bool, split: str) -> RankingData:
    """The data set of a small shop with every signal there is."""
    write_table(folder / "items.jsonl", ITEMS)
    rows = [
        {
            "user": f"u{u}",
            "item": f"p{i}",
            "time": START + t,
            "kind": kind,
            "query": query_of(i, n),
            "n": n,
        }
        for n, (u, i, t, kind) in enumerate(log)
    ]
    write_table(folder / "events.jsonl", rows)
    names = [name for name in READS if timed or name not in QUERY_CLICKS]
    mapping = Mapping(
        items=ItemsTable(
            file="items.jsonl", item_id="id", title="title", category="leaf", brand="brand", description="about"
        ),
        events=[
            EventsTable(
                file="events.jsonl", user_id="user", item_id="item", kind_column="kind", query="query",
                time="time" if timed else None, order=None if timed else "n",
            )
        ],
        build=BuildConfig(candidates=5, per_user=3, query="search", window_hours=200.0),
        split=SplitConfig(by=split, valid=0.3, test=0.3),
        signals=SignalsConfig(names=names, first_stage=WEIGHTS, history=4, recent_days=1.0),
    )  # fmt: skip
    out = folder / "data"
    out.mkdir()
    write_folder(mapping, folder, out, ImportReport(), ImportConfig(mapping="-", quiet=True))
    return load_dataset_folder(out)


def bare(ranking: RankingList) -> RankingList:
    """What a request says of a list: ids only."""
    return ranking.model_copy(update={"features": {}, "scores": None, "labels": None})


KINDS = ("click", "search", "purchase") * 4
LOG = [(u, (3 * u + k) % 9, 10 * HOUR * k + u * HOUR, kind) for u in range(6) for k, kind in enumerate(KINDS)]


@given(st.lists(event, min_size=20, max_size=80), st.booleans(), st.sampled_from(["time", "user", "leave_one_out"]))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=8, deadline=None)
def test_a_request_gets_the_numbers_of_the_import(log: Log, timed: bool, split: str) -> None:
    if split == "time" and not timed:
        split = "user"
    with tempfile.TemporaryDirectory() as name:
        try:
            data = shop(Path(name), log, timed, split)
        except InputError:  # nothing to rank, or to count
            return
        kept = open_signals(Path(name) / "data" / FOLDER)
        assert kept is not None
        for ranking in [*data.lists.get("valid", []), *data.lists.get("test", [])]:
            found = kept.compute(bare(ranking), [*ranking.features, FIRST_STAGE, "teacher"])
            assert set(found) == {*ranking.features, FIRST_STAGE}
            for signal, values in ranking.features.items():
                assert found[signal].tolist() == list(values), signal
            assert found[FIRST_STAGE].tolist() == list(ranking.scores or ())


def test_what_the_property_is_about_is_there(tmp_path: Path) -> None:
    """The log above has signals that tell candidates apart, and later events change what a later request reads."""
    data = shop(tmp_path, LOG, True, "time")
    kept = open_signals(tmp_path / "data" / FOLDER)
    assert kept is not None
    lists = [*data.lists["valid"], *data.lists["test"]]
    for name in READS:
        assert any(len(set(one.features[name])) > 1 for one in lists), name
    later = lists[0].model_copy(update={"time": datetime.fromtimestamp(START, UTC) + timedelta(days=90)})
    assert not np.array_equal(kept.compute(bare(later), ["clicks_7d"])["clicks_7d"], lists[0].features["clicks_7d"])


def counted(log: Log) -> KeptSignals:
    """Tables of a log on items, all of it in train."""
    rows = sorted(log)
    users, items, times = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 1, 2))
    micros, nothing = (START + times) * 10**6, np.zeros(len(rows), dtype=np.int8)
    events = EventLog(
        np.searchsorted(users, np.arange(users.max() + 2)), users.astype(np.int32), items.astype(np.int32),
        nothing, micros, True, np.full(len(rows), np.nan), nothing,
    )  # fmt: skip
    clicks = [(t, i) for _, i, t, kind in log if kind == "click"]
    queries = pa.array([query_of(i, t) for t, i in clicks], pa.string())
    clicked = np.array([i for _, i in clicks], dtype=np.int64)
    texts = Texts(WORDS, WORDS, [[f"leaf {n % 3}"] for n in range(len(WORDS))], WORDS)
    made = Signals.of(
        texts, events, 4, 0.8, 1.0, Clicks(queries, clicked, np.array([(START + t) * 10**6 for t, _ in clicks]))
    )
    until = datetime.fromtimestamp(START, UTC) + timedelta(seconds=int(times.max()))
    about = Description(list(FOLLOWING), 4, 0.8, 1.0, until=until.isoformat())
    return KeptSignals(about, {**made.tables, "items": pa.array([item["id"] for item in ITEMS])})


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.sampled_from(["view", "click"])), min_size=8),
    st.floats(0.2, 0.9), st.randoms(use_true_random=False), st.lists(st.integers(0, 8), max_size=6),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_request_follows_events_as_an_import_of_that_moment_would(
    some: list[tuple[int, int, str]], share: float, order: Random, history: list[int]
) -> None:
    """Tables of the beginning of a log, and all of it as events, are tables of the whole log."""
    log = [(u, i, 3 * n * HOUR // 2 + n, kind) for n, (u, i, kind) in enumerate(some)]
    begun = log[: max(2, int(share * len(log)))]
    assume(any(kind == "click" for *_, kind in begun))
    later = [(u, i, log[-1][2] + 60 + t, kind) for u, i, t, kind in log[-5:]]
    events = [
        Interaction(0, u, f"p{i}", (START + t) * 10**6, query_of(i, t) if kind == "click" else "")
        for u, i, t, kind in (*log, *later)
    ]
    order.shuffle(events)  # as they come late
    events = [event._replace(number=n) for n, event in enumerate(events, start=1)]
    live = LiveEvents()
    for told in (events[:9], events, events[5:]):  # and are told again
        live.add(told)
    now = datetime.fromtimestamp(START + log[-1][2] + 60, UTC)
    past = tuple(Event(kind="view", time=now - timedelta(days=1), item_id=f"p{row}") for row in history)
    candidates = tuple(item["id"] for item in ITEMS)
    kept, whole = counted(begun), counted(log)
    queries = [{query_of(i, t) for _, i, t, kind in part if kind == "click"} for part in (begun, log)]
    for query in ("mug", "hoses", "lamp"):
        ranking = RankingList(list_id="l", user_id="u", time=now, query=query, history=past, candidates=candidates)
        found, wanted = kept.compute(ranking, FOLLOWING, live), whole.compute(ranking, FOLLOWING)
        for signal in FOLLOWING:
            # A query that was new is no neighbour of others before the next refresh.
            if signal != "similar_query_clicks" or queries[0] == queries[1]:
                np.testing.assert_allclose(found[signal], wanted[signal], rtol=1e-9, atol=1e-12, err_msg=signal)


def test_what_is_live_forgets_and_ends() -> None:
    """A forgotten shopper's events and queries are gone, and of too many events the older half."""
    live = LiveEvents()
    some = [Interaction(n + 1, n % 5, f"p{n % 3}", 1000 + n, "mug" if n % 2 else "") for n in range(40)]
    live.add([*some, Interaction(41, 77, "p1", 2000, "something private")])
    one = live.of_item("p1")
    assert one is not None
    assert (len(one.times), len(one.shoppers), one.times.tolist()) == (14, 6, sorted(one.times.tolist()))
    live.add([Interaction(42, 77, "")])
    one = live.of_item("p1")
    assert one is not None
    assert (len(one.times), sorted(one.shoppers.tolist())) == (13, [0, 1, 2, 3, 4])
    assert "private" not in str(vars(live))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reshelf.data.signals.live.MOST_EVENTS", 41)
        live.add([Interaction(50, 3, "p9", 1500, "lamp")])
    assert len(live) == 20
    assert [live.clicks("lamp", False, 0, 9999), live.clicks("mug", True, 0, 9999)[-1]] == [["p9"], "p0"]
    assert live.clicks("mug", True, 1030, 1037) == ["p1", "p0", "p2"]
    assert live.number == 50


def test_a_copy_has_what_was_asked_for_and_unknown_products_have_no_numbers(tmp_path: Path) -> None:
    data = shop(tmp_path, LOG, True, "time")
    source, target = tmp_path / "data" / FOLDER, tmp_path / "model" / FOLDER
    assert copy_signals(source, target, ["popularity", "teacher", "match"]) == ("popularity", "match")
    assert {path.name for path in target.iterdir()} == {
        "signals.json", "items.arrow", "counts.arrow", "title_words.arrow"
    }  # fmt: skip
    kept = open_signals(target)
    assert kept is not None
    assert kept.names == ("popularity", "match")
    assert datetime.fromisoformat(kept.description.made).tzinfo is not None
    one = data.lists["test"][0]
    strange = bare(one).model_copy(update={"candidates": (*one.candidates, "p77")})
    found = kept.compute(strange, ["popularity", "bm25"])
    assert found.keys() == {"popularity"}
    assert found["popularity"].tolist()[:-1] == list(one.features["popularity"])
    assert np.isnan(found["popularity"][-1])
    nothing = bare(one).model_copy(update={"candidates": ("p77",)})
    assert np.isnan(kept.compute(nothing, ["match"])["match"]).all()
    assert copy_signals(tmp_path / "nowhere", target, ["popularity"]) == ()
    assert open_signals(target) is None


def test_newer_tables_are_of_the_same_shop_and_count_alike(tmp_path: Path) -> None:
    shop(tmp_path, LOG, True, "time")
    source, target = tmp_path / "data" / FOLDER, tmp_path / "model" / FOLDER
    names = ["popularity", "match"]
    copy_signals(source, target, names)
    before = {path.name: path.read_bytes() for path in target.iterdir()}

    def refused(words: str) -> None:
        with pytest.raises(InputError, match=words):
            copy_signals(source, target, names, at_least=target)
        assert {path.name: path.read_bytes() for path in target.iterdir()} == before
        assert os.listdir(target.parent) == [FOLDER]

    with locked_folder(target.with_name(f".{FOLDER}.partial"), "copy"), pytest.raises(InputError, match="another copy"):
        copy_signals(source, target, names, at_least=target)
    said = json.loads((source / "signals.json").read_text())
    (source / "signals.json").write_text(json.dumps(said | {"recent_days": 7.0}))
    refused(r"field recent_days: 7.0, and the model learned from signals with 1.0; import by the same mapping")
    (source / "signals.json").write_text(json.dumps(said))
    write_tables(source, {"items": pa.array([f"q{n}" for n in range(len(ITEMS))], pa.string())}, ["items"])
    refused(r"knows 0 of the 9 products that .* knows: it is of another shop or catalogue")
    write_tables(source, {"items": pa.array([f"p{n}" for n in range(len(ITEMS))], pa.string())}, ["items"])
    (source / "counts.arrow").write_bytes((source / "title_words.arrow").read_bytes())
    refused(r"counts.arrow is not what signals.json beside it was written for")
    (source / "counts.arrow").unlink()
    refused(r"counts.arrow is not there; import again")


@pytest.mark.parametrize("read_before", [0, 1, 2])
def test_tables_that_a_refresh_exchanges_while_they_are_read_are_all_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_before: int
) -> None:
    lists = shop(tmp_path / "old", LOG, True, "time").lists["test"]
    shop(tmp_path / "new", [(u, (i + 1) % 9, t, kind) for u, i, t, kind in LOG], True, "time")
    old, new = (tmp_path / one / "data" / FOLDER for one in ("old", "new"))
    target, names = tmp_path / "model" / FOLDER, ["popularity", "match"]
    copy_signals(old, target, names)
    read = 0

    def one_by_one(folder: Path, wanted: Sequence[str]) -> dict[str, Any]:
        nonlocal read
        tables = {}
        for name in wanted:
            if read == read_before:
                copy_signals(new, target, names)
            tables |= read_tables(folder, [name])
            read += 1
        return tables

    with monkeypatch.context() as patch:
        patch.setattr("reshelf.data.signals.kept.read_tables", one_by_one)
        found = open_signals(target)
    exact = open_signals(new)
    assert found is not None
    assert exact is not None
    assert found.description.fingerprint.items() <= exact.description.fingerprint.items()
    for one in lists:
        numbers, expected = (kept.compute(bare(one), names) for kept in (found, exact))
        assert all(np.array_equal(numbers[name], expected[name]) for name in names)


def test_what_a_killed_copy_left_is_not_kept(tmp_path: Path) -> None:
    shop(tmp_path, LOG, True, "time")
    source, target = tmp_path / "data" / FOLDER, tmp_path / "model" / FOLDER
    for name in ("partial", "old"):
        (target.parent / f".{FOLDER}.{name}").mkdir(parents=True)
        (target.parent / f".{FOLDER}.{name}" / "half.arrow").write_text("half")
    copy_signals(source, target, ["popularity"])
    assert os.listdir(target.parent) == [FOLDER]
    assert not (target / "half.arrow").exists()


@pytest.mark.parametrize("what", ["missing", "cut", "an index beyond the columns", "another format", "another signal"])
def test_broken_tables_are_refused_by_name(tmp_path: Path, what: str) -> None:
    shop(tmp_path, LOG, True, "time")
    folder = tmp_path / "data" / FOLDER
    path = folder / "title_words.arrow"
    if what == "missing":
        path.unlink()
    elif what == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif what == "an index beyond the columns":
        with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
            batch = reader.get_batch(0)
        index = batch.column(0)
        values = pa.array(np.full(len(index.values), 10**8, dtype=np.int32))
        wrong = batch.set_column(0, "index", pa.LargeListArray.from_arrays(index.offsets, values))
        path.unlink()
        with pa.ipc.new_file(str(path), wrong.schema) as writer:
            writer.write_batch(wrong)
    else:
        path = folder / "signals.json"
        said: dict[str, Any] = json.loads(path.read_text())
        said |= {"format": 9} if what == "another format" else {"names": ["price"]}
        path.write_text(json.dumps(said))
    with pytest.raises(InputError, match=path.name):
        open_signals(folder)


def test_newer_tables_hold_what_was_counted_until_they_were_made() -> None:
    moments = [datetime(2026, 5, day, 1, 2, 3, 456, tzinfo=UTC) for day in (1, 20)]
    for last, made, end in ((str(moments[0]), moments[1], moments[0]), ("", moments[1], moments[1])):
        about = Description(["popularity"], 10, 0.8, 7.0, made=str(made), until=last)
        kept = KeptSignals(about, {"items": pa.array(["p1"]), "counts": np.ones(1)})
        assert kept.until == 10**6 * int(end.timestamp()) + 456
