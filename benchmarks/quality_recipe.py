"""What the files in benchmarks/quality say.

recipe = load_yaml(Recipe, "benchmarks/quality/beauty_rerank.yaml")
recipe = load_yaml(MarketplaceRecipe, "benchmarks/quality/marketplace.yaml")
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from reshelf.data.marketplace import MarketplaceConfig
from reshelf.finetune.config import FinetuneConfig
from reshelf.finetune.pretraining.pretrain import PretrainConfig

REAL, SMALL = "reshelf", "reshelf_small"
"""Reshelf over a real pretrained model, and over a small one that has read the shop's own text only."""
EVERY = (
    "random", "first_stage", "bm25", "popularity", "item_cf", "matrix_factorisation", "lambdamart", "lstm_ranknet",
    "lstm_listwise", "text_cnn", "embedding_mlp", "multimodal",
)  # fmt: skip


@dataclass
class Recipe:
    """Data, training, and what is compared."""

    mapping: str
    """Mapping of the data set (data/mappings)."""
    base: PretrainConfig
    """The small base language model, made from the data set."""
    rerankers: dict[str, FinetuneConfig]
    """The rows of Reshelf: `reshelf` over a real pretrained model, `reshelf_small` over the small base,
    `reshelf_with_teacher_score`, which alone reads another ranker's score."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Changes to the mapping."""
    systems: list[str] = field(default_factory=lambda: [*EVERY, "teacher"])
    """Systems to compare."""
    ks: list[int] = field(default_factory=lambda: [10])
    """Cuts of nDCG and recall; the first is the main one."""
    map_at: int = 0
    """Also MAP at this cut, and the share of lists whose first place is wanted (HR@1)."""
    relevance: bool = False
    """Also measure RMSE of calibrated scores against the raters' mean relevance (Home Depot)."""
    slices: bool = False
    """Also by query and by shopper, new or seen before, and with histories shuffled between shoppers."""
    cold: bool = False
    """Also order the lists of shoppers of whom nothing is known."""
    seeds: int = 1
    """How many of `reshelf_small` are trained, from seeds 0, 1, …"""


@dataclass
class MarketplaceRecipe:
    """The simulated shop: as it is, with strong position bias, with shoppers who compare, without history."""

    shop: MarketplaceConfig
    """The shop as it is."""
    model: FinetuneConfig
    """The reranker of every experiment; data and out are set by each."""
    context_base: PretrainConfig
    """The base of both rerankers of the shop whose shoppers compare: it has read sessions either way."""
    bias: dict[str, float] = field(default_factory=dict)
    """What the shop with position bias changes in `shop`."""
    context: dict[str, float] = field(default_factory=dict)
    """What the shop whose shoppers compare changes in `shop`."""
    systems: list[str] = field(default_factory=lambda: [*EVERY, "best_possible"])
    """Systems to compare on the shop as it is, beside lambdamart_match."""
    seeds: int = 1
    """Rerankers trained from seeds 0, 1, … on the shop as it is."""
