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
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
import uvloop
from fastapi import FastAPI

from reshelf.errors import InputError
from reshelf.inference.batch_rows import read_catalogue
from reshelf.inference.serving.app import make_app
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.history import open_store
from reshelf.inference.serving.log import log_as_json
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.models import Models
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenants

logger = logging.getLogger("reshelf.serving")


def serve(config: ServeConfig) -> None:
    """Serve until interrupted; what was accepted is finished.

    Raises:
        InputError: the model, the catalogue, the history or the tenants cannot be used, or the engine does not start.
    """
    log_as_json()
    uvloop.run(_serve(config))


@asynccontextmanager
async def running(config: ServeConfig) -> AsyncIterator[FastAPI]:
    """The application, with its engine ready and its store open."""
    catalogue = {} if config.data is None else read_catalogue(config.data / "items.parquet")
    tenants = Tenants(config.tenants)
    metrics = Metrics()
    models = Models(config, catalogue, tenants)
    metrics.watch(lambda: models.depth, lambda: models.own.engine.ready, lambda: models.starts)
    store = await open_store(config.history, config.kept_events)
    try:
        await models.start()
        yield make_app(Service(config, catalogue, models, store, metrics), tenants)
    finally:
        await models.close()
        await store.close()


class _Server(uvicorn.Server):
    """uvicorn's, which would end the process by the signal again before the engine is closed."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self.handle_exit, one, None)
        yield


async def _serve(config: ServeConfig) -> None:
    async with running(config) as app:
        settings = uvicorn.Config(
            app, config.host, config.port, log_config=None, access_log=False,
            timeout_graceful_shutdown=int(config.shutdown_s), server_header=False,
        )  # fmt: skip
        server = _Server(settings)
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
