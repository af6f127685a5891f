"""The sections of a report below its table, in Markdown, in the language of the model.

lines = sections(report)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from gettext import NullTranslations
from typing import Any

from reshelf.translation import gettext_noop, translations
from reshelf.unicode import printable

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|])")


QUALITIES = {
    "accuracy": gettext_noop("accuracy"), "precision": gettext_noop("precision"), "recall": gettext_noop("recall"),
    "f1": "F1", "coverage": gettext_noop("coverage"), "diversity": gettext_noop("diversity"),
}  # fmt: skip
"""Columns of `beyond_accuracy.top_k_quality`."""
COMPARED = {"first_stage": gettext_noop("first stage"), "without_history": gettext_noop("without history")}
"""What a model's movement is compared with."""


def in_language(report: Mapping[str, Any]) -> NullTranslations:
    """What turns the report's own words into its language; English where an older one does not say."""
    return translations(report.get("language", "en"))


def sections(report: Mapping[str, Any]) -> list[str]:
    """All of them, with what there is nothing to say about left out."""
    main = report["main"]
    return [
        *_significance(main, report),
        *_counterfactual(report),
        *_slices(main, report),
        *_top_k(report),
        *_movement(main, report),
        *_personalization(main, report),
        *_calibration(report),
        *_worst(main, report),
    ]


def _significance(main: str, report: Mapping[str, Any]) -> list[str]:
    _ = in_language(report).gettext

    def verdict(difference: Mapping[str, float]) -> str:
        if difference["low"] > 0:
            return _("better")
        return _("worse") if difference["high"] < 0 else _("no difference shown")

    rows = [
        (
            name,
            f"{d['mean']:+.4f}",
            f"{d['low']:+.4f}…{d['high']:+.4f}",
            f"{d['p']:.4f}",
            d["wins"],
            d["losses"],
            verdict(d),
        )
        for name, d in report["significance"].items()
    ]
    if not rows:
        return []
    head = (_("other system"), _("ahead"), _("95 % interval"), "p", _("lists won"), _("lost"), "")
    about = _(
        "nDCG@{k} of {main} minus that of the other, list by list. p: two-sided sign-flip permutation test."
    ).format(k=report["k"], main=main)
    return [f"## {_('Is {main} better?').format(main=main)}", "", about, "", *grid(head, rows), ""]


def counterfactual_texts(row: Mapping[str, Sequence[float]]) -> tuple[str, str]:
    """A system's estimate and its gain over the first stage, with their intervals."""
    return "{:.3f} ({:.3f}–{:.3f})".format(*row["estimate"]), "{:+.3f} ({:+.3f}…{:+.3f})".format(*row["gain"])


def _counterfactual(report: Mapping[str, Any]) -> list[str]:
    if not report.get("counterfactual"):
        return []
    _ = in_language(report).gettext
    rows = [(name, *counterfactual_texts(row)) for name, row in report["counterfactual"].items()]
    about = _(
        "Labels weighted by how rarely their position is examined: the discount, 1 / log2(rank + 1), that their gain "
        "meets on average, were all positions examined alike (self-normalised inverse propensities)."
    )
    head = (_("system"), f"SNIPS DCG@{report['k']}", _("vs first stage"))
    return [f"## {_('Corrected for examination')}", "", about, "", *grid(head, rows), ""]


def _slices(main: str, report: Mapping[str, Any]) -> list[str]:
    if not report["slices"]:
        return []
    _ = in_language(report).gettext
    others = [n for n in report["systems"] if n not in (main, "random", "best_possible")]
    shown, against = [main, *others], reference_system(report)
    rows = []
    for part in report["slices"]:
        ahead = part["ahead"].get(against)
        gap = f"{ahead['mean']:+.3f} ({ahead['low']:+.3f}…{ahead['high']:+.3f})" if ahead else ""
        rows.append((part["what"], part["which"], part["lists"], *(f"{part['means'][n]:.3f}" for n in shown), gap))
    head = ("", "", _("lists"), *shown, _("ahead of {system}").format(system=against) if against else "")
    about = _(
        "nDCG@{k} over parts of the lists. Head: what was wanted is among the most popular fifth of all candidates; "
        "tail: it is not."
    ).format(k=report["k"])
    picture = [f"![{_('By part of the lists')}](slices.svg)", ""] if against else []
    return [f"## {_('Where it holds')}", "", about, "", *grid(head, rows), "", *picture]


def reference_system(report: Mapping[str, Any]) -> str | None:
    """What parts are compared with: the first stage where it was run, otherwise the best other; None without one."""
    others = [name for name in report["systems"] if name not in (report["main"], "best_possible")]
    if "first_stage" in others:
        return "first_stage"
    metric = f"ndcg@{report['k']}"
    return max(others, key=lambda name: report["systems"][name][metric] or 0.0, default=None)


def _top_k(report: Mapping[str, Any]) -> list[str]:
    _ = in_language(report).gettext
    columns = list(dict.fromkeys(name for row in report["top_k"].values() for name in row))
    rows = [(name, *(f"{row[c]:.3f}" if c in row else "" for c in columns)) for name, row in report["top_k"].items()]
    about = _(
        "Accuracy, precision, recall and F1 over all candidates, where these places say “relevant”. Coverage: share of "
        "all products that some list shows there. Diversity: share of pairs there of different categories."
    )
    heading = _("The first {k} places").format(k=report["k"])
    head = (_("system"), *(_(QUALITIES[name]) for name in columns))
    return [f"## {heading}", "", about, "", *grid(head, rows), ""]


def _movement(main: str, report: Mapping[str, Any]) -> list[str]:
    _ = in_language(report).gettext
    rows = [
        (
            _(COMPARED[name]), f"{m['lists_changed']:.0%}", f"{m['first_changed']:.0%}", f"{m['replaced']:.0%}",
            f"{m['mean_places']:.1f}",
        )
        for name, m in report["movement"].items()
    ]  # fmt: skip
    k = report["k"]
    head = (_("compared with"), _("lists whose first {k} changed").format(k=k), _("whose first product changed"),
            _("first {k} replaced").format(k=k), _("places moved, mean"))  # fmt: skip
    lines = [f"## {_('What {main} moves').format(main=main)}", "", *grid(head, rows), ""]
    if "without_history" in report["movement"]:
        about = _(
            "“without history”: the same model for a shopper without a history; the difference is personalisation."
        )
        lines += [about, ""]
    return [*lines, f"![{_('Places moved')}](moves.svg)", ""]


def _personalization(main: str, report: Mapping[str, Any]) -> list[str]:
    found = report["personalization"]
    if found is None:
        return []
    _ = in_language(report).gettext
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
    head = ("personalization", f"nDCG@{k}", _("with a history"), _("without"),
            _("lists whose first {k} changed").format(k=k), _("first {k} replaced").format(k=k))  # fmt: skip
    about = _(
        "0 is first-stage order, 1 the model's. Bold, to begin with: the least within one standard error of the best."
    )
    heading = _("How much of the order should be {main}'s?").format(main=main)
    return [f"## {heading}", "", about, "", *grid(head, rows), ""]


def _calibration(report: Mapping[str, Any]) -> list[str]:
    found = report["calibration"]
    if found is None:
        return []
    _ = in_language(report).gettext
    rows = [(f"{predicted:.3f}", f"{share:.3f}", n) for predicted, share, n in found["bins"]]
    errors = _("Expected calibration error {ece}, Brier score {brier}.").format(
        ece=f"{found['ece']:.4f}", brier=f"{found['brier']:.4f}"
    )
    head = (_("predicted, mean of a tenth"), _("observed"), _("candidates"))
    return [f"## {_('Are its probabilities true?')}", "", errors, "", *grid(head, rows), ""]


def _worst(main: str, report: Mapping[str, Any]) -> list[str]:
    if not report["worst"]:
        return []
    _ = in_language(report).gettext
    none = _("(none)")
    lines = [f"## {_('The lists that {main} made worst').format(main=main)}", ""]
    for one in report["worst"]:
        heading = _("List {list_id}: nDCG {before} → {after}").format(
            list_id=plain(one["list_id"]), before=f"{one['before']:.3f}", after=f"{one['after']:.3f}"
        )
        history = _("; ").join(map(plain, one["history"])) or none
        kind = (
            _("wanted: {title}, at place {before}; all candidates have one score, which counts as a random order")
            if one["unranked"]
            else _("wanted: {title}, from place {before} to {after}")
        )
        wanted = kind.format(
            title=plain(one["wanted"]), before=one["wanted_place_before"], after=one["wanted_place_after"]
        )
        lines += [
            f"### {heading}",
            "",
            f"- {_('query: {text}').format(text=plain(one['query']) or none)}",
            f"- {_('history: {text}').format(text=history)}",
            f"- {wanted}",
            "",
            *grid(
                (_("first stage"), _("reranked")),
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
    return _MARKUP.sub(r"\\\1", " ".join(printable(text).split()))
