#!/usr/bin/env bash
# Guess: FROM t, unnest(list) WITH ORDINALITY gives a list's elements in its order, as unnest without ordinality does.
# Happens: each list comes out backwards (3, 2, 1). The numbers are right; who relies on the order of rows ranks upside down.
# Source: duckdb.org/docs/current/sql/query_syntax/unnest; ORDER BY, or unnest in SELECT, gives the list's order.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q duckdb==2.0.1
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import duckdb

print("duckdb", duckdb.__version__)
duckdb.execute("CREATE TABLE searches AS SELECT * FROM (VALUES ('q1', ['a', 'b', 'c']), ('q2', ['d', 'e'])) v(id, hits)")
plain = duckdb.sql("SELECT id, hit FROM searches, unnest(hits) AS u(hit)").fetchall()
numbered = duckdb.sql("SELECT id, hit, n FROM searches, unnest(hits) WITH ORDINALITY AS u(hit, n)").fetchall()
print("unnest:                ", plain)
print("unnest WITH ORDINALITY:", numbered)
assert [hit for id, hit in plain if id == "q1"] == ["a", "b", "c"], plain
assert [(hit, n) for id, hit, n in numbered if id == "q1"] == [("c", 3), ("b", 2), ("a", 1)], numbered
PYTHON
