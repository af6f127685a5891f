"""From scores to the numbers of a quality table: metrics with intervals, paired differences, RMSE after calibration.

result = table(made, data.lists["test"], ks=[10]);  result["reshelf"]["ndcg@10"]       # [mean, low, high]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from rich import box
from rich.console import Console
from rich.table import Table
from sklearn.isotonic import IsotonicRegression

from benchmarks.harness import RESULTS
from benchmarks.quality_systems import Made
from reshelf.data.atomic import write_json
from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.evaluation.measure import Truth, summarise
from reshelf.metrics.average_precision import average_precision
from reshelf.metrics.bootstrap import interval, resample
from reshelf.metrics.ordering import best_first

RESAMPLES = 2000
OWN = "reshelf"
"""Rows whose names begin so are Reshelf's."""
WHOLE = ("auc", "uauc")
"""Metrics that are not of single lists."""
Row = list[float]


def table(
    made: Mapping[str, Made], lists: Sequence[RankingList], ks: Sequence[int], map_at: int = 0
) -> dict[str, dict[str, Row]]:
    """system -> metric -> [mean, low, high] on the test lists; 95 % bootstrap over lists.

    `map_at` adds MAP at that cut and HR@1.

    Where every list holds one candidate, only AUC and UAUC mean anything; where there is one user, UAUC does not.
    """
    truth = Truth.of(lists)
    result: dict[str, dict[str, Row]] = {name: {} for name in made}
    for k in ks:
        measured = {name: one.measure(truth, k) for name, one in made.items()}
        summary = summarise(measured, truth, k, RESAMPLES, 0)
        for name, bounds in summary["intervals"].items():
            means = summary["systems"][name]
            known = {m: [means[m], *bounds[m]] for m in bounds if means[m] is not None}
            result[name] |= {m: known[m] for m in meant(lists, known)}
    for name, one in made.items() if map_at else ():
        for metric, values in first_places(one, truth, map_at).items():
            result[name][metric] = list(interval(values, resample(len(values), RESAMPLES, 0)))
    return result


def first_places(one: Made, truth: Truth, map_at: int) -> dict[str, np.ndarray]:
    """MAP at a cut and HR@1, float64 [lists]."""
    assert truth.labels is not None
    pairs = list(zip(one.scores["test"], truth.labels, strict=True))
    least = truth.relevant_from
    return {
        f"map@{map_at}": np.array([average_precision(s, y, map_at, least) for s, y in pairs]),
        "hr@1": np.array([float(y[best_first(s)[0]] >= least) for s, y in pairs]),
    }


def meant(lists: Sequence[RankingList], metrics: Iterable[str]) -> list[str]:
    """Those of the metrics that mean something on these lists."""
    out = {"uauc"} if len({one.user_id for one in lists}) == 1 else set()
    return [m for m in metrics if m not in out and (m in WHOLE or not singles(lists))]


def singles(lists: Sequence[RankingList]) -> bool:
    return all(len(one.candidates) == 1 for one in lists)


def differences(made: Mapping[str, Made], lists: Sequence[RankingList], main: str) -> dict[str, dict[str, Row]]:
    """other system -> metric -> [mean, low, high] of `main` minus it: paired by list, for UAUC by shopper."""
    truth = Truth.of(lists)
    measured = {name: one.measure(truth, 10) for name, one in made.items()}
    ours = measured[main]
    per_list = meant(lists, [m for m in ("ndcg@10", "mrr") if m in ours.per_list])
    per_user = meant(lists, ours.per_user)
    result: dict[str, dict[str, Row]] = {}
    for name, other in measured.items():
        if name == main:
            continue
        found = {m: ours.per_list[m] - other.per_list[m] for m in per_list}
        found |= {m: ours.per_user[m] - other.per_user[m] for m in per_user}
        result[name] = {
            m: list(interval(values, resample(len(values), RESAMPLES, 0)))
            for m, values in found.items()
            if not np.isnan(values).all()
        }
    return result


def relevance_of(root: Path, lists: Sequence[RankingList]) -> np.ndarray:
    """Home Depot's mean relevance of every candidate, 1 to 3, as its raters gave it: float64 [all candidates]."""
    columns = pq.read_table(root / "homedepot_search" / "pairs.parquet", columns=["query", "item_id", "relevance"])
    given = {
        (query, str(item)): value
        for query, item, value in zip(*(columns[name].to_pylist() for name in columns.column_names), strict=True)
    }
    return np.array([given[one.query, item] for one in lists for item in one.candidates])


def rmse(made: Made, truth: Mapping[str, np.ndarray], data: RankingData) -> Row:
    """Root mean squared error of test scores turned into relevance by an isotonic fit on the validation lists."""
    fitted = IsotonicRegression(out_of_bounds="clip").fit(np.concatenate(made.scores["valid"]), truth["valid"])
    errors = (fitted.predict(np.concatenate(made.scores["test"])) - truth["test"]) ** 2
    sizes = np.array([len(one.candidates) for one in data.lists["test"]])
    sums = np.add.reduceat(errors, np.cumsum([0, *sizes[:-1]]))
    weights = resample(len(sizes), RESAMPLES, 0).astype(np.float64)
    means = np.sqrt((weights @ sums) / (weights @ sizes))
    return [float(np.sqrt(errors.mean())), *np.quantile(means, [0.025, 0.975]).tolist()]


def write(name: str, result: Mapping[str, Any], details: Mapping[str, Any]) -> None:
    """`results/quality_NAME.json`, the table, and `results/quality_NAME_details.json`, the rest."""
    for stem, content in ((f"quality_{name}", result), (f"quality_{name}_details", details)):
        write_json(RESULTS / f"{stem}.json", content)


def show(result: Mapping[str, Mapping[str, Row]], details: Mapping[str, Any], console: Console) -> None:
    """The table on the screen, best system last, with what the first of Reshelf's rows is ahead of each.

    80 columns hold the main metric with its interval, and the mean of some others; the rest is in the result file.
    """
    metrics = list(dict.fromkeys(m for row in result.values() for m in row))
    own, paired = next(iter(details["paired"].items()))
    ahead = next(m for m in ("ndcg@10", "uauc") if any(m in row for row in paired.values()))
    main = ahead if ahead == "uauc" else metrics[0]
    view = Table(box=box.SIMPLE_HEAD, title=details["command"], caption=f"{own} ahead: paired difference in {ahead}")
    shown = [m for m in metrics if m == main or not m.startswith(("ndcg", "recall"))][:5]
    view.add_column("system", overflow="fold", min_width=15)
    for head in (*shown, "ahead"):
        view.add_column(head, justify="right", no_wrap=True)
    for name, row in sorted(result.items(), key=lambda pair: pair[1].get(main, [0.0])[0]):
        between = {main: f"\n{row[main][1]:.3f}–{row[main][2]:.3f}"} if main in row else {}
        gap = paired.get(name, {}).get(ahead)
        view.add_row(
            name,
            *(f"{row[m][0]:.4f}{between.get(m, '')}" if m in row else "" for m in shown),
            f"{gap[0]:+.4f}\n{gap[1]:+.3f}…{gap[2]:+.3f}" if gap else "",
            style="bold" if name.startswith(OWN) else "",
        )
    console.print(view)
