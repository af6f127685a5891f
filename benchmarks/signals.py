"""Claim: the numbers of a list are computed in 2 ms beside the engine, whatever happened since the import.

    make bench NAME=signals        # two minutes; needs the data sets of ../shared/data

The signals of two mappings, for test lists of each: Amazon Beauty's search lists of 100 candidates, and Best Buy's
searches of 50, whose signals are of the query. Each alone, all, and all when 100,000 events by 10,000 shoppers came
after the import. (The score of `reshelf teach`'s ensemble is not among them: it is not kept, and a request sends it.)
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import show, timed, write_result
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_folder
from reshelf.data.schema import RankingList
from reshelf.data.signals.kept import FOLDER, KeptSignals, open_signals
from reshelf.data.signals.live import Interaction, LiveEvents

LISTS, EVENTS = 400, 100_000
SHOPS = {"amazon_beauty_search": "Beauty, search", "bestbuy": "Best Buy"}
ALL = "all of its mapping"
LIVE = f"all, {EVENTS:,} events since"
RATIOS = ("signals_ms", "signals_live_ms", "query_signals_ms", "query_signals_live_ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    sizes: dict[str, Any] = {"lists": LISTS, "events": EVENTS}
    for mapping, shop in SHOPS.items():
        with tempfile.TemporaryDirectory() as made:
            data = Path(made) / "data"
            import_folder(ImportConfig(mapping, data, args.root, quiet=True))
            lists = load_dataset_folder(data, ["test"]).lists["test"][:LISTS]
            rows += of_shop(shop, open_signals(data / FOLDER), lists)
            sizes[f"candidates, {shop}"] = len(lists[0].candidates)
    show("signals of a list", rows)
    whole = [row for row in rows if row["signals"] in (ALL, LIVE)]
    ratios = dict(zip(RATIOS, [row["p50 ms"] for row in whole], strict=True))
    Console().print(ratios)
    write_result("signals", rows, ratios, sizes | {"load": round(os.getloadavg()[0], 1)})


def of_shop(shop: str, kept: KeptSignals, lists: Sequence[RankingList]) -> list[dict[str, Any]]:
    names = list(kept.description.names)
    asks: dict[str, Callable[[RankingList], Any]] = {name: partial(kept.compute, names=[name]) for name in names}
    asks[ALL] = partial(kept.compute, names=names)
    asks[LIVE] = partial(kept.compute, names=names, live=happened(kept.item_ids, [one.query or "" for one in lists]))
    return [{"lists": shop, "signals": what} | milliseconds(ask, lists) for what, ask in asks.items()]


def happened(item_ids: Sequence[str], queries: Sequence[str]) -> LiveEvents:
    """Events of 10,000 shoppers on products, of which few get most, found by any of the queries."""
    draw = np.random.default_rng(0)
    places = np.minimum(draw.pareto(1.0, EVENTS) * 20, len(item_ids) - 1).astype(int).tolist()
    shoppers, asked = draw.integers(10_000, size=EVENTS).tolist(), draw.integers(len(queries), size=EVENTS).tolist()
    now = time.time_ns() // 1000
    live = LiveEvents()
    live.add(
        Interaction(n + 1, shopper, item_ids[place], now - EVENTS + n, queries[query])
        for n, (place, shopper, query) in enumerate(zip(places, shoppers, asked))
    )
    return live


def milliseconds(ask: Callable[[RankingList], Any], lists: Sequence[RankingList]) -> dict[str, float]:
    ask(lists[0])
    taken = 1e3 * np.array([timed(partial(ask, one)) for one in lists])
    return {"p50 ms": float(np.median(taken)), "p99 ms": float(np.quantile(taken, 0.99))}


if __name__ == "__main__":
    main()
