"""Scores whole shards: read, validate, sort, build prompts, score, write.

    scorer = ShardScorer(job)
    for tally_or_none, rows in scorer.run([0, 1, 2]): ...      # progress after every call of the engine

Within a shard the lists of a shopper stand together, oldest first, and shoppers by the length of their lists, so that
prefixes are found in the engine's cache and calls are of even size. While the engine computes, a thread reads and
builds what comes next. The rows of the output are in the order of the input.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reshelf.data.dataset_folder import read_items
from reshelf.data.schema import Item
from reshelf.data.signals.kept import FOLDER, KeptSignals, open_signals
from reshelf.errors import InputError
from reshelf.inference.assembly import MissingFeaturesError, with_features
from reshelf.inference.batch.output import SCORES_SCHEMA, Tally, write_shard
from reshelf.inference.batch.rows import Reject, Row, read_rows, reject
from reshelf.inference.engines.engine import Engine
from reshelf.inference.engines.start import start_engine
from reshelf.inference.ranking import NonFiniteScoreError, PreparedList, prepare, rank
from reshelf.modeling.allocator import give_back_freed_memory
from reshelf.modeling.spec import read_reranker
from reshelf.prompts.builder import PromptBuilder
from reshelf.prompts.config import PromptConfig
from reshelf.prompts.item_tokens import ItemTokens, catalogue_tokens
from reshelf.prompts.list_prompt import Truncated

if TYPE_CHECKING:
    from reshelf.inference.batch.run import BatchJob

TOKENS_PER_CALL = {"transformers": 1 << 15, "vllm": 1 << 19}
"""Prefixes and items handed to the engine at once. vLLM needs many requests to stay busy."""


class ScoredRow(NamedTuple):
    """A list that was scored, or that stays in first-stage order."""

    row: Row
    truncated: Truncated
    missing: tuple[str, ...]
    """Numbers that the model reads and did not have."""
    scores: np.ndarray | None
    """float32 [K]; None for first-stage order."""


@dataclass
class Shard:
    """A shard at work."""

    number: int
    rows: int
    rejects: list[Reject] = field(default_factory=list)
    scored: list[ScoredRow] = field(default_factory=list)


@dataclass
class EngineCall:
    """Lists for one call of the engine; the shard is complete after the last of them."""

    shard: Shard
    rows: list[Row]
    lists: list[PreparedList]
    missing: list[tuple[str, ...]]
    """By list, as `ScoredRow.missing`."""
    handled: int
    """Rows of the input this stands for, rejected ones included."""
    last: bool = False


class ShardScorer:
    """A reranker that scores shards of a job. The file of the catalogue's token ids is made here where it is not there
    or is stale.

    Raises:
        InputError: as `read_items`, `start_engine` and `catalogue_tokens`, or the engine cannot serve this model.
    """

    def __init__(self, job: BatchJob) -> None:
        self._job = job
        items = read_items(job.catalogue)
        spec, tokenizer = read_reranker(job.model, job.trust_remote_code)
        tokens = None
        if job.item_tokens is not None:
            tokens = make_item_tokens(job.item_tokens, tokenizer, spec.prompt, items)
        self._builder = spec.builder(tokenizer, items, tokens)
        self._signals = open_signals(job.model / FOLDER)
        self._engine: Engine = start_engine(
            job.model, job.engine, trust_remote_code=job.trust_remote_code, precision=job.precision
        )
        self._reader = job.reader()

    def run(self, shards: Iterable[int]) -> Iterator[tuple[Tally | None, int]]:
        """Score and write shards. After every call of the engine: the shard's tally if it is now finished, and how
        many rows of the input were dealt with.

        Raises:
            InputError: an input file has changed or cannot be read.
        """
        calls = self._calls(shards)
        with ThreadPoolExecutor(1, "prompts") as ahead:
            coming = ahead.submit(next, calls, None)
            while (call := coming.result()) is not None:
                coming = ahead.submit(next, calls, None)
                yield self._run_call(call), call.handled

    def close(self) -> None:
        """Free the engine."""
        self._engine.close()

    def __enter__(self) -> ShardScorer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _calls(self, shards: Iterable[int]) -> Iterator[EngineCall]:
        for number in shards:
            shard = Shard(number, self._reader.size(number))
            rows: list[Row] = []
            for file, first, batch in self._reader.read(number):
                good, bad = read_rows(batch, file, first)
                rows += good
                shard.rejects += bad
            tokens = TOKENS_PER_CALL[self._job.engine]
            yield from engine_calls(shard, arrange(rows), self._builder, tokens, self._job.impute, self._signals)

    def _run_call(self, call: EngineCall) -> Tally | None:
        shard = call.shard
        for row, prepared, missing, values in zip(call.rows, call.lists, call.missing, self._score(call.lists)):
            if isinstance(values, InputError):
                shard.rejects.append(_reject(row, str(values), "prompt"))
                continue
            try:
                shard.scored.append(ScoredRow(row, prepared.truncated, missing, prepared.scores(values)))
            except NonFiniteScoreError:
                shard.rejects.append(_reject(row, "the model gave a score that is not a number", "score"))
        if not call.last:
            return None
        shard.scored.sort(key=lambda one: (one.row.file, one.row.row))
        shard.rejects.sort(key=lambda one: (one.file, one.row))
        tally = write_shard(self._job.out, shard.number, self._columns(shard.scored), shard.rejects)
        assert tally.rows == shard.rows, "a row was lost or doubled"
        if self._engine.name == "transformers":
            # Kept prefixes change scores in their last bits; begun anew, a resumed job gives the very same shard.
            self._engine.forget()
            give_back_freed_memory()
        return tally

    def _columns(self, scored: Sequence[ScoredRow]) -> dict[str, list[Any]]:
        """Columns of `SCORES_SCHEMA`; equal scores, and lists without scores, keep first-stage order."""
        made: dict[str, list[Any]] = {name: [] for name in SCORES_SCHEMA.names}
        for row, truncated, missing, values in scored:
            candidates = row.ranking.candidates
            line = (
                *(row.file, row.row, row.ranking.list_id, row.ranking.user_id, candidates, values),
                [candidates[k] for k in self._order(candidates, values)],
                "features_missing" if values is None else None,
                missing,
                *vars(truncated).values(),
            )
            for name, value in zip(made, line, strict=True):
                made[name].append(value)
        return made

    def _order(self, candidates: Sequence[str], values: np.ndarray | None) -> Iterable[int]:
        rules = self._job.rules
        items = [self._builder.items[one] for one in candidates] if rules else ()
        if values is not None:
            return rank(values, None, self._job.personalization, rules, items).order.tolist()
        return rules.arrange_first_stage(items).order.tolist() if rules else range(len(candidates))

    def _score(self, lists: Sequence[PreparedList]) -> Sequence[np.ndarray | InputError]:
        """What the engine says of every list, or why it has no scores (too long for the engine)."""
        if not lists:
            return []
        try:
            return self._engine.score([one.prompt for one in lists])
        except InputError as error:
            if len(lists) == 1:
                return [error]
            half = len(lists) // 2
            return [*self._score(lists[:half]), *self._score(lists[half:])]


def make_item_tokens(path: Path, tokenizer: Any, prompt: PromptConfig, items: Mapping[str, Item]) -> ItemTokens:
    """Open the file of the catalogue's token ids, made first on all cores where it is not there or is stale."""
    return catalogue_tokens(path, tokenizer, prompt, items.values(), workers=len(os.sched_getaffinity(0)))


def arrange(rows: Sequence[Row]) -> list[Row]:
    """Rows in the order the engine should see them: shoppers by the length of their longest list, each shopper's lists
    oldest first."""
    longest: dict[str, int] = {}
    for row in rows:
        user, length = row.ranking.user_id, len(row.ranking.history) + len(row.ranking.candidates)
        longest[user] = max(longest.get(user, 0), length)

    def place(row: Row) -> tuple[int, str, float, int]:
        ranking = row.ranking
        moment = ranking.time.timestamp() if ranking.time else 0.0
        return longest[ranking.user_id], ranking.user_id, moment, len(ranking.history)

    return sorted(rows, key=place)


def engine_calls(
    shard: Shard, rows: Sequence[Row], builder: PromptBuilder, tokens: int, impute: bool = False,
    signals: KeptSignals | None = None,
) -> Iterator[EngineCall]:  # fmt: skip
    """The rows with their prompts, in calls of about `tokens`.

    A row that cannot be a prompt goes to the rejects; one that lacks numbers the model cannot do without has no scores.
    """
    handled = shard.rows - len(rows)
    group: list[Row] = []
    lists: list[PreparedList] = []
    missing: list[tuple[str, ...]] = []
    used = 0
    for row in rows:
        try:
            complete = with_features(row.ranking, builder.levels, impute, signals)
            prepared = prepare(builder, complete.ranking)
        except MissingFeaturesError as error:
            shard.scored.append(ScoredRow(row, Truncated(), error.names, None))
            handled += 1
            continue
        except InputError as error:
            shard.rejects.append(_reject(row, str(error)))
            handled += 1
            continue
        if group and used + prepared.prompt.tokens > tokens:
            yield EngineCall(shard, group, lists, missing, handled + len(group))
            group, lists, missing, used, handled = [], [], [], 0, 0
        group.append(row)
        lists.append(prepared)
        missing.append(complete.missing)
        used += prepared.prompt.tokens
    yield EngineCall(shard, group, lists, missing, handled + len(group), last=True)


def _reject(row: Row, reason: str, field: str | None = None) -> Reject:
    return reject(row.file, row.row, row.ranking.list_id, reason, field)
