"""Matrix factorisation of implicit feedback, with the shopper's vector made anew for every request.

    system = MatrixFactorisation();  system.fit(data);  system.scores(data, lists)

Alternating least squares of Hu, Koren and Volinsky (ICDM 2008) by the library `implicit` (extra: baselines). The items'
factors come from training; the shopper's are the solution of their equation 4 for the history that the request brings,
so a new shopper is like any other and an event counts as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.collaborative import MIXES, behaviour, candidate_places, choose, interactions
from reshelf.evaluation.baselines.learning import useful


@dataclass(frozen=True)
class FactorSetting:
    """What the search varies. A new `decay` alone needs no new factors."""

    regularisation: float = 1.0
    confidence: float = 10.0
    """α: an interaction of strength r has confidence 1 + α·r, everything else 1 (the paper's section 4)."""
    decay: float = 0.8
    """Weight of an event over that of the next younger one."""


SEARCH = tuple(FactorSetting(*values) for values in product((0.1, 3.0), (3.0, 30.0), (0.8, 0.95)))


@dataclass
class MatrixFactorisation:
    """ALS with folding-in. Equal scores (an empty history, unknown items) keep first-stage order."""

    seed: int = 0
    factors: int = 64
    iterations: int = 12
    search: Sequence[FactorSetting] = SEARCH
    mixes: Sequence[float] = MIXES
    """Weights of the first stage to try; `(0.0,)` for the factors alone."""
    valid_lists: int = 500
    """Validation lists used, the first ones."""
    chosen: dict[str, Any] = field(default_factory=dict)
    """What the search chose."""
    name: str = "matrix_factorisation"

    def fit(self, data: RankingData, advance: Callable[[int], None] | None = None) -> None:
        """Factorise `data.lists["train"]`, choose on `data.lists["valid"]`.

        Train lists are not to be scored later: their targets have been counted.

        Raises:
            InputError: a split has no list with a label above 0.
            ImportError: implicit is not installed.
        """
        useful(data.lists.get("train", []), "train")
        valid = useful(data.lists.get("valid", []), "valid")[: self.valid_lists]
        self._place = {item: n for n, item in enumerate(data.items)}
        taken = interactions(data.lists["train"], self._place)
        models: dict[FactorSetting, Any] = {}
        for _, same in groupby(self.search, lambda one: (one.regularisation, one.confidence)):
            settings = list(same)
            models |= dict.fromkeys(settings, self._factorised(taken, settings[0]))

        def score(setting: FactorSetting) -> list[np.ndarray]:
            if advance:
                advance(len(valid))
            return self._raw(models[setting], setting, valid)

        self._setting, self._blend, found = choose(self.search, score, valid, self.mixes)
        self._model = models[self._setting]
        self.chosen = vars(self._setting) | found

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] per list."""
        return self._blend(self._raw(self._model, self._setting, lists))

    def _factorised(self, taken: sp.csr_matrix, setting: FactorSetting) -> Any:
        # Without other threads, the same seed gives the same factors; `implicit` asks for it of BLAS, too.
        with threadpool_limits(1, "blas"):
            from implicit.cpu.als import AlternatingLeastSquares

            model = AlternatingLeastSquares(
                self.factors, setting.regularisation, iterations=self.iterations, num_threads=1, random_state=self.seed
            )
            model.fit(_confident(taken, setting.confidence), show_progress=False)
        return model

    def _raw(self, model: Any, setting: FactorSetting, lists: Sequence[RankingList]) -> list[np.ndarray]:
        if not lists:
            return []
        confidences = _confident(behaviour(lists, self._place, setting.decay), setting.confidence)
        with threadpool_limits(1, "blas"):
            shoppers = model.recalculate_user(np.arange(len(lists)), confidences)
        result = []
        for shopper, one in zip(shoppers, lists, strict=True):
            known, places = candidate_places(one, self._place)
            values = np.zeros(len(known))
            values[known] = model.item_factors[places] @ shopper
            result.append(values)
        return result


def _confident(strengths: sp.csr_matrix, confidence: float) -> sp.csr_matrix:
    """float32: 1 + α·r where there is an interaction."""
    result = strengths.astype(np.float32)
    result.sum_duplicates()
    result.data = 1 + confidence * result.data
    return result
