"""Adapters of other rerankers in an engine: given to it, and to the next one when it dies.

adapters = Adapters()
adapters.connect(send)
await adapters.load("adapter1", folder)
adapters.unload("adapter1")
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from pathlib import Path

from reshelf.errors import InputError
from reshelf.inference.engines.messages import AdapterLoaded, LoadAdapter, ToEngine, UnloadAdapter

logger = logging.getLogger("reshelf.serving")
_TRIES = 2
"""So often an adapter is given to an engine that dies of it."""


class Adapters:
    """Those of one engine, by name."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._loading: dict[str, asyncio.Future[None]] = {}
        self._send: Callable[[ToEngine], None] | None = None
        self._changed = asyncio.Event()
        self._closed = False

    def connect(self, send: Callable[[ToEngine], None]) -> None:
        """An engine is ready: it is given all there are, before any list."""
        self._send = send
        for adapter, folder in self._folders.items():
            send(LoadAdapter(adapter, str(folder)))
        self._changed.set()

    def disconnect(self) -> None:
        """There is no engine; what was being loaded is tried again with the next one."""
        self._send = None
        for future in self._loading.values():
            if not future.done():
                future.set_exception(ConnectionError("the engine died"))
        self._loading.clear()

    def close(self) -> None:
        """There will be no engine."""
        self._closed = True
        self.disconnect()
        self._changed.set()

    async def load(self, adapter: str, folder: Path) -> None:
        """Have lists scored by it, from now on and by every later engine.

        Waits for an engine that is down; but one that dies of the adapter is not given it for ever.

        Raises:
            InputError: it cannot be.
        """
        for _ in range(_TRIES):
            while self._send is None:
                if self._closed:
                    raise InputError("the engine has ended")
                self._changed.clear()
                await self._changed.wait()
            self._loading[adapter] = loading = asyncio.get_running_loop().create_future()
            self._send(LoadAdapter(adapter, str(folder)))
            with contextlib.suppress(ConnectionError):
                await loading
                self._folders[adapter] = folder
                return
        raise InputError(f"{folder}: the engine died {_TRIES} times while it read the adapter")

    def unload(self, adapter: str) -> None:
        """No list will name it any more."""
        self._folders.pop(adapter, None)
        if self._send is not None:
            self._send(UnloadAdapter(adapter))

    def take(self, reply: AdapterLoaded) -> None:
        """What the engine says of one."""
        loading = self._loading.pop(reply.adapter, None)
        if loading is None:
            if reply.problem:
                logger.error("adapter not loaded again", extra={"problem": reply.problem})
        elif not loading.done():
            if reply.problem:
                loading.set_exception(InputError(reply.problem))
            else:
                loading.set_result(None)
