#!/usr/bin/env bash
# Guess: @HISTOGRAM.time() over an async def measures until its result is there, as OpenTelemetry's start_as_current_span does
#   as a decorator; or it refuses a coroutine function.
# Happens: it measures how long it takes to make the coroutine object, two microseconds, before any of it runs. Every request of a
#   FastAPI or aiohttp service falls into the lowest bucket: the dashboard's 99th percentile is 5 ms, and no alert on latency
#   ever fires. @GAUGE.track_inprogress() is always back at 0, and @COUNTER.count_exceptions() counts none of the exceptions. Counts are
#   right, so that the panel looks alive. As a `with` block inside the function all three are right.
# Source: prometheus_client 0.26.0, context_managers.py (Timer.__call__); prometheus/client_python#48 asked in 2015, #767 is open; its pages
#   show the decorator on def and say nothing of async def. Reshelf observes times itself (inference/serving/metrics.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prometheus_client==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from importlib.metadata import version

from prometheus_client import REGISTRY, Counter, Gauge, Histogram

print("prometheus_client", version("prometheus_client"))
seconds, within = Histogram("seconds", "by the decorator"), Histogram("within", "by a with block")
working, failed = Gauge("working", "at work"), Counter("failed", "exceptions")
seen = []


@seconds.time()
@working.track_inprogress()
async def rank() -> None:
    with within.time():
        seen.append(REGISTRY.get_sample_value("working"))
        await asyncio.sleep(0.3)


@failed.count_exceptions()
async def fail() -> None:
    raise ValueError


async def main() -> None:
    await asyncio.gather(*(rank() for _ in range(10)), fail(), return_exceptions=True)


asyncio.run(main())
value = REGISTRY.get_sample_value
print(f"10 requests of 0.3 s: by the decorator {value('seconds_sum'):.6f} s in all, by a with block {value('within_sum'):.1f} s")
print("up to 5 ms:", value("seconds_bucket", {"le": "0.005"}), "at work:", max(seen), "exceptions:", value("failed_total"))
assert value("seconds_count") == value("within_count") == 10
assert value("seconds_sum") < 0.05
assert value("seconds_bucket", {"le": "0.005"}) == 10
assert value("within_sum") > 2.9
assert max(seen) == 0
assert value("failed_total") == 0
PYTHON
