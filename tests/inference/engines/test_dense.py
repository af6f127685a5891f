"""Dense weights score as the 4-bit model they come from, merged or with the adapter beside them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import processors
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.engines.dense import dense_model, plain_tokenizer, write_dense
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.modeling.checkpoint import TrainedReranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import ADAPTER, RerankerSpec


@torch.inference_mode()
def stock_scores(model: Any, prompt: Any) -> np.ndarray:
    rows = [np.concatenate([prompt.prefix, item]).astype(np.int64) for item in prompt.items]
    return np.array([model(input_ids=torch.from_numpy(row)[None]).logits[0, 0].item() for row in rows])


def test_merged_checkpoint_scores_as_the_4_bit_model(
    loaded: TrainedReranker, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path
) -> None:
    prompt = loaded.builder(catalogue).build(lists[0])
    expected = TransformersEngine(loaded.model).score([prompt])[0]
    write_dense(loaded, tmp_path, merge=True)
    stock = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    np.testing.assert_allclose(stock_scores(stock, prompt), expected, atol=1e-4)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["Qwen3ForSequenceClassification"]
    assert "quantization_config" not in config
    weights = load_file(tmp_path / "model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32}
    assert weights["score.weight"].shape == (1, 64)


def test_gemma_3_is_named_as_vllm_knows_it_and_opens_in_transformers(loaded: TrainedReranker, tmp_path: Path) -> None:
    torch.manual_seed(5)
    config = Gemma3TextConfig(
        vocab_size=len(loaded.tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, sliding_window=16, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    Gemma3ForCausalLM(config).save_pretrained(tmp_path / "base")
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    base, tokenizer = load_base(ModelConfig(base=str(tmp_path / "base"), dtype="float32"), "cpu")
    attach_head(base, 7, 11)
    write_dense(TrainedReranker(tmp_path, base, tokenizer, loaded.spec, "cpu"), tmp_path / "dense", merge=True)
    named = json.loads((tmp_path / "dense" / "config.json").read_text())["architectures"]
    assert named == ["Gemma3ForSequenceClassification"]
    again = AutoModelForSequenceClassification.from_pretrained(tmp_path / "dense")
    ids = torch.arange(20, 60)[None]  # longer than the window
    with torch.no_grad():
        logits = base(input_ids=ids, use_cache=False).logits[0, -1]
        assert again(input_ids=ids).logits[0, 0].item() == pytest.approx(float(logits[0] - logits[1]), abs=1e-4)


def test_unmerged_base_with_the_adapter_on_top(
    loaded: TrainedReranker, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path
) -> None:
    prompt = loaded.builder(catalogue).build(lists[0])
    expected = TransformersEngine(loaded.model).score([prompt])[0]
    write_dense(loaded, tmp_path, merge=False)
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert np.abs(stock_scores(base, prompt) - expected).max() > 0.1
    config = peft.PeftConfig.from_pretrained(str(loaded.folder / ADAPTER))
    config.task_type = None  # else peft wants a model that generates
    adapted = peft.PeftModel.from_pretrained(base, str(loaded.folder / ADAPTER), config=config).eval()
    np.testing.assert_allclose(stock_scores(adapted, prompt), expected, atol=1e-4)


def test_bfloat16_is_rounded_at_the_end(loaded: TrainedReranker) -> None:
    full, half = (dense_model(loaded, True, dtype).state_dict() for dtype in ("float32", "bfloat16"))
    for name, weight in full.items():
        torch.testing.assert_close(half[name], weight.to(torch.bfloat16), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (LlamaConfig(tie_word_embeddings=False), LlamaForCausalLM),
        (LlamaConfig(tie_word_embeddings=True), LlamaForCausalLM),
        (MistralConfig(tie_word_embeddings=False, sliding_window=None), MistralForCausalLM),
        (GemmaConfig(), GemmaForCausalLM),
    ],
    ids=["llama", "llama-tied", "mistral", "gemma"],
)
@pytest.mark.parametrize("quantise", [True, False])
def test_other_families(
    config: Any, kind: Any, quantise: bool, loaded: TrainedReranker, catalogue: dict[str, Item],
    lists: list[RankingList], tmp_path: Path,
) -> None:  # fmt: skip
    torch.manual_seed(5)
    sizes = {
        "vocab_size": len(loaded.tokenizer), "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "initializer_range": 0.2,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    for name, value in sizes.items():
        setattr(config, name, value)
    kind(config).save_pretrained(tmp_path / "base")
    loaded.tokenizer.save_pretrained(tmp_path / "base")
    model_config = ModelConfig(base=str(tmp_path / "base"), quantise=quantise, dtype="float32")
    base, tokenizer = load_base(model_config, "cpu")
    model = add_lora(base, LoraConfig(rank=2, alpha=4, dropout=0.0)).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    builder = loaded.builder(catalogue)
    attach_head(base, *builder.label_ids)
    spec = RerankerSpec(model_config, loaded.spec.prompt, loaded.spec.levels)
    other = TrainedReranker(tmp_path, model, tokenizer, spec, "cpu")
    prompt = builder.build(lists[0])
    expected = TransformersEngine(model).score([prompt])[0]
    np.testing.assert_allclose(stock_scores(dense_model(other, True), prompt), expected, atol=1e-4)
    np.testing.assert_array_equal(TransformersEngine(model).score([prompt])[0], expected)  # an export compares with it


def test_refuses_what_a_classifier_head_cannot_say(loaded: TrainedReranker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loaded.model.get_base_model().config, "final_logit_softcapping", 30.0, raising=False)
    with pytest.raises(InputError, match="final_logit_softcapping"):
        dense_model(loaded, True)


def test_text_pairs_become_the_builders_ids(
    loaded: TrainedReranker, catalogue: dict[str, Item], lists: list[RankingList], tmp_path: Path
) -> None:
    plain_tokenizer(loaded.tokenizer).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    prompt = loaded.builder(catalogue).build(lists[0])
    for item in prompt.items:
        pair = tokenizer(*(tokenizer.decode(ids) for ids in (prompt.prefix, item)))["input_ids"]
        assert pair == [*prompt.prefix.tolist(), *item.tolist()]


def test_a_tokenizer_with_a_start_token_adds_none_in_an_export(loaded: TrainedReranker, tmp_path: Path) -> None:
    source = PreTrainedTokenizerFast(
        tokenizer_object=copy.deepcopy(loaded.tokenizer.backend_tokenizer), bos_token="<|im_start|>",
        eos_token="<|im_end|>", chat_template="{{ messages }}",
    )  # fmt: skip
    start = source.bos_token_id
    source.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", pair="<|im_start|> $A <|im_start|> $B", special_tokens=[("<|im_start|>", start)]
    )
    assert source("blue")["input_ids"][0] == start
    plain_tokenizer(source).save_pretrained(tmp_path)
    plain = AutoTokenizer.from_pretrained(tmp_path)
    assert start not in plain("blue", "coat")["input_ids"]
    assert plain.pad_token == "<|im_end|>"
    assert plain.chat_template is None
    assert source("blue")["input_ids"][0] == start
