"""Lists of the simulated shop: who searched for what, what the first stage returned, what was clicked and bought.

data = simulate(MarketplaceConfig(seed=1, train_lists=200, valid_lists=50, test_lists=50))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from reshelf.data.atomic import atomic_folder
from reshelf.data.bm25 import Bm25Index
from reshelf.data.dataset_folder import RankingData, check_only_data_set, save_dataset_folder
from reshelf.data.language import Language
from reshelf.data.marketplace import shoppers
from reshelf.data.marketplace.catalogue import Shop, make_catalogue
from reshelf.data.marketplace.chinese import CHINESE
from reshelf.data.marketplace.pictures import picture_path, write_pictures
from reshelf.data.marketplace.vocabulary import ENGLISH
from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.errors import InputError
from reshelf.metrics.ordering import best_first, ranks
from reshelf.ranges import AT_LEAST_0, AT_LEAST_1, FINITE, POSITIVE, SEED, SHARE, check_numbers

OPENING = datetime(2026, 1, 1, tzinfo=UTC)
NOISE = 0.1
"""Share of past events that follow no taste: presents, accidents, somebody else on the sofa."""
IN_STOCK = 0.5
"""Share of the catalogue that can be delivered when a list is made."""
RANDOMISED_FILE = "randomised.txt"
"""The ids of the lists that were shown in random order, one a line, beside the lists of a data set folder."""
VOCABULARIES = {"en": ENGLISH, "zh": CHINESE}
KINDS = {1: EventKind.CLICK, 2: EventKind.CART, 3: EventKind.PURCHASE}


@dataclass
class MarketplaceConfig:
    """A simulated shop with a known best order."""

    out: Path = Path("runs/marketplace")
    """Folder to write the data set to. An older data set there is replaced."""
    seed: int = 0
    """The same seed gives the same products, shoppers and lists."""
    language: Language = "en"
    """What titles and queries are in."""
    items_per_category: int = 60
    """Products in each of the 25 categories."""
    train_lists: int = 2000
    """Lists with at least one click, for training."""
    valid_lists: int = 200
    """Lists of other shoppers, for choosing a checkpoint."""
    test_lists: int = 500
    """Lists of yet other shoppers, for the final figures; lists without a click are kept here and in valid."""
    lists_per_shopper: int = 2
    """Searches of one shopper; the clicks of one are history to the next."""
    candidates: int = 20
    """Products the first stage returns for a query."""
    history_min: int = 8
    """Fewest events a shopper arrives with."""
    history_max: int = 16
    """Most events a shopper arrives with."""
    position_bias: float = 0.7
    """Exponent η: a product at place r is examined with probability r^(-η); 0 switches the bias off."""
    decisiveness: float = 1.0
    """Factor on the log-odds of clicking, carting and buying; far above 1, shoppers do exactly what they wish."""
    promotion: float = 0.0
    """How strongly the shop promotes expensive products: at 1, the dearest fifth of a category starts level with the
    top of the list from its end. Clicks follow the positions shown, candidates stay in first-stage order."""
    randomised: float = 0.0
    """Share of lists shown in random order, from 0 to 1; their ids go to randomised.txt."""
    context: float = 0.0
    """How strongly a product stands out by a colour and brand that are rare in its list: log-odds per standard
    deviation of how common they are among the list's other products."""
    images: bool = False
    """Whether to draw a small picture of every product (images/<item_id>.png)."""

    def __post_init__(self) -> None:
        sizes = ("items_per_category", "lists_per_shopper", "candidates")
        counts = ("train_lists", "valid_lists", "test_lists", "history_min", "history_max")
        check_numbers(
            self,
            {
                "seed": SEED,
                **dict.fromkeys(sizes, AT_LEAST_1),
                **dict.fromkeys(counts, AT_LEAST_0),
                "position_bias": AT_LEAST_0,
                "decisiveness": POSITIVE,
                "promotion": AT_LEAST_0,
                "randomised": SHARE,
                "context": FINITE,
            },
        )
        if self.history_min > self.history_max:
            raise InputError(f"history_min is {self.history_min}, above history_max ({self.history_max}); give less")


class Simulator:
    """An endless, reproducible stream of shoppers in one shop.

    Shopper number n depends on the seed and n alone, so a longer run begins like a shorter one. `shown_at_random`
    collects the ids of the lists made so far that were shown in random order.
    """

    def __init__(self, config: MarketplaceConfig) -> None:
        self.config = config
        self.shop: Shop = make_catalogue(config.seed, config.items_per_category, VOCABULARIES[config.language])
        texts = [f"{i.title} {' '.join(i.category)}" for i in self.shop.items.values()]
        self._bm25 = Bm25Index(texts)
        self._scores: dict[str, np.ndarray] = {}
        self.shown_at_random: set[str] = set()
        if config.images:
            pictured = {key: i.model_copy(update={"image": picture_path(i)}) for key, i in self.shop.items.items()}
            self.shop = replace(self.shop, items=pictured)

    @property
    def items(self) -> dict[str, Item]:
        return self.shop.items

    def first_stage(self, query: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """BM25 over title and category among the products in stock: rows best first, and their scores [K]."""
        if query not in self._scores:
            self._scores[query] = self._bm25.scores(query)
        scores = np.where(rng.random(len(self.shop.ids)) < IN_STOCK, self._scores[query], -1.0)
        ties = rng.random(len(scores)) * 1e-6
        rows = best_first(scores + ties)[: self.config.candidates]
        return rows, scores[rows]

    def places(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, bool]:
        """Where the shop shows the first stage's products `rows`, and whether it did so at random.

        The shown order sorts by rank percentile (0 first, 1 last) less promotion · (price level - 1) / 4.

        Returns:
            int64 [K], 1-based places, parallel to `rows`; and whether they are a random order.
        """
        n = len(rows)
        at_random = self.config.randomised > 0 and rng.random() < self.config.randomised
        if at_random:
            return rng.permutation(n) + 1, True
        key = np.arange(n) / max(n - 1, 1) - self.config.promotion * (self.shop.level[rows] - 1) / 4
        return ranks(-key), False

    def shopper(
        self, number: int, scores_of: Callable[[RankingList], np.ndarray] | None = None
    ) -> Iterator[RankingList]:
        """The lists of one shopper, in the order of time.

        Args:
            scores_of: what the shop orders by: takes a list without labels, gives float [K]. None for `places`.
        """
        rng = np.random.default_rng([self.config.seed, 1, number])
        shown_rng = np.random.default_rng([self.config.seed, 2, number])  # apart: the shopper stays who they are
        shop = self.shop
        taste = shoppers.draw_taste(shop, rng)
        categories = shoppers.own_categories(shop, taste)
        now = OPENING + timedelta(minutes=int(rng.integers(0, 60 * 24 * 300)))
        history: list[Event] = []
        for _ in range(int(rng.integers(self.config.history_min, self.config.history_max + 1))):
            history.append(self._past_event(taste, categories, now, rng))
            now += timedelta(minutes=int(rng.exponential(60 * 24 * 3)) + 1)
        for n in range(self.config.lists_per_shopper):
            category = int(rng.choice(categories))
            query, asked_colour, asked_material = self._query(category, rng)
            rows, scores = self.first_stage(query, rng)
            matches = (shop.colour[rows] == asked_colour) | (shop.material[rows] == asked_material)
            wishes = shoppers.wish_in_list(shop, taste, rows, category, matches, self.config.context)
            places, at_random = self.places(rows, shown_rng)
            ids = tuple(str(i) for i in shop.ids[rows])
            list_id = f"s{self.config.seed}-{number}-{n}"
            if at_random:
                self.shown_at_random.add(list_id)
            ranking = RankingList(
                list_id=list_id,
                user_id=f"s{self.config.seed}-{number}",
                time=now,
                query=query,
                history=tuple(history),
                candidates=ids,
                scores=tuple(float(s) for s in scores),
                utility=tuple(float(u) for u in shoppers.expected_utility(wishes)),
            )
            if scores_of is not None:
                places = ranks(scores_of(ranking))
            labels = shoppers.behave(wishes, self.config.position_bias, rng, self.config.decisiveness, places)
            outcome = {"labels": tuple(int(x) for x in labels), "positions": tuple(int(p) for p in places)}
            yield ranking.model_copy(update=outcome)
            for row in np.flatnonzero(labels):
                now += timedelta(minutes=1)
                history.append(Event(kind=KINDS[int(labels[row])], time=now, item_id=ids[row]))
            now += timedelta(minutes=int(rng.exponential(60 * 24 * 3)) + 1)

    def _past_event(
        self, taste: shoppers.Taste, categories: np.ndarray, now: datetime, rng: np.random.Generator
    ) -> Event:
        rows = np.flatnonzero(self.shop.category == rng.choice(categories))
        wishes = shoppers.wish(self.shop, taste, rows)
        odds = np.exp(2 * wishes) if rng.random() >= NOISE else np.ones(len(rows))
        row = rng.choice(rows, p=odds / odds.sum())
        kind = rng.choice([EventKind.CLICK, EventKind.CART, EventKind.PURCHASE], p=[0.5, 0.1, 0.4])
        return Event(kind=EventKind(kind), time=now, item_id=str(self.shop.ids[row]))

    def _query(self, category: int, rng: np.random.Generator) -> tuple[str, int, int]:
        """Query text and the colour and material it asks for (-1 for none)."""
        words = self.shop.vocabulary
        name = words.categories[category].name.lower()
        draw = rng.random()
        if draw < 0.1:
            colour = int(rng.integers(len(words.colours)))
            return words.query.format(word=words.colours[colour], category=name), colour, -1
        if draw < 0.2:
            material = str(rng.choice(words.departments[words.categories[category].department].materials))
            return words.query.format(word=material, category=name), -1, self.shop.materials.index(material)
        return name, -1, -1


def simulate(config: MarketplaceConfig) -> RankingData:
    """A data set whose train, valid and test lists come from different shoppers."""
    return _fill(Simulator(config))


def _fill(simulator: Simulator) -> RankingData:
    config = simulator.config
    data = RankingData(simulator.items)
    number = 0
    for split, wanted in (("train", config.train_lists), ("valid", config.valid_lists), ("test", config.test_lists)):
        lists: list[RankingList] = []
        while len(lists) < wanted:
            for ranking in simulator.shopper(number):
                if split != "train" or any(ranking.labels or ()):
                    lists.append(ranking)
            number += 1
        data.lists[split] = lists[:wanted]
    return data


def simulate_folder(config: MarketplaceConfig) -> None:
    """Simulate and write the data set folder. An older data set there is replaced.

    Raises:
        InputError: the folder cannot be written to, or holds something else than a data set.
    """
    check_only_data_set(config.out)
    with atomic_folder(config.out, "data set") as partial:
        simulator = Simulator(config)
        data = _fill(simulator)
        save_dataset_folder(partial, data)
        if config.images:
            write_pictures(partial, data.items)
        if config.randomised:
            kept = [r.list_id for lists in data.lists.values() for r in lists if r.list_id in simulator.shown_at_random]
            (partial / RANDOMISED_FILE).write_text("".join(f"{name}\n" for name in kept), encoding="utf-8")
    sizes = ", ".join(f"{len(lists)} {split}" for split, lists in data.lists.items())
    print(f"{config.out}: {len(data.items)} products, lists: {sizes}")
