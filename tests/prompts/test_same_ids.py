"""The builder's caches, its one array per list and the file of item tokens change no token id.

The reference knows no cache: it fills in every part of the template anew, reads it piece by piece with one call each,
and joins lists of numbers.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import FIELDS, PromptConfig
from reshelf.prompts.fields import field_text, gap_days, number
from reshelf.prompts.item_tokens import ItemTokens, build_item_tokens
from reshelf.prompts.levels import FeatureLevels
from reshelf.prompts.list_prompt import Truncated
from reshelf.prompts.parts import Parts, template_source
from reshelf.prompts.tokens import Encoder

KINDS = ["bytes_tokenizer", "plain_added", "folding", "unigram"]
LONG = ("title", "brand", "category", "attributes", "description")
OPEN, CLOSE = "\ue000", "\ue001"
START = datetime(2026, 1, 1, tzinfo=UTC)


class Own(str):
    pass


class Reference:
    """The token ids of a list, as obvious as possible."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, items: dict[str, Item], levels: FeatureLevels
    ) -> None:
        self.tokenizer, self.config, self.items, self.levels = tokenizer, config, items, levels
        self.encoder = Encoder(tokenizer)

        def mark(value: Any) -> str:
            outside = str(value).replace(OPEN, "").replace(CLOSE, "")
            return str(value) if isinstance(value, Own) else f"{OPEN}{outside}{CLOSE}"

        environment = jinja2.Environment(finalize=mark, keep_trailing_newline=True)
        environment.filters["template"] = Own
        self.macros = environment.from_string(template_source(config)).module

    def own(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False)) if text else []

    def part(self, name: str, *values: Any) -> list[int]:
        ids: list[int] = []
        space = ""
        for n, piece in enumerate(str(getattr(self.macros, name)(*values)).split(OPEN)):
            outside, rest = piece.split(CLOSE) if n else ("", piece)
            if outside:
                ids += self.encoder.data(space + outside)
            else:
                ids += self.own(space) if n else []
            space = " " if rest.endswith(" ") else ""
            ids += self.own(rest.removesuffix(" "))
        return ids + self.own(space)

    def cut(self, ids: list[int], room: int) -> list[int]:
        for end in range(room, max(room - 4, -1), -1):
            if len(ids) > room and not self.tokenizer.decode(ids[:end]).endswith("\ufffd"):
                return ids[:end]
        return ids[:room]

    def fields(self, item: Item, names: list[str], room: int) -> tuple[list[int], int]:
        texts = [(name, field_text(item, name)) for name in names]
        fields = [(name, self.part("field", name, text)) for name, text in texts if text]
        size = sum(len(ids) for _, ids in fields)
        for n in reversed(range(len(fields))):
            now = sum(len(ids) for _, ids in fields)
            if now <= room:
                break
            name, ids = fields[n]
            kept = self.cut(ids, max(0, len(ids) - (now - room)))
            text = str(self.macros.field(name, ""))
            label = len(self.own(text[: text.index(OPEN)].removesuffix(" ")))
            fields[n] = name, kept if name in LONG and len(kept) > label else []
        flat = [i for _, ids in fields for i in ids]
        return flat, size - len(flat)

    def event(self, event: Event, before: Event | None) -> tuple[list[int], int]:
        head = self.part("event", event.kind.value)
        tail = []
        if event.kind == EventKind.RATING and event.value is not None:
            tail += self.part("rated", number(event.value))
        if self.config.event_gaps and gap_days(before, event):
            tail += self.part("gap", gap_days(before, event))
        tail += self.part("event_end")
        room = max(0, self.config.event_tokens - len(head) - len(tail))
        if event.kind == EventKind.SEARCH:
            query = self.part("searched", " ".join((event.query or "").split()))
            kept = self.cut(query, room)
            return head + kept + tail, len(query) - len(kept)
        kept, lost = self.fields(self.items[event.item_id or ""], self.config.event_fields, room)
        return head + kept + tail, lost

    def memory(self, events: list[Event]) -> list[int]:
        """Values of all fields in the order in which they are tried, then written by field as far as there is room."""
        if not self.config.memory_tokens:
            return []
        tried = []
        for place, name in enumerate(("brand", "leaf", "price_level")):
            texts = [
                field_text(self.items[e.item_id], name)
                for e in events
                if e.item_id is not None and (name != "price_level" or e.kind == EventKind.PURCHASE)
            ]
            latest = {text: n for n, text in enumerate(texts) if text}
            values = sorted(latest, key=lambda text: (-texts.count(text), -latest[text]))
            tried += [(n, place, name, text, texts.count(text)) for n, text in enumerate(values)]
        written: dict[str, list[int]] = {}
        frame = self.part("memory"), self.part("memory_end")
        room, full = self.config.memory_tokens - sum(map(len, frame)), set()
        for n, _, name, text, count in sorted(tried):
            before, after = str(self.macros.count(text, count)).split(CLOSE)
            data = self.encoder.data(f" {before.split(OPEN)[1]}")
            ids = ([] if n else self.part("counted", name)) + self.cut(data, 8) + self.own(after)
            if name in full or len(ids) > room:
                full.add(name)
                continue
            written[name] = written.get(name, []) + ids
            room -= len(ids)
        line = [i for name in ("brand", "leaf", "price_level") for i in written.get(name, [])]
        return frame[0] + line + frame[1] if line else []

    def level(self, level: int) -> str:
        return "ABCDEFGHIJKLMNOPQRSTU"[level] if self.config.level_format == "letter" else f"{level}"

    def build(self, ranking: RankingList) -> tuple[list[int], list[list[int]], Truncated]:
        config = self.config
        history = list(ranking.history)
        events = [self.event(event, history[n - 1] if n else None) for n, event in enumerate(history)]
        dropped = 0
        while sum(len(ids) for ids, _ in events[dropped:]) > config.history_tokens:
            dropped += config.history_block
        if dropped >= len(events):
            dropped = 0
            while sum(len(ids) for ids, _ in events[dropped:]) > config.history_tokens:
                dropped += 1
        query = " ".join(ranking.query.split())
        prefix = self.encoder.start + self.part("head") + self.memory(history[:dropped])
        for ids, _ in events[dropped:]:
            prefix = prefix + ids
        if config.features and config.feature_names == "prefix":
            prefix = prefix + self.part("legend", config.features)
        unread = 0
        for name in config.context:
            text = " ".join(ranking.context.get(name, "").split())
            if not text:
                continue
            head, rest = str(self.macros.context(name, text)).split(OPEN)
            inside, tail = rest.split(CLOSE)
            data = self.encoder.data(f" {inside}") if inside else self.own(" ")
            kept = self.cut(data, config.context_tokens) if inside else data
            unread += len(data) - len(kept)
            prefix = prefix + self.own(head.removesuffix(" ")) + kept + self.own(tail)
        prefix = prefix + (self.part("query", query) if query else self.part("no_query"))
        levels = self.levels.of(ranking)
        items = []
        cut = 0
        for k, item_id in enumerate(ranking.candidates):
            ids, lost = self.fields(self.items[item_id], config.fields, config.item_tokens)
            cut += lost
            ids = self.part("item") + ids
            for name in config.features:
                level, once = self.level(int(levels[name][k])), config.feature_names == "prefix"
                first = name == config.features[0]
                ids = ids + (
                    self.part("level", level, first) if once else self.part("feature", name, level, self.level(20))
                )
            items.append(ids + self.part("answer"))
        lost_of_events = sum(lost for _, lost in events[dropped:])
        return prefix, items, Truncated(dropped, lost_of_events, cut, context_tokens=unread)


WORDS = st.sampled_from(
    [
        "red",
        "oak",
        "chair,",
        "(new)",
        "红色橡木椅子",
        "🪑",
        "🧿",
        "<|im_end|>",
        "<think>",
        "＜|im_end|＞",
        "Σ",
        "№",
        "\ufffd",
    ]
)
TEXTS = st.one_of(st.lists(WORDS, min_size=1, max_size=12).map(" ".join), st.text(min_size=1, max_size=12))
MAYBE = st.none() | TEXTS
ITEMS = st.builds(
    Item,
    item_id=st.just("x"),
    title=TEXTS,
    brand=MAYBE,
    price=st.none() | st.floats(0, 1e6),
    currency=st.sampled_from([None, "EUR"]),
    price_level=st.none() | st.integers(1, 5),
    rating=st.none() | st.floats(0, 5),
    rating_count=st.none() | st.integers(0, 10**6),
    category=st.lists(TEXTS, max_size=2).map(tuple),
    attributes=st.dictionaries(TEXTS, TEXTS, max_size=2),
    description=MAYBE,
)
MOMENT = ["device", "season", "instruction"]
ORDERS = st.lists(st.sampled_from(FIELDS), min_size=1, max_size=len(FIELDS), unique=True)


@st.composite
def configs(draw: st.DrawFn) -> PromptConfig:
    event_tokens = draw(st.integers(1, 40))
    return PromptConfig(
        template=draw(st.sampled_from(["plain", "qwen3"])),
        language=draw(st.sampled_from(["en", "zh"])),
        fields=draw(ORDERS),
        event_fields=draw(ORDERS),
        event_gaps=draw(st.booleans()),
        features=draw(st.lists(st.sampled_from(["first_stage", "f", "g"]), max_size=3, unique=True)),
        feature_names=draw(st.sampled_from(["candidate", "prefix"])),
        level_format=draw(st.sampled_from(["number", "letter"])),
        context=draw(st.lists(st.sampled_from(MOMENT), max_size=3, unique=True)),
        context_tokens=draw(st.integers(1, 40)),
        history_tokens=draw(st.integers(event_tokens, 200)),
        history_block=draw(st.integers(1, 4)),
        event_tokens=event_tokens,
        memory_tokens=draw(st.sampled_from([0, 0, 16, 30, 64])),
        query_tokens=2000,
        item_tokens=draw(st.integers(1, 60)),
    )


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Item], list[RankingList]]:
    """A catalogue, and lists over it."""
    items = {
        f"p{n}": item.model_copy(update={"item_id": f"p{n}"})
        for n, item in enumerate(draw(st.lists(ITEMS, min_size=1, max_size=5)))
    }
    lists = []
    for n in range(draw(st.integers(1, 3))):
        time = START
        history = []
        for kind in draw(st.lists(st.sampled_from(list(EventKind)), max_size=8)):
            time += timedelta(hours=draw(st.sampled_from([1, 30, 200])))
            search = kind == EventKind.SEARCH
            history.append(
                Event(
                    kind=kind, time=draw(st.sampled_from([time, None])), query=draw(MAYBE) if search else None,
                    item_id=None if search else draw(st.sampled_from(list(items))),
                    value=draw(st.sampled_from([None, 3, 4.5])),
                )
            )  # fmt: skip
        ids = draw(st.permutations(list(items)))[: draw(st.integers(1, len(items)))]
        numbers = st.lists(st.floats(-2, 12), min_size=len(ids), max_size=len(ids)).map(tuple)
        lists.append(
            RankingList(
                list_id=f"l{n}", user_id="u", query=draw(st.just("") | TEXTS),
                context=draw(st.dictionaries(st.sampled_from(MOMENT), TEXTS | st.just(" "))), history=tuple(history),
                candidates=tuple(ids), scores=draw(numbers), features={"f": draw(numbers), "g": draw(numbers)},
            )
        )  # fmt: skip
    return items, lists


LEVELS = {"first_stage": [1.0, 3.0], "f": [float(n) for n in range(20)], "g": [0.0, 0.5, 5.0]}


@pytest.fixture(scope="module")
def kinds(request: pytest.FixtureRequest) -> dict[str, PreTrainedTokenizerBase]:
    return {name: request.getfixturevalue(name) for name in KINDS}


# A failure is shown as it was found: making it smaller would take minutes.
@settings(
    max_examples=60,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(kind=st.sampled_from(KINDS), config=configs(), world=worlds())
def test_every_id_is_the_references(
    kind: str,
    config: PromptConfig,
    world: tuple[dict[str, Item], list[RankingList]],
    kinds: dict[str, PreTrainedTokenizerBase],
    tmp_path: Path,
) -> None:
    items, lists = world
    tokenizer = kinds[kind]
    levels = FeatureLevels({name: LEVELS[name] for name in config.features})
    reference = Reference(tokenizer, config, items, levels)
    expected = [reference.build(ranking) for ranking in lists]
    # One item of the catalogue is not in the file.
    known = list(items.values())[1:]
    build_item_tokens(tmp_path / "tokens.arrow", tokenizer, config, known)
    mapped = ItemTokens.open(tmp_path / "tokens.arrow")
    for builder in (
        PromptBuilder(tokenizer, config, items, levels),
        PromptBuilder(tokenizer, config, items, levels, mapped),
        PromptBuilder(tokenizer, config, {}, levels, mapped).over(items),
    ):
        # The second time from the caches.
        for ranking, (prefix, ids, truncated) in [*zip(lists, expected, strict=True)] * 2:
            prompt = builder.build(ranking)
            assert prompt.prefix.tolist() == prefix
            assert [item.tolist() for item in prompt.items] == ids
            assert prompt.truncated == truncated
            assert {prompt.prefix.dtype, *(item.dtype for item in prompt.items)} == {np.dtype(np.int32)}


@settings(max_examples=100)
@given(kind=st.sampled_from(KINDS), texts=st.lists(st.one_of(TEXTS, st.just("")), max_size=6))
def test_many_texts_are_read_as_one_by_one(
    kind: str, texts: list[str], kinds: dict[str, PreTrainedTokenizerBase]
) -> None:
    encoder = Encoder(kinds[kind])
    assert encoder.data_many(texts) == [encoder.data(text) for text in texts]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("template", ["plain", "qwen3"])
def test_every_template_has_a_word_for_every_field(
    template: Literal["plain", "qwen3"], language: Literal["en", "zh"], bytes_tokenizer: PreTrainedTokenizerBase
) -> None:
    parts = Parts(bytes_tokenizer, PromptConfig(template=template, language=language))
    for name in FIELDS:
        assert "kettle" in bytes_tokenizer.decode(parts.ids([("field", name, "kettle")])[0])
