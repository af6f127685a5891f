"""Tenants' own rerankers: each scores by its own, and they come, change and go while the server runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from reshelf.data.atomic import atomic
from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item, RankingList
from reshelf.inference.client import Client, ServiceError
from reshelf.inference.reranker import Reranker
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine.models import ServedModel
from reshelf.modeling.spec import ADAPTER, BASE, SPEC_FILE
from tests.inference.serving.server import Server, until
from tests.inference.serving.test_tenants import DOCUMENTS, make_key

QUERY = "blue wool coat"


@dataclass
class House:
    """A server with a tenant by its own model, one by a model over the same base, and one whose model is not there."""

    server: Server
    own_folder: Path
    other_folder: Path
    tenants: Path
    keys: dict[str, str]


@pytest.fixture
def house(
    serve: Any, tmp_path: Path, reranker_folder: Path, other_folder: Path, capsys: pytest.CaptureFixture[str]
) -> House:
    own, other = (Path(shutil.copytree(one, tmp_path / one.name)) for one in (reranker_folder, other_folder))
    file = tmp_path / "tenants.yaml"
    models: dict[str, tuple[str, ...]] = {
        "a": (),
        "b": ("--model", str(other)),
        "c": ("--model", str(tmp_path / "none")),
    }
    keys = {name: make_key(file, capsys, name, *flags) for name, flags in models.items()}
    return House(serve(tmp_path, "--model", own, "--tenants", file), own, other, file, keys)


def put_over_another_base(folder: Path) -> None:
    weights = folder / "base" / "model.safetensors"
    base = load_file(weights)
    partial = weights.with_suffix(".partial")
    save_file(base | {"model.norm.weight": 1.5 * base["model.norm.weight"]}, partial, {"format": "pt"})
    os.replace(partial, weights)
    spec = json.loads((folder / SPEC_FILE).read_text(encoding="utf-8"))
    spec["base_sha256"] = folder_sha256(folder / BASE)
    with atomic(folder / SPEC_FILE) as partial_spec:
        partial_spec.write_text(json.dumps(spec), encoding="utf-8")


def offline(folder: Path, catalogue: dict[str, Item]) -> list[float]:
    with Reranker.from_pretrained(folder, "transformers", catalogue, device="cpu") as reranker:
        ranked = reranker.rerank(QUERY, DOCUMENTS, scores=[0.8] * 3 + [0.1] * 3)
    return [entry.score for entry in ranked]


def served(client: Client, **fields: Any) -> list[float] | None:
    """Scores, best first; None for first-stage order."""
    reply = client.rerank(QUERY, DOCUMENTS, scores=[0.8] * 3 + [0.1] * 3, deadline_ms=30_000, **fields)
    return None if reply.meta.fallback else [one.score or 0.0 for one in reply.results]


def change_and_leave(
    house: House, a: Client, b: Client, own: Any, other: Any, catalogue: dict[str, Item], further: int
) -> None:
    """A tenant's model breaks, becomes a new one under load, and is named no more.

    Args:
        own: scores by the server's own model.
        other: those by the tenant's, as it is.
        further: engines beside the server's own.
    """
    server, folder, spec = house.server, house.other_folder, house.other_folder / SPEC_FILE
    new = Path(shutil.copytree(folder, folder.with_name("later")))
    shutil.copytree(house.own_folder / ADAPTER, new / ADAPTER, dirs_exist_ok=True)
    later = pytest.approx(offline(new, catalogue), abs=1e-4)

    def failures() -> int:
        return sum(line["message"] == "model not loaded" and line["model"] == folder.name for line in server.lines())

    # A broken model changes nothing.
    before, held = failures(), spec.read_text()
    spec.write_text("{")
    until(lambda: failures() > before, 30)
    assert served(b) == other
    # A new one takes over, and no list in between goes without an order.
    seen: list[list[float] | None] = []
    swapped = threading.Event()

    def load() -> None:
        while not swapped.is_set():
            seen.append(served(b))
            time.sleep(0.02)  # what is loaded meanwhile needs a core

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: other in seen, 30)
    shutil.copytree(new / ADAPTER, folder / ADAPTER, dirs_exist_ok=True)
    partial = spec.with_suffix(".partial")
    partial.write_text(held)
    os.replace(partial, spec)
    until(lambda: seen and seen[-1] == later, 60)
    until(lambda: len(server.engine_pids()) == 1 + further, 30)
    swapped.set()
    for thread in threads:
        thread.join()
    assert all(scores in (later, other) for scores in seen)

    # A tenant that names none any more has the server's own, and the engine nobody needs ends.
    entries = yaml.safe_load(house.tenants.read_text())["tenants"]
    house.tenants.write_text(yaml.safe_dump({"tenants": [entry | {"model": ""} for entry in entries]}))
    until(lambda: len(server.engine_pids()) == 1, 30)
    until(lambda: served(b) == own, 30)
    assert served(a) == own


@pytest.mark.slow
def test_a_tenants_model_comes_changes_and_goes_without_a_restart(house: House, catalogue: dict[str, Item]) -> None:
    """And an engine that died has its adapters again."""
    server = house.server
    own, other = (pytest.approx(offline(one, catalogue), abs=1e-4) for one in (house.own_folder, house.other_folder))
    with Client(server.url, house.keys["a"]) as a, Client(server.url, house.keys["b"]) as b:
        until(lambda: served(b) == other, 60)
        assert served(a) == own
        assert served(a) != other
        # Nobody reaches another's by naming it.
        assert served(a, model=str(house.other_folder)) == served(a, model="other") == own
        pid = server.engine_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: served(b) is None, 10)
        until(lambda: served(b) is not None, 60)
        assert server.engine_pid() != pid
        assert served(b) == other
        assert served(a) == own
        # A model that is not there costs no other.
        until(lambda: any(line.get("model") == "none" for line in server.lines()), 10)
        with Client(server.url, house.keys["c"]) as c:
            reply = c.rerank(QUERY, DOCUMENTS)
            assert reply.meta.fallback == "engine_down"
            assert [one.index for one in reply.results] == list(range(len(DOCUMENTS)))
            with pytest.raises(ServiceError, match="empty text"):
                c.rerank(QUERY, [""])
        change_and_leave(house, a, b, own, other, catalogue, further=0)
    assert server.close() == 0


@pytest.mark.slow
def test_the_servers_own_over_another_base_takes_no_tenant_with_it(house: House, catalogue: dict[str, Item]) -> None:
    """The adapter that was over the former base goes on, in an engine with that base; it changes and goes there too."""
    server = house.server
    other = pytest.approx(offline(house.other_folder, catalogue), abs=1e-4)
    with Client(server.url, house.keys["a"]) as a, Client(server.url, house.keys["b"]) as b:
        until(lambda: served(b) == other, 60)
        assert len(server.engine_pids()) == 1
        put_over_another_base(house.own_folder)
        now = pytest.approx(offline(house.own_folder, catalogue), abs=1e-4)
        until(lambda: served(a) == now, 60)
        pids = server.engine_pids()
        until(lambda: len(server.engine_pids()) == 2 and server.engine_pids() != pids, 60)
        assert served(b) == other
        assert served(a) == now
        change_and_leave(house, a, b, now, other, catalogue, further=1)
    assert server.close() == 0


def test_the_catalogue_is_tokenised_before_it_is_asked_for(
    reranker_folder: Path, catalogue: dict[str, Item], lists: list[RankingList]
) -> None:
    async def read() -> ServedModel:
        model = ServedModel(reranker_folder, ServeConfig(reranker_folder), catalogue)
        assert not any(model.builder.has_read(ranking) for ranking in lists)
        model.read_ahead()
        assert model._reading is not None
        await model._reading
        return model

    model = asyncio.run(read())
    assert len(catalogue) > 32, "more than is read at one time"
    assert all(model.builder.has_read(ranking) for ranking in lists)
    model.writing.shutdown()
