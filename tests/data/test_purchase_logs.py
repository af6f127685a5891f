"""Logs of purchases, clicks and sessions without lists: what lists are built of, computed by hand."""

from __future__ import annotations

from pathlib import Path

from log_samples import chosen, copied, imported, lists_of

EVERY = {"build__per_user": 10}


def between(valid: str, test: str) -> dict[str, object]:
    return {**EVERY, "split__valid_from": valid, "split__test_from": test}


def test_shopify(tmp_path: Path) -> None:
    data, report = imported("shopify", tmp_path, **between("2026-03-09T06:00", "2026-03-15"))
    # The date, status and cancellation of an order are on its first line alone; 23:30 -0500 is the next day in UTC.
    assert chosen(data) == {
        "train": [
            ("ann@example.org", "03-09 04:30", "mug:3", "purchase mug, purchase tray"),
            ("ann@example.org", "03-09 04:30", "teapot:3", "purchase mug, purchase tray"),
        ],
        "valid": [("bob@example.org", "03-10 14:00", "tray:3", "purchase mug")],
        "test": [
            (
                "ann@example.org",
                "03-20 14:00",
                "kettle:3",
                "purchase mug, purchase tray, purchase mug, purchase teapot",
            )
        ],
    }
    assert list(data.items) == ["kettle", "mug", "teapot", "tray"]
    mug = data.items["mug"]
    assert (mug.title, mug.brand, mug.price, mug.currency) == ("Mug", "Kiln & Co", 8.5, "USD")
    assert mug.category == ("Home & Garden", "Kitchen", "Mugs")
    assert mug.description == "Holds 0.3 l , & is dishwasher safe"
    table = report["tables"]["events"]
    assert (table["read"], table["kept"]) == (12, 8)  # 2 lines cancelled, 1 refunded, 1 without a SKU


def test_shopify_exports_with_the_column_names_of_2025(tmp_path: Path) -> None:
    root = copied("shopify", tmp_path)
    products = root / "products_export.csv"
    head, rest = products.read_text(encoding="utf-8").split("\n", 1)
    for old, new in (("Handle", "URL handle"), ("Body (HTML)", "Description"), ("Variant SKU", "SKU")):
        head = head.replace(old, new)
    products.write_text(head.replace("Variant Price", "Price") + "\n" + rest, encoding="utf-8")
    dates = between("2026-03-09T06:00", "2026-03-15")
    assert chosen(imported("shopify", tmp_path, root, **dates)[0]) == chosen(
        imported("shopify", tmp_path / "old", **dates)[0]
    )


def test_rees46(tmp_path: Path) -> None:
    data, report = imported("rees46", tmp_path, **between("2026-03-04", "2026-03-08"))
    assert chosen(data) == {
        "train": [("512000002", "03-02 10:00", "7:3", "view 20, purchase 20")],
        # 21 was taken out of the cart again: it was no choice, and the cart is not in the history
        "valid": [("512000001", "03-05 10:00", "20:3", "view 7, cart 7, view 8, view 21")],
        "test": [("512000002", "03-09 10:00", "8:2", "view 20, purchase 20, view 7, purchase 7")],
    }
    tray = data.items["30"]
    assert tray.price == 12.0
    assert (data.items["7"].title, data.items["7"].brand) == ("kiln kitchen mug", "kiln")
    assert data.items["21"].title == "category 2053013557418656265"
    assert report["tables"]["events"]["read"] == 16
    assert report["tables"]["events"]["dropped"] or report["tables"]["events"]["repaired"], "a row is there twice"


def test_retailrocket(tmp_path: Path) -> None:
    data, report = imported("retailrocket", tmp_path, **between("2026-03-04", "2026-03-06"))
    history = "view 7, cart 7, purchase 7, view 8"
    assert chosen(data) == {
        "train": [("2", "03-03 10:00", "7:3", "view 20, cart 20")],
        "valid": [("1", "03-04 10:00", "20:3", history), ("1", "03-04 10:00", "8:3", history)],
        "test": [("2", "03-06 10:00", "8:3", "view 20, cart 20, purchase 7")],
    }
    assert data.items["7"].price == 8500.0
    assert data.items["7"].category == ("213", "1338")
    assert data.items["20"].category == ("213", "1016"), "the category of the last snapshot"
    assert report["tables"]["events"]["read"] == 12
    assert sum(report["tables"]["events"]["dropped"].values()) == 2, "products without properties"


def test_otto(tmp_path: Path) -> None:
    data, _ = imported("otto", tmp_path, **between("2026-03-03", "2026-03-04"))
    assert chosen(data) == {
        "train": [
            ("0", "03-01 10:01", "8:3", "click 7"),
            ("0", "03-01 10:02", "9:3", "click 7, cart 8"),  # ordered with 8 in the same millisecond
            ("1", "03-01 11:01", "21:2", "click 20"),
        ],
        "valid": [("3", "03-03 10:01", "7:3", "click 8")],
        "test": [("4", "03-04 10:01", "20:2", "cart 21")],
    }


def test_instacart(tmp_path: Path) -> None:
    data, report = imported("instacart", tmp_path, **EVERY)
    assert chosen(data) == {
        "train": [("1", "", "20:3", "purchase 7, purchase 8"), ("2", "", "9:3", "purchase 8")],
        "valid": [
            ("1", "", "21:3", "purchase 7, purchase 8, purchase 20"),
            ("1", "", "7:3", "purchase 7, purchase 8, purchase 20"),
            ("2", "", "20:3", "purchase 8, purchase 9"),  # order 10 comes after order 2
        ],
        "test": [
            ("1", "", "30:3", "purchase 7, purchase 8, purchase 20, purchase 7, purchase 21"),
            ("1", "", "8:3", "purchase 7, purchase 8, purchase 20, purchase 7, purchase 21"),
        ],
    }, "products of one order are in no history of each other"
    assert data.items["8"].title == 'Blue Mug, "Large"'
    assert data.items["7"].category == ("mugs",)
    assert data.items["30"].category == (), "an aisle that aisles.csv does not have"
    assert report["tables"]["events"]["read"] == 10


def test_olist(tmp_path: Path) -> None:
    data, report = imported("olist", tmp_path, **between("2017-11-01", "2018-01-01"))
    assert [(r.user_id, r.time.isoformat()) for r in lists_of(data) if r.time] == [
        ("ann", "2017-10-06T01:30:00+00:00"),  # 22:30 in São Paulo, in winter three hours behind
        ("bob", "2017-12-01T12:00:00+00:00"),  # in summer two
        ("ann", "2018-01-05T12:00:00+00:00"),
    ]
    assert chosen(data) == {
        "train": [("ann", "10-06 01:30", "p20:3", "purchase p7")],
        "valid": [("bob", "12-01 12:00", "p7:3", "purchase p8, purchase p20")],
        "test": [("ann", "01-05 12:00", "p8:3", "purchase p7, purchase p20")],
    }
    assert data.items["p7"].category == ("housewares",), "the translation's file begins with a byte order mark"
    assert data.items["p20"].category == ("portateis_cozinha_e_preparadores_de_alimentos",)
    assert data.items["p21"].title == "product"
    table = report["tables"]["events"]
    assert (table["read"], table["kept"]) == (9, 6)  # canceled, unavailable, and p7 bought twice in one order


def test_yoochoose(tmp_path: Path) -> None:
    data, _ = imported("yoochoose", tmp_path, **between("2014-04-09", "2014-04-10"))
    assert chosen(data) == {
        "train": [("1", "04-07 10:54", "8:3", "click 7"), ("2", "04-08 10:01", "8:1", "click 20")],
        "valid": [("3", "04-09 10:01", "20:1", "click 7")],
        "test": [("4", "04-10 10:02", "7:3", "click 8")],
    }
    assert data.items["7"].category == ("5",)
    assert data.items["8"].category == ("2089535489",), "neither 0 (missing) nor S (special offer)"
    assert (data.items["20"].price, data.items["8"].price) == (None, 1046.0)


def test_woocommerce(tmp_path: Path) -> None:
    data, report = imported("woocommerce", tmp_path, **between("2026-03-04", "2026-03-05"), build__min_history=0)
    assert chosen(data) == {
        "train": [
            # the guest Ann and the customer 5 have one address, in capitals or not
            ("ann@example.org", "03-01 10:00", "1:3", ""),
            ("ann@example.org", "03-01 10:00", "2:3", ""),
            ("ann@example.org", "03-03 10:00", "3:3", "purchase 1, purchase 2"),
        ],
        "valid": [("6", "03-04 10:00", "1:3", "")],
        "test": [("6", "03-05 10:00", "2:3", "purchase 1")],
    }
    assert (data.items["1"].category, data.items["1"].rating) == (("Mugs",), 4.5)
    assert (data.items["2"].description, data.items["2"].rating) == ("Oak.", None)
    assert data.items["3"].price == 30, "of the later page"
    assert report["tables"]["events"]["dropped"] == {
        "item not in the catalogue": 1, "kind not mapped": 1, "event id seen before": 1,
    }  # fmt: skip


def test_online_retail(tmp_path: Path) -> None:
    data, report = imported("online_retail", tmp_path, **between("2010-06-07", "2010-06-08"), build__min_history=0)
    assert chosen(data) == {
        "train": [
            ("13085", "06-01 06:45", "00010:3", ""),  # in London it is an hour later; the mug came back
            ("13085", "06-03 09:45", "85049:3", "purchase 00010"),
            ("13086", "06-05 09:45", "85048:3", ""),
            ("13086", "06-06 09:45", "85050:3", "purchase 85048"),
        ],
        "valid": [("13086", "06-07 09:45", "85049:3", "purchase 85048, purchase 85050")],
        "test": [("13085", "06-08 09:45", "85050:3", "purchase 00010, purchase 85049")],
    }
    assert report["taken_back"] == 1


def test_hm(tmp_path: Path) -> None:
    data, report = imported("hm", tmp_path, **between("2018-09-22", "2018-09-23"), build__min_history=0)
    assert chosen(data) == {
        "train": [
            ("000058a12d5b", "09-20 00:00", "0108775015:3", ""),
            ("000058a12d5b", "09-21 00:00", "0108775044:3", "purchase 0108775015"),
        ],
        "valid": [
            ("000058a12d5b", "09-22 00:00", "0110065001:3", "purchase 0108775015, purchase 0108775044"),
            ("00007d2de826", "09-22 00:00", "0110065001:3", ""),
        ],
        "test": [("00007d2de826", "09-23 00:00", "0108775015:3", "purchase 0110065001")],
    }
    assert data.items["0108775015"].category == ("Ladieswear", "Garment Upper body", "Vest top")
    assert report["tables"]["events"]["dropped"] == {"repeated row": 1}
