"""The rows of lists and pairs tables, one per product shown, in one table of the database.

    sources = read_shown(work, mapping, has_query_texts)      # leaves the table `shown`

`part` counts the tables, lists before pairs; `gkey` is equal for the rows of one list, `ord` what they are sorted by.
A row with a mistake that stops the import has a `problem`.
"""

from __future__ import annotations

import re

from reshelf.data.dataset_folder import SPLITS
from reshelf.data.importing.casts import (
    NO_QUERY,
    Column,
    grade_of,
    is_neither,
    is_no_number,
    list_of,
    number_of,
    yes_of,
)
from reshelf.data.importing.database import Work, named, quoted
from reshelf.data.importing.items import check_exact
from reshelf.data.importing.joined_ids import UNNEST, warn_of_joined
from reshelf.data.importing.mapping import ListColumns, ListsTable, Mapping, PairsTable
from reshelf.data.importing.money import Money, read_money
from reshelf.data.importing.plausible_times import check_plausible, check_times, implausible
from reshelf.data.importing.reused_ids import merge_again
from reshelf.data.importing.tables import Source, names_of, open_table, reading
from reshelf.data.schema import MAX_GRADE

_HOUR = 3_600_000_000
_STAGED = (
    "part TINYINT, row BIGINT, n INTEGER, gkey VARCHAR, list VARCHAR, list_text VARCHAR, user VARCHAR, time BIGINT, "
    "unread BOOLEAN, local BOOLEAN, query VARCHAR, unsaid BOOLEAN, long BOOLEAN, context VARCHAR, split TINYINT, "
    "item INTEGER, unknown VARCHAR, ord DOUBLE, place DOUBLE, score DOUBLE, label TINYINT, price DOUBLE, "
    "problem VARCHAR"
)
_MAPPED = (
    *("user_id", "list_id", "time", "query", "query_id", "history", "history_times", "split"),
    *("candidates", "labels", "target", "scores", "positions"),
    *("item_id", "label", "score", "position", "price"),
)
"""What a lists or a pairs table may map to columns."""
_COUNT = re.compile(r"click|count|cnt|klick|点击", re.IGNORECASE)
"""What a column is called that may say how many clicks there were."""
ANYONE = "anyone"
"""User id of a list that no particular shopper saw."""


def parts_of(mapping: Mapping) -> list[tuple[str, ListColumns]]:
    """The tables lists come from, in order."""
    lists: list[tuple[str, ListColumns]] = [(f"lists.{i}", spec) for i, spec in enumerate(mapping.lists)]
    return [*lists, *((f"pairs.{i}", spec) for i, spec in enumerate(mapping.pairs))]


def labelled_by_events(spec: ListColumns) -> bool:
    if isinstance(spec, ListsTable):
        return not (spec.labels or spec.target)
    return isinstance(spec, PairsTable) and not spec.label


def read_shown(work: Work, mapping: Mapping, has_query_texts: bool) -> list[Source]:
    """Read all lists and pairs tables; the sources of their parts.

    Raises:
        InputError: names file, row and field.
    """
    work.run(f"CREATE TABLE shown ({_STAGED})")
    sources = []
    for number, (part, spec) in enumerate(parts_of(mapping)):
        work.task(f"reading {part}")
        wanted = names_of(*(getattr(spec, name, None) for name in _MAPPED), _scope(spec), [*spec.context.values()])
        source = open_table(work, spec, part, wanted)
        if isinstance(spec, ListsTable):
            _stage_lists(work, source, spec, number, mapping, has_query_texts)
        elif isinstance(spec, PairsTable):
            _stage_pairs(work, source, spec, number, mapping, has_query_texts)
        _check(work, source, spec, number, mapping)
        sources.append(source)
    return sources


def _scope(spec: ListColumns) -> list[str]:
    """The columns of `list_id_scope`: keys of the table stand for their columns."""
    names: list[str] = []
    for name in spec.list_id_scope:
        value = getattr(spec, name, None)
        names += names_of(value if isinstance(value, str | list) else name)
    return names


def _common(source: Source, spec: ListColumns, number: int, mapping: Mapping, has_query_texts: bool) -> dict[str, str]:
    """SQL of the columns that lists and pairs share."""
    split = str(SPLITS.index(spec.in_split)) if spec.in_split else "-1"
    problem = "CAST(NULL AS VARCHAR)"
    if spec.split:
        raw = source.text(spec.split)
        table = {name: code for code, name in enumerate(SPLITS)}
        table |= {name: SPLITS.index(code) for name, code in mapping.split.names.items()}
        cases = " ".join(f"WHEN {quoted(name)} THEN {code}" for name, code in table.items())
        split = f"CASE {raw} {cases} ELSE -2 END"
        what = " is not train, valid or test; map it in split.names"
        text = f"'field {spec.split}: ''' || coalesce({raw}, 'null') || '''' || {quoted(what)}"
        problem = f"CASE WHEN {split} = -2 THEN {text} END"
    query, unsaid = "''", "false"
    if spec.query:
        query = f"coalesce({source.text(spec.query)}, '')"
        unsaid = f"{query} IN {NO_QUERY}"
        query = f"CASE WHEN NOT {unsaid} THEN {query} ELSE '' END"
    elif spec.query_id:
        text = source.id(spec.query_id)
        query = f"(SELECT text FROM queries WHERE id = {text})" if has_query_texts else text
    context = ", ".join(f"{named(name)} := {source.text(column)}" for name, column in spec.context.items())
    if spec.list_id_scope:
        values = ", ".join(f"coalesce({source.text(name)}, '')" for name in _scope(spec))
        key, name = f"concat_ws(chr(31), {values})", f"concat_ws('/', {values})"
    else:
        key = name = source.id(spec.list_id)
    return {
        "part": str(number),
        "row": "row",
        "gkey": key,
        "list": source.id(spec.list_id),
        "list_text": name,
        "user": source.id(spec.user_id) if spec.user_id else quoted(ANYONE),
        **source.times(spec.time, "time"),
        "query": query,
        "unsaid": unsaid,
        "context": f"CAST(to_json(struct_pack({context})) AS VARCHAR)" if context else "CAST(NULL AS VARCHAR)",
        "split": split,
        "problem": problem,
    }


def _stage_pairs(
    work: Work, source: Source, spec: PairsTable, number: int, mapping: Mapping, has_query_texts: bool
) -> None:
    columns = _common(source, spec, number, mapping, has_query_texts)
    if spec.each_row:
        columns["gkey"] = "CAST(row AS VARCHAR)"
    elif not (spec.list_id or spec.list_id_scope):
        del columns["gkey"]
        asked = "query" if spec.query or not spec.query_id else source.id(spec.query_id)  # a subquery has no alias
        columns["gkey"] = f"concat_ws(chr(31), user, time, {asked}, split)"  # behind the columns it is made of
    place, score = source.number(spec.position), source.number(spec.score)
    order = f"{place} + 0.0" if spec.position else f"0.0 - {score}" if spec.score else "0.0"
    if spec.session_hours is not None:
        order = "CAST(time AS DOUBLE)"  # a session's pages one after the other
    problems = [columns["problem"]]
    for name in filter(None, (spec.score, spec.position)):
        what = quoted(f"field {name}: the number is missing, NaN or infinite")
        written = quoted(f"field {name}: '") + f" || ({source.column(name).text}) || ''' is not a number'"
        problems.append(
            f"CASE WHEN {source.no_number(name)} THEN {written} "
            f"WHEN NOT coalesce(isfinite({source.number(name)}), false) THEN {what} END"
        )
    label = "CAST(0 AS TINYINT)"
    if isinstance(spec.label, dict):
        yes = ", ".join(
            f"CASE WHEN {yes_of(source.column(name))} THEN {grade} ELSE 0 END" for name, grade in spec.label.items()
        )
        label = f"CAST(greatest({yes}) AS TINYINT)"
        for name in spec.label:
            column = source.column(name)
            text = f"{quoted(f'field {name}: ')} || {column.text} || ' is neither yes nor no'"
            problems.append(f"CASE WHEN {is_neither(column)} THEN {text} END")
    elif spec.label:
        label, problem = _graded(source.column(spec.label), spec, spec.label)
        problems.append(problem)
    columns |= {
        "n": "0",
        "item_id": source.id(spec.item_id),
        "ord": order,
        "place": place,
        "score": score,
        "label": label,
        "price": (read_money(source, "price", spec.price) if spec.price else Money()).amount,
        "problem": f"coalesce({', '.join(problems)})",
    }
    _insert(work, source, columns, source.relation, mapping)
    source.count(f"shown WHERE part = {number}")
    counts = isinstance(spec.label, str) and not (spec.grades or spec.thresholds) and _COUNT.search(spec.label)
    if counts and (many := work.number(f"SELECT count(*) FROM shown WHERE part = {number} AND label > 1")):
        what = f"{many:,} rows have a {spec.label!r} of 2 or 3, which count as cart and purchase"
        work.report.warn(f"{source.part}: {what}; where it is how many, set thresholds: [1]")
    check_exact(source, spec.item_id, "shown", "unknown", f"part = {number}")
    if spec.session_hours is not None:
        _sessions(work, number, spec.session_hours)


def _graded(column: Column, spec: ListColumns, name: str) -> tuple[str, str]:
    """Grade of a raw label, and what is wrong with one that has none."""
    grade = grade_of(column, spec.grades, spec.thresholds, spec.decimal)
    raw = f"trim({column.text})"
    missing = f"coalesce(lower({raw}) IN ('', 'nan'), true)" + ("" if "null" not in spec.grades else " AND false")
    what = (
        "''' has no grade; add it to grades in the mapping'"
        if spec.grades
        else "''' is not 0, 1, 2 or 3; map it with grades or thresholds'"
    )
    not_number = "''' is not a number; map it with grades'"
    wrong = f"'field {name}: label ''' || {raw} || {what}"
    if not spec.grades:
        text = f"'field {name}: label ''' || {raw} || {not_number}"
        wrong = f"CASE WHEN {is_no_number(column, spec.decimal)} THEN {text} ELSE {wrong} END"
    none = f"field {name}: the label is missing or NaN; give one, or say what that means (grades: {{null: 0, …}})"
    problem = f"CASE WHEN {missing} THEN {quoted(none)} WHEN {grade} IS NULL THEN {wrong} END"
    return grade, problem


def _insert(work: Work, source: Source, columns: dict[str, str], relation: str, mapping: Mapping) -> None:
    """Put rows into `shown`, with the codes of their items. Columns may refer to ones named before them."""
    inner = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    most = mapping.max_query
    reading(
        work,
        source,
        f"INSERT INTO shown BY NAME SELECT s.* EXCLUDE (item_id) REPLACE (left(query, {most}) AS query), "
        f"length(query) > {most} AS long, k.code AS item, CASE WHEN k.code IS NULL THEN item_id END AS unknown "
        f"FROM (SELECT {inner} FROM {relation}) s LEFT JOIN known k ON k.id = item_id",
    )


def _sessions(work: Work, number: int, hours: float) -> None:
    """Rows of one shopper and query with no longer pause than this are one list."""
    pause = int(hours * _HOUR)
    work.run(
        f"""CREATE TABLE visit AS SELECT row, concat_ws(chr(31), user, query, split, sum(new) OVER w) AS gkey FROM (
            SELECT row, user, query, split, time,
                CASE WHEN time - lag(time) OVER w > {pause} THEN 1 ELSE 0 END AS new
            FROM shown WHERE part = {number} WINDOW w AS (PARTITION BY user, query, split ORDER BY time, row)
        ) WINDOW w AS (PARTITION BY user, query, split ORDER BY time, row)"""
    )
    work.run(f"UPDATE shown SET gkey = visit.gkey FROM visit WHERE shown.part = {number} AND shown.row = visit.row")
    work.run("DROP TABLE visit")


def _stage_lists(
    work: Work, source: Source, spec: ListsTable, number: int, mapping: Mapping, has_query_texts: bool
) -> None:
    columns = _common(source, spec, number, mapping, has_query_texts)
    columns["gkey"] = "CAST(row AS VARCHAR)"
    results = list_of(source.column(spec.candidates), spec.list_separator)
    cut = f"[:{spec.max_candidates}]" if spec.max_candidates else ""
    problems = [columns.pop("problem")]
    columns["results"] = results
    parallel = {"labels": spec.labels, "scores": spec.scores, "positions": spec.positions}
    for name, column in parallel.items():
        if not column:
            continue
        raw = source.column(column)
        texts = list_of(raw, spec.list_separator)
        problems.append(
            f"CASE WHEN {texts} IS NOT NULL AND len({texts}) <> len(results) THEN 'field {column}: ' || "
            f"coalesce(len({texts}), 0) || ' values for ' || len(results) || ' candidates; give one for each' END"
        )
        if name == "labels":
            grade, problem = _graded(Column("e", "VARCHAR"), spec, column)
            columns[name] = f"list_transform({texts}, lambda e: {grade})"
            problems.append(f"list_filter(list_transform({texts}, lambda e: {problem}), lambda e: e IS NOT NULL)[1]")
        else:
            element = Column("e", raw.type[:-2]) if raw.is_list else Column("e", "VARCHAR")
            value = number_of(element, spec.decimal)
            whole = raw.sql if raw.is_list else texts
            columns[name] = f"list_transform({whole}, lambda e: {value})"
            bad = f"len(list_filter({columns[name]}, lambda e: NOT coalesce(isfinite(e), false))) > 0"
            problems.append(
                f"CASE WHEN {bad} THEN 'field {column}: holds something that is no number, NaN or infinite' END"
            )
    columns["problem"] = f"CASE WHEN coalesce(len(results), 0) > 0 THEN coalesce({', '.join(problems)}) END"
    if spec.target:
        columns["target"] = source.id(spec.target)
        columns["found"] = f"coalesce(list_contains(results{cut}, target), false)"
    inner = ", ".join(f"{sql} AS {name}" for name, sql in columns.items())
    reading(work, source, f"CREATE TABLE listed AS SELECT {inner} FROM {source.relation}")
    source.count("listed")
    if spec.list_id or spec.list_id_scope:
        merge_again(work, source.part, [name for name in ("labels", "target") if getattr(spec, name)])
    is_object = "starts_with(results[1], '{') AND json_valid(results[1])"
    if source.column(spec.candidates).type.startswith(("STRUCT", "MAP")):
        is_object = "len(results) > 0"
    what = f"the list holds objects where ids are expected; map a part of them ({spec.candidates}.part)"
    source.forbid(f"listed WHERE {is_object}", spec.candidates, what)
    empty = work.number("SELECT count(*) FROM listed WHERE coalesce(len(results), 0) = 0")
    work.report.drop(source.part, "without results", empty)
    if empty and spec.on_unknown == "error":
        what = "the list is empty; a list needs at least one candidate"
        source.forbid("listed WHERE coalesce(len(results), 0) = 0", spec.candidates, what)
    chosen, items, label = "coalesce(len(results), 0) > 0", f"results{cut}", "CAST(0 AS TINYINT)"
    if spec.target:
        missing = work.number(f"SELECT count(*) FROM listed WHERE NOT found AND {chosen}")
        lost = work.fetch(f"SELECT target FROM listed WHERE NOT found AND {chosen} ORDER BY row LIMIT 3")
        targets = [str(item) for (item,) in lost]
        if spec.missing_target == "drop":
            work.report.drop(source.part, "target not among the candidates", missing, targets)
            chosen += " AND found"
        elif spec.missing_target == "append" and not (spec.scores or spec.positions):
            work.report.repair(source.part, "target appended to the candidates", missing, targets)
            kept = f"results[:{spec.max_candidates - 1}]" if spec.max_candidates else "results"
            items = f"CASE WHEN found THEN {items} ELSE list_append({kept}, target) END"
        else:
            what = "target not among the candidates, kept with no positive"
            work.report.repair(source.part, what, missing, targets)
        label = f"CAST(CASE WHEN item_id = target THEN {MAX_GRADE} ELSE 0 END AS TINYINT)"
    elif spec.labels:
        label = "labels[n + 1]"
    shared = {name: name for name in (*_common(source, spec, number, mapping, has_query_texts), "problem")}
    rows = (
        f"(SELECT *, unnest({items}) AS item_id, generate_subscripts({items}, 1) - 1 AS n FROM listed WHERE {chosen})"
    )
    shown = shared | {
        "n": "n",
        "item_id": "item_id",
        "ord": "CAST(n AS DOUBLE)",
        "place": "positions[n + 1]" if spec.positions else "CAST(NULL AS DOUBLE)",
        "score": "scores[n + 1]" if spec.scores else "CAST(NULL AS DOUBLE)",
        "label": label,
        "price": "CAST(NULL AS DOUBLE)",
    }
    _insert(work, source, shown, rows, mapping)
    check_exact(source, spec.candidates, "shown", "unknown", f"part = {number}")
    work.run("DROP TABLE listed")


def _check(work: Work, source: Source, spec: ListColumns, number: int, mapping: Mapping) -> None:
    """Stop at the first mistake; drop rows that name no shopper or list."""
    where = f"part = {number}"
    for row, problem in work.fetch(
        f"SELECT row, problem FROM shown WHERE {where} AND problem IS NOT NULL ORDER BY row, n LIMIT 1"
    ):
        column, what = problem.removeprefix("field ").split(": ", 1)
        source.fail(row, column, what)
    if isinstance(spec, ListsTable):
        warn_of_joined(source, spec.candidates, "shown", where, "set list_separator to what is between them")
    elif isinstance(spec, PairsTable):
        warn_of_joined(source, spec.item_id, "shown", where, UNNEST)
    unit = "list" if isinstance(spec, ListsTable) else "row"
    count = "count(DISTINCT row)" if unit == "list" else "count(*)"

    def drop(bad: str, reason: str) -> None:
        n = work.number(f"SELECT {count} FROM shown WHERE {where} AND {bad}")
        if n:
            work.report.drop(source.part, reason, n)
            work.run(f"DELETE FROM shown WHERE {where} AND {bad}")

    if spec.user_id:
        check_exact(source, spec.user_id, "shown", "user", where)
        drop("user IS NULL", "shopper id missing")
    if spec.list_id:
        check_exact(source, spec.list_id, "shown", "list", where)
        drop("list IS NULL", "list id missing")
    if spec.query_id and not spec.query:
        if spec.on_unknown == "error":
            rows = f"shown WHERE {where} AND query IS NULL"
            source.forbid(rows, spec.query_id, "the query is not in the queries table")
        drop("query IS NULL", "query not in the queries table")
    if spec.query:
        if unsaid := work.number(f"SELECT {count} FROM shown WHERE {where} AND unsaid"):
            words = work.fetch(
                f"SELECT DISTINCT {source.text(spec.query)} AS word FROM {source.relation} WHERE word IN {NO_QUERY}"
            )
            what = "query is a program's word for none, now without one"
            work.report.repair(source.part, what, unsaid, [word for (word,) in words])
        if not (spec.user_id or spec.list_id or spec.list_id_scope):  # all of them would be one list
            drop("query = ''", "query missing")
    if spec.time:
        check_times(work, source, "shown", where, spec.time)
        rows = f"shown WHERE {where} AND time IS NULL AND NOT unread"
        source.forbid(rows, spec.time, "the time is missing; give one or drop the row")
        drop("unread", "time cannot be read")
        absurd = implausible("time", mapping)
        check_plausible(source, "shown", where, absurd, "time", spec.time)
        drop(absurd, "time implausibly early or in the future")
    _positions(work, source, spec, number)


def _positions(work: Work, source: Source, spec: ListColumns, number: int) -> None:
    """Places are counted from 1."""
    name = spec.position if isinstance(spec, PairsTable) else spec.positions if isinstance(spec, ListsTable) else None
    if not name:
        return
    where = f"FROM shown WHERE part = {number}"
    least = work.fetch(f"SELECT min(place) {where}")[0][0]
    from_zero = spec.first_position == 0 or (spec.first_position == "auto" and least == 0)
    low = 0 if from_zero else 1
    for row, place in work.fetch(
        f"SELECT row, place {where} AND (place < {low} OR place <> floor(place)) ORDER BY row LIMIT 1"
    ):
        source.fail(row, name, f"{place:g} is no position; count positions from {low}")
    if from_zero:
        n = work.number(f"SELECT count(*) {where}")
        work.report.repair(source.part, "positions counted from 0, one added", n, [f"{least:g} is now {least + 1:g}"])
        work.run(f"UPDATE shown SET place = place + 1 WHERE part = {number}")
