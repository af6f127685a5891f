"""The files a table's `file` stands for, and what the folders around them say.

    files = find_files(root, "events", "events", report)        # relative to the root, in name order, all of one kind
    partition_of(Path("events/shop=7/day=2024-03-01/part-0.csv"))      # {"shop": "7", "day": "2024-03-01"}

A folder of Spark's has parts with nothing in them, and names columns by folders. The folder of a Delta table also has
the files of its earlier versions: only what its log calls live is read. Iceberg, Hudi and Lance tables keep those too,
and are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pyarrow.parquet as pq

from reshelf.data.importing.import_report import ImportReport
from reshelf.data.importing.text_files import JSON, TEXT, ending_of
from reshelf.errors import InputError

PARQUET = (".parquet", ".pq")
_KINDS = {"Parquet": PARQUET, "JSON": JSON, "text": TEXT}
_NOWHERE = "__HIVE_DEFAULT_PARTITION__"
_KEEPS = {
    "a Delta table": "name its folder with file:, which reads what its log calls live",
    "an Iceberg table": "write its rows to Parquet (pyiceberg: table.scan().to_arrow()) and name that",
    "a Hudi table": "write its rows to Parquet (Spark: spark.read.format('hudi').load(…)) and name that",
    "a Lance table": "write its rows to Parquet (lance.dataset(…).to_table()) and name that",
}
"""Tables whose folders also hold rows that were deleted or replaced, and what to do with one."""


def find_files(root: Path, file: str, part: str, report: ImportReport) -> list[Path]:
    """The files a table's `file` stands for, relative to the root, in name order.

    Raises:
        InputError: there are none, they are not below the root, of different kinds, or empty; or of a table that keeps
            what was deleted in the same folder.
    """
    root = root.resolve()
    path = Path(file) if Path(file).is_absolute() else root / file
    try:
        relative = path.resolve().relative_to(root) if "*" not in file else path.relative_to(root)
    except ValueError as error:
        raise InputError(f"{part}.file: {file} is outside of {root}; give the folder above it with --root") from error
    if path.is_dir():
        below = [p for p in path.rglob("*") if p.is_file() and p.resolve().is_relative_to(root)]
        files = sorted(p for p in below if not any(part[0] in "._" for part in p.relative_to(path).parts))
    elif any(c in file for c in "*?["):
        files = sorted(p for p in root.glob(str(relative)) if p.is_file() and p.resolve().is_relative_to(root))
    else:
        files = [path] if path.is_file() else []
    if not files:
        raise InputError(f"{path} is not there; correct {part}.file in the mapping, or give the right --root")
    files = _live(files, part, report)
    _check_kinds(files, part)
    written = [p for p in files if p.stat().st_size]
    if written and len(written) < len(files):  # Spark writes a part for each of its tasks
        report.warn(f"{len(files) - len(written)} of {len(files)} files of {part} are empty and were left out")
        files = written
    return [p.relative_to(root) if p.is_relative_to(root) else p.resolve().relative_to(root) for p in files]


def _check_kinds(files: list[Path], part: str) -> None:
    """All files are of one kind that can be read."""
    kinds: dict[str, Path] = {}
    for file in files:
        kind = next((name for name, endings in _KINDS.items() if ending_of(file) in endings), None)
        if kind is None:
            raise InputError(
                f"{file}: unknown kind of file; use .parquet, .jsonl, .ndjson, .json, .csv, .tsv, .dat or .txt (all "
                f"but Parquet also .gz, .zst or .bz2), rename it, or leave it out with a pattern in {part}.file"
            )
        kinds.setdefault(kind, file)
    if len(kinds) > 1:
        found = ", ".join(f"{name} ({file})" for name, file in kinds.items())
        raise InputError(f"{part}.file stands for files of different kinds: {found}; choose one by a pattern (*.csv)")


def partition_of(file: Path) -> dict[str, str | None]:
    """What the folders of a file say, `key=value`: text, None for Hive's word for NULL."""
    pairs = (step.partition("=") for step in file.parts[:-1] if "=" in step)
    return {unquote(key): None if value == _NOWHERE else unquote(value) for key, _, value in pairs}


def check_select(query: str, root: Path, part: str) -> None:
    """A SELECT reads no folder that also holds what was deleted: which of its rows are live it cannot know.

    Raises:
        InputError: names the folder.
    """
    for text in re.findall(r"'((?:[^']|'')*)'", query):
        path = Path(re.split(r"[*?\[]", text.replace("''", "'"))[0] or ".")
        if not path.is_absolute() or not path.is_relative_to(root):
            continue
        folder = path if text.startswith(str(path)) and path.is_dir() else path.parent
        inside = [log.parent for log in folder.rglob("_delta_log")] if "**" in text else []
        for place in (*inside, folder):
            if found := _table_of(place):
                raise _refusal(*found, part)


def _refusal(folder: Path, what: str, part: str) -> InputError:
    return InputError(
        f"{part}: {folder} is {what}, whose files also hold rows that were deleted or replaced; {_KEEPS[what]}"
    )


def _table_of(folder: Path) -> tuple[Path, str] | None:
    """The folder at or above this one that is a table of such a kind, and which."""
    for place in (folder, *folder.parents):
        if (place / "_delta_log").is_dir():
            return place, "a Delta table"
        if (place / ".hoodie").is_dir():
            return place, "a Hudi table"
        if (place / "metadata").is_dir() and any((place / "metadata").glob("*.metadata.json*")):
            return place, "an Iceberg table"
        if (place / "_versions").is_dir() and any((place / "_versions").glob("*.manifest")):
            return place, "a Lance table"
    return None


def _live(files: list[Path], part: str, report: ImportReport) -> list[Path]:
    """The files without those of a Delta table's earlier versions."""
    tables = {folder: _table_of(folder) for folder in {file.parent for file in files}}
    live: dict[Path, set[Path]] = {}
    for found in filter(None, tables.values()):
        if found[1] != "a Delta table":
            raise _refusal(*found, part)
        if found[0] not in live:
            live[found[0]] = _delta_files(found[0])
    if not live:
        return files
    named = set().union(*live.values())
    chosen = [file for file in files if tables[file.parent] is None or file in named]
    if lost := sorted(file for file in named if not file.is_file()):
        raise InputError(f"{lost[0]} is not there, and its Delta log says it should be; copy the table as a whole")
    if not chosen:
        raise InputError(f"{part}.file: the Delta log of {next(iter(live))} calls none of these files live")
    left = [str(file) for file in files if file not in set(chosen)]
    report.repair(part, "file of an earlier version of the Delta table, left out", len(left), left)
    return chosen


def _delta_files(table: Path) -> set[Path]:
    """What the log of a Delta table calls live.

    Raises:
        InputError: rows of live files are deleted or their columns renamed by the log, or the log cannot be read.
    """
    log = table / "_delta_log"
    points = sorted(log.glob("*.checkpoint*.parquet"))
    start = -1
    actions: list[dict[str, Any]] = []
    try:
        if points:
            start = int(points[-1].name.split(".")[0])
            for file in points:
                if int(file.name.split(".")[0]) == start:
                    actions += _checkpoint(file)
        commits = sorted(file for file in log.glob("*.json") if file.stem.isdigit() and int(file.stem) > start)
        if [int(file.stem) for file in commits] != list(range(start + 1, start + 1 + len(commits))):
            raise InputError(f"{log} lacks some of its commits; copy the Delta table as a whole")
        for file in commits:
            actions += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (ValueError, OSError) as error:
        raise InputError(f"{log} cannot be read as a Delta log: {error}; write the table to other files") from error
    live: set[Path] = set()
    for action in actions:
        if (add := action.get("add")) and add.get("path"):
            if add.get("deletionVector"):
                raise InputError(f"{table} has deletion vectors, which are not read; run REORG TABLE … APPLY (PURGE)")
            live.add(table / unquote(add["path"]))
        if (remove := action.get("remove")) and remove.get("path"):
            live.discard(table / unquote(remove["path"]))
        if _renames(action.get("metaData")) or action.get("sidecar"):
            raise InputError(f"{table} has mapped columns or sidecars, which are not read; write it to other files")
    return live


def _checkpoint(file: Path) -> Iterable[dict[str, Any]]:
    there = set(pq.read_schema(file).names)
    return pq.read_table(file, columns=[n for n in ("add", "remove", "metaData", "sidecar") if n in there]).to_pylist()


def _renames(meta: dict[str, Any] | None) -> bool:
    """Does the log call columns otherwise than the files do?"""
    return dict((meta or {}).get("configuration") or {}).get("delta.columnMapping.mode", "none") != "none"
