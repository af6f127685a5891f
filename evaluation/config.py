"""The config of `reshelf evaluate`; apart from run.py so that `--help` needs neither torch nor a metric.

EvaluateConfig(data=Path("runs/demo/data"), model=Path("runs/demo/model"), out=Path("runs/demo"))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from reshelf.ranges import AT_LEAST_1, SEED, Range, check_numbers

SystemName = Literal[
    "random",
    "first_stage",
    "bm25",
    "popularity",
    "query_clicks",
    "item_cf",
    "matrix_factorisation",
    "lambdamart",
    "lstm_ranknet",
    "lstm_listwise",
    "text_cnn",
    "embedding_mlp",
    "multimodal",
    "base",
    "without_history",
    "finetuned",
    "best_possible",
]


@dataclass
class EvaluateConfig:
    """What to compare, on which lists, and where the report goes."""

    data: Path
    """Data set folder (items.parquet and one Parquet file per split)."""
    out: Path
    """Folder that report.html, report.md, report.json and the plots are written to."""
    model: Path | None = None
    """Reranker folder made by `reshelf finetune`; it gives the rows base, without_history and finetuned."""
    others: dict[str, Path] = field(default_factory=dict)
    """More reranker folders to compare, by the name of their row: `--others.kl runs/kl/model`."""
    split: Literal["train", "valid", "test"] = "test"
    """Split to evaluate."""
    systems: Literal["all"] | list[SystemName] = field(default_factory=list)
    """Systems to compare, e.g. `[bm25, finetuned]`. Empty: all that need no training here. `all`: also those that learn
    from the train lists (item_cf to multimodal), which takes from minutes to an hour."""
    propensities: Path | None = None
    """File of how likely shoppers examine each shown position (`reshelf data propensities`): the report then also has
    SNIPS DCG@k, which weights labels by their inverse. By clicks as they are, the order they were made in is hard to
    beat."""
    k: int = 10
    """Places that count for nDCG and recall."""
    limit: int | None = None
    """Evaluate a seeded sample of this many lists; none means all."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What scores rerankers; the row base always uses transformers."""
    trust_remote_code: bool = False
    """Run Python code that comes with a reranker; only for authors you trust. A reranker cannot ask for it."""
    resamples: int = 1000
    """Bootstrap resamples for the 95 % intervals."""
    seed: int = 0
    """Seed of the sample, the random order, the learned systems and the bootstrap."""

    def __post_init__(self) -> None:
        check_numbers(self, {"k": AT_LEAST_1, "resamples": Range(2), "limit": AT_LEAST_1, "seed": SEED})
        self.others = {name: Path(folder) for name, folder in self.others.items()}
