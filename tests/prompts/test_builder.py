"""What a list looks like to the model, what is truncated, and what never is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from reshelf.data.price_levels import with_price_levels
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import FIELDS, PromptConfig
from reshelf.prompts.fields import field_text
from reshelf.prompts.levels import TOP, FeatureLevels
from reshelf.prompts.list_prompt import Truncated

Clicks = Callable[[Sequence[str]], tuple[Event, ...]]
NOW = datetime(2027, 1, 1, tzinfo=UTC)


def ranking(**changes: Any) -> RankingList:
    return RankingList(**({"list_id": "l", "user_id": "u", "query": "oak chair", "candidates": ("chair",)} | changes))


def text(tokenizer: PreTrainedTokenizerBase, ids: np.ndarray) -> str:
    return str(tokenizer.decode(ids.tolist(), skip_special_tokens=False))


STORY = (
    Event(kind=EventKind.SEARCH, query="red chair", time=datetime(2026, 1, 1, tzinfo=UTC)),
    Event(kind=EventKind.VIEW, item_id="oak", time=datetime(2026, 1, 1, 1, tzinfo=UTC)),
    Event(kind=EventKind.PURCHASE, item_id="chair", time=datetime(2026, 1, 4, tzinfo=UTC)),
    Event(kind=EventKind.RATING, item_id="chair", value=4.5, time=datetime(2026, 1, 5, tzinfo=UTC)),
)
SYSTEM = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
)
ANSWER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
GOLDEN = {
    ("plain", "en"): (
        "history ;\nsearched red chair ;\nviewed oak ;\n"
        "bought red oak chair, large (new) by Nordvik 129 EUR +2 days ;\n"
        "rated red oak chair, large (new) by Nordvik 129 EUR 4.5 stars +1 days ;\nquery: oak chair ;\n",
        "product: red oak chair, large (new) by Nordvik 129 EUR $$$$ , rating 4.2/5 (12) , category Home > Chairs"
        " , attributes colour: red, material: oak , description A red chair. From Nordvik! first_stage 1 =>",
    ),
    ("plain", "zh"): (
        "历史 ;\n搜索 red chair ;\n浏览 oak ;\n购买 red oak chair, large (new) , 品牌 Nordvik , 价格 129 EUR +2 天 ;\n"
        "评分 red oak chair, large (new) , 品牌 Nordvik , 价格 129 EUR 4.5 星 +1 天 ;\n查询: oak chair ;\n",
        "商品: red oak chair, large (new) , 品牌 Nordvik , 价格 129 EUR $$$$ , 评分 4.2/5 (12) , 类目 Home > Chairs"
        " , 属性 colour: red, material: oak , 描述 A red chair. From Nordvik! first_stage 1 =>",
    ),
    ("qwen3", "en"): (
        SYSTEM
        + "<Instruct>: Given what a shopper did before and searches for now, judge whether the shopper will want "
        "the product.\n\n<History>:\n- searched for: red chair ;\n- viewed: oak ;\n"
        "- bought: red oak chair, large (new) | brand: Nordvik | price: 129 EUR | 2 days later ;\n"
        "- rated: red oak chair, large (new) | brand: Nordvik | price: 129 EUR | 4.5 stars | 1 days later ;\n"
        "<Query>: oak chair ;\n\n",
        "<Document>: red oak chair, large (new) | brand: Nordvik | price: 129 EUR | price level: $$$$"
        " | rating: 4.2/5 (12) | category: Home > Chairs | attributes: colour: red, material: oak"
        " | description: A red chair. From Nordvik! | first_stage: 1 of 20" + ANSWER,
    ),
    ("qwen3", "zh"): (
        SYSTEM + "<Instruct>: 根据顾客以往的行为和当前的搜索,判断顾客是否会想要该商品。\n\n<History>:\n"
        "- 搜索: red chair ;\n- 浏览: oak ;\n"
        "- 购买: red oak chair, large (new) | 品牌: Nordvik | 价格: 129 EUR | 2 天后 ;\n"
        "- 评分: red oak chair, large (new) | 品牌: Nordvik | 价格: 129 EUR | 4.5 星 | 1 天后 ;\n"
        "<Query>: oak chair ;\n\n",
        "<Document>: red oak chair, large (new) | 品牌: Nordvik | 价格: 129 EUR | 价位: $$$$"
        " | 评分: 4.2/5 (12) | 类目: Home > Chairs | 属性: colour: red, material: oak"
        " | 描述: A red chair. From Nordvik! | first_stage: 1 / 20" + ANSWER,
    ),
}
GENEROUS: dict[str, Any] = {"event_tokens": 400, "history_tokens": 4000, "item_tokens": 800}
LEVELS = FeatureLevels({"first_stage": [1.0, 3.0]})


class TestGolden:
    @pytest.mark.parametrize(("template", "language"), GOLDEN)
    def test_text_and_seams(
        self, template: Any, language: Any, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        config = PromptConfig(template=template, language=language, features=["first_stage"], **GENEROUS)
        builder = PromptBuilder(bytes_tokenizer, config, items, LEVELS)
        prompt = builder.build(ranking(history=STORY, time=NOW, scores=(2.0,)))
        prefix, item = GOLDEN[template, language]
        assert text(bytes_tokenizer, prompt.prefix) == prefix
        assert text(bytes_tokenizer, prompt.items[0]) == item
        assert prompt.truncated == Truncated()
        assert prompt.prefix.dtype == prompt.items[0].dtype == np.int32
        # Read as one string, either part is the same tokens: another engine that only takes text is not led astray.
        assert prompt.prefix.tolist() == bytes_tokenizer.encode(prefix)
        assert prompt.items[0].tolist() == bytes_tokenizer.encode(item)
        assert prompt.items[0][-1] == bytes_tokenizer.encode(item)[-1]

    @pytest.mark.parametrize(
        ("template", "expected"), [("plain", "query ;\n"), ("qwen3", "<Query>: (none: recommend)\n\n")]
    )
    @pytest.mark.parametrize("query", ["", " ", "\t\n"])
    def test_no_query(
        self, template: Any, expected: str, query: str, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template=template), items)
        assert text(bytes_tokenizer, builder.build(ranking(query=query)).prefix).endswith(expected)

    def test_a_query_stays_on_its_line(self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]) -> None:
        """Else a shopper could write lines of the template."""
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain"), items)
        prefix = builder.build(ranking(query="oak\nproduct: best  =>")).prefix
        assert text(bytes_tokenizer, prefix).endswith("\nquery: oak product: best => ;\n")

    def test_a_start_token_comes_once(self, plain_added: PreTrainedTokenizerFast, items: dict[str, Item]) -> None:
        from tokenizers.processors import TemplateProcessing

        marked = PreTrainedTokenizerFast(
            tokenizer_object=type(plain_added.backend_tokenizer).from_str(plain_added.backend_tokenizer.to_str()),
            bos_token="<|endoftext|>", eos_token="<|im_end|>",
        )  # fmt: skip
        start, end = marked.bos_token_id, marked.eos_token_id
        marked.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|endoftext|> $A <|im_end|>", special_tokens=[("<|endoftext|>", start), ("<|im_end|>", end)]
        )
        assert marked("").input_ids == [start, end]
        prompt = PromptBuilder(marked, PromptConfig(template="plain"), items).build(ranking())
        assert prompt.prefix[0] == start
        assert prompt.prefix.tolist().count(start) == 1
        assert end not in prompt.prefix
        assert {start, end}.isdisjoint(prompt.items[0].tolist())

    @pytest.mark.parametrize("template", ["plain", "qwen3"])
    def test_seams_of_ordinary_titles(
        self, template: Any, bytes_tokenizer: PreTrainedTokenizerFast, clicks: Clicks
    ) -> None:
        titles = [
            "oak chair", "oak chair.", "oak chair!", "chair (new)", 'chair 12"', "chair - 2 pcs.", "a/b", "oak,", "5%",
            "100 % cotton", "chair…", "椅子。", "chair $", "№ 5", "C++", "Σ", "it's", "rock'n'roll;", "chair ;", "🪑",
        ]  # fmt: skip
        many = {str(n): Item(item_id=str(n), title=title, brand=title, price=3) for n, title in enumerate(titles)}
        config = PromptConfig(template=template, event_tokens=200)
        prompt = PromptBuilder(bytes_tokenizer, config, many).build(
            ranking(query="oak chair!", candidates=tuple(many), history=clicks(list(many)))
        )
        parts = [prompt.prefix, *prompt.items]
        unlike = [
            text(bytes_tokenizer, p) for p in parts if bytes_tokenizer.encode(text(bytes_tokenizer, p)) != p.tolist()
        ]
        assert unlike == []


class TestPrefix:
    def test_it_never_depends_on_candidates(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain"), items)
        base = ranking(history=clicks(["chair", "oak"]))
        others = [base.model_copy(update={"candidates": c}) for c in (("oak",), ("椅子", "chair"), ("oak", "椅子"))]
        expected = builder.build(base).prefix.tolist()
        assert all(builder.build(other).prefix.tolist() == expected for other in others)

    @given(ids=st.lists(st.sampled_from(["chair", "oak", "椅子"]), max_size=40), block=st.integers(1, 5))
    def test_appending_an_event_changes_nothing_before_it(
        self,
        ids: list[str],
        block: int,
        bytes_tokenizer: PreTrainedTokenizerFast,
        items: dict[str, Item],
        clicks: Clicks,
    ) -> None:
        """Until a whole block is dropped: then exactly the oldest block goes, and again nothing else changes."""
        config = PromptConfig(template="plain", history_tokens=250, history_block=block, event_tokens=24)
        builder = PromptBuilder(bytes_tokenizer, config, items)
        query = bytes_tokenizer.encode("query: oak chair ;\n")
        before, dropped = None, 0
        for n in range(len(ids) + 1):
            prompt = builder.build(ranking(history=clicks(ids[:n])))
            assert prompt.prefix[-len(query) :].tolist() == query
            history = prompt.prefix[: -len(query)].tolist()
            if before is not None and prompt.truncated.events == dropped:
                assert history[: len(before)] == before
                assert len(history) > len(before)
            else:
                assert (prompt.truncated.events - dropped) % block == 0
            before, dropped = history, prompt.truncated.events

    def test_history_is_truncated_from_the_old_end_in_blocks(
        self, bytes_tokenizer: PreTrainedTokenizerFast, clicks: Clicks
    ) -> None:
        many = {f"{n}": Item(item_id=f"{n}", title=f"oak {n}") for n in range(20)}
        size = len(bytes_tokenizer.encode("clicked oak 7 +1 days ;\n"))
        config = PromptConfig(template="plain", history_tokens=10 * size, history_block=4, event_tokens=size)
        builder = PromptBuilder(bytes_tokenizer, config, many)
        for events, dropped in ((9, 0), (10, 0), (11, 4), (13, 4)):
            prompt = builder.build(ranking(candidates=("0",), history=clicks([str(n % 10) for n in range(events)])))
            lines = text(bytes_tokenizer, prompt.prefix).split("\n")[1:-2]
            assert prompt.truncated.events == dropped
            assert [int(line.split()[2]) for line in lines] == [n % 10 for n in range(dropped, events)]

    def test_a_block_larger_than_the_budget_leaves_the_newest_events(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        size = len(bytes_tokenizer.encode("clicked oak +1 days ;\n"))
        config = PromptConfig(template="plain", history_tokens=3 * size, history_block=8, event_tokens=size)
        prompt = PromptBuilder(bytes_tokenizer, config, items).build(ranking(history=clicks(["oak"] * 5)))
        assert prompt.truncated.events == 2
        assert text(bytes_tokenizer, prompt.prefix).count("clicked oak") == 3

    def test_a_query_over_its_budget_loses_its_end_and_is_counted(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        query = "oak chair 椅子 " * 9
        size = len(bytes_tokenizer.encode(" " + query.strip()))
        for room in (size, size - 1, size // 2, 1):
            builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain", query_tokens=room), items)
            prompt = builder.build(ranking(query=query))
            builder.check(ranking(query=query))
            line = text(bytes_tokenizer, prompt.prefix).split("query:")[1]
            kept = line.removesuffix("\n").removesuffix(" ;")
            assert (" " + query.strip()).startswith(kept), "never ends inside a character"
            lost = prompt.truncated.query_tokens
            assert size - room <= lost <= min(size, size - room + 3)
            assert len(prompt.prefix) + len(prompt.items[0]) <= builder.longest

    def test_a_context_stands_before_the_query_behind_a_history_that_stays(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        config = PromptConfig(template="plain", context=["season", "device"], context_tokens=12)
        builder = PromptBuilder(bytes_tokenizer, config, items)
        of = {"device": "mobile", "season": " late \n winter", "page": "search"}
        prompts = [
            builder.build(ranking(history=clicks(["oak"]), context=context))
            for context in (of, {"device": "desktop"}, {}, {"season": "椅子" * 9, "device": " "})
        ]
        texts = [text(bytes_tokenizer, prompt.prefix) for prompt in prompts]
        assert texts[0].endswith("clicked oak ;\nseason: late winter ;\ndevice: mobile ;\nquery: oak chair ;\n")
        assert texts[1].endswith("clicked oak ;\ndevice: desktop ;\nquery: oak chair ;\n")
        assert texts[2].endswith("clicked oak ;\nquery: oak chair ;\n")
        assert "device" not in texts[3]
        assert prompts[3].truncated.context_tokens > 0 == prompts[0].truncated.context_tokens
        assert max(len(prompt.prefix) + len(prompt.items[0]) for prompt in prompts) <= builder.longest
        with pytest.raises(InputError, match=r"prompt.context: 'Two Words'"):
            PromptConfig(context=["Two Words"])

    def test_unknown_items_are_refused(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain"), items)
        with pytest.raises(InputError, match="list l, field candidates: item 'gone' is not in the catalogue"):
            builder.build(ranking(candidates=("oak", "gone")))
        with pytest.raises(InputError, match="list l, field history: item 'lost' is not in the catalogue"):
            builder.build(ranking(history=clicks(["oak", "lost"])))

    def test_no_time_no_gap(self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]) -> None:
        events = [Event(kind=EventKind.CLICK, item_id="oak") for _ in range(2)]
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain"), items)
        assert "days" not in text(bytes_tokenizer, builder.build(ranking(history=events)).prefix)
        apart = [e.model_copy(update={"time": NOW + n * timedelta(hours=23)}) for n, e in enumerate(events)]
        assert "days" not in text(bytes_tokenizer, builder.build(ranking(history=apart)).prefix)


class TestTruncation:
    def build(
        self, tokenizer: PreTrainedTokenizerBase, item: Item, room: int, template: Any = "plain"
    ) -> tuple[str, int, int]:
        """Text of the item's fields, tokens lost, and tokens kept."""
        config = PromptConfig(template=template, item_tokens=room)
        prompt = PromptBuilder(tokenizer, config, {"x": item}).build(ranking(candidates=("x",)))
        found = text(tokenizer, prompt.items[0])
        start, end = ("product:", " =>") if template == "plain" else ("<Document>:", ANSWER)
        assert found.startswith(start)
        assert found.endswith(end), "the answer suffix is never cut"
        fixed = len(tokenizer.encode(start)) + len(tokenizer.encode(end))
        return found.removeprefix(start).removesuffix(end), prompt.truncated.item_tokens, len(prompt.items[0]) - fixed

    @pytest.mark.parametrize("template", ["plain", "qwen3"])
    @pytest.mark.parametrize("name", ["chair", "椅子"])
    def test_long_fields_go_first_and_the_title_last(
        self, template: Any, name: str, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        item = items[name]
        whole, lost, total = self.build(bytes_tokenizer, item, 500, template)
        assert lost == 0
        shorts = [text for text in (field_text(item, f) for f in ("price", "price_level", "rating")) if text]
        assert all(value in whole for value in (item.title, item.brand or "", *shorts))
        labels = ("|", " ,", " by", *(f" , {f}" for f in FIELDS), *(f"| {f.replace('_', ' ')}:" for f in FIELDS))
        for room in range(1, total + 1):
            found, lost, kept = self.build(bytes_tokenizer, item, room, template)
            assert kept <= room
            assert lost == total - kept
            assert "\ufffd" not in found, "no character is cut in two"
            # A field is only touched when all those after it are gone.
            assert whole.startswith(found)
            assert not found.endswith(labels), f"a label without a value: {found}"
            for short in shorts:
                start = whole.find(short)
                assert not start < len(found) < start + len(short), f"{short} is written whole or not at all: {found}"

    def test_events_are_cut_the_same_way(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item], clicks: Clicks
    ) -> None:
        line = " red oak chair, large (new) by Nordvik 129 EUR"
        total = len(bytes_tokenizer.encode(line))
        frame = len(bytes_tokenizer.encode("clicked")) + len(bytes_tokenizer.encode(" ;\n"))
        for room in range(1, total + 1):
            config = PromptConfig(template="plain", event_tokens=frame + room)
            prompt = PromptBuilder(bytes_tokenizer, config, items).build(ranking(history=clicks(["chair"])))
            found = text(bytes_tokenizer, prompt.prefix).split("\n")[1]
            assert found.startswith("clicked")
            assert found.endswith(" ;")
            inner = found.removeprefix("clicked").removesuffix(" ;")
            assert line.startswith(inner)
            assert not inner.endswith((" by", " 12", " 129"))
            kept = len(bytes_tokenizer.encode(inner))
            assert kept <= room
            assert prompt.truncated.event_tokens == total - kept

    def test_losses_of_all_candidates_are_counted(
        self, bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]
    ) -> None:
        builder = PromptBuilder(bytes_tokenizer, PromptConfig(template="plain", item_tokens=12), items)
        alone = [builder.build(ranking(candidates=(i,))).truncated.item_tokens for i in ("chair", "oak", "椅子")]
        assert alone[0] > 0
        assert alone[1] == 0
        assert builder.build(ranking(candidates=("chair", "oak", "椅子"))).truncated.item_tokens == sum(alone)


@given(
    titles=st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=5),
    query=st.text(max_size=20),
    room=st.integers(1, 40),
    template=st.sampled_from(["plain", "qwen3"]),
    joint=st.booleans(),
)
def test_no_prompt_is_longer_than_the_builder_says(
    titles: list[str],
    query: str,
    room: int,
    template: Any,
    joint: bool,
    bytes_tokenizer: PreTrainedTokenizerFast,
    clicks: Clicks,
) -> None:
    items = {str(n): Item(item_id=str(n), title=title, description=title * 3) for n, title in enumerate(titles)}
    config = PromptConfig(
        template=template, features=["f"], item_tokens=room, event_tokens=30, history_tokens=60, query_tokens=100,
        list_tokens=50,
    )  # fmt: skip
    levels = FeatureLevels({"f": [float(n) for n in range(TOP)]})
    builder = PromptBuilder(bytes_tokenizer, config, items, levels, joint=joint)
    values = tuple(float(n % (TOP + 1)) for n in range(len(items)))
    prompt = builder.build(
        ranking(query=query, candidates=tuple(items), history=clicks(list(items)), features={"f": values})
    )
    assert len(prompt.prefix) + max(map(len, prompt.items)) <= builder.longest


def test_the_bound_counts_the_longest_level(bytes_tokenizer: PreTrainedTokenizerFast, items: dict[str, Item]) -> None:
    """Levels are not all as many tokens as the highest one."""
    levels = FeatureLevels({"f": [float(n) for n in range(TOP)]})
    bare, full = (
        PromptBuilder(bytes_tokenizer, PromptConfig(template="plain", features=names), items, levels)
        for names in ([], ["f"])
    )
    base = len(bare.build(ranking()).items[0])
    extra = {len(full.build(ranking(features={"f": (float(n),)})).items[0]) - base for n in range(TOP + 1)}
    assert len(extra) > 1
    assert full.longest - bare.longest == max(extra)


PLAIN = PromptConfig(template="plain", item_tokens=20, event_tokens=16)


def test_a_candidate_is_written_at_the_price_of_its_lists_time(bytes_tokenizer: PreTrainedTokenizerFast) -> None:
    mugs = [
        Item(item_id=f"m{n}", title="mug", price=float(n), currency="EUR", category=("Mugs",)) for n in range(1, 11)
    ]
    builder = PromptBuilder(bytes_tokenizer, PromptConfig(), with_price_levels(mugs))
    own = ranking(candidates=("m1", "m10", "m4"))
    dated = own.model_copy(update={"prices": (9.0, None, 4.0)})
    texts = [text(bytes_tokenizer, ids) for ids in builder.build(dated).items]
    assert "price: 9 EUR | price level: $$$$$" in texts[0], "its price then, and the level of that price"
    assert "EUR" not in texts[1]
    assert "$" not in texts[1]
    assert texts[2] == text(bytes_tokenizer, builder.build(own).items[2])
    untouched = text(bytes_tokenizer, builder.build(own).items[0])
    assert "price: 1 EUR | price level: $ |" in untouched
