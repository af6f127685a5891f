"""Claim: whatever is sent to the service, it answers as documented: no 5xx, no hang, the engine ready after it.

    make demo && make bench NAME=fuzz               # 10,000 cases, some minutes on two cores; needs runs/demo
    python -m benchmarks.fuzz --examples 20         # a short look; nothing is written

Schemathesis makes the requests from the service's own OpenAPI, with the routes of /ui added: valid ones, and ones that
break each rule of it. A reply must have a documented status, the documented type of content and shape, and must come
within 20 seconds. Served lists are logged meanwhile, and none may be dropped.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.harness import demo_parser, show, write_result
from benchmarks.serving import served

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
SLOWEST_S = 20
_CASES = re.compile(r"Test cases:\s+(\d+) generated")


def main() -> None:
    parser = demo_parser(__doc__)
    parser.add_argument("--examples", type=int, default=2600, help="at most, per route and phase")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        served(args.model, args.data, Path(folder), "--served_lists", Path(folder) / "served") as (url, _),
    ):
        start = time.perf_counter()
        asking = command(url, Path(folder), args.examples)
        done = subprocess.run(asking, capture_output=True, text=True, cwd=folder, check=False)
        seconds = time.perf_counter() - start
        ready = httpx.get(f"{url}/ready", timeout=10).status_code == 200
        dropped = 'outcome="dropped"' in httpx.get(f"{url}/metrics", timeout=10).text
        log = (Path(folder) / "log").read_text()
    found = _CASES.search(done.stdout)
    if found is None:
        raise RuntimeError(f"schemathesis did not run:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
    if done.returncode:
        Console().print(done.stdout[-6000:], markup=False)
    cases = int(found[1])
    row: dict[str, Any] = {
        "cases": cases,
        "as documented": done.returncode == 0,
        "5xx": log.count('"status": 5'),
        "ready after": ready,
        "served lists dropped": dropped,
        "minutes": seconds / 60,
    }
    show("whatever is sent", [row])
    if cases >= 10_000:
        ratios = {"fuzz_cases": cases, "fuzz_5xx": row["5xx"], "fuzz_not_as_documented": int(done.returncode != 0)}
        written = write_result("fuzz", [row], ratios, {"examples": args.examples}, "make bench NAME=fuzz")
        Console().print(f"written to {written}")
    sys.exit(done.returncode)


def command(url: str, folder: Path, examples: int) -> list[str]:
    """Schemathesis over a running service, with so many examples at most per route and phase.

    Args:
        folder: to write what it goes by to: the service's OpenAPI, with the routes that only the page at /ui calls.
    """
    routes = httpx.get(f"{url}/openapi.json", timeout=10).json()
    replies = dict(routes["paths"]["/v1/users/{user_id}/export"]["get"]["responses"])
    replies["200"] = {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}
    query = {"name": "query", "in": "query", "required": True, "schema": {"type": "string", "maxLength": 200}}
    routes["paths"]["/ui/lists"] = {"get": {"responses": replies}}
    routes["paths"]["/ui/search"] = {"get": {"parameters": [query], "responses": replies}}
    (folder / "openapi.json").write_text(json.dumps(routes))
    return [
        str(Path(sys.executable).with_name("schemathesis")), "run", str(folder / "openapi.json"), "--url", url,
        "--checks", CHECKS, "--phases", "coverage,fuzzing", "--max-examples", str(examples),
        "--max-response-time", str(SLOWEST_S), "--request-timeout", "30", "--continue-on-failure",
        "--generation-deterministic",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
