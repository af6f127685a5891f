"""A small shop for the import tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from shop_tables import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Twelve items, thirty events and six lists, not yet written."""
    return Shop(tmp_path)
