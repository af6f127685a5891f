"""docs/data.md, a shop's own data in ten minutes: a shop's own files, the shipped YAML files, every command in turn."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from reshelf.cli import main
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.marketplace.simulation import simulate_folder
from reshelf.data.signals import READS
from reshelf.prompts.config import SIGNALS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files as `data/mappings/shop.yaml` names them, from a small simulated shop: CSV and Parquet, times in ms."""
    folder = tmp_path_factory.mktemp("logs")
    shop = MarketplaceConfig(seed=3, items_per_category=8, train_lists=30, valid_lists=5, test_lists=5, candidates=8)
    data = simulate(shop)
    with (folder / "products.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        columns = "sku name category brand price currency stars ratings description colour size"
        table.writerow(columns.split(" "))
        for item in data.items.values():
            known = [item.item_id, item.title, " > ".join(item.category), item.brand, item.price, item.currency]
            table.writerow([*known, item.rating, item.rating_count, "", item.attributes.get("colour"), ""])
    actions = {"view": "pageview", "click": "result_click", "cart": "add_to_cart", "purchase": "order"}
    events, shown, seen = [], [], set()
    for ranking in sorted((one for lists in data.lists.values() for one in lists), key=lambda one: one.time):
        moment = int(ranking.time.timestamp() * 1000)
        for event in ranking.history:
            key = (ranking.user_id, event.time, event.item_id, event.query)
            if event.item_id and key not in seen:
                seen.add(key)
                row = {"sku": event.item_id, "action": actions[event.kind], "text": None, "request": None}
                events.append(row | {"customer": ranking.user_id, "time": int(event.time.timestamp() * 1000)})
        for place, (item_id, grade) in enumerate(zip(ranking.candidates, ranking.labels, strict=True), start=1):
            row = {"request": ranking.list_id, "customer": ranking.user_id, "time": moment, "sku": item_id}
            shown.append(row | {"text": ranking.query, "rank": place})
            if grade:
                action = {1: "result_click", 2: "add_to_cart", 3: "order"}[grade]
                events.append(row | {"text": None, "action": action, "time": moment + 60_000})
    pq.write_table(pa.Table.from_pylist(events), folder / "events.parquet")
    pq.write_table(pa.Table.from_pylist(shown), folder / "impressions.parquet")
    return folder


def test_the_mappings_to_copy_make_signals_and_the_recipes_read_those_that_are_kept() -> None:
    page = (ROOT / "docs/data.md").read_text(encoding="utf-8")
    mappings = [
        page.split("```yaml\n")[1].split("```")[0],
        (ROOT / "data/mappings/shop.yaml").read_text(encoding="utf-8"),
    ]
    first, second = (yaml.safe_load(mapping)["signals"]["names"] for mapping in mappings)
    assert first == second
    assert set(first) <= set(READS)
    for recipe in ("shop", "shop_small", "qwen3_0.6b", "qwen3_4b"):
        read = yaml.safe_load((ROOT / f"finetune/{recipe}.yaml").read_text(encoding="utf-8"))["prompt"]["features"]
        assert read == [SIGNALS]


def test_signals_of_a_data_set_that_keeps_none_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    simulate_folder(MarketplaceConfig(tmp_path / "data", train_lists=4, valid_lists=4, test_lists=4))
    base = ROOT / "finetune/bases/marketplace"
    line = f"finetune --config {ROOT}/finetune/shop_small.yaml --data {tmp_path}/data --out {tmp_path}/model"
    assert main([*line.split(), "--model.base", str(base)]) == 2
    assert "keeps no signals; name some in the mapping (signals.names)" in capsys.readouterr().err


@pytest.mark.slow
def test_from_logs_to_a_reranked_list(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "finetune").symlink_to(ROOT / "finetune")
    monkeypatch.chdir(tmp_path)

    def reshelf(line: str) -> str:
        assert main(line.split()) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    reshelf(f"data import --mapping {ROOT}/data/mappings/shop.yaml --root {logs} --out runs/shop/data")
    report = json.loads(Path("runs/shop/data/report.json").read_text())
    assert report
    assert "test" in reshelf("data show --data runs/shop/data")
    reshelf(
        "pretrain --config finetune/pretrain_shop.yaml --texts 16 --texts_per_step 4 --shape.layers 2 --shape.hidden 64"
    )
    reshelf("finetune --config finetune/shop_small.yaml --optimizer.max_steps 2 --eval_every 1")
    reshelf("evaluate --data runs/shop/data --model runs/shop/model --out runs/shop --engine transformers")
    systems = json.loads(Path("runs/shop/report.json").read_text())["systems"]
    assert {"first_stage", "bm25", "popularity", "base", "finetuned"} <= set(systems)
    first = pq.read_table("runs/shop/data/test.parquet", columns=["list_id", "candidates"]).to_pylist()[0]
    out = reshelf(
        f"rerank --model runs/shop/model --data runs/shop/data --list_id {first['list_id']} "
        "--engine transformers --json"
    )
    ranked = json.loads(out[out.index("{") :])["results"]
    assert sorted(one["item_id"] for one in ranked) == sorted(first["candidates"])
    assert [one["score"] for one in ranked] == sorted((one["score"] for one in ranked), reverse=True)
