"""A small shop on disk, in any of the three formats, and a mapping for it. Imported by the tests beside it."""

from __future__ import annotations

import csv
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from reshelf.data.dataset_folder import RankingData
from reshelf.data.importing.importer import ImportConfig, import_logs

DAY = 86_400

ITEMS: list[dict[str, Any]] = [
    {"sku": f"{n:03d}", "name": f"thing {n}", "path": f"Home > {'Mugs' if n % 2 else 'Lamps'}", "cost": 5.0 + n}
    for n in range(12)
]
EVENTS: list[dict[str, Any]] = [
    {"customer": f"u{u}", "sku": f"{(3 * u + k) % 12:03d}", "ts": (100 + 10 * u + k) * DAY, "what": what}
    for u in range(6)
    for k, what in enumerate(("view", "click", "cart", "purchase", "purchase"))
]
LISTS: list[dict[str, Any]] = [
    {
        "id": f"q{n}",
        "customer": f"u{n}",
        "ts": (103 + 10 * n) * DAY,
        "text": "mug",
        "shown": ["001", "003", "005"],
        "bought": [0, 3, 0],
        "part": ("train", "train", "train", "train", "valid", "test")[n],
    }
    for n in range(6)
]
MAPPING: dict[str, Any] = {
    "items": {"file": "items", "item_id": "sku", "title": "name", "category": "path", "price": "cost"},
    "events": {
        "file": "events",
        "user_id": "customer",
        "item_id": "sku",
        "time": "ts",
        "kind_column": "what",
        "earliest": "1970-01-01",
    },
    "lists": [
        {
            "file": "lists",
            "list_id": "id",
            "user_id": "customer",
            "time": "ts",
            "query": "text",
            "candidates": "shown",
            "labels": "bought",
            "split": "part",
        }
    ],
    "split": {"by": "column"},
}


class Shop:
    """Tables and mapping that a test may change before it imports them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = {"items": deepcopy(ITEMS), "events": deepcopy(EVENTS), "lists": deepcopy(LISTS)}
        self.mapping = deepcopy(MAPPING)
        self.out = folder / "out"

    def write(self, ending: str = "jsonl") -> Path:
        """Put the tables and `shop.yaml` into the folder."""
        for name, rows in self.tables.items():
            write_table(self.folder / f"{name}.{ending}", rows)
        mapping = deepcopy(self.mapping)
        for part in mapping.values():
            for table in part if isinstance(part, list) else [part]:
                if "file" in table and "." not in table["file"] and "/" not in table["file"]:
                    table["file"] += f".{ending}"
        path = self.folder / "shop.yaml"
        path.write_text(yaml.safe_dump(mapping), encoding="utf-8")
        return path

    def load(self, ending: str = "jsonl", **options: Any) -> RankingData:
        """Write and import."""
        path = self.write(ending)
        return import_logs(ImportConfig(mapping=str(path), root=self.folder, out=self.out, quiet=True, **options))

    def report(self) -> dict[str, Any]:
        return json.loads((self.out / "report.json").read_text(encoding="utf-8"))


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows as Parquet, JSONL or CSV (lists joined by `|`), by the ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            out = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
            out.writeheader()
            for row in rows:
                out.writerow({k: "|".join(map(str, v)) if isinstance(v, list) else v for k, v in row.items()})
