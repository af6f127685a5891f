"""A model of each family goes all the way: 4-bit finetuning, a reranker folder, and an export that real vLLM,
sentence-transformers and transformers score as the 4-bit model does.

Qwen3 is the family of every other test of engines.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from reshelf.data.dataset_folder import RankingData, save_dataset_folder
from reshelf.data.schema import Item, RankingList
from reshelf.finetune.config import FinetuneConfig, OptimizerConfig
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.finetune.run import finetune
from reshelf.inference.export.run import ExportConfig, export
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.prompts.config import PromptConfig

OWN: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": None},
    # Two layers with a window far shorter than the histories, and one without, as in the real model.
    "gemma3_text": {
        "sliding_window": 16,
        "query_pre_attn_scalar": 32,
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    },
}


def tiny_base(folder: Path, family: str, texts: list[str]) -> Path:
    """Random weights, and a tokenizer that begins every text with the start token, as these families' do."""
    tokenizer = train_tokenizer(texts, 500)
    tokenizer.add_special_tokens({"bos_token": "<bos>"})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, bos_token="<bos>", eos_token=tokenizer.eos_token,
        pad_token=tokenizer.pad_token, add_bos_token=True,
    )  # fmt: skip
    torch.manual_seed(2)
    shape: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024,
        "initializer_range": 0.2, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }  # fmt: skip
    config = transformers.CONFIG_MAPPING[family](**(shape | OWN[family]))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.parametrize("family", OWN)
def test_finetuned_exported_and_scored_alike(
    family: str, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path
) -> None:
    base = tiny_base(tmp_path / "base", family, [f"{item.title} yes no query product" for item in catalogue.values()])
    labelled = [
        one.model_copy(update={"labels": tuple(int(n == 1) for n in range(len(one.candidates)))}) for one in lists
    ]
    save_dataset_folder(tmp_path / "data", RankingData(catalogue, {"train": labelled[:2], "valid": labelled[:2]}))
    prompt = PromptConfig(template="plain", history_tokens=160, item_tokens=48)
    finetune(
        FinetuneConfig(
            tmp_path / "data", tmp_path / "model", ModelConfig(str(base), dtype="float32"), LoraConfig(rank=4), prompt,
            optimizer=OptimizerConfig(learning_rate=5e-2, lists_per_step=2, epochs=2), calibration="none",
        )
    )  # fmt: skip
    save_dataset_folder(tmp_path / "data", RankingData(catalogue, {"test": lists}))
    export(ExportConfig(tmp_path / "model", tmp_path / "export", tmp_path / "data"))
    card = (tmp_path / "export" / "README.md").read_text()
    for library in ("transformers 5", "sentence-transformers 6", "vllm"):
        (row,) = [line for line in card.splitlines() if line.startswith(f"| {library}")]
        assert float(row.split("|")[3].split()[0]) < 1e-3
