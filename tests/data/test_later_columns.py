"""Text files of one log that do not have the same columns, and what is said of several files."""

from __future__ import annotations

from typing import Any

import pytest
from export import RIGHT, Export

from reshelf.errors import InputError


def days(export: Export, later: str, **keys: Any) -> None:
    """Two days of events: the second has another column."""
    day = "user,sku,time,kind\nann,5,2026-03-01T09:00:00Z,view\nann,2,2026-03-01T10:00:30Z,click\n"
    export.files["log/day=2026-03-01/a.csv"] = day
    export.files["log/day=2026-03-02/a.csv"] = later
    export.mapping["events"] |= {"file": "log"} | keys


def test_a_column_that_was_added_to_the_log_later_is_missing_before(export: Export) -> None:
    later = "user,sku,time,kind,list\nann,2,2026-03-05T10:05:00Z,purchase,L1\nzoe,1,2026-04-01T00:00:00Z,view,\n"
    days(export, later, list_id="list")
    assert export.load() == [RIGHT]
    [sentence] = export.report["warnings"]
    assert sentence.startswith(
        "1 of 2 files of events have no column 'list', which is missing in their rows (log/day=2026-03-01"
    )


def test_a_column_that_no_file_has_and_the_file_of_another_table_are_refused(export: Export) -> None:
    days(export, "user,sku,time,kind\nzoe,1,2026-04-01T00:00:00Z,view\n", list_id="list")
    with pytest.raises(InputError, match="there is no column 'list'"):
        export.load()
    days(export, "who,what\nzoe,1\n")
    with pytest.raises(InputError, match="there is no column 'user'"):
        export.load()


def test_what_is_said_of_files_is_said_once(export: Export) -> None:
    """The columns that are not mapped are looked at in a second reading."""
    days(export, "user,sku,time,kind,status\nann,2,2026-03-01T10:05:00Z,purchase,\nzoe,1,2026-04-01T00:00:00Z,view,\n")
    export.files["log/day=2026-03-03/a.csv"] = ""
    assert export.load() == [RIGHT]
    assert export.report["warnings"] == ["1 of 3 files of events are empty and were left out"]
