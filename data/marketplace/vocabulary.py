"""The words of the simulated shop: categories, brands, colours and materials. Brand names are invented."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

COLOURS = ("black", "white", "grey", "navy", "blue", "green", "red", "yellow", "pink", "beige", "brown", "purple")


@dataclass(frozen=True)
class Category:
    """A leaf of the shop's tree. `price` is the median in the shop's currency, `spread` the standard deviation of its
    logarithm."""

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
    """All the words of one shop. `titles`, `description` and `query` are formats."""

    colours: Sequence[str] = COLOURS
    departments: Mapping[str, Department] = field(default_factory=lambda: DEPARTMENTS)
    categories: Sequence[Category] = CATEGORIES
    titles: tuple[str, str] = ("{brand} {material} {noun}, {colour}", "{brand} {noun} in {colour} {material}")
    """A title is in the one form or the other."""
    description: str = "A {colour} {noun} in {material}, made by {brand}."
    query: str = "{word} {category}"
    currency: str = "EUR"

    @property
    def materials(self) -> tuple[str, ...]:
        """Those of all departments, in alphabetical order."""
        return tuple(sorted({material for one in self.departments.values() for material in one.materials}))


ENGLISH = Vocabulary()
