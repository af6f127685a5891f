"""Base models: 4-bit with LoRA, and one clear sentence for what cannot be a base."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Lfm2Config,
    Lfm2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.packing import pack
from reshelf.modeling.score import attach_head, score
from reshelf.modeling.spec import fingerprint
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels
from reshelf.prompts.list_prompt import ListPrompt


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


def test_few_compiled_products_are_kept(base_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    monkeypatch.setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "300")
    four_bit(base_folder)
    assert os.environ["LRU_CACHE_CAPACITY"] == "64"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "300", "what a user has set stays"


class TestFourBits:
    def test_scores_equal_separate_prompts(
        self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        model = four_bit(base_folder).eval()
        layers = [m for m in model.modules() if isinstance(m, bnb.nn.Linear4bit)]
        assert len(layers) == 14
        assert all(m.weight.quant_type == "nf4" and m.weight.quant_state.nested for m in layers)
        lists = make_lists((20, [5, 9, 2]), (4, [3, 3]))
        alone = [ListPrompt("", prompt.prefix, (item,), prompt.truncated) for prompt in lists for item in prompt.items]
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

    def test_quantised_scores_are_those_of_the_rounded_weights(
        self, base_folder: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        """A weight moves by at most half the widest gap of NF4: 0.152 of the largest in its block."""
        batch = pack(make_lists((20, [5, 9, 2])))
        quantised, dense = (
            load_base(ModelConfig(base=str(base_folder), quantise=quantise, dtype="float32"), "cpu")[0]
            for quantise in (True, False)
        )
        scores = []
        for model in (quantised, dense):
            attach_head(model, 7, 11)
            with torch.no_grad():
                scores.append(score(model, batch))
        for name, layer in quantised.named_modules():
            if isinstance(layer, bnb.nn.Linear4bit):
                weight = dense.get_submodule(name).weight
                rounded = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
                assert 0 < (rounded - weight).abs().max() <= 0.16 * weight.abs().max()
                weight.data.copy_(rounded)
        with torch.no_grad():
            rounded_scores = score(dense, batch)
        assert not torch.allclose(scores[0], scores[1], rtol=1e-3)
        torch.testing.assert_close(rounded_scores, scores[0], rtol=1e-5, atol=1e-5)


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

    @pytest.mark.parametrize("base", ["runs/base", "models/mine", "models/", "models\\mine", "models/a/b", "models"])
    def test_a_missing_folder_is_not_looked_for_on_the_hub(
        self, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "models").mkdir()
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr("reshelf.modeling.tokenizer.AutoTokenizer", None)  # whoever asks the Hub fails
        with pytest.raises(InputError, match=r"not a model folder.* `reshelf pretrain`"):
            load_base(ModelConfig(base=base), "cpu")

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

    def test_a_tokenizer_that_was_cut_off_or_lost_a_token(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        path = folder / "tokenizer.json"
        whole = json.loads(path.read_text())
        merge = whole["model"]["merges"][0]
        del whole["model"]["vocab"]["".join(merge if isinstance(merge, list) else merge.split())]
        for text in (path.read_text()[:500], json.dumps(whole)):
            path.write_text(text)
            refused(folder, "no tokenizer.*; restore its files")

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
            vocab_size=500, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
        )
        BertModel(raw).save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(raw.to_dict() | {"model_type": "vit"}))
        refused(folder, "no causal language model")

    def test_soft_capped_attention(self, base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]) -> None:
        folder = self.copy(base_folder, tmp_path)
        tiny_model("gemma2", "eager", attn_logit_softcapping=50.0).save_pretrained(folder)
        refused(folder, "cannot be a reranker: it soft-caps its attention logits")

    def test_a_recurrent_model(self, base_folder: Path, tmp_path: Path) -> None:
        """Its layers would carry one product's words into the next, without a word of warning."""
        folder = self.copy(base_folder, tmp_path)
        config = MambaConfig(vocab_size=50, hidden_size=32, state_size=4, num_hidden_layers=1, pad_token_id=0)
        MambaForCausalLM(config).save_pretrained(folder)
        refused(folder, r"cannot be a reranker: it is a recurrent or hybrid model \(mamba, ")

    def test_a_hybrid_model(self, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        config = Lfm2Config(
            vocab_size=50, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
            num_key_value_heads=1, layer_types=["conv", "full_attention"],
        )  # fmt: skip
        Lfm2ForCausalLM(config).save_pretrained(folder)
        refused(folder, r"it is a recurrent or hybrid model \(lfm2, with conv layers\)")

    def test_a_model_whose_tokens_see_the_ones_after_them(
        self, base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]
    ) -> None:
        folder = self.copy(base_folder, tmp_path)
        tiny_model("gemma3_text", "eager", use_bidirectional_attention=True).save_pretrained(folder)
        refused(folder, "its tokens see the ones after them")

    @pytest.mark.parametrize("family", ["bloom", "gpt_neo"])
    def test_attention_that_is_not_told_to_the_interface(self, family: str, base_folder: Path, tmp_path: Path) -> None:
        """Biases by distance, logits without a scale: such models run their own attention."""
        folder = self.copy(base_folder, tmp_path)
        config = CONFIG_MAPPING[family](
            vocab_size=400, hidden_size=32, n_layer=1, n_head=2, num_layers=1, num_heads=2,
            attention_types=[[["global"], 1]],
        )  # fmt: skip
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        refused(folder, "cannot be a reranker: (not all of its layers are plain|.*has an attention of its own)")

    def test_rounding_of_what_all_logits_share_is_no_reason(
        self, base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]
    ) -> None:
        """As in Gemma 3 270M, where it moves logits by a fifth of their spread in bfloat16, and no score."""
        folder = self.copy(base_folder, tmp_path)
        model = tiny_model("llama", "eager", vocab_size=400, bos_token_id=5)
        with torch.no_grad():
            model.lm_head.weight += 4 * torch.randn(64, generator=torch.Generator().manual_seed(0))
        model.save_pretrained(folder)
        load_base(ModelConfig(base=str(folder), quantise=False, dtype="bfloat16"), "cpu")

    def test_dropout_of_attention_is_left_out(
        self, base_folder: Path, tmp_path: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        folder = self.copy(base_folder, tmp_path)
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"attention_dropout": 0.1}))
        model = four_bit(folder).train()
        assert gradients(model, pack(make_lists((20, [5, 9, 2]))))

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.parametrize("weight", ["model.embed_tokens.weight", "model.layers.1.mlp.up_proj.weight"])
    def test_weights_that_are_no_numbers(self, weight: str, value: float, base_folder: Path, tmp_path: Path) -> None:
        """Whether they are read as they are or in 4 bits, and however few they are."""
        path = self.copy(base_folder, tmp_path) / "model.safetensors"
        weights = load_file(path)
        weights[weight][17, 3] = value
        save_file(weights, path, metadata={"format": "pt"})
        for quantise in (False, True):
            with pytest.raises(InputError, match=f"its weight '{weight}' holds NaN or infinite numbers"):
                load_base(ModelConfig(base=str(path.parent), quantise=quantise, dtype="float32"), "cpu")

    def test_a_base_that_is_in_4_bits(
        self, base_folder: Path, tmp_path: Path, make_lists: Callable[..., list[ListPrompt]]
    ) -> None:
        """Taken as it is where 4 bits are wanted, and one sentence where not."""
        folder = self.copy(base_folder, tmp_path)
        model, _ = load_base(ModelConfig(base=str(base_folder), quantise=True, dtype="float32"), "cpu")
        model.save_pretrained(folder)
        refused(folder, r"quantised already \(bitsandbytes 4-bit\), and model.quantise is false; set it to true")
        again, _ = load_base(ModelConfig(base=str(folder), quantise=True, dtype="float32"), "cpu")
        batch = pack(make_lists((20, [5, 9, 2])))
        scores = []
        for one in (model, again):
            attach_head(one, 7, 11)
            with torch.no_grad():
                scores.append(score(one, batch))
        torch.testing.assert_close(scores[1], scores[0], rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("method", ["gptq", "awq", "fp8", "mxfp4"])
    def test_other_quantised_bases(self, method: str, base_folder: Path, tmp_path: Path) -> None:
        folder = self.copy(base_folder, tmp_path)
        config = json.loads((folder / "config.json").read_text())
        stored = {"quant_method": method, "bits": 4, "group_size": 128}
        (folder / "config.json").write_text(json.dumps(config | {"quantization_config": stored}))
        refused(folder, rf"is quantised already \({method}\); give the model that it was made from")


def with_tokenizer(folder: Path, model: Any, start: str, adds_it: bool) -> None:
    """A base whose tokenizer knows a start token, at id 1 as the tiny models do, and puts it before texts or not."""
    source = train_tokenizer(["red oak chair by Nord", "yes no"] * 9, 300)
    backend = json.loads(source.backend_tokenizer.to_str())
    old = next(name for name, number in backend["model"]["vocab"].items() if number == 1)
    vocabulary = {start if name == old else name: number for name, number in backend["model"]["vocab"].items()}
    backend["model"]["vocab"] = vocabulary
    backend["added_tokens"] = [one for one in backend["added_tokens"] if one["id"] != 1] + [
        {"id": 1, "content": start, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
    ]  # fmt: skip
    backend["post_processor"] = None
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(backend)), bos_token=start, eos_token=source.eos_token,
        pad_token=source.pad_token,
    )  # fmt: skip
    made.add_bos_token = adds_it
    model.save_pretrained(folder)
    made.save_pretrained(folder)


class TestStartToken:
    @pytest.mark.parametrize(
        ("family", "start"),
        [("gemma3_text", "<bos>"), ("gemma", "<bos>"), ("llama", "<|begin_of_text|>"), ("mistral", "<s>")],
    )
    def test_a_tokenizer_that_lost_it_is_mended_and_it_is_said(
        self, family: str, start: str, tmp_path: Path, tiny_model: Callable[..., Any], caplog: pytest.LogCaptureFixture
    ) -> None:
        with_tokenizer(tmp_path, tiny_model(family, "eager"), start, adds_it=False)
        before = load_tokenizer(str(tmp_path))
        assert before("red").input_ids[0] != 1
        _, tokenizer = load_base(ModelConfig(base=str(tmp_path), quantise=False, dtype="float32"), "cpu")
        config = PromptConfig(template="plain")
        ranking = RankingList(list_id="l", user_id="u", time=datetime(2026, 1, 1, tzinfo=UTC), query="red",
                              candidates=["p"])  # fmt: skip
        items = {"p": Item(item_id="p", title="oak")}
        assert PromptBuilder(tokenizer, config, items).build(ranking).prefix[0] == 1
        assert PromptBuilder(before, config, items).build(ranking).prefix[0] != 1
        assert f"every prompt now starts with {start}" in caplog.text
        tokenizer.save_pretrained(tmp_path / "saved")
        saved = load_tokenizer(str(tmp_path / "saved"))
        assert saved("red").input_ids == tokenizer("red").input_ids
        different = [fingerprint(one, config, FeatureLevels())["tokenizer"] for one in (before, tokenizer, saved)]
        assert different[0] != different[1] == different[2]

    @pytest.mark.parametrize(
        ("family", "start", "adds_it"),
        [("gemma3_text", "<bos>", True), ("qwen3", "<bos>", False), ("llama", "<|im_start|>", False)],
    )
    def test_others_are_left_as_they_are(
        self, family: str, start: str, adds_it: bool, tmp_path: Path, tiny_model: Callable[..., Any],
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        with_tokenizer(tmp_path, tiny_model(family, "eager"), start, adds_it)
        _, tokenizer = load_base(ModelConfig(base=str(tmp_path), quantise=False, dtype="float32"), "cpu")
        assert tokenizer("red").input_ids == load_tokenizer(str(tmp_path))("red").input_ids
        assert (tokenizer("red").input_ids[0] == 1) == adds_it
        assert "starts with" not in caplog.text
