"""The summary names what is there, and refuses what is not."""

from __future__ import annotations

import pytest
from shop_tables import DAY, Shop

from reshelf.data.show import ShowConfig, show
from reshelf.errors import InputError


def test_the_summary_shows_counts_losses_and_a_list(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.tables["events"].append({"customer": "u0", "sku": "gone", "ts": 8_640_000, "what": "view"})
    shop.tables["items"][3]["name"] = "mug [bold]loud[/bold] \x1b[2J"
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
    assert "\x1b" not in text
    assert "popularity" in text


def test_the_summary_draws_what_found_what_by_split(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    shop.tables["lists"][0]["ts"] = DAY  # before all events: no history
    shop.tables["lists"][1]["bought"] = [0, 0, 0]
    shop.load()
    lists = shop.report()["lists"]
    assert {split: (f["share_with_history"], f["share_with_outcome"]) for split, f in lists.items()} == {
        "train": (0.75, 0.75), "valid": (1.0, 1.0), "test": (1.0, 1.0),
    }  # fmt: skip
    capsys.readouterr()
    show(ShowConfig(data=shop.out))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    of_split = [[cell for cell in row if cell.endswith("%")] for row in rows if "split" in row]
    assert of_split == [["75.0%", "100.0%", "100.0%"]] * 2
    [found] = [row for row in rows if "catalogue" in row and "events" in row]
    assert "100.0%" in found


def test_a_split_or_list_that_is_not_there(shop: Shop) -> None:
    shop.tables["lists"] = shop.tables["lists"][:3]
    shop.load()
    with pytest.raises(InputError, match=r"no test\.parquet; it has train"):
        show(ShowConfig(data=shop.out, split="test"))
    with pytest.raises(InputError, match="list 3 is not there"):
        show(ShowConfig(data=shop.out, number=3))
