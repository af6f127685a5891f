"""Bases that would be read wrongly without a word, each refused in one sentence."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    Qwen3Config,
)

from reshelf.errors import InputError
from reshelf.modeling.base_checks import check_budgets, check_config, check_weight_files
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base


class TestTwoSetsOfWeights:
    """transformers reads model.safetensors, whatever was saved last."""

    def test_is_refused(self, base_folder: Path, tmp_path: Path) -> None:
        folder = tmp_path / "base"
        shutil.copytree(base_folder, folder)
        model = AutoModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            model.get_input_embeddings().weight.add_(1.0)
        model.save_pretrained(folder, max_shard_size="64KB")
        again = AutoModelForCausalLM.from_pretrained(folder)
        assert not torch.equal(again.get_input_embeddings().weight, model.get_input_embeddings().weight)
        with pytest.raises(InputError, match="holds two sets of weights"):
            load_base(ModelConfig(base=str(folder), quantise=False, dtype="float32"), "cpu")
        (folder / "model.safetensors").unlink()
        check_weight_files(folder)

    def test_parts_then_one_file_is_not(self, base_folder: Path, tmp_path: Path) -> None:
        """Of the parts only their index is left, which nothing reads."""
        model = AutoModelForCausalLM.from_pretrained(base_folder)
        model.save_pretrained(tmp_path, max_shard_size="64KB")
        check_weight_files(tmp_path)
        model.save_pretrained(tmp_path)
        assert (tmp_path / "model.safetensors.index.json").exists()
        check_weight_files(tmp_path)

    def test_an_index_that_cannot_be_read_is_not(self, tmp_path: Path) -> None:
        (tmp_path / "model.safetensors").touch()
        for text in ("{", "[]", "{}", '{"weight_map": 3}'):
            (tmp_path / "model.safetensors.index.json").write_text(text)
            check_weight_files(tmp_path)


class TestBudgets:
    """The longest prompt has positions, and those of any other prompt in its batch."""

    def config(self, **other: Any) -> Phi3Config:
        factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8}
        rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 4096, **factors}
        shape = {"hidden_size": 32, "num_attention_heads": 2, "max_position_embeddings": 131072}
        return Phi3Config(**shape, original_max_position_embeddings=4096, rope_parameters=rope, **other)

    def test_longrope_below_its_switch(self) -> None:
        check_budgets(4096, self.config(), "phi")

    def test_longrope_above_it(self) -> None:
        with pytest.raises(InputError, match="changes the positions of a whole batch for one above 4096"):
            check_budgets(4097, self.config(), "phi")

    def test_others(self) -> None:
        config = Qwen3Config(max_position_embeddings=512)
        check_budgets(512, config, "qwen")
        with pytest.raises(InputError, match="reads 512"):
            check_budgets(513, config, "qwen")


class TestWindows:
    """Attention divides by the window."""

    @pytest.mark.parametrize("window", [0, -1])
    @pytest.mark.parametrize("kind", [MistralConfig, Gemma3TextConfig])
    def test_one_in_which_no_token_sees_anything(self, kind: type[PreTrainedConfig], window: int) -> None:
        with pytest.raises(InputError, match=f"'b' cannot be a reranker: its config says sliding_window {window}"):
            check_config(kind(sliding_window=window), "b", False)

    def test_one_that_no_layer_reads(self) -> None:
        check_config(Gemma3TextConfig(sliding_window=0, layer_types=["full_attention"] * 26), "b", False)
        check_config(MistralConfig(sliding_window=None), "b", False)
        check_config(MistralConfig(sliding_window=1), "b", False)
