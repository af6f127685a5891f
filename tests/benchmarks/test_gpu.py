"""What a GPU machine is given and runs: recipes that parse, a base that is packed and cut without changing a score."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import benchmarks.gpu.__main__ as gpu
from benchmarks.gpu import finetune_part, prepare
from benchmarks.gpu.packed_base import pack_base, unpack_base
from reshelf.config import load_yaml
from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.finetune.config import FinetuneConfig
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.modeling.vocabulary import WEIGHTS, cut_vocabulary

FEATURES = ("bm25", "query_match", "query_chars", "query_cover", "query_topic", "teacher")
ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "finetune" / "bases" / "marketplace"
TEXTS = ["rain jacket, green", "travel mug 24.00 EUR", "history ; query: lamp ; product: Oak lamp => yes no"]


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks" / "gpu").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_parses_and_reads_no_trained_rankers_score(path: Path) -> None:
    config = load_yaml(FinetuneConfig, path)
    assert config.model.quantise
    assert "teacher" not in config.prompt.features


def test_a_packed_base_quantises_to_the_very_same_codes(tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16).save_pretrained(tmp_path / "bfloat16")
    pack_base(tmp_path / "bfloat16", tmp_path / "packed")
    unpack_base(tmp_path / "packed", tmp_path / "base")
    before, after = (load_file(tmp_path / name / WEIGHTS) for name in ("bfloat16", "base"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if weight.ndim == 2 and ".layers." in name:
            ours, theirs = (quantize_4bit(w, quant_type="nf4")[0] for w in (weight, after[name]))
            assert torch.equal(ours, theirs), name
        else:
            assert torch.equal(weight, after[name]), name


def test_a_cut_vocabulary_changes_the_numbers_of_tokens_and_nothing_else(tmp_path: Path) -> None:
    whole = load_tokenizer(str(BASE))
    used = {i for text in TEXTS for i in whole(text).input_ids}
    assert cut_vocabulary(BASE, used, tmp_path / "cut") < len(whole)
    cut = load_tokenizer(str(tmp_path / "cut"))
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (BASE, tmp_path / "cut")]
    for text in TEXTS:
        assert cut.tokenize(text) == whole.tokenize(text)
        with torch.no_grad():
            hidden = [
                model.model(torch.tensor([tokenizer(text).input_ids])).last_hidden_state
                for model, tokenizer in zip(models, (whole, cut), strict=True)
            ]
        assert torch.equal(*hidden)


def test_the_whole_command_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared, carried, trained and scored as on a GPU: scores of every test list, and its nDCG."""
    draw = np.random.default_rng(0)
    items = {f"p{n}": Item(item_id=f"p{n}", title=f"{TEXTS[n % 2]} {n}") for n in range(40)}
    lists = {split: [_simulated_list(f"{split}{n}", draw) for n in range(8)] for split in ("train", "valid", "test")}
    (tmp_path / "root" / "crowdflower").mkdir(parents=True)
    save_dataset_folder(tmp_path / "root" / "crowdflower", RankingData(items, lists))
    carry, out = tmp_path / "carry", tmp_path / "out"
    _run(monkeypatch, prepare.main, "--base", BASE, "--root", tmp_path / "root", "--out", carry)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(finetune_part, "_PROBE_STEPS", 4)
    _run(
        monkeypatch, gpu.main, "--base", carry / "base", "--data", carry / "data", "--minutes", "0.001", "--out", out,
        "--parts", "finetune_crowdflower", "--device", "cpu",
    )  # fmt: skip
    facts = json.loads((out / "finetune_crowdflower.json").read_text())
    assert "failed" not in facts, facts
    assert facts["steps"] == 4, "no time is left for more"
    with np.load(out / "crowdflower.npz") as scores:
        assert scores["list_ids"].tolist() == [ranking.list_id for ranking in lists["test"]]
        assert scores["reshelf"].shape == (8, 6)
        assert np.isfinite(scores["reshelf"]).all()
    assert 0 < facts["test_ndcg@10_reshelf"] <= 1


def _simulated_list(list_id: str, draw: np.random.Generator) -> RankingList:
    candidates = tuple(f"p{n}" for n in draw.choice(40, 6, replace=False))
    features = {name: tuple(draw.random(6).tolist()) for name in FEATURES}
    return RankingList(
        list_id=list_id,
        user_id="u",
        query="rain jacket",
        candidates=candidates,
        labels=(1, 0, 0, 0, 0, 0),
        features=features,
    )


def _run(monkeypatch: pytest.MonkeyPatch, main: Callable[[], None], *words: object) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark", *map(str, words)])
    main()
