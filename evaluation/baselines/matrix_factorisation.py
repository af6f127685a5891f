"""Matrix factorisation of implicit feedback, with the shopper's vector made anew for every request.

    system = MatrixFactorisation();  system.fit(data);  system.scores(data, lists)

Alternating least squares of Hu, Koren and Volinsky (ICDM 2008) by the library `implicit` (extra: baselines). The items'
factors come from training; the shopper's are the solution of their equation 4 for the history that the request brings,
so a new shopper is like any other and an event counts as soon as it is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from typing import Any

import numpy as np
import scipy.sparse as sp
from threadpoolctl import threadpool_limits

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import RankingList
from reshelf.evaluation.baselines.collaborative import CollaborativeFilter, behaviour, candidate_places


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
class MatrixFactorisation(CollaborativeFilter[FactorSetting]):
    """ALS with folding-in. Raises ImportError where implicit is not installed."""

    search: Sequence[FactorSetting] = SEARCH
    factors: int = 64
    iterations: int = 12
    name: str = "matrix_factorisation"

    def count(self, taken: sp.csr_matrix) -> None:
        self._models: dict[FactorSetting, Any] = {}
        for _, same in groupby(self.search, lambda one: (one.regularisation, one.confidence)):
            settings = list(same)
            self._models |= dict.fromkeys(settings, self._factorised(taken, settings[0]))

    def fit(self, data: RankingData, advance: Callable[[int], None] | None = None) -> None:
        super().fit(data, advance)
        self._models = {self._setting: self._models[self._setting]}

    def _factorised(self, taken: sp.csr_matrix, setting: FactorSetting) -> Any:
        # Without other threads, the same seed gives the same factors; `implicit` asks for it of BLAS, too.
        with threadpool_limits(1, "blas"):
            from implicit.cpu.als import AlternatingLeastSquares

            model = AlternatingLeastSquares(
                self.factors, setting.regularisation, iterations=self.iterations, num_threads=1, random_state=self.seed
            )
            model.fit(_confident(taken, setting.confidence), show_progress=False)
        return model

    def raw(self, setting: FactorSetting, lists: Sequence[RankingList]) -> list[np.ndarray]:
        if not lists:
            return []
        model = self._models[setting]
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
