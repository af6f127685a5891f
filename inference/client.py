"""Call a running service from Python. Needs neither torch nor transformers.

    with Client("http://localhost:8000", key="rsh_…") as client:
        reply = client.rerank("rain jacket", ["p17", "p3", "p88"], user_id="u1", deadline_ms=200)
        order = [one.index for one in reply.results]
        client.send_events([SentEvent(user_id="u1", kind="click", item_id="p3")])

`AsyncClient` has the same methods, to be awaited. Connections are kept and used again. A request is sent again, after a
pause of random length that grows, where that is safe: rankings and deletions always, events since each carries an id.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from reshelf.inference.serving.schemas import EventsReply, EventsRequest, RerankReply, RerankRequest, SentEvent

if TYPE_CHECKING:
    import httpx

M = TypeVar("M", bound=BaseModel)
_AGAIN = frozenset((429, 502, 503, 504))
_PAUSE_S = 0.05


class ServiceError(Exception):
    """The service refused, or could not be reached.

    Args:
        message: one sentence.
        status: HTTP status; None where there was no reply.
        field: where in the request.
        request_id: to look for in the service's log.

    Examples:
        >>> str(ServiceError("give a number of at least 0", status=422, field="documents[0].price"))
        'documents[0].price: give a number of at least 0'
    """

    def __init__(
        self, message: str, status: int | None = None, field: str | None = None, request_id: str | None = None
    ) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.status, self.field, self.request_id = status, field, request_id


class _Settings:
    """What both clients know."""

    def __init__(self, url: str, key: str | None, timeout_s: float, retries: int) -> None:
        self.retries = retries
        self.http: dict[str, Any] = {
            "base_url": url,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
            "timeout": timeout_s,
        }

    def pause(self, attempt: int, response: httpx.Response | None, problem: str) -> float:
        """Seconds until the next attempt.

        Args:
            attempt: the one that failed, from 0.
            response: what came back.
            problem: or why nothing did.

        Raises:
            ServiceError: there is no next one.
        """
        if attempt >= self.retries or (response is not None and response.status_code not in _AGAIN):
            raise _error(response, problem)
        after = "" if response is None else response.headers.get("Retry-After", "")
        return max(float(after) if after.isdigit() else 0.0, random.uniform(0, _PAUSE_S * 2**attempt))


class Client:
    """Sync client; use it as a context manager, or call `close`. Safe to share between threads.

    Args:
        url: of the service.
        key: the tenant's.
        timeout_s: seconds for one attempt.
        retries: attempts after the first.

    Examples:
        >>> url = "http://localhost:8000"  # reshelf serve runs/demo/model --data runs/demo/data
        >>> with Client(url) as client:
        ...     stored = client.send_events([SentEvent(user_id="u1", kind="click", item_id="p3")])
        ...     reply = client.rerank("wool coat", ["p17", "p3", "p8"], user_id="u1", deadline_ms=5000)
        >>> stored, reply.meta.fallback, sorted(one.item_id for one in reply.results)
        (1, None, ['p17', 'p3', 'p8'])
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 5.0, retries: int = 2) -> None:
        self._settings = _Settings(url, key, timeout_s, retries)
        import httpx  # not before a client is made: it takes longer than all the rest

        self._http = httpx.Client(**self._settings.http)
        self._unreached = httpx.TransportError

    def rerank(self, query: str, documents: Sequence[str | Mapping[str, Any]], **fields: Any) -> RerankReply:
        """Put documents in order; `fields` are those of `RerankRequest`.

        Raises:
            ServiceError: refused or not reached.
            pydantic.ValidationError: a field is invalid.
        """
        return self._ask("POST", "/v1/rerank", RerankReply, _ranking(query, documents, fields))

    def send_events(self, events: Iterable[SentEvent]) -> int:
        """Keep what shoppers did; returns how many were new. Raises ServiceError."""
        return self._ask("POST", "/v1/events", EventsReply, _events(events)).stored

    def forget(self, user_id: str) -> None:
        """Remove all that is known of a shopper. Raises ServiceError."""
        self._send("DELETE", _user(user_id), None)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, method: str, path: str, kind: type[M], body: str) -> M:
        return kind.model_validate_json(self._send(method, path, body).content)

    def _send(self, method: str, path: str, body: str | None) -> httpx.Response:
        attempt = 0
        while True:
            response, problem = None, ""
            try:
                response = self._http.request(method, path, content=body, headers=_JSON)
                if response.is_success:
                    return response
            except self._unreached as error:
                problem = f"{type(error).__name__}: {error}"
            time.sleep(self._settings.pause(attempt, response, problem))
            attempt += 1


class AsyncClient:
    """Async client; use it as an async context manager, or await `close`.

    Args:
        url: of the service.
        key: the tenant's.
        timeout_s: seconds for one attempt.
        retries: attempts after the first.

    Examples:
        >>> url = "http://localhost:8000"
        >>> async def rank_all() -> list[int]:
        ...     requests = [RerankRequest(query="coat", documents=["p1", "p2"], deadline_ms=5000) for _ in range(3)]
        ...     async with AsyncClient(url) as client:
        ...         return [len(reply.results) async for reply in client.rerank_many(requests, at_once=2)]
        >>> asyncio.run(rank_all())
        [2, 2, 2]
    """

    def __init__(self, url: str, key: str | None = None, timeout_s: float = 5.0, retries: int = 2) -> None:
        self._settings = _Settings(url, key, timeout_s, retries)
        import httpx

        self._http = httpx.AsyncClient(**self._settings.http)
        self._unreached = httpx.TransportError

    async def rerank(self, query: str, documents: Sequence[str | Mapping[str, Any]], **fields: Any) -> RerankReply:
        """Put documents in order; `fields` are those of `RerankRequest`.

        Raises:
            ServiceError: refused or not reached.
            pydantic.ValidationError: a field is invalid.
        """
        response = await self._send("POST", "/v1/rerank", _ranking(query, documents, fields))
        return RerankReply.model_validate_json(response.content)

    async def rerank_many(self, requests: Iterable[RerankRequest], at_once: int = 8) -> AsyncIterator[RerankReply]:
        """Replies in the order of the requests, at most `at_once` of them on their way. Raises ServiceError."""
        turn = asyncio.Semaphore(at_once)

        async def one(request: RerankRequest) -> RerankReply:
            async with turn:
                response = await self._send("POST", "/v1/rerank", request.model_dump_json(exclude_none=True))
            return RerankReply.model_validate_json(response.content)

        waiting: list[asyncio.Task[RerankReply]] = []
        try:
            for request in requests:
                waiting.append(asyncio.create_task(one(request)))
                if len(waiting) >= 2 * at_once:
                    yield await waiting.pop(0)
            while waiting:
                yield await waiting.pop(0)
        finally:
            for task in waiting:
                task.cancel()

    async def send_events(self, events: Iterable[SentEvent]) -> int:
        """Keep what shoppers did; returns how many were new. Raises ServiceError."""
        response = await self._send("POST", "/v1/events", _events(events))
        return EventsReply.model_validate_json(response.content).stored

    async def forget(self, user_id: str) -> None:
        """Remove all that is known of a shopper. Raises ServiceError."""
        await self._send("DELETE", _user(user_id), None)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, method: str, path: str, body: str | None) -> httpx.Response:
        attempt = 0
        while True:
            response, problem = None, ""
            try:
                response = await self._http.request(method, path, content=body, headers=_JSON)
                if response.is_success:
                    return response
            except self._unreached as error:
                problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(self._settings.pause(attempt, response, problem))
            attempt += 1


_JSON = {"Content-Type": "application/json"}


def _ranking(query: str, documents: Sequence[str | Mapping[str, Any]], fields: Mapping[str, Any]) -> str:
    request = {"query": query, "documents": list(documents), **fields}
    unknown = sorted(set(request) - set(RerankRequest.model_fields))
    if unknown:
        raise TypeError(f"rerank has no {', '.join(unknown)}")
    return RerankRequest.model_validate(request).model_dump_json(exclude_none=True)


def _events(events: Iterable[SentEvent]) -> str:
    """Each with an id, so that sending them again does not double them."""
    named = [one if one.event_id else one.model_copy(update={"event_id": uuid.uuid4().hex}) for one in events]
    return EventsRequest(events=named).model_dump_json(exclude_none=True)


def _user(user_id: str) -> str:
    return f"/v1/users/{quote(user_id, safe='')}"


def _error(response: httpx.Response | None, problem: str) -> ServiceError:
    if response is None:
        return ServiceError(f"the service was not reached ({problem})")
    try:
        body = response.json()
        return ServiceError(body["message"], response.status_code, body.get("field"), body.get("request_id"))
    except (ValueError, KeyError, TypeError):
        return ServiceError(f"HTTP {response.status_code}", response.status_code)
