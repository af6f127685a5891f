"""Train, valid, test: by a column, by time, by shopper, by query, or each shopper's last events.

cuts = time_cuts(times, valid=0.1, test=0.1);   by_time(times, cuts)
share("user 17", seed=0)                        # always the same number in [0, 1) for the same text
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from reshelf.data.dataset_folder import SPLITS
from reshelf.errors import InputError

UNKNOWN = -1
TRAIN, VALID, TEST = range(3)
Codes = npt.NDArray[np.int8]


def share(text: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but `text` and `seed`."""
    digest = hashlib.blake2b(f"{seed}:{text}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def by_share(keys: Iterable[str], valid: float, test: float, seed: int) -> Codes:
    """Split codes of keys (shoppers or queries): the first `test` of [0, 1) is test, the next `valid` valid."""
    shares = np.array([share(key, seed) for key in keys], dtype=np.float64)
    return np.where(shares < test, TEST, np.where(shares < test + valid, VALID, TRAIN)).astype(np.int8)


def time_cuts(times: npt.NDArray[np.int64], valid: float, test: float) -> tuple[int, int]:
    """The first time of valid and the first time of test, so that about these shares of `times` come later."""
    if len(times) == 0:
        return (0, 0)
    ordered = np.sort(times)
    at = [min(len(ordered) - 1, round(len(ordered) * share)) for share in (1 - valid - test, 1 - test)]
    end = int(ordered[-1]) + 1
    return (int(ordered[at[0]]) if valid + test > 0 else end, int(ordered[at[1]]) if test > 0 else end)


def by_time(times: npt.NDArray[np.int64], cuts: tuple[int, int]) -> Codes:
    """Split codes of times: train before the first cut, test from the second on."""
    return (np.asarray(times) >= cuts[0]).astype(np.int8) + (np.asarray(times) >= cuts[1]).astype(np.int8)


def leave_one_out(starts: npt.NDArray[np.int64]) -> Codes:
    """Split codes of events sorted by shopper: the last one of each is test, the one before valid.

    Args:
        starts: int64 [U + 1], where each shopper's events begin. Shoppers with fewer than three events are all train.
    """
    codes = np.full(int(starts[-1]), TRAIN, dtype=np.int8)
    ends = starts[1:][np.diff(starts) >= 3]
    codes[ends - 1] = TEST
    codes[ends - 2] = VALID
    return codes


def from_names(values: Sequence[str | None], names: Mapping[str, str]) -> tuple[Codes, int | None]:
    """Split codes of raw names, and the first index whose name is not a split (None where all are)."""
    table = {name: code for code, name in enumerate(SPLITS)} | {raw: SPLITS.index(name) for raw, name in names.items()}
    codes = np.fromiter((table.get(v or "", UNKNOWN) for v in values), dtype=np.int8, count=len(values))
    wrong = np.flatnonzero(codes == UNKNOWN)
    return codes, int(wrong[0]) if len(wrong) else None


def no_split(place: str) -> InputError:
    """What is wrong with a list at `place` that no rule puts into a split."""
    return InputError(
        f"{place}: the list has no split; map a split column, set in_split, or split.by to time, user or query"
    )
