"""`reshelf rerank`: reorder one list for one shopper, from a JSON file or from flags, as a table or as JSON.

    reshelf rerank --model runs/demo/model --data runs/demo/data --list_id s1-1053-0
    reshelf rerank --model runs/demo/model --data runs/demo/data --list_id s1-1053-0 --explain
    reshelf rerank --model runs/demo/model --request request.json --json
    reshelf rerank --model runs/demo/model --data runs/demo/data --query "rain jacket" \\
        --candidates '[p17, p3, p88]' --history '["search:jacket", "purchase:p5"]'

A request file holds the arguments of `Reranker.rerank`:

    {"query": "rain jacket",
     "candidates": [{"item_id": "p17", "title": "Rain jacket", "price": 49.0, "currency": "EUR"}, "p3"],
     "history": [{"kind": "purchase", "item_id": "p5", "time": "2026-03-01T10:00:00Z"}],
     "history_items": [{"item_id": "p5", "title": "Hiking boots"}]}

An item is written out, or named by its id where `data` has it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from reshelf.data.dataset_folder import load_dataset_folder, read_items
from reshelf.data.schema import Event, Item, RankingList
from reshelf.errors import InputError
from reshelf.inference.engines.engine import EngineName
from reshelf.inference.explanation import Explanation
from reshelf.inference.reranker import RankedList, Reranker
from reshelf.inference.rules import read_rules
from reshelf.inference.truncation import truncation_remarks
from reshelf.modeling.precision import Precision
from reshelf.ranges import AT_LEAST_1, SHARE, check_numbers
from reshelf.translation import translations
from reshelf.unicode import printable

_FIELDS = (
    *("query", "context", "candidates", "history", "history_items", "scores", "features", "time"),
    *("personalization", "rules"),
)
_BARS = 8
"""Reasons shown as bars."""
_BAR_WIDTH = 24


@dataclass
class RerankConfig:
    """One list to reorder: from `request`, or `list_id` of `data`, or `query`, `candidates` and `history`."""

    model: str
    """Reranker folder, or its id on the Hugging Face Hub."""
    request: Path | None = None
    """JSON file with query, context, candidates, history, history_items, scores, features, time, personalization,
    rules."""
    data: Path | None = None
    """Data set folder: its items are the catalogue that ids are looked up in."""
    list_id: str | None = None
    """A list of `data`, by its id; any split."""
    query: str = ""
    """What the shopper searches for; empty for a recommendation slot."""
    candidates: list[str] = field(default_factory=list)
    """Item ids in first-stage order, best first."""
    history: list[str] = field(default_factory=list)
    """What the shopper did, oldest first: kind:item_id (view, click, cart, purchase), rating:item_id=stars, or
    search:words."""
    scores: list[float] = field(default_factory=list)
    """First-stage scores of `candidates`, higher is better, for models that read them."""
    impute: bool = False
    """Rank with medians in place of numbers that the model reads and that are missing."""
    personalization: float | None = None
    """How much of the order is the model's, from 0 (first-stage order) to 1."""
    rules: Path | None = None
    """JSON file of rules: only, never, pins, boosts, limits."""
    engine: EngineName = "auto"
    """auto, transformers or vllm; auto is the faster one here by `reshelf engines`; where that was not run, vLLM if it
    is installed and there is a GPU, else transformers."""
    precision: Precision = "auto"
    """In which numbers scores are computed: float32, bfloat16, or nf4 (the 4 bits it was trained over, least memory);
    auto is bfloat16 where it was trained in that and the device multiplies it fast, else float32."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for authors you trust. A model cannot ask for it."""
    top: int | None = None
    """Rows to show; all where not given."""
    explain: bool = False
    """Say of the best few why they stand where they do."""
    json: bool = False
    """Print JSON for programs instead of a table."""

    def __post_init__(self) -> None:
        check_numbers(self, {"top": AT_LEAST_1, "personalization": SHARE})


def rerank(config: RerankConfig) -> None:
    """Reorder one list for one shopper and print it."""
    catalogue, lists = _read_data(config)
    request = _request(config, lists)
    if config.personalization is not None:
        request["personalization"] = config.personalization
    if config.rules is not None:
        request["rules"] = read_rules(config.rules)
    with Reranker.from_pretrained(
        config.model, config.engine, catalogue, trust_remote_code=config.trust_remote_code, precision=config.precision
    ) as reranker:
        if config.list_id is not None:  # a data set may hold more than this model reads
            request["context"] = {k: v for k, v in request["context"].items() if k in reranker.spec.prompt.context}
        try:
            ranked = reranker.rerank(**request, impute=config.impute, explain=config.explain)
        except InputError as error:
            source = f"{config.request}, " if config.request else ""
            raise InputError(f"{source}{error}") from error
    if config.json:
        print(json.dumps(as_json(ranked, config.top), ensure_ascii=False, indent=2))
    else:
        show(ranked, request, catalogue, reranker.spec.prompt.language, config.top)


def as_json(ranked: RankedList, top: int | None = None) -> dict[str, Any]:
    """A ranked list as plain values."""
    return {
        "results": [
            {
                "item_id": entry.item.item_id,
                "rank": entry.rank,
                "first_stage_rank": entry.first_stage_rank,
                "score": entry.score,
                "probability": entry.probability,
            }
            | ({"rules": list(entry.rules)} if entry.rules else {})
            | ({} if entry.explanation is None else {"explanation": entry.explanation.model_dump(exclude_none=True)})
            for entry in ranked.entries[:top]
        ],
        "truncated": vars(ranked.truncated),
        "missing": list(ranked.missing),
    }


def show(
    ranked: RankedList,
    request: Mapping[str, Any],
    catalogue: Mapping[str, Item],
    language: str,
    top: int | None = None,
    console: Console | None = None,
) -> None:
    """Print what the shopper did and asked for, and the list with where every product was before.

    Args:
        language: of the model; what is remarked on the list is in it.
    """
    console = console or Console(file=sys.stdout)
    items = [*request.get("history_items", ()), *request["candidates"]]
    titles = {i["item_id"]: i["title"] for i in items if isinstance(i, dict)}
    for event in request.get("history", ())[-10:]:
        event = Event.model_validate(event)
        item = catalogue.get(event.item_id or "")
        what = event.query or (item.title if item else titles.get(event.item_id or "", event.item_id))
        console.print(
            Text.assemble((f"  {event.kind.value:9}", "dim"), printable(what)), overflow="ellipsis", no_wrap=True
        )
    console.print(Text(f"  {'query':9}{printable(request.get('query') or '(none: recommend)')}", "bold"))
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("rank", "was", ""):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("product", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    for entry in ranked.entries[:top]:
        moved = entry.first_stage_rank - entry.rank
        arrow = (
            Text(f"▲{moved}", "green") if moved > 0 else Text(f"▼{-moved}", "red") if moved < 0 else Text("·", "dim")
        )
        item = entry.item
        row = (
            str(entry.rank),
            str(entry.first_stage_rank),
            arrow,
            Text(printable(item.title)),
            item.price_text,
            f"{entry.score:+.3f}{' *' * bool(entry.rules)}",
        )
        table.add_row(*row)
    console.print(table)
    for entry in ranked.entries[:top]:
        if entry.rules:
            console.print(Text(f"  * {entry.rank}: {', '.join(entry.rules)}", "dim"))
    remarks = truncation_remarks(ranked.truncated, language)
    if ranked.missing:
        names = ", ".join(ranked.missing)
        remarks.append(translations(language).gettext("not known of some products: {names}").format(names=names))
    for remark in remarks:
        console.print(Text(f"  {remark}", "dim"))
    for entry in ranked.entries[:top]:
        if entry.explanation is not None:
            show_explanation(entry.item, entry.explanation, console)


def show_explanation(item: Item, explanation: Explanation, console: Console) -> None:
    """Print what moved a product, in words and as bars."""
    console.print()
    console.print(Text(printable(item.title), "bold"), overflow="ellipsis", no_wrap=True)
    console.print(Text(f"  {printable(explanation.text)}", "dim"))
    most = max((abs(reason.change) for reason in explanation.reasons), default=0.0) or 1.0
    table = Table(box=None, pad_edge=False, show_header=False)
    room = console.width - _BAR_WIDTH - len("  -10.00  ")  # a long name would else take it from the number
    table.add_column(no_wrap=True, overflow="ellipsis", max_width=max(room, 10))
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    for reason in explanation.reasons[:_BARS]:
        bar = Bar(most, 0, abs(reason.change), width=_BAR_WIDTH, color="green" if reason.change > 0 else "red")
        table.add_row(Text(f"  {printable(reason.name)}"), f"{reason.change:+.2f}", bar)
    console.print(table)


def _read_data(config: RerankConfig) -> tuple[dict[str, Item], list[RankingList]]:
    if config.data is None:
        if config.list_id is not None:
            raise InputError("list_id needs data: the data set folder that the list is in")
        return {}, []
    if config.list_id is None:
        return read_items(config.data / "items.parquet"), []
    data = load_dataset_folder(config.data)
    return data.items, [ranking for lists in data.lists.values() for ranking in lists]


def _request(config: RerankConfig, lists: list[RankingList]) -> dict[str, Any]:
    """The arguments of `Reranker.rerank`."""
    ways = [config.request is not None, config.list_id is not None, bool(config.candidates)]
    if sum(ways) != 1:
        raise InputError("give one of: request (a JSON file), list_id (a list of data), or candidates (item ids)")
    beside = [name for name in ("query", "history", "scores") if getattr(config, name)]
    if beside and not config.candidates:
        way = "request" if config.request is not None else "list_id"
        raise InputError(f"{beside[0]} goes with candidates, and {way} has its own; leave one of the two out")
    if config.request is not None:
        return _read_request(config.request)
    if config.list_id is not None:
        ranking = next((r for r in lists if r.list_id == config.list_id), None)
        if ranking is None:
            raise InputError(f"{config.data} has no list {config.list_id!r}; `reshelf data show` prints some")
        values = ranking.model_dump(mode="json", include=set(_FIELDS))
        return {name: value for name, value in values.items() if value is not None}
    history = [_event(text, n) for n, text in enumerate(config.history)]
    scores = config.scores or None
    return {"query": config.query, "candidates": config.candidates, "history": history, "scores": scores}


def _read_request(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}, column {error.colno} is not JSON: {error.msg}") from error
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one JSON object with {', '.join(_FIELDS)}")
    unknown = sorted(set(values) - set(_FIELDS))
    if unknown:
        raise InputError(f"{path}, unknown field {unknown[0]!r}; a request has {', '.join(_FIELDS)}")
    if "candidates" not in values:
        raise InputError(f"{path}, field candidates is missing: the items to reorder, best first")
    for name, allowed in (("candidates", (dict, str)), ("history", (dict,)), ("history_items", (dict,))):
        entries = values.get(name, [])
        if not isinstance(entries, list):
            raise InputError(f"{path}, field {name}: must be a list")
        wrong = next((n for n, entry in enumerate(entries) if not isinstance(entry, allowed)), None)
        if wrong is not None:
            raise InputError(
                f"{path}, field {name}[{wrong}]: must be an object" + (" or an item id" if str in allowed else "")
            )
    features = values.get("features")
    by_name = features if isinstance(features, dict) else {}
    for name, value, kind, what in (
        ("context", values.get("context"), dict, "an object of texts by name"),
        ("features", features, dict, "an object of lists of numbers by name"),
        ("scores", values.get("scores"), list, "a list of numbers"),
        *((f"features.{n}", v, list, "a list of numbers") for n, v in by_name.items()),
    ):
        if not isinstance(value, kind) and (value is not None or "." in name):
            raise InputError(f"{path}, field {name}: must be {what}")
    return {"query": "", **values}


def _event(text: str, n: int) -> dict[str, Any]:
    kind, _, what = text.partition(":")
    if not what:
        raise InputError(f"history[{n}] is {text!r}; write kind:item_id or search:words")
    if kind == "search":
        return {"kind": kind, "query": what}
    if kind == "rating":
        item_id, _, stars = what.rpartition("=")
        try:
            return {"kind": kind, "item_id": item_id, "value": float(stars)}
        except ValueError as error:
            raise InputError(f"history[{n}] is {text!r}; write rating:item_id=stars") from error
    return {"kind": kind, "item_id": what}
