"""The HTTP routes.

app = make_app(service, tenants, rates)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import PlainTextResponse
from starlette.convertors import PathConvertor, register_url_convertor

from reshelf import __version__
from reshelf.data.schema import Item
from reshelf.inference.serving.admission import Admission
from reshelf.inference.serving.catalogue import catalogue_of
from reshelf.inference.serving.dependencies import Admitted, Operator, Served
from reshelf.inference.serving.docs import docs_routes
from reshelf.inference.serving.documents import check_lengths
from reshelf.inference.serving.json_body import JsonRoute
from reshelf.inference.serving.log import audit, hashed
from reshelf.inference.serving.middleware import RequestMiddleware
from reshelf.inference.serving.page import PageSearch, page_routes
from reshelf.inference.serving.rates import Rates
from reshelf.inference.serving.refusals import REFUSALS, RefusedError, add_refusals
from reshelf.inference.serving.schemas import (
    EventsReply,
    EventsRequest,
    ExportReply,
    ForgetReply,
    HealthReply,
    RankedDocument,
    ReadyReply,
    RerankReply,
    RerankRequest,
    SentEvent,
    TeiRank,
    TeiRequest,
)
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenant, Tenants
from reshelf.inference.serving.traces import Traces
from reshelf.inference.serving.ubi import UbiReply, UbiRequest, events_of_ubi


class _AnyTextConvertor(PathConvertor):
    """A rest of the path in which there may be slashes and line ends: shoppers' ids are what shops say they are."""

    regex = r"(?s:.*)"


register_url_convertor("any_text", _AnyTextConvertor())
router = APIRouter(route_class=JsonRoute)


def make_app(service: Service, tenants: Tenants, rates: Rates, traces: Traces | None = None) -> FastAPI:
    """The application over one service."""
    config = service.config
    app = FastAPI(
        title="Reshelf", version=__version__, description="Personalised reranking of shop search.", docs_url=None,
        redoc_url=None, openapi_url="/openapi.json" if config.docs else None,
    )  # fmt: skip
    admission = Admission(config.limits.requests, rates)
    app.state.service, app.state.tenants, app.state.admission = service, tenants, admission
    # Lists to pick are what shoppers did: not for every tenant to see.
    app.state.shop = PageSearch(service.catalogue, config.data if tenants.path is None else None)
    app.add_middleware(RequestMiddleware, service=service, tenants=tenants, admission=admission, traces=traces)
    add_refusals(app)
    app.include_router(router)
    if config.ui:
        app.include_router(page_routes)
    if config.docs:
        app.include_router(docs_routes)
    if config.origins:
        app.add_middleware(CORSMiddleware, allow_origins=config.origins, allow_methods=["*"], allow_headers=["*"])
    return app


@router.post("/v1/rerank", responses=REFUSALS, response_model_exclude_none=True)
@router.post("/v2/rerank", responses=REFUSALS, response_model_exclude_none=True)
async def rerank(
    request: Request, body: RerankRequest, tenant: Admitted, service: Served, response: Response
) -> RerankReply:
    """Put documents in order, as Cohere's and Jina's clients ask for it."""
    return await _ranked(request, body, tenant, service, response)


@router.post("/rerank", responses=REFUSALS, response_model_exclude_none=True)
async def rerank_texts(
    request: Request, body: TeiRequest, tenant: Admitted, service: Served, response: Response
) -> list[TeiRank]:
    """Put texts in order, as Text Embeddings Inference does."""
    ranking = RerankRequest(query=body.query, documents=list(body.texts), user_id=body.user_id, impute=body.impute)
    reply = await _ranked(request, ranking, tenant, service, response)
    return [
        TeiRank(
            index=one.index,
            score=_tei_score(one, bool(body.raw_scores and not reply.meta.fallback)),
            text=body.texts[one.index] if body.return_text else None,
        )
        for one in reply.results
    ]


def _tei_score(one: RankedDocument, raw: bool) -> float:
    """Of what has no raw score, in a list that has them, the lowest."""
    if not raw:
        return one.relevance_score
    return float(np.finfo(np.float32).min) if one.score is None else one.score


async def _ranked(
    request: Request, body: RerankRequest, tenant: Tenant, service: Service, response: Response
) -> RerankReply:
    """The reply, and what log, metrics and headers say of it."""
    state = request.state
    state.log |= {"documents": len(body.documents), "user": hashed(body.user_id)}
    await request.app.state.admission.within_candidates(tenant, len(body.documents))
    # Who hangs up gives up its places, in the queues too (`BoundedProtocol`).
    state.cancel_when_hung_up = asyncio.current_task()
    reply = await service.rerank(tenant, body, state.started, state.request_id)
    state.meta = meta = reply.meta
    meta.half_surrogates = state.half_surrogates
    state.log |= {"fallback": meta.fallback, "engine_ms": round(meta.ms.get("engine", 0.0), 1)}
    if meta.fallback:
        response.headers["X-Reshelf-Fallback"] = meta.fallback
    return reply


@router.post("/v1/events", responses=REFUSALS)
async def send_events(request: Request, body: EventsRequest, tenant: Admitted, service: Served) -> EventsReply:
    """Keep what shoppers just did; their next ranking reflects it. The reply comes when it is safe."""
    request.state.log["events"] = len(body.events)
    catalogue = catalogue_of(tenant, service.catalogue)
    for n, event in enumerate(body.events):
        _check_event(event, f"events[{n}]", catalogue, service.config.limits.text)
    stored = await service.shoppers.append(tenant, body.events)
    return EventsReply(stored=stored, ignored=body.ignored, half_surrogates=request.state.half_surrogates)


@router.post("/v1/ubi", responses=REFUSALS)
async def send_ubi(request: Request, body: UbiRequest, tenant: Admitted, service: Served) -> UbiReply:
    """Keep what shoppers searched for and did, as clients of User Behavior Insights 1.3 record it."""
    events, skipped = events_of_ubi(body, catalogue_of(tenant, service.catalogue), service.config.limits.text)
    request.state.log["events"] = len(events)
    stored = await service.shoppers.append(tenant, events) if events else 0
    return UbiReply(stored=stored, skipped=skipped)


@router.delete("/v1/users/{user_id:any_text}", responses=REFUSALS)
async def forget(request: Request, user_id: str, tenant: Admitted, service: Served) -> ForgetReply:
    """Forget a shopper."""
    _check_named(user_id)
    forgotten = await service.forget(tenant, user_id)
    _audit(request, "forget", tenant, user_id, forgotten)
    return ForgetReply(forgotten=forgotten)


@router.get("/v1/users/{user_id:any_text}/export", responses=REFUSALS, response_model_exclude_none=True)
async def export(request: Request, user_id: str, tenant: Admitted, service: Served) -> ExportReply:
    """All that is kept of a shopper."""
    _check_named(user_id)
    reply = await service.shoppers.export(tenant, user_id)
    _audit(request, "export", tenant, user_id, len(reply.events))
    return reply


@router.get("/health")
async def health() -> HealthReply:
    """The server runs."""
    return HealthReply()


@router.get("/ready", responses={503: {"model": ReadyReply}})
async def ready(request: Request, service: Served, response: Response) -> ReadyReply:
    """200 where the engine is ready; 503 where replies would be first-stage order, or the server is about to end."""
    own = service.models.own
    response.status_code = 200 if own.engine.ready and not service.draining else 503
    return ReadyReply(
        ready=response.status_code == 200,
        engine=own.engine.name,
        model=own.name,
        warning=own.warning,
        signals_until=own.signals_until,
        draining=service.draining,
        tenants=request.app.state.tenants.problem,
    )


@router.get("/metrics", response_class=PlainTextResponse, responses=REFUSALS)
async def metrics(_: Operator, service: Served) -> Response:
    """For Prometheus; with tenants, for an operator's key."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _audit(request: Request, action: str, tenant: Tenant, user_id: str, events: int) -> None:
    """The request's id is in the reply too: so the shop finds whom it was about, and nobody else does."""
    audit(action, request_id=request.state.request_id, tenant=tenant.name, user=hashed(user_id), events=events)


def _check_named(user_id: str) -> None:
    """Of nobody, as where a script's variable is empty, nothing could ever be forgotten."""
    if not user_id:
        raise RefusedError("empty; put the shopper's id into the path, percent-encoded", "user_id")


def _check_event(event: SentEvent, field: str, catalogue: Mapping[str, Item], most: int) -> None:
    if event.item is not None:
        if event.item.item_id != event.item_id:
            raise RefusedError(f"is not the event's item {event.item_id!r}", f"{field}.item.item_id")
    elif event.item_id is not None and catalogue and event.item_id not in catalogue:
        raise RefusedError("not in the catalogue; send the event's `item` too", f"{field}.item_id")
    check_lengths(event.model_dump(exclude_none=True), field, most)
    if (size := len(event.model_dump_json(exclude_none=True))) > most:  # a ranking reads hundreds of them
        raise RefusedError(f"{size} characters with its item; send at most {most}", field)
