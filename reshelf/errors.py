"""`InputError` means "the input is at fault, not the program"; `DivergedError`, that a training run came to nothing.

Raise it with a single sentence that says what is wrong, where (file, row, field) and what to do:

    raise InputError("lists.parquet row 12, field labels: value is NaN; give 0, 1, 2 or 3, or drop the row")

The command line prints that sentence without a traceback and exits with code 2.
"""

from __future__ import annotations

import errno


class InputError(ValueError):
    """A mistake in what the user gave: a file, a row, a field, a flag or a model folder.

    Examples:
        >>> from reshelf import Reranker
        >>> try:
        ...     Reranker.from_pretrained("./runs/none")
        ... except InputError as error:
        ...     print(error)
        ./runs/none is not there; give a folder that `reshelf finetune` wrote, or an id on the Hub
    """


class DivergedError(RuntimeError):
    """A training run whose numbers became NaN or infinite; the sentence says at which step and what was kept.

    The command line prints it without a traceback and exits with code 1.
    """


class ExportMismatchError(RuntimeError):
    """An exported checkpoint scores differently from the model it comes from; nothing of it is kept.

    The command line prints it without a traceback and exits with code 1.
    """


def is_full_disk(error: BaseException) -> bool:
    """Whoever says it: Rust's and C++'s libraries have errors of their own."""
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    return full or "No space left on device" in str(error)


def first_line(error: Exception) -> str:
    """What another library says first, for a sentence of ours; the rest of it is for its own developers."""
    # torch says on the first line that something is wrong, and what on the next.
    first, *more = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return f"{first} {more[0]}" if first.endswith(":") and more else first
