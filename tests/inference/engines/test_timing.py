"""`reshelf engines` times what is installed, and `engine: auto` goes by it until processors or versions change."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from reshelf.cli import main
from reshelf.inference.engines.engine import choose_engine
from reshelf.inference.engines.timing import fastest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_ASSETS_CACHE", str(tmp_path))
    return tmp_path


def _vllm_is_installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    find = importlib.util.find_spec
    found = object() if there else None
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *more: found if name == "vllm" else find(name, *more))


def test_auto_is_the_engine_that_was_faster_here(
    reranker_folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    _vllm_is_installed(monkeypatch, False)
    assert fastest(reranker_folder) is None
    assert main(["engines", str(reranker_folder), "--candidates", "3"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("transformers: 11 lists of 3 candidates …"), "in a log too, before minutes of work"
    assert "engine auto is transformers" in said
    (kept,) = cache.rglob("*.json")
    seconds = json.loads(kept.read_text())
    assert list(seconds) == ["transformers"]
    assert 0 < seconds["transformers"] < 10

    _vllm_is_installed(monkeypatch, True)
    kept.write_text(json.dumps(seconds | {"vllm": seconds["transformers"] / 2}))
    assert choose_engine("auto", reranker_folder) == "vllm"
    assert choose_engine("transformers", reranker_folder) == "transformers"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1000)
    assert choose_engine("auto", reranker_folder) == "transformers", "timed with other processors"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"transformers": "fast", "vllm": 1}'])
def test_what_was_kept_and_cannot_be_read_is_as_if_it_were_not_there(
    reranker_folder: Path, cache: Path, text: str
) -> None:
    from reshelf.inference.engines.timing import _remembered_in

    _remembered_in(reranker_folder).write_text(text)
    assert fastest(reranker_folder) is None


@pytest.mark.parametrize("candidates", ["0", "10001", "1000000000"])
def test_no_candidates_and_more_than_a_server_takes_are_refused(
    reranker_folder: Path, capsys: pytest.CaptureFixture[str], candidates: str
) -> None:
    assert main(["engines", str(reranker_folder), "--candidates", candidates]) == 2
    assert f"candidates is {candidates}; give a number from 1 to 10000" in capsys.readouterr().err
