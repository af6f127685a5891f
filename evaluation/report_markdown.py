"""The sections of a report below its table, in Markdown.

lines = sections(report)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|])")


def sections(report: Mapping[str, Any]) -> list[str]:
    """All of them, with what there is nothing to say about left out."""
    main = report["main"]
    return [
        *_significance(main, report),
        *_slices(main, report),
        *_top_k(report),
        *_movement(main, report),
        *_personalization(main, report),
        *_calibration(report),
        *_worst(main, report),
    ]


def _significance(main: str, report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name,
            f"{d['mean']:+.4f}",
            f"{d['low']:+.4f}…{d['high']:+.4f}",
            f"{d['p']:.4f}",
            d["wins"],
            d["losses"],
            _verdict(d),
        )
        for name, d in report["significance"].items()
    ]
    if not rows:
        return []
    head = ("other system", "ahead", "95 % interval", "p", "lists won", "lost", "")
    return [
        f"## Is {main} better?",
        "",
        f"nDCG@{report['k']} of {main} minus that of the other, list by list. p: two-sided sign-flip permutation test.",
        "",
        *grid(head, rows),
        "",
    ]


def _verdict(difference: Mapping[str, float]) -> str:
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "no difference shown"


def _slices(main: str, report: Mapping[str, Any]) -> list[str]:
    if not report["slices"]:
        return []
    others = [n for n in report["systems"] if n not in (main, "random", "best_possible")]
    shown, against = [main, *others], reference_system(report)
    rows = []
    for part in report["slices"]:
        ahead = part["ahead"].get(against)
        gap = f"{ahead['mean']:+.3f} ({ahead['low']:+.3f}…{ahead['high']:+.3f})" if ahead else ""
        rows.append((part["what"], part["which"], part["lists"], *(f"{part['means'][n]:.3f}" for n in shown), gap))
    head = ("", "", "lists", *shown, f"ahead of {against}" if against else "")
    return [
        "## Where it holds",
        "",
        f"nDCG@{report['k']} over parts of the lists. Head: what was wanted is among the most popular fifth of all "
        "candidates; tail: it is not.",
        "",
        *grid(head, rows),
        "",
        *(["![By part of the lists](slices.png)", ""] if reference_system(report) else []),
    ]


def reference_system(report: Mapping[str, Any]) -> str | None:
    """What parts are compared with: the first stage where it was run, otherwise the best other; None without one."""
    others = [name for name in report["systems"] if name not in (report["main"], "best_possible")]
    if "first_stage" in others:
        return "first_stage"
    metric = f"ndcg@{report['k']}"
    return max(others, key=lambda name: report["systems"][name][metric] or 0.0, default=None)


def _top_k(report: Mapping[str, Any]) -> list[str]:
    columns = list(dict.fromkeys(name for row in report["top_k"].values() for name in row))
    rows = [(name, *(f"{row[c]:.3f}" if c in row else "" for c in columns)) for name, row in report["top_k"].items()]
    return [
        f"## The first {report['k']} places",
        "",
        "Accuracy, precision, recall and F1 over all candidates, where these places say “relevant”. Coverage: share of "
        "all products that some list shows there. Diversity: share of pairs there of different categories.",
        "",
        *grid(("system", *columns), rows),
        "",
    ]


def _movement(main: str, report: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            name.replace("_", " "), f"{m['lists_changed']:.0%}", f"{m['first_changed']:.0%}", f"{m['replaced']:.0%}",
            f"{m['mean_places']:.1f}",
        )
        for name, m in report["movement"].items()
    ]  # fmt: skip
    head = ("compared with", f"lists whose first {report['k']} changed", "whose first product changed",
            f"first {report['k']} replaced", "places moved, mean")  # fmt: skip
    lines = [f"## What {main} moves", "", *grid(head, rows), ""]
    if "without_history" in report["movement"]:
        lines += [
            "“without history”: the same model for a shopper without a history; the difference is personalisation.",
            "",
        ]
    return [*lines, "![Places moved](moves.png)", ""]


def _personalization(main: str, report: Mapping[str, Any]) -> list[str]:
    found = report["personalization"]
    if found is None:
        return []
    rows = [
        (
            f"**{row['weight']:.1f}**" if row["weight"] == found["recommended"] else f"{row['weight']:.1f}",
            *("–" if row[name] is None else f"{row[name]:.3f}" for name in ("ndcg", "warm", "cold")),
            f"{row['lists_changed']:.0%}",
            f"{row['replaced']:.0%}",
        )
        for row in found["rows"]
    ]
    k = report["k"]
    head = ("personalization", f"nDCG@{k}", "with a history", "without", f"lists whose first {k} changed",
            f"first {k} replaced")  # fmt: skip
    return [
        f"## How much of the order should be {main}'s?",
        "",
        "0 is first-stage order, 1 the model's. Bold, to begin with: the least within one standard error of the best.",
        "",
        *grid(head, rows),
        "",
    ]


def _calibration(report: Mapping[str, Any]) -> list[str]:
    found = report["calibration"]
    if found is None:
        return []
    rows = [(f"{predicted:.3f}", f"{share:.3f}", n) for predicted, share, n in found["bins"]]
    return [
        "## Are its probabilities true?",
        "",
        f"Expected calibration error {found['ece']:.4f}, Brier score {found['brier']:.4f}.",
        "",
        *grid(("predicted, mean of a tenth", "observed", "candidates"), rows),
        "",
    ]


def _worst(main: str, report: Mapping[str, Any]) -> list[str]:
    if not report["worst"]:
        return []
    lines = [f"## The lists that {main} made worst", ""]
    for one in report["worst"]:
        lines += [
            f"### List {plain(one['list_id'])}: nDCG {one['before']:.3f} → {one['after']:.3f}",
            "",
            f"- query: {plain(one['query']) or '(none)'}",
            f"- history: {'; '.join(map(plain, one['history'])) or '(none)'}",
            f"- wanted: {plain(one['wanted'])}, from place {one['wanted_place_before']} to {one['wanted_place_after']}",
            "",
            *grid(
                ("first stage", "reranked"),
                [(plain(a), plain(b)) for a, b in zip(one["first_stage"], one["reranked"])],
            ),
            "",
        ]
    return lines


def grid(head: Sequence[Any], rows: Iterable[Sequence[Any]]) -> list[str]:
    """A Markdown table."""
    return [
        "| " + " | ".join(map(str, head)) + " |",
        "| " + " | ".join("---" for _ in head) + " |",
        *("| " + " | ".join(map(str, row)) + " |" for row in rows),
    ]


def plain(text: str) -> str:
    """Catalogue or shopper text on one line, none of it read as markup."""
    return _MARKUP.sub(r"\\\1", " ".join("".join(c if c.isprintable() else " " for c in text).split()))
