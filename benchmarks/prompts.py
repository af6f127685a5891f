"""Claim: from a warm item-token cache one core builds at least 20,000 prompt items per second.

    make bench NAME=prompts
    python -m benchmarks.prompts --items 200000      # enough to see what a second process saves

Items per second of `PromptBuilder.build`: lists of 100 candidates and a history of 30 events that no list before had,
with and without six features per candidate. `warm`: the ids lie in the memory-mapped file of the catalogue. `from the
file`: the same with a new builder, which finds each item in the file for the first time. `cold`: no file, every item is
tokenised. Then the file itself: made by one process and by two (which take seconds to start), opened, and what it adds
to a process's memory. The tokenizer is the small shop model's; a larger vocabulary makes ids of the same size.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from benchmarks.harness import Samples, alternate, show, timed, write_result
from reshelf.data.marketplace.vocabulary import COLOURS
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.item_tokens import ItemTokens, build_item_tokens
from reshelf.prompts.levels import FeatureLevels

CANDIDATES, EVENTS, LISTS = 100, 30, 20
FEATURES = ("popularity", "recent", "cobought", "taste", "match", "query_match")
TOKENIZER = Path(__file__).parents[1] / "finetune" / "bases" / "marketplace"
NOUNS = ("chair", "lamp", "mug", "jacket", "backpack", "bottle", "desk", "kettle", "pillow", "tent", "scarf", "shelf")
ADJECTIVES = ("large", "foldable", "insulated", "vintage", "soft", "waterproof", "slim", "wireless", "solid", "organic")
MATERIALS = ("oak", "steel", "bamboo", "cotton", "wool", "leather", "glass", "ceramic", "aluminium", "linen")
BRANDS = tuple(f"{a}{b}" for a in ("Nord", "Alta", "Velo", "Mira", "Kano", "Sol") for b in ("vik", "ris", "ya", "tek"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=40_000, help="items of the catalogue, 20000 or more")
    parser.add_argument("--large", type=int, nargs="+", default=[100_000, 1_000_000], help="rows of files to open")
    parser.add_argument("--runs", type=int, default=5, help="runs that count; one more warms up")
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one thread
    # Here, because worker processes import this file, and this imports torch.
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    items = {item.item_id: item for item in make_items(args.items)}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        configs = {"no features": PromptConfig(template="plain")}
        configs["6 features"] = PromptConfig(template="plain", features=list(FEATURES))
        path = folder / "item_tokens.arrow"
        one = configs["no features"]
        build_item_tokens(path, tokenizer, one, list(items.values()))
        calls, tokens = {}, ItemTokens.open(path)
        for n, (kind, config) in enumerate(configs.items()):
            for name, call in _builders(tokenizer, config, items, tokens, seed=n).items():
                calls[f"{name}, {kind}"] = call
        times = alternate(calls, args.runs)
        makers = {f"file made by {n}": _maker(folder, tokenizer, one, list(items.values()), n) for n in (1, 2)}
        times |= alternate(makers, args.runs, warm=0)
        for name, samples in times.items():
            count = len(items) if name.startswith("file") else LISTS * CANDIDATES
            rows.append({"what": name, "items/s": Samples(tuple(count / t for t in samples.values))})
        rows += [_opened(folder, path, count) for count in args.large]
    show("prompt items per second", rows)
    warm = times["warm, 6 features"]
    ratios = {
        "warm_vs_cold": times["cold, 6 features"].median / warm.median,
        "warm_vs_20000_per_second": LISTS * CANDIDATES / warm.median / 20_000,
        "parallel_build_vs_one": times["file made by 1"].median / times["file made by 2"].median,
    }
    Console().print(ratios)
    sizes = {"items": args.items, "candidates": CANDIDATES, "events": EVENTS, "lists": LISTS, "large": args.large}
    write_result("prompts", rows, ratios, sizes)


def make_items(count: int) -> list[Item]:
    """Products with titles of 8 to 15 words, brand, price, category and attributes."""
    rng = np.random.default_rng(0)
    items = []
    for n in range(count):
        colour = str(rng.choice(COLOURS))
        noun = NOUNS[n % len(NOUNS)]
        words = [*rng.choice(ADJECTIVES, rng.integers(3, 7)), *rng.choice(MATERIALS, rng.integers(2, 4)), noun]
        words += ["for", "home,", colour, f"{n % 997} cm"]
        items.append(
            Item(
                item_id=f"p{n}", title=" ".join(words[: rng.integers(8, 16)]),
                brand=str(rng.choice(BRANDS)), price=round(float(rng.lognormal(3, 1)), 2), currency="EUR",
                price_level=int(rng.integers(1, 6)), rating=round(float(rng.uniform(1, 5)), 1),
                rating_count=int(rng.integers(0, 5000)), category=("Home", noun.title()),
                attributes={"colour": colour, "material": str(rng.choice(MATERIALS))},
            )
        )  # fmt: skip
    return items


def make_lists(ids: Sequence[str], count: int, seed: int) -> list[RankingList]:
    rng = np.random.default_rng(seed)
    kinds = [EventKind.VIEW, EventKind.CLICK, EventKind.CART, EventKind.PURCHASE]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    lists = []
    for n in range(count):
        hours = np.cumsum(rng.exponential(30, EVENTS))
        history = tuple(
            Event(
                kind=kinds[rng.integers(4)], item_id=ids[rng.integers(len(ids))], time=start + timedelta(hours=float(h))
            )
            for h in hours
        )
        chosen = rng.choice(len(ids), CANDIDATES, replace=False)
        lists.append(
            RankingList(
                list_id=f"l{n}", user_id="u", query=f"{ADJECTIVES[n % 10]} {NOUNS[n % 12]}", history=history,
                candidates=tuple(ids[i] for i in chosen),
                features={name: tuple(rng.random(CANDIDATES).tolist()) for name in FEATURES},
            )
        )  # fmt: skip
    return lists


def _builders(tokenizer: Any, config: PromptConfig, items: dict[str, Item], tokens: ItemTokens, seed: int) -> Any:
    """What builds the same kind of lists from a warm cache, with a new builder from the file, and from nothing."""
    levels = FeatureLevels({name: [n / 20 for n in range(20)] for name in config.features})
    ids = list(items)
    warm = PromptBuilder(tokenizer, config, items, levels, tokens)
    warm._find(ids, "warm", "candidates")
    state = {"seed": 1000 * seed}

    def build(builder: PromptBuilder) -> float:
        state["seed"] += 1
        lists = make_lists(ids, LISTS, state["seed"])
        return timed(lambda: [builder.build(ranking) for ranking in lists] and None)

    return {
        "warm": lambda: build(warm),
        "from the file": lambda: build(warm.over(items)),
        "cold": lambda: build(PromptBuilder(tokenizer, config, items, levels)),
    }


def _maker(folder: Path, tokenizer: Any, config: PromptConfig, items: list[Item], workers: int) -> Any:
    return lambda: build_item_tokens(folder / f"{workers}.arrow", tokenizer, config, items, workers)


def _opened(folder: Path, source: Path, count: int) -> dict[str, Any]:
    """Seconds to open a file of `count` rows, and MiB that a process holds before and after reading all of it."""
    path = folder / f"{count}.arrow"
    _enlarge(source, path, count)
    before = _resident()
    seconds = Samples(tuple(timed(lambda: ItemTokens.open(path)) for _ in range(5)))
    tokens = ItemTokens.open(path)
    opened = _resident()
    total = int(tokens._tokens.sum())
    assert total > 0
    return {
        "what": f"file of {count:,} items", "open, s": seconds, "file, MiB": path.stat().st_size / 2**20,
        "own memory, MiB": opened[0] - before[0], "mapped and read, MiB": _resident()[1] - before[1],
    }  # fmt: skip


def _enlarge(source: Path, path: Path, count: int) -> None:
    """The rows of one file over and over, each with a digest of its own."""
    table = pa.ipc.open_file(pa.memory_map(str(source))).read_all()
    rows = table.take(np.arange(count) % len(table)).combine_chunks()
    digests = np.sort(np.frombuffer(np.random.default_rng(0).bytes(16 * count), dtype="S16"))
    content = pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(digests.tobytes())])
    columns = [content, *(column.chunk(0) for column in rows.columns[1:])]
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=table.schema))


def _resident() -> tuple[float, float]:
    """MiB of this process: its own memory, and pages of files that it shares with others."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return kib["RssAnon"] / 1024, kib["RssFile"] / 1024


if __name__ == "__main__":
    main()
