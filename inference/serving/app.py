"""HTTP: routes, who may call, how much at once, and every refusal as JSON with its field.

app = make_app(service, tenants)
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reshelf import __version__
from reshelf.inference.serving.documents import RefusedError, check_lengths
from reshelf.inference.serving.log import hashed
from reshelf.inference.serving.page import PageSearch, page_routes
from reshelf.inference.serving.schemas import (
    EventsReply,
    EventsRequest,
    ForgetReply,
    Refusal,
    RerankReply,
    RerankRequest,
    SentEvent,
    TeiRank,
    TeiRequest,
)
from reshelf.inference.serving.service import Reply, Service
from reshelf.inference.serving.tenants import Tenant, Tenants

logger = logging.getLogger("reshelf.serving")
M = TypeVar("M", bound=BaseModel)
_UNKNOWN = "other"


class _Anything(PathConvertor):
    """A rest of the path in which there may be slashes and line ends: shoppers' ids are what shops say they are."""

    regex = r"(?s:.*)"


register_url_convertor("anything", _Anything())


class _Plain(APIRoute):
    """A route in the OpenAPI whose function is called as it is: FastAPI's way to one costs as much as the function."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return self.endpoint


_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal} for code in (400, 401, 403, 404, 413, 422, 429, 503)
}


def make_app(service: Service, tenants: Tenants) -> FastAPI:
    """The application over one service."""
    app = FastAPI(title="Reshelf", version=__version__, description="Personalised reranking of shop search.")
    limits = service.config.limits
    app.add_middleware(_Around, service=service)

    @app.exception_handler(RefusedError)
    async def refused(request: Request, error: RefusedError) -> JSONResponse:
        return refuse(request, error)

    @app.exception_handler(HTTPException)
    async def not_found(request: Request, error: HTTPException) -> JSONResponse:
        answer = refuse(request, RefusedError(str(error.detail), status=error.status_code))
        answer.headers.update(error.headers or {})
        return answer

    def allowed(request: Request, operator: bool = False) -> Tenant:
        tenant = tenants.of(request.headers.get("authorization"))
        if tenant is None:
            raise RefusedError("no such key; send `Authorization: Bearer KEY`", status=401)
        if tenants.path is not None and tenant.operator != operator:
            raise RefusedError("this key is for other routes", status=403)
        wait = 0.0 if operator else tenants.wait_s(tenant)
        if wait:
            raise RefusedError(f"more than {tenant.rate}", status=429, wait_s=wait)
        request.state.log["tenant"] = tenant.name
        return tenant

    async def read(request: Request, kind: type[M]) -> M:
        """The body, no more of it than is allowed, as `kind`."""
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limits.body_bytes:
                raise RefusedError(f"a body of more than {limits.body_bytes} bytes", status=413)
            chunks.append(chunk)
        try:
            return kind.model_validate_json(b"".join(chunks))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise RefusedError(first["msg"], _field(first["loc"])) from error

    async def ranked(request: Request, body: RerankRequest, tenant: Tenant) -> Reply:
        request.state.log |= {"documents": len(body.documents), "user": hashed(body.user_id)}
        reply = await service.rerank(tenant, body, request.state.started, request.state.request_id)
        request.state.reply = reply
        request.state.log |= {"fallback": reply.meta.fallback, "engine_ms": round(reply.meta.ms.get("engine", 0.0), 1)}
        return reply

    plain = APIRouter(route_class=_Plain)

    @plain.post("/v1/rerank", **_takes(RerankRequest, RerankReply))
    @plain.post("/v2/rerank", **_takes(RerankRequest, RerankReply))
    async def rerank(request: Request) -> Response:
        """Put documents in order, as Cohere's and Jina's clients ask for it."""
        tenant = allowed(request)
        reply = await ranked(request, await read(request, RerankRequest), tenant)
        return Response(reply.json(), media_type="application/json", headers=_fallback(reply))

    @plain.post("/rerank", **_takes(TeiRequest, list[TeiRank]))
    async def tei(request: Request) -> Response:
        """Put texts in order, as Text Embeddings Inference does."""
        tenant = allowed(request)
        body = await read(request, TeiRequest)
        asked = RerankRequest(query=body.query, documents=list(body.texts), user_id=body.user_id)
        reply = await ranked(request, asked, tenant)
        ranks = [
            TeiRank(
                index=one["index"],
                score=one.get("score" if body.raw_scores else "relevance_score", one["relevance_score"]),
                text=body.texts[one["index"]] if body.return_text else None,
            ).model_dump(exclude_none=True)
            for one in reply.results
        ]
        return JSONResponse(ranks, headers=_fallback(reply))

    @plain.post("/v1/events", **_takes(EventsRequest, EventsReply))
    async def events(request: Request) -> Response:
        """Keep what shoppers just did; their next ranking reflects it. The reply comes when it is safe."""
        tenant = allowed(request)
        body = await read(request, EventsRequest)
        request.state.log["events"] = len(body.events)
        for n, event in enumerate(body.events):
            _known_item(event, f"events[{n}]", service, limits.text)
        return JSONResponse({"stored": await service.append(tenant, body)})

    @app.delete("/v1/users/{user_id:anything}", response_model=ForgetReply, responses=_REFUSALS)
    async def forget(request: Request, user_id: str) -> Response:
        """Forget a shopper."""
        return JSONResponse({"forgotten": await service.forget(allowed(request), user_id)})

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The server runs."""
        return {"status": "ok"}

    @app.get("/ready", responses={503: {}})
    async def ready() -> Response:
        """200 where the engine is ready; 503 where replies would be first-stage order."""
        own = service.models.own
        status = {"ready": own.engine.ready, "engine": own.engine.name, "model": own.name}
        return JSONResponse(status, 200 if own.engine.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse, responses=_REFUSALS)
    async def metrics(request: Request) -> Response:
        """For Prometheus; with tenants, for an operator's key."""
        allowed(request, operator=True)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    app.include_router(plain)
    # Lists to pick are what shoppers did: not for every tenant to see.
    data = service.config.data if tenants.path is None else None
    app.include_router(page_routes(PageSearch(service.catalogue, data), allowed))
    return app


class _Around:
    """What is done with every request: its id, how many there may be at once, metrics, and its line in the log.

    Plain ASGI: Starlette's own base class for this costs every request a task and a millisecond.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service, self._inside = app, service, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, started, status = secrets.token_hex(8), time.perf_counter(), 0
        scope.setdefault("state", {}).update(request_id=request_id, started=started, log={})
        self._inside += 1

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            if self._inside > self._service.config.limits.requests and scope["method"] == "POST":
                busy = RefusedError("too many requests at once", status=429, wait_s=1)
                await refuse(Request(scope), busy)(scope, receive, answer)
            else:
                await self._app(scope, receive, answer)
        except Exception:
            logger.exception("failed", extra={"request_id": request_id})
            if status:
                raise  # half a reply is out: only ending the connection says that it is not whole
            failed = RefusedError("the server failed; its log says where", status=500)
            await refuse(Request(scope), failed)(scope, receive, answer)
        finally:
            self._inside -= 1
            # When the reply is on its way: nobody waits for counters and the log.
            asyncio.get_running_loop().call_soon(self._told, scope, status, time.perf_counter() - started)

    def _told(self, scope: Scope, status: int, seconds: float) -> None:
        """Metrics, and the line in the log."""
        state, route = scope["state"], getattr(scope.get("route"), "path", _UNKNOWN)
        metrics = self._service.metrics
        metrics.requests.labels(route, str(status)).inc()
        metrics.seconds.labels(route).observe(seconds)
        if "reply" in state:
            metrics.ranked(state["reply"].meta, state["log"]["documents"])
        line = {"request_id": state["request_id"], "route": route, "status": status, "ms": round(1000 * seconds, 1)}
        logger.info("request", extra=line | state["log"])


def refuse(request: Request, error: RefusedError) -> JSONResponse:
    """A refusal as the reply that says it."""
    headers = {} if error.wait_s is None else {"Retry-After": str(max(1, math.ceil(error.wait_s)))}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = Refusal(message=error.message, field=error.field, request_id=request.state.request_id)
    return JSONResponse(body.model_dump(), error.status, headers)


def _takes(kind: type[BaseModel], gives: Any) -> dict[str, Any]:
    """OpenAPI of a route that reads its body itself (to bound its size, and to refuse what is not JSON as such)."""
    schema = kind.model_json_schema()
    body = {"required": True, "content": {"application/json": {"schema": _inlined(schema, schema.get("$defs", {}))}}}
    return {"response_model": gives, "responses": _REFUSALS, "openapi_extra": {"requestBody": body}}


def _inlined(schema: Any, definitions: dict[str, Any]) -> Any:
    """A schema without references."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
        return {name: _inlined(value, definitions) for name, value in schema.items() if name != "$defs"}
    return [_inlined(value, definitions) for value in schema] if isinstance(schema, list) else schema


def _fallback(reply: Reply) -> dict[str, str]:
    return {"X-Reshelf-Fallback": reply.meta.fallback} if reply.meta.fallback else {}


def _known_item(event: SentEvent, field: str, service: Service, most: int) -> None:
    texts = {"user_id": event.user_id, "item_id": event.item_id, "query": event.query}
    if event.item is not None:
        texts |= {"item.title": event.item.title, "item.description": event.item.description}
        if event.item.item_id != event.item_id:
            raise RefusedError(f"is not the event's item {event.item_id!r}", f"{field}.item.item_id")
    elif event.item_id is not None and service.catalogue and event.item_id not in service.catalogue:
        raise RefusedError("not in the catalogue; send the event's `item` too", f"{field}.item_id")
    check_lengths({f"{field}.{name}": text for name, text in texts.items()}, most)


def _field(place: tuple[int | str, ...]) -> str | None:
    """documents[3].price"""
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None
