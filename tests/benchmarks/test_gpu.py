"""What a GPU machine is given and runs: recipes that parse, a base that is packed and cut without changing a score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bitsandbytes.functional import quantize_4bit
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from benchmarks.gpu.packed_base import pack_base, unpack_base
from reshelf.config import load_yaml
from reshelf.finetune.config import FinetuneConfig
from reshelf.modeling.loading import load_tokenizer
from reshelf.modeling.vocabulary import WEIGHTS, cut_vocabulary

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
