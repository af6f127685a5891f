"""The leaderboard of ranking quality: `benchmarks/QUALITY.md`, made from the result files so that it cannot differ.

The table in README.md is made from them too.

python -m benchmarks.quality_page
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import RESULTS
from benchmarks.quality_recipe import SMALL

PAGE = Path(__file__).parent / "QUALITY.md"
TITLES = {
    "bestbuy": "Best Buy: real searches, the clicked product among 50, most shoppers seen once",
    "bestbuy_now": "Best Buy again: every system also reads what is clicked now (`query_recent`, `clicks_1d`)",
    "marketplace": "Simulated shop: nDCG of true utility, text alone",
    "beauty_search": "Amazon Beauty: the next purchase among 100 products of its query",
    "beauty_rerank": "Amazon Beauty: the next purchase among 100 products drawn by popularity, no query",
    "games": "Amazon Video Games: the next purchase among SASRec's 100",
    "collm": "MovieLens-1M as split by CoLLM: will this viewer like this film",
    "crowdflower": "CrowdFlower: judged search results, no shoppers",
    "homedepot": "Home Depot: judged search results, no shoppers",
}
NAMES = {"ndcg": "nDCG", "recall": "Recall"}
"""Metrics that are not written in capitals."""
SHOWN = ("ndcg@3", "ndcg@10", "map@5", "hr@1", "mrr", "recall@10", "auc", "uauc", "rmse")
Rows = Mapping[str, Mapping[str, Sequence[float]]]
README = Path(__file__).parent.parent / "README.md"
README_ROWS = {
    "bestbuy": "Best Buy, real searches",
    "bestbuy_now": "Best Buy, with what is clicked now",
    "beauty_search": "Amazon Beauty, search",
    "beauty_rerank": "Amazon Beauty, no query",
    "games": "Amazon Video Games, SASRec's 100",
    "homedepot": "Home Depot search, no shoppers",
    "crowdflower": "CrowdFlower search, no shoppers",
    "marketplace": "simulated shop, gains of true utility",
}
README_HEAD = (
    "| | first stage | LambdaMART | best other system | the ensemble alone | Reshelf reading its score | "
    "Reshelf, small base | Reshelf, Gemma 3 270M |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)
NOT_MEASURED = "not measured"
ROWS = ("reshelf_with_teacher_score", "reshelf_small", "reshelf")
"""Of Reshelf, in the order of the README's columns."""
NO_RIVALS = ("best_possible", "teacher", "first_stage", "lambdamart_match", "zero_shot")
"""Not among the other systems that a shop could run: what reads the truth or stands apart, and Reshelf untrained."""


def render(results: Mapping[str, tuple[Rows, Mapping[str, Any]]]) -> str:
    """The page.

    Args:
        results: name -> contents of quality_NAME.json and quality_NAME_details.json.
    """
    lines = [
        "# Ranking quality",
        "",
        "Every system orders the same test lists; hyperparameters are chosen on the validation lists. `make quality",
        "NAME=…` makes a table again from the raw data, and `python -m benchmarks.quality_page` this page from",
        "`results/quality_NAME.json`. In parentheses: 95 % intervals, bootstrap over lists (over shoppers for UAUC).",
        "",
        "- `reshelf`: a real pretrained model, Gemma 3 270M, finetuned in 4 bits; it reads no other ranker's score.",
        "  `zero_shot` is that model before finetuning.",
        "- `reshelf_small`: the same over a base of half a million parameters that has read the shop's own text only.",
        "  A recipe with `distil` trains on the ensemble's score beside the labels; the model never reads it.",
        "- `reshelf_with_teacher_score`: the small one reading, besides, the score of `teacher`, the LightGBM ensemble",
        "  that `reshelf teach` trains: whoever serves it has to run the ensemble on every list first.",
        "- `…_other_history`: the row's lists with histories shuffled between shoppers, a control: what it loses",
        "  against the row was personal.",
        "",
        "Ahead: the row of Reshelf named there minus the system, paired list by list (shopper by shopper for UAUC).",
        "Bold: ahead of every system that is not Reshelf, the teacher too, beyond the paired interval. A row with",
        "one number was measured before intervals were kept.",
        "",
    ]
    for name in TITLES:
        if name in results:
            lines += _section(name, *results[name])
    return "\n".join(lines)


def _section(name: str, rows: Rows, details: Mapping[str, Any]) -> list[str]:
    metrics = [m for m in SHOWN if any(m in row for row in rows.values())]
    main = next(row for row in reversed(ROWS) if row in details["paired"])
    paired = details["paired"][main]
    ahead = next(m for m in ("ndcg@10", "uauc") if any(m in row for row in paired.values()))
    lines = [f"## {TITLES[name]}", "", f"`{details['command']}`", ""]
    lines += [
        f"| system | {' | '.join(map(heading, metrics))} | {main} ahead in {heading(ahead)} | seconds |",
        "| --- |" + " ---: |" * (len(metrics) + 2),
    ]
    first = "uauc" if ahead == "uauc" else metrics[0]
    own = [pair for pair in rows.items() if "/" not in pair[0]]
    for system, row in sorted(own, key=lambda pair: -pair[1].get(first, [0.0])[0]):
        gap = paired.get(system, {}).get(ahead)
        cells = [_cell(row[m]) if m in row else "" for m in metrics]
        cells += [f"{gap[0]:+.4f} ({gap[1]:+.4f}…{gap[2]:+.4f})" if gap else ""]
        cells += [f"{details['seconds'][system]:.0f}" if system in details["seconds"] else ""]
        bold = ahead_of_all(details, system, ahead)
        lines.append("| " + " | ".join([f"**{system}**" if bold else system, *cells]) + " |")
    return [*lines, "", *_seeds(rows, metrics), *_slices(details, main), *_parts(rows, details)]


def ahead_of_all(details: Mapping[str, Any], own: str, metric: str) -> bool:
    """Whether a row of Reshelf is ahead of every system that is not Reshelf beyond the paired interval."""
    paired = details["paired"].get(own, {})
    others = {name: row for name, row in paired.items() if not name.startswith(("reshelf", "best_possible"))}
    return bool(others) and all(row[metric][1] > 0 for row in others.values() if metric in row)


def readme_table(results: Mapping[str, tuple[Rows, Mapping[str, Any]]]) -> str:
    """The README's table of nDCG@10; bold where Reshelf is ahead of every other system beyond the paired interval."""
    lines = [README_HEAD]
    for name, title in README_ROWS.items():
        if name not in results:
            continue
        rows, details = results[name]
        found = {s: row["ndcg@10"] for s, row in rows.items() if "/" not in s and "ndcg@10" in row}
        others = {s: row for s, row in found.items() if s not in NO_RIVALS and not s.startswith("reshelf")}
        best = max(others, key=lambda system: others[system][0])
        cells = [
            f"{found['first_stage'][0]:.3f}",
            _short(found["lambdamart"]),
            "LambdaMART" if best == "lambdamart" else f"{best} {_short(others[best])}",
            _short(found["teacher"]) if "teacher" in found else NOT_MEASURED,
        ]
        for row in ROWS:
            cell = _short(found[row]) if row in found else NOT_MEASURED
            cells.append(f"**{cell}**" if ahead_of_all(details, row, "ndcg@10") else cell)
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def _slices(details: Mapping[str, Any], main: str) -> list[str]:
    """Where a row is ahead of the best other system and of itself with another shopper's history."""
    if main not in details.get("slices", {}):
        return []
    lines = [
        f"**Where {main} is ahead**",
        "",
        "| lists | how many | nDCG@10 | ahead of |",
        "| --- | ---: | ---: | --- |",
    ]
    for part, found in details["slices"][main].items():
        mean, low, high, count = found[main]
        against = [
            name for name in ("lambdamart", "query_clicks", "first_stage", f"{main}_other_history") if name in found
        ]
        gaps = [f"{name} {found[name][0]:+.3f} ({found[name][1]:+.3f}…{found[name][2]:+.3f})" for name in against]
        lines.append(f"| {part} | {count:.0f} | {mean:.3f} ({low:.3f}–{high:.3f}) | {', '.join(gaps)} |")
    return [*lines, ""]


def _short(row: Sequence[float]) -> str:
    return f"{row[0]:.3f} ({row[1]:.3f}–{row[2]:.3f})" if len(row) > 1 else f"{row[0]:.3f}"


def _seeds(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """The spread over seeds, where there are several."""
    runs = [row for name, row in rows.items() if name == SMALL or name.startswith(f"{SMALL}_seed")]
    if len(runs) < 2:
        return []
    spread = []
    for metric in metrics:
        values = [row[metric][0] for row in runs if metric in row]
        if len(values) == len(runs):
            spread.append(f"{heading(metric)} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    return [f"{SMALL} over {len(runs)} seeds, mean ± standard deviation: {', '.join(spread)}.", ""]


def _parts(rows: Rows, details: Mapping[str, Any]) -> list[str]:
    """The rows of further experiments, whose names have a slash."""
    lines = []
    for part in dict.fromkeys(name.split("/")[0] for name in rows if "/" in name):
        lines += [f"**{part}**", "", "| system | nDCG@10 |", "| --- | ---: |"]
        found = {name.split("/")[1]: row["ndcg@10"] for name, row in rows.items() if name.startswith(f"{part}/")}
        lines += [f"| {name} | {_cell(row)} |" for name, row in sorted(found.items(), key=lambda pair: -pair[1][0])]
        facts = details.get(part, {})
        pairs = [(own, *pair) for own, rest in facts["paired"].items() for pair in rest.items()]
        for own, other, row in pairs:
            if "ndcg@10" in row:
                mean, low, high = row["ndcg@10"]
                lines += ["", f"{own} ahead of {other}, paired: {mean:+.4f} ({low:+.4f}…{high:+.4f})."]
        if "share" in facts:
            share, low, high = facts["share"]
            lines += ["", f"The correction brings back {share:.0%} ({low:.0%}–{high:.0%}) of what bias costs."]
        if "kendall_tau" in facts:
            lines += [
                "",
                f"Joint, candidates arriving in {len(facts['arrivals'])} random orders: standard deviation of nDCG@10 "
                f"{facts['standard_deviation']:.4f}, Kendall's τ between its orders {facts['kendall_tau']:.3f}.",
            ]
        lines.append("")
    if "distance_closed" in details:
        shares = [f"{name} {value:.0%}" for name, value in details["distance_closed"].items()]
        lines += [f"Of the distance from first stage to lambdamart_match, closed: {', '.join(shares)}.", ""]
    return lines


def heading(metric: str) -> str:
    """`ndcg@10` as people write it."""
    name, _, cut = metric.partition("@")
    return f"{NAMES.get(name, name.upper())}{'@' + cut if cut else ''}"


def _cell(row: Sequence[float]) -> str:
    return f"{row[0]:.4f} ({row[1]:.3f}–{row[2]:.3f})" if len(row) > 1 else f"{row[0]:.3f}"


def read_results() -> dict[str, tuple[Rows, Mapping[str, Any]]]:
    """The result files that are there."""
    found = {}
    for name in TITLES:
        paths = [RESULTS / f"quality_{name}.json", RESULTS / f"quality_{name}_details.json"]
        if all(path.exists() for path in paths):
            rows, details = (json.loads(path.read_text(encoding="utf-8")) for path in paths)
            found[name] = (rows, details)
    return found


if __name__ == "__main__":
    PAGE.write_text(render(read_results()), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    start = text.index("| | first stage |")
    end = text.index("\n\n", start)
    README.write_text(text[:start] + readme_table(read_results()) + text[end:], encoding="utf-8")
