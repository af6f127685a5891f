"""The bar plot of a report: nDCG@k of every system with its interval.

bar_plot(report, Path("runs/demo/report.png"))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from reshelf.data.store import atomic


def bar_plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG: one bar per system, worst system at the bottom, with its 95 % interval and its value."""
    metric = f"ndcg@{report['k']}"
    rows = [(name, means[metric]) for name, means in report["systems"].items() if means.get(metric) is not None]
    rows.sort(key=lambda row: row[1])
    names = [name for name, _ in rows]
    values = [value for _, value in rows]
    bounds = [report["intervals"][name][metric] for name in names]
    errors = [
        [max(value - low, 0.0) for value, (low, _) in zip(values, bounds)],
        [max(high - value, 0.0) for value, (_, high) in zip(values, bounds)],
    ]
    colours = ["#d1495b" if name == "finetuned" else "#8d99ae" for name in names]
    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, values, xerr=errors, color=colours, capsize=3)
    for place, (value, (_, high)) in enumerate(zip(values, bounds)):
        axes.annotate(f"{value:.3f}", (high, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    axes.set_xlabel(f"nDCG@{report['k']} (gains from {report['gains']}), mean and 95 % interval")
    axes.set_title(f"{report['split']}: {report['n_lists']} lists")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(path) as partial:
        figure.savefig(partial, format="png", dpi=150)
