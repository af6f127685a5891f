"""A mapped table as a DuckDB relation: its files or its SELECT, its columns with their types, its rows with their
    places.

source = open_table(work, spec, "events", ["customer", "sku"])
work.run(f"CREATE TABLE said AS SELECT {source.rows}, {id_of(source.column('sku'))} AS item FROM {source.relation}")
source.place(3)            # "events.csv row 3 (line 5)", found by reading once more: only a mistake needs it
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import duckdb

from reshelf.data.importing.casts import Column, id_of, is_no_number, number_of, text_of
from reshelf.data.importing.conditions import RANGES, chosen_by, spelt_otherwise
from reshelf.data.importing.database import Work, named, quoted
from reshelf.data.importing.found_files import PARQUET, check_select, find_files
from reshelf.data.importing.json_files import bad_json, json_rows
from reshelf.data.importing.json_paths import in_text
from reshelf.data.importing.mapping import Columns, Table, id_columns
from reshelf.data.importing.sql_text import cured, kinds, located, one_line, rooted
from reshelf.data.importing.text_files import JSON, ending_of, line_of
from reshelf.data.importing.text_tables import text_rows
from reshelf.data.importing.times import is_local_time, is_no_time, time_of
from reshelf.errors import InputError

_NESTED = ("STRUCT", "MAP", "UNION")
_COUNTED = "row_number() OVER () - 1"
"""A row's number; DuckDB counts on one thread."""


@dataclass(frozen=True)
class Source:
    """One table, ready to be read."""

    work: Work
    part: str
    """Its name in the mapping: items, events, lists.0, …"""
    spec: Table
    files: list[Path]
    """Relative to the root; empty for `sql`."""
    relation: str
    """What to select from: the rows that `where` accepts, with their number over all rows as `row`."""
    everything: str
    """The same without `where`."""
    columns: dict[str, Column]
    left_out: str = ""
    """The rows that `where` leaves out, where they are not the rest of `everything`."""
    step: int = 1
    """Numbers of rows for each row of the files, where one holds several products (`divided_rows`)."""

    def column(self, name: str) -> Column:
        return self.columns[name]

    def id(self, names: Columns | None) -> str:
        """The first id that is there."""
        if names is None:
            return "CAST(NULL AS VARCHAR)"
        columns = {name: self.column(name) for name in ([names] if isinstance(names, str) else names)}
        for name, column in columns.items():
            if column.is_list or column.type.startswith(_NESTED):
                what = f"column {name!r} holds {column.type.split('(')[0]} values where one id is expected"
                raise InputError(f"{self.part}: {what}; map a part of it (name.part), or unnest it with sql")
        ids = [id_of(column) for column in columns.values()]
        return ids[0] if len(ids) == 1 else f"coalesce({', '.join(ids)})"

    def text(self, name: str | None) -> str:
        """SQL of a column that may not be mapped, NULL then; so are `number` and `times`."""
        return text_of(self.column(name)) if name else "CAST(NULL AS VARCHAR)"

    def number(self, name: str | None) -> str:
        return number_of(self.column(name), self.spec.decimal) if name else "CAST(NULL AS DOUBLE)"

    def no_number(self, name: str | None) -> str:
        return is_no_number(self.column(name), self.spec.decimal) if name else "false"

    def times(self, name: str | None, called: str) -> dict[str, str]:
        """SQL of a time, of whether it cannot be read, and of whether it is local."""
        if not name:
            return {called: "CAST(NULL AS BIGINT)", "unread": "false", "local": "CAST(NULL AS BOOLEAN)"}
        column, spec = self.column(name), self.spec
        return {
            called: time_of(column, spec),
            "unread": is_no_time(column, spec),
            "local": is_local_time(column, spec),
        }

    def count(self, table: str) -> int:
        """Note in the report how many rows there are and how many `where` left out; returns how many are in `table`."""
        kept = self.work.number(f"SELECT count(*) FROM {table}")
        total = kept
        if self.spec.where and self.left_out:
            total += self.work.number(f"SELECT count(*) FROM {self.left_out}")
        elif self.spec.where:
            total = self.work.number(f"SELECT count(*) FROM {self.everything}")
        self.work.report.read(self.part, total)
        self.work.report.drop(self.part, "not chosen by where", total - kept)
        self._warn_of_spellings()
        return kept

    def _warn_of_spellings(self) -> None:
        """Say which rows have a word of `where` in another spelling, which is another value."""
        for name, wanted in self.spec.where.items() if self.step == 1 else ():
            if not (found := spelt_otherwise(self.column(name), wanted)):
                continue
            values = f"SELECT {self.column(name).trimmed}, count(*) FROM {self.everything} WHERE {found[0]} GROUP BY 1"
            for said, rows in self.work.fetch(f"{values} ORDER BY 2 DESC, 1 LIMIT 3"):
                what = f"where names {found[1]} of {name!r}, and {rows:,} rows say {said!r}, which is another value"
                self.work.report.warn(f"{self.part}: {what}; name every spelling")

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        row //= self.step
        if not self.files:
            return f"{self.part}.sql row {row}"
        for file in self.files:
            rows = self.work.number(f"SELECT count(*) FROM {_select(self.work, self.spec, [file], self.part, [])[0]}")
            if row < rows:
                line = line_of(self.work.root / file, self.spec, row)
                return f"{self.work.root / file} row {row}" + (f" (line {line})" if line else "")
            row -= rows
        raise AssertionError(f"{self.part} has no row {row}")

    def fail(self, row: int, column: str, what: str) -> NoReturn:
        raise InputError(f"{self.place(row)}, field {column}: {what}")

    def forbid(self, rows: str, column: str, what: str) -> None:
        """Fail at the first of some rows, `TABLE WHERE condition`, if there is one."""
        for (row,) in self.work.fetch(f"SELECT min(row) FROM {rows} HAVING count(*) > 0"):
            self.fail(row, column, what)


def names_of(*columns: Columns | dict[str, int] | None) -> list[str]:
    """All column names in some mapping values, each once."""
    flat: list[str] = []
    for value in columns:
        flat += [] if value is None else [value] if isinstance(value, str) else list(value)
    return list(dict.fromkeys(flat))


def open_table(work: Work, spec: Table, part: str, wanted: Sequence[str]) -> Source:
    """A table with the wanted columns and those of `where`.

    Raises:
        InputError: no such file, an unreadable one, a column that is not there, SQL that is wrong or reads elsewhere.
    """
    names = list(dict.fromkeys([*wanted, *spec.where]))
    if spec.sql:
        files: list[Path] = []
        body, columns = _from_sql(work, spec.sql, part, names)
    else:
        files = find_files(work.root, spec.file or "", part, work.report)
        body, columns = _select(work, spec, files, part, names)
    for name, column in columns.items():
        one = column.type.removesuffix("[]")
        if name not in (*id_columns(spec), getattr(spec, "history", "")) and one.startswith(_NESTED):
            what = f"column {name!r} holds {one.split('(')[0]} values where plain ones are expected"
            raise InputError(f"{part}: {what}; map a part of it ({name}.part), or unnest it with sql")
    numbered = body if files and ending_of(files[0]) in PARQUET else f"(SELECT {_COUNTED} AS row, * FROM {body})"
    return Source(work, part, spec, files, chosen(numbered, columns, spec, part), numbered, columns)


def chosen(relation: str, columns: Mapping[str, Column], spec: Table, part: str, others: bool = False) -> str:
    """The rows of a relation that `where` accepts, or the others.

    Raises:
        InputError: a comparison that there is not.
    """
    tests = []
    for name, value in spec.where.items():
        bad = [key for key in value if key not in ("not", *RANGES)] if isinstance(value, dict) else []
        if bad:
            raise InputError(f"{part}.where.{name}: {bad[0]!r} is unknown; use not, {', '.join(RANGES)}")
        tests.append(chosen_by(columns[name], value, spec))
    if others:
        return f"(FROM {relation} WHERE NOT ({' AND '.join(tests) or 'true'}))"
    return f"(FROM {relation} WHERE {' AND '.join(tests)})" if tests else relation


def reading(work: Work, source: Source, query: str, again: bool = False) -> None:
    """Run a query that reads a source; what is wrong with the data is said in one sentence.

    Args:
        again: another one has read it, and has counted what it mended.

    Raises:
        InputError: names file and line, or the line and column of the table's SQL.
    """
    work.counting = not again
    try:
        work.run(query)
    except duckdb.Error as error:
        raise InputError(_explain(error, source)) from error
    finally:
        work.counting = False


def _select(work: Work, spec: Table, files: list[Path], part: str, names: list[str]) -> tuple[str, dict[str, Column]]:
    """A sub-select over files, and its columns."""
    endings = {ending_of(file) for file in files}
    if endings <= set(PARQUET):
        return _parquet(work, files, part, names)
    if endings <= set(JSON):
        return json_rows(work, spec, files, part, names), {name: Column(_alias(name), "JSON") for name in names}
    body = text_rows(work, spec, files, part, names)
    dotted = any("." in name for name in names)  # what a path leads to in text is JSON
    return body, _typed(work, body, names) if dotted else {name: Column(_alias(name), "VARCHAR") for name in names}


def _alias(name: str) -> str:
    """What a column of the table is called in a relation: never as one of ours, such as `row`."""
    return named(f"column {name}")


def _described(work: Work, body: str) -> dict[str, str]:
    return {str(name): str(kind) for name, kind, *_ in work.fetch(f"DESCRIBE SELECT * FROM {body}")}


def _parquet(work: Work, files: list[Path], part: str, names: list[str]) -> tuple[str, dict[str, Column]]:
    union = "" if len(files) == 1 else ", union_by_name = true"  # else the first file's types win: 7.5 becomes 8
    paths = ", ".join(quoted(str(work.root / file)) for file in files)
    body = f"read_parquet([{paths}]{union}, hive_partitioning = false)"
    try:
        there = _described(work, body)
        # A folder shop=7 would replace the files' own column (findings/duckdb_folder_name_replaces_a_column.sh).
        steps = {step.lower() for file in files for step in (work.root / file).parts[:-1]}
        keys = {step.partition("=")[0] for step in steps if "=" in step}
        if keys and keys.isdisjoint(name.lower() for name in there):
            body = f"read_parquet([{paths}]{union})"
            there = _described(work, body)
    except duckdb.Error as error:
        raise InputError(
            f"{work.root / files[0]} cannot be read as Parquet: {cured(error, one_line(error))}"
        ) from error
    expressions = [
        f"{_nested(work, name, there, body, str(work.root / files[0]), part)} AS {_alias(name)}" for name in names
    ]
    inner = f"(SELECT {', '.join([f'{_parquet_row(work, files, there)} AS row', *expressions])} FROM {body})"
    try:
        return inner, _typed(work, inner, names)
    except duckdb.Error as error:
        what = f"{one_line(error)}; correct {part} in the mapping, or unnest lists with sql"
        raise InputError(f"{work.root / files[0]}: {what}") from error


def _parquet_row(work: Work, files: list[Path], there: Mapping[str, str]) -> str:
    """A row's number over all files, which any thread can say; columns of the files hide DuckDB's of the same name."""
    if {"file_row_number", "file_index"} & {name.lower() for name in there}:
        return _COUNTED
    if len(files) == 1:
        return "file_row_number"
    paths = ", ".join(quoted(str(work.root / file)) for file in files)
    counts = dict(work.fetch(f"SELECT file_name, num_rows FROM parquet_file_metadata([{paths}])"))
    before = itertools.accumulate((counts[str(work.root / file)] for file in files[:-1]), initial=0)
    return f"{list(before)}[CAST(file_index AS BIGINT) + 1] + file_row_number"


def _typed(work: Work, body: str, names: list[str]) -> dict[str, Column]:
    types = _described(work, body)
    return {name: Column(_alias(name), types[f"column {name}"]) for name in names}


def _nested(work: Work, name: str, there: dict[str, str], body: str, where: str, part: str) -> str:
    """A column, or a dotted path into structs, maps, lists of structs and text that is JSON.

    Raises:
        InputError: there is no such column.
    """
    if name in there:
        return named(name)
    head, *rest = name.split(".")
    for way in _ways([head, *rest]) if rest and head in there else ():
        try:
            work.run(f"DESCRIBE SELECT {way} FROM {body}")
        except duckdb.Error:
            continue
        if "try_cast" in way and not work.number(f"SELECT count({way}) FROM {body}"):
            continue  # no text there is JSON with that path
        return way
    raise InputError(
        f"{where}: there is no column {name!r} (there are {', '.join(there)}); correct {part} in the mapping"
    )


def _ways(steps: Sequence[str]) -> Iterator[str]:
    """What a dotted path may stand for."""
    yield ".".join(named(step) for step in steps)
    for at in range(1, len(steps)):
        head, rest = ".".join(named(step) for step in steps[:at]), steps[at:]
        yield f"list_transform({head}, lambda e: {'.'.join(['e', *(named(step) for step in rest)])})"
        yield f"map_extract_value({head}, {quoted('.'.join(rest))})"
        yield in_text(f"CAST({head} AS VARCHAR)", ".".join(rest))


def selected(work: Work, sql: str, part: str) -> str:
    """A table's SELECT with paths that start from the root.

    Raises:
        InputError: it is no SELECT, or reads a folder that also holds deleted rows.
    """
    where = f"{part}.sql"
    try:
        statements = work.base.extract_statements(sql)
    except duckdb.Error as error:
        raise InputError(f"{where}: {located(error)}; correct the mapping") from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise InputError(f"{where}: expected one SELECT, found {kinds(statements)}; give one SELECT")
    query, added = rooted(statements[0].query.strip().rstrip(";"), work.root)
    check_select(query, work.root, where)
    try:
        work.run(f"DESCRIBE {query}")
    except duckdb.Error as error:
        raise InputError(f"{where}: {cured(error, located(error, [(1, 0, len('DESCRIBE ')), *added]))}") from error
    return query


def _from_sql(work: Work, sql: str, part: str, names: list[str]) -> tuple[str, dict[str, Column]]:
    query = selected(work, sql, part)
    there = _described(work, f"(\n{query}\n)")
    expressions = [
        f"{_nested(work, name, there, f'({query})', f'{part}.sql', part)} AS {_alias(name)}" for name in names
    ]
    inner = f"(SELECT {', '.join(expressions) or '1 AS one'} FROM (\n{query}\n))"
    return inner, _typed(work, inner, names)


def _explain(error: duckdb.Error, source: Source) -> str:
    """An error while reading, in one sentence."""
    text = str(error)
    if not source.files:
        return f"{source.part}.sql: {cured(error, one_line(error), 'correct the mapping, or read the column as text')}"
    if all(ending_of(file) in JSON for file in source.files) and (
        found := bad_json(source.work.root, source.files, source.spec)
    ):
        return found
    file = next((source.work.root / f for f in source.files if str(f) in text), source.work.root / source.files[0])
    if line := re.search(r"CSV Error on Line: (\d+)", text):
        where = f"{file} line {line[1]}"
        if counts := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
            cure = "quote the separator inside values"
            if int(counts[2]) < int(counts[1]):  # the last line, mostly: its writer was killed, or is at work
                cure = "the line is cut off; finish or remove it, or copy whole lines of a file that is being written"
            return f"{where}: {counts[2]} columns where the header has {counts[1]}; {cure}"
        if '\\"' in text and source.spec.escape is None:
            return f"{where}: a quotation mark inside a value stands behind a backslash; set {source.part}.escape: '\\'"
        if "unterminated quote" in text.lower():
            return f'{where}: a quotation mark is opened and never closed; close it, or set quote: "" in the mapping'
        if "unicode" in text.lower() or "utf-8" in text.lower():
            return f"{where} is not {source.spec.encoding} text; set its encoding in the mapping"
        return f"{where}: {one_line(error)}"
    return f"{file} cannot be read: {cured(error, one_line(error), 'correct the file')}"
