"""Token ids of a whole catalogue in one file: made once, in parallel, and memory-mapped by every process that reads it.

    from reshelf.prompts.item_tokens import catalogue_tokens

    tokens = catalogue_tokens(Path("runs/shop/item_tokens.arrow"), tokenizer, config, items.values(), workers=4)
    builder = PromptBuilder(tokenizer, config, items, levels, item_tokens=tokens)

The file is an uncompressed Arrow IPC (Feather) file, one row per item, sorted by a digest of the item's content. A row
is found by that digest alone, so a product that changed since is not found, and is tokenised anew: the file can be old,
but never wrong. What else decides the ids (tokenizer, template, fields, budgets, this code) has a fingerprint in it.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import tokenizers
import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedTokenizerBase

from reshelf.data.atomic import atomic, check_writable
from reshelf.data.schema import Item
from reshelf.errors import InputError, first_line
from reshelf.prompts.config import FIELDS, PromptConfig
from reshelf.prompts.items import ItemIds, ItemWriter
from reshelf.prompts.parts import template_source
from reshelf.prompts.tokens import backend_text

_KEY = b"reshelf.item_tokens"
_SOURCES = ("fields.py", "item_tokens.py", "items.py", "parts.py", "tokens.py")
"""Code that decides an item's ids; after any change of it a file is made anew."""
_CHUNK = 1000
"""Items that are tokenised together."""
_SMALL = 20_000
"""Fewer items than this are done before worker processes have started."""
_DIGEST = 16
_READ = {"price": ("price", "currency"), "rating": ("rating", "rating_count"), "leaf": ("category",)}
"""What of an item a prompt field is made from, where that is not what has its name."""


class ItemTokens:
    """An opened file; use `open` or `catalogue_tokens`. `tokens[row]` is one item's ids, read-only views of the file.

    Args:
        path: where the file is.
        batch: its rows.
        fingerprint: of what made it.
        fields: prompt fields that its digests are made over.
    """

    def __init__(self, path: Path, batch: pa.RecordBatch, fingerprint: str, fields: Sequence[str]) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self._values = _content(fields)
        self._digests = _digests_of(batch)
        self._tokens, self._token_ends = _lists(batch.column("tokens"))
        self._events, self._event_ends = _lists(batch.column("event"))
        sizes = batch.column("event_sizes")
        self._sizes = sizes.values.to_numpy().reshape(len(batch), sizes.type.list_size)
        # Single numbers come out of a memoryview faster than out of an array.
        self._lost, self._event_lost = (memoryview(batch.column(name).to_numpy()) for name in ("lost", "event_lost"))

    @classmethod
    def open(cls, path: Path) -> ItemTokens:
        """Map a file into memory.

        Raises:
            InputError: it is not there, is broken, or is something else.
        """
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file in it")
        if not path.is_file():
            raise InputError(f"{path} is not there; make it with `catalogue_tokens`")
        try:
            # Never closed: the arrays that are handed out lie in this map.
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            about = json.loads((reader.schema.metadata or {})[_KEY])
            batch = reader.get_batch(0)
            batch.validate(full=True)
            return cls(path, batch, about["fingerprint"], about["fields"])
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise InputError(
                f"{path} is not a whole file of item tokens: {first_line(error)}; remove it or name another"
            ) from error

    def __len__(self) -> int:
        return len(self._digests)

    def __getitem__(self, row: int) -> ItemIds:
        event = self._events[self._event_ends[row] : self._event_ends[row + 1]]
        return ItemIds(*self.candidate(row), event, self._sizes[row], self._event_lost[row])

    def candidate(self, row: int) -> tuple[np.ndarray, int]:
        """An item's `tokens` and `lost` alone."""
        return self._tokens[self._token_ends[row] : self._token_ends[row + 1]], self._lost[row]

    def rows(self, items: Iterable[Item]) -> np.ndarray:
        """Row of every item, int64 [N]; −1 where none was made from the very same content."""
        wanted = _digests(items, self._values)
        if not len(self):
            return np.full(len(wanted), -1, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self._digests, wanted), len(self) - 1)
        return np.where(self._digests[rows] == wanted, rows, -1)

    def check(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        """Raises InputError where this tokenizer and prompt would make other ids."""
        if self.fingerprint != item_fingerprint(tokenizer, config):
            raise InputError(
                f"{self.path} was made with another tokenizer, template, budget or version; remove it or name another"
            )


def item_fingerprint(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> str:
    """SHA-256 of everything but the item that decides an item's ids."""
    package = resources.files("reshelf.prompts")
    parts = [
        [transformers.__version__, tokenizers.__version__],
        [package.joinpath(name).read_text(encoding="utf-8") for name in _SOURCES],
        template_source(config),
        [config.fields, config.event_fields, config.item_tokens, config.event_tokens],
        backend_text(tokenizer) or sorted(tokenizer.get_vocab().items()),
        # What a control token is, is not in the backend.
        [sorted(tokenizer.get_added_vocab().items()), sorted(tokenizer.all_special_tokens), tokenizer.unk_token_id],
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def catalogue_tokens(
    path: Path, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, items: Iterable[Item], workers: int = 1
) -> ItemTokens:
    """The file at `path`, made first where it is not there or does not hold all of these items as they are now.

    Several processes may do this at once: each sees a whole file.

    Args:
        path: of the file, for example `item_tokens.arrow` in the model's run folder.
        tokenizer: of the model that will read the ids.
        config: the model's prompt.
        items: the catalogue.
        workers: processes that tokenise; a script that gives more than 1 needs `if __name__ == "__main__":`.

    Raises:
        InputError: `path` is something else, or cannot be written.
    """
    items = list(items)
    if path.exists():
        tokens = ItemTokens.open(path)
        if tokens.fingerprint == item_fingerprint(tokenizer, config) and (tokens.rows(items) >= 0).all():
            return tokens
    build_item_tokens(path, tokenizer, config, items, workers)
    return ItemTokens.open(path)


def build_item_tokens(
    path: Path, tokenizer: PreTrainedTokenizerBase, config: PromptConfig, items: Sequence[Item], workers: int = 1
) -> None:
    """Tokenise `items` and write the file, whatever was there. Arguments as for `catalogue_tokens`."""
    check_writable(path.parent)
    about = {"fingerprint": item_fingerprint(tokenizer, config), "fields": _fields(config)}
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)] or [[]]
    few = workers == 1 or len(items) < _SMALL
    done = map(_Chunks(tokenizer, config), chunks) if few else _in_processes(chunks, tokenizer, config, workers)
    bar = Progress(
        TextColumn("tokens of the catalogue"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=Console(stderr=True), disable=len(items) < _SMALL,
    )  # fmt: skip
    batches = []
    with bar:
        task = bar.add_task("", total=len(items))
        for batch in done:
            batches.append(batch)
            bar.advance(task, len(batch))
    _write_file(path, batches, about)


def _write_file(path: Path, batches: Sequence[pa.RecordBatch], about: dict[str, Any]) -> None:
    order = np.argsort(np.concatenate([_digests_of(batch) for batch in batches]), kind="stable")
    table = pa.Table.from_batches(batches).take(order).combine_chunks()
    schema = table.schema.with_metadata({_KEY: json.dumps(about)})
    # Several processes may write at once, each under a name of its own.
    whole = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with atomic(whole) as partial, pa.OSFile(str(partial), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays([_one(column) for column in table.columns], schema=schema))
    os.replace(whole, path)


class _Chunks:
    """Turns items into rows."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
        self._writer = ItemWriter(tokenizer, config)
        self._values = _content(_fields(config))
        self._event_fields = len(config.event_fields)

    def __call__(self, items: Sequence[Item]) -> pa.RecordBatch:
        written = self._writer.write(items)
        digests = pa.py_buffer(_digests(items, self._values).tobytes())
        sizes = np.concatenate([np.empty(0, dtype=np.int32), *(one.event_sizes for one in written)])
        columns = {
            "content": pa.Array.from_buffers(pa.binary(_DIGEST), len(items), [None, digests]),
            "item_id": pa.array([item.item_id for item in items], pa.large_string()),
            "tokens": _column([one.tokens for one in written]),
            "lost": pa.array([one.lost for one in written], pa.int32()),
            "event": _column([one.event for one in written]),
            "event_sizes": pa.FixedSizeListArray.from_arrays(pa.array(sizes), self._event_fields),
            "event_lost": pa.array([one.event_lost for one in written], pa.int32()),
        }
        return pa.RecordBatch.from_pydict(columns)


_of_this_process: _Chunks


def _start(tokenizer: PreTrainedTokenizerBase, config: PromptConfig) -> None:
    """Make a worker process ready."""
    global _of_this_process
    # The processes share the cores already; the library has no other switch for its threads.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    _of_this_process = _Chunks(tokenizer, config)


def _work(items: Sequence[Item]) -> pa.RecordBatch:
    return _of_this_process(items)


def _in_processes(
    chunks: Sequence[Sequence[Item]], tokenizer: PreTrainedTokenizerBase, config: PromptConfig, workers: int
) -> Iterator[pa.RecordBatch]:
    """Rows of each chunk, in order. New processes, not forks: a tokenizer's threads do not survive a fork."""
    context = multiprocessing.get_context("spawn")
    waiting: deque[Future[pa.RecordBatch]] = deque()
    try:
        with ProcessPoolExecutor(workers, context, _start, (tokenizer, config)) as pool:
            for chunk in chunks:
                waiting.append(pool.submit(_work, chunk))
                if len(waiting) > 3 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise InputError(
            "a process that tokenises the catalogue did not start, or was killed; put the script's own code under "
            "`if __name__ == '__main__':`, or use 1 worker"
        ) from error


def _fields(config: PromptConfig) -> list[str]:
    return [name for name in FIELDS if name in config.fields or name in config.event_fields]


def _content(fields: Sequence[str]) -> Callable[[Item], Any]:
    """What of an item these prompt fields are made from."""
    return attrgetter(*dict.fromkeys(attribute for name in fields for attribute in _READ.get(name, (name,))))


def _digests(items: Iterable[Item], values: Callable[[Item], Any]) -> np.ndarray:
    """Of each item's content, 16 bytes each: S16 [N]."""
    each = (hashlib.blake2b(repr(values(item)).encode(), digest_size=_DIGEST).digest() for item in items)
    return np.frombuffer(b"".join(each), dtype=f"S{_DIGEST}")


def _digests_of(batch: pa.RecordBatch) -> np.ndarray:
    return np.frombuffer(batch.column("content").buffers()[1], dtype=f"S{_DIGEST}", count=len(batch))


def _column(arrays: Sequence[np.ndarray]) -> pa.LargeListArray:
    ends = np.cumsum([0, *map(len, arrays)], dtype=np.int64)
    return pa.LargeListArray.from_arrays(ends, np.concatenate([np.empty(0, dtype=np.int32), *arrays]))


def _lists(column: pa.LargeListArray) -> tuple[np.ndarray, memoryview]:
    """All values as one array, and where each list begins and ends."""
    return column.values.to_numpy(), memoryview(column.offsets.to_numpy())


def _one(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
