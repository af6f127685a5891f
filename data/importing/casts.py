"""SQL that turns raw columns into ids, texts, times, numbers, grades and lists: the one place where types are cast.

    id_of(column)          # VARCHAR: 7, 7.0 and "7" are one id, "007" is another
    time_of(column, spec)  # BIGINT, microseconds since 1970 UTC; NULL for what cannot be read

A column is an SQL expression with its DuckDB type. Text and JSON are read as they are written, native types as
they are. DuckDB's own casts are not used on text with an offset or a word behind the time: `'12:00+01:00'::TIMESTAMP`
drops the offset, and `'09:00 PM'::TIMESTAMP` is nine in the morning (2.0.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from reshelf.data.importing.database import quoted
from reshelf.data.importing.mapping import Table
from reshelf.data.schema import DATES, MAX_GRADE

_SPACES = "' ' || chr(9) || chr(10) || chr(13) || chr(160)"
_TRIMMED = r"'[^ \t\n\r\x{A0}]([\s\S]*[^ \t\n\r\x{A0}])?'"
_PLAIN_ID = r"'[^ \t\n\r\x{A0}.]+'"
_MISSING_NUMBERS = "('', 'nan', 'na', 'n/a', 'null', 'none', '-', '—')"
_WHOLE = [sign + size for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")]
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999, in microseconds
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_OFFSET = r":[0-9]{2}(\.[0-9]+)?\s*(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
_NOON = r":[0-9]{2}\s*[AP]\.?M\.?$"
_WORD = r"[0-9]\s*[a-z][a-z_/]*([+-][0-9:]+)?$"
"""A zone behind the time: `UTC`, `Europe/Berlin`, `GMT+1`."""
INEXACT = r"-?(\d(\.\d+)?[eE]\+\d+|\d{16,}\.0*)"
"""What an id looks like that was a floating-point number above 2^53 (of 32 bits: 2^24): some of its digits are lost."""


@dataclass(frozen=True)
class Column:
    """A raw column of a table."""

    sql: str
    type: str

    @property
    def is_list(self) -> bool:
        return self.type.endswith("[]")

    @property
    def is_float(self) -> bool:
        return self.type in ("FLOAT", "DOUBLE")

    @property
    def is_number(self) -> bool:
        return self.is_float or self.type in _WHOLE or self.type.startswith("DECIMAL") or self.type == "BOOLEAN"

    @property
    def is_time(self) -> bool:
        return self.type.startswith("TIMESTAMP") or self.type == "DATE"

    @property
    def text(self) -> str:
        """As written, unchanged; JSON strings without their quotation marks."""
        if self.type == "JSON":
            return f"({self.sql} ->> '$')"
        if self.is_float:
            return f"(CASE WHEN NOT isnan({self.sql}) THEN CAST({self.sql} AS VARCHAR) END)"
        return self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"

    @property
    def trimmed(self) -> str:
        """Without space around it; text that has none is only looked at, three times as fast as `trim`."""
        trim = f"trim({self.text}, {_SPACES})"
        if self.type != "VARCHAR":
            return trim
        return f"(CASE WHEN regexp_full_match({self.sql}, {_TRIMMED}) THEN {self.sql} ELSE {trim} END)"


def text_of(column: Column) -> str:
    """VARCHAR without space around it; NULL where empty. Lists are joined by spaces."""
    if column.is_list:
        return f"nullif(trim(array_to_string({column.sql}, ' '), {_SPACES}), '')"
    text = f"nullif({column.trimmed}, '')"
    if column.type != "JSON":
        return text
    joined = f"array_to_string(from_json({column.sql}, '[\"VARCHAR\"]'), ' ')"
    return f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN nullif(trim({joined}), '') ELSE {text} END"


def id_of(column: Column) -> str:
    """VARCHAR id; whole numbers are written without `.0`, unless digits were lost."""
    if column.type in _WHOLE or column.type in ("BOOLEAN", "UUID"):
        return f"CAST({column.sql} AS VARCHAR)"
    if column.is_float:
        single = column.type == "FLOAT"
        whole = f"{column.sql} = floor({column.sql}) AND abs({column.sql}) <= {1 << (24 if single else 53)}"
        large = f"WHEN abs({column.sql}) > {1 << 24} THEN format('{{:.8e}}', CAST({column.sql} AS DOUBLE)) "
        return (
            f"CASE WHEN {whole} THEN CAST(TRY_CAST({column.sql} AS BIGINT) AS VARCHAR) {large if single else ''}"
            f"ELSE {column.text} END"
        )
    if column.type.startswith("DECIMAL"):
        whole = f"CAST({column.sql} AS HUGEINT)"
        return f"CASE WHEN {column.sql} = {whole} THEN CAST({whole} AS VARCHAR) ELSE {column.text} END"
    whole = without_point(f"nullif(trim({column.text}, {_SPACES}), '')")
    if column.type != "VARCHAR":
        return whole
    return f"CASE WHEN regexp_full_match({column.sql}, {_PLAIN_ID}) THEN {column.sql} ELSE {whole} END"


def without_point(text: str) -> str:
    """`7.0` as `7`; a number above 2^53 keeps its point, by which it is known as inexact."""
    return (
        f"CASE WHEN suffix({text}, '0') AND regexp_full_match({text}, '-?[0-9]{{1,15}}\\.0+') "
        f"THEN split_part({text}, '.', 1) ELSE {text} END"
    )


def list_of(column: Column, separator: str) -> str:
    """VARCHAR[] (JSON[] of a JSON column): a list column, a JSON list, or text divided at `separator`."""
    if column.is_list:
        inner = Column("e", column.type[:-2])
        return f"list_transform({column.sql}, lambda e: {id_of(inner)})"
    text = column.text
    parts = f"list_transform(string_split({text}, {quoted(separator)}), lambda e: {without_point('trim(e)')})"
    json_text = f"trim({text}, {_SPACES})"
    as_json = (
        f"list_transform(from_json(try_cast({json_text} AS JSON), '[\"JSON\"]'), "
        f"lambda e: {without_point(chr(39).join(['trim(e ->> ', '$', ')']))})"
    )
    return (
        f"CASE WHEN {text} IS NULL OR trim({text}) = '' THEN NULL "
        f"WHEN starts_with({json_text}, '[') AND try_cast({json_text} AS JSON) IS NOT NULL THEN {as_json} ELSE "
        f"{parts} END"
    )


def path_of(column: Column, separator: str) -> str:
    """VARCHAR[]: a category path; of several paths the first."""
    if column.type.endswith("[][]"):
        return f"list_filter({list_of(Column(f'({column.sql})[1]', column.type[:-2]), separator)}, lambda e: e <> '')"
    first = list_of(column, separator)
    if not column.is_list:  # a JSON list of lists: its elements are lists as text
        inner = "from_json(try_cast(p[1] AS JSON), '[\"VARCHAR\"]')"
        first = (
            f"list_transform([{first}], lambda p: CASE WHEN starts_with(p[1], '[') AND try_cast(p[1] AS JSON) IS NOT "
            f"NULL THEN {inner} ELSE p END)[1]"
        )
    return f"list_filter(list_transform({first}, lambda e: trim(e)), lambda e: e <> '')"


def number_of(column: Column, decimal: str | None = None) -> str:
    """DOUBLE; NULL where missing or no number (see `is_no_number`). Prices are read by `money`."""
    if column.is_number:
        return f"CAST({column.sql} AS DOUBLE)"
    text = f"trim({column.text}, {_SPACES} || '$€£¥₹')"
    text = f"regexp_replace({text}, '^[A-Z]{{3}}\\s*|\\s*[A-Z]{{3}}$|\\s*[$€£¥₹]$', '', 'g')"
    if decimal == ",":
        return f"try_cast(replace(regexp_replace({text}, '[.\\s'' ]', '', 'g'), ',', '.') AS DOUBLE)"
    grouped = f"regexp_full_match({text}, '[-+]?[0-9]{{1,3}}([,\\s'' ][0-9]{{3}})+(\\.[0-9]+)?')"
    return (
        f"CASE WHEN {grouped} THEN try_cast(regexp_replace({text}, '[,\\s'' ]', '', 'g') AS DOUBLE) "
        f"ELSE try_cast({text} AS DOUBLE) END"
    )


def is_missing(text: str) -> str:
    """BOOLEAN: no text, or one that stands for none."""
    return f"{text} IS NULL OR lower(trim({text}, {_SPACES})) IN {_MISSING_NUMBERS}"


def is_no_number(column: Column, decimal: str | None = None) -> str:
    """BOOLEAN: there is something, and it is no number."""
    if column.is_number:
        return "false"
    return f"NOT ({is_missing(column.text)}) AND {number_of(column, decimal)} IS NULL"


def time_of(column: Column, spec: Table) -> str:
    """BIGINT microseconds since 1970 UTC; NULL where missing or unreadable."""
    zone = quoted(spec.timezone or "UTC")
    if column.type in ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ"):
        return f"epoch_us({column.sql})"
    if column.is_time:
        moment = f"CAST({column.sql} AS TIMESTAMP)"
        return f"epoch_us({moment})" if spec.timezone in (None, "UTC") else f"epoch_us(timezone({zone}, {moment}))"
    if column.type == "FLOAT":
        return "CAST(NULL AS BIGINT)"  # 32 bits hold seconds since 1970 to two minutes
    if column.is_number:
        exact = f"try_cast({column.sql} AS {'HUGEINT' if column.type in _WHOLE else 'DOUBLE'})"
        return _bounded(_number_time(exact, column.sql, spec))
    text = column.trimmed
    if spec.time_format:
        moment = f"try_strptime({text}, {quoted(spec.time_format)})"
        return f"epoch_us({moment})" if "%z" in spec.time_format else f"epoch_us(timezone({zone}, {moment}))"
    number = _number_time(f"try_cast({text} AS HUGEINT)", text, spec)
    spelt = _number_time(f"try_cast({text} AS DOUBLE)", text, spec)
    noon = f"try_strptime({text}, ['%Y-%m-%d %I:%M:%S %p', '%Y-%m-%d %I:%M %p'])"
    offset = f"regexp_replace(regexp_replace({text}, '\\s*(Z|UTC|GMT)$', '+00', 'i'), '\\s+([+-][0-9:]+)$', '\\1')"
    return (
        f"CASE WHEN regexp_full_match({text}, '-?[0-9]+') THEN {_bounded(number)} "
        f"WHEN regexp_full_match({text}, '-?[0-9]+\\.[0-9]*([eE]\\+?[0-9]+)?') THEN {_bounded(spelt)} "
        f"WHEN regexp_matches({text}, {quoted(_OFFSET)}, 'i') THEN {_finite(f'try_cast({offset} AS TIMESTAMPTZ)')} "
        f"WHEN regexp_matches({text}, {quoted(_NOON)}, 'i') THEN {_finite(f'timezone({zone}, {noon})')} "
        f"WHEN regexp_matches({text}, {quoted(_WORD)}, 'i') THEN {_finite(f'try_cast({text} AS TIMESTAMPTZ)')} "
        f"ELSE {_finite(f'timezone({zone}, try_cast({text} AS TIMESTAMP))')} END"
    )


def is_local_time(column: Column, spec: Table) -> str:
    """BOOLEAN: there is a time, and neither an offset nor its being a number says when it was; NULL for no time."""
    if column.is_time or column.is_number:
        local = "false" if column.is_number or "TIME ZONE" in column.type else "true"
        return f"CASE WHEN {column.sql} IS NOT NULL THEN {local} END"
    text = column.trimmed
    if spec.time_format:
        return f"CASE WHEN {text} <> '' THEN {str('%z' not in spec.time_format).lower()} END"
    number = f"regexp_full_match({text}, '-?[0-9.]+([eE]\\+?[0-9]+)?')"
    zoned = " OR ".join(f"regexp_matches({text}, {quoted(form)}, 'i')" for form in (_OFFSET, _WORD))
    noon = f"regexp_matches({text}, {quoted(_NOON)}, 'i')"
    return f"CASE WHEN {text} <> '' THEN {noon} OR NOT ({number} OR {zoned}) END"


def is_whole_day(column: Column, spec: Table) -> str:
    """BOOLEAN: the time is a day, and nothing says when on it."""
    if column.is_time:
        return str(column.type == "DATE").lower()
    if column.is_number:
        days = f"coalesce({column.sql} BETWEEN 19900101 AND 20991231, false)"
        return days if spec.time_unit == "auto" and column.type != "BOOLEAN" else "false"
    text = column.trimmed
    if spec.time_format:
        return str(not re.search("%-?[HIcX]", spec.time_format)).lower()
    compact = f"regexp_full_match({text}, '(19|20)[0-9]{{6}}(\\.0*)?')" if spec.time_unit == "auto" else "false"
    return f"coalesce({compact} OR NOT regexp_matches({text}, '^-?[0-9.]+(e.*)?$|:', 'i'), false)"


def is_no_time(column: Column, spec: Table) -> str:
    """BOOLEAN: there is something, and it is no time."""
    whole = column.is_time or column.type in _WHOLE
    there = f"{column.sql} IS NOT NULL" if whole else f"NOT ({is_missing(column.text)})"
    return f"{there} AND ({time_of(column, spec)}) IS NULL"


def _finite(moment: str) -> str:
    return f"CASE WHEN isfinite({moment}) THEN epoch_us({moment}) END"


def _bounded(micro: str) -> str:
    return f"CASE WHEN ({micro}) BETWEEN {_FIRST} AND {_LAST} THEN CAST({micro} AS BIGINT) END"


def _number_time(number: str, written: str, spec: Table) -> str:
    """Microseconds of a number since 1970, or of a date written without separators."""
    if spec.time_unit != "auto":
        per = _PER_SECOND[spec.time_unit]
        return f"{number} * {1_000_000 // per}" if per <= 1_000_000 else f"{number} // {per // 1_000_000}"
    date = " ".join(
        f"WHEN {number} BETWEEN {low} AND {high} AND try_strptime(CAST({written} AS VARCHAR), '{form}') IS NOT NULL "
        f"THEN epoch_us(timezone({quoted(spec.timezone or 'UTC')}, try_strptime(CAST({written} AS VARCHAR), '{form}')))"
        for low, high, form in DATES
    )
    size = f"abs({number})"
    return (
        f"CASE {date} WHEN {size} < 100000000000 THEN {number} * 1000000 WHEN {size} < 100000000000000 THEN {number} "
        f"* 1000 WHEN {size} < 100000000000000000 THEN {number} ELSE {number} // 1000 END"
    )


def grade_of(label: Column, grades: dict[str, int], thresholds: list[float], decimal: str | None = None) -> str:
    """TINYINT: the grade of a raw label; NULL where it has none."""
    text = without_point(f"lower({label.trimmed})")
    if grades:
        cases = " ".join(
            f"WHEN {without_point(quoted(key.strip().lower()))} THEN {grade}" for key, grade in grades.items()
        )
        return f"CAST(CASE {text} {cases} END AS TINYINT)"
    number = number_of(label, decimal)
    if thresholds:
        steps = " + ".join(f"CAST({number} >= {least} AS INTEGER)" for least in thresholds)
        return f"CAST({steps} AS TINYINT)"
    return (
        f"CAST(CASE WHEN {text} IN {_words(True)} THEN 1 WHEN {text} IN {_words(False)} THEN 0 "
        f"WHEN {number} IN ({', '.join(str(g) for g in range(MAX_GRADE + 1))}) THEN {number} END AS TINYINT)"
    )


def yes_of(column: Column) -> str:
    """BOOLEAN of a yes-or-no column: true, yes, 1 … in any case, or a number that is not 0."""
    if column.is_number:
        return f"({column.sql} <> 0)" if column.type != "BOOLEAN" else column.sql
    text = f"lower({column.trimmed})"
    return f"({text} IN {_words(True)} OR coalesce(try_cast({text} AS DOUBLE) <> 0, false))"


def is_neither(column: Column) -> str:
    """BOOLEAN: there is something, and it is neither yes nor no nor a number."""
    if column.is_number:
        return "false"
    text = f"lower({column.trimmed})"
    words = f"{text} IN {_words(True)} OR {text} IN {_words(False)} OR {text} IN {_MISSING_NUMBERS}"
    return f"NOT coalesce({words} OR try_cast({text} AS DOUBLE) IS NOT NULL, true)"


_TRUE, _FALSE = ("true", "t", "yes", "y", "on"), ("false", "f", "no", "n", "off")


def _words(value: bool) -> str:
    return "(" + ", ".join(quoted(text) for text in (_TRUE if value else _FALSE)) + ")"


def chosen_by(column: Column, wanted: object, spec: Table) -> str:
    """BOOLEAN: does a row's value meet a `where`? See `Table.where`."""
    if isinstance(wanted, dict):
        tests = [_range(column, str(key), value, spec) for key, value in wanted.items()]
        return "(" + " AND ".join(tests) + ")" if tests else "true"
    if isinstance(wanted, list):
        return "(" + " OR ".join(chosen_by(column, one, spec) for one in wanted) + ")" if wanted else "false"
    text = column.trimmed
    if wanted is None:
        return f"coalesce({text} = '' OR lower({text}) = 'null', true)"
    if isinstance(wanted, bool):
        words = [*(_TRUE if wanted else _FALSE), *(("1", "1.0") if wanted else ("0", "0.0"))]
        return f"coalesce(lower({text}) IN ({', '.join(quoted(w) for w in words)}), false)"
    if isinstance(wanted, str) and (found := next((sign for sign in _SIGNS if wanted.startswith(sign)), None)):
        return _range(column, _SIGNS[found], wanted.removeprefix(found).strip(), spec)
    if isinstance(wanted, int | float):
        return f"coalesce({text} = {quoted(str(wanted))} OR {number_of(column, spec.decimal)} = {wanted}, false)"
    value = str(wanted).strip()
    if value.lower() in (*_TRUE, *_FALSE, "null"):
        return f"coalesce(lower({text}) = {quoted(value.lower())}, false)"
    if column.is_time:
        return _range(column, "from", value, spec) + " AND " + _range(column, "to", value, spec)
    return f"coalesce({text} = {quoted(value)}, false)"


_SIGNS = {">=": "from", "<=": "to", ">": "after", "<": "below"}
RANGES = {"from": ">=", "after": ">", "to": "<=", "below": "<"}


def _range(column: Column, key: str, value: object, spec: Table) -> str:
    if key == "not":
        return f"NOT {chosen_by(column, value, spec)}"
    sign, bound = RANGES[key], str(value)
    try:
        number = float(bound)
    except ValueError:
        limit = time_of(Column(quoted(bound), "VARCHAR"), spec)
        return f"coalesce(({time_of(column, spec)}) {sign} ({limit}), false)"
    return f"coalesce({number_of(column, spec.decimal)} {sign} {number}, false)"
