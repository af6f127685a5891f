#!/usr/bin/env bash
# Guess: an FTS5 table made small, with content='' (the texts are elsewhere) and detail=none or column (no positions), still ranks: bm25()
#   needs how often a word is in a row and how many rows have it, and no positions. Otherwise it is refused, as a phrase is on such a table.
# Happens: every row has the score -0.0. ORDER BY rank is then the order of rowids: the oldest products first, for every query, with
#   no error. Either option alone ranks as before, to the last digit: of content='' the manual says that less is stored, of detail= that
#   phrases and NEAR go, and only the C interface (xInst, "always returns 0") that both together leave nothing to count.
# Source: SQLite, sqlite.org/fts5.html, "The Detail Option", "Contentless Tables" and 7.2 (xInstCount); seen with apsw's SQLite below and with
#   3.40.1. A first stage of this kind is no first stage: leave out one of the two options.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q apsw==3.54.1.0
"$folder/venv/bin/python" - <<'PYTHON'
import apsw

print("SQLite", apsw.sqlite_lib_version())
TITLES = ["a long text about socks, hats, gloves, scarves and one red thing", "red red shoe", "blue hat", "green hat", "cap"]


def ranked(options: str) -> list[tuple[int, float]]:
    base = apsw.Connection(":memory:")
    base.execute(f"CREATE VIRTUAL TABLE items USING fts5(title{options})")
    for number, title in enumerate(TITLES, 1):
        base.execute("INSERT INTO items (rowid, title) VALUES (?, ?)", (number, title))
    return base.execute("SELECT rowid, bm25(items) FROM items WHERE items MATCH 'red' ORDER BY rank").fetchall()


found = {options: ranked(options) for options in ("", ", content=''", ", detail=none", ", content='', detail=none",
                                                  ", content='', detail=column")}
for options, rows in found.items():
    print(f"fts5(title{options}):", [(number, round(score, 3)) for number, score in rows])
assert [number for number, _ in found[""]] == [2, 1]
assert found[""] == found[", content=''"] == found[", detail=none"]
for both in (", content='', detail=none", ", content='', detail=column"):
    assert [number for number, _ in found[both]] == [1, 2]
    assert {score for _, score in found[both]} == {0}
PYTHON
