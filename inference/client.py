"""Call a running service from Python. Needs neither torch nor transformers.

    with Client("https://rerank.shop.example", key="rsh_…", verify="ca.pem") as client:
        reply = client.rerank("rain jacket", ["p17", "p3", "p88"], user_id="u1", deadline_ms=200)
        order = [one.index for one in reply.results]
        client.send_events([SentEvent(user_id="u1", kind="click", item_id="p3")])

`AsyncClient` has the same methods, to be awaited. Connections are kept and used again, by the process that made them.
A request is sent again, after a pause of random length that grows, where that is safe: rankings and deletions always,
events since each carries an id. All of it, connecting, attempts and pauses, ends in `timeout_s`, and a ranking shortly
after its own `deadline_ms`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from reshelf.inference.calls import Call, Connections, ServiceError, Timeouts, Verify
from reshelf.inference.serving.schemas import (
    EventsReply,
    EventsRequest,
    ExportReply,
    ForgetReply,
    Meta,
    RankedDocument,
    RerankReply,
    RerankRequest,
    SentEvent,
    StoredEvent,
)
from reshelf.unicode import replace_half_surrogates

if TYPE_CHECKING:
    import httpx

M = TypeVar("M", bound=BaseModel)


class _ServiceClient:
    """What both clients are made of."""

    _kind: ClassVar[Literal["Client", "AsyncClient"]]
    """That of httpx."""

    def __init__(
        self, url: str, key: str | None = None, timeout_s: float = 5.0, retries: int = 2, verify: Verify = True,
        first_stage: bool = False,
    ) -> None:  # fmt: skip
        self._connections = Connections(self._kind, url, key, timeout_s, retries, verify)
        self._first_stage = first_stage


class Client(_ServiceClient):
    """Sync client; use it as a context manager, or call `close`. Safe to share between threads, and after a fork.

    Args:
        url: of the service; unix:/run/reshelf.sock for its Unix socket.
        key: the tenant's.
        timeout_s: seconds for one call, with its retries.
        retries: attempts after the first.
        verify: PEM file of the certificates that are trusted, in place of the usual ones, or an ssl.SSLContext, which
            may have a client's; False for any.
        first_stage: whether a ranking that the service is too late, too busy or not there for is first-stage order,
            marked in `meta.fallback`, in place of a ServiceError; rules are the service's, and not in it.

    Examples:
        >>> url = "http://localhost:8000"  # of a running service
        >>> with Client(url) as client:
        ...     stored = client.send_events([SentEvent(user_id="u1", kind="click", item_id="p3")])
        ...     reply = client.rerank("wool coat", ["p17", "p3", "p8"], user_id="u1", impute=True, deadline_ms=5000)
        >>> stored, reply.meta.fallback, sorted(one.item_id for one in reply.results)
        (1, None, ['p17', 'p3', 'p8'])
    """

    _kind = "Client"

    def rerank(self, query: str, documents: Sequence[str | Mapping[str, Any]], **fields: Any) -> RerankReply:
        """Put documents in order; `fields` are those of `RerankRequest`, numpy's numbers and arrays among them.

        Raises:
            ServiceError: refused, late or not reached.
            TypeError: a field is unknown, or `documents` is no list.
            pydantic.ValidationError: a field is invalid.
        """
        request, replaced = _rerank_request(query, documents, fields)
        try:
            sent = self._send("POST", "/v1/rerank", request, self._connections.call(request.deadline_ms))
            reply = _read(RerankReply, sent)
        except ServiceError as error:
            reply = _instead(error, request, self._first_stage)
        return _counted(reply, replaced)

    def send_events(self, events: Iterable[SentEvent | Mapping[str, Any]]) -> int:
        """Keep what shoppers did; returns how many were new.

        Raises:
            ServiceError: refused, late or not reached.
            TypeError: `events` is no list.
            pydantic.ValidationError: a field is invalid.
        """
        response = self._send("POST", "/v1/events", _events_request(events), self._connections.call())
        return _read(EventsReply, response).stored

    def export(self, user_id: str) -> list[StoredEvent]:
        """All that is kept of a shopper, oldest first. Raises ServiceError."""
        response = self._send("GET", f"{_user_path(user_id)}/export", None, self._connections.call())
        return _read(ExportReply, response).events

    def forget(self, user_id: str) -> None:
        """Remove all that is known of a shopper. Raises ServiceError."""
        _read(ForgetReply, self._send("DELETE", _user_path(user_id), None, self._connections.call()))

    def close(self) -> None:
        """Close the connections."""
        self._connections.leave().close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, method: str, path: str, body: BaseModel | None, call: Call) -> httpx.Response:
        import httpx

        while True:
            response, problem = None, ""
            try:
                with self._connections.http.stream(method, path, **_content(body, call)) as sent:
                    content = bytearray()
                    for chunk in sent.iter_raw():  # httpx bounds the time of each chunk, not of all of them
                        if call.left_s <= 0:
                            raise TimeoutError("the reply comes too slowly")
                        content += chunk
                response = httpx.Response(sent.status_code, headers=sent.headers, content=bytes(content))
                if response.is_success:
                    return response
            except (TimeoutError, *self._connections.unreachable) as error:
                problem = f"{type(error).__name__}: {error}"
            time.sleep(call.pause_s(response, problem))


class AsyncClient(_ServiceClient):
    """Async client; use it as an async context manager, or await `close`. Safe to share between event loops, one after
    the other or in threads, and after a fork.

    Args: as of `Client`.

    Examples:
        >>> url = "http://localhost:8000"
        >>> async def rank_all() -> list[int]:
        ...     requests = [RerankRequest(query="coat", documents=["p1", "p2"], deadline_ms=5000) for _ in range(3)]
        ...     async with AsyncClient(url) as client:
        ...         return [len(reply.results) async for reply in client.rerank_many(requests, at_once=2)]
        >>> asyncio.run(rank_all())
        [2, 2, 2]
    """

    _kind = "AsyncClient"

    async def rerank(self, query: str, documents: Sequence[str | Mapping[str, Any]], **fields: Any) -> RerankReply:
        """Put documents in order; `fields` are those of `RerankRequest`, numpy's numbers and arrays among them.

        Raises:
            ServiceError: refused, late or not reached.
            TypeError: a field is unknown, or `documents` is no list.
            pydantic.ValidationError: a field is invalid.
        """
        request, replaced = _rerank_request(query, documents, fields)
        return _counted(await self._rerank(request), replaced)

    async def rerank_many(self, requests: Iterable[RerankRequest], at_once: int = 8) -> AsyncIterator[RerankReply]:
        """Replies in the order of the requests, at most `at_once` of them on their way.

        Raises:
            ServiceError: of the first request that was refused, late or not reached: the one after the latest reply.
            TypeError: a request is no RerankRequest.
            ValueError: `at_once` is below 1.
        """
        if at_once < 1:
            raise ValueError(f"at_once is {at_once}; give 1 or more")
        turn = asyncio.Semaphore(at_once)

        async def one(request: RerankRequest) -> RerankReply:
            async with turn:
                whole, body, replaced = _written(request)
                return _counted(await self._rerank(whole, body), replaced)

        waiting: list[asyncio.Task[RerankReply]] = []
        try:
            for request in requests:
                if not isinstance(request, RerankRequest):
                    raise TypeError(
                        f"requests has a {type(request).__name__}; give RerankRequest(query=…, documents=…)"
                    )
                waiting.append(asyncio.create_task(one(request)))
                if len(waiting) >= 2 * at_once:
                    yield await waiting.pop(0)
            while waiting:
                yield await waiting.pop(0)
        finally:
            for task in waiting:
                task.cancel()

    async def send_events(self, events: Iterable[SentEvent | Mapping[str, Any]]) -> int:
        """Keep what shoppers did; returns how many were new.

        Raises:
            ServiceError: refused, late or not reached.
            TypeError: `events` is no list.
            pydantic.ValidationError: a field is invalid.
        """
        response = await self._send("POST", "/v1/events", _events_request(events), self._connections.call())
        return _read(EventsReply, response).stored

    async def export(self, user_id: str) -> list[StoredEvent]:
        """As `Client.export`."""
        response = await self._send("GET", f"{_user_path(user_id)}/export", None, self._connections.call())
        return _read(ExportReply, response).events

    async def forget(self, user_id: str) -> None:
        """Remove all that is known of a shopper. Raises ServiceError."""
        _read(ForgetReply, await self._send("DELETE", _user_path(user_id), None, self._connections.call()))

    async def close(self) -> None:
        """Close the connections."""
        await self._connections.leave().aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _rerank(self, request: RerankRequest, body: str | None = None) -> RerankReply:
        try:
            call = self._connections.call(request.deadline_ms)
            return _read(RerankReply, await self._send("POST", "/v1/rerank", body or request, call))
        except ServiceError as error:
            return _instead(error, request, self._first_stage)

    async def _send(self, method: str, path: str, body: BaseModel | str | None, call: Call) -> httpx.Response:
        while True:
            response, problem = None, ""
            try:
                async with asyncio.timeout(max(0.0, call.left_s)):
                    response = await self._connections.http.request(method, path, **_content(body, call))
                if response.is_success:
                    return response
            except (TimeoutError, *self._connections.unreachable) as error:
                problem = f"{type(error).__name__}: {error}"
            await asyncio.sleep(call.pause_s(response, problem))


def _content(body: BaseModel | str | None, call: Call) -> dict[str, Any]:
    """Arguments of httpx."""
    arguments: dict[str, Any] = {"extensions": {"timeout": Timeouts(call)}}
    if body is not None:
        arguments["headers"] = {"Content-Type": "application/json"}
        arguments["content"] = body if isinstance(body, str) else body.model_dump_json(exclude_none=True)
    return arguments


def _rerank_request(query: str, documents: Any, fields: Mapping[str, Any]) -> tuple[RerankRequest, int]:
    """A request, and how many halves of surrogate pairs were replaced in it."""
    if isinstance(documents, str | bytes | Mapping | BaseModel):
        raise TypeError("documents is one document; give a list of documents")
    _refuse_table("documents", documents)
    if not isinstance(documents, Iterable) or isinstance(documents, Set):
        raise TypeError(f"documents is a {type(documents).__name__}; give a list, in first-stage order")
    values = {"query": query, "documents": list(documents), **fields}
    unknown = sorted(set(values) - set(RerankRequest.model_fields))
    if unknown:
        raise TypeError(f"rerank has no {', '.join(unknown)}")
    features = fields.get("features")
    named = {f"features.{name}": one for name, one in features.items()} if isinstance(features, Mapping) else {}
    for name, one in {**named, "scores": fields.get("scores"), "history": fields.get("history")}.items():
        if isinstance(one, Set):  # it would be sent as a list, in whatever order
            raise TypeError(f"{name} is a {type(one).__name__}; give a list, in order")
    values, replaced = replace_half_surrogates(_plain(values))
    return RerankRequest.model_validate(values), replaced


def _events_request(events: Iterable[SentEvent | Mapping[str, Any]]) -> EventsRequest:
    """Each with an id, so that sending them again does not double them."""
    _refuse_table("events", events)
    if isinstance(events, str | bytes | Mapping | BaseModel | Set) or not isinstance(events, Iterable):
        raise TypeError("events is no list; give a list of events")
    values, _ = replace_half_surrogates(_plain(list(events)))
    return EventsRequest.model_validate(
        {
            "events": [
                one if not isinstance(one, dict) or one.get("event_id") else {**one, "event_id": uuid.uuid4().hex}
                for one in values
            ]
        }
    )


def _refuse_table(name: str, value: Any) -> None:
    """A data frame is iterable, over the names of its columns."""
    if hasattr(value, "columns"):
        raise TypeError(f"{name} is a {type(value).__name__}; give a list of its rows as dicts")


def _written(request: RerankRequest) -> tuple[RerankRequest, str, int]:
    """The request, its JSON, and how many halves of surrogate pairs were replaced in it: writing finds them."""
    replaced = 0
    try:
        body = request.model_dump_json(exclude_none=True)
    except PydanticSerializationError:
        values, replaced = replace_half_surrogates(request.model_dump(exclude_unset=True))
        request = RerankRequest.model_validate(values)
        body = request.model_dump_json(exclude_none=True)
    return request, body, replaced


def _plain(value: Any) -> Any:
    """Lists, dicts, texts and numbers of records, times, and numpy's numbers and arrays.

    Raises:
        TypeError: something else is in it.
    """

    def of_numpy(one: Any) -> Any:
        if not hasattr(one, "tolist"):
            raise TypeError(f"{type(one).__name__} cannot be sent; give a text, a number, a list or a dict")
        is_time = getattr(one, "dtype", None) is not None and one.dtype.kind == "M"
        return (one.astype("datetime64[us]") if is_time else one).tolist()  # nanoseconds would be a number

    try:
        return to_jsonable_python(value, exclude_none=True, fallback=of_numpy)
    except TypeError as error:
        if "cannot be sent" in str(error):
            raise
        # pandas' NaT is a datetime, without a year
        raise TypeError(f"a value cannot be sent ({error}); give None where a time is missing (NaT)") from error


def _user_path(user_id: str) -> str:
    if not isinstance(user_id, str) or not user_id:
        raise TypeError(f"user_id is {user_id!r}; give a shopper's id, a text")
    # A dot too: `/v1/users/..` is another place.
    return f"/v1/users/{quote(replace_half_surrogates(user_id)[0], safe='').replace('.', '%2E')}"


def _read(kind: type[M], response: httpx.Response) -> M:
    try:
        return kind.model_validate_json(response.content)
    except ValidationError as error:
        raise ServiceError(f"what answers there is not this service ({error.errors()[0]['msg']})") from error


def _instead(error: ServiceError, request: RerankRequest, first_stage: bool) -> RerankReply:
    """First-stage order, where that is wanted and sending something else would not have helped."""
    if not first_stage or (error.status is not None and error.status < 500 and error.status != 429):
        raise error
    places = range(len(request.documents))[: request.top_n]
    results = [RankedDocument(index=n, relevance_score=1 / (1 + n), document=_returned(request, n)) for n in places]
    meta = Meta(engine="none", fallback="unreachable")
    return RerankReply(id=error.request_id or "", model="", results=results, meta=meta)


def _returned(request: RerankRequest, index: int) -> dict[str, Any] | None:
    """As the service returns it."""
    if not request.return_documents:
        return None
    sent = request.documents[index]
    return {"text": sent} if isinstance(sent, str) else {"text": sent.get("title", ""), **sent}


def _counted(reply: RerankReply, replaced: int) -> RerankReply:
    """With what was replaced on this side."""
    reply.meta.half_surrogates += replaced
    return reply
