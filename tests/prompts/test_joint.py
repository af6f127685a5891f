"""Joint candidates: the prefix ends with the list, and all else is as it is for independent ones."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from reshelf.data.schema import Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.levels import FeatureLevels

LEVELS = FeatureLevels({"first_stage": [1.0, 3.0]})


def ranking(**changes: Any) -> RankingList:
    return RankingList(**({"list_id": "l", "user_id": "u", "query": "oak chair"} | changes))


def both(tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], room: int) -> tuple[PromptBuilder, PromptBuilder]:
    config = PromptConfig(template="plain", features=["first_stage"], list_tokens=room)
    alone, joint = (PromptBuilder(tokenizer, config, items, LEVELS, joint=joint) for joint in (False, True))
    return alone, joint


@pytest.mark.parametrize("order", [("chair", "oak", "椅子"), ("椅子", "oak", "chair")])
def test_the_whole_list_in_its_order(
    order: tuple[str, ...], bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
) -> None:
    asked = ranking(candidates=order, scores=(3.0, 2.0, 1.0))
    apart, beside = (one.build(asked) for one in both(bytes_tokenizer, items, 4000))
    assert [a.tolist() for a in apart.items] == [b.tolist() for b in beside.items]
    size = len(apart.prefix)
    assert beside.prefix[:size].tolist() == apart.prefix.tolist()
    assert beside.listed == len(beside.prefix) - size
    listed = bytes_tokenizer.decode(beside.prefix[size:])
    texts = [bytes_tokenizer.decode(ids).split(" first_stage")[0] for ids in beside.items]
    assert listed == "".join(texts)
    assert beside.truncated.list_tokens == 0
    assert apart.listed == 0


def test_what_does_not_fit_is_cut_alike(bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]) -> None:
    asked = ranking(candidates=("chair", "oak", "椅子"), scores=(3.0, 2.0, 1.0))
    apart, whole = (one.build(asked) for one in both(bytes_tokenizer, items, 4000))
    cut = both(bytes_tokenizer, items, 62)[1].build(asked)
    assert [a.tolist() for a in cut.items] == [b.tolist() for b in whole.items], "what is judged stays whole"
    assert cut.listed <= 62
    assert cut.truncated.list_tokens == whole.listed - cut.listed > 0
    text = bytes_tokenizer.decode(cut.prefix[len(apart.prefix) :])
    assert text.startswith("product: red oak ch")
    assert text.count("product:") == 3
    assert "\ufffd" not in text


def test_more_candidates_than_tokens_are_refused(
    bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
) -> None:
    builder = both(bytes_tokenizer, items, 2)[1]
    asked = ranking(candidates=("chair", "oak", "椅子"), scores=(3.0, 2.0, 1.0))
    for read in (builder.build, builder.check):
        with pytest.raises(InputError, match=r"field candidates: 3, more than prompt\.list_tokens \(2\)"):
            read(asked)
