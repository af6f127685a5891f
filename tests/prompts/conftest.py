"""Tiny tokenizers of several kinds and a small catalogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reshelf.data.schema import Event, EventKind, Item
from reshelf.finetune.pretraining.tokenizer import CONTROL, train_tokenizer

TEXT = (
    "Nordvik red oak chair, large (new) yes no history ; viewed clicked carted bought searched rated query: product:",
    "by , description category attributes colour: material: rating price first_stage 0 1 2 3 4 5 6 7 8 9 20 =>",
    "历史 浏览 点击 加购 购买 搜索 评分 查询 商品 品牌 价格 类目 属性 描述 红色 橡木 椅子 天 星 $ $$ $$$ $$$$ $$$$$",
    "system user assistant Judge whether the Document meets the requirements based on the Query and the Instruct",
    "Given what a shopper did before and searches for now, judge whether the shopper will want the product.",
    "provided. of | <>&#!?.-/%",
)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def bytes_tokenizer() -> PreTrainedTokenizerFast:
    """The project's own: byte-level BPE with Qwen3's control tokens, all special."""
    return train_tokenizer(list(TEXT) * 20, 700)


@pytest.fixture(scope="session")
def plain_added() -> PreTrainedTokenizerFast:
    """Byte-level BPE as Qwen3's: <think> and the like are added but NOT special; with a start token."""
    tokenizer = train_tokenizer(list(TEXT) * 20, 700)
    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.add_tokens([AddedToken(name, special=False, normalized=False) for name in ("<tool_call>", "</tool_call>")])
    backend.add_tokens([AddedToken("№", special=False)])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", bos_token="<|endoftext|>")
    assert "<tool_call>" not in wrapped.all_special_tokens
    return wrapped


@pytest.fixture(scope="session")
def folding() -> PreTrainedTokenizerFast:
    """Byte-level BPE that normalises text (NFKC, lower case) before it looks for its added tokens."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator(list(TEXT) * 20, trainer)
    backend.add_tokens([AddedToken(name, special=False, normalized=True) for name in CONTROL])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>")


@pytest.fixture(scope="session")
def unigram() -> PreTrainedTokenizerFast:
    """Like SentencePiece: a unigram model that marks spaces, and has an unknown token."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=260, special_tokens=["<unk>", "<s>", "</s>", *CONTROL], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(list(TEXT) * 20, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<|endoftext|>"
    )


@pytest.fixture(params=["bytes_tokenizer", "plain_added", "folding", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    """Each kind in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="session")
def items() -> dict[str, Item]:
    """A catalogue with full, bare and Chinese records."""
    full = Item(
        item_id="chair", title="red oak chair, large (new)", brand="Nordvik", price=129.0, currency="EUR",
        price_level=4, rating=4.25, rating_count=12, category=("Home", "Chairs"),
        attributes={"colour": "red", "material": "oak"}, description="A red chair. From Nordvik!",
    )  # fmt: skip
    bare = Item(item_id="oak", title="oak")
    chinese = Item(item_id="椅子", title="红色橡木椅子", brand="北欧", price=99.5, currency="CNY", price_level=1)
    return {item.item_id: item for item in (full, bare, chinese)}


@pytest.fixture(scope="session")
def clicks() -> Callable[[Sequence[str]], tuple[Event, ...]]:
    """`clicks(["chair", "oak"])`: one click a day."""

    def make(ids: Sequence[str]) -> tuple[Event, ...]:
        return tuple(Event(kind=EventKind.CLICK, item_id=i, time=START + timedelta(days=n)) for n, i in enumerate(ids))

    return make
