"""Memory that a forward pass frees is kept for the next one.

    keep_freed_memory()
    give_back_freed_memory()    # between pieces of long work, or the heap grows with the shapes that it has seen

glibc gives the end of its heap back as soon as it is free, and a pass over a list frees it all: the next one had every
page made and zeroed anew, 33,000 page faults and a third of the time of a list (100 candidates of 42 tokens behind
512, the base that ships).
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

KEPT = 1 << 29
"""Bytes of free memory at the end of the heap that stay with the process."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST = 1 << 25  # what glibc raises it to at most


@cache
def keep_freed_memory() -> bool:
    """For all of this process; False where the C library is another one."""
    option = _of_glibc("mallopt")
    # Either one alone stops glibc from raising the other as it learns sizes.
    return option is not None and bool(option(_M_MMAP_THRESHOLD, _LARGEST) and option(_M_TRIM_THRESHOLD, KEPT))


def give_back_freed_memory() -> None:
    """Return to the system what of the heap is free: some 10 ms, and page faults of the next pass.

    Every length of a list compiles kernels that stay, in the middle of what a pass has freed, so that the next pass
    finds no room there: on a Zen 5 CPU a job of 6,000 lists held 300 MB that nobody used.
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(name: str) -> Any:
    """Its function, or None where the C library has none of that name."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
