"""A list's way to an engine and back, for the model that orders it and for others that an experiment names.

context = RequestContext(tenant, request, query, items, due, catalogue)
prepared, scores = await score_list(model, context, live, meta, Stages(meta, started))
explanations = await explain_list(model, context, prepared, scores, meta)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from reshelf.data.schema import Item
from reshelf.data.signals.live import LiveEvents
from reshelf.errors import InputError
from reshelf.inference.assembly import MissingFeaturesError, UntrainedContextError, assemble
from reshelf.inference.explain import leave_one_out
from reshelf.inference.explanation import Explanation
from reshelf.inference.ranking import NonFiniteScoreError, PreparedList, prepare
from reshelf.inference.serving.engine.models import ServedModel
from reshelf.inference.serving.engine.queue import UnservedError
from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.schemas import Meta, RerankRequest, StoredEvent
from reshelf.inference.serving.stages import Stages
from reshelf.inference.serving.tenants import Tenant

T = TypeVar("T")


@dataclass
class RequestContext:
    """A request, and what was found out about it."""

    tenant: Tenant
    request: RerankRequest
    query: str
    """As it is read: no longer than the server's limit."""
    items: Mapping[int, Item]
    """By place in the request, those documents that are items: the candidates."""
    due: float
    """When the reply is, on the clock of `time.perf_counter`."""
    catalogue: Mapping[str, Item]
    """Where the tenant may look products up."""
    history: Sequence[StoredEvent] = ()

    @cached_property
    def candidates(self) -> list[Item]:
        return list(self.items.values())

    @property
    def seconds_left(self) -> float:
        return self.due - time.perf_counter()

    async def in_time(self, work: Awaitable[T]) -> T:
        """Its result, or TimeoutError when the reply is due."""
        async with asyncio.timeout(max(0.0, self.seconds_left)):
            return await work


async def score_list(
    model: ServedModel, context: RequestContext, live: LiveEvents | None, meta: Meta, stages: Stages
) -> tuple[PreparedList, np.ndarray]:
    """The list as the engine reads it, and raw log-odds of its candidates, float32 [K].

    Args:
        live: what happened since the model's tables were made.
        meta: to say in what was imputed, missing and truncated, and how long it took.

    Raises:
        RefusedError: the request is at fault.
        TimeoutError: not before the reply is due.
        UnservedError: the engine is down, too busy or failed.
        NonFiniteScoreError: a score is not a number.
        MissingFeaturesError: numbers are missing that the model does not do without.
    """
    model.engine.admit(context.tenant.name, len(context.items), context.seconds_left)
    prepared = await context.in_time(_prepared(model, context, live, meta, stages))
    stages.end("prompt")
    done = await context.in_time(model.score(prepared.prompt, context.tenant.name))
    stages.end("wait")
    meta.ms["engine"] = done.ms
    meta.ms["wait"] = max(0.0, meta.ms["wait"] - done.ms)
    meta.prompt_tokens, meta.cached_tokens = done.prompt_tokens, done.cached_tokens
    return prepared, prepared.scores(done.scores)


async def _prepared(
    model: ServedModel, context: RequestContext, live: LiveEvents | None, meta: Meta, stages: Stages
) -> PreparedList:
    request, items = context.request, context.items
    try:
        assembled = assemble(
            model.builder,
            context.query,
            context.candidates,
            [one.event for one in context.history],
            history_items=[one.item for one in context.history if one.item is not None],
            scores=None if request.scores is None else [request.scores[n] for n in items],
            features={name: [values[n] for n in items] for name, values in request.features.items()},
            time=request.time,
            context=request.moment,
            signals=model.signals,
            live=live,
            impute=request.impute,
            known_events=context.catalogue,
        )
        stages.end("signals")
        meta.imputed, meta.missing = list(assembled.imputed), list(assembled.missing)
        meta.history |= {"events": len(assembled.ranking.history), "unknown": assembled.unknown_events}
        if assembled.builder.has_read(assembled.ranking):
            prepared = prepare(assembled.builder, assembled.ranking)
        else:
            prepared = await model.writing.run(
                context.tenant.name, len(items), prepare, assembled.builder, assembled.ranking
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


async def explain_list(
    model: ServedModel, context: RequestContext, prepared: PreparedList, scores: np.ndarray, meta: Meta
) -> dict[int, Explanation]:
    """Why the best few stand where they do; nothing where that takes too long, for the order is there."""
    name = context.tenant.name
    try:
        ablations = await context.in_time(model.writing.run(name, len(scores), leave_one_out, prepared, scores))
        # One after the other: an explanation does not fill the queue that orders wait in.
        found = [one.scores((await context.in_time(model.score(one.prompt, name))).scores) for one in ablations.lists]
        return ablations.explain(found)
    except TimeoutError:
        meta.unexplained = "deadline"
    except UnservedError as error:
        meta.unexplained = error.reason
    except NonFiniteScoreError:
        meta.unexplained = "engine_error"
    return {}
