"""Claim: a training step on a list costs what its distinct tokens cost; peers read the history once per candidate.

    make bench NAME=train_step                        # all shapes, about 12 minutes on two cores
    python -m benchmarks.train_step --only 1024,64,32 --runs 5
    python -m benchmarks.train_step --shape Qwen3-0.6B      # on a GPU

Every contestant finetunes the same Qwen3 on the same lists with its own trainer and AdamW: all parameters, float32 on a
CPU (bfloat16 on a GPU), no gradient checkpointing. A step is timed from the end of the one before, so data loading is
included. Each runs in a process of its own and they take turns. `bare` is forward and backward of the distinct tokens
as plain causal text by transformers' own layers, without trainer or optimizer. `limit` is what counting operations
allows at one speed of products. Memory is the peak above what the process holds once the model is loaded.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.harness import Samples, matmul_rate, show, write_result
from benchmarks.workers import Worker, install_peers
from benchmarks.workload import (
    Operations,
    TokenizedList,
    beauty_lists,
    shape_lists,
    simulated_tokenizer,
    write_workload,
)

SHAPES = {"256,48,16": 2, "512,48,16": 2, "1024,64,32": 1, "beauty": 2}
"""Prefix tokens, item tokens, candidates; lists per step."""
CONTESTANTS: dict[str, tuple[str, list[str], bool]] = {
    "reshelf": ("train_reshelf", ["full"], False),
    "reshelf, LoRA over 4 bits": ("train_reshelf", ["lora"], False),
    "bare": ("train_bare", [], False),
    "sentence-transformers": ("train_sentence_transformers", [], True),
    "FlagEmbedding": ("train_flagembedding", [], True),
}
PEERS = ("sentence-transformers", "FlagEmbedding")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(SHAPES), help="one shape instead of all; nothing is written")
    parser.add_argument("--runs", type=int, default=5, help="steps per contestant that count; one more warms up")
    parser.add_argument("--shape", default="small", help="small, Qwen3-0.6B or Qwen3-4B")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with amazon_beauty")
    args = parser.parse_args()
    console = Console()
    peers = install_peers(console)
    rate = matmul_rate()
    rows: list[dict[str, Any]] = []
    for name in [args.only] if args.only else SHAPES:
        if name == "beauty" and not (args.data / "amazon_beauty").is_dir():
            console.print(f"beauty: skipped, {args.data / 'amazon_beauty'} is not there")
            continue
        found = _measure(name, args, rate, console)
        show(f"one training step, {name}", found)
        rows += found
    ratios = _ratios(rows)
    console.print(ratios)
    if not args.only and args.shape == "small":
        sizes = {"model": "Qwen3, 256 hidden, 4 layers, 3.3 M parameters", "matmul_gflops": rate / 1e9}
        console.print(f"written to {write_result('train_step', rows, ratios, sizes, peers=peers)}")


def _measure(name: str, args: argparse.Namespace, rate: float, console: Console) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        workload = Path(temporary)
        lists, tokenizer = _lists(name, args.data)
        write_workload(workload, lists, tokenizer, args.shape)
        per_step = SHAPES[name]
        workers = {}
        for who, (script, options, peer) in CONTESTANTS.items():
            with console.status(f"{name}: starting {who}"):
                workers[who] = stack.enter_context(Worker(script, workload, str(per_step), *options, peer=peer))
        taken: dict[str, list[dict[str, Any]]] = {who: [] for who in workers}
        for turn in range(1 + args.runs):
            for who, worker in workers.items():
                with console.status(f"{name}: turn {turn} of {args.runs}, {who}"):
                    taken[who].append(worker.turn())
        _same_tokens(lists[0], workers)
    return [_row(name, who, facts[1:], lists, per_step, args.shape, rate) for who, facts in taken.items()]


def _lists(name: str, data: Path) -> tuple[list[TokenizedList], Any]:
    if name == "beauty":
        return beauty_lists(data, candidates=16, count=16)
    tokenizer = simulated_tokenizer()
    prefix, item, candidates = map(int, name.split(","))
    return shape_lists(tokenizer, prefix, item, candidates, count=8), tokenizer


def _same_tokens(entry: TokenizedList, workers: dict[str, Worker]) -> None:
    """A comparison over other tokens would be none."""
    expected = len(entry.prefix_ids) + len(entry.item_ids[0])
    for who in PEERS:
        if workers[who].facts["tokens"] != expected:
            raise RuntimeError(f"{who} reads {workers[who].facts['tokens']} tokens where the others read {expected}")


def _row(
    name: str, who: str, facts: list[dict[str, Any]], lists: list[TokenizedList], per_step: int, shape: str, rate: float
) -> dict[str, Any]:
    seconds = Samples(tuple(fact["seconds"] for fact in facts))
    count = Operations(shape)
    once = [count.one_sequence(len(e.prefix_ids), [len(i) for i in e.item_ids]) for e in lists]
    apart = [count.separate(len(e.prefix_ids), [len(i) for i in e.item_ids]) for e in lists]
    # A backward pass is twice the forward pass.
    own = 3 * per_step * sum(apart if who in PEERS else once) / len(lists)
    return {
        "lists": name,
        "contestant": who,
        "seconds": seconds,
        "lists/s": per_step / seconds.median,
        "distinct tokens/s": per_step * sum(e.tokens for e in lists) / len(lists) / seconds.median,
        "peak MiB": Samples(tuple(fact["peak_mib"] for fact in facts)),
        "share of matmul rate": own / seconds.median / rate,
        "limit": sum(apart) / sum(once),
    }


def _ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """At the largest shape that was measured, and under its name for every other one."""
    ratios: dict[str, float] = {}
    for name in ("256,48,16", "512,48,16", "beauty", "1024,64,32"):
        mine = {row["contestant"]: row for row in rows if row["lists"] == name}
        if not mine:
            continue
        tail = "" if name == "1024,64,32" else f"@{name}"
        time = {who: row["seconds"].median for who, row in mine.items()}
        memory = {who: row["peak MiB"].median for who, row in mine.items()}
        ratios |= {
            f"train_vs_sentence_transformers{tail}": time["sentence-transformers"] / time["reshelf"],
            f"train_vs_flagembedding{tail}": time["FlagEmbedding"] / time["reshelf"],
            f"train_memory_vs_peers{tail}": memory["reshelf"] / min(memory[who] for who in PEERS),
            f"train_share_of_bare{tail}": time["bare"] / time["reshelf"],
            f"train_limit{tail}": mine["reshelf"]["limit"],
        }
    return ratios


if __name__ == "__main__":
    main()
