"""`reshelf serve`: a shop's search calls it, and it never makes search worse.

    reshelf serve --model runs/demo/model --data runs/demo/data
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
from fastapi import FastAPI

from reshelf.errors import InputError
from reshelf.inference.batch_rows import read_catalogue
from reshelf.inference.serving.app import make_app
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine_link import EngineLink
from reshelf.inference.serving.history import open_store
from reshelf.inference.serving.log import log_as_json
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenants
from reshelf.modeling.checkpoint import check_fingerprint, read_spec
from reshelf.modeling.loading import load_tokenizer

logger = logging.getLogger("reshelf.serving")


def serve(config: ServeConfig) -> None:
    """Serve until interrupted; what was accepted is finished.

    Raises:
        InputError: the model, the catalogue, the history or the tenants cannot be used, or the engine does not start.
    """
    log_as_json()
    asyncio.run(_serve(config))


@asynccontextmanager
async def running(config: ServeConfig) -> AsyncIterator[FastAPI]:
    """The application, with its engine ready and its store open."""
    spec = read_spec(config.model)
    tokenizer = load_tokenizer(str(config.model))
    check_fingerprint(config.model, tokenizer, spec)
    catalogue = {} if config.data is None else read_catalogue(config.data / "items.parquet")
    tenants = Tenants(config.tenants)
    metrics = Metrics()
    engine = EngineLink(config.model, config.engine, config.limits.waiting, config.stuck_s)
    metrics.watch(lambda: engine.depth, lambda: engine.ready, lambda: engine.starts)
    store = await open_store(config.history, config.kept_events)
    try:
        await engine.start()
        if not await engine.wait_ready():
            raise InputError(f"the engine does not start: {engine.problem}")
        yield make_app(Service(config, spec, tokenizer, catalogue, engine, store, metrics), tenants)
    finally:
        await engine.close()
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
