"""Numbers per candidate counted on how train lists ended: who likes more than others, and what is liked more.

    outcomes = Outcomes(train, categories);  outcomes.compute(lists, own=False)

approval           how much more often than expected an item was wanted where it was shown
leniency           how much more often than expected the shopper wanted what they were shown
expected           the share wanted of all that was shown, plus both: what to expect without a look at tastes
category_approval  mean approval of the item's categories
shown              log(1 + train lists that showed the item)
practice           log(1 + products the shopper was shown in train lists)

Approval and leniency are the biases of a baseline predictor (Koren, Bell and Volinsky, IEEE Computer 2009, eq. 1),
shrunk towards zero where little is known. A train list is scored as if it had never been shown: its own rows are taken
out of both sums. All but `leniency`, `expected` and `practice` tell the candidates of a list apart; those three tell
lists apart, for a probability that means the same for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reshelf.data.signals.event_log import Float64

OUTCOMES = ("approval", "leniency", "expected", "category_approval", "shown", "practice")
_ITEM_SHRINK = 10.0
_SHOPPER_SHRINK = 8.0
_ROUNDS = 10


@dataclass(frozen=True)
class Shown:
    """One list: who saw it, what was on it, and what was wanted."""

    shopper: str
    items: npt.NDArray[np.integer]
    """Rows of the catalogue."""
    wanted: npt.NDArray[np.bool_]
    """Label above 0."""


class Outcomes:
    """Biases of shoppers and items.

    Args:
        train: the train lists.
        categories: of every item in the catalogue.
    """

    def __init__(self, train: Sequence[Shown], categories: Sequence[Sequence[str]]) -> None:
        n = len(categories)
        self._codes = {name: code for code, name in enumerate(dict.fromkeys(one.shopper for one in train))}
        users = np.repeat([self._codes[one.shopper] for one in train], [len(one.items) for one in train]).astype(int)
        items = np.concatenate([one.items for one in train]).astype(int) if train else np.zeros(0, dtype=int)
        wanted = np.concatenate([one.wanted for one in train]).astype(np.float64) if train else np.zeros(0)
        self.mean = float(wanted.mean()) if len(wanted) else 0.0
        self._item_n = np.bincount(items, minlength=n).astype(np.float64)
        self._user_n = np.bincount(users, minlength=len(self._codes)).astype(np.float64)
        self._item_bias, self._user_bias = np.zeros(n), np.zeros(len(self._codes))
        for _ in range(_ROUNDS):
            self._item_sum = np.bincount(items, wanted - self.mean - self._user_bias[users], minlength=n)
            self._item_bias = self._item_sum / (self._item_n + _ITEM_SHRINK)
            self._user_sum = np.bincount(users, wanted - self.mean - self._item_bias[items], len(self._codes))
            self._user_bias = self._user_sum / (self._user_n + _SHOPPER_SHRINK)
        names = {name: code for code, name in enumerate(dict.fromkeys(c for path in categories for c in path))}
        self._categories = [np.array([names[c] for c in dict.fromkeys(path)], dtype=int) for path in categories]
        sums, counts = np.zeros(len(names)), np.zeros(len(names))
        for row, found in enumerate(self._categories):
            sums[found] += self._item_sum[row]
            counts[found] += self._item_n[row]
        self._category_bias = sums / (counts + _ITEM_SHRINK)

    def compute(self, lists: Sequence[Shown], own: bool) -> list[dict[str, Float64]]:
        """Every signal of `OUTCOMES` for every list, float64 [K] each.

        Args:
            own: the lists are among the train lists, so their own rows do not count.
        """
        return [self._one(one, own) for one in lists]

    def _one(self, one: Shown, own: bool) -> dict[str, Float64]:
        code = self._codes.get(one.shopper, -1)
        known = code >= 0
        user_sum, user_n = (self._user_sum[code], self._user_n[code]) if known else (0.0, 0.0)
        item_sum, item_n = self._item_sum[one.items], self._item_n[one.items]
        if own:
            rest = one.wanted - self.mean
            user_sum = user_sum - (rest - self._item_bias[one.items]).sum()
            user_n = user_n - len(one.items)
            item_sum, item_n = item_sum - (rest - self._user_bias[code]), item_n - 1
        approval = item_sum / (item_n + _ITEM_SHRINK)
        leniency = user_sum / (user_n + _SHOPPER_SHRINK)
        category = [self._category_bias[self._categories[row]].mean() if len(self._categories[row]) else 0.0
                    for row in one.items.tolist()]  # fmt: skip
        same = np.ones(len(one.items))
        return {
            "approval": approval,
            "leniency": same * leniency,
            "expected": self.mean + approval + leniency,
            "category_approval": np.array(category),
            "shown": np.log1p(item_n),
            "practice": same * np.log1p(user_n),
        }
