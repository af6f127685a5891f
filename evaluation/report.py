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
from reshelf.evaluation.report_markdown import in_language, reference_system, sections

NARROW = re.compile("^(Recall|vs first|gap) ?")
HEADINGS = {"mrr": "MRR", "auc": "AUC", "uauc": "UAUC"}


def table(report: Mapping[str, Any]) -> Table:
    """The report as a rich table for a terminal of 80 columns: a row per system, intervals under their means."""
    head, rows = cells(report, of_labels=False)
    result = Table(box=box.SIMPLE_HEAD, title=title(report), caption=caption(report), padding=0)
    for i, name in enumerate(head):
        # The name gives way where the screen is narrow; a number cut short would be a wrong number.
        result.add_column(NARROW.sub(r"\1\n", name), justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    for row in rows:
        result.add_row(
            *(cell.replace(" (", "\n").rstrip(")") for cell in row), style="bold" * (row[0] == report["main"])
        )
    return result


def markdown(report: Mapping[str, Any]) -> str:
    """The report as a Markdown page with the same table, the plot and how it was measured."""
    _ = in_language(report).gettext
    head, rows = cells(report)
    return "\n".join(
        [
            f"# {title(report)}",
            "",
            "| " + " | ".join(head) + " |",
            "| --- " + "| ---: " * (len(head) - 1) + "|",
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            caption(report),
            "",
            f"![{_('nDCG@{k} of every system').format(k=report['k'])}](report.svg)",
            "",
            *sections(report),
            f"## {_('How it was measured')}",
            "",
            *(f"- {sentence}" for sentence in _measured(report)),
            "",
        ]
    )


def _measured(report: Mapping[str, Any]) -> list[str]:
    """Definitions, and what was left out."""
    _ = in_language(report).gettext
    comma = _(", ")

    def counts(found: Mapping[str, int]) -> str:
        return comma.join(f"{name} {n}" for name, n in found.items() if n) or _("none")

    gains = (
        _("nDCG@{k}: gains are the true expected utilities, used as they are.")
        if report["gains"] == "utility"
        else _("nDCG@{k}: gains are 2^label - 1.")
    )
    seen = _(
        "Systems that learn, and rerankers finetuned on this data set, learned from or chose by the lists of split "
        "{split}: on others they do worse."
    )
    return [
        *([] if report["split"] == "test" else [seen.format(split=report["split"])]),
        gains.format(k=report["k"]),
        _("MRR, recall, AUC and UAUC: relevant is a label of at least {least}.").format(least=report["relevant_from"]),
        _("Equal scores keep first-stage order. Lists with nothing to find, which are skipped: {counts}.").format(
            counts=counts({heading(metric, report): n for metric, n in report["skipped"].items()})
        ),
        _(
            "A list whose scores are all equal was not ranked: its value is the mean over all orders of the list. Such "
            "lists: {counts}."
        ).format(counts=counts(report["unranked"])),
        _(
            "Intervals: 95 %, percentile bootstrap over lists ({resamples} resamples, seed {seed}); differences are "
            "paired by list."
        ).format(resamples=report["resamples"], seed=report["seed"]),
        *(
            _("{system} chose {settings}.").format(system=name, settings=_settings_text(facts, comma))
            for name, facts in report["chosen_settings"].items()
        ),
        *(
            _("{system} was left out: {reason}.").format(system=name, reason=why)
            for name, why in report["left_out"].items()
        ),
    ]


def write_report(out: Path, report: Mapping[str, Any]) -> None:
    """Write the plots, `report.md`, `report.html` and, last, `report.json` into `out`, each all or not at all."""
    text = markdown(report)
    bar_plot(report, out / "report.svg")
    move_plot(report, out / "moves.svg")
    if report["slices"] and reference_system(report):
        slice_plot(report, out / "slices.svg")
    with atomic(out / "report.md") as partial:
        partial.write_text(text, encoding="utf-8")
    with atomic(out / "report.html") as partial:
        partial.write_text(page(text, out, report["language"]), encoding="utf-8")
    with atomic(out / "report.json") as partial:
        partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def title(report: Mapping[str, Any]) -> str:
    """What was evaluated, in a few words."""
    text = in_language(report).gettext("{n} lists of {data}, split {split}")
    return text.format(n=report["n_lists"], data=report["data"], split=report["split"])


def caption(report: Mapping[str, Any]) -> str:
    """What the numbers mean."""
    # Sentences end with their own space: Chinese has none.
    _ = in_language(report).gettext
    text = _("Ranges are 95 % intervals, bootstrap over lists. ")
    text += _("nDCG gains from utility. ") if report["gains"] == "utility" else _("nDCG gains from labels. ")
    text += _("Gap: from first_stage to best_possible. ") if report["gap_closed"] else ""
    return text.strip()


def cells(report: Mapping[str, Any], of_labels: bool = True) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of the table as text; columns nobody has a value for are left out.

    Args:
        of_labels: with nDCG from labels beside that from utility.
    """
    _ = in_language(report).gettext
    main = f"ndcg@{report['k']}"
    others = [m for m in next(iter(report["systems"].values())) if m != main]
    others = [m for m in others if any(means.get(m) is not None for means in report["systems"].values())]
    others = [m for m in others if of_labels or not m.startswith("label_")]
    differences, gap = report["difference_to_first_stage"], report["gap_closed"]
    head = [_("system"), *(heading(metric, report) for metric in (main, *others))]
    head += [_("vs first stage")] if differences else []
    head += [_("gap closed")] if gap else []
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


def heading(metric: str, report: Mapping[str, Any]) -> str:
    """`ndcg@10` as `nDCG@10`, `label_ndcg@10` as `nDCG@10 of labels`."""
    name = metric.removeprefix("label_")
    text = HEADINGS.get(name, name.replace("ndcg", "nDCG").replace("recall", "Recall"))
    return text if name == metric else in_language(report).gettext("{metric} of labels").format(metric=text)


def _settings_text(facts: Mapping[str, Any], comma: str) -> str:
    return comma.join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
