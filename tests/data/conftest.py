"""A small shop, and a small export, for the import tests."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export import Export
from shop_tables import Shop


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    """Twelve items, thirty events and six lists, not yet written."""
    return Shop(tmp_path)


@pytest.fixture
def export(tmp_path: Path) -> Export:
    """Seven products, four events and one list, not yet written."""
    return Export(tmp_path)
