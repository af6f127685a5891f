"""What has no room in the history is counted before it."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from reshelf.data.schema import Event, EventKind, Item
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from tests.prompts.test_builder import ranking, text


@pytest.mark.parametrize(
    ("template", "language", "line"),
    [
        ("plain", "en", "earlier , brand Nord 6 Sol 2 , leaf Mug 8 , price_level $$ 4 ;\n"),
        ("plain", "zh", "此前 , 品牌 Nord 6 Sol 2 , 类目 Mug 8 , 价位 $$ 4 ;\n"),
        ("qwen3", "en", "- earlier: | brand: Nord ×6 Sol ×2 | category: Mug ×8 | price level: $$ ×4 ;\n"),
        ("qwen3", "zh", "- 此前: | 品牌: Nord ×6 Sol ×2 | 类目: Mug ×8 | 价位: $$ ×4 ;\n"),
    ],
)
def test_what_has_no_room_in_the_history_is_counted_before_it(
    template: Any, language: Any, line: str, bytes_tokenizer: PreTrainedTokenizerFast
) -> None:
    """And the line changes only when events are dropped: between two blocks the prefix stays as it is."""
    items = {
        str(n): Item(item_id=str(n), title="oak", brand="Sol" if n % 4 == 0 else "Nord", category=("A", "Mug"),
                     price_level=2 - n % 2)
        for n in range(4)
    }  # fmt: skip
    kinds = [EventKind.PURCHASE, EventKind.CLICK]
    events = [Event(kind=kinds[n % 2], item_id=str(n % 4)) for n in range(24)]
    size = len(bytes_tokenizer.encode("- put in the cart: oak ;\n"))
    config = PromptConfig(
        template=template, language=language, event_fields=["title"], history_tokens=5 * size, history_block=4,
        event_tokens=size, memory_tokens=64,
    )  # fmt: skip
    builder = PromptBuilder(bytes_tokenizer, config, items)
    prompts = [builder.build(ranking(candidates=("0",), history=events[:n])) for n in range(25)]
    texts = [text(bytes_tokenizer, prompt.prefix) for prompt in prompts]
    dropped = [prompt.truncated.events for prompt in prompts]
    assert line in texts[dropped.index(8)]
    assert all((line[:4] in one) == (n > 0) for one, n in zip(texts, dropped, strict=True))
    tail = len(builder.build(ranking(candidates=("0",))).prefix) - len(builder._head)
    for n in range(1, 25):
        before, now = (one.prefix[:-tail].tolist() for one in prompts[n - 1 : n + 1])
        assert (now[: len(before)] == before) == (dropped[n] == dropped[n - 1])
    assert max(len(one.prefix) + len(one.items[0]) for one in prompts) <= builder.longest
    with pytest.raises(InputError, match=r"prompt\.memory_tokens is 65; give a number from 0 to 64"):
        PromptConfig(memory_tokens=65)
