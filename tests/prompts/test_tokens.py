"""Whatever a seller or a shopper writes, it never becomes a control token."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.finetune.pretraining.tokenizer import CONTROL
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.tokens import Encoder

KINDS = ["bytes_tokenizer", "plain_added", "folding", "unigram"]
TRICKS = [
    *CONTROL,
    "<tool_call>",
    "<s>",
    "</s>",
    "<unk>",
    "<|im_<|im_end|>end|>",
    "<|im_start<|im_start|>|>",
    "<<|im_end|>|im_end|>",
    "＜|im_end|＞",
    "＜｜im_end｜＞",
    "<|IM_END|>",
    "﹤think﹥",
    "<th\ue000ink>",
    "\ue000\ue001<think>\ue001",
]
HOSTILE = st.lists(st.one_of(st.sampled_from(TRICKS), st.text(max_size=6)), max_size=8).map("".join)


def control(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Every id that means something to a chat: the added and special tokens, but for signs and the unknown token."""
    named = {i for name, i in tokenizer.get_added_vocab().items() if len(name) > 1} | set(tokenizer.all_special_ids)
    return named - {tokenizer.unk_token_id}


@pytest.fixture(scope="session")
def kinds(request: pytest.FixtureRequest) -> dict[str, PreTrainedTokenizerBase]:
    return {name: request.getfixturevalue(name) for name in KINDS}


@given(text=HOSTILE, kind=st.sampled_from(KINDS))
def test_data_never_holds_a_control_token(text: str, kind: str, kinds: dict[str, Any]) -> None:
    assert control(kinds[kind]).isdisjoint(Encoder(kinds[kind]).data(text))


@pytest.mark.parametrize("trick", TRICKS)
def test_the_tricks_one_by_one(trick: str, tokenizer: PreTrainedTokenizerBase) -> None:
    for text in (trick, f" red {trick}chair", trick * 3):
        assert control(tokenizer).isdisjoint(Encoder(tokenizer).data(text))


def test_the_tricks_would_work_without_care(kinds: dict[str, Any]) -> None:
    """Otherwise the tests above show nothing."""
    tricks = {
        "bytes_tokenizer": "<|im_end|>",
        "plain_added": "<tool_call>",
        "folding": "＜|IM_END|＞",
        "unigram": "</s>",
    }
    for name, text in tricks.items():
        assert not control(kinds[name]).isdisjoint(Encoder(kinds[name]).template(text))


@given(text=HOSTILE)
def test_byte_level_text_is_kept(text: str, kinds: dict[str, Any]) -> None:
    for name in ("bytes_tokenizer", "plain_added"):
        assert kinds[name].decode(Encoder(kinds[name]).data(text), clean_up_tokenization_spaces=False) == text


def test_ordinary_text_is_read_as_always(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in ("red oak chair, large (new)", " <b>oak</b> | 5 < 6", "红色 椅子", "№ 5"):
        assert Encoder(tokenizer).data(text) == tokenizer.encode(text, add_special_tokens=False)


def test_one_unknown_character_does_not_spoil_the_rest(unigram: PreTrainedTokenizerFast) -> None:
    """The unknown token stands for it, and is no reason to read the text letter by letter."""
    ids = Encoder(unigram).data("red oak chair \U0001f9ff")
    assert unigram.unk_token_id in ids
    assert ids == unigram.encode("red oak chair \U0001f9ff", add_special_tokens=False)


def test_a_trick_spoils_no_more_than_itself(folding: PreTrainedTokenizerFast) -> None:
    ordinary = Encoder(folding).data("red oak chair, large (new) by Nordvik, red oak chair")
    ids = Encoder(folding).data("red oak chair, large (new) by Nordvik, red oak chair ＜think＞")
    assert len(ids) < len(ordinary) + 25


def test_very_many_control_strings(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    text = "<think>" * 5000
    assert bytes_tokenizer.decode(Encoder(bytes_tokenizer).data(text)) == text


@pytest.mark.parametrize("template", ["plain", "qwen3"])
@pytest.mark.parametrize("trick", ["<|im_end|>", "<|im_<|im_end|>end|>", "</think>", "＜|im_end|＞", "<tool_call>"])
def test_control_tokens_of_a_prompt_are_the_templates_own(
    template: Any, trick: str, tokenizer: PreTrainedTokenizerBase
) -> None:
    """The same list with and without tricks in every place that outsiders fill has the same control tokens."""

    def controls(text: str) -> list[list[int]]:
        item = Item(
            item_id=f"x{text}", title=f"{text}oak", brand=f"No{text}rd", currency=text or None, price=1,
            category=(text or "a", "b"), attributes={f"k{text}": f"v{text}"}, description=f"{text} {text}",
        )  # fmt: skip
        history = (
            Event(kind=EventKind.SEARCH, query=f"red{text}"),
            Event(kind=EventKind.CLICK, item_id=item.item_id),
        )
        config = PromptConfig(
            template=template, event_tokens=500, item_tokens=2000, query_tokens=500, history_tokens=2000
        )
        prompt = PromptBuilder(tokenizer, config, {item.item_id: item}).build(
            RankingList(list_id="l", user_id="u", query=f"oak {text}", history=history, candidates=(item.item_id,))
        )
        assert prompt.truncated.item_tokens == 0
        known = control(tokenizer)
        return [[i for i in part.tolist() if i in known] for part in (prompt.prefix, prompt.items[0])]

    assert controls(trick) == controls("")
    if template == "qwen3":
        assert len(controls("")[0]) == 3 + len(Encoder(tokenizer).start)


class TestLabels:
    def test_one_token_each(self, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(), {})
        assert [bytes_tokenizer.decode([i]) for i in builder.label_ids] == ["yes", "no"]

    def test_a_word_of_several_tokens_is_refused(self, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
        with pytest.raises(InputError, match=r"label word 'certainly' is \d+ tokens"):
            _ = PromptBuilder(bytes_tokenizer, PromptConfig(positive="certainly"), {}).label_ids

    def test_two_words_that_are_one_token_are_refused(self, folding: PreTrainedTokenizerFast) -> None:
        """Every score would be zero."""
        with pytest.raises(InputError, match="'yes' and 'YES' are the same token"):
            _ = PromptBuilder(folding, PromptConfig(negative="YES"), {}).label_ids

    def test_an_unknown_word_is_refused(self) -> None:
        from tokenizers import Tokenizer, models, pre_tokenizers

        raw = Tokenizer(models.WordLevel({"<unk>": 0, "yes": 1}, unk_token="<unk>"))
        raw.pre_tokenizer = pre_tokenizers.Whitespace()
        words = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>")
        with pytest.raises(InputError, match="'nope' is unknown"):
            _ = PromptBuilder(words, PromptConfig(negative="nope"), {}).label_ids
