"""A finished evaluation for people and programs: a table on the screen, Markdown, JSON and a plot.

Console().print(table(report))
write_report(Path("runs/demo"), report)      # report.html, report.md, report.json and the plots
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from reshelf.data.atomic import atomic
from reshelf.evaluation.plots import bar_plot, move_plot, slice_plot
from reshelf.evaluation.report_html import page
from reshelf.evaluation.report_markdown import reference_system, sections

NARROW = re.compile("^(Recall|vs first|gap) ?")
HEADINGS = {"mrr": "MRR", "auc": "AUC", "uauc": "UAUC"}


def table(report: Mapping[str, Any]) -> Table:
    """The report as a rich table for a terminal of 80 columns: a row per system, intervals under their means."""
    head, rows = cells(report)
    result = Table(box=box.SIMPLE_HEAD, title=title(report), caption=caption(report), padding=0)
    wanted = [i for i, name in enumerate(head) if not name.endswith("of labels")]
    for i in wanted:
        # The name gives way where the screen is narrow; a number cut short would be a wrong number.
        result.add_column(
            NARROW.sub(r"\1\n", head[i]), justify="right" if i else "left", no_wrap=i > 0, overflow="fold"
        )
    for row in rows:
        result.add_row(
            *(row[i].replace(" (", "\n").rstrip(")") for i in wanted), style="bold" * (row[0] == report["main"])
        )
    return result


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a Markdown page with the same table, the plot and how it was measured."""
    head, rows = cells(report)
    lines = [
        f"# {title(report)}",
        "",
        "| " + " | ".join(head) + " |",
        "| --- " + "| ---: " * (len(head) - 1) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        caption(report),
        "",
        f"![nDCG@{report['k']} of every system](report.png)",
        "",
        *sections(report),
        "## How it was measured",
        "",
        f"- nDCG@{report['k']}: gains are "
        + ("the true expected utilities, used as they are." if report["gains"] == "utility" else "2^label - 1."),
        f"- MRR, recall, AUC and UAUC: relevant is a label of at least {report['relevant_from']}.",
        "- Equal scores keep first-stage order. Lists with nothing to find are skipped: "
        + (", ".join(f"{name} {n}" for name, n in report["skipped"].items() if n) or "there were none")
        + ".",
        "- A list whose scores are all equal was not ranked: its value is the mean over all orders of the list: "
        + (", ".join(f"{name} {n}" for name, n in report["unranked"].items() if n) or "there was none")
        + ".",
        f"- Intervals: 95 %, percentile bootstrap over lists ({report['resamples']} resamples, seed {report['seed']}); "
        "differences are paired by list.",
        *(f"- {name} chose {_settings_text(facts)}." for name, facts in report["chosen_settings"].items()),
        *(f"- {name} was left out: {why}." for name, why in report["left_out"].items()),
        "",
    ]
    return "\n".join(lines)


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write the plots, `report.md`, `report.html` and, last, `report.json` into `out`, each all or not at all."""
    text = markdown(report)
    bar_plot(report, out / "report.png")
    move_plot(report, out / "moves.png")
    if report["slices"] and reference_system(report):
        slice_plot(report, out / "slices.png")
    with atomic(out / "report.md") as partial:
        partial.write_text(text, encoding="utf-8")
    with atomic(out / "report.html") as partial:
        partial.write_text(page(text, out), encoding="utf-8")
    with atomic(out / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def title(report: Mapping[str, Any]) -> str:
    """What was evaluated, in a few words."""
    return f"{report['n_lists']} lists of {report['data']}, split {report['split']}"


def caption(report: Mapping[str, Any]) -> str:
    """What the numbers mean."""
    text = f"Ranges are 95 % intervals, bootstrap over lists. nDCG gains from {report['gains']}."
    return text + " Gap: from first_stage to best_possible." * bool(report["gap_closed"])


def cells(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table as text; columns nobody has a value for are left out."""
    main = f"ndcg@{report['k']}"
    others = [m for m in next(iter(report["systems"].values())) if m != main]
    others = [m for m in others if any(means.get(m) is not None for means in report["systems"].values())]
    differences, gap = report["difference_to_first_stage"], report["gap_closed"]
    head = ["system", heading(main), *(heading(m) for m in others)]
    head += ["vs first stage"] if differences else []
    head += ["gap closed"] if gap else []
    rows = []
    for name, means in report["systems"].items():
        low_high = report["intervals"][name].get(main)
        row = [name, _number(means.get(main)) + (f" ({low_high[0]:.3f}–{low_high[1]:.3f})" if low_high else "")]
        row += [_number(means.get(m)) for m in others]
        if differences:
            d = differences.get(name, {}).get(main)
            row.append(f"{d['mean']:+.3f} ({d['low']:+.3f}…{d['high']:+.3f})" if d else "")
        if gap:
            row.append(f"{gap[name]:.0%}" if name in gap else "")
        rows.append(row)
    return head, rows


def heading(metric: str) -> str:
    """`ndcg@10` as `nDCG@10`, `label_ndcg@10` as `nDCG@10 of labels`."""
    if metric.startswith("label_"):
        return heading(metric.removeprefix("label_")) + " of labels"
    return HEADINGS.get(metric, metric.replace("ndcg", "nDCG").replace("recall", "Recall"))


def _settings_text(facts: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
