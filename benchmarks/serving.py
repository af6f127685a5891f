"""Claim: the server adds little to the engine, keeps the offline order under load, and refuses in time above it.

    make demo && make bench NAME=serving            # 45 minutes on two cores; needs runs/demo
    python -m benchmarks.serving --minutes 1        # a short look; nothing is written

One `reshelf serve` and one load generator on loopback. Overhead is the time of a whole HTTP request on an open
connection less the engine's own time for the same list; other lists went before. A bare socket sends the request in one
piece and does nothing else; every other list is asked for by the standard library's client, whose own work counts then.
Capacity is what four closed loops get through. Load is open: requests leave at their time whether or not earlier ones
came back, at 80 % of capacity with 1 % malformed ones, then at 300 %. Orders are compared with the offline `Reranker`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from rich.console import Console

from benchmarks.harness import demo_parser, show, write_result
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.schema import RankingList
from reshelf.inference.reranker import Reranker

DEADLINE_MS = 2000
LISTS = 40
_ROUNDING = 1e-4


def main() -> None:
    parser = demo_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="of load at 80 %% of capacity")
    args = parser.parse_args()
    console = Console()
    data = load_dataset_folder(args.data, ["test"])
    lists, others = data.lists["test"][:LISTS], data.lists["test"][LISTS : 5 * LISTS]
    with Reranker.from_pretrained(args.model, "transformers", data.items) as reranker:
        offline = reranker.score_lists(lists)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with served(args.model, args.data, Path(folder)) as (url, pid):
            httpx.post(f"{url}/v1/rerank", json=request_of(lists[0]), timeout=30).raise_for_status()
            started = time.perf_counter() - begun
            overhead = [row for count in (10, 100) for row in _overhead(url, others, count)]
            rows, ratios = asyncio.run(_measure(url, pid, lists, offline, args.minutes, console))
    rows = [*overhead, *rows]
    for row in overhead:
        name = f"{row['candidates']}" + ("_socket" if row["client"] == "socket" else "")
        ratios[f"overhead_share_{name}"] = row["overhead, p50 ms"] / row["engine, p50 ms"]
        ratios[f"overhead_ms_{name}"] = row["overhead, p50 ms"]
    ratios["first_reply_s"] = started
    show("reshelf serve", rows)
    console.print(ratios)
    if args.minutes >= 10:
        command = "make bench NAME=serving" + ("" if args.minutes == 30 else f' ARGS="--minutes {args.minutes:g}"')
        sizes = {"minutes": args.minutes, "deadline_ms": DEADLINE_MS, "model": str(args.model)}
        written = write_result("serving", rows, ratios, sizes, command)
        console.print(f"written to {written}")


@contextmanager
def served(model: Path, data: Path, folder: Path, *flags: str | Path) -> Iterator[tuple[str, int]]:
    """The address and the process id of `reshelf serve` with the transformers engine, history and log in `folder`."""
    with (folder / "log").open("w+") as log:
        command = [
            sys.executable, "-m", "reshelf.cli", "serve", "--model", model, "--data", data, "--port", "0",
            "--engine", "transformers", "--history", folder / "history.sqlite", *flags,
        ]  # fmt: skip
        server = subprocess.Popen(list(map(str, command)), stderr=log)
        try:
            yield address(folder / "log", server), server.pid
        finally:
            server.terminate()
            server.wait(30)


def address(log: Path, server: subprocess.Popen[bytes]) -> str:
    """Where a server that was just started listens, from its log."""
    start = time.monotonic()
    while server.poll() is None and time.monotonic() - start < 300:
        if found := re.search(r"http://[\d.:]+", log.read_text()):
            return found[0]
        time.sleep(0.05)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


async def _measure(
    url: str, pid: int, lists: list[RankingList], offline: list[np.ndarray], minutes: float, console: Console
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    bodies = [request_of(one) for one in lists]
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with httpx.AsyncClient(base_url=url, timeout=30, limits=limits) as http:
        with console.status("capacity"):
            capacity = await measured_capacity(http, bodies)
        rows: list[dict[str, Any]] = [{"measured": "capacity", "requests/s": capacity}]
        ratios: dict[str, float] = {}
        for share, seconds in ((0.8, 60 * minutes), (3.0, 20 * minutes)):
            with console.status(f"{share:.0%} of capacity for {seconds:.0f} s"):
                row = await open_loop(http, pid, bodies, offline, share * capacity, seconds)
            rows.append({"measured": f"load at {share:.0%}"} | row)
            for name in ("5xx", "wrong orders", "p99 ms", "memory growth, share"):
                ratios[f"load_{share:.0%}_{name}"] = row[name]
    return rows, ratios


def request_of(one: RankingList) -> dict[str, Any]:
    return {
        "query": one.query, "documents": list(one.candidates), "scores": one.scores, "features": one.features,
        "history": [event.model_dump(mode="json", exclude_none=True) for event in one.history],
        "deadline_ms": DEADLINE_MS,
    }  # fmt: skip


def _overhead(url: str, lists: list[RankingList], count: int) -> list[dict[str, Any]]:
    """One request at a time, the first half to warm up, a row per client. Where a list is shorter than `count`, other
    lists' documents fill it up."""
    every = list(dict.fromkeys(c for one in lists for c in one.candidates))
    host, port = url.removeprefix("http://").split(":")
    connection = HTTPConnection(host, int(port))
    times: dict[str, list[tuple[float, float, float]]] = {"socket": [], "http.client": []}
    with socket.create_connection((host, int(port))) as bare:
        bare.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for n, one in enumerate(lists):
            documents = list(dict.fromkeys([*one.candidates, *every]))[:count]
            changes = {"documents": documents, "scores": None, "features": {}, "impute": True, "deadline_ms": 30_000}
            body = request_of(one) | changes
            sent = json.dumps(body).encode()
            client = "http.client" if n % 2 else "socket"
            start = time.perf_counter()
            reply = _by_client(connection, sent) if n % 2 else _by_socket(bare, sent)
            whole = 1000 * (time.perf_counter() - start)
            if n >= len(lists) // 2:
                meta = json.loads(reply)["meta"]
                times[client].append((whole, meta["ms"]["engine"], meta["cached_tokens"] / meta["prompt_tokens"]))
    connection.close()
    return [
        {
            "measured": f"{count} candidates",
            "candidates": count,
            "client": client,
            "request, p50 ms": statistics.median(whole for whole, _, _ in taken),
            "engine, p50 ms": statistics.median(engine for _, engine, _ in taken),
            "overhead, p50 ms": statistics.median(whole - engine for whole, engine, _ in taken),
            "tokens read before, share": statistics.median(known for _, _, known in taken),
        }
        for client, taken in times.items()
    ]


def _by_client(connection: HTTPConnection, body: bytes) -> bytes:
    connection.request("POST", "/v1/rerank", body, {"content-type": "application/json"})
    return connection.getresponse().read()


def _by_socket(bare: socket.socket, body: bytes) -> bytes:
    head = ("POST /v1/rerank HTTP/1.1", "host: localhost", "content-type: application/json")
    bare.sendall("\r\n".join((*head, f"content-length: {len(body)}", "", "")).encode() + body)
    reply = b""
    while (end := reply.find(b"\r\n\r\n") + 4) < 4:
        reply += bare.recv(1 << 20)
    length = re.search(rb"content-length: (\d+)", reply[:end])
    assert length is not None
    while len(reply) < end + int(length[1]):
        reply += bare.recv(1 << 20)
    return reply[end:]


async def measured_capacity(http: httpx.AsyncClient, bodies: list[dict[str, Any]], seconds: float = 15.0) -> float:
    end, done = time.perf_counter() + seconds, 0

    async def loop(n: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            n += 1
            reply = await http.post("/v1/rerank", json=bodies[n % len(bodies)] | {"deadline_ms": 30_000})
            reply.raise_for_status()  # refusals are quick
            done += 1

    await asyncio.gather(*(loop(10 * n) for n in range(4)))
    return done / seconds


async def open_loop(
    http: httpx.AsyncClient,
    pid: int,
    bodies: list[dict[str, Any]],
    offline: list[np.ndarray],
    rate: float,
    seconds: float,
) -> dict[str, Any]:
    """Open-loop Poisson arrivals.

    Raises:
        RuntimeError: a request that is not malformed was refused.
        httpx.HTTPError: one got no reply.
    """
    draw = random.Random(0)
    statuses: Counter[str] = Counter()
    times: list[float] = []
    wrong = 0
    memory = [_memory(pid)]

    async def send(n: int) -> None:
        nonlocal wrong
        start = time.perf_counter()
        if draw.random() < 0.01:
            reply = await http.post("/v1/rerank", content=b'{"documents": [')
        else:
            reply = await http.post("/v1/rerank", json=bodies[n])
            if reply.is_client_error:
                raise RuntimeError(f"the server answered {reply.status_code}: {reply.text[:300]}")
        times.append(1000 * (time.perf_counter() - start))
        body = reply.json()
        fallback = body.get("meta", {}).get("fallback")
        statuses[str(reply.status_code) + (f" {fallback}" if fallback else "")] += 1
        if reply.status_code == 200:
            order = [one["index"] for one in body["results"]]
            wrong += order != list(range(len(order))) if fallback else not _in_order(order, offline[n])

    start, due, sent = time.perf_counter(), 0.0, []
    while due < seconds:
        due += draw.expovariate(rate)
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        sent.append(asyncio.create_task(send(draw.randrange(len(bodies)))))
        if due > 0.25 * seconds and len(memory) == 1:
            memory.append(_memory(pid))
    await asyncio.gather(*sent)
    memory.append(_memory(pid))
    return {
        "requests/s": rate,
        "p50 ms": float(np.percentile(times, 50)),
        "p99 ms": float(np.percentile(times, 99)),
        "statuses": dict(statuses),
        "5xx": sum(count for status, count in statuses.items() if status.startswith("5")),
        "wrong orders": wrong,
        "memory growth, share": memory[-1] / memory[1] - 1,
    }


def _in_order(order: list[int], scores: np.ndarray) -> bool:
    """Best first by the offline engine's scores; candidates within a rounding error may stand either way."""
    return sorted(order) == list(range(len(scores))) and bool((np.diff(scores[order]) <= _ROUNDING).all())


def _memory(pid: int) -> int:
    """Resident bytes of the server and its engine."""
    server = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (server, *server.children(recursive=True)))


if __name__ == "__main__":
    main()
