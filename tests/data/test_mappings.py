"""Every shipped mapping is understood, and imports files in the documented format of its data set."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from log_samples import SAMPLES
from shop_tables import write_table

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.data.importing.mapping_file import SHIPPED, load_mapping

ROOT = Path(__file__).parents[2]
LAYOUTS = [
    "served_lists", "ubi", "ubi_impressions", "ga4", "segment", "segment_warehouse", "elastic", "metarank", "mind",
    "jdsearch", "shopify", "rees46", "retailrocket", "otto", "yoochoose", "instacart", "olist",
    "diginetica", "woocommerce", "online_retail", "hm",
]  # fmt: skip
NAMES = sorted(path.stem for path in SHIPPED.glob("*.yaml"))
REAL = {
    "amazon_beauty_search": {"train": (32, "beauty"), "valid": (100, "beauty"), "test": (100, "beauty")},
    "amazon_beauty_rerank": {"train": (32, ""), "valid": (100, ""), "test": (100, "")},
    "amazon_games": {"train": (32, ""), "valid": (100, ""), "test": (100, "")},
    "movielens_1m_collm": {"train": (1, ""), "valid": (1, ""), "test": (1, "")},
    "movielens_100k": {"train": (20, ""), "valid": (50, ""), "test": (50, "")},
    "homedepot_search": {"train": (1, ""), "valid": (1, ""), "test": (1, "")},
    "crowdflower_search": {"train": (1, ""), "valid": (1, ""), "test": (1, "")},
    "bestbuy": {"train": (50, ""), "valid": (50, ""), "test": (50, "")},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_mapping_is_understood(name: str) -> None:
    mapping = load_mapping(name)
    assert mapping.items.item_id
    assert 20 < len(mapping.about) <= 120, "one line for --mapping list"
    assert bool(mapping.items.file) != bool(mapping.items.sql)


def test_every_set_of_the_documents_has_a_mapping() -> None:
    public = {
        "amazon_reviews_2023",
        "esci",
        "wands",
        "movielens_latest",
        "movielens_1m",
        "shop",
        "bestbuy",
        "esci_locales",
    }
    assert {*REAL, *public, *LAYOUTS} == set(NAMES)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_says_how_it_is_imported(name: str) -> None:
    """Its header holds the command, docs/logs.md what to look for, and samples a small one."""
    header = (SHIPPED / f"{name}.yaml").read_text(encoding="utf-8").split("\nabout:")[0]
    assert all(line.startswith("#") for line in header.splitlines())
    assert f"reshelf data import --mapping {name} --root " in header
    assert f"`{name}`" in (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")
    assert sum(file.stat().st_size for file in (SAMPLES / name).rglob("*")) < 40_000


def imported(name: str, root: Path, **changes: object) -> RankingData:
    return import_logs(ImportConfig(mapping=name, root=root, out=root / "out", quiet=True, changes=dict(changes)))


def test_wands(tmp_path: Path) -> None:
    folder = tmp_path / "WANDS" / "dataset"
    folder.mkdir(parents=True)
    (folder / "product.csv").write_text(
        "product_id\tproduct_name\tproduct_class\tcategory hierarchy\tproduct_description\tproduct_features\t"
        "rating_count\taverage_rating\treview_count\n"
        "0\tsolid wood platform bed\tBeds\tFurniture / Bedroom Furniture / Beds\tgood , deep sleep\t"
        "overallwidth-sidetoside:64.7|producttype : bed\t15.0\t4.5\t15.0\n"
        "1\tslow cooker\tSlow Cookers\tKitchen / Slow Cookers\t\t\t\t\t\n",
        encoding="utf-8",
    )
    (folder / "query.csv").write_text(
        "query_id\tquery\tquery_class\n" + "".join(f"{n}\twood bed {n}\tBeds\n" for n in range(20)), encoding="utf-8"
    )
    (folder / "label.csv").write_text(
        "id\tquery_id\tproduct_id\tlabel\n"
        + "".join(f"{2 * n}\t{n}\t1\tIrrelevant\n{2 * n + 1}\t{n}\t0\tExact\n" for n in range(20)),
        encoding="utf-8",
    )
    data = imported("wands", tmp_path)
    bed = data.items["0"]
    assert bed.category == ("Furniture", "Bedroom Furniture", "Beds")
    assert bed.attributes == {"class": "Beds", "overallwidth-sidetoside": "64.7", "producttype": "bed"}
    assert (bed.rating, bed.rating_count) == (4.5, 15)
    assert (data.items["1"].rating, data.items["1"].description) == (None, None)
    assert sum(map(len, data.lists.values())) == 20
    for lists in data.lists.values():
        for ranking in lists:
            assert ranking.candidates == ("0", "1"), "BM25 puts the bed first"
            assert ranking.labels == (3, 0)
            assert ranking.query.startswith("wood bed")


def test_esci(tmp_path: Path) -> None:
    folder = tmp_path / "shopping_queries_dataset"
    products = [
        {
            "product_id": f"B{n}",
            "product_title": f"fan {n}",
            "product_description": "<p>Quiet &amp; small</p>" if n else None,
            "product_bullet_point": "portable",
            "product_brand": "Aero",
            "product_color": "white",
            "product_locale": locale,
        }
        for n in range(4)
        for locale in ("us", "es")
    ]
    examples = [
        {
            "example_id": 4 * q + n,
            "query": f"quiet fan {q}",
            "query_id": q,
            "product_id": f"B{n}",
            "product_locale": "us",
            "esci_label": "ESCI"[n],
            "small_version": int(q != 7),
            "large_version": 1,
            "split": "test" if q < 3 else "train",
        }
        for q in range(40)
        for n in range(4)
    ]
    write_table(folder / "shopping_queries_dataset_products.parquet", products)
    write_table(folder / "shopping_queries_dataset_examples.parquet", examples)
    data = imported("esci", tmp_path)
    assert len(data.items) == 4
    assert data.items["B1"].description == "Quiet & small"
    assert data.items["B0"].attributes == {"colour": "white", "features": "portable"}
    assert len(data.lists["test"]) == 3
    assert len(data.lists["train"]) + len(data.lists["valid"]) == 36
    assert data.lists["valid"], "a share of the train queries"
    for ranking in data.lists["test"]:
        assert dict(zip(ranking.candidates, ranking.labels or ())) == {"B0": 3, "B1": 2, "B2": 1, "B3": 0}


def test_esci_locales(tmp_path: Path) -> None:
    """One product id in two locales is two products."""
    folder = tmp_path / "shopping_queries_dataset"
    titles = {"us": "fan", "es": "ventilador"}
    products = [
        {
            "product_id": f"B{n}",
            "product_title": f"{title} {n}",
            "product_description": None,
            "product_bullet_point": None,
            "product_brand": "Aero",
            "product_color": None,
            "product_locale": locale,
        }
        for n in range(4)
        for locale, title in titles.items()
    ]
    examples = [
        {
            "example_id": 4 * q + n,
            "query": f"{titles[locale]} {q}",
            "query_id": q,
            "product_id": f"B{n}",
            "product_locale": locale,
            "esci_label": ("ESCI" if locale == "us" else "ICSE")[n],
            "small_version": int(q != 7),
            "large_version": 1,
            "split": "test" if q < 4 else "train",
        }
        for q in range(40)
        for n in range(4)
        for locale in ["us" if q % 2 else "es"]
    ]
    write_table(folder / "shopping_queries_dataset_products.parquet", products)
    write_table(folder / "shopping_queries_dataset_examples.parquet", examples)
    data = imported("esci_locales", tmp_path)
    assert len(data.items) == 8
    assert (data.items["us/B1"].title, data.items["es/B1"].title) == ("fan 1", "ventilador 1")
    labels = {r.query: dict(zip(r.candidates, r.labels or ())) for r in data.lists["test"]}
    assert labels["fan 1"] == {"us/B0": 3, "us/B1": 2, "us/B2": 1, "us/B3": 0}
    assert labels["ventilador 2"] == {"es/B0": 0, "es/B1": 1, "es/B2": 2, "es/B3": 3}
    assert sum(map(len, data.lists.values())) == 39


@pytest.mark.parametrize("packed", [False, True])
def test_amazon_reviews_2023(tmp_path: Path, packed: bool) -> None:
    meta = [
        {
            "main_category": "All Beauty",
            "title": f"cream {n}",
            "average_rating": 4.8,
            "rating_number": 10,
            "features": [],
            "description": ["A rich cream.", "For hands."] if n else [],
            "price": [12.5, "12.50", None, "—", "from 9.99"][n % 5],
            "images": [{"thumb": "https://x/y.jpg"}],
            "store": "Howard" if n else None,
            "categories": ["Beauty", "Hands" if n % 2 else "Feet"],
            "details": {"Package Dimensions": "7.1 x 5.5"},
            "parent_asin": f"B{n:03d}",
            "bought_together": None,
        }
        for n in range(12)
    ]
    reviews = [
        {
            "rating": float(1 + (u + k) % 5),
            "title": "ok",
            "text": "fine",
            "images": [],
            "asin": "B",
            "parent_asin": f"B{(5 * u + k) % 12:03d}",
            "user_id": f"A{u}",
            "timestamp": 1_588_687_728_923 + (7 * u + 100 * k) * 86_400_000,
            "helpful_vote": 0,
            "verified_purchase": True,
        }
        for u in range(8)
        for k in range(6)
    ]
    ending = ".jsonl.gz" if packed else ".jsonl"
    for name, rows in (("meta_All_Beauty", meta), ("All_Beauty", reviews)):
        text = "".join(json.dumps(row) + "\n" for row in rows).encode()
        (tmp_path / (name + ending)).write_bytes(gzip.compress(text) if packed else text)
    changes = {"items.file": "meta_All_Beauty.jsonl.gz", "events.file": "All_Beauty.jsonl.gz"} if packed else {}
    data = imported("amazon_reviews_2023", tmp_path, **changes, **{"build.candidates": 4, "build.train_candidates": 4})
    assert [data.items[f"B{n:03d}"].price for n in range(5)] == [12.5, 12.5, None, None, None]
    assert data.items["B001"].description == "A rich cream. For hands."
    assert (data.items["B000"].description, data.items["B000"].brand, data.items["B001"].currency) == (
        None,
        None,
        "USD",
    )
    assert set(data.lists) == {"train", "valid", "test"}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["tables"]["items"]["repaired"] == {"price is no number, now missing": 2}
    for lists in data.lists.values():
        for ranking in lists:
            assert ranking.query in ("hands", "feet")
            assert all(e.kind == "rating" and e.value for e in ranking.history)


def movie_rows() -> tuple[list[tuple[int, str, str]], list[tuple[int, int, float, int]]]:
    movies = [(n, f"Film {n}, The (19{70 + n})", "Drama|Comédie" if n % 2 else "Drama") for n in range(1, 13)]
    ratings = [
        (u, 1 + (2 * u + k) % 12, 1 + (u + k) % 5, 978_300_760 + 86_400 * (10 * k + u))
        for u in range(1, 9)
        for k in range(6)
    ]
    return movies, ratings


def test_movielens_as_csv(tmp_path: Path) -> None:
    movies, ratings = movie_rows()
    folder = tmp_path / "ml-latest-small"
    write_table(folder / "movies.csv", [{"movieId": m, "title": t, "genres": g} for m, t, g in movies])
    write_table(
        folder / "ratings.csv", [{"userId": u, "movieId": m, "rating": r, "timestamp": t} for u, m, r, t in ratings]
    )
    data = imported("movielens_latest", tmp_path, **{"build.candidates": 4, "build.train_candidates": 4})
    assert data.items["3"].title == "Film 3, The (1973)"
    assert data.items["3"].category == ("Drama", "Comédie")
    assert all(len(r.candidates) == 4 for lists in data.lists.values() for r in lists)


def test_movielens_as_dat_gives_the_same_lists(tmp_path: Path) -> None:
    movies, ratings = movie_rows()
    folder = tmp_path / "ml-1m"
    folder.mkdir()
    (folder / "movies.dat").write_text("".join(f"{m}::{t}::{g}\n" for m, t, g in movies), encoding="latin-1")
    (folder / "ratings.dat").write_text("".join(f"{u}::{m}::{r}::{t}\n" for u, m, r, t in ratings), encoding="latin-1")
    data = imported("movielens_1m", tmp_path, **{"build.candidates": 4, "build.train_candidates": 4})
    assert data.items["3"].category == ("Drama", "Comédie")
    assert set(data.lists) == {"train", "valid", "test"}
    grades = {3.0: 1, 4.0: 2, 5.0: 3}
    stars = {(str(u), str(m)): float(r) for u, m, r, _ in ratings}
    for lists in data.lists.values():
        for ranking in lists:
            place = (ranking.labels or ()).index(max(ranking.labels or ()))
            assert (ranking.labels or ())[place] == grades[stars[ranking.user_id, ranking.candidates[place]]]


def test_the_shops_own_mapping_works_on_a_shops_files(tmp_path: Path) -> None:
    day = 86_400_000
    products = [
        {"sku": f"s{n}", "name": f"mug {n}", "category": "Home > Mugs", "brand": "A", "price": n, "currency": "EUR",
         "stars": 4.5, "ratings": 3, "description": "A mug.", "colour": "red", "size": "L"}
        for n in range(1, 9)
    ]  # fmt: skip
    shown, events = [], []
    for n in range(20):
        now = 1_700_000_000_000 + n * day
        request, who = f"r{n}", f"c{n % 4}"
        events.append({"customer": who, "sku": None, "time": now, "action": "query", "text": "mug", "request": request})
        for rank in range(1, 5):
            sku = f"s{1 + (n + rank) % 8}"
            shown.append({"request": request, "customer": who, "time": now, "text": "mug", "sku": sku, "rank": rank})
        for wait, action in ((5000, "result_click"), (9000, "order")):
            chosen = {"sku": f"s{1 + (n + 2) % 8}", "time": now + wait, "action": action, "text": None}
            events.append({"customer": who, "request": request} | chosen)
    write_table(tmp_path / "products.csv", products)
    write_table(tmp_path / "events.parquet", events)
    write_table(tmp_path / "impressions.parquet", shown)
    data = imported("shop", tmp_path)
    assert {split: len(lists) for split, lists in data.lists.items()} == {"train": 15, "valid": 2, "test": 2}
    for n, ranking in enumerate(r for lists in data.lists.values() for r in lists):
        assert ranking.labels == (0, 3, 0, 0)
        assert ranking.positions == (1, 2, 3, 4)
        assert len(ranking.history) == 3 * (n // 4), "a search, a click and an order of each earlier list of theirs"
        assert set(ranking.features) == {
            "popularity", "recent", "cobought", "match", "query_match", "query_chars", "query_clicks",
            "similar_query_clicks",
        }  # fmt: skip
    assert data.items["s1"].attributes == {"colour": "red", "size": "L"}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_real_sets_import(name: str, data_root: Path, tmp_path: Path) -> None:
    data = import_logs(ImportConfig(mapping=name, root=data_root, out=tmp_path / "out", limit=40, quiet=True))
    assert load_dataset_folder(tmp_path / "out").lists == data.lists
    for split, (size, query) in REAL[name].items():
        assert 30 <= len(data.lists[split]) <= 40
        for ranking in data.lists[split]:
            assert len(ranking.candidates) >= size
            assert query in ranking.query
    if name.startswith("amazon"):
        for ranking in (r for lists in data.lists.values() for r in lists):
            assert ranking.history
            bought = {c for c, label in zip(ranking.candidates, ranking.labels or ()) if label}
            assert not bought & {event.item_id for event in ranking.history}


def ndcg(order: np.ndarray, labels: tuple[int, ...]) -> float:
    rank = int(np.flatnonzero(np.array(labels)[order] == 3)[0])
    return 1 / np.log2(rank + 2) if rank < 10 else 0.0


@pytest.mark.data
@pytest.mark.slow
def test_simple_baselines_of_the_beauty_search_lists_are_the_documented_ones(data_root: Path, tmp_path: Path) -> None:
    """The README of the data gives nDCG@10 on test; ties here keep the shuffled order of the published lists."""
    changes = {
        "signals.first_stage": {},
        "signals.names": ["popularity", "cobought", "match"],
        "build.max_lists": {"train": 1},
    }
    data = import_logs(
        ImportConfig(mapping="amazon_beauty_search", root=data_root, out=tmp_path / "out", changes=changes, quiet=True)
    )
    lists = data.lists["test"]
    assert len(lists) == 2000
    rankers = {
        0.137: lambda f: f["popularity"],
        0.174: lambda f: f["match"],
        0.193: lambda f: f["cobought"],
        0.228: lambda f: f["match"] + 2 * f["cobought"],
    }
    for documented, ranker in rankers.items():
        values = [{name: np.array(v) for name, v in r.features.items()} for r in lists]
        got = np.mean([ndcg(np.argsort(-ranker(v), kind="stable"), r.labels or ()) for v, r in zip(values, lists)])
        assert got == pytest.approx(documented, abs=0.01)


@pytest.mark.data
@pytest.mark.slow
def test_nothing_of_a_held_out_item_reaches_beauty_training(data_root: Path, tmp_path: Path) -> None:
    """Rewriting every valid and test event leaves every train list, with its numbers, as it is."""

    root = tmp_path / "data"
    shutil.copytree(data_root / "amazon_beauty", root / "amazon_beauty")
    published = pq.read_table(root / "amazon_beauty" / "search_eval.parquet")  # valid and test lists; a few will do
    pq.write_table(published.take(list(range(0, len(published), 100))), root / "amazon_beauty" / "search_eval.parquet")
    changes = {"build.max_lists": {"train": 300}}
    config = ImportConfig(mapping="amazon_beauty_search", root=root, out=tmp_path / "one", changes=changes, quiet=True)
    first = import_logs(config).lists["train"]
    table = pq.read_table(root / "amazon_beauty" / "interactions.parquet")
    moved = pc.if_else(pc.equal(table["split"], "train"), table["item_id"], pa.scalar(7, pa.int32()))
    pq.write_table(
        table.set_column(table.schema.get_field_index("item_id"), "item_id", moved),
        root / "amazon_beauty" / "interactions.parquet",
    )
    again = import_logs(
        ImportConfig(mapping="amazon_beauty_search", root=root, out=tmp_path / "two", changes=changes, quiet=True)
    )
    assert again.lists["train"] == first
