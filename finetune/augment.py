"""Training lists changed at random, so that a model does not lean on what will be missing later.

    config = AugmentConfig(history_dropout=0.2, shuffle=True)
    changed = augmented(ranking, config, [seed, epoch, n])      # the same list for the same numbers
    prompt = build_augmented(builder, changed, config, [seed, epoch, n])

Each kind of change has its own draws: switching one on leaves the others as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from reshelf.data.schema import Item, RankingList
from reshelf.data.signals import PERSONAL
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import WHOLE, WITHOUT
from reshelf.prompts.levels import values_of
from reshelf.prompts.list_prompt import ListPrompt
from reshelf.ranges import SHARE, check_numbers

_COLD, _EVENTS, _ORDER, _ITEMS, _NUMBERS = 1, 2, 3, 4, 5
"""Behind the seed of a list: what is drawn. 0 would be the seed that `finetune.batches.thin` draws with
(findings/numpy_first_list_draws_what_the_run_draws.sh)."""
_OPTIONAL = [WITHOUT[name] for name in WHOLE if name != "title"]
"""What of an item may be missing, and what stands for missing."""


@dataclass
class AugmentConfig:
    """Random changes to training lists, drawn anew each epoch. Validation lists stay as they are."""

    history_dropout: float = 0.0
    """Probability that a list is shown with an empty history, as for a shopper nobody knows: signals that compare with
    the history (cobought, taste, match, …) are 0 then."""
    event_dropout: float = 0.0
    """Probability of each history event to be left out. Signals still count all events, unless none is left."""
    shuffle: bool = False
    """Put the candidates in random order: joint candidates would else lean on first-stage order."""
    field_dropout: float = 0.0
    """Probability of each optional field of a candidate (brand, price, category, …) to be missing."""
    word_dropout: float = 0.0
    """Probability of each word of a candidate's title to be left out; one word always stays."""
    feature_dropout: float = 0.1
    """Probability of each number of `prompt.features` to be missing for a whole list, of each candidate to lack all of
    its numbers, as a product does that is new, and of a list to lack all. A model that was trained so ranks what lacks
    some numbers; with 0, such lists stay in first-stage order. Means nothing where the prompt reads no numbers."""

    def __post_init__(self) -> None:
        check_numbers(self, {one.name: SHARE for one in fields(self)}, "augment.")


def augmented(ranking: RankingList, config: AugmentConfig, seed: Sequence[int]) -> RankingList:
    """The list with another history and another order of candidates; what runs parallel to candidates moves along."""
    if config.history_dropout and _draws(seed, _COLD).random() < config.history_dropout:
        ranking = without_history(ranking)
    if config.event_dropout and ranking.history:
        kept = _draws(seed, _EVENTS).random(len(ranking.history)) >= config.event_dropout
        history = tuple([event for event, keep in zip(ranking.history, kept, strict=True) if keep])
        ranking = ranking.model_copy(update={"history": history}) if history else without_history(ranking)
    if config.shuffle:
        ranking = ranking.only(_draws(seed, _ORDER).permutation(len(ranking.candidates)).tolist())
    return ranking


def without_features(
    ranking: RankingList, names: Sequence[str], config: AugmentConfig, seed: Sequence[int]
) -> RankingList:
    """The list with NaN for the numbers that are missing.

    Args:
        names: of the features that the prompt reads; others stay as they are, for a teacher's may be among them.
    """
    draws = _draws(seed, _NUMBERS)
    # Always as many draws, so that one kind of loss says nothing of another.
    whole, columns = draws.random() < config.feature_dropout, draws.random(len(names)) < config.feature_dropout
    lost = draws.random(len(ranking.candidates)) < config.feature_dropout
    changed = {}
    for name, column in zip(names, columns, strict=True):
        values = np.where(lost | column | whole, np.nan, values_of(ranking, name))
        changed[name] = tuple(values.tolist())
    scores = changed.pop("first_stage", ranking.scores)
    return ranking.model_copy(update={"scores": scores, "features": {**ranking.features, **changed}})


def without_history(ranking: RankingList) -> RankingList:
    """The list as it would be for a shopper without history: `data.signals.PERSONAL` numbers are 0."""
    zeros = (0.0,) * len(ranking.candidates)
    features = {name: zeros if name in PERSONAL else values for name, values in ranking.features.items()}
    return ranking.model_copy(update={"history": (), "features": features})


def build_augmented(
    builder: PromptBuilder, ranking: RankingList, config: AugmentConfig, seed: Sequence[int]
) -> ListPrompt:
    """`builder.build(ranking)`, with candidates that lack fields, words and, where the model is to know of that
    (`FeatureLevels.missing`), numbers.

    The history keeps its items whole. Changed items are tokenised every time, which costs some milliseconds a list.

    Raises:
        InputError: as `PromptBuilder.build`.
    """
    if config.feature_dropout and builder.levels.missing:
        ranking = without_features(ranking, builder.config.features, config, seed)
    prompt = builder.build(ranking)
    if not config.field_dropout and not config.word_dropout:
        return prompt
    draws = _draws(seed, _ITEMS)
    items = {i: drop_fields(builder.items[i], config, draws) for i in ranking.candidates}
    changed = [row for row, i in enumerate(ranking.candidates) if items[i] is not builder.items[i]]
    if not changed:
        return prompt
    others = builder.over(items).build(ranking.only(changed).model_copy(update={"history": ()}))
    new = dict(zip(changed, others.items, strict=True))
    return replace(prompt, items=tuple([new.get(row, ids) for row, ids in enumerate(prompt.items)]))


def drop_fields(item: Item, config: AugmentConfig, draws: np.random.Generator) -> Item:
    """The item without what chance took; the very same one where it took nothing. Always as many draws for an item."""
    missing: dict[str, object] = {}
    for group, lost in zip(_OPTIONAL, draws.random(len(_OPTIONAL)) < config.field_dropout, strict=True):
        if lost and any(getattr(item, name) != value for name, value in group.items()):
            missing |= group
    words = item.title.split()
    chances = draws.random(len(words))
    kept = [word for word, chance in zip(words, chances, strict=True) if chance >= config.word_dropout]
    if len(kept) < len(words):
        missing["title"] = " ".join(kept or [words[int(chances.argmax())]])
    return item.model_copy(update=missing) if missing else item


def _draws(seed: Sequence[int], what: int) -> np.random.Generator:
    return np.random.default_rng([*seed, what])
