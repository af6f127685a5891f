"""A trained reranker, and its own base model without the finetuning, as systems to compare.

    with finetuned(Path("runs/demo/model"), data.items) as system:
        system.scores(data, lists)                       # the row "finetuned"
    with untrained_base(Path("runs/demo/model"), data.items) as system:
        system.scores(data, lists)                       # the row "base"

Both rows come from the same folder: same base weights in the same quantisation, same prompts, the adapter on or off.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reshelf.data.dataset_folder import RankingData
from reshelf.data.schema import Item, RankingList
from reshelf.data.signals.kept import FOLDER, open_signals
from reshelf.evaluation.systems import Advance
from reshelf.inference.engines.engine import EngineName
from reshelf.inference.engines.transformers_engine import TransformersEngine
from reshelf.inference.reranker import Reranker
from reshelf.modeling.checkpoint import load_reranker


@dataclass
class RerankerSystem:
    """Scores lists with a `Reranker`, a few at a time so that progress can be seen."""

    reranker: Reranker
    name: str
    batch: int = 16
    """Lists handed to the engine at once."""
    advance: Advance | None = None
    """Called with the number of lists just scored."""

    def scores(self, data: RankingData, lists: Sequence[RankingList]) -> list[np.ndarray]:
        """float64 [K] raw log-odds per list."""
        result: list[np.ndarray] = []
        for start in range(0, len(lists), self.batch):
            some = lists[start : start + self.batch]
            result += [values.astype(np.float64) for values in self.reranker.score_lists(some, data.items)]
            if self.advance is not None:
                self.advance(len(some))
        return result


@contextmanager
def finetuned(
    folder: Path,
    items: Mapping[str, Item],
    engine: EngineName = "auto",
    advance: Advance | None = None,
    trust_remote_code: bool = False,
) -> Iterator[RerankerSystem]:
    """The reranker as it would be served.

    Args:
        folder: reranker folder.
        items: the catalogue of the lists to come; it is tokenised once.
        trust_remote_code: whether Python code that comes with the base may run.
    """
    with Reranker.from_pretrained(folder, engine, items, trust_remote_code=trust_remote_code) as reranker:
        yield RerankerSystem(reranker, "finetuned", advance=advance)


@contextmanager
def untrained_base(
    folder: Path, items: Mapping[str, Item], advance: Advance | None = None, trust_remote_code: bool = False
) -> Iterator[RerankerSystem]:
    """The reranker's base with the adapter switched off, by the transformers engine."""
    trained = load_reranker(folder, trust_remote_code=trust_remote_code)
    engine, signals = TransformersEngine(trained.model), open_signals(folder / FOLDER)
    with (
        trained.model.disable_adapter(),
        Reranker(engine, trained.tokenizer, trained.spec, items, signals=signals) as reranker,
    ):
        yield RerankerSystem(reranker, "base", advance=advance)
