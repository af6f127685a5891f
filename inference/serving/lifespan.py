"""The service put together: catalogue, tenants, models, history, application.

async with running(config, engine) as app: ...
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from reshelf.inference.batch.rows import read_catalogue
from reshelf.inference.serving.app import make_app
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine_link import EngineLink
from reshelf.inference.serving.history import open_store
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.models import Models
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.tenants import Tenants


@asynccontextmanager
async def running(config: ServeConfig, engine: EngineLink) -> AsyncIterator[FastAPI]:
    """The application, with its engine ready and its store open.

    Args:
        engine: of `config.model`, started.

    Raises:
        InputError: something that the config names cannot be used, or the engine does not start.
    """
    catalogue = {} if config.data is None else read_catalogue(config.data / "items.parquet")
    tenants = Tenants(config.tenants)
    metrics = Metrics()
    models = Models(config, catalogue, tenants, engine)
    metrics.watch(lambda: models.depth, lambda: models.own.engine.ready, lambda: models.starts)
    store = await open_store(config.history, config.kept_events)
    try:
        await models.start()
        # A catalogue is a million objects that stay: a collection that walked through them would hold up every request.
        gc.freeze()
        yield make_app(Service(config, catalogue, models, store, metrics), tenants)
    finally:
        await models.close()
        await store.close()
