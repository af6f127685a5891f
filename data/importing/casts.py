"""SQL that turns raw columns into ids, texts, numbers, grades and lists: the one place where types are cast, with
`times` for times.

    id_of(column)          # VARCHAR: 7, 7.0 and "7" are one id, "007" is another

A column is an SQL expression with its DuckDB type. Text and JSON are read as they are written, native types as
they are.
"""

from __future__ import annotations

from dataclasses import dataclass

from reshelf.data.importing.database import quoted
from reshelf.data.schema import MAX_GRADE

SPACES = "' ' || chr(9) || chr(10) || chr(13) || chr(160)"
_TRIMMED = r"'[^ \t\n\r\x{A0}]([\s\S]*[^ \t\n\r\x{A0}])?'"
_PLAIN_ID = r"'[^ \t\n\r\x{A0}.]+'"
_MISSING_NUMBERS = "('', 'nan', 'na', 'n/a', 'null', 'none', '-', '—')"
WHOLE = [sign + size for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")]
_BRACKETS = r"\[[\s\S]*\]|\{[\s\S]*\}"
_NO_ID = "('null', 'none', 'nan', '<na>', 'nil', 'undefined', '(not set)')"
"""What programs write for an id that is not there, in any case."""
NO_QUERY = "('NULL', 'null', 'None', 'NaN', '<NA>', 'undefined', '(not set)', '\\N')"
"""The same for a query; shoppers do type nan."""
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
        return self.is_float or self.type in WHOLE or self.type.startswith("DECIMAL") or self.type == "BOOLEAN"

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
        if self.type == "BLOB":  # Parquet of Impala, Hive and old Spark does not say that it is text
            return f"coalesce(TRY(decode({self.sql})), CAST({self.sql} AS VARCHAR))"
        return self.sql if self.type == "VARCHAR" else f"CAST({self.sql} AS VARCHAR)"

    @property
    def trimmed(self) -> str:
        """Without space around it; text that has none is only looked at, three times as fast as `trim`."""
        trim = f"trim({self.text}, {SPACES})"
        if self.type != "VARCHAR":
            return trim
        return f"(CASE WHEN regexp_full_match({self.sql}, {_TRIMMED}) THEN {self.sql} ELSE {trim} END)"


def text_of(column: Column) -> str:
    """VARCHAR without space around it; NULL where empty. Lists are joined by spaces."""
    if column.is_list:
        return f"nullif(trim(array_to_string({column.sql}, ' '), {SPACES}), '')"
    text = f"nullif({column.trimmed}, '')"
    if column.type != "JSON":
        return text
    joined = f"array_to_string(from_json({column.sql}, '[\"VARCHAR\"]'), ' ')"
    return f"CASE WHEN json_type({column.sql}) = 'ARRAY' THEN nullif(trim({joined}), '') ELSE {text} END"


def id_of(column: Column) -> str:
    """VARCHAR id; whole numbers are written without `.0`, unless digits were lost."""
    if column.type in WHOLE or column.type in ("BOOLEAN", "UUID"):
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
    whole = without_point(f"nullif(trim({column.text}, {SPACES}), '')")
    if column.type == "VARCHAR":
        plain = f"CASE WHEN lower({column.sql}) NOT IN {_NO_ID} THEN {column.sql} END"
        whole = f"CASE WHEN lower({whole}) NOT IN {_NO_ID} THEN {whole} END"
        return f"CASE WHEN regexp_full_match({column.sql}, {_PLAIN_ID}) THEN {plain} ELSE {whole} END"
    return f"CASE WHEN lower({whole}) NOT IN {_NO_ID} THEN {whole} END"


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
    json_text = f"trim({text}, {SPACES})"
    as_json = (
        f"list_transform(from_json(try_cast({json_text} AS JSON), '[\"JSON\"]'), "
        f"lambda e: {without_point(chr(39).join(['trim(e ->> ', '$', ')']))})"
    )
    return (
        f"CASE WHEN {text} IS NULL OR trim({text}) = '' THEN NULL "
        f"WHEN starts_with({json_text}, '[') AND try_cast({json_text} AS JSON) IS NOT NULL THEN {as_json} "
        f"WHEN regexp_full_match({json_text}, {quoted(_BRACKETS)}) AND "
        f"({json_text} = '{{}}' OR try_cast({json_text} AS JSON) IS NULL) THEN "
        f"list_transform({_in_brackets(json_text)}, lambda e: {without_point('trim(e)')}) ELSE {parts} END"
    )


def _in_brackets(text: str) -> str:
    """VARCHAR[] of `['7', '8']` as Python writes a list, `[7 8]` as numpy does, `{7,8}` as PostgreSQL does."""
    inner = f"trim({text}[2:-2], {SPACES})"
    between = quoted(r"""(['"])\s+(['"])""")
    quotes = f"contains({inner}, '''') OR contains({inner}, '\"')"
    commas = (
        f"CASE WHEN contains({inner}, ',') THEN rtrim({inner}, ', ') "
        rf"WHEN {quotes} THEN regexp_replace({inner}, {between}, '\1, \2', 'g') "
        rf"ELSE regexp_replace({inner}, '\s+', ', ', 'g') END"
    )
    return f"try_cast('[' || {commas} || ']' AS VARCHAR[])"


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
    text = f"trim({column.text}, {SPACES} || '$€£¥₹')"
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
    return f"{text} IS NULL OR lower(trim({text}, {SPACES})) IN {_MISSING_NUMBERS}"


def is_no_number(column: Column, decimal: str | None = None) -> str:
    """BOOLEAN: there is something, and it is no number."""
    if column.is_number:
        return "false"
    return f"NOT ({is_missing(column.text)}) AND {number_of(column, decimal)} IS NULL"


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


TRUE, FALSE = ("true", "t", "yes", "y", "on"), ("false", "f", "no", "n", "off")


def _words(value: bool) -> str:
    return "(" + ", ".join(quoted(text) for text in (TRUE if value else FALSE)) + ")"
