"""Several products in one text."""

from __future__ import annotations

import pytest
from export import Export


@pytest.mark.parametrize("text", ["2|3", '"2, 3"', "\"['2', '3']\"", '"{2,3}"'])
def test_a_text_of_several_products_in_events_is_named(export: Export, text: str) -> None:
    export.files["events.csv"] += f"ann,{text},2026-03-01T10:06:00Z,purchase\n"
    export.load()
    [sentence] = export.report["warnings"]
    assert sentence.startswith("events: 1 texts of 'sku' are several products (")
    assert "take them apart with sql" in sentence


def test_a_list_with_another_separator_is_named(export: Export) -> None:
    rows = 'L1,ann,2026-03-01T10:00:00Z,mug,1|2\nL2,ann,2026-03-01T10:01:00Z,mug,"3,4"\n'
    export.of_lists("list,user,time,q,hits\n" + rows, "lists.csv").load()
    assert any(
        s.startswith("lists.0: 1 texts of 'hits' are several products (3,4)") and "set list_separator" in s
        for s in export.report["warnings"]
    )


def test_an_id_of_which_only_a_part_is_known_is_not_named(export: Export) -> None:
    export.files["events.csv"] += "ann,2 XL,2026-03-01T10:06:00Z,purchase\n"
    export.load()
    assert export.report["warnings"] == []
