"""One shopper's list before and after reranking, as rich tables.

console.print(before_after(ranking, data.items, scores))
console.print(before_after(ranking, data.items, scores, others={"vLLM": vllm_scores}, top=10))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from reshelf.data.schema import GRADES, Event, Item, RankingList
from reshelf.metrics.ordering import best_first, ranks
from reshelf.unicode import printable


def before_after(
    ranking: RankingList,
    items: Mapping[str, Item],
    scores: Sequence[float] | np.ndarray,
    *,
    others: Mapping[str, Sequence[float] | np.ndarray] | None = None,
    top: int = 10,
    recent: int = 8,
) -> Group:
    """The query, the end of the history, the first `top` places of the first stage, and those after reranking.

    Args:
        scores: [K], higher is better, in the order of `ranking.candidates`; they make the order "after".
        others: more score columns to show beside it, by heading, e.g. another engine's scores of the same list.
        top: places shown of each order.
        recent: events shown of the history.
    """
    columns = {"score": np.asarray(scores, dtype=np.float64)}
    columns |= {name: np.asarray(values, dtype=np.float64) for name, values in (others or {}).items()}
    for name, values in columns.items():
        if len(values) != len(ranking.candidates):
            raise ValueError(f"{name}: {len(values)} scores for {len(ranking.candidates)} candidates")
    after, now = best_first(columns["score"]), ranks(columns["score"]) - 1
    parts: list[RenderableType] = [Text.assemble(("Query  ", "bold"), printable(ranking.query) or "(none)")]
    if ranking.history:
        parts.append(history_table(ranking.history, items, recent))
    parts.append(_places("Before: first-stage order", np.arange(len(after))[:top], ranking, items, now, {}))
    parts.append(_places("After: reranked for this shopper", after[:top], ranking, items, now, columns))
    return Group(*parts)


def history_table(history: Sequence[Event], items: Mapping[str, Item], recent: int) -> Table:
    """The last `recent` events, oldest first."""
    hidden = max(len(history) - recent, 0)
    title = "History" + (f" (the last {recent} of {len(history)} events)" if hidden else "")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("event")
    table.add_column("product or query", overflow="ellipsis", no_wrap=True, max_width=60)
    table.add_column("price", justify="right")
    for event in history[hidden:]:
        if event.item_id is None:
            table.add_row(event.kind.value, Text(printable(event.query or "")), "")
        else:
            item = items[event.item_id]
            table.add_row(event.kind.value, Text(printable(item.title)), item.price_text)
    return table


def _places(
    title: str,
    shown: np.ndarray,
    ranking: RankingList,
    items: Mapping[str, Item],
    now: np.ndarray,
    columns: Mapping[str, np.ndarray],
) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), expand=True)
    table.add_column("before", justify="right", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    # The title gives way where the screen is narrow; a number cut short would be a wrong number.
    table.add_column("product", overflow="ellipsis", no_wrap=True, ratio=1)
    table.add_column("price", justify="right", no_wrap=True)
    if ranking.labels is not None:
        table.add_column("did", no_wrap=True)
    if ranking.utility is not None:
        table.add_column("utility", justify="right", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for place in shown:
        item = items[ranking.candidates[place]]
        rank = _moved(int(place), int(now[place]))
        row: list[RenderableType] = [str(place + 1), rank, Text(printable(item.title)), item.price_text]
        if ranking.labels is not None:
            row.append(GRADES[ranking.labels[place]] if ranking.labels[place] else "")
        if ranking.utility is not None:
            row.append(f"{ranking.utility[place]:.3f}")
        row += [f"{values[place]:.4f}" for values in columns.values()]
        table.add_row(*row)
    return table


def _moved(before: int, after: int) -> Text:
    if after == before:
        return Text(f"{after + 1}  ")
    return Text(f"{after + 1} ↑", "green") if after < before else Text(f"{after + 1} ↓", "red")
