"""Both stores keep, bound, order and forget in the same way. Redis's tests need a `redis-server` to start."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import pytest
import redis

from reshelf.data.schema import Item
from reshelf.data.signals.live import LiveEvents
from reshelf.errors import InputError
from reshelf.inference.serving.history import History, HistoryStore, StoreError, open_store
from reshelf.inference.serving.schemas import SentEvent

KEPT = 5


def click(n: int, user_id: str = "u", event_id: str | None = None) -> SentEvent:
    item = Item(item_id=f"p{n}", title=f"Item {n}") if n % 2 else None
    return SentEvent(user_id=user_id, kind="click", item_id=f"p{n}", event_id=event_id, item=item)


@pytest.fixture(params=["sqlite", "redis"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    port = request.getfixturevalue("redis_port")
    subprocess.run(["redis-cli", "-p", str(port), "flushall"], check=True, stdout=subprocess.DEVNULL)
    return f"redis://127.0.0.1:{port}/0"


def use(address: str, work: Callable[[HistoryStore], Awaitable[Any]], keep_s: float | None = None) -> Any:
    async def run() -> Any:
        store = await open_store(address, KEPT, keep_s)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(run())


def ids(history: History) -> list[str | None]:
    return [one.event.item_id for one in history.events]


def test_the_latest_are_kept_in_the_order_they_came(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        assert await store.append("t", [click(n) for n in range(4)]) == 4
        assert await store.append("t", [click(n) for n in range(4, 8)]) == 4
        history = await store.read("t", "u")
        assert ids(history) == ["p3", "p4", "p5", "p6", "p7"]
        assert [one.item is not None for one in history.events] == [True, False, True, False, True]

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
        assert [len((await store.read(*name)).events) for name in names] == [1, 1, 1, 1, 0]

    use(address, work)


def test_many_at_once_lose_nothing(address: str) -> None:
    async def work(store: HistoryStore) -> None:
        await asyncio.gather(*(store.append("t", [click(n, f"u{n % 10}")]) for n in range(40)))
        assert [len((await store.read("t", f"u{n}")).events) for n in range(10)] == [4] * 10

    use(address, work)


NOW = datetime.now(UTC) - timedelta(days=2)


def at(hours: float, item_id: str, user_id: str, **more: Any) -> SentEvent:
    when = NOW + timedelta(hours=hours)
    return SentEvent(user_id=user_id, item_id=item_id, time=when, **{"kind": "view"} | more)


async def interactions(store: HistoryStore, tenant: str = "t") -> LiveEvents:
    """All of a tenant's, as a server reads them."""
    live, number, read = LiveEvents(), 0, -1
    while read != number:
        read = number
        events, number = await store.interactions(tenant, read)
        live.add(events)
    return live


def shoppers(live: LiveEvents, item_id: str) -> tuple[int, int]:
    """Who took an item, and how often it was taken."""
    found = live.of_item(item_id)
    return (0, 0) if found is None else (len(found.shoppers), len(found.times))


def test_interactions_are_told_once_in_the_order_they_came(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("history_sqlite", "history_redis"):
        monkeypatch.setattr(f"reshelf.inference.serving.{module}.AT_ONCE", 3)

    async def work(store: HistoryStore) -> None:
        events = [
            at(0, "p1", "u", event_id="a"), at(1, "p1", "u"), at(1, "p1", "v", kind="click", query="Red mug"),
            at(2, 'p"2', "v", query="of a view"), SentEvent(user_id="w", kind="search", query="item_id"),
        ]  # fmt: skip
        await store.append("t", events)
        seen, number = await store.interactions("t", 0)
        assert await store.append("t", [at(0, "p1", "u", event_id="a"), at(24 * 999, "p1", "v")]) == 1  # of the future
        assert (await interactions(store)).latest < 1e6 * datetime.now(UTC).timestamp()
        await store.append("other", [at(0, "p1", "u")])
        await store.append("t", [at(-24 * 90, "p1", "old"), at(-9, "p3", "y")])  # long ago, and late
        rest, _ = await store.interactions("t", number)
        assert [one.number for one in (*seen, *rest)] == sorted({one.number for one in (*seen, *rest)})
        live = await interactions(store)
        assert [shoppers(live, item) for item in ("p1", 'p"2', "p3", "gone")] == [(2, 4), (1, 1), (1, 1), (0, 0)]
        assert live.clicks("red mug", False, 0, 2**62) == ["p1"], "what a view was found by is no click"
        assert shoppers(await interactions(store, "other"), "p1") == (1, 1)
        assert len(await interactions(store, "nobody's")) == 0
        assert await store.forget("t", "v") > 0
        assert shoppers(await interactions(store), "p1") == (1, 2)
        live.add((await store.interactions("t", live.number))[0])
        if address.startswith("redis://"):
            assert shoppers(live, "p1") == (1, 2), "another server hears of it"

    use(address, work)


def test_a_batch_that_is_sent_again_loses_nothing_though_more_came_than_are_kept(address: str) -> None:
    batch = [click(n, event_id=f"e{n}") for n in range(2 * KEPT)]

    async def work(store: HistoryStore) -> None:
        assert [await store.append("t", batch) for _ in range(3)] == [2 * KEPT, 0, 0]
        assert await store.append("t", [*batch[3:], click(99, event_id="new")]) == 1
        assert ids(await store.read("t", "u")) == ["p6", "p7", "p8", "p9", "p99"]

    use(address, work)
    use(address, lambda store: store.append("t", batch))
    assert ids(use(address, lambda store: store.read("t", "u"))) == ["p6", "p7", "p8", "p9", "p99"]


def test_what_is_delivered_again_does_not_bring_a_forgotten_shopper_back(address: str) -> None:
    named, timed = click(1, event_id="a"), click(2).model_copy(update={"time": datetime.now(UTC)})

    async def work(store: HistoryStore) -> None:
        assert await store.append("t", [named, timed]) == 2
        assert await store.append("t", [named]) == 0
        assert await store.forget("t", "u") == 2
        assert await store.append("t", [named, timed]) == 0
        assert ids(await store.read("t", "u")) == []
        assert len(await interactions(store)) == 0
        assert await store.append("t", [click(3), click(1, event_id="b")]) == 2, "what is new"
        assert await store.append("other", [named, timed]) == 2

    use(address, work)


def test_clocks_that_differ_lose_no_event_and_double_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of servers that share a Redis, and of one server whose clock is set back."""

    class Behind(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - timedelta(hours=2)

    async def work(store: HistoryStore) -> None:
        assert await store.append("t", [click(1, event_id="a")]) == 1
        assert await store.forget("t", "u") == 1
        monkeypatch.setattr("reshelf.inference.serving.history.datetime", Behind)
        assert await store.append("t", [click(2)]) == 1, "it is of after, whatever this server takes the time for"
        if address.startswith("redis://"):
            ahead = time.time() + 3 * 86_400
            monkeypatch.setattr(time, "time", lambda: ahead)
        assert await store.append("t", [click(3, event_id="a")]) == 0
        assert ids(await store.read("t", "u")) == ["p2"]

    use(address, work)


def damage(address: str) -> None:
    """Put what is no event among a shopper's events."""
    if address.startswith("redis://"):
        client = redis.Redis.from_url(address)
        (key,) = [key for key in client.scan_iter() if client.type(key) == b"list"]
        client.rpush(key, '{"event": {"kind": "dance"}}', "\x00{")
        return
    connection = sqlite3.connect(address)
    for body in ('{"event": {"kind": "dance"}}', "\x00{"):
        connection.execute("INSERT INTO events SELECT NULL, tenant, user_id, ?, time FROM events LIMIT 1", (body,))
    connection.commit()
    connection.close()


def test_what_cannot_be_read_is_left_out_and_counted(address: str) -> None:
    use(address, lambda store: store.append("t", [click(1), click(2)]))
    damage(address)
    history = use(address, lambda store: store.read("t", "u"))
    assert (ids(history), history.unreadable) == (["p1", "p2"], 2)


def test_what_is_older_than_is_kept_is_neither_read_nor_stored(address: str) -> None:
    now = datetime.now(UTC)
    sent = [click(n).model_copy(update={"time": now - timedelta(days=days)}) for n, days in enumerate((30, 2, 11, 0))]

    async def work(store: HistoryStore) -> None:
        await store.append("t", [at(0, "{p}", "u")])
        await store.append("t", sent)
        await store.append("t", [click(7, f"u{n}").model_copy(update={"time": sent[0].time}) for n in range(3)])
        assert ids(await store.read("t", "u")) == ["{p}", "p1", "p3"]
        assert [await store.purge() for _ in range(2)] == [5, 0]
        live = await interactions(store)
        assert [shoppers(live, item) for item in ("{p}", "p1", "p0", "p7")] == [(1, 1), (1, 1), (0, 0), (0, 0)]

    use(address, work, keep_s=10 * 86_400)
    left = use(address, lambda store: store.read("t", "u"))
    assert ids(left) == ["{p}", "p1", "p3"], "the others are gone, not only hidden"
    assert use(address, lambda store: store.purge()) == 0


def test_a_file_of_an_earlier_release_is_brought_up_to_date_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript("""
CREATE TABLE events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant TEXT NOT NULL, user_id TEXT NOT NULL, event_id TEXT, body TEXT NOT NULL
);
CREATE INDEX of_shopper ON events (tenant, user_id, number);
CREATE UNIQUE INDEX once ON events (tenant, user_id, event_id) WHERE event_id IS NOT NULL;
INSERT INTO events VALUES
    (NULL, 't', 'u', 'e1', '{"event":{"kind":"click","time":"2020-01-01T00:00:00.5Z","item_id":"p1"}}'),
    (NULL, 't', 'u', NULL, 'broken'), (NULL, 't', 'u', NULL, '{"event":{"kind":"click","item_id":"p2"}}');
""")
    connection.close()
    path.chmod(0o644)
    history = use(str(path), lambda store: store.read("t", "u"))
    assert (ids(history), history.unreadable) == (["p1", "p2"], 1)
    sent = [click(1, event_id="e1"), click(3, event_id="e3")]
    assert use(str(path), lambda store: store.append("t", sent)) == 1
    assert shoppers(use(str(path), interactions), "p3") == (1, 1)
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
    assert use(str(path), lambda store: store.purge(), keep_s=86_400) == 1
    assert ids(use(str(path), lambda store: store.read("t", "u"))) == ["p2", "p3"]
    connection = sqlite3.connect(path)
    connection.executescript("CREATE TABLE counts (tenant TEXT, item_id TEXT); PRAGMA user_version = 3")  # as it was
    connection.close()
    assert use(str(path), lambda store: store.append("t", [*sent, click(2)])) == 1
    assert shoppers(use(str(path), interactions), "p2") == (1, 1)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(InputError, match="schema 9, of a later release"):
        use(str(path), lambda store: store.read("t", "u"))


def test_every_shopper_is_served_by_a_cluster(cluster: str) -> None:
    async def work(store: HistoryStore) -> None:
        users = [f"u{n}" for n in range(60)]
        old = click(2).model_copy(update={"time": datetime.now(UTC) - timedelta(days=20)})
        for user in users:
            sent = [click(1, user, event_id="a"), old.model_copy(update={"user_id": user})]
            assert [await store.append("t", sent) for _ in range(2)] == [2, 1]
        taken = [1 + 2 * (n % 10) for n in range(60)]
        assert await store.append("t", list(map(click, taken, users))) == 60
        live = await interactions(store)
        assert [shoppers(live, f"p{n}") for n in (1, 3, 19)] == [(60, 66), (6, 6), (6, 6)]
        assert [ids(await store.read("t", user)) for user in users] == [["p1", f"p{n}"] for n in taken]
        assert await store.purge() == 120
        assert await store.forget("t", "u7") == 2
        assert ids(await store.read("t", "u7")) == []

    use(cluster, work, keep_s=86_400)


def everything_in(address: str) -> bytes:
    """All bytes of a SQLite database's files, or all keys and values of a Redis."""
    if not address.startswith("redis://"):
        return b"".join(file.read_bytes() for file in Path(address).parent.iterdir())
    client = redis.Redis.from_url(address)
    held = b""
    for key in client.scan_iter():
        held += key + b"".join(
            client.get(key)
            if kind == b"string"
            else b"".join(client.zrange(key, 0, -1))
            if kind == b"zset"
            else str(client.xrange(key)).encode()
            if kind == b"stream"
            else b"".join(client.lrange(key, 0, -1))
            for kind in [client.type(key)]
        )
    return held


def test_nothing_in_the_store_names_a_forgotten_shopper(address: str) -> None:
    secrets = [f"private{what}".encode() for what in ("shopper", "query", "title", "eventid")]

    async def work(store: HistoryStore) -> None:
        item = Item(item_id="x", title="privatetitle " * 200)
        mine = [
            SentEvent(user_id="privateshopper", kind="search", query="privatequery", event_id="privateeventid"),
            SentEvent(user_id="privateshopper", kind="click", item_id="x", item=item, query="privatequery"),
        ]
        for n in range(30):  # among other shoppers' events, and more than are kept
            own = [event.model_copy(update={"event_id": f"privateeventid{event.kind}{n}"}) for event in mine]
            await store.append("t", [click(n, f"other{n % 7}"), *own, click(n, f"another{n}")])
        before = everything_in(address)
        # Of an event's id both stores keep a digest only, and of the shopper's id Redis does.
        assert {secret for secret in secrets if secret not in before} - {b"privateshopper"} == {b"privateeventid"}
        assert await store.forget("t", "privateshopper") == KEPT
        # While the store is open: not only what closing it would tidy up.
        assert [secret for secret in secrets if secret in everything_in(address)] == []

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


def test_a_file_is_one_servers(tmp_path: Path) -> None:
    """Two would each have in memory what the other forgets."""
    path = str(tmp_path / "history.sqlite")

    async def work(store: HistoryStore) -> None:
        await store.append("t", [click(1)])
        with pytest.raises(InputError, match="is another server's"):
            await open_store(path, KEPT)
        assert ids(await store.read("t", "u")) == ["p1"]

    use(path, work)
    assert use(path, lambda store: store.forget("t", "u")) == 1
