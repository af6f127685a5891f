"""A table's `sql` reads files below the root, and nothing else; a mistake in it is one sentence with exit code 2."""

from __future__ import annotations

from pathlib import Path

import pytest
from shop_tables import Shop

from reshelf import cli
from reshelf.data.importing.mapping_file import shipped
from reshelf.errors import InputError


def _select(shop: Shop, sql: str) -> None:
    del shop.mapping["items"]["file"]
    shop.mapping["items"]["sql"] = sql


def test_a_select_stands_for_a_file(shop: Shop) -> None:
    before = shop.load("csv")
    _select(shop, "SELECT * FROM read_csv('items*.csv', all_varchar = true)")
    assert shop.load("csv").items == before.items


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM read_csv('{outside}/secret.csv')", "items.sql.*[Pp]ermission"),
        ("SELECT * FROM read_csv('../secret.csv')", "items.sql.*only files below the root can be read"),
        ("SELECT * FROM read_csv($$items.csv$$)", "items.sql.*only files below the root can be read"),
        ("SELECT * REPLACE (CAST(name AS INT) AS name) FROM 'items.csv'", "items.sql: .*converting column .name"),
        ("COPY (SELECT 1) TO 'new.csv'", "items.sql: expected one SELECT, found COPY"),
        ("ATTACH 'new.db'", "items.sql: expected one SELECT, found ATTACH"),
        ("SELECT 1; SELECT 2", "items.sql: expected one SELECT, found SELECT and SELECT"),
        ("SELECT * FROM read_csv('https://example.org/a.csv')", "items.sql"),
        ("SELECT sku,\n  nme AS name FROM read_csv('items.csv')", "items.sql: line 2, column 3: .*nme"),
        ("SELEC 1", "items.sql: line 1, column 1: "),
        ("SELECT sku FROM read_csv('items.csv')", "items.sql: there is no column 'name'"),
    ],
)
def test_what_a_select_may_not_do(shop: Shop, tmp_path_factory: pytest.TempPathFactory, sql: str, words: str) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.csv").write_text("sku,name\n1,a\n")
    (shop.folder.parent / "secret.csv").write_text("sku,name\n1,a\n")
    _select(shop, sql.replace("{outside}", str(outside)))
    with pytest.raises(InputError, match=words) as caught:
        shop.load("csv")
    assert "\n" not in str(caught.value)
    assert not (shop.folder / "new.csv").exists()
    assert not list(shop.folder.glob("new.db*"))


def test_the_command_names_the_shipped_mappings(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "import", "--mapping", "list"]) == 0
    names = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {"ubi", "ga4", "bestbuy", "esci", "shop"} <= names
    assert names == set(shipped()), "a line each, however narrow the screen"


def test_the_command_refuses_bad_sql_with_exit_code_2(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    _select(shop, "SELECT")
    path, out = shop.write("csv"), Path(shop.folder) / "out"
    assert cli.main(["data", "import", "--mapping", str(path), "--root", str(shop.folder), "--out", str(out)]) == 2
    assert "items.sql" in capsys.readouterr().err
