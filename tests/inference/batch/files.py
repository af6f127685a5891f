"""What a batch job reads and writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.dataset_folder import LIST_SCHEMA


def write(path: Path, rows: Sequence[dict[str, Any]], schema: pa.Schema = LIST_SCHEMA, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), path, **options)
    return path


def scores_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("scores-*.parquet")) for row in pq.read_table(path).to_pylist()]


def rejects_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(out.glob("rejected-*.jsonl")) for line in path.open(encoding="utf-8")]
