"""The service put together: catalogue, tenants, models, history, application.

async with running(config, engine) as app: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from reshelf.data.dataset_folder import read_items
from reshelf.inference.experiments import read_experiment
from reshelf.inference.serving.app import make_app
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine.models import Models
from reshelf.inference.serving.engine.served_engine import ServedEngine
from reshelf.inference.serving.history import HistoryStore, StoreError, open_store
from reshelf.inference.serving.log import log_once_a_minute, logger
from reshelf.inference.serving.metrics import Metrics
from reshelf.inference.serving.rates import Rates, duration_s
from reshelf.inference.serving.served_lists import ServedListLog
from reshelf.inference.serving.service import Service
from reshelf.inference.serving.shoppers import Shoppers
from reshelf.inference.serving.tenants import OPEN, Tenants
from reshelf.inference.serving.traces import Traces
from reshelf.inference.serving.trials import Trials

_PURGE_S = 3600.0


@asynccontextmanager
async def running(config: ServeConfig, engine: ServedEngine) -> AsyncIterator[FastAPI]:
    """The application, with its engine ready and its store open.

    Args:
        engine: of `config.model`, started.

    Raises:
        InputError: something that the config names cannot be used, or the engine does not start.
    """
    traces = Traces(config.traces) if config.traces else None
    catalogue = {} if config.data is None else read_items(config.data / "items.parquet")
    experiment = None if config.experiment is None else read_experiment(config.experiment)
    everybody = OPEN.model_copy(update={"experiment": experiment, "personalization": config.personalization})
    tenants = Tenants(config.tenants, everybody)
    metrics = Metrics()
    models = Models(config, catalogue, tenants, engine)
    metrics.watch(
        lambda: models.depth, lambda: models.own.engine.ready, lambda: models.starts, lambda: not tenants.problem,
        lambda: models.signals_age,
    )  # fmt: skip
    keep_s, served_keep_s = (duration_s(one) if one else None for one in (config.keep, config.served_keep))
    folder = config.served_lists
    log = None if folder is None else ServedListLog(folder, metrics, served_keep_s, 1e9 * config.served_gb)
    store = await open_store(config.history, config.kept_events, keep_s, config.redis_password_file)
    shoppers = Shoppers(store, metrics)
    trials = Trials(models, shoppers, log, config.deadline_ms / 1000)
    watching = [asyncio.create_task(tenants.watch())]
    watching += [asyncio.create_task(_purge(store))] if keep_s is not None else []
    try:
        await models.start()
        if models.own.signals is not None and models.own.signals.follows:
            with contextlib.suppress(StoreError):  # requests try again
                for name in tenants.names:
                    await shoppers.catch_up(name)
        # A catalogue is a million objects that stay: a collection that walked through them would hold up every request.
        gc.freeze()
        rates = Rates(getattr(store, "evaluate", None))  # in Redis, where histories are
        yield make_app(Service(config, catalogue, models, shoppers, trials, metrics), tenants, rates, traces)
    finally:
        for task in watching:
            task.cancel()
        await trials.close()
        await models.close()
        await store.close()
        if traces is not None:
            traces.close()


async def _purge(store: HistoryStore) -> None:
    """Every hour, what is older than is kept."""
    while True:
        try:
            if gone := await store.purge():
                logger.info("events purged", extra={"events": gone})
        except StoreError as error:
            log_once_a_minute("history store failed", error="StoreError", problem=str(error))
        await asyncio.sleep(_PURGE_S)
