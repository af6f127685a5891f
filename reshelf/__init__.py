"""Reshelf: personalised reranking of shop search with an LLM cross-encoder that reads a list as one sequence.

    from reshelf import Reranker

    reranker = Reranker.from_pretrained("runs/demo/model")

The names below are the public API. Each is imported on first use, so `import reshelf` costs next to nothing and whoever
only reads data sets never waits for torch.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reshelf.data.dataset_folder import RankingData, load_dataset_folder, save_dataset_folder
    from reshelf.data.schema import Event, EventKind, Item, RankingList
    from reshelf.errors import InputError
    from reshelf.inference.calls import ServiceError
    from reshelf.inference.client import AsyncClient, Client
    from reshelf.inference.reranker import RankedList, Reranker
    from reshelf.inference.serving.schemas import RerankRequest, SentEvent

__version__ = "0.1.0"

# On every import without a GPU, bitsandbytes advises an optional kernel from the Hub; scores are the same without it.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

_HOME = {
    "AsyncClient": "reshelf.inference.client",
    "Client": "reshelf.inference.client",
    "Event": "reshelf.data.schema",
    "EventKind": "reshelf.data.schema",
    "InputError": "reshelf.errors",
    "Item": "reshelf.data.schema",
    "RankedList": "reshelf.inference.reranker",
    "RankingData": "reshelf.data.dataset_folder",
    "RankingList": "reshelf.data.schema",
    "RerankRequest": "reshelf.inference.serving.schemas",
    "Reranker": "reshelf.inference.reranker",
    "SentEvent": "reshelf.inference.serving.schemas",
    "ServiceError": "reshelf.inference.calls",
    "load_dataset_folder": "reshelf.data.dataset_folder",
    "save_dataset_folder": "reshelf.data.dataset_folder",
}

__all__ = [  # noqa: RUF022 - in the order a reader meets them
    "Reranker",
    "RankedList",
    "Client",
    "AsyncClient",
    "RerankRequest",
    "SentEvent",
    "ServiceError",
    "Item",
    "Event",
    "EventKind",
    "RankingList",
    "RankingData",
    "load_dataset_folder",
    "save_dataset_folder",
    "InputError",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'reshelf' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
