"""Servers with the tests' tiny reranker."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from reshelf.data.dataset_folder import ITEM_SCHEMA, write_records
from reshelf.data.schema import Item
from tests.inference.serving.receiver import Receiver
from tests.inference.serving.server import Server, free_port, make_certificate, stop_after, until


@pytest.fixture(autouse=True)
def no_server_is_left() -> Iterator[None]:
    """A test that fails before it ends its server."""
    with stop_after():
        yield


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item]) -> Path:
    """A data set folder's catalogue."""
    folder = tmp_path_factory.mktemp("shop")
    write_records(folder / "items.parquet", catalogue.values(), ITEM_SCHEMA)
    return folder


@pytest.fixture(scope="session")
def serve(reranker_folder: Path, shop: Path) -> Callable[..., Server]:
    def start(folder: Path, *flags: Any, wait: bool = True) -> Server:
        return Server(
            folder / "server.log", "--model", reranker_folder, "--data", shop, "--engine", "transformers",
            "--history", folder / "history.sqlite", *flags, wait=wait,
        )  # fmt: skip

    return start


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Of the traces of `server`."""
    with Receiver() as running:
        yield running


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, serve: Callable[..., Server], receiver: Receiver
) -> Iterator[Server]:
    """One server for the tests that leave it as they found it."""
    with stop_after():
        running = serve(tmp_path_factory.mktemp("server"), "--traces", receiver.url)
        yield running
        assert running.close() == 0


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of this machine, with its key in the same file."""
    return make_certificate(tmp_path_factory.mktemp("certificate") / "this.pem")


@pytest.fixture(scope="session")
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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of one of a Redis Cluster's three nodes."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    ports, folder = [free_port() for _ in range(6)], tmp_path_factory.mktemp("cluster")
    nodes, buses = ports[:3], ports[3:]
    started = [
        subprocess.Popen(
            ["redis-server", "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus), "--save", "",
             "--cluster-config-file", f"{port}.conf", "--dir", str(folder)], stdout=subprocess.DEVNULL,
        )
        for port, bus in zip(nodes, buses, strict=True)
    ]  # fmt: skip
    try:
        clients = [redis.Redis(port=port) for port in nodes]
        for n, client in enumerate(clients):
            until(lambda client=client: answers(client), 20)
            client.execute_command("CLUSTER ADDSLOTSRANGE", n * 16384 // 3, (n + 1) * 16384 // 3 - 1)
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", n + 1)
        for port, bus in zip(nodes[1:], buses[1:], strict=True):
            clients[0].execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        until(lambda: all(b"cluster_state:ok" in raw_info(client) for client in clients), 20)
        yield f"redis://127.0.0.1:{nodes[0]}/0"
    finally:
        for process in started:
            process.kill()
            process.wait()


def answers(client: Any) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def raw_info(client: Any) -> bytes:
    found = client.execute_command("CLUSTER INFO")
    return found if isinstance(found, bytes) else "".join(f"{k}:{v}\n" for k, v in found.items()).encode()
