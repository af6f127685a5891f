"""Claim: today's build beats a past one at the same work, side by side on the same machine.

    make bench NAME=against_past ARGS="--past REV --base DIR"       # about 25 minutes on two quiet cores
    python -m benchmarks.against_past --quick                       # small shapes; nothing is written

The past build is taken out of the repository's history, with the packages it needs and this environment lacks in a
folder of its own. Both make a reranker of the same base and adapter, and take turns: scoring 100 candidates of 42
tokens (lists that nobody scored before) behind 512 with the small base and behind 440 with the real one (builds before
issue 15 refuse prompts longer than Gemma 3's window of 512), LoRA steps over 4 bits on (440, 48, 16), and requests to
`reshelf serve` by four closed loops. `small` is the base that ships, in float32 as the demo trains it; `real` is that
of --base, in bfloat16. Memory is the peak above what the process holds when it is ready. A ratio above 1 is a gain,
one of memory or p99 below 1.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import tomllib
from contextlib import ExitStack
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import kendalltau

from benchmarks.harness import Samples, matmul_rate, show, write_result
from benchmarks.serving import address
from benchmarks.workers import ROOT, Worker

PAST = "7634315"
SMALL = ROOT / "finetune" / "bases" / "marketplace"
SCORED = {"small": (512, 42, 100), "real": (440, 42, 100)}
TRAINED = (440, 48, 16)
QUICK = (64, 12, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--past", default=PAST, help="revision to compare with")
    parser.add_argument("--base", type=Path, help="folder of a real causal language model; skipped where not given")
    parser.add_argument("--runs", type=int, default=7, help="turns per build that count; one more warms up")
    parser.add_argument("--quick", action="store_true", help="see that it works; nothing is written")
    args = parser.parse_args()
    runs = 1 if args.quick else args.runs
    console = Console()
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="reshelf-past-") as temporary:
        builds = {"today": [ROOT], args.past: install(args.past, Path(temporary) / "past", console)}
        bases = {"small": (SMALL, "float32")}
        if args.base is None:
            console.print("score_real and finetune_real: skipped, --base names no model")
        else:
            bases["real"] = (args.base.resolve(), "bfloat16")
        for size, (base, dtype) in bases.items():
            for work, shape in (("score", SCORED[size]), ("train", TRAINED)):
                if (size, work) == ("small", "train"):
                    continue
                with console.status(f"{work}, {size}"):
                    found = take_turns(
                        builds, base, dtype, work, QUICK if args.quick else shape, runs, Path(temporary) / size
                    )
                name = f"{'score' if work == 'score' else 'finetune'}_{size}"
                rows += [{"work": name} | row for row in found]
                ratios |= {f"{name}_vs_past": found[1]["seconds"].median / found[0]["seconds"].median}
                if work == "score":
                    ratios[f"{name}_tau_to_past"] = found[0]["tau to past"]
                else:
                    ratios[f"{name}_memory_vs_past"] = found[0]["peak MiB"].median / found[1]["peak MiB"].median
        with console.status("serve"):
            found = serve(builds, Path(temporary) / "small", 2.0 if args.quick else 10.0, runs)
        rows += [{"work": "serve"} | row for row in found]
        ratios["serve_requests_vs_past"] = found[0]["requests/s"].median / found[1]["requests/s"].median
        ratios["serve_p99_vs_past"] = found[0]["p99 ms"] / found[1]["p99 ms"]
    show(f"today and {args.past}", rows)
    console.print(ratios)
    if not args.quick:
        sizes = {"past": args.past, "scored": SCORED, "trained": TRAINED, "matmul_gflops": matmul_rate() / 1e9}
        command = f'make bench NAME=against_past ARGS="--past {args.past}{" --base DIR" if args.base else ""}"'
        console.print(f"written to {write_result('against_past', rows, ratios, sizes, command)}")


def install(revision: str, tree: Path, console: Console) -> list[Path]:
    """A past build and the packages that only it needs, as folders for PYTHONPATH."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(tree, filter="tar")
    needed = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    with console.status(f"installing {revision}"):
        plan = subprocess.run(
            [*pip, "--dry-run", "--report", "-", *needed], check=True, capture_output=True, text=True
        ).stdout
        missing = [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in json.loads(plan)["install"]]
        packages = tree / "packages"
        if missing:
            subprocess.run([*pip, "--no-deps", "--target", str(packages), *missing], check=True, capture_output=True)
    return [tree, packages] if missing else [tree]


def environment(paths: list[Path]) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths)), "HF_HUB_OFFLINE": "1"}


def take_turns(
    builds: dict[str, list[Path]], base: Path, dtype: str, work: str, shape: tuple[int, ...], runs: int, folder: Path
) -> list[dict[str, Any]]:
    """A row for each build, today's first."""
    with ExitStack() as stack:
        scripts = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("turns.py", "contestants/past.py"):
            shutil.copy(ROOT / "benchmarks" / name, scripts)
        workers = {
            name: stack.enter_context(
                Worker(
                    scripts / "past.py", base, dtype, str(folder / name), work, environment=environment(paths),
                )
            )
            for name, paths in builds.items()
        }  # fmt: skip
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
        for turn in range(1 + runs):
            for name, worker in workers.items():
                taken[name].append(worker.turn([turn, *shape]))
    rows: list[dict[str, Any]] = [
        {
            "build": name,
            "seconds": Samples(tuple(fact["seconds"] for fact in facts[1:])),
            "peak MiB": Samples(tuple(fact["peak_mib"] for fact in facts[1:])),
        }
        for name, facts in taken.items()
    ]
    mine, other = ([fact["value"] for fact in facts] for facts in taken.values())
    if work == "score":
        rows[0]["tau to past"] = float(np.mean([kendalltau(a, b).statistic for a, b in zip(mine, other, strict=True)]))
    else:
        for row, losses in zip(rows, (mine, other), strict=True):
            row["last loss"] = losses[-1]
    return rows


def serve(builds: dict[str, list[Path]], rerankers: Path, seconds: float, runs: int) -> list[dict[str, Any]]:
    """A row for each build, of servers that get requests in turns."""
    titles = np.random.default_rng(0).permutation(
        [f"{c} {n} chair of {m}" for c in ("red", "blue", "oak") for n in range(20) for m in ("wool", "steel")]
    )
    documents = [{"item_id": f"p{k}", "title": str(title)} for k, title in enumerate(titles)]
    bodies = [
        {"query": "oak chair", "documents": documents[s : s + 20],
         "history": [{"kind": "click", "item_id": "p3", "time": "2026-03-01T10:00:00Z"}], "deadline_ms": 30_000}
        for s in range(0, len(titles) - 20, 5)
    ]  # fmt: skip
    with ExitStack() as stack:
        addresses = {}
        for name, paths in builds.items():
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            log = stack.enter_context((folder / "log").open("w+"))
            command = [sys.executable, "-m", "reshelf.cli", "serve", "--model", rerankers / name, "--port", "0",
                       "--engine", "transformers", "--history", folder / "history.sqlite"]  # fmt: skip
            server = subprocess.Popen(list(map(str, command)), stderr=log, cwd=folder, env=environment(paths))
            stack.callback(server.wait, 30)
            stack.callback(server.terminate)
            addresses[name] = address(folder / "log", server)
        rates: dict[str, list[float]] = {name: [] for name in builds}
        times: dict[str, list[float]] = {name: [] for name in builds}
        for turn in range(1 + runs):
            for name, url in addresses.items():
                taken = closed_loops(url, bodies, seconds)
                if turn:
                    rates[name].append(len(taken) / seconds)
                    times[name] += taken
    return [
        {
            "build": name,
            "requests/s": Samples(tuple(rates[name])),
            "p50 ms": 1000 * statistics.median(times[name]),
            "p99 ms": 1000 * float(np.percentile(times[name], 99)),
        }
        for name in builds
    ]


def closed_loops(url: str, bodies: list[dict[str, Any]], seconds: float, loops: int = 4) -> list[float]:
    """Seconds of each request, by loops that each wait for a reply before they send the next."""
    taken: list[float] = []
    end = time.perf_counter() + seconds

    def loop(n: int) -> None:
        connection = HTTPConnection(url.removeprefix("http://"), timeout=60)
        while (start := time.perf_counter()) < end:
            n += 1
            body = json.dumps(bodies[n % len(bodies)])
            connection.request("POST", "/v1/rerank", body, {"content-type": "application/json"})
            reply = connection.getresponse()
            said = json.loads(reply.read())
            if reply.status != 200 or said["meta"].get("fallback"):
                raise RuntimeError(f"{url} answered {reply.status}: {str(said)[:300]}")
            taken.append(time.perf_counter() - start)
        connection.close()

    threads = [threading.Thread(target=loop, args=(5 * n,)) for n in range(loops)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not taken:
        raise RuntimeError(f"{url} answered nothing")
    return taken


if __name__ == "__main__":
    main()
