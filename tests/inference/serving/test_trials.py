"""Experiments over HTTP: arms, teams and shadows order as their models do offline, and the log says what was served."""

from __future__ import annotations

import asyncio
import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml

from reshelf.data.schema import Item
from reshelf.data.served_lists import pseudonym, read_key
from reshelf.inference.client import Client
from reshelf.inference.experiments import Arm, Experiment
from reshelf.inference.ranking import rank
from reshelf.inference.reranker import Reranker
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine.models import Models, ServedModel
from reshelf.inference.serving.engine.served_engine import ServedEngine
from reshelf.inference.serving.history import open_store
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.schemas import RerankReply, RerankRequest
from reshelf.inference.serving.scoring import RequestContext
from reshelf.inference.serving.served_lists import ServedList
from reshelf.inference.serving.shoppers import Shoppers
from reshelf.inference.serving.tenants import OPEN, Tenants
from reshelf.inference.serving.trials import Trials
from tests.inference.serving.server import Server, until

IDS = [f"p{n}" for n in range(12)]
SCORES = [1 - n / 12 for n in range(12)]
QUERY = "blue wool coat"


def ordered(folder: Path, catalogue: dict[str, Item]) -> list[str]:
    with Reranker.from_pretrained(folder, "transformers", catalogue, device="cpu") as reranker:
        return list(reranker.rerank(QUERY, IDS, scores=SCORES).item_ids)


class Logged:
    """A log of served lists in memory."""

    def __init__(self) -> None:
        self.lists: list[ServedList] = []

    def put(self, one: ServedList) -> None:
        self.lists.append(one)

    def close(self) -> None: ...


def test_arms_teams_and_shadows(
    serve: Any, tmp_path: Path, reranker_folder: Path, other_folder: Path, catalogue: dict[str, Item]
) -> None:
    own, other = (ordered(folder, catalogue) for folder in (reranker_folder, other_folder))
    assert own != other
    new = {"name": "new", "model": str(other_folder)}
    arms = [{"name": "now"}, new, {"name": "first", "personalization": 0.0}]
    experiments = {
        "ab": {"name": "ab", "arms": arms},
        "mixed": {"name": "mixed", "arms": arms[:2], "interleave": True, "shadow": str(other_folder)},
        "early": {"name": "early", "arms": [{"name": "now"}, {"name": "gone", "model": str(tmp_path / "gone")}]},
    }
    file, served = tmp_path / "tenants.yaml", tmp_path / "served"
    keyed = {name: [{"sha256": hashlib.sha256(name.encode()).hexdigest()}] for name in experiments}
    entries = [{"name": name, "keys": keyed[name], "experiment": one} for name, one in experiments.items()]
    file.write_text(yaml.safe_dump({"tenants": entries}))
    server: Server = serve(tmp_path, "--tenants", file, "--served_lists", served)
    replies: dict[str, RerankReply] = {}

    def ask(tenant: str, user_id: str | None = None, **fields: Any) -> tuple[RerankReply, list[str]]:
        with Client(server.url, tenant) as client:
            reply = client.rerank(QUERY, IDS, scores=SCORES, user_id=user_id, deadline_ms=30_000, **fields)
        replies[reply.id] = reply
        return reply, [IDS[one.index] for one in reply.results]

    until(lambda: ask("mixed", "u")[0].meta.experiment, 60)

    orders = {"now": own, "new": other, "first": IDS}
    seen = set()
    for n in range(9):
        reply, order = ask("ab", f"u{n}")
        assert reply.meta.experiment is not None
        assert reply.meta.experiment.arm == Experiment.model_validate(experiments["ab"]).arm_of(f"u{n}").name
        assert order == orders[reply.meta.experiment.arm]
        assert reply.model == (other_folder if reply.meta.experiment.arm == "new" else reranker_folder).name
        seen.add(reply.meta.experiment.arm)
    assert seen == set(orders)
    reply, order = ask("ab", personalization=0.5)
    assert (reply.meta.experiment, reply.meta.personalization) == (None, 0.5), "nobody knows whose arm it would be"
    in_first = next(f"u{n}" for n in range(9) if ask("ab", f"u{n}")[0].meta.personalization == 0)
    assert ask("ab", in_first, personalization=1.0)[1] == IDS, "an arm's weight is the experiment's"

    drafts = set()
    for n in range(4):
        reply, order = ask("mixed", f"u{n}", top_n=6)
        teams = [one.team for one in reply.results]
        assert sorted(map(str, teams)) == ["new"] * 3 + ["now"] * 3
        for place, (item_id, team) in enumerate(zip(order, teams, strict=True)):
            assert item_id == next(one for one in (own if team == "now" else other) if one not in order[:place])
        assert ask("mixed", f"u{n}", top_n=6)[1] == order
        drafts.add(tuple(teams))
    assert len(drafts) > 1
    assert ask("early", "u1")[0].meta.experiment is None
    assert ask("early", "u1")[1] == own, "an experiment begins when its models are there"
    assert server.close() == 0

    rows = {row["list_id"]: row for row in pq.read_table(served).to_pylist()}
    assert rows.keys() == replies.keys()
    key = read_key(served)
    shadows = []
    for list_id, reply in replies.items():
        row, assigned = rows[list_id], reply.meta.experiment
        assert row["candidates"] == [IDS[one.index] for one in reply.results]
        assert row["first_stage"] == [one.index + 1 for one in reply.results]
        np.testing.assert_allclose(row["scores"], [one.score for one in reply.results], atol=1e-6)
        assert (row["experiment"], row["arm"]) == ((assigned.name, assigned.arm) if assigned else (None, None))
        assert row["teams"] == ([one.team for one in reply.results] if assigned and not assigned.arm else None)
        assert row["arm_share"] == (1 / 3 if assigned and assigned.arm else None)
        assert row["user"] in (None, *(pseudonym(key, row["tenant"], f"u{n}") for n in ("", *range(9))))
        if row["shadow"] is not None:
            assert (row["tenant"], row["shadow_model"]) == ("mixed", other_folder.name)
            assert row["shadow"] == [other.index(one) + 1 for one in row["candidates"]]
            shadows.append(row)
    assert shadows, "an engine with nothing else to do scores for a shadow"
    assert len({row["model_sha256"] for row in rows.values()}) == 2


def test_a_second_arm_that_does_not_answer_leaves_the_order_to_the_first(
    reranker_folder: Path, catalogue: dict[str, Item], tmp_path: Path
) -> None:
    async def scored() -> None:
        config = ServeConfig(reranker_folder)
        models = Models(config, catalogue, Tenants(), ServedEngine.of(reranker_folder, config))
        for folder in (reranker_folder, Path("second")):  # their engines never start
            models._served[folder] = ServedModel(reranker_folder, config, catalogue)
        store = await open_store(str(tmp_path / "history.sqlite"), 500)
        metrics = Metrics()
        trials = Trials(models, Shoppers(store, metrics), None, 1.0)
        arms = [Arm(name="now"), Arm(name="new", model="second")]
        tenant = OPEN.model_copy(update={"experiment": Experiment(name="x", arms=arms, interleave=True)})
        request = RerankRequest(query=QUERY, documents=list(IDS), scores=SCORES)
        trial = trials.of(tenant, request)
        assert trial.is_interleaved
        items = {n: catalogue[name] for n, name in enumerate(IDS)}
        context = RequestContext(tenant, request, QUERY, items, time.perf_counter() + 5, {})
        others = await trials.second_scores(trial, context)
        assert others is None
        assert trial.interleave(rank(np.array(SCORES)), others, "request", None, context) is None
        await trials.close()
        await store.close()
        for model in models._served.values():
            model.writing.shutdown()

    asyncio.run(scored())


def test_a_shadow_holds_up_no_list_of_a_slow_engine(reranker_folder: Path, catalogue: dict[str, Item]) -> None:
    async def served() -> None:
        config = ServeConfig(reranker_folder)
        engine = ServedEngine.of(reranker_folder, config)
        models = Models(config, catalogue, Tenants(), engine)
        for name in (reranker_folder, Path("shadow")):
            models._served[name] = ServedModel(reranker_folder, config, catalogue, engine)
        (model, shadow), log = models._served.values(), Logged()
        engine.users, queue = 2, engine._queue
        queue.connect(lambda message: None, in_flight=1)
        trials = Trials(models, None, log, 1.0)  # type: ignore[arg-type]
        tenant = OPEN.model_copy(update={"experiment": Experiment(name="x", shadow="shadow")})
        items = {n: catalogue[name] for n, name in enumerate(IDS)}

        def serve_one(deadline_ms: float) -> None:
            request = RerankRequest(query=QUERY, documents=list(IDS), scores=SCORES, deadline_ms=deadline_ms)
            context = RequestContext(tenant, request, QUERY, items, time.perf_counter() + 5, {})
            ranked = rank(np.array(SCORES))
            trials.served(trials.of(tenant, request), context, "id", model, ranked, ranked.arranged, None, None)

        queue._pace.learn(1.0, 1000, len(IDS))  # a second for each such list
        serve_one(1500)
        assert (len(log.lists), len(trials._shadows)) == (1, 0), "a list that came now would be refused behind it"
        serve_one(3000)
        assert (len(log.lists), len(trials._shadows)) == (1, 1)
        await trials.close()
        for one in (model, shadow):
            one.writing.shutdown()

    asyncio.run(served())
