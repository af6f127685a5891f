"""SQL that reads times, of any type and in most spellings.

    time_of(column, spec)  # BIGINT, microseconds since 1970 UTC; NULL for what cannot be read

DuckDB's own casts are not used on text with an offset or a word behind the time: `'12:00+01:00'::TIMESTAMP` drops the
offset, and `'09:00 PM'::TIMESTAMP` is nine in the morning (2.0.1).
"""

from __future__ import annotations

import re

from reshelf.data.importing.casts import WHOLE, Column, is_missing
from reshelf.data.importing.database import quoted
from reshelf.data.importing.mapping import Table
from reshelf.data.schema import DATES

_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # the years 1 to 9999, in microseconds
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_OFFSET = r":[0-9]{2}(\.[0-9]+)?\s*(Z|UTC|GMT|[+-][0-9]{2}(:?[0-9]{2})?)$"
_NOON = r":[0-9]{2}\s*[AP]\.?M\.?$"
_UNUSUAL = r",[0-9]|\]$|^[0-9]{8}[T ]|[+-][0-9]{4} [A-Z]+$"
"""Of times that are written otherwise than ISO 8601: see `_as_iso`."""
_ZONES = ("UTC", "GMT", "UT", "Z", "CET", "EET", "WET", "MET", "EST", "MST", "HST", "PST", "JST")
_SUMMER = {"CEST": "+02", "EEST": "+03", "WEST": "+01", "EDT": "-04", "CDT": "-05", "MDT": "-06", "PDT": "-07"}
_AMBIGUOUS = r"[0-9]\s*[A-Z]{2,5}$", rf"[0-9]\s*({'|'.join((*_ZONES, *_SUMMER, 'AM', 'PM'))})$"
"""Zones of few letters that have one meaning, and how all are known: BST is London's summer and Bangladesh, CST Chicago
and China, IST India, Israel and Ireland. Those have to be told by `timezone`."""
_WORD = r"[0-9]\s*[a-z][a-z_/]*([+-][0-9:]+)?$"
"""A zone behind the time: `UTC`, `Europe/Berlin`, `GMT+1`."""


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
        exact = f"try_cast({column.sql} AS {'HUGEINT' if column.type in WHOLE else 'DOUBLE'})"
        return _bounded(_number_time(exact, column.sql, spec))
    text = column.trimmed
    if spec.time_format:
        moment = f"try_strptime({text}, {quoted(spec.time_format)})"
        if "%Z" in spec.time_format:
            return f"CASE WHEN NOT {_is_ambiguous(text)} THEN epoch_us({moment}) END"
        return f"epoch_us({moment})" if "%z" in spec.time_format else f"epoch_us(timezone({zone}, {moment}))"
    number = _number_time(f"try_cast({text} AS HUGEINT)", text, spec)
    spelt = _number_time(f"try_cast({text} AS DOUBLE)", text, spec)
    noon = f"try_strptime({text}, ['%Y-%m-%d %I:%M:%S %p', '%Y-%m-%d %I:%M %p'])"
    clean, winter = _as_iso(text), _winter(text)
    return (
        f"CASE WHEN regexp_matches({text}, {quoted(_UNUSUAL)}) THEN CASE "
        f"WHEN regexp_matches({clean}, {quoted(_OFFSET)}, 'i') THEN {_with_offset(clean)} "
        f"ELSE {_finite(f'timezone({zone}, try_cast({clean} AS TIMESTAMP))')} END "
        f"WHEN regexp_full_match({text}, '-?[0-9]+') THEN {_bounded(number)} "
        f"WHEN regexp_full_match({text}, '-?[0-9]+\\.[0-9]*([eE]\\+?[0-9]+)?') THEN {_bounded(spelt)} "
        f"WHEN regexp_matches({text}, {quoted(_OFFSET)}, 'i') THEN {_with_offset(text)} "
        f"WHEN regexp_matches({text}, {quoted(_NOON)}, 'i') THEN {_finite(f'timezone({zone}, {noon})')} "
        f"WHEN {_is_ambiguous(text)} THEN NULL "
        f"WHEN regexp_matches({text}, {quoted(_WORD)}, 'i') THEN {_finite(f'try_cast({winter} AS TIMESTAMPTZ)')} "
        f"ELSE {_finite(f'timezone({zone}, try_cast({text} AS TIMESTAMP))')} END"
    )


def _as_iso(text: str) -> str:
    """`10:00:00,123` of log4j, `…+01:00[Europe/Berlin]` of Java, `… +0000 UTC` of Go, `20240301T100000Z`."""
    clean = rf"regexp_replace({text}, '(:[0-9]{{2}}),([0-9])', '\1.\2')"
    clean = rf"regexp_replace({clean}, '\[[A-Za-z0-9_/:+-]+\]$', '')"
    clean = rf"regexp_replace({clean}, '([+-][0-9]{{4}}) [A-Z]+$', '\1')"
    day, moment = "([0-9]{4})([0-9]{2})([0-9]{2})", "([0-9]{2}):?([0-9]{2}):?([0-9]{2})"
    return rf"regexp_replace({clean}, '^{day}[T ]{moment}', '\1-\2-\3T\4:\5:\6')"


def _with_offset(text: str) -> str:
    moment = f"regexp_replace(regexp_replace({text}, '\\s*(Z|UTC|GMT)$', '+00', 'i'), '\\s+([+-][0-9:]+)$', '\\1')"
    return _finite(f"try_cast({moment} AS TIMESTAMPTZ)")


def _is_ambiguous(text: str) -> str:
    """BOOLEAN: a zone of a few letters that has several meanings, or none here."""
    every, known = (f"regexp_matches({text}, {quoted(form)}, 'i')" for form in _AMBIGUOUS)
    return f"coalesce({every} AND NOT {known}, false)"


def _winter(text: str) -> str:
    """Zones of summer as their offset: DuckDB knows only those of winter."""
    for zone, offset in _SUMMER.items():
        text = rf"regexp_replace({text}, '\s*{zone}$', '{offset}')"
    return text


def is_local_time(column: Column, spec: Table) -> str:
    """BOOLEAN: there is a time, and neither an offset nor its being a number says when it was; NULL for no time."""
    if column.is_time or column.is_number:
        local = "false" if column.is_number or "TIME ZONE" in column.type else "true"
        return f"CASE WHEN {column.sql} IS NOT NULL THEN {local} END"
    text = column.trimmed
    if spec.time_format:
        return f"CASE WHEN {text} <> '' THEN {str('%z' not in spec.time_format.lower()).lower()} END"
    number = f"regexp_full_match({text}, '-?[0-9.]+([eE]\\+?[0-9]+)?')"
    zoned = " OR ".join(f"regexp_matches({text}, {quoted(form)}, 'i')" for form in (_OFFSET, _WORD))
    noon = f"regexp_matches({text}, {quoted(_NOON)}, 'i')"
    unusual = f"regexp_matches({text}, {quoted(_UNUSUAL)}) AND regexp_matches({_as_iso(text)}, {quoted(_OFFSET)}, 'i')"
    return f"CASE WHEN {text} <> '' THEN {noon} OR NOT ({number} OR {zoned} OR {unusual}) END"


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
    return f"coalesce({compact} OR NOT regexp_matches({text}, '^-?[0-9.]+(e.*)?$|:|^[0-9]{{8}}T', 'i'), false)"


def is_no_time(column: Column, spec: Table) -> str:
    """BOOLEAN: there is something, and it is no time."""
    whole = column.is_time or column.type in WHOLE
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
        f"* 1000 WHEN {size} < 100000000000000000 THEN {number} "
        f"WHEN {size} >= 1000000000000000000 THEN {number} // 1000 END"  # between: ticks of .NET or Windows
    )
