#!/usr/bin/env bash
# Guess: a histogram that a collector hands over is exposed with its buckets, _sum and _count, whatever its bounds.
# Happens: where the first bucket ends below zero, both lines are left out without a word, so rate(…_sum)/rate(…_count) is empty. Histogram, which counts by itself, leaves out the sum alone for the same bounds.
# Source: prometheus_client 0.26.0, metrics_core.py, HistogramMetricFamily.add_metric; OpenMetrics 1.0 says so of sums.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q prometheus-client==0.26.0
"$folder/venv/bin/python" - <<'PYTHON'
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import HistogramMetricFamily


class Scores:
    def __init__(self, first):
        self.first = first

    def collect(self):
        family = HistogramMetricFamily("score", "raw log-odds")
        family.add_metric([], buckets=[(self.first, 1), ("+Inf", 4)], sum_value=2.5)
        yield family


print("prometheus_client", version("prometheus-client"))
found = {}
for first in ("1.0", "-1.0"):
    registry = CollectorRegistry()
    registry.register(Scores(first))
    text = generate_latest(registry).decode()
    found[first] = ("score_sum" in text, "score_count" in text)
    print(f"first bucket to {first}: sum {found[first][0]}, count {found[first][1]}")
registry = CollectorRegistry()
own = Histogram("own", "raw log-odds", buckets=(-1.0, 1.0), registry=registry)
own.observe(0.5)
text = generate_latest(registry).decode()
found["own"] = ("own_sum" in text, "own_count" in text)
print(f"Histogram from -1.0: sum {found['own'][0]}, count {found['own'][1]}")
assert found == {"1.0": (True, True), "-1.0": (False, False), "own": (False, True)}
PYTHON
