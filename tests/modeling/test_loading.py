"""Base models: 4-bit with LoRA, and one clear sentence for what cannot be a base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, MambaConfig, MambaForCausalLM

from reshelf.errors import InputError
from reshelf.modeling.loading import LoraConfig, ModelConfig, add_lora, load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.prompts.builder import ListPrompt


def four_bit(folder: Path) -> Any:
    """4-bit model with LoRA that does something and a label head."""
    model, _ = load_base(ModelConfig(base=str(folder), quantise=True, dtype="float32"), "cpu")
    attach_head(model, 7, 11)
    torch.manual_seed(1)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: Any, batch: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    score(model, batch).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


class TestFourBits:
    def test_scores_equal_separate_prompts(
        self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        model = four_bit(base_folder).eval()
        layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
        assert len(layers) == 14
        assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in layers)
        lists = make_lists((20, [5, 9, 2]), (4, [3, 3]))
        alone = [ListPrompt("", prompt.prefix, (item,), prompt.trimmed) for prompt in lists for item in prompt.items]
        with torch.no_grad():
            found = score(model, pack(lists))
            expected = torch.cat([score(model, pack([one])) for one in alone])
            # And as plain causal text, which needs nothing of the shared prefix.
            texts = [torch.from_numpy(np.concatenate([p.prefix, *p.items]).astype(np.int64))[None] for p in alone]
            logits = torch.stack([model(input_ids=ids, use_cache=False).logits[0, -1] for ids in texts])
        assert float(found.std()) > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found, logits[:, 0] - logits[:, 1], rtol=1e-5, atol=1e-5)

    def test_only_lora_is_trained(self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]) -> None:
        model = four_bit(base_folder)
        found = gradients(model, pack(make_lists((20, [5, 9, 2]))))
        assert len(found) == 28
        assert all("lora_" in name for name in found)

    def test_a_validation_leaves_training_as_it_was(
        self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        """On CPUs with AVX512-BF16 bitsandbytes would repack the weights, and every later gradient would be wrong."""
        model, batch = four_bit(base_folder), pack(make_lists((20, [5, 9, 2])))
        layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
        assert not any(m.support_avx512bf16_for_cpu for m in layers)
        model.train()
        before = gradients(model, batch)
        model.eval()
        with torch.inference_mode():
            score(model, batch)
        model.train()
        after = gradients(model, batch)
        assert before.keys() == after.keys()
        for name, gradient in before.items():
            torch.testing.assert_close(after[name], gradient, rtol=0, atol=0)

    def test_quantising_changes_scores_a_little(
        self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        batch = pack(make_lists((20, [5, 9, 2])))
        scores = {}
        for quantise in (True, False):
            model, _ = load_base(ModelConfig(base=str(base_folder), quantise=quantise, dtype="float32"), "cpu")
            attach_head(model, 7, 11)
            with torch.no_grad():
                scores[quantise] = score(model, batch)
        assert not torch.equal(scores[True], scores[False])


def refused(folder: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        load_base(ModelConfig(base=str(folder), quantise=False, dtype="float32"), "cpu")
    assert "\n" not in str(caught.value)


class TestWhatCannotBeABase:
    def test_no_folder(self, tmp_path: Path) -> None:
        refused(tmp_path / "nowhere", "nowhere.* is not a model folder: it has no config.json")

    def test_a_folder_without_a_model(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("hello")
        refused(tmp_path, "is not a model folder")

    def test_a_hub_id_that_is_not_there(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(InputError, match="nobody/no-such-model"):
            load_base(ModelConfig(base="nobody/no-such-model"), "cpu")

    def copy(self, base_folder: Path, tmp_path: Path) -> Path:
        return Path(shutil.copytree(base_folder, tmp_path / "base"))

    def test_a_config_that_is_not_json(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        (folder / "config.json").write_text('{"model_type": ')
        refused(folder, "base")

    def test_an_unknown_architecture(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        (folder / "config.json").write_text('{"model_type": "nothing-like-this"}')
        refused(folder, "nothing-like-this")

    def test_no_tokenizer(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        for path in folder.glob("*token*"):
            path.unlink()
        refused(folder, "no tokenizer")

    def test_no_weights(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        (folder / "model.safetensors").unlink()
        refused(folder, "no causal language model")

    def test_truncated_weights(self, base_folder: Path, tmp_path: Path) -> None:
        path = self.copy(base_folder, tmp_path) / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1000])
        refused(path.parent, "no causal language model")

    def test_weights_that_are_not_all_there(self, base_folder: Path, tmp_path: Path) -> None:
        """transformers would fill them in at random and only log it."""
        path = self.copy(base_folder, tmp_path) / "model.safetensors"
        weights = load_file(path)
        del weights["model.layers.1.mlp.up_proj.weight"]
        save_file(weights, path, metadata={"format": "pt"})
        refused(path.parent, "lack 'model.layers.1.mlp.up_proj.weight'")

    def test_not_a_language_model(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        (folder / "config.json").unlink()
        (folder / "model.safetensors").unlink()
        raw = BertConfig(
            vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        BertModel(raw).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(raw.to_dict() | {"model_type": "vit"}))
        refused(folder, "no causal language model")

    def test_soft_capped_attention(self, base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
        folder = self.copy(base_folder, tmp_path)
        tiny_model("gemma2", "eager", attn_logit_softcapping=50.0).save_pretrained(folder)
        refused(folder, "cannot be a reranker: .*soft-capped")

    def test_a_recurrent_model(self, base_folder: Path, tmp_path: Path) -> None:
        """Its layers would carry one product's words into the next, without a word of warning."""
        folder = self.copy(base_folder, tmp_path)
        config = MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=1, pad_token_id=0)
        MambaForCausalLM(config).save_pretrained(folder)
        refused(folder, "base")
