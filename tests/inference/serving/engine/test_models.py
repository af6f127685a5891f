"""Tenants' own rerankers: each scores by its own, and they come, change and go while the server runs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import threading
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
from reshelf.modeling.spec import BASE, SPEC_FILE
from tests.inference.serving.server import Server, until
from tests.inference.serving.test_tenants import DOCUMENTS, make_key

QUERY = "blue wool coat"


@pytest.fixture
def tenants_folder(other_folder: Path, tmp_path: Path) -> Path:
    """A tenant's reranker over the base of the server's own."""
    return Path(shutil.copytree(other_folder, tmp_path / "other"))


@pytest.fixture(params=["the same base", "another base"])
def any_folder(request: pytest.FixtureRequest, tenants_folder: Path) -> tuple[Path, int]:
    """A tenant's reranker, and how many engines serve it beside the server's own."""
    if request.param == "the same base":
        return tenants_folder, 0
    put_over_another_base(tenants_folder)
    return tenants_folder, 1


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


def test_a_tenants_model_comes_changes_and_goes_without_a_restart(
    serve: Any, tmp_path: Path, reranker_folder: Path, any_folder: tuple[Path, int], catalogue: dict[str, Item],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    other_folder, further = any_folder
    later_folder = Path(shutil.copytree(other_folder, tmp_path / "later"))
    shutil.copytree(reranker_folder / "adapter", later_folder / "adapter", dirs_exist_ok=True)
    file = tmp_path / "tenants.yaml"
    keys = {"a": make_key(file, capsys, "a"), "b": make_key(file, capsys, "b", "--model", str(other_folder))}
    expected = {folder: offline(folder, catalogue) for folder in (reranker_folder, other_folder, later_folder)}
    assert expected[reranker_folder] != pytest.approx(expected[other_folder], abs=0.01)
    server: Server = serve(tmp_path, "--tenants", file)
    own, other, later = (pytest.approx(expected[folder], abs=1e-4) for folder in expected)
    with Client(server.url, keys["a"]) as a, Client(server.url, keys["b"]) as b:
        until(lambda: served(b) is not None, 60)
        assert served(a) == own
        assert served(b) == other
        # Nobody reaches another's by naming it.
        assert served(a, model=str(other_folder)) == served(a, model="other") == own
        assert len(server.engine_pids()) == 1 + further

        # A broken model changes nothing.
        spec = other_folder / "reshelf.json"
        held = spec.read_text()
        spec.write_text("{")
        until(lambda: "model not loaded" in server.said(), 30)
        assert served(b) == other
        # A new one takes over, and no list in between goes without an order.
        shutil.copytree(reranker_folder / "adapter", other_folder / "adapter", dirs_exist_ok=True)
        partial = spec.with_suffix(".partial")
        partial.write_text(held)
        os.replace(partial, spec)
        seen: list[list[float] | None] = []
        swapped = threading.Event()

        def load() -> None:
            while not swapped.is_set():
                seen.append(served(b))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: seen and seen[-1] == later, 60)
        until(lambda: len(server.engine_pids()) == 1 + further, 30)
        swapped.set()
        for thread in threads:
            thread.join()
        assert all(scores in (later, other) for scores in seen)

        # A tenant that names none any more has the server's own, and the engine nobody needs ends.
        entries = yaml.safe_load(file.read_text())["tenants"]
        file.write_text(yaml.safe_dump({"tenants": [entry | {"model": ""} for entry in entries]}))
        until(lambda: len(server.engine_pids()) == 1, 30)
        assert served(a) == own
        assert served(b) == own
    assert server.close() == 0


def test_an_engine_that_died_has_its_adapters_again_and_a_model_that_is_not_there_costs_no_other(
    serve: Any, tmp_path: Path, reranker_folder: Path, tenants_folder: Path, catalogue: dict[str, Item],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    file = tmp_path / "tenants.yaml"
    keys = {"a": make_key(file, capsys, "a"), "b": make_key(file, capsys, "b", "--model", str(tenants_folder))}
    nobodys = make_key(file, capsys, "c", "--model", str(tmp_path / "none"))
    own, other = (pytest.approx(offline(one, catalogue), abs=1e-4) for one in (reranker_folder, tenants_folder))
    server: Server = serve(tmp_path, "--tenants", file)
    with Client(server.url, keys["a"]) as a, Client(server.url, keys["b"]) as b:
        until(lambda: served(b) == other, 60)
        pid = server.engine_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: served(b) is None, 10)
        until(lambda: served(b) is not None, 60)
        assert server.engine_pid() != pid
        assert served(b) == other
        assert served(a) == own
    assert "model not loaded" in server.said()
    with Client(server.url, nobodys) as c:
        reply = c.rerank(QUERY, DOCUMENTS)
        assert reply.meta.fallback == "engine_down"
        assert [one.index for one in reply.results] == list(range(len(DOCUMENTS)))
        with pytest.raises(ServiceError, match="empty text"):
            c.rerank(QUERY, [""])
    assert server.close() == 0


@pytest.mark.slow
def test_the_servers_own_over_another_base_takes_no_tenant_with_it(
    serve: Any, tmp_path: Path, reranker_folder: Path, tenants_folder: Path, catalogue: dict[str, Item],
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The adapter that was over the former base goes on, in an engine with that base."""
    own_folder = Path(shutil.copytree(reranker_folder, tmp_path / "own"))
    file = tmp_path / "tenants.yaml"
    keys = {"a": make_key(file, capsys, "a"), "b": make_key(file, capsys, "b", "--model", str(tenants_folder))}
    other = pytest.approx(offline(tenants_folder, catalogue), abs=1e-4)
    server: Server = serve(tmp_path, "--model", own_folder, "--tenants", file)
    with Client(server.url, keys["a"]) as a, Client(server.url, keys["b"]) as b:
        until(lambda: served(b) == other, 60)
        assert len(server.engine_pids()) == 1
        put_over_another_base(own_folder)
        now = pytest.approx(offline(own_folder, catalogue), abs=1e-4)
        until(lambda: served(a) == now, 60)
        pids = server.engine_pids()
        until(lambda: len(server.engine_pids()) == 2 and server.engine_pids() != pids, 60)
        assert served(b) == other
        assert served(a) == now
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
