"""The one exception that means "the input is at fault, not the program".

Raise it with a single sentence that says what is wrong, where (file, row, field) and what to do:

    raise InputError("lists.parquet row 12, field labels: value is NaN; give 0, 1, 2 or 3, or drop the row")

The command line prints that sentence without a traceback and exits with code 2.
"""

from __future__ import annotations


class InputError(ValueError):
    """A mistake in what the user gave: a file, a row, a field, a flag or a model folder."""
