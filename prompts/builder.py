"""A RankingList becomes token ids: one prefix (instruction, history, query) and one id list per candidate.

    builder = PromptBuilder(tokenizer, PromptConfig(), items, fit_levels(train, []))
    prompt = builder.build(ranking)
    prompt.prefix, prompt.items[0], prompt.truncated

Prefix and items are tokenised separately, by this builder only, in training, evaluation and every engine. With
independent candidates the prefix holds nothing of the list. With joint ones it ends with the whole list, so that all of
it has been read once before any product is judged. An item's ids are made once and cached, or taken from a file
(`prompts.item_tokens`).
"""

from __future__ import annotations

import copy
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain

import numpy as np
from transformers import PreTrainedTokenizerBase

from reshelf.data.price_levels import PriceLevels
from reshelf.data.schema import EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.fields import gap_days, number
from reshelf.prompts.item_tokens import ItemTokens
from reshelf.prompts.items import ItemIds, ItemWriter
from reshelf.prompts.levels import MISSING, FeatureLevels, values_of
from reshelf.prompts.list_prompt import ListPrompt, Truncated
from reshelf.prompts.memory import MemoryWriter
from reshelf.prompts.parts import Parts

EVENTS_KEPT = 65_536
"""Events whose ids are kept, those used last; some 20 MB."""
QUERIES_KEPT = 16_384
"""Queries whose ids are kept, and texts of the context, those used last; some 4 MB each."""

PRICES_KEPT = 65_536
"""Items at another price than the catalogue's whose ids are kept, those used last."""


class PromptBuilder:
    """Writes lists over one catalogue.

    Args:
        tokenizer: of the model that will read the ids.
        config: template, fields and budgets.
        items: the catalogue; candidates and history items are looked up here.
        levels: edges of the features that `config.features` names.
        item_tokens: ids of items by their content; items that are not in it are tokenised.
        joint: whether the prefix ends with the list itself.

    Raises:
        InputError: a feature has no levels, or `item_tokens` was made with another tokenizer, template or budget.

    Examples:
        >>> from importlib.resources import files
        >>> from transformers import AutoTokenizer
        >>> tokenizer = AutoTokenizer.from_pretrained(str(files("reshelf.finetune") / "bases" / "marketplace"))
        >>> items = {"p5": Item(item_id="p5", title="red mug"), "p9": Item(item_id="p9", title="blue desk lamp")}
        >>> builder = PromptBuilder(tokenizer, PromptConfig(template="plain"), items)
        >>> prompt = builder.build(RankingList(list_id="l1", user_id="u1", query="mug", candidates=("p5", "p9")))
        >>> prompt.prefix.dtype.name, len(prompt.items), prompt.truncated == Truncated()
        ('int32', 2, True)
        >>> print(tokenizer.decode(prompt.items[0]).strip())
        product: red mug =>
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        config: PromptConfig,
        items: Mapping[str, Item],
        levels: FeatureLevels | None = None,
        item_tokens: ItemTokens | None = None,
        joint: bool = False,
    ) -> None:
        self.config = config
        self.joint = joint
        self.items = items
        self.levels = levels or FeatureLevels()
        self.item_tokens = item_tokens
        missing = sorted(set(config.features) - set(self.levels.edges))
        if missing:
            raise InputError(f"prompt.features: no levels known for {missing[0]!r}; fit them on the training lists")
        if item_tokens is not None:
            item_tokens.check(tokenizer, config)
        self._parts = Parts(tokenizer, config)
        self._writer = ItemWriter(tokenizer, config, self._parts)
        self._memory = MemoryWriter(self._parts, config.memory_tokens)
        self._items: dict[str, ItemIds | int] = {}
        """Of every item seen: its ids, or its row in `item_tokens`. No more entries than the catalogue has."""
        self._written: dict[str, Item] = {}
        """What those ids were made of: whoever holds the catalogue may put another item in its place."""
        self._query_ids = lru_cache(QUERIES_KEPT)(self._write_query)
        self._context_ids = lru_cache(QUERIES_KEPT)(self._write_context)
        self._forget_items()

    def over(self, items: Mapping[str, Item]) -> PromptBuilder:
        """The same builder over other items; cheap enough for a single request."""
        other = copy.copy(self)
        other.items = items
        other._items, other._written = {}, {}
        other._forget_items()
        return other

    def _forget_items(self) -> None:
        """Drop what was made of items that are others now; another builder's caches stay as they are."""
        self.__dict__.pop("_price_levels", None)
        self._event_ids = lru_cache(EVENTS_KEPT)(self._write_event)
        self._priced_ids = lru_cache(PRICES_KEPT)(self._write_priced)

    def with_items(self, items: Mapping[str, Item]) -> PromptBuilder:
        """A builder over the catalogue and the items of one request, which win. Where they are all the catalogue's own
        it is this builder, with its cache of token ids; others are written for this request only."""
        for item_id, item in items.items():
            own = self.items.get(item_id)
            if own is not item and own != item:
                break
        else:
            return self
        return self.over(ChainMap(dict(items), self.items))  # type: ignore[arg-type]

    @cached_property
    def label_ids(self) -> tuple[int, int]:
        """Ids of the positive and the negative label word.

        Raises:
            InputError: a word is not one token, or both are the same one.
        """
        encoder = self._parts.encoder
        positive, negative = (encoder.label(word) for word in (self.config.positive, self.config.negative))
        if positive == negative:
            raise InputError(
                f"label words {self.config.positive!r} and {self.config.negative!r} are the same token; choose two"
            )
        return positive, negative

    @cached_property
    def longest(self) -> int:
        """Upper bound of prefix + one item, in tokens: what a serving engine must be able to hold."""
        config, own = self.config, self._parts.own
        listed = config.list_tokens if self.joint else 0
        query = max(len(own("query", "")) + config.query_tokens, len(own("no_query")))
        fixed = [len(self._parts.encoder.start), len(own("head")), query, len(own("item"))]
        fixed += [len(own("context", name, "")) + config.context_tokens for name in config.context]
        # Not every level is as many tokens as the highest.
        levels = [max(map(len, self._feature_ids[name])) for name in config.features]
        budgets = config.memory_tokens + config.history_tokens + listed + config.item_tokens
        return sum(fixed + levels) + len(self._legend) + len(self._answer) + budgets

    def build(self, ranking: RankingList) -> ListPrompt:
        """Token ids of a list.

        Raises:
            InputError: an item is not in the catalogue, a feature is missing, or a joint list has more
                candidates than its budget has tokens.
        """
        prefix, truncated = self._prefix(ranking)
        levels = self.levels.of(ranking) if self.config.features else {}
        tokens, lost = self._candidates(ranking)
        # Column by column: the candidates' own ids, one column per feature, the answer.
        columns = [tokens]
        for name in self.config.features:
            ids = self._feature_ids[name]
            columns.append([ids[level] for level in levels[name].tolist()])
        columns.append([self._answer] * len(tokens))
        flat = np.concatenate([ids for row in zip(*columns, strict=True) for ids in row])
        ends = list(accumulate(map(sum, zip(*[map(len, column) for column in columns], strict=True))))
        items = tuple([flat[start:end] for start, end in zip([0, *ends], ends, strict=False)])
        if not self.joint:
            return ListPrompt(ranking.list_id, prefix, items, replace(truncated, item_tokens=lost))
        listed, unlisted = self._listed(tokens, ranking.list_id)
        truncated = replace(truncated, item_tokens=lost, list_tokens=unlisted)
        return ListPrompt(ranking.list_id, np.concatenate([prefix, listed]), items, truncated, len(listed))

    def has_read(self, ranking: RankingList) -> bool:
        """Whether every item of the list was tokenised before: then building it is a matter of microseconds."""
        return all(i in self._items for i in chain(ranking.candidates, (e.item_id for e in ranking.history)) if i)

    def read(self, item_ids: Iterable[str]) -> None:
        """Tokenise these items of the catalogue, so that lists of them are built in microseconds."""
        self._find(item_ids, "of the catalogue", "candidates")

    def forget_texts(self) -> None:
        """Drop what shoppers typed, and what they did: nothing here says whose it was, so all of it."""
        self._event_ids.cache_clear()
        self._query_ids.cache_clear()
        self._context_ids.cache_clear()
        self._memory.forget()

    def check(self, ranking: RankingList) -> None:
        """Raise what `build` would raise for the features and the length of a list, without building it."""
        if self.joint:
            self._share(len(ranking.candidates), ranking.list_id)
        for name in self.config.features:
            values_of(ranking, name)

    def _candidates(self, ranking: RankingList) -> tuple[list[np.ndarray], int]:
        """Ids of each candidate without features and answer, and how many tokens were cut from all of them."""
        self._find(ranking.candidates, ranking.list_id, "candidates")
        tokens = []
        lost = 0
        for place, item_id in enumerate(ranking.candidates):
            found = self._items[item_id]
            if ranking.prices is not None and ranking.prices[place] != self.items[item_id].price:
                found = self._priced_ids(item_id, ranking.prices[place])
            if isinstance(found, int):
                assert self.item_tokens is not None
                ids, cut = self.item_tokens.candidate(found)
            else:
                ids, cut = found.tokens, found.lost
            tokens.append(ids)
            lost += cut
        return tokens, lost

    @cached_property
    def _price_levels(self) -> PriceLevels:
        return PriceLevels.of_items(self.items.values())

    def _write_priced(self, item_id: str, price: float | None) -> ItemIds:
        """An item at the price of a list's time."""
        return self._writer.write([self._price_levels.priced(self.items[item_id], price)])[0]

    def _listed(self, tokens: Sequence[np.ndarray], list_id: str) -> tuple[np.ndarray, int]:
        """Ids of all candidates as they stand in the prefix, and how many tokens were cut from them."""
        share = self._share(len(tokens), list_id)
        whole = np.concatenate(tokens)
        if len(whole) <= self.config.list_tokens:
            return whole, 0
        cut = np.concatenate([self._parts.cut(ids.tolist(), share) for ids in tokens]).astype(np.int32)
        return cut, len(whole) - len(cut)

    def _share(self, count: int, list_id: str) -> int:
        """Tokens of each of so many candidates in the prefix, where not all have room."""
        budget = self.config.list_tokens
        if count > budget:
            raise InputError(
                f"list {list_id}, field candidates: {count}, more than prompt.list_tokens ({budget}); send fewer, or "
                "finetune with a larger budget"
            )
        return budget // count

    def _find(self, item_ids: Iterable[str], list_id: str, field: str) -> None:
        """Make sure that these items are in `_items` as the catalogue has them now; new ones are tokenised together."""
        seen, now = self._written.get, self.items.get
        items = {}
        changed = False
        for item_id in item_ids:
            before, item = seen(item_id), now(item_id)
            if item is None:
                raise InputError(f"list {list_id}, field {field}: item {item_id!r} is not in the catalogue")
            if before is item:
                continue
            if before is None or before != item:  # a catalogue that is read as it is asked gives equal ones
                items[item_id] = item
                changed = changed or before is not None
        if not items:
            return
        found: dict[str, ItemIds | int] = {}
        left = items
        if self.item_tokens is not None:
            rows = self.item_tokens.rows(list(items.values()))
            found = {item_id: row for item_id, row in zip(items, rows.tolist(), strict=True) if row >= 0}
            left = {item_id: item for item_id, item in items.items() if item_id not in found}
        self._items |= found | dict(zip(left, self._writer.write(list(left.values())), strict=True))
        self._written |= items
        if changed:
            self._forget_items()

    def _prefix(self, ranking: RankingList) -> tuple[np.ndarray, Truncated]:
        config = self.config
        history = ranking.history
        self._find([e.item_id for e in history if e.item_id is not None], ranking.list_id, "history")
        written = [
            self._event_ids(
                event.kind,
                event.query if event.item_id is None else event.item_id,
                event.value if event.kind == EventKind.RATING else None,
                gap_days(before, event) if config.event_gaps else 0,
            )
            for before, event in zip([None, *history], history, strict=False)
        ]
        ends = list(accumulate((len(ids) for ids, _ in written), initial=0))
        room = config.history_tokens
        # Block by block from the old end; where a block holds the whole budget, what fits rather than nothing.
        blocks = range(0, len(written), config.history_block)
        dropped = next((n for n in blocks if ends[-1] - ends[n] <= room), None)
        if dropped is None:
            dropped = next(n for n in range(len(ends)) if ends[-1] - ends[n] <= room)
        kept = written[dropped:]
        memory = self._memory.write(history[:dropped], self.items)
        # Behind the history, which stays in an engine's cache whatever the moment is.
        texts = [(name, " ".join(ranking.context.get(name, "").split())) for name in config.context]
        context = [self._context_ids(name, text) for name, text in texts if text]
        query, cut = self._query_ids(" ".join(ranking.query.split()))
        events, lines = ([ids for ids, _ in parts] for parts in (kept, context))
        prefix = np.concatenate([self._head, memory, *events, self._legend, *lines, query])
        lost, unread = (sum(tokens for _, tokens in parts) for parts in (kept, context))
        return prefix, Truncated(dropped, lost, query_tokens=cut, context_tokens=unread)

    def _write_event(
        self, kind: EventKind, about: str | None, stars: float | None, days: int
    ) -> tuple[np.ndarray, int]:
        """Ids of one event, int32, and how many tokens were cut from it. `about` is an item's id, or a query."""
        head = self._parts.own("event", kind.value)
        tail: list[int] = []
        if stars is not None:
            tail += self._parts.own("rated", number(stars))
        if days:
            tail += self._parts.own("gap", days)
        tail += self._parts.own("event_end")
        room = max(0, self.config.event_tokens - len(head) - len(tail))
        if kind == EventKind.SEARCH:
            query = self._parts.ids([("searched", " ".join((about or "").split()))])[0]
            kept = self._parts.cut(query, room)
            lost = len(query) - len(kept)
        else:
            assert about is not None
            found = self._items[about]
            if isinstance(found, int):
                assert self.item_tokens is not None
                found = self.item_tokens[found]
            kept, lost = self._writer.event(found, room)
        return np.array([*head, *kept, *tail], dtype=np.int32), lost

    def _write_query(self, query: str) -> tuple[np.ndarray, int]:
        """Ids of the line a query stands in, int32, and how many tokens were cut from the query's end."""
        if not query:
            return np.array(self._parts.own("no_query"), dtype=np.int32), 0
        ids, lost = self._parts.within(self.config.query_tokens, "query", query)
        return np.array(ids, dtype=np.int32), lost

    def _write_context(self, name: str, text: str) -> tuple[np.ndarray, int]:
        """Ids of one line of the context, int32, and how many tokens were cut from its end."""
        ids, lost = self._parts.within(self.config.context_tokens, "context", name, text)
        return np.array(ids, dtype=np.int32), lost

    @cached_property
    def _head(self) -> np.ndarray:
        return np.array([*self._parts.encoder.start, *self._parts.own("head")], dtype=np.int32)

    @cached_property
    def _legend(self) -> np.ndarray:
        once = self.config.features and self.config.feature_names == "prefix"
        return np.array(self._parts.own("legend", tuple(self.config.features)) if once else [], dtype=np.int32)

    @cached_property
    def _answer(self) -> np.ndarray:
        return np.array(self._parts.own("answer"), dtype=np.int32)

    @cached_property
    def _feature_ids(self) -> dict[str, list[np.ndarray]]:
        """Ids of every level of every feature, int32; those of a missing number come last."""
        result = {}
        write, named = self.config.level_word, self.config.feature_names == "candidate"
        highest = self.config.levels
        for n, name in enumerate(self.config.features):
            top = max(highest, len(self.levels.edges[name]))
            levels = [*map(write, range(top + 1)), *([MISSING] if self.levels.missing else [])]
            parts = [("feature", name, one, write(highest)) if named else ("level", one, n == 0) for one in levels]
            result[name] = [np.array(one, dtype=np.int32) for one in self._parts.ids(parts)]
        return result
