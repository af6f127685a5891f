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

import yaml

from benchmarks.harness import RESULTS

PAGE = Path(__file__).parent / "QUALITY.md"
TITLES = {
    "marketplace": "Simulated shop: nDCG of true utility, text alone",
    "beauty_search": "Amazon Beauty: the next purchase among 100 products of its query",
    "beauty_rerank": "Amazon Beauty: the next purchase among 100 products drawn by popularity, no query",
    "games": "Amazon Video Games: the next purchase among SASRec's 100",
    "collm": "MovieLens-1M as split by CoLLM: will this viewer like this film",
    "crowdflower": "CrowdFlower: judged search results, no shoppers",
    "homedepot": "Home Depot: judged search results, no shoppers",
}
NAMES = {"ndcg": "nDCG", "mrr": "MRR", "auc": "AUC", "uauc": "UAUC", "rmse": "RMSE", "recall": "Recall"}
SHOWN = ("ndcg@3", "ndcg@10", "mrr", "recall@10", "auc", "uauc", "rmse")
Rows = Mapping[str, Mapping[str, Sequence[float]]]
README = Path(__file__).parent.parent / "README.md"
RECIPES = Path(__file__).parent / "quality"
README_ROWS = {
    "marketplace": "simulated shop, gains of true utility",
    "beauty_search": "Amazon Beauty, search",
    "beauty_rerank": "Amazon Beauty, no query",
    "games": "Amazon Video Games, SASRec's 100",
    "homedepot": "Home Depot search, no shoppers",
    "crowdflower": "CrowdFlower search, no shoppers",
}
README_HEAD = (
    "| | first stage | LambdaMART | best other system | the ensemble alone | Reshelf without its score | Reshelf |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)
NOT_MEASURED = "not measured"
NO_RIVALS = ("reshelf", "best_possible", "teacher", "first_stage", "lambdamart_match")
"""Not among the other systems that a shop could run: Reshelf itself, and what reads the truth or stands apart."""


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
        "Ahead: Reshelf minus the system, paired list by list (shopper by shopper for UAUC). `teacher` is the LightGBM",
        "ensemble that `reshelf teach` trains on numbers and text statistics, for the reranker to learn from. On the",
        "Amazon, MovieLens and Home Depot sets the reranker also reads the teacher's score in its prompt, as it would",
        "a first stage's: whoever serves such a model has to run the ensemble on every list first. Cold shoppers'",
        "lists come without it. A row says what Reshelf reaches without that score, where it was measured. Bold: ahead",
        "of every other system, the teacher too, beyond the paired interval.",
        "",
    ]
    for name in TITLES:
        if name in results:
            lines += _section(name, *results[name])
    return "\n".join(lines)


def _section(name: str, rows: Rows, details: Mapping[str, Any]) -> list[str]:
    metrics = [m for m in SHOWN if any(m in row for row in rows.values())]
    paired = details["paired"]
    ahead = next(m for m in ("ndcg@10", "uauc") if any(m in row for row in paired.values()))
    lines = [f"## {TITLES[name]}", "", f"`{details['command']}`", ""]
    lines += [
        f"| system | {' | '.join(map(heading, metrics))} | ahead in {heading(ahead)} | seconds |",
        "| --- |" + " ---: |" * (len(metrics) + 2),
    ]
    main = "uauc" if ahead == "uauc" else metrics[0]
    own = [pair for pair in rows.items() if "/" not in pair[0]]
    for system, row in sorted(own, key=lambda pair: -pair[1].get(main, [0.0])[0]):
        gap = paired.get(system, {}).get(ahead)
        cells = [_cell(row[m]) if m in row else "" for m in metrics]
        cells += [f"{gap[0]:+.4f} ({gap[1]:+.4f}…{gap[2]:+.4f})" if gap else ""]
        cells += [f"{details['seconds'][system]:.0f}"]
        bold = system == "reshelf" and ahead_of_all(details, ahead)
        lines.append("| " + " | ".join([f"**{system}**" if bold else system, *cells]) + " |")
    if reads_teacher(name):
        cells = [without_teacher_score(details, m) if m == ahead else "" for m in metrics]
        lines.append("| " + " | ".join(["reshelf without the teacher's score", *cells, "", ""]) + " |")
    lines += ["", *_seeds(rows, metrics), *_parts(rows, details)]
    return lines


def ahead_of_all(details: Mapping[str, Any], metric: str) -> bool:
    """Whether Reshelf is ahead of every other system beyond the paired interval; further seeds are Reshelf, too."""
    others = {name: row for name, row in details["paired"].items() if not name.startswith(("reshelf", "best_possible"))}
    return all(row[metric][1] > 0 for row in others.values() if metric in row)


def reads_teacher(name: str) -> bool:
    """Whether the recipe's model reads the teacher's score in its prompt."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))
    return "teacher" in (recipe["model"]["prompt"].get("features") or [])


def without_teacher_score(details: Mapping[str, Any], metric: str = "ndcg@10") -> str:
    value = details.get("without_teacher_score", {}).get(metric)
    return NOT_MEASURED if value is None else f"{value:.3f}"


def readme_table(results: Mapping[str, tuple[Rows, Mapping[str, Any]]]) -> str:
    """The README's table of nDCG@10; bold where Reshelf is ahead of every other system beyond the paired interval."""
    lines = [README_HEAD]
    for name, title in README_ROWS.items():
        rows, details = results[name]
        found = {s: row["ndcg@10"] for s, row in rows.items() if "/" not in s and "ndcg@10" in row}
        others = {s: row for s, row in found.items() if s not in NO_RIVALS and not s.startswith("reshelf_")}
        best = max(others, key=lambda system: others[system][0])
        reads = reads_teacher(name)
        own = _short(found["reshelf"])
        cells = [
            f"{found['first_stage'][0]:.3f}",
            _short(found["lambdamart"]),
            "LambdaMART" if best == "lambdamart" else f"{best} {_short(others[best])}",
            _short(found["teacher"]) if "teacher" in found else NOT_MEASURED,
            without_teacher_score(details) if reads else own,
            ("" if not reads else f"**{own}**" if ahead_of_all(details, "ndcg@10") else own),
        ]
        if not reads and ahead_of_all(details, "ndcg@10"):
            cells[4] = f"**{own}**"
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def _short(row: Sequence[float]) -> str:
    return f"{row[0]:.3f} ({row[1]:.3f}–{row[2]:.3f})"


def _seeds(rows: Rows, metrics: Sequence[str]) -> list[str]:
    """The spread over seeds, where there are several."""
    runs = [row for name, row in rows.items() if name == "reshelf" or name.startswith("reshelf_seed")]
    if len(runs) < 2:
        return []
    spread = []
    for metric in metrics:
        values = [row[metric][0] for row in runs if metric in row]
        if len(values) == len(runs):
            spread.append(f"{heading(metric)} {statistics.mean(values):.4f} ± {statistics.stdev(values):.4f}")
    return [f"Reshelf over {len(runs)} seeds, mean ± standard deviation: {', '.join(spread)}.", ""]


def _parts(rows: Rows, details: Mapping[str, Any]) -> list[str]:
    """The rows of further experiments, whose names have a slash."""
    lines = []
    for part in dict.fromkeys(name.split("/")[0] for name in rows if "/" in name):
        lines += [f"**{part}**", "", "| system | nDCG@10 |", "| --- | ---: |"]
        found = {name.split("/")[1]: row["ndcg@10"] for name, row in rows.items() if name.startswith(f"{part}/")}
        lines += [f"| {name} | {_cell(row)} |" for name, row in sorted(found.items(), key=lambda pair: -pair[1][0])]
        facts = details.get(part, {})
        for other, row in facts.get("paired", facts).items():
            if isinstance(row, Mapping) and "ndcg@10" in row:
                mean, low, high = row["ndcg@10"]
                lines += ["", f"Ahead of {other}, paired: {mean:+.4f} ({low:+.4f}…{high:+.4f})."]
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
    return f"{NAMES.get(name, name)}{'@' + cut if cut else ''}"


def _cell(row: Sequence[float]) -> str:
    return f"{row[0]:.4f} ({row[1]:.3f}–{row[2]:.3f})"


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
    start = text.index(README_HEAD.split("\n")[0])
    end = text.index("\n\n", start)
    README.write_text(text[:start] + readme_table(read_results()) + text[end:], encoding="utf-8")
