"""Connections within bounds: nobody who is silent, slow or many keeps others out.

    uvicorn.Config(app, http=partial(BoundedProtocol, bounds=ConnectionBounds(connections=1024, read_s=10.0)))

uvicorn bounds how long an idle connection is kept after a reply. It bounds neither the time and size of a request's
header nor the time of its body, holds megabytes of a reply for who never reads it, and above its limit of connections
it refuses everybody's requests. Of a request that offers another protocol beside HTTP/1.1, as all first ones of Java's
HttpClient do, it throws the body away.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES = 65_536
_OFFER = b"upgrade"


class ConnectionBounds:
    """What all connections of a server share.

    Args:
        connections: at one time. Above it the one that has waited longest without a whole request is closed.
        read_s: seconds in which a request must be there, header and body, from its first byte or from connecting, and a
            large reply be taken.
    """

    def __init__(self, connections: int, read_s: float) -> None:
        self.connections, self.read_s = connections, read_s
        self.without_request: dict[BoundedProtocol, None] = {}
        """Connections with no request that is being answered, the longest wait first."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol for one connection, within bounds."""

    def __init__(self, *args: Any, bounds: ConnectionBounds, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._read_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._header_bytes: int | None = 0
        """Read of a header that is not whole; None where no header is being read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        waiting = self._bounds.without_request
        if len(self.connections) > self._bounds.connections:
            longest = next(iter(waiting), None)
            (longest or self).transport.abort()
            if longest is None:
                return
            del waiting[longest]
        waiting[self] = None
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_write_timer()
        self._bounds.without_request.pop(self, None)
        if self.cycle is not None and not self.cycle.response_complete:
            state = self.cycle.scope.get("state", {})
            if (task := state.get("cancel_when_hung_up")) is not None:
                state["hung_up"] = True
                task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._header_bytes is not None:
            self._header_bytes += len(data)
            if self._header_bytes > _HEADER_BYTES and not self.transport.is_closing():
                self.send_400_response("Request header too large.")

    def _parse(self, data: bytes) -> None:
        while data:
            try:
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                if not self._has_offer:  # CONNECT
                    return
                # What follows the header is of the other protocol to the parser: so the same header without the offer.
                version, (end,) = self.parser.get_http_version().encode(), upgrade.args
                head = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
                head += [b"%s: %s" % header for header in self.headers if header[0] != _OFFER]
                data = b"\r\n".join([*head, b"", data[end:]])
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                return

    @property
    def _has_offer(self) -> bool:
        return self.parser.should_upgrade() and any(name == _OFFER for name, _ in self.headers)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._header_bytes = 0
        if self._read_timer is None:
            self._start_timer()

    def on_headers_complete(self) -> None:
        self._header_bytes = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > _HEADER_BYTES:
            raise ValueError("header too large")  # the parser answers 400 and closes
        if not self._has_offer:
            super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._has_offer:
            return
        self._stop_timer()
        super().on_message_complete()
        if not self.cycle.response_complete:
            self._bounds.without_request.pop(self, None)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.pipeline and not self.transport.is_closing():
            self._bounds.without_request[self] = None

    def pause_writing(self) -> None:
        """More of a reply waits to be taken than the transport likes to hold."""
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(self._bounds.read_s, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _start_timer(self) -> None:
        self._read_timer = self.loop.call_later(self._bounds.read_s, self._late)

    def _stop_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _late(self) -> None:
        self._read_timer = None
        if self.pipeline:  # the request after one that is being answered: it is not read until then
            self._start_timer()
        else:
            self.transport.abort()
