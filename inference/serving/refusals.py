"""Why a request was not served, and the JSON that says so.

    raise RefusedError("5 values for 3 documents", "scores")

Every refusal has one shape, `schemas.Refusal`, wherever it comes from: a route, a dependency, FastAPI or the router.
"""

from __future__ import annotations

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reshelf.data.dataset_folder import message_of
from reshelf.inference.serving.schemas import Refusal

REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Refusal} for code in (400, 401, 403, 404, 413, 415, 422, 429, 503)
}
"""For the OpenAPI."""


class RefusedError(HTTPException):
    """A request that cannot be served as it is.

    Args:
        message: one sentence.
        field: where in the request.
        status: HTTP status.
        wait_s: seconds after which the same request may be served; None where it will not be.
    """

    def __init__(self, message: str, field: str | None = None, status: int = 422, wait_s: float | None = None) -> None:
        headers = {} if wait_s is None else {"Retry-After": str(max(1, math.ceil(wait_s)))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status, message, headers)
        self.field = field


def refusal(request: Request, error: HTTPException) -> JSONResponse:
    """The reply to a request that is refused."""
    field = error.field if isinstance(error, RefusedError) else None
    body = Refusal(message=str(error.detail), field=field, request_id=request.state.request_id)
    return JSONResponse(body.model_dump(), error.status_code, error.headers)


def add_refusals(app: FastAPI) -> None:
    """Let an application answer every refusal as `Refusal`."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        return refusal(request, error)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = first["loc"][1:] if first["loc"][0] == "body" else first["loc"]
        message = message_of(first)
        if not place:  # FastAPI reads nothing as JSON that does not say that it is
            message = "not a JSON object; send one, with `Content-Type: application/json`"
        return refusal(request, RefusedError(message, field_name(place)))


def field_name(place: tuple[int | str, ...]) -> str | None:
    """documents[3].price, of pydantic's ("documents", 3, "price")."""
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name or None
