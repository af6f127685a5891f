"""What `reshelf evaluate` can be told; apart from run.py so that `--help` needs neither torch nor a metric.

EvaluateConfig(data=Path("runs/demo/data"), model=Path("runs/demo/model"), out=Path("runs/demo"))
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SystemName = Literal["random", "first_stage", "bm25", "popularity", "base", "finetuned", "best_possible"]


@dataclass
class EvaluateConfig:
    """What to compare, on which lists, and where the report goes."""

    data: Path
    """Data set folder (items.parquet and one Parquet file per split)."""
    out: Path
    """Folder that report.json, report.md and report.png are written to."""
    model: Path | None = None
    """Reranker folder made by `reshelf finetune`; it gives the rows base and finetuned."""
    split: Literal["train", "valid", "test"] = "test"
    """Split to evaluate."""
    systems: list[SystemName] = field(default_factory=list)
    """Systems to compare; empty means all that the data and the model allow."""
    k: int = 10
    """Places that count for nDCG and recall."""
    limit: int | None = None
    """Evaluate a seeded sample of this many lists; none means all."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What scores the row finetuned; the row base always uses transformers."""
    resamples: int = 1000
    """Bootstrap resamples for the 95 % intervals."""
    seed: int = 0
    """Seed of the sample, the random order and the bootstrap."""
