"""`reshelf promote`: replaces the running reranker with a new one, if that is better on lists that were served.

reshelf promote runs/tonight/model --over runs/shop/model --data runs/tonight/data --propensities propensities.json

The lists are held-out ones with the places they were shown at, ordered by the running model. Both are judged by the
self-normalised inverse-propensity estimate of the discount that gain meets (`evaluation.counterfactual`), on the same
clicks, and the new one is promoted where the 95 % interval of the difference is above zero: a model that is no better
is promoted one time in forty.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from reshelf.data.atomic import check_replaceable, replace_folder, write_json
from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.propensity.file import read_propensities
from reshelf.data.schema import RankingList
from reshelf.errors import DivergedError, InputError
from reshelf.evaluation.counterfactual import snips_dcg
from reshelf.evaluation.reranker_system import finetuned
from reshelf.inference.engines.engine import EngineName
from reshelf.inference.ranking import NonFiniteScoreError
from reshelf.metrics.bootstrap import Interval, interval, resample
from reshelf.modeling.spec import SPEC_FILE, read_reranker
from reshelf.ranges import AT_LEAST_1, SEED, check_numbers

Scores = Sequence[npt.NDArray[np.floating]]
_RESAMPLES = 2000
PROMOTION = "promotion.json"
"""In the folder of a reranker that was promoted: why."""
_MADE = "made_ns"
"""Field of it: when the folder that it is a copy of was made."""
FEWEST = 100
"""Shoppers with a click: an interval of fewer is not one."""


@dataclass
class PromoteConfig:
    """Replace the running reranker with a new one, if it is better."""

    model: Path
    """The new reranker folder."""
    over: Path
    """The running one; `reshelf serve` sees within seconds that it is another."""
    data: Path
    """Data set folder with the places that lists were shown at (`reshelf data import --mapping served_lists`)."""
    propensities: Path
    """How likely each place is examined (`reshelf data propensities`)."""
    split: Literal["valid", "test"] = "test"
    """Lists that neither of the two was trained on."""
    k: int = 10
    """Places of the new order that count."""
    engine: EngineName = "auto"
    """What scores the lists."""
    trust_remote_code: bool = False
    """Run Python code that comes with a reranker; only for authors you trust. A reranker cannot ask for it."""
    seed: int = 0
    """Seed of the bootstrap."""
    out: Path | None = None
    """JSON file to write what was found to."""

    def __post_init__(self) -> None:
        check_numbers(self, {"k": AT_LEAST_1, "seed": SEED})


@dataclass(frozen=True)
class Improvement:
    """Of a new order over the running one."""

    new: float
    """Its estimate, in [0, 1]."""
    running: float
    """The running one's."""
    difference: Interval
    """new - running, with the bounds of a 95 % bootstrap interval over shoppers."""
    shoppers: int
    """With a click."""

    @property
    def is_sure(self) -> bool:
        """Whether there are enough shoppers, and the interval is above zero."""
        return self.shoppers >= FEWEST and self.difference.low > 0

    def sentence(self) -> str:
        """For people."""
        mean, low, high = self.difference
        found = f"new {self.new:.4f}, running {self.running:.4f}: {mean:+.4f} ({low:+.4f} to {high:+.4f})"
        return f"{found}, of {self.shoppers:,} shoppers with a click"


def promote(config: PromoteConfig) -> None:
    """Compare, and swap the folders where the new one is surely better. The running one is kept, as NAME.before.

    What promoted a reranker lies in its folder, as promotion.json, and comes with it: a call that was killed behind the
    swap and is repeated finds it there, and does not compare the new one with itself.

    Raises:
        InputError: a folder, a file or the lists cannot be used.
        DivergedError: one of the two gives scores that are no numbers.
    """
    if config.model.resolve() == config.over.resolve():
        raise InputError(f"{config.model} is the running reranker; give the folder of a new one")
    finish_promotion(config.over)
    check_replaceable(config.over)
    facts = _promotion_of(config.model, config.over)
    if facts is None:
        better = _compared(config)
        print(better.sentence())
        facts = {**asdict(better), "difference": better.difference._asdict(), "promoted": better.is_sure}
        if better.is_sure:
            _swap(config.model, config.over, facts)
    few = facts["shoppers"] < FEWEST
    why = f"it takes {FEWEST} shoppers with a click" if few else "it is not surely better"
    said = f"{config.model} is promoted to {config.over}"
    print(said if facts["promoted"] else f"not promoted, for {why}: {config.over} stays")
    if config.out is not None:
        write_json(config.out, facts)


def _compared(config: PromoteConfig) -> Improvement:
    """Both rerankers on the lists."""
    for folder in (config.model, config.over):
        read_reranker(folder, config.trust_remote_code)
    propensities = read_propensities(config.propensities)
    data = load_dataset_folder(config.data, [config.split])
    lists = [one for one in data.lists[config.split] if any(one.labels or ())]
    if not lists:
        raise InputError(f"{config.data}: no {config.split} list with a click; give another split, or more days")
    found = []
    for folder in (config.model, config.over):
        with finetuned(folder, data.items, config.engine, trust_remote_code=config.trust_remote_code) as system:
            try:
                found.append(system.scores(data, lists))
            except NonFiniteScoreError as error:
                said = f"nothing is promoted, for {folder} cannot be compared: {error}; finetune it again"
                raise DivergedError(said) from error
    return improvement(found[0], found[1], lists, propensities, config.k, config.seed)


def improvement(
    new: Scores, running: Scores, lists: Sequence[RankingList], propensities: npt.NDArray[np.float64], k: int = 10,
    seed: int = 0,
) -> Improvement:  # fmt: skip
    """How much better an order is than the one that is running.

    Args:
        new: of every list, one score per candidate.
        running: the same of the running model.
        lists: with labels and the places shown.
        propensities: float64 [places].
        k: places that count.
        seed: of the bootstrap.

    Raises:
        InputError: as `snips_dcg`.
    """
    estimates = [snips_dcg(scores, lists, propensities, k) for scores in (new, running)]
    weights = estimates[0].weights  # of the clicks, and so the same for both
    differences = np.nan_to_num(estimates[0].values - estimates[1].values)
    _, shopper = np.unique([one.user_id for one in lists], return_inverse=True)
    totals = np.bincount(shopper, weights)
    with np.errstate(invalid="ignore"):
        means = np.bincount(shopper, weights * differences) / totals
    draws = resample(len(totals), _RESAMPLES, seed)
    difference = interval(means, draws, list_weights=totals)
    return Improvement(estimates[0].estimate, estimates[1].estimate, difference, int((totals > 0).sum()))


def finish_promotion(running: Path) -> None:
    """Put the new reranker in its place where a call was killed in the moment without one, which file systems have that
    cannot exchange two names."""
    running = running.resolve()
    if not running.exists() and (_partial(running) / PROMOTION).is_file():  # the last file of a whole copy
        _partial(running).rename(running)


def _partial(running: Path) -> Path:
    return running.with_name(f".{running.name}.partial")


def _promotion_of(new: Path, running: Path) -> dict[str, Any] | None:
    """What promoted the new folder, where its copy is the running one already."""
    try:
        facts = json.loads((running / PROMOTION).read_text(encoding="utf-8"))
        made = (new / SPEC_FILE).stat().st_mtime_ns
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) and facts.pop(_MADE, None) == made else None


def _swap(new: Path, running: Path, facts: dict[str, Any]) -> None:
    """Replace the running folder, or what a link leads to, by a copy of the new one with what promoted it."""
    running = running.resolve()
    partial, before = _partial(running), running.with_name(f"{running.name}.before")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(new, partial)
        write_json(partial / PROMOTION, facts | {_MADE: (new / SPEC_FILE).stat().st_mtime_ns})
        replace_folder(partial, running, before)
    except OSError as error:
        raise InputError(f"cannot put {new} in the place of {running}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
