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
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

import uvicorn
import uvloop

from reshelf.errors import InputError
from reshelf.inference.lean_imports import absent
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.connections import BoundedProtocol, ConnectionBounds
from reshelf.inference.serving.engine.served_engine import ServedEngine
from reshelf.inference.serving.listen import check_certificate, check_place, renew_certificate, unix_socket
from reshelf.inference.serving.log import log_as_json
from reshelf.inference.serving.tenants import read_tenants

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
    check_place(config.host, config.port, config.uds)
    if config.tls_cert is not None:
        check_certificate(config.tls_cert, config.tls_key)
    if config.tenants is not None:
        read_tenants(config.tenants)
    log_as_json(config.log_level)
    # A terminal that goes away does not end a server; what SIGHUP asks of others, files that changed, is seen anyway.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    uvloop.run(_serve(config))


class HttpServer(uvicorn.Server):
    """uvicorn's, which would end the process by the signal again before the engine is closed, and would let who never
    shakes hands over TLS stay for a minute.

    Args:
        app: what answers.
        config: `drain_s` is between the first signal and the end of new connections.
        drain: called at the first signal.
    """

    def __init__(self, app: Any, config: ServeConfig, drain: Callable[[], None]) -> None:
        super().__init__(http_settings(app, config))
        self._serve_config, self._drain = config, drain
        self._draining = False
        self._renewing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config, context = self._serve_config, self.config.ssl
        if config.tls_cert is not None and context is not None:
            loop, most_s = asyncio.get_running_loop(), config.limits.read_s
            loop.create_server = partial(  # type: ignore[method-assign]
                loop.create_server, ssl_handshake_timeout=most_s, ssl_shutdown_timeout=most_s
            )
            self._renewing = asyncio.create_task(renew_certificate(context, config.tls_cert, config.tls_key))
        await super().startup(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end, one)
        yield

    def _end(self, signal_number: int) -> None:
        """Say that no work should come, wait until load balancers have seen it, then end; at once when told again."""
        if self._draining or not self._serve_config.drain_s:
            self.handle_exit(signal_number, None)
            return
        self._draining = True
        self._drain()
        logger.info("draining", extra={"seconds": self._serve_config.drain_s})
        asyncio.get_running_loop().call_later(self._serve_config.drain_s, self.handle_exit, signal_number, None)


async def _serve(config: ServeConfig) -> None:
    # The engine's process loads its libraries while this one loads its own, which take as long.
    engine = ServedEngine.of(config.model, config)
    engine.start()
    try:
        application = await asyncio.to_thread(_application)
        await _listen(config, application.running(config, engine))
    finally:
        await engine.close()


def _application() -> ModuleType:
    """`inference.serving.lifespan`, without torch: transformers' tokenizers do not need it, but load it and all that
    generates text where they find it, which is five seconds and 400 MB of a process that multiplies no matrices."""
    if "transformers" in sys.modules:  # of another caller, who may need it
        return import_module("reshelf.inference.serving.lifespan")
    logging.getLogger("transformers").addFilter(lambda record: "PyTorch was not found" not in str(record.msg))
    with absent("torch"):
        return import_module("reshelf.inference.serving.lifespan")


def http_settings(app: Any, config: ServeConfig) -> uvicorn.Config:
    """How uvicorn serves an application."""
    bounds = ConnectionBounds(config.limits.connections, config.limits.read_s)
    return uvicorn.Config(
        app, config.host, config.port, log_config=None, access_log=False, ws="none", server_header=False,
        proxy_headers=False, timeout_keep_alive=config.keep_alive_s,  # type: ignore[arg-type]
        timeout_graceful_shutdown=int(config.shutdown_s), ssl_certfile=config.tls_cert, ssl_keyfile=config.tls_key,
        http=partial(BoundedProtocol, bounds=bounds),  # type: ignore[arg-type]
    )  # fmt: skip


async def _listen(config: ServeConfig, running: Any) -> None:
    """Serve an application, an asynchronous context, until interrupted."""
    async with running as app:
        server = HttpServer(app, config, app.state.service.drain)
        with nullcontext() if config.uds is None else unix_socket(config.uds) as listener:
            serving = asyncio.create_task(server.serve(None if listener is None else [listener]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            if server.started:
                logger.info("serving", extra={"url": _url(config, server)})
            with contextlib.suppress(asyncio.CancelledError):
                await serving
    if not server.started:
        raise InputError(f"port {config.port} of {config.host} cannot be listened on; choose another one with --port")


def _url(config: ServeConfig, server: uvicorn.Server) -> str:
    """As the client takes it."""
    if config.uds is not None:
        return f"unix:{config.uds}"
    port = server.servers[0].sockets[0].getsockname()[1]
    return f"{'https' if config.tls_cert else 'http'}://{config.host}:{port}"
