"""Product pictures as small squares.

rows, pixels = read_pictures(items, folder)                       # int64 [n], uint8 [P, 3, 32, 32]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reshelf.data.schema import Item

SIZE = 32


def read_pictures(items: Sequence[Item], folder: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """The picture of each item, RGB, resized to 32 x 32.

    Args:
        items: with `image` a path relative to `folder`; an address on the web is not fetched.
        folder: None reads nothing.

    Returns:
        int64 [n], the row of an item's picture, 0 where there is none that can be read; uint8 [P, 3, 32, 32], row 0
        black.
    """
    rows = np.zeros(len(items), dtype=np.int64)
    pixels = [np.zeros((3, SIZE, SIZE), dtype=np.uint8)]
    if folder is not None:
        from PIL import Image, UnidentifiedImageError

        for n, item in enumerate(items):
            if not item.image or "://" in item.image:
                continue
            try:
                with Image.open(folder / item.image) as picture:
                    small = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError):
                continue
            rows[n] = len(pixels)
            pixels.append(np.asarray(small).transpose(2, 0, 1))
    return rows, np.stack(pixels)
