"""The output of a batch job: what is done, what is left, and the files that say so.

    with lock_folder(out):
        finished = read_finished(out)             # {shard: Tally}
        tally = write_shard(out, shard, columns, rejects)

A shard is finished when `scores-n.parquet` is there. It gets its name in one step, after the shard's rejects got
theirs, so a job that is killed at any moment has every list in a finished shard or in none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reshelf.data.atomic import atomic, locked_folder, write_json
from reshelf.errors import InputError
from reshelf.inference.batch.rows import Reject
from reshelf.prompts.list_prompt import Truncated

MANIFEST = "manifest.json"
REPORT = "report.json"
SCORES_SCHEMA = pa.schema(
    [
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("row", pa.int64()),
        ("list_id", pa.string()),
        ("user_id", pa.string()),
        ("candidates", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("ranked", pa.list_(pa.string())),
        ("fallback", pa.string()),
        ("missing", pa.list_(pa.string())),
        *((f"truncated_{count.name}", pa.int32()) for count in fields(Truncated)),
    ]
)
"""`scores` run parallel to `candidates`; `ranked` are the candidates, best first; file and row are of the input.
`fallback` says why a list has no scores and is in first-stage order: features_missing. `missing` names numbers that the
model reads and did not have, of all candidates or of some: scores, features.NAME."""

_SHARD = re.compile(r"(scores|rejected)-(\d{5,})\.(parquet|jsonl)")
_PARTIAL = re.compile(rf"\.({MANIFEST}|{REPORT}|{_SHARD.pattern})(\.\w+)?\.partial")
_TALLY = b"reshelf"


@dataclass
class Tally:
    """What became of the rows of one or more shards."""

    lists: int = 0
    fallbacks: int = 0
    """Those of the lists that are in first-stage order, for numbers that the model reads are missing."""
    incomplete: int = 0
    """Those that were ranked without some of these numbers."""
    rejected: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By field: `rows`, and `example`, one of them in words."""

    @property
    def rows(self) -> int:
        return self.lists + sum(found["rows"] for found in self.rejected.values())

    def add(self, other: Tally) -> None:
        self.lists += other.lists
        self.fallbacks += other.fallbacks
        self.incomplete += other.incomplete
        for name, found in other.rejected.items():
            mine = self.rejected.setdefault(name, {"rows": 0, "example": found["example"]})
            mine["rows"] += found["rows"]


@contextmanager
def lock_folder(out: Path) -> Iterator[None]:
    """Make the output folder, keep other jobs out of it for as long as this one runs, and clean up after a killed one.

    Raises:
        InputError: it cannot be written to, another job is writing to it, or it holds files of another kind.
    """
    with locked_folder(out, "batch job"):
        for path in sorted(out.iterdir()):
            ours = path.name in (MANIFEST, REPORT) or _SHARD.fullmatch(path.name)
            if not ours and not _PARTIAL.fullmatch(path.name):
                raise InputError(f"{out} holds {path.name}, which is no batch job's; choose an empty folder as out")
        for path in out.glob(".*.partial"):
            path.unlink()
        yield


def begin(out: Path, manifest: Mapping[str, Any]) -> bool:
    """Begin a job, or see that it is the one that was begun before; returns whether it was.

    Raises:
        InputError: another job has finished shards here; says what differs.
    """
    path = out / MANIFEST
    if not any(out.glob("scores-*")):
        for side in out.glob("rejected-*"):
            side.unlink()
        (out / REPORT).unlink(missing_ok=True)
        write_json(path, manifest)
        return False
    if not path.exists():
        raise InputError(f"{out} holds scores but no {MANIFEST}; choose an empty folder as out")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
        different = [name for name, value in manifest.items() if before.get(name) != value]
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {' '.join(str(error).split())}; choose another out folder") from error
    if not different:
        return True
    name = different[0]
    was, now = before.get(name), manifest[name]
    change, cure = f"{name} was {_short(was)} and is {_short(now)}", "repeat what it was begun with"
    if name == "files" and isinstance(was, list):
        change = _file_change({f["name"]: f for f in was}, {f["name"]: f for f in now})
    elif name in ("model", "catalogue"):
        change = f"the {name} has changed"
    elif name in ("engine", "precision") and was != "auto":  # which is chosen by the machine that runs it
        cure = f"give --{name} {was}"
    raise InputError(f"{path} is of another job: {change}; {cure}, or choose another out folder")


def read_finished(out: Path) -> dict[int, Tally]:
    """Finished shards. A file that cannot be read (cut off when the machine lost power) is not one."""
    finished = {}
    for path in sorted(out.glob("scores-*.parquet")):
        shard = int(path.stem.removeprefix("scores-"))
        try:
            finished[shard] = Tally(**json.loads(pq.read_metadata(path).metadata[_TALLY]))
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
            continue
    return finished


def write_shard(out: Path, shard: int, columns: Mapping[str, Sequence[Any]], rejects: Sequence[Reject]) -> Tally:
    """Write a shard's rejects, if any, and then its scores, which finishes it.

    Args:
        columns: of `SCORES_SCHEMA`, in the order of the input.
        rejects: in the order of the input.
    """
    fallbacks = sum(why is not None for why in columns["fallback"])
    tally = Tally(len(columns["row"]), fallbacks, sum(map(bool, columns["missing"])) - fallbacks)
    for one in rejects:
        words = f"{one.file} row {one.row}, {one.reason}"
        tally.add(Tally(rejected={one.field: {"rows": 1, "example": words}}))
    side = out / f"rejected-{shard:05}.jsonl"
    if rejects:
        with atomic(side) as partial, partial.open("w", encoding="utf-8") as lines:
            for one in rejects:
                lines.write(json.dumps(asdict(one), ensure_ascii=False) + "\n")
    else:
        side.unlink(missing_ok=True)
    schema = SCORES_SCHEMA.with_metadata({_TALLY: json.dumps(asdict(tally))})
    with atomic(out / f"scores-{shard:05}.parquet") as partial:
        pq.write_table(pa.Table.from_pydict(dict(columns), schema=schema), partial, compression="zstd")
    return tally


def _file_change(was: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    for name in sorted({*was, *now}):
        if name not in now:
            return f"the input file {name} is no longer there"
        if name not in was:
            return f"the input file {name} is new"
        if was[name] != now[name]:
            return f"the input file {name} has changed"
    return "the input files are in another order"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) < 80 else f"{text[:77]}…"
