"""How likely a shopper examines each place of a list, as a file: `{"positions": [1.0, 0.62, 0.47]}`.

write_propensities(Path("propensities.json"), [1.0, 0.62, 0.47])
propensities = read_propensities(Path("propensities.json"))      # float64 [3]; propensities[0] is place 1

Places beyond the last are like the last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reshelf.data.atomic import write_json
from reshelf.errors import InputError

FIELD = "positions"


def read_propensities(path: Path) -> npt.NDArray[np.float64]:
    """Examination probabilities by place relative to place 1, float64 [P] in (0, 1], the first one 1.

    Raises:
        InputError: the file cannot be read or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); name a file of propensities") from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); write it with `reshelf data propensities`") from error
    values = found.get(FIELD) if isinstance(found, dict) else None
    if not isinstance(values, list):
        raise InputError(
            f"{path}, field {FIELD}: missing or not a list; write one probability per place, as in "
            f'{{"{FIELD}": [1.0, 0.5]}}'
        )
    return _checked(values, str(path))


def write_propensities(path: Path, values: Sequence[float] | npt.NDArray[np.float64]) -> None:
    """Write what `read_propensities` reads; the file is there whole or not at all.

    Raises:
        InputError: `values` are not probabilities relative to place 1.
    """
    checked = _checked(np.asarray(values).tolist(), str(path))
    write_json(path, {FIELD: checked.tolist()})


def _checked(values: list[object], where: str) -> npt.NDArray[np.float64]:
    if not values:
        raise InputError(f"{where}, field {FIELD}: empty; give one probability per place, the first one 1.0")
    for place, value in enumerate(values, 1):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise InputError(
                f"{where}, field {FIELD}, place {place}: {value!r} is not a number above 0 and at most 1; give the "
                "probability that a shopper examines it"
            )
    if values[0] != 1:
        raise InputError(
            f"{where}, field {FIELD}, place 1: {values[0]!r} is not 1.0; divide all by it, as they are relative to it"
        )
    return np.array(values, dtype=np.float64)
