"""The shard reader: whatever the files, row groups and shard size are, every row comes once, in order."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reshelf.errors import InputError
from reshelf.inference.batch.input import InputFile, ShardReader, find_files, inspect_file

LAYOUTS = st.lists(st.lists(st.integers(0, 300), max_size=4), min_size=1, max_size=4)
"""Rows of every row group of every file."""


def write(folder: Path, layout: list[list[int]]) -> tuple[list[InputFile], list[tuple[str, int, str]]]:
    """Files of that layout, and the rows that they hold: file, number in it, list id."""
    schema = pa.schema([("list_id", pa.string()), ("user_id", pa.string()), ("candidates", pa.list_(pa.string()))])
    expected = []
    for old in folder.glob("*.parquet"):
        old.unlink()
    for n, groups in enumerate(layout):
        row = 0
        with pq.ParquetWriter(folder / f"{n}.parquet", schema) as target:
            for size in groups:
                ids = [f"{n}-{row + k}" for k in range(size)]
                expected += [(f"{n}.parquet", row + k, ids[k]) for k in range(size)]
                target.write_table(pa.table([ids, ids, [[i] for i in ids]], schema=schema))
                row += size
    return [inspect_file(path, name) for path, name in find_files(str(folder))], expected


def rows_of(reader: ShardReader, shard: int) -> list[tuple[str, int, str]]:
    return [
        (name, first + k, list_id)
        for name, first, batch in reader.read(shard)
        for k, list_id in enumerate(batch.column("list_id").to_pylist())
    ]


def test_a_pattern_that_finds_a_file_twice_stands_for_it_once(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    write(tmp_path / "day", [[1]])
    assert [name for _, name in find_files(f"{tmp_path}/**/**/*.parquet")] == ["day/0.parquet"]


@given(layout=LAYOUTS, shard_lists=st.integers(1, 700), data=st.data())
def test_every_row_once_and_in_order(
    layout: list[list[int]], shard_lists: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    files, expected = write(folder, layout)
    reader = ShardReader(files, shard_lists)
    assert reader.rows == len(expected)
    shards = range(reader.shards)
    assert [row for shard in shards for row in rows_of(reader, shard)] == expected
    assert sum(reader.size(shard) for shard in shards) == len(expected)
    # In any order, some of them again, as a resumed job or a cluster asks for them.
    for shard in data.draw(st.lists(st.sampled_from(shards), max_size=12)) if shards else []:
        assert rows_of(reader, shard) == expected[shard * shard_lists : (shard + 1) * shard_lists]


def test_going_forward_decodes_each_row_group_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading shards of one huge row group must not start at its beginning for every shard."""
    files, expected = write(tmp_path, [[3000], [10, 2990]])
    decoded = 0
    real = pq.ParquetFile.iter_batches

    def counted(*args: object, **options: object) -> object:
        nonlocal decoded
        for batch in real(*args, **options):
            decoded += len(batch)
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", counted)
    reader = ShardReader(files, 100)
    for shard in (*range(0, 20, 2), *range(30, 60)):
        assert rows_of(reader, shard) == expected[shard * 100 : (shard + 1) * 100]
    assert decoded <= 6000


def test_a_file_that_changes_while_the_job_runs(tmp_path: Path) -> None:
    files, _ = write(tmp_path, [[10], [10]])
    reader = ShardReader(files, 10)
    assert len(rows_of(reader, 0)) == 10
    os.utime(tmp_path / "1.parquet")
    with pytest.raises(InputError, match=r"1\.parquet has changed since the job began"):
        rows_of(reader, 1)


def test_a_damaged_page_stops_the_job_with_its_place(tmp_path: Path) -> None:
    files, _ = write(tmp_path, [[512, 512]])
    path = tmp_path / "0.parquet"
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).dictionary_page_offset
    stat = path.stat()
    with path.open("r+b") as target:
        target.seek(start)
        target.write(b"\xff" * 40)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a disk goes bad without telling the time
    reader = ShardReader(files, 512)
    assert len(rows_of(reader, 0)) == 512
    with pytest.raises(InputError, match=r"0\.parquet, rows from 512, cannot be read"):
        rows_of(reader, 1)
