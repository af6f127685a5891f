"""A small export, its mapping, and the one list that is right: what a test changes about them should not change it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from log_samples import lists_of

from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.errors import InputError

ITEMS = "sku,name,path\n" + "".join(f'{n},thing {n},"Home > Mugs, Sale"\n' for n in range(1, 8))
EVENTS = (
    "user,sku,time,kind\nann,5,2026-03-01T09:00:00Z,view\nann,2,2026-03-01T10:00:30Z,click\n"
    "ann,2,2026-03-01T10:05:00Z,purchase\nzoe,1,2026-04-01T00:00:00Z,view\n"
)
ROWS = [dict(zip(EVENTS.split()[0].split(","), line.split(","), strict=True)) for line in EVENTS.split()[1:]]
SHOWN = "list,user,time,q,sku,rank\n" + "".join(f"L1,ann,2026-03-01T10:00:00Z,mug,{n},{n}\n" for n in (1, 2, 3))
LISTS: list[dict[str, Any]] = [
    {"list": "L1", "user": "ann", "time": "2026-03-01T10:00:00Z", "q": "mug", "hits": ["1", "2", "3"]}
]
RIGHT = "1:0 2:3 3:0 | view 5"


class Export:
    """Files and a mapping, which a test changes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[str, Any] = {"products.csv": ITEMS, "events.csv": EVENTS, "shown.csv": SHOWN}
        self.mapping: dict[str, Any] = {
            "items": {"file": "products.csv", "item_id": "sku", "title": "name"},
            "events": {
                "file": "events.csv", "user_id": "user", "item_id": "sku", "time": "time", "kind_column": "kind",
            },
            "pairs": {
                "file": "shown.csv", "list_id": "list", "user_id": "user", "time": "time", "query": "q",
                "item_id": "sku", "position": "rank",
            },
            "split": {"by": "user", "valid": 0, "test": 0},
        }  # fmt: skip

    def of_lists(self, rows: Any, name: str = "lists.jsonl", **keys: Any) -> Export:
        """One row per list, instead of the rows of what was shown."""
        del self.mapping["pairs"]
        table = {"file": name, "list_id": "list", "user_id": "user", "time": "time", "query": "q", "candidates": "hits"}
        self.mapping["lists"] = table | keys
        self.files[name] = rows
        return self

    def of_events(self, content: Any, name: str, **keys: Any) -> Export:
        """Other events."""
        self.mapping["events"] |= {"file": name} | keys
        self.files[name] = content
        return self

    def load(self) -> list[str]:
        """Every list in short; the report is `self.report`."""
        for name, content in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif isinstance(content, str):
                path.write_text(content, encoding="utf-8")
            elif path.suffix == ".parquet":
                pq.write_table(content if isinstance(content, pa.Table) else pa.Table.from_pylist(content), path)
            else:
                path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        (self.root / "map.yaml").write_text(yaml.safe_dump(self.mapping), encoding="utf-8")
        out = self.root / "out"
        self.data = import_logs(ImportConfig(str(self.root / "map.yaml"), out, self.root, quiet=True))
        self.report = json.loads((out / "report.json").read_text(encoding="utf-8"))
        return [
            " ".join(f"{c}:{g}" for c, g in zip(one.candidates, one.labels or (), strict=True))
            + " | "
            + ", ".join(f"{event.kind} {event.item_id}" for event in one.history)
            for one in lists_of(self.data)
        ]

    def refused(self, words: str) -> None:
        with pytest.raises(InputError, match=words) as caught:
            self.load()
        assert "\n" not in str(caught.value)
