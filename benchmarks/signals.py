"""Claim: the numbers of 100 candidates are computed in 2 ms beside the engine, whatever happened since the import.

    make bench NAME=signals        # half a minute; needs the data sets of ../shared/data

The signals that a reranker of the Amazon Beauty search lists keeps, for its published test lists of 100 candidates:
each alone, the six of its recipe, and these when 100,000 events by 10,000 shoppers came after the import. (The score of
`reshelf teach`'s ensemble is not among them: it is not kept, and a request sends it.)
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
from reshelf.data.signals.kept import FOLDER, open_signals
from reshelf.data.signals.live import Interaction, LiveEvents

LISTS, EVENTS = 400, 100_000
RECIPE = "the six of its recipe"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        data = Path(made) / "data"
        import_folder(ImportConfig("amazon_beauty_search", data, args.root, quiet=True))
        lists = load_dataset_folder(data, ["test"]).lists["test"][:LISTS]
        kept = open_signals(data / FOLDER)
        live = happened(kept.item_ids)
        names = list(kept.description.names)
        asks: dict[str, Callable[[RankingList], Any]] = {name: partial(kept.compute, names=[name]) for name in names}
        asks[RECIPE] = partial(kept.compute, names=names)
        asks[f"{RECIPE}, {EVENTS:,} events since"] = partial(kept.compute, names=names, live=live)
        rows = [{"signals": what} | milliseconds(ask, lists) for what, ask in asks.items()]
    show("signals of 100 candidates", rows)
    ratios = {"signals_ms": rows[-2]["p50 ms"], "signals_live_ms": rows[-1]["p50 ms"]}
    Console().print(ratios)
    sizes = {
        "products": len(kept.item_ids),
        "candidates": len(lists[0].candidates),
        "lists": len(lists),
        "events": EVENTS,
        "load": round(os.getloadavg()[0], 1),
    }
    write_result("signals", rows, ratios, sizes)


def happened(item_ids: Sequence[str]) -> LiveEvents:
    """Events of 10,000 shoppers on products, of which few get most."""
    draw = np.random.default_rng(0)
    places = np.minimum(draw.pareto(1.0, EVENTS) * 20, len(item_ids) - 1).astype(int)
    now = time.time_ns() // 1000
    live = LiveEvents()
    live.add(
        Interaction(n + 1, int(shopper), item_ids[place], now - EVENTS + n)
        for n, (place, shopper) in enumerate(zip(places, draw.integers(10_000, size=EVENTS)))
    )
    return live


def milliseconds(ask: Callable[[RankingList], Any], lists: Sequence[RankingList]) -> dict[str, float]:
    ask(lists[0])
    taken = 1e3 * np.array([timed(partial(ask, one)) for one in lists])
    return {"p50 ms": float(np.median(taken)), "p99 ms": float(np.quantile(taken, 0.99))}


if __name__ == "__main__":
    main()
