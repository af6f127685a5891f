"""The shown lists of a streamed import: an impression log, put together, labelled and sorted by DuckDB.

    lists = stream_pairs(work, mapping.pairs, root, context, by_list=False)
    lists.candidates["item"][lists.start[0] : lists.start[0] + lists.size[0]]

The rules are those of `data.importing.pairs`, which is also what checks the single rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reshelf.data.importing.files import count_rows, find_files
from reshelf.data.importing.given import Context
from reshelf.data.importing.mapping import PairsTable
from reshelf.data.importing.pairs import AGAIN, HOUR, check_shown, shown_columns, two_splits
from reshelf.data.importing.readers import read_batches
from reshelf.data.importing.stream.work import Columns, Int32, Spool, Work
from reshelf.errors import InputError

Int64 = npt.NDArray[np.int64]


@dataclass
class Lists:
    """Lists in order of reading; arrays run parallel."""

    part: npt.NDArray[np.int8]
    """Number of the pairs table."""
    row: Int64
    """First row of the list in its table."""
    list: Int32
    """Code of its id."""
    user: Int32
    time: Int64
    """Microseconds since 1970 UTC."""
    query: Int32
    split: npt.NDArray[np.int8]
    start: Int64
    """Where its candidates begin."""
    size: Int64
    """How many there are."""
    candidates: Columns
    """`item`, `label`, `position` and `score` of all candidates of all lists."""

    def __len__(self) -> int:
        return len(self.row)

    def only(self, chosen: npt.NDArray[np.bool_]) -> Lists:
        """Some of the lists, over the same candidates."""
        changed = {f.name: getattr(self, f.name)[chosen] for f in fields(self) if f.name != "candidates"}
        return replace(self, **changed)


def stream_pairs(work: Work, specs: Sequence[PairsTable], root: Path, context: Context, by_list: bool) -> Lists:
    """Read all pairs tables.

    Args:
        by_list: the events say which list they happened on.

    Raises:
        InputError: names file, row and field.
    """
    spool = Spool(
        work.folder / "candidates", {"item": np.int32, "label": np.int8, "position": np.int64, "score": np.float64}
    )
    heads, sizes = [], []
    for part, spec in enumerate(specs):
        _stage(work, spec, root, f"pairs.{part}", context)
        head, size = _together(work, spec, root, part, by_list and bool(spec.list_id), spool)
        heads.append(head | {"part": np.full(len(size), part, dtype=np.int8)})
        sizes.append(size)
    merged = {name: np.concatenate([head[name] for head in heads]) for name in heads[0]}
    size = np.concatenate(sizes).astype(np.int64)
    return Lists(
        part=merged["part"], row=merged["first"], list=merged["list"], user=merged["user"], time=merged["time"],
        query=merged["query"], split=merged["split"], start=np.cumsum(size) - size, size=size,
        candidates=spool.columns(),
    )  # fmt: skip


def place_of(spec: PairsTable, root: Path, part: int, row: int) -> str:
    """`impressions.csv row 4 (line 6)`, found by reading once more: only a mistake needs it."""
    for raw in read_batches(spec, root, shown_columns(spec), f"pairs.{part}", 100_000):
        if row < raw.first + raw.n_read:
            return raw.place(int(np.searchsorted(raw.rows, row)))
    raise AssertionError(f"pairs.{part} has no row {row}")


def _stage(work: Work, spec: PairsTable, root: Path, part: str, context: Context) -> None:
    """Put the rows, checked, into the table `shown`."""
    total = count_rows(find_files(spec, root, part))
    task = work.progress.add_task("reading lists", total=total)
    work.base.execute(
        'CREATE OR REPLACE TABLE shown ("row" BIGINT, list INTEGER, "user" INTEGER, "time" BIGINT, query INTEGER, '
        "split TINYINT, item INTEGER, place DOUBLE, score DOUBLE)"
    )
    work.books.read(part, 0)
    for raw in read_batches(spec, root, shown_columns(spec), part, work.rows):
        work.progress.advance(task, raw.n_read)
        work.books.read(part, raw.n_read)
        work.books.drop(part, "not chosen by where", raw.n_read - len(raw))
        shown = check_shown(spec, raw, context)
        shared, zeros = shown.shared, np.zeros(len(raw))
        lists = np.full(len(raw), -1, dtype=np.int32) if shared.list_id is None else work.lists.of(shared.list_id)
        columns = {
            "row": raw.rows, "list": lists, "user": work.users.of(shared.user), "time": shared.times,
            "query": work.queries.of(shared.query), "split": shared.splits, "item": shown.item,
            "place": zeros if shown.places is None else shown.places,
            "score": zeros if shown.scores is None else shown.scores,
        }  # fmt: skip
        work.insert("shown", columns)


def _together(
    work: Work, spec: PairsTable, root: Path, part: int, by_list: bool, spool: Spool
) -> tuple[Columns, npt.NDArray[np.int64]]:
    """Lists of one table in order of first appearance, and how many candidates each has; those go to the spool."""
    name, base = f"pairs.{part}", work.base
    task = work.progress.add_task("putting lists together", total=work.number("SELECT count(*) FROM shown"))
    keys = "list" if spec.list_id else '"user", "time", query, split'
    rest = ['"user"', '"time"', "query", "split"] if spec.list_id else ["list"]
    firsts = ", ".join(f'arg_min({column}, "row") AS {column}' for column in rest)
    base.execute(
        f'CREATE OR REPLACE TABLE heads AS SELECT {keys}, min("row") AS first, {firsts} FROM shown GROUP BY {keys}'
    )
    # -0.0 and 0.0 are the same place, which a sort by bits would not say
    order = 'heads.first, {}shown."row"'.format(
        "shown.place + 0.0, " if spec.position else "0.0 - shown.score, " if spec.score else ""
    )
    joined = f"shown JOIN heads USING ({keys})"
    if spec.list_id and spec.split:
        wrong = base.execute(
            f'SELECT shown."row", heads.first, heads.split FROM {joined} WHERE shown.split <> heads.split '
            f"ORDER BY {order} LIMIT 1"
        ).fetchall()
        for row, first, split in wrong:
            what = two_splits(split, place_of(spec, root, part, first))
            raise InputError(f"{place_of(spec, root, part, row)}, field {spec.split}: {what}")
    if by_list:
        outcome = "SELECT list, item, max(grade) AS grade FROM said WHERE grade > 0 AND list >= 0 GROUP BY list, item"
        match = "best.list = shown.list AND best.item = shown.item"
    else:
        outcome = (
            'SELECT shown."row", max(said.grade) AS grade FROM shown JOIN said ON said."user" = shown."user" '
            'AND said.item = shown.item AND said."key" >= shown."time" '
            f'AND said."key" < shown."time" + {int(spec.outcome_hours * HOUR)} WHERE said.grade > 0 '
            'GROUP BY shown."row"'
        )
        match = 'best."row" = shown."row"'
    base.execute(f"CREATE OR REPLACE TABLE best AS {outcome}")
    rows = work.batches(
        "SELECT heads.first, shown.item, coalesce(best.grade, 0)::TINYINT AS label, shown.place, shown.score "
        f"FROM {joined} LEFT JOIN best ON {match} ORDER BY {order}"
    )
    sizes = []
    for piece in _whole_lists(rows):
        work.progress.advance(task, len(piece["first"]))
        kept, size = _once(piece)
        work.books.drop(name, AGAIN, len(piece["first"]) - len(kept["item"]))
        work.books.keep(name, len(kept["item"]))
        spool.add(item=kept["item"], label=kept["label"], position=kept["place"].astype(np.int64), score=kept["score"])
        sizes.append(size)
    columns = 'first, list, "user", "time", query, split'
    head = base.execute(f"SELECT {columns} FROM heads ORDER BY first").fetchnumpy()
    head = {key: np.asarray(values) for key, values in head.items()}
    if not spec.list_id:
        head["list"] = work.lists.of(pa.array([f"{name}-{row}" for row in head["first"].tolist()], pa.string()))
    return head, np.concatenate([np.zeros(0, dtype=np.int64), *sizes])


def _whole_lists(pieces: Iterator[Columns]) -> Iterator[Columns]:
    """The same rows, cut only between lists."""
    left: Columns | None = None
    for piece in pieces:
        rows = piece if left is None else {name: np.concatenate([left[name], piece[name]]) for name in piece}
        cut = int(np.searchsorted(rows["first"], rows["first"][-1]))
        left = {name: values[cut:] for name, values in rows.items()}
        if cut:
            yield {name: values[:cut] for name, values in rows.items()}
    if left is not None:
        yield left


def _once(rows: Columns) -> tuple[Columns, npt.NDArray[np.int64]]:
    """Every product once in its list, where it comes first, with its best label; and the sizes of the lists."""
    order = np.lexsort((rows["item"], rows["first"]))  # stable: of one list and product, the first comes first
    new = np.ones(len(order), dtype=bool)
    new[1:] = (np.diff(rows["first"][order]) != 0) | (np.diff(rows["item"][order]) != 0)
    begins = np.flatnonzero(new)
    label = rows["label"].copy()
    label[order[begins]] = np.maximum.reduceat(rows["label"][order], begins)
    chosen = np.sort(order[begins])
    kept = {name: values[chosen] for name, values in (rows | {"label": label}).items()}
    return kept, np.unique(kept["first"], return_counts=True)[1].astype(np.int64)
