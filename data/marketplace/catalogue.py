"""The products of the simulated shop.

shop = make_catalogue(seed=1, items_per_category=60)
shop.items["sweaters-004"].title        # "Halden wool crew sweater, navy"
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reshelf.data.marketplace.vocabulary import ENGLISH, Vocabulary
from reshelf.data.price_levels import with_price_levels
from reshelf.data.schema import Item


@dataclass(frozen=True)
class Shop:
    """The catalogue twice: as records, and as parallel arrays [n_items] for the choice model."""

    items: dict[str, Item]
    ids: np.ndarray
    category: np.ndarray
    """int64, index into the vocabulary's categories."""
    brand: np.ndarray
    """int64, index into `brands`."""
    colour: np.ndarray
    """int64, index into the vocabulary's colours."""
    material: np.ndarray
    """int64, index into `materials`."""
    log_price: np.ndarray
    """float64, natural logarithm of the price."""
    level: np.ndarray
    """int64, price level 1 … 5 within the category."""
    rating: np.ndarray
    """float64, stars."""
    brands: tuple[str, ...]
    materials: tuple[str, ...]
    vocabulary: Vocabulary


def make_catalogue(seed: int, items_per_category: int, vocabulary: Vocabulary = ENGLISH) -> Shop:
    """Products with a brand, colour, material, price and rating each; the same seed gives the same products."""
    rng = np.random.default_rng([seed, 0])
    brands = tuple(sorted({b for d in vocabulary.departments.values() for b in d.brands}))
    materials = vocabulary.materials
    colours = list(vocabulary.colours)
    dearness = dict(zip(brands, rng.normal(0, 0.35, len(brands))))
    records: list[Item] = []
    columns: list[tuple[int, int, int, int, float, float]] = []
    for c, category in enumerate(vocabulary.categories):
        department = vocabulary.departments[category.department]
        for n in range(items_per_category):
            brand = str(rng.choice(department.brands))
            material = str(rng.choice(department.materials))
            colour = str(rng.choice(vocabulary.colours))
            noun = str(rng.choice(category.nouns))
            log_price = np.log(category.price) + dearness[brand] + rng.normal(0, category.spread)
            price = (
                float(np.round(np.exp(log_price))) + 0.99
                if log_price < np.log(100)
                else float(np.round(np.exp(log_price), -1) - 1)
            )
            rating = float(np.clip(np.round(rng.normal(4.1, 0.4), 1), 2.5, 5.0))
            words = {"brand": brand, "material": material, "noun": noun, "colour": colour}
            title = vocabulary.titles[0 if rng.random() < 0.5 else 1].format_map(words)
            records.append(
                Item(
                    item_id=f"{category.name.lower().replace(' ', '-')}-{n:03d}",
                    title=title,
                    category=(category.department, category.name),
                    brand=brand,
                    price=price,
                    currency=vocabulary.currency,
                    rating=rating,
                    rating_count=int(rng.lognormal(4, 1.2)),
                    attributes={"colour": colour, "material": material},
                    description=vocabulary.description.format_map(words),
                )
            )
            columns.append(
                (c, brands.index(brand), colours.index(colour), materials.index(material), np.log(price), rating)
            )
    items = with_price_levels(records)
    category_, brand_, colour_, material_, price_, rating_ = (np.array(x) for x in zip(*columns))
    return Shop(
        items=items,
        ids=np.array(list(items)),
        category=category_,
        brand=brand_,
        colour=colour_,
        material=material_,
        log_price=price_,
        level=np.array([i.price_level for i in items.values()]),
        rating=rating_,
        brands=brands,
        materials=materials,
        vocabulary=vocabulary,
    )
