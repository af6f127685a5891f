"""What surrounds every request: its id, its tenant's limits, its body within bounds, metrics, its line in the log.

app.add_middleware(RequestMiddleware, service=service, tenants=tenants, admission=admission)
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from contextlib import nullcontext
from typing import Any

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reshelf.inference.serving.admission import Admission
from reshelf.inference.serving.refusals import RefusedError, refusal
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenants
from reshelf.inference.serving.traces import Traces

logger = logging.getLogger("reshelf.serving")
_NO_ROUTE = "other"
_UNLIMITED = ("/health", "/ready", "/metrics")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_HUNG_UP = 499
"""In log and metrics, as nginx has it."""
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.:/+=@-]")
_LONGEST_ID = 128


class RequestMiddleware:
    """Plain ASGI: Starlette's own base class for middleware costs every request a task and a millisecond.

    A body is read before the request counts as in flight, so that one who sends slowly holds up nobody; and only for
    who has a key and is within its rate, so that nobody else makes the server hold or parse anything.

    Args:
        app: what answers.
        service: its limits and metrics.
        tenants: who has a key.
        admission: who is let in.
        traces: where a request is traced; None for nowhere.
    """

    def __init__(
        self, app: ASGIApp, service: Service, tenants: Tenants, admission: Admission, traces: Traces | None
    ) -> None:
        self._app, self._metrics, self._tenants, self._admission = app, service.metrics, tenants, admission
        self._traces = traces
        config = service.config
        self._limits, self._origins = config.limits, frozenset(config.origins)
        names = config.hosts or (() if config.tenants else (*_LOOPBACK, config.host))
        self._hosts = frozenset(name.lower().removesuffix(".") for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # of load balancers that look at /ready; uvicorn sends no body
            scope = {**scope, "method": "GET"}
        request, started, status = Request(scope, receive), time.perf_counter(), 0
        sent_id = _NOT_IN_AN_ID.sub("", request.headers.get("x-request-id", ""))[:_LONGEST_ID]
        request_id = sent_id or secrets.token_hex(8)
        scope.setdefault("state", {}).update(request_id=request_id, started=started, log={}, traced=False)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._bounded(request, send_with_id)
        except RefusedError as error:
            await refusal(request, error)(scope, receive, send_with_id)
        except ClientDisconnect:  # nobody waits for a reply
            status = _HUNG_UP
        except asyncio.CancelledError:
            if not scope["state"].get("hung_up"):
                raise
            status = _HUNG_UP
        except Exception:
            logger.exception("failed", extra={"request_id": request_id})
            if status:
                raise  # half a reply is out: only ending the connection says that it is not whole
            failed = RefusedError("the server failed; its log says where", status=500)
            await refusal(request, failed)(scope, receive, send_with_id)
        finally:
            self._record(scope, status, time.perf_counter() - started)

    async def _bounded(self, request: Request, send: Send) -> None:
        """The application's reply to a request within bounds.

        Raises:
            RefusedError: it is not.
        """
        self._check_origin(request)
        tenant = self._tenants.of(request.headers.get("authorization"))
        if request.scope["path"] in _UNLIMITED:
            tenant = None
        if tenant is not None:
            request.state.traced = True
            await self._admission.within_rate(tenant)
        body = await self._body(request) if tenant is not None and request.method == "POST" else b""
        read = False

        async def receive() -> Message:
            nonlocal read
            if read:
                return await request.receive()
            read = True
            return {"type": "http.request", "body": body, "more_body": False}

        with nullcontext() if tenant is None else self._admission.place(tenant):
            await self._app(request.scope, receive, send)

    def _check_origin(self, request: Request) -> None:
        """Whether a browser may have been told by anybody to send this."""
        named = request.headers.get("host", "").lower()
        host = named.rpartition(":")[0] if named.rpartition(":")[2].isdigit() else named
        if named and self._hosts and host.strip("[]").removesuffix(".") not in self._hosts:
            raise RefusedError("not called by this name; see --hosts", status=403)
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins and origin.lower().partition("://")[2] != named:
            raise RefusedError("not for pages of this origin; see --origins", status=403)

    async def _body(self, request: Request) -> bytes:
        body, most = bytearray(), self._limits.body_bytes
        too_large = RefusedError(f"a body of more than {most} bytes", status=413)
        if int(request.headers.get("content-length", 0)) > most:  # before one is asked to send it (`Expect`)
            raise too_large
        if (coding := request.headers.get("content-encoding", "identity").lower()) != "identity":
            raise RefusedError(f"Content-Encoding {coding[:20]}: send the JSON as it is", status=415)
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise too_large
        media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise RefusedError("send `Content-Type: application/json`", status=415)
        return bytes(body)

    def _record(self, scope: Scope, status: int, seconds: float) -> None:
        """In metrics and log."""
        state: dict[str, Any] = scope["state"]
        route = getattr(scope.get("route"), "path", _NO_ROUTE)
        self._metrics.requests.labels(route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if "meta" in state:
            self._metrics.ranked(state["meta"], state["log"]["documents"])
        line = {"request_id": state["request_id"], "route": route, "status": status, "ms": round(1000 * seconds, 1)}
        if self._traces is not None and state["traced"]:
            line["trace_id"] = self._traces.record(scope, status, seconds)
        logger.info("request", extra=line | state["log"])
