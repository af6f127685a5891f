"""Claims: 10 million events become lists in at most 2 minutes and 8 GiB on two cores; lists made from 2 million events
take a third of the time that they took in an older build, in at most 1 GB; memory is linear in the number of queries.

    make bench NAME=logs                                                    # about 15 minutes
    python -m benchmarks.logs --events 10000000 --lists 200000
    python -m benchmarks.logs --only built --built 2000000                  # one part; nothing is written

A made-up but shop-like log, the same at every run: views, clicks, carts, purchases and searches of shoppers with a
heavy tail over 90 days, 100,000 products of which few are popular, an impression log of 20 products per list, and what
every log has: repeated rows, delisted products, missing times, kinds nobody mapped, bots. `reshelf data import` runs on
it as a process of its own with the shipped mapping `shop`; seconds are those of the whole process, GiB its peak
resident memory. `shown` has one row per product shown, without signals and with the eight it names; `built` makes
lists of the events, `queries` with negatives among the items of 50,000 queries, `labelled` reads labels from a column.
The build that is compared is taken out of the repository's history and runs beside today's, one after the other.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
from rich.console import Console

from benchmarks.against_past import PAST, environment, install
from benchmarks.harness import show, write_result
from benchmarks.workers import ROOT

_BUILD: dict[str, Any] = {"pairs": [], "signals.names": []}
PARTS: dict[str, dict[str, dict[str, Any]]] = {
    "built": {"uniform": {**_BUILD, "build": {"candidates": 20}}},
    "queries": {"same query": {**_BUILD, "build": {"candidates": 20, "query": "search", "negatives": "same_query"}}},
    "labelled": {"column": {"pairs.0.label": "label", "signals.names": []}},
    "shown": {"no signals": {"signals.names": []}, "shop.yaml": {}},
}
"""Changes of the mapping."""
COMPARED = (("built", "uniform"), ("shown", "no signals"))
"""What the older build runs too."""
DAYS, SHOWN, QUERIES = 90, 20, 50_000
START = 1_750_000_000_000
DAY_MS = 86_400_000
KINDS = np.array(["pageview", "result_click", "add_to_cart", "order", "query", "heartbeat"])
SHARES = (0.66, 0.10, 0.05, 0.02, 0.165, 0.005)
WORDS = np.array(
    [
        *("steel", "oak", "bamboo", "cotton", "linen", "wool", "leather", "glass", "small", "large", "light", "warm"),
        *("dark", "slim", "soft", "travel", "garden", "kitchen", "desk", "lamp", "mug", "jacket", "bottle", "tent"),
        *("scarf", "shelf", "pillow", "kettle", "chair", "backpack", "board", "case", "cover", "stand", "holder"),
    ]
)
"""35 of them: a query is two and, at times, a number."""
_PEAK = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=open("peak", "w"))
sys.exit(code)
"""
"""A small process between: the peak of a command holds that of the process that starts it, and this one is large."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--lists", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--built", type=int, default=2_000_000, help="events that lists are made of")
    parser.add_argument("--past", default=PAST, help="revision to compare with")
    parser.add_argument("--only", choices=PARTS, help="run one part")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builds = {"today": [ROOT], args.past: install(args.past, folder / "past", Console())}
        sizes = {"events": args.events, "lists": args.lists, "items": args.items, "built": args.built}
        for part in [args.only] if args.only else PARTS:
            events = args.events if part == "shown" else args.built
            lists = args.lists if part in ("shown", "labelled") else args.lists // 10
            log = folder / part
            queries = QUERIES if part == "queries" else 20_000
            with ProcessPoolExecutor(1, get_context("spawn")) as maker:  # the peak of a child holds that of its parent
                maker.submit(make_log, log, events, lists, args.items, queries).result()
            for what, changes in PARTS[part].items():
                for build, paths in builds.items():
                    if build == "today" or (part, what) in COMPARED:
                        row = imported(log, f"{part}, {what}", events, changes, environment(paths))
                        rows.append({"build": build, **row})
                        show(f"{events:,} events, {lists:,} lists", rows[-1:])
            shutil.rmtree(log)
    show("imports", rows)
    if not args.only:
        write_result("logs", rows, ratios({(row["build"], row["import"]): row for row in rows}, args.past), sizes)


def ratios(found: dict[tuple[str, str], dict[str, Any]], past: str) -> dict[str, float]:
    """What is claimed, of rows by build and import."""
    built, shown = (f"{part}, {what}" for part, what in COMPARED)
    return {
        "built_vs_past": found[past, built]["seconds"] / found["today", built]["seconds"],
        "built_gib": found["today", built]["GiB"],
        "queries_gib": found["today", "queries, same query"]["GiB"],
        "shown_vs_past": found[past, shown]["seconds"] / found["today", shown]["seconds"],
        "shown_s": found["today", shown]["seconds"],
        "shown_gib": found["today", shown]["GiB"],
    }


def imported(
    folder: Path, name: str, events: int, changes: dict[str, Any], environment: dict[str, str]
) -> dict[str, Any]:
    """One run of the command, as a process of its own."""
    out = folder / "out"
    command = [sys.executable, "-m", "reshelf.cli", "data", "import", "--mapping", "shop"]
    command += ["--root", str(folder), "--out", str(out), "--quiet=true"]
    for key, value in changes.items():
        command += [f"--changes.{key}", json.dumps(value)]
    start = time.perf_counter()
    if subprocess.run([sys.executable, "-c", _PEAK, *command], cwd=folder, env=environment).returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    seconds, peak = time.perf_counter() - start, int((folder / "peak").read_text()) / 2**20
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    lists = sum(facts["lists"] for facts in report["lists"].values())
    return {"import": name, "seconds": seconds, "events/s": events / seconds, "lists": lists, "GiB": peak}


def make_log(folder: Path, events: int, lists: int, items: int, queries: int) -> None:
    """products.csv, events.parquet and impressions.parquet, with the columns of data/mappings/shop.yaml."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    users = max(10, events // 25)
    _write_items(folder / "products.csv", rng, items)
    shop = duckdb.connect(config={"threads": 2, "memory_limit": "3GB", "temp_directory": str(folder)})
    who = _skewed(rng, users, lists, 1.0)
    when = START + np.sort(_moments(rng, lists))
    asked = _skewed(rng, queries, lists, 0.8)
    shown = (_skewed(rng, items, lists * SHOWN, 0.7).reshape(lists, SHOWN) + 7919 * asked[:, None]) % items
    text = "concat_ws(' ', words[1 + asked % 35], words[1 + (asked // 35) % 35], nullif(asked // 1225, 0))"
    shop.register("words", pa.table({"words": pa.array([WORDS.tolist()])}))
    impressions = pa.table(
        {
            "list": np.repeat(np.arange(lists), SHOWN), "who": np.repeat(who, SHOWN), "when": np.repeat(when, SHOWN),
            "asked": np.repeat(asked, SHOWN), "sku": shown.ravel(), "rank": np.tile(np.arange(1, SHOWN + 1), lists),
        }
    )  # fmt: skip
    shop.register("impressions", impressions)
    shop.execute(
        f"COPY (SELECT 'r' || list AS request, 'c' || who AS customer, \"when\" AS time, {text} AS text, "
        f"'s' || sku AS sku, rank, "
        f"CAST(hash(list, sku) % 20 = 0 AS INTEGER) AS label FROM impressions, words) TO '{folder}/impressions.parquet'"
    )
    parts = [_outcomes(rng, who, when, shown)]
    bots = 3
    robots = 1200 * bots
    other = events - len(parts[0]["who"]) - robots
    kind = rng.choice(len(KINDS), other, p=SHARES).astype(np.int8)
    parts.append(
        {
            "who": _skewed(rng, users, other, 1.0), "when": START + _moments(rng, other), "kind": kind,
            "sku": _skewed(rng, items, other, 0.7), "list": np.full(other, -1),
        }
    )  # fmt: skip
    parts.append(
        {
            "who": users + np.arange(robots) % bots, "when": START + 40 * DAY_MS + np.arange(robots) * 1000,
            "kind": np.zeros(robots, dtype=np.int8), "sku": np.arange(robots) % items, "list": np.full(robots, -1),
        }
    )  # fmt: skip
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["when"], kind="stable")
    order[1::200] = order[0::200][: len(order[1::200])]  # said again
    columns = {name: values[order] for name, values in columns.items()}
    columns["sku"][3::500] = items + 5
    columns["asked"] = (columns["who"] * 31 + columns["sku"]) % queries
    shop.register("log", pa.table(columns | {"lost": np.arange(len(order)) % 100_000 == 17}))
    kinds = "['" + "', '".join(KINDS) + "']"
    shop.execute(
        f"COPY (SELECT 'c' || who AS customer, CASE WHEN kind <> 4 THEN 's' || sku END AS sku, "
        f'CASE WHEN NOT lost THEN "when" END AS time, ({kinds})[1 + kind] AS action, '
        f"CASE WHEN kind = 4 THEN {text} END AS text, CASE WHEN list >= 0 THEN 'r' || list END AS request "
        f"FROM log, words) TO '{folder}/events.parquet'"
    )
    shop.close()


def _write_items(path: Path, rng: np.random.Generator, items: int) -> None:
    chosen = WORDS[rng.integers(0, len(WORDS), (items, 6))]
    text = {
        "sku": [f"s{n}" for n in range(items)],
        "name": [" ".join(words) for words in chosen.tolist()],
        "category": [f"{words[0]} > {words[1]}" for words in chosen.tolist()],
        "brand": [f"brand {n % 500}" for n in range(items)],
        "price": np.round(rng.lognormal(3, 1, items), 2),
        "currency": ["EUR"] * items,
        "stars": np.round(rng.uniform(1, 5, items), 1),
        "ratings": rng.integers(0, 5000, items),
        "description": [" ".join(words[::-1]) + "." for words in chosen.tolist()],
        "colour": chosen[:, 2].tolist(),
        "size": rng.choice(["S", "M", "L"], items).tolist(),
    }
    pa.csv.write_csv(pa.table(text), path)


def _skewed(rng: np.random.Generator, n: int, size: int, tail: float) -> npt.NDArray[np.int64]:
    """Draws from n things of which few are frequent: frequency falls with rank to the power -tail, less at the top."""
    weights = (np.arange(n) + 50.0) ** -tail
    return np.searchsorted(np.cumsum(weights) / weights.sum(), rng.random(size)).clip(0, n - 1)


def _moments(rng: np.random.Generator, size: int) -> npt.NDArray[np.int64]:
    """Milliseconds since the start, more of them in the evening."""
    hour = np.clip(rng.normal(17, 4, size), 0, 23.99)
    return rng.integers(0, DAYS, size) * DAY_MS + (hour * 3_600_000).astype(np.int64)


def _outcomes(
    rng: np.random.Generator, who: npt.NDArray[np.int64], when: npt.NDArray[np.int64], shown: npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """Clicks on what was shown, some of which go on to the cart and to an order."""
    at = np.argwhere(rng.random(shown.shape) < 0.12 / np.sqrt(np.arange(1, SHOWN + 1)))
    cart = at[rng.random(len(at)) < 0.2]
    bought = cart[rng.random(len(cart)) < 0.4]
    parts = [(at, 1, 20_000), (cart, 2, 60_000), (bought, 3, 300_000)]
    rows = np.concatenate([part for part, _, _ in parts])
    later = np.concatenate([np.full(len(part), delay) for part, _, delay in parts])
    return {
        "who": who[rows[:, 0]], "when": when[rows[:, 0]] + later,
        "sku": shown[rows[:, 0], rows[:, 1]], "list": rows[:, 0],
        "kind": np.concatenate([np.full(len(part), kind, dtype=np.int8) for part, kind, _ in parts]),
    }  # fmt: skip


if __name__ == "__main__":
    main()
