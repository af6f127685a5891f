"""Exports of search, analytics and shop services, by the mappings that docs/logs.md gives for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from export import Export

BEFORE, SEEN, PAGED = "2026-03-01T09:00:00Z", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"
CLICKED, BOUGHT, LAST = "2026-03-01T10:01:30Z", "2026-03-01T10:05:00Z", "2026-04-01T00:00:00Z"
SECONDS = {
    BEFORE: 1772355600,
    SEEN: 1772359200,
    PAGED: 1772359260,
    CLICKED: 1772359290,
    BOUGHT: 1772359500,
    LAST: 1775001600,
}
MUGS = ["1", "2", "3"]


def service(export: Export, files: dict[str, Any], events: Any, lists: dict[str, Any] | None = None) -> list[str]:
    """What comes of an export; without `lists`, of the one list in `shown.csv`."""
    export.files |= files
    export.mapping["events"] = events
    if lists:
        del export.mapping["pairs"]
        export.mapping["lists"] = lists
    return export.load()


def dropped(export: Export, table: str = "events") -> dict[str, int]:
    return export.report["tables"][table]["dropped"]


def test_algolia(export: Export) -> None:
    """Conversions name a query for each product; what a conversion is says `eventSubtype`."""
    log = [
        {
            "queryID": n,
            "userToken": "ann",
            "query": "mug",
            "timestamp": SECONDS[at] * 1000,
            "hits": [{"objectID": h} for h in hits],
        }
        for n, at, hits in (("q1", SEEN, MUGS), ("q2", PAGED, ["4", "5"]))
    ]
    rows: list[dict[str, Any]] = [
        {"eventType": "view", "userToken": "ann", "objectIDs": ["6"], "timestamp": BEFORE},
        {
            "eventType": "click",
            "userToken": "ann",
            "queryID": "q2",
            "objectIDs": ["4"],
            "positions": [4],
            "timestamp": CLICKED,
        },
        {
            "eventType": "conversion",
            "eventSubtype": "purchase",
            "userToken": "ann",
            "objectIDs": ["4", "2"],
            "objectData": [{"queryID": "q2", "quantity": 1}, {"queryID": "q1", "quantity": 2}],
            "timestamp": BOUGHT,
        },
        {"eventType": "view", "userToken": "zoe", "objectIDs": ["6"], "timestamp": LAST},
    ]
    rows = [row | {"timestamp": SECONDS[row["timestamp"]] * 1000} for row in rows]
    table = {"file": "insights.jsonl", "user_id": "userToken", "item_id": "objectIDs", "time": "timestamp"}
    events = [
        table | {"where": {"eventType": ["click", "view"]}, "kind_column": "eventType", "list_id": "queryID"},
        table
        | {
            "where": {"eventType": "conversion"},
            "kind_column": "eventSubtype",
            "kinds": {"addToCart": "cart"},
            "list_id": "objectData.queryID",
        },
    ]
    lists = {
        "file": "searches.jsonl",
        "list_id": "queryID",
        "user_id": "userToken",
        "time": "timestamp",
        "query": "query",
        "candidates": "hits.objectID",
    }
    found = service(export, {"searches.jsonl": log, "insights.jsonl": rows}, events, lists)
    assert found == ["1:0 2:3 3:0 | view 6", "4:3 5:0 | view 6"]


def test_google_retail(export: Export) -> None:
    """Pages of a search share its token; searches, views and orders are one table."""

    def row(kind: str, at: str, *skus: str, **more: Any) -> dict[str, Any]:
        products = {"productDetails": [{"product": {"id": sku}, "quantity": 1} for sku in skus]} if skus else {}
        return {"eventType": kind, "visitorId": "v", "eventTime": at} | products | more

    rows = [
        row("search", SEEN, *MUGS, searchQuery="mug", attributionToken="t"),
        row("search", PAGED, "4", "5", searchQuery="mug", attributionToken="t", offset=3),
        row("search", CLICKED, searchQuery="xyzzy", attributionToken="none"),
        row("detail-page-view", CLICKED, "4", attributionToken="t"),
        row("purchase-complete", BOUGHT, "4", "2", attributionToken="t"),
        row("home-page-view", BOUGHT),
        row("detail-page-view", LAST, "6") | {"visitorId": "w"},
    ]
    same = {"file": "user_events.jsonl", "user_id": "visitorId", "time": "eventTime", "list_id": "attributionToken"}
    same |= {"query": "searchQuery"}
    events = same | {
        "item_id": "productDetails.product.id",
        "kind_column": "eventType",
        "kinds": {"detail-page-view": "click", "add-to-cart": "cart", "purchase-complete": "purchase"},
    }
    lists = same | {"where": {"eventType": "search"}, "candidates": "productDetails.product.id"}
    assert service(export, {"user_events.jsonl": rows}, events, lists) == ["1:0 2:3 3:0 | ", "4:3 5:0 | search None"]
    assert dropped(export) == {"further product of a search, which is one event": 3, "kind not mapped": 1}


@pytest.mark.parametrize("labels", ["events", "target"])
def test_amazon_personalize(export: Export, labels: str) -> None:
    """Each interaction holds the impression again."""
    rows = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,IMPRESSION,RECOMMENDATION_ID\n" + "".join(
        f"{who},{sku},{SECONDS[at]},{kind},{seen},{rid}\n"
        for who, sku, at, kind, seen, rid in (
            ("ann", 6, BEFORE, "view", "", ""),
            ("ann", 2, SEEN, "click", "1|2|3", "r"),
            ("ann", 3, PAGED, "click", "1|2|3", "r"),
            ("ann", 3, BOUGHT, "purchase", "1|2|3", "r"),
            ("ann", 5, BOUGHT, "click", "4|5", ""),
            ("zoe", 6, LAST, "view", "", ""),
        )
    )
    same = {"file": "interactions.csv", "user_id": "USER_ID", "time": "TIMESTAMP", "list_id": "RECOMMENDATION_ID"}
    lists = same | {"candidates": "IMPRESSION"} | ({"target": "ITEM_ID"} if labels == "target" else {})
    found = service(
        export, {"interactions.csv": rows}, same | {"item_id": "ITEM_ID", "kind_column": "EVENT_TYPE"}, lists
    )
    assert found == ["1:0 2:3 3:3 | view 6" if labels == "target" else "1:0 2:1 3:3 | view 6"]
    assert dropped(export, "lists.0")["list id missing"] == 1


def snowplow(schema: str, **data: Any) -> dict[str, Any]:
    return {"schema": f"iglu:com.snowplowanalytics.snowplow{schema}/jsonschema/1-0-0", "data": data}


def test_snowplow(export: Export) -> None:
    """Contexts hold the page too, whose id is no product's."""
    rows = ""
    for who, at, kind, skus in (
        ("ann", BEFORE, "product_view", ["6"]),
        ("ann", SEEN, "list_view", MUGS),
        ("ann", CLICKED, "list_click", ["2"]),
        ("ann", BOUGHT, "transaction", ["2", "1"]),
        ("ann", "2026-03-01T10:06:00Z", "refund", ["1"]),
        ("zoe", LAST, "product_view", ["6"]),
    ):
        contexts = [
            snowplow("/web_page", id="9c1e-77"),
            *(snowplow(".ecommerce/product", id=sku, quantity=1) for sku in skus),
        ]
        action = {
            "schema": "iglu:…/unstruct_event",
            "data": snowplow(".ecommerce/snowplow_ecommerce_action", type=kind, name="mug"),
        }
        time = at.replace("T", " ").replace("Z", ".000")
        cells = (
            f"{kind}-{who}",
            time,
            who,
            json.dumps({"schema": "iglu:…/contexts", "data": contexts}),
            json.dumps(action),
        )
        rows += "\t".join(cells) + "\n"
    header = ["event_id", "derived_tstamp", "domain_userid", "contexts", "unstruct_event"]
    same = {
        "file": "enriched.tsv",
        "header": header,
        "user_id": "domain_userid",
        "time": "derived_tstamp",
        "timezone": "UTC",
    }
    kinds = {"product_view": "view", "list_click": "click", "transaction": "purchase"}
    events = same | {"item_id": "contexts.data.data.id", "kind_column": "unstruct_event.data.data.type", "kinds": kinds}
    lists = same | {
        "where": {"unstruct_event.data.data.type": "list_view"},
        "list_id": "event_id",
        "query": "unstruct_event.data.data.name",
        "candidates": "contexts.data.data.id",
    }
    assert service(export, {"enriched.tsv": rows * 2}, events | {"event_id": "event_id"}, lists) == [
        "1:0 2:3 3:0 | view 6"
    ]
    assert dropped(export)["item not in the catalogue"] == 10


def test_klaviyo(export: Export) -> None:
    def row(at: str, metric: str, properties: dict[str, Any], who: str = "ann") -> dict[str, Any]:
        of = {"profile": {"data": {"id": who}}, "metric": {"data": {"id": metric}}}
        return {
            "id": f"{metric}{at}",
            "attributes": {"timestamp": SECONDS[at], "event_properties": properties},
            "relationships": of,
        }

    order = {"Items": [{"ProductID": "2", "Quantity": 1}, {"ProductID": "3", "Quantity": 1}]}
    pages = [
        {"data": [row(BEFORE, "M1", {"ProductID": "5"}), row(CLICKED, "M2", order)], "links": {"next": "…"}},
        {"data": [row(BOUGHT, "M3", {"Items": order["Items"][1:]}), row(LAST, "M1", {"ProductID": "5"}, "zoe")]},
    ]
    events = {
        "sql": "SELECT unnest(data) AS row FROM read_json('events-*.json')",
        "user_id": "row.relationships.profile.data.id",
        "time": "row.attributes.timestamp",
        "item_id": ["row.attributes.event_properties.ProductID", "row.attributes.event_properties.Items.ProductID"],
        "kind_column": "row.relationships.metric.data.id",
        "kinds": {"M1": "view", "M2": "purchase"},
        "undo": {"M3": "purchase"},
    }
    files = {f"events-{n}.json": json.dumps(page) for n, page in enumerate(pages)}
    assert service(export, files, events) == ["1:0 2:3 3:0 | view 5"]


def test_adobe_analytics(export: Export) -> None:
    """A hit has several products and several events, and the numbers of a visitor are two."""
    hits = [
        (BEFORE, "4", "2", ";5;1;8.50", 0, ""),
        (CLICKED, "4", "2,100", "cat;2", 0, ""),
        (BOUGHT, "4", "1,200=3", ";2;1;8.50;;evar1=x,;3;2;30.00", 0, "o1"),
        (BOUGHT, "4", "1", ";1;1;8.50", 1, "o2"),
        (LAST, "5", "2", ";5", 0, ""),
    ]
    rows = "".join(
        "\t".join(map(str, (SECONDS[at], "3", low, what, products, out, order))) + "\n"
        for at, low, what, products, out, order in hits
    )
    names = [
        "hit_time_gmt",
        "post_visid_high",
        "post_visid_low",
        "post_event_list",
        "post_product_list",
        "exclude_hit",
        "purchaseid",
    ]
    sql = f"""
      SELECT post_visid_high || '-' || post_visid_low AS visitor, hit_time_gmt, purchaseid,
        split_part(unnest(string_split(post_product_list, ',')), ';', 2) AS sku,
        list_filter(list_transform(string_split(post_event_list, ','), lambda e: split_part(e, '=', 1)),
          lambda e: e IN ('1', '2', '12', '13'))[1] AS code
      FROM read_csv('hit_data.tsv', all_varchar = true, header = false, delim = '\t', quote = '', names = {names})
      WHERE exclude_hit = '0'"""
    events = {
        "sql": sql,
        "user_id": "visitor",
        "item_id": "sku",
        "time": "hit_time_gmt",
        "event_id": "purchaseid",
        "kind_column": "code",
        "kinds": {"1": "purchase", "2": "click", "12": "cart"},
        "undo": {"13": "cart"},
    }
    export.files["shown.csv"] = export.files["shown.csv"].replace("ann", "3-4")
    assert service(export, {"hit_data.tsv": rows}, events) == ["1:0 2:3 3:3 | click 5"]


def test_solr_signals(export: Export) -> None:
    """As Fusion keeps them: pages of a query share its id."""
    rows: list[dict[str, Any]] = [
        {"type_s": "response", "query_s": "mug", "timestamp_tdt": SEEN, "doc_ids_s": "1,2,3", "fusion_query_id_s": "q"},
        {"type_s": "response", "query_s": "mug", "timestamp_tdt": PAGED, "doc_ids_s": "4,5", "fusion_query_id_s": "q"},
        {"type_s": "click", "timestamp_tdt": CLICKED, "doc_id_s": "2", "fusion_query_id_s": "q"},
        {"type_s": "cart-add", "timestamp_tdt": BOUGHT, "doc_id_s": "5", "fusion_query_id_s": "q"},
        {"type_s": "click", "timestamp_tdt": LAST, "doc_id_s": "6"},
    ]
    rows = [row | {"user_id_s": "ann"} for row in rows]
    same = {"file": "signals.jsonl", "user_id": "user_id_s", "time": "timestamp_tdt", "list_id": "fusion_query_id_s"}
    events = same | {
        "where": {"type_s": {"not": "response"}},
        "item_id": "doc_id_s",
        "kind_column": "type_s",
        "kinds": {"cart-add": "cart"},
    }
    lists = same | {
        "where": {"type_s": "response"},
        "query": "query_s",
        "candidates": "doc_ids_s",
        "list_separator": ",",
    }
    assert service(export, {"signals.jsonl": rows}, events, lists) == ["1:0 2:1 3:0 | ", "4:0 5:2 | "]


def test_orders_of_shops(export: Export) -> None:
    """As BigCommerce and Magento have them: states of orders, lines refunded, the simple product of a configurable."""
    lines = [
        {"product_id": 2, "parent": None, "refunded": 0},
        {"product_id": 3, "parent": None, "refunded": 1},
        {"product_id": 1, "parent": 8, "refunded": 0},
    ]
    orders: list[dict[str, Any]] = [
        {"id": 1, "who": "ann", "at": "Sun, 01 Mar 2026 10:05:00 +0000", "status": "complete", "items": lines},
        {
            "id": 2,
            "who": "ann",
            "at": "Sun, 01 Mar 2026 10:06:00 +0000",
            "status": "canceled",
            "items": [{"product_id": 1, "refunded": 0}],
        },
        {
            "id": 3,
            "who": "zoe",
            "at": "Wed, 01 Apr 2026 00:00:00 +0000",
            "status": "complete",
            "items": [{"product_id": 5}],
        },
    ]
    events = {
        "sql": "SELECT unnest(items) AS o FROM read_json('orders.json')",
        "user_id": "o.who",
        "item_id": "o.items.product_id",
        "time": "o.at",
        "time_format": "%a, %d %b %Y %H:%M:%S %z",
        "kind": "purchase",
        "event_id": "o.id",
    }
    export.mapping["pairs"]["window_hours"] = 1
    assert service(export, {"orders.json": json.dumps({"items": orders, "total_count": 3})}, events) == [
        "1:3 2:3 3:3 | "
    ]
    named = " ".join(export.report["warnings"])
    assert "'o.status', which is not mapped, says 'canceled' (1)" in named
    assert (
        "'o.items.refunded', which is not mapped, is set ('1', …); add where: {\"o.items.refunded\": [null, 0]}"
        in named
    )
    events["where"] = {"o.status": {"not": "canceled"}, "o.items.refunded": [None, 0], "o.items.parent": None}  # type: ignore[assignment]
    assert export.load() == ["1:0 2:3 3:0 | "]
    assert export.report["warnings"] == []
