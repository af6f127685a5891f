"""The words of the simulated shop: categories, brands, colours and materials. Brand names are invented.

`draw_vocabulary` invents another shop, English or Chinese, out of lists of words: no two are alike, so that what is
learned of many of them holds in one whose words were never seen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Language = Literal["en", "zh"]

COLOURS = ("black", "white", "grey", "navy", "blue", "green", "red", "yellow", "pink", "beige", "brown", "purple")


@dataclass(frozen=True)
class Category:
    """A leaf of the shop's tree. `price` is the median in EUR, `spread` the standard deviation of its logarithm."""

    department: str
    name: str
    nouns: tuple[str, ...]
    price: float
    spread: float = 0.45


@dataclass(frozen=True)
class Department:
    brands: tuple[str, ...]
    materials: tuple[str, ...]


DEPARTMENTS = {
    "Fashion": Department(
        brands=("Nordvik", "Halden", "Marlowe", "Avenza", "Tessuto", "Kindred", "Brightwater", "Solane"),
        materials=("cotton", "wool", "linen", "leather", "polyester", "cashmere"),
    ),
    "Home": Department(
        brands=("Nordvik", "Casalumo", "Oakmere", "Fennhus", "Atelier", "Solane", "Rookwood", "Lumen"),
        materials=("oak", "walnut", "velvet", "rattan", "steel", "linen"),
    ),
    "Kitchen": Department(
        brands=("Casalumo", "Ferro", "Kettlewell", "Atelier", "Brasa", "Hearthside", "Mizuno", "Pantry"),
        materials=("steel", "ceramic", "glass", "bamboo", "copper", "enamel"),
    ),
    "Outdoor": Department(
        brands=("Halden", "Ridgeline", "Tarn", "Summitry", "Brightwater", "Wildfell", "Trekka", "Kestrel"),
        materials=("nylon", "aluminium", "fleece", "canvas", "down", "recycled"),
    ),
    "Electronics": Department(
        brands=("Lumen", "Voxel", "Sonaro", "Kestrel", "Pixium", "Arclight", "Tonika", "Mizuno"),
        materials=("plastic", "aluminium", "leather", "bamboo", "silicone", "glass"),
    ),
}

CATEGORIES = (
    Category("Fashion", "Sweaters", ("crew sweater", "turtleneck sweater", "knit sweater"), 60),
    Category("Fashion", "Jackets", ("rain jacket", "bomber jacket", "field jacket"), 120),
    Category("Fashion", "Dresses", ("wrap dress", "summer dress", "shirt dress"), 80),
    Category("Fashion", "Sneakers", ("running sneakers", "court sneakers", "slip-on sneakers"), 85),
    Category("Fashion", "Boots", ("ankle boots", "chelsea boots", "winter boots"), 130),
    Category("Fashion", "Scarves", ("square scarf", "winter scarf", "loop scarf"), 30),
    Category("Home", "Sofas", ("corner sofa", "two-seat sofa", "sleeper sofa"), 900),
    Category("Home", "Armchairs", ("reading armchair", "wing armchair", "swivel armchair"), 320),
    Category("Home", "Lamps", ("floor lamp", "table lamp", "desk lamp"), 70),
    Category("Home", "Rugs", ("runner rug", "area rug", "round rug"), 140),
    Category("Home", "Coffee tables", ("round coffee table", "nesting coffee table", "storage coffee table"), 180),
    Category("Home", "Bookshelves", ("ladder bookshelf", "wall bookshelf", "corner bookshelf"), 150),
    Category("Kitchen", "Mugs", ("coffee mug", "travel mug", "espresso mug"), 14),
    Category("Kitchen", "Frying pans", ("deep frying pan", "grill frying pan", "crepe frying pan"), 45),
    Category("Kitchen", "Kettles", ("stovetop kettle", "gooseneck kettle", "whistling kettle"), 50),
    Category("Kitchen", "Plates", ("dinner plates", "dessert plates", "serving plates"), 35),
    Category("Kitchen", "Cutting boards", ("carving cutting board", "slim cutting board", "round cutting board"), 28),
    Category("Outdoor", "Tents", ("dome tent", "tunnel tent", "family tent"), 240),
    Category("Outdoor", "Sleeping bags", ("mummy sleeping bag", "summer sleeping bag", "wide sleeping bag"), 110),
    Category("Outdoor", "Backpacks", ("day backpack", "trekking backpack", "roll-top backpack"), 95),
    Category("Outdoor", "Water bottles", ("sports water bottle", "insulated water bottle", "slim water bottle"), 24),
    Category("Electronics", "Headphones", ("studio headphones", "wireless headphones", "travel headphones"), 140),
    Category("Electronics", "Speakers", ("bookshelf speaker", "travel speaker", "party speaker"), 110),
    Category("Electronics", "Phone cases", ("slim phone case", "folio phone case", "rugged phone case"), 22),
    Category("Electronics", "Keyboards", ("compact keyboard", "wireless keyboard", "gaming keyboard"), 80),
)


@dataclass(frozen=True)
class Vocabulary:
    """All the words of one shop. `titles` and `query` are formats; `sizes` are what a shopper does not care about."""

    colours: Sequence[str] = COLOURS
    departments: Mapping[str, Department] = field(default_factory=lambda: DEPARTMENTS)
    categories: Sequence[Category] = CATEGORIES
    titles: tuple[str, str] = ("{brand} {material} {noun}, {colour}", "{brand} {noun} in {colour} {material}")
    """A title is in the one form or the other."""
    sizes: Sequence[str] = ()
    """Stand behind every other title, where there are any."""
    description: str = "A {colour} {noun} in {material}, made by {brand}."
    query: str = "{word} {category}"


_TITLES = {
    "en": (
        "{brand} {material} {noun}, {colour}",
        "{brand} {noun} in {colour} {material}",
        "{colour} {noun} by {brand}, {material}",
        "{brand} {colour} {material} {noun}",
        "{noun} ({colour}, {material}) - {brand}",
    ),
    "zh": (
        "{brand}{colour}{material}{noun}",
        "{brand} {noun} {material} {colour}",
        "【{brand}】{material}{noun} {colour}",
        "{colour}{noun} {brand} {material}款",
        "{brand}{material}{noun}（{colour}）",
    ),
}
_SIZES = {
    "en": ("{n} ml", "{n} oz", "pack of {n}", "size {n}", "{n} cm", "{n}-piece set", "{n} g", "model {n}", "No. {n}"),
    "zh": ("{n}毫升", "{n}克", "{n}件装", "{n}码", "{n}厘米", "{n}片", "{n}盒", "型号{n}", "{n}号"),
}
_JOIN = {"en": " ", "zh": ""}
_DEPARTMENTS, _CATEGORIES, _NOUNS, _BRANDS, _MATERIALS, _COLOURS, _SIZE_WORDS = 5, 5, 3, 8, 6, 12, 40


def draw_vocabulary(words: Mapping[str, Sequence[str]], language: Language, rng: np.random.Generator) -> Vocabulary:
    """The words of an invented shop in `language`.

    Args:
        words: `nouns`, `brands`, `materials` and `colours` to draw from; a shop takes no word twice.
    """

    def draw(kind: str, count: int) -> list[str]:
        return [str(word) for word in rng.choice(words[kind], count, replace=False)]

    nouns = iter(draw("nouns", _DEPARTMENTS * (1 + _CATEGORIES * (1 + _NOUNS))))
    brands = draw("brands", _DEPARTMENTS * _BRANDS)
    # Made of materials and of whatever else stands in a title: names, flavours, parts.
    materials = draw("materials", min(_DEPARTMENTS * _MATERIALS, len(words["materials"])))
    departments: dict[str, Department] = {}
    categories: list[Category] = []
    for n in range(_DEPARTMENTS):
        department = next(nouns)
        own = tuple(str(word) for word in rng.choice(materials, _MATERIALS, replace=False))
        departments[department] = Department(tuple(brands[n * _BRANDS : (n + 1) * _BRANDS]), own)
        for _ in range(_CATEGORIES):
            name = next(nouns)
            kinds = tuple(f"{next(nouns)}{_JOIN[language]}{name}" for _ in range(_NOUNS))
            categories.append(Category(department, name, kinds, float(np.exp(rng.uniform(2, 6.5)))))
    sizes = rng.choice(_SIZES[language], _SIZE_WORDS)
    first, second = rng.choice(_TITLES[language], 2, replace=False)
    return Vocabulary(
        colours=draw("colours", _COLOURS),
        departments=departments,
        categories=categories,
        titles=(str(first), str(second)),
        sizes=[str(size).format(n=rng.integers(1, 500)) for size in sizes],
        description="{brand} {material} {noun} {colour}",
        query="{word} {category}" if language == "en" else "{word}{category}",
    )
