"""A tiny shop and a tiny untrained base for all finetuning tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from reshelf.data.dataset_folder import RankingData, load_dataset_folder
from reshelf.data.marketplace import MarketplaceConfig, simulate_folder
from reshelf.finetune.config import FinetuneConfig, OptimizerConfig
from reshelf.finetune.pretraining.pretrain import ShapeConfig, new_model
from reshelf.finetune.pretraining.session_text import LoggedSource, vocabulary_text
from reshelf.finetune.pretraining.tokenizer import train_tokenizer
from reshelf.modeling.config import LoraConfig, ModelConfig
from reshelf.prompts.config import PromptConfig

sys.path.insert(0, str(Path(__file__).parent))  # for loss_cases

SHAPE = ShapeConfig(hidden=64, layers=2, heads=2, intermediate=128, vocabulary=700)


def short_prompt() -> PromptConfig:
    return PromptConfig(
        template="plain",
        fields=["title", "price_level"],
        event_fields=["title"],
        event_gaps=False,
        history_tokens=60,
        history_block=2,
    )


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are slower on two threads, and many times slower where those wait for a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    config = MarketplaceConfig(
        out=folder, seed=5, items_per_category=12, train_lists=24, valid_lists=10, test_lists=6, candidates=8
    )
    simulate_folder(config)
    return folder


@pytest.fixture(scope="session")
def data(shop: Path) -> RankingData:
    return load_dataset_folder(shop)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, data: RankingData) -> Path:
    folder = tmp_path_factory.mktemp("base")
    tokenizer = train_tokenizer(vocabulary_text([LoggedSource(data)], short_prompt()), SHAPE.vocabulary)
    model = new_model(SHAPE, tokenizer, seed=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def config(shop: Path, base: Path, tmp_path: Path) -> FinetuneConfig:
    return short_run(shop, base, tmp_path / "model")


def short_run(shop: Path, base: Path, out: Path) -> FinetuneConfig:
    """Two epochs of four steps each, with dropout and drawn candidates, so that every source of chance is in play."""
    return FinetuneConfig(
        data=shop,
        out=out,
        model=ModelConfig(base=str(base), dtype="float32"),
        lora=LoraConfig(rank=4, alpha=8, dropout=0.1),
        prompt=short_prompt(),
        optimizer=OptimizerConfig(learning_rate=5e-3, lists_per_step=6, epochs=2),
        max_candidates=5,
        eval_every=3,
    )
