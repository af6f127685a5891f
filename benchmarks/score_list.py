"""Claim: scoring 100 candidates behind a history costs little more than reading each of them once.

    make bench NAME=score_list                     # about 15 minutes on two cores
    python -m benchmarks.score_list --quick        # the main table alone; nothing is written

All contestants score the same lists with the same Qwen3, float32 on a CPU (bfloat16 on a GPU), each in a process of
its own, in turns. Every turn is a shopper that was not seen before, so nothing but a list's own prefix can be cached.
Scores are compared as well as times. `bare` is a plain causal forward pass over the same distinct tokens. A repeated
shopper has 480 tokens of history in common with the list before, and a new query.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.harness import Samples, matmul_rate, show, write_result
from benchmarks.workers import Worker, install_peers
from benchmarks.workload import (
    Operations,
    TokenizedList,
    shape_lists,
    simulated_tokenizer,
    text_list,
    words_of,
    write_workload,
)

PREFIX, ITEM, CANDIDATES, QUERY = 512, 42, 100, 32
BLOCK = 32
"""Tokens of a block of vLLM's prefix cache, as the engine sets it on a CPU; a GPU's are not larger."""
CONTESTANTS: dict[str, tuple[str, list[str], bool]] = {
    "reshelf transformers": ("score_reshelf", ["transformers"], False),
    "reshelf vLLM": ("score_reshelf", ["vllm"], False),
    "bare": ("score_bare", [], False),
    "LLM.score, cache on": ("score_llm", ["cached"], False),
    "LLM.score, cache on, one process": ("score_llm", ["cached", "one_process"], False),
    "LLM.score, cache off": ("score_llm", ["uncached"], False),
    "CrossEncoder.predict": ("score_crossencoder", [], True),
    "FlagLLMReranker": ("score_flagembedding", [], True),
}
OURS = ("reshelf transformers", "reshelf vLLM")
SLOW = ("LLM.score, cache off", "CrossEncoder.predict", "FlagLLMReranker")
SWEEPS = {"candidates": (10, 100, 300, 1000), "prefix": (8, 1024, 2000)}


class UnusedLists:
    """The lists of the workload, handed out so that none is scored twice by anyone."""

    def __init__(self, tokenizer: Any, runs: int, quick: bool) -> None:
        self.all: list[TokenizedList] = []
        self.places: dict[str, list[int]] = {}
        self._tokenizer = tokenizer
        self._add("main", shape_lists(tokenizer, PREFIX, ITEM, CANDIDATES, 1 + 2 * runs))
        self._add("repeated shopper", self._same_shopper(1 + 2 * runs))
        for n, size in enumerate(() if quick else SWEEPS["candidates"]):
            self._add(f"candidates {size}", shape_lists(tokenizer, PREFIX, ITEM, size, 1 + runs, seed=100 + n))
        for n, size in enumerate(() if quick else SWEEPS["prefix"]):
            self._add(f"prefix {size}", shape_lists(tokenizer, size, ITEM, CANDIDATES, 1 + runs, seed=200 + n))

    def _add(self, name: str, lists: list[TokenizedList]) -> None:
        self.places[name] = list(range(len(self.all), len(self.all) + len(lists)))
        self.all += lists

    def _same_shopper(self, count: int) -> list[TokenizedList]:
        (shopper,) = shape_lists(self._tokenizer, PREFIX - QUERY, 2, 1, 1, seed=300)
        answer = words_of(self._tokenizer)[0]
        fresh = shape_lists(self._tokenizer, QUERY, ITEM, CANDIDATES, count, seed=301)
        return [text_list(self._tokenizer, shopper.prefix + entry.prefix, entry.items, answer) for entry in fresh]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="lists per slow contestant that count; fast ones get twice")
    parser.add_argument("--quick", action="store_true", help="the main table alone; nothing is written")
    parser.add_argument("--shape", default="small", help="small, Qwen3-0.6B or Qwen3-4B")
    args = parser.parse_args()
    console = Console()
    peers = install_peers(console)
    rate = matmul_rate()
    tokenizer = simulated_tokenizer()
    lists = UnusedLists(tokenizer, args.runs, args.quick)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        workload = Path(temporary)
        write_workload(workload, lists.all, tokenizer, args.shape)
        workers = {}
        for who, (script, options, peer) in CONTESTANTS.items():
            with console.status(f"starting {who}"):
                workers[who] = stack.enter_context(Worker(script, workload, *options, peer=peer))
        turns = {who: args.runs if who in SLOW else 2 * args.runs for who in workers}
        facts = _take_turns(workers, lists, "main", turns, console)
        _must_agree(facts)
        _must_have_cached(facts["reshelf vLLM"])
        times = {who: _seconds(some) for who, some in facts.items()}
        rows = [_row(who, times[who], lists, "main", args.shape, rate) for who in workers]
        show(f"one list of {CANDIDATES} candidates of {ITEM} tokens behind {PREFIX}", rows)
        ours = {who: workers[who] for who in OURS[:2]}
        again = _take_turns(ours, lists, "repeated shopper", turns, console)
        repeated = [
            {"contestant": who, "new shopper, p50 s": times[who].median, "repeated, p50 s": _seconds(some).median}
            for who, some in again.items()
        ]
        show("a shopper comes back with another query", repeated)
        sweeps: list[dict[str, Any]] = []
        for name in lists.places if not args.quick else ():
            if name not in ("main", "repeated shopper"):
                sweeps += _sweep(name, workers, lists, args, rate, console)
        if sweeps:
            show("cost over the number of candidates, and over the prefix", sweeps)
    ratios = _ratios(times)
    ratios |= {f"repeated_shopper_{str(row['contestant']).split()[-1].lower()}":
               row["repeated, p50 s"] / row["new shopper, p50 s"] for row in repeated}  # fmt: skip
    console.print(ratios)
    if not args.quick and args.shape == "small":
        sizes = {"prefix": PREFIX, "item": ITEM, "candidates": CANDIDATES, "matmul_gflops": rate / 1e9}
        written = write_result("score_list", [*rows, *repeated, *sweeps], ratios, sizes, peers=peers)
        console.print(f"written to {written}")


def _take_turns(
    workers: dict[str, Worker], lists: UnusedLists, name: str, turns: dict[str, int], console: Console
) -> dict[str, list[dict[str, Any]]]:
    """The first turn warms up and does not count."""
    taken: dict[str, list[dict[str, Any]]] = {who: [] for who in workers}
    for turn, place in enumerate(lists.places[name]):
        for who, worker in workers.items():
            if turn <= turns[who]:
                with console.status(f"{name}: turn {turn}, {who}"):
                    taken[who].append(worker.turn(place))
    return {who: some[1:] for who, some in taken.items()}


def _seconds(facts: list[dict[str, Any]]) -> Samples:
    return Samples(tuple(fact["seconds"] for fact in facts))


def _must_agree(facts: dict[str, list[dict[str, Any]]]) -> None:
    """Times of different scores say nothing."""
    expected = np.array(facts["reshelf transformers"][0]["scores"])
    for who in ("reshelf vLLM", *(one for one in facts if one.startswith("LLM")), "CrossEncoder.predict"):
        gap = float(np.abs(np.array(facts[who][0]["scores"]) - expected).max())
        if gap > 1e-3:
            raise RuntimeError(f"{who}: a score differs by {gap:.2e} from the transformers engine's")


def _must_have_cached(facts: list[dict[str, Any]]) -> None:
    """Every candidate but the first must have found the whole blocks of the prefix."""
    first, last = facts[0], facts[-1]
    cached = (last["cached"] - first["cached"]) / (len(facts) - 1)
    expected = PREFIX // BLOCK * BLOCK * (CANDIDATES - 1)
    if cached < expected:
        raise RuntimeError(f"vLLM's prefix cache held {cached:.0f} tokens of a list, not {expected}: it is not working")


def _row(who: str, seconds: Samples, lists: UnusedLists, name: str, shape: str, rate: float) -> dict[str, Any]:
    entry = lists.all[lists.places[name][0]]
    prefix, items = len(entry.prefix_ids), [len(item) for item in entry.item_ids]
    count = Operations(shape)
    once, apart = count.one_sequence(prefix, items), count.separate(prefix, items)
    done = once if who in (*OURS, "bare") or "cache on" in who else apart
    return {
        "lists": name,
        "contestant": who,
        "seconds": seconds,
        "p99 s": float(np.quantile(seconds.values, 0.99)),
        "candidates/s": len(items) / seconds.median,
        "share of matmul rate": done / seconds.median / rate,
        "limit": apart / once,
    }


def _sweep(
    name: str, workers: dict[str, Worker], lists: UnusedLists, args: argparse.Namespace, rate: float, console: Console
) -> list[dict[str, Any]]:
    """Our engines everywhere; CrossEncoder where it takes seconds."""
    entry = lists.all[lists.places[name][0]]
    separate = sum(len(entry.prefix_ids) + len(item) for item in entry.item_ids)
    chosen = [*OURS, *(["CrossEncoder.predict"] if separate < 60_000 else [])]
    some = {who: workers[who] for who in chosen}
    facts = _take_turns(some, lists, name, dict.fromkeys(some, args.runs), console)
    return [_row(who, _seconds(taken), lists, name, args.shape, rate) for who, taken in facts.items()]


def _ratios(times: dict[str, Samples]) -> dict[str, float]:
    mine, vllm = (times[who].median for who in OURS)
    return {
        "score_vs_crossencoder": times["CrossEncoder.predict"].median / mine,
        "score_vs_flagembedding": times["FlagLLMReranker"].median / mine,
        "score_share_of_bare": times["bare"].median / mine,
        "vllm_vs_uncached": times["LLM.score, cache off"].median / vllm,
        "vllm_vs_llm_score": times["LLM.score, cache on"].median / vllm,
        "vllm_vs_llm_score_in_one_process": times["LLM.score, cache on, one process"].median / vllm,
    }


if __name__ == "__main__":
    main()
