"""How likely a shopper examines each place of a list, estimated from the clicks of a data set.

    reshelf data propensities --data runs/shop --out propensities.json
    propensities = by_em(data.lists["train"], data.items)      # float64 [places]; propensities[0] is 1

All three ways take the position-based model (Craswell et al., WSDM 2008): a click is examination of the place times the
attraction of the product, P(click) = p(place) · a(shopper, query, product), and only ratios of p can be known, so that
p(1) = 1. They differ in how they tell p from a:

by_randomisation  lists shown in random order: every place had the same products on average (Joachims et al., 2017)
by_em             any lists; a is a function of what is known of the candidate, learned along with p (`regression_em`)
by_intervention   logs in which the same product came up for the same query at several places (Agarwal et al., 2019)

A click is a label of 1 or more. Places with few clicks are pooled: from the last one on they are joined with the
places before them into bins of at least `least` clicks, which share one value. Unless `falling` is switched off, the
values are made non-increasing by isotonic regression, weighted by how often a place was shown: the model does not ask
for it, but shoppers read from the top, and it takes noise out. Lists without a click belong to it: where they were
left out, as in the simulator's train split, a place that had little to offer lost more of its unclicked shows than
others (lists in random order do not mind).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.sparse as sp
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.propensity.file import write_propensities
from reshelf.data.propensity.regression_em import TOLERANCE, alternate, candidate_features
from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.ranges import AT_LEAST_1, SEED, check_numbers

LEAST = 50
"""Clicks that a bin of places needs."""
_SMALLEST = 1e-4
_SUSPICIOUS = 5.0
"""Standard errors by which lists shown at random may agree with the first stage."""
Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]


@dataclass
class PropensityConfig:
    """Options of `reshelf data propensities`."""

    data: Path
    """Data set folder."""
    split: str = "train"
    """Split to read: train, valid or test. Better one that kept its lists without a click."""
    out: Path = Path("propensities.json")
    """File to write."""
    method: Literal["em", "randomised", "intervention"] = "em"
    """How examination is told from attraction: em (any lists), randomised (lists shown in random order) or
    intervention (the same product for the same query at several positions)."""
    lists: Path | None = None
    """Text file with the ids of the lists to use, one a line, such as the simulator's randomised.txt; default all."""
    least: int = LEAST
    """Clicks that a position needs to get an estimate of its own; one with fewer shares that of those before it."""
    falling: bool = True
    """No position is examined more than those before it."""
    seed: int = 0
    """Seed of the model of attraction (em)."""

    def __post_init__(self) -> None:
        check_numbers(self, {"least": AT_LEAST_1, "seed": SEED})


@dataclass(frozen=True)
class ShownRows:
    """One row per candidate shown, all lists one after the other."""

    place: Int64
    """1-based, [N]."""
    clicked: npt.NDArray[np.bool_]
    """[N]."""
    group: Int64
    """For every place its group, [places], from 0 in steps of 0 or 1."""

    @property
    def shown_at(self) -> Int64:
        """How often each place was shown, [places]."""
        return np.bincount(self.place - 1, minlength=len(self.group))

    @property
    def clicks_at(self) -> Int64:
        """Clicks by place, [places]."""
        return np.bincount(self.place[self.clicked] - 1, minlength=len(self.group))

    @property
    def rows(self) -> Int64:
        """The group of every row, [N]."""
        return self.group[self.place - 1]


def estimate(config: PropensityConfig) -> None:
    """Estimate, print a table and write the file.

    Raises:
        InputError: the data set lacks what the method needs, or the file of ids names lists that are not there.
    """
    data = load_dataset_folder(config.data, [config.split])
    lists = data.lists[config.split]
    if config.lists is not None:
        lists = chosen(lists, config.lists)
    shown = rows_of(lists, config.least)
    if config.method == "em":
        changes: list[float] = []
        with Progress(transient=True) as progress:
            task = progress.add_task("EM", total=None)

            def report(step: int, change: float) -> None:
                changes.append(change)
                progress.update(task, description=f"EM step {step}, largest change {change:.4f}")

            propensities = by_em(lists, data.items, config.least, config.falling, config.seed, report)
        if changes and changes[-1] >= TOLERANCE:
            print(f"EM had not settled after {len(changes)} steps; the last one changed a value by {changes[-1]:.3f}")
    else:
        method = by_randomisation if config.method == "randomised" else by_intervention
        propensities = method(lists, config.least, config.falling)
    table = Table(title=f"Examination by position, from {len(lists):,} lists ({config.method})")
    for name in ("position", "clicks", "shown", "click rate", "estimate"):
        table.add_column(name, justify="right")
    for place, (clicks, times, value) in enumerate(zip(shown.clicks_at, shown.shown_at, propensities), 1):
        table.add_row(str(place), f"{clicks:,}", f"{times:,}", f"{clicks / max(times, 1):.4f}", f"{value:.3f}")
    Console().print(table)
    write_propensities(config.out, propensities)
    print(f"{config.out}: {len(propensities)} positions")


def chosen(lists: Sequence[RankingList], path: Path) -> list[RankingList]:
    """The lists whose ids stand in the file, one a line. Ids of other splits may be among them.

    Raises:
        InputError: the file cannot be read, or no list of it is there.
    """
    try:
        wanted = set(path.read_text(encoding="utf-8").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}); give a text file with one list_id a line") from error
    found = [r for r in lists if r.list_id in wanted]
    if not found:
        raise InputError(f"{path} names no list of the split; give one list_id a line")
    return found


def rows_of(lists: Sequence[RankingList], least: int = LEAST) -> ShownRows:
    """The shown candidates of all lists.

    Raises:
        InputError: a list has no labels or no places, place 1 was never shown, or there is no click.
    """
    for ranking in lists:
        if ranking.labels is None or ranking.positions is None:
            what = "labels" if ranking.labels is None else "positions"
            raise InputError(f"list {ranking.list_id}, field {what}: missing; it takes lists with clicks and places")
    place = np.array([p for r in lists for p in r.positions or ()], dtype=np.int64)
    clicked = np.array([label > 0 for r in lists for label in r.labels or ()], dtype=bool)
    if not clicked.any():
        raise InputError(f"there is no click in {len(lists)} lists; propensities need lists with clicks")
    if place.min() > 1:
        raise InputError(f"place 1 was never shown, the first is {place.min()}; propensities are relative to place 1")
    return ShownRows(place, clicked, _groups(np.bincount(place[clicked] - 1, minlength=int(place.max())), least))


def _groups(clicks: Int64, least: int) -> Int64:
    """Join places from the last one on until a group has `least` clicks; the first group may have to take one more."""
    group, now, held = np.zeros(len(clicks), dtype=np.int64), 0, 0
    for place in range(len(clicks) - 1, -1, -1):
        if held >= max(least, 1):
            now, held = now + 1, 0
        group[place] = now
        held += int(clicks[place])
    if held < max(least, 1) and now:
        group[group == now] = now - 1
    return group.max() - group


def by_randomisation(lists: Sequence[RankingList], least: int = LEAST, falling: bool = True) -> Float64:
    """Click rate of a place against that of place 1, from lists that were shown in random order.

    Returns:
        float64 [places] in (0, 1], the first one 1.

    Raises:
        InputError: as `rows_of`; or the shown order follows the first stage's, so that it was not random.
    """
    shown = rows_of(lists, least)
    _check_random(lists)
    clicks = np.bincount(shown.rows[shown.clicked], minlength=shown.group[-1] + 1)
    return _finished(clicks / np.bincount(shown.rows), shown, falling)


def _check_random(lists: Sequence[RankingList]) -> None:
    """Sum of Spearman correlations with first-stage order; under random order each has variance 1 / (K - 1)."""
    agreement = variance = 0.0
    for ranking in lists:
        n = len(ranking.candidates)
        if n > 1:
            ranks = np.argsort(np.argsort(ranking.positions or ()))
            agreement += float(np.corrcoef(ranks, np.arange(n))[0, 1])
            variance += 1 / (n - 1)
    if variance and abs(agreement) > _SUSPICIOUS * variance**0.5:
        raise InputError(
            f"the {len(lists)} lists were not shown in random order (mean rank correlation with the first stage "
            f"{agreement / len(lists):.2f}); name those that were with `lists`, or take another method"
        )


def by_em(
    lists: Sequence[RankingList],
    items: Mapping[str, Item],
    least: int = LEAST,
    falling: bool = True,
    seed: int = 0,
    report: Callable[[int, float], None] | None = None,
) -> Float64:
    """Regression EM: propensities and attraction learned in turns, from lists shown in any order.

    It needs products alike in all that is known of them to come up at different places. They do, as a place depends on
    the rest of the list too; where it does not, the method says so and stops.

    Args:
        items: the catalogue.
        seed: the same seed gives the same values.
        report: called after every step with its number and the largest change of a value.

    Returns:
        float64 [places] in (0, 1], the first one 1.

    Raises:
        InputError: as `rows_of`; or the place of a candidate follows from what is known of it.
    """
    shown = rows_of(lists, least)
    values = alternate(candidate_features(lists, items), shown.rows, shown.clicked, seed, report)
    return _finished(values, shown, falling)


def by_intervention(lists: Sequence[RankingList], least: int = LEAST, falling: bool = True) -> Float64:
    """Intervention harvesting, AllPairs (Agarwal et al., WSDM 2019, section 4): the same product for the same query at
    places k and k' is as attractive at either, so that its click rates tell p(k) : p(k').

    For every two (groups of) places, ĉ(k; k, k') sums over the products shown at both their click rate at k, times how
    often the product was shown at all (the paper has them count alike; rates of few are noisy). The values maximise
    Σ ĉ · log(p(k) r(k, k')) + (n - ĉ) · log(1 - p(k) r(k, k')), with the products' weight n and a free mean attraction
    r(k, k') = r(k', k) of each pair.

    Returns:
        float64 [places] in (0, 1], the first one 1.

    Raises:
        InputError: as `rows_of`; or places that no chain of products links to place 1.
    """
    shown = rows_of(lists, least)
    n_groups = int(shown.group[-1]) + 1
    codes: dict[tuple[str, str], int] = {}
    product = np.array([codes.setdefault((r.query, c), len(codes)) for r in lists for c in r.candidates])
    shape = (len(codes), n_groups)
    times = sp.coo_matrix((np.ones(len(product)), (product, shown.rows)), shape=shape).tocsr()
    clicks = sp.coo_matrix((shown.clicked.astype(np.float64), (product, shown.rows)), shape=shape).tocsr()
    times.sum_duplicates()
    there, inverse = times.copy(), times.copy()
    there.data[:] = 1.0
    inverse.data[:] = 1 / times.data
    weighted = sp.diags(np.asarray(times.sum(axis=1)).ravel()) @ there
    both = (there.T @ weighted).toarray()
    rates = (clicks.multiply(inverse).T @ weighted).toarray()  # [k, k']
    np.fill_diagonal(both, 0.0)
    np.fill_diagonal(rates, 0.0)
    linked, of = sp.csgraph.connected_components(sp.csr_matrix(both > 0), directed=False)
    if linked > 1:
        lone = int(np.flatnonzero((of != of[0])[shown.group])[0]) + 1
        raise InputError(
            f"nothing that was shown at place {lone} links it to place 1 (the same product for the same query at other "
            "places); take method em, or give more lists"
        )
    return _finished(_all_pairs(both, rates), shown, falling)


def _all_pairs(both: Float64, rates: Float64) -> Float64:
    """Maximise the AllPairs likelihood; float64 [groups], relative."""
    n = len(both)
    upper = np.triu_indices(n, 1)
    pair = np.zeros((n, n), dtype=np.int64)
    pair[upper] = np.arange(len(upper[0]))
    pair = np.maximum(pair, pair.T)

    def loss(u: Float64) -> tuple[float, Float64]:
        p, r = expit(u[:n]), expit(u[n:])[pair] if n > 1 else np.zeros((1, 1))
        z = np.clip(p[:, None] * r, 1e-12, 1 - 1e-12)
        value = -(rates * np.log(z) + (both - rates) * np.log1p(-z)).sum()
        slope = -(rates - (both - rates) * z / (1 - z))  # times z's logarithmic derivative
        by_pair = np.bincount(pair.ravel(), (slope * (1 - r)).ravel(), minlength=len(upper[0]))[: len(upper[0])]
        scale = max(both.sum(), 1.0)
        return value / scale, np.concatenate([slope.sum(axis=1) * (1 - p), by_pair]) / scale

    start = np.concatenate([np.zeros(n), np.full(len(upper[0]), -1.0)])
    limits = {"maxiter": 5000, "maxfun": 10000, "ftol": 1e-13, "gtol": 1e-9}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=limits)
    return expit(found.x[:n])


def _finished(by_group: Float64, shown: ShownRows, falling: bool) -> Float64:
    """From a value per group, relative or not, to one per place: non-increasing if asked for, the first one 1."""
    values = by_group[shown.group]
    if falling:
        isotonic = IsotonicRegression(increasing=False)
        values = isotonic.fit_transform(np.arange(len(values)), values, sample_weight=np.maximum(shown.shown_at, 1e-9))
    result = np.clip(values / values[0], _SMALLEST, 1.0)
    result[0] = 1.0
    return np.asarray(result, dtype=np.float64)
