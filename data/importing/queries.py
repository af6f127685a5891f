"""Query texts by id, and which items belong to a query: two small tables that some data sets have.

read_queries(mapping, root, books);   read_item_queries(mapping, root, rows, queries, books)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reshelf.data.importing.build import QueryPool
from reshelf.data.importing.import_report import Accounts
from reshelf.data.importing.mapping import Mapping
from reshelf.data.importing.readers import read_table


def read_queries(mapping: Mapping, root: Path, books: Accounts) -> dict[str, str] | None:
    """Query id to text; None without such a table.

    Raises:
        InputError: names file, row and field.
    """
    spec = mapping.queries
    if spec is None:
        return None
    raw = read_table(spec, root, [spec.query_id, spec.query], "queries")
    books.read("queries", raw.n_read)
    books.drop("queries", "not chosen by where", raw.n_read - len(raw))
    result: dict[str, str] = {}
    for i, (query_id, text) in enumerate(zip(raw.ids(spec.query_id).to_pylist(), raw.texts(spec.query))):
        if query_id in result:
            raw.fail(i, spec.query_id, f"query {query_id!r} is there already; query ids must be unique")
        if text is None:
            raw.fail(i, spec.query, "the text is missing")
        result[query_id] = text
    books.keep("queries", len(result))
    return result


def read_item_queries(
    mapping: Mapping, root: Path, rows: dict[str, int], queries: dict[str, str] | None, books: Accounts
) -> QueryPool | None:
    """The items of every query; None without such a table.

    Raises:
        InputError: names file, row and field.
    """
    spec = mapping.item_queries
    if spec is None:
        return None
    raw = read_table(spec, root, [spec.item_id, spec.query_id], "item_queries")
    books.read("item_queries", raw.n_read)
    books.drop("item_queries", "not chosen by where", raw.n_read - len(raw))
    members: dict[str, list[int]] = {}
    for i, (item, query) in enumerate(zip(raw.ids(spec.item_id).to_pylist(), raw.ids(spec.query_id).to_pylist())):
        if queries is not None and query not in queries:
            raw.fail(i, spec.query_id, f"query {query!r} is not in the queries table")
        if item not in rows:
            books.drop("item_queries", "item not in the catalogue", 1)
            continue
        members.setdefault(query, []).append(rows[item])
        books.keep("item_queries", 1)
    texts = [query if queries is None else queries[query] for query in members]
    return QueryPool(texts, [np.array(found, dtype=np.int32) for found in members.values()])
