"""Both stores keep, bound, order and forget in the same way. Redis's tests need a `redis-server` to start."""

from __future__ import annotations

import asyncio
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.inference.serving.history import HistoryStore, StoreError, hour_of, open_store
from reshelf.inference.serving.schemas import SentEvent
from tests.inference.serving.server import free_port

KEPT = 5


def click(n: int, user_id: str = "u", event_id: str | None = None) -> SentEvent:
    item = Item(item_id=f"p{n}", title=f"Item {n}") if n % 2 else None
    return SentEvent(user_id=user_id, kind="click", item_id=f"p{n}", event_id=event_id, item=item)


@pytest.fixture(scope="module")
def redis_port() -> Iterator[int]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port = free_port()
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    )
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield port
    process.terminate()
    process.wait()


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    port = request.getfixturevalue("redis_port")
    subprocess.run(["redis-cli", "-p", str(port), "flushall"], check=True, stdout=subprocess.DEVNULL)
    return f"redis://127.0.0.1:{port}/0"


def use(address: str, work: Callable[[HistoryStore], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        store = await open_store(address, KEPT)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def ids(history: list[Any]) -> list[str]:
    return [one.event.item_id for one in history]


def test_the_latest_are_kept_in_the_order_they_came(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        assert await store.append("t", [click(n) for n in range(4)]) == 4
        assert await store.append("t", [click(n) for n in range(4, 8)]) == 4
        history = await store.read("t", "u")
        assert ids(history) == ["p3", "p4", "p5", "p6", "p7"]
        assert [one.item is not None for one in history] == [True, False, True, False, True]

    use(address, work)


def test_they_are_there_when_the_store_is_opened_again(address: str) -> None:
    use(address, lambda store: store.append("t", [click(1), click(2)]))
    assert ids(use(address, lambda store: store.read("t", "u"))) == ["p1", "p2"]


def test_the_same_event_id_of_the_same_shopper_is_one_event(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        assert await store.append("t", [click(1, event_id="a"), click(1, event_id="a"), click(2, event_id="b")]) == 2
        assert await store.append("t", [click(1, event_id="a"), click(3, "other", event_id="a")]) == 1
        assert ids(await store.read("t", "u")) == ["p1", "p2"]
        assert ids(await store.read("t", "other")) == ["p3"]

    use(address, work)


def test_tenants_and_shoppers_are_apart_whatever_their_names(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        names = [("t", "1u"), ("t1", "u"), ("", "t1u"), ("t", "'; DROP TABLE events; --"), ("t", "*")]
        for n, (tenant, user) in enumerate(names):
            await store.append(tenant, [click(n, user)])
        for n, (tenant, user) in enumerate(names):
            assert ids(await store.read(tenant, user)) == [f"p{n}"]
        assert await store.forget("t", "*") == 1
        assert await store.forget("t", "nobody") == 0
        assert [len(await store.read(*name)) for name in names] == [1, 1, 1, 1, 0]

    use(address, work)


def test_many_at_once_lose_nothing(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        await asyncio.gather(*(store.append("t", [click(n, f"u{n % 10}")]) for n in range(40)))
        assert [len(await store.read("t", f"u{n}")) for n in range(10)] == [4] * 10

    use(address, work)


NOW = datetime.now(UTC).replace(minute=30) - timedelta(days=2)
EVER = (0, 0, 10**9)


def at(hours: float, item_id: str, user_id: str, event_id: str | None = None) -> SentEvent:
    when = NOW + timedelta(hours=hours)
    return SentEvent(user_id=user_id, kind="view", item_id=item_id, time=when, event_id=event_id)


def test_counts_rise_by_shopper_and_by_event_and_outlive_both(address: str) -> None:
    catalogue = {"p1", 'p"2', "p3"}

    first = hour_of(NOW)

    async def work(store: HistoryStore) -> None:
        events = [
            at(0, "p1", "u", "a"), at(1, "p1", "u"), at(1, "p1", "v"), at(2, 'p"2', "v"), at(2, "gone", "v"),
            SentEvent(user_id="w", kind="search", query='"item_id":"p3"'), at(2, "p3", "w"),
        ]  # fmt: skip
        await store.append("t", events, catalogue)
        await store.append("t", [at(0, "p1", "u", "a"), at(3, "p1", "v")], catalogue)  # the first was there already
        await store.append("other", [at(0, "p1", "u")], catalogue)
        await store.append("t", [at(-5, "p3", "y"), at(-9, "p3", "y")], catalogue)  # as they came late
        assert await store.counts("t", ["p3"], first - 9, first - 9, first + 1) == {"p3": (1, 2)}
        assert await store.counts("t", ["p3"], first - 8, first - 5, first + 1) == {"p3": (1, 1)}
        await store.append("t", [at(0, "p3", "x")])  # of an item that is not counted here
        expected = {"p1": (2, 4), 'p"2': (1, 1), "p3": (2, 3)}
        assert await store.counts("t", [*catalogue, "gone", "p9"], *EVER) == expected
        assert await store.counts("other", sorted(catalogue), *EVER) == {"p1": (1, 1)}
        # Hours: shoppers from one, events from another, both up to a third.
        assert await store.counts("t", ["p1"], first + 1, first + 3, 10**9) == {"p1": (1, 1)}
        assert await store.counts("t", ["p1"], first, first, first) == {"p1": (1, 1)}
        assert await store.counts("t", ["p1"], first + 9, first + 9, 10**9) == {}
        await store.forget("t", "u")

    use(address, work)
    # Nobody can say any more which of them were the forgotten shopper's.
    assert use(address, lambda store: store.counts("t", ["p1"], *EVER)) == {"p1": (2, 4)}


def test_counts_of_long_ago_are_no_news(address: str) -> None:
    def seen(days: float, user_id: str) -> SentEvent:
        return at(-24 * days, "p1", user_id)

    async def work(store: HistoryStore) -> None:
        await store.append("t", [seen(days, f"u{days}") for days in (90, 80, 70, 1)], {"p1"})
        assert await store.counts("t", ["p1"], *EVER) == {"p1": (1, 1)}

    use(address, work)
    use(address, lambda store: store.append("t", [seen(2, "late")], {"p1"}))
    assert use(address, lambda store: store.counts("t", ["p1"], *EVER)) == {"p1": (2, 2)}
    if not address.startswith("redis://"):
        (rows,) = sqlite3.connect(address).execute("SELECT count(*) FROM counts").fetchone()
        assert rows == 3, "the total of the last old hour, and two new ones"


def everything_in(address: str) -> bytes:
    """All bytes of a SQLite database's files, or all keys and values of a Redis."""
    if not address.startswith("redis://"):
        return b"".join(file.read_bytes() for file in Path(address).parent.iterdir())
    client = redis.Redis.from_url(address)
    held = b""
    for key in client.scan_iter():
        kind = client.type(key)
        held += key + b"".join(client.zrange(key, 0, -1) if kind == b"zset" else client.lrange(key, 0, -1))
    return held


def test_nothing_in_the_store_names_a_forgotten_shopper(address: str) -> None:
    secrets = [f"private{what}".encode() for what in ("shopper", "query", "title", "eventid")]

    async def work(store: HistoryStore) -> None:
        item = Item(item_id="x", title="privatetitle " * 200)
        mine = [
            SentEvent(user_id="privateshopper", kind="search", query="privatequery", event_id="privateeventid"),
            SentEvent(user_id="privateshopper", kind="click", item_id="x", item=item, event_id="privateeventid-click"),
        ]
        for n in range(30):  # among other shoppers' events, and more than are kept
            own = [event.model_copy(update={"event_id": f"{event.event_id}{n}"}) for event in mine]
            # Its item is none of the catalogue's, and what is counted names products of the catalogue only.
            await store.append("t", [click(n, f"other{n % 7}"), *own, click(n, f"another{n}")], {"p1", "p2"})
        before = everything_in(address)
        # Redis is told a digest of the shopper's id, never the id.
        assert [secret for secret in secrets if secret not in before] in ([], [b"privateshopper"])
        assert await store.forget("t", "privateshopper") == KEPT
        # While the store is open: not only what closing it would tidy up.
        assert [secret for secret in secrets if secret in everything_in(address)] == []
        assert await store.append("t", mine) == 2, "an event id was remembered"
        await store.forget("t", "privateshopper")

    use(address, work)
    held = everything_in(address)
    assert [secret for secret in secrets if secret in held] == []


def test_a_log_that_cannot_be_emptied_is_no_forgetting(tmp_path: Path) -> None:
    address = str(tmp_path / "history.sqlite")

    async def work(store: HistoryStore) -> None:
        await store.append("t", [SentEvent(user_id="u", kind="search", query="somethingprivate")])
        reader = sqlite3.connect(address, isolation_level=None)
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM events").fetchall()
        with pytest.raises(StoreError, match="write-ahead log"):
            await store.forget("t", "u")
        reader.close()
        assert await store.forget("t", "u") == 0
        assert b"somethingprivate" not in everything_in(address)

    use(address, work)


def test_a_redis_that_is_away_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        use("redis://127.0.0.1:9/0", lambda store: store.read("t", "u"))


@pytest.mark.parametrize("name", ["there/is/no/folder.sqlite", "file"])
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("this is no database, " * 50)
    with pytest.raises(InputError, match="history"):
        use(str(tmp_path / name), lambda store: store.read("t", "u"))
