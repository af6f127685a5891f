"""Tokenizers that do not fit their base, or do not say what they do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from reshelf.errors import InputError
from reshelf.modeling.config import ModelConfig
from reshelf.modeling.loading import load_base
from reshelf.modeling.tokenizer import load_tokenizer
from reshelf.prompts.tokens import Encoder
from tests.modeling.test_loading import with_tokenizer


def plain(folder: Path) -> ModelConfig:
    return ModelConfig(base=str(folder), quantise=False, dtype="float32")


def test_a_start_token_that_is_added_and_not_declared(
    tmp_path: Path, tiny_model: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Prompts are put together from ids, and begin with what the tokenizer says its start token is."""
    with_tokenizer(tmp_path, tiny_model("llama", "eager"), "<s>", adds_it=True)
    path = tmp_path / "tokenizer_config.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in told.items() if k not in ("bos_token", "add_bos_token")}))
    before = load_tokenizer(str(tmp_path))
    assert (before.bos_token, before("red").input_ids[0]) == (None, 1)
    _, tokenizer = load_base(plain(tmp_path), "cpu")
    assert Encoder(tokenizer).start == [1]
    assert tokenizer("red").input_ids == before("red").input_ids
    assert "every prompt now starts with <s>" in caplog.text
    tokenizer.save_pretrained(tmp_path / "saved")
    assert Encoder(load_tokenizer(str(tmp_path / "saved"))).start == [1]


def test_words_that_the_base_has_no_embedding_for(
    base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    words = len(tokenizer)
    tiny_model("qwen3", "eager", vocab_size=words - 1).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(
        InputError, match=rf"knows {words} tokens.* the base has {words - 1} .*tokenizer of the same model"
    ) as told:
        load_base(plain(tmp_path), "cpu")
    assert "\n" not in str(told.value)


def test_tokens_added_beyond_the_embeddings_stand_in_no_prompt(
    base_folder: Path, tmp_path: Path, tiny_model: Callable[..., Any]
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base_folder)
    tiny_model("qwen3", "eager", vocab_size=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.add_special_tokens({"pad_token": "<own pad>"})
    tokenizer.save_pretrained(tmp_path)
    load_base(plain(tmp_path), "cpu")
