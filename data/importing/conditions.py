"""SQL of the conditions of `where`.

chosen_by(column, {"not": "view"}, spec)       # BOOLEAN, never NULL
"""

from __future__ import annotations

from reshelf.data.importing.casts import FALSE, TRUE, Column, number_of
from reshelf.data.importing.database import quoted
from reshelf.data.importing.mapping import Table
from reshelf.data.importing.times import time_of


def chosen_by(column: Column, wanted: object, spec: Table) -> str:
    """BOOLEAN: does a row's value meet a `where`? See `Table.where`."""
    if isinstance(wanted, dict):
        tests = [_range(column, str(key), value, spec) for key, value in wanted.items()]
        return "(" + " AND ".join(tests) + ")" if tests else "true"
    if isinstance(wanted, list):
        return "(" + " OR ".join(chosen_by(column, one, spec) for one in wanted) + ")" if wanted else "false"
    text = column.trimmed
    if wanted is None:
        return f"coalesce({text} = '' OR lower({text}) = 'null', true)"
    if isinstance(wanted, bool):
        words = [*(TRUE if wanted else FALSE), *(("1", "1.0") if wanted else ("0", "0.0"))]
        return f"coalesce(lower({text}) IN ({', '.join(quoted(w) for w in words)}), false)"
    if isinstance(wanted, str) and (found := next((sign for sign in _SIGNS if wanted.startswith(sign)), None)):
        return _range(column, _SIGNS[found], wanted.removeprefix(found).strip(), spec)
    if isinstance(wanted, int | float):
        return f"coalesce({text} = {quoted(str(wanted))} OR {number_of(column, spec.decimal)} = {wanted}, false)"
    value = str(wanted).strip()
    if value.lower() in (*TRUE, *FALSE, "null"):
        return f"coalesce(lower({text}) = {quoted(value.lower())}, false)"
    if column.is_time:
        return _range(column, "from", value, spec) + " AND " + _range(column, "to", value, spec)
    return f"coalesce({text} = {quoted(value)}, false)"


_SIGNS = {">=": "from", "<=": "to", ">": "after", "<": "below"}
RANGES = {"from": ">=", "after": ">", "to": "<=", "below": "<"}


def _range(column: Column, key: str, value: object, spec: Table) -> str:
    if key == "not":
        return f"NOT {chosen_by(column, value, spec)}"
    sign, bound = RANGES[key], str(value)
    try:
        number = float(bound)
    except ValueError:
        limit = time_of(Column(quoted(bound), "VARCHAR"), spec)
        return f"coalesce(({time_of(column, spec)}) {sign} ({limit}), false)"
    return f"coalesce({number_of(column, spec.decimal)} {sign} {number}, false)"
