"""Which language model is finetuned, and how large the trained part is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reshelf.ranges import AT_LEAST_1, Range, check_numbers


@dataclass
class ModelConfig:
    """The pretrained language model to start from."""

    base: str = "Qwen/Qwen3-Reranker-0.6B"
    """Hub id or folder of a causal LM."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    quantise: bool = True
    """Load the base in 4-bit NF4 with double quantisation (bitsandbytes)."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Type of computation and of what is not quantised."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model; only for sources you trust."""


@dataclass
class LoraConfig:
    """The trained part: low-rank updates of every linear layer but the vocabulary head."""

    rank: int = 16
    """Rank of the updates."""
    alpha: int = 32
    """Updates are scaled by alpha / rank."""
    dropout: float = 0.05
    """Share of LoRA inputs dropped while training."""

    def __post_init__(self) -> None:
        check_numbers(self, {"rank": AT_LEAST_1, "alpha": AT_LEAST_1, "dropout": Range(0, 0.99)}, "lora.")
