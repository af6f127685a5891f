"""Shoppers with hidden tastes, and the choice model that turns a taste into what they do.

The wish of a shopper for a product, in log-odds:

    w = b·[brand liked] + c·[colour liked] + m·[material liked] − p·|price level − preferred level|
        + 0.5·(stars − 4) + 1.2·[what the query asked for] − 4·[another category than the query's]
        − 0.6·(log price − median log price of the list's products in the category)
        − context·(h − mean h) / sd h,    h = share of the same colour + share of the same brand

The last two terms depend on the other products shown. A price that is low *for this list* helps. And what is rare
stands out (the isolation effect, von Restorff 1933): h adds up the shares of the *other* products in the list and the
query's category that have the product's colour, and that have its brand; mean and standard deviation run over the
list's products in the category, and the term is 0 for products of other categories and where all h are equal. `context`
is 0 unless asked for.

Somebody who examines the product clicks with probability σ(w − 2), puts it in the cart after a click
with σ(w − 2), and buys what is in the cart with σ(w − 1). A product shown at place r is examined with probability
r^(−η), the position-based model (Craswell et al., WSDM 2008). The expected utility of a product is the probability that
a shopper who examines it buys it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reshelf.data.marketplace.catalogue import Shop

LIKED_BRANDS_PER_DEPARTMENT = 2
LIKED_MATERIALS_PER_DEPARTMENT = 2
LIKED_COLOURS = 3


@dataclass(frozen=True)
class Taste:
    """What a shopper likes. It is hidden: only behaviour that follows from it reaches a data set."""

    departments: tuple[str, ...]
    brands: np.ndarray
    """bool [n_brands]."""
    colours: np.ndarray
    """bool [n_colours]."""
    materials: np.ndarray
    """bool [n_materials]."""
    level: float
    """Preferred price level, 1 … 5."""
    brand_weight: float
    colour_weight: float
    material_weight: float
    price_weight: float


def draw_taste(shop: Shop, rng: np.random.Generator) -> Taste:
    """A shopper who is at home in two departments."""
    departments = tuple(str(d) for d in rng.choice(list(shop.vocabulary.departments), size=2, replace=False))
    brands = np.zeros(len(shop.brands), dtype=bool)
    materials = np.zeros(len(shop.materials), dtype=bool)
    for name in departments:
        department = shop.vocabulary.departments[name]
        for brand in rng.choice(department.brands, LIKED_BRANDS_PER_DEPARTMENT, replace=False):
            brands[shop.brands.index(str(brand))] = True
        for material in rng.choice(department.materials, LIKED_MATERIALS_PER_DEPARTMENT, replace=False):
            materials[shop.materials.index(str(material))] = True
    colours = np.zeros(len(shop.vocabulary.colours), dtype=bool)
    colours[rng.choice(len(colours), LIKED_COLOURS, replace=False)] = True
    brand_weight, colour_weight, material_weight = rng.uniform(1.5, 3.5, 3)
    return Taste(
        departments=departments,
        brands=brands,
        colours=colours,
        materials=materials,
        level=float(rng.uniform(1, 5)),
        brand_weight=float(brand_weight),
        colour_weight=float(colour_weight),
        material_weight=float(material_weight),
        price_weight=float(rng.uniform(0.6, 1.6)),
    )


def own_categories(shop: Shop, taste: Taste) -> np.ndarray:
    """Indices of the categories in the shopper's departments, int64."""
    return np.array([i for i, c in enumerate(shop.vocabulary.categories) if c.department in taste.departments])


def wish(shop: Shop, taste: Taste, rows: np.ndarray) -> np.ndarray:
    """The part of the wish that the product alone decides, float64 [len(rows)]."""
    return (
        taste.brand_weight * taste.brands[shop.brand[rows]]
        + taste.colour_weight * taste.colours[shop.colour[rows]]
        + taste.material_weight * taste.materials[shop.material[rows]]
        - taste.price_weight * np.abs(shop.level[rows] - taste.level)
        + 0.5 * (shop.rating[rows] - 4)
    )


def wish_in_list(
    shop: Shop, taste: Taste, rows: np.ndarray, category: int, matches: np.ndarray, context: float = 0.0
) -> np.ndarray:
    """The whole wish for the products of one list, float64 [len(rows)].

    Args:
        rows: the list's products.
        category: what the query is about.
        matches: bool [len(rows)], whether the product has the colour or material that the query names.
        context: weight of standing out, in log-odds per standard deviation.
    """
    inside = shop.category[rows] == category
    price = shop.log_price[rows]
    median = np.median(price[inside]) if inside.any() else np.median(price)
    wishes = wish(shop, taste, rows) + 1.2 * matches - 4.0 * ~inside - 0.6 * np.where(inside, price - median, 0.0)
    if context:
        wishes[inside] += context * standing_out(shop, rows[inside])
    return wishes


def standing_out(shop: Shop, rows: np.ndarray) -> np.ndarray:
    """How rare a product's colour and brand are among the other products of its list, float64 [len(rows)].

    Mean 0 and standard deviation 1 over the list; all 0 where none is rarer than another.
    """
    if len(rows) < 2:
        return np.zeros(len(rows))
    # in whole numbers, so that equal crowds are equal; the product itself counts as 1 in both
    same = sum((kind[rows][:, None] == kind[rows]).sum(axis=1) - 1 for kind in (shop.colour, shop.brand))
    crowd = np.asarray(same) / (len(rows) - 1)
    spread = crowd.std()
    return np.zeros(len(rows)) if np.ptp(same) == 0 else (crowd.mean() - crowd) / spread


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def expected_utility(wishes: np.ndarray) -> np.ndarray:
    """Probability that a shopper who examines the product buys it, float64 in (0, 1)."""
    return sigmoid(wishes - 2) ** 2 * sigmoid(wishes - 1)


def behave(
    wishes: np.ndarray,
    position_bias: float,
    rng: np.random.Generator,
    decisiveness: float = 1.0,
    places: np.ndarray | None = None,
) -> np.ndarray:
    """One shopper's grades for a list: 0 none, 1 click, 2 cart, 3 purchase; int64 [K].

    `decisiveness` multiplies the log-odds: far above 1, shoppers do exactly what they wish. `places` int [K] are the
    1-based places where the products are shown; without them, they are shown in the order given.
    """
    n = len(wishes)
    places = np.arange(1, n + 1) if places is None else places
    likely, sure = sigmoid(decisiveness * (wishes - 2)), sigmoid(decisiveness * (wishes - 1))
    examined = rng.random(n) < places ** -float(position_bias)
    clicked = examined & (rng.random(n) < likely)
    carted = clicked & (rng.random(n) < likely)
    bought = carted & (rng.random(n) < sure)
    return clicked.astype(np.int64) + carted + bought
