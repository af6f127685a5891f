"""Both stores keep, bound, order and forget in the same way. Redis's tests need a `redis-server` to start."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.inference.serving.history import HistoryStore, StoreError, open_store
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


def test_what_was_forgotten_is_not_in_the_file(tmp_path: Path) -> None:
    address = str(tmp_path / "history.sqlite")

    async def work(store: HistoryStore) -> None:
        await store.append("t", [SentEvent(user_id="u", kind="search", query="somethingprivate")])
        assert b"somethingprivate" in b"".join(file.read_bytes() for file in tmp_path.iterdir())
        await store.forget("t", "u")

    use(address, work)
    assert b"somethingprivate" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


def test_a_redis_that_is_away_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        use("redis://127.0.0.1:9/0", lambda store: store.read("t", "u"))


@pytest.mark.parametrize("name", ["there/is/no/folder.sqlite", "file"])
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("this is no database, " * 50)
    with pytest.raises(InputError, match="history"):
        use(str(tmp_path / name), lambda store: store.read("t", "u"))
