"""Exports as systems write them: files, folders, texts, ids and times that a newcomer's mapping has to survive."""

from __future__ import annotations

import bz2
import json
from typing import Any

import pyarrow as pa
import pytest
from export import EVENTS, ITEMS, LISTS, RIGHT, ROWS, SHOWN, Export
from log_samples import lists_of

HALVES = [EVENTS, EVENTS.split("\n")[0] + "\n"]
BY_DAY = {f"log/kind={row['kind']}/{n}.csv": f"user,sku,time\n{row['user']},{row['sku']},{row['time']}\n"
          for n, row in enumerate(ROWS)}  # fmt: skip
BY_KIND_JSON = {
    f"log/kind={row['kind']}/{n}.jsonl": [{key: value for key, value in row.items() if key != "kind"}]
    for n, row in enumerate(ROWS)
}
ENVELOPES = {"user_id": "payload.user", "item_id": "payload.sku", "time": "payload.time", "kind_column": "payload.kind"}
TEXT_MAP = pa.map_(pa.string(), pa.string())
SAME = {
    "zstd": ({"events.csv.zst": pa.compress(EVENTS.encode(), "zstd", asbytes=True)}, {}),
    "bzip2": ({"events.csv.bz2": bz2.compress(EVENTS.encode())}, {}),
    "parts of Spark, one empty": ({"log/part-0.csv": HALVES[0], "log/part-1.csv": "", "log/_SUCCESS": ""}, {}),
    "folders that name a column of CSV": (BY_DAY, {}),
    "folders that name a column of JSON": (BY_KIND_JSON, {}),
    "lines above the header": ({"events.csv": "sep=,\n# all users\n" + EVENTS}, {"skip_lines": 2}),
    "UTF-16": ({"events.csv": EVENTS.encode("utf-16")}, {"encoding": "utf-16"}),
    "JSON over several lines": ({"events.json": "\n".join(json.dumps(row, indent=1) for row in ROWS)}, {}),
    "JSON without line breaks": ({"events.json": "".join(json.dumps(row) for row in ROWS)}, {}),
    "marks of deleted rows": ({"events.jsonl": "null\n".join(json.dumps(row) + "\n" for row in ROWS)}, {}),
    "envelopes": ({"events.jsonl": [{"schema": {}, "payload": row} for row in ROWS]}, ENVELOPES),
    "envelopes of text": ({"events.jsonl": [{"payload": json.dumps(row)} for row in ROWS]}, ENVELOPES),
    "text that is JSON in Parquet": ({"e.parquet": [{"payload": json.dumps(row)} for row in ROWS]}, ENVELOPES),
    "maps in Parquet": (
        {
            "e.parquet": pa.table(
                {"payload": pa.array([[*row.items()] for row in ROWS], pa.map_(pa.string(), pa.string()))}
            )
        },
        ENVELOPES,
    ),
    "words in another case": ({"events.csv": EVENTS.replace("click", "Click").replace("purchase", "PURCHASE")}, {}),
    "times of Java": ({"events.csv": EVENTS.replace("Z,", "+00:00[Europe/London],")}, {}),
    "times in ISO's basic form": (
        {"events.csv": EVENTS.replace("2026-03-01", "20260301").replace("2026-04-01", "20260401")},
        {},
    ),
    "times of Go": ({"events.csv": EVENTS.replace("T", " ").replace("Z,", " +0000 UTC,")}, {}),
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_events_however_they_were_written(export: Export, name: str) -> None:
    files, keys = SAME[name]
    del export.files["events.csv"]
    export.files |= files
    export.mapping["events"] |= {
        "file": "log" if any(f.startswith("log/") for f in files) else next(iter(files)),
        **keys,
    }
    assert export.load() == [RIGHT]


def test_a_comma_before_the_milliseconds(export: Export) -> None:
    export.of_events([row | {"time": row["time"].replace("Z", ",123")} for row in ROWS], "events.jsonl", timezone="UTC")
    assert export.load() == [RIGHT]


@pytest.mark.parametrize(
    "hits",
    [
        "['1', '2', '3']",
        "[1, 2, 3]",
        "[1 2 3]",
        "['1' '2' '3']",
        "{1,2,3}",
        '{"1","2","3"}',
        "{'1', '2', '3'}",
        "1|2|3",
    ],
)
def test_a_list_as_python_numpy_or_a_database_writes_it(export: Export, hits: str) -> None:
    assert export.of_lists([LISTS[0] | {"hits": hits}]).load() == [RIGHT]


def test_parts_of_lists_of_objects(export: Export) -> None:
    rows = [LISTS[0] | {"hits": [{"sku": n, "score": s} for n, s in ((1, 3.5), (2, 2.5), (3, 1.5))]}]
    assert export.of_lists(rows, candidates="hits.sku", scores="hits.score").load() == [RIGHT]
    assert lists_of(export.data)[0].scores == (3.5, 2.5, 1.5)
    export.mapping["lists"]["file"] = "lists.parquet"
    export.files["lists.parquet"] = rows
    assert export.load() == [RIGHT]
    export.mapping["lists"] |= {"candidates": "hits", "scores": None}
    export.refused(r"field hits: the list holds objects where ids are expected; map a part of them \(hits\.part\)")


def test_ids_that_were_not_found_are_named(export: Export) -> None:
    export.of_lists([LISTS[0] | {"hits": "1,2,3"}]).refused(r"list L1 of '1,2,3'")


def test_a_list_delivered_twice_is_one(export: Export) -> None:
    assert export.of_lists(LISTS * 2).load() == [RIGHT]
    assert export.report["tables"]["lists.0"]["dropped"] == {"list delivered again": 1}
    export.files["lists.jsonl"] = [*LISTS, LISTS[0] | {"hits": ["4"]}]
    assert export.load() == [RIGHT, "4:0 | view 5"]


def test_text_that_parquet_does_not_call_text(export: Export) -> None:
    export.mapping["items"]["file"] = "products.parquet"
    names = {"sku": [b"1", b"2", b"3", b"5"], "name": ["Tasse für Tee".encode(), "杯子".encode(), b"\xff", b"x"]}
    export.files["products.parquet"] = pa.table({key: pa.array(v, pa.binary()) for key, v in names.items()})
    assert export.load() == [RIGHT]
    assert [item.title for item in export.data.items.values()] == ["Tasse für Tee", "杯子", r"\xFF", "x"]


def test_encodings_and_backslashes_before_quotation_marks(export: Export) -> None:
    export.files["products.csv"] = ITEMS.replace("thing", "杯子").encode("gbk")
    export.refused("is not utf-8 text; set its encoding in the mapping, such as latin-1 or gbk")
    export.mapping["items"]["encoding"] = "gbk"
    assert export.load() == [RIGHT]
    assert export.data.items["1"].title == "杯子 1"
    export.files["products.csv"] = ITEMS.replace("thing", "Men’s – €").encode("cp1252")
    export.mapping["items"]["encoding"] = "latin-1"
    export.load()
    assert export.data.items["1"].title == "Men’s – € 1"
    export.files["products.csv"] = 'sku,name,price\n1,"12\\" pan, red",5\n2,x,\\N\n3,y,7\n5,z,8\n'
    export.mapping["items"] |= {"encoding": "utf-8", "price": "price"}
    export.refused(r"line 2: a quotation mark inside a value stands behind a backslash; set items\.escape: '\\'")
    export.mapping["items"]["escape"] = "\\"
    assert export.load() == [RIGHT]
    assert export.data.items["1"].title == '12" pan, red'
    assert export.data.items["2"].price is None
    export.mapping["items"] |= {"encoding": "klingon"}
    export.refused("'klingon' is no encoding")


def test_the_first_of_several_category_paths(export: Export) -> None:
    export.mapping["items"] |= {"category": "path", "category_paths": ", "}
    export.load()
    assert export.data.items["1"].category == ("Home", "Mugs")


MISTAKES = {
    "kinds of files": ({"log/a.csv": EVENTS, "log/b.json": "{}"}, "files of different kinds: text .* JSON"),
    "header below": ({"log/a.csv": "report\n\n" + EVENTS}, r"columns are on line 3; set events\.skip_lines: 2"),
    "a list around all": ({"log/a.json": json.dumps({"rows": ROWS}, indent=1)}, r"every element of the list 'rows'"),
    "an envelope": ({"log/a.jsonl": [{"payload": row} for row in ROWS]}, r"but 'payload\.user'; write that in events"),
    "Mongo's times": (
        {"log/a.jsonl": [row | {"time": {"$date": row["time"]}} for row in ROWS]},
        r"column 'time' holds objects .* \(time\.\$date\)",
    ),
    "a zone with several meanings": ({"log/a.csv": EVENTS.replace("Z,", " BST,")}, "BST' is not a time"),
    "ticks of .NET": ({"log/a.csv": EVENTS.replace("2026-03-01T09:00:00Z", "639079200300000000")}, "is not a time"),
    "no zstd": ({"log/a.csv.zst": b"no"}, "a.csv.zst cannot be read: .*; write or copy that file again"),
    "no gzip": ({"log/a.csv.gz": b"no"}, "a.csv.gz cannot be read: .*; write or copy that file again"),
    "bzip2 cut off": (
        {"log/a.jsonl.bz2": bz2.compress(b"{}" * 99)[:-9]},
        "bz2 cannot be read: .* that file again",
    ),
    "JSON of another encoding": ({"log/a.jsonl": '{"user": "ü"}'.encode("latin-1")}, "a.jsonl is not utf-8 text"),
    "an array cut off": (
        {"log/a.json": json.dumps(ROWS, indent=1)[:-20]},
        "cannot be read: .*; correct the file",
    ),
    "Iceberg": ({"log/data/a.csv": EVENTS, "log/metadata/v1.metadata.json": "{}"}, "is an Iceberg table, whose files"),
    "Hudi": ({"log/a.csv": EVENTS, "log/.hoodie/hoodie.properties": ""}, r"is a Hudi table.*spark\.read\.format"),
    "Lance": ({"log/data/a.lance": "", "log/_versions/1.manifest": ""}, r"is a Lance table.*lance\.dataset\(…\)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_cannot_be_read_says_what_to_do(export: Export, name: str) -> None:
    files, words = MISTAKES[name]
    export.files |= files
    export.mapping["events"]["file"] = "log"
    export.refused(words)


def test_objects_and_structs_are_no_text(export: Export) -> None:
    export.mapping["items"]["file"] = "products.jsonl"
    rows = export.files["products.jsonl"] = [{"sku": str(n), "name": {"en": f"thing {n}"}} for n in range(1, 6)]
    export.refused(r"column 'name' holds objects .* \(name\.en\)")
    export.mapping["items"]["file"] = "products.parquet"
    export.files["products.parquet"] = rows
    export.refused(r"items: column 'name' holds STRUCT values where plain ones are expected; map a part of it")


def delta(*actions: dict[str, Any]) -> str:
    return "".join(json.dumps(action) + "\n" for action in actions)


def test_of_a_delta_table_only_what_is_live(export: Export) -> None:
    export.of_events(ROWS, "log/b%20c.parquet")
    export.files["log/b c.parquet"] = export.files.pop("log/b%20c.parquet")
    export.files["log/a.parquet"] = [ROWS[1] | {"sku": "3"}]
    export.files["log/_delta_log/00000000000000000000.json"] = delta({"add": {"path": "a.parquet"}})
    change = export.files["log/_delta_log/00000000000000000001.json"] = delta(
        {"remove": {"path": "a.parquet"}}, {"add": {"path": "b%20c.parquet"}}
    )
    export.mapping["events"]["file"] = "log"
    assert export.load() == [RIGHT]
    export.files["log/_delta_log/00000000000000000001.json"] = change.replace(
        '{"path": "b', '{"deletionVector": {"x": 1}, "path": "b'
    )
    export.refused("has deletion vectors")
    del export.mapping["events"]["file"]
    export.mapping["events"]["sql"] = "SELECT * FROM read_parquet('log/*.parquet')"
    export.refused(r"events\.sql: .* is a Delta table, whose files also hold rows that were deleted or replaced")


def test_words_of_programs_for_none(export: Export) -> None:
    export.mapping["events"]["list_id"] = "list"
    export.files["events.csv"] = (
        "user,sku,time,kind,list\nann,2,2026-03-01T10:00:30Z,click,NULL\nNone,3,2026-03-01T10:00:30Z,click,L1\n"
        "\\N,3,2026-03-01T10:00:30Z,click,L1\nzoe,1,2026-04-01T00:00:00Z,view,nan\n"
    )
    more = "".join(f"L{n},{who},2026-03-01T10:00:00Z,None,{n},1\n" for n, who in ((2, "nan"), (3, "<NA>"), (4, "ann")))
    export.files["shown.csv"] = SHOWN + more
    assert export.load() == ["1:0 2:1 3:0 | ", "4:0 | "]
    assert [one.query for one in lists_of(export.data)] == ["mug", ""]
    tables = export.report["tables"]
    assert tables["events"]["dropped"] == tables["pairs.0"]["dropped"] == {"shopper id missing": 2}
    assert tables["pairs.0"]["repaired"] == {"query is a program's word for none, now without one": 1}


def test_the_products_of_an_order_share_its_id(export: Export) -> None:
    rows = "".join(f"ann,{sku},2026-03-01T10:05:00Z,o1\n" for sku in (1, 2, 2)) + "zoe,1,2026-04-01T00:00:00Z,o2\n"
    export.of_events("user,sku,time,order\n" + rows, "o.csv", event_id="order", kind="purchase", kind_column=None)
    assert export.load() == ["1:3 2:3 3:0 | "]
    assert export.report["tables"]["events"]["dropped"] == {"event id seen before": 1}


def test_a_quantity_below_zero_takes_back(export: Export) -> None:
    rows = "".join(
        f"ann,{sku},2026-03-0{day}T10:05:00Z,{n}\n" for sku, day, n in ((1, 1, 1), (2, 1, 2), (3, 1, 0), (2, 2, -2))
    )
    rows += "zoe,1,2026-04-01T00:00:00Z,1\n"
    export.of_events("user,sku,time,n\n" + rows, "o.csv", quantity="n", kind="purchase", kind_column=None)
    export.files["shown.csv"] = SHOWN + "L2,ann,2026-03-05T10:00:00Z,mug,4,1\n"
    assert export.load() == ["1:3 2:0 3:0 | ", "4:0 | purchase 1"]
    assert export.report["tables"]["events"]["dropped"] == {"quantity is 0": 1, "takes another event back": 1}


def test_rows_that_are_too_many_lists_or_too_few(export: Export) -> None:
    export.files["shown.csv"] = SHOWN + "L1,ann,2026-03-09T10:00:00Z,mug,4,4\n"
    assert export.load() == ["1:0 2:3 3:0 | view 5", "4:0 | view 5, click 2, purchase 2"]
    (found,) = export.report["tables"]["pairs.0"]["repaired"].items()
    assert found == ("list id used again, a list of its own", 1)
    export.mapping["pairs"] |= {"list_id": None, "position": None}
    export.files["shown.csv"] = "user,time,q,sku\n" + "".join(
        f"ann,2026-03-01T10:00:00.00{n}Z,mug,{n}\n" for n in range(1, 4)
    )
    assert len(export.load()) == 3
    assert any("3 of 3 lists of pairs.0 are one product alone" in text for text in export.report["warnings"])


def test_judgements_without_a_query_are_no_list(export: Export) -> None:
    export.mapping["pairs"] = {"file": "judged.csv", "query": "q", "item_id": "sku", "label": "grade"}
    export.files["judged.csv"] = "q,sku,grade\nmug,1,3\nmug,2,0\n,3,1\n,4,2\n"
    assert export.load() == ["1:3 2:0 | "]
    assert export.report["tables"]["pairs.0"]["dropped"] == {"query missing": 2}


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_a_row_with_several_products_is_an_event_for_each(export: Export, name: str) -> None:
    rows = [
        {"user": "ann", "time": "2026-03-01T10:05:00Z", "order": "o1", "lines": [{"sku": "1"}, {"sku": "3"}]},
        {"user": "zoe", "time": "2026-04-01T00:00:00Z", "order": "o2", "lines": [{"sku": "1"}]},
    ]
    export.of_events(rows, name, item_id="lines.sku", event_id="order", kind="purchase", kind_column=None)
    assert export.load() == ["1:3 2:0 3:3 | "]
    export.files[name] = [row | {"lines": [line["sku"] for line in row["lines"]]} for row in rows]  # type: ignore[attr-defined]
    export.mapping["events"]["item_id"] = "lines"
    assert export.load() == ["1:3 2:0 3:3 | "]
