"""A first stage in front: PostgreSQL in examples/, and what OpenSearch and Elasticsearch send and read."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psutil
import pytest

from tests.inference.serving.server import Server, until

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = Path(__file__).parent / "search_engines"
SHOPPER = 'a shopper \\ of "OpenSearch"'


@pytest.fixture
def page(server: Server, shop: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """The page of the example, over the tests' server."""
    pytest.importorskip("psycopg")
    if shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    log = tmp_path / "log"
    command = [
        sys.executable,
        ROOT / "examples/postgres/shop.py",
        "--data",
        shop,
        "--service",
        server.url,
        "--port",
        "0",
    ]
    with log.open("wb") as stderr:
        process = subprocess.Popen(list(map(str, command)), stderr=stderr)
    try:
        until(lambda: "running on" in log.read_text() or process.poll() is not None, 60)
        address = re.search(r"running on (http\S+)", log.read_text())
        assert address is not None, log.read_text()
        children = psutil.Process(process.pid).children()
        assert [child.name() for child in children] == ["postgres"]
        with httpx.Client(base_url=address[1], timeout=30, follow_redirects=True) as client:
            yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert not children[0].is_running(), "the cluster is left"


@pytest.mark.parametrize(
    ("title", "query"),
    [("Running shoe Black/White", "white"), ("Case for iPhone-15", "15"), ("Dress.Red", "dress"), ("Box 5.5", "5.5")],
)
def test_postgresql_finds_a_title_by_its_parts(title: str, query: str) -> None:
    pytest.importorskip("psycopg")
    if shutil.which("initdb") is None and not list(Path("/usr/lib/postgresql").glob("*/bin/initdb")):
        pytest.skip("PostgreSQL is not installed")
    shop = runpy.run_path(str(ROOT / "examples/postgres/shop.py"))
    with tempfile.TemporaryDirectory(prefix="shop") as folder, shop["temporary_postgres"](Path(folder)) as database:
        database.execute(shop["TABLE"])
        database.execute("INSERT INTO items (item_id, title) VALUES ('p1', %s), ('p2', 'Hat')", (title,))
        assert [hit[0] for hit in database.execute(shop["SEARCH"], (query, 10))] == ["p1"]


def ids(text: str, section: str) -> list[str]:
    found = re.search(rf'<section id="{section}">(.*?)</section>', text, re.DOTALL)
    assert found is not None
    return re.findall(r'data-id="(\w+)"', found[1])


def test_postgresql_finds_and_reshelf_orders_for_the_shopper(page: httpx.Client, server: Server) -> None:
    def search() -> str:
        return page.get("/", params={"q": "blue wool coats", "user": "example's shopper"}).text

    until(lambda: " events, " in search(), 60)  # an engine's first list is late where the machine is busy
    before = search()
    hits = ids(before, "first_stage")
    assert len(hits) > 20
    texts = re.findall(r"<li[^>]*>(.*?)<small>", before)
    assert re.search("blue|wool|coat", texts[0])
    assert ids(before, "ranked") != hits
    assert sorted(ids(before, "ranked")) == sorted(hits)
    assert " 0 events" in before.replace("<small>", " ")
    form = {"item": hits[3], "q": "blue wool coats", "user": "example's shopper"}
    after = page.post("/click", data=form).text
    assert ids(after, "first_stage") == hits
    assert ids(after, "ranked") != ids(before, "ranked")
    assert " 1 events" in after.replace("<small>", " ")
    assert ids(page.get("/").text, "ranked") == []
    assert server.http.delete("/v1/users/example's shopper").json() == {"forgotten": 1}


def test_the_page_comes_whatever_is_typed_or_away(page: httpx.Client) -> None:
    assert page.get("/", params={"q": "blue\0coat", "user": " "}).status_code == 200
    refused = {"item": "nowhere", "q": "coat", "user": "u"}
    for form in ({}, {"user": "u"}, refused):
        assert page.post("/click", data=form).status_code == 200
    cluster = next(one for one in psutil.Process().children(recursive=True) if one.name() == "postgres")
    cluster.send_signal(signal.SIGQUIT)
    until(lambda: cluster.status() == psutil.STATUS_ZOMBIE, 30)  # until the example waits for it
    reply = page.get("/", params={"q": "coat"})
    assert (reply.status_code, reply.text[:26]) == (503, "PostgreSQL does not answer")


def configured(request: str) -> dict[str, Any]:
    """The body of a request that docs/serving.md shows."""
    blocks = re.findall(r"```json\n(\w+ \S+)\n(.*?)```", (ROOT / "docs/serving.md").read_text("utf-8"), re.DOTALL)
    assert len(blocks) == 9
    bodies = {line: json.loads(body) for line, body in blocks}
    return dict(bodies[request])


def opensearch_body(parameters: dict[str, Any]) -> str:
    """What its connector sends: texts are escaped, without their quotes; what is not given is null."""
    action = configured("POST /_plugins/_ml/models/_register?deploy=true")["connector"]["actions"][0]

    def quoted(found: re.Match[str]) -> str:
        return found[0] if found[1] in parameters else "null"

    def value(found: re.Match[str]) -> str:
        one = parameters[found[1]]
        return json.dumps(one)[1:-1] if isinstance(one, str) else json.dumps(one)

    return re.sub(
        r"\$\{parameters\.(\w+)(?::-null)?\}",
        value,
        re.sub(r'"\$\{parameters\.(\w+):-null\}"', quoted, action["request_body"]),
    )


def elasticsearch_body(parameters: dict[str, Any]) -> str:
    """What its custom service sends: every value as JSON, over those that the endpoint has."""
    endpoint = configured("PUT /_inference/rerank/reshelf")
    values = endpoint["task_settings"]["parameters"] | parameters
    return re.sub(r"\$\{(\w+)\}", lambda found: json.dumps(values[found[1]]), endpoint["service_settings"]["request"])


@pytest.mark.parametrize(
    ("engine", "caller", "body_of"),
    [
        ("opensearch", "rerank", opensearch_body), ("opensearch", "ml_inference", opensearch_body),
        ("elasticsearch", "retriever", elasticsearch_body), ("elasticsearch", "inference", elasticsearch_body),
    ],
)  # fmt: skip
def test_search_engines_send_what_is_read_and_read_what_is_sent(
    engine: str, caller: str, body_of: Any, server: Server
) -> None:
    recorded = json.loads((SCHEMAS / f"{engine}.json").read_text("utf-8"))
    documents = [f"p{n}" for n in range(20)]
    query = 'blue "wool"\n coat \\ 外套'
    known = {"query": query, "documents": documents, "input": documents, "top_n": len(documents), "user_id": SHOPPER}
    body = body_of({name: known[name] for name in recorded["parameters_of"][caller]})
    sent = json.loads(body)
    jsonschema.validate(sent, recorded["request"])
    assert (sent["query"], sent["documents"]) == (query, documents)
    personal = caller in ("ml_inference", "inference")
    assert (sent["user_id"] == SHOPPER) == personal
    event = {"user_id": SHOPPER, "kind": "click", "item_id": "p7"}
    server.http.post("/v1/events", json={"events": [event]})
    # The tests' model reads first-stage scores, which neither sends.
    for changes in ({"impute": True, "deadline_ms": 30_000}, {"deadline_ms": 0.001}):
        reply = server.http.post("/v1/rerank", json=sent | changes)
        assert reply.status_code == 200
        said = reply.json()
        jsonschema.validate(said, recorded["reply"])
        assert said["meta"].get("ignored", []) == []
        scores: list[float | None] = [None] * len(said["results"])
        for one in said["results"]:
            assert isinstance(one["relevance_score"], float)  # OpenSearch casts it to Double: `1` would be an Integer
            scores[one["index"]] = one["relevance_score"]
        assert None not in scores
        assert len(scores) == len(documents)
        if "impute" in changes:
            assert said["meta"]["history"]["events"] == personal
    server.http.delete(f"/v1/users/{SHOPPER}")
