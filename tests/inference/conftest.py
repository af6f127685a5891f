"""One tiny real reranker for all inference tests: a random Qwen3, loaded in 4 bits, with LoRA that does something."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from reshelf.data.schema import Event, Item, RankingList
from reshelf.modeling.calibration import Calibration
from reshelf.modeling.checkpoint import save_reranker
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.modeling.loading import add_lora, load_base
from reshelf.modeling.score import attach_head
from reshelf.modeling.spec import RerankerSpec
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels

WORDS = (
    *("red", "blue", "green", "oak", "steel", "cotton", "wool", "shoe", "coat", "lamp"),
    *("chair", "desk", "jacket", "mug", "bottle", "trail", "rain", "light", "soft"),
)
CONTEXTS: list[dict[str, str]] = [
    {"device": "mobile"},
    {},
    {"instruction": "rain jackets for the trail, light and soft, no wool", "device": "desktop"},
]
"""Of every third list."""


@pytest.fixture(scope="session")
def catalogue() -> dict[str, Item]:
    """60 items whose titles and descriptions differ much in length."""
    rng = np.random.default_rng(0)
    items = {}
    for n in range(60):
        title = " ".join(rng.choice(WORDS, rng.integers(1, 7)))
        long = " ".join(rng.choice(WORDS, 60)) if n % 3 == 0 else None
        price = None if n % 5 == 0 else float(rng.integers(3, 300))
        items[f"p{n}"] = Item(
            item_id=f"p{n}", title=f"{title} №{n}", brand="Nord" if n % 2 else None, price=price, currency="EUR",
            description=long,
        )  # fmt: skip
    return items


@pytest.fixture(scope="session")
def lists(catalogue: dict[str, Item]) -> list[RankingList]:
    """Lists of 1 to 40 candidates; some histories are empty, some too long for the prompt."""
    rng = np.random.default_rng(1)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    made = []
    for n, (size, events) in enumerate([(12, 5), (40, 60), (1, 0), (7, 0), (25, 40), (3, 12)]):
        history = [
            Event(kind="search", query="rain jacket", time=now - timedelta(hours=events - i))
            if i % 7 == 3
            else Event(kind="click", item_id=f"p{rng.integers(60)}", time=now - timedelta(hours=events - i))
            for i in range(events)
        ]
        ids = [f"p{i}" for i in rng.permutation(60)[:size]]
        scores = sorted(rng.random(size).tolist(), reverse=True)
        made.append(
            RankingList(list_id=f"l{n}", user_id=f"u{n}", time=now, query="" if n == 3 else "blue wool coat",
                        context=CONTEXTS[n % 3], history=history, candidates=ids, scores=scores)
        )  # fmt: skip
    return made


@pytest.fixture(scope="session")
def reranker_folder(tmp_path_factory: pytest.TempPathFactory, catalogue: dict[str, Item]) -> Path:
    """A reranker folder as finetuning leaves it."""
    levels = FeatureLevels({"first_stage": [0.1, 0.4, 0.8]})
    return make_reranker(tmp_path_factory.mktemp("inference"), [item.title for item in catalogue.values()], levels)


def make_reranker(folder: Path, titles: list[str], levels: FeatureLevels) -> Path:
    """A reranker that reads these features, in `folder / "model"`."""
    _tiny_base(folder / "base", titles)
    model_config = ModelConfig(base=str(folder / "base"), dtype="float32")
    model, tokenizer = load_base(model_config, "cpu")
    torch.manual_seed(3)
    model = add_lora(model, LoraConfig(rank=4, alpha=8, dropout=0.0))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    prompt = PromptConfig(
        template="plain", features=list(levels.edges), context=["device", "instruction"], context_tokens=8,
        history_tokens=160, item_tokens=48,
    )  # fmt: skip
    attach_head(model.get_base_model(), *PromptBuilder(tokenizer, prompt, {}, levels).label_ids)
    calibration = Calibration("platt", slope=0.8, intercept=-0.3)
    spec = RerankerSpec(model_config, prompt, levels, calibration=calibration)
    save_reranker(folder / "model", model, tokenizer, spec)
    return folder / "model"


@pytest.fixture(scope="session")
def other_folder(reranker_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another reranker over the same base."""
    folder = tmp_path_factory.mktemp("inference") / "other"
    shutil.copytree(reranker_folder, folder)
    weights = folder / "adapter" / "adapter_model.safetensors"
    save_file({name: -2 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    return folder


def _tiny_base(folder: Path, texts: list[str]) -> None:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([*texts, *["yes no history query product clicked searched"] * 50], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<|endoftext|>", eos_token="<|im_end|>")
    torch.manual_seed(2)
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=1024, tie_word_embeddings=True,
        initializer_range=0.2, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )  # fmt: skip
    Qwen3ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
