"""`reshelf serve`: a shop's search calls it, and it never makes search worse.

    reshelf serve runs/demo/model --data runs/demo/data
    curl localhost:8000/v1/rerank -H 'content-type: application/json' \\
        -d '{"query": "rain jacket", "documents": ["Steel bottle", "Trail rain jacket"]}'
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import uvicorn
import uvloop

from reshelf.errors import InputError
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.connections import BoundedProtocol, ConnectionBounds
from reshelf.inference.serving.engine.served_engine import ServedEngine
from reshelf.inference.serving.log import log_as_json

logger = logging.getLogger("reshelf.serving")


def serve(config: ServeConfig) -> None:
    """Serve until interrupted; what was accepted is finished.

    Raises:
        InputError: the model, the catalogue, the history or the tenants cannot be used, or the engine does not start.
    """
    # What can be seen at once is said at once, before libraries are loaded.
    if not (config.model / "reshelf.json").is_file():
        raise InputError(
            f"{config.model} is not a reranker folder: it has no reshelf.json; make one with `reshelf finetune`"
        )
    if config.data is not None and not (config.data / "items.parquet").is_file():
        raise InputError(f"{config.data / 'items.parquet'} is not there; make the data set with `reshelf data`")
    log_as_json(config.log_level)
    # torch imports triton where it is installed. A server compiles nothing, and triton's bindings print a page of leaks
    # when the process ends.
    sys.modules.setdefault("triton", None)  # type: ignore[arg-type]
    # A terminal that goes away does not end a server; what SIGHUP asks of others, files that changed, is seen anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    uvloop.run(_serve(config))


class _Server(uvicorn.Server):
    """uvicorn's, which would end the process by the signal again before the engine is closed.

    Args:
        config: of uvicorn.
        drain: called at the first signal.
        drain_s: seconds between that signal and the end of new connections.
    """

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None], drain_s: float) -> None:
        super().__init__(config)
        self._drain, self._drain_s = drain, drain_s
        self._draining = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end, one)
        yield

    def _end(self, signal_number: int) -> None:
        """Say that no work should come, wait until load balancers have seen it, then end; at once when told again."""
        if self._draining or not self._drain_s:
            self.handle_exit(signal_number, None)
            return
        self._draining = True
        self._drain()
        logger.info("draining", extra={"seconds": self._drain_s})
        asyncio.get_running_loop().call_later(self._drain_s, self.handle_exit, signal_number, None)


async def _serve(config: ServeConfig) -> None:
    # The engine's process loads its libraries while this one loads its own, which take as long.
    engine = ServedEngine.of(config.model, config)
    engine.start()
    try:
        assembly = await asyncio.to_thread(import_module, "reshelf.inference.serving.lifespan")
        await _listen(config, assembly.running(config, engine))
    finally:
        await engine.close()


def http_settings(app: Any, config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves an application."""
    bounds = ConnectionBounds(config.limits.connections, config.limits.read_s)
    return uvicorn.Config(
        app, config.host, config.port, log_config=None, access_log=False, ws="none", server_header=False,
        proxy_headers=False, timeout_keep_alive=config.keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=int(config.shutdown_s),
        http=partial(BoundedProtocol, bounds=bounds),  # type: ignore[arg-type]
    )  # fmt: skip


async def _listen(config: ServeConfig, running: Any) -> None:
    """Serve an application, an asynchronous context, until interrupted."""
    async with running as app:
        server = _Server(http_settings(app, config), app.state.service.drain, config.drain_s)
        serving = asyncio.create_task(server.serve())
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        if server.started:
            port = server.servers[0].sockets[0].getsockname()[1]
            logger.info("serving", extra={"url": f"http://{config.host}:{port}"})
        with contextlib.suppress(asyncio.CancelledError):
            await serving
    if not server.started:
        raise InputError(f"port {config.port} of {config.host} cannot be listened on; choose another one with --port")
