"""The plots of a report: nDCG@k of every system, how far ahead in which part of the lists, and how far products move.

bar_plot(report, Path("runs/demo/report.svg"))

Their words stay text in the SVG, which its reader's own fonts show: hardly a server has Chinese ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from unicodedata import east_asian_width

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from reshelf.data.atomic import atomic
from reshelf.evaluation.report_markdown import in_language, reference_system

_MAIN, _OTHER = "#d1495b", "#8d99ae"
_POINTS = 10
"""Size of a tick's label."""


def bar_plot(report: Mapping[str, Any], path: Path) -> None:
    """Write an SVG: one bar per system, worst system at the bottom, with its 95 % interval and its value."""
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
    colours = [_MAIN if name == report["main"] else _OTHER for name in names]
    figure = Figure(figsize=(7, 0.5 * len(rows) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    axes.barh(names, values, xerr=errors, color=colours, capsize=3)
    for place, (value, (_, high)) in enumerate(zip(values, bounds)):
        axes.annotate(f"{value:.3f}", (high, place), xytext=(4, 0), textcoords="offset points", va="center")
    axes.margins(x=0.12)
    _ = in_language(report).gettext
    text = (
        _("nDCG@{k} (gains from utility), mean and 95 % interval")
        if report["gains"] == "utility"
        else _("nDCG@{k} (gains from labels), mean and 95 % interval")
    )
    axes.set_xlabel(text.format(k=report["k"]))
    axes.set_title(_("{split}: {n} lists").format(split=report["split"], n=report["n_lists"]))
    _save(figure, axes, path)


def slice_plot(report: Mapping[str, Any], path: Path) -> None:
    """Write an SVG: how far the main system is ahead of its reference system in every part of the lists."""
    main, k, against = report["main"], report["k"], reference_system(report)
    rows = report["slices"][::-1]
    figure = Figure(figsize=(7, 0.35 * len(rows) + 1.4), layout="constrained")
    axes = figure.add_subplot()
    for place, part in enumerate(rows):
        d = part["ahead"][against]
        axes.plot([d["low"], d["high"]], [place, place], color=_OTHER, linewidth=2)
        axes.plot(d["mean"], place, "o", color=_MAIN)
    axes.axvline(0, color="0.5", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{p['what']}: {p['which']} ({p['lists']})" for p in rows])
    text = in_language(report).gettext("nDCG@{k} of {main} minus {other}, 95 % interval")
    axes.set_xlabel(text.format(k=k, main=main, other=against))
    _save(figure, axes, path)


def move_plot(report: Mapping[str, Any], path: Path) -> None:
    """Write an SVG: how many candidates went up or down by how many places from the first stage."""
    places, counts = zip(*report["moves"])
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.add_subplot()
    axes.bar(places, [count / sum(counts) for count in counts], width=1.0, color=_OTHER)
    _ = in_language(report).gettext
    axes.set_xlabel(_("places up (down below 0) by {main}, from the first stage").format(main=report["main"]))
    axes.set_ylabel(_("share of candidates"))
    _save(figure, axes, path)


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    texts = [label.get_text() for label in axes.get_yticklabels()]
    wide = max(sum(east_asian_width(c) in "WF" for c in text) for text in texts) if texts else 0
    # Layout measures what its own font lacks at 0.6 of the width that a reader's font will need.
    layout = cast(ConstrainedLayoutEngine, figure.get_layout_engine())
    layout.set(w_pad=0.04 + 0.4 * wide * _POINTS / 72)
    with atomic(path) as partial, matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(partial, format="svg", metadata={"Date": None})
