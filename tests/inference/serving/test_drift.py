"""What Prometheus is told of drift, against counting by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from reshelf.inference.serving import drift
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.schemas import SentEvent
from tests.inference.serving.server import Server


def value(metrics: Metrics, name: str, **labels: str) -> Any:
    return metrics.registry.get_sample_value(f"reshelf_{name}", labels)


def event(user: str, kind: str, item: str) -> SentEvent:
    return SentEvent(user_id=user, kind=kind, item_id=item)  # type: ignore[arg-type]


def test_scores_and_unknown_products_are_counted() -> None:
    metrics, scores = Metrics(), np.random.default_rng(0).normal(0, 9, 500).astype(np.float32)
    scores[0] = -12.0  # on an edge, which counts with what is below it
    for part in np.split(scores, 5):
        metrics.drift.ranked(part, unknown=3)
    for edge in ("-12.0", "0.0", "3.0", "12.0"):
        assert value(metrics, "score_bucket", le=edge) == (scores <= float(edge)).sum()
    assert value(metrics, "score_bucket", le="+Inf") == 500
    assert value(metrics, "unknown_documents_total") == 15


def test_a_list_is_judged_when_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(drift.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(drift, "_LISTS", 4)
    metrics = Metrics()
    watched = metrics.drift
    watched.served("a", "ann", {"p1": 0.95, "p2": 0.31, "p3": 0.0})
    watched.served("b", "ann", {"p1": 1.0})
    now[0] = 60
    watched.served("a", "ann", {"p1": 0.35, "p9": 0.05})
    watched.served("a", "bob", {"p1": 0.99})
    watched.served("a", "cid", {"p1": 0.99})  # one too many
    watched.happened("a", [event("ann", "click", "p1"), event("ann", "purchase", "p1"), event("ann", "cart", "p3")])
    watched.happened("a", [event("ann", "view", "p2"), event("bob", "click", "p7"), event("eve", "click", "p1")])
    watched.forget("a", "bob")
    assert value(metrics, "judged_documents_total", probability="0.9") == 0
    now[0] = 1800
    watched.happened("a", [event("ann", "click", "p2")])  # its list is closed
    now[0] = 9999
    found = {
        name: {
            tenth: value(metrics, f"{name}_total", probability=tenth) for tenth in ("0.0", "0.3", "0.9")
        } for name in ("judged_documents", "expected_outcomes", "outcomes")
    }  # fmt: skip
    assert found["judged_documents"] == {"0.0": 2, "0.3": 2, "0.9": 2}  # bob's are forgotten
    assert found["expected_outcomes"] == pytest.approx({"0.0": 0.05, "0.3": 0.66, "0.9": 1.95})
    assert found["outcomes"] == {"0.0": 1, "0.3": 1, "0.9": 0}  # the later list's click, and a cart
    assert not watched._open
    assert not watched._closing


def test_the_service_counts_what_it_ranks(server: Server) -> None:
    def counted() -> dict[str, float]:
        lines = [line.rsplit(" ", 1) for line in server.http.get("/metrics").text.splitlines() if line[0] != "#"]
        return {name: float(number) for name, number in lines}

    before = counted()
    reply = server.rerank(query="coat", documents=["p1", "p2", {"title": "new coat"}, "a coat"], user_id="drift").json()
    now = counted()
    assert now["reshelf_unknown_documents_total"] - before["reshelf_unknown_documents_total"] == 2
    scores = np.array([one["score"] for one in reply["results"]])
    for edge in (-3.0, 0.0, 3.0):
        name = f'reshelf_score_bucket{{le="{edge}"}}'
        assert now[name] - before[name] == (scores <= edge).sum()


def test_without_signals_there_is_no_date_of_them(server: Server) -> None:
    assert "signals_until" not in server.http.get("/ready").json()
    assert "reshelf_signals_age" not in server.http.get("/metrics").text
