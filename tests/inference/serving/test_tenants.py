"""Keys: hashed at rest, each tenant apart from the others."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from reshelf.cli import main
from reshelf.data.schema import Item
from reshelf.errors import InputError
from reshelf.inference.client import Client, ServiceError
from reshelf.inference.serving import tenants
from reshelf.inference.serving.schemas import SentEvent
from reshelf.inference.serving.tenants import KeyConfig, Tenant, Tenants, read_tenants
from reshelf.inference.serving.tenants import make_key as make_key_of
from tests.inference.serving.server import Server, until

DOCUMENTS = [f"p{n}" for n in range(6)]


def make_key(file: Path, capsys: pytest.CaptureFixture[str], name: str, *flags: str) -> str:
    assert main(["key", "--tenants", str(file), "--name", name, *flags]) == 0
    return capsys.readouterr().out.strip()


def test_tenants_are_apart(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], catalogue: dict[str, Item]
) -> None:
    file = tmp_path / "tenants.yaml"
    keys = {name: make_key(file, capsys, name) for name in ("a", "b")}
    operator = make_key(file, capsys, "watch", "--operator")
    entries = yaml.safe_load(file.read_text())
    entries["tenants"][1]["rules"] = {"only": [{"brand": ["Nord"]}], "never": [{"item_id": ["p3"]}]}
    file.write_text(yaml.safe_dump(entries))
    assert not any(key in file.read_text() for key in (*keys.values(), operator))
    server: Server = serve(tmp_path, "--tenants", file)
    with Client(server.url, keys["a"]) as a, Client(server.url, keys["b"]) as b:
        a.send_events([SentEvent(user_id="u", kind="click", item_id="p5")])
        mine = {"user_id": "u", "impute": True, "deadline_ms": 30_000}
        seen = {who: c.rerank("coat", DOCUMENTS, **mine) for who, c in (("a", a), ("b", b))}
        assert seen["a"].meta.history["events"] == 1
        assert seen["b"].meta.history["events"] == 0
        b.forget("u")
        # A prefix that a has been ranked with is found again by a, and not by b.
        history = [{"kind": "click", "item_id": f"p{n}"} for n in range(20)]
        ask = {"history": history, "impute": True, "deadline_ms": 30_000}
        a.rerank("coat", DOCUMENTS, **ask)
        assert a.rerank("coat", DOCUMENTS, **ask).meta.cached_tokens > 0
        assert b.rerank("coat", DOCUMENTS, **ask).meta.cached_tokens == 0
        assert a.rerank("coat", DOCUMENTS, **mine).meta.history["events"] == 1
        # Of another shop's product it learns no more than of one that there is not.
        own, theirs = (next(i for i, one in catalogue.items() if (one.brand == "Nord") == n) for n in (True, False))
        said = []
        for item_id in (theirs, "p999999"):
            click = {"kind": "click", "item_id": item_id}
            reply = b.rerank("coat", [own, item_id], history=[click], return_documents=True, explain=True, **mine)
            ubi = {"action_name": "click", "client_id": "u", "timestamp": "2026-01-01T00:00:00Z"}
            ubi["event_attributes"] = {"object": {"object_id": item_id}}  # type: ignore[assignment]
            held = {"Authorization": f"Bearer {keys['b']}"}
            replies = [
                server.http.post("/v1/events", json={"events": [click | {"user_id": "u"}]}, headers=held),
                server.http.post("/v1/ubi", json={"events": [ubi]}, headers=held),
                server.http.post("/v1/rerank", json={"documents": [{"id": item_id}]}, headers=held),
            ]
            assert catalogue[theirs].title not in reply.model_dump_json()
            kept = [one.index for one in reply.results], reply.meta.unknown, reply.meta.history, reply.meta.rules
            text = str([kept, *(one.json() | {"request_id": ""} for one in replies)])
            said.append(text.replace(item_id, "ID"))
        assert said[0] == said[1]
    found = {}
    for name, key in keys.items():
        held = {"Authorization": f"Bearer {key}"}
        asked = {"query": " ".join(item.title for item in catalogue.values())[:200]}
        found[name] = server.http.get("/ui/search", params=asked, headers=held).json()
        assert found[name]["items"].keys() == set(found[name]["candidates"])
        assert server.http.get("/ui/lists", headers=held).json() == {"lists": [], "items": {}}
    assert len(found["a"]["candidates"]) == 40
    everything = {name for name, item in catalogue.items() if item.brand == "Nord" and name != "p3"}
    assert set(found["b"]["candidates"]) == everything, "it searches what its rules permit"
    for header, status in (
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": f"Bearer {operator}"}, 403),
    ):
        assert server.http.post("/v1/rerank", json={"documents": DOCUMENTS}, headers=header).status_code == status
    large = {"Authorization": "Bearer wrong", "Content-Type": "application/json"}
    reply = server.http.post("/v1/rerank", content=b"x" * 5_000_000, headers=large)
    assert reply.status_code == 401, "it is not even read"
    assert server.http.get("/metrics", headers={"Authorization": f"Bearer {keys['a']}"}).status_code == 403
    assert server.http.get("/metrics", headers={"Authorization": f"Bearer {operator}"}).status_code == 200
    assert server.close() == 0
    assert not any(key in server.said() for key in (*keys.values(), operator))


def test_a_new_key_is_seen_without_a_restart_and_a_rate_is_kept(
    serve: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tenants.yaml"
    operator, old = make_key(file, capsys, "watch", "--operator"), make_key(file, capsys, "a")
    server: Server = serve(tmp_path, "--tenants", file)
    assert main(["key", "--tenants", str(file), "--name", "a", "--rate", "2/minute"]) == 2
    assert "--replace" in capsys.readouterr().err
    new = make_key(file, capsys, "a", "--rate", "2/minute", "--replace")
    with Client(server.url, old, retries=0) as before, Client(server.url, new, retries=0) as after:

        def changed() -> bool:
            try:
                before.rerank("coat", DOCUMENTS)
            except ServiceError as error:
                return error.status == 401
            return False

        until(changed, 10)
        assert [after.rerank("coat", DOCUMENTS).results[0] is not None for _ in range(2)] == [True, True]
        with pytest.raises(ServiceError) as refused:
            after.rerank("coat", DOCUMENTS)
        assert refused.value.status == 429
    until(lambda: len(server.audits()) == 2, 10)
    assert {(line["action"], line["tenant"]) for line in server.audits()} == {("key added", "a"), ("key removed", "a")}
    whole = file.read_text()
    for broken in (whole.replace("operator: true", "operator: 'true'"), "tenants: {", None):
        file.unlink() if broken is None else file.write_text(broken)
        until(lambda: server.http.get("/ready").json().get("tenants"), 10)
        assert server.http.get("/ready").status_code == 200
        held = {"Authorization": f"Bearer {operator}"}
        assert "reshelf_tenants_file_ok 0.0" in server.http.get("/metrics", headers=held).text
        file.write_text(whole)
        until(lambda: "tenants" not in server.http.get("/ready").json(), 10)
    assert server.close() == 0
    assert any(line["message"] == "tenants file not read" and "operator" in line["problem"] for line in server.lines())


def test_an_old_key_works_for_a_while_beside_the_new_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "tenants.yaml"
    old = make_key(file, capsys, "a", "--rate", "5/second", "--candidates", "500/second", "--in_flight", "4")
    new = make_key(file, capsys, "a", "--replace", "--overlap", "3s", "--expires", "90d")
    (tenant,) = read_tenants(file).values()
    assert (tenant.rate, tenant.candidates, tenant.in_flight, len(tenant.keys)) == ("5/second", "500/second", 4, 2)
    running = Tenants(file)
    assert running.of(f"Bearer {new}") == running.of(f"bearer {old}") == tenant
    assert running.of(old) is running.of("Bearer x") is running.of(None) is None
    until(lambda: running.of(f"Bearer {old}") is None, 10)
    assert running.of(f"Bearer {new}") == tenant
    for flag, value in (("--overlap", "soon"), ("--expires", "0d"), ("--rate", "5"), ("--in_flight", "-1")):
        assert main(["key", "--tenants", str(file), "--name", "a", "--replace", flag, value]) == 2
        assert flag[2:] in capsys.readouterr().err


def test_a_file_is_read_beside_the_requests_and_once_where_it_is_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tenants.yaml"
    key = make_key(file, capsys, "a")
    running, reads, whole = Tenants(file), [], file.read_text()
    served_meanwhile = threading.Event()

    def read_slowly(path: Path) -> dict[str, Tenant]:  # as thousands of tenants are
        reads.append(path)
        assert served_meanwhile.wait(30)
        return read_tenants(path)

    async def serve_while_it_is_broken_and_mended() -> None:
        watching = asyncio.create_task(running.watch())
        file.write_text(whole.replace("name: a", "nam: a"))
        while not running.problem:
            assert running.of(f"Bearer {key}") is not None
            await asyncio.sleep(0.005)
            if reads:
                served_meanwhile.set()
        assert "tenants[0].name" in running.problem
        await asyncio.sleep(0.3)
        assert len(reads) == 1
        file.write_text(whole)
        while running.problem:
            await asyncio.sleep(0.005)
        watching.cancel()

    monkeypatch.setattr(tenants, "read_tenants", read_slowly)
    monkeypatch.setattr(tenants, "_LOOK_S", 0.05)
    asyncio.run(serve_while_it_is_broken_and_mended())
    assert len(reads) == 2


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="no file"):
            read_tenants(path)


def test_a_file_that_cannot_even_be_looked_for_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tenants .*: .*File name too long.*; make the file with `reshelf key`"):
        read_tenants(tmp_path / ("t" * 300))


def test_a_file_from_before_there_could_be_two_keys_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(f"tenants: [{{name: a, key_sha256: {hashlib.sha256(b'k').hexdigest()}, rate: 5/second}}]")
    tenant = Tenants(file).of("Bearer k")
    assert tenant is not None
    assert (tenant.name, tenant.rate) == ("a", "5/second")


def test_keys_made_at_the_same_time_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "tenants.yaml"
    with ThreadPoolExecutor(8) as pool:  # each opens the lock for itself, as processes do
        list(pool.map(lambda n: make_key_of(KeyConfig(file, f"shop{n}")), range(16)))
    assert set(read_tenants(file)) == {f"shop{n}" for n in range(16)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "content"),
        ("tenants: {", "not a file of tenants"),
        ("- a", "content"),
        ("tenants: [{name: a}]", "tenants[0].keys"),
        ("tenants: [{name: 'a b', keys: []}]", "tenants[0].name"),
        ("tenants: [{name: 2026-01-01, keys: []}]", "tenants[0].name"),
        ("tenants: [{name: a, keys: [], operator: 'false'}]", "tenants[0].operator"),
        ("tenants: [{name: a, keys: [], modle: m}]", "tenants[0].modle"),
        ("tenants: [{name: a, keys: [{sha256: x}]}]", "tenants[0].keys[0].sha256"),
        (f"tenants: [{{name: a, keys: [{{sha256: {'a' * 64}, expires: soon}}]}}]", "tenants[0].keys[0].expires"),
        (f"tenants: [{{name: a, keys: [{{sha256: {'a' * 64}, expires: 2026-01-01}}]}}]", "tenants[0].keys[0].expires"),
        (f"tenants: [{{name: a, keys: [{{sha256: {'a' * 64}, expires: 20271231}}]}}]", "tenants[0].keys[0].expires"),
        ("tenants: [{name: a, keys: [], rate: 5/second, rate: 9/second}]", "'rate' is there twice"),
        (
            yaml.safe_dump({"tenants": [{"name": name, "keys": [{"sha256": "a" * 64}]} for name in "ab"]}),
            "b has a key that a has too",
        ),
        (yaml.safe_dump({"tenants": [{"name": "a", "keys": [{"sha256": "a" * 64}] * 2}]}), "a has a key that a has"),
        ("[" * 2000, "not a file of tenants"),
        (
            yaml.safe_dump(
                {"tenants": [{"name": "a", "key_sha256": hashlib.sha256(b"k").hexdigest(), "rate": "often"}]}
            ),
            "rate",
        ),
        (yaml.safe_dump({"tenants": [{"name": "a", "key_sha256": hashlib.sha256(b"k").hexdigest()}] * 2}), "twice"),
    ],
)
def test_a_broken_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str, reranker_folder: Path
) -> None:
    file = tmp_path / "tenants.yaml"
    file.write_text(text)
    assert main(["serve", "--model", str(reranker_folder), "--tenants", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_an_open_server_listens_on_this_machine_only(reranker_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(reranker_folder), "--host", "0.0.0.0"]) == 2
    assert "reshelf key" in capsys.readouterr().err
