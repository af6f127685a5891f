"""What a builder keeps of texts it has tokenised: bounded, and never another catalogue's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from transformers import PreTrainedTokenizerFast

from reshelf.data.schema import Event, Item, RankingList
from reshelf.prompts import builder as builder_module
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig

Clicks = Callable[[Sequence[str]], tuple[Event, ...]]
PLAIN = PromptConfig(template="plain", item_tokens=20, event_tokens=16)


class TestBoundedCaches:
    def test_queries_and_events(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(builder_module, "EVENTS_KEPT", 5)
        monkeypatch.setattr(builder_module, "QUERIES_KEPT", 3)
        builder = PromptBuilder(bytes_tokenizer, PLAIN, items)
        rankings = [
            RankingList(
                list_id="l", user_id="u", query=f"oak {n}", candidates=("oak",),
                history=(Event(kind="search", query=f"red {n}"), Event(kind="rating", item_id="oak", value=n)),
            )
            for n in range(20)
        ]  # fmt: skip
        found = [builder.build(one).prefix.tolist() for one in rankings * 2]
        assert found[:20] == found[20:]
        assert len({tuple(ids) for ids in found}) == 20
        assert builder._event_ids.cache_info().currsize == 5
        assert builder._query_ids.cache_info().currsize == 3

    def test_they_are_bounded_by_default(self, bytes_tokenizer: PreTrainedTokenizerFast) -> None:
        builder = PromptBuilder(bytes_tokenizer, PLAIN, {})
        for one in (builder, builder.over({})):
            assert one._event_ids.cache_info().maxsize == builder_module.EVENTS_KEPT
            assert one._query_ids.cache_info().maxsize == builder_module.QUERIES_KEPT

    def test_a_builder_over_other_items_knows_only_those(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        listed = RankingList(
            list_id="l", user_id="u", query="oak chair", candidates=("oak",), history=clicks(["oak", "chair"])
        )
        builder = PromptBuilder(bytes_tokenizer, PLAIN, items)
        first = builder.build(listed)
        others = items | {"oak": Item(item_id="oak", title="red oak")}
        changed, expected = builder.over(others).build(listed), PromptBuilder(bytes_tokenizer, PLAIN, others)
        assert changed.prefix.tolist() == expected.build(listed).prefix.tolist() != first.prefix.tolist()
        assert changed.items[0].tolist() == expected.build(listed).items[0].tolist() != first.items[0].tolist()
        assert builder.build(listed).prefix.tolist() == first.prefix.tolist()


def test_price_levels_are_those_of_the_catalogue_at_hand(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    config = PromptConfig(template="plain", fields=["title", "price_level"])
    cheap, dear = (
        {f"p{n}": Item(item_id=f"p{n}", title="oak", price=scale * n) for n in range(1, 6)} for scale in (1, 100)
    )
    listed = RankingList(list_id="l", user_id="u", candidates=("p1",), prices=(2.5,))
    builder = PromptBuilder(bytes_tokenizer, config, cheap)
    first = builder.build(listed).items[0].tolist()
    expected = PromptBuilder(bytes_tokenizer, config, dear).build(listed).items[0].tolist()
    assert builder.over(dear).build(listed).items[0].tolist() == expected != first
