"""What a file in benchmarks/quality says.

recipe = load_yaml(Recipe, "benchmarks/quality/beauty_rerank.yaml")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reshelf.finetune.base import BaseConfig
from reshelf.finetune.config import FinetuneConfig

EVERY = (
    "random", "first_stage", "bm25", "popularity", "item_cf", "matrix_factorisation", "lambdamart", "lstm_ranknet",
    "lstm_listwise", "text_cnn", "embedding_mlp", "multimodal", "teacher", "reshelf",
)  # fmt: skip


@dataclass
class Recipe:
    """Data, training, and what is compared."""

    mapping: str
    """Mapping of the data set (data/mappings)."""
    base: BaseConfig
    """The base language model, made from the data set."""
    model: FinetuneConfig
    """The reranker; its base is what `base` makes."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Changes to the mapping."""
    systems: list[str] = field(default_factory=lambda: list(EVERY))
    """Systems to compare."""
    ks: list[int] = field(default_factory=lambda: [10])
    """Cuts of nDCG and recall; the first is the main one."""
    relevance: bool = False
    """Also measure RMSE of calibrated scores against the raters' mean relevance (Home Depot)."""
    seeds: int = 1
    """Rerankers trained from seeds 0, 1, …; the first is `reshelf`."""
