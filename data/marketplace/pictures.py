"""Simple pictures of the simulated shop's products: the colour is the product's, the outline says what it is, the
texture what it is made of.

write_pictures(Path("runs/shop"), shop.items)      # runs/shop/images/sweaters-004.png, …
draw(shop.items["sweaters-004"])                   # uint8 [32, 32, 3]
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from reshelf.data.atomic import atomic
from reshelf.data.marketplace.chinese import CHINESE
from reshelf.data.marketplace.vocabulary import ENGLISH
from reshelf.data.schema import Item

SIZE = 32
"""Pixels a side."""
FOLDER = "images"
PAPER = (250, 248, 244)
"""Behind the product: no product's colour."""
_PALETTE = (
    (30, 30, 30), (255, 255, 255), (140, 140, 140), (20, 30, 90), (50, 110, 220), (40, 150, 70),
    (210, 40, 40), (240, 210, 50), (245, 150, 190), (220, 200, 165), (115, 70, 40), (130, 60, 160),
)  # fmt: skip
_LANGUAGES = (ENGLISH, CHINESE)
RGB = {colour: rgb for words in _LANGUAGES for colour, rgb in zip(words.colours, _PALETTE, strict=True)}
_MATERIAL = {material: n for words in _LANGUAGES for n, material in enumerate(words.materials)}
_CATEGORY = {category.name: (n, category) for words in _LANGUAGES for n, category in enumerate(words.categories)}


def picture_path(item: Item) -> str:
    """Where a product's picture lies in its data set folder."""
    return f"{FOLDER}/{item.item_id}.png"


def write_pictures(folder: Path, items: Mapping[str, Item]) -> None:
    """Draw every product into `folder`/images.

    Raises:
        InputError: the folder cannot be written to.
    """
    for item in items.values():
        with atomic(folder / picture_path(item)) as partial:
            Image.fromarray(draw(item)).save(partial, format="PNG")


def draw(item: Item) -> npt.NDArray[np.uint8]:
    """The picture of one product of the simulated shop, uint8 [SIZE, SIZE, 3]."""
    number, category = _CATEGORY[item.category[-1]]
    noun = next(n for n, words in enumerate(category.nouns) if words in item.title)
    y, x = (np.mgrid[:SIZE, :SIZE] - (SIZE - 1) / 2) / (SIZE / 2)
    inside = _outline(x, y, number, noun)
    shade = np.where(_texture(_MATERIAL[item.attributes["material"]]), 1.0, 0.72)
    colour = np.array(RGB[item.attributes["colour"]])
    # A dark edge, so that white shows on paper.
    core = inside & np.roll(inside, 1, 0) & np.roll(inside, -1, 0) & np.roll(inside, 1, 1) & np.roll(inside, -1, 1)
    picture = np.where(inside[..., None], np.array([70, 70, 70]), np.array(PAPER))
    return np.where(core[..., None], colour * shade[..., None], picture).round().astype(np.uint8)


def _outline(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], category: int, noun: int) -> npt.NDArray[np.bool_]:
    """A flower in polar coordinates: lobes and depth tell the category, proportions the noun; bool [SIZE, SIZE]."""
    lobes, depth = 2 + category % 5, 0.08 + 0.07 * (category // 5)
    wide = (1.0, 1.3, 0.77)[noun]
    x, y = x / min(wide, 1.0), y * max(wide, 1.0)
    return np.hypot(x, y) < 0.92 * (1 - depth + depth * np.cos(lobes * np.arctan2(y, x)))


def _texture(material: int) -> npt.NDArray[np.bool_]:
    """Stripes of a direction and period of the material's own, bool [SIZE, SIZE]."""
    period, direction = 3 + material // 4, material % 4
    down, across = np.mgrid[:SIZE, :SIZE]
    along = (across, down, across + down, across - down)[direction]
    return along % period < (period + 1) // 2
