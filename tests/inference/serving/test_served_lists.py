"""The log of served lists: whole files, pseudonyms in place of names, and a bound for memory and disk."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from reshelf.data.schema import Item
from reshelf.data.served_lists import KEY_FILE, SERVED_SCHEMA, make_key, pseudonym, read_key
from reshelf.errors import InputError
from reshelf.inference.interleaving import draft_propensities
from reshelf.inference.serving import served_lists
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.served_lists import ServedList, ServedListLog
from tests.inference.serving.server import until

ITEMS = [Item(item_id=f"p{n}", title=f"Secret {n}") for n in range(4)]


def served(**changes: Any) -> ServedList:
    fields: dict[str, Any] = {
        "list_id": "l1", "tenant": "shop", "user_id": "anna@shop.example", "query": "  Rain JACKET", "items": ITEMS,
        "places": [0, 1, 3, 4], "served": np.array([2, 0, 1]), "model": "m", "model_sha256": "ab",
        "language": "en", "personalization": 1.0, "scores": np.array([0.5, 0.25, 2.0, -1.0], dtype=np.float32),
    }  # fmt: skip
    return ServedList(**fields | changes)


def counted(metrics: Metrics, outcome: str) -> float:
    return metrics.registry.get_sample_value("reshelf_served_lists_total", {"outcome": outcome}) or 0.0


def test_lists_are_written_whole_and_without_names(tmp_path: Path) -> None:
    metrics = Metrics()
    log = ServedListLog(tmp_path / "served", metrics, None, 1e9)
    log.put(served())
    orders = [2, 0, 3, 1], [0, 2, 1, 3]
    log.put(served(list_id="l2", user_id=None, query="", teams={2: "a", 0: "b"}, orders=orders, experiment="x",
                   shadow_model="s", shadow=np.array([3.0, 1.0, 2.0, 0.0])))  # fmt: skip
    log.put(served(list_id="l3", scores=None, fallback="deadline", user_id="\ud800"))  # no thread ends by it
    log.put(served(list_id="l4", tenant="other", scores=None, fallback="deadline"))
    log.close()
    (path,) = (tmp_path / "served").glob("*.parquet")
    assert pq.read_schema(path).equals(SERVED_SCHEMA)
    rows = pq.read_table(path).to_pylist()
    assert [row["list_id"] for row in rows] == ["l1", "l2", "l4"]
    assert (counted(metrics, "written"), counted(metrics, "dropped")) == (3, 1)
    key = read_key(tmp_path / "served")
    assert rows[0] | {"time": None} == {
        "list_id": "l1", "time": None, "tenant": "shop", "user": pseudonym(key, "shop", "anna@shop.example"),
        "query": pseudonym(key, "shop", "rain jacket"), "candidates": ["p2", "p0", "p1"], "positions": [1, 2, 3],
        "first_stage": [4, 1, 2], "scores": [2.0, 0.5, 0.25], "propensities": [1.0] * 3, "teams": None, "shadow": None,
        "model": "m", "model_sha256": "ab", "language": "en", "personalization": 1.0, "experiment": None,
        "control": None, "arm": None, "arm_share": None,
        "shadow_model": None, "fallback": None,
    }  # fmt: skip
    assert (rows[1]["user"], rows[1]["query"], rows[1]["teams"]) == (None, None, ["a", "b", None])
    assert (rows[1]["shadow"], rows[1]["propensities"]) == ([2, 1, 3], draft_propensities(*orders, [2, 0, 1]))
    assert (rows[2]["scores"], rows[2]["fallback"]) == (None, "deadline")
    assert rows[2]["user"] != rows[0]["user"], "tenants have pseudonyms of their own"
    whole = b"".join(one.read_bytes() for one in (tmp_path / "served").iterdir())
    assert not any(word in whole for word in (b"anna", b"Secret", b"ain"))
    assert (tmp_path / "served" / KEY_FILE).stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_kept_is_dropped_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    metrics, blocked = Metrics(), threading.Event()
    log = ServedListLog(tmp_path / "served", metrics, None, 1e9)
    monkeypatch.setattr(log, "_row", lambda *_: blocked.wait(10) and {"list_id": "l"})
    started = time.perf_counter()
    for _ in range(served_lists._WAITING + 100):
        log.put(served())
    assert time.perf_counter() - started < 1, "a request never waits"
    assert 98 <= counted(metrics, "dropped") <= 100
    (tmp_path / "served" / KEY_FILE).unlink()
    (tmp_path / "served").rmdir()
    (tmp_path / "served").write_text("a file where the folder was")
    blocked.set()
    log.close()
    assert (counted(metrics, "written"), counted(metrics, "dropped")) == (0, served_lists._WAITING + 100)


def test_a_file_is_finished_when_it_is_large_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served_lists, "_BYTES", 20_000)
    for name, age_s in (("served-20200101T000000-a.parquet", 100), (".served-b.parquet.x.partial", 4000)):
        (tmp_path / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (time.time() - age_s,) * 2)
    (tmp_path / "notes.txt").write_text("somebody's")
    log = ServedListLog(tmp_path, Metrics(), 90.0, 1e9)
    for n in range(200):
        log.put(served(list_id=f"l{n}"))
    log.close()
    files = sorted(tmp_path.glob("served-*.parquet"))
    assert len(files) > 1
    assert sum(pq.read_metadata(path).num_rows for path in files) == 200
    assert {path.name for path in tmp_path.iterdir()} == {*(path.name for path in files), KEY_FILE, "notes.txt"}
    bound = 1.5 * files[0].stat().st_size
    again = ServedListLog(tmp_path, Metrics(), None, bound)
    again.put(served())
    again.close()
    assert sum(path.stat().st_size for path in tmp_path.glob("served-*.parquet")) <= bound


def test_a_full_disk_is_said_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(served_lists, "log_once_a_minute", lambda _, problem, **__: said.append(problem))

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "Error writing bytes to file")  # as Arrow does, which names none

    monkeypatch.setattr(pq, "write_table", full)
    log = ServedListLog(tmp_path, Metrics(), None, 1e9)
    log.put(served())
    log.close()
    assert said == [f"{tmp_path}: the disk is full; make room"]


def test_a_folder_that_is_moved_away_is_made_again_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for rotation: without its key nobody could have found a shopper in the files that followed."""
    monkeypatch.setattr(served_lists, "_BYTES", 1)
    monkeypatch.setattr(served_lists, "_ROWS", 1)
    folder = tmp_path / "served"
    log = ServedListLog(folder, Metrics(), None, 1e9)
    users = []
    for moved in ("first", "second"):
        log.put(served())
        until(lambda: list(folder.glob("served-*.parquet")) and (folder / KEY_FILE).exists(), 10)
        folder.rename(tmp_path / moved)
        users += pq.read_table(tmp_path / moved)["user"].to_pylist()
        assert users[-1] == pseudonym(read_key(tmp_path / moved), "shop", "anna@shop.example")
    assert len(set(users)) == 1
    other = make_key(folder)  # of a server that started meanwhile
    log.put(served())
    until(lambda: list(folder.glob("served-*.parquet")), 10)
    log.put(served(list_id="l2"))
    log.close()
    rows = pq.read_table(folder).to_pylist()
    assert {row["user"] for row in rows if row["list_id"] == "l2"} == {pseudonym(other, "shop", "anna@shop.example")}


def test_servers_that_share_a_folder_share_its_key(tmp_path: Path) -> None:
    assert make_key(tmp_path) == make_key(tmp_path) == read_key(tmp_path)
    (tmp_path / KEY_FILE).write_text("ab")
    with pytest.raises(InputError, match="1 bytes"):
        make_key(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        ServedListLog(tmp_path / "file" / "served", Metrics(), None, 1e9)
