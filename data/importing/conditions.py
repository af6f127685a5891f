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


def spelt_otherwise(column: Column, wanted: object) -> tuple[str, str] | None:
    """Of the words that a `where` names: BOOLEAN, does a row have one of them in another spelling, which is another
    value; and the words as the mapping has them. None where it names none."""
    while isinstance(wanted, dict) and "not" in wanted:
        wanted = wanted["not"]
    named = [one.strip() for one in (wanted if isinstance(wanted, list) else [wanted]) if isinstance(one, str)]
    words = {name.lower() for name in named if not name.startswith(tuple(_SIGNS))}
    alike = words.union(*(set(kind) for kind in (TRUE, FALSE) if words & set(kind)))
    if not words or column.is_time or column.is_number:
        return None
    exact = ", ".join(quoted(name) for name in named if name.lower() not in (*TRUE, *FALSE, "null"))
    folded = ", ".join(quoted(word) for word in sorted(words & {*TRUE, *FALSE, "null"}))
    text = column.trimmed
    same = [f"{text} IN ({exact})"] * bool(exact) + [f"lower({text}) IN ({folded})"] * bool(folded)
    test = f"lower({text}) IN ({', '.join(map(quoted, sorted(alike)))}) AND NOT ({' OR '.join(same)})"
    return test, ", ".join(map(repr, named))


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
