"""Claim: ten minutes take a shop from its tables to a served ranking, and a request with ids gets what offline gets.

    make bench NAME=quickstart        # 15 minutes on two cores; needs the data sets of ../shared/data

Two shops in CSV files. The English one is Best Buy's last 3,000 searches with the 50 products of each list: real
queries and clicks, no scores, no counts from before. The Chinese one is simulated (`reshelf data simulate --language
zh`). For each `reshelf quickstart --minutes 10`, then `reshelf serve` with the line it ends with, asked for every test
list with query, history and the documents' ids alone. Beside it a LambdaMART over the same lists and signals. Clicks
of the simulated shop depend on the place, as in any log; so a row of its own says what its orders are worth by the
utility that made the clicks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import yaml
from rich.console import Console

from benchmarks.harness import show, write_result
from benchmarks.serving import served
from reshelf.data.atomic import write_json
from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate
from reshelf.data.marketplace.simulation import KINDS
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.lambdamart import LambdaMart
from reshelf.evaluation.measure import Truth, ndcg_per_list
from reshelf.inference.client import Client
from reshelf.inference.reranker import Reranker
from reshelf.metrics.bootstrap import interval, resample
from reshelf.modeling.spec import read_spec

SEARCHES = 3000
CHINESE = MarketplaceConfig(
    language="zh", seed=11, items_per_category=40, train_lists=900, valid_lists=100, test_lists=200, candidates=20
)
MAPPING: dict[str, Any] = {
    "items": {"file": "products.csv", "item_id": "sku", "title": "name", "brand": "brand", "price": "price"},
    "events": {"file": "events.csv", "user_id": "customer", "item_id": "sku", "time": "time", "kind_column": "action",
               "query": "text", "list_id": "request"},
    "pairs": {"file": "shown.csv", "list_id": "request", "user_id": "customer", "time": "time", "query": "text",
              "item_id": "sku", "position": "rank"},
    "split": {"by": "time", "valid": 0.1, "test": 0.1},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--out", type=Path, default=Path("runs/quickstart"), help="what is finished there is kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="that quickstart is given")
    parser.add_argument("--shops", nargs="+", choices=list(SHOPS), default=list(SHOPS))
    args = parser.parse_args()
    console = Console()
    rows: list[dict[str, Any]] = []
    for name in args.shops:
        folder = args.out / name
        if not (folder / "rows.json").is_file():
            write_json(folder / "rows.json", measured(folder, args.root, args.minutes, console))
        rows += json.loads((folder / "rows.json").read_text(encoding="utf-8"))
        show("from tables to a served ranking", rows)
    if set(args.shops) == set(SHOPS) and args.minutes == 10:
        ratios = {
            "quickstart_minutes": max(row["minutes"] for row in rows),
            "quickstart_served_vs_offline": max(abs(row["served"] - row["offline"]) for row in rows),
            "quickstart_gain": min(last["as recommended"] - last["first stage"] for last in by_shop(rows).values()),
        }
        write_result("quickstart", rows, ratios, {"searches": SEARCHES})


def measured(folder: Path, root: Path, minutes: float, console: Console) -> list[dict[str, Any]]:
    """How long it took to the first served request, and nDCG@10 of the test lists in five orders; a row a measure."""
    tables = folder / "tables"
    if not tables.is_dir():
        SHOPS[folder.name](tables, root)
    out = folder / "out"
    begun = time.monotonic()
    command = [sys.executable, "-m", "reshelf.cli", "quickstart", tables / "shop.yaml", "--root", tables, "--out", out]
    subprocess.run([*map(str, command), "--minutes", f"{minutes:g}"], check=True)
    data = load_dataset_folder(out / "data")
    lift = read_spec(out / "model").lift
    blended = None if lift is None or lift.blended is None else lift.blended.personalization
    flags = [] if blended is None else ["--personalization", f"{blended:g}"]
    test = data.lists["test"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        served(out / "model", out / "data", Path(scratch), *flags) as (url, _),
        Client(url, timeout_s=60) as client,
    ):
        answered(client, test[0])
        taken = (time.monotonic() - begun) / 60
        with console.status(f"{len(test)} requests"):
            weighted = [answered(client, one) for one in test]
            whole = weighted if blended is None else [answered(client, one, personalization=1.0) for one in test]
    with Reranker.from_pretrained(out / "model", "transformers", data.items) as reranker:
        offline = reranker.score_lists(test)
    trees = LambdaMart()
    trees.fit(data)
    first_stage = [-np.arange(len(one.candidates)) for one in test]
    orders = {"first stage": first_stage, "offline": offline, "served": whole, "as recommended": weighted,
              "lambdamart": trees.scores(data, test)}  # fmt: skip
    about = {
        "shop": folder.name, "products": len(data.items), "train lists": len(data.lists["train"]),
        "test lists": len(test), "minutes": taken, "personalization": 1.0 if blended is None else blended,
    }  # fmt: skip
    return [about | {"by": by} | compared(orders, truth) for by, truth in MEASURES[folder.name](test).items()]


def by_shop(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Every shop's row by true utility, where it is known, else by clicks."""
    return {row["shop"]: row for row in sorted(rows, key=lambda row: row["by"] == "utility")}


def compared(orders: Mapping[str, Sequence[np.ndarray]], truth: Truth) -> dict[str, Any]:
    """nDCG@10 of every order over the lists with an outcome, and paired differences of what is recommended."""
    of = {name: ndcg_per_list(scores, truth, 10) for name, scores in orders.items()}
    of = {name: values[~np.isnan(values)] for name, values in of.items()}
    row: dict[str, Any] = {name: float(values.mean()) for name, values in of.items()}
    drawn = resample(len(of["as recommended"]), 2000, seed=0)
    for name, other in (("gain", "first stage"), ("ahead of lambdamart", "lambdamart")):
        found = interval(of["as recommended"] - of[other], drawn)
        row[name] = f"{found.mean:+.3f} ({found.low:+.3f}…{found.high:+.3f})"
    return row


def by_clicks(test: Sequence[RankingList]) -> dict[str, Truth]:
    return {"clicks": Truth.of(test)}


def by_clicks_and_utility(test: Sequence[RankingList]) -> dict[str, Truth]:
    """The simulator knows what each product was worth to the shopper of each list."""
    lists = (one for lists in simulate(CHINESE).lists.values() for one in lists)
    worth = {one.list_id: dict(zip(one.candidates, one.utility or (), strict=True)) for one in lists}
    known = [
        one.model_copy(update={"utility": tuple(worth[one.list_id][sku] for sku in one.candidates)}) for one in test
    ]
    return by_clicks(test) | {"utility": Truth.of(known)}


def answered(client: Client, one: RankingList, **fields: Any) -> np.ndarray:
    """Scores that order a list as the reply does, float64 [K].

    Raises:
        RuntimeError: the reply is first-stage order, or lacks numbers.
    """
    assert one.time is not None
    history = [event.model_dump(mode="json", exclude_none=True) for event in one.history]
    reply = client.rerank(
        one.query, list(one.candidates), history=history, time=one.time.isoformat(), deadline_ms=30_000, **fields
    )
    if reply.meta.fallback or reply.meta.missing or reply.meta.imputed:
        raise RuntimeError(f"list {one.list_id} was not ranked by the model with all numbers: {reply.meta}")
    scores = np.empty(len(one.candidates))
    scores[[result.index for result in reply.results]] = -np.arange(len(one.candidates))
    return scores


def english_shop(out: Path, root: Path) -> None:
    """Best Buy's last searches: what was typed, the products in first-stage order, the click."""
    write_mapping(out)
    database = duckdb.connect()
    database.sql(
        f"CREATE TABLE search AS FROM '{root}/bestbuy/searches.parquet' ORDER BY query_time DESC LIMIT {SEARCHES}"
    )
    tables = {
        "products": f"SELECT item_id AS sku, title AS name, NULL AS brand, price || ' USD' AS price "
        f"FROM '{root}/bestbuy/items.parquet' ORDER BY sku",
        "events": "SELECT user_id AS customer, item_id AS sku, click_time AS time, 'click' AS action, query AS text, "
        "CASE WHEN found THEN search_id END AS request FROM search ORDER BY time",
        "shown": "SELECT search_id AS request, user_id AS customer, query_time AS time, query AS text, "
        "unnest(candidates) AS sku, generate_subscripts(candidates, 1) AS rank FROM search WHERE found "
        "ORDER BY time, request, rank",
    }
    for name, query in tables.items():
        database.sql(query).write_csv(str(out / f"{name}.csv"))


def chinese_shop(out: Path, root: Path) -> None:
    """The simulated shop, as its own log would have it: what was shown where, and what was done with it."""
    write_mapping(out)
    data = simulate(CHINESE)
    items, shown, events = rows_of(data)
    database = duckdb.connect()
    for name, rows in {"products": items, "shown": shown, "events": events}.items():
        path = out / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        database.sql(f"SELECT * FROM read_json('{path}')").write_csv(str(out / f"{name}.csv"))
        path.unlink()


def rows_of(data: RankingData) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Products, products shown, and events, of a simulated shop."""
    items = [
        {"sku": one.item_id, "name": one.title, "brand": one.brand, "price": f"{one.price:.0f}元"}
        for one in data.items.values()
    ]
    shown: list[dict[str, Any]] = []
    events: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in (one for lists in data.lists.values() for one in lists):
        assert one.time is not None
        head = {"customer": one.user_id, "request": one.list_id, "text": one.query, "time": str(one.time)}
        places = zip(one.candidates, one.positions or (), strict=True)
        shown += [head | {"sku": sku, "rank": rank} for sku, rank in places]
        taken = [(sku, KINDS[grade]) for sku, grade in zip(one.candidates, one.labels or (), strict=True) if grade]
        for n, (sku, kind) in enumerate(taken, start=1):
            time_ = one.time + timedelta(minutes=n)
            events[one.user_id, sku, time_] = head | {"sku": sku, "time": str(time_), "action": kind.value}
        for event in one.history:  # those on lists are there already, or come with their list
            row = {"customer": one.user_id, "sku": event.item_id, "time": str(event.time), "action": event.kind.value}
            events.setdefault((one.user_id, event.item_id, event.time), row | {"request": None, "text": None})
    return items, shown, list(events.values())


def write_mapping(out: Path) -> None:
    out.mkdir(parents=True)
    (out / "shop.yaml").write_text(yaml.safe_dump(MAPPING), encoding="utf-8")


SHOPS = {"english": english_shop, "chinese": chinese_shop}
MEASURES = {"english": by_clicks, "chinese": by_clicks_and_utility}

if __name__ == "__main__":
    main()
