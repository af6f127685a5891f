"""Traces for OpenTelemetry: a span per request and, inside it, one per stage of its ranking.

    traces = Traces("http://localhost:4318")           # an OTLP receiver, over HTTP
    trace_id = traces.record(scope, 200, seconds=0.03)
    traces.close()

Spans are made when the request is over, of what is measured of it in any case, and sent by a thread. The caller's span
(W3C `traceparent`) is their parent, and its flag says whether there are any. None holds a text or an id of a shopper.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from starlette.types import Scope

from reshelf import __version__
from reshelf.errors import InputError
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.schemas import Meta

_PATH = "/v1/traces"
_SENT_EVERY_MS = 1000
_TIMEOUT_S = 2.0
_CLOSE_S = 3.0


class Traces:
    """Of one server.

    Args:
        url: of the receiver; without a path, /v1/traces of it.

    Raises:
        InputError: OpenTelemetry is not installed, or the URL is invalid.
    """

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise InputError(f"traces {url!r} is no URL; give one such as http://localhost:4318")
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import DEFAULT_ON
        except ImportError as error:
            raise InputError("traces need OpenTelemetry; `pip install reshelf[traces]`") from error
        endpoint = url if urlsplit(url).path.strip("/") else url.rstrip("/") + _PATH
        resource = Resource.create({"service.name": "reshelf", "service.version": __version__})
        self._provider = TracerProvider(DEFAULT_ON, resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint, timeout=_TIMEOUT_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=_SENT_EVERY_MS))
        self._tracer = self._provider.get_tracer("reshelf", __version__)
        problems = logging.getLogger("opentelemetry")  # one for every batch that a receiver does not take
        problems.handlers[:], problems.propagate = [_Seldom()], False

    def record(self, scope: Scope, status: int, seconds: float) -> str:
        """A request is over.

        Args:
            scope: its ASGI scope; `state` holds what `RequestMiddleware` and the routes say of it.
            status: HTTP status of the reply.
            seconds: from its arrival until now.

        Returns:
            The trace's id, 32 hexadecimal digits.
        """
        from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        end = time.time_ns()
        start = end - round(1e9 * seconds)
        sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        caller = TraceContextTextMapPropagator().extract(sent)
        state, route = scope["state"], getattr(scope.get("route"), "path", "")
        span = self._tracer.start_span(
            f"{scope['method']} {route}".rstrip(), caller, SpanKind.SERVER, _attributes(scope, route, status), (), start
        )
        if span.is_recording() and (meta := state.get("meta")) is not None:
            inside, at = set_span_in_context(span, caller), start
            for stage, ms in meta.ms.items():
                if stage != "total":
                    one = self._tracer.start_span(stage, inside, start_time=at)
                    at += round(1e6 * ms)
                    one.end(at)
        if status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end)
        return format_trace_id(span.get_span_context().trace_id)

    def close(self) -> None:
        """Send what is left, where that is quick."""
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(_CLOSE_S)


class _Seldom(logging.Handler):
    """OpenTelemetry's own complaints, once a minute."""

    def emit(self, record: logging.LogRecord) -> None:
        log_once_a_minute("traces not sent", problem=record.getMessage())


def _attributes(scope: Scope, route: str, status: int) -> Mapping[str, Any]:
    """Of a request's span. Not its path: a shopper's id may be in it."""
    state = scope["state"]
    found = {
        "http.request.method": scope["method"], "http.route": route, "http.response.status_code": status,
        "url.scheme": scope["scheme"], "reshelf.request_id": state["request_id"],
        "reshelf.tenant": state["log"].get("tenant", ""),
    }  # fmt: skip
    meta: Meta | None = state.get("meta")
    if meta is not None:
        found |= {
            "reshelf.documents": state["log"]["documents"], "reshelf.fallback": meta.fallback or "",
            "reshelf.prompt_tokens": meta.prompt_tokens, "reshelf.cached_tokens": meta.cached_tokens,
        }  # fmt: skip
    return found
