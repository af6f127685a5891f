"""Every mistake in what a user gives is one sentence with file, row and field, and leaves nothing behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from shop_tables import DAY, Shop

from reshelf.data.dataset_folder import load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.errors import InputError

Change = Callable[[Shop], Any]


def _set(part: str, row: int, /, **values: Any) -> Change:
    return lambda shop: shop.tables[part][row].update(values)


def _map(part: str, /, **values: Any) -> Change:
    def change(shop: Shop) -> None:
        table = shop.mapping[part]
        (table[0] if isinstance(table, list) else table).update(values)

    return change


def _strict(change: Change) -> Change:
    """With `on_unknown: error`, which is not the default."""
    return lambda shop: (change(shop), shop.mapping["lists"][0].update(on_unknown="error"))


def _history(shop: Shop) -> None:
    """Lists bring their own histories, with times; the third is at the list's time."""
    shop.mapping["lists"][0].update(history="past", history_times="past_ts")
    for row in shop.tables["lists"]:
        row.update(past=["000", "001"], past_ts=[row["ts"] - 2, row["ts"] - 1])
    shop.tables["lists"][2]["past_ts"][1] = shop.tables["lists"][2]["ts"]


def _ragged(shop: Shop) -> None:
    _history(shop)
    shop.tables["lists"][2]["past_ts"].pop()


def _two_splits(shop: Shop) -> None:
    shop.tables["lists"] = [
        {"id": "a", "sku": sku, "bought": 0, "part": part} for sku, part in (("001", "train"), ("002", "test"))
    ]
    shop.mapping["lists"], shop.mapping["pairs"] = (
        [],
        [{"file": "lists", "list_id": "id", "item_id": "sku", "label": "bought", "split": "part"}],
    )


MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "column that is not there": (_map("items", title="nme"), ["items.jsonl", "'nme'", "name"]),
    "column of events that is not there": (_map("events", time="when"), ["events.jsonl", "'when'"]),
    "column of lists that is not there": (_map("lists", labels="clicks"), ["lists.jsonl", "'clicks'"]),
    "file that is not there": (_map("items", file="goods.csv"), ["goods.csv", "items.file"]),
    "missing item id": (_set("items", 2, sku=None), ["items.jsonl row 2 (line 3)", "field sku", "missing"]),
    "empty item id": (_set("items", 2, sku=" "), ["items.jsonl row 2 (line 3)", "field sku", "missing"]),
    "duplicate item id": (
        _set("items", 5, sku="001"),
        ["items.jsonl row 5", "field sku", "'001'", "items.jsonl row 1"],
    ),
    "empty list": (_strict(_set("lists", 3, shown=[], bought=[])), ["lists.jsonl row 3", "field shown", "empty"]),
    "missing list": (_strict(_set("lists", 3, shown=None)), ["lists.jsonl row 3", "field shown", "empty"]),
    "NaN label": (_set("lists", 3, bought=[0, float("nan"), 1]), ["lists.jsonl row 3", "field bought", "NaN"]),
    "missing label": (_set("lists", 3, bought=[0, None, 1]), ["lists.jsonl row 3", "field bought", "missing"]),
    "label without a grade": (_set("lists", 3, bought=[0, 7, 1]), ["lists.jsonl row 3", "field bought", "7"]),
    "too few labels": (_set("lists", 3, bought=[0]), ["lists.jsonl row 3", "field bought", "1 values for 3"]),
    "unknown candidate": (
        _strict(_set("lists", 3, shown=["001", "xx", "005"])),
        ["lists.jsonl row 3", "field shown", "'xx'"],
    ),
    "event on an unknown item": (
        lambda shop: shop.mapping["events"].update(on_unknown="error") or shop.tables["events"][2].update(sku="xx"),
        ["events.jsonl row 2", "field sku", "'xx'", "on_unknown"],
    ),
    "list without a time": (_set("lists", 3, ts=None), ["lists.jsonl row 3", "field ts", "missing"]),
    "invalid time": (_set("lists", 3, ts="soon"), ["lists.jsonl row 3", "field ts", "'soon'"]),
    "unknown split": (_set("lists", 3, part="dev"), ["lists.jsonl row 3", "field part", "'dev'", "split.names"]),
    "event at the list's time": (_history, ["lists.jsonl row 2", "field past", "event 1", "not before"]),
    "history and times of two lengths": (_ragged, ["lists.jsonl row 2", "field past_ts", "1 times for 2"]),
    "list in two splits": (_two_splits, ["lists.jsonl row 1", "field part", "one split"]),
    "unknown key": (_map("items", titel="name"), ["shop.yaml", "items.titel", "did you mean 'title'"]),
    "unknown kind": (_map("events", kinds={"x": "buy"}), ["shop.yaml", "events.0.kinds.x"]),
    "invalid grade": (_map("lists", grades={"1": 9}), ["shop.yaml", "lists.0.grades", "9"]),
    "nothing to rank": (lambda shop: shop.mapping.pop("lists"), ["shop.yaml", "lists, pairs or build"]),
    "signal that is not there": (lambda s: s.mapping.update(signals={"names": ["luck"]}), ["'luck'", "popularity"]),
    "counts without train events": (
        lambda shop: (
            shop.mapping.update(signals={"names": ["popularity"]}, split={"by": "column"})
            or shop.tables.update(lists=[{**row, "part": "test", "ts": 1} for row in shop.tables["lists"]])
        ),
        ["signals: popularity", "train events"],
    ),
    "built lists without splits": (
        lambda shop: shop.mapping.update(build={}) or shop.mapping.pop("lists"),
        ["build", "no split"],
    ),
    "query ids without queries": (_map("lists", query=None, query_id="text"), ["lists.0.query_id", "queries"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(shop: Shop, name: str) -> None:
    change, words = MISTAKES[name]
    change(shop)
    with pytest.raises(InputError) as caught:
        shop.load()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message
    _nothing_left(shop)


def _impressions(shop: Shop) -> None:
    """Two lists of three products in an impression log, instead of lists."""
    del shop.mapping["lists"], shop.tables["lists"]
    shop.mapping["pairs"] = [
        {
            "file": "shown", "list_id": "id", "user_id": "customer", "time": "ts", "item_id": "sku",
            "position": "rank", "split": "part",
        }
    ]  # fmt: skip
    shop.tables["shown"] = [
        {"id": f"q{n}", "customer": f"u{n}", "ts": (103 + 10 * n) * DAY, "sku": f"00{k}", "rank": k, "part": "train"}
        for n in range(2)
        for k in (1, 2, 3)
    ]


def _milliseconds_as_seconds(shop: Shop) -> None:
    for row in shop.tables["shown"]:
        row["ts"] *= 1000
    shop.mapping["pairs"][0]["time_unit"] = "s"


def _second_table(shop: Shop) -> None:
    shop.tables["more"] = [dict(shop.tables["shown"][4], id="z"), dict(shop.tables["shown"][4])]
    shop.mapping["pairs"].append(dict(shop.mapping["pairs"][0], file="more"))


IMPRESSION_MISTAKES: dict[str, tuple[Change, list[str]]] = {
    "column that is not there": (_map("pairs", time="when"), ["shown.jsonl", "'when'", "pairs.0"]),
    "file that is not there": (_map("pairs", file="seen.csv"), ["seen.csv", "pairs.0.file"]),
    "invalid event time": (_set("events", 4, ts="soon"), ["events.jsonl row 4", "field ts", "'soon'"]),
    "no usable event": (_map("events", earliest="2020-01-01"), ["events.jsonl", "none of 30 events", "before 2020"]),
    "missing time": (_set("shown", 4, ts=None), ["shown.jsonl row 4", "field ts", "missing"]),
    "time in another unit": (_milliseconds_as_seconds, ["shown.jsonl row 0", "field ts", "time_unit"]),
    "time of no year": (_set("shown", 4, ts=10**25), ["shown.jsonl row 4", "field ts", "time_unit"]),
    "missing position": (_set("shown", 4, rank=None), ["shown.jsonl row 4", "field rank", "missing"]),
    "position that is no number": (_set("shown", 4, rank="top"), ["shown.jsonl row 4", "field rank", "'top'"]),
    "unknown split": (_set("shown", 4, part="dev"), ["shown.jsonl row 4", "field part", "'dev'", "split.names"]),
    "list in two splits": (_set("shown", 4, part="test"), ["shown.jsonl row 4", "field part", "row 3", "one split"]),
    "list id in two tables": (_second_table, ["more.jsonl row 1", "'q1'", "shown.jsonl row 3", "unique"]),
    "no split": (lambda shop: shop.mapping["pairs"][0].pop("split"), ["shown.jsonl row 0", "no split"]),
    "signal that is not there": (lambda s: s.mapping.update(signals={"names": ["luck"]}), ["'luck'", "popularity"]),
    "nothing left": (_map("pairs", where={"part": "gone"}), ["no list is left", "not chosen by where"]),
}


@pytest.mark.parametrize("name", IMPRESSION_MISTAKES)
def test_a_mistake_in_an_impression_log_is_one_sentence(shop: Shop, name: str) -> None:
    _impressions(shop)
    change, words = IMPRESSION_MISTAKES[name]
    change(shop)
    with pytest.raises(InputError) as caught:
        shop.load()
    for word in words:
        assert word in str(caught.value)


def test_a_mistake_in_a_streamed_log_leaves_nothing(shop: Shop) -> None:
    _impressions(shop)
    _set("shown", 4, sku="xx")(shop)
    shop.mapping["pairs"][0]["on_unknown"] = "error"
    with pytest.raises(InputError, match=r"shown\.csv row 4 \(line 6\), field sku"):
        shop.load("csv")
    _nothing_left(shop)


def _nothing_left(shop: Shop) -> None:
    assert sorted(p.name for p in shop.folder.iterdir() if p.name.startswith((".", "out"))) == []


@pytest.mark.parametrize("field", ["rank", "score", "bought"])
def test_a_number_that_parquet_statistics_leave_out_is_seen(shop: Shop, field: str) -> None:
    """DuckDB skips the NaN of pyarrow's files in WHERE (findings/duckdb_finds_no_nan_in_parquet_of_pyarrow.sh)."""
    _impressions(shop)
    shop.mapping["pairs"][0] |= {"score": "score", "label": "bought"}
    for n, row in enumerate(shop.tables["shown"]):
        row |= {"rank": float(row["rank"]), "score": 1.0, "bought": float(n % 3 == 1)}
    shop.tables["shown"][4][field] = float("nan")
    with pytest.raises(InputError, match=rf"shown\.parquet row 4, field {field}: .* missing"):
        shop.load("parquet")


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_are_named_in_every_format(shop: Shop, ending: str) -> None:
    _strict(_set("lists", 3, shown=["001", "xx", "005"]))(shop)
    with pytest.raises(InputError, match=rf"lists\.{ending} row 3" + (r" \(line 5\)" if ending == "csv" else ",")):
        shop.load(ending)


def test_a_failed_import_leaves_the_older_data_set_alone(shop: Shop) -> None:
    before = shop.load()
    _strict(_set("lists", 3, shown=["xx", "001", "005"]))(shop)
    with pytest.raises(InputError):
        shop.load()
    assert load_dataset_folder(shop.out).lists == before.lists
    assert not [p for p in shop.folder.iterdir() if p.name.startswith(".")]


def test_output_that_is_a_file(shop: Shop) -> None:
    shop.out.write_text("precious")
    with pytest.raises(InputError, match="out: it is a file"):
        shop.load()
    assert shop.out.read_text() == "precious"


def test_output_folder_with_something_else_in_it(shop: Shop) -> None:
    shop.out.mkdir()
    (shop.out / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match=r"thesis\.tex"):
        shop.load()
    assert (shop.out / "thesis.tex").read_text() == "precious"


def test_output_folder_of_the_raw_tables(shop: Shop) -> None:
    path = shop.write("parquet")
    before = sorted(shop.folder.iterdir())
    with pytest.raises(InputError, match="holds the raw tables"):
        import_logs(ImportConfig(mapping=str(path), root=shop.folder, out=shop.folder / ".", quiet=True))
    assert sorted(shop.folder.iterdir()) == before


def test_output_below_a_file_cannot_be_written(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = shop.write()
    with pytest.raises(InputError, match=r"cannot write .*choose another output folder"):
        import_logs(ImportConfig(mapping=str(path), root=tmp_path, out=tmp_path / "file" / "out", quiet=True))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_without_permission(shop: Shop, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    path = shop.write()
    with pytest.raises(InputError, match="cannot write"):
        import_logs(ImportConfig(mapping=str(path), root=tmp_path, out=locked / "out", quiet=True))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("items: [", "not a YAML file"),
        ("just text", "expected keys"),
        ("items: {file: a.csv}", "items.item_id"),
        ("items: {file: a.csv, item_id: a, title: b}\nbuild: {}", "key build"),
    ],
)
def test_a_mapping_that_cannot_be_understood(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(InputError, match=r"m\.yaml.*" + words):
        import_logs(ImportConfig(mapping=str(tmp_path / "m.yaml"), out=tmp_path / "out", quiet=True))


def test_a_mapping_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"neither a file nor one of the shipped mappings .*wands"):
        import_logs(ImportConfig(mapping="my_shop", out=tmp_path / "out", quiet=True))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "broken.jsonl",
            '{"sku": "1", "name": "a"}\n{"sku"\n',
            r"line 2 is not JSON: .*; it is cut off; finish or remove it",
        ),
        (
            "broken.jsonl",
            '{"sku": "1", "name": "a"}\n{"sku": "2", "na',
            r"line 2 .*: Unterminated string at .*; it is cut",
        ),
        ("broken.jsonl", '{"sku": 1 "name": "a"}\n', r"line 1 is not JSON: .* at character 11; correct or remove it"),
        ("broken.jsonl", "[1]\n", r"broken\.jsonl: an element of its list is not a JSON object"),
        ("broken.csv", "sku,name\n1,a,b\n", r"broken\.csv line 2: 3 columns"),
        ("broken.csv", "sku,name,brand\n1,a,b\n2,c", r"broken\.csv line 3: 2 columns .*; the line is cut off"),
        ("broken.csv", b"sku,name\n1,\xff\n", r"broken\.csv is not utf-8 text"),
        ("broken.parquet", "no", r"broken\.parquet cannot be read as Parquet: .*; write or copy that file again"),
        ("broken.xlsx", "no", r"broken\.xlsx: unknown kind of file"),
    ],
)
def test_a_file_that_cannot_be_read(shop: Shop, name: str, content: str | bytes, words: str) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (shop.folder / name).write_bytes(data)
    shop.mapping["items"] = {"file": name, "item_id": "sku", "title": "name"}
    with pytest.raises(InputError, match=words):
        shop.load()


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_select_of_a_file_that_was_cut_off_does_not_blame_the_mapping(shop: Shop, share: float) -> None:
    shop.load("parquet")  # writes the tables
    whole = (shop.folder / "items.parquet").read_bytes()
    (shop.folder / "cut.parquet").write_bytes(whole[: int(share * len(whole))])
    (shop.folder / "damaged.parquet").write_bytes(whole[: len(whole) // 9] + b"x" * 99 + whole[len(whole) // 9 + 99 :])
    for name in ("cut", "damaged"):
        shop.mapping["items"] = {"sql": f"SELECT * FROM '{name}.parquet'", "item_id": "sku", "title": "name"}
        with pytest.raises(InputError, match=r"^items\.sql: .*; write or copy that file again$"):
            shop.load("parquet")


def test_a_select_of_files_that_are_not_there_yet_does_not_blame_the_mapping_alone(shop: Shop) -> None:
    """As a log of served lists before its first file."""
    shop.mapping["items"] = {"sql": "SELECT * FROM 'served/*.parquet'", "item_id": "sku", "title": "name"}
    with pytest.raises(
        InputError, match=r"No files found .*served/\*\.parquet.*; put them there, or correct the mapping"
    ):
        shop.load("csv")


def test_a_log_with_no_event_says_so(shop: Shop) -> None:
    shop.load("csv")
    (shop.folder / "none.csv").write_text("customer,sku,ts,what\n")
    shop.mapping["events"]["file"] = "none.csv"
    with pytest.raises(InputError, match=r"none\.csv: there are no events in it; give a log with some"):
        shop.load("csv")


def test_order_only_lists_need_a_way_to_tell_what_came_before(shop: Shop) -> None:
    del shop.mapping["events"]["time"], shop.mapping["lists"][0]["time"], shop.mapping["events"]["earliest"]
    with pytest.raises(InputError, match=r"lists\.jsonl row 0.*came before"):
        shop.load()


def test_a_change_to_something_that_is_not_there(shop: Shop) -> None:
    with pytest.raises(InputError, match=r"lists\.7\.query"):
        shop.load(changes={"lists.7.query": "text"})
    assert yaml.safe_load((shop.folder / "shop.yaml").read_text())["lists"][0]["query"] == "text"
