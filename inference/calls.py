"""What a client's call goes through: its time, its attempts, and the connections to the service.

connections = Connections("Client", "unix:/run/reshelf.sock", key=None, timeout_s=5.0, retries=2, verify=True)
call = connections.call(deadline_ms=200)
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import ssl
import time
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from reshelf.errors import InputError

if TYPE_CHECKING:
    import httpx

_AGAIN = frozenset((429, 502, 503, 504))
_PAUSE_S = 0.05
_LATE_S = 0.25
"""A reply is on its way for so long after its deadline."""
_AT_ONCE = 1 << 14
"""Bytes that are written before the time is looked at again."""
_SOCKET = "unix:"
Verify = bool | str | Path | ssl.SSLContext


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


class Call:
    """What is left of one call's time and attempts."""

    def __init__(self, seconds: float, retries: int) -> None:
        self._end = time.monotonic() + seconds
        self._attempt, self._retries = 0, retries

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def pause_s(self, response: httpx.Response | None, problem: str) -> float:
        """Seconds until the next attempt.

        Args:
            response: what came back.
            problem: or why nothing did.

        Raises:
            ServiceError: there is no next one.
        """
        after_s = 0.0 if response is None else _seconds(response.headers.get("Retry-After", ""))
        pause = max(after_s, random.uniform(0, _PAUSE_S * 2**self._attempt))
        final = response is not None and response.status_code not in _AGAIN
        if final or self._attempt >= self._retries or pause >= self.left_s:
            raise _error(response, problem)
        self._attempt += 1
        return pause


def _seconds(after: str) -> float:
    """What `Retry-After` says: seconds or, of some proxies, a date. 0 where it is neither."""
    if after.isdecimal():
        return float(after)
    with suppress(ValueError):
        return parsedate_to_datetime(after).timestamp() - time.time()
    return 0.0


class _Left(float):
    """Seconds that were left of a call when a step of it began, and the call, which knows how many are left later."""

    call: Call


class Timeouts(dict[str, float]):
    """httpx asks for a timeout before each step of a request: it is what is left of the call's time."""

    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def get(self, step: str, default: Any = None) -> Any:
        left = _Left(max(0.001, self._call.left_s))
        left.call = self._call
        return left


class _Bounded:
    """A backend of httpcore, or a stream that it opened. By itself httpcore gives each of the many reads of a reply's
    head, or writes of a long request, the time that was left before the first: a peer that sends or takes a byte now
    and then keeps a call for as long as it likes."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        opens = name in ("connect_tcp", "connect_unix_socket", "start_tls")
        return (lambda *given, **named: _Bounded(found(*given, **named))) if opens else found

    def read(self, most: int, timeout: float | None = None) -> Any:
        return self._inner.read(most, timeout=_left(timeout))

    def write(self, content: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(content), _AT_ONCE):
            self._inner.write(content[start : start + _AT_ONCE], timeout=_left(timeout))


def _left(timeout: float | None) -> float | None:
    return max(0.001, timeout.call.left_s) if isinstance(timeout, _Left) else timeout


class Connections:
    """What both clients know, and their httpx client: another one in a process that was forked, where the sockets
    are still the parent's and replies on them would be the parent's, and for every event loop, which connections of
    another would make fail or wait for ever.

    Raises:
        InputError: what no call could succeed with, said before one that answers in first-stage order hides it.
    """

    def __init__(self, kind: str, url: str, key: str | None, timeout_s: float, retries: int, verify: Verify) -> None:
        import httpx  # not before a client is made: it takes longer than all the rest

        _check(url, key, timeout_s, retries)
        self.timeout_s, self.retries = timeout_s, retries
        self.unreachable = (httpx.RequestError, httpx.InvalidURL)
        self._kind, self._url = kind, url
        self._verify = _trusted(verify) if isinstance(verify, str | Path) else verify
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # None: the only one of a Client, or one that the first loop takes.
        self._clients: dict[asyncio.AbstractEventLoop | None, Any] = {None: self._connect()}
        self._pid = os.getpid()
        self._closed: Any = None

    @property
    def http(self) -> Any:
        if self._closed is not None:
            return self._closed
        if self._pid != os.getpid():
            self._clients, self._pid = {}, os.getpid()
        loop = asyncio.get_running_loop() if self._kind == "AsyncClient" else None
        client = self._clients.get(loop)
        if client is None:
            for ended in [one for one in list(self._clients) if one is not None and one.is_closed()]:
                self._clients.pop(ended, None)
            client = self._clients.setdefault(loop, self._clients.pop(None, None) or self._connect())
        return client

    def leave(self) -> Any:
        """The httpx client, for the caller to close: no call gets another one. Those of other loops end with them."""
        self._closed = self.http
        return self._closed

    def call(self, deadline_ms: float | None = None) -> Call:
        """A call that begins now."""
        due_s = self.timeout_s if deadline_ms is None else min(self.timeout_s, deadline_ms / 1000 + _LATE_S)
        return Call(due_s, self.retries)

    def _connect(self) -> Any:
        import httpx

        settings: dict[str, Any] = {"base_url": self._url, "headers": self._headers, "verify": self._verify}
        if self._url.startswith(_SOCKET):
            path = self._url.removeprefix(_SOCKET).removeprefix("//")
            transports = {"Client": httpx.HTTPTransport, "AsyncClient": httpx.AsyncHTTPTransport}
            settings |= {"base_url": "http://localhost", "transport": transports[self._kind](uds=path)}
        # No proxy leads to this machine.
        settings["trust_env"] = urlsplit(settings["base_url"]).hostname not in ("localhost", "127.0.0.1", "::1")
        client = getattr(httpx, self._kind)(**settings)
        if self._kind == "Client":  # the other's calls end by asyncio's clock
            for transport in (client._transport, *client._mounts.values()):
                if transport is not None:
                    transport._pool._network_backend = _Bounded(transport._pool._network_backend)
        return client


def _check(url: str, key: str | None, timeout_s: float, retries: int) -> None:
    address = urlsplit(url)
    if not (url.startswith(_SOCKET + "/") or (address.scheme in ("http", "https") and address.hostname)):
        raise InputError(f"url {url!r} is no address; give http://HOST:PORT, https://HOST or unix:/PATH")
    if key is not None and not (isinstance(key, str) and key.isascii() and key.isprintable()):
        # Not shown: it is a secret.
        raise InputError("key has a line break or a letter that no header may have; give what `reshelf key` printed")
    if not (isinstance(timeout_s, int | float) and math.isfinite(timeout_s) and timeout_s > 0):
        raise InputError(f"timeout_s is {timeout_s!r}; give seconds above 0")
    if not (isinstance(retries, int) and retries >= 0):
        raise InputError(f"retries is {retries!r}; give 0 or more")


def _trusted(pem: str | Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(pem))
    except OSError as error:  # an ssl.SSLError too
        raise InputError(f"verify: {pem} cannot be read as certificates ({error}); give a PEM file of them") from error


def _error(response: httpx.Response | None, problem: str) -> ServiceError:
    if response is None:
        return ServiceError(f"the service was not reached ({problem})")
    try:
        body = response.json()
        return ServiceError(body["message"], response.status_code, body.get("field"), body.get("request_id"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return ServiceError(f"HTTP {response.status_code}", response.status_code)
