"""A model that does not beat first-stage order: the server says so. And it ends without a word that is not its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from reshelf.modeling.lift import Blended, Lift
from tests.inference.serving.server import Server


def test_a_model_that_does_not_help_is_served_with_a_warning(serve: Any, tmp_path: Path, reranker_folder: Path) -> None:
    model = Path(shutil.copytree(reranker_folder, tmp_path / "model"))
    spec = json.loads((model / "reshelf.json").read_text())
    lift = Lift(ndcg=0.408, first_stage=0.443, low=-0.06, high=-0.01, lists=30, blended=Blended(0.2, 0.01, 0.002, 0.02))
    spec["lift"] = asdict(lift)
    (model / "reshelf.json").write_text(json.dumps(spec))
    server: Server = serve(tmp_path, "--model", model, "--personalization", "0.4")
    assert server.http.get("/ready").json()["warning"] == lift.sentence()
    meta = server.rerank(query="coat", documents=["a coat", "a mug"]).json()["meta"]
    assert meta["warning"] == lift.sentence()
    assert meta["personalization"] == 0.4
    assert server.close() == 0
    assert any(line.get("found") == lift.sentence() for line in server.lines())
    assert all(line.startswith("{") for line in server.said().splitlines()), "no leak notices of libraries"


def test_one_that_helps_is_served_without(server: Server) -> None:
    assert "warning" not in server.http.get("/ready").json()
    assert "warning" not in server.rerank(query="coat", documents=["a coat", "a mug"]).json()["meta"]
