"""Requests with ids only get the scores of the lists that the import counted signals for, through every door."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from reshelf.data.dataset_folder import ITEM_SCHEMA, LIST_SCHEMA, RankingData, write_records
from reshelf.data.importing.importer import ImportConfig, import_logs
from reshelf.data.schema import Item, RankingList
from reshelf.data.signals.kept import (
    FOLDER,
    copy_signals,
    counted_until,
    open_signals,
)
from reshelf.data.signals.live import Interaction, LiveEvents
from reshelf.errors import InputError
from reshelf.evaluation.reranker_system import untrained_base
from reshelf.inference.assembly import MissingFeaturesError, with_features
from reshelf.inference.batch.run import BatchConfig, batch
from reshelf.inference.client import Client
from reshelf.inference.refresh_signals import RefreshConfig, refresh
from reshelf.inference.reranker import Reranker
from reshelf.modeling.spec import read_reranker
from reshelf.prompts.levels import fit_levels
from tests.inference.conftest import make_reranker
from tests.inference.serving.server import Server, until

READ = ["first_stage", "popularity", "recent", "cobought", "match", "bm25", "query_clicks"]
DAY = 86_400
MAPPING = {
    "items": {"file": "items.jsonl", "item_id": "id", "title": "title", "category": "leaf"},
    "events": {
        "file": "events.jsonl", "user_id": "user", "item_id": "item", "time": "time", "kind_column": "kind",
        "query": "query",
    },
    "build": {"candidates": 12, "per_user": 3, "query": "search", "window_hours": 48.0},
    "split": {"by": "time", "valid": 0.2, "test": 0.3},
    "signals": {"names": READ[1:], "first_stage": {"bm25": 1.0, "popularity": 0.3}},
}  # fmt: skip


@dataclass
class Shop:
    """A data set with signals, and a reranker that reads them."""

    folder: Path
    data: RankingData
    model: Path
    lists: list[RankingList]

    def scores(self) -> list[np.ndarray]:
        """Of the lists with the numbers of the import."""
        with Reranker.from_pretrained(self.model, "transformers", self.data.items, device="cpu") as reranker:
            return reranker.score_lists(self.lists)


def tables(root: Path, shoppers: int) -> list[str]:
    """Write a small shop's tables; returns its titles. More shoppers are more events on the same items."""
    rng = np.random.default_rng(0)
    words = ["red", "blue", "steel", "oak", "mug", "lamp", "coat", "chair"]
    items = [
        {"id": f"p{n}", "title": " ".join(rng.choice(words, 3, replace=False)), "leaf": f"leaf {n % 4}"}
        for n in range(30)
    ]
    events = []
    for user in range(shoppers):
        for k in range(4):
            item, now = int(rng.integers(30) * rng.random()), (20_000 + user + 5 * k) * DAY
            query = items[item]["title"].split()[0]
            events += [
                {"user": f"u{user}", "time": now, "kind": "search", "query": query},
                {"user": f"u{user}", "time": now + 60, "kind": "click", "item": f"p{item}", "query": query},
            ]
    for name, rows in (("items", items), ("events", events)):
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (root / "shop.yaml").write_text(yaml.safe_dump(MAPPING))
    return [item["title"] for item in items]


def import_tables(root: Path, out: Path) -> RankingData:
    return import_logs(ImportConfig(mapping=str(root / "shop.yaml"), root=root, out=out, quiet=True))


@pytest.fixture(scope="module")
def shop_with_signals(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("signals")
    titles = tables(root, shoppers=40)
    data = import_tables(root, root / "data")
    model = make_reranker(root, titles, fit_levels(data.lists["train"], READ, missing=True))
    assert copy_signals(root / "data" / FOLDER, model / FOLDER, READ) == (*READ[1:], READ[0])
    return Shop(root, data, model, data.lists["test"])


@pytest.fixture(scope="module")
def shop_server(shop_with_signals: Shop) -> Iterator[Server]:
    shop = shop_with_signals
    running = Server(
        shop.folder / "server.log", "--model", shop.model, "--data", shop.folder / "data", "--engine", "transformers",
        "--history", shop.folder / "history.sqlite",
    )  # fmt: skip
    yield running
    assert running.close() == 0


def ids_only(ranking: RankingList, **changes: Any) -> dict[str, Any]:
    history = [event.model_dump(mode="json", exclude_none=True) for event in ranking.history]
    assert ranking.time is not None
    return {
        "query": ranking.query, "documents": list(ranking.candidates), "history": history,
        "time": ranking.time.isoformat(), "deadline_ms": 30_000,
    } | changes  # fmt: skip


def test_the_service_computes_what_the_import_counted(shop_with_signals: Shop, shop_server: Server) -> None:
    with Client(shop_server.url) as client:
        for ranking, scores in zip(shop_with_signals.lists, shop_with_signals.scores(), strict=True):
            reply = client.rerank(**ids_only(ranking))
            assert (reply.meta.fallback, reply.meta.imputed) == (None, [])
            assert [one.index for one in reply.results] == np.argsort(-scores, kind="stable").tolist()
            assert [one.score for one in reply.results] == pytest.approx(sorted(scores.tolist())[::-1], abs=1e-4)
    assert not any("missing" in line for line in shop_server.lines()), "nothing to warn of"


def by_index(reply: httpx.Response) -> dict[int, float]:
    return {one["index"]: one["score"] for one in reply.json()["results"]}


FIELDS = {"scores" if name == "first_stage" else f"features.{name}" for name in READ}
NEW = {"id": "new", "title": "Red mug"}


@pytest.mark.parametrize("impute", [False, True])
def test_a_product_that_nothing_is_known_of_is_ranked_with_the_others(
    shop_with_signals: Shop, shop_server: Server, impute: bool
) -> None:
    asked = ids_only(shop_with_signals.lists[0])
    asked["documents"] = [*asked["documents"], NEW]
    reply = shop_server.rerank(**asked, impute=impute).json()
    meta = reply["meta"]
    assert "fallback" not in meta
    assert set(meta["imputed"]) == (FIELDS if impute else set())
    assert set(meta.get("missing", [])) == (set() if impute else FIELDS)
    # The numbers of the known products are theirs still.
    known = shop_server.rerank(**ids_only(shop_with_signals.lists[0])).json()["results"]
    scores = {one["index"]: one["score"] for one in reply["results"]}
    for one in known:
        assert one["score"] == pytest.approx(scores[one["index"]], abs=1e-4)
    assert len(scores) == len(known) + 1


def test_null_is_a_number_that_is_not_known(shop_with_signals: Shop, shop_server: Server) -> None:
    """What was sent wins; what was sent as null is computed where it can be, and otherwise missing."""
    one = shop_with_signals.lists[0]
    asked = ids_only(one) | {"documents": [*one.candidates, NEW]}
    with_null = {"scores": [*(one.scores or ()), None], "features": {n: [*v, None] for n, v in one.features.items()}}
    reply = shop_server.rerank(**asked | with_null, impute=False).json()
    assert set(reply["meta"]["missing"]) == FIELDS
    assert by_index(shop_server.rerank(**asked, impute=False)) == pytest.approx(
        {r["index"]: r["score"] for r in reply["results"]}
    )
    nothing = [None] * len(one.candidates)
    computed = shop_server.rerank(**ids_only(one, scores=nothing, features={"popularity": nothing}))
    assert by_index(computed) == by_index(shop_server.rerank(**ids_only(one)))
    wrong = shop_server.rerank(**ids_only(one, scores=[None, "much", *nothing[2:]]))
    assert (wrong.status_code, wrong.json()["field"]) == (422, "scores[1]")


def test_a_list_of_which_nearly_nothing_is_known_stays_as_it_is(shop_with_signals: Shop, shop_server: Server) -> None:
    new = [NEW | {"id": f"new{n}"} for n in range(30)]
    asked = ids_only(shop_with_signals.lists[0])
    for known, fallback in ((0, True), (1, True), (4, False)):
        documents = [*new, *asked["documents"][:known]]
        reply = shop_server.rerank(**asked | {"documents": documents}, impute=False).json()
        assert (reply["meta"].get("fallback") == "features_missing") is fallback
        assert set(reply["meta"]["missing"]) == FIELDS
        if fallback:
            assert [one["index"] for one in reply["results"]] == list(range(30 + known))


def test_a_model_that_never_saw_a_number_missing_leaves_such_a_list_as_it_is(shop_with_signals: Shop) -> None:
    shop = shop_with_signals
    spec, _ = read_reranker(shop.model)
    old = replace(spec.levels, missing=False)
    one = shop.lists[0].model_copy(update={"features": {}, "scores": None})
    stranger = one.model_copy(update={"candidates": (*one.candidates, "new")})
    signals = open_signals(shop.model / FOLDER)
    for levels in (old, spec.levels):
        complete = with_features(one, levels, False, signals)
        assert (complete.imputed, complete.missing) == ((), ())
    with pytest.raises(MissingFeaturesError) as caught:
        with_features(stranger, old, False, signals)
    assert set(caught.value.names) == FIELDS
    complete = with_features(stranger, spec.levels, False, signals)
    assert set(complete.missing) == FIELDS
    assert [np.isnan(values).tolist() for values in complete.ranking.features.values()] == (
        [[False] * len(one.candidates) + [True]] * (len(READ) - 1)
    )


def test_python_batch_jobs_and_evaluations_compute_the_same(shop_with_signals: Shop, tmp_path: Path) -> None:
    shop = shop_with_signals
    bare = [one.model_copy(update={"features": {}, "scores": None}) for one in shop.lists]
    known = {name: getattr(bare[0], name) for name in ("user_id", "time", "query", "history")}
    stranger = RankingList(list_id="stranger", candidates=(*bare[0].candidates, "stranger"), **known)
    write_records(tmp_path / "lists.parquet", [*bare, stranger], LIST_SCHEMA)
    items = [*shop.data.items.values(), Item(item_id="stranger", title="Red mug")]
    write_records(tmp_path / "items.parquet", items, ITEM_SCHEMA)
    config = BatchConfig(
        str(shop.model), str(tmp_path / "lists.parquet"), tmp_path / "items.parquet", tmp_path / "out", "transformers"
    )
    report = batch(config, Console(quiet=True))
    assert (report["lists"], report["fallbacks"], report["incomplete"]) == (len(bare) + 1, 0, 1)
    *scored, odd = pq.read_table(tmp_path / "out" / "scores-00000.parquet").to_pylist()
    assert (set(odd["missing"]), {tuple(row["missing"]) for row in scored}) == (FIELDS, {()})
    wanted = shop.scores()
    for row, scores in zip(scored, wanted, strict=True):
        np.testing.assert_allclose(row["scores"], scores, atol=1e-4)
    with Reranker.from_pretrained(shop.model, "transformers", shop.data.items, device="cpu") as reranker:
        for one, scores in zip(bare, wanted, strict=True):
            ranked = reranker.rerank(one.query, list(one.candidates), list(one.history), time=one.time)
            found = {entry.first_stage_rank - 1: entry.score for entry in ranked}
            assert [found[k] for k in range(len(scores))] == pytest.approx(scores.tolist(), abs=1e-4)
    with untrained_base(shop.model, shop.data.items) as base:
        for values, scores in zip(base.scores(shop.data, bare), base.scores(shop.data, shop.lists), strict=True):
            np.testing.assert_allclose(values, scores, atol=1e-4)


def test_without_the_tables_the_missing_numbers_are_named(shop_with_signals: Shop, tmp_path: Path) -> None:
    shutil.copytree(shop_with_signals.model, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / FOLDER)
    one = shop_with_signals.lists[0]
    with Reranker.from_pretrained(
        tmp_path / "model", "transformers", shop_with_signals.data.items, device="cpu"
    ) as reranker:
        match = reranker.rerank(one.query, list(one.candidates), features={"match": one.features["match"]})
        assert set(match.missing) == FIELDS - {"features.match"}, "one of seven is more than a tenth"
        with pytest.raises(InputError, match=r"field scores and features.popularity.*: missing, and the model reads"):
            reranker.rerank(one.query, list(one.candidates), list(one.history))
        assert len(reranker.rerank(one.query, list(one.candidates), list(one.history), impute=True)) == len(
            one.candidates
        )


def test_later_requests_follow_events(shop_with_signals: Shop, shop_server: Server) -> None:
    one = shop_with_signals.lists[0].model_copy(update={"time": None, "features": {}, "scores": None})
    asked = ids_only(shop_with_signals.lists[0])
    del asked["time"]
    before = by_index(shop_server.rerank(**asked))
    taken, past = one.candidates[2], next(event.item_id for event in one.history if event.item_id is not None)
    click = {"kind": "click", "item_id": taken, "query": one.query}
    events = [{"user_id": f"new{n}", **click} for n in range(50)]
    events += [{"user_id": f"new{n}", "kind": "view", "item_id": past} for n in range(20)]
    again = [events[0] | {"event_id": "again"}]  # the same shopper once more: an event, but nobody new
    for some in (events, again, again):
        assert shop_server.http.post("/v1/events", json={"events": some}).status_code == 200
    kept = open_signals(shop_with_signals.model / FOLDER)
    assert kept is not None
    live, sent = LiveEvents(), [*events, *again]
    now = int(datetime.now(UTC).timestamp() * 1e6) - 10**6
    live.add(
        Interaction(n + 1, int(event["user_id"][3:]), event["item_id"], now + n, event.get("query", ""))
        for n, event in enumerate(sent)
    )
    found, was = kept.compute(one, READ, live), kept.compute(one, READ)
    assert {name for name in READ if (found[name] != was[name]).any()} == {*READ} - {"match", "bm25"}
    numbers = {name: values.tolist() for name, values in found.items()}
    expected = by_index(shop_server.rerank(**asked, scores=numbers.pop("first_stage"), features=numbers))
    after = by_index(shop_server.rerank(**asked))
    assert after == pytest.approx(expected, abs=1e-4)
    assert after[2] != pytest.approx(before[2], abs=1e-3)
    earlier = by_index(shop_server.rerank(**asked, time="2026-01-01T00:00:00Z"))
    assert earlier == pytest.approx(before, abs=1e-4), "a list of an earlier moment knows nothing of it"
    for user in {event["user_id"] for event in sent}:
        assert shop_server.http.delete(f"/v1/users/{user}").status_code == 200
    assert by_index(shop_server.rerank(**asked)) == pytest.approx(before, abs=1e-4), (
        "nor does any, once they are forgotten"
    )


def check_date(server: Server, data: Path) -> None:
    """`/ready` and `/metrics` say when the last event was that a data set's signals count."""
    said = datetime.fromisoformat(server.http.get("/ready").json()["signals_until"])
    assert said.isoformat(timespec="seconds") == counted_until(data / FOLDER)
    (age,) = re.findall(r"^reshelf_signals_age_seconds (\S+)$", server.http.get("/metrics").text, re.MULTILINE)
    assert float(age) == pytest.approx((datetime.now(UTC) - said).total_seconds(), abs=10)


def test_a_running_server_reads_refreshed_signals(shop_with_signals: Shop, shop_server: Server, tmp_path: Path) -> None:
    shop = shop_with_signals
    tables(tmp_path, shoppers=60)
    data = import_tables(tmp_path, tmp_path / "data")
    newer = Shop(tmp_path, data, shop.model, data.lists["test"])
    asked = [ids_only(one) for one in newer.lists]
    before = [sorted(one["score"] for one in shop_server.rerank(**one).json()["results"]) for one in asked]
    check_date(shop_server, shop.folder / "data")
    refresh(RefreshConfig(shop.model, tmp_path / "data"))
    try:
        until(lambda: any(line["message"] == "signals refreshed" for line in shop_server.lines()), 20)
        after = [sorted(one["score"] for one in shop_server.rerank(**one).json()["results"]) for one in asked]
        for found, wanted in zip(after, newer.scores(), strict=True):
            assert found == pytest.approx(sorted(wanted.tolist()), abs=1e-4)
        assert any(one != pytest.approx(other, abs=1e-3) for one, other in zip(before, after, strict=True))
        check_date(shop_server, tmp_path / "data")
    finally:
        refresh(RefreshConfig(shop.model, shop.folder / "data"))


def test_a_refresh_by_older_tables_is_made_and_said(
    shop_with_signals: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shop_with_signals.model, tmp_path / "model")
    described = tmp_path / "model" / FOLDER / "signals.json"
    described.write_text(json.dumps(json.loads(described.read_text()) | {"until": "2099-01-01T00:00:00+00:00"}))
    refresh(RefreshConfig(tmp_path / "model", shop_with_signals.folder / "data"))
    said = capsys.readouterr().out
    assert "Warning: the tables before counted events until 2099-01-01T00:00:00+00:00: these are older" in said


BROKEN_LOGS: dict[str, Callable[[int, dict[str, Any]], dict[str, Any] | None]] = {
    "clicks of a year to come": lambda n, row: row | {"time": row["time"] + (n % 2 and n % 24 > 7) * 9000 * DAY},
    "an export that broke off": lambda n, row: row if n < 60 else None,
    "a night's log alone": lambda n, row: row if n >= 260 else None,
    "clicks by a new name": lambda n, row: row | {"kind": "tap" if n % 2 and n % 24 > 7 else row["kind"]},
}


@pytest.mark.parametrize("what", BROKEN_LOGS)
def test_a_refresh_by_less_than_half_of_the_log_changes_nothing(
    shop_with_signals: Shop, tmp_path: Path, what: str
) -> None:
    change_events(tmp_path, BROKEN_LOGS[what])
    import_tables(tmp_path, tmp_path / "data")
    before = (shop_with_signals.model / FOLDER / "signals.json").read_text()
    said = r"signals counts \d+ events for \w+, and .*model/signals counts \d+: .*data/report.json says why"
    with pytest.raises(InputError, match=said):
        refresh(RefreshConfig(shop_with_signals.model, tmp_path / "data"))
    assert (shop_with_signals.model / FOLDER / "signals.json").read_text() == before
    model = shutil.copytree(shop_with_signals.model, tmp_path / "model")
    refresh(RefreshConfig(model, tmp_path / "data", shorter=True))
    assert (model / FOLDER / "signals.json").read_text() != before


@pytest.mark.parametrize("kind", ["x", None])
def test_a_log_of_which_no_kind_is_known_is_no_import(tmp_path: Path, kind: str | None) -> None:
    change_events(tmp_path, lambda n, row: row | {"kind": kind})
    with pytest.raises(InputError, match="none of 320 events is usable"):
        import_tables(tmp_path, tmp_path / "data")


@pytest.mark.parametrize(("hours", "warned"), [(9, True), (-1, False)])
def test_a_refresh_by_a_log_that_is_ahead_of_the_clock_says_so(
    shop_with_signals: Shop, tmp_path: Path, hours: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As local times read as UTC are, east of Greenwich."""
    last, end = (20_000 + 39 + 15) * DAY + 60, int(time.time()) + hours * 3600
    change_events(tmp_path, lambda n, row: row | {"time": end - (last - row["time"]) // 100})
    by_user = MAPPING | {"split": {"by": "user", "valid": 0.1, "test": 0.1}}
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(by_user))
    import_tables(tmp_path, tmp_path / "data")
    shutil.copytree(shop_with_signals.model, tmp_path / "model")
    refresh(RefreshConfig(tmp_path / "model", tmp_path / "data"))
    assert ("is yet to come" in capsys.readouterr().out) is warned


def change_events(root: Path, change: Callable[[int, dict[str, Any]], dict[str, Any] | None]) -> None:
    """The tables of `shop_with_signals`, with every event changed, or left out for None."""
    tables(root, shoppers=40)
    path = root / "events.jsonl"
    rows = [change(n, json.loads(line)) for n, line in enumerate(path.read_text().splitlines())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows if row is not None))


def test_a_refresh_that_would_lose_a_signal_changes_nothing(shop_with_signals: Shop, tmp_path: Path) -> None:
    shop = shop_with_signals
    before = (shop.model / FOLDER / "signals.json").read_text()
    with pytest.raises(InputError, match=r"does not keep 'popularity'.* --changes\.signals\.names '\[popularity,"):
        refresh(RefreshConfig(shop.model, tmp_path))
    copy_signals(shop.folder / "data" / FOLDER, tmp_path / FOLDER, ["popularity", "match"])
    with pytest.raises(InputError, match="does not keep 'recent'"):
        refresh(RefreshConfig(shop.model, tmp_path))
    assert (shop.model / FOLDER / "signals.json").read_text() == before
