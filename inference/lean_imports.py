"""Large libraries, imported without what a process of the service never calls of them.

with absent("sklearn"):
    from transformers import AutoTokenizer
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def absent(library: str) -> Iterator[None]:
    """Imports within do not find a library, as if it were not installed; one that is loaded already stays.

    Only for imports of modules that do without it. No other thread should import meanwhile.
    """
    if library in sys.modules:
        yield
        return
    sys.modules[library] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[library]
