"""The summary names what is there, and refuses what is not."""

from __future__ import annotations

import pytest
from shop_tables import Shop

from reshelf.data.show import ShowConfig, show
from reshelf.errors import InputError


def test_the_summary_shows_counts_losses_and_a_list(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.tables["events"].append({"customer": "u0", "sku": "gone", "ts": 8_640_000, "what": "view"})
    shop.tables["items"][3]["name"] = "mug [bold]loud[/bold]"
    shop.mapping["signals"] = {"names": ["popularity"]}
    shop.load()
    show(ShowConfig(data=shop.out, split="train"))
    text = capsys.readouterr().out
    for words in (
        "12 items",
        "label 3 (purchase)",
        "dropped of events: 1 of 31 rows: item not in the catalogue",
        "mug",
    ):
        assert words in text
    assert "[bold]" in text, "what sellers write is shown, not obeyed"
    assert "popularity" in text


def test_a_split_or_list_that_is_not_there(shop: Shop) -> None:
    shop.tables["lists"] = shop.tables["lists"][:3]
    shop.load()
    with pytest.raises(InputError, match=r"no test\.parquet; it has train"):
        show(ShowConfig(data=shop.out, split="test"))
    with pytest.raises(InputError, match="list 3 is not there"):
        show(ShowConfig(data=shop.out, number=3))
