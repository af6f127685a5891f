"""JSON of requests: parsed away from the event loop where there is much of it, and without what no reply could hold.

router = APIRouter(route_class=JsonRoute)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json

from reshelf.inference.serving.refusals import RefusedError
from reshelf.inference.serving.schemas import MOST_FIELDS
from reshelf.unicode import whole_json

_LARGE = 65_536
"""Bytes that take about a millisecond; more are parsed in a thread."""


class JsonRoute(APIRoute):
    """FastAPI's route, over a `JsonRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_json(request: Request) -> Response:
            return await handle(JsonRequest(request.scope, request.receive))

        return handle_json


class JsonRequest(Request):
    """A request whose JSON has no NaN, no nesting that could not be written again, and U+FFFD for every half of a
    surrogate pair; how many of those there were is `state.half_surrogates`."""

    async def json(self) -> Any:
        body = await self.body()
        parse = asyncio.to_thread(_parse, body) if len(body) > _LARGE else None
        value, self.state.half_surrogates = _parse(body) if parse is None else await parse
        if isinstance(value, dict) and len(value) > MOST_FIELDS:  # each would be validated, on the event loop
            raise RefusedError(f"{len(value)} fields; send at most {MOST_FIELDS}")
        return value


def _parse(body: bytes) -> tuple[Any, int]:
    halves = 0
    try:
        if rb"\u" in body:
            text, halves = whole_json(body.decode())
            body = text.encode()
        return from_json(body, allow_inf_nan=False), halves
    except ValueError as error:  # of either: what is not UTF-8 is no JSON
        raise RefusedError(f"not JSON: {error}") from error
