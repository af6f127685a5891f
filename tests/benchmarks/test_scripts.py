"""Scripts that run in seconds do so, in their smallest size: what they call is there, and a server answers them."""

from __future__ import annotations

import asyncio
import importlib
import json
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks import experiments, feature_dropout, harness, logs, quickstart, serving, signals, two_tenants
from benchmarks.against_past import environment
from benchmarks.batch import make_reranker
from benchmarks.gpu import speed
from benchmarks.workers import ROOT, Worker
from benchmarks.workload import shape_lists, simulated_tokenizer, write_workload
from reshelf.data.dataset_folder import load_dataset_folder, save_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.importing.mapping_file import load_mapping
from reshelf.data.marketplace import MarketplaceConfig
from reshelf.data.signals.kept import FOLDER, open_signals
from tests.benchmarks.test_benchmarks import PROMISED

Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs a script with these arguments; what it writes goes to `tmp_path`. Returns the rows of its table."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path)

    def main(name: str, *words: object) -> list[dict[str, Any]]:
        script, rows = importlib.import_module(f"benchmarks.{name}"), []
        monkeypatch.setattr("sys.argv", [name, *map(str, words)])
        monkeypatch.setattr(script, "show", lambda _, shown: rows.extend(shown))
        script.main()
        return rows

    return main


def written(folder: Path, name: str) -> None:
    ratios = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))["ratios"]
    assert set(PROMISED[name]) <= set(ratios)
    assert all(map(math.isfinite, ratios.values()))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a reranker, `model`, and the lists of its shop, `data`."""
    folder = tmp_path_factory.mktemp("shop")
    make_reranker(folder, 20)
    return folder


def test_batch(run: Run, tmp_path: Path) -> None:
    assert len(run("batch", "--lists", 4, "--runs", 1)) == 2
    written(tmp_path, "batch")


def test_experiments(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiments, "REPEATS", 2)
    assert len(run("experiments")) == 6
    written(tmp_path, "experiments")


def test_hostile(run: Run, tmp_path: Path, shop: Path) -> None:
    run("hostile", "--model", shop / "model", "--data", shop / "data", "--lists", 2)
    written(tmp_path, "hostile")


def test_prompts(run: Run, tmp_path: Path) -> None:
    assert len(run("prompts", "--items", 200, "--large", 300, "--runs", 1)) == 9
    written(tmp_path, "prompts")


@pytest.mark.slow
@pytest.mark.parametrize("script", [serving, two_tenants], ids=lambda script: script.__name__)
def test_a_server_answers(script: Any, run: Run, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "LISTS", 4)
    monkeypatch.setattr(script, "measured_capacity", partial(serving.measured_capacity, seconds=1.0))
    name = script.__name__.removeprefix("benchmarks.")
    rows = run(name, "--model", shop / "model", "--data", shop / "data", "--minutes", 0.03)
    loads = [row["statuses"] for row in rows if "statuses" in row]
    assert len(loads) == {"serving": 2, "two_tenants": 3}[name]
    for statuses in loads:
        # On a busy machine "200 deadline" and "200 queue_full" too; 422 is the malformed one's.
        assert {status[:3] for status in statuses} | {"422"} == {"200", "422"}


def test_a_refusal_is_not_measured() -> None:
    """Nor one that comes among replies, long before the last."""

    async def measure(work: Callable[[httpx.AsyncClient], Any]) -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(403, text="not called by this name"))
        async with httpx.AsyncClient(base_url="http://shop", transport=transport) as http:
            await work(http)

    with pytest.raises(httpx.HTTPStatusError, match="403"):
        asyncio.run(measure(lambda http: serving.measured_capacity(http, [{}], 0.1)))
    with pytest.raises(RuntimeError, match="not called by this name"):
        asyncio.run(measure(lambda http: serving.open_loop(http, os.getpid(), [{}], [np.zeros(1)], 50.0, 0.2)))


def test_numbers_left_out_and_read_as_levels(run: Run, tmp_path: Path) -> None:
    data = feature_dropout.shop(20, 6)
    save_dataset_folder(tmp_path / "data", data)
    assert len(run("level_embeddings", "--data", tmp_path / "data", "--steps", 2)) == 4
    written(tmp_path, "level_embeddings")


@pytest.mark.slow
def test_logs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    logs.make_log(log, events=6000, lists=100, items=300, queries=60)
    here = np.ones(1 << 26)  # half a GiB, which is not the import's
    for part, some in logs.PARTS.items():
        for what, changes in some.items():
            row = logs.imported(log, f"{part}, {what}", 6000, changes, environment([ROOT]))
            assert row["lists"] > 0
            assert row["GiB"] < here.nbytes / 2**30


def test_signals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shop of `quickstart`, as its log would have it."""
    small = MarketplaceConfig(items_per_category=10, candidates=6, train_lists=30, valid_lists=6, test_lists=12)
    monkeypatch.setattr(quickstart, "CHINESE", small)
    monkeypatch.setattr(signals, "EVENTS", 200)
    tables, data = tmp_path / "tables", tmp_path / "data"
    quickstart.chinese_shop(tables, tmp_path)
    changes = {"signals.names": load_mapping("shop").signals.names}
    import_folder(ImportConfig(str(tables / "shop.yaml"), data, tables, changes=changes, quiet=True))
    lists = load_dataset_folder(data, ["test"]).lists["test"]
    assert set(quickstart.by_clicks_and_utility(lists)) == {"clicks", "utility"}
    rows = signals.of_shop("a shop", open_signals(data / FOLDER), lists)
    assert [row["signals"] for row in rows][-2:] == [signals.ALL, signals.LIVE]


@pytest.mark.slow
def test_contestants_take_a_turn(tmp_path: Path) -> None:
    """Ours; the peers' need an environment of their own."""
    tokenizer = simulated_tokenizer()
    write_workload(tmp_path, shape_lists(tokenizer, prefix=40, item=9, candidates=3, count=2), tokenizer)

    def turn(words: tuple[str, ...]) -> dict[str, Any]:
        with Worker(words[0], tmp_path, *words[1:]) as worker:
            return worker.turn(0)

    contestants = [("score_reshelf", "transformers"), ("train_reshelf", "1", "lora")]
    with ThreadPoolExecutor(2) as pool:
        assert all(fact["seconds"] > 0 for fact in pool.map(turn, contestants))


@pytest.mark.slow
def test_the_speed_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures on this machine, of short prompts over the base that ships."""
    prompt = speed._prompt
    monkeypatch.setattr(speed, "_prompt", lambda *shape: prompt(*(2 + n // 50 for n in shape)))
    monkeypatch.setattr(speed, "SHAPES", {"440x48x16": [(440, 48, 16)], "two": [(440, 48, 16)] * 2})
    monkeypatch.setattr(speed, "_ms", lambda work, *_, **__: harness.timed(work))
    found = speed.speed(ROOT / "finetune" / "bases" / "marketplace", 60)
    assert {"score_100x42_behind_512_ms", "step_lora_over_nf4_440x48x16_ms"} <= set(found)
