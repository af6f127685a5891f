"""What a streamed import may take and leave: memory, killed imports, a mapping that is not streamed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from impressions import outcome
from shop_tables import write_table

from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping import EventsTable, ItemsTable, ListsTable, Mapping, PairsTable
from reshelf.data.importing.stream import stream_folder, why_not
from reshelf.data.importing.stream import work as work_of

ITEMS, USERS = 50, 400
MAPPING = """
items: {file: items.jsonl, item_id: id, title: title}
events: {file: events.parquet, user_id: user, item_id: item, time: time, kind: click}
pairs:
  - {file: shown.parquet, list_id: list, user_id: user, time: time, item_id: item, position: rank}
"""


def _mapping() -> Mapping:
    return Mapping(
        items=ItemsTable(file="items.jsonl", item_id="id", title="title"),
        events=EventsTable(file="events.parquet", user_id="user", item_id="item", time="time", kind="click"),
        pairs=[
            PairsTable(
                file="shown.parquet", list_id="list", user_id="user", time="time", item_id="item", position="rank"
            )
        ],
        max_history=20,
    )


def write_log(root: Path, events: int, lists: int) -> None:
    """A log in which every event of a shopper has a time of its own."""
    write_table(root / "items.jsonl", [{"id": f"p{n}", "title": f"thing {n}"} for n in range(ITEMS)])
    rng = np.random.default_rng(0)
    when = 1_700_000_000 + rng.permutation(events)
    who = np.arange(events) % USERS
    log = pa.table({"user": who, "item": rng.integers(0, ITEMS, events), "time": when})
    listed = np.repeat(rng.choice(events, lists, replace=False), 5)
    shown = pa.table(
        {
            "list": np.repeat(np.arange(lists), 5), "user": who[listed], "time": when[listed],
            "item": (rng.integers(0, ITEMS, lists)[:, None] + np.arange(5)).ravel() % ITEMS,
            "rank": np.tile(np.arange(5, 0, -1), lists),
        }
    )  # fmt: skip
    with duckdb.connect() as base:
        for name, table in (("events", log), ("shown", shown)):
            base.register("rows", table)
            base.sql("SELECT * REPLACE ('p' || item AS item, 'u' || user AS user) FROM rows").write_parquet(
                str(root / f"{name}.parquet")
            )


@pytest.mark.slow
def test_a_log_larger_than_the_memory_it_may_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DuckDB may hold 48 MB of a log of some 150 MB; it writes to the folder meanwhile, and the lists are right."""
    write_log(tmp_path, 3_000_000, 2_000)
    spilled = 0
    sorted_pieces = work_of.Work.batches

    def watch(work: work_of.Work, query: str) -> object:
        nonlocal spilled
        for piece in sorted_pieces(work, query):
            spilled = max(spilled, sum(p.stat().st_size for p in (work.folder / "spill").glob("*")))
            yield piece

    monkeypatch.setattr(work_of.Work, "batches", watch)
    out = tmp_path / "out"
    out.mkdir()
    stream_folder(_mapping(), tmp_path, out, 0, Accounts(), quiet=True, memory="48MB", rows=100_000)
    assert spilled > 0
    lists = [ranking for of_split in load_dataset_folder(out).lists.values() for ranking in of_split]
    assert len(lists) == 2_000
    log = duckdb.connect().sql(f"SELECT * FROM '{tmp_path}/events.parquet'").fetchnumpy()
    for ranking in lists[::100]:
        assert ranking.time is not None
        now = int(ranking.time.timestamp())
        mine = np.flatnonzero((log["user"] == ranking.user_id) & (log["time"] < now))
        latest = mine[np.argsort(log["time"][mine])][-20:]
        assert [event.item_id for event in ranking.history] == log["item"][latest].tolist()


@pytest.mark.parametrize("seconds", [0.0, 0.6])
def test_a_killed_import_leaves_the_older_data_set_and_no_half_of_a_new_one(tmp_path: Path, seconds: float) -> None:
    write_log(tmp_path, 2_000, 50)
    (tmp_path / "shop.yaml").write_text(MAPPING, encoding="utf-8")
    command = [sys.executable, "-m", "reshelf.cli", "data", "import", "--mapping", str(tmp_path / "shop.yaml")]
    command += ["--root", str(tmp_path), "--out", str(tmp_path / "out"), "--quiet"]
    config = ImportConfig(str(tmp_path / "shop.yaml"), tmp_path / "out", tmp_path, quiet=True)
    import_folder(config)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    write_log(tmp_path, 400_000, 50_000)
    partial = tmp_path / ".out.partial"
    running = subprocess.Popen(command)
    while not partial.exists() and running.poll() is None:
        time.sleep(0.01)
    time.sleep(seconds)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it was still at work"
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    write_log(tmp_path, 2_000, 50)
    import_folder(config)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert not partial.exists()


def test_no_row_at_all_is_the_same_sentence_both_ways(tmp_path: Path) -> None:
    write_log(tmp_path, 100, 10)
    for name in ("events", "shown"):
        with duckdb.connect() as base:
            base.sql(f"SELECT * FROM '{tmp_path}/{name}.parquet' LIMIT 0").write_parquet(f"{tmp_path}/empty.parquet")
        mapping = _mapping()
        (mapping.events if name == "events" else mapping.pairs[0]).file = "empty.parquet"  # type: ignore[union-attr]
        streamed, reference = (outcome(way, mapping, tmp_path).error for way in ("streamed", "in memory"))
        assert streamed
        assert streamed == reference


def test_what_is_not_streamed_and_why() -> None:
    assert why_not(_mapping()) is None
    mapping = _mapping()
    mapping.pairs[0].label = "clicked"
    assert "pairs.0" in str(why_not(mapping))
    mapping = _mapping()
    mapping.lists = [ListsTable(file="lists.jsonl", candidates="shown", labels="clicked")]
    assert "more than an impression log" in str(why_not(mapping))
    mapping = _mapping()
    mapping.events = None
    assert "no events" in str(why_not(mapping))
