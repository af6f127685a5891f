"""Where a dotted path leads in JSON: into objects, into lists of objects, and into text that is JSON.

in_text("c3", "products.sku")      # SQL of a JSON value; of a list of objects it is the list of their parts
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reshelf.data.importing.database import named, quoted


def json_path(steps: Iterable[str]) -> str:
    """An SQL literal: the path of DuckDB's functions of JSON that goes by these keys."""
    return quoted("$." + ".".join(named(step) for step in steps))


def in_text(text: str, path: str) -> str:
    """JSON of what a path leads to in text that is JSON; NULL in other text."""
    value, steps = f"try_cast({text} AS JSON)", path.split(".")
    ways = [f"json_extract({value}, {json_path(steps)})", in_list(value, steps)]
    ways += [in_list(f"json_extract({value}, {json_path(steps[:at])})", steps[at:]) for at in range(1, len(steps))]
    return f"coalesce({', '.join(ways)})"


def in_list(value: str, steps: Sequence[str]) -> str:
    """JSON list of the same part of every object in a list; NULL if the value is none, or none has that part."""
    parts = f"list_transform(CAST({value} AS JSON[]), lambda e: json_extract(e, {json_path(steps)}))"
    listed = f"json_type({value}) = 'ARRAY' AND json_type({value}, '$[0]') = 'OBJECT'"
    return f"CASE WHEN {listed} THEN CASE WHEN list_count({parts}) > 0 THEN to_json({parts}) END END"
