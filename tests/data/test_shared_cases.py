"""The cases of ../shared/cases through `reshelf data import`: what comes out is what was worked out by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reshelf.cli import main
from reshelf.data.dataset_folder import RankingData, load_dataset_folder

CASES = Path(__file__).parents[2].parent / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not there")

_OPEN = "still open when the log ends"
_END = "window for outcomes still open when the log ends"
_AGAIN = "item again in the same list, best label kept"
_UNKNOWN = "item not in the catalogue"
SCOPE = {"pairs.0.list_id_scope": ["list_id", "user_id"]}


def case(name: str, labels: dict[str, str], histories: dict[str, str] | None = None, /, **more: Any) -> Any:
    """What is right: of every list its items and grades, `p0:1 p1:0`, and of some the items of its history.

    Args:
        more: `changes` of the mapping; `dropped` by table; `taken_back`; `warns`, a part of a warning.
    """
    changes = "".join(f" {key}" for key in more.get("changes", {}))
    return pytest.param(name, labels, histories or {}, more, id=name + changes)


RIGHT = [
    case("logs/b02_attribution/t24", {"L1": "p0:1 p1:0 p2:0", "L2": "p0:3 p1:0 p3:0", "L3": "p0:0 p4:0"},
         {"L2": "p0", "L3": "p0 p0"}),
    case("logs/b02_attribution/t72", {"L1": "p0:1 p1:0 p2:0", "L2": "p0:3 p1:3 p3:0", "L3": "p0:0 p4:0"}, warns=_OPEN),
    case("logs/b02_attribution/t24", {"L1": "p0:3 p1:0 p2:0", "L2": "p0:3 p1:0 p3:0", "L3": "p0:0 p4:0"},
         changes={"pairs.0.attribution": "every_list"}),
    case("logs/b02b_purchase_without_list/m", {"L1": "p0:3 p1:1 p2:0", "L2": "p2:3 p1:0 p3:0"}, {"L1": "", "L2": ""}),
    case("logs/b04_removals/m", {"L1": "p0:0 p1:0 p2:0 p3:0", "L2": "p5:0 p6:0"}, {"L2": ""}, taken_back=3,
         dropped={"events": {"takes another event back": 3}}),
    case("logs/b05_bots/m", {"L2": "p0:0 p1:1"},
         dropped={"events": {"shopper with more than 1000 events on one day": 1500},
                  "pairs.0": {"list of a dropped bot": 4}}),
    case("logs/b06_tz/m", {"L1": "p0:1 p1:0"}, {"L1": ""}, warns="set timezone in events"),
    case("logs/b06_tz/tz", {"L1": "p0:1 p1:0"}, {"L1": ""}),
    case("logs/b07_login/both", {"L1": "p0:1 p1:0", "L0": "p1:0"}, {"L1": "", "L0": "p5"},
         changes={"pairs.0.user_id": ["uid", "sid"]}),
    case("logs/b07_login/sid", {"L1": "p0:1 p1:0", "L0": "p1:0"}, {"L1": "p5", "L0": "p5"}),
    case("logs/b07_login/uid", {"L1": "p0:1 p1:0"}, {"L1": ""},
         dropped={"events": {"shopper id missing": 1}, "pairs.0": {"shopper id missing": 1}}),
    case("logs/b08_dups/m", {"L1": "p0:1 p1:0"}, {"L1": "p5 p6 p6"},
         dropped={"events": {"repeated row": 1}, "pairs.0": {_AGAIN: 2}}),
    case("logs/b08_dups/m", {"L1": "p0:1 p1:0"}, {"L1": "p5 p6"}, changes={"events.event_id": "id"},
         dropped={"events": {"event id seen before": 2}, "pairs.0": {_AGAIN: 2}}),
    case("logs/b09_missing/m", {"L1": "p0:1 p1:0"}, {"L1": "p5"}, positions=(1, 3),
         dropped={"events": {_UNKNOWN: 1}, "pairs.0": {_UNKNOWN: 1}}),
    case("logs/b10_price_asof/vf", {"L1": "p0:1 p1:0", "L2": "p0:0 p2:0"}, prices={"L1": (10, 5), "L2": (20, 6)},
         dropped={"items": {"older price of the same item": 1}}),
    case("logs/b11_queries/m", {f"L{n}": f"p0:{int(n == 0)} p1:0" for n in range(8)}, together="L0 L1 L2 L3 L4"),
    case("logs/b13_pos0/m", {"L1": "p0:1 p1:0"}, positions=(1, 2)),
    case("logs/b14_pages/own_ids", {"R1": "p0:0 p1:0 p2:0 p3:0 p4:0 p5:1"}, {"R1": ""}, positions=(1, 2, 3, 4, 5, 6)),
    case("logs/b15_ads/where_false", {"L1": "p1:1 p2:0"}, positions=(2, 3),
         dropped={"pairs.0": {"not chosen by where": 1}}),
    case("logs/b15_ads/where_false_pq", {"L1": "p1:1 p2:0"}, positions=(2, 3),
         dropped={"pairs.0": {"not chosen by where": 1}}),
    case("logs/b16_grades/m", {"L1": "p0:0 p1:2 p2:2 p3:3"}),
    case("logs/b16_grades/m", {"L1": "p0:1 p1:1 p2:2 p3:3"}, changes={"events.grades": {"view": 1, "wishlist": 1}}),
    case("logs/b17_label_col/bool_label", {"L1": "p0:1 p1:0 p2:1"}),
    case("logs/b17_label_col/csv_TrueFalse", {"L1": "p0:1 p1:0 p2:1"}),
    case("logs/b17_label_col/two_label_columns", {"L1": "p0:3 p1:0 p2:1"},
         changes={"pairs.0.label": {"clicked": 1, "bought": 3}}),
    case("logs/b18_list_id_reused/m", {"1": "p0:1 p1:0", "1/2": "p2:0 p3:1"}, {"1": "", "1/2": ""}),
    case("logs/b18_list_id_reused/m", {"1/a": "p0:1 p1:0", "1/b": "p2:0 p3:1"}, {"1/a": "", "1/b": ""}, changes=SCOPE),
    case("logs/b19_skew/m", {"1": "p0:1 p1:0"}, {"1": ""}),
    case("logs/b24_null_user/pairs", {"L1": "p0:1 p1:0"}, dropped={"pairs.0": {"shopper id missing": 2}}),
    case("logs/b25_two_slots/m", {"x": "p0:1 p1:0", "y": "p2:0 p3:0"}, changes={"pairs.0.list_id": "l"}),
    case("logs/b32_event_id/m", {"L1": "p0:0 p1:0"}, {"L1": "p6"}, dropped={"events": {"event id seen before": 1}}),
    case("logs/b33_two_event_tables/m", {"L1": "p0:3 p1:0"}, {"L1": ""}),
    case("logs/b34_variants/m", {"L1": "p0:3 p1:0"}, {"L1": ""}, changes={"parents": {
        "sql": "SELECT 'p0-RED-M' AS sku, 'p0' AS product", "item_id": "sku", "parent_id": "product"}}),
    case("logs/b34_variants/m", {"L1": "p0:1 p1:0"}, dropped={"events": {_UNKNOWN: 1}}),
    case("logs/b38_shared_anon/m", {"L1": "p0:0 p1:0 p2:0"}, warns="user id '0' has 900 of 900 events"),
    case("logs/b61_null_list_id/m", {"L1": "p0:1 p1:0"}, dropped={"pairs.0": {"list id missing": 1}}),
    case("logs/b62_where_not/ge", {"L1": "p0:1 p1:0"}),
    case("logs/b62_where_not/not", {"L1": "p0:1 p1:0"}),
    case("inputs/big_json_ids/shop", {"q1": "17293822569102704641:0 17293822569102704642:1"},
         {"q1": "17293822569102704641"}, changes={"events.kind": "click"}),
    case("inputs/bom_quoted/shop", {"q1": "s1:0 s2:3"}, {"q1": "s1"}),
    case("inputs/nested_category/nested", {"q1": "s1:0 s2:3"}, categories={"s1": "Home Mugs", "s2": "Home Lamps"}),
    case("inputs/nested_category/mixed", {"q1": "s1:0 s2:3"}, categories={"s1": "Home Mugs", "s2": "Home"}),
    case("inputs/yaml_words/grades", {"q1": "s1:3 s2:0"}),
    case("inputs/yaml_words/where", {"q1": "s1:3 s2:0"}),
]  # fmt: skip
REFUSED = {
    "inputs/float_users/shop": "field customer: the id 1.152921504606847e+18 is a floating-point number above 2^53",
    "logs/b54_bigint/m": "field i: the id 2.0530135556318828e+18 is a floating-point number above 2^53",
    "logs/b25_two_slots/m": "two products of one list are at position 1; set list_id_scope",
    "logs/b10_price_asof/err": "item 'p0' is there already",
    "logs/b20_timesplit/dates": "would leave some in each",
    "logs/b22_censored/m": f"{_END}: 2",
    "logs/b51_lists_from_events/zero_results": "without results: 1",
    "logs/b04_removals/neg": "events.0.kinds.return",
    "logs/yoochoose/b_both": "5 columns where the header has 4",
    "logs/otto/a_dotted": "is no id; map a part of it",
}
"""Mappings that cannot be right, and what the one sentence about them says."""


def run(mapping: str, root: Path, out: Path, changes: dict[str, Any]) -> tuple[RankingData, dict[str, Any]]:
    words = ["data", "import", "--mapping", mapping, "--root", str(root), "--out", str(out), "--quiet"]
    assert main([*words, *(w for key, value in changes.items() for w in (f"--changes.{key}", json.dumps(value)))]) == 0
    return load_dataset_folder(out), json.loads((out / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "labels", "histories", "more"), RIGHT)
def test_a_case_gives_what_is_right(
    tmp_path: Path, name: str, labels: dict[str, str], histories: dict[str, str], more: dict[str, Any]
) -> None:
    file = CASES / f"{name}.yaml"
    data, report = run(str(file), file.parent, tmp_path / "out", more.get("changes", {}))
    lists = {r.list_id: r for of_split in data.lists.values() for r in of_split}
    assert {i: dict(zip(r.candidates, r.labels or (), strict=True)) for i, r in lists.items()} == {
        i: {item: int(grade) for item, grade in (cell.split(":") for cell in row.split())} for i, row in labels.items()
    }
    for list_id, items in histories.items():
        assert [event.item_id for event in lists[list_id].history] == items.split(), list_id
    dropped = {table: facts["dropped"] for table, facts in report["tables"].items() if facts["dropped"]}
    assert dropped == more.get("dropped", {})
    assert report["taken_back"] == more.get("taken_back", 0)
    warnings = " ".join(report["warnings"])
    assert more.get("warns", "") in warnings
    if "positions" in more:
        [only] = lists.values()
        assert only.positions == more["positions"]
    assert {i: lists[i].prices for i in more.get("prices", {})} == more.get("prices", {})
    assert {i: " ".join(data.items[i].category) for i in more.get("categories", {})} == more.get("categories", {})
    together = set(more.get("together", "").split())
    assert not together or [s for s, ls in data.lists.items() if together & {r.list_id for r in ls}] == ["train"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_case_that_cannot_be_right_is_refused_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = CASES / f"{name}.yaml"
    words = ["data", "import", "--mapping", str(file), "--root", str(file.parent), "--out", str(tmp_path / "out")]
    assert main([*words, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert REFUSED[name] in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["compact_csv", "ns_parquet", "us_csv", "us_parquet"])
def test_times_of_every_size_are_the_same_times(tmp_path: Path, name: str) -> None:
    """Forty events, an hour apart from 22:13:20 on; the lists of the last day are still open."""
    file = CASES / "inputs" / "time_overflow" / f"{name}.yaml"
    data, report = run(str(file), file.parent, tmp_path / "out", {})
    assert {split: len(lists) for split, lists in data.lists.items()} == {"train": 3, "valid": 1, "test": 1}
    assert report["tables"]["events"]["kept"] == 40
    assert report["tables"]["pairs.0"]["dropped"] == {_END: 12}
    first = data.lists["train"][0]
    assert first.time == datetime(2023, 11, 15, 0, 13, 20, tzinfo=UTC)
    assert [event.item_id for event in first.history] == ["s0", "s1"]


def test_three_splits_of_a_log_of_orders_with_lists_at_its_end(tmp_path: Path) -> None:
    """Fifty lists, twelve hours apart: the last two are open; of 48, a tenth is test and a tenth valid."""
    file = CASES / "logs" / "b20_timesplit" / "m.yaml"
    data, report = run(str(file), file.parent, tmp_path / "out", {})
    assert {split: len(lists) for split, lists in data.lists.items()} == {"train": 38, "valid": 5, "test": 5}
    assert report["tables"]["pairs.0"]["dropped"] == {_END: 6}
    ends = [(lists[0].time, lists[-1].time) for lists in data.lists.values()]
    assert ends[0][1] < ends[1][0] < ends[1][1] < ends[2][0]  # type: ignore[operator]


SEARCHES = {"train": 42, "valid": 6, "test": 5}
"""Of sixty searches, three and a half hours apart, the last seven are open for a day."""
LAYOUTS: dict[str, tuple[dict[str, int], dict[str, tuple[int, int]]]] = {
    "ubi": (SEARCHES, {"events": (120, 60), "lists.0": (60, 53)}),
    "ga4": (SEARCHES, {"events": (60, 60), "pairs.0": (360, 318)}),
    "segment": (SEARCHES, {"events": (75, 75), "lists.0": (60, 53)}),
    "segment_warehouse": (SEARCHES, {"events": (60, 60), "lists.0": (60, 53)}),
    "metarank": (SEARCHES, {"events": (60, 60), "lists.0": (60, 53)}),
    "elastic": (SEARCHES, {"events": (60, 60), "lists.0": (60, 53)}),
    "jdsearch": ({"train": 40, "valid": 11, "test": 9}, {"lists.0": (60, 60)}),
    "shopify": ({"train": 11, "valid": 6, "test": 6}, {"items": (30, 30), "events": (147, 115)}),
    "otto": ({"train": 48, "valid": 7, "test": 6}, {"events": (292, 292)}),
    "instacart": ({"train": 17, "valid": 17, "test": 16}, {"events": (400, 400)}),
    "yoochoose": ({"train": 48, "valid": 6, "test": 6}, {"events.0": (300, 300), "events.1": (28, 28)}),
    "rees46": ({"train": 11, "valid": 3, "test": 4}, {"items": (300, 30), "events": (300, 271)}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_real_layout_imports_by_its_shipped_mapping(tmp_path: Path, name: str) -> None:
    data, report = run(name, CASES / "logs" / name.removesuffix("_warehouse"), tmp_path / "out", {})
    splits, tables = LAYOUTS[name]
    assert {split: len(lists) for split, lists in data.lists.items()} == splits
    found = {table: (facts["read"], facts["kept"]) for table, facts in report["tables"].items()}
    assert tables.items() <= found.items()
    for facts in report["tables"].values():
        assert facts["read"] == facts["kept"] + sum(facts["dropped"].values())


def test_the_lists_of_ubi_are_what_its_two_files_say(tmp_path: Path) -> None:
    folder = CASES / "logs" / "ubi"
    data, _ = run("ubi", folder, tmp_path / "out", {})
    rows, said = (
        [json.loads(line) for line in (folder / f"ubi_{name}.ndjson").read_text(encoding="utf-8").splitlines()]
        for name in ("queries", "events")
    )
    did = [
        (e["timestamp"], e["client_id"], e["query_id"], e["event_attributes"]["object"]["object_id"], grade)
        for e in said if (grade := {"click": 1, "add_to_cart": 2, "purchase": 3}.get(e["action_name"]))
    ]  # fmt: skip
    lists = {r.list_id.split("/")[0]: r for of_split in data.lists.values() for r in of_split}
    for row in rows[: len(lists)]:
        found, hits = lists[row["query_id"]], row["query_response_hit_ids"]
        own = {item: grade for _, _, query, item, grade in did if query == row["query_id"]}
        assert (found.candidates, found.labels) == (tuple(hits), tuple(own.get(item, 0) for item in hits))
        before = [item for time, who, _, item, _ in did if who == row["client_id"] and time < row["timestamp"]]
        assert [event.item_id for event in found.history] == before
