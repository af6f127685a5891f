"""Reranker: a trained model that reorders candidates for one shopper.

    with Reranker.from_pretrained("runs/demo/model", catalogue=data.items) as reranker:
        ranked = reranker.rerank("rain jacket", ["p17", "p3", "p88"], history=[Event(kind="purchase", item_id="p5")])
        for entry in ranked:
            print(entry.rank, entry.item.title, entry.score)

Candidates are items, dicts with an item's fields, or ids from the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from reshelf.data.dataset_folder import problem_of
from reshelf.data.schema import Event, Item, RankingList
from reshelf.data.signals.kept import FOLDER, KeptSignals, open_signals
from reshelf.errors import InputError
from reshelf.inference.assembly import assemble, with_features
from reshelf.inference.engines.engine import Engine, EngineName, choose_engine
from reshelf.inference.engines.start import start_engine
from reshelf.inference.engines.vllm_settings import VllmSettings
from reshelf.inference.explain import leave_one_out
from reshelf.inference.explanation import Explanation
from reshelf.inference.ranking import prepare, rank, score
from reshelf.inference.rules import Rules
from reshelf.modeling.hub import hub_problem, is_hub_id
from reshelf.modeling.precision import Precision
from reshelf.modeling.spec import SPEC_FILE, RerankerSpec, read_reranker
from reshelf.prompts.item_tokens import ItemTokens, catalogue_tokens
from reshelf.prompts.list_prompt import Truncated
from reshelf.ranges import SHARE, check_number
from reshelf.unicode import replace_half_surrogates

R = TypeVar("R", bound=BaseModel)
_LISTS_AT_ONCE = 256
"""Prompts in memory at one time."""


@dataclass(frozen=True)
class RankedItem:
    """A candidate and where it stands."""

    item: Item
    score: float
    """Raw log-odds, float32: what the order is made from. Comparable within one list."""
    rank: int
    """1 is best."""
    first_stage_rank: int
    """Where it was before, 1 was first."""
    probability: float | None = None
    """How likely it is wanted, for people: the order never comes from it. None where the model was not calibrated."""
    explanation: Explanation | None = None
    """Why it stands here, where that was asked for and it is one of the best few."""
    rules: tuple[str, ...] = ()
    """What rules did with it."""


@dataclass(frozen=True)
class RankedList:
    """Candidates, best first.

    Examples:
        >>> from reshelf.prompts.list_prompt import Truncated
        >>> boots = RankedItem(Item(item_id="p5", title="Boots"), score=1.5, rank=1, first_stage_rank=3)
        >>> ranked = RankedList((boots,), Truncated())
        >>> ranked.item_ids, ranked[0].first_stage_rank, len(ranked)
        (('p5',), 3, 1)
    """

    entries: tuple[RankedItem, ...]
    truncated: Truncated
    """What of the history, the items and the list did not fit the prompt's budgets."""
    missing: tuple[str, ...] = ()
    """Numbers that the model reads and did not have, of all candidates or of some: `scores`, or `features.NAME`."""

    @property
    def item_ids(self) -> tuple[str, ...]:
        return tuple(entry.item.item_id for entry in self.entries)

    def __iter__(self) -> Iterator[RankedItem]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, place: int) -> RankedItem:
        return self.entries[place]


class Reranker:
    """Scores and reorders lists. Use `from_pretrained`; use as a context manager, or call `close`. Several threads may
    share one: they write prompts side by side and take turns at the engine. So may processes that are forked
    from this one, where it computes on a CPU and not with vLLM.

    Args:
        engine: what computes the scores.
        tokenizer: of the model.
        spec: the reranker's own description.
        catalogue: items by id, for candidates and history events given by id.
        item_tokens: token ids of items, made once.
        signals: what computes numbers that the model reads and a list does not carry.

    Examples:
        >>> from reshelf import load_dataset_folder
        >>> data = load_dataset_folder("runs/demo/data")
        >>> with Reranker.from_pretrained("runs/demo/model", catalogue=data.items) as reranker:
        ...     ranked = reranker.rerank(
        ...         "wool coat", ["p17", "p3", "p8"], [Event(kind="purchase", item_id="p5")], scores=[0.9, 0.5, 0.1]
        ...     )
        ...     scores = reranker.score_lists(data.lists["test"])
        >>> [entry.rank for entry in ranked], sorted(ranked.item_ids)
        ([1, 2, 3], ['p17', 'p3', 'p8'])
        >>> [len(one) for one in scores] == [len(one.candidates) for one in data.lists["test"]]
        True
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Any,
        spec: RerankerSpec,
        catalogue: Mapping[str, Item] | None = None,
        item_tokens: ItemTokens | None = None,
        signals: KeptSignals | None = None,
    ) -> None:
        self.engine = engine
        self.spec = spec
        self.catalogue: Mapping[str, Item] = {} if catalogue is None else catalogue
        self._tokenizer = tokenizer
        self._signals = signals
        self._builder = spec.builder(tokenizer, self.catalogue, item_tokens)

    @classmethod
    def from_pretrained(
        cls,
        model: Path | str,
        engine: EngineName = "auto",
        catalogue: Mapping[str, Item] | None = None,
        device: str | None = None,
        revision: str | None = None,
        vllm: VllmSettings | None = None,
        item_tokens: Path | None = None,
        trust_remote_code: bool = False,
        precision: Precision = "auto",
    ) -> Reranker:
        """Load a reranker folder, or one from the Hugging Face Hub.

        Args:
            model: folder that `reshelf finetune` wrote, or a Hub id such as `shop/reranker`.
            engine: auto is the faster one by `reshelf engines`, else vLLM where it is installed and there is a GPU.
            catalogue: items by id, for candidates and history events given by id.
            device: where the model is loaded, `cpu`, `cuda` or `cuda:1`; None is the GPU if there is one.
            revision: branch, tag or commit on the Hub.
            vllm: how vLLM runs.
            item_tokens: file with the token ids of the whole catalogue; made here where it is not there or is stale.
            trust_remote_code: run Python code that comes with the base; only for authors you trust. A reranker that
                needs it is refused otherwise, whatever it says of itself.
            precision: in which numbers scores are computed: float32 (the reference), bfloat16 (faster where the device
                multiplies it; near-equal candidates may change places, docs/measured.md), nf4 (the 4 bits it was
                trained over: least memory). auto is bfloat16 where it was trained in that and the device is fast at it,
                else float32.

        Raises:
            InputError: no such model, not a reranker, another prompt fingerprint, an engine that is not there,
                `catalogue` holds no items by id, or `item_tokens` is something else.
        """
        choose_engine(engine)  # what is not installed is said before anything is loaded
        if catalogue is not None and not isinstance(catalogue, Mapping):
            raise InputError(
                f"catalogue: a {type(catalogue).__name__} holds no items by id; give "
                'load_dataset_folder("runs/shop/data").items'
            )
        folder = find_reranker(model, revision)
        spec, tokenizer = read_reranker(folder, trust_remote_code)
        tokens = None
        if item_tokens is not None:
            tokens = catalogue_tokens(item_tokens, tokenizer, spec.prompt, (catalogue or {}).values())
        signals = open_signals(folder / FOLDER)
        started = start_engine(folder, engine, device, vllm, trust_remote_code, precision)
        return cls(started, tokenizer, spec, catalogue, tokens, signals)

    def rerank(
        self,
        query: str,
        candidates: Sequence[Item | Mapping[str, Any] | str],
        history: Sequence[Event | Mapping[str, Any]] = (),
        *,
        history_items: Sequence[Item | Mapping[str, Any]] = (),
        scores: Sequence[float | None] | None = None,
        features: Mapping[str, Sequence[float | None]] | None = None,
        time: datetime | None = None,
        context: Mapping[str, str] | None = None,
        impute: bool = False,
        explain: bool = False,
        personalization: float = 1.0,
        rules: Rules | Mapping[str, Any] | None = None,
    ) -> RankedList:
        """Reorder candidates for a shopper.

        Args:
            query: what the shopper searches for; empty for a recommendation slot.
            candidates: in first-stage order, best first: items, dicts with an item's fields, or ids in the catalogue,
                which are what the catalogue holds now.
            history: what the shopper did, oldest first.
            history_items: items that history events name and that are neither candidates nor in the catalogue.
            scores: first-stage scores, higher is better; None for one that is not known.
            features: further numbers per candidate, by name; None as in `scores`. What the model reads and is not sent
                is computed from the signals that the reranker keeps, as of `time`.
            time: now; every event must be earlier.
            context: what else is known of the moment, by name: those that the model was trained with
                (`prompt.context`), as device, season, page or instruction.
            impute: rank with medians in place of numbers that the model reads and that are missing.
            explain: say of the best few why they stand where they do (`inference.explain`); costs about as many lists
                as the history has events.
            personalization: how much of the order is the model's, from 0 (first-stage order) to 1 (`modeling.blend`).
            rules: what a merchandiser asks for (`inference.rules`); what it removes is not in the result.

        Returns:
            Best first; candidates with equal scores keep their first-stage order.

        Raises:
            InputError: a record is invalid, an item is unknown, the model was not trained with something of `context`,
                or numbers the model reads are missing, `impute` is not
                set, and the model cannot do without them (`inference.assembly.with_features`).
        """
        check_number("personalization", personalization, SHARE)
        for name, named in (("features", features), ("context", context)):
            if named is not None and not isinstance(named, Mapping):
                raise InputError(f"{name}: a {type(named).__name__} is no dict; give one, with the names as keys")
        _check_order(
            candidates=candidates, history=history, history_items=history_items, scores=scores,
            **{f"features.{name}": values for name, values in (features or {}).items()},
        )  # fmt: skip
        asked = None if rules is None else _record(Rules, rules, "rules")
        assembled = assemble(
            self._builder,
            replace_half_surrogates(query)[0],
            [
                replace_half_surrogates(one)[0] if isinstance(one, str) else _record(Item, one, f"candidates[{n}]")
                for n, one in enumerate(candidates)
            ],
            [_record(Event, one, f"history[{n}]") for n, one in enumerate(history)],
            history_items=[_record(Item, one, f"history_items[{n}]") for n, one in enumerate(history_items)],
            scores=scores,
            features=features,
            time=time,
            context=replace_half_surrogates(dict(context or {}))[0],
            signals=self._signals,
            impute=impute,
        )
        prepared = prepare(assembled.builder, assembled.ranking)
        (values,) = score(self.engine, [prepared])
        items = [prepared.builder.items[item_id] for item_id in prepared.ranking.candidates]
        ranked = rank(values, self.spec.calibration, personalization, asked, items)
        explanations: dict[int, Explanation] = {}
        if explain:
            ablations = leave_one_out(prepared, values)
            explanations = ablations.explain(score(self.engine, ablations.lists))
        entries = tuple(
            RankedItem(
                item=items[k],
                score=float(values[k]),
                rank=place,
                first_stage_rank=k + 1,
                probability=None if ranked.probabilities is None else float(ranked.probabilities[k]),
                explanation=explanations.get(k),
                rules=tuple(ranked.arranged.notes.get(k, ())),
            )
            for place, k in enumerate(ranked.order.tolist(), start=1)
        )
        return RankedList(entries, prepared.truncated, assembled.missing)

    def score_lists(self, lists: Sequence[RankingList], items: Mapping[str, Item] | None = None) -> list[np.ndarray]:
        """Raw log-odds of every candidate of every list, float32 [K] per list.

        Args:
            lists: any number.
            items: the catalogue of these lists; None is the reranker's own.

        Raises:
            InputError: a list lacks a number that the model reads, or has an item that is in no catalogue.
        """
        builder = self._builder if items is None or items is self.catalogue else self._builder.over(items)
        scores = []
        for start in range(0, len(lists), _LISTS_AT_ONCE):
            some = [
                with_features(one, builder.levels, False, self._signals).ranking
                for one in lists[start : start + _LISTS_AT_ONCE]
            ]
            scores += score(self.engine, [prepare(builder, one) for one in some])
        return scores

    def close(self) -> None:
        """Free the engine (memory, processes)."""
        self.engine.close()

    def __enter__(self) -> Reranker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check_order(**given: Any) -> None:
    """Of a dict or a table Python would take the keys, and of a set whatever comes first.

    Raises:
        InputError: what is to be a list is one of these, or a text.
    """
    for name, values in given.items():
        if isinstance(values, (Mapping, Set, str)) or hasattr(values, "columns"):
            raise InputError(f"{name}: a {type(values).__name__} is no list; give one, in order")


def _record(kind: type[R], value: Any, where: str) -> R:
    if isinstance(value, kind):
        return value
    if isinstance(value, Mapping):  # what can be read once is read by the first who looks at it
        value = {name: list(one) if isinstance(one, Iterator) else one for name, one in value.items()}
    try:
        return kind.model_validate(replace_half_surrogates(value)[0])
    except ValidationError as error:
        raise InputError(f"{where}, {problem_of(error)}") from error
    except ValueError as error:
        raise InputError(f"{where}: {error}") from error


def find_reranker(model: Path | str, revision: str | None) -> Path:
    """The local folder of a reranker, downloaded first where `model` is a Hub id."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    name = str(model)
    if not is_hub_id(name) or "/" not in name:
        what = "is a file" if folder.exists() else "is not there"
        raise InputError(f"{model} {what}; give a folder that `reshelf finetune` wrote, or an id on the Hub")
    if problem := hub_problem(name, SPEC_FILE, revision):
        raise InputError(
            f"{model} is no folder here, and not to be had from the Hugging Face Hub: {problem}; give a folder that "
            "`reshelf finetune` wrote, or correct the id or the connection"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, revision=revision))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(f"{model} cannot be had from the Hugging Face Hub: {error}") from error
