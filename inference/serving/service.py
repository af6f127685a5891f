"""One ranking: documents and history in, order out; and first-stage order whenever the model's is not to be had.

reply = await service.rerank(tenant, request, started, request_id)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import numpy as np

from reshelf.data.schema import Item
from reshelf.data.signals.kept import KeptSignals, NewEvents
from reshelf.errors import InputError
from reshelf.inference.assembly import MissingFeaturesError, UntrainedContextError, assemble
from reshelf.inference.explain import leave_one_out
from reshelf.inference.explanation import Explanation
from reshelf.inference.ranking import NonFiniteScoreError, PreparedList, Ranked, prepare, rank
from reshelf.inference.rules import Arranged
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.documents import check_lengths, items_of, unknown_ids
from reshelf.inference.serving.engine.models import Models, ServedModel
from reshelf.inference.serving.engine.queue import UnservedError
from reshelf.inference.serving.history import History, HistoryStore, StoreError, hour_of
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.schemas import (
    EventsRequest,
    ExportReply,
    Meta,
    RankedDocument,
    RerankReply,
    RerankRequest,
    StoredEvent,
)
from reshelf.inference.serving.stages import Stages
from reshelf.inference.serving.tenants import Tenant

T = TypeVar("T")
_HISTORY_SHARE = 0.5
"""Share of the time left that reading the history may take."""


class Service:
    """Everything between HTTP and the engine.

    Args:
        config: limits and deadlines.
        catalogue: items by id.
        models: what lists are ranked by.
        store: what shoppers did.
        metrics: what is counted.
    """

    def __init__(
        self, config: ServeConfig, catalogue: Mapping[str, Item], models: Models, store: HistoryStore, metrics: Metrics
    ) -> None:
        self.config = config
        self.catalogue = catalogue
        self.models = models
        self.store = store
        self.metrics = metrics
        self.draining = False
        """Whether the server is about to end."""

    def drain(self) -> None:
        """Say in /ready that no more work should come."""
        self.draining = True

    async def rerank(self, tenant: Tenant, request: RerankRequest, started: float, request_id: str) -> RerankReply:
        """Put a list in order.

        Args:
            started: when the request arrived, on the clock of `time.perf_counter`.

        Raises:
            RefusedError: the request is at fault.
        """
        model = self.models.of(tenant)
        with nullcontext() if model is None else model.held():
            return await self._rerank(model, tenant, request, started, request_id)

    async def _rerank(
        self, model: ServedModel | None, tenant: Tenant, request: RerankRequest, started: float, request_id: str
    ) -> RerankReply:
        due = started + (request.deadline_ms or self.config.deadline_ms) / 1000
        self._check(request)
        meta = Meta(engine="none" if model is None else model.engine.name, ignored=request.ignored)
        meta.warning = None if model is None else model.warning
        watch = Stages(meta, started)
        limits = self.config.limits
        items, invalid = items_of(request.documents, self.catalogue, limits.text, request.rank_fields)
        unknown = unknown_ids(request.documents, self.catalogue)
        if invalid and (request.strict or not items):
            raise next(iter(invalid.values()))
        if request.strict and (meta.ignored or unknown):
            field = meta.ignored[0] if meta.ignored else f"documents[{unknown[0]}]"
            what = "no field of a request" if meta.ignored else "an id that the catalogue does not have"
            raise RefusedError(f"{what}; correct it, or send strict: false", field)
        meta.unknown = [str(request.documents[n]) for n in unknown]
        meta.invalid = {error.field or f"documents[{n}]": str(error.detail) for n, error in invalid.items()}
        if (cut := len(request.query) - limits.text) > 0:
            meta.truncated["query_characters"] = cut
        watch.end("read")
        candidates = list(items.values())
        signals = None if model is None else model.signals
        history, new = await asyncio.gather(
            self._history(tenant, request, due, meta), self._new_events(tenant, request, candidates, signals, due)
        )
        watch.end("history")
        rules = tenant.rules if request.rules is None else request.rules.after(tenant.rules)
        weight = tenant.personalization if request.personalization is None else request.personalization
        meta.personalization = None if weight == 1 else weight
        ranked: Ranked | None = None
        try:
            if model is None:
                raise UnservedError("engine_down")
            model.engine.admit(tenant.name, len(items), due - time.perf_counter())
            prepared = await _before(due, self._prepare(model, tenant, request, items, history, new, meta, watch))
            watch.end("prompt")
            pending = model.score(prepared.prompt, tenant.name)
            done = await _before(due, pending)
            watch.end("wait")
            meta.ms["engine"] = done.ms
            meta.ms["wait"] = max(0.0, meta.ms["wait"] - done.ms)
            meta.prompt_tokens, meta.cached_tokens = done.prompt_tokens, done.cached_tokens
            ranked = rank(prepared.scores(done.scores), model.spec.calibration, weight, rules, candidates)
        except TimeoutError:
            meta.fallback = "deadline"
        except UnservedError as error:
            meta.fallback = error.reason
        except NonFiniteScoreError:
            meta.fallback = "engine_error"
        except MissingFeaturesError as error:
            meta.fallback, meta.missing = "features_missing", list(error.names)
        if ranked is not None:
            arranged = ranked.arranged
        else:
            watch.end("fallback")
            arranged = rules.arrange_first_stage(candidates) if rules else Arranged(np.arange(len(candidates)))
        meta.rules = arranged.counts
        results = self._results(request, items, ranked, arranged)
        if not rules or not (rules.only or rules.never):  # nobody knows what the others are
            results += self._invalid_results(request, items, len(results))
        watch.end("order")
        if request.explain and ranked is None:
            meta.unexplained = meta.fallback
        elif request.explain and model is not None and ranked is not None:
            explanations = await self._explain(model, tenant, prepared, ranked.scores, due, meta)
            places = dict(enumerate(items))
            by_index = {places[k]: one for k, one in explanations.items()}
            for one in results:
                one.explanation = by_index.get(one.index)
            watch.end("explain")
        meta.ms["total"] = 1000 * (time.perf_counter() - started)
        return RerankReply(
            id=request_id,
            model="" if model is None else model.name,
            results=results,
            meta=meta,
            usage={"total_tokens": meta.prompt_tokens},
        )

    async def append(self, tenant: Tenant, request: EventsRequest) -> int:
        """Keep events; returns how many were new.

        Raises:
            RefusedError: the store does not answer; nothing was acknowledged and the same may be sent again.
        """
        try:
            return await self.store.append(tenant.name, request.events, counted=self.catalogue)
        except StoreError as error:
            self._count_store_error(error)
            raise RefusedError("events cannot be kept now; send them again", status=503, wait_s=1) from error

    async def export(self, tenant: Tenant, user_id: str) -> ExportReply:
        """All that is kept of a shopper.

        Raises:
            RefusedError: the store does not answer.
        """
        try:
            history = await self.store.read(tenant.name, user_id)
        except StoreError as error:
            self._count_store_error(error)
            raise RefusedError("the shopper cannot be read now; ask again", status=503, wait_s=1) from error
        if history.unreadable:
            self._count_unreadable(history)
        return ExportReply(user_id=user_id, events=list(history.events), unreadable=history.unreadable)

    async def forget(self, tenant: Tenant, user_id: str) -> int:
        """Remove a shopper.

        Raises:
            RefusedError: the store does not answer.
        """
        try:
            forgotten = await self.store.forget(tenant.name, user_id)
        except StoreError as error:
            self._count_store_error(error)
            raise RefusedError("the shopper cannot be removed now; ask again", status=503, wait_s=1) from error
        # A prefix in an engine's cache is the shopper's history; whose it is, is not kept, so all of the shop's go.
        await self.models.forget(tenant.name)
        return forgotten

    def _count_unreadable(self, history: History) -> None:
        self.metrics.unreadable_events.inc(history.unreadable)
        log_once_a_minute("stored events cannot be read", events=history.unreadable)

    def _count_store_error(self, error: Exception) -> None:
        self.metrics.store_errors.inc()
        log_once_a_minute("history store failed", error=type(error).__name__, problem=str(error))

    def _check(self, request: RerankRequest) -> None:
        limits = self.config.limits
        for field, count, most in (
            ("documents", len(request.documents), limits.candidates),
            ("history", len(request.history or ()), limits.history),
            ("history_items", len(request.history_items), limits.history),
        ):
            if count > most:
                raise RefusedError(f"{count} entries; send at most {most}", field)
        if request.deadline_ms is not None and request.deadline_ms > limits.deadline_ms:
            raise RefusedError(f"{request.deadline_ms:g} ms; ask for at most {limits.deadline_ms:g}", "deadline_ms")
        if request.strict:
            check_lengths(request.query, "query", limits.text)
        texts = {"user_id": request.user_id, "instruction": request.instruction}
        texts |= {f"context.{name}": text for name, text in request.context.items()}
        texts |= {f"history[{n}].query": event.query for n, event in enumerate(request.history or ())}
        for field, text in texts.items():
            check_lengths(text, field, limits.text)
        for n, item in enumerate(request.history_items):
            check_lengths(item.model_dump(), f"history_items[{n}]", limits.text)
        numbers = {"scores": request.scores, **{f"features.{k}": v for k, v in request.features.items()}}
        for field, values in numbers.items():
            if values is not None and len(values) != len(request.documents):
                raise RefusedError(f"{len(values)} values for {len(request.documents)} documents", field)

    async def _history(self, tenant: Tenant, request: RerankRequest, due: float, meta: Meta) -> Sequence[StoredEvent]:
        """What the shopper did: as sent, or as stored; nothing where the store does not answer in time."""
        if request.history is not None:
            named = {item.item_id: item for item in request.history_items}
            return [StoredEvent(event=e, item=named.get(e.item_id or "")) for e in request.history]
        if request.user_id is None:
            return []
        history = await self._of_store(self.store.read(tenant.name, request.user_id), due)
        if history is None:
            meta.history["unavailable"] = True
            return []
        if history.unreadable:
            meta.history["unreadable"] = history.unreadable
            self._count_unreadable(history)
        return history.events

    async def _new_events(
        self, tenant: Tenant, request: RerankRequest, items: Sequence[Item], signals: KeptSignals | None, due: float
    ) -> Mapping[str, NewEvents]:
        """What happened to the documents since the model's tables were made; nothing where the store has no answer."""
        if signals is None or not signals.follows:
            return {}
        now = request.time or datetime.now(UTC)
        shoppers_from, events_from = map(hour_of, signals.windows(now))
        ids = [item.item_id for item in items]
        counts = self.store.counts(tenant.name, ids, shoppers_from, events_from, hour_of(now))
        return await self._of_store(counts, due) or {}

    async def _of_store(self, answer: Awaitable[T], due: float) -> T | None:
        """What the store says within its share of the time that is left; None, and counted, where it does not."""
        half = time.perf_counter() + _HISTORY_SHARE * (due - time.perf_counter())
        try:
            return await _before(half, answer)
        except (StoreError, TimeoutError) as error:
            self._count_store_error(error)
            return None

    async def _prepare(
        self, model: ServedModel, tenant: Tenant, request: RerankRequest, items: Mapping[int, Item],
        history: Sequence[StoredEvent], new: Mapping[str, NewEvents], meta: Meta, watch: Stages,
    ) -> PreparedList:  # fmt: skip
        try:
            assembled = assemble(
                model.builder,
                request.query[: self.config.limits.text],
                list(items.values()),
                [one.event for one in history],
                history_items=[one.item for one in history if one.item is not None],
                scores=None if request.scores is None else [request.scores[n] for n in items],
                features={name: [values[n] for n in items] for name, values in request.features.items()},
                time=request.time,
                context=request.moment,
                signals=model.signals,
                new=new,
                impute=request.impute,
                drop_unknown_events=True,
            )
            watch.end("signals")
            meta.imputed, meta.missing = list(assembled.imputed), list(assembled.missing)
            meta.history |= {"events": len(assembled.ranking.history), "unknown": assembled.unknown_events}
            if assembled.builder.has_read(assembled.ranking):
                prepared = prepare(assembled.builder, assembled.ranking)
            else:
                prepared = await model.writing.run(
                    tenant.name, len(items), prepare, assembled.builder, assembled.ranking
                )
        except MissingFeaturesError:
            raise
        except UntrainedContextError as error:
            field = f"context.{error.name}" if error.name in request.context else error.name
            raise RefusedError(str(error).partition(": ")[2], field) from error
        except InputError as error:
            raise RefusedError(
                str(error).removeprefix("list ").removeprefix("request, "), "query" if "query" in str(error) else None
            ) from error
        meta.truncated |= vars(prepared.truncated)
        return prepared

    async def _explain(
        self, model: ServedModel, tenant: Tenant, prepared: PreparedList, scores: np.ndarray, due: float, meta: Meta
    ) -> dict[int, Explanation]:
        """Why the best few stand where they do; nothing where that takes too long, for the order is there."""
        try:
            ablations = await _before(due, model.writing.run(tenant.name, len(scores), leave_one_out, prepared, scores))
            # One after the other: an explanation does not fill the queue that orders wait in.
            found = [
                one.scores((await _before(due, model.score(one.prompt, tenant.name))).scores) for one in ablations.lists
            ]
            return ablations.explain(found)
        except TimeoutError:
            meta.unexplained = "deadline"
        except UnservedError as error:
            meta.unexplained = error.reason
        except NonFiniteScoreError:
            meta.unexplained = "engine_error"
        return {}

    def _results(
        self, request: RerankRequest, items: Mapping[int, Item], ranked: Ranked | None, arranged: Arranged
    ) -> list[RankedDocument]:
        """Best first; in first-stage order where there are no scores."""
        places = list(items)
        relevance = [1 / (1 + k) for k in range(len(places))]
        scores: Sequence[float | None] = [None] * len(places)
        probabilities = scores
        if ranked is not None:
            relevance = (0.5 * (1 + np.tanh(0.5 * ranked.values.astype(float)))).tolist()
            scores = ranked.scores.tolist()
            probabilities = probabilities if ranked.probabilities is None else ranked.probabilities.tolist()
        results = []
        for k in arranged.order[: request.top_n].tolist():
            index = places[k]
            sent, item = request.documents[index], items[index]
            results.append(
                RankedDocument(
                    index=index,
                    relevance_score=relevance[k],
                    score=scores[k],
                    probability=probabilities[k],
                    item_id=item.item_id if item.item_id == sent or not isinstance(sent, str) else None,
                    document=_document(sent, item.title) if request.return_documents else None,
                    rules=arranged.notes.get(k, []),
                )
            )
        return results

    def _invalid_results(self, request: RerankRequest, items: Mapping[int, Item], before: int) -> list[RankedDocument]:
        """Documents that are none, behind those that are."""
        rest = (n for n in range(len(request.documents)) if n not in items)
        return [
            RankedDocument(
                index=index,
                relevance_score=0.0,
                document=_document(request.documents[index], "") if request.return_documents else None,
            )
            for index in islice(rest, None if request.top_n is None else request.top_n - before)
        ]


async def _before(due: float, work: Awaitable[T]) -> T:
    """The result, or TimeoutError at `due`."""
    async with asyncio.timeout(max(0.0, due - time.perf_counter())):
        return await work


def _document(sent: str | Mapping[str, Any], title: str) -> dict[str, Any]:
    """As the clients of others expect it, with a `text`."""
    if isinstance(sent, str):
        return {"text": title or sent}
    return {"text": title, **sent}
