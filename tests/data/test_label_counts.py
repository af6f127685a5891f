"""Labels that are numbers of clicks."""

from __future__ import annotations

from typing import Any

import pytest
from export import Export


@pytest.mark.parametrize(
    ("column", "keys", "named"),
    [("clicks", {}, True), ("clicks", {"thresholds": [1]}, False), ("grade", {}, False)],
)
def test_numbers_of_clicks_that_are_read_as_grades_are_named(
    export: Export, column: str, keys: dict[str, Any], named: bool
) -> None:
    rows = "".join(f"L1,ann,2026-03-01T10:00:00Z,mug,{n},{n},{clicks}\n" for n, clicks in ((1, 0), (2, 3), (3, 1)))
    export.files["shown.csv"] = f"list,user,time,q,sku,rank,{column}\n{rows}"
    export.mapping["pairs"] |= {"label": column} | keys
    export.load()
    assert ["1 rows have a 'clicks' of 2 or 3" in s for s in export.report["warnings"]] == [True] * named
