"""What Prometheus reads at /metrics. No label names a tenant, a shopper or a model.

metrics = Metrics();  metrics.requests.labels("/v1/rerank", "200").inc()
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from reshelf.inference.serving.drift import Drift
from reshelf.inference.serving.schemas import Meta

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _SignalsAge(Collector):
    """A gauge that is not there where no model reads signals; a `Gauge` would say 0, as if they were of this moment."""

    def __init__(self, seconds: Callable[[], float | None]) -> None:
        self._seconds = seconds

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What Prometheus reads."""
        if (seconds := self._seconds()) is not None:
            about = "Since the last event that the tables of signals count; of several models, the longest."
            yield GaugeMetricFamily("reshelf_signals_age_seconds", about, value=seconds)


class Metrics:
    """One server's numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self.drift = Drift()
        self.registry.register(self.drift)
        counter, gauge = partial(Counter, registry=self.registry), partial(Gauge, registry=self.registry)
        histogram = partial(Histogram, buckets=_SECONDS, registry=self.registry)
        self.requests = counter("reshelf_requests", "Requests answered.", ["route", "status"])
        self.seconds = histogram("reshelf_request_seconds", "From arrival to reply.", ["route"])
        self.stages = histogram("reshelf_stage_seconds", "Parts of a ranking.", ["stage"])
        self.candidates = counter("reshelf_candidates", "Documents ranked.")
        self.tokens = counter("reshelf_tokens", "Distinct tokens of lists.", ["read"])
        self.fallbacks = counter("reshelf_fallbacks", "Replies in first-stage order.", ["reason"])
        self.rules = counter("reshelf_rules", "Documents that rules moved.", ["action"])
        self.store_errors = counter("reshelf_store_errors", "History store gave no answer.")
        self.unreadable_events = counter("reshelf_unreadable_events", "Stored events that were no events.")
        self.served_lists = counter("reshelf_served_lists", "Lists for the log of served lists.", ["outcome"])
        self._depth = gauge("reshelf_queue_depth", "Lists, or pieces of long ones, waiting or being scored.")
        self._ready = gauge("reshelf_engine_ready", "1 where the engine is ready.")
        self._tenants_file = gauge("reshelf_tenants_file_ok", "0 where the tenants file as it is now cannot be used.")
        self._starts = gauge("reshelf_engine_starts", "How often the engine was started.")

    def watch(
        self, depth: Callable[[], float], ready: Callable[[], float], starts: Callable[[], float],
        tenants_file: Callable[[], float], signals_age: Callable[[], float | None],
    ) -> None:  # fmt: skip
        """Ask the engine, the tenants and the models at each reading.

        Args:
            signals_age: seconds; None where no model reads signals.
        """
        self.registry.register(_SignalsAge(signals_age))
        self._tenants_file.set_function(tenants_file)
        self._depth.set_function(depth)
        self._ready.set_function(ready)
        self._starts.set_function(starts)

    def ranked(self, meta: Meta, documents: int) -> None:
        """A list was put in order."""
        for stage, ms in meta.ms.items():
            if stage != "total":
                self.stages.labels(stage).observe(ms / 1000)
        for action, count in meta.rules.items():
            self.rules.labels(action).inc(count)
        if meta.fallback:
            self.fallbacks.labels(meta.fallback).inc()
        else:
            self.candidates.inc(documents)
        self.tokens.labels("cached").inc(meta.cached_tokens)
        self.tokens.labels("fresh").inc(meta.prompt_tokens - meta.cached_tokens)

    def text(self) -> bytes:
        """In Prometheus' own format."""
        return generate_latest(self.registry)
