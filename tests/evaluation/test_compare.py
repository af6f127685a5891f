"""The before and after tables: right ranks, nothing invented, and a catalogue that cannot play with the terminal."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from reshelf.data.schema import Event, EventKind, Item, RankingList
from reshelf.evaluation.compare import before_after


def printed(ranking: RankingList, items: dict[str, Item], scores: list[float], **options: object) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(before_after(ranking, items, scores, **options))
    return console.file.getvalue()


def shop(n: int = 4) -> dict[str, Item]:
    return {f"i{i}": Item(item_id=f"i{i}", title=f"Product {i}", price=10.0 * i, currency="EUR") for i in range(n)}


def one_list(n: int = 4, **fields: object) -> RankingList:
    return RankingList(list_id="l", user_id="u", query="green lamp", candidates=tuple(shop(n)), **fields)


def test_ranks_before_and_after_are_those_of_the_scores() -> None:
    text = printed(one_list(), shop(), [0.1, 0.9, 0.1, 0.5], top=4)
    after = text.split("After", 1)[1]
    order = [line.split("Product ")[1][0] for line in after.splitlines() if "Product" in line]
    assert order == ["1", "3", "0", "2"]  # the tie of 0 and 2 keeps first-stage order
    before = [line.split() for line in text.split("After")[0].splitlines() if "Product" in line]
    assert [(cells[0], cells[1]) for cells in before] == [("1", "3"), ("2", "1"), ("3", "4"), ("4", "2")]


def test_top_limits_both_tables() -> None:
    text = printed(one_list(), shop(), [1.0, 2.0, 3.0, 4.0], top=2)
    assert text.count("Product 0") == text.count("Product 1") == 1
    assert text.count("Product 3") == text.count("Product 2") == 1


def test_outcomes_show_only_where_they_are_known() -> None:
    plain = printed(one_list(), shop(), [1.0, 2.0, 3.0, 4.0])
    assert "utility" not in plain
    assert "purchase" not in plain
    known = one_list(labels=(0, 3, 0, 0), utility=(0.1, 0.875, 0.2, 0.3))
    full = printed(known, shop(), [1.0, 2.0, 3.0, 4.0], others={"vLLM": np.array([1.5, 2.5, 3.5, 4.5])})
    assert full.count("purchase") == 2
    assert full.count("0.875") == 2
    assert "vLLM" in full
    assert "4.5000" in full


def test_history_is_cut_to_its_recent_end_and_says_so() -> None:
    history = (
        Event(kind=EventKind.CLICK, item_id="i0"),
        Event(kind=EventKind.SEARCH, query="desk"),
        Event(kind=EventKind.PURCHASE, item_id="i3"),
    )
    head = printed(one_list(history=history), shop(), [1.0, 2.0, 3.0, 4.0], recent=2).split("Before")[0]
    assert "the last 2 of 3 events" in head
    assert "Product 0" not in head
    assert head.index("desk") < head.index("Product 3")


def test_text_of_sellers_is_shown_and_never_obeyed() -> None:
    items = shop() | {"i0": Item(item_id="i0", title="[bold red]Deal[/] \x1b[2J\x07 :smile: [/oops]")}
    text = printed(one_list(), items, [4.0, 3.0, 2.0, 1.0])
    assert "[bold red]Deal[/]" in text
    assert "[/oops]" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_score_for_every_candidate_or_none() -> None:
    with pytest.raises(ValueError, match="vLLM: 2 scores for 4 candidates"):
        before_after(one_list(), shop(), [1.0, 2.0, 3.0, 4.0], others={"vLLM": [1.0, 2.0]})
