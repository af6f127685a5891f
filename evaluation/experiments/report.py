"""`reshelf experiment report`: which arm was better, how sure that is, and how many shoppers it takes.

reshelf experiment report --served runs/served --events events.csv --outcome purchase
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from gettext import NullTranslations
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.stats import chisquare

from reshelf.data.atomic import write_json
from reshelf.errors import InputError
from reshelf.evaluation.experiments.arms import compare_arms
from reshelf.evaluation.experiments.outcomes import ExperimentLists, read_outcomes
from reshelf.evaluation.experiments.preference import preference
from reshelf.metrics.bootstrap import Interval
from reshelf.ranges import POSITIVE, check_numbers
from reshelf.translation import gettext_noop, translations

_LISTS_WITH = {
    "click": gettext_noop("lists with a click"),
    "cart": gettext_noop("lists with a cart"),
    "purchase": gettext_noop("lists with a purchase"),
}
_PICKS_HAD = {
    "click": gettext_noop("whose picks had more clicks"),
    "cart": gettext_noop("whose picks had more carts"),
    "purchase": gettext_noop("whose picks had more purchases"),
}
_MUCH = 0.1
"""Share of the lists with the outcome that is too much for one shopper."""
_ROUNDING = 1e-6
"""By which shares that are all there may not add up to 1."""
_UNEVEN = 0.001
"""Below this p, shoppers are not split as they were to be: something is wrong with the experiment."""


@dataclass
class ExperimentReportConfig:
    """Say which arm of an experiment was better."""

    served: Path
    """Folder of the served-list log (`reshelf serve --served_lists`)."""
    events: Path
    """CSV or Parquet file of what shoppers did: `item_id`, `kind`, and `list_id` (the reply's `id`) or `user_id` and
    `time`."""
    experiment: str = ""
    """Its name; may be left out where the log has only one."""
    outcome: Literal["click", "cart", "purchase"] = "click"
    """What counts as success; a purchase is a click and a cart too."""
    control: str = ""
    """Arm that the others are compared with; where not given, the experiment's first."""
    effect: float = 0.05
    """Smallest difference worth finding, for the number of shoppers: relative change of the rate (0.05: from 10 % to
    10.5 %); interleaved, distance of the preference from one half (0.05: 55 to 45)."""
    out: Path | None = None
    """JSON file to write the report to."""

    def __post_init__(self) -> None:
        check_numbers(self, {"effect": POSITIVE})


def report_experiment(config: ExperimentReportConfig) -> None:
    """Print the report, and write it.

    Raises:
        InputError: see `read_outcomes`; or there is no such control, or an arm has too few shoppers.
    """
    lists = read_outcomes(config.served, config.events, config.outcome, config.experiment)
    found = experiment_report(lists, config.effect, config.control) | {"outcome": config.outcome}
    say = translations(lists.language)
    Console().print(_preferred(found, say) if lists.interleaved else _compared(found, say))
    for note in found["notes"]:
        print(note)
    if config.out is not None:
        write_json(config.out, found)


def experiment_report(lists: ExperimentLists, effect: float, control: str = "") -> dict[str, Any]:
    """The whole report; NaN is None in it.

    Raises:
        InputError: there is no such control, fewer than two arms were served, an arm has fewer than two shoppers, or
            the effect is impossible.
    """
    if control and control not in lists.arms:
        raise InputError(f"experiment {lists.name} has no arm {control!r}; it has {', '.join(lists.arms)}")
    if len(lists.arms) < 2:
        raise InputError(f"experiment {lists.name}: only {', '.join(lists.arms) or 'no arm'} was served")
    _ = translations(lists.language).gettext
    names = [control or lists.arms[0], *(arm for arm in lists.arms if arm != (control or lists.arms[0]))]
    found: dict[str, Any] = {
        "experiment": lists.name, "interleaved": lists.interleaved, "control": names[0], "effect": effect,
        "events": lists.events, "matched_events": lists.matched, "fallbacks": int(lists.fallbacks.sum()), "notes": [],
    }  # fmt: skip
    found |= _preference_of(lists, names, effect) if lists.interleaved else _arms_of(lists, names, effect)
    text = _("{matched:,} products of its lists had the outcome; the events tell of {events:,}")
    found["notes"].insert(0, text.format(matched=lists.matched, events=lists.events))
    if found["shoppers_needed"] and found["shoppers"] < found["shoppers_needed"]:
        text = _(
            "{shoppers:,} of {needed:,} shoppers: a difference of this size may not be seen yet, and looking until one "
            "is seen finds one that is not there"
        )
        found["notes"].append(text.format(shoppers=found["shoppers"], needed=found["shoppers_needed"]))
    if lists.interleaved and lists.not_interleaved:
        text = _("{lists:,} lists left out: the second order was not there in time")
        found["notes"].append(text.format(lists=lists.not_interleaved))
    return _without_nan(found)


def _arms_of(lists: ExperimentLists, names: list[str], effect: float) -> dict[str, Any]:
    order = [lists.arms.index(name) for name in names]
    arm_of = np.argsort(order)[lists.arm]  # the control is 0
    counts = np.zeros((int(lists.shopper.max()) + 1, len(names)), dtype=np.int64)
    np.add.at(counts, (lists.shopper, arm_of), 1)
    moved = (counts > 0).sum(axis=1) > 1
    arms = counts.argmax(axis=1)[~moved]
    successes = np.bincount(lists.shopper, lists.successes > 0).astype(np.int64)[~moved]
    shoppers = len(arms)
    for n, name in enumerate(names):
        if (arms == n).sum() < 2:
            others = f" but the {moved.sum():,} who were in two arms, as after a renaming" if moved.any() else ""
            raise InputError(f"experiment {lists.name}: arm {name} has fewer than two shoppers{others}")
    found = compare_arms(successes, counts.sum(axis=1)[~moved], arms, 0, effect)
    split = np.bincount(arms, minlength=len(names))
    shares = np.array([lists.shares[name] for name in names])
    seen, meant = split, shares
    if (absent := 1 - shares.sum()) > _ROUNDING:  # of an arm that has no list at all
        seen, meant = np.append(split, 0), np.append(shares, absent)
    uneven = float(chisquare(seen, meant / meant.sum() * shoppers).pvalue)
    by_arm = {difference.arm: difference for difference in found.differences}
    result: dict[str, Any] = {"shoppers": shoppers, "lists": len(lists.arm), "split_p": uneven, "notes": []}
    _ = translations(lists.language).gettext
    if moved.any():
        text = _("{shoppers:,} shoppers left out: in two arms, as after a change of the shares")
        result["notes"].append(text.format(shoppers=moved.sum()))
    if uneven < _UNEVEN:
        text = _(
            "shoppers are not split as they were to be (p = {p:.1g}): lists are missing, or the shares were changed "
            "meanwhile; the comparison cannot be trusted"
        )
        result["notes"].append(text.format(p=uneven))
    if successes.max() > _MUCH * successes.sum():
        text = _(
            "one shopper has {share:.0%} of the lists with the outcome: if that is a robot, a rate is mostly its own"
        )
        result["notes"].append(text.format(share=successes.max() / successes.sum()))
    result["arms"] = [
        {
            "arm": name, "shoppers": rate.shoppers, "lists": rate.lists, "rate": rate.rate._asdict(),
            "fallbacks": int((lists.fallbacks & (arm_of == n)).sum()),
        }
        | ({} if n == 0 else {"difference": by_arm[n].absolute._asdict(), "relative": by_arm[n].relative._asdict()})
        | ({} if n == 0 else {"p": by_arm[n].p})
        for n, (name, rate) in enumerate(zip(names, found.rates, strict=True))
    ]  # fmt: skip
    needed = None
    if found.shoppers_per_arm is not None:  # the smallest arm must have them
        needed = math.ceil(found.shoppers_per_arm / shares.min() * shares.sum())
    return result | {"shoppers_needed": needed}


def _preference_of(lists: ExperimentLists, names: list[str], effect: float) -> dict[str, Any]:
    if len(names) > 2:
        raise InputError(
            f"experiment {lists.name}: lists are interleaved of {len(names)} arms, {', '.join(names)}, as after a "
            "renaming; copy the log's files of before or after it, and `_key`, into a folder, and give --served of that"
        )
    if effect >= 0.5:
        raise InputError(f"effect is {effect}; interleaved, it is the distance from one half: give less than 0.5")
    first, second = (lists.successes[:, lists.arms.index(name)] for name in names)
    won = np.sign(second - first)
    net = np.bincount(lists.shopper, won, minlength=int(lists.shopper.max()) + 1).astype(np.int64)
    found = preference(net, effect)
    return {
        "shoppers": len(net), "lists": len(won), "arms": names, "wins": [int((won < 0).sum()), int((won > 0).sum())],
        "ties": int(((won == 0) & (first > 0)).sum()), "without_outcome": int(((first == 0) & (second == 0)).sum()),
        "shoppers_who_prefer": [found.first, found.second], "preference": found.share._asdict(), "p": found.p,
        "shoppers_needed": found.shoppers_needed, "notes": [],
    }  # fmt: skip


def _compared(found: Mapping[str, Any], say: NullTranslations) -> Table:
    _ = say.gettext
    table = _table(found, _(_LISTS_WITH[found["outcome"]]), say)
    against = _("against {control}").format(control=found["control"])
    for n, name in enumerate((_("arm"), _("shoppers"), _("lists"), _("rate"), against, "p")):
        table.add_column(name, justify="right" if n else "left")
    for arm in found["arms"]:
        row = [arm["arm"], f"{arm['shoppers']:,}", f"{arm['lists']:,}", _percent(arm["rate"])]
        row += ["", ""] if "p" not in arm else [_percent(arm["relative"], "+"), f"{arm['p']:.2g}"]
        table.add_row(*row)
    return table


def _preferred(found: Mapping[str, Any], say: NullTranslations) -> Table:
    _ = say.gettext
    table = _table(found, _(_PICKS_HAD[found["outcome"]]), say)
    for n, name in enumerate((_("arm"), _("lists won"), _("shoppers who prefer it"), _("share"), "p")):
        table.add_column(name, justify="right" if n else "left")
    for n, name in enumerate(found["arms"]):
        row = [name, f"{found['wins'][n]:,}", f"{found['shoppers_who_prefer'][n]:,}"]
        row += ["", ""] if n == 0 or found["preference"]["mean"] is None else [
            _percent(found["preference"]), f"{found['p']:.2g}"
        ]  # fmt: skip
        table.add_row(*row)
    return table


def _table(found: Mapping[str, Any], what: str, say: NullTranslations) -> Table:
    needed = found["shoppers_needed"]
    size = ""
    if needed is not None:
        text = say.gettext("; an effect of {effect:g} takes {needed:,} shoppers")
        size = text.format(effect=found["effect"], needed=needed)
    text = say.gettext("{lists:,} lists of {shoppers:,} shoppers, {fallbacks:,} in first-stage order")
    caption = text.format(**{name: found[name] for name in ("lists", "shoppers", "fallbacks")})
    return Table(title=f"{found['experiment']}: {what}", caption=caption + size, box=box.SIMPLE_HEAD)


def _percent(interval: Mapping[str, float | None], sign: str = "") -> str:
    found = Interval(**interval)  # type: ignore[arg-type]
    if found.mean is None:
        return "-"
    return f"{100 * found.mean:{sign}.2f} % ({100 * found.low:{sign}.2f}…{100 * found.high:{sign}.2f})"


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
