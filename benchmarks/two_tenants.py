"""Claim: a tenant is served in time beside one that attacks, and the server is as large at the end as before.

    make demo && make bench NAME=two_tenants        # 13 minutes on two cores; needs runs/demo
    python -m benchmarks.two_tenants --minutes 0.5  # a short look; nothing is written

One `reshelf serve` with two keys and no limits but its own. Requests are open-loop: at 80 % of capacity, half of it of
each tenant, with 1 % malformed ones. The honest tenant is measured for a fifth of the time alone, then beside the
hostile one, which besides its half, four times a second and in turns, sends 3.5 MB of wrong documents, a JSON of a
million brackets, half a body, nothing at all, or a list of 1,000 products whose reply it does not wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from rich.console import Console

from benchmarks.harness import demo_parser, show, write_result
from benchmarks.serving import DEADLINE_MS, LISTS, measured_capacity, open_loop, request_of, served
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.inference.reranker import Reranker
from reshelf.inference.serving.tenants import KeyConfig, make_key

ATTACKS_S = 4.0
_KEPT_S = 20.0
"""So long a connection on which nothing comes is held on to; the server's own bound is 10 s."""


def main() -> None:
    parser = demo_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="of load beside the hostile tenant")
    args = parser.parse_args()
    data = load_dataset_folder(args.data, ["test"])
    lists = data.lists["test"][: 2 * LISTS]
    with Reranker.from_pretrained(args.model, "transformers", data.items) as reranker:
        offline = reranker.score_lists(lists)
    with tempfile.TemporaryDirectory() as name:
        tenants = Path(name) / "tenants.yaml"
        keys = {}
        for tenant in ("honest", "hostile"):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                make_key(KeyConfig(tenants, tenant))
            keys[tenant] = printed.getvalue().strip()
        with served(args.model, args.data, Path(name), "--tenants", tenants) as (url, pid):
            bodies = [request_of(one) for one in lists]
            measuring = _measure(url, pid, keys, bodies, offline, list(data.items)[:1000], 60 * args.minutes)
            rows = asyncio.run(measuring)
    alone, beside = rows[1], rows[2]
    ratios = {
        "tenants_in_time": beside["in time, share"],
        "tenants_in_time_alone": alone["in time, share"],
        "tenants_p99 ms": beside["p99 ms"],
        "tenants_p99 ms_alone": alone["p99 ms"],
        "tenants_5xx": sum(row["5xx"] for row in rows[1:]),
        "tenants_wrong orders": sum(row["wrong orders"] for row in rows[1:]),
        "tenants_memory growth, share": beside["memory growth, share"],
    }
    show("two tenants", rows)
    Console().print(ratios)
    if args.minutes >= 5:
        sizes = {"minutes": args.minutes, "deadline_ms": DEADLINE_MS, "attacks/s": ATTACKS_S, "model": str(args.model)}
        flags = "" if args.minutes == 10 else f' ARGS="--minutes {args.minutes:g}"'
        print(f"written to {write_result('two_tenants', rows, ratios, sizes, f'make bench NAME=two_tenants{flags}')}")


async def _measure(
    url: str, pid: int, keys: dict[str, str], bodies: list[dict[str, Any]], offline: list[np.ndarray], ids: list[str],
    seconds: float,
) -> list[dict[str, Any]]:  # fmt: skip
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    async with contextlib.AsyncExitStack() as stack:
        clients = {}
        for name, key in keys.items():
            headers = {"Authorization": f"Bearer {key}"}
            client = httpx.AsyncClient(base_url=url, timeout=30, limits=limits, headers=headers)
            clients[name] = await stack.enter_async_context(client)
        half = len(bodies) // 2
        capacity = await measured_capacity(clients["honest"], bodies[:half])
        rate = 0.4 * capacity
        rows: list[dict[str, Any]] = [{"measured": "capacity", "requests/s": capacity}]
        honest = clients["honest"], pid, bodies[:half], offline[:half], rate
        rows.append({"measured": "honest, alone"} | await open_loop(*honest, seconds / 5))
        hostile = clients["hostile"], pid, bodies[half:], offline[half:], rate
        attacks = asyncio.create_task(_attack(url, keys["hostile"], ids))
        found = await asyncio.gather(open_loop(*honest, seconds), open_loop(*hostile, seconds))
        attacks.cancel()
    rows += [{"measured": f"{name}, together"} | row for name, row in zip(keys, found, strict=True)]
    for row in rows[1:]:
        statuses = row["statuses"]
        row["in time, share"] = statuses.get("200", 0) / (sum(statuses.values()) - statuses.get("422", 0))
    return rows


async def _attack(url: str, key: str, ids: list[str]) -> None:
    """Until it is cancelled; what comes back is not read."""
    host, port = url.removeprefix("http://").split(":")
    wrong = json.dumps({"query": "a", "documents": [{"title": 1}] * 9000, "history_items": [1] * 1_100_000}).encode()
    whole = json.dumps({"query": "mug", "documents": ids, "impute": True}).encode()
    sent = [
        (_head(key, len(wrong)) + wrong, 5.0),
        (_head(key, 2_000_000) + b"[" * 2_000_000, 5.0),
        (_head(key, len(whole)) + whole[: len(whole) // 2], _KEPT_S),
        (b"", _KEPT_S),
        (_head(key, len(whole)) + whole, 0.05),
    ]

    async def send(content: bytes, kept_s: float) -> None:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(content)
            await asyncio.sleep(kept_s)
            writer.transport.abort()

    running: set[asyncio.Task[None]] = set()
    for n in count():
        task = asyncio.create_task(send(*sent[n % len(sent)]))
        running.add(task)
        task.add_done_callback(running.discard)
        await asyncio.sleep(1 / ATTACKS_S)


def _head(key: str, length: int) -> bytes:
    return (
        f"POST /v1/rerank HTTP/1.1\r\nhost: shop\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


if __name__ == "__main__":
    main()
