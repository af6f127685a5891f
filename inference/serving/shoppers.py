"""What is known of shoppers: kept, read for a ranking, exported, forgotten; and what holds where the store is silent.

shoppers = Shoppers(store, metrics)
stored = await shoppers.append(tenant, events)
history = await shoppers.history(tenant, request, due, meta)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from reshelf.data.signals.kept import KeptSignals
from reshelf.data.signals.live import LiveEvents
from reshelf.inference.serving.history import History, HistoryStore, StoreError, shopper_number
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.schemas import ExportReply, Meta, RerankRequest, SentEvent, StoredEvent
from reshelf.inference.serving.tenants import Tenant

T = TypeVar("T")
_SHARE = 0.5
"""Of the time left, what reading the store may take."""


class Shoppers:
    """The history store as routes and rankings use it.

    Args:
        store: what shoppers did.
        metrics: what is counted.
    """

    def __init__(self, store: HistoryStore, metrics: Metrics) -> None:
        self._store, self._metrics = store, metrics
        self._live: dict[str, LiveEvents] = {}

    async def append(self, tenant: Tenant, events: Sequence[SentEvent]) -> int:
        """Keep events; returns how many were new.

        Raises:
            RefusedError: the store does not answer; nothing was acknowledged and the same may be sent again.
        """
        with self._refusing("events cannot be kept now; send them again"):
            stored = await self._store.append(tenant.name, events)
        self._metrics.drift.happened(tenant.name, events)
        return stored

    async def export(self, tenant: Tenant, user_id: str) -> ExportReply:
        """All that is kept of a shopper.

        Raises:
            RefusedError: the store does not answer.
        """
        with self._refusing("the shopper cannot be read now; ask again"):
            history = await self._store.read(tenant.name, user_id)
        if history.unreadable:
            self._count_unreadable(history)
        return ExportReply(user_id=user_id, events=list(history.events), unreadable=history.unreadable)

    async def forget(self, tenant: Tenant, user_id: str) -> int:
        """Remove a shopper's events; returns how many there were.

        Raises:
            RefusedError: the store does not answer.
        """
        self._metrics.drift.forget(tenant.name, user_id)
        with self._refusing("the shopper cannot be removed now; ask again"):
            gone = await self._store.forget(tenant.name, user_id)
        if tenant.name in self._live:
            self._live[tenant.name].forget(shopper_number(tenant.name, user_id))
        return gone

    async def history(self, tenant: Tenant, request: RerankRequest, due: float, meta: Meta) -> Sequence[StoredEvent]:
        """What the shopper did: as sent, or as stored; nothing where the store does not answer in time."""
        if request.history is not None:
            named = {item.item_id: item for item in request.history_items}
            return [StoredEvent(event=e, item=named.get(e.item_id or "")) for e in request.history]
        if request.user_id is None:
            return []
        history = await self._in_time(self._store.read(tenant.name, request.user_id), due)
        if history is None:
            meta.history["unavailable"] = True
            return []
        if history.unreadable:
            meta.history["unreadable"] = history.unreadable
            self._count_unreadable(history)
        return history.events

    async def live(self, tenant: Tenant, signals: KeptSignals | None, due: float) -> LiveEvents | None:
        """What shoppers did since a model's tables were made, as far as the store has an answer in time."""
        if signals is None or not signals.follows:
            return None
        await self._in_time(self.catch_up(tenant.name), due)
        return self._live[tenant.name]

    async def catch_up(self, tenant: str) -> None:
        """Read what was stored since the last time.

        Raises:
            StoreError: the store does not answer.
        """
        live = self._live.setdefault(tenant, LiveEvents())
        read, number = -1, live.number
        while read != number:
            read = number
            events, number = await self._store.interactions(tenant, read)
            live.add(events)
        live.number = max(live.number, number)

    async def _in_time(self, answer: Awaitable[T], due: float) -> T | None:
        """What the store says within its share of the time that is left; None, and counted, where it does not."""
        try:
            async with asyncio.timeout(max(0.0, _SHARE * (due - time.perf_counter()))):
                return await answer
        except (StoreError, TimeoutError) as error:
            self._count_store_error(error)
            return None

    @contextmanager
    def _refusing(self, problem: str) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            self._count_store_error(error)
            raise RefusedError(problem, status=503, wait_s=1) from error

    def _count_unreadable(self, history: History) -> None:
        self._metrics.unreadable_events.inc(history.unreadable)
        log_once_a_minute("stored events cannot be read", events=history.unreadable)

    def _count_store_error(self, error: Exception) -> None:
        self._metrics.store_errors.inc()
        log_once_a_minute("history store failed", error=type(error).__name__, problem=str(error))
