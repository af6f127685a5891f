"""At 80 columns no score and no interval is cut, however long the names are."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from rich.console import Console, RenderableType

from reshelf.data.schema import Item, RankingList
from reshelf.evaluation.compare import before_after
from reshelf.evaluation.report import cells, table

LONG = "a_reranker_over_a_larger_base_with_another_prompt"


def on_screen(what: RenderableType, width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(what)
    assert max(map(len, file.getvalue().split("\n"))) <= width
    return file.getvalue()


def test_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    names = ("first_stage", "matrix_factorisation", LONG)
    metrics = {"ndcg@10": 0.71234, "mrr": 0.61234, "recall@10": 0.91234, "auc": 0.81234, "uauc": 0.84321}
    ends = {"mean": -0.12345, "low": -0.23456, "high": 0.34567}
    report: dict[str, Any] = {
        "k": 10, "main": LONG, "n_lists": 5, "data": "runs/shop/data", "split": "test", "gains": "labels",
        "systems": dict.fromkeys(names, metrics),
        "intervals": {name: {"ndcg@10": (0.70123, 0.72345)} for name in names},
        "difference_to_first_stage": {name: {"ndcg@10": ends} for name in names[1:]},
        "gap_closed": dict.fromkeys(names, -1.43),
    }  # fmt: skip
    said = on_screen(table(report))
    numbers = [part for row in cells(report)[1] for cell in row[1:] for part in cell.rstrip(")").split(" (") if part]
    assert len(numbers) > 20
    assert all(number in said for number in numbers)


def test_a_list_before_and_after() -> None:
    items = {f"p{n}": Item(item_id=f"p{n}", title=LONG * 3, price=12345.67, currency="EUR") for n in range(3)}
    ranking = RankingList(
        list_id="l", user_id="u", candidates=tuple(items), labels=(0, 0, 3), utility=(0.1234, 0.5, 0.9)
    )
    scores = np.array([-12.3456, 0.5, 7.8912])
    said = on_screen(before_after(ranking, items, scores, others={"vLLM": scores}))
    assert all(said.count(text) >= 2 for text in ("-12.3456", "7.8912", "12345.67 EUR"))
