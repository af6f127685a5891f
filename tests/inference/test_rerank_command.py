"""`reshelf rerank`: the three ways to ask, the table, the JSON, and what is refused."""

from __future__ import annotations

import io
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from reshelf.cli import main
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.inference.rerank_command import show
from reshelf.inference.reranker import RankedList
from reshelf.inference.truncation import truncation_remarks
from reshelf.prompts.list_prompt import Truncated


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item], lists: list[RankingList]) -> Path:
    folder = tmp_path_factory.mktemp("data")
    save_dataset_folder(folder, RankingData(catalogue, {"test": lists}))
    return folder


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    path = tmp_path / "request.json"
    write(path)
    return path


def write(path: Path, **changes: Any) -> None:
    values = {
        "query": "blue coat",
        "candidates": [
            {"item_id": "a", "title": "Blue wool coat", "price": 80, "currency": "EUR"},
            {"item_id": "b", "title": "Red mug"},
        ],
        "history": [{"kind": "purchase", "item_id": "c", "time": "2026-03-01T10:00:00Z"}],
        "history_items": [{"item_id": "c", "title": "Blue cotton jacket"}],
        "scores": [2.0, 1.0],
    }
    path.write_text(json.dumps({k: v for k, v in (values | changes).items() if v is not None}))


def run(folder: Path, *flags: Any) -> int:
    return main(["rerank", "--model", str(folder), "--engine", "transformers", *map(str, flags)])


def test_request_file_as_json(reranker_folder: Path, request_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(reranker_folder, "--request", request_file, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    results = printed["results"]
    assert {r["item_id"]: r["first_stage_rank"] for r in results} == {"a": 1, "b": 2}
    assert [r["rank"] for r in results] == [1, 2]
    assert results[0]["score"] > results[1]["score"]
    assert 0 < results[0]["probability"] < 1
    assert printed["truncated"]["events"] == 0


def test_an_order_is_blended_and_arranged(
    reranker_folder: Path, request_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.json"
    rules.write_text('{"pins": [{"item_id": "b", "place": 1}]}')
    assert run(reranker_folder, "--request", request_file, "--rules", rules, "--personalization", 0, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)["results"]
    assert (first["item_id"], first["rules"], "rules" in second) == ("b", ["pinned to place 1"], False)
    rest = {"never": [{"item_id": ["a"]}], "pins": [{"item_id": "b", "place": 1}]}
    candidates = [{"item_id": "a", "title": "Blue wool coat"}, {"item_id": "b", "title": "Red mug \x1b[2J"}]
    write(request_file, query="coat \x1b[2J", candidates=candidates, personalization=0, rules=rest)
    assert run(reranker_folder, "--request", request_file) == 0
    shown = capsys.readouterr().out
    assert "* 1: pinned to place 1" in shown
    assert "Blue wool coat" not in shown
    assert "\x1b" not in shown
    write(request_file, rules={"pins": [{"item_id": "b", "place": 0}]})
    assert run(reranker_folder, "--request", request_file) == 2
    assert "rules, field pins.0.place" in capsys.readouterr().err


def test_a_list_of_a_data_set_as_a_table(
    reranker_folder: Path, data_folder: Path, catalogue: dict[str, Item], lists: list[RankingList],
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "120")
    assert run(reranker_folder, "--data", data_folder, "--list_id", "l1", "--top", 5) == 0
    printed = capsys.readouterr().out
    assert "blue wool coat" in printed
    assert "oldest events did not fit" in printed
    lines = [line for line in printed.splitlines() if line.split()[:1] and "did not fit" not in line]
    rows = [line for line in lines if line.split()[0].isdigit()]
    assert len(rows) == 5
    for place, row in enumerate(rows, start=1):
        rank, was, moved = row.split()[:3]
        assert int(rank) == place
        assert moved == {True: f"▲{int(was) - place}", False: f"▼{place - int(was)}"}[int(was) > place] or moved == "·"
        assert catalogue[lists[1].candidates[int(was) - 1]].title in row


def test_what_was_cut_is_said_in_the_language_of_the_model(catalogue: dict[str, Item]) -> None:
    cut = Truncated(**{one.name: n for n, one in enumerate(fields(Truncated), start=1)})
    ranked = RankedList((), cut, ("features.popularity",))
    said = {}
    for language in ("en", "zh"):
        console = Console(file=io.StringIO(), width=100)
        show(ranked, {"candidates": [], "query": "q"}, catalogue, language, console=console)
        said[language] = console.file.getvalue()  # type: ignore[attr-defined]
        assert len(truncation_remarks(cut, language)) == len(fields(Truncated)), "a remark for each part"
    assert "did not fit the prompt" in said["en"]
    assert "not known of some products: features.popularity" in said["en"]
    assert "超出提示词长度" in said["zh"]
    assert "部分商品缺少：features.popularity" in said["zh"]
    assert "did not fit" not in said["zh"]


def test_flags(reranker_folder: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = ["--data", data_folder, "--query", "coat", "--candidates", "[p1, p2]"]
    ask += ["--history", '["search:blue coat", "rating:p5=4.5", "click:p3"]']
    assert run(reranker_folder, *ask) == 2
    assert "field scores: missing" in capsys.readouterr().err
    assert run(reranker_folder, *ask, "--scores", "[2.0, 1.0]", "--json") == 0
    assert {entry["item_id"] for entry in json.loads(capsys.readouterr().out)["results"]} == {"p1", "p2"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one of: request"),
        (["--candidates", "[p1]", "--list_id", "l1"], "list_id needs data"),
        (["--candidates", "[p1]", "--history", "[p3]"], "history[0] is 'p3'; write kind:item_id"),
        (["--candidates", "[p1]", "--history", '["rating:p3=good"]'], "write rating:item_id=stars"),
        (["--candidates", "[p1]", "--scores", "[1.0]"], "item 'p1' is not in the catalogue"),
        (["--candidates", "[p1]", "--scores", "[1.0, 2.0]"], "scores: 2 values for 1 candidates"),
        (["--request", "nowhere.json", "--query", "mug"], "query goes with candidates, and request has its own"),
        (["--request", "nowhere.json", "--scores", "[1.0]"], "scores goes with candidates, and request has its own"),
        (["--request", "nowhere.json"], "cannot read nowhere.json: No such file"),
        (["--request", "nowhere.json", "--top", "0"], "top is 0"),
    ],
)
def test_flags_that_do_not_go_together(
    reranker_folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert run(reranker_folder, *flags) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"candidates": None}, "field candidates is missing"),
        ({"candidates": []}, "field candidates"),
        ({"candidates": "a"}, "field candidates: must be a list"),
        ({"candidates": [{"item_id": "a", "title": "x"}, 7]}, "field candidates[1]: must be an object or an item id"),
        ({"candidates": [{"item_id": "a"}]}, "candidates[0], field title"),
        ({"candidates": [{"item_id": "a", "title": "x", "price": -1}]}, "candidates[0], field price"),
        ({"candidates": [{"item_id": "a", "title": "x", "colour": "red"}]}, "candidates[0], field colour"),
        ({"scores": [1.0]}, "scores: 1 values for 2 candidates"),
        ({"scores": [1.0, "high"]}, "field scores.1"),
        ({"scores": 1.0}, "field scores: must be a list of numbers"),
        ({"context": ["mobile"]}, "field context: must be an object of texts by name"),
        ({"context": ""}, "field context: must be an object"),
        ({"features": [[1, 2]]}, "field features: must be an object of lists of numbers by name"),
        ({"features": {"popularity": 3}}, "field features.popularity: must be a list of numbers"),
        ({"history_items": None}, "field history: item 'c' is not in the catalogue"),
        ({"history": [{"kind": "purchase"}]}, "history[0], a search event needs a query"),
        ({"top": 3}, "unknown field 'top'"),
        ({"query": 7}, "field query"),
        ({"query": None}, None),
        ({"time": "2026-01-01T00:00:00Z"}, "event 0 at 2026-03-01T10:00:00+00:00 is not before the list's time"),
        ({"time": "yesterday"}, "field time"),
        ({"features": {"popularity": [1]}}, "popularity: 1 values for 2 candidates"),
    ],
)
def test_mistakes_in_a_request(
    reranker_folder: Path, request_file: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any],
    message: str | None,
) -> None:  # fmt: skip
    write(request_file, **changes)
    code = run(reranker_folder, "--request", request_file)
    error = capsys.readouterr().err
    assert code == (2 if message else 0)
    if message:
        (line,) = [one for one in error.splitlines() if one.startswith("reshelf:")]
        assert f"{request_file}, " in line
        assert message in line
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("text", "message"),
    [(b'{"query": "a",\n "candidates": [}', "line 2, column 17 is not JSON"), (b"[]", "must hold one JSON object"),
     (b"\xff\xfe", "is not UTF-8 text")],
)  # fmt: skip
def test_files_that_are_no_request(
    reranker_folder: Path, request_file: Path, capsys: pytest.CaptureFixture[str], text: bytes, message: str
) -> None:
    request_file.write_bytes(text)
    assert run(reranker_folder, "--request", request_file) == 2
    assert message in capsys.readouterr().err


def test_a_list_that_is_not_there(reranker_folder: Path, data_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(reranker_folder, "--data", data_folder, "--list_id", "l99") == 2
    assert "has no list 'l99'" in capsys.readouterr().err
