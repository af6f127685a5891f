"""The rerankers a server has: its own and its tenants', swapped while it runs.

    models = Models(config, catalogue, tenants, engine)
    await models.start()
    model = models.of(folder)        # None while it is not ready
    await models.close()

Rerankers over the same base as the server's own share its engine: each is an adapter in it, some megabytes. One over
another base has an engine process of its own, and so has every one where the engine takes no adapters (vLLM on a CPU).

A folder that a tenant names for the first time, or that was finetuned anew (its reshelf.json is another one), is loaded
beside what is served; when its engine is ready it takes over, and the one before finishes its lists and ends. A folder
that cannot be loaded changes nothing and is tried again when it changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path

from reshelf.data.hashes import folder_sha256
from reshelf.data.schema import Item
from reshelf.data.signals.kept import DESCRIPTION, FIRST_STAGE, FOLDER, open_signals
from reshelf.errors import InputError
from reshelf.inference.serving.config import ServeConfig
from reshelf.inference.serving.engine.fair_queue import FairThread
from reshelf.inference.serving.engine.queue import ListScores
from reshelf.inference.serving.engine.served_engine import ServedEngine
from reshelf.inference.serving.log import log_once_a_minute
from reshelf.inference.serving.tenants import Tenants, file_version
from reshelf.modeling.spec import ADAPTER, SPEC_FILE, base_identity, read_reranker
from reshelf.prompts.list_prompt import ListPrompt

logger = logging.getLogger("reshelf.serving")
_LOOK_S = 1.0
_NUMBERS = count(1)
"""Of adapters: no two ever have the same name, so nothing cached of one is taken for another's."""
_CHUNK = 32
"""Items of the catalogue that are read at one time, some 10 ms: a request's new items wait no longer than for these."""
_CATALOGUE = ""
"""Whose turn it is when the catalogue is read: no tenant has that name."""
Version = tuple[int, ...]


class ServedModel:
    """One reranker and its engine.

    Args:
        folder: of the reranker.
        config: which engine, and how many lists may wait for it.
        catalogue: items by id.
        engine: of the folder, where it was started already.
        own: the server's, whose engine serves this one too where they have the base in common.

    Raises:
        InputError: the folder is not a reranker, or not with this tokenizer.
    """

    def __init__(
        self, folder: Path, config: ServeConfig, catalogue: Mapping[str, Item], engine: ServedEngine | None = None,
        own: ServedModel | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self.version = file_version(folder / SPEC_FILE)
        self.spec, tokenizer = read_reranker(folder, config.trust_remote_code)
        self.name = folder.name
        self.sha256 = folder_sha256(folder, SPEC_FILE, ADAPTER)[:16]
        """What tells it from the reranker that was in the folder before."""
        lift = self.spec.lift
        helps = lift is None or lift.helps_at(config.personalization)
        self.warning = None if lift is None or helps else lift.sentence(self.spec.prompt.language)
        """Where it does not beat first-stage order, nor is blended with it so that it does."""
        if self.warning:
            logger.warning("model does not beat first-stage order", extra={"model": self.name, "found": self.warning})
        self.builder = self.spec.builder(tokenizer, catalogue)
        self._signals_version = file_version(folder / FOLDER / DESCRIPTION)
        self.signals = open_signals(folder / FOLDER)
        # Tokenizing takes long and lets go of the interpreter; two at a time would only tokenize an item twice.
        self.writing = FairThread("prompt")
        self.engine: ServedEngine
        self.adapter = ""
        """Its name in the engine; empty for the one that the engine was started with."""
        if own is not None and own.engine.takes_adapters and own.base == self.base:
            self.engine, self.adapter = own.engine, f"adapter{next(_NUMBERS)}"
        else:
            self.engine = engine or ServedEngine.of(folder, config)
        self.requests = 0
        """Requests that hold on to this model; it ends after them."""
        self._reading: asyncio.Task[None] | None = None

    @cached_property
    def base(self) -> str:
        """What its weights are but for the adapter; reads all of them."""
        return base_identity(self.spec)

    async def start(self) -> None:
        """Get ready to score.

        Raises:
            InputError: the engine does not start, or does not take the adapter.
        """
        self.engine.users += 1
        known = () if self.signals is None else self.signals.names
        missing = [name for name in self.spec.levels.edges if name not in known]
        if missing:
            fields = ["scores" if name == FIRST_STAGE else f"features.{name}" for name in missing]
            problem = "the model reads numbers that cannot be computed here: requests without them are "
            problem += "ranked without" if self.spec.levels.may_lack(len(missing)) else "not reranked"
            logger.warning(problem, extra={"model": self.name, "missing": fields})
        if self.adapter:
            await self.engine.load(self.adapter, self.folder)
            return
        self.engine.start()
        if not await self.engine.wait_ready():
            raise InputError(f"the engine does not start: {self.engine.problem}")

    @property
    def signals_until(self) -> datetime | None:
        """Time of the last event that its signals count; None where it reads none."""
        return None if self.signals is None else self.signals.description.until_time

    async def refresh_signals(self) -> None:
        """Read its signals anew where they were refreshed; what cannot be read changes nothing."""
        version = file_version(self.folder / FOLDER / DESCRIPTION)
        if version in (self._signals_version, ()):
            return
        self._signals_version = version
        try:
            self.signals = await asyncio.to_thread(open_signals, self.folder / FOLDER)
            logger.info("signals refreshed", extra={"model": self.name})
        except InputError as error:
            logger.error("signals not refreshed", extra={"model": self.name, "problem": str(error)})

    def score(self, prompt: ListPrompt, namespace: str) -> asyncio.Future[ListScores]:
        """`ServedEngine.score`, by this reranker."""
        return self.engine.score(prompt, namespace, self.adapter)

    def read_ahead(self) -> None:
        """Begin to tokenise the catalogue, a few items at a time between requests: none waits for that later."""
        self._reading = asyncio.create_task(self._read_catalogue())

    async def _read_catalogue(self) -> None:
        ids = list(self.builder.items)
        for start in range(0, len(ids), _CHUNK):
            await self.writing.run(_CATALOGUE, _CHUNK, self.builder.read, ids[start : start + _CHUNK])
        # A million objects that stay: a collection that walked through them would hold up every request.
        gc.freeze()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """For the time of one request."""
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    async def close(self) -> None:
        """End its engine, where it is the last to use it."""
        if self._reading is not None:
            self._reading.cancel()
        if self.adapter:
            self.engine.unload(self.adapter)
        self.engine.users -= 1
        if not self.engine.users:
            await self.engine.close()
        self.writing.shutdown()


class Models:
    """All rerankers of one server.

    Args:
        config: the server's own reranker, engine and limits.
        catalogue: items by id.
        tenants: which reranker each has.
        engine: of the server's own, on its way already.
    """

    def __init__(
        self, config: ServeConfig, catalogue: Mapping[str, Item], tenants: Tenants, engine: ServedEngine
    ) -> None:
        self._engine = engine
        self._config, self._catalogue, self._tenants = config, catalogue, tenants
        self._served: dict[Path, ServedModel] = {}
        self._tried: dict[Path, Version] = {}
        self._loading: dict[Path, asyncio.Task[None]] = {}
        self._retiring: set[asyncio.Task[None]] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._before = 0

    @property
    def own(self) -> ServedModel:
        """The server's, for tenants that name none."""
        return self._served[self._config.model]

    @property
    def depth(self) -> int:
        """Lists that wait or are being scored."""
        return sum(engine.depth for engine in self._engines())

    @property
    def starts(self) -> int:
        """How often an engine was started."""
        return self._before + sum(engine.starts for engine in self._engines())

    @property
    def signals_age(self) -> float | None:
        """Seconds since the last event that the oldest signals count; None where no model reads any."""
        ends = [end for model in self._served.values() if (end := model.signals_until) is not None]
        return (datetime.now(UTC) - min(ends)).total_seconds() if ends else None

    def _engines(self) -> set[ServedEngine]:
        return {model.engine for model in self._served.values()}

    def of(self, folder: str) -> ServedModel | None:
        """The reranker of a folder that a tenant or an experiment names, the server's own for an empty name; None while
        it is not ready for the first time."""
        return self._served.get(Path(folder) if folder else self._config.model)

    async def start(self) -> None:
        """Load the server's own, and begin with the tenants'.

        Raises:
            InputError: the server's own cannot be loaded, or its engine does not start.
        """
        own = self._config.model
        model = await asyncio.to_thread(ServedModel, own, self._config, self._catalogue, self._engine)
        self._served[own], self._tried[own] = model, model.version
        await model.start()
        model.read_ahead()
        self._watcher = asyncio.create_task(self._watch())

    async def forget(self, namespace: str) -> None:
        """Nothing of a namespace's prefixes is left in any engine, and nothing that a shopper typed here."""
        await asyncio.gather(*(engine.forget(namespace) for engine in self._engines()))
        for model in self._served.values():
            model.builder.forget_texts()

    async def close(self) -> None:
        """End all engines."""
        tasks = [task for task in (self._watcher, *self._loading.values(), *self._retiring) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.close() for model in self._served.values()))

    async def _watch(self) -> None:
        """Load what changed, and end what nobody names any more; whatever fails is tried again."""
        while True:
            try:
                await self._reload()
            except Exception as error:
                log_once_a_minute("models not reloaded", error=type(error).__name__, problem=str(error))
            await asyncio.sleep(_LOOK_S)

    async def _reload(self) -> None:
        wanted = {self._config.model} | {Path(name) for name in self._tenants.models()}
        for folder in wanted - self._loading.keys():
            version = file_version(folder / SPEC_FILE)
            if version != self._tried.get(folder):
                self._tried[folder] = version
                self._loading[folder] = asyncio.create_task(self._load(folder))
        for folder in self._served.keys() - wanted:
            self._tried.pop(folder, None)
            self._retire(self._served.pop(folder))
        for model in list(self._served.values()):
            await model.refresh_signals()

    async def _load(self, folder: Path) -> None:
        """A reranker beside those there are; it takes over when its engine is ready."""
        model = read = None
        try:
            model = read = await asyncio.to_thread(ServedModel, folder, self._config, self._catalogue, None, self.own)
            await model.start()
            model.read_ahead()
            before = self._served.pop(folder, None)
            self._served[folder], self._tried[folder], model = model, model.version, None
            if before is not None:
                self._moved(before)
                self._retire(before)
            logger.info("model ready", extra={"model": folder.name})
        except Exception as error:  # of one tenant's model; the others are served
            logger.error("model not loaded", extra={"model": folder.name, "problem": str(error)})
        finally:
            del self._loading[folder]
            if read is not None and read.adapter and read.engine is not self.own.engine:
                self._tried.pop(folder, None)  # the server's own went to another base meanwhile
            if model is not None:
                await asyncio.shield(model.close())

    def _moved(self, before: ServedModel) -> None:
        """Where the server's own is over another base now, adapters over the former one are loaded once more."""
        if before.folder == self._config.model and before.engine is not self.own.engine:
            for folder, model in self._served.items():
                if model.engine is before.engine:
                    self._tried.pop(folder, None)

    def _retire(self, model: ServedModel) -> None:
        task = asyncio.create_task(self._end(model))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, model: ServedModel) -> None:
        """Close a model once its requests are done."""
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.shutdown_s):
                    while model.requests:
                        await asyncio.sleep(0.05)
        finally:
            await asyncio.shield(model.close())
            self._before += 0 if model.engine.users else model.engine.starts
