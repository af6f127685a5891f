"""Session text for pretraining: what shoppers did, and what became of each product they were shown.

    stream = SessionStream(sources, tokenizer, prompt, length=10_000, max_candidates=20, seed=0)
    batch = collate_text([stream[0], stream[1]])

A session is a list's prefix (history and query) and, behind each product, the outcome as a word: passed, clicked,
carted, bought. The products lie behind one prefix exactly as in finetuning, so a session costs what its distinct tokens
cost. Every tenth text is a handful of catalogue entries with all their fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from reshelf.data.dataset_folder import RankingData
from reshelf.data.marketplace import MarketplaceConfig, Simulator
from reshelf.data.schema import GRADES, Item, RankingList
from reshelf.errors import InputError
from reshelf.finetune.batches import thin
from reshelf.modeling.packing import PackedBatch, in_row_order, pack
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import WHOLE, PromptConfig
from reshelf.prompts.fields import field_text
from reshelf.prompts.levels import fit_levels, level_text
from reshelf.prompts.list_prompt import ListPrompt

OUTCOMES = (" passed", " clicked", " carted", " bought")
"""One word per grade."""
assert len(OUTCOMES) == len(GRADES)
CATALOGUE_EVERY = 10
CATALOGUE_ENTRIES = 12


class SessionSource(Protocol):
    """Where sessions come from: a catalogue and numbered lists with labels."""

    @property
    def items(self) -> dict[str, Item]: ...

    def session(self, number: int) -> RankingList: ...

    def sample(self) -> Sequence[RankingList]:
        """Sessions to fit the levels of features on."""
        ...


class SimulatedSource:
    """An endless stream of shoppers in one simulated shop, one list each, shown without position bias."""

    def __init__(self, config: MarketplaceConfig, seed: int) -> None:
        self._simulator = Simulator(replace(config, seed=seed, lists_per_shopper=1, position_bias=0.0))

    @property
    def items(self) -> dict[str, Item]:
        return self._simulator.items

    def session(self, number: int) -> RankingList:
        return next(self._simulator.shopper(number))

    def sample(self) -> Sequence[RankingList]:
        return self._sample

    @cached_property
    def _sample(self) -> list[RankingList]:
        return [self.session(number) for number in range(200)]


class LoggedSource:
    """The training lists of a data set folder, again and again."""

    def __init__(self, data: RankingData) -> None:
        self.items = data.items
        self._lists = [ranking for ranking in data.lists["train"] if ranking.labels and any(ranking.labels)]

    def session(self, number: int) -> RankingList:
        return self._lists[number % len(self._lists)]

    def sample(self) -> Sequence[RankingList]:
        return self._lists


Candidates = Literal["independent", "joint", "both"]


@dataclass(frozen=True)
class Text:
    """Token ids to learn from. `outcomes` int64 [K] are the words behind a session's products; None for a catalogue."""

    prompt: ListPrompt
    outcomes: np.ndarray | None


class SessionStream(Dataset[Text]):
    """Texts number 0 … length − 1, the sources in turn.

    Args:
        sources: at least one.
        tokenizer: in which every outcome word is one token.
        prompt: how a session is written.
        length: number of texts.
        max_candidates: products of a session, see `finetune.batches.thin`; 0 for all.
        candidates: whether the prefix ends with the list; joint lists come in random order, and of "both" every other
            session is joint.
        seed: choice of products and of catalogue entries.

    Raises:
        InputError: an outcome word is not one token.
    """

    def __init__(
        self,
        sources: Sequence[SessionSource],
        tokenizer: PreTrainedTokenizerBase,
        prompt: PromptConfig,
        length: int,
        max_candidates: int,
        seed: int,
        candidates: Candidates = "independent",
    ) -> None:
        self._sources = sources
        self._max = max_candidates
        self._candidates = candidates
        self._seed = seed
        self._length = length
        prompts = [prompt.in_language_of(source.items.values()) for source in sources]
        levels = [fit_levels(source.sample(), prompt.features, prompt.levels) for source in sources]
        self._sessions = [
            [PromptBuilder(tokenizer, own, s.items, edges, joint=joint) for joint in (False, True)]
            for s, own, edges in zip(sources, prompts, levels, strict=True)
        ]
        self._entries = [
            PromptBuilder(tokenizer, replace(own, fields=list(WHOLE), features=[], item_tokens=96), s.items)
            for s, own in zip(sources, prompts, strict=True)
        ]
        self._ids = [list(source.items) for source in sources]
        words = [tokenizer.encode(word, add_special_tokens=False) for word in OUTCOMES]
        for outcome, word in zip(OUTCOMES, words, strict=True):
            if len(word) != 1:
                raise InputError(
                    f"the base's tokenizer writes {outcome!r} in {len(word)} tokens, and it must be one; raise "
                    "shape.vocabulary for a new base, or start from another one"
                )
        self._words = np.array(words)[:, 0]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, n: int) -> Text:
        which = n % len(self._sources)
        if n % CATALOGUE_EVERY == CATALOGUE_EVERY - 1:
            rng = np.random.default_rng([self._seed, n])
            ids = self._ids[which]
            chosen = rng.choice(len(ids), min(CATALOGUE_ENTRIES, len(ids)), replace=False)
            entries = RankingList(list_id=f"catalogue-{n}", user_id="-", candidates=tuple(ids[c] for c in chosen))
            return Text(self._entries[which].build(entries), None)
        turn = n // len(self._sources)
        ranking = thin(self._sources[which].session(turn), self._max, [self._seed, n])
        joint = self._candidates == "joint" or (self._candidates == "both" and turn % 2 == 1)
        if joint:
            order = np.random.default_rng([self._seed, n, 1]).permutation(len(ranking.candidates))
            ranking = ranking.only(order.tolist())
        return Text(self._sessions[which][joint].build(ranking), self._words[list(ranking.labels or ())])


@dataclass(frozen=True)
class TextBatch:
    """Packed texts and what each token should be followed by: int64 [T], −100 where nothing is learned."""

    packed: PackedBatch
    words: torch.Tensor
    """Next tokens of histories, queries and catalogue entries."""
    outcomes: torch.Tensor
    """Outcome words at the ends of products."""

    def to(self, device: torch.device | str, **_: Any) -> TextBatch:
        return TextBatch(self.packed.to(device), self.words.to(device), self.outcomes.to(device))


def collate_text(texts: Sequence[Text]) -> TextBatch:
    """Pack texts and lay out their targets."""
    packed = pack([text.prompt for text in texts])
    prefixes = [np.full(len(text.prompt.prefix), -100) for text in texts]
    words_of_prefixes, words_of_items, outcomes_of_items = [], [], []
    for text, nowhere in zip(texts, prefixes, strict=True):
        prefix, items = text.prompt.prefix, text.prompt.items
        nothing = [np.full(len(item), -100) for item in items]
        if text.outcomes is None:
            words_of_prefixes.append(nowhere)
            words_of_items.append([np.append(item[1:], -100) for item in items])
            outcomes_of_items.append(nothing)
        else:
            before_list = len(prefix) - text.prompt.listed  # which products a list holds cannot be predicted
            words_of_prefixes.append(np.append(prefix[1:before_list], nowhere[max(before_list - 1, 0) :]))
            words_of_items.append(nothing)
            ends = zip(nothing, text.outcomes, strict=True)
            outcomes_of_items.append([np.append(before[1:], outcome) for before, outcome in ends])
    words = in_row_order(words_of_prefixes, words_of_items)
    outcomes = in_row_order(prefixes, outcomes_of_items)
    return TextBatch(packed, torch.from_numpy(words), torch.from_numpy(outcomes))


def collate_outcomes(texts: Sequence[Text]) -> TextBatch:
    """The same with nothing but outcomes to learn."""
    batch = collate_text(texts)
    return replace(batch, words=torch.full_like(batch.words, -100))


TEMPLATE_WORDS = {
    "en": "history ;\nviewed ;\nclicked ;\ncarted ;\nbought ;\nsearched ;\nrated ;\nquery ;\nquery: ;\n"
    "product: by , category days stars =>",
    "zh": "历史 ;\n浏览 ;\n点击 ;\n加购 ;\n购买 ;\n搜索 ;\n评分 ;\n查询 ;\n查询: ;\n商品: , 品牌 价格 类目 天 星 =>",
}
"""What the templates write themselves, as it stands there: at the head of a line a word is another token."""
PRICES = " ".join("$" * n for n in range(1, 6))
"""How price levels are written."""


def vocabulary_text(sources: Sequence[SessionSource], prompt: PromptConfig) -> Iterator[str]:
    """Text to train the tokenizer on: every catalogue entry, the template's own words, outcomes and small numbers.

    Levels are among them whether or not the base reads any: finetuning over it may, and one in two tokens is in every
    product.
    """
    for source in sources:
        for item in source.items.values():
            yield " ".join(["product:", *(f"{name} {field_text(item, name)}" for name in WHOLE), "=>"])
    numbers = [level_text(level) for level in range(prompt.levels + 1)]
    levels = "".join([*numbers, *(f" ; {name}{number}" for name in prompt.features for number in numbers)])
    for source in sources:
        own = TEMPLATE_WORDS[prompt.in_language_of(source.items.values()).language]
        for ranking in source.sample():
            yield f"{own} {ranking.query} ; {''.join(OUTCOMES)} {PRICES}{levels}"
